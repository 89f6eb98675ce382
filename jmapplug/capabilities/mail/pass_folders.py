"""The folders of one pass: what was listed, the rows as they are, and a reading that notices when a folder moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from jmapplug.backends import Changes, Folder, Item, MailSource, SyncPoint
from jmapplug.capabilities.mail import plan
from jmapplug.capabilities.mail.apply import settling_folders
from jmapplug.capabilities.mail.folders import rights_of
from jmapplug.capabilities.mail.link import Fetcher
from jmapplug.capabilities.mail.mailbox_listing import read_listing
from jmapplug.capabilities.mail.store import mailboxes as boxes_sql
from jmapplug.capabilities.mail.store import sync as sql
from jmapplug.capabilities.mail.store.mailboxes import Row
from jmapplug.capabilities.mail.writes import writes_of
from jmapplug.errors import FolderError, UpstreamError
from jmapplug.store.account import Store

T = TypeVar("T")


class Moved(Exception):
    """A write of ours renamed or destroyed this very folder while it was read, or its owner stopped sharing it.

    The next pass knows more.
    """


class PassFolders:
    """What a pass knows of the folders. Mailbox/set may change them at any time; every look takes that in."""

    def __init__(self, store: Store, source: MailSource, fetcher: Fetcher) -> None:
        self.store = store
        self.source = source
        self.fetcher = fetcher
        self.rows: dict[int, Row] = {}
        self._listing: list[Folder] = []
        self._given: dict[bytes, int] = {}
        self._by_key: dict[bytes, int] = {}
        self._leaving: set[int] = set()
        self._writes = writes_of(store)
        self._tree = self._writes.tree_changes
        self._marks: dict[int, int] = {}

    def boxes(self) -> list[Row]:
        """Make Mailboxes of the listing; those that are gone (their Emails are still in sight)."""
        listing, mids = read_listing(self.store, self.source)
        readable = [one for one in listing if one.selectable and one.exists and one.rights.may_read_items]
        self._listing = plan.order(readable)
        self._given = {one.key: rights_of(one, one.role == "inbox") for one in readable}
        self._leaving = {row.mid for row in boxes_sql.rows(self.store)} - set(mids.values())
        self._load_rows()
        return [row for row in self.rows.values() if row.mid in self._leaving]

    def _load_rows(self) -> None:
        rows = boxes_sql.rows(self.store)
        # A Mailbox that a write of ours destroyed meanwhile stays known to this pass: there is nothing left in it.
        self.rows |= {row.mid: row for row in rows}
        # One that is gone may have the name that another has now.
        self._by_key = {row.key: row.mid for row in rows if row.mid not in self._leaving}
        self._tree = self._writes.tree_changes
        self.fetcher.folders = settling_folders(self.store, rows)

    def _row(self, folder: Folder) -> Row | None:
        if self._tree != self._writes.tree_changes:
            self._load_rows()
        mid = self._by_key.get(folder.key)
        return None if mid is None else self.rows.get(mid)

    def _changes(self, row: Row, since: SyncPoint | None) -> Changes:
        """One complete pass over a folder since ``since``. Raises UpstreamError, Moved."""
        self._marks.setdefault(row.mid, self._writes.mark())
        return self._steadily(
            row, lambda: self.source.changes(row.key, since, lambda: sql.known_uids(self.store, row.mid))
        )

    def _listed(self, row: Row, validity: int, first: int, last: int, new: bool) -> Sequence[Item]:
        """See MailSource.listed. Raises UpstreamError, Moved."""
        return self._steadily(row, lambda: self.source.listed(row.key, validity, first, last, new))

    def _steadily(self, row: Row, read: Callable[[], T]) -> T:
        """What ``read`` tells of the folder, if it is still the same one afterwards."""
        tree = self._writes.tree_changes
        try:
            found = read()
        except UpstreamError as error:
            withdrawn = error.code == "noperm" and not isinstance(error, FolderError)
            if withdrawn or tree != self._writes.tree_settled():
                raise Moved from error
            raise
        if tree != self._writes.tree_settled():
            self._load_rows()
            if self._by_key.get(row.key) != row.mid:
                raise Moved
        return found
