"""One complete pass over a folder: by QRESYNC, else by CONDSTORE, else by comparing all flags and UIDs (RFC 7162).

The sync point is what this pass's own SELECT said (mail-rules 18): a change that comes while we read is told again by
the next pass, and none is ever skipped. Messages that arrive after the SELECT (UID ≥ its UIDNEXT) wait for it too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from jmapplug.backends import Changes, Item, SyncPoint
from jmapplug.errors import UpstreamError
from jmapplug_imap.access import Access, FolderRefused, paced
from jmapplug_imap.protocol import sets
from jmapplug_imap.protocol.commands import Part
from jmapplug_imap.protocol.connection import Connection
from jmapplug_imap.protocol.fetch import FetchRow
from jmapplug_imap.protocol.selecting import Selected

IDENTITY: dict[str, tuple[Part, ...]] = {
    "emailid": ("EMAILID", "THREADID"),
    "x-guid": ("X-GUID",),
    "gmail": ("X-GM-MSGID", "X-GM-THRID"),
    "": (),
}
"""Id scheme → FETCH items that tell a message's identity."""
EXPAND_MAX = 200_000
"""A VANISHED set with more numbers than this is compared with what is known instead of written out."""

UNREADABLE_MAX = 100
"""Messages of one pass whose rows cannot be read; more of them are the server's fault, and the pass fails."""
_IDS = ("email_id", "guid", "gm_id", "thread_id", "gm_thread")

Known = Callable[[], Sequence[int]]


class Lasting(NamedTuple):
    """What only SELECT tells (EXAMINE always says READ-ONLY), kept for the passes that use EXAMINE."""

    uidvalidity: int
    read_only: bool
    permanent_flags: tuple[str, ...]


def item_of(row: FetchRow) -> Item:
    """The Item of a row that holds FLAGS, and INTERNALDATE and identity where they were asked for."""
    server_id = row.email_id or row.guid or row.gm_id
    return Item(row.uid, row.flags or (), row.received_at, server_id, row.thread_id or row.gm_thread)


def is_reset(since: SyncPoint, selected: Selected) -> bool:
    """Whether nothing known holds any more (mail-rules 22: a smaller UIDNEXT means a restored server)."""
    if selected.uidvalidity != since.uidvalidity:
        return True
    return selected.uidnext is not None and selected.uidnext < since.uidnext


