"""Sending through SMTP: the account's ``SubmissionSource`` (RFC 6409)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from jmapplug.backends import Delivery, EnvelopeAddress, SubmissionFeatures
from jmapplug.errors import UpstreamError
from jmapplug_imap.connecting import ca_file
from jmapplug_imap.oauth import Tokens
from jmapplug_imap.protocol.auth import Credentials
from jmapplug_imap.settings import ImapSettings
from jmapplug_imap.smtp_commands import shape_of
from jmapplug_imap.smtp_connection import SmtpConnection, SmtpTimeouts

TRY_TIMEOUTS = SmtpTimeouts(connect=10, command=15, quit=1)
"""While a person waits for the answer."""


class SmtpSource:
    """See backends.SubmissionSource. Every call has a connection of its own."""

    def __init__(
        self, settings: ImapSettings, email: str, timeouts: SmtpTimeouts | None = None, tokens: Tokens | None = None
    ) -> None:
        self._settings = settings
        self._username = settings.smtpUsername or settings.username or email
        self._timeouts = timeouts or SmtpTimeouts()
        self._tokens = tokens if settings.smtp_oauth else None
        self._features: SubmissionFeatures | None = None

    def features(self) -> SubmissionFeatures:
        """See SubmissionSource.features."""
        if self._features is None:
            with self._connected():
                pass
        assert self._features is not None
        return self._features

    def send(
        self,
        mail_from: EnvelopeAddress,
        recipients: Sequence[EnvelopeAddress],
        message: Path,
        on_data: Callable[[], None],
    ) -> Delivery:
        """See SubmissionSource.send."""
        try:
            shape = shape_of(message)
        except OSError as error:
            raise UpstreamError(f"the message cannot be read: {error.strerror}", temporary=False) from error
        with self._connected() as connection:
            return connection.send(mail_from, recipients, message, shape, on_data)

    @contextmanager
    def _connected(self) -> Iterator[SmtpConnection]:
        """A connection that is logged in; QUIT behind it, or just cut after an error."""
        connection = self._logged_in()
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        connection.quit()

    def _logged_in(self) -> SmtpConnection:
        if self._tokens is not None:
            return self._tokens.logged_in(
                lambda token: self._opened(lambda: Credentials(self._username, token=token()))
            )
        password = self._settings.smtpPassword or self._settings.password
        return self._opened(lambda: Credentials(self._username, password))

    def _opened(self, credentials: Callable[[], Credentials]) -> SmtpConnection:
        settings = self._settings
        with ca_file(settings.smtpCA or settings.imapCA) as trusted:
            connection = SmtpConnection(
                settings.smtpHost or "", settings.smtpPort, settings.smtp_security, trusted, self._timeouts
            )
            try:
                connection.open()
                connection.login(credentials())
                self._features = connection.features
            except BaseException:
                connection.close()
                raise
        return connection


def trouble(settings: ImapSettings, email: str, tokens: Tokens | None = None) -> str | None:
    """Connect and log in once; what is wrong, in words for the person who sets the account up."""
    try:
        SmtpSource(settings, email, TRY_TIMEOUTS, tokens).features()
    except UpstreamError as error:
        return f"sending does not work: {error}"
    return None
