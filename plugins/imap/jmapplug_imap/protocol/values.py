"""Values of the IMAP grammar inside one frame: atoms, strings, literals, nested lists (RFC 9051 §4, §9).

Read as: NIL → None, a list → ``list``, a streamed literal → :class:`Streamed`, everything else → ``bytes``.
Every function takes the frame and an offset and returns the value and the offset behind it; ParseError otherwise.
"""

from __future__ import annotations

import re
from typing import Any

from jmapplug_imap.protocol.errors import ParseError
from jmapplug_imap.protocol.lexer import Frame, Streamed

MAX_DEPTH = 200
MAX_VALUES = 2_000_000

# 1 open, 2 close, 3 quoted, 4 literal size, 5 atom. 8-bit and line breaks in quoted strings are taken as they come.
_TOKEN = re.compile(
    rb' *(?:(\()|(\))|"([^"\\]*(?:\\.[^"\\]*)*)"|~?\{(\d{1,19})\+?\}\r?\n|([^\x00-\x20()"{][^\x00-\x20()"]*))',
    re.DOTALL,
)
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)
_OPEN, _CLOSE, _QUOTED, _LITERAL = 1, 2, 3, 4


def unquote(text: bytes) -> bytes:
    """The content of a quoted string without its escapes."""
    return _ESCAPE.sub(rb"\1", text) if b"\\" in text else text


def literal(frame: Frame, size: int, pos: int) -> tuple[bytes | Streamed, int]:
    """The literal of ``size`` octets whose data stands (or would stand) at ``pos``."""
    if frame.streamed is not None and pos in frame.streamed:
        return frame.streamed[pos], pos
    if pos + size > len(frame.data):
        raise ParseError("a literal beyond its response")
    return frame.data[pos : pos + size], pos + size


def value(frame: Frame, pos: int) -> tuple[Any, int]:
    """One value of any kind, nesting and count bounded."""
    data, match = frame.data, _TOKEN.match
    stack: list[list[Any]] = []
    current: list[Any] = []
    count = 0
    while True:
        token = match(data, pos)
        if token is None:
            raise ParseError("no value where one belongs")
        pos = token.end()
        kind = token.lastindex
        if kind == _OPEN:
            if len(stack) >= MAX_DEPTH:
                raise ParseError("nested too deep")
            stack.append(current)
            current = []
            continue
        item: Any
        if kind == _CLOSE:
            if not stack:
                raise ParseError("a parenthesis closed that was not open")
            item, current = current, stack.pop()
        elif kind == _QUOTED:
            item = unquote(token[3])
        elif kind == _LITERAL:
            item, pos = literal(frame, int(token[4]), pos)
        else:
            item = token[5]
            if len(item) == 3 and item.upper() == b"NIL":
                item = None
        if not stack:
            return item, pos
        current.append(item)
        count += 1
        if count > MAX_VALUES:
            raise ParseError("too many values")


def values(frame: Frame, pos: int) -> list[Any]:
    """Every value from ``pos`` to the end of the frame."""
    found = []
    end = len(frame.data.rstrip(b" "))
    while pos < end:
        item, pos = value(frame, pos)
        found.append(item)
        if len(found) > MAX_VALUES:
            raise ParseError("too many values")
    return found


def string(item: object) -> bytes:
    """``item`` as octets. Raises ParseError for NIL, lists and streamed literals."""
    if type(item) is not bytes:
        raise ParseError("no string where one belongs")
    return item


def number(item: object) -> int:
    """``item`` as a number below 2^64. Raises ParseError."""
    if type(item) is not bytes or not item.isdigit() or len(item) > 20:
        raise ParseError("no number where one belongs")
    return int(item)


def items(item: object) -> list[Any]:
    """``item`` as a list; NIL is an empty one. Raises ParseError."""
    if item is None:
        return []
    if type(item) is not list:
        raise ParseError("no list where one belongs")
    return item


def text(item: object) -> str:
    """Octets that ought to be ASCII or UTF-8, as text; "" for anything that is not octets."""
    return item.decode("utf-8", "replace") if type(item) is bytes else ""


def innermost(item: Any) -> Any:
    """What stands inside any parentheses; pymap writes EMAILID ((M1)). Of several the last: PREVIEW (FUZZY "text")."""
    while type(item) is list:
        item = item[-1] if item else None
    return item
