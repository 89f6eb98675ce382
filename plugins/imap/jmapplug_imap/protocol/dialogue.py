"""The engine of a connection: tags, literals that wait, answers matched to commands, the one-user rule."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from jmapplug.errors import AuthenticationError, UpstreamError
from jmapplug_imap.protocol.channel import Channel, Timeouts
from jmapplug_imap.protocol.commands import Command, Upload, Writer
from jmapplug_imap.protocol.discretion import discreet
from jmapplug_imap.protocol.errors import CommandBad, CommandError, CommandNo, ConnectionBroken, ProtocolError
from jmapplug_imap.protocol.lexer import Limits
from jmapplug_imap.protocol.refusals import TEMPORARY_CODES, code_of
from jmapplug_imap.protocol.responses import (
    Capability,
    Code,
    Continuation,
    Enabled,
    Esearch,
    Listed,
    MailboxStatus,
    MyRights,
    Namespaces,
    Other,
    QuotaRoots,
    QuotaUsage,
    Response,
    ServerId,
    Status,
)  # fmt: skip

MAX_ALERTS = 20
FEW = 8
"""Up to so many rows are read one by one: learning their shape would cost as much."""
TOGETHER = 0.001
"""Seconds of silence after which what the server says unasked has been said."""
BLOCK = 64 * 1024
"""Octets of a file that are sent at once."""

Held = Callable[[list["Pending"]], None]

ANSWERS = frozenset({
    Capability, Enabled, Listed, MailboxStatus, MyRights, Namespaces, Other, QuotaRoots, QuotaUsage, ServerId,
})  # fmt: skip
"""What only a command asks for; SEARCH, ESEARCH and FETCH are told by their own rules."""


class Result(msgspec.Struct, frozen=True):
    """A completed command: the tagged OK's text and code, and the untagged responses that came before it."""

    text: str
    code: Code | None
    untagged: list[Response]

    def of(self, kind: type[Any]) -> list[Any]:
        """The untagged responses of one type, in order."""
        return [response for response in self.untagged if type(response) is kind]


class Pending(msgspec.Struct):
    """A command under way: its tag, what came for it so far, and its end where that came early."""

    tag: str
    untagged: list[Response]
    command: Command = ("",)
    status: Status | None = None

    @property
    def verb(self) -> str:
        return str(self.command[0]).upper()


