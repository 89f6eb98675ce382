"""An upstream change in INBOX → EventSource event, beside the skew of two bare IDLE clients on the same server."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from typing import Any

from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.ports import HOST, wait_until
from jmapplug.testing.proxy import Proxy, basic

ROUNDS = 20


def push_delays(proxy: Proxy, server: Dovecot) -> list[tuple[str, str, str]]:
    """Rows of the table."""
    user = server.new_user()
    server.imap(user).logout()
    proxy.add("push", server, user)
    seen: dict[str, list[float]] = {"a": [], "b": [], "stream": []}
    _idle(server, user, seen["a"])
    _idle(server, user, seen["b"])
    _stream(proxy, user, server.password, seen["stream"])
    writer = server.imap(user)
    time.sleep(2)  # the worker's first pass and its IDLE are under way
    skews, delays = [], []
    for number in range(ROUNDS):
        for moments in seen.values():
            moments.clear()
        writer.append(
            "INBOX", None, None, f"Subject: push {number}\r\nMessage-ID: <p{number}@x>\r\n\r\nhello\r\n".encode()
        )
        wait_until(lambda: all(seen.values()), "everybody has heard", 30)
        skews.append(abs(seen["a"][0] - seen["b"][0]) * 1000)
        delays.append((seen["stream"][0] - min(seen["a"][0], seen["b"][0])) * 1000)
        time.sleep(0.7)
    skew, delay = (sorted(values)[int(ROUNDS * 0.95) - 1] for values in (skews, delays))
    measured = f"p95 {delay:.0f} ms after the first bare IDLE client (skew of two: p95 {skew:.0f} ms)"
    return [("upstream change → EventSource event", measured, "≤ skew + 20 ms")]


def _idle(server: Dovecot, user: str, moments: list[float]) -> None:
    """A bare IDLE client that notes when it hears of a new message."""
    sock = socket.create_connection((server.host, server.port))
    reader: Any = sock.makefile("rb")
    reader.readline()
    for command in (f"LOGIN {user} {server.password}", "SELECT INBOX"):
        sock.sendall(f"a {command}\r\n".encode())
        while not reader.readline().startswith(b"a "):
            pass
    sock.sendall(b"a IDLE\r\n")

    def listen() -> None:
        while line := reader.readline():
            if b"EXISTS" in line:
                moments.append(time.perf_counter())

    threading.Thread(target=listen, daemon=True).start()


def _stream(proxy: Proxy, user: str, password: str, moments: list[float]) -> None:
    connection = http.client.HTTPConnection(HOST, proxy.port)
    connection.request(
        "GET", "/eventsource?types=Email&closeafter=no&ping=0", headers={"Authorization": basic(user, password)}
    )
    answer = connection.getresponse()

    def listen() -> None:
        while line := answer.readline():
            if line.startswith(b"event: state"):
                moments.append(time.perf_counter())

    threading.Thread(target=listen, daemon=True).start()
