"""SQL of the sieve capability: ids of scripts, and what the last look upstream saw."""

from __future__ import annotations

from collections.abc import Mapping

from jmapplug.store.account import Change, Store
from jmapplug.store.database import Txn


def bindings(store: Store) -> dict[str, str]:
    """Name → id."""
    return dict(store.own.rows("SELECT name, id FROM sieve_binding"))


def bind(store: Store, gone: list[str], moved: Mapping[str, str], new: Mapping[str, str]) -> None:
    """``gone``: names to forget; ``moved``: old name → new name; ``new``: name → id. In this order, all or nothing."""

    def work(txn: Txn) -> None:
        txn.executemany("DELETE FROM sieve_binding WHERE name = ?", [(name,) for name in gone])
        txn.executemany("UPDATE sieve_binding SET name = ? WHERE name = ?", [(b, a) for a, b in moved.items()])
        txn.executemany(
            "INSERT OR REPLACE INTO sieve_binding VALUES (?, ?)", [(id_, name) for name, id_ in new.items()]
        )

    store.own.write(work)


def hashes(store: Store) -> dict[str, str]:
    """Name → blob id at the last look."""
    return dict(store.cache.rows("SELECT name, hash FROM sieve_script"))


def name_with(store: Store, blob_id: str) -> str | None:
    """A script that had this content at the last look."""
    found: str | None = store.cache.value("SELECT name FROM sieve_script WHERE hash = ? LIMIT 1", (blob_id,))
    return found


def see(store: Store, scripts: Mapping[str, str], digests: Mapping[str, str]) -> None:
    """Remember a look; each type whose digest is another one than before gets a new state."""
    known_scripts = hashes(store)
    known: dict[str, str] = dict(store.cache.rows("SELECT type, digest FROM sieve_seen"))
    changed = [name for name, digest in digests.items() if known.get(name) != digest]
    if not changed and known_scripts == scripts:
        return

    def work(change: Change) -> None:
        change.txn.execute("DELETE FROM sieve_script")
        change.txn.executemany("INSERT INTO sieve_script VALUES (?, ?)", list(scripts.items()))
        change.txn.executemany("INSERT OR REPLACE INTO sieve_seen VALUES (?, ?)", list(digests.items()))
        if changed:
            change.touch(*changed)

    store.commit(work)
