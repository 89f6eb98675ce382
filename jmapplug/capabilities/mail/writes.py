"""What our own writes to an account's mail share with the sync (mail-rules 5, 12, 15, 33).

*lock*: one write at a time per account, upstream and local part together; the sync takes it where it decides which
Email a copy is, and where it takes copies away. It is never held while SMTP talks.

*tree*: held while folders are made, renamed or deleted, upstream and here, and while a listing is read and applied: no
pass ever applies a listing that is older than such a write. Taken inside *lock*, never the other way round.

*registry*: a pass reads a folder, then applies what it read. What we wrote to a copy in between is mostly newer than
that: the pass leaves such copies alone. But the answer to our command may be older, and may even come in after the pass
has applied what others did since: where a write and a pass met, the sync point stays, and the next pass judges.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import gevent
from gevent.lock import RLock

from jmapplug.capabilities.mail.store import writing
from jmapplug.store.account import Store

QUIET, PATIENCE = 0.1, 1.0
"""Seconds without a write of ours before a pass that upstream asks for; and how long such a pass waits at most."""


class Writes:
    """See the module. One per store; :func:`writes_of` finds it."""

    def __init__(self) -> None:
        self.lock = RLock()
        self.tree = RLock()
        self.tree_changes = 0
        self.roles_looked_at = False
        self._readers = 0
        self._number = 0
        self._touched: dict[tuple[int, int], int] = {}
        self._last = float("-inf")
        self._local: dict[int, frozenset[str]] | None = None
        self._changed: set[int] = set()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """A pass is under way: what is written from now on is remembered for it."""
        self._readers += 1
        try:
            yield
        finally:
            self._readers -= 1
            if not self._readers:
                self._touched.clear()

    def note_tree(self) -> None:
        """Mailboxes are other ones now, or have other keys. Called with the local change, before anybody yields."""
        self.tree_changes += 1

    def tree_settled(self) -> int:
        """``tree_changes`` once no change of folders is under way: upstream may be ahead of us until then."""
        with self.tree:
            return self.tree_changes

    def mark(self) -> int:
        """This moment, for :meth:`newer`."""
        return self._number

    def note(self, mid: int, uids: Iterable[int]) -> None:
        """These copies are now as a write of ours left them. Called with the local change, before anybody yields."""
        self._last = time.monotonic()
        if self._readers:
            self._number += 1
            for uid in uids:
                self._touched[mid, uid] = self._number

    def newer(self, mark: int, mid: int, uids: Iterable[int]) -> set[int]:
        """Those of ``uids`` that were written after ``mark``."""
        if not self._touched:
            return set()
        return {uid for uid in uids if self._touched.get((mid, uid), 0) > mark}

    def met(self, marks: Mapping[int, int]) -> set[int]:
        """The folders of ``marks`` (mid → mark) in which a copy was written after that. Ask it with *lock* held."""
        return {mid for (mid, _), number in self._touched.items() if number > marks.get(mid, number)}

    def calm(self) -> None:
        """Wait until we have written nothing for a moment, a second at most.

        Upstream tells us of our own writes too: a pass for each of a hundred of them would only slow them down.
        """
        deadline = time.monotonic() + PATIENCE
        while (left := min(self._last + QUIET, deadline) - time.monotonic()) > 0:
            gevent.sleep(left)

    # --- keywords that the server does not keep (mail-rules 33)

    def local_keywords(self, store: Store) -> dict[int, frozenset[str]]:
        """Email → its local keywords; few Emails have any."""
        if self._local is None:
            self._local = writing.local_keywords(store)
        return self._local

    def change_local(self, store: Store, eid: int, add: Iterable[str], remove: Iterable[str]) -> None:
        """Change an Email's local keywords; it is to be settled anew (:meth:`take_changed`)."""
        local = self.local_keywords(store)
        had = local.get(eid, frozenset())
        has = (had | set(add)) - set(remove)
        if has == had:
            return
        writing.save_local_keywords(store, [(eid, one) for one in has - had], [(eid, one) for one in had - has])
        local[eid] = has
        self._changed.add(eid)

    def take_changed(self) -> set[int]:
        """The Emails whose local keywords changed since the last time."""
        changed, self._changed = self._changed, set()
        return changed


_writes: WeakKeyDictionary[Store, Writes] = WeakKeyDictionary()


def writes_of(store: Store) -> Writes:
    """The writes of an account's store."""
    found = _writes.get(store)
    if found is None:
        found = _writes[store] = Writes()
    return found
