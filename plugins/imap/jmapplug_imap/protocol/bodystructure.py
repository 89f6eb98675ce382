"""BODYSTRUCTURE as a tree of :class:`jmapplug.mime.structure.Part` (RFC 9051 §7.5.2).

Section numbers are IMAP's: a single part at the root is "1", a multipart there "". message/rfc822 is a leaf. Servers
differ and err (Exchange's NILs, missing fields, Courier's multiparts without parts): what cannot be understood gives
None as a whole, and the caller parses the message itself. Most structures are plain enough for two regular
expressions; whatever they do not take goes through the general value parser.
"""

from __future__ import annotations

import functools
import re
from typing import Any

from jmapplug.mime import params
from jmapplug.mime.structure import Part
from jmapplug_imap.protocol.errors import ParseError
from jmapplug_imap.protocol.lexer import Frame
from jmapplug_imap.protocol.values import value

MAX_DEPTH = 100
MAX_PARTS = 10_000
MAX_FAST = 2000
"""Octets of one part's description that the fast way takes: it remembers what it has decoded, hence nothing long."""

# A string, NIL, a list of strings: without escapes, literals or deeper nesting.
_STR = rb'(?:"[^"\\\r\n]*"|NIL)'
_LIST = rb'(?:NIL|\((?:"[^"\\\r\n]*"(?: (?="))?)*\))'
_DISPOSITION = rb'(?:NIL|\("[^"\\\r\n]*" ' + _LIST + rb"\))"
_LEAF = re.compile(
    rb'\("(?P<type>[^"\\\r\n]+)" "(?P<subtype>[^"\\\r\n]+)" (?P<params>' + _LIST + rb") (?P<id>" + _STR + rb") " + _STR
    + rb" (?P<encoding>" + _STR + rb") (?P<size>\d{1,20})(?: \d{1,20})?"
    + rb"(?: " + _STR + rb"(?: (?P<disposition>" + _DISPOSITION + rb")"
    + rb"(?: (?P<language>" + _STR + rb"|" + _LIST + rb")(?: (?P<location>" + _STR + rb"))?)?)?)?\)"
)  # fmt: skip
_TAIL = re.compile(
    rb' ?"(?P<subtype>[^"\\\r\n]+)"(?: (?P<params>' + _LIST + rb")(?: (?P<disposition>" + _DISPOSITION + rb")"
    + rb"(?: (?P<language>" + _STR + rb"|" + _LIST + rb")(?: (?P<location>" + _STR + rb"))?)?)?)?\)"
)  # fmt: skip
_MESSAGES = frozenset({"message/rfc822", "message/global"})
_QUOTED = re.compile(rb'"([^"]*)"')


class _Plain(Exception):
    """Not plain enough for the fast way."""


def read(frame: Frame, pos: int) -> tuple[Part | None, int]:
    """The structure at ``pos`` and the offset behind it; ParseError only where the value itself has no end."""
    try:
        return _fast(frame.data, pos, "", [MAX_PARTS], 0)
    except _Plain:
        pass
    item, end = value(frame, pos)
    return from_value(item), end


def from_value(item: object) -> Part | None:
    """A parsed structure value as a Part; None where it cannot be understood or passes the bounds."""
    try:
        return _slow(item, "", [MAX_PARTS], 0)
    except (ParseError, ValueError, IndexError):
        return None


# --- the fast way


def _fast(data: bytes, pos: int, section: str, budget: list[int], depth: int) -> tuple[Part, int]:
    budget[0] -= 1
    if budget[0] < 0 or depth > MAX_DEPTH:
        raise _Plain
    if data[pos : pos + 2] == b"((":
        return _fast_multipart(data, pos, section, budget, depth)
    leaf = _LEAF.match(data, pos)
    if leaf is None or leaf.end() - pos > MAX_FAST:
        raise _Plain
    kind, subtype, pairs, cid, encoding, size, disposition, language, location = leaf.groups()
    mime = _mime_type(kind, subtype)
    if mime in _MESSAGES or mime.startswith("multipart/"):
        raise _Plain
    charset, name = _type_parameters(pairs)
    how, filename = (None, None) if disposition in (None, b"NIL") else _disposition(disposition)
    return Part(
        section or "1",
        mime,
        charset,
        filename or name,
        how,
        None if cid == b"NIL" else _content_id(cid[1:-1]),
        None if language in (None, b"NIL") else _language(language),
        None if location in (None, b"NIL") else _location(location[1:-1]),
        "7bit" if encoding == b"NIL" else _encoding(encoding[1:-1]),
        int(size),
    ), leaf.end()


