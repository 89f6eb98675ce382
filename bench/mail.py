"""Test mail in bulk: made cheaply, filled in by MULTIAPPEND with LITERAL+."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.proxy import MailServer

WORDS = [f"word{number}" for number in range(3000)]
FAMILIES = [
    (f"{name}{n}", share) for name, share in (("needle", 0.09), ("rare", 0.01), ("common", 0.8)) for n in range(20)
]
START = datetime(2020, 1, 1, tzinfo=UTC)


def messages(count: int, seed: int = 1) -> Iterator[tuple[datetime, bytes]]:
    """``count`` messages of 1-6 KB: a third with HTML, a tenth with an attachment, a fifth replies.

    Each word of a family stands in that share of the bodies: needle0…needle19 in 9 %, rare0…rare19 in 1 %,
    common0…common19 in 80 %; twenty of each, so that no search meets an answer that was kept.
    """
    chance = random.Random(seed)
    for number in range(count):
        moment = START + timedelta(minutes=number * 20)
        yield moment, _message(number, moment, chance)


def _message(number: int, moment: datetime, chance: random.Random) -> bytes:
    words = chance.choices(WORDS, k=chance.randint(60, 500))
    for word, share in FAMILIES:
        if chance.random() < share:
            words.append(word)
    text = " ".join(words)
    text = "\r\n".join(text[at : at + 76] for at in range(0, len(text), 76))
    sender = number % 97
    reply = number > 10 and chance.random() < 0.2
    head = [
        f"From: Person {sender} <person{sender}@example.com>",
        f"To: User <user@example.org>, Other {number % 13} <other{number % 13}@example.net>",
        f"Subject: {'Re: ' if reply else ''}Subject number {number - (1 if reply else 0)} {words[0]}",
        f"Date: {moment:%a, %d %b %Y %H:%M:%S} +0000",
        f"Message-ID: <{number}.{sender}@bench.example.com>",
        "MIME-Version: 1.0",
    ]
    if reply:
        head.append(f"In-Reply-To: <{number - 1}.{(number - 1) % 97}@bench.example.com>")
        head.append(f"References: <{number - 1}.{(number - 1) % 97}@bench.example.com>")
    if number % 10 == 0:
        return "\r\n".join([*head, *_mixed(text)]).encode()
    if number % 3 == 0:
        return "\r\n".join([*head, *_alternative(text)]).encode()
    return "\r\n".join([*head, "Content-Type: text/plain; charset=utf-8", "", text, ""]).encode()


def _alternative(text: str) -> list[str]:
    return [
        'Content-Type: multipart/alternative; boundary="b1"', "",
        "--b1", "Content-Type: text/plain; charset=utf-8", "", text,
        "--b1", "Content-Type: text/html; charset=utf-8", "", f"<html><body><p>{text}</p></body></html>", "--b1--", "",
    ]  # fmt: skip


def _mixed(text: str) -> list[str]:
    return [
        'Content-Type: multipart/mixed; boundary="b2"', "",
        "--b2", "Content-Type: text/plain; charset=utf-8", "", text,
        "--b2", "Content-Type: application/pdf; name=a.pdf", "Content-Transfer-Encoding: base64",
        'Content-Disposition: attachment; filename="a.pdf"', "", "QUJD" * 18, "--b2--", "",
    ]  # fmt: skip


def fill(server: MailServer, user: str, folder: str, count: int, seed: int = 1) -> None:
    """Append ``count`` messages, 100 a command."""
    with socket.create_connection((server.host, server.port)) as sock:
        reader = sock.makefile("rb")
        reader.readline()
        _command(sock, reader, f"LOGIN {user} {server.password}".encode())
        batch: list[bytes] = []
        for moment, message in messages(count, seed):
            flags = b"" if len(batch) % 5 == 0 else b"\\Seen"
            head = f'({flags.decode()}) "{moment:%d-%b-%Y %H:%M:%S} +0000" {{{len(message)}+}}\r\n'
            batch.append(head.encode() + message)
            if len(batch) == 100:
                _command(sock, reader, b"APPEND " + folder.encode() + b" " + b" ".join(batch))
                batch = []
        if batch:
            _command(sock, reader, b"APPEND " + folder.encode() + b" " + b" ".join(batch))


def _command(sock: socket.socket, reader, command: bytes) -> None:  # type: ignore[no-untyped-def]
    sock.sendall(b"a " + command + b"\r\n")
    while not (line := reader.readline()).startswith(b"a "):
        assert line, "the server closed the connection"
    assert line.startswith(b"a OK"), line


def warm(server: Dovecot, user: str, folder: str = "INBOX") -> None:
    """Have Dovecot cache what a first sync asks for (the figures are for warm index caches)."""
    with socket.create_connection((server.host, server.port)) as sock:
        reader = sock.makefile("rb")
        reader.readline()
        _command(sock, reader, f"LOGIN {user} {server.password}".encode())
        _command(sock, reader, b"SELECT " + folder.encode())
        fields = b"DATE FROM SENDER REPLY-TO TO CC BCC SUBJECT MESSAGE-ID IN-REPLY-TO REFERENCES"
        items = b"(INTERNALDATE RFC822.SIZE BODYSTRUCTURE PREVIEW X-GUID BODY.PEEK[HEADER.FIELDS (" + fields + b")])"
        for _ in range(2):
            _command(sock, reader, b"FETCH 1:* " + items)
