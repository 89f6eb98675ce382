"""One pass over an account's folders (design §6, mail-rules 6, 18-22).

Order: folders → new messages and flags of *all* changed folders → details of what is new → whatever takes Emails out of
sight (vanished, hidden, folders that are gone) → sync points. An Email that lost its last copy stays in sight until
then (*limbo*), so another client's move is a move. Killed anywhere, the next pass begins at the old sync points.

A folder that the server refuses to open is no reason to leave the others alone: it is shown as it was, and the pass
raises that refusal when all else is done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec

from jmapplug.backends import Changes, Folder, Item, MailSource, SyncPoint
from jmapplug.capabilities.mail import folders as boxes_plan
from jmapplug.capabilities.mail import ids, plan
from jmapplug.capabilities.mail.apply import Folders, resettle
from jmapplug.capabilities.mail.link import Fetcher
from jmapplug.capabilities.mail.pass_folders import Moved, PassFolders
from jmapplug.capabilities.mail.plan import FlagChange, slices
from jmapplug.capabilities.mail.store import mailboxes as boxes_sql
from jmapplug.capabilities.mail.store import sync as sql
from jmapplug.capabilities.mail.store.mailboxes import Row
from jmapplug.capabilities.mail.write_recovery import finish_transfers
from jmapplug.errors import AuthenticationError, UpstreamError
from jmapplug.store.account import Change, Store
from jmapplug.store.pace import breathe

FOLDERS_OWN = frozenset({"nonexistent", "trycreate", "noperm", "serverbug", "inuse"})
"""Codes that speak of one folder, whatever the connection is worth."""
NEWEST = 50
LIVE = 500
SLICE = 500
SETTLE = 100


class Pass(PassFolders):
    """One pass. ``progress`` is called after each step that may have changed something (publishing is its business).

    ``flags_age``: after how many seconds a folder's flags are compared in full: (with CONDSTORE, without).
    ``suspects``: whether a folder's flags may have changed although its STATUS does not say so.
    """

    def __init__(
        self,
        store: Store,
        source: MailSource,
        progress: Callable[[], None],
        flags_age: tuple[float, float] = (86_400.0, 600.0),
        suspects: Callable[[Folder], bool] = lambda folder: False,
    ) -> None:
        super().__init__(store, source, Fetcher(store, source, Folders(store.salt, {}, None), lambda count: progress()))
        self._progress = progress
        self._flags_age = flags_age
        self._suspects = suspects
        self._going: dict[int, list[int]] = {}
        self._hiding: dict[int, list[FlagChange]] = {}
        self._points: dict[int, tuple[SyncPoint, int | None]] = {}
        self._first: set[int] = set()
        self._reset: set[int] = set()
        self._refusal: UpstreamError | None = None

    # --- the pass --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """All of it. Raises UpstreamError; what was applied until then stays."""
        with self._writes.reading():
            self._run()
        finish_transfers(self.store, self.source, self.rows, self.fetcher.folders)
        if self._refusal is not None:
            raise self._refusal

    def _run(self) -> None:
        gone = self.boxes()
        shut = [row for row in self.rows.values() if not row.selectable and row.uidvalidity is not None]
        for row in shut:
            # Deleted above its children (RFC 9051 §6.3.5): the Mailbox stays, its messages are gone.
            self._going[row.mid] = [*sql.known_uids(self.store, row.mid), *sql.ghosts(self.store, row.mid)]
        self._read_changed(self._listing)
        self._arrive()
        for _ in range(2):
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
        self._check_restored(row, inbox.uidvalidity, inbox.uidnext or 0)
        items = self.source.newest(inbox.key, NEWEST)
        self._insert(row, items, inbox.uidvalidity)
        self._fetch_newest(row.mid, NEWEST)

    # --- reading ---------------------------------------------------------------------------------------------------

    def _read_changed(self, listing: Sequence[Folder]) -> None:
        for folder in listing:
            row = self._row(folder)
            if row is None or row.mid in self._points:
                continue
            full = self._flags_due(row) or plan.is_modseq_back(folder, row.known) or self._suspects(folder)
            if full or plan.is_changed(folder, row.known):
                self._try(lambda row=row, full=full: self._read(row, full))  # type: ignore[misc]
                self._progress()
                breathe()

    def _try(self, reading: Callable[[], None]) -> None:
        """Read one folder; what is refused there is not the others' business."""
        try:
            with suppress(Moved):
                reading()
        except UpstreamError as error:
            own = error.code in FOLDERS_OWN or not error.temporary
            if not own or isinstance(error, AuthenticationError):
                raise
            self._refusal = self._refusal or error

    def _flags_due(self, row: Row) -> bool:
        age = self._flags_age[0 if self.source.features.condstore else 1]
        return row.uidnext is not None and time.time() - row.full_flags_at >= age

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
        if since is None:
            self._take_listing(row, changes)
        else:
            self._take(row, changes, since.uidnext)
        complete = since is None or full_flags or not self.source.features.condstore
        self._points[row.mid] = (changes.point, int(time.time()) if complete else None)

    def _newer(self, mid: int, uids: Sequence[int]) -> set[int]:
        """Those of ``uids`` that a write of ours touched since this pass read the folder: the next pass judges them."""
        return self._writes.newer(self._marks.get(mid, 0), mid, uids)

    def _take_listing(self, row: Row, changes: Changes) -> None:
        """A whole folder. Rows of an interrupted first listing are there already; ghosts leave at the pass's end."""
        self._first.add(row.mid)
        validity = changes.point.uidvalidity
        self._check_restored(row, validity, changes.point.uidnext)
        left = sql.ghosts(self.store, row.mid)
        if left:
            self._reset.add(row.mid)
        uidnext = changes.point.uidnext
        vanished = plan.missing(changes.new, (uid for uid in sql.known_uids(self.store, row.mid) if uid < uidnext))
        self._going.setdefault(row.mid, []).extend([*left, *vanished])
        self._mark(row, changes)
        self._insert(row, changes.new, validity)

    def _take(self, row: Row, changes: Changes, uidnext: int) -> None:
        """``uidnext``: that of the point since which these are the changes."""
        self._mark(row, changes)
        # What we appended ourselves after that point, and somebody else removed before this look.
        ours = sql.known_between(self.store, row.mid, uidnext, changes.point.uidnext)
        lost = plan.missing(changes.new, ours)
        self._insert(row, changes.new, None)
        self._flags(row, changes.flags)
        self._going.setdefault(row.mid, []).extend([*changes.vanished, *lost])

    def _mark(self, row: Row, changes: Changes) -> None:
        permanent = " ".join(sorted({flag.lower() for flag in changes.permanent_flags}))
        if permanent != row.permanent_flags:
            self.store.commit(
                lambda change: boxes_sql.save_permanent_flags(change.txn, row.mid, permanent), announce=False
            )
        marks = boxes_plan.READ_ONLY if changes.read_only else 0
        marks |= 0 if changes.permanent_flags else boxes_plan.NO_FLAGS
        if row.rights & (boxes_plan.READ_ONLY | boxes_plan.NO_FLAGS) != marks:
            self.store.commit(lambda change: boxes_sql.mark_selected(change, row.mid, marks), announce=False)

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

    def _insert(self, row: Row, items: Sequence[Item], validity: int | None) -> None:
        """New rows for ``message``. ``validity``: a first listing begins, under this UIDVALIDITY."""
        if validity is not None:
            self.store.commit(lambda change: boxes_sql.set_validity(change.txn, row.mid, validity), announce=False)
            self._load_rows()
        for part in slices(items, SLICE):
            part = self._untouched(row.mid, part)
            planned = plan.plan_items(part, sql.copies(self.store, row.mid, [item.uid for item in part]))
            hashes = {
                item.uid: ids.server_thread_hash(self.store.salt, item.thread_id)
                for item in part
                if item.thread_id is not None
            }
            self.store.commit(
                lambda change, rows=planned.new, hashes=hashes: sql.insert_copies(  # type: ignore[misc]
                    change.txn, row.mid, rows, hashes
                ),
                announce=False,
            )
            self._change_flags(row, planned.changes)
            self._hiding.setdefault(row.mid, []).extend(planned.hiding)
            breathe()

    def _untouched(self, mid: int, items: Sequence[Item]) -> Sequence[Item]:
        newer = self._newer(mid, [item.uid for item in items])
        return [item for item in items if item.uid not in newer] if newer else items

    def _flags(self, row: Row, items: Sequence[Item]) -> None:
        unknown: list[int] = []
        for part in slices(items, SLICE):
            part = self._untouched(row.mid, part)
            copies = sql.copies(self.store, row.mid, [item.uid for item in part])
            planned = plan.plan_items(part, copies)
            self._change_flags(row, planned.changes)
            self._hiding.setdefault(row.mid, []).extend(planned.hiding)
            unknown += [item.uid for item in part if item.uid not in copies]
            breathe()
        if unknown:
            # Below what the last pass had seen, and we have no copy of them: however we lost them, they are there.
            self._insert(row, self.source.items(row.key, unknown), None)

    def _change_flags(self, row: Row, changes: Sequence[FlagChange]) -> None:
        for part in slices(changes, SETTLE):
            self.store.commit(
                lambda change, part=part: self._settle_flags(change, row.mid, part),  # type: ignore[misc]
                announce=False,
            )
            breathe()

    def _settle_flags(self, change: Change, mid: int, part: Sequence[FlagChange]) -> None:
        sql.update_flags(change.txn, mid, part)
        eids = sql.emails_of(change.txn, mid, [one.uid for one in part])
        resettle(change, self.fetcher.folders, eids)

    # --- arriving --------------------------------------------------------------------------------------------------

    def _arrive(self) -> None:
        """Details of the newest of each folder read; all of those whose UIDs were made anew."""
        for mid in list(self._points):
            if mid in self._reset:
                self._fetch_all(mid)
            else:
                self._fetch_newest(mid, NEWEST if mid in self._first else LIVE)

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
                self.fetcher.fetch(self.rows[mid], part)
        if not sql.orphaned(self.store, going):
            return False
        # A move under our eyes: what left a folder read late may have come to one read early, or not at all.
        late = [grown for folder in self.source.folders() if (grown := self._grown(folder)) is not None]
        for grown in late:
            self._try(lambda grown=grown: self._catch_up(grown))  # type: ignore[misc]
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
        if point is None or folder.uidvalidity != point.uidvalidity:
            return None
        return row if (folder.uidnext or 0) > point.uidnext else None

    def _catch_up(self, row: Row) -> None:
        """Read what came since this pass read the folder; if it is something else altogether, the next pass sees it."""
        done = self._points.get(row.mid)
        point, at = done if done is not None else (row.known.point, None)
        changes = self._changes(row, point)
        if point is None or changes.reset:
            return
        self._take(row, changes, point.uidnext)
        self._points[row.mid] = (changes.point, at)
        self._fetch_newest(row.mid, LIVE)

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
        if not self._points:
            self._load_rows()
            return
        points = [(point.uidvalidity, point.uidnext, mid) for mid, (point, _) in self._points.items()]
        boxes_sql.save_points(self.store, points)

        def work(change: Change) -> None:
            for mid, (point, at) in self._points.items():
                boxes_sql.set_point(change.txn, mid, point, at)

        self.store.commit(work, announce=False)
        self._load_rows()
