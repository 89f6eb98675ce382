"""The supervisor's end of the control socket: lines of JSON, without a wait anywhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Protocol

from jmapplug.workers import plain

MAX_LINE = 4096
POLLOUT = 4


class Owner(Protocol):
    """What a connection asks of the supervisor."""

    def watch(self, fd: int, handler: Callable[[int], None], events: int = plain.POLLIN) -> None: ...

    def command(self, connection: ControlConnection, line: bytes) -> None: ...

    def disconnect(self, connection: ControlConnection) -> None: ...


class ControlConnection:
    """One connection on the control socket: JSON lines both ways; a lease is one that stays open."""

    __slots__ = ("leased", "out", "owner", "received", "socket")

    def __init__(self, owner: Owner, sock: Any) -> None:
        self.owner = owner
        self.socket = sock
        self.leased = False
        self.received = b""
        self.out = b""

    def ready(self, events: int) -> None:
        """Called when ``poll`` has something for this connection."""
        if events & POLLOUT:
            self._flush()
        if events & ~POLLOUT:
            self._read()

    def _read(self) -> None:
        try:
            data = self.socket.recv(MAX_LINE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self.received += data
        *lines, self.received = self.received.split(b"\n")
        for line in lines:
            self.owner.command(self, line)
        if not data or len(self.received) > MAX_LINE:
            self.owner.disconnect(self)

    def answer(self, body: dict[str, Any]) -> None:
        self.out += json.dumps(body).encode() + b"\n"
        self._flush()

    def _flush(self) -> None:
        try:
            while self.out:
                self.out = self.out[self.socket.send(self.out) :]
        except BlockingIOError:
            pass
        except OSError:
            self.out = b""
        self.owner.watch(self.socket.fileno(), self.ready, plain.POLLIN | (POLLOUT if self.out else 0))
