"""The size of a WebSocket message and permessage-deflate (RFC 7692), against frames made by hand."""

from __future__ import annotations

import os
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Message, Ping, TextMessage

from jmapplug.web.framing import TAIL, Framing, negotiate

BOTH = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
CONTINUATION, TEXT, PING = 0x0, 0x1, 0x9


def frame(payload: bytes, opcode: int = TEXT, *, fin: bool = True, rsv1: bool = False) -> bytes:
    """A client's frame."""
    length = len(payload)
    if length < 126:
        size = bytes([0x80 | length])
    elif length < 1 << 16:
        size = bytes([0x80 | 126]) + struct.pack("!H", length)
    else:
        size = bytes([0x80 | 127]) + struct.pack("!Q", length)
    # A mask of zeros leaves the payload as it is.
    return bytes([fin << 7 | rsv1 << 6 | opcode]) + size + bytes(4) + payload


def deflated(data: bytes, window: int = 15) -> bytes:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -window)
    return (deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)


def server(limit: int = 1000, window: int | None = 15) -> Connection:
    return Connection(ConnectionType.SERVER, [Framing(limit, window)])


def told(connection: Connection, data: bytes) -> tuple[str, list[int]]:
    """The text received and the codes with which the connection is to end."""
    connection.receive_data(data)
    events = list(connection.events())
    text = "".join(event.data for event in events if isinstance(event, TextMessage))
    return text, [event.code for event in events if isinstance(event, CloseConnection)]


@pytest.mark.parametrize(
    ("offers", "answer"),
    [
        ("", None),
        ("x-webkit-deflate-frame", None),
        ("permessage-deflate", (BOTH, 15)),
        ("permessage-deflate; client_max_window_bits", (BOTH, 15)),
        ("permessage-deflate; client_max_window_bits=10; client_no_context_takeover", (BOTH, 15)),
        ('permessage-deflate; server_max_window_bits="10"', (BOTH + "; server_max_window_bits=10", 10)),
        ("permessage-deflate; server_max_window_bits=8", None),
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate", (BOTH, 15)),
        ("permessage-deflate; server_max_window_bits=abc", None),
        ("permessage-deflate; server_max_window_bits", None),
        ("permessage-deflate; client_max_window_bits=16", None),
        ("permessage-deflate; server_no_context_takeover=1", None),
        ("permessage-deflate; unknown", None),
        ("permessage-deflate; client_max_window_bits; client_max_window_bits", None),
    ],
)
def test_the_first_offer_that_can_be_taken_is_taken(offers: str, answer: tuple[str, int] | None) -> None:
    assert negotiate(offers) == answer


@given(st.text())
def test_no_offer_breaks_the_negotiation(offers: str) -> None:
    negotiate(offers)
    negotiate("permessage-deflate;" + offers)


def test_a_message_of_exactly_the_limit_is_taken_and_one_octet_more_is_not() -> None:
    for data in (b"x" * 1000, "é".encode() * 500):
        assert told(server(), frame(data)) == (data.decode(), [])
        assert told(server(), frame(deflated(data), rsv1=True)) == (data.decode(), [])
        assert told(server(), frame(data + b"x"))[1] == [1009]
        assert told(server(), frame(deflated(data + b"x"), rsv1=True))[1] == [1009]


def test_a_large_message_is_refused_by_its_header() -> None:
    announced = frame(b"x" * 1001)[:8]
    assert told(server(), announced) == ("", [1009])


def test_fragments_count_together() -> None:
    connection = server()
    assert told(connection, frame(b"x" * 600, fin=False))[1] == []
    assert told(connection, frame(b"x" * 401, CONTINUATION))[1] == [1009]
    data = deflated(os.urandom(1001).hex().encode()[:1001])
    connection = server()
    assert told(connection, frame(data[:300], fin=False, rsv1=True))[1] == []
    assert told(connection, frame(data[300:], CONTINUATION))[1] == [1009]


def test_a_bomb_is_inflated_to_the_limit_and_no_further() -> None:
    bomb = frame(deflated(b" " * 50_000_000), rsv1=True)
    framing = Framing(1_000_000, 15)
    connection = Connection(ConnectionType.SERVER, [framing])
    text, codes = told(connection, bomb)
    assert codes == [1009]
    assert len(text) <= 1_000_000
    assert framing._size == 1_000_001


def test_the_limit_is_that_of_each_message() -> None:
    connection = server()
    for _ in range(3):
        assert told(connection, frame(deflated(b"y" * 900), rsv1=True)) == ("y" * 900, [])
        assert told(connection, frame(b"z" * 900)) == ("z" * 900, [])


def test_a_ping_between_two_compressed_fragments_changes_nothing() -> None:
    connection = server()
    data = deflated(b"hello, hello, hello")
    connection.receive_data(
        frame(data[:5], fin=False, rsv1=True) + frame(b"?", PING) + frame(data[5:], CONTINUATION) + frame(b"plain")
    )
    events = list(connection.events())
    assert any(isinstance(event, Ping) for event in events)
    assert "".join(event.data for event in events if isinstance(event, TextMessage)) == "hello, hello, helloplain"


@given(st.text(max_size=600), st.lists(st.integers(1, 40), max_size=8), st.integers(9, 15))
def test_compressed_messages_in_any_pieces_are_what_was_sent(text: str, cuts: list[int], window: int) -> None:
    connection = server(10_000)
    data, pieces = deflated(text.encode(), window), []
    for cut in cuts:
        pieces.append(data[:cut])
        data = data[cut:]
    pieces.append(data)
    sent = b"".join(
        frame(piece, CONTINUATION if number else TEXT, fin=number == len(pieces) - 1, rsv1=not number)
        for number, piece in enumerate(pieces)
    )
    received = ""
    for octet in sent:
        part, codes = told(connection, bytes([octet]))
        assert codes == []
        received += part
    assert received == text


@pytest.mark.parametrize(
    ("sent", "window", "code"),
    [
        (frame(b"x", rsv1=True), None, 1002),
        (frame(b"x", PING, rsv1=True), 15, 1002),
        (frame(b"x", fin=False) + frame(b"y", CONTINUATION, rsv1=True), 15, 1002),
        (frame(b"\xff\xff\xff", rsv1=True), 15, 1007),
        (frame(b"\xff"), 15, 1007),
        (frame(b"x", fin=False) + frame(b"y"), 15, 1002),
        (frame(b"x", 0x3), 15, 1002),
    ],
)
def test_what_breaks_the_protocol_has_the_code_of_the_rfc(sent: bytes, window: int | None, code: int) -> None:
    assert told(server(window=window), sent)[1] == [code]


def test_only_what_is_worth_it_is_sent_compressed_and_within_the_window_asked_for() -> None:
    text = os.urandom(40_000).hex()
    connection = server(window=9)
    assert connection.send(Message(data="short")) == b"\x81\x05short"
    sent = connection.send(Message(data=text))
    assert sent[0] == 0xC1
    assert zlib.decompressobj(-9).decompress(sent[4:] + TAIL).decode() == text
    assert server(window=None).send(Message(data=text))[0] == 0x81
