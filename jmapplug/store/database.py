"""One SQLite file: one connection, numbered migrations, transactions as functions that never yield (process-rules 13).

Words: *work* is a function that gets a :class:`Txn`, reads and writes, and returns without ever giving the hub a turn.
Reads outside a transaction are read to the end at once, so no cursor is open when another greenlet runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import apsw

from jmapplug.errors import FAILING, FULL, READ_ONLY, StorageError, StoreDamaged

T = TypeVar("T")
Params = Sequence[Any] | dict[str, Any]
Row = tuple[Any, ...]

CREATE = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE

PAGE_CACHE_KB = 1024
"""Small: a worker at rest has to stay within a few megabytes, and the system keeps the file's pages anyway."""

COPY_PAGES = 64
"""Pages that are copied at once."""

STATEMENTS = 256
"""How many runs of others a prepared statement outlives: apsw replaces by turns, not by use, and keeps each one once. A
draft, a move and a page between two passes take 200; with 32, half of them were prepared anew."""

_ERRORS: tuple[tuple[type[apsw.Error], Callable[[str], StorageError]], ...] = (
    (apsw.CorruptError, lambda name: StoreDamaged(f"{name} is damaged")),
    (apsw.NotADBError, lambda name: StoreDamaged(f"{name} is damaged")),
    (apsw.FullError, lambda name: StorageError(FULL)),
    (apsw.ReadOnlyError, lambda name: StorageError(READ_ONLY)),
    (apsw.CantOpenError, lambda name: StorageError(f"{name} cannot be opened")),
    (apsw.IOError, lambda name: StorageError(FAILING)),
)
"""What SQLite says of the disk and of a file, and what that is for us."""


def storage_error_of(error: apsw.Error, name: str) -> StorageError | None:
    """The StorageError that SQLite's error on the file ``name`` means; None for a mistake of ours."""
    return next((made(name) for kind, made in _ERRORS if isinstance(error, kind)), None)


def file_identity(path: Path) -> str:
    """Another text for a file that has taken the place of the one before. Raises OSError."""
    facts = os.stat(path)
    return f"{facts.st_dev}-{facts.st_ino}"


class Txn:
    """What work may do inside a transaction. Every read is read to the end."""

    __slots__ = ("_connection",)

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def execute(self, sql: str, params: Params = ()) -> int:
        """Run one statement; how many rows it changed."""
        self._connection.execute(sql, params).fetchall()
        return int(self._connection.changes())

    def executemany(self, sql: str, params: Iterable[Params]) -> None:
        """Run one statement for many rows; none at all for an empty list."""
        if params != []:
            self._connection.executemany(sql, params).fetchall()

    def insert(self, sql: str, params: Params = ()) -> int:
        """Run one INSERT; the rowid that it made."""
        self._connection.execute(sql, params).fetchall()
        return int(self._connection.last_insert_rowid())

    def rows(self, sql: str, params: Params = ()) -> list[Row]:
        return self._connection.execute(sql, params).fetchall()

    def row(self, sql: str, params: Params = ()) -> Row | None:
        found = self._connection.execute(sql, params).fetchall()
        return found[0] if found else None

    def value(self, sql: str, params: Params = ()) -> Any:
        """The first column of the first row; None where there is no row."""
        found = self._connection.execute(sql, params).fetchall()
        return found[0][0] if found else None


