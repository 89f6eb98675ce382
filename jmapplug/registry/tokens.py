"""Tokens: 256 random bits, shown once, stored as SHA-256. A fast hash is right here: there is nothing to guess."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from typing import Any

from jmapplug.errors import SetupError
from jmapplug.registry.database import Database
from jmapplug.registry.store import Records, Row
from jmapplug.workers.errors import NotFound

PREFIX = "jp_"
MAX_LENGTH = 200
MAX_TOKEN_NAME = 200

Header = dict[str, Any]


def make() -> str:
    return PREFIX + secrets.token_urlsafe(32)


def digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def possible(text: str) -> bool:
    """Whether ``text`` can be a token at all."""
    return text.startswith(PREFIX) and len(text) <= MAX_LENGTH


class Tokens:
    """The commands on tokens. ``on_revoked`` is told the id of each token that is good no more, and its pool."""

    def __init__(self, database: Database, on_revoked: Callable[[str, str], None]) -> None:
        self._db = database
        self._revoked = on_revoked

    def create(self, header: Header) -> Header:
        """``{accountid, name, expires? (unix seconds)}`` → ``{"token", "id"}``; the token is shown this once."""
        accountid = str(header.get("accountid"))
        name, expires = header.get("name"), header.get("expires")
        if not isinstance(name, str) or not 0 < len(name) <= MAX_TOKEN_NAME or not name.isprintable():
            raise SetupError("name", f"name: 1 to {MAX_TOKEN_NAME} printable characters")
        if expires is not None and (
            isinstance(expires, bool) or not isinstance(expires, int) or expires <= time.time()
        ):
            raise SetupError("expires", "expires: a time in the future, in unix seconds")
        token, ident = make(), secrets.token_hex(8)
        values = {
            "id": ident,
            "accountid": accountid,
            "name": name,
            "hash": digest(token),
            "created": int(time.time()),
            "expires": expires,
        }

        def work(records: Records) -> None:
            if records.account(accountid) is None:
                raise NotFound("not found")
            records.add_token(values)

        self._db.run(work)
        return {"token": token, "id": ident}

    def listing(self, header: Header) -> Header:
        """``{accountid}`` → ``{"tokens": [{id, accountid, name, created, expires}]}`` of all accounts in its pool."""

        def work(records: Records) -> list[Row]:
            own = records.account(str(header.get("accountid")))
            if own is None:
                raise NotFound("not found")
            return [token for row in records.pool(own["poolid"]) for token in records.tokens(row["accountid"])]

        shown = ("id", "accountid", "name", "created", "expires")
        return {"tokens": [{name: row[name] for name in shown} for row in self._db.run(work)]}

    def revoke(self, header: Header) -> Header:
        """``{id}`` → ``{}``; every subscribed front hears of it. Raises NotFound."""
        ident = str(header.get("id"))

        def work(records: Records) -> str:
            row = records.remove_token(ident)
            owner = records.account(row["accountid"]) if row is not None else None
            if owner is None:
                raise NotFound("not found")
            return str(owner["poolid"])

        self._revoked(ident, self._db.run(work))
        return {}

    def login(self, header: Header) -> Header:
        """``{token}`` → ``{"accountid", "id", "expires"}``. Raises NotFound for an unknown, revoked or expired one."""
        token = str(header.get("token"))
        if not possible(token):
            raise NotFound("not found")
        now, hashed = time.time(), digest(token)
        row = self._db.run(lambda records: records.token(hashed, now))
        if row is None:
            raise NotFound("not found")
        return {"accountid": row["accountid"], "id": row["id"], "expires": row["expires"]}
