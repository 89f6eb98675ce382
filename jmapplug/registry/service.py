"""What ``__accounts__`` answers: everybody's questions about accounts, tokens and logins.

Commands are called with ``WorkerClient.call("__accounts__", name, header)``; every answer is a header.
"""

from __future__ import annotations

import hmac
import logging
import secrets
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import gevent
import msgspec

from jmapplug import plugins
from jmapplug.errors import JmapplugError, SetupError, StorageError
from jmapplug.registry.accounts import REPORT_FIELDS, Shelf, check_email, check_id, filled, login_name, merged, seal_of
from jmapplug.registry.counters import Totals
from jmapplug.registry.credentials import Vault, derive, load_key
from jmapplug.registry.database import Database
from jmapplug.registry.standing import Standings
from jmapplug.registry.store import Records, Row
from jmapplug.registry.tokens import Tokens, digest, possible
from jmapplug.settings import Settings
from jmapplug.workers.client import WorkerClient
from jmapplug.workers.errors import Conflict, NotFound

log = logging.getLogger("jmapplug.registry")

FLUSH_PAUSE = 5.0
GONE_PREFIX = ".deleted-"

Header = dict[str, Any]


class Registry:
    """The accounts of one data folder."""

    def __init__(self, settings: Settings, found: plugins.Plugins, client: WorkerClient) -> None:
        self.settings = settings
        self.client = client
        key = load_key(settings)
        self._shelf = Shelf(found, Vault(key))
        self._db = Database(settings.datadir / "accounts.sqlite3")
        # What the workers said last; written to the file now and then.
        self._reports: dict[str, Header] = {
            row["accountid"]: msgspec.json.decode(row["report"]) for row in self._db.run(Records.accounts)
        }
        self._unwritten: set[str] = set()
        self._totals = Totals()
        self.tokens = Tokens(self._db, self._revoked)
        self.standings = Standings(self._db, self._shelf, derive(key, "password-mark"), self._report_of)
        self.broadcast: Callable[[str, Header], None] = lambda name, body: None

    # --- accounts

    def listing(self, header: Header) -> Header:
        """``{}`` → ``{"accounts": [{accountid, email, type, pool, status, lastSync, error, folders, messages, …}]}``"""
        rows = self._db.run(Records.accounts)
        return {"accounts": [self._shelf.shown(row, self._report_of(row)) for row in rows]}

    def get(self, header: Header) -> Header:
        """``{accountid}`` → one element of the list. Raises NotFound."""
        row = self._row(header)
        return self._shelf.shown(row, self._report_of(row))

    def create(self, header: Header) -> Header:
        """``{accountid, email, type, settings, pool?}`` → ``{"created": bool}``; False: it was there, just the same.

        Raises SetupError (field), Conflict when it is there otherwise (settings, pool) or still being deleted.
        """
        accountid, email = check_id(header.get("accountid")), check_email(header.get("email"))
        type_, given = header.get("type") or "imap", header.get("settings") or {}
        row = {
            "accountid": accountid,
            "email": email,
            "type": type_,
            "login": login_name(given, email),
            "settings": self._shelf.sealed(accountid, type_, given),
            "created": int(time.time()),
        }
        pool = header.get("pool")

        def work(records: Records) -> Row | None:
            existing = records.account(accountid)
            if existing is not None:
                if pool and _pool_of(records, pool) != existing["poolid"]:
                    raise Conflict("the account exists in another pool")
                return existing
            if accountid in records.deletions():
                raise Conflict("the account is being deleted")
            row["poolid"] = _pool_of(records, pool) if pool else accountid
            records.add_account(row)
            return None

        existing = self._db.run(work)
        if existing is None:
            self._reports.setdefault(accountid, {})
            self._revoked(accountid, str(row["poolid"]))  # somebody may remember that there was no such account
            return {"created": True}
        same = (existing["email"], existing["type"]) == (email, type_)
        if not same or filled(self._shelf.settings(existing)) != filled(given):
            raise Conflict("the account exists with other settings")
        return {"created": False}

    def update(self, header: Header) -> Header:
        """``{accountid, email?, settings?, was?}`` (all settings) → ``{}``; the worker begins anew. Raises NotFound.

        ``was``: what ``settings`` were made of. What is the same in both stays as it is stored by now: an upstream may
        have replaced it meanwhile.
        """
        given, was = header.get("settings"), header.get("was")
        email = check_email(header["email"]) if header.get("email") is not None else None

        def change(row: Row) -> Header:
            if given is None:
                return self._shelf.settings(row)
            return given if was is None else merged(self._shelf.settings(row), was, given)

        row = self._rewritten(header, change, email)
        self._revoked(row["accountid"], row["poolid"])
        self._restart_worker(row["accountid"])
        return {}

    def delete(self, header: Header) -> Header:
        """``{accountid}`` → ``{}`` when the worker has ended and every file is gone. Raises NotFound."""
        row = self._row(header)
        accountid = row["accountid"]
        if not self._db.run(lambda records: records.remove_account(accountid)):
            raise NotFound("not found")
        self._reports.pop(accountid, None)
        self._revoked(accountid, row["poolid"])
        self._remove_files(accountid)
        return {}

    def _remove_files(self, accountid: str) -> None:
        """The worker first, then the folder, by a name that no new account of the same id can meet."""
        self.client.control("remove", id=accountid)
        folder = self.settings.account_folder(check_id(accountid))
        gone = folder.with_name(f"{GONE_PREFIX}{secrets.token_hex(8)}")
        if folder.exists():
            folder.rename(gone)
            _remove_tree(gone)
        self._db.run(lambda records: records.deletion_done(accountid))

    def finish_deletions(self) -> None:
        """What a crash left half deleted."""
        for accountid in self._db.run(Records.deletions):
            try:
                self._remove_files(accountid)
            except (JmapplugError, OSError):
                log.exception("deleting the files of %s failed", accountid)
        for left in self.settings.account_folder("x").parent.glob(f"{GONE_PREFIX}*"):
            _remove_tree(left)

    def open(self, header: Header) -> Header:
        """``{accountid}`` → ``{accountid, email, type, settings (decrypted), pool, seal}``. Raises NotFound.

        ``seal`` is another text whenever the settings have been written.
        """
        return self._opened(self._row(header))

    def _opened(self, row: Row) -> Header:
        return {
            "accountid": row["accountid"],
            "email": row["email"],
            "type": row["type"],
            "settings": self._shelf.settings(row),
            "pool": row["poolid"],
            "seal": seal_of(row),
        }

    # --- reports

    def report(self, header: Header) -> Header:
        """``{accountid, folders, messages, last_sync, error, offers, facts, phase}`` from its worker → ``{}``."""
        accountid = str(header.get("accountid"))
        known = self._reports.get(accountid)
        if known is None:
            raise NotFound("not found")
        news = {name: header.get(name) for name in REPORT_FIELDS}
        # What a worker does not know yet in this life (it has just begun) stays what it was.
        for name in ("last_sync", "offers"):
            news[name] = news[name] or known.get(name)
        news["facts"] = (known.get("facts") or {}) | (news["facts"] or {})
        self._reports[accountid] = news
        self._unwritten.add(accountid)
        if any((news[name] or None) != (known.get(name) or None) for name in ("offers", "facts")):
            self.broadcast("change", {"changed_account": accountid})
            # Its Session depends on them, and the next report may come in ten minutes. ``flush_forever`` tries again.
            with suppress(StorageError):
                self.flush()
        return {}

    def reported(self, header: Header) -> Header:
        """``{accountid}`` → what its worker reported last; nothing of a worker is started. Raises NotFound."""
        return self._report_of(self._row(header))

    def _report_of(self, row: Row) -> Header:
        return self._reports.get(row["accountid"], {})

    def flush(self) -> None:
        """Write what was reported since the last time. Raises StorageError; then it is written later."""
        names, self._unwritten = self._unwritten, set()
        values = {
            name: msgspec.json.encode(self._reports[name]).decode() for name in sorted(names) if name in self._reports
        }

        def work(records: Records) -> None:
            for name, report in values.items():
                records.change_account(name, {"report": report})

        try:
            if values:
                self._db.run(work)
        except BaseException:
            self._unwritten |= names
            raise

    def flush_forever(self) -> None:
        while True:
            gevent.sleep(FLUSH_PAUSE)
            try:
                self.flush()
            except StorageError as error:
                log.error("reports are not written: %s", error)
            except Exception:
                log.exception("writing reports failed")

    def names(self) -> list[str]:
        """The accountid of every account."""
        return [row["accountid"] for row in self._db.run(Records.accounts)]

    # --- logins

    def login(self, header: Header) -> Header:
        """``{name, password}`` → ``{"accountid", "login"}``, or ``{"candidates": [accountid, …]}`` to ask upstream.

        ``name``: accountid, e-mail address or upstream login name; ``password``: the stored one or a token of the pool.
        ``login`` is "password" or the token's id, so that revoking the token ends what was built on it.
        """
        name, password = str(header.get("name")), str(header.get("password"))
        now = time.time()
        hashed = digest(password)

        def work(records: Records) -> tuple[list[Row], Row | None, Row | None]:
            token = records.token(hashed, now) if possible(password) else None
            return records.named(name), token, records.account(token["accountid"]) if token else None

        rows, token, owner = self._db.run(work)
        matched: list[str] = []
        for row in rows:
            # Every candidate is compared, each in constant time; an account without a password matches nothing.
            stored = self._shelf.password(row)
            if _same(stored or hashed, password) and stored:
                matched.append(row["accountid"])
        if matched:
            return {"accountid": matched[0], "login": "password"}
        if token is not None and owner is not None:
            for row in rows:
                if row["poolid"] == owner["poolid"]:
                    return {"accountid": row["accountid"], "login": token["id"]}
        return {"candidates": [row["accountid"] for row in rows]}

    def heal(self, header: Header) -> Header:
        """``{accountid, password}``: the upstream takes this password, the stored one it does not → ``{}``."""
        row = self._rewritten(header, lambda row: self._shelf.settings(row) | {"password": str(header["password"])})
        self._revoked(row["accountid"], row["poolid"])
        # It has the old one and may be pausing, for an hour even, whether it has told of that yet or not.
        self._restart_worker(row["accountid"])
        return {}

    def renew(self, header: Header) -> Header:
        """``{accountid, was: {name: value}, now: {name: value}}``: secrets that an upstream has replaced → as ``open``.

        Its worker asks, and knows them already. Raises Conflict where neither the one nor the other is stored.
        """
        was: Header = header["was"]
        now: Header = header["now"]

        def change(row: Row) -> Header | None:
            given = self._shelf.settings(row)
            stored = {name: given.get(name) for name in now}
            if stored == now:
                return None
            if stored != was or not now.keys() <= self._shelf.secrets(row["type"]):
                raise Conflict("the account has other settings by now")
            return given | now

        return self._opened(self._rewritten(header, change))

    # --- counters

    def count(self, header: Header) -> Header:
        """``{source, counters: {name: number | [[labels…, number]]}}``, all since the front's beginning → ``{}``."""
        self._totals.take(str(header.get("source")), header.get("counters") or {})
        return {}

    def counters(self, header: Header) -> Header:
        """``{}`` → ``{"totals": {…}}``, the sums over all fronts."""
        return {"totals": self._totals.totals()}

    # --- helpers

    def _row(self, header: Header) -> Row:
        accountid = str(header.get("accountid"))
        row = self._db.run(lambda records: records.account(accountid))
        if row is None:
            raise NotFound("not found")
        return row

    def _rewritten(self, header: Header, change: Callable[[Row], Header | None], email: str | None = None) -> Row:
        """Store the settings that ``change`` makes of an account's row, in one transaction; the row from then on.

        None: they are right as they are. Raises NotFound, and what ``change`` raises.
        """
        accountid = str(header.get("accountid"))

        def work(records: Records) -> Row:
            row = records.account(accountid)
            if row is None:
                raise NotFound("not found")
            given, address = change(row), email or row["email"]
            if given is None:
                return row
            sealed = self._shelf.sealed(accountid, row["type"], given)
            values = {"email": address, "login": login_name(given, address), "settings": sealed}
            records.change_account(accountid, values)
            return row | values

        return self._db.run(work)

    def _revoked(self, what: str, pool: str) -> None:
        self.broadcast("change", {"revoked": what, "pool": pool})

    def _restart_worker(self, accountid: str) -> None:
        """It opens the account with the new settings; a worker that is not there needs nothing."""
        try:
            self.client.control("stop", id=accountid)
        except JmapplugError as error:
            log.warning("the worker of %s is not stopped: %s", accountid, error)

    def close(self) -> None:
        try:
            self.flush()
        except StorageError as error:
            log.error("reports are not written: %s", error)
        self._db.close()


