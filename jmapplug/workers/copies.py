"""A worker's daily copy of ``own.sqlite3``, beside it: what a damaged one cannot give back comes from there."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import gevent

from jmapplug.errors import StorageError
from jmapplug.store import own
from jmapplug.store.pace import give_way

log = logging.getLogger("jmapplug.workers")

FIRST, EVERY = 20.0, 3600.0
"""Seconds until the first look, and between two, whether a copy is due."""


def copy_forever(account: Any, done: Callable[[], None]) -> None:
    """``done`` is called after each copy: it takes a thread and a megabyte."""
    gevent.sleep(FIRST)
    while True:
        if own.is_copy_due(account.store.own.path, time.time()):
            copy(account)
            done()
        gevent.sleep(EVERY)


def copy(account: Any) -> None:
    """One copy, in pieces between which requests go first. That there is no room for it is no reason to stop."""
    try:
        account.store.check_room()
        sound = own.keep_copy(account.store.own, give_way, lambda path: _in_thread(own.is_sound, path))
    except (StorageError, OSError) as error:
        log.warning("no daily copy of own.sqlite3: %s", error)
        return
    if not sound:
        log.error("own.sqlite3 is damaged: the daily copy of before is kept")
        account.store.own_is_damaged()


def _in_thread(function: Any, *args: Any) -> bool:
    return bool(gevent.get_hub().threadpool.apply(function, args))