def _fast_multipart(data: bytes, pos: int, section: str, budget: list[int], depth: int) -> tuple[Part, int]:
    parts: list[Part] = []
    prefix = section + "." if section else ""
    pos += 1
    while data[pos : pos + 1] == b"(":
        part, pos = _fast(data, pos, f"{prefix}{len(parts) + 1}", budget, depth + 1)
        parts.append(part)
        # Some servers put a space between the parts of a multipart.
        if data[pos : pos + 2] == b" (":
            pos += 1
    tail = _TAIL.match(data, pos)
    if tail is None or tail.end() - pos > MAX_FAST:
        raise _Plain
    subtype, _, disposition, language, location = tail.groups()
    how, name = (None, None) if disposition in (None, b"NIL") else _disposition(disposition)
    return Part(
        section,
        _mime_type(b"multipart", subtype),
        None,
        name,
        how,
        None,
        None if language in (None, b"NIL") else _language(language),
        None if location in (None, b"NIL") else _location(location[1:-1]),
        "7bit",
        0,
        tuple(parts),
    ), tail.end()


@functools.lru_cache(maxsize=512)
def _mime_type(kind: bytes, subtype: bytes) -> str:
    return f"{_word(kind)}/{_word(subtype)}"


@functools.lru_cache(maxsize=128)
def _encoding(raw: bytes) -> str:
    return _word(raw) or "7bit"


@functools.lru_cache(maxsize=1024)
def _type_parameters(raw: bytes) -> tuple[str | None, str | None]:
    """(charset, name) of a list of type parameters as it stands."""
    return _charset_and_name(_pairs(raw))


@functools.lru_cache(maxsize=256)
def _disposition(raw: bytes) -> tuple[str | None, str | None]:
    """(disposition, file name) of a disposition value as it stands."""
    kind = _QUOTED.match(raw, 1)
    if kind is None:
        return None, None
    return _disposed(kind[1], _pairs(raw[kind.end() :]))


def _pairs(raw: bytes) -> list[tuple[bytes, bytes]]:
    words = _QUOTED.findall(raw)
    return list(zip(words[::2], words[1::2], strict=False))


def _language(raw: bytes) -> tuple[str, ...] | None:
    return tuple(_text(word) for word in _QUOTED.findall(raw)) or None


# --- what both ways share


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _word(raw: bytes) -> str:
    return _text(raw).strip().lower()


def _charset_and_name(pairs: list[tuple[bytes, bytes]]) -> tuple[str | None, str | None]:
    if not pairs:
        return None, None
    decoded = params.decode_parameter_list(pairs)
    return decoded.get("charset") or None, decoded.get("name") or None


def _filename(pairs: list[tuple[bytes, bytes]]) -> str | None:
    return params.decode_parameter_list(pairs).get("filename") or None if pairs else None


def _disposed(kind: bytes, pairs: list[tuple[bytes, bytes]]) -> tuple[str | None, str | None]:
    if b";" not in kind:
        return _word(kind) or None, _filename(pairs)
    # pymap sends the whole field as the disposition's name.
    word, parameters = params.disposition(kind)
    return word, _filename(pairs) or parameters.get("filename") or None


def _content_id(raw: bytes) -> str | None:
    text = _text(raw).strip()
    # RFC 8621 §4.1.4: cid is the value without the angle brackets.
    return text.removeprefix("<").removesuffix(">") or None


