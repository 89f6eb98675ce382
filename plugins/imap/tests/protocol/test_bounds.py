"""Servers that answer a FETCH without end: cut off by number, by octets, by time; and streams that blow up."""

from __future__ import annotations

import io
import itertools
import threading
import zlib

import msgspec
import pytest
from jmapplug_imap.protocol import Credentials, Limits, ProtocolError, bounds, chunks
from jmapplug_imap.protocol.compress import PIECE, Deflate
from jmapplug_imap.protocol.lexer import Lexer

ANNA = Credentials("anna", "geheim-42")
SMALL = Limits(untagged=200, fetch=10_000, literal=20_000)


@pytest.fixture(autouse=True)
def _little_for_each_message(monkeypatch):
    monkeypatch.setattr(bounds, "SECONDS", 0.0)
    monkeypatch.setattr(bounds, "OCTETS", 100)


def endless(line: bytes):
    """A server that answers a FETCH with numbered lines for ever."""

    def script(peer):
        peer.login()
        peer.expect("UID FETCH .*")
        for number in itertools.count(1):
            peer.send(line.replace(b"%d", b"%d" % number))

    return script


@pytest.mark.parametrize(
    "line",
    [
        b"* %d FETCH (UID %d FLAGS ())\r\n",  # the fast way
        b"* %d FETCH (UID %d FLAGS () X-ODD (1))\r\n",  # row by row
        b"* %d FETCH (FLAGS (\\Seen))\r\n",
        b"* OK still at it\r\n",
        b"* 1 EXISTS\r\n",
    ],
)
def test_small_complete_responses_for_ever_are_cut_off(serve, line):
    connection = serve(endless(line))
    connection.limits = msgspec.structs.replace(SMALL, fetch=10**9)
    connection.open().login(ANNA)
    rows = 0
    with pytest.raises(ProtocolError, match="too many responses"):
        for _ in connection.fetch([1, 2], ["UID", "FLAGS"]):
            rows += 1
    assert connection.broken
    assert rows < 200 + 2 * bounds.ROWS + 131_072 // 20  # what one read may bring at once goes through


def test_octets_that_are_kept_are_bounded_over_all_rows(serve):
    connection = serve(endless(b"* %d FETCH (UID %d BODY[HEADER] {1000}\r\n" + b"x" * 1000 + b")\r\n"))
    connection.limits = msgspec.structs.replace(SMALL, untagged=10**6)
    connection.open().login(ANNA)
    with pytest.raises(ProtocolError, match="larger than the limit"):
        connection.fetch_all([1, 2], ["UID", "BODY.PEEK[HEADER]"])


def test_octets_that_go_to_a_file_are_bounded_over_all_literals(serve):
    connection = serve(endless(b"* %d FETCH (UID 7 BODY[] {1000}\r\n" + b"x" * 1000 + b")\r\n"))
    connection.limits = msgspec.structs.replace(SMALL, untagged=10**6, fetch=10**9)
    connection.open().login(ANNA)
    file = io.BytesIO()
    with pytest.raises(ProtocolError, match="larger than the limit"):
        connection.fetch_all([7], ["UID", "BODY.PEEK[]"], on_literal=lambda start: file)
    assert len(file.getvalue()) < 20_000 + 131_072 + 1000


def test_responses_that_drip_do_not_hold_off_the_deadline(serve, hurry, monkeypatch):
    def script(peer):
        peer.login()
        peer.expect("UID FETCH .*")
        while True:
            peer.send(b"* 1 FETCH (UID 1 FLAGS ())\r\n")
            threading.Event().wait(0.01)

    connection = serve(script).open()
    connection.login(ANNA)
    hurry(connection, command=0.2)
    monkeypatch.setattr(bounds, "RATE", 10**6)
    with pytest.raises(ProtocolError, match="takes too long"):
        connection.fetch_all([1], ["UID", "FLAGS"])


