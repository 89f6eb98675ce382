"""The store of one account: ``own.sqlite3``, ``cache.sqlite3``, blob files, states of data types (mail-rules 9, 39).

A state is ``<epoch>-<n>``: *epoch* is random per birth of the cache file, *n* the account's one counter at the type's
last change. The counter moves at most once per transaction; every row written in it carries that number (*modseq*).
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from jmapplug.errors import FULL, READ_ONLY, StorageError, StoreDamaged
from jmapplug.hookspecs import Schema
from jmapplug.jmap.errors import MethodError
from jmapplug.store import damage, own
from jmapplug.store.blobs import BlobFiles
from jmapplug.store.database import Database, Txn, file_identity
from jmapplug.store.schemas import apply

log = logging.getLogger("jmapplug.store")

T = TypeVar("T")

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
ROOM = 8 * 1024 * 1024
"""Octets of the disk that are left to what is under way: nothing new is begun on less."""
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
    aside and made anew (a new epoch). A damaged ``own.sqlite3`` is set aside too, and what can be read of it is saved
    into a new one: nobody else has what it holds. Damage found in use raises StoreDamaged, calls ``on_damage``, and is
    mended when the store is opened again.

    ``restored``: own.sqlite3 is another file than at the last start, a copy that came back or one that was saved.
    ``lost``: what a damaged own.sqlite3 did not give back, None where there was none.
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
        self.on_damage: Callable[[], None] = lambda: None
        self._clock = clock
        self._waiting: set[str] = set()
        self._reached = 0
        self.own = own.opened(self.folder / "own.sqlite3", schemas, clock)
        try:
            known = self._known_file()
            self.restored = known is not None and known != file_identity(self.own.path)
            self.cache = self._open_cache(schemas, discard=known is None or self.restored)
            self._load()
        except BaseException:
            self.own.close()
            raise
        self.blobs = BlobFiles(self.folder, blob_budget)
        self.own.on_damage = self.cache.on_damage = self._damaged

    # --- birth -----------------------------------------------------------------------------------------------------

    @property
    def lost(self) -> str | None:
        return own.loss(self.own)

    def _known_file(self) -> str | None:
        """The identity that own.sqlite3 had at the last start; None at its birth.

        Numbers that a copy which came back does not know of must not be given twice.
        """
        here = file_identity(self.own.path)
        known: str | None = self.own.value("SELECT value FROM store_meta WHERE key='file'")
        if known == here:
            return known

        def work(txn: Txn) -> None:
            txn.execute("INSERT OR REPLACE INTO store_meta VALUES ('file', ?)", (here,))
            if known is None:
                txn.execute("INSERT OR IGNORE INTO store_meta VALUES ('salt', ?)", (secrets.token_bytes(16),))
            elif txn.row("SELECT 1 FROM sqlite_master WHERE name='sqlite_sequence'"):
                txn.execute("UPDATE sqlite_sequence SET seq = seq + ?", (RESTORE_JUMP,))

        self.own.write(work)
        return known

    def _open_cache(self, schemas: Sequence[Schema], *, discard: bool) -> Database:
        path = self.folder / "cache.sqlite3"
        if discard:
            damage.remove(path)
        try:
            if damage.is_marked(path):
                raise StoreDamaged("it was found damaged in use")
            return self._cache_at(path, schemas)
        except (StoreDamaged, ValueError) as error:
            # A damaged or newer cache: upstream can give all of it again (mail-rules 39).
            aside = damage.set_aside(path)
            log.error("%s of %s is set aside as %s: %s", path.name, self.folder.name, aside.name, error)
            return self._cache_at(path, schemas)

    def _cache_at(self, path: Path, schemas: Sequence[Schema]) -> Database:
        cache = Database(path, (CACHE_BASE,))
        try:
            apply(cache, schemas, "cache")
            cache.rows("SELECT count(*) FROM store_type")
        except BaseException:
            cache.close()
            raise
        return cache

    def _load(self) -> None:
        self.salt: bytes = self.own.value("SELECT value FROM store_meta WHERE key='salt'")
        facts: dict[str, Any] = dict(self.cache.rows("SELECT key, value FROM store_meta"))
        remembered = self.own.value("SELECT value FROM store_meta WHERE key='epoch'")
        here = file_identity(self.cache.path)
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

    # --- the disk --------------------------------------------------------------------------------------------------

    def _damaged(self, database: Database) -> None:
        damage.mark(database.path)
        self.on_damage()

    def own_is_damaged(self) -> None:
        """Somebody looked at all of own.sqlite3: it is mended when the store is opened again."""
        self._damaged(self.own)

    def check_room(self) -> None:
        """Before anything that will have to be written down, upstream's part above all. Raises StorageError."""
        facts = os.statvfs(self.folder)
        if facts.f_flag & os.ST_RDONLY:
            raise StorageError(READ_ONLY)
        if facts.f_bavail * facts.f_frsize < ROOM:
            raise StorageError(FULL)

    # --- states ----------------------------------------------------------------------------------------------------

    @property
    def modseq(self) -> int:
        """The counter now: the modseq of the last commit that allocated one."""
        return self._counter

    @property
    def announced(self) -> str:
        """How far ``on_change`` has been told, ``<epoch>-<n>``: no state with a number up to *n* waits to be."""
        return f"{self.epoch}-{self._reached if self._waiting else self._counter}"

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
        if not self._waiting:
            self._reached = self._counter
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
            database.rest()

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


__all__ = ["Change", "Store"]
