"""A connection to a real SMTP server that is cut after every octet, in both directions.

The law: what is told as taken was taken, what is told as not taken was not, and only "unsure" may be either.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from jmapplug_imap.settings import ImapSettings
from jmapplug_imap.smtp_connection import SmtpTimeouts
from jmapplug_imap.submission import SmtpSource

from jmapplug.backends import EnvelopeAddress
from jmapplug.errors import UpstreamError
from jmapplug.testing import smtp_server
from jmapplug.testing.smtp_server import SmtpServer

ADA = EnvelopeAddress("ada@example.org")
TIMEOUTS = SmtpTimeouts(connect=60, command=60, block=60, data=60, quit=1)


class Cutter:
    """A way to a server that is cut after so many octets: ``up`` from the client, ``down`` from the server."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.limits = {"up": 1 << 30, "down": 1 << 30}
        self.passed = {"up": 0, "down": 0}
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.target))
            self.passed = {"up": 0, "down": 0}
            for name, source, sink in (("up", client, server), ("down", server, client)):
                threading.Thread(target=self._pump, args=(name, source, sink), daemon=True).start()

    def _pump(self, name: str, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(4096):
                left = self.limits[name] - self.passed[name]
                sink.sendall(data[:left])
                self.passed[name] += len(data[:left])
                if len(data) > left:
                    break
        except OSError:
            pass
        for each in (source, sink):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self) -> None:
        self.listener.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SmtpServer]:
    made = smtp_server.start(tmp_path / "outbox")
    yield made
    made.stop()


@pytest.mark.parametrize("direction", ["up", "down"])
def test_whatever_octet_the_connection_is_cut_at_nothing_wrong_is_told(
    server: SmtpServer, tmp_path: Path, direction: str
) -> None:
    """Wish 25."""
    cutter = Cutter(server.port)
    source = SmtpSource(ImapSettings(smtpHost="127.0.0.1", smtpPort=cutter.port, smtpSSL=0), "ada", TIMEOUTS)
    message = tmp_path / "message"
    outcomes: dict[str, str] = {}

    def send(name: str) -> str:
        """What the sender is told, and whether the message's octets had begun."""
        begun: list[None] = []
        message.write_bytes(f"Subject: {name}\r\n\r\n.\r\nText.\r\n".encode())
        try:
            delivery = source.send(ADA, [EnvelopeAddress(f"{name}@y.z")], message, lambda: begun.append(None))
        except UpstreamError as error:
            assert error.code in (None, "unsure")
            assert begun or error.code is None
            return error.code or "not taken"
        assert delivery.accepted
        return "taken"

    assert send("whole") == "taken"
    total = cutter.passed[direction]
    assert total > 100
    for octets in range(total):
        name = f"cut{octets:04}"
        cutter.limits[direction] = octets
        outcomes[name] = send(name)
    cutter.limits[direction] = 1 << 30
    assert send("end") == "taken"
    cutter.close()
    taken = [each.rcpt_tos[0].partition("@")[0] for each in server.taken]
    assert len(taken) == len(set(taken))
    for name, told in outcomes.items():
        assert told == "unsure" or (name in taken) == (told == "taken"), (name, told)
    # Most cuts are sure, one way or the other.
    unsure = [name for name, told in outcomes.items() if told == "unsure"]
    assert 0 < len(unsure) < total / 2
