"""Messages that are told of in two FETCH responses, the UID in one of them only (RFC 9051 §6.4.9: it is in each)."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from jmapplug_imap.protocol.fetch import FetchRow

_TOLD = frozenset(FetchRow.__struct_fields__) - {"seq", "uid", "sections", "damaged"}


def joined(row: FetchRow, other: FetchRow) -> FetchRow:
    """``row`` with what it does not tell taken from another row of the same message."""
    told = {name: getattr(other, name) for name in _TOLD if getattr(row, name) is None}
    return msgspec.structs.replace(row, uid=row.uid or other.uid, sections=other.sections | row.sections, **told)


class Halves:
    """The rows of one FETCH. A row without a UID counts for the message of its number, be it told before or later."""

    def __init__(self) -> None:
        self._forgotten = False
        self._waiting: dict[int, FetchRow] = {}
        self._last: FetchRow | None = None

    def whole(self, rows: list[FetchRow]) -> Iterable[FetchRow]:
        """Rows that all tell their UID, with what came for them without one."""
        if self._waiting:
            return [self.put(row) or row for row in rows]
        self._last = rows[-1] if rows else self._last
        return rows

    def put(self, row: FetchRow) -> FetchRow | None:
        """The same for any row; None where it does not tell whose it is, and nobody has yet."""
        last, self._last = self._last, row
        if row.uid:
            waiting = self._waiting.pop(row.seq, None)
            return row if waiting is None else joined(row, waiting)
        if last is not None and last.uid and last.seq == row.seq:
            # No second time what the first row told: a section's octets may be written to a file already.
            return msgspec.structs.replace(row, uid=last.uid)
        self._waiting[row.seq] = row
        return None

    @property
    def lost(self) -> bool:
        """Whether there was a row of which nobody has told whose it is."""
        return self._forgotten or bool(self._waiting)

    def forget(self) -> None:
        """A message was expunged: the numbers mean others now."""
        self._forgotten = self.lost
        self._waiting.clear()
        self._last = None
