"""500,000 messages in a folder, and 2,000 folders: nothing grows in one piece, no command for each (wish 23).

The server is one of ours on a socket, which makes rows up.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator
from typing import Any

import gevent
from gevent.server import StreamServer
from jmapplug_imap import folders, passes
from jmapplug_imap.settings import ImapSettings
from jmapplug_imap.source import ImapSource

from jmapplug.backends import SyncPoint

MANY = 500_000
FOLDERS = 2_000
STEP = 3
"""UIDs of one message to the next."""


class Huge:
    """INBOX has MANY messages; ``sizes``: how many rows each FETCH was answered with."""

    def __init__(self, capabilities: str) -> None:
        self.capabilities = capabilities
        self.lines: list[str] = []
        self.sizes: list[int] = []
        self._server = StreamServer(("127.0.0.1", 0), self._serve)
        self._server.start()

    def source(self) -> ImapSource:
        port = self._server.server_port
        settings = ImapSettings(username="u", password="p", imapHost="127.0.0.1", imapPort=port, imapSSL=0)
        return ImapSource(settings, "u")

    def sent(self, word: str) -> list[str]:
        return [line for line in self.lines if line.startswith(word)]

    def stop(self) -> None:
        self._server.stop(timeout=1)

    def _serve(self, client: Any, address: object) -> None:
        reader = client.makefile("rb")
        client.sendall(b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] hello\r\n")
        for line in reader:
            tag, _, command = line.decode().strip().partition(" ")
            self.lines.append(command)
            for piece in self._answer(command):
                client.sendall(piece)
                gevent.sleep(0)
            client.sendall(f"{tag} OK done\r\n".encode())

    def _answer(self, command: str) -> Iterator[bytes]:
        if command.startswith(("AUTHENTICATE", "CAPABILITY")):
            yield f"* CAPABILITY IMAP4rev1 {self.capabilities}\r\n".encode()
        elif command.startswith(("SELECT", "EXAMINE")):
            yield f"* {MANY} EXISTS\r\n* OK [UIDVALIDITY 7] \r\n* OK [UIDNEXT {MANY * STEP + 1}] \r\n".encode()
            if "CONDSTORE" in self.capabilities:
                yield b"* OK [HIGHESTMODSEQ 99] \r\n"
        elif command.startswith("LIST"):
            status = "(MESSAGES 3 UIDNEXT 4 UIDVALIDITY 7 UNSEEN 0)"
            for name in ("INBOX", *(f"Box{number}" for number in range(1, FOLDERS))):
                yield f'* LIST (\\Subscribed) "/" {name}\r\n* STATUS {name} {status}\r\n'.encode()
        elif command.startswith("MYRIGHTS"):
            yield f"* MYRIGHTS {command.split()[1]} lrswipkxte\r\n".encode()
        elif "FETCH" in command:
            yield from self._fetch(command)

    def _fetch(self, command: str) -> Iterator[bytes]:
        if (asked := re.match(r"FETCH (\S+) ", command)) is not None:
            sequence = [int(number) for number in asked[1].split(",")]
        else:
            low, _, high = re.match(r"UID FETCH (\S+) ", command)[1].partition(":")  # type: ignore[index]
            last = MANY if high == "*" else int(high) // STEP
            sequence = range(-(-int(low) // STEP), last + 1)  # type: ignore[assignment]
        self.sizes.append(len(sequence))
        date = ' INTERNALDATE "05-Jan-2026 10:00:00 +0000"' if "INTERNALDATE" in command else ""
        flags = " FLAGS (\\Seen)" if "FLAGS" in command else ""
        for start in range(0, len(sequence), 5_000):
            rows = (f"* {n} FETCH (UID {n * STEP}{flags}{date})\r\n" for n in sequence[start : start + 5_000])
            yield "".join(rows).encode()


def test_half_a_million_messages_are_listed_in_pieces_newest_first() -> None:
    server = Huge("CONDSTORE")
    source = server.source()
    found = source.changes(b"INBOX", None, list)
    assert found.new == () and found.point.messages == MANY and found.point.uidnext == MANY * STEP + 1
    windows = found.windows
    assert windows[0][1] == MANY * STEP and windows[-1][0] == 1 and len(windows) == MANY // passes.LISTING
    assert all(low == below[1] + 1 for (low, _), below in itertools.pairwise(windows))
    total = 0
    for low, high in windows[::5]:
        items = source.listed(b"INBOX", 7, low, high, True)
        assert len(items) <= passes.LISTING and low <= items[0].uid <= items[-1].uid <= high
        total += len(items)
    assert total == MANY // 5
    assert max(server.sizes) <= passes.LISTING
    source.close()
    server.stop()


def test_comparing_all_flags_of_half_a_million_messages_is_done_in_pieces() -> None:
    """Once a day, and at each pass on a server without CONDSTORE."""
    server = Huge("")
    source = server.source()
    point = SyncPoint(7, MANY * STEP + 1, 0, MANY)
    found = source.changes(b"INBOX", point, list)
    assert (found.new, found.flags, found.vanished) == ((), (), ()) and len(found.windows) == MANY // passes.LISTING
    low, high = found.windows[3]
    items = source.listed(b"INBOX", 7, low, high, False)
    assert 0 < len(items) <= passes.LISTING and items[0].received_at is None and items[0].flags == ("\\Seen",)
    assert max(server.sizes) <= passes.LISTING
    source.close()
    server.stop()


def test_two_thousand_folders_cost_one_listing_and_their_rights_once() -> None:
    """Without LIST-MYRIGHTS (RFC 8440; Dovecot 2.3 has none) each new folder is asked for its rights once, in a few

    writes, and later on some of the oldest now and then.
    """
    server = Huge("LIST-EXTENDED LIST-STATUS ACL NAMESPACE")
    source = server.source()
    assert len(source.folders()) == FOLDERS
    assert len(server.sent("MYRIGHTS")) == FOLDERS and len(server.sent("LIST")) == 1 and not server.sent("STATUS Box")
    assert source.round_trips <= 10
    lines, trips = len(server.lines), source.round_trips
    assert len(source.folders()) == FOLDERS
    assert (len(server.lines) - lines, source.round_trips - trips) == (1, 1)
    later = time.monotonic() + 2 * folders.RIGHTS_LAST
    source._folders._clock = lambda: later
    source.folders()
    assert len(server.sent("MYRIGHTS")) == FOLDERS + folders.REFRESHED
    source.close()
    server.stop()