def test_every_command_of_a_long_fetch_has_its_own_bound(serve):
    uids = range(1, 8001, 2)

    def script(peer):
        peer.login()
        for uid in uids:
            if uid in first:
                tag = peer.line().split(b" ")[0]
            peer.send(b"* %d FETCH (UID %d)\r\n" % (uid, uid))
            if uid + 2 in first or uid == uids[-1]:
                peer.send(tag + b" OK\r\n")

    first = {int(chunk.split(",")[0]) for chunk in chunks(uids)}
    assert len(first) > 2  # the numbers that begin a set of 8,000 octets
    connection = serve(script)
    connection.limits = Limits(untagged=1000, fetch=10_000)
    connection.open().login(ANNA)
    assert [row.uid for row in connection.fetch(uids, ["UID"])] == list(uids)


@pytest.mark.parametrize(
    ("numbers", "exists", "expected"),
    [
        ("1", None, 1),
        ("1:3,7", None, 4),
        ("1:3,7", 100, 4),
        ("5:*", 10, 11),
        ("5:*", None, bounds.MESSAGES),
        ("1:4294967295", 4_294_967_295, bounds.MESSAGES),
        ("1:100", 0, 1),
        ("$", 10, 11),
    ],
)
def test_how_many_messages_a_set_can_name(numbers, exists, expected):
    assert bounds.count(numbers, exists) == expected


def squeezed(plain: bytes, times: int) -> bytes:
    """``plain`` over and over as one DEFLATE stream."""
    out = zlib.compressobj(9, zlib.DEFLATED, -15)
    return b"".join(out.compress(plain) for _ in range(times)) + out.flush(zlib.Z_SYNC_FLUSH)


def test_a_small_stream_that_unpacks_to_much_comes_in_bounded_pieces():
    bomb = squeezed(b"\0" * 2**20, 64)
    assert len(bomb) < 100_000
    deflate = Deflate()
    piece, total = deflate.decompress(bomb), 0
    while piece:
        assert len(piece) <= PIECE
        total += len(piece)
        piece = deflate.more()
    assert total == 64 * 2**20


@pytest.mark.parametrize(
    ("plain", "reason"),
    [
        (b"x" * 2**20, "line longer"),  # one line without an end
        (b"* 1 FETCH (UID 1 FLAGS ())\r\n" * 10_000, "too many responses"),
        (b"* OK " + b"x" * 2**20 + b"\r\n", "larger than the limit"),
        (b"* 1 FETCH (UID 1 BODY[HEADER] {1000000}\r\n" + b"x" * 1_000_000 + b")\r\n", "larger than the limit"),
    ],
)
def test_a_compressed_bomb_ends_the_connection_before_it_fills_the_memory(serve, plain, reason):
    bomb = squeezed(plain, 200)
    assert len(bomb) < 2_000_000 < 200 * len(plain)

    def script(peer):
        peer.login()
        peer.answer("COMPRESS DEFLATE")
        peer.raw.sendall(bomb)
        peer.line()

    connection = serve(script)
    connection.limits = Limits(line=2 * 2**20, fetch=8 * 2**20, untagged=100_000)
    connection.open().login(ANNA)
    connection.setup(enable=(), compress=True)
    with pytest.raises(ProtocolError, match=reason):
        for _ in connection.fetch([1], ["UID", "FLAGS"]):
            pass
    assert connection.broken
    unpacked = connection._channel.lexer.taken
    assert unpacked < 20 * 2**20 < 200 * len(plain)


def test_the_lexer_counts_what_it_takes_and_what_goes_away():
    lexer, file = Lexer(), io.BytesIO()
    lexer.on_literal = lambda start: file
    for octets in (b"* 1 FETCH (BODY[] {5}\r\nab", b"c", b"de)\r\n"):
        lexer.feed(octets)
        lexer.next()
    assert (lexer.taken, lexer.sunk, file.getvalue()) == (31, 5, b"abcde")
