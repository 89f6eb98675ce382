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


def test_a_session_that_has_lost_its_way_is_replaced_and_a_new_one_is_believed() -> None:
    maker = Maker()
    lanes = Pool(maker)
    astray: list[Any] = []

    def look(connection: Any) -> Any:
        if connection in astray:
            raise CommandNo("deleted under us", code="serverbug")
        return connection

    astray.append(lanes.run(look))
    assert lanes.run(look) is maker.made[1] and astray[0].closed
    astray.append(maker.made[1])
    with pytest.raises(CommandNo):
        lanes.run(look, retry=False)
    with pytest.raises(CommandNo):  # made for this: what it says is the server's word
        lanes.run(lambda connection: astray.append(connection) or look(connection))
    assert len(maker.made) == 3


def test_the_connection_that_fits_best_is_taken() -> None:
    maker = Maker()
    lanes = Pool(maker)
    lanes.run(lambda connection: lanes.run(lambda other: None), background=True)
    sync, interactive = maker.made
    fit = {id(sync): 2.0, id(interactive): 1.0}
    assert lanes.run(lambda connection: connection) is interactive
    assert lanes.run(lambda connection: connection, fitness=lambda connection: fit[id(connection)]) is sync
    fit[id(interactive)] = 3.0
    assert lanes.run(lambda connection: connection, fitness=lambda connection: fit[id(connection)]) is interactive


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
    gevent.joinall(holders + waiters, timeout=60, raise_error=True)
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
    assert last.get(timeout=60) == "mine"
    holder.join(timeout=60)


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
    holder.join(timeout=60)
    assert lanes.run(lambda c: "free", True) == "free"


def test_closing_ends_those_who_wait() -> None:
    lanes = Pool(Maker())
    holder = gevent.spawn(lanes.run, lambda c: Event().wait(), True)
    gevent.idle()
    waiter = gevent.spawn(lanes.run, lambda c: None, True)
    gevent.idle()
    lanes.close()
    with pytest.raises(UpstreamError):
        waiter.get(timeout=60)
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
    """Wish 11."""
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
    assert page.get(timeout=60) is maker.made[0]
    history.join(timeout=60)
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
    clock.now += backoff.USUAL.first
    with pytest.raises(UpstreamError):
        lanes.run(lambda c: None)
    assert maker.tries == 2
    maker.error = None
    clock.now += backoff.USUAL.longest
    assert lanes.run(lambda c: "up") == "up"


@pytest.mark.parametrize(
    ("error", "least", "most"),
    [
        (UpstreamError("down"), 0.1, 0.5),
        (AuthenticationError("no"), 60, 60),
        (UpstreamError("slow down", code="limit"), 30, 30),
        (UpstreamError("slow down", code="throttled"), 30, 30),
        (UpstreamError("down", code="UNAVAILABLE"), 5, 5),
        (UpstreamError("in use", code="inuse"), 5, 5),
        (UpstreamError("Account exceeded. Suggested Backoff Time: 178755"), 178.7, 178.8),
        (UpstreamError("Suggested Backoff Time: 178755 milliseconds"), 178.7, 178.8),
        (UpstreamError("Suggested Backoff Time: 999999999"), 86_400, 86_400),
        (UpstreamError("Rate limit hit, retry after 90 seconds", code="throttled"), 90, 90),
        (UpstreamError("Please try again in 15 minutes", code="unavailable"), 900, 900),
        (AuthenticationError("wait 2 hours"), 7200, 7200),
    ],
)
def test_the_pause_follows_what_the_server_says(error: UpstreamError, least: float, most: float) -> None:
    memory = Backoff(Clock())
    memory.failed(error)
    assert least <= memory.delay <= most
    with pytest.raises(type(error)) as caught:
        memory.check()
    assert caught.value.retry_after == pytest.approx(error.retry_after) == pytest.approx(memory.delay)
    memory.succeeded()
    memory.check()
    assert memory.delay == 0


