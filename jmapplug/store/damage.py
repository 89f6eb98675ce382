"""Damaged files of an account: set aside, and what nobody else has is saved out of them (mail-rules 39).

A *mark* beside a file (``own.sqlite3.suspect``) says that it was found damaged in use: the next one who opens the store
mends it. What is *set aside* is called ``<file>.corrupt-<time>``; the newest of them are kept for a look.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apsw

from jmapplug.store.database import Database, Row, Txn, storage_error_of

log = logging.getLogger("jmapplug.store")

KEPT = 2
AT_ONCE = 500
_LOGS = ("-wal", "-shm")


def mark(path: Path) -> None:
    """Remember that this file is damaged. On a disk that is full as well, its next use will find out again."""
    try:
        _mark_of(path).touch(mode=0o600)
    except OSError as error:
        log.warning("%s is damaged, and no mark can be set: %s", path.name, error.strerror)


def is_marked(path: Path) -> bool:
    return _mark_of(path).exists()


def _mark_of(path: Path) -> Path:
    return path.with_name(path.name + ".suspect")


def remove(path: Path) -> None:
    """Remove a database and what lies beside it."""
    for one in (path, *_beside(path)):
        one.unlink(missing_ok=True)


def _beside(path: Path) -> list[Path]:
    return [path.with_name(path.name + end) for end in _LOGS]


def set_aside(path: Path) -> Path:
    """Give a damaged database another name, its log too, and take the mark away; the new name."""
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    aside = path.with_name(f"{path.name}.corrupt-{stamp}-{time.time_ns() % 10**6:06d}")
    for one, end in zip((path, *_beside(path)), ("", *_LOGS), strict=True):
        if one.exists():
            one.replace(aside.with_name(aside.name + end))
    _mark_of(path).unlink(missing_ok=True)
    for old in _set_aside(path)[:-KEPT]:
        remove(old)
    return aside


def _set_aside(path: Path) -> list[Path]:
    """Oldest first."""
    found = path.parent.glob(f"{path.name}.corrupt-*")
    return sorted(one for one in found if not one.name.endswith(_LOGS))


# --- saving ----------------------------------------------------------------------------------------------------------


def salvage(aside: Path, fresh: Database) -> list[str]:
    """Copy into ``fresh``, whose tables are made already, every row of ``aside`` that can be read.

    The names of the tables that may not be complete, those that are not there among them.
    """
    try:
        damaged = apsw.Connection(str(aside))
    except apsw.Error:
        return _tables(fresh)
    try:
        return [name for name in _tables(fresh) if not _save(damaged, fresh, name)]
    finally:
        damaged.close(True)


def _tables(database: Database) -> list[str]:
    sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT IN ('store_schema', 'sqlite_sequence')"
    return [str(name) for (name,) in database.rows(sql)]


def _save(damaged: apsw.Connection, fresh: Database, table: str) -> bool:
    """Copy one table; whether all of it was there. Rows that lie behind a bad page are reached from the other end."""
    try:
        there = {row[1] for row in damaged.execute(f"PRAGMA table_info({_quoted(table)})")}
    except apsw.Error as error:
        return _noted(error, aside=table)
    columns = [str(row[1]) for row in fresh.rows(f"PRAGMA table_info({_quoted(table)})")]
    names = [name for name in columns if name in there]
    if not names:
        return False
    whole = False
    for query in _ways(fresh, table, names):
        whole = _copy(damaged, fresh, table, names, query)
        if whole:
            break
    return whole


def _ways(fresh: Database, table: str, names: Sequence[str]) -> Iterator[str]:
    """Queries that go through a table in different orders: forward, backward, and along each of its indexes."""
    wanted = f"SELECT {', '.join(map(_quoted, names))} FROM {_quoted(table)}"  # noqa: S608 - names of our own schema
    key = [str(row[1]) for row in fresh.rows(f"PRAGMA table_info({_quoted(table)})") if row[5]]
    yield f"{wanted} NOT INDEXED"
    yield f"{wanted} NOT INDEXED ORDER BY rowid DESC"
    if key:
        # Of a table WITHOUT ROWID.
        yield f"{wanted} NOT INDEXED ORDER BY {', '.join(f'{_quoted(name)} DESC' for name in key)}"
    for row in fresh.rows(f"PRAGMA index_list({_quoted(table)})"):
        if row[3] == "c" and not row[4]:
            yield f"{wanted} INDEXED BY {_quoted(str(row[1]))}"


def _copy(damaged: apsw.Connection, fresh: Database, table: str, names: Sequence[str], query: str) -> bool:
    """Whether the query could be read to its end."""
    marks = ", ".join("?" * len(names))
    sql = f"INSERT OR IGNORE INTO {_quoted(table)} ({', '.join(map(_quoted, names))}) VALUES ({marks})"  # noqa: S608
    rows: list[Row] = []

    def keep() -> None:
        def work(txn: Txn) -> None:
            txn.executemany(sql, rows)

        fresh.write(work)
        rows.clear()

    whole = True
    try:
        for row in damaged.execute(query):
            rows.append(row)
            if len(rows) >= AT_ONCE:
                keep()
    except (apsw.Error, UnicodeDecodeError) as error:
        whole = _noted(error, aside=table)
    keep()
    return whole


def _noted(error: apsw.Error | UnicodeDecodeError, *, aside: str) -> bool:
    """A part that cannot be read; anything but damage and a failing disk is a mistake of ours."""
    unreadable = isinstance(error, (apsw.SQLError, UnicodeDecodeError)) or storage_error_of(error, aside) is not None
    if not unreadable:
        raise error
    return False


_NUMBERED = "SELECT name FROM sqlite_master WHERE type = 'table' AND sql LIKE '%AUTOINCREMENT%'"


def skip_numbers(txn: Txn, least: int) -> None:
    """Numbers that rows which are lost may have had are not given again: the next ones are above ``least``."""
    for (name,) in txn.rows(_NUMBERED):
        if txn.row("SELECT 1 FROM sqlite_sequence WHERE name = ?", (name,)) is None:
            txn.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, 0)", (name,))
        txn.execute("UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = ?", (least, name))


def _quoted(name: Any) -> str:
    return '"' + str(name).replace('"', '""') + '"'
