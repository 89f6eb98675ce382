"""One pass over an account's folders (design §6, mail-rules 6, 18-22).

Order: folders → new messages and flags of *all* changed folders → details of what is new → whatever takes Emails out of
sight (vanished, hidden, folders that are gone) → sync points. An Email that lost its last copy stays in sight until
then (*limbo*), so another client's move is a move. Killed anywhere, the next pass begins at the old sync points.

A folder that the server refuses to open is no reason to leave the others alone: it is shown as it was. Where it may be
opened later the pass raises that refusal when all else is done; what may have gone there stays in sight until then, but
for a folder that is broken, which may last.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import msgspec

from jmapplug.backends import Changes, Folder, MailSource, SyncPoint
from jmapplug.capabilities.mail import folders as boxes_plan
from jmapplug.capabilities.mail import plan
from jmapplug.capabilities.mail.apply import Folders, resettle
from jmapplug.capabilities.mail.link import Fetcher
from jmapplug.capabilities.mail.pass_folders import Moved
from jmapplug.capabilities.mail.pass_rows import SETTLE, SLICE, PassRows
from jmapplug.capabilities.mail.plan import slices
from jmapplug.capabilities.mail.store import mailboxes as boxes_sql
from jmapplug.capabilities.mail.store import sync as sql
from jmapplug.capabilities.mail.store.mailboxes import Row
from jmapplug.capabilities.mail.write_recovery import finish_transfers
from jmapplug.errors import FolderError
from jmapplug.store.account import Change, Store
from jmapplug.store.pace import breathe

log = logging.getLogger("jmapplug.mail")

GONE = frozenset({"nonexistent", "trycreate"})
"""Codes of a refusal that speak of a folder which is not there (any more)."""
BROKEN = "serverbug"
"""The code of a refusal without an end that anybody knows."""
FLAGS_AGE = (86_400.0, 240.0)
"""Seconds after which a folder's flags are compared in full: where modseqs are believed, and where not (wish 14)."""
NEWEST = 50
LIVE = 500


