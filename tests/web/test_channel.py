"""A WebSocket connection after its handshake, on a pair of sockets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gevent
import gevent.socket
import pytest
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Message, Ping, Pong, TextMessage

from jmapplug.web import channel as channels
from jmapplug.web.channel import Channel

SOON = 60.0


class Peer:
    """The client's side."""

    def __init__(self, sock: Any) -> None:
        self.sock = sock
        self.connection = Connection(ConnectionType.CLIENT)
        self._events: list[Any] = []

    def send(self, event: Any) -> None:
        self.sock.sendall(self.connection.send(event))

    def event(self) -> Any:
        """The next one; None at the end of the connection."""
        with gevent.Timeout(SOON):
            while not self._events:
                data = self.sock.recv(65536)
                if not data:
                    return None
                self.connection.receive_data(data)
                self._events += self.connection.events()
        return self._events.pop(0)

    def text(self) -> str:
        found = ""
        while True:
            event = self.event()
            assert isinstance(event, TextMessage), event
            found += event.data
            if event.message_finished:
                return found


@contextmanager
def pair(limit: int = 1000, **more: Any) -> Iterator[tuple[Channel, Peer, list[bytes | None], gevent.Greenlet]]:
    """A channel, its peer, what the channel has received, and the greenlet that reads."""
    ours, theirs = gevent.socket.socketpair()
    channel = Channel(ours, limit, **more)
    received: list[bytes | None] = []

    def read() -> None:
        try:
            for message in channel.messages():
                received.append(message)
        finally:
            channel.end()

    reader = gevent.spawn(read)
    try:
        yield channel, Peer(theirs), received, reader
    finally:
        theirs.close()
        reader.join(SOON)
        assert reader.dead
        ours.close()


def test_a_silent_peer_is_pinged_and_lives_while_it_answers() -> None:
    with pair(ping=0.5) as (_, peer, _, reader):
        for _ in range(3):
            event = peer.event()
            assert isinstance(event, Ping)
            peer.send(event.response())
        assert not reader.dead


def test_a_peer_that_answers_no_ping_is_dead() -> None:
    with pair(ping=0.05) as (_, peer, _, reader):
        assert isinstance(peer.event(), Ping)
        assert peer.event() is None
        reader.join(SOON)
        assert reader.dead


def test_a_ping_is_answered_with_its_payload() -> None:
    with pair() as (_, peer, _, _):
        peer.send(Ping(payload=b"are you there"))
        event = peer.event()
        assert isinstance(event, Pong)
        assert event.payload == b"are you there"


def test_a_message_larger_than_the_sockets_buffer_arrives_whole() -> None:
    text = "0123456789" * 1_000_000
    with pair() as (channel, peer, _, _):
        assert channel.send(text)
        assert channel.send("after")
        assert peer.text() == text
        assert peer.text() == "after"


def test_nothing_more_is_taken_in_while_the_peer_does_not_read() -> None:
    with pair() as (channel, peer, received, _):
        channel.send("x" * channels.FULL * 2)
        peer.send(Message(data="one"))
        peer.send(Message(data="two"))
        waiting = gevent.spawn(channel.wait_for_room)
        for _ in range(100):
            gevent.sleep(0)
        assert not waiting.dead
        assert len(received) <= 1, "the one that it was reading for already"
        peer.text()
        assert waiting.get(timeout=SOON) is True
        with gevent.Timeout(SOON):
            while received != [b"one", b"two"]:
                gevent.sleep(0.001)


def test_a_peer_that_does_not_read_at_all_is_cut_off() -> None:
    with pair(stall=0.05) as (channel, _, _, reader):
        channel.send("x" * channels.FULL * 2)
        reader.join(SOON)
        assert reader.dead
        assert channel.wait_for_room() is False
        assert channel.send("more") is False


def test_close_comes_after_what_is_queued_and_waits_for_the_peers_answer() -> None:
    with pair() as (channel, peer, _, reader):
        channel.send("last words")
        channel.close(1001, "bye")
        assert channel.send("too late") is False
        assert peer.text() == "last words"
        event = peer.event()
        assert isinstance(event, CloseConnection)
        assert (event.code, event.reason) == (1001, "bye")
        assert not reader.dead
        peer.send(event.response())
        assert peer.event() is None
        reader.join(SOON)
        assert reader.dead


def test_close_does_not_wait_for_ever_for_a_peer_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "LINGER", 0.05)
    for full in (False, True):
        with pair() as (channel, _, _, reader):
            if full:
                channel.send("x" * channels.FULL * 2)
            channel.close(1001)
            reader.join(SOON)
            assert reader.dead


def test_a_message_over_the_limit_is_told_once_and_nothing_after_it() -> None:
    with pair() as (channel, peer, received, reader):
        peer.send(Message(data="x" * 1001))
        peer.send(Message(data="more"))
        with gevent.Timeout(SOON):
            while not received:
                gevent.sleep(0.001)
        channel.send("too large")
        channel.close(1009)
        assert peer.text() == "too large"
        event = peer.event()
        assert isinstance(event, CloseConnection)
        assert event.code == 1009
        peer.sock.close()
        reader.join(SOON)
        assert received == [None]


def test_a_peer_that_never_pauses_does_not_keep_others_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of its flood is there before the first piece is read, so reading alone would never switch."""
    monkeypatch.setattr(channels, "PIECE", 1000)
    ours, theirs = gevent.socket.socketpair()
    flood = Connection(ConnectionType.CLIENT).send(Message(data="y" * 100)) * 500
    theirs.sendall(flood)
    channel = Channel(ours, 1000)
    turns: list[int] = []
    received = 0

    def other() -> None:
        while received < 500:
            turns.append(received)
            gevent.sleep(0)

    beside = gevent.spawn(other)
    for _ in channel.messages():
        received += 1
        if received == 500:
            theirs.close()
    channel.end()
    beside.join(SOON)
    assert len(set(turns)) > 10
    ours.close()
