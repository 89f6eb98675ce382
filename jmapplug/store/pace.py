"""Giving way: background work lets requests go first every few milliseconds (design §5).

``gevent.sleep(0)`` does not do: it runs what is ready already and looks at sockets only every fiftieth time, and the
smallest real sleep is a millisecond. An idle watcher looks at every socket and timer at once, and the greenlet goes on
only when nothing else is left to run: a request that came meanwhile is answered to its end.
"""

from __future__ import annotations

import time

import gevent

SLICE = 0.003
"""Seconds of computing after which :func:`breathe` gives way."""
LONGEST = 0.1
"""Seconds after which background work goes on even if there is never a quiet moment."""
COMPANY = 0.1
"""Seconds for which others are taken to be there after something of theirs ran."""
_NOTICEABLE = 0.0002

_last = 0.0
_seen = 0.0


def give_way() -> None:
    """Let everything run that can: sockets and timers that are due, requests that came. Returns when it is quiet."""
    global _last, _seen
    begun = time.perf_counter()
    with gevent.Timeout(LONGEST, False):
        gevent.idle()
    _last = time.perf_counter()
    if _last - begun > _NOTICEABLE:
        _seen = _last


def turn() -> None:
    """A request begins. The hub has just been through everything that could run: its first ``SLICE`` is its own."""
    global _last
    _last = time.perf_counter()


def breathe() -> None:
    """Give way if somebody has been computing for ``SLICE`` seconds since the last time; else costs nothing."""
    if time.perf_counter() - _last > SLICE:
        give_way()


def in_company() -> bool:
    """Whether others had something to do lately: then transactions are kept short rather than cheap."""
    return time.perf_counter() - _seen < COMPANY
