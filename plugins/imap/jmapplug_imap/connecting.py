"""From settings to a connection that is logged in and set up."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator

from jmapplug import __version__
from jmapplug.errors import UpstreamError
from jmapplug_imap.oauth import Tokens
from jmapplug_imap.protocol.auth import Credentials
from jmapplug_imap.protocol.channel import Timeouts
from jmapplug_imap.protocol.connection import Connection
from jmapplug_imap.settings import ImapSettings

ENABLE = ("CONDSTORE", "QRESYNC", "UTF8=ACCEPT")
IDENTITY = {"name": "jmapplug", "version": __version__}
_LOCAL = ("localhost", "127.", "::1")
_PEM = "-----BEGIN"

Factory = Callable[..., Connection]


def connect(
    settings: ImapSettings,
    email: str,
    *,
    password: str | None = None,
    tokens: Tokens | None = None,
    timeouts: Timeouts | None = None,
    factory: Factory = Connection,
) -> Connection:
    """Connect, log in and enable what the server offers. ``password`` replaces all credentials of the settings.

    ``tokens``: what an account with OAuth logs in with. Raises AuthenticationError, UpstreamError.
    """
    username = settings.username or email
    if tokens is not None and password is None:
        return tokens.logged_in(
            lambda token: _opened(settings, lambda: Credentials(username, token=token()), timeouts, factory)
        )
    secret = settings.password if password is None else password
    return _opened(settings, lambda: Credentials(username, secret or ""), timeouts, factory)


def _opened(
    settings: ImapSettings, credentials: Callable[[], Credentials], timeouts: Timeouts | None, factory: Factory
) -> Connection:
    """``credentials`` is asked when the server has answered: where it is away no token is got."""
    if not settings.imapHost:
        raise UpstreamError("the account has no IMAP host", temporary=False)
    with ca_file(settings.imapCA) as path:
        connection = factory(settings.imapHost, settings.imapPort, settings.imap_security, path, timeouts)
        try:
            connection.open()
            connection.login(credentials())
            # Compression costs both sides more time than a local wire takes (measured: 3 times).
            local = settings.imapHost.lower().startswith(_LOCAL)
            connection.setup(identify=IDENTITY, enable=ENABLE, compress=not local)
        except BaseException:
            connection.close()
            raise
    return connection


@contextlib.contextmanager
def ca_file(text: str | None) -> Iterator[str | None]:
    """``imapCA`` as a file's path: it is one, or a PEM text that gets a file for the moment of connecting."""
    if not text or _PEM not in text:
        yield text or None
        return
    with tempfile.NamedTemporaryFile("w", prefix="ca-", suffix=".pem") as file:
        file.write(text)
        file.flush()
        yield file.name
