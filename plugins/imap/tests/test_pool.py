"""The lanes and the back-off, with connections that are not real."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
from gevent.event import Event
from jmapplug_imap import backoff, pool
from jmapplug_imap.backoff import Backoff
from jmapplug_imap.pool import Pool
from jmapplug_imap.protocol.errors import CommandNo, ConnectionBroken

from jmapplug.errors import AuthenticationError, UpstreamError


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Fake:
    """As much of a Connection as the pool touches."""

    def __init__(self, dead: bool = False) -> None:
        self.broken, self.closed, self.noops, self.round_trips, self.dead = False, False, 0, 1, dead
        self.bytes_in = 100

    def noop(self) -> None:
        self.noops += 1
        if self.dead:
            raise ConnectionBroken("gone")

    def close(self) -> None:
        self.closed = self.broken = True


class Maker:
    def __init__(self) -> None:
        self.made: list[Fake] = []
        self.error: UpstreamError | None = None
        self.tries = 0

    def __call__(self) -> Any:
        self.tries += 1
        if self.error:
            raise self.error
        self.made.append(Fake())
        return self.made[-1]


def test_a_quiet_account_has_one_connection() -> None:
    maker = Maker()
    lanes = Pool(maker)
    for background in (True, False, True, False):
        lanes.run(lambda connection: None, background)
    assert len(maker.made) == 1 and lanes.opened == 1


def test_a_refused_command_keeps_the_connection_and_any_other_error_drops_it() -> None:
    maker = Maker()
    lanes = Pool(maker)

    def fail(error: BaseException) -> None:
        with pytest.raises(type(error)):
            lanes.run(lambda connection: (_ for _ in ()).throw(error))

    fail(CommandNo("no"))
    assert len(maker.made) == 1 and not maker.made[0].closed
    fail(ZeroDivisionError())
    assert maker.made[0].closed
    lanes.run(lambda connection: None)
    assert len(maker.made) == 2 and lanes.round_trips == 2


def test_broken_work_is_done_once_more_on_a_new_connection_and_not_for_ever() -> None:
    maker = Maker()
    lanes = Pool(maker)
    seen: list[Any] = []

    def once(connection: Any) -> str:
        seen.append(connection)
        if len(seen) == 1:
            raise ConnectionBroken("cut")
        return "whole"

    assert lanes.run(once) == "whole" and seen[0] is not seen[1] and seen[0].closed
    tries = 0

    def never(connection: Any) -> None:
        nonlocal tries
        tries += 1
        raise ConnectionBroken("cut")

    with pytest.raises(ConnectionBroken):
        lanes.run(never)
    assert tries == 2
    with pytest.raises(ConnectionBroken):
        lanes.run(never, retry=False)
    assert tries == 3


def test_waiting_interactive_work_goes_before_waiting_background_work() -> None:
    lanes = Pool(Maker())
    gate, order = Event(), []

    def hold(connection: Any) -> None:
        gate.wait()

    holders = [gevent.spawn(lanes.run, hold, True), gevent.spawn(lanes.run, hold, False)]
    gevent.idle()
    waiters = [
        gevent.spawn(lanes.run, lambda c: order.append("history"), True),
        gevent.spawn(lanes.run, lambda c: order.append("page"), False),
    ]
    gevent.idle()
    assert order == []
    gate.set()
    gevent.joinall(holders + waiters, timeout=10, raise_error=True)
    assert order == ["page", "history"]


def test_a_waiter_that_is_killed_leaves_its_place_to_the_next() -> None:
    lanes = Pool(Maker())
    gate = Event()
    holder = gevent.spawn(lanes.run, lambda c: gate.wait(), True)
    gevent.idle()
    killed = gevent.spawn(lanes.run, lambda c: None, True)
    last = gevent.spawn(lanes.run, lambda c: "mine", True)
    gevent.idle()
    killed.kill()
    gate.set()
    assert last.get(timeout=10) == "mine"
    holder.join(timeout=10)


def test_a_killed_worker_leaves_no_half_read_connection_behind() -> None:
    maker = Maker()
    lanes = Pool(maker)
    job = gevent.spawn(lanes.run, lambda c: Event().wait(), False)
    gevent.idle()
    job.kill()
    assert maker.made[0].closed
    assert lanes.run(lambda c: c) is maker.made[1]


def test_a_queue_that_does_not_move_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "QUEUE_DEADLINE", 0.01)
    lanes = Pool(Maker())
    gate = Event()
    holder = gevent.spawn(lanes.run, lambda c: gate.wait(), True)
    gevent.idle()
    with pytest.raises(UpstreamError):
        lanes.run(lambda c: None, True)
    gate.set()
    holder.join(timeout=10)
    assert lanes.run(lambda c: "free", True) == "free"


def test_closing_ends_those_who_wait() -> None:
    lanes = Pool(Maker())
    holder = gevent.spawn(lanes.run, lambda c: Event().wait(), True)
    gevent.idle()
    waiter = gevent.spawn(lanes.run, lambda c: None, True)
    gevent.idle()
    lanes.close()
    with pytest.raises(UpstreamError):
        waiter.get(timeout=10)
    with pytest.raises(UpstreamError):
        lanes.run(lambda c: None)
    holder.kill()


def test_a_rested_connection_is_asked_whether_it_lives() -> None:
    maker, clock = Maker(), Clock()
    lanes = Pool(maker, clock)
    lanes.run(lambda c: None)
    clock.now += pool.PROBE_AFTER + 1
    lanes.run(lambda c: None)
    assert maker.made[0].noops == 1 and len(maker.made) == 1
    maker.made[0].dead = True
    clock.now += pool.PROBE_AFTER + 1
    assert lanes.run(lambda c: c) is maker.made[1]


def test_a_server_that_gives_no_second_connection_is_read_over_the_first() -> None:
    maker = Maker()
    lanes = Pool(maker)
    lanes.run(lambda c: None, True)
    maker.error = UpstreamError("too many connections", code="limit")
    gate = Event()
    history = gevent.spawn(lanes.run, lambda c: gate.wait(), True)
    gevent.idle()
    page = gevent.spawn(lanes.run, lambda c: c, False)
    gevent.idle()
    assert not page.ready()
    gate.set()
    assert page.get(timeout=10) is maker.made[0]
    history.join(timeout=10)
    maker.made[0].broken = True
    with pytest.raises(UpstreamError):  # and when there is no good one at all, it is told
        lanes.run(lambda c: None, False)


def test_a_failed_connect_is_not_repeated_before_its_time() -> None:
    maker, clock = Maker(), Clock()
    maker.error = UpstreamError("refused")
    lanes = Pool(maker, clock)
    for _ in range(10):
        with pytest.raises(UpstreamError):
            lanes.run(lambda c: None)
    assert maker.tries == 1
    clock.now += backoff.FIRST
    with pytest.raises(UpstreamError):
        lanes.run(lambda c: None)
    assert maker.tries == 2
    maker.error = None
    clock.now += backoff.LONGEST
    assert lanes.run(lambda c: "up") == "up"


@pytest.mark.parametrize(
    ("error", "least", "most"),
    [
        (UpstreamError("down"), 0.1, backoff.FIRST),
        (AuthenticationError("no"), backoff.REFUSED, backoff.REFUSED),
        (UpstreamError("slow down", code="limit"), 30, 30),
        (UpstreamError("Account exceeded. Suggested Backoff Time: 178755"), 178, 179),
        (UpstreamError("Suggested Backoff Time: 999999999"), 3600, 3600),
    ],
)
def test_the_pause_follows_what_the_server_says(error: UpstreamError, least: float, most: float) -> None:
    memory = Backoff(Clock())
    memory.failed(error)
    assert least <= memory.delay <= most
    with pytest.raises(type(error)):
        memory.check()
    memory.succeeded()
    memory.check()
    assert memory.delay == 0


def test_pauses_grow_and_end_growing() -> None:
    memory = Backoff(Clock())
    delays = []
    for _ in range(40):
        memory.failed(UpstreamError("down"))
        delays.append(memory.delay)
    assert delays[3] > delays[0] and max(delays) <= backoff.LONGEST and delays[-1] >= backoff.LONGEST * 0.8


def test_each_connection_is_visited_when_its_user_is_done_with_it() -> None:
    maker, order, release = Maker(), [], Event()
    lanes = Pool(maker)
    both = [gevent.spawn(lanes.run, lambda connection: gevent.idle(), background) for background in (True, False)]
    gevent.joinall(both, timeout=5)

    def history(connection: Any) -> None:
        release.wait(5)
        order.append("history")

    busy = gevent.spawn(lanes.run, history, True)
    gevent.idle()
    waiting = gevent.spawn(lanes.run, lambda connection: order.append("next history"), True)
    visitor = gevent.spawn(lanes.each, lambda connection: order.append(connection))
    gevent.idle()
    assert order == []
    release.set()
    gevent.joinall([busy, waiting, visitor], timeout=5, raise_error=True)
    # The visit comes before who else waits for the lane: a deletion waits for it.
    assert order[:2] == ["history", maker.made[0]] and set(order[2:]) == {"next history", maker.made[1]}


def test_a_visit_makes_no_connection_and_survives_a_broken_one() -> None:
    maker = Maker()
    lanes = Pool(maker)
    lanes.each(lambda connection: None)
    assert maker.tries == 0
    lanes.run(lambda connection: None)

    def breaks(connection: Any) -> None:
        raise ConnectionBroken("gone")

    lanes.each(breaks)
    assert maker.made[0].closed and len(maker.made) == 1


def test_who_waits_for_a_lane_is_told_when_the_pool_closes() -> None:
    lanes = Pool(Maker())
    release = Event()
    busy = gevent.spawn(lanes.run, lambda connection: release.wait(5), True)
    gevent.idle()
    visitor = gevent.spawn(lanes.each, lambda connection: None)
    gevent.idle()
    lanes.close()
    with pytest.raises(UpstreamError):
        visitor.get(timeout=5)
    release.set()
    busy.join(5)
