"""An LMTP delivery into a folder → EventSource event, beside the skew of two bare NOTIFY clients on the same server."""

from __future__ import annotations

import http.client
import smtplib
import socket
import threading
import time
from typing import Any

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
    seen: dict[str, list[float]] = {"a": [], "b": [], "stream": []}
    _notify(server, user, seen["a"])
    _notify(server, user, seen["b"])
    _stream(proxy, basic(user, server.password), seen["stream"])
    wait_until(lambda: proxy.status("push")["watching"] == "notify", "the account is watched", 30)
    writer = smtplib.LMTP(HOST, server.lmtp_port)
    recipient = user.replace("@", f"+{FOLDER}@")
    time.sleep(2)  # the pass that follows the watch's beginning
    skews, delays = [], []
    for number in range(ROUNDS):
        for moments in seen.values():
            moments.clear()
        text = f"From: a@example.com\r\nSubject: push {number}\r\nMessage-ID: <p{number}@x>\r\n\r\nhello\r\n"
        writer.sendmail("a@example.com", [recipient], text.encode())
        wait_until(lambda: all(seen.values()), "everybody has heard", 30)
        skews.append(abs(seen["a"][0] - seen["b"][0]) * 1000)
        delays.append((seen["stream"][0] - min(seen["a"][0], seen["b"][0])) * 1000)
        time.sleep(0.7)
    writer.quit()
    skew, delay = (sorted(values)[int(ROUNDS * 0.95) - 1] for values in (skews, delays))
    measured = f"p95 {delay:.0f} ms after the first bare NOTIFY client (skew of two: p95 {skew:.0f} ms)"
    return [("LMTP delivery into a folder → EventSource event", measured, "≤ skew + 20 ms")]


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


def _stream(proxy: Proxy, authorization: str, moments: list[float]) -> None:
    connection = http.client.HTTPConnection(HOST, proxy.port)
    connection.request("GET", "/eventsource?types=Email&closeafter=no&ping=0", headers={"Authorization": authorization})
    answer = connection.getresponse()

    def listen() -> None:
        while line := answer.readline():
            if line.startswith(b"event: state"):
                moments.append(time.perf_counter())

    threading.Thread(target=listen, daemon=True).start()
