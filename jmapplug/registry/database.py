"""``accounts.sqlite3`` through dataset: one greenlet with a queue does all the work (process rule 11).

dataset ties a connection to a thread, and under gevent's patch every greenlet is a thread to it: one dedicated greenlet
is the one place where it is safe. Nothing that waits for the network may run in the queue (rule 12).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import dataset
import gevent
from gevent.event import AsyncResult
from gevent.queue import Queue
from sqlalchemy.exc import DBAPIError

from jmapplug.errors import FAILING, FULL, READ_ONLY, JmapplugError, StorageError, StoreDamaged
from jmapplug.registry.store import MIGRATIONS, Records

T = TypeVar("T")
_Job = tuple[Callable[[Records], Any], "AsyncResult[Any]"]


class Database:
    """The file, and the greenlet that alone touches it."""

    def __init__(self, path: Path) -> None:
        """Open and migrate. Raises JmapplugError for a file of a newer version."""
        self._url = f"sqlite:///{path}"
        self._queue: Queue[_Job | None] = Queue()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        self._greenlet = gevent.spawn(self._work)
        self.run(migrate)

    def run(self, job: Callable[[Records], T]) -> T:
        """Run ``job`` in one transaction, in its turn; its result. What it raises rolls back and is raised here.

        Raises StorageError where the disk gives out.
        """
        result: AsyncResult[T] = AsyncResult()
        self._queue.put((job, result))
        answer: T = result.get()
        return answer

    def _work(self) -> None:
        database = dataset.connect(
            self._url,
            on_connect_statements=["PRAGMA synchronous=FULL", "PRAGMA foreign_keys=ON"],
            ensure_schema=False,
            # Else an error's text holds the values: addresses, sealed passwords.
            engine_kwargs={"hide_parameters": True},
        )
        records = Records(database)
        while (item := self._queue.get()) is not None:
            job, result = item
            try:
                database.begin()
                try:
                    value = job(records)
                    database.commit()
                except BaseException:
                    _roll_back(database)
                    raise
            except DBAPIError as error:
                result.set_exception(_storage_error(error) or error)
            except Exception as error:
                result.set_exception(error)
            else:
                result.set(value)
        database.close()

    def close(self) -> None:
        """Finish what is queued and close the file."""
        self._queue.put(None)
        self._greenlet.join(5)


def _roll_back(database: Any) -> None:
    """A COMMIT that failed is forgotten by dataset and by SQLAlchemy alike, and still open below them."""
    database.rollback()
    database.executable.rollback()
    database.executable.connection.rollback()


# Primary result codes of SQLite → what that is for us.
_CODES: dict[int, Callable[[], StorageError]] = {
    sqlite3.SQLITE_FULL: lambda: StorageError(FULL),
    sqlite3.SQLITE_READONLY: lambda: StorageError(READ_ONLY),
    sqlite3.SQLITE_IOERR: lambda: StorageError(FAILING),
    sqlite3.SQLITE_CANTOPEN: lambda: StorageError("accounts.sqlite3 or its journal cannot be opened"),
    sqlite3.SQLITE_CORRUPT: lambda: StoreDamaged("accounts.sqlite3 is damaged"),
    sqlite3.SQLITE_NOTADB: lambda: StoreDamaged("accounts.sqlite3 is damaged"),
}


def _storage_error(error: DBAPIError) -> StorageError | None:
    made = _CODES.get(getattr(error.orig, "sqlite_errorcode", 0) & 0xFF)
    return made() if made else None


def migrate(records: Records) -> None:
    """Numbered migrations, each once."""
    version = records.version()
    if version > len(MIGRATIONS):
        raise JmapplugError(f"accounts.sqlite3 was written by a newer version (schema {version})")
    for number, statements in enumerate(MIGRATIONS, 1):
        if number > version:
            records.migrate(number, statements)
