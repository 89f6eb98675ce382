"""The messages in a range of UIDs, all of them: what a FETCH tells is not believed to be everything without a proof.

A message that no row speaks of would be one that vanished, and its Email out of sight. So the rows are counted; where
they are fewer than SELECT told, UID SEARCH says what is there. A message that is there and cannot be read is listed all
the same, with None for what nobody knows of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from jmapplug.backends import Item
from jmapplug.errors import FolderError
from jmapplug_imap.access import paced
from jmapplug_imap.protocol import sets
from jmapplug_imap.protocol.commands import Part
from jmapplug_imap.protocol.connection import Connection
from jmapplug_imap.protocol.dialogue import Result
from jmapplug_imap.protocol.errors import ProtocolError
from jmapplug_imap.protocol.fetch import FetchRow
from jmapplug_imap.protocol.refusals import SERVERBUG
from jmapplug_imap.protocol.responses import LOST_ROW, Esearch, Other, Response, Search

UNREADABLE_MAX = 100
"""Messages of one list whose rows cannot be read; more of them are the server's fault: the folder is left alone."""
IDENTITY: dict[str, tuple[Part, ...]] = {
    "emailid": ("EMAILID", "THREADID"),
    "x-guid": ("X-GUID",),
    "gmail": ("X-GM-MSGID", "X-GM-THRID"),
    "": (),
}
"""Id scheme → FETCH items that tell a message's identity."""
FLAGS: tuple[Part, ...] = ("UID", "FLAGS")


def whole(scheme: str) -> list[Part]:
    """The FETCH items that make an Item of a new message."""
    return ["UID", "FLAGS", "INTERNALDATE", *IDENTITY[scheme]]


def item_of(row: FetchRow) -> Item:
    """The Item of a row, with what it tells of FLAGS, INTERNALDATE and identity."""
    server_id = row.email_id or row.guid or row.gm_id
    return Item(row.uid, row.flags, row.received_at, server_id, row.thread_id or row.gm_thread)


def listing(
    connection: Connection, first: int, last: int, items: Sequence[Part] = FLAGS, told: int | None = None
) -> list[Item]:
    """Every message from ``first`` to ``last`` (``sets.MAX_NUMBER``: to the end), ascending.

    ``told``: how many there are at least; None: nobody has told. Raises FolderError where too many are unreadable.
    """
    if last < first:
        return []
    found = _List(connection, first, last, items)
    found.read(found.span)
    if told is None or len(found.items) < told:
        found.prove(found.span)
    return found.complete()


def changed(connection: Connection, last: int, modseq: int) -> list[Item] | None:
    """What has changed up to ``last`` (RFC 7162 §3.1.4.1); None where a row of it is lost."""
    found = _List(connection, 1, last, FLAGS)
    if last >= 1:
        found.read(found.span, ("CHANGEDSINCE", modseq))
    return None if found.lost else found.complete()


def read_again(connection: Connection, rows: Iterable[FetchRow], last: int, uids: Iterable[int] = ()) -> list[Item]:
    """The flags that ``rows`` tell of messages up to ``last``, and those of ``uids``, which may be gone."""
    found = _List(connection, 1, last, FLAGS)
    found.put(rows)
    if more := sets.compress(uid for uid in uids if uid <= last and uid not in found.items):
        found.read(more)
        found.prove(more)
    return found.complete()


def some(connection: Connection, uids: Sequence[int], items: Sequence[Part]) -> dict[int, Item]:
    """Those of ``uids`` of which a row tells."""
    found = _List(connection, 1, sets.MAX_NUMBER, items)
    found.read(uids)
    return {item.uid: item for item in found.complete()}


def present(connection: Connection, last: int, told: int | None) -> set[int]:
    """The UIDs up to ``last`` that are really there; ``told`` as in :func:`listing`."""
    if last < 1:
        return set()
    rows = connection.fetch(f"1:{last}", ["UID"], lenient=True)
    found = {row.uid for row in paced(rows) if row.uid <= last}
    if told is None or len(found) < told:
        found |= {uid for uid in _searched(connection, f"1:{last}") if uid <= last}
    return found


def hits(result: Result) -> set[int]:
    """The numbers of a search, of either kind of answer. Raises ProtocolError."""
    found: set[int] = set()
    for answer in result.of(Search):
        found.update(answer.numbers)
    for answer in result.of(Esearch):
        try:
            found.update(sets.expand(answer.all or ()))
        except Exception as error:
            raise ProtocolError("a search with too many hits") from error
    return found


def _searched(connection: Connection, span: str) -> set[int]:
    options: list[Part] = ["RETURN", ["ALL"]] if connection.has("ESEARCH") else []
    return hits(connection.command("UID SEARCH", *options, "UID", span))


class _List:
    """What is known of each message. ``lost``: rows that could not be read at all."""

    def __init__(self, connection: Connection, first: int, last: int, items: Sequence[Part]) -> None:
        self.span = f"{first}:{'*' if last == sets.MAX_NUMBER else last}"
        self.items: dict[int, Item] = {}
        self.lost = 0
        self._connection = connection
        self._first, self._last = first, last
        self._asked = items
        self._damaged: set[int] = set()

    def read(self, uids: str | Iterable[int], modifiers: Sequence[Part] = (), items: Sequence[Part] = ()) -> None:
        asked = items or self._asked
        self.put(self._connection.fetch(uids, asked, modifiers=modifiers, on_other=self._other, lenient=True))

    def put(self, rows: Iterable[FetchRow]) -> None:
        """Several rows of one message are put together; the last word counts (``n:*`` names the newest one always)."""
        found, first, last = self.items, self._first, self._last
        for row in paced(rows):
            uid = row.uid
            if not first <= uid <= last:
                continue
            found[uid] = _joined(item_of(row), found[uid]) if uid in found else item_of(row)
            if row.damaged:
                self._damaged.add(uid)

    def prove(self, span: str) -> None:
        """The rows are too few, or nobody knows how many there must be: SEARCH tells what is there."""
        there = {uid for uid in _searched(self._connection, span) if self._first <= uid <= self._last}
        lacking = there - self.items.keys()
        if lacking:
            self.read(sorted(lacking))
        for uid in lacking - self.items.keys():
            self.items[uid] = Item(uid, None)

    def complete(self) -> list[Item]:
        """All of them; what cannot be read is asked for once more, item by item (wish 21)."""
        new = "INTERNALDATE" in self._asked
        unread = [uid for uid, item in self.items.items() if uid in self._damaged or item.lacks(new)]
        if len(unread) > UNREADABLE_MAX:
            raise FolderError("the server's list of a folder cannot be read", code=SERVERBUG)
        for name in self._asked[1:] if unread else ():
            self.read(unread, items=("UID", name))
        return [self.items[uid] for uid in sorted(self.items)]

    def _other(self, response: Response) -> None:
        self.lost += type(response) is Other and response.name == LOST_ROW


def _joined(item: Item, before: Item) -> Item:
    told = {name: value for name in item.__struct_fields__ if (value := getattr(item, name)) is not None}
    return msgspec.structs.replace(before, **told)
