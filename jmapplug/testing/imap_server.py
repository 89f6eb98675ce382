"""What the IMAP servers of the tests have in common."""

from __future__ import annotations

import imaplib
import socket


class ImapServer:
    """A running server; every user has the same ``password``."""

    host: str
    port: int
    password: str

    def imap(self, user: str) -> imaplib.IMAP4:
        """A second, independent IMAP client, logged in."""
        client = imaplib.IMAP4(self.host, self.port, timeout=120)
        # It sends a literal and its line end apart: Nagle's algorithm would wait 40 ms between them.
        client.socket().setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.login(user, self.password)
        return client
