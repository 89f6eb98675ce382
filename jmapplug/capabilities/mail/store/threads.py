"""SQL of Thread/get."""

from __future__ import annotations

from collections.abc import Sequence

from jmapplug.capabilities.mail.store.sync import listed
from jmapplug.store.account import Store


def ids(store: Store, limit: int) -> list[str]:
    """At most ``limit`` ids of live Threads."""
    return [id_ for (id_,) in store.cache.rows("SELECT id FROM thread WHERE deleted = 0 LIMIT ?", (limit,))]


def email_ids(store: Store, thread_ids: Sequence[str]) -> dict[str, list[str]]:
    """Thread id → its Emails' ids, oldest first, ties by id (RFC 8621 §3)."""
    sql = (
        "SELECT t.id, e.id FROM thread t JOIN email e ON e.tid = t.tid AND e.deleted = 0"
        " WHERE t.id IN (SELECT value FROM json_each(?)) AND t.deleted = 0 ORDER BY t.tid, e.received_at, e.id"
    )
    found: dict[str, list[str]] = {}
    for thread, email in store.cache.rows(sql, (listed(thread_ids),)):
        found.setdefault(thread, []).append(email)
    return found
