"""One IMAP connection: open, log in, command, pipeline, fetch, idle (RFC 9051, RFC 3501).

Used by one greenlet at a time; only :meth:`Connection.done` and :meth:`Connection.abort` may be called from another.
States: new → open (greeting, TLS, capabilities) → authenticated → selected; *broken* from any of them and for good:
after a cut, a BYE, a deadline, nonsense, or an exception in the middle of an answer, every call raises
:class:`ConnectionBroken`. A command that the server refuses (``CommandNo``, ``CommandBad``) leaves it usable.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from jmapplug_imap.protocol import auth
from jmapplug_imap.protocol.channel import Channel, Timeouts
from jmapplug_imap.protocol.commands import Command, Mailbox, Part
from jmapplug_imap.protocol.dialogue import Pending, Result
from jmapplug_imap.protocol.errors import CommandError, ConnectionBroken, ProtocolError
from jmapplug_imap.protocol.fetching import Fetching
from jmapplug_imap.protocol.idling import Idling
from jmapplug_imap.protocol.lexer import Limits
from jmapplug_imap.protocol.responses import Capability, Code, Enabled, ServerId, Status
from jmapplug_imap.protocol.selecting import Selected, selected_from
from jmapplug_imap.protocol.transport import Transport, connect
from jmapplug_imap.protocol.values import text

__all__ = ["PLAIN", "STARTTLS", "TLS", "Connection", "Pending", "Result"]

PLAIN, TLS, STARTTLS = 1, 2, 3
"""The SSL numbers of the management API; 0 is plain too."""


class Connection(Idling, Fetching):
    """See the module. ``ssl``: 0/1 plain, 2 TLS, 3 STARTTLS; ``ca_file`` replaces the system's roots of trust."""

    def __init__(
        self,
        host: str,
        port: int,
        ssl: int = TLS,
        ca_file: str | Path | None = None,
        timeouts: Timeouts | None = None,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(timeouts or Timeouts(), limits or Limits())
        self.host, self.port, self.ssl, self.ca_file = host, port, ssl, ca_file
        self.server_id: dict[str, str] = {}
        """The server's ID answer (lower-case names), {} before :meth:`setup` or where it gives none."""
        self.read_only = False
        self.opened_at = time.monotonic()
        self.viewed_at = 0.0
        """time.monotonic() at which the view of the selected mailbox was last known to be that of now."""
        self.authenticated = False
        self.compressed = False

    # --- life

    def open(self) -> Connection:
        """Connect, TLS or STARTTLS, greeting, capabilities. Raises ConnectionBroken (not temporary: TLS trust)."""
        with self._exclusive(unopened=True):
            transport = connect(self.host, self.port, self.timeouts.connect)
            self._channel = Channel(transport, self.limits, self.timeouts.read)
            if self.ssl == TLS:
                transport.start_tls(self.host, self.ca_file, self.timeouts.connect)
            self._greeting()
            if self.ssl == STARTTLS:
                self._start_tls(transport)
            if not self.capabilities:
                self._ask_capabilities()
        return self

    def login(self, credentials: auth.Credentials) -> None:
        """Authenticate with the best mechanism both sides know, then know the capabilities anew.

        Raises AuthenticationError for refused credentials, CommandError for a temporary refusal, ConnectionBroken.
        """
        with self._exclusive():
            if not self.authenticated:
                result = auth.login(self._converse, credentials, self.capabilities)
                self.authenticated, self.capabilities = True, frozenset()
                self.alerts = [auth.without_secrets(text, credentials) for text in self.alerts]
                self._learn(result)
            # RFC 9051 §6.2: capabilities may change with authentication.
            if not self.capabilities:
                self._ask_capabilities()

    def setup(
        self,
        *,
        identify: dict[str, str] | None = None,
        enable: Iterable[str] = ("CONDSTORE", "QRESYNC", "UTF8=ACCEPT"),
        compress: bool = False,
    ) -> None:
        """After login, in one round trip: ID, ENABLE of what the server has, COMPRESS=DEFLATE if wanted and offered."""
        wanted = [name for name in enable if self.has(name)]
        commands: list[list[Part]] = []
        if identify is not None and self.has("ID"):
            commands.append(["ID", auth.id_parameters(identify)])
        # RFC 5161: ENABLE is itself a capability; IMAP4rev2 includes it.
        if wanted and (self.has("ENABLE") or self.has("IMAP4REV2")):
            commands.append(["ENABLE", *wanted])
        squeeze = compress and self.has("COMPRESS=DEFLATE") and not self.compressed
        if squeeze:
            commands.append(["COMPRESS", "DEFLATE"])
        if not commands:
            return
        outcomes = self.pipeline(commands)
        for outcome in outcomes:
            if isinstance(outcome, Result):
                self._learn(outcome)
        if squeeze and isinstance(outcomes[-1], Result):
            with self._exclusive():
                self._open_channel().start_deflate()
            self.compressed = True

    def close(self) -> None:
        """Say LOGOUT without waiting for the answer, and close. Never raises; may be called twice."""
        channel = self._channel
        if channel is not None and not self._broken and not self._busy:
            try:
                channel.send(b"bye LOGOUT\r\n", 1.0)
            except (ConnectionBroken, OSError):
                pass
        self.abort()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- commands

    def command(self, *parts: Part, timeout: float | None = None) -> Result:
        """Run one command: ``command("STATUS", Mailbox(key), ["MESSAGES", "UIDNEXT"])``; see ``commands`` for parts.

        ``timeout`` bounds the whole command in seconds (default ``timeouts.command``).
        Raises CommandNo, CommandBad (with the code), ConnectionBroken, ValueError for a raw part with a line break.
        """
        with self._exclusive():
            return self._ended(self._finish(self._send([parts], self._deadline(timeout))[0], self._deadline(timeout)))

    def pipeline(
        self, commands: Sequence[Command], *, timeout: float | None = None, alike: bool = False
    ) -> list[Result | CommandError]:
        """Several commands in one write; a refused one stands as its error in the list. Raises ConnectionBroken.

        For commands that do not depend on each other. Untagged responses belong to the first unfinished command.
        ``alike``: many FETCH rows are to be expected.
        """
        with self._exclusive(), self._rows_alike(alike):
            deadline = self._deadline(timeout)
            return [self._outcome(self._finish(pending, deadline)) for pending in self._send(commands, deadline)]

    def guarded(
        self,
        questions: Sequence[Command],
        last: Command,
        learn: Callable[[list[Result | CommandError]], None],
        *,
        timeout: float | None = None,
        alike: bool = False,
    ) -> Result:
        """One write; but the end of ``last`` is kept back until the questions are answered and ``learn`` has been told.

        So where this raises ConnectionBroken and ``learn`` was not called, ``last`` was certainly not carried out.
        ``alike`` as in :meth:`pipeline`. Raises as :meth:`command`.
        """
        with self._exclusive(), self._rows_alike(alike):
            deadline = self._deadline(timeout)

            def held(asked: list[Pending]) -> None:
                learn([self._outcome(pending) for pending in asked])

            sent = self._send([*questions, last], deadline, held)
            return self._ended(self._finish(sent[-1], deadline))

    def noop(self) -> Result:
        result = self.command("NOOP")
        self.viewed_at = time.monotonic()
        return result

    def select(
        self,
        key: bytes,
        *,
        read_only: bool = False,
        condstore: bool = False,
        qresync: tuple[int, int] | tuple[int, int, str] | None = None,
    ) -> Selected:
        """SELECT or EXAMINE. ``qresync`` = (uidvalidity, modseq[, known UID set]) after ENABLE QRESYNC (RFC 7162).

        The answer's ``vanished`` and ``rows`` are what QRESYNC told. After a refusal no mailbox is selected.
        """
        return self.select_asking(key, (), read_only=read_only, condstore=condstore, qresync=qresync)[0]

    def select_asking(
        self,
        key: bytes,
        questions: Sequence[Command],
        *,
        read_only: bool = False,
        condstore: bool = False,
        qresync: tuple[int, int] | tuple[int, int, str] | None = None,
        alike: bool = False,
    ) -> tuple[Selected, list[Result | CommandError]]:
        """:meth:`select`, and in the same write questions that do no harm in another mailbox; as :meth:`pipeline`."""
        extra: list[Part] = []
        if qresync is not None:
            extra += ["QRESYNC", [str(value) for value in qresync]]
        elif condstore:
            extra.append("CONDSTORE")
        self.selected = self.uidvalidity = self._exists = None
        command: Command = ["EXAMINE" if read_only else "SELECT", Mailbox(key), *([extra] if extra else [])]
        with self._rows_alike(qresync is not None, lenient=True):
            result, *answers = self.pipeline([command, *questions], alike=alike)
        if isinstance(result, CommandError):
            raise result
        self.selected, self.viewed_at = key, time.monotonic()
        selected = selected_from(key, result.untagged, result.code, read_only)
        self.read_only, self._exists = selected.read_only, selected.exists
        self.uidvalidity = selected.uidvalidity
        return selected, answers

    def unselect(self) -> None:
        """Leave the mailbox without expunging (RFC 3691); does nothing where the server has no UNSELECT."""
        if self.selected is not None and (self.has("UNSELECT") or self.has("IMAP4REV2")):
            self.command("UNSELECT")
            self.selected = self.uidvalidity = None

    # --- the greeting and TLS

    def _greeting(self) -> None:
        response = self._receive(time.monotonic() + self.timeouts.connect)
        if type(response) is not Status or response.tag or response.kind not in ("OK", "PREAUTH"):
            raise ProtocolError("no IMAP greeting")
        self.authenticated = response.kind == "PREAUTH"
        self._learn_code(response.code)

    def _start_tls(self, transport: Transport) -> None:
        # RFC 9051 §11.1: after PREAUTH there is no STARTTLS, and no way to trust what was said.
        if self.authenticated:
            raise ConnectionBroken("the server skips STARTTLS by PREAUTH", temporary=False)
        try:
            self._ended(self._finish(self._send([["STARTTLS"]], self._deadline(None))[0], self._deadline(None)))
        except CommandError as error:
            raise ConnectionBroken("the server refuses STARTTLS", temporary=False) from error
        # RFC 9051 §6.2.1: nothing said before TLS counts, neither octets already received nor capabilities.
        self._open_channel().lexer.take_rest()
        self.capabilities, self.alerts = frozenset(), []
        transport.start_tls(self.host, self.ca_file, self.timeouts.connect)

    def _ask_capabilities(self) -> None:
        self._learn(self._converse(["CAPABILITY"], None))

    def _learn(self, result: Result) -> None:
        self._learn_code(result.code)
        for response in result.untagged:
            if type(response) is Capability:
                self.capabilities = response.names
            elif type(response) is Enabled:
                self.enabled |= response.names
            elif type(response) is ServerId:
                self.server_id = response.fields

    def _learn_code(self, code: Code | None) -> None:
        if code is not None and code.name == "CAPABILITY":
            self.capabilities = frozenset(text(value).upper() for value in code.values)
