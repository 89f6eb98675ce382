"""A ManageSieve client (RFC 5804): the responses' grammar without I/O, and one connection that is logged in.

Words: a *line* is one response up to its CRLF, literals included, as a tuple of tokens; an *answer* is lines and, at
their end, one that begins with OK, NO or BYE. Every read has a limit in octets and every command a deadline.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from jmapplug_imap.protocol.auth import Credentials, Mechanism, check_sendable, mechanism_for
from jmapplug_imap.protocol.errors import AuthenticationError, CommandNo, ConnectionBroken, ProtocolError
from jmapplug_imap.protocol.refusals import advice
from jmapplug_imap.protocol.transport import Transport, connect
from jmapplug_imap.settings import STARTTLS, TLS

MAX_SCRIPT = 4 * 1024 * 1024
"""Octets of one literal that are believed."""
MAX_ANSWER = 64 * 1024 * 1024
MAX_PLAIN = 128 * 1024
"""Octets of a line besides its literals."""
MAX_LINES = 4096
MAX_TEXT = 4000
"""Characters kept of what a server says about a script."""
LONGEST_QUOTED = 1024
_PLAIN = re.compile(rb"[ !#-\[\]-~]{0,1024}")

_TOKEN = re.compile(
    rb'[ \t]*(?:"(?P<quoted>(?:[^"\\]|\\.)*+)"(?=[ \t\r\n)])|"(?P<odd>[^\r\n]*)"(?=(?:[ ]ACTIVE)?\r?\n)'
    rb"|\{(?P<size>[0-9]{1,10})\+?\}\r?\n|(?P<paren>[()])"
    rb'|(?P<atom>[^\s"(){}\x00]+)(?=[\s"()])|(?P<end>\r?\n))',
    re.DOTALL,
)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_TRUTH = {b"OK", b"NO", b"BYE"}
_NOT_THE_CREDENTIALS = frozenset({"trylater", "encrypt-needed", "auth-too-weak", "transition-needed"})


class Token(msgspec.Struct, frozen=True):
    """``atom`` tells the word OK from a script of that name."""

    value: bytes
    atom: bool = False


Line = tuple[Token, ...]


def parse_line(buffer: bytes | bytearray, pos: int = 0) -> tuple[Line, int] | None:
    """The first complete line and where it ends; None while it is not complete. Raises ProtocolError."""
    tokens: list[Token] = []
    begun, literals = pos, 0
    while (match := _TOKEN.match(buffer, pos)) is not None:
        pos = match.end()
        if match["end"] is not None:
            return tuple(tokens), pos
        if match["size"] is not None:
            size = int(match["size"])
            if literals + size > MAX_SCRIPT:
                raise ProtocolError("a ManageSieve literal is larger than the limit")
            if len(buffer) < pos + size:
                return None
            tokens.append(Token(bytes(buffer[pos : pos + size])))
            pos += size
            literals += size
        elif match["odd"] is not None:
            # Cyrus lists a name with quotes in it as it is.
            tokens.append(Token(match["odd"]))
        elif match["quoted"] is not None:
            tokens.append(Token(_ESCAPED.sub(rb"\1", match["quoted"])))
        else:
            tokens.append(Token(match["atom"] or match["paren"], True))
    rest = bytes(buffer[pos : pos + 2 * LONGEST_QUOTED]).lstrip(b" \t")
    garbage = b"\n" in rest and not rest.startswith(b'"')
    if garbage or len(buffer) - begun - literals > MAX_PLAIN:
        raise ProtocolError("the server's answer is not ManageSieve")
    return None


class Answer(msgspec.Struct, frozen=True):
    """A completed command. ``code`` in lower case ("quota/maxsize"), "" where there is none."""

    status: str
    code: str
    text: str
    lines: list[Line]


def closing(line: Line) -> tuple[str, str, str] | None:
    """(status, code, text) of the line that ends an answer; None for any other."""
    if not line or not line[0].atom or line[0].value.upper() not in _TRUTH:
        return None
    code, text = b"", b""
    inside = False
    for token in line[1:]:
        if token.atom and token.value in (b"(", b")"):
            inside = token.value == b"("
        elif inside:
            code = code or token.value
        else:
            text = token.value
    shown = _CONTROL.sub("", text.decode("utf-8", "replace"))[:MAX_TEXT].strip()
    return line[0].value.upper().decode(), code.decode("ascii", "replace").lower(), shown


def string(value: str | bytes) -> bytes:
    """A string of a command: quoted where it is plain, else a non-synchronising literal (RFC 5804 §4).

    Cyrus takes no escapes in quoted strings, and falls out of step over them.
    """
    octets = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    return b'"%b"' % octets if _PLAIN.fullmatch(octets) else literal(octets)


def literal(octets: bytes) -> bytes:
    return b"{%d+}\r\n%b" % (len(octets), octets)


class Timeouts(msgspec.Struct, frozen=True):
    """Seconds: ``connect`` for TCP, TLS and greeting each; ``command`` for one command with its whole answer."""

    connect: float = 10
    command: float = 30


class ManageSieve:
    """One connection. ``capabilities``: names in upper case → values, asked again after TLS and after login."""

    def __init__(self, transport: Transport, timeouts: Timeouts) -> None:
        self.capabilities: dict[str, str] = {}
        self.round_trips = 0
        self._transport = transport
        self._timeouts = timeouts
        self._buffer = bytearray()

    # --- commands

    def command(self, *parts: bytes) -> Answer:
        """Run one command. Raises CommandNo (code: what the server gave, "" → None), ConnectionBroken."""
        return self._checked(self.pipeline([parts])[0])

    def pipeline(self, commands: Sequence[Sequence[bytes]]) -> list[Answer]:
        """Commands in one round trip; NO is an Answer here. Raises ConnectionBroken."""
        if self._buffer:
            # An answer that nobody asked for: every further one would be taken for another command's.
            raise ProtocolError("the ManageSieve server is out of step")
        self.round_trips += 1
        self._transport.send(b"".join(b" ".join(parts) + b"\r\n" for parts in commands), self._timeouts.command)
        return [self._answer(self._timeouts.command) for _ in commands]

    def has(self, name: str) -> bool:
        return name in self.capabilities

    def close(self) -> None:
        """Cut it, LOGOUT said without waiting. Never raises."""
        try:
            self._transport.send(b"LOGOUT\r\n", 1.0)
        except ConnectionBroken:
            pass
        self._transport.close()

    # --- the beginning

    def greet(self) -> None:
        """The greeting is a capability response (RFC 5804 §1.7). Raises ConnectionBroken."""
        self._learn(self._checked(self._answer(self._timeouts.connect)))
        if not self.has("SIEVE") and not self.has("IMPLEMENTATION"):
            raise ProtocolError("this is not a ManageSieve server")

    def start_tls(self, host: str, ca_file: str | Path | None) -> None:
        """Raises ConnectionBroken, also where it is not offered: no password goes in clear."""
        if not self.has("STARTTLS"):
            raise ConnectionBroken("the ManageSieve server offers no STARTTLS", temporary=False)
        self.command(b"STARTTLS")
        if self._buffer:
            # What came before TLS and would be read as if it came through it.
            raise ProtocolError("the server said something between STARTTLS and TLS")
        self._transport.start_tls(host, ca_file, self._timeouts.connect)
        # RFC 5804 §2.2: the server sends its capabilities again by itself.
        self._learn(self._checked(self._answer(self._timeouts.connect)))

    @property
    def mechanisms(self) -> frozenset[str]:
        """Names of SASL, in upper case."""
        return frozenset(self.capabilities.get("SASL", "").upper().split())

    def login(self, credentials: Credentials) -> None:
        """AUTHENTICATE (RFC 5804 §2.1). Raises AuthenticationError, CommandNo, ConnectionBroken.

        Nothing of what the server says is repeated: it may be what it was told.
        """
        mechanism = mechanism_for(credentials, self.mechanisms)
        if mechanism is None:
            raise CommandNo("the ManageSieve server offers no way to log in that we can use", temporary=False)
        check_sendable(credentials)
        answer = self._authenticate(mechanism, credentials)
        if answer.status == "BYE":
            raise ConnectionBroken("the ManageSieve server ends the connection instead of logging in")
        if answer.status == "NO":
            if answer.code in _NOT_THE_CREDENTIALS:
                raise CommandNo("the ManageSieve server refuses to log in now", code=answer.code)
            words = advice("", mechanism.oauth)
            raise AuthenticationError("the ManageSieve server refuses the login" + (f". {words}" if words else ""))
        self._learn(self.command(b"CAPABILITY"))

    def _authenticate(self, mechanism: Mechanism, credentials: Credentials) -> Answer:
        """The exchange; a challenge past its steps (the error of OAuth, RFC 7628 §3.2.2) is answered once."""
        steps = [base64.b64encode(step.encode()) for step in mechanism.steps(credentials.username, credentials.secret)]
        parts = [b"AUTHENTICATE", string(mechanism.name)]
        if mechanism.first:
            parts.append(string(steps.pop(0)))
        deadline = time.monotonic() + self._timeouts.command
        said = b" ".join(parts)
        for answer in (*steps, mechanism.failed, None):
            self._transport.send(said + b"\r\n", self._timeouts.command)
            line, _ = self._line(deadline)
            if (end := closing(line)) is not None:
                return Answer(*end, [])
            if answer is not None:
                said = string(answer)
        raise ProtocolError("the ManageSieve server does not come to an end of the login")

    # --- octets

    def _answer(self, seconds: float) -> Answer:
        deadline = time.monotonic() + seconds
        lines: list[Line] = []
        taken = 0
        while True:
            line, size = self._line(deadline)
            taken += size
            if (end := closing(line)) is not None:
                return Answer(*end, lines)
            lines.append(line)
            if len(lines) > MAX_LINES or taken > MAX_ANSWER:
                raise ProtocolError("the ManageSieve server's answer is larger than the limit")

    def _line(self, deadline: float) -> tuple[Line, int]:
        while (found := parse_line(self._buffer)) is None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise ConnectionBroken("the ManageSieve server did not answer in time")
            self._receive(left)
        line, size = found
        del self._buffer[:size]
        return line, size

    def _receive(self, left: float) -> None:
        """More octets, up to the next line break at least (or as many as a line may have)."""
        deadline = time.monotonic() + left
        data = b""
        begun = len(self._buffer)
        while b"\n" not in data and len(self._buffer) - begun < MAX_PLAIN:
            try:
                data = self._transport.receive(deadline - time.monotonic())
            except TimeoutError as error:
                raise ConnectionBroken("the ManageSieve server did not answer in time") from error
            self._buffer += data

    def _checked(self, answer: Answer) -> Answer:
        if answer.status == "BYE":
            raise ConnectionBroken(f"the ManageSieve server says goodbye: {answer.text[:200]}")
        if answer.status == "NO":
            raise CommandNo(answer.text or "refused", code=answer.code or None, temporary=answer.code == "trylater")
        return answer

    def _learn(self, answer: Answer) -> None:
        named = [line for line in answer.lines if line and not line[0].atom]
        self.capabilities = {
            line[0].value.decode("utf-8", "replace").upper(): b" ".join(token.value for token in line[1:]).decode(
                "utf-8", "replace"
            )
            for line in named
        }


def open_connection(
    host: str,
    port: int,
    security: int,
    ca_file: str | Path | None,
    credentials: Callable[[ManageSieve], Credentials],
    timeouts: Timeouts,
) -> ManageSieve:
    """Connect and log in. ``credentials`` is asked when the server has told what it offers.

    Raises AuthenticationError, UpstreamError (not temporary: TLS trust, no STARTTLS).
    """
    transport = connect(host, port, timeouts.connect)
    connection = ManageSieve(transport, timeouts)
    try:
        if security == TLS:
            transport.start_tls(host, ca_file, timeouts.connect)
        connection.greet()
        if security == STARTTLS:
            connection.start_tls(host, ca_file)
        connection.login(credentials(connection))
    except BaseException:
        transport.close()
        raise
    return connection
