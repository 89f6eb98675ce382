"""SQL of our own changes to the tree of Mailboxes: intents (own), keys, roles and orders (own and cache)."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from jmapplug.capabilities.mail import ids
from jmapplug.capabilities.mail.folders import Intent
from jmapplug.capabilities.mail.store.mailboxes import Row, recount
from jmapplug.capabilities.mail.store.sync import listed
from jmapplug.store.account import Change, Store
from jmapplug.store.database import Txn

_INTENT = ", ".join(Intent._fields)


def intents(store: Store) -> list[Intent]:
    """Everything that was begun, oldest first."""
    return [Intent(*row) for row in store.own.rows(f"SELECT {_INTENT} FROM mail_folder_intent ORDER BY number")]  # noqa: S608


def rows_of(store: Store, mids: Iterable[int]) -> list[Row]:
    """The live Mailboxes among ``mids``."""
    columns = ", ".join(Row._fields)
    sql = f"SELECT {columns} FROM mailbox WHERE deleted = 0 AND mid IN (SELECT value FROM json_each(?))"  # noqa: S608
    return [Row(*row) for row in store.cache.rows(sql, (listed(mids),))]


def begin(store: Store, kind: str, **facts: Any) -> int:
    """Write down what is about to be done upstream, ``facts`` by the fields of Intent; its number."""
    return store.own.write(lambda txn: _note(txn, kind, facts))


def _note(txn: Txn, kind: str, facts: Mapping[str, Any]) -> int:
    row = {"kind": kind, "at": int(time.time()), **facts}
    columns, marks = ", ".join(row), ", ".join("?" * len(row))
    return txn.insert(f"INSERT INTO mail_folder_intent ({columns}) VALUES ({marks})", tuple(row.values()))  # noqa: S608


def forget(store: Store, numbers: Iterable[int]) -> None:
    rows = [(number,) for number in numbers]
    if rows:
        store.own.write(lambda txn: txn.executemany("DELETE FROM mail_folder_intent WHERE number = ?", rows))


def _made(txn: Txn, mid: int, done: int) -> None:
    """What was begun is done; for a while a listing without it means nothing."""
    txn.execute("DELETE FROM mail_folder_intent WHERE number = ?1 OR (kind = 'made' AND mid = ?2)", (done, mid))
    _note(txn, "made", {"mid": mid})


def bind_new(store: Store, done: int, key: bytes, role: tuple[str | None, str | None], sort_order: int | None) -> int:
    """A folder that we made has a box now; its mid. ``role``: with its source; ``done``: the intent."""

    def work(txn: Txn) -> int:
        _displace(txn, key)
        mid = txn.insert(
            "INSERT INTO mail_mailbox (key, role, role_source, sort_order) VALUES (?, ?, ?, ?)",
            (key, *role, sort_order),
        )
        _made(txn, mid, done)
        return mid

    return store.own.write(work)


def rebind(store: Store, done: int, mid: int, keys: Mapping[int, bytes], *, parking: bool) -> None:
    """A renamed box and all below it: mid → key. Unless it was to park it, it is not parked any more."""

    def work(txn: Txn) -> None:
        # No key is there twice at any moment.
        txn.executemany("UPDATE mail_mailbox SET key = x'00' || mid WHERE mid = ?", [(one,) for one in keys])
        for key in keys.values():
            _displace(txn, key)
        txn.executemany("UPDATE mail_mailbox SET key = ? WHERE mid = ?", [(key, one) for one, key in keys.items()])
        if not parking:
            txn.execute("DELETE FROM mail_folder_intent WHERE kind = 'park' AND mid = ?", (mid,))
        _made(txn, mid, done)

    store.own.write(work)


def _displace(txn: Txn, key: bytes) -> None:
    """The name was free upstream: a box that is bound to it is elsewhere, and the next listing says where."""
    txn.execute("UPDATE mail_mailbox SET key = x'00' || mid WHERE key = ? AND gone = 0", (key,))


def set_own(store: Store, mid: int, values: Mapping[str, Any]) -> None:
    """Columns of ``mail_mailbox`` that are ours alone: role and role_source, sort_order."""
    if values:
        names = ", ".join(f"{name} = ?" for name in values)
        store.own.write(
            lambda txn: txn.execute(f"UPDATE mail_mailbox SET {names} WHERE mid = ?", (*values.values(), mid))  # noqa: S608
        )


def unbind_box(store: Store, mid: int) -> None:
    """The box is gone, with whatever was begun with it."""

    def work(txn: Txn) -> None:
        txn.execute("UPDATE mail_mailbox SET gone = 1, role = NULL WHERE mid = ?", (mid,))
        txn.execute("DELETE FROM mail_folder_intent WHERE mid = ?", (mid,))

    store.own.write(work)


def show_new(change: Change, store: Store, mid: int, values: Mapping[str, Any]) -> None:
    """A new row of the cache; ``values`` by the names of its columns."""
    row = {
        "mid": mid,
        "id": ids.mailbox_id(store.salt, mid),
        **values,
        **dict.fromkeys(("created_modseq", "modseq", "props_modseq"), change.modseq),
    }
    columns, marks = ", ".join(row), ", ".join("?" * len(row))
    change.txn.execute(f"INSERT OR REPLACE INTO mailbox ({columns}) VALUES ({marks})", tuple(row.values()))  # noqa: S608
    change.touch("Mailbox")
    if values["role"] == "trash":
        recount(change, None, mid)


def show(change: Change, mid: int, values: Mapping[str, Any]) -> None:
    """Change visible columns of a row; a Trash that comes or goes is counted anew (mail-rules 16)."""
    names = ", ".join(f"{name} = ?" for name in values)
    before = _trash(change.txn)
    change.txn.execute(
        f"UPDATE mailbox SET {names}, modseq = ?, props_modseq = ? WHERE mid = ? AND deleted = 0",  # noqa: S608
        (*values.values(), change.modseq, change.modseq, mid),
    )
    change.touch("Mailbox")
    after = _trash(change.txn)
    if before != after:
        recount(change, before, after)


def rekey(change: Change, keys: Mapping[int, bytes]) -> None:
    """Other keys; nothing that a client sees."""
    change.txn.executemany("UPDATE mailbox SET key = ? WHERE mid = ?", [(key, mid) for mid, key in keys.items()])


def _trash(txn: Txn) -> int | None:
    found: int | None = txn.value("SELECT mid FROM mailbox WHERE role = 'trash' AND deleted = 0")
    return found
