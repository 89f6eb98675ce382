"""Some time after work, when nobody is there, a worker gives back the memory that only makes work faster."""

from __future__ import annotations

import ctypes
import gc
import logging
import time
from collections.abc import Callable, Iterable

import gevent
from gevent.event import Event

log = logging.getLogger("jmapplug.workers")

AFTER, CALM = 5.0, 1.0
"""Seconds after work until memory is given back, and those without a request before it: who comes again soon would have
to take it anew (and read SQLite's pages again).
"""
BETWEEN = 60.0
"""Seconds between two rests without news: a look that found nothing, every few seconds, leaves little behind."""


class Resting:
    """``busy``: whether requests or work are under way; ``last_used``: when the last request ended (time.monotonic);
    ``rests``: what each service can do without. ``worked`` is set after any work.
    """

    def __init__(
        self, busy: Callable[[], bool], last_used: Callable[[], float], rests: Iterable[Callable[[], None]]
    ) -> None:
        self.worked = Event()
        self._news = Event()
        self._busy = busy
        self._last_used = last_used
        self._rests = tuple(rests)

    def soon(self) -> None:
        """Work that may have left much behind is done: the next rest is not held back."""
        self.worked.set()
        self._news.set()

    def run(self) -> None:
        """Forever."""
        while True:
            self.worked.wait()
            gevent.sleep(AFTER)
            while self._busy() or time.monotonic() - self._last_used() < CALM:
                gevent.sleep(CALM)
            self.worked.clear()
            self._news.clear()
            try:
                for rest in self._rests:
                    rest()
            except Exception:
                log.exception("no rest")
            trim_memory()
            self._news.wait(BETWEEN)


def trim_memory() -> None:
    """Give freed memory back to the system (process rule 7); only glibc can. What was frozen before the fork stays."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
