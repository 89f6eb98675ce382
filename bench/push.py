"""An LMTP delivery into a folder → the event at JMAP clients, beside the skew of two bare NOTIFY clients."""

from __future__ import annotations

import smtplib
import socket
import threading
import time
from collections.abc import Iterable
from typing import Any

from bench.streams import Streams
from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.ports import HOST, wait_until
from jmapplug.testing.proxy import Proxy, basic

ROUNDS = 20
FOLDER = "Work"
NOTIFY = "NOTIFY SET (personal (MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange))"


def push_delays(proxy: Proxy, server: Dovecot) -> list[tuple[str, str, str]]:
    """Rows of the table."""
    user = server.new_user()
    other = server.imap(user)
    other.create(FOLDER)
    other.logout()
    proxy.add("push", server, user)
    bare: list[list[float]] = [[], []]
    for moments in bare:
        _notify(server, user, moments)
    streams, authorization = Streams(), basic(user, server.password)
    numbers = [streams.open(proxy.port, authorization), streams.open_websocket(proxy.port, authorization)]
    streams.ready()
    wait_until(lambda: proxy.status("push")["watching"] == "notify", "the account is watched", 30)
    writer = smtplib.LMTP(HOST, server.lmtp_port)
    recipient = user.replace("@", f"+{FOLDER}@")
    time.sleep(2)  # the pass that follows the watch's beginning
    skews, delays = [], []
    for number in range(ROUNDS):
        for moments in bare:
            moments.clear()
        start = time.perf_counter()
        text = f"From: a@example.com\r\nSubject: push {number}\r\nMessage-ID: <p{number}@x>\r\n\r\nhello\r\n"
        writer.sendmail("a@example.com", [recipient], text.encode())
        told = streams.hears(numbers, start)
        wait_until(lambda: all(bare), "both clients have heard", 30)
        first, second = sorted(moments[0] for moments in bare)
        skews.append((second - first) * 1000)
        delays.append([ours - (first - start) * 1000 for ours in told])
        time.sleep(0.7)
    writer.quit()
    streams.close()
    return [
        (f"LMTP delivery into a folder → {kind} event", _measured(found, skews), "≤ skew + 20 ms")
        for kind, found in zip(("EventSource", "WebSocket"), zip(*delays, strict=True), strict=True)
    ]


def _measured(delays: Iterable[float], skews: Iterable[float]) -> str:
    delay, skew = (sorted(values)[int(ROUNDS * 0.95) - 1] for values in (delays, skews))
    return f"p95 {delay:.0f} ms after the first bare NOTIFY client (skew of two: p95 {skew:.0f} ms)"


def _notify(server: Dovecot, user: str, moments: list[float]) -> None:
    """A bare NOTIFY client that notes when it hears of a new message."""
    sock = socket.create_connection((server.host, server.port))
    reader: Any = sock.makefile("rb")
    reader.readline()
    for command in (f"LOGIN {user} {server.password}", "ENABLE CONDSTORE", 'LIST "" "*"', NOTIFY):
        sock.sendall(f"a {command}\r\n".encode())
        while not reader.readline().startswith(b"a "):
            pass

    def listen() -> None:
        while line := reader.readline():
            if f"STATUS {FOLDER} ".encode() in line:
                moments.append(time.perf_counter())

    threading.Thread(target=listen, daemon=True).start()
