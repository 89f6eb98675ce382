"""When the upstream may be asked again: no storm against a server that is away, throttles or refuses (wish 12)."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from typing import NamedTuple

from jmapplug.errors import AuthenticationError, UpstreamError
from jmapplug_imap.protocol.refusals import THROTTLED, UNAVAILABLE


class Pause(NamedTuple):
    """Seconds: after the first failure, doubled with each one more, up to the longest."""

    first: float
    longest: float


USUAL = Pause(0.5, 60.0)
REFUSED = Pause(60.0, 3600.0)
"""After credentials that were refused: the user has to do something, and every try may lock the account."""
PAUSES = {
    THROTTLED: Pause(30.0, 900.0),
    "limit": Pause(30.0, 900.0),
    UNAVAILABLE: Pause(5.0, 300.0),
    "inuse": Pause(5.0, 300.0),
}
"""Code → its pause. It never ends before the first one."""
NAMED_LIMIT = 86_400.0  # seconds; what a server asks for counts up to this
# Office 365: "Suggested Backoff Time: 178755 milliseconds" (also without that word); others: "retry after 60".
_NAMED = re.compile(
    r"(backoff time|retry after|(?:try|log ?in) again (?:in|after)|wait(?: for)?)[: ]*"
    r"(\d{1,12})(?: ?(ms|milli|s|m|h))?",
    re.IGNORECASE,
)
_UNITS = {"ms": 0.001, "milli": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
BURST, REFILL = 120, 6.0
"""So many connections may be made in a row, and then one in so many seconds: some servers let us in and hang up."""


class Backoff:
    """One account's memory of failures. ``check`` raises while it is too early to try again."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._until = 0.0
        self._error: UpstreamError | None = None

    @property
    def delay(self) -> float:
        """Seconds until the next try is allowed; 0.0 when it is now."""
        return max(0.0, self._until - self._clock()) if self._error else 0.0

    @property
    def error(self) -> UpstreamError | None:
        """What :meth:`check` raises now: an error like the last one, with the seconds that are left."""
        error, delay = self._error, self.delay
        if error is None or delay <= 0:
            return None
        if isinstance(error, AuthenticationError):
            return AuthenticationError(str(error), retry_after=delay)
        return UpstreamError(str(error), code=error.code, temporary=error.temporary, retry_after=delay)

    def check(self) -> None:
        """Raises an error like the last one while its time is not over."""
        if (error := self.error) is not None:
            raise error

    def failed(self, error: UpstreamError) -> None:
        """``error`` happened just now; it learns how long to wait (``retry_after``)."""
        self._failures += 1
        self.hold(error, _pause(error, self._failures))

    def hold(self, error: UpstreamError, seconds: float) -> None:
        """As if ``error`` had happened, with a pause that somebody else knows."""
        self._error, self._until = error, self._clock() + seconds
        error.retry_after = seconds

    def succeeded(self) -> None:
        self._failures, self._error = 0, None


class Logins:
    """Counts connections that are made. ``take`` raises when there were too many lately."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left, self._at = float(BURST), clock()

    def take(self) -> None:
        now = self._clock()
        self._left, self._at = min(float(BURST), self._left + (now - self._at) / REFILL), now
        if self._left < 1:
            wait = (1 - self._left) * REFILL
            raise UpstreamError("the mail server ends too many connections", code=UNAVAILABLE, retry_after=wait)
        self._left -= 1


def _pause(error: UpstreamError, failures: int) -> float:
    """Doubling with jitter (many accounts of one server must not come back together); what the server names counts."""
    code = (error.code or "").lower()
    named = REFUSED if isinstance(error, AuthenticationError) else PAUSES.get(code)
    first, longest = named or USUAL
    grown = min(longest, first * 2.0 ** min(failures - 1, 16)) * random.uniform(0.8, 1.0)  # noqa: S311
    return max(grown, first if named else 0.0, asked_for(str(error)))


def asked_for(text: str) -> float:
    """The seconds that a server names in words; 0.0 where it names none."""
    found = _NAMED.search(text)
    if found is None:
        return 0.0
    usual = 0.001 if found[1].lower() == "backoff time" else 1.0
    return min(NAMED_LIMIT, int(found[2]) * _UNITS.get((found[3] or "").lower(), usual))
