"""Checks one account: ``python -m tests.invariants --imap HOST:PORT:USER:PASSWORD --jmap URL:USER:PASSWORD``.

Prints every breach in words and ends with status 1 if there is one. ``--history FILE`` keeps what was handed out, so
that the next run also replays changes from there (I3) and knows what the ids meant (I5). ``--smtp FOLDER`` names the
outbox of ``jmapplug.testing.smtp_server``, ``--confirmed FILE`` the Message-IDs acknowledged, one a line (I4).
"""

from __future__ import annotations

import argparse
import http.client
import imaplib
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from jmapplug.testing.proxy import Client, basic

from . import rules
from .checker import Checker
from .jmap_view import View
from .rules import Ledger
from .upstream import Upstream

SAMPLE = 50


class Kept(msgspec.Struct):
    """The file of ``--history``."""

    views: list[View]
    ledger: Ledger


def main(arguments: list[str] | None = None) -> int:
    """The exit status."""
    options = _parser().parse_args(arguments)
    client = _client(options.jmap)
    checker = Checker(Upstream(_imap(options.imap)), lambda: client)
    if options.history and options.history.exists():
        kept = msgspec.json.decode(options.history.read_bytes(), type=Kept)
        checker.history, checker.ledger = kept.views, kept.ledger
    found = [*checker.breaches(sample=SAMPLE, one_by_one=1), *_sent(options)]
    checker.upstream.imap.logout()
    if options.history:
        options.history.write_bytes(msgspec.json.encode(Kept(checker.history, checker.ledger)))
    for breach in found:
        print(breach)
    print(f"{len(checker.view.emails)} Emails in {len(checker.view.mailboxes)} Mailboxes, {len(found)} breaches")
    return 1 if found else 0


def _imap(where: str) -> imaplib.IMAP4:
    host, port, user, password = where.split(":", 3)
    imap = imaplib.IMAP4(host, int(port), timeout=60)
    imap.login(user, password)
    return imap


def _client(where: str) -> Client:
    url, user, password = where.rsplit(":", 2)
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    client = Client(0, "", basic(user, password))
    client.connection = kind(parts.netloc, timeout=60)
    session = client.send("GET", "/.well-known/jmap")
    if session.status == 301:
        session = client.send("GET", urlsplit(session.headers["location"]).path)
    assert session.status == 200, session
    client.account = session.json["primaryAccounts"]["urn:ietf:params:jmap:mail"]
    return client


def _sent(options: argparse.Namespace) -> Iterator[str]:
    if options.smtp:
        taken = [each.read_bytes() for each in sorted(options.smtp.glob("*.eml"))]
        confirmed = options.confirmed.read_text().split() if options.confirmed else []
        yield from rules.sent(taken, confirmed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.invariants", description=__doc__)
    parser.add_argument("--imap", required=True, metavar="HOST:PORT:USER:PASSWORD")
    parser.add_argument("--jmap", required=True, metavar="URL:USER:PASSWORD")
    parser.add_argument("--history", type=Path)
    parser.add_argument("--smtp", type=Path)
    parser.add_argument("--confirmed", type=Path)
    return parser


if __name__ == "__main__":
    sys.exit(main())
