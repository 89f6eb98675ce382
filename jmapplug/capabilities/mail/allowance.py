"""How fast background work may receive (JMAP_ACCOUNT_BANDWIDTH): a bucket that fills by so many octets a second.

A slice of work is not interrupted, so that no connection waits half way through an answer; what it took too much is
paid for by a rest before the next one. What users ask for neither waits nor counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable

DEPTH = 2.0
"""Seconds' worth of octets that may come at once after a time of rest."""


class Allowance:
    """``rate``: octets per second, 0 = no limit."""

    def __init__(self, rate: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._left = rate * DEPTH
        self._used = 0
        self._at = clock()

    def pause(self, used: int) -> float:
        """Seconds until background work may go on. ``used``: the octets that it has received so far, since ever.

        A smaller number than the last one is that of a new session.
        """
        if not self._rate:
            return 0.0
        now = self._clock()
        self._left = min(self._rate * DEPTH, self._left + (now - self._at) * self._rate)
        self._left -= used - self._used if used >= self._used else used
        self._at, self._used = now, used
        return max(0.0, -self._left / self._rate)