def _pool_of(records: Records, accountid: Any) -> str:
    row = records.account(accountid) if isinstance(accountid, str) else None
    if row is None:
        raise SetupError("pool", "pool: there is no such account")
    return str(row["poolid"])


def _same(stored: str, given: str) -> bool:
    return hmac.compare_digest(stored.encode("utf-8", "surrogatepass"), given.encode("utf-8", "surrogatepass"))


def _remove_tree(folder: Path) -> None:
    """In a thread: an account may have ten thousand files."""
    gevent.get_hub().threadpool.apply(shutil.rmtree, (folder,), {"ignore_errors": True})


COMMANDS: dict[str, Callable[[Registry, Header], Header]] = {
    "list": Registry.listing,
    "get": Registry.get,
    "create": Registry.create,
    "update": Registry.update,
    "delete": Registry.delete,
    "open": Registry.open,
    "pool": lambda registry, header: registry.standings.pool(header),
    "standing": lambda registry, header: registry.standings.standing(header),
    "report": Registry.report,
    "reported": Registry.reported,
    "login": Registry.login,
    "heal": Registry.heal,
    "renew": Registry.renew,
    "token_create": lambda registry, header: registry.tokens.create(header),
    "token_list": lambda registry, header: registry.tokens.listing(header),
    "token_revoke": lambda registry, header: registry.tokens.revoke(header),
    "token_login": lambda registry, header: registry.tokens.login(header),
    "count": Registry.count,
    "counters": Registry.counters,
}
