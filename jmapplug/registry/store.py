"""The tables of ``accounts.sqlite3`` and every statement on them. Runs in the registry's one greenlet only."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from typing import Any

Row = dict[str, Any]

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE accounts (
            accountid TEXT PRIMARY KEY,
            email TEXT NOT NULL COLLATE NOCASE,
            type TEXT NOT NULL,
            login TEXT NOT NULL,               -- the upstream login name, else the e-mail; lower case
            poolid TEXT NOT NULL,              -- accounts with the same one belong to one person
            settings TEXT NOT NULL,            -- JSON; secret fields as enc2: texts
            created INTEGER NOT NULL,
            report TEXT NOT NULL DEFAULT '{}'  -- JSON; what the worker said last
        )""",
        "CREATE INDEX accounts_pool ON accounts(poolid)",
        "CREATE INDEX accounts_login ON accounts(login)",
        "CREATE INDEX accounts_email ON accounts(email)",
        """CREATE TABLE tokens (
            id TEXT PRIMARY KEY,
            accountid TEXT NOT NULL REFERENCES accounts(accountid) ON DELETE CASCADE,
            name TEXT NOT NULL,
            hash TEXT NOT NULL UNIQUE,         -- SHA-256 of the token, hexadecimal
            created INTEGER NOT NULL,
            expires INTEGER                    -- unix seconds; NULL = never
        )""",
        "CREATE INDEX tokens_account ON tokens(accountid)",
        # Accounts whose rows are gone and whose files may still be there.
        "CREATE TABLE deletions (accountid TEXT PRIMARY KEY)",
    ),
)

_LOGIN = """SELECT * FROM accounts WHERE accountid = :name OR email = :folded OR login = :folded
    ORDER BY accountid = :name DESC, created, accountid LIMIT 8"""
_VALID = "SELECT * FROM tokens WHERE hash = :hash AND (expires IS NULL OR expires > :now)"


class Records:
    """Rows in and out, as dicts."""

    def __init__(self, database: Any) -> None:
        self._db = database
        self._accounts = database["accounts"]
        self._tokens = database["tokens"]
        self._deletions = database["deletions"]

    def _query(self, sql: str, **values: Any) -> list[Row]:
        return [dict(row) for row in self._db.query(sql, **values)]

    # --- schema

    def version(self) -> int:
        self._db.query("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)")
        rows = self._query("SELECT max(version) AS version FROM schema_version")
        return int(rows[0]["version"] or 0)

    def migrate(self, number: int, statements: tuple[str, ...]) -> None:
        for statement in statements:
            self._db.query(statement)
        self._db.query("INSERT INTO schema_version VALUES (:number)", number=number)

    # --- accounts

    def accounts(self) -> list[Row]:
        return self._query("SELECT * FROM accounts ORDER BY accountid")

    def account(self, accountid: str) -> Row | None:
        rows = self._query("SELECT * FROM accounts WHERE accountid = :accountid", accountid=accountid)
        return rows[0] if rows else None

    def named(self, name: str) -> list[Row]:
        """Accounts that a login name can mean; an accountid before an e-mail address or login name."""
        return self._query(_LOGIN, name=name, folded=name.lower())

    def pool(self, poolid: str) -> list[Row]:
        return self._query("SELECT * FROM accounts WHERE poolid = :poolid ORDER BY created, accountid", poolid=poolid)

    def add_account(self, row: Row) -> None:
        self._accounts.insert(row, ensure=False)

    def change_account(self, accountid: str, values: Row) -> None:
        self._accounts.update({"accountid": accountid, **values}, ["accountid"], ensure=False)

    def remove_account(self, accountid: str) -> bool:
        """Remove the rows and remember that files are to go; whether there was such an account."""
        self._tokens.delete(accountid=accountid)
        if not self._accounts.delete(accountid=accountid):
            return False
        self._deletions.insert({"accountid": accountid}, ensure=False)
        return True

    # --- deletions under way

    def deletions(self) -> list[str]:
        return [str(row["accountid"]) for row in self._query("SELECT accountid FROM deletions")]

    def deletion_done(self, accountid: str) -> None:
        self._deletions.delete(accountid=accountid)

    # --- tokens

    def add_token(self, row: Row) -> None:
        self._tokens.insert(row, ensure=False)

    def tokens(self, accountid: str) -> list[Row]:
        return self._query(
            "SELECT * FROM tokens WHERE accountid = :accountid ORDER BY created, id", accountid=accountid
        )

    def token(self, digest: str, now: float) -> Row | None:
        """The token with this hash, if it has not expired."""
        rows = self._query(_VALID, hash=digest, now=int(now))
        return rows[0] if rows else None

    def token_by_id(self, ident: str) -> Row | None:
        """The token with this id, expired or not."""
        rows = self._query("SELECT * FROM tokens WHERE id = :id", id=ident)
        return rows[0] if rows else None

    def remove_token(self, ident: str) -> Row | None:
        """The row that was removed."""
        row = self.token_by_id(ident)
        self._tokens.delete(id=ident)
        return row


# --- the whole file --------------------------------------------------------------------------------------------------

DAY = 86_400


def damage(path: Path) -> str | None:
    """What is wrong with the file, None where nothing is or it is not there yet. A connection of its own."""
    if not path.exists():
        return None
    try:
        one = sqlite3.connect(path, timeout=10)
        try:
            found = str(one.execute("PRAGMA quick_check(1)").fetchone()[0])
        finally:
            one.close()
    except sqlite3.OperationalError:
        return None  # locked, or a disk that gives out: whoever works with it says so
    except sqlite3.DatabaseError as error:
        return str(error)
    return None if found == "ok" else "its pages do not fit together"


def copy_of(path: Path) -> Path:
    return path.with_name(path.name + ".backup")


def keep_copy(path: Path) -> bool:
    """Put a copy of the file beside it, if the last one is a day old; the last one stays where the file is damaged.

    Whether the copy is as it should be. Raises OSError, sqlite3.Error. Blocks: to be called in a thread.
    """
    kept = copy_of(path)
    if kept.exists() and kept.stat().st_mtime + DAY > time.time():
        return True
    fresh = kept.with_name(kept.name + ".new")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600)
    source, target = sqlite3.connect(path, timeout=10), sqlite3.connect(fresh)
    try:
        source.backup(target)
    finally:
        source.close()
        target.close()
    if damage(fresh):
        fresh.unlink()
        return False
    with open(fresh, "rb") as file:
        os.fsync(file.fileno())
    fresh.replace(kept)
    return True
