"""SQL of Mailboxes: bindings (own), rows and sync points (cache), reads for Mailbox/get and its relatives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from jmapplug.backends import SyncPoint
from jmapplug.capabilities.mail import ids
from jmapplug.capabilities.mail.folders import NO_FLAGS, READ_ONLY, Binding, Box, selected_rights
from jmapplug.capabilities.mail.plan import Known
from jmapplug.store.account import Change, Store
from jmapplug.store.database import Txn

_MARKS = READ_ONLY | NO_FLAGS


class Row(NamedTuple):
    """A live Mailbox as stored."""

    mid: int
    id: str
    key: bytes
    name: str
    parent: int | None
    role: str | None
    sort_order: int
    rights: int
    subscribed: int
    selectable: int
    total_emails: int
    unread_emails: int
    total_threads: int
    unread_threads: int
    uidvalidity: int | None
    uidnext: int | None
    highestmodseq: int | None
    messages: int | None
    full_flags_at: int
    created_modseq: int
    modseq: int
    props_modseq: int
    permanent_flags: str | None
    moved: int

    @property
    def known(self) -> Known:
        return Known(self.uidvalidity, self.uidnext, self.highestmodseq, self.messages, self.full_flags_at)


_PROPS = ("key", "name", "parent", "role", "sort_order", "rights", "subscribed", "selectable")
_COLUMNS = ", ".join(Row._fields)


def rows(store: Store) -> list[Row]:
    """Every live Mailbox."""
    return [Row(*row) for row in store.cache.rows(f"SELECT {_COLUMNS} FROM mailbox WHERE deleted = 0")]  # noqa: S608


def key_of(store: Store, mid: int) -> bytes | None:
    """The raw name of a live Mailbox's folder."""
    key: bytes | None = store.cache.value("SELECT key FROM mailbox WHERE mid = ? AND deleted = 0", (mid,))
    return key


def bindings(store: Store) -> list[Binding]:
    """Every box that is not gone."""
    sql = (
        "SELECT mid, key, server_id, uidvalidity, uidnext, role, role_source, sort_order FROM mail_mailbox"
        " WHERE gone = 0 ORDER BY mid"
    )
    return [Binding(*row) for row in store.own.rows(sql)]


def bind(store: Store, boxes: Sequence[Box], known: Sequence[Binding]) -> dict[bytes, int]:
    """Make own.mail_mailbox say what the plan says; key → mid. Nothing is written where nothing differs."""
    old = {box.mid: box for box in known}
    mids = {box.key: box.mid for box in boxes if box.mid}
    gone = [mid for mid in old if mid not in set(mids.values())]
    changed = [
        box
        for box in boxes
        if box.mid
        and (box.key, box.server_id, box.role, box.role_source)
        != (old[box.mid].key, old[box.mid].server_id, old[box.mid].role, old[box.mid].role_source)
    ]
    fresh = [box for box in boxes if not box.mid]
    if not (gone or changed or fresh):
        return mids

    def work(txn: Txn) -> None:
        txn.executemany("UPDATE mail_mailbox SET gone = 1, role = NULL WHERE mid = ?", [(mid,) for mid in gone])
        # Two folders may have swapped their names: no key is there twice at any moment.
        txn.executemany("UPDATE mail_mailbox SET key = x'00' || mid WHERE mid = ?", [(box.mid,) for box in changed])
        txn.executemany(
            "UPDATE mail_mailbox SET key = ?, server_id = ?, role = ?, role_source = ? WHERE mid = ?",
            [(box.key, box.server_id, box.role, box.role_source, box.mid) for box in changed],
        )
        for box in fresh:
            mids[box.key] = txn.insert(
                "INSERT INTO mail_mailbox (key, server_id, role, role_source) VALUES (?, ?, ?, ?)",
                (box.key, box.server_id, box.role, box.role_source),
            )

    store.own.write(work)
    return mids


def save_points(store: Store, points: Sequence[tuple[int, int, int]]) -> None:
    """Rows (uidvalidity, uidnext, mid): how far each folder's UIDs are known, for a cache that gets lost."""
    sql = "UPDATE mail_mailbox SET uidvalidity = ?, uidnext = ? WHERE mid = ?"
    store.own.write(lambda txn: txn.executemany(sql, points))


def save(change: Change, store: Store, boxes: Sequence[Box], mids: dict[bytes, int], live: Sequence[Row]) -> None:
    """Make the cache's rows say what the plan says; only what differs moves a modseq (mail-rules 12)."""
    stored = {row.mid: row for row in live}
    for box in boxes:
        mid = mids[box.key]
        parent = mids.get(box.parent) if box.parent is not None else None
        row = stored.get(mid)
        marks = row.rights & _MARKS if row else 0
        props = (
            box.key,
            box.name,
            parent,
            box.role,
            box.sort_order,
            selected_rights(box.rights, marks),
            int(box.subscribed),
            int(box.selectable),
        )
        if row is None:
            _insert(change, store, mid, props)
        elif props != tuple(getattr(row, name) for name in _PROPS):
            _update(change, mid, props)
    there = set(mids.values())
    for row in live:
        # On its way out: its Emails are in sight until the end of the pass, its role is another's to have.
        if row.mid not in there and row.role is not None:
            change.txn.execute(
                "UPDATE mailbox SET role = NULL, modseq = ?1, props_modseq = ?1 WHERE mid = ?2",
                (change.modseq, row.mid),
            )
            change.touch("Mailbox")


