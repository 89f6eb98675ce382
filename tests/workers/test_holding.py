"""A pause that an upstream has asked for outlives the session and the worker, and not the settings (wish 12)."""

from __future__ import annotations

import pytest

from jmapplug.errors import AuthenticationError, StorageError, UpstreamError
from jmapplug.store.account import Store
from jmapplug.workers import holding


class Session:
    def __init__(self, held=None):
        self.held = held
        self.taken = []

    def hold(self, error, seconds):
        self.taken.append((type(error), str(error), error.code, seconds))


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path)
    yield store
    store.close()


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1_000_000.0

    monkeypatch.setattr(holding.time, "time", lambda: Clock.now)
    return Clock


def resumed(store, seal="s"):
    session = Session()
    holding.resume(store, session, seal)
    return session.taken


def test_a_new_session_goes_on_with_what_is_left_of_the_pause(store, clock):
    holding.keep(store, Session(UpstreamError("slow down", code="throttled", retry_after=100)), "s")
    clock.now += 30
    assert resumed(store) == [(UpstreamError, "slow down", "throttled", 70)]
    clock.now += 80
    assert resumed(store) == []
    clock.now -= 80
    assert resumed(store) == [], "what is over is forgotten"


def test_refused_credentials_stay_refused_until_settings_are_written(store, clock):
    holding.keep(store, Session(AuthenticationError("no", retry_after=3600)), "s")
    assert resumed(store) == [(AuthenticationError, "no", "authenticationfailed", 3600)]
    assert resumed(store, "another") == []
    assert resumed(store) == []


def test_a_clock_that_was_set_back_makes_no_pause_longer(store, clock):
    holding.keep(store, Session(UpstreamError("later", retry_after=60)), "s")
    clock.now -= 86_400
    assert resumed(store)[0][3] == 60


@pytest.mark.parametrize("error", [None, UpstreamError("away"), UpstreamError("away", retry_after=1)])
def test_what_is_over_in_a_moment_is_not_written_down(store, clock, error):
    holding.keep(store, Session(error), "s")
    assert resumed(store) == []


def test_a_session_that_knows_no_pauses_is_left_alone(store, clock):
    holding.keep(store, Session(UpstreamError("later", retry_after=60)), "s")
    holding.resume(store, object(), "s")
    holding.keep(store, object(), "s")
    assert len(resumed(store)) == 1


def test_a_full_disk_keeps_no_session_from_being_opened(store, clock, monkeypatch):
    """What is cached is read all the same; the note that is over goes another time."""
    holding.keep(store, Session(UpstreamError("later", retry_after=60)), "s")
    clock.now += 61

    def full(work):
        raise StorageError("full")

    with monkeypatch.context() as patch:
        patch.setattr(store.own, "write", full)
        assert resumed(store) == []
    assert resumed(store) == []
