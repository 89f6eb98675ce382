"""The worker's loop for each service: wait → sync → publish → back off (design §6)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Protocol

import gevent
from gevent.event import Event
from gevent.lock import RLock

from jmapplug.errors import AuthenticationError, FolderError, JmapplugError, StorageError, UpstreamError
from jmapplug.hookspecs import SyncService
from jmapplug.store.pace import breathe
from jmapplug.workers.pauses import STORAGE_PAUSE, background_pause, pause_after, seldom
from jmapplug.workers.resting import Resting
from jmapplug.workers.words import in_words

log = logging.getLogger("jmapplug.workers")

REPORT_PAUSE, REPORT_AGAIN = 2.0, 10.0
"""Seconds after a report until the next one, and after one that did not arrive."""
RETOLD = 60.0
"""A pass after which all is as it was told is told of when the last one that was is so many seconds older."""
CALM_PATIENCE = 0.25
FIRST_REQUEST = 0.03
STEP, STEADY_STEP = 10.0, 60.0
"""Seconds between two questions how long a service wants to wait, and where it says that it will not be less."""

COUNTED = ("folders", "folders_done", "messages", "messages_done", "pending", "unindexed")
"""What services count, and an account's status adds up."""
TROUBLE = (UpstreamError, StorageError)
"""What a pass may end with: the mail server, or our own disk."""


class Busy(Protocol):
    """What the loop asks of the server: let requests go first."""

    in_flight: int
    calm: Event
    last_used: float
    """When the last request ended (time.monotonic)."""


