"""How long the worker's loop waits after a failure, and between passes that hardly ever find something. Pure."""

from __future__ import annotations

from jmapplug.errors import AuthenticationError, StorageError

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 300.0
STORAGE_PAUSE = 15.0
REFUSED_PAUSE = 60.0
SELDOM, LONGEST_SELDOM = 20, 600.0
"""A service that says ``seldom`` has its passes so many intervals apart, but not more than so many seconds."""


def background_pause(error: Exception, failures: int) -> float:
    """Seconds until background work is tried again."""
    pause = pause_after(failures, isinstance(error, AuthenticationError))
    return min(pause, STORAGE_PAUSE) if isinstance(error, StorageError) else pause


def seldom(interval: float) -> float:
    """Seconds between two passes of a service that hardly ever has something to do."""
    return max(interval, min(SELDOM * interval, LONGEST_SELDOM))


def pause_after(failures: int, refused: bool) -> float:
    """Seconds until the next try after so many failures in a row; ``refused``: the credentials are not taken."""
    pause = min(FIRST_PAUSE * 2.0 ** min(failures - 1, 20), LONGEST_PAUSE)
    return max(pause, REFUSED_PAUSE) if refused else pause
