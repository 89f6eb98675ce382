"""watching.py: who is told of changes when, how often the rest is looked at, and what a storm costs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import gevent
import pytest
from sync_rig import Rig

from jmapplug.backends import Features
from jmapplug.capabilities.mail import watching as watching_module
from jmapplug.capabilities.mail.watching import BURST, RATE, RECONCILE, Pace, Watching
from jmapplug.errors import UpstreamError
from jmapplug.testing.memory_source import MemoryServer
from jmapplug.workers.sync import Line

INTERVAL = 30.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["notify", "idle", "poll"])
def rig(tmp_path: Path, clock: Clock, request: pytest.FixtureRequest):
    """An account on a server that tells of everything, of INBOX, or of nothing."""
    can = {"notify": {"notify": True, "idle": True}, "idle": {"idle": True}, "poll": {}}[request.param]
    made = Rig(tmp_path, MemoryServer(Features(id_scheme="emailid", condstore=True, qresync=True, **can)))
    made.how = request.param
    made.server.create(b"Archive")
    made.sync()
    made.service._watching = Watching(made, clock)
    yield made
    made.close()


def opened(rig: Rig) -> Rig:
    """The watch is there, and the pass that follows it is done."""
    rig.service.wait(0)
    rig.sync()
    return rig


def passes(rig: Rig) -> int:
    return [name for name, _ in rig.source.calls].count("folders")


def test_how_changes_are_learnt_is_told(rig: Rig) -> None:
    assert rig.service.status()["watching"] == "poll"
    assert opened(rig).service.status()["watching"] == rig.how


def test_what_is_not_told_is_looked_at_often_while_somebody_wants_to_know_and_rarely_else(rig: Rig) -> None:
    """Wish 15."""
    opened(rig)
    rig.watched = True
    often = rig.service.patience(INTERVAL)
    rig.watched = False
    rarely = rig.service.patience(INTERVAL)
    if rig.how == "notify":
        assert often == rarely == RECONCILE
    else:
        assert often <= INTERVAL < rarely <= RECONCILE


def test_the_patience_is_asked_for_rarely_only_where_nobody_can_come_who_makes_it_less(rig: Rig) -> None:
    rig.watched = True
    assert not rig.service.steady, "there is no watch yet: it is to be tried again"
    opened(rig)
    assert rig.service.steady is (rig.how != "poll")
    rig.watched = False
    assert rig.service.steady is (rig.how == "notify")


def test_an_account_that_takes_long_to_look_at_is_not_looked_at_all_the_time(rig: Rig) -> None:
    opened(rig)
    rig.service._watching.looked(True, frozenset(), found=False, seconds=5.0)
    assert rig.service.patience(INTERVAL) >= 100
    rig.service._watching.looked(True, frozenset(), found=False, seconds=5000.0)
    assert rig.service.patience(INTERVAL) == RECONCILE


def test_a_change_in_any_folder_ends_the_wait_where_the_server_tells_of_all(rig: Rig) -> None:
    opened(rig)
    rig.deliver("elsewhere", b"Archive")
    assert rig.service.wait(0.01) is (rig.how == "notify")
    rig.deliver("here")
    assert rig.service.wait(0.01) is (rig.how != "poll")


def test_a_watch_that_missed_something_is_not_trusted_for_an_hour(rig: Rig, clock: Clock) -> None:
    """Servers' NOTIFY may fall silent: then the clock's own pass finds what nobody told."""
    opened(rig)
    server = rig.server
    watches, server.watches = server.watches, set()
    rig.deliver("silence", b"Archive")
    server.watches = watches
    assert rig.service.wait(0.01) is False
    rig.service.sync()
    assert rig.service.patience(INTERVAL) <= INTERVAL
    if rig.how == "notify":
        assert rig.service.wait(0.01) is True  # another watch
        assert rig.service.patience(INTERVAL) <= INTERVAL
        clock.now += watching_module.DISTRUST
        assert rig.service.patience(INTERVAL) == RECONCILE


def test_our_own_writes_are_nothing_that_a_watch_has_missed(rig: Rig) -> None:
    rig.deliver("one")
    opened(rig)
    patience = rig.service.patience(INTERVAL)
    assert rig.update(rig.email("one"), **{"keywords/$seen": True}) is None
    while rig.service.wait(0.01):
        rig.service.sync()
    rig.service.sync()
    assert rig.service.patience(INTERVAL) == patience


def test_a_server_that_gives_no_connection_for_a_watch_is_looked_at_and_asked_again_later(
    rig: Rig, clock: Clock
) -> None:
    if rig.how == "poll":
        pytest.skip("there is no watch")

    def fault(name: str) -> None:
        if name == "watch":
            raise UpstreamError("too many connections")

    rig.source.fault = fault
    for _ in range(5):
        assert rig.service.wait(0) is False
        rig.sync()
    tries = [name for name, _ in rig.source.calls].count("watch")
    assert tries == 1 and rig.service.status()["watching"] == "poll"
    rig.source.fault = lambda name: None
    clock.now += 600
    assert rig.service.wait(0) is True and rig.service.status()["watching"] == rig.how


def test_a_watch_that_never_lasts_is_tried_less_and_less_often(rig: Rig, clock: Clock) -> None:
    if rig.how == "poll":
        pytest.skip("there is no watch")

    def broken(timeout: float) -> None:
        raise UpstreamError("goodbye")

    def breaks() -> None:
        assert rig.service.wait(0) is True
        rig.service._watching._watch.wait = broken  # type: ignore[union-attr,assignment]
        with pytest.raises(UpstreamError):
            rig.service.wait(0)

    breaks()
    breaks()
    assert rig.service.wait(0) is False and rig.service.status()["watching"] == "poll"
    clock.now += watching_module.RETRY
    breaks()
    clock.now += watching_module.RETRY
    assert rig.service.wait(0) is False
    clock.now += watching_module.RETRY
    assert rig.service.wait(0) is True
    rig.service._watching._watch.wait = broken  # type: ignore[union-attr,assignment]
    clock.now += watching_module.SHORT
    with pytest.raises(UpstreamError):
        rig.service.wait(0)
    breaks()  # one that lasted is begun anew at once


def test_a_pass_that_fails_gives_the_watch_s_connection_back(rig: Rig) -> None:
    """A server with room for one connection: the passes come first (wish 11)."""
    opened(rig)

    def fault(name: str) -> None:
        raise UpstreamError("too many connections")

    rig.source.fault = fault
    with pytest.raises(UpstreamError):
        rig.service.sync()
    assert not rig.server.watches and rig.service.status()["watching"] == "poll"


def test_a_watch_that_was_closed_with_its_session_is_replaced(rig: Rig) -> None:
    opened(rig)
    for watch in list(rig.server.watches):
        watch.close()
    assert rig.service.wait(0) is False
    assert rig.service.wait(0) is (rig.how != "poll")
    assert rig.service.status()["watching"] == rig.how


def test_the_first_passes_begin_at_once_and_those_of_a_storm_twice_a_second(clock: Clock) -> None:
    pace = Pace(clock)
    delays = []
    for _ in range(12):
        delays.append(pace.take())
        clock.now += delays[-1]
    assert delays[: int(BURST)] == [0.0] * int(BURST)
    assert delays[int(BURST) :] == pytest.approx([1 / RATE] * (12 - int(BURST)))
    clock.now += 60
    assert [pace.take() for _ in range(4)] == pytest.approx([0.0] * int(BURST) + [1 / RATE])


class Free:
    """Nobody asks anything."""

    in_flight = 0

    def __init__(self) -> None:
        self.calm: Any = gevent.event.Event()
        self.calm.set()


def test_a_thousand_deliveries_in_a_moment_make_a_handful_of_passes(rig: Rig) -> None:
    if rig.how == "poll":
        pytest.skip("nobody tells")
    rig.service._watching = Watching(rig)
    line = Line(rig.service, Free(), INTERVAL, lambda: None, lambda: None)
    looping = gevent.spawn(line.run)
    with gevent.Timeout(60):
        while not rig.server.watches:
            gevent.sleep(0.001)
        before, begun = passes(rig), time.monotonic()
        for at in range(1000):
            rig.deliver(f"storm {at}")
            gevent.sleep(0.0005)
        while len(rig.emails()) < 1000:
            gevent.sleep(0.01)
    looping.kill()
    # However slow this machine is: three at once, two for each second that it lasted; and the one after the opening.
    assert passes(rig) - before <= BURST + RATE * (time.monotonic() - begun) + 2
    rig.sync()
    rig.check()


def test_somebody_who_comes_while_nobody_listened_is_served_sooner(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The patience is asked for again at every step of a wait."""
    if rig.how == "notify":
        pytest.skip("everything is told")
    monkeypatch.setattr("jmapplug.workers.sync.STEP", 0.02)
    rig.service._watching = Watching(rig)
    rig.watched = False
    line = Line(rig.service, Free(), 0.03, lambda: None, lambda: None)
    monkeypatch.setattr(watching_module, "RARELY", 1e6)
    looping = gevent.spawn(line.run)
    with gevent.Timeout(60):
        while rig.service.status()["watching"] != rig.how or passes(rig) < 3:
            gevent.sleep(0.001)
            if rig.how == "poll" and passes(rig) >= 2:
                break
        settled = passes(rig)
        gevent.sleep(0.1)
        assert passes(rig) == settled
        rig.watched = True
        while passes(rig) == settled:
            gevent.sleep(0.001)
    looping.kill()
