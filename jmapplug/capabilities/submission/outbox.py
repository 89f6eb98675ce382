"""The durable queue (mail-rules 36): every message is handed to SMTP at most once, whatever dies in between.

A row of ``submission_email`` moves through *phases*, each committed (synchronous FULL) before what it announces:

* ``queued``: due at ``due_at``; may be canceled. The message is a file of its own in ``outbox/``.
* ``sending``: a connection may be open; nothing of the message has left. After a crash: queued again.
* ``data``: the message's octets may be on their way. After a crash: done, and nobody claims to know ("unknown").
* ``done``: sent, refused, canceled or unsure; the file is gone. Kept 30 days as a record.

Recipients who got a temporary refusal keep the row queued while the others are done; ``deliveryStatus`` tells them
apart. Nothing here holds a lock or a transaction while SMTP talks.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import gevent
import msgspec
from gevent.event import AsyncResult, Event
from gevent.lock import BoundedSemaphore

from jmapplug.backends import Delivery, EnvelopeAddress, SubmissionFeatures, SubmissionSource
from jmapplug.capabilities.submission import delivery as outcomes
from jmapplug.capabilities.submission import store as sql
from jmapplug.capabilities.submission.envelope import OURS, utc_date
from jmapplug.capabilities.submission.store import Address, Submission
from jmapplug.errors import StorageError, UpstreamError, storage_error
from jmapplug.store import wake
from jmapplug.store.account import Store
from jmapplug.waiting import wait

log = logging.getLogger(__name__)

CONNECTIONS = 2
AT_ONCE = 20
FIRST_PAUSE, LONGEST_PAUSE = 60, 3_600
PATIENCE = 5 * 86_400
"""Seconds that a message is tried for (RFC 5321 §4.5.4.1: four to five days)."""
LONGEST_WAIT, LONGEST_PEACE = 60.0, 3_600.0
"""The clock may be set while the queue waits; seconds between two looks into an empty one."""
MARK = "submission"
STORAGE_PAUSE, STORAGE_STEP = 30.0, 5.0
"""Seconds until the next hand-over, and until the next try to write one down, while our disk takes nothing."""
LOST = "outbox-lost"
OURS_FAILED = "ours"
"""The code of an error that is not the mail server's."""

replace = msgspec.structs.replace


class Canceled(Exception):
    """The client took the message back before its first octet left."""


