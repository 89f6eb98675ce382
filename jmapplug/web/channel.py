"""One WebSocket connection (RFC 6455) after its handshake: messages in, messages out, pings, the end.

One greenlet reads (``messages``) and one writes; any greenlet may ``send`` or ``close`` (process rule 8).
"""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Iterator

import gevent
from gevent.event import Event
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Message, Ping, TextMessage
from wsproto.events import Event as Frame
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import LocalProtocolError

from jmapplug.web.framing import Framing

PING = 30.0  # seconds of silence before a ping; after as many again without an octet the peer is dead
STALL = 30.0  # seconds in which a peer has to take in one piece
LINGER = 1.0  # seconds between our Close frame and the end of the connection
PIECE = 64 * 1024
FULL = 4 * 1024 * 1024  # octets waiting to be sent at which nothing more is taken in


class Channel:
    """A connection. ``limit``: octets of a message; ``window``: of permessage-deflate, None without."""

    def __init__(
        self, sock: socket.socket, limit: int, window: int | None = None, *, ping: float = PING, stall: float = STALL
    ) -> None:
        self._socket, self._ping, self._stall = sock, ping, stall
        self._connection = Connection(ConnectionType.SERVER, [Framing(limit, window)])
        self._outbox: deque[bytes] = deque()
        self._waiting = 0
        self._news, self._room, self._sent = Event(), Event(), Event()
        self._room.set()
        self._sent.set()
        self._deaf = self._gone = False
        self._message = bytearray()
        self._writer = gevent.spawn(self._write)

    # --- in

    def messages(self) -> Iterator[bytes | None]:
        """Text messages, until the connection has ended.

        None stands for a message over the limit: nothing can follow it, and what follows is thrown away until
        ``close`` takes effect. A binary message closes with 1003, a broken frame with 1002, bad UTF-8 with 1007.
        """
        while data := self._receive():
            if self._deaf:
                continue
            self._connection.receive_data(data)
            for event in self._connection.events():
                if isinstance(event, TextMessage):
                    self._message += event.data.encode()
                    if event.message_finished:
                        message, self._message = bytes(self._message), bytearray()
                        yield message
                elif isinstance(event, BytesMessage):
                    self.close(CloseReason.UNSUPPORTED_DATA, "only text")
                elif isinstance(event, Ping):
                    self._put(event.response())
                elif isinstance(event, CloseConnection):
                    if self._peer_closed(event):
                        return
                    if event.code == CloseReason.MESSAGE_TOO_BIG and not self._deaf:
                        self._deaf, self._message = True, bytearray()
                        yield None
                    elif not self._deaf:
                        self._deaf = True
                        self.close(event.code)
            # A peer whose octets never run out must not keep the others waiting.
            gevent.sleep(0)

    def _peer_closed(self, event: CloseConnection) -> bool:
        """Answer a Close frame. False for what wsproto says with the same event: the peer has broken the protocol."""
        state = self._connection.state
        if state is ConnectionState.REMOTE_CLOSING:
            self._put(event.response())
        return state in (ConnectionState.REMOTE_CLOSING, ConnectionState.CLOSED)

    def _receive(self) -> bytes:
        """What has come; b"" at the end of the connection, or when nothing comes after a ping either."""
        self._room.wait()
        for last in (False, True):
            try:
                with gevent.Timeout(self._ping, False):
                    return self._socket.recv(PIECE)
            except (OSError, ValueError):  # the latter: TLS that was shut down meanwhile
                return b""
            if not last:
                self._put(Ping())
        return b""

    # --- out

    def send(self, text: str) -> bool:
        """Queue a text message; never blocks. False when the connection is ending."""
        return self._put(Message(data=text))

    def wait_for_room(self) -> bool:
        """Wait until the peer has taken in what it was sent, all but a little. False when the connection has ended."""
        self._room.wait()
        return not self._gone

    def _put(self, event: Frame) -> bool:
        if self._gone:
            return False
        try:
            data = self._connection.send(event)
        except LocalProtocolError:
            return False
        self._outbox.append(data)
        self._waiting += len(data)
        self._sent.clear()
        if self._waiting > FULL:
            self._room.clear()
        self._news.set()
        return True

    def _write(self) -> None:
        while not self._gone:
            self._news.wait()
            self._news.clear()
            while self._outbox and not self._gone:
                data = self._outbox.popleft()
                if not self._written(data):
                    self.cut()
                    return
                self._waiting -= len(data)
                if self._waiting <= FULL:
                    self._room.set()
            self._sent.set()

    def _written(self, data: bytes) -> bool:
        view = memoryview(data)
        for start in range(0, len(view), PIECE):
            try:
                with gevent.Timeout(self._stall):
                    self._socket.sendall(view[start : start + PIECE])
            except (OSError, ValueError, gevent.Timeout):
                return False
        return True

    # --- the end

    def close(self, code: int, reason: str = "") -> None:
        """Send a Close frame behind what is queued; the connection ends when the peer answers, or soon after it left.

        Never blocks.
        """
        if self._put(CloseConnection(code, reason)):
            gevent.spawn(self._linger)

    def _linger(self) -> None:
        until = time.monotonic() + LINGER
        self._sent.wait(LINGER)
        gevent.sleep(max(until - time.monotonic(), 0))
        self.cut()

    def cut(self) -> None:
        """End the connection now."""
        self._gone = True
        for event in (self._news, self._room, self._sent):
            event.set()
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def end(self) -> None:
        """After ``messages``: what is queued may leave for a moment, then the connection is over."""
        self._sent.wait(LINGER)
        self.cut()
        self._writer.join(LINGER)
        self._writer.kill()
