"""How the mail service learns that something changed upstream (mail-rules 20, 21).

A *watch* tells unasked: of every folder (*complete*) or of INBOX. What it does not cover is looked at now and then, a
pass each: often while somebody wants to know, rarely while nobody does. A *storm* of news makes a few passes, not one
each.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import Event

from jmapplug.backends import Watch
from jmapplug.capabilities.mail.store import mailboxes as boxes_sql
from jmapplug.capabilities.mail.writes import writes_of
from jmapplug.errors import UpstreamError

log = logging.getLogger("jmapplug.mail")

RECONCILE = 600.0
"""Seconds between two looks at everything where a complete watch says nothing (mail-rules 21): servers forget some."""
OFTEN, RARELY = 1 / 3, 4.0
"""Parts of JMAP_SYNC_INTERVAL between two looks while somebody wants to know, and while nobody does."""
SHARE = 20.0
"""A look that took a second is not repeated for so many: an account of 10,000 folders is not looked at all the time."""
DISTRUST = 3600.0
"""Seconds for which a watch that missed something counts as not complete."""
RETRY, LONGEST_RETRY = 30.0, 600.0
"""Seconds until a watch that could not be opened is tried again: the server may give us one connection only."""
SHORT = 60.0
"""Seconds that a watch has to live; after two in a row that broke earlier the next one has to wait."""
BURST, RATE = 3.0, 2.0


class Pace:
    """When the passes of a storm begin: the first BURST at once, then RATE a second."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tokens = BURST
        self._at = clock()

    def take(self) -> float:
        """Seconds until the pass that is wanted now may begin."""
        now = self._clock()
        self._tokens = min(BURST, self._tokens + (now - self._at) * RATE) - 1
        self._at = now
        return max(0.0, -self._tokens / RATE)


class Watching:
    """The watch of one account, and what it told since the last pass. One greenlet waits.

    ``waited``: a wait has ended since the last pass. ``told``: keys of folders of which something was told since.
    """

    def __init__(self, account: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self.waited = False
        self.told: set[bytes] = set()
        self._account = account
        self._clock = clock
        self._watch: Watch | None = None
        self._wake = Event()
        self._pace = Pace(clock)
        self._failures = 0
        self._retry_at = 0.0
        self._opened_at = 0.0
        self._distrust_until = 0.0
        self._cost = 0.0
        self._closed = False

    @property
    def how(self) -> str:
        """A word for the operator: "notify", "idle", … or "poll"."""
        return "poll" if self._watch is None else self._watch.how

    @property
    def _complete(self) -> bool:
        return self._watch is not None and self._watch.complete and self._clock() >= self._distrust_until

    def patience(self, interval: float) -> float:
        """Seconds after a pass until the next one, where nothing is told."""
        if self._complete:
            return RECONCILE
        share = OFTEN if self._account.watched else RARELY
        return max(interval * share, min(self._cost * SHARE, RECONCILE))

    @property
    def steady(self) -> bool:
        """Whether nobody can come who makes the patience less."""
        return self._watch is not None and (self._complete or bool(self._account.watched))

    def wait(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds; True when a pass is due. Raises UpstreamError when a watch breaks."""
        if self._watch is None and self._open():
            # Between the last pass and this moment something may have come.
            self._heard(frozenset())
            return True
        watch = self._watch
        if watch is None:
            self._wake.wait(timeout)
            self.waited = True
            return False
        try:
            news = watch.wait(timeout)
        except UpstreamError:
            self._broke()
            raise
        if watch.closed:
            self.drop()
        if news is not None:
            writes_of(self._account.store).calm()
            gevent.sleep(self._pace.take())
        # Only now: a pass during the wait is one that was asked for.
        self._heard(news)
        return news is not None

    def take(self) -> tuple[bool, frozenset[bytes]]:
        """(waited, told) for a pass that begins now."""
        taken = self.waited, frozenset(self.told)
        self.waited, self.told = False, set()
        return taken

    def looked(self, waited: bool, told: frozenset[bytes], found: bool, seconds: float) -> None:
        """A pass is done that nobody but the clock wanted, or that was told of; whether it ``found`` changes."""
        if not waited or told:
            return
        self._cost = seconds
        if found and self._complete:
            log.info("account %s: the mail server did not tell of everything", self._account.id)
            self._distrust_until = self._clock() + DISTRUST
            self.drop()

    def drop(self) -> None:
        """End the watch; the next wait begins another one."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.close()

    def close(self) -> None:
        self._closed = True
        self._wake.set()
        self.drop()

    def _heard(self, news: frozenset[bytes] | None) -> None:
        self.waited = True
        if news is not None:
            # Nobody knows where: INBOX is the most likely, and told of nothing at all would be a pass by the clock.
            self.told |= news or {self._inbox() or b"INBOX"}

    def _inbox(self) -> bytes | None:
        return next((row.key for row in boxes_sql.rows(self._account.store) if row.role == "inbox"), None)

    def _open(self) -> bool:
        """Whether there is a watch now. That it cannot be had is no failure: passes say whether the server is there."""
        inbox = self._inbox()
        if inbox is None or self._closed or self._clock() < self._retry_at:
            return False
        try:
            self._watch = self._account.mail_source().watch(inbox)
        except UpstreamError as error:
            self._failures += 1
            self._later(self._failures)
            log.info("account %s: no watch: %s", self._account.id, error)
            return False
        if self._closed:
            self.drop()
        self._opened_at = self._clock()
        return self._watch is not None

    def _broke(self) -> None:
        """The watch is gone. One that never lasts is tried less and less often: each costs a log-in and two passes."""
        self.drop()
        self._failures = self._failures + 1 if self._clock() - self._opened_at < SHORT else 0
        if self._failures > 1:
            self._later(self._failures - 1)

    def _later(self, failures: int) -> None:
        self._retry_at = self._clock() + min(RETRY * 2.0 ** min(failures - 1, 10), LONGEST_RETRY)
