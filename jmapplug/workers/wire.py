"""Frames between fronts and workers (design §2).

A frame is: header length, payload length (4 bytes each, big endian), a msgpack header, an opaque payload. The header is
the array ``[kind, id, name, body]``. ``Decoder`` does no I/O; ``Outbox`` sends whole frames in order on a gevent
socket.
"""

from __future__ import annotations

import struct
from collections import deque
from enum import IntEnum
from typing import Any

import gevent
import msgspec

MAX_HEADER = 1 << 20
MAX_PAYLOAD = 64 << 20
RECEIVE = 1 << 18

_PREFIX = struct.Struct(">II")
_JOIN = 1 << 16  # payloads up to this size are copied behind their header: one send call


class WireError(Exception):
    """The other side sent what is no frame, or one above the limits. The connection is of no use any more."""


class Kind(IntEnum):
    """REQUEST and its ANSWER or ERROR share an id; the others have id 0.

    HELLO is the first thing a worker sends: a connection that ends without it was never read from.
    GOODBYE is the last but answers: no new request is wanted on this connection.
    """

    REQUEST = 0
    ANSWER = 1
    ERROR = 2
    EVENT = 3
    GOODBYE = 4
    HELLO = 5


class Frame(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """``name``: the command of a REQUEST, the subject of an EVENT, else empty. ``body``: msgpack-able values."""

    kind: int
    id: int
    name: str
    body: dict[str, Any]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Frame)


def encode(kind: int, ident: int, name: str, body: dict[str, Any], payload: bytes = b"") -> list[bytes | bytearray]:
    """The pieces of one frame, to be sent in this order. Raises WireError above the limits."""
    buffer = bytearray(8)
    _encoder.encode_into(Frame(kind, ident, name, body), buffer, 8)
    size, length = len(buffer) - 8, len(payload)
    if size > MAX_HEADER or length > MAX_PAYLOAD:
        raise WireError("frame too large")
    _PREFIX.pack_into(buffer, 0, size, length)
    if length <= _JOIN:
        buffer += payload
        return [buffer]
    return [buffer, payload]


class Decoder:
    """Bytes in, frames out. Memory is bounded by one frame at the limits."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[Frame, bytes]]:
        """The frames that ``data`` completes. Raises WireError."""
        if self._buffer:
            self._buffer += data
            found, used = self._split(self._buffer)
            if used:
                del self._buffer[:used]
        else:
            found, used = self._split(data)
            if used < len(data):
                self._buffer += memoryview(data)[used:]
        return found

    def _split(self, data: bytes | bytearray) -> tuple[list[tuple[Frame, bytes]], int]:
        found: list[tuple[Frame, bytes]] = []
        start, end = 0, len(data)
        with memoryview(data) as view:
            while end - start >= 8:
                size, length = _PREFIX.unpack_from(data, start)
                if size > MAX_HEADER or length > MAX_PAYLOAD:
                    raise WireError("frame too large")
                middle = start + 8 + size
                if end < middle + length:
                    break
                found.append((_header(view[start + 8 : middle]), bytes(view[middle : middle + length])))
                start = middle + length
        return found, start


def _header(data: memoryview) -> Frame:
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise WireError("not a frame") from error


class Outbox:
    """The one writer of a socket (process rule 8): frames leave whole and in order, whoever sends them.

    A frame that the kernel takes at once leaves in the caller's own greenlet without a switch; what it does not take
    waits for one writer greenlet. ``send`` never blocks; above ``limit`` waiting octets it raises WireError.
    """

    __slots__ = ("_limit", "_queue", "_raw", "_size", "_socket", "_writer", "failed")

    def __init__(self, sock: Any, limit: int = 4 * MAX_PAYLOAD) -> None:
        self._socket = sock
        self._raw = sock._sock
        self._queue: deque[memoryview] = deque()
        self._size = 0
        self._limit = limit
        self._writer: Any = None
        self.failed = False

    def send(self, pieces: list[bytes | bytearray]) -> None:
        """Send one frame. Raises OSError when the connection is gone, WireError when the other side does not read."""
        if self.failed:
            raise BrokenPipeError
        if self._writer is None:
            pieces_left = self._now(pieces)
            if not pieces_left:
                return
            self._append(pieces_left)
            self._writer = gevent.spawn(self._write)
        else:
            self._append([memoryview(piece) for piece in pieces])

    def _now(self, pieces: list[bytes | bytearray]) -> list[memoryview]:
        """Hand the kernel what it takes without waiting; no switch happens here. What is left."""
        if len(pieces) > 1:
            return [memoryview(piece) for piece in pieces]
        piece = pieces[0]
        try:
            sent = self._raw.send(piece)
        except BlockingIOError:
            sent = 0
        return [] if sent == len(piece) else [memoryview(piece)[sent:]]

    def _append(self, views: list[memoryview]) -> None:
        size = sum(map(len, views))
        if self._size and self._size + size > self._limit:
            raise WireError("the other side does not read")
        self._size += size
        self._queue.extend(views)

    def _write(self) -> None:
        try:
            while self._queue:
                view = self._queue.popleft()
                self._socket.sendall(view)
                self._size -= len(view)
        except (OSError, gevent.GreenletExit):
            self.failed = True
            self._queue.clear()
        finally:
            self._writer = None

    def flush(self, timeout: float) -> None:
        """Wait, at most ``timeout`` seconds, until everything has left."""
        writer = self._writer
        if writer is not None:
            writer.join(timeout)

    def close(self) -> None:
        self.failed = True
        writer = self._writer
        if writer is not None:
            writer.kill(block=False)
