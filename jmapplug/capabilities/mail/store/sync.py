"""SQL of the sync: copies (``message``), id bindings and evidence (own), and the batch look-ups that linking needs.

Lists go in as one JSON parameter (``json_each``), so a batch costs one statement.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from jmapplug.capabilities.mail.plan import FlagChange, NewCopy
from jmapplug.store.account import Change, Store
from jmapplug.store.database import Database, Txn

_IN = "IN (SELECT value FROM json_each(?))"
HERE = "coalesce((SELECT number FROM mail_upstream WHERE current = 1), 0)"
"""The number of the upstream that the account is at (``own_4.sql``)."""
_BIND = f"INSERT OR REPLACE INTO mail_binding (mid, uidvalidity, uid, upstream, eid) VALUES (?, ?, ?, {HERE}, ?)"  # noqa: S608
_UNBIND = f"DELETE FROM mail_binding WHERE mid = ? AND uidvalidity = ? AND uid {_IN} AND upstream = {HERE}"  # noqa: S608
_WINDOW = 5_000


def listed(values: Iterable[Any]) -> str:
    """A JSON array, for ``json_each``."""
    return msgspec.json.encode(list(values)).decode()


class Bound(NamedTuple):
    """What ``own`` knows of an Email for good."""

    eid: int
    tid: int
    received_at: int
    size: int


class Pending(NamedTuple):
    """A copy whose details are due."""

    uid: int
    received_at: int
    server_id: str | None
    thread_hash: int | None


# --- copies --------------------------------------------------------------------------------------------------------


def copies(store: Store, mid: int, uids: Sequence[int]) -> dict[int, tuple[str, bool]]:
    """UID → (flags, hidden) of those of ``uids`` that are known."""
    sql = f"SELECT uid, flags, hidden FROM message WHERE mid = ? AND uid {_IN}"  # noqa: S608
    return {uid: (flags, bool(hidden)) for uid, flags, hidden in store.cache.rows(sql, (mid, listed(uids)))}


def known_uids(store: Store, mid: int) -> list[int]:
    """The UIDs known in a folder, ascending; copies of a time before a reset are not among them."""
    return [uid for (uid,) in store.cache.rows("SELECT uid FROM message WHERE mid = ? AND uid > 0", (mid,))]


def known_between(store: Store, mid: int, first: int, end: int) -> list[int]:
    """The UIDs known in a folder from ``first`` to below ``end``."""
    sql = "SELECT uid FROM message WHERE mid = ? AND uid >= ? AND uid < ? AND uid > 0"
    return [uid for (uid,) in store.cache.rows(sql, (mid, first, end))]


def ghosts(store: Store, mid: int) -> list[int]:
    """Copies of a time before a UIDVALIDITY reset, kept with negative UIDs until the pass ends (mail-rules 19)."""
    return [uid for (uid,) in store.cache.rows("SELECT uid FROM message WHERE mid = ? AND uid < 0", (mid,))]


def insert_copies(txn: Txn, mid: int, rows: Iterable[NewCopy], thread_hashes: Mapping[int, int]) -> None:
    """New rows; none for a Mailbox that is gone by now."""
    if not txn.row("SELECT 1 FROM mailbox WHERE mid = ? AND deleted = 0", (mid,)):
        return
    txn.executemany(
        "INSERT OR IGNORE INTO message (mid, uid, eid, flags, hidden, received_at, server_id, thread_hash)"
        " VALUES (?, ?, NULL, ?, ?, ?, ?, ?)",
        (
            (mid, row.uid, row.flags, row.hidden, row.received_at, row.server_id, thread_hashes.get(row.uid))
            for row in rows
        ),
    )


def update_flags(txn: Txn, mid: int, rows: Iterable[FlagChange]) -> None:
    txn.executemany(
        "UPDATE message SET flags = ?, hidden = ? WHERE mid = ? AND uid = ?",
        ((row.flags, row.hidden, mid, row.uid) for row in rows),
    )


def emails_of(txn: Txn, mid: int, uids: Sequence[int]) -> list[int]:
    """The Emails that these copies belong to."""
    sql = f"SELECT DISTINCT eid FROM message WHERE mid = ? AND uid {_IN} AND eid IS NOT NULL"  # noqa: S608
    return [eid for (eid,) in txn.rows(sql, (mid, listed(uids)))]


def delete_copies(txn: Txn, mid: int, uids: Sequence[int]) -> None:
    txn.execute(f"DELETE FROM message WHERE mid = ? AND uid {_IN}", (mid, listed(uids)))  # noqa: S608


def make_ghosts(txn: Txn, mid: int, limit: int, below: int = 0) -> int:
    """Turn up to ``limit`` copies into ghosts, drop those that were pending; how many positive ones there were.

    ``below``: their numbers begin below the negative of this, so that older ghosts stay too.
    """
    uids = [uid for (uid,) in txn.rows("SELECT uid FROM message WHERE mid = ? AND uid > 0 LIMIT ?", (mid, limit))]
    text = listed(uids)
    txn.execute(f"DELETE FROM message WHERE mid = ? AND uid {_IN} AND eid IS NULL", (mid, text))  # noqa: S608
    txn.execute(f"DELETE FROM message WHERE mid = ? AND -uid - ? {_IN}", (mid, below, text))  # noqa: S608
    txn.execute(f"UPDATE message SET uid = -uid - ? WHERE mid = ? AND uid {_IN}", (below, mid, text))  # noqa: S608
    return len(uids)


def release(txn: Txn, eids: Sequence[int]) -> None:
    """Visible copies of Emails that are no more wait for their details again (``\\Deleted`` was cleared)."""
    txn.execute(f"UPDATE message SET eid = NULL WHERE eid {_IN} AND hidden = 0", (listed(eids),))  # noqa: S608


def assign(txn: Txn, mid: int, rows: Iterable[tuple[int, int]]) -> None:
    """Rows (eid, uid): these copies are these Emails'."""
    txn.executemany("UPDATE message SET eid = ? WHERE mid = ? AND uid = ?", ((eid, mid, uid) for eid, uid in rows))


