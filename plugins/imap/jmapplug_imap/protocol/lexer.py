"""Octets in, complete responses out; no I/O (RFC 9051 §4.3, §7).

A *frame* is one whole response with its literals in place (``… {3}\\r\\nabc …``) and without the last line break. Small
literals stay in memory, large ones may go to a *sink* (any object with ``write``) while they arrive. Every size has a
limit before anything is kept: a hostile server can announce any number. Work is linear in the octets received.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol, TypeAlias

import msgspec

from jmapplug_imap.protocol.errors import ProtocolError


class Limits(msgspec.Struct, frozen=True):
    """Bounds, in octets. ``line``: between two literals; ``memory_literal``: one kept in memory; ``literal``: one that

    goes to a sink; ``response``: everything of one response that is kept; ``untagged``: responses to one command;
    ``fetch``: everything of one FETCH that is kept. FETCH is allowed more for each message, see ``bounds``.
    """

    line: int = 16 * 2**20
    memory_literal: int = 32 * 2**20
    literal: int = 4 * 2**30
    response: int = 64 * 2**20
    untagged: int = 1_000_000
    fetch: int = 128 * 2**20


class Sink(Protocol):
    """Where a large literal goes."""

    def write(self, data: bytes, /) -> object: ...


class LiteralStart(msgspec.Struct, frozen=True):
    """A literal is about to arrive: ``section`` as in :class:`FetchRow`, None outside FETCH; ``uid`` if told."""

    size: int
    section: str | None
    uid: int | None


class Streamed(msgspec.Struct, frozen=True):
    """A literal that went to a sink."""

    size: int


OnLiteral: TypeAlias = Callable[[LiteralStart], "Sink | None"]


class Frame(msgspec.Struct, frozen=True):
    """``streamed``: offset behind the literal's announcement in ``data`` → what is not there."""

    data: bytes
    streamed: dict[int, Streamed] | None = None


_ANNOUNCED = re.compile(rb"\{(\d{1,19})\+?\}\r?\n\Z")
# The free text of these may end like a literal; tagged responses and "+" likewise.
_FREE_TEXT = re.compile(rb"(?!\* )|\* (?:OK|NO|BAD|BYE|PREAUTH)\b", re.IGNORECASE)
_SECTION = re.compile(
    rb"(BODY|BINARY|RFC822)(?:\.(HEADER|TEXT))?(?:\[([^\[\]]*)\])?(?:<(\d+)>)? ~?\{\d+\+?\}\r?\n\Z", re.I
)
_UID = re.compile(rb"[( ]UID (\d{1,10})[ )]", re.I)


def section_key(kind: bytes, section: bytes, origin: bytes | None = None) -> str:
    """How a FETCH item names its text: "" whole, "1.2", "HEADER", "1.MIME"; field lists are cut off, BINARY is "~1".

    A piece carries the offset where it begins: "1.2<1024>" (RFC 9051 §7.5.2).
    """
    name = section.partition(b" ")[0].decode("latin-1").upper()
    if origin is not None:
        name = f"{name}<{int(origin[:20])}>"
    return f"~{name}" if kind.upper() == b"BINARY" else name


