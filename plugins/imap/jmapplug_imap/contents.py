"""What is inside messages: details, headers, texts, whole parts. Only BODY.PEEK: reading marks nothing as seen.

A batch that breaks on one message (some servers refuse it, some hang up on it) is taken apart until that message is
alone; it then comes without what could not be had, and the others come whole (wish 21).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

import msgspec

from jmapplug.backends import HEADER_FIELDS, Detail
from jmapplug.errors import UpstreamError
from jmapplug_imap.access import Access, FolderRefused, paced
from jmapplug_imap.listing import IDENTITY, item_of
from jmapplug_imap.protocol.commands import Part
from jmapplug_imap.protocol.connection import Connection
from jmapplug_imap.protocol.errors import CommandBad, CommandNo, ConnectionBroken
from jmapplug_imap.protocol.fetch import FetchRow
from jmapplug_imap.protocol.lexer import LiteralStart
from jmapplug_imap.protocol.refusals import WAIT_CODES

T = TypeVar("T")
_log = logging.getLogger(__name__)
BATCH = 500  # messages in one FETCH of details
TEXT_BUDGET = 8_000_000  # octets of texts in one FETCH
HEADER_LIMIT = 65_536  # octets of header fields of a message that broke its batch
FAILURES_MAX = 60  # failed commands in one batch before the server itself is to blame
UNREADABLE = "unreadable"
"""Our own code: this message is there, and the server cannot give it."""
SILENT = "the server tells of a message and does not give it"
_SECTION = re.compile(r"(?:[1-9]\d{0,5}(?:\.[1-9]\d{0,5}){0,200})?(?:\.?(?:HEADER|TEXT|MIME))?\Z")

Convert = Callable[[FetchRow], T | None]
Alone = Callable[[Connection, int], T | None]


class Contents:
    """Reads message contents for one source."""

    def __init__(self, access: Access) -> None:
        self._access = access

    # --- many messages

    def details(
        self, key: bytes, uids: Sequence[int], background: bool = False, with_items: bool = False
    ) -> Iterator[list[Detail]]:
        """See MailSource.details. Each batch is one FETCH; no connection is held between two batches."""
        for start in range(0, len(uids), BATCH):
            batch = uids[start : start + BATCH]
            fields = self._header_fields()
            items: list[Part] = ["UID", "RFC822.SIZE", "INTERNALDATE", "BODYSTRUCTURE", f"BODY.PEEK[{fields}]"]
            if self._access.features.previews:
                items.append("PREVIEW")
            if with_items:
                items += ["FLAGS", *IDENTITY[self._access.features.id_scheme]]
            convert = _detail_with_item if with_items else _detail
            found = self._many(key, batch, items, convert, background, self._alone())
            if found:
                yield [found[uid] for uid in batch if uid in found]

    def headers(self, key: bytes, uids: Sequence[int]) -> dict[int, bytes]:
        """See MailSource.headers."""
        return self._sections(key, uids, "HEADER", "BODY.PEEK[HEADER]", False, BATCH, strict=True)

    def previews(self, key: bytes, uids: Sequence[int]) -> dict[int, str]:
        """See MailSource.previews. Never LAZY: a preview that is not there yet is made (RFC 8970 §3.1)."""
        if not self._access.features.previews:
            return {}
        found: dict[int, str] = {}
        for start in range(0, len(uids), BATCH):
            found |= self._many(key, uids[start : start + BATCH], ["UID", "PREVIEW"], lambda row: row.preview)
        return found

    def texts(
        self, key: bytes, section: str, uids: Sequence[int], limit: int, background: bool = False
    ) -> dict[int, bytes]:
        """See MailSource.texts."""
        check_section(section)
        if limit <= 0:
            return dict.fromkeys(uids, b"")
        count = max(1, min(BATCH, TEXT_BUDGET // limit))
        return self._sections(key, uids, section, f"BODY.PEEK[{section}]<0.{limit}>", background, count, limit)

    def _sections(
        self,
        key: bytes,
        uids: Sequence[int],
        section: str,
        item: str,
        background: bool,
        count: int,
        limit: int | None = None,
        strict: bool = False,
    ) -> dict[int, bytes]:
        def octets(row: FetchRow) -> bytes | None:
            value = _from_start(row, section)
            return value if limit is None or value is None else value[:limit]

        found: dict[int, bytes] = {}
        for start in range(0, len(uids), count):
            found |= self._many(key, uids[start : start + count], ["UID", item], octets, background, strict=strict)
        return found

    # --- one message

    def part_headers(self, key: bytes, uid: int, sections: Sequence[str]) -> dict[str, bytes]:
        """See MailSource.part_headers. A section that is not there is left out."""
        for section in sections:
            check_section(section)
        items: list[Part] = ["UID", *(f"BODY.PEEK[{section}.MIME]" for section in sections)]
        if not sections:
            return {}
        rows = self._many(key, [uid], items, lambda row: row.sections or None, strict=True)
        found = rows.get(uid, {})
        blocks = ((section, found.get(f"{section}.MIME")) for section in sections)
        return {section: block for section, block in blocks if isinstance(block, bytes)}

    def stream(self, key: bytes, uid: int, section: str, target: Path) -> int:
        """One section, or the whole message (""), into a file; its octets. KeyError when message or part is gone.

        A server that tells of the message and does not give it (wish 20) is asked once more.
        """
        check_section(section)

        def work(connection: Connection) -> int | None:
            fresh = self._access.read(connection, key)
            with open(target, "wb") as file:
                size, told = _streamed(connection, uid, section, file)
                if size is None and (told or not fresh):
                    connection.noop()
                    size, told = _streamed(connection, uid, section, file)
            if size is None and told and not section:
                raise UpstreamError(SILENT, code=UNREADABLE, temporary=False)
            return size

        size: int | None = None
        try:
            size = self._access.run(work)
        except (CommandNo, CommandBad) as error:
            if error.temporary or isinstance(error, FolderRefused):
                raise
            raise UpstreamError(str(error), code=UNREADABLE, temporary=False) from error
        finally:
            if size is None:
                target.unlink(missing_ok=True)
        if size is None:
            raise KeyError(f"{uid}[{section}]")
        return size

    # --- batches, and messages that break them

    def _many(
        self,
        key: bytes,
        uids: Sequence[int],
        items: Sequence[Part],
        convert: Convert[T],
        background: bool = False,
        alone: Sequence[Alone[T]] = (),
        strict: bool = False,
    ) -> dict[int, T]:
        """uid → value of each message that is there; one FETCH when all goes well.

        A message that cannot be read while others can is left out; with ``strict`` its error is raised instead.
        """
        found: dict[int, T] = {}
        wanted = frozenset(uids)
        damaged: set[int] = set()
        silent: set[int] = set()

        def read(connection: Connection, some: Iterable[int]) -> None:
            for row in paced(connection.fetch(some, items), background):
                if row.uid in wanted:
                    value = None if row.damaged else convert(row)
                    if value is not None:
                        found[row.uid] = value
                    elif row.damaged:
                        damaged.add(row.uid)
                    else:
                        silent.add(row.uid)

        def work(connection: Connection) -> None:
            fresh = self._access.read(connection, key)
            read(connection, wanted)
            missing = wanted - found.keys() - damaged
            if missing and (not fresh or missing & silent):
                connection.noop()
                read(connection, missing)

        if not wanted:
            return found
        apart = _Apart(self._access, key, items, convert, alone, background)
        try:
            self._access.run(work, background, key=key)
        except FolderRefused:
            raise
        except (CommandNo, CommandBad, ConnectionBroken) as error:
            self._access.pool.check()  # the server itself is away: nothing to take apart
            if error.code in WAIT_CODES:
                raise
            found |= apart.take([uid for uid in sorted(wanted) if uid not in found], error)
        else:
            for uid in sorted(damaged - found.keys()):
                apart.one(uid)
            found |= apart.found
            if lost := silent - found.keys():
                # Wish 20: rows without what was asked for, twice. The others are whole; these are tried again later.
                _log.warning("the server tells of %d messages of a folder and does not give them", len(lost))
        # Where nothing came at all it is the connection that is bad: not even a size and a date could be had.
        unclear = not found and (not alone or isinstance(apart.lost, ConnectionBroken))
        if apart.lost is not None and (strict or unclear):
            raise apart.lost
        return found

    def _header_fields(self) -> str:
        """Always the same words in the same order: servers cache what is asked again and again."""
        fields = [name.upper() for name in HEADER_FIELDS]
        if not self._access.features.id_scheme:
            fields.append("RECEIVED")  # evidence for linking copies (mail-rules 2)
        return f"HEADER.FIELDS ({' '.join(fields)})"

    def _alone(self) -> tuple[Alone[Detail], ...]:
        """A message whose batch failed, with ever less asked: without structure, then without any header."""
        base: list[Part] = ["UID", "RFC822.SIZE", "INTERNALDATE"]
        fields: Part = f"BODY.PEEK[{self._header_fields()}]<0.{HEADER_LIMIT}>"

        def step(items: list[Part], needs_header: bool) -> Alone[Detail]:
            def ask(connection: Connection, uid: int) -> Detail | None:
                rows = (row for row in connection.fetch_all([uid], items) if row.uid == uid and not row.damaged)
                return next((found for row in rows if (found := _detail(row, needs_header)) is not None), None)

            return ask

        return step([*base, fields], True), step(base, False)


class _Apart(Generic[T]):
    """Takes a failed batch apart. ``alone`` has the last word on a message that fails on its own."""

    def __init__(
        self,
        access: Access,
        key: bytes,
        items: Sequence[Part],
        convert: Convert[T],
        alone: Sequence[Alone[T]],
        background: bool,
    ) -> None:
        self._access, self._key, self._items = access, key, items
        self._convert, self._alone, self._background = convert, alone, background
        self._failures = 0
        self.found: dict[int, T] = {}
        self._error: UpstreamError | None = None
        self.lost: UpstreamError | None = None
        """The last error of a message that could not be had in any way."""

    def take(self, uids: list[int], error: UpstreamError) -> dict[int, T]:
        """Everything of ``uids`` that can be had."""
        pending = [uids]
        while pending:
            piece = pending.pop()
            if len(piece) == 1:
                self.one(piece[0])
                continue
            if not piece or self._fetch(piece):
                continue
            rest = [uid for uid in piece if uid not in self.found]
            if not rest:  # it broke behind the last row: every one is here
                continue
            if len(rest) < len(piece):  # rows come in order: the first that is missing is the one that broke it
                self.one(rest[0])
                pending.append(rest[1:])
            else:
                middle = len(rest) // 2
                pending += [rest[middle:], rest[:middle]]
        return self.found

    def one(self, uid: int) -> None:
        """One message: as asked for, else by ``alone``."""
        self._error = None
        if self._fetch([uid]) or uid in self.found:
            return
        for step in self._alone:
            try:
                value = self._access.run(partial(self._asked, step, uid), self._background, retry=False)
            except FolderRefused:
                raise
            except (CommandNo, CommandBad, ConnectionBroken) as error:
                self._failed(error)
                continue
            if value is not None:
                self.found[uid] = value
                return
        self.lost = self._error
        if self._alone:
            _log.warning("the server cannot give message %d of a folder; it is left out for now", uid)

    def _asked(self, step: Alone[T], uid: int, connection: Connection) -> T | None:
        self._access.read(connection, self._key)
        return step(connection, uid)

    def _fetch(self, uids: Sequence[int]) -> bool:
        """Whether the server answered in full; what came is in ``found`` either way."""
        damaged = False

        def work(connection: Connection) -> None:
            nonlocal damaged
            self._access.read(connection, self._key)
            for row in connection.fetch(uids, self._items):
                value = None if row.damaged else self._convert(row)
                damaged = damaged or row.damaged
                if value is not None:
                    self.found[row.uid] = value

        try:
            self._access.run(work, self._background, retry=False)
        except FolderRefused:
            raise
        except (CommandNo, CommandBad, ConnectionBroken) as error:
            self._failed(error)
            return False
        return not damaged

    def _failed(self, error: UpstreamError) -> None:
        self._access.pool.check()
        if error.code in WAIT_CODES:
            raise error
        self._error = error
        self._failures += 1
        if self._failures > FAILURES_MAX:
            raise error


def _detail(row: FetchRow, needs_header: bool = True) -> Detail | None:
    """The Detail of a complete row; None for a row that only tells of changed flags."""
    header = _from_start(row, "HEADER.FIELDS") if needs_header else b""
    if row.size is None or row.received_at is None or header is None:
        return None
    return Detail(row.uid, row.size, row.received_at, header, row.structure, row.preview)


def _detail_with_item(row: FetchRow) -> Detail | None:
    detail = _detail(row)
    return None if detail is None or row.flags is None else msgspec.structs.replace(detail, item=item_of(row))


def _from_start(row: FetchRow, section: str) -> bytes | None:
    """A section, or what was asked of its beginning (some servers leave the offset 0 out of the answer)."""
    value = row.sections.get(section)
    if value is None:
        value = row.sections.get(f"{section}<0>")
    return value if isinstance(value, bytes) else None


def _streamed(connection: Connection, uid: int, section: str, file: BinaryIO) -> tuple[int | None, bool]:
    """(octets or None, whether the message was told of without the section)."""

    def sink(start: LiteralStart) -> BinaryIO | None:
        return file if start.section == section and start.uid in (None, uid) else None

    size: int | None = None
    told = False
    for row in connection.fetch([uid], ["UID", f"BODY.PEEK[{section}]"], on_literal=sink):
        value = row.sections.get(section)
        if row.uid != uid:
            continue
        if value is None:
            told = True
            continue
        if isinstance(value, bytes):  # a short one may come as a quoted string
            file.write(value)
            size = len(value)
        else:
            size = value.size
    return size, told


def check_section(section: str) -> None:
    """Raises ValueError for what may not stand between the brackets of BODY[]."""
    if not _SECTION.match(section):
        raise ValueError("not a section of a message")
