"""The backend of type "imap": settings in, sessions out."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import ClassVar

import gevent
import msgspec
from gevent.event import Event

from jmapplug.backends import MailSource, QuotaSource, SieveSource, SubmissionSource
from jmapplug.errors import AuthenticationError, SetupError, UpstreamError
from jmapplug.waiting import wait
from jmapplug_imap import discovery, preload, sieve
from jmapplug_imap.connecting import connect
from jmapplug_imap.managesieve import ManageSieve
from jmapplug_imap.oauth import Tokens, tokens_of
from jmapplug_imap.protocol.channel import Timeouts
from jmapplug_imap.settings import PUBLIC, SECRETS, ImapSettings
from jmapplug_imap.source import ImapSource
from jmapplug_imap.submission import SmtpSource, trouble

TRY_TIMEOUTS = Timeouts(connect=10, read=15, command=20)
"""While a person waits for the answer."""
PROBE_PATIENCE, PROBE_ANSWERS = 3.0, 30.0
"""Seconds after the IMAP log-in until a ManageSieve server is reached: most hosts have none, and many drop the packets.
One that was reached gets the latter to answer."""


class ImapSession:
    """One account's open IMAP upstream."""

    def __init__(self, settings: ImapSettings, email: str) -> None:
        self.on_renewed: Callable[[dict[str, str]], None] = lambda news: None
        """See backends.Session: a provider may replace a refresh token each time that it is used."""
        tokens = tokens_of(settings, lambda token: self.on_renewed({"oauthRefreshToken": token}))
        self._mail = ImapSource(settings, email, tokens=tokens)
        self._submission = SmtpSource(settings, email, tokens=tokens) if settings.smtpHost else None
        self._sieve: sieve.Sieve | None = None
        if settings.sieveHost and settings.sievePort:
            self._sieve = sieve.Sieve(lambda: self._connect_sieve(settings, email, tokens))

    @property
    def known(self) -> bool:
        """Whether the server was reached once, so that its capabilities are known."""
        return self._mail.known

    @property
    def held(self) -> UpstreamError | None:
        """See backends.Session: what the IMAP server has asked for."""
        return self._mail.held

    def hold(self, error: UpstreamError, seconds: float) -> None:
        """See backends.Session."""
        self._mail.hold(error, seconds)

    def _connect_sieve(self, settings: ImapSettings, email: str, tokens: Tokens | None) -> ManageSieve:
        # The same credentials: refused there, they are not tried here, too.
        held = self.held
        if isinstance(held, AuthenticationError):
            raise held
        return sieve.connect_sieve(settings, email, tokens=tokens)

    @property
    def mail(self) -> MailSource | None:
        return self._mail

    @property
    def submission(self) -> SubmissionSource | None:
        return self._submission

    @property
    def sieve(self) -> SieveSource | None:
        return self._sieve

    @property
    def quota(self) -> QuotaSource | None:
        """None where the server keeps no quotas, or while it was never reached."""
        return self._mail.quota

    def close(self) -> None:
        self._mail.close()
        if self._sieve is not None:
            self._sieve.close()


