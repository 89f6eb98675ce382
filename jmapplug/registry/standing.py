"""What a login stands for now: the accounts of its pool, and the credentials that are good for it.

What was built on credentials (push subscriptions, RFC 8620 §7.2) names them: a token by its id, the stored password by
its *mark*, which is another one whenever the password is, and tells nobody what it is.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable
from typing import Any

from jmapplug.errors import SettingError
from jmapplug.registry.accounts import Shelf
from jmapplug.registry.database import Database
from jmapplug.registry.store import Records, Row
from jmapplug.workers.errors import NotFound

Header = dict[str, Any]


class Standings:
    """The commands, and the marks. ``key`` is for nothing else; ``report_of``: what an account's worker said last."""

    def __init__(self, database: Database, shelf: Shelf, key: bytes, report_of: Callable[[Row], Header]) -> None:
        self._db, self._shelf, self._key, self._report_of = database, shelf, key, report_of

    def pool(self, header: Header) -> Header:
        """``{accountid, login?}`` → ``{"accounts": [AccountInfo fields], "mark", "ends"}`` of its pool, itself first.

        ``mark``: that of the account's own password, None where there is none to log in with. ``ends``: unix seconds,
        of the token whose id is ``login``; None where it has no end, or is none. Raises NotFound.
        """
        accountid = str(header.get("accountid"))

        def work(records: Records) -> tuple[list[Row], Row | None]:
            own = records.account(accountid)
            return records.pool(own["poolid"]) if own else [], records.token_by_id(str(header.get("login")))

        rows, token = self._db.run(work)
        if not rows:
            raise NotFound("not found")
        rows.sort(key=lambda row: row["accountid"] != accountid)
        infos = [self._shelf.info(row, self._report_of(row)) for row in rows]
        return {"accounts": infos, "mark": self._readable_mark(rows[0]), "ends": token["expires"] if token else None}

    def _mark(self, row: Row) -> str | None:
        """The mark of an account's stored password; None where it has none. Raises SettingError (another key)."""
        password = self._shelf.password(row)
        if password is None:
            return None
        text = f"{row['accountid']}\0{password}".encode("utf-8", "surrogatepass")
        return "password~" + hmac.new(self._key, text, hashlib.sha256).hexdigest()[:32]

    def _readable_mark(self, row: Row) -> str | None:
        """The mark; None also where the password cannot be read: nobody logs in with it then."""
        try:
            return self._mark(row)
        except SettingError:
            return None

    def standing(self, header: Header) -> Header:
        """``{accountid}`` → ``{"accounts": [accountid, …] of its pool, "credentials": {name: unix seconds or None}}``.

        ``credentials``: all that log in to this account now, each with its end. Raises NotFound, SettingError.
        """

        def work(records: Records) -> tuple[Row, list[Row], list[Row]]:
            own = records.account(str(header.get("accountid")))
            if own is None:
                raise NotFound("not found")
            pool = records.pool(own["poolid"])
            return own, pool, [token for row in pool for token in records.tokens(row["accountid"])]

        own, pool, tokens = self._db.run(work)
        now, mark = time.time(), self._mark(own)
        good = {token["id"]: token["expires"] for token in tokens if (token["expires"] or now + 1) > now}
        passwords = {} if mark is None else {mark: None}
        return {"accounts": [row["accountid"] for row in pool], "credentials": good | passwords}
