"""The worker's end of the frames: one reader greenlet per connection, one greenlet per request, a clean end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import gevent
from gevent import socket
from gevent.event import Event

from jmapplug.store.pace import turn
from jmapplug.waiting import wait
from jmapplug.workers import context, wire
from jmapplug.workers.errors import NotFound, to_wire
from jmapplug.workers.wire import Kind

log = logging.getLogger("jmapplug.workers")

MAX_IN_FLIGHT = 1024
DRAIN_PATIENCE = 2.0
QUIET = frozenset({"status"})
"""Commands that are no use of the account: an operator who looks on keeps no worker from idling out."""

Answer = dict[str, Any] | tuple[dict[str, Any], bytes]


class Request:
    """What a command gets: its header and payload, and the connection it came on."""

    __slots__ = ("command", "connection", "header", "payload")

    def __init__(self, command: str, header: dict[str, Any], payload: bytes, connection: Connection) -> None:
        self.command = command
        self.header = header
        self.payload = payload
        self.connection = connection


Command = Callable[[Request], Answer]


class Server:
    """Serves frames on a listening Unix socket.

    ``commands``: name → function of a Request, run in a greenlet of its own; what it raises crosses the socket by the
    table of workers/errors.py. ``in_flight`` counts requests under way, ``last_used`` is the monotonic
    time of the last one that is not in ``QUIET``.
    """

    def __init__(self, listener: Any, commands: Mapping[str, Command]) -> None:
        self._listener = listener
        self._commands = dict(commands)
        self.connections: set[Connection] = set()
        self.in_flight = 0
        self.last_used = time.monotonic()
        self.calm = Event()
        self.calm.set()
        self._draining = False
        self._acceptor: Any = None

    def start(self) -> None:
        self._acceptor = gevent.spawn(self._accept)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError as error:
                log.warning("accept: %s", error)
                gevent.sleep(0.05)
                continue
            Connection(self, sock)

    @property
    def subscribers(self) -> list[Connection]:
        return [connection for connection in self.connections if connection.subscribed]

    def broadcast(self, name: str, body: dict[str, Any]) -> None:
        """Send an event to every subscribed connection; one that does not read is dropped. Never blocks."""
        for connection in self.subscribers:
            connection.send(Kind.EVENT, 0, name, body)

    def handle(self, frame: wire.Frame, payload: bytes, connection: Connection) -> None:
        """Run one request; its answer or error goes back on the connection."""
        turn()
        kind, answer, out = Kind.ANSWER, frame.body, b""
        context.begin(str(frame.body.pop(context.KEY, "")), str(frame.body.get("accountid", "")))
        try:
            command = self._commands.get(frame.name)
            if command is None:
                raise NotFound(f"no such command: {frame.name[:50]}")
            result = command(Request(frame.name, frame.body, payload, connection))
            answer, out = result if isinstance(result, tuple) else (result, b"")
        except Exception as error:
            kind, answer, out = Kind.ERROR, to_wire(error, f"command {frame.name[:50]}"), b""
        finally:
            self._leave(frame.name)
        connection.send(kind, frame.id, "", answer, out)

    def enter(self) -> None:
        self.in_flight += 1
        if self.in_flight == 1:
            self.calm.clear()

    def _leave(self, name: str) -> None:
        self.in_flight -= 1
        if name not in QUIET:
            self.last_used = time.monotonic()
        if not self.in_flight:
            self.calm.set()

    def drain(self, timeout: float) -> None:
        """End without losing a request: stop accepting, say goodbye, answer all that was sent, close.

        New connections wait in the listening socket for the next worker. Connections whose other side does not close
        within ``DRAIN_PATIENCE`` seconds after its last answer are cut. Waits at most ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        self._draining = True
        if self._acceptor is not None:
            self._acceptor.kill()
        # The supervisor has the socket too, for the next worker. If it is dead nobody else has: who connected and was
        # not greeted yet sees the end, and asks elsewhere.
        self._listener.close()
        for connection in list(self.connections):
            connection.goodbye()
        while self.connections and (left := deadline - time.monotonic()) > 0:
            readers = [connection.reader for connection in self.connections]
            patience = left if self.in_flight else min(left, DRAIN_PATIENCE)
            done = wait(readers, patience, count=1)
            if not done and not self.in_flight:
                break
        for connection in list(self.connections):
            connection.flush(max(0.0, min(0.5, deadline - time.monotonic())))
            connection.close()


class Connection:
    """One front (or worker, or the management process) that is connected."""

    __slots__ = ("_outbox", "_server", "_socket", "_under_way", "reader", "subscribed")

    def __init__(self, server: Server, sock: Any) -> None:
        self._server = server
        self._socket = sock
        self._outbox = wire.Outbox(sock)
        self._under_way = 0
        self.subscribed = False
        server.connections.add(self)
        self.send(Kind.HELLO, 0, "", {})
        self.reader = gevent.spawn(self._read)

    def _read(self) -> None:
        decoder = wire.Decoder()
        server = self._server
        try:
            while data := self._socket.recv(wire.RECEIVE):
                for frame, payload in decoder.feed(data):
                    self._dispatch(frame, payload)
            # The other side asks nothing more; it still gets its answers.
            while self._under_way:
                server.calm.wait(0.2)
        except (OSError, wire.WireError) as error:
            if isinstance(error, wire.WireError):
                log.warning("connection closed: %s", error)
        finally:
            server.connections.discard(self)
            self.subscribed = False
            self._outbox.flush(2.0)
            self._outbox.close()
            self._socket.close()

    def _dispatch(self, frame: wire.Frame, payload: bytes) -> None:
        if frame.kind != Kind.REQUEST:
            raise wire.WireError("not a request")
        if self._under_way >= MAX_IN_FLIGHT:
            raise wire.WireError("too many requests in flight")
        self._under_way += 1
        self._server.enter()
        gevent.spawn(self._run, frame, payload)

    def _run(self, frame: wire.Frame, payload: bytes) -> None:
        try:
            self._server.handle(frame, payload, self)
        finally:
            self._under_way -= 1

    def send(self, kind: int, ident: int, name: str, body: dict[str, Any], payload: bytes = b"") -> None:
        """Queue one frame; a connection that is gone or does not read is closed."""
        try:
            self._outbox.send(wire.encode(kind, ident, name, body, payload))
        except (OSError, wire.WireError, TypeError) as error:
            self._failed(kind, ident, error)

    def _failed(self, kind: int, ident: int, error: Exception) -> None:
        if isinstance(error, OSError):
            self.close()
        elif kind == Kind.ANSWER:
            # An answer that does not fit into a frame is that one call's error.
            self.send(Kind.ERROR, ident, "", to_wire(error, "encoding an answer"))
        else:
            log.warning("connection closed: %s", error)
            self.close()

    def goodbye(self) -> None:
        self.send(Kind.GOODBYE, 0, "", {})

    def flush(self, timeout: float) -> None:
        self._outbox.flush(timeout)

    def close(self) -> None:
        self.subscribed = False
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def serve_socket(fd: int) -> Any:
    """The gevent socket of an inherited listening descriptor."""
    return socket.socket(fileno=fd)