class ImapBackend:
    """See backends.Backend."""

    type: ClassVar[str] = "imap"
    label: ClassVar[str] = "IMAP"
    settings: ClassVar[builtins.type[msgspec.Struct]] = ImapSettings
    secrets: ClassVar[frozenset[str]] = SECRETS
    public: ClassVar[tuple[str, ...]] = PUBLIC

    def __init__(self) -> None:
        self._found: list[str] = []
        """What :meth:`validate` has to say besides."""

    def validate(self, settings: ImapSettings, email: str) -> ImapSettings:
        """Fill in user name and server (SRV records where ``imapHost`` is missing), then log in once.

        With OAuth the refresh token is used; where the provider replaces it, the new one is in the answer.
        Raises SetupError (``imapHost``, ``imapCA``, ``password``, ``username``, ``oauth…``) for what the person can
        mend, and UpstreamError where the server is away.
        """
        complete = msgspec.structs.replace(settings, username=settings.username or email)
        if not complete.username:
            raise SetupError("username", "a user name or an e-mail address is needed")
        if not complete.imapHost:
            offer = discovery.find_imap(email or complete.username or "")
            complete = msgspec.structs.replace(
                complete, imapHost=offer.host, imapPort=offer.port, imapSSL=offer.security
            )
        _check_credentials(complete)
        tokens = tokens_of(complete)
        if tokens is None:
            return self._tried(complete, email)
        try:
            complete = self._tried_with(tokens, complete, email)
        except (SetupError, UpstreamError):
            # A refresh token that was good once is used up: the new one must be stored. The worker tells what is wrong.
            if tokens.refresh_token == complete.oauthRefreshToken:
                raise
        return msgspec.structs.replace(complete, oauthRefreshToken=tokens.refresh_token)

    def notes(self, settings: ImapSettings, email: str) -> str | None:
        """See Backend.notes: whether sending works. With OAuth it has been tried: the token is the worker's by now."""
        sending = trouble(settings, email) if settings.smtpHost and not settings.smtp_oauth else None
        return "; ".join([*self._found, *([sending] if sending else [])]) or None

    def check_password(self, settings: ImapSettings, email: str, password: str) -> bool:
        """See Backend.check_password. Raises UpstreamError when the server cannot be asked."""
        # An empty password is an anonymous bind on some servers, and NUL ends it on others (RFC 4616 §2).
        if not password or "\0" in password:
            return False
        try:
            connect(settings, email, password=password, timeouts=TRY_TIMEOUTS).close()
        except AuthenticationError:
            return False
        return True

    @staticmethod
    def preload() -> None:
        """See :func:`jmapplug_imap.preload`."""
        preload()

    def open(self, settings: ImapSettings, email: str) -> ImapSession:
        """See Backend.open."""
        return ImapSession(settings, email)

    def _tried(self, settings: ImapSettings, email: str) -> ImapSettings:
        """Log in at the IMAP server, and meanwhile look for a ManageSieve server where none is named."""
        if not settings.sievePort or settings.sieveHost:
            self._try(settings, email)
            if settings.sievePort:
                sieve.check_named(settings, email)
            return settings
        reached = Event()
        probing = gevent.spawn(sieve.probe, settings, email, on_reached=reached.set)
        try:
            self._try(settings, email)
            wait([probing, reached], PROBE_PATIENCE, count=1)
            if reached.is_set():
                probing.join(PROBE_ANSWERS)
            return probing.value or settings
        finally:
            probing.kill(block=False)

    def _tried_with(self, tokens: Tokens, settings: ImapSettings, email: str) -> ImapSettings:
        """The same with OAuth, and sending. One after the other, and nothing is given up half way: it may be waiting

        for the provider, whose answer holds the only refresh token that is good.
        """
        self._try(settings, email, tokens)
        if settings.smtpHost and settings.smtp_oauth and (words := trouble(settings, email, tokens)):
            self._found.append(words)
        if not settings.sievePort:
            return settings
        if not settings.sieveHost:
            return sieve.probe(settings, email, tokens)
        try:
            sieve.check_named(settings, email, tokens)
        except (SetupError, UpstreamError) as error:
            self._found.append(f"setup failed: {error}")
            raise
        return settings

    def _try(self, settings: ImapSettings, email: str, tokens: Tokens | None = None) -> None:
        try:
            connect(settings, email, tokens=tokens, timeouts=TRY_TIMEOUTS).close()
        except AuthenticationError as error:
            if tokens is not None:
                raise SetupError("oauthRefreshToken", str(error)) from error
            raise SetupError("password", f"the IMAP server refuses this login: {error}") from error
        except UpstreamError as error:
            if error.temporary:
                raise
            field = "imapCA" if "certificate" in str(error) or "CA file" in str(error) else "imapHost"
            raise SetupError(field, str(error)) from error


def _check_credentials(settings: ImapSettings) -> None:
    """Raises SetupError for what is missing to log in with."""
    if not settings.oauthRefreshToken:
        if not settings.password:
            raise SetupError("password", "a password is needed to log in at the IMAP server")
        return
    for name in ("oauthTokenUrl", "oauthClientId"):
        if not getattr(settings, name):
            raise SetupError(name, f"{name} is needed with oauthRefreshToken")
