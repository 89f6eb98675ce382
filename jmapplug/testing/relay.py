"""A TCP relay in front of a server: what a client sees of a server that goes away and comes back."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress

from jmapplug.testing.ports import HOST, accepts, wait_until


class Relay:
    """Listens on ``port`` until :meth:`close`; between :meth:`cut` and :meth:`mend` nobody is let through.

    ``trap`` waits for octets on their way to the server: after so many of them something happens.
    """

    def __init__(self, target: int) -> None:
        wait_until(lambda: accepts(target), "the server behind the relay listens")
        self._target = target
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._through = True
        self._open: set[socket.socket] = set()
        self._left: int | None = None
        self._sprung: Callable[[], None] = lambda: None
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Every connection ends at once, each new one too."""
        self._through = False
        for each in list(self._open):
            self._end(each)

    def mend(self) -> None:
        self._through = True

    def trap(self, octets: int, action: Callable[[], None]) -> None:
        """``action`` after this many octets more have gone to the server, and before the next one."""
        self._sprung, self._left = action, octets

    @property
    def waiting(self) -> bool:
        """Whether the trap has not sprung yet."""
        return self._left is not None

    def disarm(self) -> None:
        self._left = None

    def close(self) -> None:
        self.cut()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if not self._through:
                client.close()
                continue
            try:
                server = socket.create_connection((HOST, self._target))
            except OSError:  # refused for a moment: the next one may come
                client.close()
                continue
            self._open |= {client, server}
            for pair in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, upwards: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                data = self.seen(data, upwards)
                if upwards and self._left is not None and self._springs(sink, data):
                    # What the killed one had said already must not follow: there would be a hole in it.
                    break
                sink.sendall(data)
        self._end(source)
        self._end(sink)

    def seen(self, data: bytes, upwards: bool) -> bytes:
        """What goes on instead of ``data``."""
        return data

    def _springs(self, sink: socket.socket, data: bytes) -> bool:
        """Whether the trap springs in the middle of ``data``, which goes on until there."""
        left = self._left or 0
        if len(data) <= left:
            self._left = left - len(data)
            return False
        sink.sendall(data[:left])
        self._left = None
        self._sprung()
        return True

    def _end(self, each: socket.socket) -> None:
        self._open.discard(each)
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