class Passes:
    """Runs passes for one source."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._lasting: dict[bytes, Lasting] = {}

    def changes(self, key: bytes, since: SyncPoint | None, known: Known) -> Changes:
        """See MailSource.changes."""

        def work(connection: Connection) -> Changes:
            return self._pass(connection, key, since, known)

        try:
            found = self._access.run(work, background=True)
        except FolderRefused as error:
            if not error.doubtful:
                raise
            found = self._access.run(work, background=True)  # on another connection
        self._access.validity[key] = found.point.uidvalidity
        return found

    def forget(self, key: bytes) -> None:
        """The folder has gone or has another name now."""
        self._lasting.pop(key, None)

    def _pass(self, connection: Connection, key: bytes, since: SyncPoint | None, known: Known) -> Changes:
        resync = since is not None and since.highestmodseq > 0 and "QRESYNC" in connection.enabled
        selected = self._open(connection, key, (since.uidvalidity, since.highestmodseq) if since and resync else None)
        reset = since is not None and is_reset(since, selected)
        new: list[Item]
        flags: list[Item] = []
        vanished: list[int] = []
        if since is None or reset:
            new = self._everything(connection, selected)
        else:
            new, flags, vanished = self._difference(connection, selected, since, known, resync)
        uidnext = selected.uidnext or max((item.uid for item in new), default=since.uidnext - 1 if since else 0) + 1
        lasting = self._lasting[key]
        return Changes(
            point=SyncPoint(lasting.uidvalidity, uidnext, selected.highestmodseq or 0, selected.exists),
            reset=reset,
            new=tuple(new),
            flags=tuple(flags),
            vanished=tuple(vanished),
            read_only=lasting.read_only,
            permanent_flags=lasting.permanent_flags,
        )

    def _open(self, connection: Connection, key: bytes, qresync: tuple[int, int] | None) -> Selected:
        lasting = self._lasting.get(key)
        selected = self._access.select(connection, key, read_only=lasting is not None, qresync=qresync)
        if selected.uidvalidity is None:
            raise UpstreamError("the server gives a folder no UIDVALIDITY", temporary=False)
        if lasting is None or lasting.uidvalidity != selected.uidvalidity:
            if lasting is not None:  # replaced since: its flags may be others
                selected = self._access.select(connection, key, read_only=False)
            permanent = selected.permanent_flags
            if permanent is None:  # RFC 9051 §7.1: not told means that every flag lasts
                permanent = (*selected.flags, "\\*")
            self._lasting[key] = Lasting(selected.uidvalidity or 0, selected.read_only, permanent)
        return selected

    # --- what a pass reads

    def _everything(self, connection: Connection, selected: Selected) -> list[Item]:
        return self._arrivals(connection, selected, 1) if selected.exists else []

    def _difference(
        self, connection: Connection, selected: Selected, since: SyncPoint, known: Known, resync: bool
    ) -> tuple[list[Item], list[Item], list[int]]:
        if not selected.exists:
            return [], [], _missing(known(), (), since.uidnext)
        fresh = selected.uidnext is None or selected.uidnext > since.uidnext
        new = self._arrivals(connection, selected, since.uidnext) if fresh else []
        before = since.highestmodseq
        # A HIGHESTMODSEQ that went back, or is not kept (NOMODSEQ), tells nothing.
        if not before or not selected.highestmodseq or selected.highestmodseq < before:
            flags = self._flags(connection, since, ())
            return new, flags, _missing(known(), (item.uid for item in flags), since.uidnext)
        if resync:
            flags = _below(selected.rows, since.uidnext)
            gone = _written_out(selected.vanished, since.uidnext)
        else:
            changed = selected.highestmodseq > before and since.uidnext > 1
            flags = self._flags(connection, since, ("CHANGEDSINCE", before)) if changed else []
            gone = []
        if gone is None or since.messages - len(gone) + len(new) != selected.exists:
            # The count is the proof: without QRESYNC, after lost history, or with a HIGHESTMODSEQ that sticks.
            return new, flags, _missing(known(), self._uids(connection, since.uidnext - 1), since.uidnext)
        return new, flags, gone

    def _arrivals(self, connection: Connection, selected: Selected, first: int) -> list[Item]:
        """Everything with a UID from ``first`` on that the SELECT knew of (``n:*`` names the last one at least)."""
        last = selected.uidnext or sets.MAX_NUMBER
        items = ["UID", "FLAGS", "INTERNALDATE", *IDENTITY[self._access.features.id_scheme]]
        found: dict[int, Item] = {}
        unread: list[int] = []
        for row in paced(connection.fetch(f"{first}:*", items)):
            if not first <= row.uid < last:
                continue
            if row.received_at is not None and row.flags is not None:
                found[row.uid] = item_of(row)
            elif row.damaged:
                unread.append(row.uid)
        if len(unread) > UNREADABLE_MAX:
            raise UpstreamError("the server's list of a folder cannot be read")
        for uid in set(unread) - found.keys():
            found[uid] = _piecemeal(connection, uid, items[1:])
        return [found[uid] for uid in sorted(found)]

    def _flags(self, connection: Connection, since: SyncPoint, modifiers: Sequence[Part]) -> list[Item]:
        if since.uidnext <= 1:
            return []
        rows = connection.fetch(f"1:{since.uidnext - 1}", ["UID", "FLAGS"], modifiers=modifiers)
        found: dict[int, Item] = {}
        for row in paced(rows):
            if row.flags is not None and row.uid < since.uidnext:
                found[row.uid] = item_of(row)
        return [found[uid] for uid in sorted(found)]

    def _uids(self, connection: Connection, last: int) -> Iterable[int]:
        """The UIDs up to ``last`` that are really there."""
        if last < 1:
            return ()
        return [row.uid for row in connection.fetch(f"1:{last}", ["UID"]) if row.uid <= last]


def _piecemeal(connection: Connection, uid: int, items: Sequence[Part]) -> Item:
    """A message whose row could not be read, asked for item by item (wish 21). What stays unreadable is empty or 0."""
    told: dict[str, Any] = {"received_at": 0}
    for item in items:
        for row in connection.fetch_all([uid], ["UID", item]):
            if row.uid == uid:
                values = ((name, getattr(row, name)) for name in ("flags", "received_at", *_IDS))
                told |= {name: value for name, value in values if value is not None}
    return item_of(FetchRow(0, uid, **told))


def _below(rows: Iterable[FetchRow], uidnext: int) -> list[Item]:
    found = {row.uid: item_of(row) for row in rows if row.flags is not None and 0 < row.uid < uidnext}
    return [found[uid] for uid in sorted(found)]


def _written_out(vanished: sets.Ranges, uidnext: int) -> list[int] | None:
    """The numbers below ``uidnext`` of VANISHED sets; None where they are too many (1:4294967295 is an answer)."""
    clipped = [(low, min(high, uidnext - 1)) for low, high in vanished if low < uidnext]
    if sum(high - low + 1 for low, high in clipped) > EXPAND_MAX:
        return None
    return sorted(set(sets.expand(clipped)))


def _missing(known: Sequence[int], present: Iterable[int], uidnext: int) -> list[int]:
    """Known UIDs below ``uidnext`` that are not there. What we appended after the last pass lies beyond: not judged."""
    there = set(present)
    return [uid for uid in known if uid < uidnext and uid not in there]
