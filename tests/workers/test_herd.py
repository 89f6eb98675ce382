"""workers/herd.py: turns for first passes."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack

import gevent
import pytest

from jmapplug.settings import load
from jmapplug.workers import herd


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "run").mkdir()
    return load({"JMAP_DATADIR": str(tmp_path)})


def test_so_many_have_a_turn_and_the_next_one_waits_for_the_first_to_end(settings):
    with ExitStack() as later:
        with ExitStack() as first:
            assert first.enter_context(herd.turn(settings, 0))
            for _ in range(herd.TURNS - 1):
                assert later.enter_context(herd.turn(settings, 0))
            with herd.turn(settings, 0) as mine:
                assert not mine, "who has waited long enough goes without"
            waiting = gevent.spawn(later.enter_context, herd.turn(settings, 60))
            gevent.sleep(herd.STEP * 2)
            assert not waiting.ready()
        assert waiting.get(timeout=60)
    with herd.turn(settings, 0) as mine:
        assert mine


HOLD = """
import sys
from jmapplug.settings import load
from jmapplug.workers import herd
turns = [herd.turn(load({"JMAP_DATADIR": sys.argv[1]}), 0) for _ in range(herd.TURNS)]
assert all(one.__enter__() for one in turns)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_turn_ends_with_its_process(settings):
    command = [sys.executable, "-c", HOLD, str(settings.datadir)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    with herd.turn(settings, 0) as mine:
        assert not mine
    process.kill()
    process.wait()
    with herd.turn(settings, 0) as mine:
        assert mine


def test_without_a_place_for_the_locks_nobody_is_held_up_for_good(settings, monkeypatch):
    (settings.datadir / "run").rmdir()
    monkeypatch.setattr(herd, "STEP", 0.001)
    with herd.turn(settings, 0.01) as mine:
        assert not mine


def test_a_workers_first_pass_waits_for_its_turn_and_requests_do_not(house):
    client = house.client()
    with ExitStack() as others:
        for _ in range(herd.TURNS):
            assert others.enter_context(herd.turn(house.settings, 0))
        house.add(client)
        house.jmap(client, "alice", "about")
        notes = house.settings.account_folder("alice") / "notes"
        assert not notes.exists()
    house.until(lambda: notes.exists() and "sync" in notes.read_text(), "the pass")
