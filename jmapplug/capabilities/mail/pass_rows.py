"""The rows of one pass: what a reading found goes into the store, but for what takes Emails out of sight."""

from __future__ import annotations

from collections.abc import Sequence

from jmapplug.backends import Changes, Item, MailSource
from jmapplug.capabilities.mail import folders as boxes_plan
from jmapplug.capabilities.mail import ids, plan
from jmapplug.capabilities.mail.apply import resettle
from jmapplug.capabilities.mail.link import Fetcher
from jmapplug.capabilities.mail.pass_folders import PassFolders
from jmapplug.capabilities.mail.plan import FlagChange, slices
from jmapplug.capabilities.mail.store import mailboxes as boxes_sql
from jmapplug.capabilities.mail.store import sync as sql
from jmapplug.capabilities.mail.store.mailboxes import Row
from jmapplug.store.account import Change, Store
from jmapplug.store.pace import breathe

SLICE = 500
SETTLE = 100


class PassRows(PassFolders):
    """Puts rows in and changes flags; what hides an Email waits (mail-rules 19)."""

    def __init__(self, store: Store, source: MailSource, fetcher: Fetcher) -> None:
        super().__init__(store, source, fetcher)
        self._hiding: dict[int, list[FlagChange]] = {}

    def _mark(self, row: Row, changes: Changes) -> None:
        permanent = " ".join(sorted({flag.lower() for flag in changes.permanent_flags}))
        if permanent != row.permanent_flags:
            self.store.commit(
                lambda change: boxes_sql.save_permanent_flags(change.txn, row.mid, permanent), announce=False
            )
        marks = boxes_plan.READ_ONLY if changes.read_only else 0
        marks |= 0 if changes.permanent_flags else boxes_plan.NO_FLAGS
        if row.rights & (boxes_plan.READ_ONLY | boxes_plan.NO_FLAGS) != marks:
            given = self._given.get(row.key, row.rights)
            self.store.commit(lambda change: boxes_sql.mark_selected(change, row.mid, marks, given), announce=False)

    def _insert(self, row: Row, items: Sequence[Item], validity: int | None) -> None:
        """New rows for ``message``. ``validity``: a first listing begins, under this UIDVALIDITY."""
        if validity is not None:
            self.store.commit(lambda change: boxes_sql.set_validity(change.txn, row.mid, validity), announce=False)
            self._load_rows()
        for part in slices(items, SLICE):
            part = self._untouched(row.mid, part)
            planned = plan.plan_items(part, sql.copies(self.store, row.mid, [item.uid for item in part]))
            hashes = ids.server_thread_hashes(self.store.salt, part)
            self.store.commit(
                lambda change, rows=planned.new, hashes=hashes: sql.insert_copies(  # type: ignore[misc]
                    change.txn, row.mid, rows, hashes
                ),
                announce=False,
            )
            self._change_flags(row, planned.changes)
            self._hiding.setdefault(row.mid, []).extend(planned.hiding)
            breathe()

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

    def _untouched(self, mid: int, items: Sequence[Item]) -> Sequence[Item]:
        newer = self._newer(mid, [item.uid for item in items])
        return [item for item in items if item.uid not in newer] if newer else items

    def _newer(self, mid: int, uids: Sequence[int]) -> set[int]:
        """Those of ``uids`` that a write of ours touched since this pass read the folder: the next pass judges them."""
        return self._writes.newer(self._marks.get(mid, 0), mid, uids)

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
