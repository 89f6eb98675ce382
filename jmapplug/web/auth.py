"""Who asks: Basic and Bearer through the ``authenticate`` hook, cached for five minutes, purged by the registry.

Order: the Authorization header decides; a plugin (cookies) may answer for a request that has none.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from flask import Request

from jmapplug.errors import JmapplugError, UpstreamError
from jmapplug.hookspecs import AccountInfo
from jmapplug.plugins import Plugins
from jmapplug.settings import Settings
from jmapplug.web import tickets
from jmapplug.web.limits import FailureLimit
from jmapplug.web.request_ids import is_trusted
from jmapplug.workers import context
from jmapplug.workers.client import WorkerClient
from jmapplug.workers.errors import NotFound

CACHE_SECONDS = 300.0
CACHE_SIZE = 10_000
REGISTRY = "__accounts__"


class Unauthorized(JmapplugError):
    """401, with WWW-Authenticate for Basic and Bearer."""


class TooManyFailures(JmapplugError):
    """429: wait ``seconds``."""

    def __init__(self, seconds: float) -> None:
        super().__init__("too many failed log-ins")
        self.seconds = seconds


@dataclass(slots=True)
class Principal:
    """A login: the account logged in with, and every account of its pool (design: one person's accounts).

    ``mark`` is another one whenever the account's password is; ``checked``: when the check began (time.monotonic);
    ``ends``: unix seconds, of a token that expires.
    """

    account_id: str
    login: str
    accounts: dict[str, AccountInfo]
    mark: str = ""
    session_state: str = ""
    checked: float = field(default_factory=time.monotonic)
    ends: float | None = None

    @property
    def expired(self) -> bool:
        """Whether it was checked long ago, or its token has expired since."""
        return self.checked + CACHE_SECONDS < time.monotonic() or _past(self.ends)

    @property
    def username(self) -> str:
        return self.accounts[self.account_id].email

    @property
    def key(self) -> str:
        """What the limits of a login are counted by."""
        return self.account_id + self.login

    @property
    def credential(self) -> str:
        """What was logged in with, as the registry's "standing" names it."""
        return self.mark if self.login == "password" else self.login


@dataclass(slots=True)
class Counters:
    """What /metrics says of the cache."""

    hits: int = 0
    misses: int = 0


class Authenticator:
    """Turns requests into Principals; one per front."""

    def __init__(self, settings: Settings, plugins: Plugins, client: WorkerClient, ticket_key: bytes) -> None:
        self.settings, self.plugins, self.client, self.ticket_key = settings, plugins, client, ticket_key
        self.failures = FailureLimit()
        self.counters = Counters()
        self._cache: OrderedDict[bytes, Principal] = OrderedDict()
        self._purged_at = 0.0
        self._salt = os.urandom(16)
        self._schemes: dict[str, Callable[[Request, str], tuple[str, str]]] = {
            "basic": self._basic,
            "bearer": self._bearer,
        }

    def principal(self, request: Request) -> Principal:
        """The request's Principal. Raises Unauthorized, TooManyFailures."""
        found: Principal | None = self.plugins.manager.hook.authenticate(request=request)
        if found is None:
            raise Unauthorized("credentials are needed")
        context.of_account(found.account_id)
        return found

    def by_header(self, request: Request) -> Principal | None:
        """The Principal of an Authorization header, None without one. Raises Unauthorized, TooManyFailures."""
        header = request.headers.get("Authorization")
        if header is None:
            return None
        key = hashlib.blake2b(header.encode("utf-8", "surrogateescape"), key=self._salt, digest_size=16).digest()
        cached = self._cache.get(key)
        if cached is not None and not cached.expired:
            self.counters.hits += 1
            return cached
        self.counters.misses += 1
        principal = self._fresh(request, header)
        if principal.checked > self._purged_at:
            self._cache[key] = principal
        if len(self._cache) > CACHE_SIZE:
            self._cache.popitem(last=False)
        return principal

    def purge(self, *_: Any) -> None:
        """Forget every login, also those under way: the registry said that accounts, pools or tokens changed."""
        self._purged_at = time.monotonic()
        self._cache.clear()

    @property
    def cached(self) -> int:
        return len(self._cache)

    def by_ticket(self, ticket: str, purpose: str = tickets.EVENTS) -> Principal:
        """The Principal of a ticket that was issued for this purpose (it is good for no other)."""
        found = tickets.check(self.ticket_key, ticket, purpose=purpose)
        if found is None:
            raise Unauthorized("the ticket is not valid")
        account_id, credential = found
        context.of_account(account_id)
        return self.again(account_id, credential.partition("~")[0], credential)

    def again(self, account_id: str, login: str, credential: str) -> Principal:
        """The Principal of credentials that were checked before and are held no more, as it is now.

        Raises Unauthorized where the token is revoked or expired, the account gone, or its password another one.
        """
        begun = time.monotonic()
        if login != "password":
            known = self._call("token_list", {"accountid": account_id})["tokens"]
            if not any(token["id"] == login and not _past(token["expires"]) for token in known):
                raise Unauthorized("the token is revoked")
        found = self.load(account_id, login, begun)
        if found.credential != credential:
            raise Unauthorized("the password is another one")
        return found

    def load(self, account_id: str, login: str, checked: float | None = None) -> Principal:
        """The Principal of an account, its pool read from the registry. Raises Unauthorized when it is gone."""
        begun = time.monotonic() if checked is None else checked
        pool = self._call("pool", {"accountid": account_id, "login": login})
        accounts = {row["id"]: msgspec.convert(row, AccountInfo) for row in pool["accounts"]}
        if account_id not in accounts:
            raise Unauthorized("the account is gone")
        return Principal(account_id, login, accounts, str(pool.get("mark") or ""), checked=begun, ends=pool.get("ends"))

    def _fresh(self, request: Request, header: str) -> Principal:
        scheme, _, credentials = header.partition(" ")
        check = self._schemes.get(scheme.lower())
        if check is None:
            raise Unauthorized("Basic or Bearer credentials are needed")
        begun = time.monotonic()
        account_id, login = check(request, credentials.strip())
        return self.load(account_id, login, begun)

    def _call(self, command: str, header: dict[str, Any]) -> dict[str, Any]:
        try:
            answer, _ = self.client.call(REGISTRY, command, header, retry=True)
        except NotFound:
            raise Unauthorized("unknown credentials") from None
        return answer

    def _bearer(self, request: Request, token: str) -> tuple[str, str]:
        address = "address:" + self.address(request)
        self._hold_back(address)
        try:
            found = self._call("token_login", {"token": token})
        except Unauthorized:
            self.failures.failed(address)
            raise
        return found["accountid"], found["id"]

    def _basic(self, request: Request, credentials: str) -> tuple[str, str]:
        name, password = _split_basic(credentials)
        address, user = "address:" + self.address(request), "user:" + name.lower()
        self._hold_back(address, user)
        try:
            found = self._login(name, password)
        except Unauthorized:
            self.failures.failed(address, user)
            raise
        self.failures.succeeded(user)
        return found

    def _login(self, name: str, password: str) -> tuple[str, str]:
        answer = self._call("login", {"name": name, "password": password})
        if account_id := answer.get("accountid"):
            return account_id, answer.get("login") or "password"
        for candidate in answer.get("candidates") or ():
            account = self._call("open", {"accountid": candidate})
            if password and self._upstream_says(account, password):
                # Several may be good at once, one for each app. The stored one gives way when it is refused.
                stored = account["settings"].get("password")
                if not stored or self._upstream_says(account, stored) is False:
                    self._call("heal", {"accountid": candidate, "password": password})
                return candidate, "password"
        raise Unauthorized("unknown user or wrong password")

    def _upstream_says(self, account: dict[str, Any], password: str) -> bool | None:
        """Whether the upstream takes a password, None when it cannot be asked. Never in the registry's queue."""
        backend = self.plugins.backends.get(account["type"])
        if backend is None:
            return None
        settings = msgspec.convert(account["settings"], backend.settings)
        try:
            return backend().check_password(settings, account["email"], password)
        except UpstreamError:
            return None

    def _hold_back(self, *keys: str) -> None:
        if seconds := self.failures.wait(*keys):
            raise TooManyFailures(seconds)

    def address(self, request: Request) -> str:
        """The client's address: X-Forwarded-For is believed from trusted proxies only, from the right."""
        address = request.remote_addr or ""
        for hop in reversed(request.headers.get("X-Forwarded-For", "").split(",")):
            if not self.trusted(address) or not hop.strip():
                break
            address = hop.strip()
        return address

    def trusted(self, address: str) -> bool:
        return is_trusted(address, self.settings.trusted_proxies)


def _past(expires: float | None) -> bool:
    return expires is not None and expires < time.time()


def _split_basic(credentials: str) -> tuple[str, str]:
    """RFC 7617: base64 of name:password in UTF-8."""
    try:
        text = base64.b64decode(credentials, validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        raise Unauthorized("the credentials are malformed") from None
    name, colon, password = text.partition(":")
    if not colon or not name or "\0" in text:
        raise Unauthorized("the credentials are malformed")
    return name, password
