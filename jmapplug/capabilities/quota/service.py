"""Keeps the values of quotas: read from upstream when asked for, and whenever Emails have changed.

Upstream tells nobody when a quota moves, but it moves when messages come or go: a change of Emails, ours or another
client's, is followed by one look. What was seen last stays in the cache, so /changes tells the truth.
"""

from __future__ import annotations

import logging
import time
from typing import Any

import gevent
from gevent.event import Event
from gevent.lock import Semaphore

from jmapplug.backends import Quota
from jmapplug.capabilities.quota import store as sql
from jmapplug.capabilities.quota.store import Row
from jmapplug.errors import UpstreamError
from jmapplug.jmap.errors import MethodError
from jmapplug.jmap.ids import mint

log = logging.getLogger(__name__)

RESOURCES = {
    "STORAGE": ("octets", ("Mail", "Email")),
    "MESSAGE": ("count", ("Mail", "Email")),
    "MAILBOX": ("count", ("Mailbox",)),
}
"""RFC 9208 §5 resource → resourceType and types. "Mail" is how the example of RFC 9425 and clients call "Email"."""
MAX_AGE = 3.0
"""Seconds for which what was read is answered again, unless Emails have changed meanwhile."""
PAUSE = 5.0
"""Seconds between two looks of the service while one change follows another."""
LARGEST = 2**53 - 1
_MOST = 100


class QuotaService:
    """``SyncService`` of quotas; :meth:`refresh` is for methods."""

    seldom = False
    """True once upstream has answered: from then on quotas move with Emails, as good as never without."""

    def __init__(self, account: Any) -> None:
        self._account = account
        self._lock = Semaphore()
        self._changed = Event()
        self._read_at = -PAUSE
        self._emails = ""
        account.watchers.append(self._watch)

    # --- for methods

    def refresh(self) -> None:
        """Values that are current. Cached ones while upstream is away (mail-rules 17).

        Raises MethodError accountNotSupportedByMethod, and UpstreamError when upstream was never seen.
        """
        if not self._current():
            try:
                self.look()
            except UpstreamError as error:
                if not self._offered() and getattr(self._account.session, "known", True):
                    raise MethodError("accountNotSupportedByMethod", "The mail server has no quotas.") from None
                if not sql.rows(self._account.store):
                    raise
                log.info("quotas as they were: %s", error)

    def look(self) -> None:
        """Read upstream now and keep what has changed; one look at a time. Raises UpstreamError."""
        begun = time.monotonic()
        with self._lock:
            if self._read_at > begun:  # somebody looked while we waited
                return
            emails = self._account.store.state("Email")
            quotas = self._account.quota_source().quotas()
            self._read_at, self._emails = time.monotonic(), emails
            self._apply(quotas)

    def _current(self) -> bool:
        young = time.monotonic() - self._read_at < MAX_AGE
        return young and self._emails == self._account.store.state("Email")

    def _apply(self, quotas: list[Quota]) -> None:
        store = self._account.store
        seen = {row.id: row for row in sql.rows(store)}
        now = {row.id: row for row in _rows(store.salt, quotas)}
        for id_, row in now.items():
            if seen.get(id_) != row:
                sql.write(store, row)
        for id_ in seen.keys() - now.keys():
            sql.remove(store, id_)
        store.announce()

    def _offered(self) -> bool:
        return "quota" in self._account.offers()

    def _watch(self, changed: dict[str, str]) -> None:
        if "Email" in changed:
            self._changed.set()

    # --- SyncService

    def setup(self) -> None:
        """Nothing that a new account has to wait for."""

    def sync(self) -> None:
        """One look. That upstream does not answer is told by the mail's own service."""
        self._changed.clear()
        self.seldom = False
        try:
            if self._offered():
                self.look()
            self.seldom = bool(getattr(self._account.session, "known", True))
        except UpstreamError as error:
            log.info("no quotas: %s", error)

    def background(self) -> bool:
        return False

    def wait(self, timeout: float) -> bool:
        due = bool(self._changed.wait(timeout))
        gevent.sleep(max(0.0, self._read_at + PAUSE - time.monotonic()))
        return due

    def status(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        self._changed.set()


def _rows(salt: bytes, quotas: list[Quota]) -> list[Row]:
    """Quotas as rows; resources that JMAP has no word for are left out."""
    known = [quota for quota in quotas if quota.resource.upper() in RESOURCES][:_MOST]
    return [
        Row(
            mint("q", salt, quota.root, quota.resource.upper(), "account"),
            _name(quota.root),
            quota.resource.upper(),
            min(max(quota.used, 0), LARGEST),
            min(max(quota.limit, 0), LARGEST),
        )
        for quota in known
    ]


def _name(root: str) -> str:
    """RFC 9208 §3.1.1: a root's name may be empty."""
    return "".join(char for char in root if char.isprintable()).strip()[:255] or "Mail"
