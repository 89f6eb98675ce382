"""Request bodies: counted while they are read, Content-Length and chunked alike (process rules 14, 15)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import gevent

from jmapplug.errors import JmapplugError

PIECE = 64 * 1024
STALL = 30.0  # seconds without a byte before a body is given up


class BodyTooLarge(JmapplugError):
    """More octets than the limit; the connection is closed because the rest was not read."""


class BadBody(JmapplugError):
    """Unclear framing, a stalled or a broken body."""


def pieces(environ: dict[str, Any], limit: int) -> Iterator[bytes]:
    """The body in pieces. Raises BodyTooLarge before anything beyond ``limit`` octets is taken in, BadBody."""
    length = environ.get("CONTENT_LENGTH") or None
    chunked = "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower()
    if length is not None and chunked:
        raise BadBody("Content-Length together with Transfer-Encoding")
    if length is None and not chunked:
        return
    expected = _length(length) if length is not None else None
    if expected is not None and expected > limit:
        raise BodyTooLarge(f"more than {limit} octets")
    read = 0
    stream: BinaryIO = environ["wsgi.input"]
    while piece := _read(stream, PIECE if expected is None else min(PIECE, expected - read)):
        read += len(piece)
        if read > limit:
            raise BodyTooLarge(f"more than {limit} octets")
        yield piece
    if expected is not None and read != expected:
        raise BadBody("the body ended early")


def _length(text: str) -> int:
    if not text.isdecimal():
        raise BadBody("Content-Length is not a number")
    return int(text)


def _read(stream: BinaryIO, size: int) -> bytes:
    if size == 0:
        return b""
    try:
        with gevent.Timeout(STALL):
            return stream.read(size)
    except gevent.Timeout:
        raise BadBody("the body stalled") from None
    except (OSError, ValueError, EOFError) as error:
        raise BadBody("the body is broken") from error


def whole(environ: dict[str, Any], limit: int) -> bytes:
    """The whole body, at most ``limit`` octets."""
    return b"".join(pieces(environ, limit))
