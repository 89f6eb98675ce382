"""Lists of Emails, computed by the database: pages, totals and places of a `Statement`, and what changed since."""

# ruff: noqa: S608 - the texts come from the compiler, every value is bound.
from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import NamedTuple

from jmapplug.capabilities.mail.store.statements import JOIN_EMAIL, Statement
from jmapplug.store.database import Database

CHUNK = 256
"""Rows read at once, at least, while Threads are collapsed."""


def page(database: Database, statement: Statement, position: int, limit: int | None) -> list[str]:
    """The ids from ``position``, at most ``limit`` (None: all)."""
    s = statement
    sql = f"SELECT {s.alias}.id FROM {s.source} WHERE {s.where} ORDER BY {s.order} LIMIT ? OFFSET ?"
    return [id_ for (id_,) in database.rows(sql, (*s.params, *s.order_params, _limit(limit), position))]


def head(database: Database, statement: Statement, limit: int, *, threads: bool) -> list[tuple[int, int]]:
    """The first ``limit`` matches as (eid, tid); tid is 0 unless ``threads``."""
    s = _with_thread(statement) if threads else statement
    tid = s.thread if threads else "0"
    sql = f"SELECT {s.alias}.eid, {tid} FROM {s.source} WHERE {s.where} ORDER BY {s.order} LIMIT ?"
    return database.rows(sql, (*s.params, *s.order_params, limit))


def ids_of(database: Database, eids: Collection[int]) -> list[str]:
    """The ids of Emails, in the order of ``eids``; also of those that are gone since."""
    sql = "SELECT eid, id FROM email WHERE eid IN (SELECT value FROM json_each(?))"
    names: dict[int, str] = dict(database.rows(sql, (json.dumps(list(eids)),)))
    return [names[eid] for eid in eids if eid in names]


def eid_of(database: Database, email_id: str) -> int | None:
    """The number of an Email, also of one that is gone."""
    found = database.value("SELECT eid FROM email WHERE id = ?", (email_id,))
    return None if found is None else int(found)


def total(database: Database, statement: Statement) -> int:
    """How many Emails match."""
    s = statement
    if s.plain and s.mailbox is not None:
        found = database.value("SELECT total_emails FROM mailbox WHERE mid = ?", (s.mailbox,))
    elif s.words is not None:
        found = database.value("SELECT count(*) FROM fts WHERE fts MATCH ?", (s.words,))
    elif s.plain:
        found = database.value("SELECT count(*) FROM email INDEXED BY email_received WHERE deleted = 0")
    else:
        found = database.value(f"SELECT count(*) FROM {s.source} WHERE {s.where}", s.params)
    return int(found or 0)


def index_of(database: Database, statement: Statement, email_id: str) -> int | None:
    """Where an Email is in the list; None if it is not."""
    s = statement
    if s.newest_first is None:
        return positions(database, s, [email_id]).get(email_id)
    received = database.value("SELECT received_at FROM email WHERE id = ? AND deleted = 0", (email_id,))
    place = (*s.params, received, email_id)
    row = f"({s.alias}.received_at, {s.alias}.id)"
    if database.row(f"SELECT 1 FROM {s.source} WHERE {s.where} AND {row} = (?, ?)", place) is None:
        return None
    nearer = ">" if s.newest_first else "<"
    sql = f"SELECT count(*) FROM {s.source} WHERE {s.where} AND {row} {nearer} (?, ?)"
    return int(database.value(sql, place))


def positions(database: Database, statement: Statement, email_ids: Collection[str]) -> dict[str, int]:
    """Where those of some Emails are that are in the list."""
    s = statement
    numbered = (
        f"SELECT {s.alias}.id AS id, row_number() OVER (ORDER BY {s.order}) - 1 AS n FROM {s.source} WHERE {s.where}"
    )
    sql = f"SELECT id, n FROM ({numbered}) WHERE id IN (SELECT value FROM json_each(?))"
    return dict(database.rows(sql, (*s.order_params, *s.params, json.dumps(list(email_ids)))))


# --- the same with collapseThreads -----------------------------------------------------------------------------------


def collapsed_page(database: Database, statement: Statement, position: int, limit: int | None) -> list[str]:
    """RFC 8621 §4.4.3: the first Email of each Thread in the list's order."""
    if statement.newest_first is None or limit is None:
        sql = f"{_collapsed(statement)} ORDER BY n LIMIT ? OFFSET ?"
        values = (*statement.order_params, *statement.params, _limit(limit), position)
        return [row[0] for row in database.rows(sql, values)]
    found: list[str] = []
    for index, id_ in enumerate(_exemplars(database, statement, position + limit)):
        if index >= position + limit:
            break
        if index >= position:
            found.append(id_)
    return found


