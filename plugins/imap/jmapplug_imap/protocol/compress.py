"""COMPRESS=DEFLATE (RFC 4978): raw DEFLATE both ways, flushed after each write; output in bounded pieces."""

from __future__ import annotations

import zlib

from jmapplug_imap.protocol.errors import ProtocolError

PIECE = 256 * 1024


class Deflate:
    """Both directions of one connection. A small stream bomb costs no more than ``PIECE`` octets at a time."""

    def __init__(self) -> None:
        # RFC 4978 §3: no zlib header, hence the negative window.
        self._out = zlib.compressobj(6, zlib.DEFLATED, -15)
        self._in = zlib.decompressobj(-15)
        self._full = False

    def compress(self, data: bytes) -> bytes:
        return self._out.compress(data) + self._out.flush(zlib.Z_SYNC_FLUSH)

    def decompress(self, data: bytes) -> bytes:
        """The first piece of what ``data`` holds; :meth:`more` gives the rest. Raises ProtocolError for nonsense."""
        if not data:
            return b""
        try:
            plain = self._in.decompress(self._in.unconsumed_tail + data, PIECE)
        except zlib.error as error:
            raise ProtocolError("the compressed stream is damaged") from error
        if self._in.eof:
            raise ProtocolError("the compressed stream ended")
        self._full = len(plain) == PIECE
        return plain

    def more(self) -> bytes:
        """The next piece of octets already received; b"" when there is none."""
        if not self._full and not self._in.unconsumed_tail:
            return b""
        try:
            plain = self._in.decompress(self._in.unconsumed_tail, PIECE)
        except zlib.error as error:
            raise ProtocolError("the compressed stream is damaged") from error
        self._full = len(plain) == PIECE
        return plain
