"""One SMTP connection: greeting, EHLO, STARTTLS, AUTH, one message, QUIT (RFC 5321, 3207, 4954, 2920).

Every wait has a deadline. No text of an error holds a credential.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from jmapplug.backends import Answered, Delivery, EnvelopeAddress, SubmissionFeatures
from jmapplug.errors import AuthenticationError, UpstreamError
from jmapplug_imap import smtp_commands as commands
from jmapplug_imap.protocol import transport
from jmapplug_imap.protocol.auth import Credentials, Mechanism, mechanism_for, without_secrets
from jmapplug_imap.protocol.errors import ConnectionBroken, ProtocolError
from jmapplug_imap.protocol.refusals import advice
from jmapplug_imap.settings import STARTTLS, TLS
from jmapplug_imap.smtp_commands import Shape, Stuffing, Unsendable
from jmapplug_imap.smtp_reply import Replies, Reply

NAME = "[127.0.0.1]"
"""How we greet: an address literal is always valid (RFC 5321 §4.1.3), and this one tells nothing of our network."""
PIPELINE = 50
"""Commands sent before their replies are read: few enough that neither side's buffers fill up (RFC 2920 §3.1)."""
LINE = 510
"""Octets of a command before its CRLF, at most (RFC 5321 §4.5.3.1.4)."""
_REFUSED = frozenset({530, 534, 535, 538, 550, 554})


class SmtpTimeouts(msgspec.Struct, frozen=True):
    """Seconds. ``data``: a server may take its time to judge a message (RFC 5321 §4.5.3.2.6)."""

    connect: float = 30.0
    command: float = 120.0
    block: float = 180.0
    data: float = 600.0
    quit: float = 2.0


