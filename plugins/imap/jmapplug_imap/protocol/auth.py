"""Logging in (RFC 9051 §6.2.2, RFC 4616, RFC 7628, RFC 4959): a table of mechanisms, none of them shows a secret."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

import msgspec

from jmapplug.errors import AuthenticationError, UpstreamError
from jmapplug_imap.protocol.commands import Astring, Command, Part
from jmapplug_imap.protocol.errors import CommandBad, CommandError, CommandNo, ConnectionBroken
from jmapplug_imap.protocol.refusals import THROTTLED, advice, only_oauth

if TYPE_CHECKING:
    from jmapplug_imap.protocol.connection import Result

__all__ = ["AuthenticationError", "Credentials", "id_parameters", "login"]

# NUL and control-A delimit the fields of PLAIN and OAUTHBEARER; a lone surrogate has no UTF-8.
_UNSENDABLE = re.compile("[\0\x01\ud800-\udfff]")
Answer = Callable[[bytes], bytes]
Converse = Callable[[Command, "Answer | None"], "Result"]


class Credentials(msgspec.Struct, frozen=True):
    """Who logs in. ``token``: an OAuth access token; it goes before ``password``.

    ``mechanism`` forces one of the table ("PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER"). The repr holds no secret.
    """

    username: str
    password: str | None = None
    token: str | None = None
    mechanism: str | None = None

    @property
    def secret(self) -> str:
        return self.token or self.password or ""

    def __repr__(self) -> str:
        return f"Credentials({self.username!r}, …)"


class Mechanism(msgspec.Struct, frozen=True):
    """``steps``: what the client says, in order; ``first``: whether the first step may go as the initial response.

    ``failed``: the answer to a challenge past the steps: the error text of OAuth must be acknowledged, others cancel.
    """

    name: str
    oauth: bool
    steps: Callable[[str, str], list[str]]
    first: bool = True
    failed: bytes = b"*"


MECHANISMS = (
    # RFC 7628 §3.1: the separator is control-A; §3.2.3: a failure is acknowledged with one (base64 "AQ==").
    Mechanism(
        "OAUTHBEARER",
        True,
        lambda user, token: [f"n,a={_saslname(user)},\x01auth=Bearer {token}\x01\x01"],
        failed=b"AQ==",
    ),
    Mechanism("XOAUTH2", True, lambda user, token: [f"user={user}\x01auth=Bearer {token}\x01\x01"], failed=b""),
    Mechanism("PLAIN", False, lambda user, password: [f"\0{user}\0{password}"]),
    Mechanism("LOGIN", False, lambda user, password: [user, password], first=False),
)

OAUTH = frozenset(each.name for each in MECHANISMS if each.oauth)

# RFC 5530: the credentials may well be right.
NOT_THE_CREDENTIALS = frozenset({
    "unavailable", "inuse", "limit", "serverbug", "contactadmin", "privacyrequired", "cannot", "overquota", THROTTLED,
})  # fmt: skip
_CREDENTIALS = frozenset({"authenticationfailed", "authorizationfailed", "expired"})


def login(converse: Converse, credentials: Credentials, capabilities: frozenset[str]) -> Result:
    """Authenticate. ``converse`` runs one command and answers challenges.

    Raises AuthenticationError where the server refuses the credentials, CommandError where it refuses for another
    reason or offers no way, ConnectionBroken.
    """
    oauth, secret = credentials.token is not None, credentials.secret
    check_sendable(credentials)
    offered = [each for each in MECHANISMS if _fits(each, oauth, credentials.mechanism, capabilities)]
    attempts: list[Callable[[], Result]] = [
        lambda each=each: _authenticate(converse, each, credentials.username, secret, capabilities)  # type: ignore[misc]
        for each in offered
    ]
    # RFC 9051 §6.2.3: LOGIN is for servers without a mechanism in common, and not where it says LOGINDISABLED.
    if not oauth and "LOGINDISABLED" not in capabilities and credentials.mechanism is None:
        attempts.append(lambda: converse(["LOGIN", Astring(credentials.username), Astring(secret, secret=True)], None))
    if not attempts:
        if not oauth and (words := only_oauth(capabilities)) is not None:
            raise AuthenticationError(f"the server takes no passwords. {words}")
        raise CommandNo("the server offers no way to log in that we can use", code="privacyrequired", temporary=False)
    return _first_that_is_understood(attempts, _hidden(credentials.username, secret), oauth)


def check_sendable(credentials: Credentials) -> None:
    """Raises AuthenticationError for a user name or a secret that no log-in can carry."""
    if _UNSENDABLE.search(credentials.username + credentials.secret):
        raise AuthenticationError("a user name or password with a character that no login can carry")


def mechanism_for(credentials: Credentials, offered: Collection[str]) -> Mechanism | None:
    """The first of the table that fits, for a protocol whose only way to log in is SASL. ``offered``: in upper case."""
    oauth = credentials.token is not None
    return next((each for each in MECHANISMS if each.oauth is oauth and each.name in offered), None)


def _fits(mechanism: Mechanism, oauth: bool, forced: str | None, capabilities: frozenset[str]) -> bool:
    if mechanism.oauth is not oauth or (forced is not None and forced.upper() != mechanism.name):
        return False
    return forced is not None or f"AUTH={mechanism.name}" in capabilities


def _first_that_is_understood(attempts: Sequence[Callable[[], Result]], hidden: Sequence[str], oauth: bool) -> Result:
    """Try the next way only after BAD or [CANNOT]: a second guess at refused credentials may lock the account."""
    refusal: CommandError | None = None
    for attempt in attempts:
        try:
            return attempt()
        except CommandError as error:
            refusal = error
            if not (isinstance(error, CommandBad) or error.code == "cannot"):
                break
        except ConnectionBroken as error:
            text = _scrub(str(error), hidden)
            if error.code in _CREDENTIALS:
                raise _refused(text, oauth) from None
            raise type(error)(text, code=error.code, temporary=error.temporary) from None
    if refusal is None:
        raise UpstreamError("no way to log in was tried")
    text = _scrub(str(refusal), hidden)
    if isinstance(refusal, CommandNo) and refusal.code not in NOT_THE_CREDENTIALS:
        raise _refused(text, oauth) from None
    raise type(refusal)(text, code=refusal.code, temporary=refusal.temporary) from None


def _refused(text: str, oauth: bool) -> AuthenticationError:
    words = advice(text, oauth)
    return AuthenticationError(f"the server refuses the login: {text}" + (f". {words}" if words else ""))


def _authenticate(
    converse: Converse, mechanism: Mechanism, username: str, secret: str, capabilities: frozenset[str]
) -> Result:
    steps = [base64.b64encode(step.encode()) for step in mechanism.steps(username, secret)]
    parts: list[Part] = ["AUTHENTICATE", mechanism.name]
    if mechanism.first and ("SASL-IR" in capabilities or "IMAP4REV2" in capabilities):
        parts.append(steps.pop(0))
    remaining = iter(steps)
    return converse(parts, lambda challenge: next(remaining, mechanism.failed))


def _saslname(user: str) -> str:
    # RFC 5801 §4: "," and "=" have their own spelling in a GS2 header.
    return user.replace("=", "=3D").replace(",", "=2C")


def _hidden(username: str, secret: str) -> list[str]:
    """The forms of a secret that a server may echo."""
    forms = [secret, *(step for mechanism in MECHANISMS for step in mechanism.steps(username, secret)[-1:])]
    encoded = [base64.b64encode(form.encode()).decode() for form in forms]
    return sorted({form for form in (*forms, *encoded) if form}, key=len, reverse=True)


def without_secrets(text: str, credentials: Credentials) -> str:
    """A server's text that may echo what it was logged in with."""
    return _scrub(text, _hidden(credentials.username, credentials.secret))


def _scrub(text: str, hidden: Sequence[str]) -> str:
    for form in hidden:
        text = text.replace(form, "…")
    return text


def id_parameters(fields: dict[str, str]) -> Part:
    """The list of an ID command (RFC 2971 §3.3: at most 30 fields, names to 30, values to 1024 octets)."""
    flat: list[Part] = []
    for name, value in list(fields.items())[:30]:
        flat += [_quoted(name[:30]), _quoted(value.encode("ascii", "replace").decode()[:1024])]
    return flat or "NIL"


def _quoted(text: str) -> str:
    """ID wants strings, not atoms."""
    plain = "".join(letter for letter in text if " " <= letter <= "~")
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'
