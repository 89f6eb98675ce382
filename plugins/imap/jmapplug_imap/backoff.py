"""When the next connection may be tried: no storm against a server that is away, throttles or refuses (wish 12)."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable

from jmapplug.errors import AuthenticationError, UpstreamError

FIRST, LONGEST = 0.5, 60.0  # seconds
REFUSED = 60.0  # seconds between two logins with credentials that were refused
NAMED_LIMIT = 3600.0  # seconds; what a server asks for counts up to this
# RFC 5530 §3: what to wait at least after these response codes.
_AT_LEAST = {"limit": 30.0, "unavailable": 5.0, "inuse": 5.0}
_NAMED = re.compile(r"backoff time:?\s*(\d{1,9})", re.IGNORECASE)  # Gmail: "Suggested Backoff Time: 178755" (ms)


class Backoff:
    """One account's memory of failed connects. ``check`` raises while it is too early to try again."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._until = 0.0
        self._error: UpstreamError | None = None

    @property
    def delay(self) -> float:
        """Seconds until the next try is allowed; 0.0 when it is now."""
        return max(0.0, self._until - self._clock()) if self._error else 0.0

    def check(self) -> None:
        """Raises an error like the last one while its time is not over."""
        if self._error is not None and self.delay > 0:
            if isinstance(self._error, AuthenticationError):
                raise AuthenticationError(str(self._error))
            raise UpstreamError(str(self._error), code=self._error.code, temporary=self._error.temporary)

    def failed(self, error: UpstreamError) -> None:
        self._failures += 1
        self._error = error
        self._until = self._clock() + self._pause(error)

    def succeeded(self) -> None:
        self._failures, self._error = 0, None

    def _pause(self, error: UpstreamError) -> float:
        if isinstance(error, AuthenticationError):
            return REFUSED
        pause = min(LONGEST, FIRST * 2.0 ** min(self._failures - 1, 16)) * random.uniform(0.8, 1.0)  # noqa: S311
        named = _NAMED.search(str(error))
        asked = min(NAMED_LIMIT, int(named.group(1)) / 1000) if named else 0.0
        return max(pause, asked, _AT_LEAST.get((error.code or "").lower(), 0.0))
