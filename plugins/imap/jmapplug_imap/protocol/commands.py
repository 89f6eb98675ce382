"""What a command is made of: the words that a caller gives, and how each is written on the wire (RFC 9051 §4).

A *part* is one of: ``str``/``bytes`` (written as they are: keywords, sets, numbers), ``int``, a list or tuple (written
in parentheses), :class:`Mailbox`, :class:`Astring`, :class:`Literal`, :class:`Upload`. Quoting is decided here and
nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias, Union

import msgspec


class Mailbox(msgspec.Struct, frozen=True):
    """A mailbox by its raw upstream name (the octets that LIST gave)."""

    key: bytes


class Astring(msgspec.Struct, frozen=True):
    """A string value (search words, header names, user names); ``str`` is sent as UTF-8. ``secret`` hides its repr."""

    value: str | bytes
    secret: bool = False

    def __repr__(self) -> str:
        return "Astring(…)" if self.secret else f"Astring({self.value!r})"


class Literal(msgspec.Struct, frozen=True):
    """A value that is always sent as a literal."""

    data: bytes


class Upload(msgspec.Struct, frozen=True):
    """A file of exactly ``size`` octets, sent as a literal in blocks; ``binary``: as a literal8 (RFC 3516 §4.4)."""

    path: Path
    size: int
    binary: bool = False


Part: TypeAlias = Union[str, bytes, int, Mailbox, Astring, Literal, Upload, Sequence["Part"]]  # noqa: UP007 (a recursive alias at run time)

Command: TypeAlias = Sequence[Part]
"""The parts of one command, without its tag; they are joined by single spaces."""

Chunk: TypeAlias = tuple[bytes | Upload, bool]
"""Octets (or a file) to send, and whether the server's go-ahead (``+``) must be awaited after them."""

_RAW_FORBIDDEN = re.compile(rb"[\r\n\0]")
_ATOM = re.compile(rb"[!#$&'+,\-./0-9:;<=>?@A-Z\[^_`a-z|~]+\Z")
_QUOTABLE = re.compile(rb"[\x20-\x7e]{0,1000}\Z")
_QUOTABLE_8BIT = re.compile(rb"[\x20-\x7e\x80-\xff]{0,1000}\Z")
_SPECIAL = re.compile(rb'(["\\])')
LITERAL_MINUS_MAX = 4096
UPLOAD_UNASKED_MAX = 256 * 1024
"""A file larger than this waits for the server's go-ahead: it may refuse by a NO instead of hanging up on us."""


class Writer:
    """Writes one command. ``plus``: "" (literals wait for the server), "-" (LITERAL-) or "+" (LITERAL+, RFC 7888)."""

    def __init__(self, *, plus: str = "", utf8: bool = False) -> None:
        self._plus = plus
        self._quotable = _QUOTABLE_8BIT if utf8 else _QUOTABLE
        self._chunks: list[Chunk] = []
        self._line: list[bytes] = []

    def command(self, tag: bytes, parts: Command) -> list[Chunk]:
        """The chunks of one whole command. Raises ValueError for a raw part that would break out of its line."""
        self._chunks, self._line = [], [tag]
        for part in parts:
            self._line.append(b" ")
            self._part(part)
        self._line.append(b"\r\n")
        self._chunks.append((b"".join(self._line), False))
        return self._chunks

    def _part(self, part: Part) -> None:
        if isinstance(part, (str, bytes)):
            raw = part.encode() if isinstance(part, str) else part
            if _RAW_FORBIDDEN.search(raw):
                raise ValueError("a line break or NUL inside an IMAP command")
            self._line.append(raw)
        elif isinstance(part, int):
            self._line.append(b"%d" % part)
        elif isinstance(part, Mailbox):
            self._string(part.key)
        elif isinstance(part, Astring):
            self._string(part.value.encode() if isinstance(part.value, str) else part.value)
        elif isinstance(part, Literal):
            self._literal(part.data)
        elif isinstance(part, Upload):
            self._upload(part)
        else:
            self._list(part)

    def _list(self, parts: Sequence[Part]) -> None:
        self._line.append(b"(")
        for index, part in enumerate(parts):
            if index:
                self._line.append(b" ")
            self._part(part)
        self._line.append(b")")

    def _string(self, value: bytes) -> None:
        # "NIL" as an atom would be read as no value at all.
        if _ATOM.match(value) and value.upper() != b"NIL":
            self._line.append(value)
        elif self._quotable.match(value):
            self._line.append(b'"' + _SPECIAL.sub(rb"\\\1", value) + b'"')
        else:
            self._literal(value)

    def _literal(self, data: bytes) -> None:
        self._announce(b"", len(data), self._free(len(data)))
        self._line.append(data)

    def _upload(self, file: Upload) -> None:
        free = self._free(file.size) and file.size <= UPLOAD_UNASKED_MAX
        self._announce(b"~" if file.binary else b"", file.size, free)
        if self._line:
            self._chunks.append((b"".join(self._line), False))
            self._line = []
        self._chunks.append((file, False))

    def _free(self, size: int) -> bool:
        # RFC 7888 §5: LITERAL- allows the non-synchronising form up to 4096 octets.
        return self._plus == "+" or (self._plus == "-" and size <= LITERAL_MINUS_MAX)

    def _announce(self, kind: bytes, size: int, free: bool) -> None:
        self._line.append(b"%s{%d%s}\r\n" % (kind, size, b"+" if free else b""))
        if not free:
            self._chunks.append((b"".join(self._line), True))
            self._line = []
