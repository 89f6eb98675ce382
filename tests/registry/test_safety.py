"""registry/safety.py: accounts.sqlite3 is copied once a day, and a damaged one never takes the copy's place."""

from __future__ import annotations

import os
import time

from jmapplug.registry import store
from jmapplug.registry.safety import path_of


def test_a_copy_is_made_once_a_day_while_the_registry_works_and_is_this_users_alone(registry, add, settings):
    add()
    path = path_of(settings)
    kept = store.copy_of(path)
    assert store.keep_copy(path)
    first = kept.read_bytes()
    assert kept.stat().st_mode & 0o777 == 0o600
    registry.report({"accountid": "alice", "folders": 7})
    registry.flush()
    assert store.keep_copy(path) and kept.read_bytes() == first, "not a day old"
    os.utime(kept, (0, time.time() - store.DAY - 1))
    assert store.keep_copy(path) and kept.read_bytes() != first
    assert store.damage(kept) is None
    assert not kept.with_name(kept.name + ".new").exists()


def test_a_damaged_file_does_not_take_the_place_of_the_copy(registry, add, settings):
    for number in range(30):
        add(f"account{number}")
    path = path_of(settings)
    assert store.keep_copy(path)
    kept = store.copy_of(path)
    good = kept.read_bytes()
    os.utime(kept, (0, 0))
    registry.close()
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (path.stat().st_size - 4096))
    assert store.damage(path)
    assert not store.keep_copy(path)
    assert kept.read_bytes() == good
