"""The store of one account: ``own.sqlite3``, ``cache.sqlite3``, blob files, states of data types (mail-rules 9, 39).

A state is ``<epoch>-<n>``: *epoch* is random per birth of the cache file, *n* the account's one counter at the type's
last change. The counter moves at most once per transaction; every row written in it carries that number (*modseq*).
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from jmapplug.hookspecs import Schema
from jmapplug.jmap.errors import MethodError
from jmapplug.store.blobs import BlobFiles
from jmapplug.store.database import CORRUPT, Database, Txn

T = TypeVar("T")

OWN_BASE = """
CREATE TABLE store_meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE store_schema (name TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID;
-- Uploaded blobs (f-<uuid>); times in unix seconds.
CREATE TABLE store_upload (
    id TEXT PRIMARY KEY, type TEXT NOT NULL, size INTEGER NOT NULL, created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) WITHOUT ROWID;
"""
CACHE_BASE = """
CREATE TABLE store_meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE store_schema (name TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE store_type (type TEXT PRIMARY KEY, modseq INTEGER NOT NULL) WITHOUT ROWID;
-- The counter at the first change of each day: which modseqs are older than the tombstones' time.
CREATE TABLE store_day (day INTEGER PRIMARY KEY, modseq INTEGER NOT NULL);
"""
DAY = 86_400
TOMBSTONE_DAYS = 30
BLOB_BUDGET = 256_000_000
RESTORE_JUMP = 1_000_000
"""How far the id counters of a restored ``own.sqlite3`` jump: no number handed out since the backup comes twice."""


class Change:
    """One cache transaction under way. ``modseq`` is allocated at the first use."""

    __slots__ = ("_counter", "_modseq", "touched", "txn")

    def __init__(self, txn: Txn, counter: int) -> None:
        self.txn = txn
        self.touched: set[str] = set()
        self._counter = counter
        self._modseq: int | None = None

    @property
    def modseq(self) -> int:
        if self._modseq is None:
            self._modseq = self._counter + 1
        return self._modseq

    @property
    def allocated(self) -> int | None:
        return self._modseq

    def touch(self, *types: str) -> None:
        """These types' states move to this transaction's modseq."""
        if self.modseq:
            self.touched.update(types)


class Store:
    """Both files, the blobs and the states of one account. Opened in one process only (the worker's file lock).

    ``on_change`` is called after a commit with ``{type: state}`` of what it touched. A damaged or foreign cache is set
    aside and made anew (a new epoch); a damaged ``own.sqlite3`` raises: nobody else has what it holds.
    """

    def __init__(
        self,
        folder: Path,
        schemas: Sequence[Schema] = (),
        *,
        on_change: Callable[[dict[str, str]], None] | None = None,
        blob_budget: int = BLOB_BUDGET,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.on_change = on_change
        self._clock = clock
        self._waiting: set[str] = set()
        self.own = Database(self.folder / "own.sqlite3", (OWN_BASE,), synchronous="FULL")
        try:
            _apply(self.own, schemas, "own")
            restored = self._restored_own()
            self.cache = self._open_cache(schemas, discard=restored)
            self._load()
        except BaseException:
            self.own.close()
            raise
        self.blobs = BlobFiles(self.folder, blob_budget)

    # --- birth -----------------------------------------------------------------------------------------------------

    def _restored_own(self) -> bool:
        """Whether own.sqlite3 is a copy that came back: numbers handed out since the backup must not come twice."""
        here = _identity(self.own.path)
        known = self.own.value("SELECT value FROM store_meta WHERE key='file'")
        if known == here:
            return False

        def work(txn: Txn) -> None:
            txn.execute("INSERT OR REPLACE INTO store_meta VALUES ('file', ?)", (here,))
            if known is None:
                txn.execute("INSERT INTO store_meta VALUES ('salt', ?)", (secrets.token_bytes(16),))
            elif txn.row("SELECT 1 FROM sqlite_master WHERE name='sqlite_sequence'"):
                txn.execute("UPDATE sqlite_sequence SET seq = seq + ?", (RESTORE_JUMP,))

        self.own.write(work)
        return known is not None

    def _open_cache(self, schemas: Sequence[Schema], *, discard: bool) -> Database:
        path = self.folder / "cache.sqlite3"
        if discard:
            _remove(path)
        try:
            return self._cache_at(path, schemas)
        except (*CORRUPT, ValueError):
            # A damaged or newer cache: upstream can give all of it again (mail-rules 39).
            _set_aside(path)
            return self._cache_at(path, schemas)

    def _cache_at(self, path: Path, schemas: Sequence[Schema]) -> Database:
        cache = Database(path, (CACHE_BASE,))
        try:
            _apply(cache, schemas, "cache")
            cache.rows("SELECT count(*) FROM store_type")
        except BaseException:
            cache.close()
            raise
        return cache

    def _load(self) -> None:
        self.salt: bytes = self.own.value("SELECT value FROM store_meta WHERE key='salt'")
        facts: dict[str, Any] = dict(self.cache.rows("SELECT key, value FROM store_meta"))
        remembered = self.own.value("SELECT value FROM store_meta WHERE key='epoch'")
        here = _identity(self.cache.path)
        if facts.get("epoch") is None or facts["epoch"] != remembered or facts.get("file") != here:
            # A birth, or a copy that may be older than states handed out: no old state may be understood.
            facts["epoch"] = secrets.token_hex(6)
            rows = [("epoch", facts["epoch"]), ("file", here)]
            self.cache.write(lambda txn: txn.executemany("INSERT OR REPLACE INTO store_meta VALUES (?, ?)", rows))
            self.own.write(
                lambda txn: txn.execute("INSERT OR REPLACE INTO store_meta VALUES ('epoch', ?)", (facts["epoch"],))
            )
        self.epoch: str = facts["epoch"]
        self._counter = int(facts.get("counter") or 0)
        self._pruned = int(facts.get("pruned_upto") or 0)
        self._types: dict[str, int] = dict(self.cache.rows("SELECT type, modseq FROM store_type"))
        self._day = int(self.cache.value("SELECT max(day) FROM store_day") or 0)

    # --- states ----------------------------------------------------------------------------------------------------

    @property
    def modseq(self) -> int:
        """The counter now: the modseq of the last commit that allocated one."""
        return self._counter

    def state(self, type_: str) -> str:
        """The state of a type now."""
        return f"{self.epoch}-{self._types.get(type_, 0)}"

    def since(self, type_: str, state: str) -> int:
        """The modseq that ``state`` stands for. Raises MethodError("cannotCalculateChanges") (mail-rules 9)."""
        epoch, _, number = state.rpartition("-")
        if epoch != self.epoch or not (number.isascii() and number.isdigit() and len(number) < 16):
            raise MethodError("cannotCalculateChanges", "This state is not one of this store's.")
        value = int(number)
        if value > self._counter or (value < self._pruned and value < self._types.get(type_, 0)):
            raise MethodError("cannotCalculateChanges", "This state is too old or was never handed out.")
        return value

    def commit(self, work: Callable[[Change], T], *, announce: bool = True) -> T:
        """Run ``work`` in one transaction of the cache. ``announce`` False: wait for :meth:`announce`."""
        changes: list[Change] = []

        def run(txn: Txn) -> T:
            change = Change(txn, self._counter)
            changes.append(change)
            result = work(change)
            self._note(change)
            return result

        result = self.cache.write(run)
        change = changes[0]
        if change.allocated is not None:
            self._counter = change.allocated
            self._types.update(dict.fromkeys(change.touched, change.allocated))
            self._day = max(self._day, int(self._clock() // DAY))
        self._waiting |= change.touched
        if announce:
            self.announce()
        return result

    def _note(self, change: Change) -> None:
        if change.allocated is None:
            return
        rows = [(name, change.allocated) for name in change.touched]
        change.txn.execute("INSERT OR REPLACE INTO store_meta VALUES ('counter', ?)", (change.allocated,))
        change.txn.executemany("INSERT OR REPLACE INTO store_type VALUES (?, ?)", rows)
        day = int(self._clock() // DAY)
        if day > self._day:
            change.txn.execute("INSERT OR IGNORE INTO store_day VALUES (?, ?)", (day, change.allocated))

    def announce(self) -> None:
        """Tell ``on_change`` of every type touched since the last time."""
        waiting, self._waiting = self._waiting, set()
        if waiting and self.on_change is not None:
            self.on_change({name: self.state(name) for name in sorted(waiting)})

    # --- upkeep ----------------------------------------------------------------------------------------------------

    def prune(self, now: float | None = None) -> int:
        """Remove one chunk of tombstones older than 30 days; how many rows went (0 = nothing left to do)."""
        oldest = int((self._clock() if now is None else now) // DAY) - TOMBSTONE_DAYS
        limit = self.cache.value("SELECT max(modseq) FROM store_day WHERE day <= ?", (oldest,))
        if limit is None:
            return 0
        upto = int(limit) - 1
        tables = [name for (name,) in self.cache.rows(_TOMBSTONE_TABLES)]

        def work(txn: Txn) -> int:
            txn.execute("INSERT OR REPLACE INTO store_meta VALUES ('pruned_upto', max(?, ?))", (upto, self._pruned))
            txn.execute("DELETE FROM store_day WHERE day < ?", (oldest - 1,))
            return sum(txn.execute(_prune_sql(table), (upto,)) for table in tables)

        gone = self.cache.write(work)
        self._pruned = max(upto, self._pruned)
        return gone

    def rest(self) -> None:
        """A time without work begins: give back the memory that only makes the next statement a little faster, and

        the room of cached parts that were too much and too fresh to go at once.
        """
        self.blobs.trim()
        for database in (self.cache, self.own):
            database.shrink()

    def close(self) -> None:
        self.cache.close()
        self.own.close()


_TOMBSTONE_TABLES = (
    "SELECT m.name FROM sqlite_master m WHERE m.type='table' AND"
    " 2 = (SELECT count(*) FROM pragma_table_info(m.name) WHERE name IN ('modseq', 'deleted'))"
)


def _prune_sql(table: str) -> str:
    name = table.replace('"', '""')
    return (
        f'DELETE FROM "{name}" WHERE rowid IN '  # noqa: S608 - the name comes from our own schema
        f'(SELECT rowid FROM "{name}" WHERE modseq <= ? AND deleted = 1 LIMIT 500)'
    )


def _apply(database: Database, schemas: Sequence[Schema], half: str) -> None:
    """Each schema's scripts in their order, numbered per schema by its first line's place in the list of names."""
    done: dict[str, int] = dict(database.rows("SELECT name, version FROM store_schema"))
    for schema in schemas:
        scripts = schema.own if half == "own" else schema.cache
        if not scripts:
            continue
        name = _schema_name(scripts)
        version = done.get(name, 0)
        if version > len(scripts):
            raise ValueError(f"{database.path.name} was made by a newer version (schema {version} > {len(scripts)})")
        for number in range(version, len(scripts)):

            def step(txn: Txn, script: str = scripts[number], name: str = name, number: int = number) -> None:
                txn.execute(script)
                txn.execute("INSERT OR REPLACE INTO store_schema VALUES (?, ?)", (name, number + 1))

            database.write(step)


def _schema_name(scripts: Sequence[str]) -> str:
    """A capability's schema is known by the first table that its first script makes."""
    head = scripts[0].split("CREATE TABLE", 1)
    return head[1].split("(", 1)[0].strip() if len(head) == 2 else "?"


def _identity(path: Path) -> str:
    facts = os.stat(path)
    return f"{facts.st_dev}-{facts.st_ino}"


def _companions(path: Path) -> list[Path]:
    return [path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")]


def _remove(path: Path) -> None:
    for one in _companions(path):
        one.unlink(missing_ok=True)


def _set_aside(path: Path) -> None:
    """Keep the damaged file for a look, one of them at most."""
    for one in _companions(path):
        if one.exists():
            one.replace(one.with_name(one.name + ".damaged"))


__all__ = ["Change", "Store"]
