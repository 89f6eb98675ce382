"""The pulse of a worker: a counter in memory that supervisor and worker share (process rules 1-4).

The worker's hub moves it; so it stands still while a greenlet computes or waits without letting others run. The
supervisor reads it now and then and *misses* a beat for each look at which nothing has moved. Looks are counted, not
seconds: after a suspended machine wakes, or a stopped supervisor goes on, one look is missed and not an hour of them.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

LOOKS = 6
"""Looks without a beat after which a worker hangs; the setting is the time of all of them."""
OPENING = 10
"""A worker that still loads its code or opens its store (a migration, saving what a damaged one holds) may take so much

longer, on a machine that has other things to do too.
"""
SHORTEST = 0.05
BEAT = 0.75
"""Part of the time between two looks after which the worker beats: one look may miss by chance, two in a row do not."""
_BEATS, _READY = struct.Struct("=Q"), 8


class Pulse:
    """Made before the fork. ``timeout``: seconds (JMAP_HANG_TIMEOUT); 0 = nobody looks."""

    def __init__(self, timeout: float) -> None:
        self.interval = max(timeout / LOOKS, SHORTEST) if timeout else 0.0
        self._shared = mmap.mmap(-1, mmap.PAGESIZE)
        self._seen = 0
        self.missed = 0
        self.next_look = 0.0

    # --- the worker's side

    def beat(self) -> None:
        _BEATS.pack_into(self._shared, 0, self.beats + 1)

    def ready(self) -> None:
        """The code is loaded, the store is open: from now on nothing takes long."""
        self._shared[_READY] = 1

    @property
    def beats(self) -> int:
        return int(_BEATS.unpack_from(self._shared, 0)[0])

    # --- the supervisor's side

    def begin(self, now: float) -> None:
        """A new worker: it has missed nothing."""
        self._shared[: _READY + 1] = bytes(_READY + 1)
        self._seen = self.missed = 0
        self._look_again(now)

    def look(self, now: float, pid: int) -> bool:
        """Whether the worker hangs. One that somebody has stopped (SIGSTOP, a debugger) does not."""
        self._look_again(now)
        beats = self.beats
        if beats != self._seen or is_stopped(pid):
            self._seen, self.missed = beats, 0
        else:
            self.missed += 1
        return self.missed > LOOKS * (1 if self._shared[_READY] else OPENING)

    def _look_again(self, now: float) -> None:
        """About one interval from now, at a moment that all pulses share: one turn of the supervisor for all of them,
        where hundreds of workers would wake it hundreds of times, and each time it goes through all of them.
        """
        if self.interval:
            self.next_look = int(now / self.interval + 1.5) * self.interval


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped or traced (proc(5): states T and t)."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] in (b"T", b"t")
    except (OSError, IndexError):
        return False