def test_pauses_grow_and_end_growing() -> None:
    memory = Backoff(Clock())
    delays = []
    for _ in range(40):
        memory.failed(UpstreamError("down"))
        delays.append(memory.delay)
    assert delays[3] > delays[0] and max(delays) <= 60 and delays[-1] >= 48


def test_refused_credentials_are_tried_once_a_minute_and_then_ever_more_rarely_up_to_an_hour() -> None:
    """Wish 12."""
    clock = Clock()
    memory, tries = Backoff(clock), []
    for _ in range(9):
        memory.failed(AuthenticationError("no"))
        tries.append(memory.delay)
        clock.now += memory.delay
    assert tries[0] == 60 and min(tries) == 60 and 2_880 <= tries[-1] <= 3_600
    memory.succeeded()
    memory.failed(AuthenticationError("no"))
    assert memory.delay == 60


def test_being_refused_a_second_connection_does_not_hold_up_the_first() -> None:
    """Wish 11: a server with room for one; ten refusals later the one that broke is made anew at once."""
    maker, clock = Maker(), Clock()
    lanes = Pool(maker, clock)
    lanes.run(lambda c: None, True)
    maker.error = UpstreamError("Maximum number of connections exceeded", code="throttled")
    for _ in range(10):
        with pytest.raises(UpstreamError):
            lanes.connect()
        clock.now += 1_000
    lanes.check()
    assert lanes.held is None
    maker.error, maker.made[0].broken = None, True
    assert lanes.run(lambda c: c, True) is maker.made[1]


def test_a_throttled_command_holds_everything_until_its_time_whoever_asks() -> None:
    """Wish 12: a request does not shorten the pause, and costs the server nothing."""
    maker, clock = Maker(), Clock()
    lanes = Pool(maker, clock)
    asked: list[Any] = []

    def throttled(connection: Any) -> None:
        asked.append(connection)
        raise CommandNo("Suggested Backoff Time: 178755", code="throttled")

    with pytest.raises(CommandNo) as caught:
        lanes.run(throttled, True)
    assert 178.7 < (caught.value.retry_after or 0) < 178.8
    for passed in (0.0, 100.0, 78.0):
        clock.now += passed
        for background in (True, False):
            with pytest.raises(UpstreamError) as held:
                lanes.run(throttled, background)
            assert held.value.code == "throttled"
    assert len(asked) == 1 and maker.tries == 1 and lanes.held is not None
    clock.now += 1
    assert lanes.held is None
    assert lanes.run(lambda c: "well") == "well" and not maker.made[0].closed


def test_a_goodbye_with_a_reason_is_not_answered_by_connecting_again() -> None:
    """Wish 12."""
    maker, clock = Maker(), Clock()
    lanes = Pool(maker, clock)

    def goodbye(connection: Any) -> None:
        raise ConnectionBroken("the server says goodbye: too many connections", code="throttled")

    for _ in range(5):
        with pytest.raises(UpstreamError):
            lanes.run(goodbye)
    assert maker.tries == 1
    clock.now += 31
    assert lanes.run(lambda c: "well") == "well" and maker.tries == 2


def test_a_server_that_shuts_down_says_goodbye_on_every_connection_and_that_is_one_event() -> None:
    """Else a restart upstream would hold an account with three connections for four times as long."""
    clock = Clock()
    lanes = Pool(Maker(), clock)
    for _ in range(3):
        lanes.broke(ConnectionBroken("the server says goodbye: shutting down", code="unavailable"))
    assert lanes.held is not None
    clock.now += backoff.PAUSES["unavailable"].first
    assert lanes.held is None
    lanes.broke(ConnectionBroken("the server says goodbye: shutting down", code="unavailable"))
    assert lanes.held is not None and (lanes.held.retry_after or 0) > backoff.PAUSES["unavailable"].first


