"""The mail capability's part in the worker's loop (``hookspecs.SyncService``): passes, history, waiting, status."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gevent.lock import RLock

from jmapplug.backends import Folder
from jmapplug.capabilities.mail import details, tokens
from jmapplug.capabilities.mail.allowance import Allowance
from jmapplug.capabilities.mail.apply import settling_folders
from jmapplug.capabilities.mail.link import Fetcher
from jmapplug.capabilities.mail.plan import Known, is_stuck
from jmapplug.capabilities.mail.store import mailboxes as boxes_sql
from jmapplug.capabilities.mail.store import search as search_sql
from jmapplug.capabilities.mail.store import sync as sql
from jmapplug.capabilities.mail.sync_pass import FLAGS_AGE, GONE, Pass
from jmapplug.capabilities.mail.upstream import mail_source, warning
from jmapplug.capabilities.mail.watching import Watching
from jmapplug.errors import FolderError, UpstreamError

log = logging.getLogger("jmapplug.mail")

HISTORY = 200
PUBLISH_EVERY = 5.0
BIG_CACHE_KB = 16_384
UPKEEP_EVERY = 86_400.0
UPKEEP_SLICE = 2_000


@dataclass(slots=True)
class Suspicion:
    """Without CONDSTORE a STATUS does not tell of changed flags (mail-rules 21); these signs do.

    ``waited``: the pass follows a wait; any other was asked for, or is a worker's first, and looks at everything.
    ``told``: folders in which something happened. ``unseen``: each folder's UNSEEN as it was last told, kept up here.
    ``condstore`` becomes False at the sight of a HIGHESTMODSEQ that sticks (wish 14).
    """

    condstore: bool
    waited: bool
    told: frozenset[bytes]
    unseen: dict[bytes, int | None]

    def suspects(self, folder: Folder, known: Known) -> bool:
        before = self.unseen.get(folder.key, folder.unseen)
        self.unseen[folder.key] = folder.unseen
        if self.condstore and not is_stuck(folder, known):
            # UNSEEN may be each reader's own where folders are shared: a reason to look, and no proof.
            return before != folder.unseen and folder.highestmodseq == known.highestmodseq
        self.condstore = False
        return not self.waited or before != folder.unseen or folder.key in self.told


class MailService:
    """Keeps one account's store in step with its upstream. ``slices``: further background work, when history is done.

    Each of ``slices`` is called with the account and says whether it has more to do (the text index).
    """

    def __init__(
        self,
        account: Any,
        slices: Sequence[Callable[[Any], bool]] = (),
        *,
        flags_age: tuple[float, float] = FLAGS_AGE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.account = account
        self.flags_age = flags_age
        self._slices = tuple(slices)
        self._clock = clock
        self._lock = RLock()
        self._watching = Watching(account)
        self._phase = "idle"
        self._published = 0.0
        self._history: dict[int, set[int]] = {}
        self._upkeep: tuple[float, int] = (0.0, -1)
        self._boosted = False
        self._unseen: dict[bytes, int | None] = {}
        self._stuck = False
        self._refused = 0
        self._allowance: Allowance | None = None
        self._closed = False
        if account.store.on_change is None:
            account.store.on_change = account.publish

    # --- SyncService -----------------------------------------------------------------------------------------------

    def setup(self) -> None:
        """Mailboxes and the newest 50 of INBOX. Raises UpstreamError, StorageError."""
        with self._lock:
            self.account.store.check_room()
            self._run("setup", lambda one: one.setup(), live=True)

    def sync(self) -> None:
        """One full pass (``sync_pass``). Raises UpstreamError, StorageError; FolderError when all else is done."""
        with self._lock:
            self.account.store.check_room()
            first = self._is_first()
            if first:
                self._boost(True)
            try:
                self._pass("listing" if first else "sync", live=not first)
            except FolderError:
                self._begin_history()
                raise
            except UpstreamError:
                # A server that gives us one connection only may have given it to the watch.
                self._watching.drop()
                raise
            self._begin_history()

    def background(self) -> bool:
        """One slice of history, else of upkeep or of ``slices``; False when nothing is left. Raises UpstreamError."""
        with self._lock:
            if self._closed:
                return False
            self.account.store.check_room()
            if self._history and self._history_slice():
                return True
            self._boost(False)
            self.account.store.announce()
            return self._upkeep_slice() or any(one(self.account) for one in self._slices)

    def wait(self, timeout: float) -> bool:
        """Wait for a change that upstream tells of; True when a pass is due. Raises UpstreamError."""
        return self._watching.wait(timeout)

    def patience(self, interval: float) -> float:
        return self._watching.patience(interval)

    @property
    def steady(self) -> bool:
        return self._watching.steady

    def pace(self) -> float:
        """See SyncService: seconds that the bandwidth of background work wants."""
        bandwidth = self.account.service_settings.account_bandwidth
        if not bandwidth:
            return 0.0
        if self._allowance is None:
            self._allowance = Allowance(bandwidth)
        return self._allowance.pause(getattr(self.account.mail_source(), "background_in", 0))

    def rest(self) -> None:
        """What only makes work faster goes (``hookspecs.SyncService``)."""
        details.forget()
        tokens.fold.cache_clear()
        self.account.store.rest()

    def status(self) -> dict[str, Any]:
        """``folders``, ``messages`` (visible and still to come), ``pending``, ``unindexed``, ``phase``, ``watching``.

        ``folders_done``: those that were read to their end at least once; ``messages_done``: those that are visible.
        ``watching``: how we learn of changes ("notify", "idle", "poll"); ``refused``: folders that could not be opened;
        ``warning``: what an operator should know although nothing fails.
        """
        store = self.account.store
        rows = boxes_sql.rows(store)
        pending = sql.pending_count(store)
        # What the server counts may never all become visible: copies of one Email in a folder, \Deleted messages.
        still = [0 if row.uidnext is not None and not pending else row.messages or 0 for row in rows]
        return {
            "folders": len(rows),
            "folders_done": sum(row.uidnext is not None or not row.selectable for row in rows),
            "messages": sum(max(more, row.total_emails) for more, row in zip(still, rows, strict=True)),
            "messages_done": sum(row.total_emails for row in rows),
            "pending": pending,
            "unindexed": search_sql.unindexed(store),
            "phase": self._phase,
            "watching": self._watching.how,
            "refused": self._refused,
            "warning": warning(store, rows),
        }

    def close(self) -> None:
        self._closed = True
        self._watching.close()

    # --- passes ----------------------------------------------------------------------------------------------------

    def _is_first(self) -> bool:
        return all(row.uidnext is None for row in boxes_sql.rows(self.account.store))

    def _pass(self, phase: str, *, live: bool) -> None:
        try:
            self._run(phase, lambda one: one.run(), live=live)
        except UpstreamError as error:
            if error.code not in GONE:
                raise
            # Another client has deleted or renamed a folder between our listing and our look into it.
            self._run(phase, lambda one: one.run(again=True), live=live)

    def _run(self, phase: str, work: Callable[[Pass], None], *, live: bool) -> None:
        self._phase = phase
        try:
            source = self.account.mail_source()
            condstore = source.features.condstore and not self._stuck
            waited, told = self._watching.take()
            suspicion = Suspicion(condstore, waited, told, self._unseen)
            begun, before = time.monotonic(), self.account.store.modseq
            age = self.flags_age[0 if condstore else 1]
            one = Pass(self.account.store, source, lambda: self._progress(live), age, suspicion.suspects)
            try:
                work(one)
            finally:
                self._refused = len(one.refused)
            if condstore and not suspicion.condstore:
                log.warning("the mail server's HIGHESTMODSEQ does not move with new messages: flags are compared")
                self._stuck = True
            found = self.account.store.modseq != before
            self._watching.looked(waited, told, found, time.monotonic() - begun)
        finally:
            self._phase = "idle"
            # What was applied before a failure is true as well.
            self._announce()

    def _progress(self, live: bool) -> None:
        """Live changes are told at once, a first sync's at most every 5 s (mail-rules 20)."""
        if live or self._clock() - self._published >= PUBLISH_EVERY:
            self._announce()

    def _announce(self) -> None:
        self._published = self._clock()
        self.account.store.announce()

    # --- history ---------------------------------------------------------------------------------------------------

    def _begin_history(self) -> None:
        store = self.account.store
        boxes = (row.mid for row in boxes_sql.rows(store))
        self._history = {mid: set() for mid in boxes if sql.newest_pending(store, mid) is not None}

    def _history_slice(self) -> bool:
        """Details of the newest copies that wait for them, of the folder whose newest is the newest of all."""
        store = self.account.store
        rows = {row.mid: row for row in boxes_sql.rows(store)}
        due = [(when, mid) for mid in self._history if (when := sql.newest_pending(store, mid)) is not None]
        for _, mid in sorted(due, reverse=True):
            # What upstream did not give this time is left to the next pass, which sees it vanish.
            tried = self._history[mid]
            uids = [one.uid for one in sql.pending(store, mid, HISTORY, tried)] if mid in rows else []
            if not uids:
                del self._history[mid]
                continue
            self._phase = "history"
            fetcher = Fetcher(
                store,
                mail_source(self.account),
                settling_folders(store, list(rows.values())),
                lambda count: self._progress(False),
            )
            try:
                done = fetcher.fetch(rows[mid], uids, background=True)
            except FolderError as error:  # the others' history goes on; the next pass comes back to this one
                log.info("a folder cannot be opened: %s", error)
                del self._history[mid]
                return True
            if done < len(uids):
                tried.update(uids)
            return True
        self._history = {}
        self._phase = "idle"
        return False

    def _boost(self, on: bool) -> None:
        if on != self._boosted:
            self._boosted = on
            for database in (self.account.store.own, self.account.store.cache):
                database.page_cache(*((BIG_CACHE_KB,) if on else ()))

    # --- upkeep ----------------------------------------------------------------------------------------------------

    def _upkeep_slice(self) -> bool:
        """Once a day: old tombstones, and what own.sqlite3 remembers of Emails that nobody remembers any more."""
        due, after = self._upkeep
        if after < 0 and self._clock() < due:
            return False
        if after < 0:
            if self.account.store.prune():
                return True
            after = 0
        last = sql.forget_unbound(self.account.store, after, UPKEEP_SLICE)
        self._upkeep = (due, last) if last is not None else (self._clock() + UPKEEP_EVERY, -1)
        return last is not None