def waiting(txn: Txn, mid: int, uids: Sequence[int]) -> dict[int, str]:
    """UID → flags of those of ``uids`` that are still there, visible, and without an Email."""
    sql = f"SELECT uid, flags FROM message WHERE mid = ? AND uid {_IN} AND eid IS NULL AND hidden = 0"  # noqa: S608
    return dict(txn.rows(sql, (mid, listed(uids))))


def pending(store: Store, mid: int, limit: int, skip: Iterable[int] = ()) -> list[Pending]:
    """The newest copies of a folder that wait for their details."""
    sql = (
        "SELECT uid, received_at, server_id, thread_hash FROM message INDEXED BY message_pending"  # noqa: S608
        f" WHERE mid = ? AND eid IS NULL AND hidden = 0 AND uid > 0 AND uid NOT {_IN}"
        " ORDER BY received_at DESC LIMIT ?"
    )
    return [Pending(*row) for row in store.cache.rows(sql, (mid, listed(skip), limit))]


def newest_pending(store: Store, mid: int) -> int | None:
    """When the newest pending copy of a folder was received."""
    sql = (
        "SELECT received_at FROM message INDEXED BY message_pending WHERE mid = ? AND eid IS NULL AND hidden = 0"
        " ORDER BY received_at DESC LIMIT 1"
    )
    return store.cache.value(sql, (mid,))  # type: ignore[no-any-return]


def pending_facts(store: Store, mid: int, uids: Sequence[int]) -> dict[int, Pending]:
    sql = f"SELECT uid, received_at, server_id, thread_hash FROM message WHERE mid = ? AND uid {_IN}"  # noqa: S608
    return {row[0]: Pending(*row) for row in store.cache.rows(sql, (mid, listed(uids)))}


def pending_count(store: Store) -> int:
    """How many copies wait for their details. What is marked \\Deleted waits for nothing."""
    sql = "SELECT count(*) FROM message INDEXED BY message_pending WHERE eid IS NULL AND hidden = 0"
    return int(store.cache.value(sql))


def orphaned(store: Store, going: Mapping[int, Sequence[int]]) -> set[str]:
    """The server ids of copies in ``going`` (mid → UIDs) whose Email has no visible copy elsewhere; "" for none."""
    found: set[str] = set()
    for mid, uids in going.items():
        for start in range(0, len(uids), 1000):
            part = listed(uids[start : start + 1000])
            sql = (
                "SELECT m.server_id, m.eid FROM message m WHERE m.mid = ?1 AND m.uid IN (SELECT value FROM"
                " json_each(?2)) AND m.eid IS NOT NULL AND m.hidden = 0 AND NOT EXISTS (SELECT 1 FROM message o"
                " WHERE o.eid = m.eid AND o.hidden = 0 AND NOT (o.mid = ?1 AND o.uid IN"
                " (SELECT value FROM json_each(?2))))"
            )
            found.update(server_id or "" for server_id, _ in store.cache.rows(sql, (mid, part)))
    return found