def test_a_short_pause_is_waited_for_and_a_longer_one_is_told() -> None:
    """Wish 21: BYE at any time. The log-in that it broke may have been somebody else's."""
    maker = Maker()
    lanes = Pool(maker)
    maker.error = ConnectionBroken("cut while it logged in")
    with pytest.raises(UpstreamError):
        lanes.run(lambda c: None)
    maker.error = None
    assert lanes.run(lambda c: "well") == "well" and maker.tries == 2
    for error, seconds in ((UpstreamError("away"), pool.PATIENCE + 1), (AuthenticationError("no"), 0.1)):
        held = Pool(maker)
        held.hold(error, seconds)
        with pytest.raises(type(error)):
            held.run(lambda c: None)
    assert maker.tries == 2


def test_a_server_that_lets_us_in_and_hangs_up_is_not_stormed() -> None:
    """Wish 12: 402 tries in a second were seen."""
    maker, clock = Maker(), Clock()
    lanes = Pool(maker, clock)

    def hung_up(connection: Any) -> None:
        raise ConnectionBroken("gone")

    for _ in range(400):
        with pytest.raises(UpstreamError):
            lanes.run(hung_up)
    assert maker.tries == backoff.BURST
    clock.now += 60
    for _ in range(400):
        with pytest.raises(UpstreamError):
            lanes.run(hung_up)
    assert maker.tries == backoff.BURST + 60 / backoff.REFILL


def test_the_octets_of_background_work_are_counted_apart() -> None:
    lanes = Pool(Maker())

    def read(connection: Any) -> None:
        connection.bytes_in += 1_000

    lanes.run(read, True)
    lanes.run(read, False)
    assert lanes.background_in == 1_000


def test_each_connection_is_visited_when_its_user_is_done_with_it() -> None:
    maker, order, release = Maker(), [], Event()
    lanes = Pool(maker)
    both = [gevent.spawn(lanes.run, lambda connection: gevent.idle(), background) for background in (True, False)]
    gevent.joinall(both, timeout=60)

    def history(connection: Any) -> None:
        release.wait(60)
        order.append("history")

    busy = gevent.spawn(lanes.run, history, True)
    gevent.idle()
    waiting = gevent.spawn(lanes.run, lambda connection: order.append("next history"), True)
    visitor = gevent.spawn(lanes.each, lambda connection: order.append(connection))
    gevent.idle()
    assert order == []
    release.set()
    gevent.joinall([busy, waiting, visitor], timeout=60, raise_error=True)
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
    busy = gevent.spawn(lanes.run, lambda connection: release.wait(60), True)
    gevent.idle()
    visitor = gevent.spawn(lanes.each, lambda connection: None)
    gevent.idle()
    lanes.close()
    with pytest.raises(UpstreamError):
        visitor.get(timeout=60)
    release.set()
    busy.join(60)


def test_what_was_under_way_when_a_server_throttled_does_not_end_the_pause() -> None:
    """Wish 12: the other lane's work goes well a moment later."""
    maker, clock, go = Maker(), Clock(), Event()
    lanes = Pool(maker, clock)

    def slow(connection: Any) -> str:
        go.wait()
        return "well"

    def throttled(connection: Any) -> None:
        raise CommandNo("slow down", code="throttled")

    history = gevent.spawn(lanes.run, slow, True)
    gevent.idle()
    with pytest.raises(CommandNo):
        lanes.run(throttled)
    go.set()
    assert history.get(timeout=60) == "well"
    with pytest.raises(UpstreamError):
        lanes.run(lambda connection: "asked")


def test_who_waited_for_a_lane_when_a_server_throttled_asks_nothing() -> None:
    maker, clock, go, asked = Maker(), Clock(), Event(), []
    lanes = Pool(maker, clock)

    def throttled(connection: Any) -> None:
        go.wait()
        raise CommandNo("slow down", code="throttled")

    first = gevent.spawn(lanes.run, throttled, True)
    gevent.idle()
    waiting = [gevent.spawn(lanes.run, asked.append, True) for _ in range(5)]
    gevent.idle()
    go.set()
    gevent.joinall([first, *waiting], timeout=60)
    assert not asked and all(isinstance(one.exception, UpstreamError) for one in waiting)
