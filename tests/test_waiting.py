"""A limit counts from the moment when waiting begins, however long the loop has not looked at the clock."""

from __future__ import annotations

import time

import gevent
from gevent.event import Event

from jmapplug.waiting import wait


def computing(seconds: float) -> None:
    """The loop calls us from a timer, and does not see the clock for so long."""
    gevent.sleep(0.001)
    time.sleep(seconds)


def test_what_was_computed_before_does_not_count() -> None:
    computing(1.5)
    job = gevent.spawn(gevent.sleep, 0.01)
    assert wait([job], 1.0) == [job]


def test_the_first_ones_that_are_ready_are_enough() -> None:
    soon, never = gevent.spawn(lambda: None), Event()
    assert wait([never, soon], 60, count=1) == [soon]


def test_what_is_not_ready_in_time_is_left_out() -> None:
    soon, never = gevent.spawn(lambda: None), Event()
    assert wait({never, soon}, 0.05) == [soon]
