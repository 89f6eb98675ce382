"""FETCH responses (RFC 9051 §7.5.2): one row, item by item, and a fast path for many rows of the same shape.

A *template* is a regular expression made from the order of items that the server itself used in an earlier row; rows
that do not fit it go through :func:`parse_row`. Both give the same values (a test holds them together).
"""

from __future__ import annotations

import calendar
import functools
import re
from collections.abc import Callable
from typing import Any

import msgspec

from jmapplug.mime.structure import Part
from jmapplug_imap.protocol import bodystructure
from jmapplug_imap.protocol.errors import ParseError
from jmapplug_imap.protocol.lexer import Frame, Streamed, section_key
from jmapplug_imap.protocol.values import innermost, items, literal, number, string, value


class FetchRow(msgspec.Struct, frozen=True, gc=False):
    """One FETCH response; what it does not carry is None ({} for ``sections``).

    ``uid`` 0 when not told. ``flags`` as spelled, without ``\\Recent``. ``received_at`` INTERNALDATE in unix seconds.
    ``guid`` X-GUID, ``email_id``/``thread_id`` OBJECTID (X-GM-MSGID/X-GM-THRID as ``gm_id``/``gm_thread``).
    ``structure`` None also where BODYSTRUCTURE could not be read. ``sections``: "" (whole message), "HEADER", "TEXT",
    "1", "1.MIME", "HEADER.FIELDS" (the field list cut off), "~1" for BINARY[1], "1<1024>" for a piece from that offset
    on → octets, None for NIL, or :class:`Streamed`. ``damaged``: the row could not be read to its end; what was read is
    there, the rest must be asked for again, one item at a time.
    """

    seq: int
    uid: int = 0
    flags: tuple[str, ...] | None = None
    received_at: int | None = None
    guid: str | None = None
    modseq: int | None = None
    size: int | None = None
    email_id: str | None = None
    thread_id: str | None = None
    structure: Part | None = None
    preview: str | None = None
    sections: dict[str, bytes | Streamed | None] = {}
    saved_at: int | None = None
    gm_id: str | None = None
    gm_thread: str | None = None
    gm_labels: tuple[str, ...] | None = None
    damaged: bool = False


# --- dates and flags: few distinct values, so each is worked out once

