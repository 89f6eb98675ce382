"""Waiting for others with a limit that is counted from now.

gevent's ``wait``, ``iwait`` and ``joinall`` start their timer from the loop's last look at the clock: after two seconds
of computing, a limit of two seconds is over before anybody had a turn. ``gevent.Timeout`` and all that stands on it
(``Event.wait``, ``Greenlet.join``, sockets) look at the clock themselves.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import gevent


def wait(objects: Collection[Any], seconds: float, count: int | None = None) -> list[Any]:
    """Those of ``objects`` (greenlets, events) that are ready: ``count`` or all of them, or those after ``seconds``."""
    gevent.get_hub().loop.update_now()
    ready: list[Any] = gevent.wait(list(objects), timeout=seconds, count=count)
    return ready