class Database:
    """A file and its one connection. ``migrations`` are scripts; number n of them takes the file to version n.

    Everything here raises ``StorageError`` where the disk gives out, and ``StoreDamaged`` for a file that is no
    database or no longer a sound one: what to do then is the owner's decision. ``on_damage`` is called before the
    latter. Opening raises ``ValueError`` for a file made by a newer version of the program.
    """

    def __init__(self, path: Path | str, migrations: Sequence[str] = (), *, synchronous: str = "NORMAL") -> None:
        if synchronous not in ("NORMAL", "FULL"):
            raise ValueError("synchronous must be NORMAL or FULL")
        self.path = Path(path)
        self.on_damage: Callable[[Database], None] | None = None
        self._synchronous, self._cache_kb = synchronous, PAGE_CACHE_KB
        self._alone = False
        self._busy = False
        self._copies = 0
        try:
            self._use(self._connect())
        except apsw.Error as error:
            self._fail(error)
        try:
            self._migrate(migrations)
        except BaseException:
            self._connection.close(True)
            raise
        self._file = file_identity(self.path)

    def _connect(self, flags: int = CREATE) -> apsw.Connection:
        made = apsw.Connection(str(self.path), flags=flags, statementcachesize=STATEMENTS)
        try:
            try:
                self._set(made)
            except (apsw.FullError, apsw.IOError, apsw.CantOpenError):
                # No room for the write-ahead log's index beside the file: kept in memory, reading goes on.
                made.execute("PRAGMA locking_mode=EXCLUSIVE").fetchall()
                self._set(made)
                self._alone = True
        except BaseException:
            made.close(True)
            raise
        return made

    def _use(self, connection: apsw.Connection) -> None:
        self._connection, self._txn = connection, Txn(connection)

    def _set(self, connection: apsw.Connection) -> None:
        # SQLite's busy wait is a C call that stops the hub; the worker's file lock makes it needless.
        connection.set_busy_timeout(0)
        for pragma in (
            "journal_mode=WAL",
            f"synchronous={self._synchronous}",
            f"cache_size=-{self._cache_kb}",
            "temp_store=MEMORY",
            "foreign_keys=OFF",
            "trusted_schema=OFF",
            "journal_size_limit=8388608",
        ):
            connection.execute(f"PRAGMA {pragma}").fetchall()

    def _migrate(self, migrations: Sequence[str]) -> None:
        version = int(self.value("PRAGMA user_version"))
        if version > len(migrations):
            raise ValueError(f"{self.path.name} was made by a newer version (schema {version} > {len(migrations)})")
        for number, script in enumerate(migrations[version:], version + 1):

            def step(txn: Txn, script: str = script, number: int = number) -> None:
                txn.execute(script)
                txn.execute(f"PRAGMA user_version={number}")

            self.write(step)

    def _fail(self, error: apsw.Error) -> NoReturn:
        """Raise what SQLite's error means."""
        failure = storage_error_of(error, self.path.name)
        if failure is None:
            raise error
        if isinstance(failure, StoreDamaged) and self.on_damage is not None:
            self.on_damage(self)
        raise failure from error

    def rows(self, sql: str, params: Params = ()) -> list[Row]:
        try:
            return self._txn.rows(sql, params)
        except apsw.Error as error:
            self._fail(error)

    def row(self, sql: str, params: Params = ()) -> Row | None:
        try:
            return self._txn.row(sql, params)
        except apsw.Error as error:
            self._fail(error)

    def value(self, sql: str, params: Params = ()) -> Any:
        found = self.row(sql, params)
        return found[0] if found else None

    def write(self, work: Callable[[Txn], T]) -> T:
        """Run ``work`` in a transaction: all of it or nothing. ``work`` must not yield to another greenlet.

        Raises ``RuntimeError`` when a transaction is open already: two of them on one connection lose rows silently.
        """
        if self._busy:
            raise RuntimeError("a transaction is open on this file already")
        self._busy = True
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(self._txn)
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            return result
        except apsw.Error as error:
            self._fail(error)
        finally:
            self._busy = False

    @property
    def in_transaction(self) -> bool:
        return self._busy

    def page_cache(self, kilobytes: int = PAGE_CACHE_KB) -> None:
        """Make SQLite's own page cache larger for a big job, or (without an argument) small again."""
        self._cache_kb = kilobytes
        self._connection.execute(f"PRAGMA cache_size=-{kilobytes}").fetchall()
        if kilobytes <= PAGE_CACHE_KB:
            self._shrink()

    def _shrink(self) -> None:
        self._connection.execute("PRAGMA shrink_memory").fetchall()

    def rest(self) -> None:
        """Give back the memory of pages and prepared statements (half a megabyte): only a new connection has none.

        The old one stays where the file cannot be opened now or is another one, where it alone holds the log's index,
        and while it is copied from.
        """
        if self._busy:
            return
        old = self._connection
        try:
            if not self._alone and not self._copies and file_identity(self.path) == self._file:
                self._use(self._connect(apsw.SQLITE_OPEN_READWRITE))
                old.close(True)
                return
        except (apsw.Error, OSError):
            pass
        self._shrink()

    def checkpoint(self) -> None:
        """Copy the write-ahead log into the file and empty it."""
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def copy(self, target: Path, pause: Callable[[], None] = lambda: None) -> None:
        """Copy the file as it is now to ``target``, durably; ``pause`` is called between pieces and may yield.

        Raises StorageError; then there is no ``target``.
        """
        self._copies += 1
        try:
            copy = apsw.Connection(str(target))
            try:
                with copy.backup("main", self._connection, "main") as job:
                    while not job.done:
                        job.step(COPY_PAGES)
                        pause()
            finally:
                copy.close(True)
        except BaseException as error:
            target.unlink(missing_ok=True)
            if isinstance(error, apsw.Error):
                self._fail(error)
            raise
        finally:
            self._copies -= 1

    def close(self) -> None:
        """Close for good; closing twice is harmless. What cannot be moved out of the log now stays there."""
        self._connection.close(True)
