"""Settling: from the copies that there are now to Emails, Threads and Mailbox counts, one short transaction a batch.

Words: an *edit* is one Email's before and after, by its visible copies. Everything else follows from the edits: rows of
the lists, keyword rows, thread membership, counts and unread counts with the trash rule (mail-rules 15, 16), modseqs.
An edit without a difference writes nothing (mail-rules 12).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from jmapplug.capabilities.mail import ids
from jmapplug.capabilities.mail.details import Columns
from jmapplug.capabilities.mail.keywords import UNREAD_MASK, as_json, bits, from_json, indexed, merged
from jmapplug.capabilities.mail.store import settle as sql
from jmapplug.capabilities.mail.store import sync as copies_sql
from jmapplug.capabilities.mail.store.mailboxes import Row
from jmapplug.capabilities.mail.threads import group
from jmapplug.capabilities.mail.writes import writes_of
from jmapplug.store.account import Change, Store
from jmapplug.store.database import Txn

_FIXED = ~(1 | 2 | 4 | 8)
_NOWHERE: frozenset[int] = frozenset()
_NOTHING: frozenset[str] = frozenset()


@dataclass(slots=True)
class Edit:
    """One Email. ``mids``/``keywords``: where it is and what it bears, before and after; nowhere = not visible.

    ``bits``: the part of its flags that never changes. ``columns``: what the message says, for one that appears;
    ``revived``: that is a tombstone until now.
    """

    eid: int
    id: str
    tid: int
    received_at: int
    size: int
    bits: int
    old_mids: frozenset[int] = _NOWHERE
    old_keywords: frozenset[str] = _NOTHING
    mids: frozenset[int] = _NOWHERE
    keywords: frozenset[str] = _NOTHING
    columns: Columns | None = None
    revived: bool = False


@dataclass(slots=True)
class _ThreadDelta:
    emails: int = 0
    unread: int = 0
    unread_trash: int = 0
    members: bool = False
    places: dict[int, int] = field(default_factory=dict)

    @property
    def changes(self) -> bool:
        """Whether anything of the thread is another one than before; a keyword is none of its business."""
        return bool(self.members or self.unread or self.unread_trash or any(self.places.values()))


@dataclass(frozen=True, slots=True)
class Folders:
    """What settling has to know of the Mailboxes: ``names`` mid → id, and which one is Trash.

    ``local``: Email → keywords that its folder does not keep and that count all the same (mail-rules 33).
    """

    salt: bytes
    names: Mapping[int, str]
    trash: int | None
    local: Mapping[int, frozenset[str]] = field(default_factory=dict)


def settling_folders(store: Store, rows: Sequence[Row]) -> Folders:
    """What settling has to know of the Mailboxes."""
    trash = next((row.mid for row in rows if row.role == "trash"), None)
    return Folders(store.salt, {row.mid: row.id for row in rows}, trash, writes_of(store).local_keywords(store))


def load(txn: Txn, eids: Sequence[int], folders: Folders) -> list[Edit]:
    """The edits of these live Emails: before as stored, after by their copies as they are in this transaction."""
    edits = {
        eid: Edit(eid, id_, tid, received_at, size, flags & _FIXED, old_keywords=from_json(keywords))
        for eid, id_, tid, received_at, size, flags, keywords in sql.emails(txn, eids)
    }
    where: dict[int, set[int]] = {}
    for eid, mid in sql.mailboxes_of(txn, list(edits)):
        where.setdefault(eid, set()).add(mid)
    for eid, mids in where.items():
        edits[eid].old_mids = frozenset(mids)
    look(txn, edits, folders)
    return list(edits.values())


def look(txn: Txn, edits: Mapping[int, Edit], folders: Folders) -> None:
    """Fill in ``mids`` and ``keywords`` from the visible copies."""
    found: dict[int, list[tuple[int, str]]] = {}
    for eid, mid, flags in sql.visible_copies(txn, list(edits)):
        found.setdefault(eid, []).append((mid, flags))
    for eid, copies in found.items():
        edits[eid].mids = frozenset(mid for mid, _ in copies)
        edits[eid].keywords = merged(flags for _, flags in copies) | folders.local.get(eid, _NOTHING)


def resettle(change: Change, folders: Folders, eids: Sequence[int]) -> dict[int, frozenset[int]]:
    """Settle Emails whose copies were changed in this transaction: Email → where it is now (mids).

    Copies of Emails that are no more wait again.
    """
    edits = load(change.txn, eids, folders)
    live = {edit.eid for edit in edits}
    dead = [eid for eid in eids if eid not in live]
    if dead:
        copies_sql.release(change.txn, dead)
    settle(change, folders, edits)
    return {edit.eid: edit.mids for edit in edits}


def settle(change: Change, folders: Folders, edits: Iterable[Edit], fresh: frozenset[int] | set[int] = _NOWHERE) -> int:
    """Write what the edits mean; how many Emails appeared. ``fresh``: threads known not to be stored yet."""
    batch = _Batch(change, folders)
    for edit in edits:
        if edit.old_mids != edit.mids or edit.old_keywords != edit.keywords:
            batch.add(edit)
    batch.write(fresh)
    return len(batch.created)


class _Batch:
    """The rows of one settling."""

    def __init__(self, change: Change, folders: Folders) -> None:
        self.change = change
        self.folders = folders
        self.created: list[Edit] = []
        self.updated: list[Edit] = []
        self.destroyed: list[Edit] = []
        self.threads: dict[int, _ThreadDelta] = {}
        self.counts: dict[int, list[int]] = {}
        self.boxes: dict[frozenset[int], str] = {}
        self._thread_ids: dict[int, str] = {}

    def add(self, edit: Edit) -> None:
        if not edit.mids:
            self.destroyed.append(edit)
        elif not edit.old_mids:
            self.created.append(edit)
        else:
            self.updated.append(edit)
        delta = self.threads.get(edit.tid)
        if delta is None:
            delta = self.threads[edit.tid] = _ThreadDelta()
        self._count(delta, edit.old_mids, edit.old_keywords, -1)
        self._count(delta, edit.mids, edit.keywords, 1)
        delta.members |= not edit.mids or not edit.old_mids

    def _count(self, delta: _ThreadDelta, mids: frozenset[int], keywords: frozenset[str], sign: int) -> None:
        if not mids:
            return
        unread = 0 if bits(keywords) & UNREAD_MASK else sign
        delta.emails += sign
        if unread:
            in_trash = self.folders.trash in mids
            delta.unread_trash += unread if in_trash else 0
            delta.unread += unread if len(mids) > in_trash else 0
        for mid in mids:
            delta.places[mid] = delta.places.get(mid, 0) + sign
            count = self.counts.get(mid)
            if count is None:
                count = self.counts[mid] = [0, 0, 0, 0]
            count[0] += sign
            count[1] += unread

    def write(self, fresh: frozenset[int] | set[int]) -> None:
        if not self.threads:
            return
        self._write_emails()
        self._write_places()
        self._write_keywords()
        self._write_threads(fresh)
        self._write_counts()
        self.change.touch("Email")

    def _thread_id(self, tid: int) -> str:
        known = self._thread_ids.get(tid)
        if known is None:
            known = self._thread_ids[tid] = ids.thread_id(self.folders.salt, tid)
        return known

    def _mailbox_ids(self, mids: frozenset[int]) -> str:
        known = self.boxes.get(mids)
        if known is None:
            names = sorted(self.folders.names[mid] for mid in mids)
            known = self.boxes[mids] = msgspec.json.encode(dict.fromkeys(names, True)).decode()
        return known

    def _write_emails(self) -> None:
        txn, modseq = self.change.txn, self.change.modseq
        if self.created:
            sql.insert_emails(
                txn,
                (
                    (
                        edit.eid,
                        edit.id,
                        edit.tid,
                        self._thread_id(edit.tid),
                        edit.received_at,
                        edit.size,
                        edit.bits | bits(edit.keywords),
                        as_json(edit.keywords),
                        self._mailbox_ids(edit.mids),
                        modseq,
                        modseq,
                        edit.revived,
                        *(edit.columns or ()),
                    )
                    for edit in self.created
                ),
            )
            self.change.touch("EmailDelivery")
        if self.updated:
            sql.update_emails(
                txn,
                (
                    (
                        edit.bits | bits(edit.keywords),
                        as_json(edit.keywords),
                        self._mailbox_ids(edit.mids),
                        modseq,
                        edit.eid,
                    )
                    for edit in self.updated
                ),
            )
        if self.destroyed:
            sql.destroy_emails(txn, [edit.eid for edit in self.destroyed], modseq)

    def _write_places(self) -> None:
        gone, come = [], []
        for edit in (*self.created, *self.updated, *self.destroyed):
            if edit.mids != edit.old_mids:
                gone += [(mid, edit.received_at, edit.id) for mid in edit.old_mids - edit.mids]
                come += [(mid, edit.received_at, edit.id, edit.eid, edit.tid) for mid in edit.mids - edit.old_mids]
        sql.write_places(self.change.txn, gone, come)

    def _write_keywords(self) -> None:
        gone, come = [], []
        for edit in (*self.created, *self.updated, *self.destroyed):
            old = indexed(edit.old_keywords) if edit.old_mids else _NOTHING
            new = indexed(edit.keywords) if edit.mids else _NOTHING
            if old is not new:
                gone += [(keyword, edit.received_at, edit.id) for keyword in old - new]
                come += [(keyword, edit.received_at, edit.id, edit.eid) for keyword in new - old]
        sql.write_keywords(self.change.txn, gone, come)

    def _write_threads(self, fresh: frozenset[int] | set[int]) -> None:
        txn, modseq = self.change.txn, self.change.modseq
        changed = {tid: delta for tid, delta in self.threads.items() if delta.changes}
        older = [tid for tid in changed if tid not in fresh]
        stored = sql.threads(txn, older) if older else {}
        places = group(sql.thread_places(txn, older)) if older else {}
        missing = [tid for tid in older if tid not in stored]
        buried = sql.buried(txn, "thread", missing) if missing else ()
        creates, updates = [], []
        gone: list[tuple[int, int]] = []
        kept: list[tuple[int, int, int]] = []
        for tid, delta in changed.items():
            emails, unread, trash = old = stored.get(tid, (0, 0, 0))
            new = (emails + delta.emails, unread + delta.unread, trash + delta.unread_trash)
            if tid in stored:
                if delta.members or new != old:
                    updates.append((*new, new[0] == 0, modseq if delta.members else None, tid))
            elif new[0] > 0:
                creates.append((tid, self._thread_id(tid), *new, modseq, modseq, tid in buried))
            if delta.members:
                self.change.touch("Thread")
            self._move(tid, delta, places.get(tid, {}), ((unread, trash), new[1:]), gone, kept)
        sql.create_threads(txn, creates)
        sql.update_threads(txn, updates)
        sql.write_thread_places(txn, gone, kept)

    def _move(
        self,
        tid: int,
        delta: _ThreadDelta,
        places: Mapping[int, int],
        unread: tuple[tuple[int, int], tuple[int, ...]],
        gone: list[tuple[int, int]],
        kept: list[tuple[int, int, int]],
    ) -> None:
        """Count a thread out of and into Mailboxes. A thread is unread in Trash by its Emails there alone."""
        before, after = unread
        for mid in {*places, *delta.places}:
            old = places.get(mid, 0)
            new = old + delta.places.get(mid, 0)
            trash = mid == self.folders.trash
            was = 1 if old and before[trash] else 0
            now = 1 if new and after[trash] else 0
            if new != old:
                if new:
                    kept.append((mid, tid, new))
                else:
                    gone.append((mid, tid))
            if was != now or bool(old) != bool(new):
                count = self.counts.setdefault(mid, [0, 0, 0, 0])
                count[2] += bool(new) - bool(old)
                count[3] += now - was

    def _write_counts(self) -> None:
        changed = [(*count, self.change.modseq, mid) for mid, count in self.counts.items() if any(count)]
        if changed:
            sql.add_counts(self.change.txn, changed)  # type: ignore[arg-type]
            self.change.touch("Mailbox")
