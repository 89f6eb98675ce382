"""What the IMAP servers of the tests have in common."""

from __future__ import annotations

import imaplib


class ImapServer:
    """A running server; every user has the same ``password``."""

    host: str
    port: int
    password: str

    def imap(self, user: str) -> imaplib.IMAP4:
        """A second, independent IMAP client, logged in."""
        client = imaplib.IMAP4(self.host, self.port, timeout=30)
        client.login(user, self.password)
        return client