class Line:
    """One service's loop. Passes and background slices take turns.

    ``last_sync`` is in unix seconds; ``retry_at``, while a failure is being waited out, in those of time.monotonic().
    """

    def __init__(
        self,
        service: SyncService,
        busy: Busy,
        interval: float,
        on_pass: Callable[[], None],
        on_refused: Callable[[], None],
    ) -> None:
        self.service = service
        self.error: str | None = None
        self.last_sync: float | None = None
        self.retry_at: float | None = None
        self.working = True
        self._busy = busy
        self._interval = interval
        self._on_pass = on_pass
        self._on_refused = on_refused
        self._turn = RLock()
        self._begun = 0
        self._failures = 0
        self._refused = False
        self._set_up = False
        self._due = Event()
        self._well = Event()
        self._passed = Event()

    # --- what commands ask for

    def setup(self) -> None:
        """The first visible data, once in this worker's life. Raises UpstreamError."""
        with self._turn:
            if not self._set_up:
                self._noting(self.service.setup)
                self._set_up = True

    def sync(self) -> None:
        """A pass that begins after this call, whoever begins it. Raises UpstreamError."""
        seen = self._begun
        with self._turn:
            if self._begun > seen and self.error is None:
                return
            self._pass()

    # --- the loop

    def run(self) -> None:
        """Forever: passes, each as soon as the service says that one is due."""
        # A worker is forked because somebody waits: that request first.
        gevent.sleep(FIRST_REQUEST)
        self._let_requests_first()
        while True:
            try:
                # What one folder is refused for is told in the status; news of the others is waited for as ever.
                with suppress(FolderError):
                    if not self._set_up and not self.service.status().get("messages"):
                        self.setup()
                with suppress(FolderError):
                    self.sync()
                self._wait()
            except UpstreamError as error:
                self._failed(error)
                self._pause(max(pause_after(self._failures, self._refused), error.retry_after or 0.0))
                if self._refused:
                    self._on_refused()
            except StorageError as error:
                log.error("a sync pass failed: %s", error)
                self._failed(error)
                self._pause(min(pause_after(self._failures, False), STORAGE_PAUSE))
            except Exception:
                # A defect of ours in one pass must not end synchronisation for good.
                log.exception("a sync pass failed")
                self._failed(UpstreamError("internal error"))
                self._pause(pause_after(self._failures, False))

    def _wait(self) -> None:
        """Until a pass is due: upstream told of a change, or the service's patience is at its end.

        The patience is asked for anew at every step: meanwhile somebody may have come who wants to know sooner.
        """
        begun = time.monotonic()
        patience = getattr(self.service, "patience", None)
        whole = seldom(self._interval) if getattr(self.service, "seldom", False) else self._interval
        while True:
            left = begun + (patience(self._interval) if patience else whole) - time.monotonic()
            step = STEADY_STEP if getattr(self.service, "steady", False) else STEP
            if left <= 0 or self.service.wait(min(left, step) if patience else left):
                return

    def _pause(self, seconds: float) -> None:
        """Wait, or until a pass that somebody asked for has shown that upstream is well again."""
        self.retry_at = time.monotonic() + seconds
        self._well.clear()
        try:
            self._well.wait(seconds)
        finally:
            self.retry_at = None

    def _pass(self) -> None:
        """Raises UpstreamError, StorageError; FolderError when all other folders were read."""
        self._begun += 1
        self.working = True
        refusal: FolderError | None = None
        try:
            self._noting(self.service.sync)
            self.last_sync = time.time()
        except FolderError as error:
            refusal = error
        finally:
            self.working = False
        self._failures = 0
        for event in (self._due, self._well, self._passed):
            event.set()
        self._on_pass()
        if refusal is not None:
            raise refusal

    def _noting(self, step: Callable[[], None]) -> None:
        """Run a step that goes upstream; remember what it says."""
        try:
            step()
        except TROUBLE as error:
            self.error = in_words(error)
            self._refused = isinstance(error, AuthenticationError)
            raise
        self.error, self._refused = None, False

    def _failed(self, error: UpstreamError | StorageError) -> None:
        self.error = in_words(error)
        self._refused = isinstance(error, AuthenticationError)
        self._failures += 1
        self.working = False
        self._on_pass()

    # --- background work

    def background(self) -> None:
        """Forever: slices of background work while there is some, requests and passes first."""
        failures = 0
        while True:
            self._due.wait()
            self._let_requests_first()
            if (rest := self._rest()) > 0:
                gevent.sleep(min(rest, STEP))
                continue
            try:
                with self._turn:
                    more = self.service.background()
                failures = 0
            except TROUBLE as error:
                failures += 1
                log.info("background work: %s", error)
                wanted = error.retry_after if isinstance(error, UpstreamError) else None
                self._sit_out(background_pause(error, failures), wanted or 0.0)
                continue
            except Exception:
                failures += 1
                log.exception("background work failed")
                gevent.sleep(pause_after(failures, False))
                continue
            if not more:
                self._due.clear()
            self._on_pass()
            breathe()

    def _sit_out(self, pause: float, wanted: float) -> None:
        """Wait ``pause`` seconds, and up to the ``wanted`` ones unless a pass shows that upstream is well again."""
        self._passed.clear()
        gevent.sleep(pause)
        if wanted > pause:
            self._passed.wait(wanted - pause)

    def _rest(self) -> float:
        """Seconds that background work has to wait for its bandwidth."""
        pace = getattr(self.service, "pace", None)
        try:
            return pace() if pace is not None else 0.0
        except UpstreamError:  # there is no source: the slice says so
            return 0.0

    def _let_requests_first(self) -> None:
        if self._busy.in_flight:
            self._busy.calm.wait(CALM_PATIENCE)

    @property
    def unfinished(self) -> bool:
        """A pass is under way or background work is left: an idle worker stays for it."""
        return (self.working or self._due.is_set()) and not self._failures


