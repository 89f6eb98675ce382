"""A worker whose loop does not turn is noticed and replaced; one that is busy, stopped or asleep is not (pulse.py)."""

from __future__ import annotations

import signal
import subprocess

import gevent
import pytest

from jmapplug.testing.ports import wait_until
from jmapplug.workers.errors import WorkerUnavailable
from jmapplug.workers.pulse import LOOKS, OPENING, Pulse, is_stopped

TIMEOUT = 4
"""Seconds; after a third of them a worker counts as one that hangs, and until all are over it can be seen to."""


@pytest.fixture
def quick(house):
    """A house whose supervisor is impatient."""
    house.env["JMAP_HANG_TIMEOUT"] = str(TIMEOUT)
    house.settings = house.load()
    return house


def started(house, client, method, **args):
    """A call that is under way: (greenlet, where it is let go)."""
    begun, go = house.folder / f"{method}.begun", house.folder / f"{method}.go"
    greenlet = gevent.spawn(house.jmap, client, "alice", method, begun=str(begun), go=str(go), **args)
    house.until(begun.exists, "the call's beginning")
    return greenlet, go


def test_a_worker_that_hangs_says_where_and_is_replaced(quick, capfd):
    client = quick.client()
    quick.add(client)
    pid = quick.jmap(client, "alice", "about")["pid"]
    hanging, _ = started(quick, client, "hang")
    behind = gevent.spawn(client.call, "alice", "ping")
    quick.until(lambda: quick.children(client)["alice"]["hangs"], "nobody waits for its answer any more")
    quick.ended(pid)
    for call in (hanging, behind):
        with pytest.raises(WorkerUnavailable) as error:
            call.get(timeout=60)
        assert error.value.sent_upstream, "it may have done something: serverPartialFail for a write"
    assert quick.jmap(client, "alice", "about")["pid"] != pid
    assert quick.children(client)["alice"]["restarts"] == 1
    told = capfd.readouterr().err
    assert f"worker alice ({pid}) hangs" in told
    assert 'house_plugin.py", line' in told and "in hang" in told, "a dump of where it was"
    assert "alice-login" not in told and "@example.com" not in told


def test_a_worker_in_a_long_job_that_gives_way_is_left_alone(quick):
    client = quick.client()
    quick.add(client)
    pid = quick.jmap(client, "alice", "about")["pid"]
    working, go = started(quick, client, "work")
    quick.add(client, "bob")
    other = gevent.spawn(quick.jmap, client, "bob", "hang", begun=str(quick.folder / "bob"))
    # bob's end shows that the time is over for which alice could have hung.
    with pytest.raises(WorkerUnavailable):
        other.get(timeout=60)
    go.touch()
    assert working.get(timeout=60)["pid"] == pid


SLOW = """
from gevent import monkey


@hookimpl
def register_management_routes():
    monkey.get_original("time", "sleep")({seconds})
    Path({there!r}).touch()
    return []
"""


def test_a_process_that_takes_long_to_begin_is_not_taken_for_one_that_hangs(house):
    """On a machine that has other things to do, loading the code alone may take longer than it may hang."""
    house.env["JMAP_HANG_TIMEOUT"] = "1"
    house.settings = house.load()
    there = house.folder / "there"
    with open(house.folder / "site" / "house_plugin.py", "a") as file:
        file.write(SLOW.format(seconds=3, there=str(there)))
    house.client()
    house.until(there.exists, "the management process begins")


# --- the pulse itself


@pytest.fixture
def process():
    child = subprocess.Popen(["sleep", "60"])
    yield child
    child.kill()
    child.wait()


def looks(pulse, pid, count, now=0.0):
    return [pulse.look(now, pid) for _ in range(count)]


def test_a_pulse_that_moves_is_never_missed_and_one_that_stands_is_after_all_looks(process):
    pulse = Pulse(60)
    pulse.begin(0)
    pulse.ready()
    for _ in range(100):
        pulse.beat()
        assert not pulse.look(0, process.pid)
    assert looks(pulse, process.pid, LOOKS + 1) == [False] * LOOKS + [True]


def test_a_stopped_worker_does_not_hang_however_long(process):
    """SIGSTOP and a debugger are somebody's wish."""
    pulse = Pulse(60)
    pulse.begin(0)
    pulse.ready()
    process.send_signal(signal.SIGSTOP)
    wait_until(lambda: is_stopped(process.pid), "it is stopped")
    assert not any(looks(pulse, process.pid, LOOKS * 10))
    process.send_signal(signal.SIGCONT)
    wait_until(lambda: not is_stopped(process.pid), "it goes on")
    assert looks(pulse, process.pid, LOOKS + 1)[-1]


def test_a_leap_of_the_clock_is_one_look(process):
    """A suspended machine: nothing ran, the supervisor neither."""
    pulse = Pulse(60)
    pulse.begin(0)
    pulse.ready()
    assert not pulse.look(1e9, process.pid)
    assert pulse.next_look == 1e9 + pulse.interval


def test_a_worker_that_still_opens_its_store_has_ten_times_as_long(process):
    pulse = Pulse(60)
    pulse.begin(0)
    assert not any(looks(pulse, process.pid, LOOKS * OPENING))
    assert pulse.look(0, process.pid)
    pulse.begin(0)
    assert not pulse.look(0, process.pid)


def test_all_pulses_are_looked_at_together_whenever_they_began():
    """A turn of the supervisor goes through all its workers: one turn for all looks, not one for each."""
    pulses = [Pulse(60) for _ in range(50)]
    for number, pulse in enumerate(pulses):
        pulse.begin(1000 + number * 0.37)
    moments = {pulse.next_look for pulse in pulses}
    assert len(moments) <= 3
    for _ in range(10):
        now = min(moments) + 0.003
        for pulse in pulses:
            if pulse.next_look <= now:
                pulse.look(now, 1)
        moments = {pulse.next_look for pulse in pulses}
        assert all(moment - now >= pulses[0].interval / 2 for moment in moments)
    assert len(moments) == 1


def test_nobody_looks_where_the_setting_is_zero():
    assert Pulse(0).interval == 0
