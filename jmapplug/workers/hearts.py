"""A worker's side of its pulse: a greenlet that moves it for as long as the hub turns."""

from __future__ import annotations

import gevent

from jmapplug.workers.pulse import BEAT, Pulse

_own: list[Pulse] = []


def start(pulse: Pulse) -> None:
    """Begin to beat; until :func:`ready`, something may take long."""
    _own[:] = [pulse]
    if pulse.interval:
        gevent.spawn(_beat, pulse)


def ready() -> None:
    """This worker has its code and its store. Nothing to do in a process that is no supervisor's child."""
    for pulse in _own:
        pulse.ready()


def _beat(pulse: Pulse) -> None:
    while True:
        pulse.beat()
        gevent.sleep(pulse.interval * BEAT)
