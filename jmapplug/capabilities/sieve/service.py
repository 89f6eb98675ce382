"""The part of sieve in the sync loop: facts for the Session, and foreign changes for push. It never fails a pass:

an account whose ManageSieve server is away reads and writes its mail all the same.
"""

from __future__ import annotations

import logging
import time
from typing import Any

import gevent

from jmapplug.capabilities.sieve.scripts import Scripts
from jmapplug.errors import UpstreamError

log = logging.getLogger(__name__)

LOOK_EVERY = 600.0
"""Seconds between two looks that nobody asked for: each takes a connection."""
TRY_EVERY = 120.0
"""After one that failed."""


class SieveService:
    """``SyncService``; ``scripts`` is what the methods work with."""

    def __init__(self, account: Any) -> None:
        self.scripts = Scripts(account)
        self._due_at = 0.0
        self._error: str | None = None

    def setup(self) -> None:
        self._look()

    def sync(self) -> None:
        if time.monotonic() >= self._due_at:
            self._look()

    def _look(self) -> None:
        try:
            self.scripts.look()
            self._error = None
        except UpstreamError as error:
            log.info("account %s: Sieve: %s", self.scripts.account.id, error)
            self._error = str(error)
        self._due_at = time.monotonic() + (TRY_EVERY if self._error else LOOK_EVERY)

    def background(self) -> bool:
        return False

    @property
    def seldom(self) -> bool:
        return self._error is None

    def wait(self, timeout: float) -> bool:
        gevent.sleep(timeout)
        return False

    def status(self) -> dict[str, Any]:
        return {"error": self._error}

    def close(self) -> None:
        """The session closes the connection."""
