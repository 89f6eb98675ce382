"""store/pace.py: background work gives way to what came over a socket meanwhile."""

from __future__ import annotations

import gevent
import pytest
from gevent import socket

from jmapplug.store import pace


def test_a_request_that_came_meanwhile_is_answered_before_background_work_goes_on() -> None:
    client, server = socket.socketpair()
    answered: list[bytes] = []

    def answer(data: bytes) -> None:
        answered.append(data)

    def read() -> None:
        while data := server.recv(10):
            gevent.spawn(answer, data)

    reader = gevent.spawn(read)
    pace.give_way()
    for number in range(3):
        client.sendall(b"%d" % number)
        pace.give_way()
        assert len(answered) == number + 1
    reader.kill()
    client.close()
    server.close()


def test_background_work_goes_on_even_where_it_is_never_quiet() -> None:
    def noise() -> None:
        while True:
            gevent.sleep(0)

    noisy = gevent.spawn(noise)
    pace.give_way()
    assert pace.in_company()
    noisy.kill()


def test_a_request_has_its_first_moments_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    given: list[float] = []
    monkeypatch.setattr(pace.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(pace, "give_way", lambda: given.append(now[0]))
    pace.turn()
    now[0] += pace.SLICE / 2
    pace.breathe()
    assert not given
    now[0] += pace.SLICE
    pace.breathe()
    assert given == [now[0]]
