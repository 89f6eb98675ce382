"""Access tokens for an account that holds a refresh token (RFC 6749 §6, RFC 6750): got when one is needed, and kept.

One request to the provider at a time, none while a failure's pause lasts, and no text of an error holds a secret.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar
from urllib.parse import urlencode, urlsplit

import gevent
import msgspec
from gevent.lock import BoundedSemaphore

from jmapplug.errors import AuthenticationError, JmapplugError, UpstreamError
from jmapplug_imap.backoff import Backoff
from jmapplug_imap.protocol import transport
from jmapplug_imap.protocol.refusals import UNAVAILABLE
from jmapplug_imap.settings import ImapSettings

log = logging.getLogger("jmapplug.imap")

T = TypeVar("T")
STEP: Final = 10.0
"""Seconds for the connection, and between two octets of the answer."""
DEADLINE: Final = 20.0
"""Seconds for a whole request."""
MAX_ANSWER: Final = 64 * 1024
MARGIN: Final = 60.0
"""Seconds before its end from which on a token is not used any more."""
USUAL_LIFE: Final = 3600.0
"""Where the answer names none (RFC 6749 §5.1: it should)."""
LONGEST_LIFE: Final = 86_400.0

_SIGN_IN: Final = (
    "the provider does not take the account's refresh token ({}): sign in at the provider once more, and store the new "
    "token with PATCH (oauthRefreshToken)"
)
_CLIENT: Final = (
    "the provider refuses the OAuth client ({}): check oauthClientId, oauthClientSecret, oauthScope and oauthTokenUrl"
)
# RFC 6749 §5.2, OpenID Connect Core §3.1.2.6: what only a person can mend.
_WORDS: Final = {
    **dict.fromkeys(("invalid_grant", "interaction_required", "consent_required", "login_required"), _SIGN_IN),
    **dict.fromkeys(
        ("invalid_client", "unauthorized_client", "invalid_scope", "invalid_request", "unsupported_grant_type"), _CLIENT
    ),
}
_LATER: Final = frozenset({"temporarily_unavailable", "server_error", "slow_down"})


class Grant(msgspec.Struct, frozen=True):
    """RFC 6749 §5.1 and §5.2. ``expires_in``: seconds."""

    access_token: str = ""
    expires_in: float | None = None
    refresh_token: str = ""
    error: str = ""

    def __repr__(self) -> str:
        return "Grant(…)"


class Access(NamedTuple):
    """An access token; ``fresh``: got for this very log-in."""

    token: str
    fresh: bool


class Tokens:
    """One account's access token, for all its connections. Safe for many greenlets.

    ``renewed`` is told of a refresh token that replaces the one before (RFC 6749 §6), until it takes it; it may raise
    JmapplugError.
    """

    def __init__(
        self,
        settings: ImapSettings,
        renewed: Callable[[str], None] = lambda token: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.refresh_token = settings.oauthRefreshToken or ""
        """The newest one."""
        self._settings, self._renewed, self._clock = settings, renewed, clock
        self._kept = self.refresh_token
        self._token, self._until = "", 0.0
        self._backoff = Backoff(clock)
        self._turn = BoundedSemaphore()

    def logged_in(self, log_in: Callable[[Callable[[], str]], T]) -> T:
        """``log_in(token)``; ``token()`` gives the access token. Where one from before is refused, a new one is got and

        ``log_in`` is called once more. Raises what it raises, and as :meth:`_access`.
        """
        used: list[Access] = []

        def token() -> str:
            used.append(self._access())
            return used[-1].token

        try:
            return log_in(token)
        except AuthenticationError:
            if not used or used[-1].fresh:
                raise
            self._forget(used[-1].token)
        return log_in(token)

    def _forget(self, token: str) -> None:
        if token == self._token:
            self._token = ""

    def _access(self) -> Access:
        """Raises AuthenticationError where a person has to do something, UpstreamError where the provider is away."""
        with self._turn:
            self._keep()
            if self._token and self._clock() < self._until:
                return Access(self._token, False)
            self._backoff.check()
            try:
                granted = refreshed(self._settings, self.refresh_token)
            except UpstreamError as error:
                self._backoff.failed(error)
                raise
            self._backoff.succeeded()
            life = USUAL_LIFE if granted.expires_in is None else min(granted.expires_in, LONGEST_LIFE)
            self._token, self._until = granted.access_token, self._clock() + life - MARGIN
            self.refresh_token = granted.refresh_token or self.refresh_token
            self._keep()
            return Access(self._token, True)

    def _keep(self) -> None:
        """Have a new refresh token stored. What fails is tried again with the next log-in."""
        if self.refresh_token == self._kept:
            return
        try:
            self._renewed(self.refresh_token)
            self._kept = self.refresh_token
        except JmapplugError as error:
            log.warning("a renewed OAuth refresh token is not stored yet: %s", error)


def tokens_of(settings: ImapSettings, renewed: Callable[[str], None] = lambda token: None) -> Tokens | None:
    """For an account that logs in with OAuth; ``renewed`` as in :class:`Tokens`."""
    return Tokens(settings, renewed) if settings.oauthRefreshToken else None


def refreshed(settings: ImapSettings, refresh_token: str) -> Grant:
    """One request to the token endpoint. Raises AuthenticationError, UpstreamError."""
    if not settings.oauthTokenUrl or not settings.oauthClientId:
        raise AuthenticationError("oauthTokenUrl and oauthClientId are needed with oauthRefreshToken")
    form = {
        "grant_type": "refresh_token",
        "refresh_token": refresh_token,
        "client_id": settings.oauthClientId,
        # RFC 6749 §2.3.1: in the body, as the large providers document it.
        "client_secret": settings.oauthClientSecret or "",
        "scope": settings.oauthScope or "",
    }
    body = urlencode({name: value for name, value in form.items() if value})
    status, wait, octets = _post(settings.oauthTokenUrl, body.encode())
    try:
        granted = msgspec.convert(msgspec.json.decode(octets), Grant, strict=False)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        granted = Grant()
    if status == 200 and granted.access_token and not granted.error:
        return granted
    raise _failure(status, wait, granted.error)


def _failure(status: int, wait: str, error: str) -> UpstreamError:
    # Anything else in the answer may repeat what we sent.
    if error in _WORDS:
        return AuthenticationError(_WORDS[error].format(error))
    if status == 429 or status >= 500 or error in _LATER:
        asked = f", retry after {wait} seconds" if wait.isascii() and wait.isdigit() else ""
        return UpstreamError(f"the provider gives no OAuth token now (HTTP {status}{asked})", code=UNAVAILABLE)
    return UpstreamError(f"the answer to the refresh of the OAuth token is none (HTTP {status})", temporary=False)


def _post(url: str, body: bytes) -> tuple[int, str, bytes]:
    """(status, Retry-After, body). No redirect is followed: the secrets are for this address. Raises UpstreamError."""
    import http.client  # only accounts with OAuth need it

    target = urlsplit(url)
    host = target.hostname or ""
    try:
        port = target.port
    except ValueError:
        raise UpstreamError("oauthTokenUrl: no such port", temporary=False) from None
    if target.scheme == "https":
        context = transport.default_context()
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(host, port, timeout=STEP, context=context)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=STEP)
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    limit = gevent.Timeout.start_new(DEADLINE)
    try:
        connection.request("POST", target._replace(scheme="", netloc="", fragment="").geturl() or "/", body, headers)
        answer = connection.getresponse()
        # What is longer is cut short, and so no JSON.
        return answer.status, answer.getheader("Retry-After") or "", answer.read(MAX_ANSWER)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise UpstreamError(f"no OAuth token from {host}: {_reason(error)}") from None
    except gevent.Timeout as over:
        if over is not limit:
            raise
        raise UpstreamError(f"no OAuth token from {host}: no answer in time") from None
    finally:
        limit.close()
        connection.close()


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
