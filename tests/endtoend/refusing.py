"""A relay that understands lines: it refuses commands, says goodbye, and changes what the server says."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress

from jmapplug.testing.relay import Relay

_LITERAL = re.compile(rb"\{(\d+)(\+?)\}\r?\n\Z")


class Lines:
    """Lines and literals of one direction."""

    def __init__(self, source: socket.socket) -> None:
        self._source = source
        self._rest = bytearray()

    def line(self) -> bytes:
        """The next line with its end; b"" at the end of all."""
        while (end := self._rest.find(b"\n")) < 0:
            if not self._more():
                return b""
        return self._cut(end + 1)

    def octets(self, count: int) -> Iterator[bytes]:
        """So many octets, as they come."""
        while count and (self._rest or self._more()):
            some = self._cut(count)
            count -= len(some)
            yield some

    def _more(self) -> bool:
        data = self._source.recv(1 << 16)
        self._rest += data
        return bool(data)

    def _cut(self, count: int) -> bytes:
        some = bytes(self._rest[:count])
        del self._rest[: len(some)]
        return some


class Refusing(Relay):
    """``refuse``: (pattern, answer) rows; a command that matches does not reach the server. An answer that begins with
    "*" is said untagged, and the connection ends. ``change``: what becomes of a server's line; ``ask``: of a client's.
    ``asked``: every line of a command, without literals. ``met``: how many were refused; ``on_refused`` is called
    before the answer. All may be set at any time.
    """

    def __init__(self, target: int) -> None:
        self.refuse: list[tuple[str, str]] = []
        self.change: Callable[[bytes], bytes] = lambda line: line
        self.ask: Callable[[bytes], bytes] = lambda line: line
        self.asked: list[bytes] = []
        self.met = 0
        self.on_refused: Callable[[], None] = lambda: None
        self.connections = 0
        self.most = 0
        super().__init__(target)

    @property
    def live(self) -> int:
        return len(self._open) // 2

    def cut_all(self) -> None:
        """Every connection ends; new ones may come."""
        for each in list(self._open):
            self._end(each)

    def sent(self, pattern: str) -> list[bytes]:
        """The commands that match."""
        return [line for line in self.asked if re.search(pattern.encode(), line, re.IGNORECASE)]

    def _pump(self, source: socket.socket, sink: socket.socket, upwards: bool) -> None:
        with suppress(OSError):
            (self._up if upwards else self._down)(source, sink)
        self._end(source)
        self._end(sink)

    def _down(self, server: socket.socket, client: socket.socket) -> None:
        lines = Lines(server)
        while line := lines.line():
            client.sendall(self.change(line))
            if literal := _LITERAL.search(line):
                for some in lines.octets(int(literal[1])):
                    client.sendall(some)

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        self.connections += 1
        self.most = max(self.most, self.live)
        lines = Lines(client)
        while line := lines.line():
            self.asked.append(line)
            literal = _LITERAL.search(line)
            answer = next((said for what, said in self.refuse if re.search(what.encode(), line, re.IGNORECASE)), None)
            if answer is None:
                server.sendall(self.ask(line))
                for some in lines.octets(int(literal[1]) if literal else 0):
                    server.sendall(some)
                continue
            self.met += 1
            self.on_refused()
            if literal and literal[2]:
                list(lines.octets(int(literal[1]) + 2))
            if answer.startswith("*"):
                client.sendall(answer.encode() + b"\r\n")
                return
            client.sendall(line.split(b" ")[0] + b" " + answer.encode() + b"\r\n")
