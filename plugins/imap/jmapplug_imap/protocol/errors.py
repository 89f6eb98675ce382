"""What can go wrong on an IMAP connection. No text here ever holds a credential."""

from __future__ import annotations

from jmapplug.errors import AuthenticationError, UpstreamError

__all__ = [
    "AuthenticationError",
    "CommandBad",
    "CommandError",
    "CommandNo",
    "ConnectionBroken",
    "ParseError",
    "ProtocolError",
]


class ConnectionBroken(UpstreamError):
    """The connection is gone or unusable (cut, BYE, deadline, refused). Nothing read on it may count as complete."""


class ProtocolError(ConnectionBroken):
    """The server said something that is not IMAP, or more than the limits allow; the connection is closed."""


class CommandError(UpstreamError):
    """The server refused one command; the connection goes on. ``code`` is the response code in lower case or None."""

    @property
    def doubtful(self) -> bool:
        """Whether the connection may be to blame: what the server thinks that is open need not be there any more."""
        return self.code == "serverbug"


class CommandNo(CommandError):
    """A tagged NO (RFC 9051 §7.1.2)."""


class CommandBad(CommandError):
    """A tagged BAD (RFC 9051 §7.1.3): the server does not understand this command."""


class ParseError(Exception):
    """Inside the parser only: these octets are not what the grammar wants here. Never leaves the package."""
