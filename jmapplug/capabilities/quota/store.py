"""SQL of quotas: the values seen last, and when they changed (mail-rules 9, 10)."""

from __future__ import annotations

from typing import Any, NamedTuple

from jmapplug.store.account import Change, Store


class Row(NamedTuple):
    """One Quota; ``used`` and ``hard_limit`` in octets or objects."""

    id: str
    name: str
    resource: str
    used: int
    hard_limit: int


class Event(NamedTuple):
    """The one thing to say of a Quota behind a modseq. ``at``: where it stands in the order of changes."""

    at: int
    id: str
    kind: str
    props_modseq: int


_INSERT = (
    "INSERT INTO quota (id, name, resource, used, hard_limit, created_modseq, modseq, props_modseq)"
    " VALUES (:id, :name, :resource, :used, :hard_limit, :n, :n, :n)"
    # One that was gone and is back begins a new life under its old id.
    " ON CONFLICT (id) DO UPDATE SET name = :name, used = :used, hard_limit = :hard_limit, modseq = :n, deleted = 0,"
    " created_modseq = iif(deleted, :n, created_modseq),"
    " props_modseq = iif(deleted OR name != :name OR hard_limit != :hard_limit, :n, props_modseq)"
)


def rows(store: Store) -> list[Row]:
    """Every Quota there is, by name."""
    sql = "SELECT id, name, resource, used, hard_limit FROM quota WHERE deleted = 0 ORDER BY name, resource, id"
    return [Row(*row) for row in store.cache.rows(sql)]


def write(store: Store, row: Row) -> None:
    """Make or change one Quota: a modseq of its own, so that /changes can stop behind it."""

    def work(change: Change) -> None:
        values: dict[str, Any] = row._asdict() | {"n": change.modseq}
        change.txn.execute(_INSERT, values)
        change.touch("Quota")

    store.commit(work, announce=False)


def remove(store: Store, id_: str) -> None:
    def work(change: Change) -> None:
        change.txn.execute("UPDATE quota SET deleted = 1, modseq = ? WHERE id = ?", (change.modseq, id_))
        change.touch("Quota")

    store.commit(work, announce=False)


def events(store: Store, since: int, limit: int) -> list[Event]:
    """At most ``limit`` changes behind ``since``, oldest first; no two of them at the same modseq.

    What is gone is told even if it was created behind ``since`` (RFC 8620 §5.2 allows it): an id that comes back may
    have been known before.
    """
    sql = (
        "SELECT at, id, kind, props_modseq FROM ("
        " SELECT id, props_modseq, iif(created_modseq > ?1 AND deleted = 0, created_modseq, modseq) AS at,"
        " CASE WHEN deleted = 1 THEN 'destroyed' WHEN created_modseq > ?1 THEN 'created' ELSE 'updated' END AS kind"
        " FROM quota WHERE modseq > ?1) ORDER BY at LIMIT ?2"
    )
    return [Event(*row) for row in store.cache.rows(sql, (since, limit))]
