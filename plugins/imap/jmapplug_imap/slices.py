"""Pieces of one message's sections, all in one FETCH (RFC 9051 §6.4.5 partial)."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from jmapplug_imap.access import Access, FolderRefused
from jmapplug_imap.contents import check_section
from jmapplug_imap.protocol.connection import Connection
from jmapplug_imap.protocol.errors import CommandBad, CommandNo

Range = tuple[str, int, int]
Place = tuple[str, int]
"""(section, offset)"""

LINE = 7000
"""Octets of items in one FETCH (RFC 7162 §4: command lines stay under 8192)."""


class Slices:
    """Reads pieces for one source. ``stream``: (key, uid, section, target) as MailSource.part."""

    def __init__(self, access: Access, stream: Callable[[bytes, int, str, Path], int]) -> None:
        self._access = access
        self._stream = stream

    def read(self, key: bytes, uid: int, ranges: Sequence[Range]) -> list[bytes]:
        """See MailSource.slices. A part that is not there is empty where the server plays along, else a KeyError."""
        wanted = _places(ranges)
        pieces = self._asked(key, uid, wanted)
        # A server that refuses partial FETCH, or does not say where a piece begins: the section is cut here.
        odd = {section for section, offset in wanted if (section, offset) not in pieces}
        whole = {section: self._cut(key, uid, section, ranges) for section in odd}
        return [
            whole[section][offset, count] if section in whole else pieces[section, offset][:count] if count else b""
            for section, offset, count in ranges
        ]

    def _asked(self, key: bytes, uid: int, wanted: dict[Place, int]) -> dict[Place, bytes]:
        def work(connection: Connection) -> dict[str, object]:
            fresh = self._access.read(connection, key)
            found = _fetched(connection, uid, wanted)
            if found is None and not fresh:
                connection.noop()
                found = _fetched(connection, uid, wanted)
            if found is None:
                raise KeyError(uid)
            return found

        if not wanted:
            return {}
        try:
            found = self._access.run(work)
        except FolderRefused:
            raise
        except (CommandNo, CommandBad):
            return {}
        named = {place: found[name] for place in wanted if (name := f"{place[0]}<{place[1]}>") in found}
        # NIL or "" by the server: a part that is not there has no octets.
        return {place: piece or b"" for place, piece in named.items() if isinstance(piece, bytes | None)}

    def _cut(self, key: bytes, uid: int, section: str, ranges: Sequence[Range]) -> dict[tuple[int, int], bytes]:
        found = {}
        with tempfile.TemporaryDirectory(prefix="slices-") as folder:
            target = Path(folder) / "section"
            self._stream(key, uid, section, target)
            with target.open("rb") as file:
                for name, offset, count in ranges:
                    if name == section:
                        file.seek(offset)
                        found[offset, count] = file.read(count)
        return found


def _places(ranges: Sequence[Range]) -> dict[Place, int]:
    """(section, offset) → the longest piece wanted there. Raises ValueError for what is no range."""
    wanted: dict[Place, int] = {}
    for section, offset, count in ranges:
        check_section(section)
        if offset < 0 or count < 0:
            raise ValueError("not a range of octets")
        if count:  # RFC 9051 §9 partial: a count is never 0
            wanted[section, offset] = max(count, wanted.get((section, offset), 0))
    return wanted


def _fetched(connection: Connection, uid: int, wanted: dict[Place, int]) -> dict[str, object] | None:
    """Item name → octets; None where the message is not there."""
    found: dict[str, object] | None = None
    for items in _lines(wanted):
        for row in connection.fetch([uid], ["UID", *items]):
            # A row about this message's flags may come in between.
            if row.uid == uid and row.sections:
                found = (found or {}) | row.sections
    return found


def _lines(wanted: dict[Place, int]) -> Iterator[list[str]]:
    items: list[str] = []
    length = 0
    for (section, offset), count in wanted.items():
        item = f"BODY.PEEK[{section}]<{offset}.{count}>"
        if items and length + len(item) >= LINE:
            yield items
            items, length = [], 0
        items.append(item)
        length += len(item) + 1
    if items:
        yield items
