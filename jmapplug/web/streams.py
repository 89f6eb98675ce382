"""``GET /eventsource``: a response whose headers leave at once and whose end is noticed on both sides."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import gevent
from flask import Response

from jmapplug.push.hub import Listener

HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache, no-store",
    "X-Accel-Buffering": "no",
    "Connection": "close",
}


class StreamResponse(Response):
    """Sends its headers before the first event exists (no server does so by itself)."""

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        app_iter, status, headers = self.get_wsgi_response(environ)
        write = start_response(status, headers)
        if environ["REQUEST_METHOD"] != "HEAD":
            write(b"")
        return app_iter


def respond(listener: Listener, events: Iterator[bytes], environ: dict[str, Any]) -> Response:
    """The streaming answer. Also watches the client's socket: a vanished one would show at the next write only."""
    watcher = _watch_client(listener, environ)
    response = StreamResponse(events, headers=HEADERS)
    if watcher is not None:
        response.call_on_close(watcher.kill)
    response.call_on_close(listener.close)
    return response


def _watch_client(listener: Listener, environ: dict[str, Any]) -> gevent.Greenlet | None:
    """Process rule 16: close the listener as soon as the client's side of the connection ends."""
    sock = environ.get("jmapplug.socket") or environ.get("gunicorn.socket")
    if sock is None:
        return None

    def watch() -> None:
        while not listener.closed:
            select.select([sock], [], [])
            try:
                if sock.recv(1, socket.MSG_PEEK) != b"":
                    # Pipelined bytes of a next request: this client lives; its end will show at a write.
                    return
            except OSError:
                pass
            listener.close()

    return gevent.spawn(watch)