def _location(raw: bytes) -> str | None:
    # RFC 2557 §4.4: white space in a Content-Location comes from folding only.
    return "".join(_text(raw).split()) or None


# --- the general way


def _slow(item: object, section: str, budget: list[int], depth: int) -> Part:
    budget[0] -= 1
    if budget[0] < 0 or depth > MAX_DEPTH or type(item) is not list or not item:
        raise ParseError("no body structure")
    if type(item[0]) is list:
        return _slow_multipart(item, section, budget, depth)
    return _slow_leaf(item, section)


def _slow_multipart(item: list[Any], section: str, budget: list[int], depth: int) -> Part:
    prefix = section + "." if section else ""
    count = next((index for index, each in enumerate(item) if type(each) is not list), len(item))
    parts = tuple(
        _slow(each, f"{prefix}{number}", budget, depth + 1) for number, each in enumerate(item[:count], start=1)
    )
    rest = item[count:] + [None] * 5
    if type(rest[0]) is not bytes:
        raise ParseError("a multipart without a subtype")
    how, name = _slow_disposition(rest[2])
    return Part(
        section,
        f"multipart/{_word(rest[0])}",
        None,
        name,
        how,
        None,
        _slow_language(rest[3]),
        _location(rest[4]) if type(rest[4]) is bytes else None,
        "7bit",
        0,
        parts,
    )


def _slow_leaf(item: list[Any], section: str) -> Part:
    # A NIL type or encoding is Exchange's way to say "the default" (RFC 2045 §5.2, §6.1).
    kind, subtype, pairs, cid, _, encoding, size = item[:7]
    if type(kind) not in (bytes, type(None)) or type(subtype) not in (bytes, type(None)):
        raise ParseError("a part without a type")
    mime = f"{_word(kind)}/{_word(subtype)}" if kind and subtype else "text/plain"
    if mime.startswith("multipart/"):
        raise ParseError("a multipart without parts")
    charset, name = _charset_and_name(_slow_pairs(pairs))
    extension = item[_extension_at(mime, item) :] + [None] * 4
    how, filename = _slow_disposition(extension[1])
    return Part(
        section or "1",
        mime,
        charset,
        filename or name,
        how,
        _content_id(cid) if type(cid) is bytes else None,
        _slow_language(extension[2]),
        _location(extension[3]) if type(extension[3]) is bytes else None,
        (_word(encoding) if type(encoding) is bytes else "") or "7bit",
        _slow_size(size),
    )


def _extension_at(mime: str, item: list[Any]) -> int:
    """Where body-fld-md5 stands: behind the lines of a text, behind envelope, body and lines of a message."""
    if len(item) < 8:
        return 7
    if mime in _MESSAGES and (type(item[7]) is list or len(item) >= 14):
        return 10
    # A text's line count; a server that leaves it out puts the MD5 (NIL or base64) there.
    return 8 if (type(item[7]) is bytes and item[7].isdigit()) or (mime.startswith("text/") and len(item) > 11) else 7


def _slow_size(size: object) -> int:
    if size is None:
        return 0
    if type(size) is not bytes or not size.isdigit() or len(size) > 19:
        raise ParseError("a part without a size")
    return int(size)


def _slow_pairs(item: object) -> list[tuple[bytes, bytes]]:
    if type(item) is not list:
        return []
    names, values = item[::2], item[1::2]
    return [
        (name, text or b"")
        for name, text in zip(names, values, strict=False)
        if type(name) is bytes and type(text) in (bytes, type(None))
    ]


def _slow_disposition(item: object) -> tuple[str | None, str | None]:
    if type(item) is bytes:
        return _disposed(item, [])
    if type(item) is not list or not item or type(item[0]) is not bytes:
        return None, None
    return _disposed(item[0], _slow_pairs(item[1] if len(item) > 1 else None))


def _slow_language(item: object) -> tuple[str, ...] | None:
    words = item if type(item) is list else [item]
    return tuple(_text(word) for word in words if type(word) is bytes) or None