class SyncLoop:
    """All services of an account, and the reports about them to ``__accounts__``."""

    def __init__(
        self,
        services: dict[str, SyncService],
        busy: Busy,
        interval: float,
        report: Callable[[dict[str, Any]], None],
        refresh: Callable[[], None],
        offers: Callable[[], list[str]],
        facts: Callable[[], dict[str, dict[str, Any]]] = dict,
        held: Callable[[], UpstreamError | None] = lambda: None,
    ) -> None:
        """``held``: why the upstream must be left alone now, whoever met that first."""
        self._report = report
        self._offers = offers
        self._facts = facts
        self._held = held
        self._busy = busy
        self.begun = Event()
        """Set when the first pass has ended, one way or the other."""
        self._news = Event()
        self._told: dict[str, Any] | None = None
        self._greenlets: list[Any] = []
        self.lines = {urn: Line(service, busy, interval, self._passed, refresh) for urn, service in services.items()}
        rests = [rest for service in services.values() if (rest := getattr(service, "rest", None)) is not None]
        self.resting = Resting(lambda: bool(self.unfinished or busy.in_flight), lambda: busy.last_used, rests)

    def start(self) -> None:
        self._greenlets += [gevent.spawn(self._reports), gevent.spawn(self.resting.run)]
        for line in self.lines.values():
            self._greenlets += [gevent.spawn(line.run), gevent.spawn(line.background)]

    def stop(self) -> None:
        gevent.killall(self._greenlets, timeout=2)

    def setup(self) -> None:
        """Raises UpstreamError."""
        try:
            for line in self.lines.values():
                line.setup()
        finally:
            self.report()

    def sync(self) -> None:
        """One full pass of every service; raises the first UpstreamError or StorageError after all were tried."""
        failed: UpstreamError | StorageError | None = None
        for line in self.lines.values():
            try:
                line.sync()
            except TROUBLE as error:
                failed = failed or error
        self.report()
        if failed is not None:
            raise failed

    @property
    def unfinished(self) -> bool:
        return any(line.unfinished for line in self.lines.values())

    def status(self) -> dict[str, Any]:
        """``{"folders", "folders_done", "messages", "messages_done", "pending", "unindexed", "phase",
        "watching", "last_sync", "error", "warning", "next_retry", "offers", "facts", "services": {urn: …}}``.

        No network.

        ``phase``: what a service says, or "failed" while a failure is waited out.
        ``next_retry``: seconds until the next try after a failure, else None.
        """
        each = {urn: line.service.status() for urn, line in self.lines.items()}
        lines = self.lines.values()
        synced = [line.last_sync for line in lines]
        retries = [line.retry_at - time.monotonic() for line in lines if line.retry_at is not None]
        held = self._held()
        asked = in_words(held) if held is not None else None
        if not retries and held is not None:
            retries = [held.retry_after or 0.0]
        return {
            **{name: sum(int(one.get(name, 0)) for one in each.values()) for name in COUNTED},
            "phase": _phase(each.values(), failed=bool(retries)),
            "last_sync": min((moment for moment in synced if moment), default=None) if all(synced) else None,
            "error": next((line.error for line in lines if line.error), asked),
            "warning": next((one["warning"] for one in each.values() if one.get("warning")), None),
            "watching": next((one["watching"] for one in each.values() if one.get("watching")), None),
            "next_retry": round(max(0.0, min(retries)), 1) if retries else None,
            "offers": self._offers(),
            "facts": dict(self._facts()),
            "services": each,
        }

    # --- reports

    def _passed(self) -> None:
        self.begun.set()
        self._news.set()
        self.resting.worked.set()

    def _reports(self) -> None:
        while True:
            self._news.wait()
            self.report(again=False)
            if self._told is None:
                gevent.sleep(REPORT_AGAIN)
                self._news.set()
            else:
                gevent.sleep(REPORT_PAUSE)

    def report(self, *, again: bool = True) -> None:
        """Tell ``__accounts__`` how things are; that it is away for a moment is no reason to stop.

        Not ``again``: only where they are not as they were told.
        """
        self._news.clear()
        try:
            status = self.status()
            del status["services"]
            if again or self._told is None or _is_news(status, self._told):
                self._told = None
                self.resting.soon()
                self._report(status)
                self._told = status
        except JmapplugError as error:
            log.info("no report: %s", error)
        except Exception:
            log.exception("no report")


def _is_news(status: dict[str, Any], told: dict[str, Any]) -> bool:
    """Whether something else has changed than the moment of the last pass, or that is long ago by what was told."""
    moments = {"last_sync": told["last_sync"], "next_retry": told["next_retry"]}
    return status | moments != told or (status["last_sync"] or 0) - (told["last_sync"] or 0) >= RETOLD


def _phase(each: Iterable[dict[str, Any]], *, failed: bool) -> str:
    phase = next((str(one["phase"]) for one in each if one.get("phase")), "idle")
    return "failed" if failed and phase == "idle" else phase