class Outbox:
    """One account's queue. ``source`` gives the way out; ``clock`` is unix time.

    ``taken`` is told of each message that the server took, and must not block.
    """

    def __init__(
        self,
        store: Store,
        folder: Path,
        source: Callable[[], SubmissionSource],
        *,
        learnt: Callable[[SubmissionFeatures], None] = lambda features: None,
        taken: Callable[[Submission], None] = lambda row: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store = store
        self.clock = clock
        self._source = source
        self._learnt = learnt
        self._taken = taken
        self._account_folder = folder
        self._files = folder / "outbox"
        self._files.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._slots = BoundedSemaphore(CONNECTIONS)
        self._under_way: dict[str, AsyncResult] = {}
        self._greenlets: dict[str, Any] = {}
        self._wake = Event()
        self._runner: Any = None
        self._hold = 0.0
        self._recovered = False
        self._closed = False

    # --- birth ---------------------------------------------------------------------------------------------------

    def recover(self) -> None:
        """After a start, before anything else: what was under way is queued again, or is unsure for good.

        Raises StorageError where there is no room to write that down; then nothing is sent before it has succeeded.
        Once it has, it does nothing.
        """
        if self._recovered:
            return
        try:
            self._look_back()
        except OSError as error:
            raise storage_error(error) or error from error
        self._recovered = True

    def _look_back(self) -> None:
        restored = sql.restored(self.store)
        for row in sql.unfinished(self.store):
            self._recover(row, restored)
        known = {row.id for row in sql.unfinished(self.store)}
        for path in self._files.iterdir():
            if path.name not in known:
                self._forgotten(path, restored)
        self._remark()
        sql.settle(self.store)

    def _forgotten(self, path: Path, restored: bool) -> None:
        """A message that no row knows: a creation that did not happen, or one whose row was lost with own.sqlite3."""
        if not restored:
            path.unlink(missing_ok=True)
            return
        lost = self._account_folder / LOST
        lost.mkdir(mode=0o700, exist_ok=True)
        path.replace(lost / path.name)
        log.error("a message that was to be sent is not known any more, and is kept as %s/%s", LOST, path.name)

    def _recover(self, row: Submission, restored: bool) -> None:
        if row.record == "new" and row.phase in ("queued", "sending"):
            # Its creation was never answered, and nothing has left: for the client it did not happen.
            sql.forget(self.store, row.id)
            return
        record = "live" if row.record == "new" else row.record
        if row.phase == "data":
            self._finish(replace(row, record=record), outcomes.CRASHED, "unknown")
        elif restored and row.phase != "done" and row.due_at <= self.clock():
            self._finish(row, outcomes.RESTORED, "unknown")
        elif row.phase != "done" and not self.path(row.id).exists():
            self._finish(row, outcomes.LOST, "no")
        elif row.phase == "sending":
            sql.save(self.store, replace(row, phase="queued"))
        elif row.record == "new":
            sql.save(self.store, replace(row, record="live"))

    # --- the client's side -----------------------------------------------------------------------------------------

    def path(self, id_: str) -> Path:
        """Where the message of a row lies."""
        return self._files / id_

    def add(self, row: Submission, write: Callable[[BinaryIO], object]) -> None:
        """Queue a message: the file first, durable, then its row. Raises what ``write`` raises, and OSError."""
        self.recover()
        target = self.path(row.id)
        try:
            with target.open("xb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            wake.sync_folder(self._files)
            wake.mark(self._account_folder, MARK)
            sql.save(self.store, row)
        except BaseException:
            target.unlink(missing_ok=True)
            with suppress(StorageError, OSError):
                self._remark()
            raise

    def start(self, id_: str) -> AsyncResult:
        """Try it now; what came of it: a Delivery, an UpstreamError, or None where it was not to be sent any more."""
        found = self._under_way.get(id_)
        if found is not None:
            return found
        result = self._under_way[id_] = AsyncResult()
        self._greenlets[id_] = gevent.spawn(self._attempt, id_, result)
        return result

    def publish(self, id_: str) -> Submission | None:
        """Its creation is answered: from now on clients see it."""
        row = sql.find(self.store, id_)
        if row is not None and row.record == "new":
            row = sql.save(self.store, replace(row, record="live"))
        self._wake.set()
        return row

    def withdraw(self, id_: str) -> None:
        """Its creation is refused: as if it had never been."""
        row = sql.find(self.store, id_)
        if row is not None and row.phase in ("queued", "done"):
            sql.forget(self.store, id_)
            self.path(id_).unlink(missing_ok=True)
        self._remark()

    def cancel(self, id_: str) -> Submission | None:
        """Take it back; None where it is too late. A hand-over under way is stopped before the first octet leaves."""
        row = sql.find(self.store, id_)
        if row is None or row.undo_status != "pending" or row.phase not in ("queued", "sending"):
            return None
        # One commit: ``on_data`` finds another phase than it expects and stops.
        return self._finish(row, outcomes.CANCELED, "no", undo="canceled")

    def destroy(self, row: Submission) -> None:
        """The record goes; what is still to be sent is sent all the same (RFC 8621 §7)."""
        if row.phase == "done":
            sql.forget(self.store, row.id)
        else:
            sql.save(self.store, replace(row, record="gone"))

    @property
    def busy(self) -> bool:
        """Whether anything is still to be sent: the worker has to stay (mail-rules 40)."""
        return sql.pending(self.store) > 0

    # --- the loop --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Have the loop running; calling it again does nothing. Raises what :meth:`recover` raises."""
        self.recover()
        if self._runner is None and not self._closed:
            self._runner = gevent.spawn(self._run)

    def _run(self) -> None:
        while not self._closed:
            self._wake.clear()
            try:
                pause = self._look()
            except StorageError as error:
                log.error("the queue cannot be looked into: %s", error)
                pause = STORAGE_PAUSE
            self._wake.wait(pause)

    def _look(self) -> float:
        """Start what is due; seconds until the next look."""
        now = self.clock()
        if now >= self._hold:
            for id_ in sql.due(self.store, now, AT_ONCE):
                self.start(id_)
        following = sql.next_due(self.store, now)
        until = self._hold if self._hold > now else (following if following is not None else now + LONGEST_PEACE)
        longest = LONGEST_WAIT if sql.pending(self.store) else LONGEST_PEACE
        return min(max(until - now, 0.05), longest)

    def close(self, patience: float = 2.0) -> None:
        """End: what is being handed over gets a moment, the rest is found by :meth:`recover`."""
        self._closed = True
        self._wake.set()
        if self._runner is not None:
            self._runner.kill()
        greenlets = list(self._greenlets.values())
        wait(greenlets, patience)
        gevent.killall(greenlets, timeout=1)

    # --- one hand-over ---------------------------------------------------------------------------------------------

    def _attempt(self, id_: str, result: AsyncResult) -> None:
        came: Delivery | UpstreamError | None = None
        try:
            with self._slots:
                if not self._closed and sql.move(self.store, id_, "queued", "sending"):
                    came = self._hand_over(id_)
        except Exception as error:
            came = self._failed(id_, error)
        finally:
            del self._under_way[id_], self._greenlets[id_]
            result.set(came)
            self._wake.set()

    def _hand_over(self, id_: str) -> Delivery | UpstreamError | None:
        row = sql.find(self.store, id_)
        assert row is not None
        early = row.send_at - self.clock() > 1
        sender = _sender(row, early)
        to = set(outcomes.open_recipients(row.delivery))
        recipients = [_wire(each) for each in row.envelope.rcpt_to if each.email in to]

        def on_data() -> None:
            if not sql.move(self.store, id_, "sending", "data"):
                raise Canceled

        try:
            source = self._source()
            came: Delivery | UpstreamError = source.send(sender, recipients, self.path(id_), on_data)
        except Canceled:
            return None
        except UpstreamError as error:
            log.info("sending %s: %s", id_, error)
            came = error
        self._write_down(id_, came, early)
        if isinstance(came, Delivery):
            self._learn(source)
        return came

    def _learn(self, source: SubmissionSource) -> None:
        try:
            self._learnt(source.features())
        except UpstreamError as error:
            log.info("what the server offers is not known: %s", error)

    def _failed(self, id_: str, error: Exception) -> UpstreamError:
        """A defect of ours, or our disk."""
        if isinstance(error, StorageError):
            log.error("sending %s: %s", id_, error)
            self._hold = self.clock() + STORAGE_PAUSE
        else:
            log.exception("sending %s failed", id_)
        came = UpstreamError("internal error", code=OURS_FAILED)
        self._write_down(id_, came, False)
        return came

    def _write_down(self, id_: str, came: Delivery | UpstreamError, early: bool) -> None:
        """What the mail server said is not forgotten because our disk is full: it is tried until it is written."""
        while True:
            try:
                return self._ended(id_, came, early)
            except StorageError as error:
                log.error("what came of sending %s cannot be written down yet: %s", id_, error)
                gevent.sleep(STORAGE_STEP)

    def _ended(self, id_: str, came: Delivery | UpstreamError, early: bool = False) -> None:
        """Write down what came of a hand-over."""
        row = sql.find(self.store, id_)
        if row is None or row.phase not in ("sending", "data"):
            return
        if isinstance(came, Delivery):
            self._hold = 0.0
            self._settled(row, outcomes.settle(row.delivery, came))
            if came.accepted:
                self._taken(row)
        elif came.code == "unsure" or (came.code == OURS_FAILED and row.phase == "data"):
            # What may have left already is never sent again.
            self._finish(row, outcomes.UNSURE, "unknown")
        elif came.code == "parameter" and early:
            # The server does not hold it after all: we do.
            sql.save(self.store, replace(row, phase="queued", due_at=row.send_at))
        elif came.code == "parameter":
            self._finish(row, outcomes.PARAMETER, "no")
        else:
            row = replace(row, delivery=outcomes.all_open(row.delivery, outcomes.trouble(came), "queued"))
            # One that cannot get in is enough: the others that are due wait with it.
            self._hold = self.clock() + self._pause(row)
            self._settled(row, row.delivery)

    def _settled(self, row: Submission, statuses: sql.Statuses) -> None:
        """Done, or queued again for those who are still waiting."""
        due_at = int(self.clock()) + self._pause(row)
        waiting = outcomes.open_recipients(statuses)
        if waiting and due_at <= row.send_at + PATIENCE:
            # "final" as soon as one recipient has it (RFC 8621 §7).
            undo = "final" if any(status.delivered == "unknown" for status in statuses.values()) else row.undo_status
            sql.save(self.store, replace(row, delivery=statuses, phase="queued", due_at=due_at, undo_status=undo))
            return
        statuses = {
            email: replace(status, delivered="no") if status.delivered == "queued" else status
            for email, status in statuses.items()
        }
        self._finish(replace(row, delivery=statuses), "", "")

    def _finish(self, row: Submission, reply: str, delivered: str, undo: str = "final") -> Submission:
        """The end of a row; whoever was still waiting gets ``reply``."""
        statuses = outcomes.all_open(row.delivery, reply, delivered) if reply else row.delivery
        row = replace(row, delivery=statuses, phase="done", undo_status=undo, settled_at=int(self.clock()))
        if row.record == "gone":
            sql.forget(self.store, row.id)
        else:
            row = sql.save(self.store, row)
        self.path(row.id).unlink(missing_ok=True)
        self._remark()
        return row

    def _pause(self, row: Submission) -> int:
        return int(min(FIRST_PAUSE * 2 ** min(max(row.attempts - 1, 0), 16), LONGEST_PAUSE))

    def _remark(self) -> None:
        if self.busy:
            wake.mark(self._account_folder, MARK)
        else:
            wake.unmark(self._account_folder, MARK)


def _wire(address: Address, without: frozenset[str] = frozenset()) -> EnvelopeAddress:
    parameters = {name: value for name, value in (address.parameters or {}).items() if name.upper() not in without}
    return EnvelopeAddress(address.email, parameters)


def _sender(row: Submission, early: bool) -> EnvelopeAddress:
    """The return path; before its time it goes out only to a server that holds it until then (RFC 4865)."""
    sender = _wire(row.envelope.mail_from, OURS)
    return replace(sender, parameters=sender.parameters | {"HOLDUNTIL": utc_date(row.send_at)}) if early else sender