class Lexer:
    """Feed octets, then take frames until None. Raises ProtocolError where a limit is passed; useless after that."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self.on_literal: OnLiteral | None = None
        self._buffer = b""
        self._tail = bytearray()  # a line without its break so far; it comes before the buffer
        self._pos = 0
        self._frame = bytearray()  # the finished lines and literals of the frame under way
        self._need = 0  # octets that the literal under way still lacks
        self._sink: Sink | None = None
        self._streamed: dict[int, Streamed] | None = None
        self.taken = 0
        """Octets fed so far."""
        self.sunk = 0
        """Those of them that went to sinks."""

    @property
    def idle(self) -> bool:
        """Whether no frame is under way."""
        return not (self._frame or self._need or self._tail or self._pos < len(self._buffer))

    def feed(self, data: bytes) -> None:
        """Take octets as they arrive, cut anywhere."""
        self.taken += len(data)
        if self._need and self._pos >= len(self._buffer):
            taken = min(self._need, len(data))
            self._keep(data if taken == len(data) else data[:taken])
            data = data[taken:]
        if not data:
            return
        if self._tail and b"\n" not in data:
            self._hold(data)
            return
        rest = self._buffer[self._pos :]
        self._buffer = b"".join([self._tail, rest, data]) if rest or self._tail else data
        self._pos = 0
        self._tail.clear()

    def next(self) -> Frame | None:
        """The next complete response; None when more octets are needed."""
        while True:
            if self._need and not self._take_literal():
                return None
            buffer, start = self._buffer, self._pos
            end = buffer.find(b"\n", start)
            if end < 0:
                self._starve()
                return None
            self._pos = end + 1
            if end - start > self._limits.line:
                raise ProtocolError("a line longer than the limit")
            stop = end - 1 if end > start and buffer[end - 1] == 13 else end
            if stop > start and buffer[stop - 1] == 125 and self._announced(buffer[start : end + 1]):
                continue
            line = buffer[start:stop]
            return self._finished(line) if self._frame else Frame(line)

    def window(self) -> tuple[bytes, int] | None:
        """The buffer and the offset of the next response in it, for matching many at once; None inside a response."""
        if self._frame or self._need or self._pos >= len(self._buffer):
            return None
        return self._buffer, self._pos

    def advance(self, pos: int) -> None:
        """What lies before ``pos`` of :meth:`window`'s buffer has been read."""
        self._pos = pos

    def take_rest(self) -> bytes:
        """Hand over what was received beyond the responses taken so far (a layer change: STARTTLS, COMPRESS)."""
        rest = bytes(self._tail) + self._buffer[self._pos :]
        self._buffer, self._pos = b"", 0
        self._tail.clear()
        return rest

    # --- inside

    def _hold(self, data: bytes) -> None:
        self._tail += data
        if len(self._tail) > self._limits.line:
            raise ProtocolError("a line longer than the limit")

    def _starve(self) -> None:
        """No line break in sight: put what there is aside, so that octets arriving singly cost no copy of it."""
        rest = self._buffer[self._pos :] if self._pos else self._buffer
        self._buffer, self._pos = b"", 0
        if rest:
            self._hold(rest)

    def _announced(self, line: bytes) -> bool:
        """Whether ``line`` announces a literal; if so, it is under way now."""
        found = _ANNOUNCED.search(line)
        if found is None or (not self._frame and _FREE_TEXT.match(line)):
            return False
        size = int(found[1])
        start = self._start_of(line, size)
        self._sink = self.on_literal(start) if self.on_literal else None
        if size > (self._limits.memory_literal if self._sink is None else self._limits.literal):
            raise ProtocolError("a literal larger than the limit")
        self._frame += line
        if len(self._frame) + (size if self._sink is None else 0) > self._limits.response:
            raise ProtocolError("a response larger than the limit")
        if self._sink is not None:
            self._streamed = self._streamed or {}
            self._streamed[len(self._frame)] = Streamed(size)
        self._need = size
        return True

    def _start_of(self, line: bytes, size: int) -> LiteralStart:
        item = _SECTION.search(line)
        section = None
        if item is not None:
            section = section_key(item[1], item[2] or item[3] or b"", item[4])
        uid = _UID.search(self._frame, 0, 4096) or _UID.search(line, 0, 4096)
        return LiteralStart(size, section, int(uid[1]) if uid else None)

    def _take_literal(self) -> bool:
        """Move what the buffer holds of the literal under way; True when it is complete."""
        there = min(self._need, len(self._buffer) - self._pos)
        if there:
            self._keep(self._buffer[self._pos : self._pos + there])
            self._pos += there
        return not self._need

    def _keep(self, data: bytes) -> None:
        self._need -= len(data)
        if self._sink is not None:
            self.sunk += len(data)
            self._sink.write(data)
        else:
            self._frame += data

    def _finished(self, line: bytes) -> Frame:
        data = bytes(self._frame) + line
        if len(data) > self._limits.response:
            raise ProtocolError("a response larger than the limit")
        frame = Frame(data, self._streamed)
        self._streamed, self._sink = None, None
        self._frame.clear()
        return frame