_CACHE_MAX = 8_000
_CACHED_OCTETS = 300
_MONTHS = {
    name: index
    for index, name in enumerate(
        (b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"), 1
    )
}


class _Cache(dict[bytes, Any]):
    """Results of a pure function of octets, bounded in number and size."""

    def __init__(self, work: Callable[[bytes], Any]) -> None:
        super().__init__()
        self._work = work

    def __missing__(self, key: bytes) -> Any:
        if len(self) > _CACHE_MAX:
            self.clear()
        found = self._work(key)
        if len(key) <= _CACHED_OCTETS:
            self[key] = found
        return found


def _day(date: bytes) -> int:
    """Unix seconds of a day's midnight in UTC ("17-Jul-1996", " 7-Jul-1996"). Raises ParseError."""
    day, month, year = date.strip().split(b"-")
    number_of_month = _MONTHS.get(month.lower())
    if number_of_month is None or not 1 <= int(day) <= 31 or not int(year):
        raise ParseError("no date where one belongs")
    return calendar.timegm((int(year), number_of_month, 1, 0, 0, 0)) + (int(day) - 1) * 86400


def _zone(text: bytes) -> int:
    """Seconds east of UTC ("-0700")."""
    seconds = int(text[1:3]) * 3600 + int(text[3:5]) * 60
    return -seconds if text[:1] == b"-" else seconds


def _flag_names(text: bytes) -> tuple[str, ...]:
    names = dict.fromkeys(name.decode("utf-8", "replace") for name in text.split())
    return tuple(name for name in names if name.lower() != "\\recent")


_days = _Cache(_day)
_minutes = _Cache(lambda clock: int(clock[:2]) * 3600 + int(clock[3:]) * 60)
_zones = _Cache(_zone)
_flags = _Cache(_flag_names)
_DATE = re.compile(rb"([ 0-9]?\d-[A-Za-z]{3}-\d{4}) (\d\d:\d\d):(\d\d) ([+-]\d{4})\Z")


def unix_time(text: bytes) -> int:
    """INTERNALDATE as unix seconds. Raises ParseError."""
    found = _DATE.match(text)
    if found is None:
        raise ParseError("no date where one belongs")
    date, clock, second, zone = found.groups()
    return int(_days[date] + _minutes[clock] + int(second) - _zones[zone])


def flag_names(text: bytes) -> tuple[str, ...]:
    """The flags between the parentheses of FLAGS, without \\Recent (it says nothing about the message)."""
    return tuple(_flags[text])


# --- one row, item by item

_ROW = re.compile(rb"\* (\d{1,10}) FETCH \(", re.IGNORECASE)
_ITEM = re.compile(rb" *([A-Za-z][A-Za-z0-9.\-]*)(?:\[([^\[\]]*)\])?(?:<(\d+)>)? ?")
_DIGITS = re.compile(rb"(\d{1,20})")
_FLAG_LIST = re.compile(rb"\(([^()\"]*)\)")
_UID_ANYWHERE = re.compile(rb"[( ]UID (\d{1,10})(?=[ )])", re.IGNORECASE)

Found = dict[str, Any]


def _number_item(name: str) -> Callable[[Frame, int, Found], int]:
    def read(frame: Frame, pos: int, found: Found) -> int:
        digits = _DIGITS.match(frame.data, pos)
        if digits is None:
            item, pos = value(frame, pos)
            # Some servers answer NIL for a size they do not know.
            found[name] = None if item is None else number(item)
            return pos
        found[name] = int(digits[1])
        return digits.end()

    return read


def _uid_item(frame: Frame, pos: int, found: Found) -> int:
    digits = _DIGITS.match(frame.data, pos)
    if digits is None:
        raise ParseError("a UID that is no number")
    found["uid"] = int(digits[1])
    return digits.end()


def _flags_item(frame: Frame, pos: int, found: Found) -> int:
    plain = _FLAG_LIST.match(frame.data, pos)
    if plain is not None:
        found["flags"] = flag_names(plain[1])
        return plain.end()
    names, pos = value(frame, pos)
    found["flags"] = flag_names(b" ".join(string(name) for name in items(names)))
    return pos


def _date_item(name: str) -> Callable[[Frame, int, Found], int]:
    def read(frame: Frame, pos: int, found: Found) -> int:
        item, pos = value(frame, pos)
        found[name] = None if item is None else unix_time(string(item))
        return pos

    return read


def _text_item(name: str) -> Callable[[Frame, int, Found], int]:
    """An id or a text: an atom or string, in parentheses or not (EMAILID (M1), X-GUID a1b2, PREVIEW "…")."""

    def read(frame: Frame, pos: int, found: Found) -> int:
        item, pos = value(frame, pos)
        item = innermost(item)
        found[name] = None if item is None else string(item).decode("utf-8", "replace")
        return pos

    return read


def _thread_item(frame: Frame, pos: int, found: Found) -> int:
    """RFC 8474 §5.2: ``THREADID (T1)`` or NIL.

    In any other form it is no thread id: pymap writes ``((T1))``, random for each message, and no conversation would
    hold together if that decided.
    """
    item, pos = value(frame, pos)
    well_formed = type(item) is list and len(item) == 1 and type(item[0]) is not list
    found["thread_id"] = string(item[0]).decode("utf-8", "replace") if well_formed else None
    return pos


def _modseq_item(frame: Frame, pos: int, found: Found) -> int:
    item, pos = value(frame, pos)
    found["modseq"] = number(item[0] if type(item) is list and item else item)
    return pos


def _labels_item(frame: Frame, pos: int, found: Found) -> int:
    names, pos = value(frame, pos)
    found["gm_labels"] = tuple(string(name).decode("utf-8", "replace") for name in items(names))
    return pos


def _structure_item(frame: Frame, pos: int, found: Found) -> int:
    found["structure"], pos = bodystructure.read(frame, pos)
    return pos


_READERS: dict[bytes, Callable[[Frame, int, Found], int]] = {
    b"UID": _uid_item,
    b"FLAGS": _flags_item,
    b"INTERNALDATE": _date_item("received_at"),
    b"SAVEDATE": _date_item("saved_at"),
    b"RFC822.SIZE": _number_item("size"),
    b"MODSEQ": _modseq_item,
    b"X-GUID": _text_item("guid"),
    b"EMAILID": _text_item("email_id"),
    b"THREADID": _thread_item,
    b"X-GM-MSGID": _text_item("gm_id"),
    b"X-GM-THRID": _text_item("gm_thread"),
    b"X-GM-LABELS": _labels_item,
    b"PREVIEW": _text_item("preview"),
    b"BODYSTRUCTURE": _structure_item,
}
_LEGACY_SECTIONS = {b"RFC822": "", b"RFC822.HEADER": "HEADER", b"RFC822.TEXT": "TEXT"}
_LITERAL = re.compile(rb"~?\{(\d{1,19})\+?\}\r?\n")


def _section_item(key: str, frame: Frame, pos: int, found: Found) -> int:
    announced = _LITERAL.match(frame.data, pos)
    item: Any
    if announced is not None:
        item, pos = literal(frame, int(announced[1]), announced.end())
    else:
        item, pos = value(frame, pos)
    if type(item) is list:
        raise ParseError("a list where a section's text belongs")
    found.setdefault("sections", {})[key] = item
    return pos


def _read_items(frame: Frame, pos: int, found: Found) -> None:
    """Read items up to the closing parenthesis into ``found``. Raises ParseError; ``found`` keeps what came before."""
    data = frame.data
    while data[pos : pos + 1] != b")":
        item = _ITEM.match(data, pos)
        if item is None:
            raise ParseError("no FETCH item where one belongs")
        name, section, origin = item.groups()
        name = name.upper()
        pos = item.end()
        reader = _READERS.get(name)
        if reader is not None:
            pos = reader(frame, pos, found)
        elif section is not None and name in (b"BODY", b"BINARY"):
            pos = _section_item(section_key(name, section, origin), frame, pos, found)
        elif name in _LEGACY_SECTIONS:
            pos = _section_item(_LEGACY_SECTIONS[name], frame, pos, found)
        else:
            _, pos = value(frame, pos)
        while data[pos : pos + 1] == b" ":
            pos += 1


def is_row(data: bytes) -> bool:
    """Whether a response is a FETCH, readable or not."""
    return _ROW.match(data) is not None


def parse_row(frame: Frame) -> FetchRow:
    """A FETCH frame as a row. A row without a readable end is ``damaged`` if its UID is known, else ParseError."""
    head = _ROW.match(frame.data)
    if head is None:
        raise ParseError("no FETCH response")
    found: Found = {"seq": int(head[1])}
    try:
        _read_items(frame, head.end(), found)
    except ParseError:
        # One bad message must not hide a folder: its UID tells which one to ask for again.
        if "uid" not in found:
            uid = _UID_ANYWHERE.search(frame.data)
            if uid is None:
                raise
            found["uid"] = int(uid[1])
        found["damaged"] = True
    return FetchRow(**found)


# --- many rows of one shape

_SIMPLE = {
    b"UID": rb"UID (?P<uid>\d{1,10})",
    b"FLAGS": rb"FLAGS \((?P<flags>[^()\"\r\n]*)\)",
    b"INTERNALDATE": rb'INTERNALDATE "(?P<date>[ 0-9]\d-[A-Za-z]{3}-\d{4}) '
    rb'(?P<clock>\d\d:\d\d):(?P<second>\d\d) (?P<zone>[+-]\d{4})"',
    b"X-GUID": rb"X-GUID (?P<guid>(?!(?i:NIL)[ )])[0-9A-Za-z]{1,128})",
    b"MODSEQ": rb"MODSEQ \((?P<modseq>\d{1,20})\)",
    b"RFC822.SIZE": rb"RFC822\.SIZE (?P<size>\d{1,20})",
    b"EMAILID": rb"EMAILID \((?P<email>[0-9A-Za-z_\-]{1,255})\)",
    b"THREADID": rb"THREADID \((?P<thread>[0-9A-Za-z_\-]{1,255})\)",
}
_CORE = ("seq", "uid", "flags", "date", "clock", "second", "zone", "guid")
_MORE = ("modseq", "size", "email", "thread")
# Each item once, by name and rough form only; whether it fits is the template's matter.
_ITEM_OF_ROW = re.compile(rb' ?([A-Za-z0-9.\-]+) (?:\([^()"]*\)|"[^"\\]*"|[^ ()"{]+)')


class Template:
    """Rows whose items stand in one order, UID among them. Only plain forms: no literals, no escapes."""

    def __init__(self, names: tuple[bytes, ...]) -> None:
        forms = b" ".join(_SIMPLE[name] for name in names)
        # "never" is a group that takes no part: what the row does not carry.
        self._pattern = re.compile(rb"\* (?P<seq>\d{1,10}) FETCH \(" + forms + rb"\)\r\n(?P<never>(?!))?")
        index = self._pattern.groupindex
        self._core = [index.get(name, index["never"]) for name in _CORE]
        self._more = [index.get(name, index["never"]) for name in _MORE]
        self._bare = not any(name in index for name in _MORE)

    def rows(self, buffer: bytes, pos: int) -> tuple[list[FetchRow], int]:
        """The rows that stand at ``pos`` one after another, and the offset behind them."""
        found: list[FetchRow] = []
        core, bare, row = self._core, self._bare, FetchRow
        match: Any = None
        scanner: Any = self._pattern.scanner(buffer, pos)  # type: ignore[attr-defined]
        try:
            for match in iter(scanner.match, None):
                seq, uid, flags, date, clock, second, zone, guid = match.group(*core)
                at = None if date is None else _days[date] + _minutes[clock] + int(second) - _zones[zone]
                names = None if flags is None else _flags[flags]
                ident = None if guid is None else guid.decode()
                if bare:
                    found.append(row(int(seq), int(uid), names, at, ident))
                else:
                    found.append(row(int(seq), int(uid), names, at, ident, *self._rest(match)))
                pos = match.end()
        except ParseError:
            # A date that is none: this row goes the long way.
            pass
        return found, pos

    def _rest(self, match: re.Match[bytes]) -> tuple[int | None, int | None, str | None, str | None]:
        modseq, size, email, thread = match.group(*self._more)
        return (
            None if modseq is None else int(modseq),
            None if size is None else int(size),
            None if email is None else email.decode(),
            None if thread is None else thread.decode(),
        )


_template = functools.lru_cache(maxsize=64)(Template)


def learn(data: bytes) -> Template | None:
    """The template of a row; None where the row holds something that is not simple."""
    head = _ROW.match(data)
    if head is None or len(data) > 2000:
        return None
    names: list[bytes] = []
    pos = head.end()
    while data[pos:] != b")":
        item = _ITEM_OF_ROW.match(data, pos)
        if item is None or item[1] not in _SIMPLE or item[1] in names:
            return None
        names.append(item[1])
        pos = item.end()
    return _template(tuple(names)) if b"UID" in names else None
