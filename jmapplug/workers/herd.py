"""Many workers that begin at once take turns with their first pass, so that requests are answered first.

After a restart of the service every account that somebody asks for gets a worker, and each would log in to its mail
server and look through its folders while the others' requests wait for the processor. A *turn* is a lock on one of a
few files in ``run/``; it ends with the process at the latest. Whoever has waited long enough goes without.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

import gevent

from jmapplug.settings import Settings

TURNS = max(4, 2 * (os.cpu_count() or 1))
STEP = 0.05
PATIENCE = 15.0


@contextmanager
def turn(settings: Settings, patience: float = PATIENCE) -> Iterator[bool]:
    """Wait for a turn, ``patience`` seconds at most; whether there is one."""
    fd = _taken(settings)
    for _ in range(int(patience / STEP)):
        if fd is not None:
            break
        gevent.sleep(STEP)
        fd = _taken(settings)
    try:
        yield fd is not None
    finally:
        if fd is not None:
            os.close(fd)


def _taken(settings: Settings) -> int | None:
    """The descriptor of a lock that was free. None when none is, or where the disk has no room for the files."""
    for number in range(TURNS):
        try:
            fd = os.open(settings.run_folder / f"turn-{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except BlockingIOError:
            os.close(fd)
    return None
