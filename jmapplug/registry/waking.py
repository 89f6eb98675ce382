"""Starts the workers that have to run although nobody asks for them (mail-rules 40): at boot, and after a crash."""

from __future__ import annotations

import logging
from collections.abc import Callable

import gevent

from jmapplug.errors import JmapplugError
from jmapplug.settings import Settings
from jmapplug.workers import paths
from jmapplug.workers.client import WorkerClient

log = logging.getLogger("jmapplug.registry")

PAUSE = 60.0


def wake(settings: Settings, names: list[str], client: WorkerClient) -> None:
    """A question to each account that is marked: it starts a worker, and one that runs just answers."""
    for name in gevent.get_hub().threadpool.apply(paths.marked, (settings, names)):
        try:
            client.call(name, "ping", timeout=20)
        except JmapplugError as error:
            log.warning("the worker of %s does not start: %s", name, error)


def wake_forever(settings: Settings, names: Callable[[], list[str]], client: WorkerClient) -> None:
    """At once, and every minute."""
    while True:
        try:
            wake(settings, names(), client)
        except Exception:
            log.exception("waking workers failed")
        gevent.sleep(PAUSE)