class Pass(PassRows):
    """One pass. ``progress`` is called after each step that may have changed something (publishing is its business).

    ``flags_age``: after how many seconds a folder's flags are compared in full.
    ``suspects``: whether a folder's flags may have changed although its STATUS does not say so.
    """

    def __init__(
        self,
        store: Store,
        source: MailSource,
        progress: Callable[[], None],
        flags_age: float = FLAGS_AGE[0],
        suspects: Callable[[Folder, plan.Known], bool] = lambda folder, known: False,
    ) -> None:
        super().__init__(store, source, Fetcher(store, source, Folders(store.salt, {}, None), lambda count: progress()))
        self._progress = progress
        self._flags_age = flags_age
        self._suspects = suspects
        self._going: dict[int, list[int]] = {}
        self._points: dict[int, tuple[SyncPoint, int | None]] = {}
        self._first: set[int] = set()
        self._reset: set[int] = set()
        self._later: list[FolderError] = []
        self._again = False
        self.refused: set[int] = set()
        """The Mailboxes that the server does not let us open."""

    # --- the pass --------------------------------------------------------------------------------------------------

    def run(self, again: bool = False) -> None:
        """All of it. Raises UpstreamError; what was applied until then stays. FolderError: the other folders are read.

        A folder that has gone since the listing ends it, but not when it is done ``again`` for that reason.
        """
        self._again = again
        with self._writes.reading():
            self._run()
        finish_transfers(self.store, self.source, self.rows, self.fetcher.folders)
        if self._later:
            raise self._later[0]

    def _run(self) -> None:
        gone = self.boxes()
        closed = (row for row in self.rows.values() if not row.rights & boxes_plan.MAY_READ)
        shut = [row for row in closed if row.uidvalidity or row.moved]
        for row in shut:
            # Deleted above its children (RFC 9051 §6.3.5), or its owner lets us read it no more (RFC 4314): the Mailbox
            # stays, its messages are gone.
            self._going[row.mid] = [*sql.known_uids(self.store, row.mid), *sql.ghosts(self.store, row.mid)]
        self._read_changed(self._listing)
        self._arrive()
        for _ in range(2):
            if any(error.code != BROKEN for error in self._later):
                # What left other folders may be in one that cannot be read now: nothing goes out of sight (rule 19).
                self._keep_sight()
                raise self._later[0]
            if not self._rescue(gone):
                break
        self._vanish(gone)
        for row in shut:
            self.store.commit(lambda change, mid=row.mid: boxes_sql.set_validity(change.txn, mid, None), announce=False)  # type: ignore[misc]
        self._finish()

    def setup(self) -> None:
        """The newest of INBOX, and nothing else."""
        self.boxes()
        inbox = next((folder for folder in self._listing if folder.role == "inbox"), None)
        row = self._row(inbox) if inbox is not None else None
        if inbox is None or row is None or inbox.uidvalidity is None or row.uidnext is not None:
            return
        if row.uidvalidity not in (None, inbox.uidvalidity):
            return
        if inbox.uidnext is not None:  # some servers do not tell it
            self._check_restored(row, inbox.uidvalidity, inbox.uidnext)
        items = self.source.newest(inbox.key, NEWEST)
        self._insert(row, items, inbox.uidvalidity)
        self._fetch_newest(row.mid, NEWEST)

    # --- reading ---------------------------------------------------------------------------------------------------

    def _read_changed(self, listing: Sequence[Folder]) -> None:
        for folder in listing:
            row = self._row(folder)
            if row is None or row.mid in self._points:
                continue
            suspect = self._suspects(folder, row.known)
            full = suspect or self._flags_due(row) or plan.is_modseq_back(folder, row.known)
            full = full or boxes_plan.is_withheld(folder, row.rights)
            if full or plan.is_changed(folder, row.known):
                self._open(row, partial(self._read, row, full))
                self._progress()
                breathe()

    def _open(self, row: Row, read: Callable[[], object]) -> None:
        """One folder that is in use elsewhere, or not ours to read, does not keep the others from being read."""
        try:
            with suppress(Moved):
                read()
        except FolderError as error:
            if error.code in GONE and not self._again:
                raise
            log.warning("a folder cannot be opened: %s", error)
            self.refused.add(row.mid)
            if error.temporary:
                self._later.append(error)

    def _flags_due(self, row: Row) -> bool:
        return row.uidnext is not None and time.time() - row.full_flags_at >= self._flags_age

    def _read(self, row: Row, full_flags: bool) -> None:
        point = row.known.point
        since = msgspec.structs.replace(point, highestmodseq=0) if point is not None and full_flags else point
        changes = self._changes(row, since)
        validity = changes.point.uidvalidity
        if changes.reset or plan.is_reset(row.known, validity, changes.point.uidnext):
            self._start_over(row, validity)
            since = None
            if not changes.reset:
                changes = self._changes(row, None)
        point = self._take_listing(row, changes) if since is None else self._take(row, changes, since.uidnext)
        complete = since is None or full_flags or not self.source.features.condstore
        self._points[row.mid] = (point, int(time.time()) if complete else None)

    def _take_listing(self, row: Row, changes: Changes) -> SyncPoint:
        """A whole folder; its point. Rows of an interrupted first listing are there already; ghosts leave at the

        pass's end.
        """
        self._first.add(row.mid)
        validity = changes.point.uidvalidity
        self._check_restored(row, validity, changes.point.uidnext)
        left = sql.ghosts(self.store, row.mid)
        if left:
            self._reset.add(row.mid)
        known = (uid for uid in sql.known_uids(self.store, row.mid) if uid < changes.point.uidnext)
        vanished = plan.missing(changes.new, plan.outside(changes.windows, known))
        self._going.setdefault(row.mid, []).extend([*left, *vanished])
        self._mark(row, changes)
        self._insert(row, changes.new, validity)
        return self._read_windows(row, changes, 1)

    def _take(self, row: Row, changes: Changes, uidnext: int) -> SyncPoint:
        """Changes since a point with ``uidnext``; the new one."""
        self._mark(row, changes)
        # What we appended ourselves after that point, and somebody else removed before this look.
        ours = sql.known_between(self.store, row.mid, uidnext, changes.point.uidnext)
        lost = plan.missing(changes.new, plan.outside(changes.windows, ours))
        self._insert(row, changes.new, None)
        self._flags(row, changes.flags)
        self._going.setdefault(row.mid, []).extend([*changes.vanished, *lost])
        return self._read_windows(row, changes, uidnext)

    def _read_windows(self, row: Row, changes: Changes, end: int) -> SyncPoint:
        """What a large folder has left open, in pieces, newest first. ``end``: UIDs from here on are new.

        Its sync point then; where something could not be read, one that the next look finds to be outdated.
        """
        point = changes.point
        for first, last in changes.windows:
            new = first >= end
            items = self._listed(row, point.uidvalidity, first, last, new)
            if point is changes.point and any(item.lacks(new) for item in items):
                point = msgspec.structs.replace(point, highestmodseq=max(0, point.highestmodseq - 1))
            known = sql.known_between(self.store, row.mid, first, last + 1)
            self._going.setdefault(row.mid, []).extend(plan.missing(items, known))
            if new:
                self._insert(row, items, None)
            else:
                self._flags(row, items)
            self._progress()
        return point

    def _check_restored(self, row: Row, validity: int, uidnext: int) -> None:
        """The cache was lost, and UIDNEXT is smaller than ever known: old bindings mean nothing (mail-rules 22)."""
        if row.uidvalidity is not None:
            return
        box = next((one for one in boxes_sql.bindings(self.store) if one.mid == row.mid), None)
        if box is not None and box.uidvalidity == validity and (box.uidnext or 0) > uidnext:
            self._unbind_all(row.mid, None)

    def _unbind_all(self, mid: int, keep: int | None) -> None:
        while sql.unbind_some(self.store.own, mid, SLICE, keep):
            breathe()

    def _start_over(self, row: Row, validity: int) -> None:
        """UIDs mean nothing any more: known copies stay in sight as ghosts until their Emails are linked again."""
        old = sql.ghosts(self.store, row.mid)
        if old:
            self._remove(row.mid, old)
        self._unbind_all(row.mid, None if row.uidvalidity == validity else validity)
        while self.store.commit(lambda change: sql.make_ghosts(change.txn, row.mid, SLICE), announce=False):
            breathe()
        self.store.commit(lambda change: boxes_sql.set_validity(change.txn, row.mid, validity), announce=False)

    # --- arriving --------------------------------------------------------------------------------------------------

    def _arrive(self) -> None:
        """Details of the newest of each folder read; all of those whose UIDs were made anew.

        After a move to another server that is all: an Email may lie in another folder there.
        """
        moved = bool(self._reset) and any(row.moved for row in self.rows.values())
        for mid in list(self._points):
            if moved or mid in self._reset:
                work = partial(self._fetch_all, mid)
            else:
                work = partial(self._fetch_newest, mid, NEWEST if mid in self._first else LIVE)
            self._open(self.rows[mid], work)

    def _fetch_newest(self, mid: int, count: int) -> None:
        uids = [one.uid for one in sql.pending(self.store, mid, count)]
        if uids:
            self.fetcher.fetch(self.rows[mid], uids)
            self._progress()

    def _fetch_all(self, mid: int) -> None:
        tried: set[int] = set()
        while uids := [one.uid for one in sql.pending(self.store, mid, LIVE, tried)]:
            tried.update(uids)
            self.fetcher.fetch(self.rows[mid], uids)
            self._progress()

    def _rescue(self, gone: Sequence[Row]) -> bool:
        """Find where Emails in limbo went: among copies still pending, or in folders changed meanwhile.

        Whether another look may help.
        """
        going = {mid: [*uids] for mid, uids in self._going.items()}
        for mid, hiding in self._hiding.items():
            going.setdefault(mid, []).extend(one.uid for one in hiding)
        for row in gone:
            going[row.mid] = sql.known_uids(self.store, row.mid)
        lost = sql.orphaned(self.store, going)
        if not lost:
            return False
        for mid in list(self.rows) if lost - {""} else []:
            for part in slices(self._pending_with(mid, sql.listed(lost - {""})), LIVE):
                self._open(self.rows[mid], partial(self.fetcher.fetch, self.rows[mid], part))
        if not sql.orphaned(self.store, going):
            return False
        # A move under our eyes: what left a folder read late may have come to one read early, or not at all.
        late = [grown for folder in self.source.folders() if (grown := self._grown(folder)) is not None]
        for grown in late:
            self._open(grown, partial(self._catch_up, grown))
        return bool(late)

    def _pending_with(self, mid: int, server_ids: str) -> list[int]:
        found: list[int] = []
        after: int | None = 0
        while after is not None and sql.newest_pending(self.store, mid) is not None:
            uids, after = sql.pending_by_server_id(self.store, mid, after, server_ids)
            found += uids
            breathe()
        return found

    def _grown(self, folder: Folder) -> Row | None:
        """The box of a folder that has new messages since it was read."""
        row, point = self._row(folder), None
        if row is not None:
            done = self._points.get(row.mid)
            point = done[0] if done is not None else row.known.point
        if row is None or point is None or folder.uidvalidity != point.uidvalidity or row.mid in self.refused:
            return None
        return row if (folder.uidnext or 0) > point.uidnext else None

    def _catch_up(self, row: Row) -> None:
        """Read what came since this pass read the folder; if it is something else altogether, the next pass sees it."""
        done = self._points.get(row.mid)
        point, at = done if done is not None else (row.known.point, None)
        changes = self._changes(row, point)
        if point is None or changes.reset:
            return
        self._points[row.mid] = (self._take(row, changes, point.uidnext), at)
        self._fetch_newest(row.mid, LIVE)

    def _keep_sight(self) -> None:
        """The sync points move where nothing is to leave; the others wait until all folders can be read."""
        leaving = {mid for mid, found in (*self._going.items(), *self._hiding.items()) if found}
        if not any(row.moved for row in self.rows.values()):
            self._points = {mid: point for mid, point in self._points.items() if mid not in leaving}
            self._finish()

    # --- leaving ---------------------------------------------------------------------------------------------------

    def _vanish(self, gone: Sequence[Row]) -> None:
        for mid, uids in self._going.items():
            newer = self._newer(mid, uids)
            self._remove(mid, [uid for uid in uids if uid not in newer])
        for mid, hiding in self._hiding.items():
            newer = self._newer(mid, [one.uid for one in hiding])
            self._change_flags(self.rows[mid], [one for one in hiding if one.uid not in newer])
        for row in gone:
            while uids := [*sql.known_uids(self.store, row.mid), *sql.ghosts(self.store, row.mid)]:
                self._remove(row.mid, uids)
            self._unbind_all(row.mid, None)
            self.store.commit(lambda change, mid=row.mid: boxes_sql.destroy(change, mid), announce=False)  # type: ignore[misc]
            self._points.pop(row.mid, None)
        self._progress()

    def _remove(self, mid: int, uids: Sequence[int]) -> None:
        validity = self.rows[mid].uidvalidity
        for part in slices(uids, SLICE):
            # A write of ours may just be moving these messages: what it knows comes first.
            with self._writes.lock:
                self._remove_slice(mid, validity, part)

    def _remove_slice(self, mid: int, validity: int | None, part: Sequence[int]) -> None:
        bound = [uid for uid in part if uid > 0]
        if validity is not None and bound:
            sql.unbind(self.store.own, mid, validity, bound)
        for few in slices(part, SETTLE):
            self.store.commit(lambda change, few=few: self._settle_removed(change, mid, few), announce=False)  # type: ignore[misc]
            breathe()

    def _settle_removed(self, change: Change, mid: int, uids: Sequence[int]) -> None:
        eids = sql.emails_of(change.txn, mid, uids)
        sql.delete_copies(change.txn, mid, uids)
        resettle(change, self.fetcher.folders, eids)

    def _finish(self) -> None:
        """Only now do the sync points move (mail-rules 18)."""
        # A write that is under way comes to its end first: what it was answered may be older than what we read.
        with self._writes.lock:
            self._hold_back()
            self._move_points()
        self._load_rows()

    def _hold_back(self) -> None:
        """Where a write of ours met this pass, the next one begins at the old point.

        A first listing is not done again: all of the folder's flags are due then.
        """
        for mid in self._writes.met(self._marks) & self._points.keys():
            point, _ = self._points.pop(mid)
            if mid in self._first:
                self._points[mid] = point, 0

    def _move_points(self) -> None:
        if not self._points:
            return
        points = [(point.uidvalidity, point.uidnext, mid) for mid, (point, _) in self._points.items()]
        boxes_sql.save_points(self.store, points)

        def work(change: Change) -> None:
            for mid, (point, at) in self._points.items():
                boxes_sql.set_point(change.txn, mid, point, at)

        self.store.commit(work, announce=False)
