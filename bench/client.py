"""A JMAP client that costs little itself: a request leaves in one piece, of an answer's header the length is read.

``http.client`` sends header and body apart and parses headers as mail: about 0.3 ms of each request (measured, the two
in turns), which would be told as the proxy's.
"""

from __future__ import annotations

import json
import socket
from typing import Any

from jmapplug.testing.ports import HOST
from jmapplug.testing.proxy import Client, Reply


class Lean(Client):
    """``POST /jmap`` on a kept-alive socket of its own; everything else as its parent sends it.

    ``api``: where the server wants it.
    """

    api = "/jmap"

    def __init__(self, port: int, account: str, authorization: str) -> None:
        super().__init__(port, account, authorization)
        self._socket = socket.create_connection((HOST, port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._answers = self._socket.makefile("rb")
        fields = {"Host": HOST, "Authorization": authorization, "Content-Type": "application/json"}
        self._head = f"POST {self.api} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items())

    def send(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Reply:
        if (method, path) != ("POST", "/jmap"):
            return super().send(method, path, body, headers)
        octets = body if isinstance(body, bytes) else json.dumps(body).encode()
        self._socket.sendall(f"{self._head}Content-Length: {len(octets)}\r\n\r\n".encode() + octets)
        status = int(self._answers.readline().split()[1])
        length = 0
        while (line := self._answers.readline()) not in (b"\r\n", b""):
            if line.lower().startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        return Reply(status, {}, self._answers.read(length))


def lean(client: Client) -> Lean:
    """The same user on such a connection."""
    return Lean(client.connection.port, client.account, client.headers["Authorization"])
