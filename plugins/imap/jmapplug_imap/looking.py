"""What really happened: finding our messages in a folder when the server did not tell where they are, or was cut off.

A *mark* is what a message is known by: the server's own id, else its size and its Message-ID, Date, From and Subject.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import gevent

from jmapplug.errors import UpstreamError
from jmapplug_imap.access import Access, FolderReplaced
from jmapplug_imap.listing import IDENTITY, item_of
from jmapplug_imap.names import to_wire
from jmapplug_imap.protocol.commands import Command, Mailbox, Part
from jmapplug_imap.protocol.connection import Connection
from jmapplug_imap.protocol.dialogue import Result
from jmapplug_imap.protocol.errors import CommandError
from jmapplug_imap.protocol.fetch import FetchRow
from jmapplug_imap.protocol.responses import MailboxStatus

HEADER_MAX = 512 * 1024
CONTENT: tuple[Part, ...] = ("RFC822.SIZE", "BODY.PEEK[HEADER.FIELDS (DATE FROM MESSAGE-ID SUBJECT)]")
_FIELDS = frozenset({"date", "from", "message-id", "subject"})
UNSURE = "unsure"
GRACE = 1.0
"""Seconds for a server that is still busy with what it got before the connection broke."""


class Mark(NamedTuple):
    """``server_id`` "" where it is not known; ``fields`` sorted (name, value without folding)."""

    server_id: str = ""
    size: int = 0
    fields: tuple[tuple[str, str], ...] = ()


class Place(NamedTuple):
    """A target folder as STATUS told it before we wrote to it; None: it did not tell."""

    uidvalidity: int | None = None
    uidnext: int | None = None


class Job(Protocol):
    """A step that must not be repeated blindly."""

    begun: bool
    """Whether the server may have carried it out."""

    def work(self, connection: Connection) -> None:
        """Do it; when ``begun`` already, first look what the last attempt did."""

    def look(self, connection: Connection) -> bool:
        """Whether the last attempt did it after all. Raises UpstreamError where nobody can say."""


def settle(access: Access, job: Job) -> None:
    """Run a job, once more where it is certain that nothing was done, and look after it where the connection broke.

    Raises what the server said, ConnectionBroken where it is certain that it was not done, else code "unsure".
    """
    try:
        access.run(job.work)
    except CommandError:
        raise
    except UpstreamError as error:
        if not job.begun or error.code in (UNSURE, "uidvalidity"):
            raise
        try:
            done = access.run(job.look)
        except UpstreamError as later:
            text = "the connection broke, and what became of the command cannot be found out"
            raise UpstreamError(text, code=UNSURE) from later
        if not done:
            raise


def look_twice(job: Job, connection: Connection) -> None:
    """What the last attempt did. The server had the whole command then, and may be at it still: never again by itself.

    Raises UpstreamError where not all was done.
    """
    if not job.look(connection):
        gevent.sleep(GRACE)
        if not job.look(connection):
            raise UpstreamError("the connection broke, and what was begun was not done")


def status(connection: Connection, key: bytes) -> Command:
    """The question for a :class:`Place`."""
    return ["STATUS", Mailbox(to_wire(connection, key)), ["UIDNEXT", "UIDVALIDITY"]]


def place(outcome: Result | CommandError) -> Place | None:
    """The answer; None where there is no such folder for us."""
    if isinstance(outcome, CommandError):
        return None
    items: dict[str, Any] = {}
    for row in outcome.of(MailboxStatus):
        items |= row.items
    return Place(items.get("UIDVALIDITY"), items.get("UIDNEXT"))


def mark_items(scheme: str) -> list[Part]:
    """The FETCH items that make a :class:`Mark`."""
    return ["UID", *(IDENTITY[scheme] or CONTENT)]


def marks(rows: Iterable[FetchRow]) -> dict[int, Mark]:
    """UID → mark, of the rows that tell one."""
    found = ((row.uid, mark_of(row)) for row in rows if row.uid)
    return {uid: mark for uid, mark in found if mark is not None}


def mark_of(row: FetchRow) -> Mark | None:
    if identity := item_of(row).server_id:
        return Mark(identity)
    block = row.sections.get("HEADER.FIELDS")
    if row.size is None or not isinstance(block, bytes):
        return None
    return Mark("", row.size, fields_of(block))


def mark_of_file(path: Path, size: int) -> Mark:
    """The mark that a message will have upstream."""
    with open(path, "rb") as file:
        head = file.read(HEADER_MAX)
    return Mark("", size, fields_of(head))


def fields_of(block: bytes) -> tuple[tuple[str, str], ...]:
    """The telling fields of a header block, unfolded; what follows the block is not looked at."""
    lines: list[bytes] = []
    for line in block.replace(b"\r\n", b"\n").split(b"\n"):
        if not line:
            break
        if line[:1] in b" \t" and lines:
            lines[-1] += line
        else:
            lines.append(line)
    found = []
    for line in lines:
        name, _, value = line.partition(b":")
        word = name.strip().lower().decode("latin-1")
        if word in _FIELDS:
            found.append((word, b" ".join(value.split()).decode("utf-8", "replace")))
    return tuple(sorted(found))


def arrived(
    access: Access, connection: Connection, key: bytes, where: Place, wanted: Sequence[Mark], but: Collection[int] = ()
) -> list[int | None]:
    """The UIDs of ``wanted``, in order, among what came to the folder since ``where``; None for what is not there.

    ``but``: these are others already. Raises UpstreamError where the folder is not the same any more.
    """
    if where.uidvalidity is None or where.uidnext is None:
        raise UpstreamError("the server does not tell a folder's UIDVALIDITY and UIDNEXT", code=UNSURE)
    try:
        fresh = access.view(connection, key, where.uidvalidity)
    except FolderReplaced as error:
        raise UpstreamError("the target folder was replaced meanwhile", code=UNSURE) from error
    if not fresh:
        connection.noop()
    first = where.uidnext
    by_id = bool(wanted) and all(mark.server_id for mark in wanted)
    items = mark_items(access.features.id_scheme) if by_id else ["UID", *CONTENT]
    rows = [row for row in connection.fetch_all(f"{first}:*", items) if row.uid >= first and row.uid not in but]
    return pair(wanted, dict(sorted(marks(_plain(rows, by_id)).items())))


def _plain(rows: list[FetchRow], by_id: bool) -> list[FetchRow]:
    """Rows without ids where content is compared."""
    return rows if by_id else [FetchRow(0, row.uid, size=row.size, sections=row.sections) for row in rows]


def pair(wanted: Sequence[Mark], there: Mapping[int, Mark]) -> list[int | None]:
    """Each wanted mark's UID, no UID twice, in order (APPEND and COPY keep it).

    Some servers change a message's size: then a Message-ID with the other fields must do.
    """
    exact = _taker(there, lambda mark: mark)
    loose = _taker(there, lambda mark: mark._replace(size=0) if _has_message_id(mark) else None)
    taken: set[int] = set()
    found = [exact(mark, taken) for mark in wanted]
    return [
        loose(mark._replace(size=0), taken) if uid is None and _has_message_id(mark) else uid
        for uid, mark in zip(found, wanted, strict=True)
    ]


def _has_message_id(mark: Mark) -> bool:
    return any(name == "message-id" for name, _ in mark.fields)


def _taker(there: Mapping[int, Mark], key: Callable[[Mark], Mark | None]) -> Callable[[Mark, set[int]], int | None]:
    queues: dict[Mark, deque[int]] = defaultdict(deque)
    for uid, mark in there.items():
        if (name := key(mark)) is not None:
            queues[name].append(uid)

    def take(mark: Mark, taken: set[int]) -> int | None:
        queue = queues.get(mark, deque())
        while queue:
            uid = queue.popleft()
            if uid not in taken:
                taken.add(uid)
                return uid
        return None

    return take
