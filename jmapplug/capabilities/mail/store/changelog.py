"""SQL of /changes for tables with ``id, created_modseq, modseq, deleted`` (mail-rules 10)."""

from __future__ import annotations

from typing import NamedTuple

from jmapplug.store.account import Store

TABLES = {"thread": "0", "mailbox": "props_modseq"}
"""Table → the column that tells when anything but the counts changed."""


class Event(NamedTuple):
    """The one thing to say of a record in a range. ``at``: the modseq that it stands at in the order of changes."""

    at: int
    id: str
    kind: str
    props_modseq: int


def events(store: Store, table: str, since: int, after: str, limit: int) -> list[Event]:
    """At most ``limit`` changes behind the point (``since``, ``after``), in the order of (modseq, id).

    created: live rows created behind the point, wherever they were modified since; updated: modified behind it, created
    before; destroyed: tombstones behind it that were created before. What came and went behind it is not mentioned.
    """
    behind = "(created_modseq > ?1 OR created_modseq = ?1 AND id > ?2)"
    sql = (
        "SELECT at, id, kind, props FROM ("  # noqa: S608 - table and column come from TABLES
        f" SELECT id, iif({behind} AND deleted = 0, created_modseq, modseq) AS at, {TABLES[table]} AS props,"
        f" CASE WHEN deleted = 1 THEN iif({behind}, NULL, 'destroyed') WHEN {behind} THEN 'created'"
        f" ELSE 'updated' END AS kind FROM {table} WHERE modseq >= ?1)"
        " WHERE kind NOTNULL AND (at > ?1 OR at = ?1 AND id > ?2) ORDER BY at, id LIMIT ?3"
    )
    return [Event(*row) for row in store.cache.rows(sql, (since, after, limit))]
