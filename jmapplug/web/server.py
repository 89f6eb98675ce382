"""gevent's own HTTP server, set up for us: no Nagle, deadlines for headers, clear framing, a clean end."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
from collections.abc import Callable
from typing import Any

import gevent
from gevent import pywsgi
from gevent.event import Event

from jmapplug.errors import SettingError

IDLE = 120.0  # seconds that a kept-alive connection may stay silent
HEADERS = 20.0  # seconds for all header lines of one request
LINGER = 2.0  # seconds for a refused body to be sent before the connection is cut
GRACE = 4.0  # seconds for requests in flight when told to stop

log = logging.getLogger("jmapplug.web")


def bind(host: str, port: int, name: str) -> socket.socket:
    """A listening socket. Raises SettingError naming the setting. TCP_NODELAY is inherited by its connections."""
    family = socket.AF_INET6 if ":" in host or (not host and socket.has_ipv6) else socket.AF_INET
    try:
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError:
        family, listener = socket.AF_INET, socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        if family == socket.AF_INET6 and not host:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise SettingError(f"{name} {host or '*'}:{port}: {error.strerror}") from None
    return listener


class _Body(pywsgi.Input):  # type: ignore[misc]
    """A request's body. What a refused one still sends is drained for a moment only, so that its answer arrives."""

    __slots__ = ("handler",)

    def __init__(self, handler: Handler, plain: pywsgi.Input) -> None:
        chunked = plain.chunked_input
        super().__init__(plain.rfile, plain.content_length, socket=plain.socket, chunked_input=chunked)
        self.handler = handler

    def _discard(self) -> None:
        if not self.handler.closing:
            super()._discard()
            return
        with gevent.Timeout(LINGER, False), contextlib.suppress(OSError):
            self.handler.socket.shutdown(socket.SHUT_WR)
            while self.handler.socket.recv(256 * 1024):
                pass


class Handler(pywsgi.WSGIHandler):  # type: ignore[misc]
    """One connection."""

    close_connection: bool
    wsgi_input: Any

    @property
    def closing(self) -> bool:
        """Whether nothing follows on this connection."""
        return bool(self.close_connection)

    def read_requestline(self) -> str:
        with gevent.Timeout(IDLE, False):
            return str(super().read_requestline())
        return ""

    def read_request(self, raw_requestline: str) -> Any:
        with gevent.Timeout(HEADERS, False):
            return super().read_request(raw_requestline)
        self.close_connection = True
        return None

    def get_environ(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environ()
        # The server reads what the app left of a body, to find the next request behind it; not where none will come.
        # (With an Upgrade header environ["wsgi.input"] would be the connection itself, without any framing.)
        self.wsgi_input = environ["wsgi.input"] = _Body(self, self.wsgi_input)
        environ["jmapplug.socket"] = self.socket
        transfer = self.headers.get("Transfer-Encoding")
        if transfer:
            environ["HTTP_TRANSFER_ENCODING"] = transfer
        return environ

    def log_request(self) -> None:
        """No access log: addresses and URLs with tickets do not belong into it."""


def told_by_signals() -> Event:
    """What SIGTERM and SIGINT set from now on."""
    told = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, told.set)
    return told


class Server:
    """A WSGI app on a listening socket. ``told``: set when it is to end."""

    def __init__(
        self,
        listener: socket.socket,
        app: Callable[..., Any],
        told: Event,
        on_stop: Callable[[], None] | None = None,
    ) -> None:
        self._server = pywsgi.WSGIServer(listener, app, handler_class=Handler, log=None, error_log=log)
        self._server.stop_timeout = GRACE
        self._on_stop = on_stop
        self._told = told

    def serve_until_told(self) -> None:
        """Serve until told; then no new connections, streams ended, requests in flight finished."""
        self._server.start()
        self._told.wait()
        if self._on_stop:
            self._on_stop()
        self._server.stop(GRACE)
