"""Counting against abuse: failed log-ins per address and per user; requests and connections under way per login."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from jmapplug.jmap.errors import RequestError


class FailureLimit:
    """At most ``allowed`` failures per key within ``window`` seconds; a bounded memory of keys."""

    def __init__(self, allowed: int = 10, window: float = 300.0, keys: int = 20_000) -> None:
        self.allowed, self.window, self.keys = allowed, window, keys
        self._failures: OrderedDict[str, list[float]] = OrderedDict()

    def wait(self, *keys: str) -> float:
        """Seconds until the next try is welcome; 0 = now."""
        now = time.monotonic()
        return max((self._wait(key, now) for key in keys), default=0.0)

    def _wait(self, key: str, now: float) -> float:
        recent = [moment for moment in self._failures.get(key, ()) if moment > now - self.window]
        if len(recent) < self.allowed:
            return 0.0
        return recent[-self.allowed] + self.window - now

    def failed(self, *keys: str) -> None:
        """Count one failure against each key."""
        now = time.monotonic()
        for key in keys:
            recent = [moment for moment in self._failures.pop(key, ()) if moment > now - self.window]
            self._failures[key] = [*recent[-self.allowed :], now]
            if len(self._failures) > self.keys:
                self._failures.popitem(last=False)

    def succeeded(self, key: str) -> None:
        """Forget a user's failures."""
        self._failures.pop(key, None)


class UnderWay:
    """How many of a kind each login has running; beyond ``limit`` RFC 8620's limit error names ``name``.

    ``retry_after``: seconds that the client is told to wait.
    """

    def __init__(self, name: str, limit: int, retry_after: int = 1) -> None:
        self.name, self.limit, self.retry_after = name, limit, retry_after
        self._count: dict[str, int] = {}

    @contextmanager
    def one(self, login: str) -> Iterator[None]:
        """Hold one place. Raises RequestError limit with status 429."""
        running = self._count.get(login, 0)
        if running >= self.limit:
            why = f"at most {self.limit} at the same time"
            raise RequestError("limit", why, status=429, limit=self.name, retry_after=self.retry_after)
        self._count[login] = running + 1
        try:
            yield
        finally:
            left = self._count[login] - 1
            if left:
                self._count[login] = left
            else:
                del self._count[login]