class SmtpConnection:
    """See the module. ``features`` are those of the last EHLO."""

    def __init__(self, host: str, port: int, security: int, ca_file: str | None, timeouts: SmtpTimeouts) -> None:
        self._host, self._port, self._security, self._ca_file = host, port, security, ca_file
        self._timeouts = timeouts
        self._transport: transport.Transport | None = None
        self._replies = Replies()
        self.features = SubmissionFeatures()

    # --- before the message --------------------------------------------------------------------------------------

    def open(self) -> None:
        """Connect, with TLS as set, and EHLO. Raises UpstreamError."""
        self._transport = transport.connect(self._host, self._port, self._timeouts.connect)
        if self._security == TLS:
            self._transport.start_tls(self._host, self._ca_file, self._timeouts.connect)
        self._expect(self._reply(self._timeouts.command), 220, "greets")
        self._ehlo()
        if self._security == STARTTLS:
            self._start_tls()

    def _ehlo(self) -> None:
        reply = self._command(f"EHLO {NAME}")
        if reply.code in (500, 502, 504):
            # RFC 5321 §3.2: a server of before 1995.
            self._expect(self._command(f"HELO {NAME}"), 250, "HELO")
            self.features = SubmissionFeatures()
            return
        self._expect(reply, 250, "EHLO")
        self.features = commands.features_of(reply)

    def _start_tls(self) -> None:
        if "STARTTLS" not in self.features.extensions:
            raise UpstreamError(f"{self._host} offers no STARTTLS", temporary=False)
        self._expect(self._command("STARTTLS"), 220, "STARTTLS")
        if self._replies.waiting:
            # Octets from before TLS would be read as if they had come through it.
            raise ProtocolError("the SMTP server spoke out of turn before TLS")
        self._wire.start_tls(self._host, self._ca_file, self._timeouts.connect)
        # RFC 3207 §4.2: what was known from before is forgotten.
        self._ehlo()

    def login(self, credentials: Credentials) -> None:
        """AUTH where the server offers a way that we know (RFC 4954). Raises AuthenticationError, UpstreamError."""
        offered = {each.upper() for each in self.features.extensions.get("AUTH", ())}
        if not offered or not credentials.secret:
            return
        mechanism = mechanism_for(credentials, offered)
        if mechanism is None:
            raise UpstreamError(f"{self._host} offers no way to log in that we can use", temporary=False)
        reply = self._authenticate(mechanism, credentials)
        if reply.code == 235:
            # RFC 4954 §4 allows a server to offer more to who is known.
            self._ehlo()
            return
        text = without_secrets(reply.text, credentials)
        if reply.code in _REFUSED:
            words = advice(text, mechanism.oauth)
            raise AuthenticationError(f"the SMTP server refuses the login: {text}" + (f". {words}" if words else ""))
        raise UpstreamError(f"logging in at the SMTP server failed: {text}", temporary=reply.temporary)

    def _authenticate(self, mechanism: Mechanism, credentials: Credentials) -> Reply:
        """The exchange; a challenge past its steps (the error of OAuth, RFC 7628 §3.2.2) is answered once."""
        steps = [_base64(step) for step in mechanism.steps(credentials.username, credentials.secret)]
        line = f"AUTH {mechanism.name}"
        # RFC 4954 §4: an initial response must not make the line longer than any command may be.
        if mechanism.first and len(line) + 1 + len(steps[0]) <= LINE:
            line = f"{line} {steps.pop(0)}"
        reply = self._command(line)
        for step in (*steps, mechanism.failed.decode()):
            if reply.code != 334:
                break
            reply = self._command(step)
        return reply

    # --- the message ---------------------------------------------------------------------------------------------

    def send(
        self,
        mail_from: EnvelopeAddress,
        recipients: Sequence[EnvelopeAddress],
        message: Path,
        shape: Shape,
        on_data: Callable[[], None],
    ) -> Delivery:
        """See SubmissionSource.send. After an exception the connection is of no use."""
        names = [mail_from.email, *(each.email for each in recipients)]
        utf8 = self.features.smtputf8 and (shape.utf8_header or not all(name.isascii() for name in names))
        if shape.utf8_header and not self.features.smtputf8:
            return _refused(recipients, "554 5.6.9 The mail server takes no header fields in UTF-8")
        if self.features.size and shape.size > self.features.size:
            return _refused(recipients, f"552 5.3.4 The mail server takes {self.features.size} octets at most")
        try:
            first = commands.mail_line(mail_from, self.features, shape, utf8)
        except Unsendable as error:
            return _refused(recipients, str(error))
        answers, lines = self._lines(recipients)
        sender, replies = self._envelope(first, lines)
        if not sender.positive:
            return _refused(recipients, sender.text)
        answers |= {email: Answered(reply.text, reply.positive) for email, reply in replies.items()}
        if not any(each.accepted for each in answers.values()):
            return Delivery(answers, stage="rcpt")
        reply = self._command("DATA")
        if reply.code != 354:
            return Delivery(answers, reply.text, stage="data")
        on_data()
        reply = self._content(message)
        return Delivery(answers, reply.text, reply.positive, stage="data")

    def _lines(self, recipients: Sequence[EnvelopeAddress]) -> tuple[dict[str, Answered], dict[str, bytes]]:
        """The RCPT commands; and answers of our own for addresses that this server cannot be given."""
        answers: dict[str, Answered] = {}
        lines: dict[str, bytes] = {}
        for each in recipients:
            try:
                lines[each.email] = commands.rcpt_line(each, self.features)
            except Unsendable as error:
                answers[each.email] = Answered(str(error), False)
        return answers, lines

    def _envelope(self, first: bytes, lines: dict[str, bytes]) -> tuple[Reply, dict[str, Reply]]:
        """MAIL and RCPT: their replies; one by one where the server has no PIPELINING."""
        together = PIPELINE if "PIPELINING" in self.features.extensions else 1
        todo = [first, *lines.values()]
        replies: list[Reply] = []
        while todo and (not replies or replies[0].positive):
            batch, todo = todo[:together], todo[together:]
            self._wire.send(b"".join(batch), self._timeouts.command)
            replies += [self._reply(self._timeouts.command) for _ in batch]
        return replies[0], dict(zip(lines, replies[1:], strict=False))

    def _content(self, message: Path) -> Reply:
        """The octets and the answer to their end. A failure is *unsure* from the end-of-data line on, not before:

        a message without that line is none (RFC 5321 §4.1.1.4).
        """
        stuffing = Stuffing()
        with message.open("rb") as file:
            while chunk := file.read(commands.CHUNK):
                self._wire.send(stuffing.wire(chunk), self._timeouts.block)
        self._wire.send(stuffing.end(), self._timeouts.block)
        try:
            self._wire.send(b".\r\n", self._timeouts.block)
            return self._reply(self._timeouts.data)
        except UpstreamError as error:
            raise UpstreamError(f"no answer to the message: {error}", code="unsure") from error

    # --- the wire ------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Cut it. Never raises."""
        if self._transport is not None:
            self._transport.close()

    def quit(self) -> None:
        """A polite end, where the server takes part in it. Never raises."""
        try:
            self._wire.send(b"QUIT\r\n", self._timeouts.quit)
            self._reply(self._timeouts.quit)
        except UpstreamError:
            pass
        self.close()

    @property
    def _wire(self) -> transport.Transport:
        if self._transport is None:
            raise ConnectionBroken("the SMTP connection is not open")
        return self._transport

    def _command(self, line: str) -> Reply:
        self._wire.send(line.encode() + b"\r\n", self._timeouts.command)
        return self._reply(self._timeouts.command)

    def _reply(self, timeout: float) -> Reply:
        deadline = time.monotonic() + timeout
        while (reply := self._replies.next()) is None:
            try:
                self._replies.feed(self._wire.receive(deadline - time.monotonic()))
            except TimeoutError as error:
                raise ConnectionBroken("the SMTP server did not answer in time") from error
            if time.monotonic() > deadline:
                raise ConnectionBroken("the SMTP server did not answer in time")
        return reply

    def _expect(self, reply: Reply, code: int, what: str) -> None:
        if reply.code != code:
            text = f"{self._host}: {what}: {reply.text}"
            raise UpstreamError(text, temporary=reply.temporary)


def _refused(recipients: Sequence[EnvelopeAddress], text: str) -> Delivery:
    """The message as a whole was refused before any recipient was named."""
    return Delivery({each.email: Answered(text, False) for each in recipients}, stage="mail")


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
