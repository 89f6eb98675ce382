"""Header fields as they are written: RFC 5322 §2.2-3.6, encoded words (RFC 2047), UTF-8 in addresses (RFC 6532).

Every function gives one whole field, folded, with its CRLF. Whatever text comes in, a field is one field: line ends
and control characters are replaced or dropped, and what does not fit into lines of 998 octets raises Unwritable.
Words: a *piece* is what is never cut in two by folding.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any
from urllib.parse import quote

from jmapplug.mime.addresses import Address, Group
from jmapplug.mime.words import MAX_VALUE

WIDTH = 78
"""RFC 5322 §2.1.1: what a line should keep to; 998 octets is what it must."""
MAX_LINE = 998
# A field name (200 at most) and a piece must fit into one line.
_PIECE = 700
# RFC 2047 §2: an encoded word has 75 characters at most (these are its payload), and its line 76.
_WORD, _WORD_WIDTH = 63, 76
_QUOTED = 200

_CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)]) | dict.fromkeys(
    map(ord, "\r\n\t\v\f\x85\u2028\u2029"), " "
)
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_ADDRESS_TEXT = r'[^\s"<>()\[\],:;\\@]+'
_QUOTED_TEXT = r'"(?:[^"\\<>]|\\[^<>])*"'
_DOMAIN = re.compile(rf"{_ADDRESS_TEXT}|\[[^\s\[\]\\<>]*\]")
_ADDRESS = re.compile(rf"(?:{_ADDRESS_TEXT}|{_QUOTED_TEXT})@(?:{_DOMAIN.pattern})|{_ADDRESS_TEXT}")
_LINE_END = re.compile(r"\r\n|\r|\n")
# RFC 5322 §2.2: what a value may hold; RFC 6532 adds everything beyond ASCII.
_RAW = re.compile(r"[\t\x20-\x7e\u0080-\U0010ffff]*")
_Q_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/")
_URL_SAFE = "%!#$&'()*+,/:;=?@[]-._~"
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_RFC3339 = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.\d+)?(?:Z|([+-])(\d\d):(\d\d))")


class Unwritable(ValueError):
    """No field can be made of this value; ``str(error)`` says why, fit for a client."""


class Line:
    """A field under way. Its pieces are set apart by one space, and by a fold where a line would grow too long."""

    def __init__(self, name: str) -> None:
        self._out: list[str] = [name, ":"]
        self._column = len(name) + 1
        self._first = True

    def put(self, piece: str, width: int = WIDTH) -> None:
        """Never folds before the first piece: real mail programs take "Subject:" alone for an empty one."""
        size = len(piece) if piece.isascii() else len(piece.encode())
        if size > _PIECE:
            raise Unwritable(f"A word of {size} octets cannot be folded")
        if not self._first and self._column + 1 + size > width:
            self._out.append("\r\n")
            self._column = 0
        self._out += (" ", piece)
        self._column += 1 + size
        self._first = False

    def room(self, wanted: int) -> int:
        """Payload of the encoded word that comes next, of ``wanted`` that are left to write (RFC 2047 §2).

        What fits into one word is not cut in two: some readers show a space where words meet.
        """
        left = _WORD_WIDTH - self._column - 1 - len("=?utf-8?q??=")
        whole_fits = left < wanted <= _WORD and not self._first
        return _WORD if left < 16 or whole_fits else left

    def put_word(self, encoding: str, payload: str) -> None:
        self.put(f"=?utf-8?{encoding}?{payload}?=", _WORD_WIDTH)

    def done(self, limit: int | None = None) -> bytes:
        """The field. ``limit``: octets of which more would not be read again."""
        if self._first:
            self._out.append(" ")
        field = ("".join(self._out) + "\r\n").encode()
        if limit is not None and len(field) > limit:
            raise Unwritable(f"The header field would be larger than {limit} octets")
        return field


def scrubbed(text: str) -> str:
    """Line ends and tabs become spaces, other control characters go (RFC 8621 §4.1.2.2 drops them on reading)."""
    text = whole(text)
    return text if text.isprintable() else text.replace("\r\n", " ").translate(_CONTROLS)


def whole(text: str) -> str:
    """Text without lone surrogates: UTF-8 has no such thing."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def text(name: str, value: str) -> bytes:
    """An unstructured field. Only the words that need it are encoded; spaces come back as they were."""
    line = Line(name)
    put_text(line, scrubbed(value))
    return line.done()


