"""Many event streams and WebSockets at once, held by one thread: who heard of a change, and when."""

from __future__ import annotations

import os
import selectors
import socket
import threading
import time
from collections.abc import Iterable

from jmapplug.testing.ports import HOST, wait_until

PATH = "/eventsource?types=*&closeafter=no&ping=0"


class Streams:
    """Open connections; ``heard``: connection's number → moment (time.perf_counter) of its last StateChange."""

    def __init__(self) -> None:
        self.heard: dict[int, float] = {}
        self._sockets: list[socket.socket] = []
        self._selector = selectors.DefaultSelector()
        self._answered: set[int] = set()
        self._mark: dict[int, bytes] = {}
        self._over = False
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def open(self, port: int, authorization: str) -> int:
        """One more event stream; its number."""
        return self._add(port, f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {authorization}\r\n\r\n", b"")

    def open_websocket(self, port: int, authorization: str) -> int:
        """One more WebSocket with push for every type; its number."""
        key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
        upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Protocol: jmap\r\n"
        head = f"GET /jmap/ws HTTP/1.1\r\nHost: localhost\r\nAuthorization: {authorization}\r\n{upgrade}{key}\r\n"
        return self._add(port, head, _masked(b'{"@type":"WebSocketPushEnable","dataTypes":null}'))

    def ready(self, timeout: float = 120) -> None:
        """Wait until every one is answered."""
        wait_until(lambda: len(self._answered) == len(self._sockets), "every stream is open", timeout)

    def hears(self, numbers: Iterable[int], since: float, timeout: float = 30) -> list[float]:
        """Wait until these have heard of something after ``since``; milliseconds from then on, one for each."""
        wanted = list(numbers)
        wait_until(lambda: all(self.heard.get(n, 0) > since for n in wanted), "every stream has heard", timeout)
        return [(self.heard[n] - since) * 1000 for n in wanted]

    def close(self) -> None:
        self._over = True
        self._thread.join()
        for each in self._sockets:
            each.close()

    def _add(self, port: int, head: str, after: bytes) -> int:
        sock = socket.create_connection((HOST, port))
        sock.sendall(head.encode())
        number = len(self._sockets)
        self._mark[number] = after
        self._sockets.append(sock)
        self._selector.register(sock, selectors.EVENT_READ, number)
        return number

    def _listen(self) -> None:
        while not self._over:
            for key, _ in self._selector.select(0.2):
                self._read(key.fileobj, key.data)  # type: ignore[arg-type]

    def _read(self, sock: socket.socket, number: int) -> None:
        data = sock.recv(65536)
        if not data:
            self._selector.unregister(sock)
        elif number not in self._answered:
            assert data.startswith((b"HTTP/1.1 200", b"HTTP/1.1 101")), data
            if after := self._mark.pop(number):
                sock.sendall(after)
            self._answered.add(number)
        if b"StateChange" in data:
            self.heard[number] = time.perf_counter()


def _masked(text: bytes) -> bytes:
    """A client's text frame (RFC 6455 §5.2) of less than 126 octets."""
    mask = os.urandom(4)
    return bytes([0x81, 0x80 | len(text)]) + mask + bytes(octet ^ mask[n % 4] for n, octet in enumerate(text))
