"""SMTP replies (RFC 5321 §4.2): octets in, whole replies out, within limits. No sockets here."""

from __future__ import annotations

import re

import msgspec

from jmapplug_imap.protocol.errors import ProtocolError

MAX_LINE = 4096
"""Octets; RFC 5321 §4.5.3.1.5 says 512, and servers put long explanations there."""
MAX_LINES = 200
_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?")
_ENHANCED = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}(?= |$)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x80-\x9f]+")


class Reply(msgspec.Struct, frozen=True):
    """One reply; ``lines`` are its texts without code and separator, printable."""

    code: int
    lines: tuple[str, ...]

    @property
    def positive(self) -> bool:
        return 200 <= self.code < 400

    @property
    def temporary(self) -> bool:
        """RFC 5321 §4.2.1: 4yz, trying again can help."""
        return 400 <= self.code < 500

    @property
    def enhanced(self) -> str | None:
        """The enhanced status code (RFC 2034), "5.1.1"."""
        found = _ENHANCED.match(self.lines[0])
        return found[0] if found else None

    @property
    def text(self) -> str:
        """As one line, RFC 8621 §7 smtpReply: code and enhanced code once, lines joined by a space."""
        prefix = f"{self.enhanced} " if self.enhanced else ""
        rest = [line.removeprefix(prefix) for line in self.lines[1:]]
        return " ".join(each for each in (str(self.code), self.lines[0], *rest) if each)


class Replies:
    """Collects octets; :meth:`next` gives each reply once it is whole."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._lines: list[str] = []
        self._code = 0

    @property
    def waiting(self) -> bool:
        """Whether octets are there that no reply was made of."""
        return bool(self._buffer or self._lines)

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def next(self) -> Reply | None:
        """The next whole reply. Raises ProtocolError for what is no SMTP, or too much of it."""
        while (end := self._buffer.find(b"\n")) >= 0:
            line = bytes(self._buffer[:end]).rstrip(b"\r")
            del self._buffer[: end + 1]
            if self._take(line):
                reply = Reply(self._code, tuple(self._lines))
                self._lines = []
                return reply
        if len(self._buffer) > MAX_LINE:
            raise ProtocolError("a line of the SMTP server is too long")
        return None

    def _take(self, line: bytes) -> bool:
        """Whether this line is the last of its reply."""
        found = _LINE.fullmatch(line) if len(line) <= MAX_LINE else None
        if found is None:
            raise ProtocolError("this is no reply of an SMTP server")
        code = int(found[1])
        if (self._lines and code != self._code) or len(self._lines) >= MAX_LINES:
            raise ProtocolError("an unreadable reply of the SMTP server")
        self._code = code
        text = (found[3] or b"").decode("utf-8", "replace")
        self._lines.append(_CONTROL.sub(" ", text).strip())
        return found[2] != b"-"
