"""Uploads (RFC 8620 §6.1): which files lie in the account's ``uploads/``, and until when."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import msgspec

from jmapplug.store.account import Store
from jmapplug.store.database import Txn

LIFETIME = 7 * 86_400
"""Seconds that an unused upload is kept."""


class Upload(msgspec.Struct, frozen=True):
    """One upload; times in unix seconds."""

    id: str
    type: str
    size: int
    created_at: int
    expires_at: int


def record(store: Store, blob_id: str, type_: str, size: int, now: float) -> Upload:
    """Remember a file that lies in ``uploads/`` already. The same id again extends its life."""
    upload = Upload(blob_id, type_, size, int(now), int(now) + LIFETIME)

    def work(txn: Txn) -> None:
        values = msgspec.structs.astuple(upload)
        txn.execute("INSERT OR REPLACE INTO store_upload VALUES (?, ?, ?, ?, ?)", values)

    store.own.write(work)
    return upload


def make(store: Store, type_: str, write: Callable[[Path], object], now: float) -> Upload:
    """A new upload whose file ``write`` fills: what the server itself makes for a client (Blob/upload, a script)."""
    blob_id = f"f-{uuid.uuid4()}"
    target = store.blobs.upload_path(blob_id)
    fresh = store.blobs.temporary()
    try:
        write(fresh)
        size = fresh.stat().st_size
        fresh.replace(target)
        return record(store, blob_id, type_, size, now)
    except BaseException:
        fresh.unlink(missing_ok=True)
        target.unlink(missing_ok=True)
        raise


def find(store: Store, blob_id: str, now: float) -> Upload | None:
    """The upload, None where there is none or its time is over."""
    sql = "SELECT id, type, size, created_at, expires_at FROM store_upload WHERE id = ? AND expires_at > ?"
    row = store.own.row(sql, (blob_id, int(now)))
    return None if row is None else Upload(*row)


def stored(store: Store, now: float) -> int:
    """Octets of all uploads that are still kept."""
    return int(store.own.value("SELECT coalesce(sum(size), 0) FROM store_upload WHERE expires_at > ?", (int(now),)))


def expired(store: Store, now: float, limit: int) -> list[str]:
    """At most ``limit`` ids of uploads whose time is over."""
    sql = "SELECT id FROM store_upload WHERE expires_at <= ? LIMIT ?"
    return [id_ for (id_,) in store.own.rows(sql, (int(now), limit))]


def discard(store: Store, ids: list[str]) -> None:
    """Uploads that nobody needs any more go, their files first."""
    for id_ in ids:
        store.blobs.upload_path(id_).unlink(missing_ok=True)
    forget(store, ids)


def forget(store: Store, ids: list[str]) -> None:
    """Remove these rows (their files first)."""
    store.own.write(
        lambda txn: txn.executemany("DELETE FROM store_upload WHERE id = ?", [(id_,) for id_ in ids]),
    )