def put_text(line: Line, value: str) -> None:
    words = value.split(" ") if value else []
    marked = [not word or "=?" in word or not word.isascii() or len(word) > _PIECE for word in words]
    for at, word in enumerate(words):
        # An empty word is a second space: it travels in an encoded word together with a neighbour.
        if not word:
            marked[min(at + 1, len(words) - 1)] = True
    if words and not words[-1] and len(words) > 1:
        marked[-2] = True
    at = 0
    while at < len(words):
        end = at
        while end < len(words) and marked[end]:
            end += 1
        if end > at:
            put_encoded(line, " ".join(words[at:end]))
            at = end
        else:
            line.put(words[at])
            at += 1


def put_encoded(line: Line, value: str) -> None:
    """The text as encoded words in UTF-8, none of which cuts a character in two (RFC 2047 §5)."""
    raw = value.encode()
    plain = sum(octet in _Q_SAFE or octet == 0x20 for octet in raw[:2_000])
    if len(raw) <= 2_000 and 3 * len(raw) - 2 * plain <= 4 * len(raw) // 3 + 4:
        _put_q(line, value)
        return
    at = 0
    while at < len(raw):
        end = min(at + line.room((len(raw) - at + 2) // 3 * 4) // 4 * 3, len(raw))
        while end < len(raw) and raw[end] & 0xC0 == 0x80:
            end -= 1
        line.put_word("b", binascii.b2a_base64(raw[at:end], newline=False).decode("ascii"))
        at = end


def _put_q(line: Line, value: str) -> None:
    units = [
        "".join(
            "_" if octet == 0x20 else chr(octet) if octet in _Q_SAFE else f"={octet:02X}" for octet in char.encode()
        )
        for char in value
    ]
    left = sum(map(len, units))
    word, room = "", line.room(left)
    for unit in units:
        if len(word) + len(unit) > room:
            line.put_word("q", word)
            left -= len(word)
            word, room = "", line.room(left)
        word += unit
    line.put_word("q", word)


def addresses(name: str, value: Iterable[Address]) -> bytes:
    """An address list (RFC 5322 §3.4). An address that is not one yet (a draft) is kept, in quotes where need be."""
    return groups(name, [Group(name=None, addresses=list(value))])


def groups(name: str, value: Sequence[Group]) -> bytes:
    """An address list with groups; nothing where there is no address and no group at all."""
    line, entries = Line(name), [entry for group in value for entry in _entries(group)]
    if not entries:
        return b""
    for at, (phrase, tail, last) in enumerate(entries):
        comma = "," if last and at + 1 < len(entries) else ""
        _put_mailbox(line, phrase, tail + comma)
    return line.done(MAX_VALUE)


# (display name or None, what stands behind it, whether a comma separates it from what follows)
_Entry = tuple[str | None, str, bool]


def _entries(group: Group) -> list[_Entry]:
    mailboxes = [(_display(one["name"]), address(one["email"])) for one in group["addresses"]]
    mailboxes = [one for one in mailboxes if one != (None, "")]
    title = _display(group["name"])
    found: list[_Entry] = [(shown, f"<{email}>" if shown else email, True) for shown, email in mailboxes]
    if title is None:
        return found
    if not found:
        return [(title, ":;", True)]
    shown, tail, _ = found[-1]
    return [(title, ":", False), *found[:-1], (shown, tail + ";", True)]


def _display(name: str | None) -> str | None:
    # RFC 8621 §4.1.2.3: white space around a display name is not part of it.
    return (scrubbed(name).strip() or None) if name is not None else None


def _put_mailbox(line: Line, name: str | None, tail: str) -> None:
    if name is None:
        line.put(tail)
        return
    pieces: list[str] = []
    if "=?" not in name and len(name) <= _QUOTED and name.isascii():
        pieces = name.split(" ") if _ATOMS.fullmatch(name) else [_quote(name)]
    if tail.startswith(":"):
        # The colon of a group follows its name at once.
        pieces = pieces or [_quote(name)] if name.isascii() and len(name) <= _QUOTED and "=?" not in name else []
        if pieces:
            pieces[-1] += tail
            tail = ""
    for piece in pieces:
        line.put(piece)
    if not pieces:
        put_encoded(line, name)
    if tail:
        line.put(tail)


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def address(email: str) -> str:
    """An addr-spec, as it is where it is one. Raises Unwritable when it is too long for a line."""
    text = scrubbed(email).strip()
    if text.startswith("<") and text.endswith(">"):
        text = text[1:-1].strip()
    if len(text.encode()) > _PIECE - 10:
        raise Unwritable("An address is too long")
    if not text or _ADDRESS.fullmatch(text):
        return text
    local, at, domain = text.rpartition("@")
    if at and "@" not in local and _DOMAIN.fullmatch(domain):
        return f"{_quote(local)}@{domain}"
    # Two addresses in one, or less: as it is, but never a way to a recipient that nobody named.
    return _quote(text)


def message_ids(name: str, value: Iterable[str]) -> bytes:
    """RFC 5322 §3.6.4; the ids may come with or without their angle brackets."""
    line = Line(name)
    for one in value:
        line.put(f"<{bare_id(one)}>")
    return line.done(MAX_VALUE)


def bare_id(value: str) -> str:
    """A msg-id or Content-ID without brackets, white space and control characters."""
    found = "".join(scrubbed(value).split()).replace("<", "").replace(">", "")
    if not found:
        raise Unwritable("An id is empty")
    return found


def date(name: str, value: str | datetime) -> bytes:
    """RFC 5322 §3.3 of an RFC 3339 date, in its own offset; a leap second is written as the second before."""
    moment = value if isinstance(value, datetime) else _moment(value)
    offset = moment.utcoffset() or timedelta()
    sign, minutes = ("-", -offset) if offset < timedelta() else ("+", offset)
    east = int(minutes.total_seconds()) // 60
    day = f"{_DAYS[moment.weekday()]}, {moment.day:02} {_MONTHS[moment.month - 1]} {moment.year:04}"
    written = f"{day} {moment.hour:02}:{moment.minute:02}:{moment.second:02} {sign}{east // 60:02}{east % 60:02}"
    return f"{name}: {written}\r\n".encode("ascii")


def _moment(value: str) -> datetime:
    found = _RFC3339.fullmatch(value)
    if found is None:
        raise Unwritable("This is no date")
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    zone: tzinfo = UTC
    if found[7]:
        east = timedelta(hours=int(found[8]), minutes=int(found[9]))
        zone = timezone(-east if found[7] == "-" else east)
    try:
        return datetime(year, month, day, hour, minute, min(second, 59), tzinfo=zone)
    except ValueError:
        raise Unwritable("There is no such date") from None


def urls(name: str, value: Sequence[str]) -> bytes:
    """RFC 2369 §2: URLs in angle brackets; what a URL cannot hold is percent-encoded."""
    line = Line(name)
    for at, one in enumerate(value):
        url = quote(scrubbed(one).strip(), safe=_URL_SAFE)
        if not url:
            raise Unwritable("A URL is empty")
        comma = "," if at + 1 < len(value) else ""
        # White space inside the brackets is ignored by readers: a very long URL is folded there.
        pieces = [url[start : start + _PIECE - 10] for start in range(0, len(url), _PIECE - 10)]
        pieces[0] = "<" + pieces[0]
        pieces[-1] += ">" + comma
        for piece in pieces:
            line.put(piece)
    return line.done(MAX_VALUE)


def raw(name: str, value: str) -> bytes:
    """The value as it stands behind the colon, its own folds included. Raises Unwritable for any other line end."""
    lines = _LINE_END.split(whole(value).removesuffix("\n").removesuffix("\r"))
    if any(line[:1] not in (" ", "\t") or not line.strip() for line in lines[1:]):
        raise Unwritable("A line end must be followed by white space and text")
    if not all(_RAW.fullmatch(line) for line in lines):
        raise Unwritable("There are control characters in the value")
    if not lines[0].startswith((" ", "\t")):
        lines[0] = " " + lines[0]
    lines[0] = f"{name}:{lines[0]}"
    if all(len(line.encode()) <= MAX_LINE for line in lines):
        return ("\r\n".join(lines) + "\r\n").encode()
    line = Line(name)
    for word in "".join(lines)[len(name) + 1 :].split():
        line.put(word)
    return line.done()


FORMS: dict[str, Callable[[str, Any], bytes]] = {
    "Raw": raw,
    "Text": text,
    "Addresses": addresses,
    "GroupedAddresses": groups,
    "MessageIds": message_ids,
    "Date": date,
    "URLs": urls,
}
"""The parsed forms of RFC 8621 §4.1.2 → how a field is written from them. The value must have the form's type."""
