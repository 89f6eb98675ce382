"""SQL of writes: an Email's copies as they stand, copies that a write made, transfers under way, local keywords."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from jmapplug.capabilities.mail.keywords import from_json
from jmapplug.capabilities.mail.store.sync import listed
from jmapplug.capabilities.mail.write_plan import Copy
from jmapplug.store.account import Store
from jmapplug.store.database import Txn

_IN = "IN (SELECT value FROM json_each(?))"
Place = tuple[int, int]
"""(mid, uid)."""


class Standing(NamedTuple):
    """A visible Email as it is: keywords, Mailboxes (mids), and the copies that make it so."""

    eid: int
    id: str
    keywords: frozenset[str]
    mids: frozenset[int]
    copies: tuple[Copy, ...]


class Arrival(Protocol):
    """A copy that a write made (write_effects.NewCopy)."""

    mid: int
    uid: int
    eid: int
    origin: Place
    flags: str


def standing(store: Store, ids: Sequence[str]) -> dict[str, Standing]:
    """These Emails, as far as they are visible and it is known where all of their copies are, by id."""
    if not ids:
        return {}
    sql = f"SELECT eid, id, keywords FROM email WHERE id {_IN} AND deleted = 0"  # noqa: S608
    rows = store.cache.rows(sql, (listed(ids),))
    copies: dict[int, list[Copy]] = {row[0]: [] for row in rows}
    sql = "SELECT eid, mid, uid, flags, server_id FROM message"
    sql += f" WHERE eid {_IN} AND (hidden = 0 OR uid < 0) ORDER BY mid, uid"
    ghosts: set[int] = set()
    for eid, mid, uid, flags, server_id in store.cache.rows(sql, (listed(copies),)):
        if uid < 0:
            ghosts.add(eid)
        copies[eid].append(Copy(mid, uid, flags, server_id))
    return {
        id_: Standing(
            eid,
            id_,
            from_json(keywords),
            frozenset(copy.mid for copy in copies[eid]),
            tuple(copies[eid]),
        )
        for eid, id_, keywords in rows
        if copies[eid] and eid not in ghosts
    }


def is_ghost(store: Store, id_: str) -> bool:
    """Whether it is being found out where the copies of an Email are: their UIDs were made anew."""
    sql = "SELECT 1 FROM message JOIN email USING (eid) WHERE id = ? AND uid < 0 AND email.deleted = 0"
    return store.cache.row(sql, (id_,)) is not None


def standing_of(store: Store, eids: Iterable[int]) -> dict[int, Standing]:
    """:func:`standing` of these Emails, by eid."""
    sql = f"SELECT id FROM email WHERE eid {_IN} AND deleted = 0"  # noqa: S608
    names = [id_ for (id_,) in store.cache.rows(sql, (listed(eids),))]
    return {email.eid: email for email in standing(store, names).values()}


def server_ids(store: Store, eids: Iterable[int]) -> dict[int, str]:
    """Email → what the server calls it, where a copy tells."""
    sql = f"SELECT eid, server_id FROM message WHERE eid {_IN} AND server_id NOTNULL"  # noqa: S608
    return dict(store.cache.rows(sql, (listed(eids),)))


def facts(store: Store, eids: Iterable[int]) -> dict[int, tuple[str, str, int]]:
    """Email → (id, thread id, size), of the visible ones."""
    sql = (
        f"SELECT e.eid, e.id, e.thread_id, e.size FROM email e WHERE e.eid {_IN} AND e.deleted = 0"  # noqa: S608
        " AND EXISTS (SELECT 1 FROM email_mailbox m WHERE m.eid = e.eid)"
    )
    return {row[0]: row[1:] for row in store.cache.rows(sql, (listed(eids),))}


def emails_at(store: Store, places: Iterable[Place]) -> dict[Place, int]:
    """(mid, uid) → the Email of that copy."""
    found: dict[Place, int] = {}
    by_mid: dict[int, list[int]] = {}
    for mid, uid in places:
        by_mid.setdefault(mid, []).append(uid)
    for mid, uids in by_mid.items():
        sql = f"SELECT uid, eid FROM message WHERE mid = ? AND uid {_IN} AND eid NOTNULL"  # noqa: S608
        found |= {(mid, uid): eid for uid, eid in store.cache.rows(sql, (mid, listed(uids)))}
    return found


def insert_copies(txn: Txn, copies: Iterable[Arrival]) -> None:
    """Copies with the date, server id and thread of those that they were made from."""
    txn.executemany(
        "INSERT OR REPLACE INTO message (mid, uid, eid, flags, hidden, received_at, server_id, thread_hash)"
        " SELECT ?, ?, ?, ?, 0, received_at, server_id, thread_hash FROM message WHERE mid = ? AND uid = ?",
        ((copy.mid, copy.uid, copy.eid, copy.flags, *copy.origin) for copy in copies),
    )


def move_copies(txn: Txn, copies: Iterable[Arrival]) -> None:
    """The rows of those that they were made from become theirs."""
    txn.executemany(
        "UPDATE OR REPLACE message SET mid = ?, uid = ?, flags = ?, hidden = 0 WHERE mid = ? AND uid = ?",
        ((copy.mid, copy.uid, copy.flags, *copy.origin) for copy in copies),
    )


def hide_copies(txn: Txn, mid: int, uids: Sequence[int]) -> None:
    """They are \\Deleted upstream, and may stay there until somebody expunges."""
    txn.execute(
        f"UPDATE message SET hidden = 1, flags = '\\Deleted' WHERE mid = ? AND uid {_IN}",  # noqa: S608
        (mid, listed(uids)),
    )


# --- transfers under way -------------------------------------------------------------------------------------------


class TransferEntry(NamedTuple):
    """A journalled COPY or MOVE. ``eids``: UID in the source → Email; ``removes``: they are to leave the source."""

    entry: int
    source: int
    target: int
    eids: dict[int, int]
    removes: bool


def begin_transfer(store: Store, source: int, target: int, eids: Mapping[int, int], removes: bool) -> int:
    values = (source, target, msgspec.json.encode(dict(eids)).decode(), removes)
    return store.own.write(
        lambda txn: txn.insert("INSERT INTO mail_transfer (source, target, eids, removes) VALUES (?, ?, ?, ?)", values)
    )


def end_transfer(store: Store, entry: int) -> None:
    store.own.write(lambda txn: txn.execute("DELETE FROM mail_transfer WHERE entry = ?", (entry,)))


def transfers(store: Store) -> list[TransferEntry]:
    """Transfers under way, or those that a worker which died had begun."""
    rows = store.own.rows("SELECT entry, source, target, eids, removes FROM mail_transfer")
    return [
        TransferEntry(entry, source, target, msgspec.json.decode(eids, type=dict[int, int]), bool(removes))
        for entry, source, target, eids, removes in rows
    ]


# --- keywords that the server does not keep --------------------------------------------------------------------------


def local_keywords(store: Store) -> dict[int, frozenset[str]]:
    """Email → keywords that are kept here because its folder refuses them (mail-rules 33)."""
    found: dict[int, set[str]] = {}
    for eid, keyword in store.own.rows("SELECT eid, keyword FROM mail_keyword"):
        found.setdefault(eid, set()).add(keyword)
    return {eid: frozenset(keywords) for eid, keywords in found.items()}


def save_local_keywords(store: Store, add: Iterable[tuple[int, str]], remove: Iterable[tuple[int, str]]) -> None:
    def work(txn: Txn) -> None:
        txn.executemany("INSERT OR IGNORE INTO mail_keyword (eid, keyword) VALUES (?, ?)", add)
        txn.executemany("DELETE FROM mail_keyword WHERE eid = ? AND keyword = ?", remove)

    store.own.write(work)


def arrived(store: Store, move: TransferEntry) -> dict[int, list[int]]:
    """UID in a transfer's source → the UIDs in its target, of each Email that we know in both Mailboxes."""
    there: dict[int, list[int]] = {}
    rows = store.cache.rows(
        f"SELECT eid, uid FROM message WHERE mid = ? AND hidden = 0 AND eid {_IN}",  # noqa: S608
        (move.target, listed(move.eids.values())),
    )
    for eid, uid in rows:
        there.setdefault(eid, []).append(uid)
    left = emails_at(store, [(move.source, uid) for uid in move.eids])
    return {uid: there[eid] for uid, eid in move.eids.items() if eid in there and left.get((move.source, uid)) == eid}
