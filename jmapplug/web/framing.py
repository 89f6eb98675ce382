"""What is ours on top of wsproto's frames: the size of a message, and permessage-deflate (RFC 7692) within that size.

wsproto's own extension inflates without a bound, forgets in the middle of a message that it was compressed when a ping
comes between two fragments, and keeps two windows (300 KB) per connection. This one refuses a message at the octet
after the limit, inflated, and keeps nothing between messages ("no context takeover" on both sides).
"""

from __future__ import annotations

import zlib
from typing import Any

from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, RsvBits

NAME = "permessage-deflate"
WORTH_COMPRESSING = 1024  # octets; below, a message costs more time than it saves
TAIL = b"\x00\x00\xff\xff"  # RFC 7692 §7.2.1: cut off by the sender
LARGEST_WINDOW = 15

_FLAGS = ("server_no_context_takeover", "client_no_context_takeover")
_WINDOWS = {bits: int(bits) for bits in ("8", "9", "10", "11", "12", "13", "14", "15")}


def negotiate(offers: str) -> tuple[str, int] | None:
    """The answer to a Sec-WebSocket-Extensions header and the window of what we send, in bits; None without deflate.

    RFC 7692 §7.1: the first offer that we can take; an offer with anything unknown in it is none.
    """
    for offer in offers.split(","):
        name, *parameters = (part.strip() for part in offer.split(";"))
        given = [parameter.partition("=") for parameter in parameters]
        wanted = {key.strip(): value.strip().strip('"') for key, _, value in given}
        if name == NAME and len(wanted) == len(given) and _possible(wanted):
            window = wanted.get("server_max_window_bits")
            answer = "; ".join((NAME, *_FLAGS, *([f"server_max_window_bits={window}"] if window else [])))
            return answer, int(window or LARGEST_WINDOW)
    return None


def _possible(wanted: dict[str, str]) -> bool:
    for name, value in wanted.items():
        if name in _FLAGS:
            good = value == ""
        elif name == "client_max_window_bits":
            good = value == "" or value in _WINDOWS
        else:
            # zlib makes no raw stream with a window of 8 bits.
            good = name == "server_max_window_bits" and value in _WINDOWS and value != "8"
        if not good:
            return False
    return True


class Framing(Extension):
    """The limit on a message's octets; and deflate, where ``window`` (bits) was negotiated."""

    name = NAME

    def __init__(self, limit: int, window: int | None) -> None:
        self._limit, self._window = limit, window
        self._control = self._compressed = False
        self._size = 0
        self._inflater: Any = None

    def enabled(self) -> bool:
        return True

    def offer(self) -> bool:
        return False

    def frame_inbound_header(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> CloseReason | RsvBits:
        # wsproto may come here twice with one header, so this adds nothing up.
        self._control = opcode.iscontrol()
        starts = opcode in (Opcode.TEXT, Opcode.BINARY)
        if rsv.rsv1 and not starts:
            return CloseReason.PROTOCOL_ERROR
        if starts:
            self._size, self._compressed, self._inflater = 0, rsv.rsv1 and self._window is not None, None
        if not self._control and not self._compressed and self._size + payload_length > self._limit:
            return CloseReason.MESSAGE_TOO_BIG
        return RsvBits(self._window is not None, False, False)

    def frame_inbound_payload_data(self, proto: FrameDecoder | FrameProtocol, data: bytes) -> bytes | CloseReason:
        if self._control:
            return data
        return self._inflate(data) if self._compressed else self._counted(data)

    def frame_inbound_complete(self, proto: FrameDecoder | FrameProtocol, fin: bool) -> bytes | CloseReason | None:
        return self._inflate(TAIL) if fin and self._compressed and not self._control else None

    def _inflate(self, data: bytes) -> bytes | CloseReason:
        if self._inflater is None:
            self._inflater = zlib.decompressobj(-LARGEST_WINDOW)
        if self._inflater.eof:
            return b""
        try:
            found = self._inflater.decompress(data, self._limit - self._size + 1)
        except zlib.error:
            return CloseReason.INVALID_FRAME_PAYLOAD_DATA
        return self._counted(found)

    def _counted(self, data: bytes) -> bytes | CloseReason:
        self._size += len(data)
        return CloseReason.MESSAGE_TOO_BIG if self._size > self._limit else data

    def frame_outbound(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, data: bytes, fin: bool
    ) -> tuple[RsvBits, bytes]:
        if self._window is None or opcode is not Opcode.TEXT or len(data) < WORTH_COMPRESSING:
            return rsv, data
        deflater = zlib.compressobj(1, zlib.DEFLATED, -self._window)
        squeezed = deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH)
        return RsvBits(True, rsv.rsv2, rsv.rsv3), squeezed[: -len(TAIL)]