def _insert(change: Change, store: Store, mid: int, props: tuple[Any, ...]) -> None:
    revived = change.txn.row("SELECT 1 FROM mailbox WHERE mid = ?", (mid,)) is not None
    # One that another server has is read in the pass that links what was at the old one.
    moved = change.txn.row("SELECT 1 FROM mailbox WHERE moved = 1 AND deleted = 0") is not None
    columns = ("mid", "id", *_PROPS, "created_modseq", "modseq", "props_modseq", "revived", "moved")
    change.txn.execute(
        f"INSERT OR REPLACE INTO mailbox ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",  # noqa: S608
        (mid, ids.mailbox_id(store.salt, mid), *props, *(change.modseq,) * 3, revived, moved),
    )
    change.touch("Mailbox")


def _update(change: Change, mid: int, props: tuple[Any, ...]) -> None:
    change.txn.execute(
        f"UPDATE mailbox SET {', '.join(f'{name} = ?' for name in _PROPS)}, modseq = ?, props_modseq = ?"  # noqa: S608
        " WHERE mid = ?",
        (*props, change.modseq, change.modseq, mid),
    )
    change.touch("Mailbox")


def mark_selected(change: Change, mid: int, marks: int, given: int) -> None:
    """Remember what SELECT said of a folder (READ_ONLY, NO_FLAGS); writes only what differs.

    ``given``: its rights without that.
    """
    bits = change.txn.value("SELECT rights FROM mailbox WHERE mid = ? AND deleted = 0", (mid,))
    if bits is None or bits & _MARKS == marks:
        return
    change.txn.execute(
        "UPDATE mailbox SET rights = ?, modseq = ?, props_modseq = ? WHERE mid = ?",
        (selected_rights(given, marks), change.modseq, change.modseq, mid),
    )
    change.touch("Mailbox")


def save_permanent_flags(txn: Txn, mid: int, flags: str) -> None:
    """What PERMANENTFLAGS says; no property of a Mailbox."""
    txn.execute("UPDATE mailbox SET permanent_flags = ? WHERE mid = ?", (flags, mid))


def destroy(change: Change, mid: int) -> None:
    """Leave a tombstone. Its Emails were settled before."""
    done = change.txn.execute(
        "UPDATE mailbox SET deleted = 1, key = x'', name = '', parent = NULL, role = NULL, total_emails = 0,"
        " unread_emails = 0, total_threads = 0, unread_threads = 0, uidvalidity = NULL, uidnext = NULL,"
        " highestmodseq = NULL, messages = NULL, moved = 0, created_modseq = iif(revived, 0, created_modseq),"
        " modseq = ?, props_modseq = ? WHERE mid = ? AND deleted = 0",
        (change.modseq, change.modseq, mid),
    )
    if done:
        change.touch("Mailbox")


def set_validity(txn: Txn, mid: int, validity: int | None) -> None:
    """UIDs of this validity are coming in (None: of none); no complete pass yet (mail-rules 18)."""
    txn.execute(
        "UPDATE mailbox SET uidvalidity = ?1, uidnext = NULL, highestmodseq = NULL, messages = NULL,"
        " moved = moved AND ?1 NOTNULL WHERE mid = ?2 AND deleted = 0",
        (validity, mid),
    )


def set_point(txn: Txn, mid: int, point: SyncPoint, full_flags_at: int | None) -> None:
    """The end of a complete pass."""
    txn.execute(
        "UPDATE mailbox SET uidvalidity = ?, uidnext = ?, highestmodseq = ?, messages = ?,"
        " full_flags_at = coalesce(?, full_flags_at), moved = 0 WHERE mid = ? AND deleted = 0",
        (point.uidvalidity, point.uidnext, point.highestmodseq, point.messages, full_flags_at, mid),
    )


def recount(change: Change, old: int | None, new: int | None) -> None:
    """Another Mailbox is Trash now: unread counts of its threads, and every Mailbox's unreadThreads (mail-rules 16)."""
    txn = change.txn
    txn.execute(
        "UPDATE thread SET (unread, unread_trash) = ("
        " SELECT coalesce(sum(outside), 0), coalesce(sum(inside), 0) FROM ("
        "  SELECT max(m.mid IS NOT ?2) AS outside, max(m.mid IS ?2) AS inside FROM email_mailbox m"
        "  JOIN email e USING (eid) WHERE m.tid = thread.tid AND e.flags & 3 = 0 GROUP BY m.eid))"
        " WHERE deleted = 0 AND tid IN (SELECT tid FROM mailbox_thread WHERE mid IN (?1, ?2))",
        (old, new),
    )
    counted: dict[int, int] = dict(
        txn.rows(
            "SELECT p.mid, sum(iif(p.mid IS ?1, t.unread_trash, t.unread) > 0) FROM mailbox_thread p"
            " JOIN thread t USING (tid) GROUP BY p.mid",
            (new,),
        )
    )
    for mid, unread in txn.rows("SELECT mid, unread_threads FROM mailbox WHERE deleted = 0"):
        if counted.get(mid, 0) != unread:
            txn.execute(
                "UPDATE mailbox SET unread_threads = ?, modseq = ? WHERE mid = ?",
                (counted.get(mid, 0), change.modseq, mid),
            )
            change.touch("Mailbox")


def changed(store: Store, since: int) -> list[tuple[str, int, int, int, int]]:
    """(id, created_modseq, modseq, props_modseq, deleted) after ``since``, oldest change first."""
    return store.cache.rows(
        "SELECT id, created_modseq, modseq, props_modseq, deleted FROM mailbox WHERE modseq > ? ORDER BY modseq, mid",
        (since,),
    )


def last_props(store: Store) -> int:
    """When anything but a count changed last."""
    return int(store.cache.value("SELECT max(props_modseq) FROM mailbox") or 0)