class Dialogue:
    """What every command needs. State and counters are public on :class:`Connection`."""

    def __init__(self, timeouts: Timeouts, limits: Limits) -> None:
        self.timeouts = timeouts
        self.limits = limits
        self.capabilities: frozenset[str] = frozenset()
        """As the server last told, in upper case; asked again after TLS and after login."""
        self.enabled: frozenset[str] = frozenset()
        """Extensions that ENABLE turned on, in upper case."""
        self.selected: bytes | None = None
        """The raw name of the selected mailbox."""
        self.uidvalidity: int | None = None
        """That of the selected mailbox; None where the server did not tell."""
        self.alerts: list[str] = []
        """Texts that the server wants a person to see (RFC 9051 §7.1 ALERT), the last 20."""
        self.on_alert: Callable[[str], None] = lambda text: None
        """Called with each of them as it comes."""
        self.round_trips = 0
        """How often something was sent and waited for; a pipeline counts once, each synchronising literal too."""
        self.last_used = time.monotonic()
        """When a command last ended (time.monotonic)."""
        self._channel: Channel | None = None
        self._broken = False
        self._busy = False
        self._tags = 0
        self._under_way: dict[str, Pending] = {}
        self._fresh: list[Response] = []

    @property
    def broken(self) -> bool:
        return self._broken

    @property
    def hung_up(self) -> bool:
        """Whether the server has ended it, as far as the system knows. No round trip, no wait."""
        return self._channel is not None and self._channel.transport.hung_up

    @property
    def bytes_in(self) -> int:
        """Octets received, as they were on the wire inside TLS (after compression)."""
        return self._channel.transport.bytes_in if self._channel else 0

    @property
    def bytes_out(self) -> int:
        return self._channel.transport.bytes_out if self._channel else 0

    def has(self, name: str) -> bool:
        """Whether the server announces this capability ("QRESYNC", "AUTH=PLAIN"); case does not matter."""
        return name.upper() in self.capabilities

    def abort(self) -> None:
        """Cut the connection at once, from any greenlet: a wait on it ends with ConnectionBroken."""
        self._broken = True
        self.selected = self.uidvalidity = None
        if self._channel is not None:
            self._channel.transport.close()

    def _converse(self, parts: Command, answer: Callable[[bytes], bytes] | None) -> Result:
        """One command in which the server may ask on (AUTHENTICATE): ``answer`` gives the line for each ``+``."""
        deadline = self._deadline(None)
        pending = self._send([parts], deadline)[0]
        while answer is not None and self._go_ahead(pending, deadline):
            challenge = pending.untagged.pop()
            line = answer(challenge.text if type(challenge) is Continuation else b"")
            self.round_trips += 1
            self._open_channel().send(line + b"\r\n", self.timeouts.read)
        return self._ended(self._finish(pending, deadline))

    @contextmanager
    def _rows_alike(self, alike: bool, lenient: bool = False) -> Iterator[None]:
        """Rows of one shape are matched many at once, as soon as one of the first three is a plain one.

        ``lenient``: one that cannot be read at all is an Other named LOST_ROW.
        """
        if not alike:
            yield
            return
        channel = self._open_channel()
        channel.begin_rows(None, lenient)
        try:
            yield
        finally:
            channel.end_rows()

    def _send(self, commands: Sequence[Command], deadline: float, held: Held | None = None) -> list[Pending]:
        """Write commands, together where no literal must wait for the server.

        With ``held`` the last octets of the last command are kept back until all commands before it have ended, and
        ``held`` has been called with them: until then the server cannot have carried out the last one.
        """
        channel = self._open_channel()
        plus = "+" if self.has("LITERAL+") else "-" if self.has("LITERAL-") or self.has("IMAP4REV2") else ""
        writer = Writer(plus=plus, utf8="UTF8=ACCEPT" in self.enabled)
        under_way: list[Pending] = []
        waiting: list[bytes] = []
        written = []
        for command in commands:
            self._tags += 1
            tag = f"a{self._tags}"
            written.append((tag, command, writer.command(tag.encode(), command)))
        self.round_trips += 1
        for tag, command, parts in written:
            pending = Pending(tag, [], command)
            under_way.append(pending)
            self._under_way[tag] = pending
            for index, (octets, wait) in enumerate(parts):
                if held is not None and len(under_way) == len(written) and index + 1 == len(parts):
                    self._flush(channel, waiting)
                    self._finish_before(under_way, pending, deadline)
                    held(under_way[:-1])
                if isinstance(octets, Upload):
                    self._flush(channel, waiting)
                    self._upload(channel, octets)
                else:
                    waiting.append(octets)
                if not wait:
                    continue
                self._flush(channel, waiting)
                self.round_trips += 1
                self._finish_before(under_way, pending, deadline)
                if not self._go_ahead(pending, deadline):
                    break
                pending.untagged.pop()
        self._flush(channel, waiting)
        return under_way

    def _flush(self, channel: Channel, waiting: list[bytes]) -> None:
        if waiting:
            channel.send(b"".join(waiting), self.timeouts.read)
            waiting.clear()

    def _upload(self, channel: Channel, file: Upload) -> None:
        """A file's octets, exactly as many as announced. Raises UpstreamError; what was begun cannot be taken back."""
        left = file.size
        try:
            with open(file.path, "rb") as source:
                while left and (block := source.read(min(BLOCK, left))):
                    channel.send(block, self.timeouts.read)
                    left -= len(block)
        except OSError as error:
            raise UpstreamError("a message to send cannot be read", temporary=False) from error
        if left:
            raise UpstreamError("a message to send is shorter than announced", temporary=False)

    def listen(self, timeout: float) -> list[Response]:
        """What the server says unasked within ``timeout`` seconds: the first response, and what comes along with it.

        [] when it is silent. For a connection on which NOTIFY is set (RFC 5465); texts without a code do not count.
        Raises ConnectionBroken.
        """
        with self._exclusive():
            until = time.monotonic() + timeout
            heard: list[Response] = []
            while len(heard) < self.limits.untagged and (response := self._receive(until, quiet=True)) is not None:
                if type(response) is not Status:
                    heard.append(response)
                elif response.tag:
                    raise ProtocolError("an answer to a command that is not under way")
                elif response.code is not None:
                    heard.append(response)
                if heard:
                    # One change may be told in many responses (Dovecot: STATUS of every folder, at the first one).
                    until = time.monotonic() + TOGETHER
            return heard

    def _finish_before(self, under_way: list[Pending], last: Pending, deadline: float) -> None:
        """The server answers in order: what was pipelined before a synchronising literal ends before its go-ahead."""
        for pending in under_way:
            if pending is not last and pending.status is None:
                self._finish(pending, deadline)

    def _go_ahead(self, pending: Pending, deadline: float) -> bool:
        """Wait for ``+`` (left as the last of ``pending.untagged``); False when the command ended instead."""
        while pending.status is None:
            response = self._take(deadline)
            if type(response) is Continuation:
                pending.untagged.append(response)
                return True
        return False

    def _finish(self, pending: Pending, deadline: float) -> Pending:
        while pending.status is None:
            self._take_rows()
            self._take(deadline)
        return pending

    def _take_rows(self) -> None:
        """Rows of one shape that have arrived already, in one go (``Channel.begin_rows``); else as :meth:`_take`."""
        if rows := self._open_channel().rows():
            self._give(next(iter(self._under_way.values())), rows)

    def _give(self, pending: Pending, responses: Sequence[Response]) -> None:
        pending.untagged.extend(responses)
        if len(pending.untagged) > self.limits.untagged:
            raise ProtocolError("too many responses to one command")

    def _take(self, deadline: float | None) -> Response:
        """Read one response and give it to its command; a tagged end goes to that command's ``status``.

        RFC 9051 §5.5: commands that do not depend on each other may end in any order (Dovecot does it).
        """
        response = self._receive(deadline)
        if response is None:
            raise ConnectionBroken("the server did not answer in time")
        if type(response) is Status and response.tag:
            self._end(response)
        elif type(response) is not Continuation and self._under_way:
            tag = response.tag if type(response) is Esearch else None
            pending = self._under_way.get(tag or "") or next(iter(self._under_way.values()))
            self._give(pending, (response,))
            if len(self._under_way) > 1 and type(response) in ANSWERS:
                self._fresh.append(response)
        return response

    def _end(self, status: Status) -> None:
        first = next(iter(self._under_way.values()), None)
        pending = self._under_way.pop(status.tag, None)
        if first is None or pending is None:
            raise ProtocolError("an answer to a command that is not under way")
        pending.status = status
        fresh, self._fresh = self._fresh, []
        if pending is not first and fresh:
            # Ended before its turn: the answers since the last end are its own.
            mine = {id(response) for response in fresh}
            first.untagged[:] = [response for response in first.untagged if id(response) not in mine]
            pending.untagged.extend(fresh)

    def _ended(self, pending: Pending) -> Result:
        """The result of a finished command, or its error raised."""
        outcome = self._outcome(pending)
        if isinstance(outcome, CommandError):
            raise outcome
        return outcome

    def _outcome(self, pending: Pending) -> Result | CommandError:
        status = pending.status
        if status is None:
            raise ProtocolError("an unfinished command")
        if status.kind == "OK":
            return Result(status.text, status.code, pending.untagged)
        code = code_of(pending.verb, status.code.name if status.code else None, status.text)
        kind = CommandNo if status.kind == "NO" else CommandBad
        text = discreet(status.text, [pending.command], self.selected) or "refused"
        return kind(text, code=code, temporary=code in TEMPORARY_CODES)

    def _receive(self, deadline: float | None, quiet: bool = False) -> Response | None:
        """The next response; None at the deadline when ``quiet`` (IDLE). BYE ends the connection at any time."""
        response = self._open_channel().receive(deadline, quiet)
        if type(response) is Status:
            self._note(response)
        return response

    def _note(self, status: Status) -> None:
        code = status.code.name if status.code else None
        if code == "ALERT":
            text = self._discreet(status.text)
            self.alerts = [*self.alerts, text][-MAX_ALERTS:]
            self.on_alert(text)
        # RFC 7162 §3.2.11: CLOSED comes while another mailbox is being selected.
        if code == "CLOSED":
            self.selected = self.uidvalidity = None
        if status.kind == "BYE" and not status.tag:
            text = self._discreet(status.text)
            raise ConnectionBroken(f"the server says goodbye: {text}", code=code_of("", code, status.text))

    def _discreet(self, text: str) -> str:
        """What is said unasked may be about anything that is under way."""
        return discreet(text, [pending.command for pending in self._under_way.values()], self.selected)

    def _deadline(self, timeout: float | None) -> float:
        return time.monotonic() + (self.timeouts.command if timeout is None else timeout)

    def _open_channel(self) -> Channel:
        if self._channel is None or self._broken:
            raise ConnectionBroken("the connection is not open")
        return self._channel

    @contextmanager
    def _exclusive(self, unopened: bool = False) -> Iterator[None]:
        """One user at a time; whatever leaves an answer half read leaves the connection broken."""
        if not unopened:
            self._open_channel()
        elif self._broken or self._channel is not None:
            raise ConnectionBroken("a connection opens once")
        if self._busy:
            raise RuntimeError("this IMAP connection is in use")
        self._busy = True
        try:
            yield
        except (CommandError, AuthenticationError):
            raise
        except BaseException:
            self.abort()
            raise
        finally:
            self._busy = False
            self.last_used = time.monotonic()
