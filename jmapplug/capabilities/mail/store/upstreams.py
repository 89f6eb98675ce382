"""SQL of moving between servers: which upstream is the current one, and what is kept of the others (``own_4.sql``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple
from weakref import WeakKeyDictionary

from jmapplug.capabilities.mail.store.sync import HERE
from jmapplug.store.account import Change, Store
from jmapplug.store.database import Database, Txn

_current: WeakKeyDictionary[Database, str | None] = WeakKeyDictionary()
"""Asked for before every write and every reading of a body; nobody else changes it."""


class LastCopy(NamedTuple):
    """One of the newest copies of a folder."""

    uid: int
    server_id: str | None
    eid: int


def current(own: Database) -> str | None:
    """The identity of the upstream that Mailboxes and bindings are of; None before the first listing."""
    if own not in _current:
        _current[own] = own.value("SELECT identity FROM mail_upstream WHERE current = 1")
    return _current[own]


def left(own: Database) -> tuple[int, str]:
    """How many messages are known of the upstreams that the account is not at, and the name of one that has most."""
    found = own.rows(
        f"SELECT upstream, count(*) FROM mail_binding WHERE upstream != {HERE} GROUP BY upstream ORDER BY 2 DESC"  # noqa: S608
    )
    if not found:
        return 0, ""
    number, count = found[0]
    return count, own.value("SELECT identity FROM mail_upstream WHERE number = ?", (number,)) or ""


def rename(own: Database, identity: str) -> None:
    """The current upstream goes by this name as well, and by no other for now."""
    own.write(lambda txn: _make_current(txn, identity, int(txn.value(f"SELECT {HERE}"))))
    _current[own] = identity


def _make_current(txn: Txn, identity: str, number: int) -> None:
    txn.execute("UPDATE mail_upstream SET current = 0")
    txn.execute("INSERT OR REPLACE INTO mail_upstream (identity, number, current) VALUES (?, ?, 1)", (identity, number))


def move(own: Database, identity: str, keys: Mapping[int, bytes]) -> None:
    """The account is at this upstream now. Mailboxes get the names and ids that it knew them by, if it was here before.

    ``keys``: mid → the raw name of the folder in the same place there, for all others. What had been begun at the old
    one is given up: it cannot be finished there any more.
    """

    def work(txn: Txn) -> None:
        old = int(txn.value(f"SELECT {HERE}"))
        number = txn.value("SELECT number FROM mail_upstream WHERE identity = ?", (identity,))
        # Two names of one server until now, and each went its own way since.
        if number is None or number == old:
            number = 1 + max(old, int(txn.value("SELECT max(number) FROM mail_upstream") or 0))
        _leave(txn, old)
        _find_again(txn, int(number), keys)
        _come_back(txn, int(number))
        txn.execute("DELETE FROM mail_folder_intent")
        txn.execute("DELETE FROM mail_transfer")
        _make_current(txn, identity, int(number))

    own.write(work)
    _current[own] = identity


def _leave(txn: Txn, number: int) -> None:
    txn.execute("DELETE FROM mail_mailbox_away WHERE upstream = ?", (number,))
    txn.execute(
        "INSERT INTO mail_mailbox_away (upstream, mid, key, server_id, uidvalidity, uidnext, role, role_source)"
        " SELECT ?, mid, key, server_id, uidvalidity, uidnext, role, role_source FROM mail_mailbox WHERE gone = 0",
        (number,),
    )
    txn.execute("UPDATE mail_mailbox SET server_id = NULL, uidvalidity = NULL, uidnext = NULL WHERE gone = 0")


def _find_again(txn: Txn, number: int, keys: Mapping[int, bytes]) -> None:
    known = {mid for (mid,) in txn.rows("SELECT mid FROM mail_mailbox_away WHERE upstream = ?", (number,))}
    found = [(key, mid) for mid, key in keys.items() if mid not in known]
    # No key is there twice at any moment.
    txn.executemany("UPDATE mail_mailbox SET key = x'00' || mid WHERE key = ?1 OR mid = ?2", found)
    txn.executemany("UPDATE mail_mailbox SET key = ? WHERE mid = ? AND gone = 0", found)


def _come_back(txn: Txn, number: int) -> None:
    # No key is there twice at any moment, and no role.
    txn.execute(
        "UPDATE mail_mailbox SET key = x'00' || mid WHERE gone = 0 AND ("
        " mid IN (SELECT mid FROM mail_mailbox_away WHERE upstream = ?1)"
        " OR key IN (SELECT key FROM mail_mailbox_away WHERE upstream = ?1))",
        (number,),
    )
    txn.execute(
        "UPDATE mail_mailbox SET role = a.role, role_source = a.role_source FROM mail_mailbox_away a"
        " WHERE a.upstream = ?1 AND a.mid = mail_mailbox.mid AND mail_mailbox.gone = 1"
        " AND a.role NOT IN (SELECT role FROM mail_mailbox WHERE gone = 0 AND role IS NOT NULL)",
        (number,),
    )
    txn.execute(
        "UPDATE mail_mailbox SET gone = 0, key = a.key, server_id = a.server_id, uidvalidity = a.uidvalidity,"
        " uidnext = a.uidnext FROM mail_mailbox_away a WHERE a.upstream = ?1 AND a.mid = mail_mailbox.mid",
        (number,),
    )


# --- the cache -----------------------------------------------------------------------------------------------------


def last_copies(store: Store, mid: int, count: int) -> list[LastCopy]:
    """The copies with the highest UIDs of a folder."""
    sql = "SELECT uid, server_id, eid FROM message WHERE mid = ? AND uid > 0 AND eid NOTNULL ORDER BY uid DESC LIMIT ?"
    return [LastCopy(*row) for row in store.cache.rows(sql, (mid, count))]


def last_ghost(store: Store, mid: int) -> int:
    """Below the negative of this there is no ghost in the folder."""
    return -int(store.cache.value("SELECT min(uid) FROM message WHERE mid = ? AND uid < 0", (mid,)) or 0)


def mark_moved(change: Change, mid: int) -> None:
    """Nothing that is known of the folder's UIDs means anything, until a pass has read it through."""
    change.txn.execute(
        "UPDATE mailbox SET moved = 1, uidvalidity = NULL, uidnext = NULL, highestmodseq = NULL, messages = NULL"
        " WHERE mid = ?",
        (mid,),
    )