def collapsed_total(database: Database, statement: Statement) -> int:
    """How many Threads the list has."""
    s = _with_thread(statement)
    if s.plain and s.mailbox is not None:
        found = database.value("SELECT total_threads FROM mailbox WHERE mid = ?", (s.mailbox,))
    elif s.words is not None:
        matching = "eid IN (SELECT rowid FROM fts WHERE fts MATCH ?)"
        sql = f"SELECT count(DISTINCT tid) FROM email INDEXED BY email_thread WHERE {matching}"
        found = database.value(sql, (s.words,))
    elif s.plain:
        found = database.value("SELECT count(*) FROM thread WHERE deleted = 0 AND emails > 0")
    else:
        found = database.value(f"SELECT count(DISTINCT {s.thread}) FROM {s.source} WHERE {s.where}", s.params)
    return int(found or 0)


def collapsed_positions(database: Database, statement: Statement, email_ids: Collection[str]) -> dict[str, int]:
    """Where those of some Emails are that stand for their Thread in the list."""
    numbered = f"SELECT id, row_number() OVER (ORDER BY n) - 1 AS n FROM ({_collapsed(statement)})"
    sql = f"SELECT id, n FROM ({numbered}) WHERE id IN (SELECT value FROM json_each(?))"
    values = (*statement.order_params, *statement.params, json.dumps(list(email_ids)))
    return dict(database.rows(sql, values))


def _with_thread(statement: Statement) -> Statement:
    """The statement with the Email's row at hand, if that is where the Thread is told."""
    if statement.thread == "x.tid" or statement.alias == "e" or statement.source.endswith(JOIN_EMAIL):
        return statement
    return replace(statement, source=statement.source + JOIN_EMAIL)


def _collapsed(statement: Statement) -> str:
    """SELECT id, tid, n of each Thread's first Email; its parameters: those of the order, then of the filter."""
    s = _with_thread(statement)
    numbered = (
        f"SELECT {s.alias}.id AS id, {s.thread} AS tid, row_number() OVER (ORDER BY {s.order}) AS n"
        f" FROM {s.source} WHERE {s.where}"
    )
    # SQLite: a bare column beside min() comes from the row of the minimum.
    return f"SELECT id, tid, min(n) AS n FROM ({numbered}) GROUP BY tid"


def _exemplars(database: Database, statement: Statement, wanted: int) -> Iterator[str]:
    """The first Email of each Thread by receivedAt, read in chunks from where the last one ended."""
    s = _with_thread(statement)
    further = f" AND ({s.alias}.received_at, {s.alias}.id) {'<' if s.newest_first else '>'} (?, ?)"
    sql = f"SELECT {s.alias}.received_at, {s.alias}.id, {s.thread} FROM {s.source} WHERE {s.where}"
    tail = f" ORDER BY {s.order} LIMIT ?"
    seen: set[int] = set()
    size = max(CHUNK, 2 * wanted)
    rows = database.rows(sql + tail, (*s.params, size))
    while rows:
        for _, id_, tid in rows:
            if tid not in seen:
                seen.add(tid)
                yield id_
        if len(rows) < size:
            return
        last, size = rows[-1], size * 2
        rows = database.rows(sql + further + tail, (*s.params, last[0], last[1], size))


# --- what changed ----------------------------------------------------------------------------------------------------

CHANGED_MAX = 50_000


class Touched(NamedTuple):
    """An Email that a list may have lost or got after some state.

    ``may_be_known``: it was there then, or was a tombstone since: a \\Deleted that was cleared brings an Email back
    under its old id (mail-rules 13).
    """

    id: str
    is_new: bool
    may_be_known: bool
    is_gone: bool


_TOUCHED = "SELECT id, created_modseq > ?1, created_modseq <= ?1 OR revived, deleted FROM email"


def touched(database: Database, since: int) -> list[Touched]:
    """Emails that were made, changed or destroyed after ``since``."""
    rows = database.rows(f"{_TOUCHED} WHERE modseq > ?1 LIMIT ?2", (since, CHANGED_MAX + 1))
    return [Touched(*row) for row in rows]


def touched_threads(database: Database, since: int) -> set[int]:
    """Threads with such an Email, or with another list of Emails."""
    emails = "SELECT tid FROM email WHERE modseq > ?1 AND deleted = 0"
    sql = f"{emails} UNION SELECT tid FROM thread WHERE modseq > ?1 LIMIT ?2"
    return {tid for (tid,) in database.rows(sql, (since, CHANGED_MAX + 1))}


def members(database: Database, tids: Collection[int], since: int) -> list[Touched]:
    """The live Emails of some Threads, as ``touched`` gives them."""
    sql = f"{_TOUCHED} WHERE tid IN (SELECT value FROM json_each(?2)) AND deleted = 0"
    return [Touched(*row) for row in database.rows(sql, (since, json.dumps(list(tids))))]


def _limit(limit: int | None) -> int:
    return -1 if limit is None else limit
