"""The submission capability's part in the worker's loop (``hookspecs.SyncService``): the queue, and what EHLO told."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import msgspec
from gevent.event import Event

from jmapplug.backends import SubmissionFeatures
from jmapplug.capabilities.submission import identity
from jmapplug.capabilities.submission import store as sql
from jmapplug.capabilities.submission.envelope import MAX_DELAY
from jmapplug.capabilities.submission.one_copy import LOST, OneCopy
from jmapplug.capabilities.submission.outbox import Outbox
from jmapplug.errors import StorageError
from jmapplug.jmap.errors import MethodError

log = logging.getLogger(__name__)

URN = "urn:ietf:params:jmap:submission"
KEEP = 30 * 86_400
"""Seconds that what became of a message can be read."""
ASK_AGAIN = 86_400
PRUNE = 200
# RFC 8621 §1.3.2: what has to do with transport is nobody's business but ours.
SHOWN = ("SIZE", "DSN", "DELIVERBY", "MT-PRIORITY", "REQUIRETLS", "SMTPUTF8")


class SubmissionService:
    """One account's way out: ``outbox`` and ``features`` (None while the server was never reached)."""

    seldom = True

    def __init__(self, account: Any, *, clock: Callable[[], float] = time.time) -> None:
        self.account = account
        source = account.submission_source
        self.one_copy = OneCopy(account)
        self.outbox = Outbox(
            account.store, account.folder, source, learnt=self.learn, taken=self.one_copy.sent, clock=clock
        )
        self._recovered = self._began = False
        self._closed = Event()
        self._asked = float(sql.fact(account.store, "asked") or 0)
        known = sql.fact(account.store, "features")
        self.features = None if known is None else msgspec.json.decode(known, type=SubmissionFeatures)
        self._tell()
        try:
            self._recover()
        except StorageError as error:
            # No room: what is there is read all the same, and nothing is sent before a pass has made up for it.
            log.error("what was to be sent is looked at later: %s", error)

    def _recover(self) -> None:
        """What a start has to write down. Raises StorageError."""
        identity.ensure_default(self.account)
        sql.reconcile(self.account.store)
        self.outbox.recover()
        self._recovered = True

    def learn(self, features: SubmissionFeatures) -> None:
        """What the server offers, for the Session and for the checks of the next creation."""
        if features != self.features:
            self.features = features
            sql.remember(self.account.store, "features", msgspec.json.encode(features).decode())
            self._tell()

    def _tell(self) -> None:
        offered = self.features.extensions if self.features is not None else {}
        self.account.learn(URN, {"extensions": {name: list(offered[name]) for name in SHOWN if name in offered}})

    # --- SyncService -----------------------------------------------------------------------------------------------

    def setup(self) -> None:
        """Nothing: an account that cannot send reads mail."""

    def sync(self) -> None:
        """Have the queue running; old records go; once a day, ask the server what it offers. Raises StorageError."""
        if not self._recovered:
            self._recover()
        self.outbox.run()
        now = self.outbox.clock()
        if not self._began:
            self._began = True
            for row in sql.sent_since(self.account.store, now - LOST):
                self.one_copy.sent(row)
        for id_ in sql.settled_before(self.account.store, now - KEEP, PRUNE):
            sql.forget(self.account.store, id_)
        if now - self._asked >= ASK_AGAIN or (self.features is None and now - self._asked >= 600):
            self._asked = now
            self.account.spawn(self._ask)

    def _ask(self) -> None:
        """Raises UpstreamError, which the account logs: what is wrong with sending is told to who sends."""
        self.learn(self.account.submission_source().features())
        sql.remember(self.account.store, "asked", str(int(self._asked)))

    def background(self) -> bool:
        return False

    def wait(self, timeout: float) -> bool:
        self._closed.wait(timeout)
        return False

    def status(self) -> dict[str, Any]:
        """``queued``: messages that are still to be sent."""
        return {"queued": sql.pending(self.account.store)}

    @property
    def busy(self) -> bool:
        """Whether the worker has to stay."""
        return self.outbox.busy or self.one_copy.busy

    def close(self) -> None:
        self._closed.set()
        self.outbox.close()


def service_of(account: Any) -> SubmissionService:
    """The account's service. Raises MethodError accountNotSupportedByMethod where it cannot send (RFC 8620 §3.6.2)."""
    service = account.services.get(URN)
    if service is None:
        raise MethodError("accountNotSupportedByMethod", "This account cannot send mail.")
    found: SubmissionService = service
    return found


def session_value(facts: dict[str, Any]) -> dict[str, Any]:
    """RFC 8621 §1.3.2. FUTURERELEASE is ours, whatever the server has."""
    extensions = {"FUTURERELEASE": [str(MAX_DELAY)], **facts.get("extensions", {})}
    return {"maxDelayedSend": MAX_DELAY, "submissionExtensions": extensions}
