"""Frames: what goes in comes out, however the bytes are cut; nothing hostile gets further than an error."""

from __future__ import annotations

import gevent
import pytest
from gevent import socket
from hypothesis import given
from hypothesis import strategies as st

from jmapplug.workers import wire
from jmapplug.workers.wire import Decoder, Kind, Outbox, WireError, encode

bodies = st.dictionaries(
    st.text(max_size=5), st.none() | st.integers(-(2**63), 2**63) | st.text(max_size=20), max_size=4
)
frames = st.tuples(st.sampled_from(Kind), st.integers(0, 2**32), st.text(max_size=10), bodies, st.binary(max_size=300))


@given(st.lists(frames, max_size=6), st.integers(1, 97))
def test_frames_come_out_as_they_went_in_however_the_bytes_are_cut(sent, step):
    data = b"".join(bytes(piece) for frame in sent for piece in encode(*frame))
    decoder, got = Decoder(), []
    for start in range(0, len(data), step):
        got += decoder.feed(data[start : start + step])
    assert [(f.kind, f.id, f.name, f.body, payload) for f, payload in got] == sent


@given(st.binary(min_size=1, max_size=200))
def test_rubbish_is_waited_for_or_refused_and_never_crashes(data):
    try:
        Decoder().feed(len(data).to_bytes(4, "big") + bytes(4) + data)
    except WireError:
        pass


@pytest.mark.parametrize("prefix", ["00100001 00000000", "00000001 04000001", "ffffffff ffffffff"])
def test_lengths_above_the_limits_are_refused_before_anything_is_read(prefix):
    with pytest.raises(WireError):
        Decoder().feed(bytes.fromhex(prefix))


def test_a_frame_above_the_limits_is_not_made():
    with pytest.raises(WireError):
        encode(Kind.ANSWER, 1, "", {"x": "y" * wire.MAX_HEADER})
    with pytest.raises(WireError):
        encode(Kind.ANSWER, 1, "", {}, bytes(wire.MAX_PAYLOAD + 1))


def test_a_header_that_is_no_frame_is_refused():
    with pytest.raises(WireError):
        Decoder().feed(bytes.fromhex("00000001 00000000 c0"))


def test_frames_of_many_greenlets_leave_whole_when_the_reader_is_slow():
    left, right = socket.socketpair()
    outbox, decoder, got = Outbox(left), Decoder(), []
    senders = [gevent.spawn(outbox.send, encode(Kind.EVENT, n, "", {}, bytes([n]) * 150_000)) for n in range(40)]
    gevent.joinall(senders, raise_error=True)
    with gevent.Timeout(60):
        while len(got) < 40:
            got += decoder.feed(right.recv(4000))
    assert [frame.id for frame, _ in got] == list(range(40))
    assert all(payload == bytes([frame.id]) * 150_000 for frame, payload in got)
    left.close()
    right.close()


def test_one_who_never_reads_is_refused_more():
    left, right = socket.socketpair()
    outbox = Outbox(left, limit=1_000_000)
    with pytest.raises(WireError):
        for _ in range(100):
            outbox.send(encode(Kind.EVENT, 0, "", {}, bytes(100_000)))
    outbox.close()
    left.close()
    right.close()


def test_sending_on_a_closed_connection_is_an_error_and_not_silence():
    left, right = socket.socketpair()
    outbox = Outbox(left)
    right.close()
    with pytest.raises(OSError):
        outbox.send(encode(Kind.EVENT, 0, "", {}))
    left.close()