def pending_by_server_id(store: Store, mid: int, after: int, server_ids: str) -> tuple[list[int], int | None]:
    """UIDs of pending copies with one of ``server_ids`` (a list for json_each) in a window; where the next one begins.

    There is no index over server ids, and a folder may be large: so one call looks at some thousand copies only.
    """
    until: int | None = store.cache.value(
        "SELECT uid FROM message WHERE mid = ? AND uid > ? ORDER BY uid LIMIT 1 OFFSET ?", (mid, after, _WINDOW)
    )
    sql = (
        "SELECT uid FROM message WHERE mid = ? AND uid > ? AND uid <= ? AND eid IS NULL AND hidden = 0"  # noqa: S608
        f" AND server_id {_IN}"
    )
    rows = store.cache.rows(sql, (mid, after, until or 1 << 62, server_ids))
    return [uid for (uid,) in rows], until


def sample(store: Store, mid: int) -> list[tuple[int, int]]:
    """Three (UID, eid) of a folder: the lowest, one in the middle, the highest (mail-rules 6)."""
    rows = store.cache.rows(
        "SELECT uid, eid FROM message WHERE mid = ? AND uid > 0 AND eid IS NOT NULL ORDER BY uid", (mid,)
    )
    return [rows[0], rows[len(rows) // 2], rows[-1]] if len(rows) >= 3 else []


# --- own: bindings and evidence ------------------------------------------------------------------------------------


def bindings(own: Database, mid: int, validity: int, uids: Sequence[int]) -> dict[int, Bound]:
    """UID → Email of what was bound before (mail-rules 2)."""
    sql = (
        "SELECT b.uid, e.eid, e.tid, e.received_at, e.size FROM mail_binding b JOIN mail_email e USING (eid)"  # noqa: S608
        f" WHERE b.mid = ? AND b.uidvalidity = ? AND b.uid {_IN} AND b.upstream = {HERE}"
    )
    return {row[0]: Bound(*row[1:]) for row in own.rows(sql, (mid, validity, listed(uids)))}


def evidence(own: Database, hashes: Iterable[int]) -> dict[int, list[Bound]]:
    """Evidence → the Emails that it speaks for, oldest first."""
    sql = (
        "SELECT v.hash, e.eid, e.tid, e.received_at, e.size FROM mail_evidence v JOIN mail_email e USING (eid)"  # noqa: S608
        f" WHERE v.hash {_IN} ORDER BY v.hash, e.eid"
    )
    found: dict[int, list[Bound]] = {}
    for row in own.rows(sql, (listed(hashes),)):
        found.setdefault(row[0], []).append(Bound(*row[1:]))
    return found


def evidence_kinds(own: Database, eid: int) -> set[int]:
    """Which kinds of evidence an Email has (``ids.KINDS``)."""
    return {value & 3 for (value,) in own.rows("SELECT hash FROM mail_evidence WHERE eid = ?", (eid,))}


def is_evidence(own: Database, value: int, eid: int) -> bool:
    return own.row("SELECT 1 FROM mail_evidence WHERE hash = ? AND eid = ?", (value, eid)) is not None


def last_eid(own: Database) -> int:
    """The highest number ever given to an Email."""
    return int(own.value("SELECT seq FROM sqlite_sequence WHERE name = 'mail_email'") or 0)


def bind(
    own: Database,
    mid: int,
    validity: int,
    emails: Sequence[Bound],
    copies_: Sequence[tuple[int, int]],
    evidence_: Iterable[tuple[int, int]],
) -> None:
    """New Emails, the copies (uid, eid) that are theirs, and evidence (hash, eid), in one transaction."""

    def work(txn: Txn) -> None:
        txn.executemany("INSERT INTO mail_email (eid, tid, received_at, size) VALUES (?, ?, ?, ?)", emails)
        txn.executemany(_BIND, ((mid, validity, uid, eid) for uid, eid in copies_))
        txn.executemany("INSERT OR IGNORE INTO mail_evidence (hash, eid) VALUES (?, ?)", evidence_)

    own.write(work)


def rebind(
    own: Database, new: Iterable[tuple[int, int, int, int]], gone: Iterable[tuple[int, int, Sequence[int]]]
) -> None:
    """Copies that came, rows (mid, uidvalidity, uid, eid), and copies that went, (mid, uidvalidity, UIDs), at once."""
    rows = [(mid, validity, listed(uids)) for mid, validity, uids in gone]

    def work(txn: Txn) -> None:
        txn.executemany(_BIND, new)
        txn.executemany(_UNBIND, rows)

    own.write(work)


def unbind(own: Database, mid: int, validity: int, uids: Sequence[int]) -> None:
    rebind(own, [], [(mid, validity, uids)])


def unbind_some(own: Database, mid: int, limit: int, keep_validity: int | None = None) -> int:
    """Drop up to ``limit`` bindings of a folder, but those under ``keep_validity``; how many went."""
    sql = (
        f"DELETE FROM mail_binding WHERE mid = ?1 AND upstream = {HERE} AND (uidvalidity, uid) IN ("  # noqa: S608
        f"SELECT uidvalidity, uid FROM mail_binding WHERE mid = ?1 AND upstream = {HERE} AND uidvalidity IS NOT ?2"
        " LIMIT ?3)"
    )
    return own.write(lambda txn: txn.execute(sql, (mid, keep_validity, limit)))


def forget_unbound(store: Store, after: int, count: int) -> int | None:
    """Forget Emails without any copy that no tombstone remembers, among the ``count`` after eid ``after``.

    The last eid looked at, None at the end.
    """
    eids: list[int] = [
        e for (e,) in store.own.rows("SELECT eid FROM mail_email WHERE eid > ? ORDER BY eid LIMIT ?", (after, count))
    ]
    if not eids:
        return None
    text = listed(eids)
    known = {e for (e,) in store.cache.rows(f"SELECT eid FROM email WHERE eid {_IN}", (text,))}  # noqa: S608
    bound = f"SELECT DISTINCT eid FROM mail_binding WHERE eid {_IN}"  # noqa: S608
    known |= {e for (e,) in store.own.rows(bound, (text,))}
    gone = listed(eid for eid in eids if eid not in known)

    def work(txn: Txn) -> None:
        txn.execute(f"DELETE FROM mail_evidence WHERE eid {_IN}", (gone,))  # noqa: S608
        txn.execute(f"DELETE FROM mail_email WHERE eid {_IN}", (gone,))  # noqa: S608

    if gone != "[]":
        store.own.write(work)
    return eids[-1]


# --- references ----------------------------------------------------------------------------------------------------


def threads_of(store: Store, hashes: Iterable[int]) -> dict[int, int]:
    """Reference hash → tid."""
    sql = f"SELECT hash, tid FROM thread_ref WHERE hash {_IN}"  # noqa: S608
    return dict(store.cache.rows(sql, (listed(hashes),)))


def thread_sizes(store: Store, tids: Iterable[int]) -> dict[int, int]:
    sql = f"SELECT tid, emails FROM thread WHERE tid {_IN} AND deleted = 0"  # noqa: S608
    return dict(store.cache.rows(sql, (listed(tids),)))


def learn(change: Change, learned: Mapping[int, int], replaced: Mapping[int, int]) -> None:
    """Remember reference hashes; ``replaced`` ones move to another thread."""
    change.txn.executemany("INSERT OR IGNORE INTO thread_ref (hash, tid) VALUES (?, ?)", learned.items())
    change.txn.executemany("INSERT OR REPLACE INTO thread_ref (hash, tid) VALUES (?, ?)", replaced.items())


# --- candidates ----------------------------------------------------------------------------------------------------


def a_copy(store: Store, eid: int) -> tuple[bytes, int] | None:
    """(folder's key, UID) of a copy that upstream still has."""
    row = store.cache.row(
        "SELECT b.key, m.uid FROM message m JOIN mailbox b USING (mid) WHERE m.eid = ? AND m.uid > 0 AND b.deleted = 0"
        " LIMIT 1",
        (eid,),
    )
    return None if row is None else (row[0], row[1])


def places(store: Store, eid: int) -> list[tuple[int, int]]:
    """(mid, UID) of every copy of an Email, ghosts among them."""
    return store.cache.rows("SELECT mid, uid FROM message WHERE eid = ?", (eid,))


def here(own: Database) -> int:
    """The number of the upstream that the account is at."""
    return int(own.value(f"SELECT {HERE}"))
