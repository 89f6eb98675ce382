"""``GET /eventsource``: a response whose headers do not wait for an event, and whose end is noticed on both sides."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any

import gevent
from flask import Response
from gevent import monkey

from jmapplug.push.hub import Listener
from jmapplug.web.auth import Authenticator, Principal, Unauthorized
from jmapplug.web.connections import Connection

HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache, no-store",
    "X-Accel-Buffering": "no",
    "Connection": "close",
}
LOOK = 5.0  # seconds between looks for the end of a client that has sent octets which nobody will read
SILENCE = 60  # seconds without an octet after which the system asks a client whether it is there, and between tries
POLLRDHUP = 0x2000


class Stream(Connection):
    """One event stream. It ends with its log-in, and when the login's accounts are others than those it tells of: the
    client comes back with its Last-Event-ID, and misses nothing."""

    def __init__(self, auth: Authenticator, principal: Principal, listener: Listener) -> None:
        super().__init__(principal)
        self._auth, self._listener = auth, listener

    def renew(self) -> None:
        old = self.principal
        self.stale = self.due = False
        try:
            self.principal = self._auth.again(old.account_id, old.login, old.credential)
        except Unauthorized:
            self._listener.close()
        if self.principal.accounts.keys() != old.accounts.keys():
            self._listener.close()

    def end(self, code: int, reason: str) -> None:
        self._listener.close()


class StreamResponse(Response):
    """Sends its headers before the first event exists (no server does so by itself)."""

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        app_iter, status, headers = self.get_wsgi_response(environ)
        write = start_response(status, headers)
        try:
            if environ["REQUEST_METHOD"] != "HEAD":
                write(b"")
        except BaseException:
            # The client has gone already, and the server closes only what it was given.
            self.close()
            raise
        return app_iter


def respond(listener: Listener, events: Iterator[bytes], environ: dict[str, Any], held: ExitStack) -> Response:
    """The streaming answer; ``held`` is closed with it. Also watches the client's socket: a vanished one would show at
    the next write only."""
    watcher = _watch_client(listener, environ)
    response = StreamResponse(events, headers=HEADERS)
    if watcher is not None:
        response.call_on_close(watcher.kill)
    response.call_on_close(listener.close)
    response.call_on_close(held.close)
    return response


def _watch_client(listener: Listener, environ: dict[str, Any]) -> gevent.Greenlet | None:
    """Process rule 16: close the listener as soon as the client's side of the connection ends."""
    sock = environ.get("jmapplug.socket") or environ.get("gunicorn.socket")
    if sock is None:
        return None
    _keep_alive(sock)

    def watch() -> None:
        select.select([sock], [], [])
        try:
            if sock.recv(1, socket.MSG_PEEK) != b"":
                # Octets of a next request: they hide the end, which is behind them.
                while not _hung_up(sock):
                    gevent.sleep(LOOK)
        except (OSError, ValueError):
            pass
        listener.close()

    return gevent.spawn(watch)


def _keep_alive(sock: Any) -> None:
    """A client that vanished without a word is found by the system: nothing else is sent where it wants no pings."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, SILENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, SILENCE)
    except OSError:
        pass  # a Unix socket: its other side cannot vanish


def _hung_up(sock: Any) -> bool:
    poll = monkey.get_original("select", "poll")()
    poll.register(sock.fileno(), POLLRDHUP)
    return bool(poll.poll(0))
