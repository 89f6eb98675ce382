"""``accounts.sqlite3`` is what nobody can rebuild: looked through before the start, and copied once a day."""

from __future__ import annotations

import logging
import sqlite3
import time
from pathlib import Path

import gevent

from jmapplug.errors import SettingError
from jmapplug.registry import store
from jmapplug.settings import Settings

log = logging.getLogger("jmapplug.registry")

EVERY = 3600.0


def path_of(settings: Settings) -> Path:
    return settings.datadir / "accounts.sqlite3"


def check(settings: Settings) -> None:
    """Raises SettingError for a damaged file: to go on would be to lose accounts, tokens and passwords for good.

    One that is missing beside its copy was lost as well: a new one would have no accounts.
    """
    path = path_of(settings)
    kept = store.copy_of(path)
    found = store.damage(path) if path.exists() or not kept.exists() else "it is missing"
    if found is None:
        return
    advice = "put your backup in its place"
    if kept.exists():
        made = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(kept.stat().st_mtime))
        advice = f"put a copy of {kept.name} (made {made}) or your backup in its place"
    raise SettingError(f"{path} is damaged ({found}): move it and its -journal away, {advice}, and start again")


def copy_forever(settings: Settings) -> None:
    """At once and every hour, if a copy is due."""
    while True:
        try:
            if not gevent.get_hub().threadpool.apply(store.keep_copy, (path_of(settings),)):
                log.error("accounts.sqlite3 is damaged: the copy of before is kept; see docs/operations.md")
        except (OSError, sqlite3.Error) as error:
            log.warning("no daily copy of accounts.sqlite3: %s", error)
        gevent.sleep(EVERY)
