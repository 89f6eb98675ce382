"""The bandwidth of background work: octets are counted, users' requests are not (JMAP_ACCOUNT_BANDWIDTH)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sync_rig import Rig

from jmapplug.capabilities.mail.allowance import DEPTH, Allowance
from jmapplug.settings import load


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@given(st.integers(1, 10**6), st.lists(st.tuples(st.integers(0, 10**6), st.floats(0, 5)), max_size=60))
def test_never_more_than_the_rate_allows_but_for_one_slice(rate: int, slices: list[tuple[int, float]]) -> None:
    clock = Clock()
    allowance, used, begun, largest = Allowance(rate, clock), 0, clock.now, 0
    for octets, idle in slices:
        clock.now += idle
        while (pause := allowance.pause(used)) > 0:
            clock.now += max(pause, 1e-6)
        largest = max(largest, octets)
        assert used <= rate * (clock.now - begun + DEPTH) + 1
        used += octets
    assert used <= rate * (clock.now - begun + DEPTH) + largest + 1


def test_after_a_slice_that_was_too_much_there_is_a_rest_of_just_so_long() -> None:
    clock = Clock()
    allowance = Allowance(1_000, clock)
    assert allowance.pause(0) == 0
    assert allowance.pause(12_000) == pytest.approx(10)
    clock.now += 4
    assert allowance.pause(12_000) == pytest.approx(6)
    clock.now += 6
    assert allowance.pause(12_000) == 0


def test_a_new_session_begins_to_count_anew_and_without_a_limit_nobody_counts() -> None:
    clock = Clock()
    allowance = Allowance(1_000, clock)
    allowance.pause(50_000)
    clock.now += 1_000
    assert allowance.pause(3_000) == pytest.approx(1)
    assert Allowance(0, clock).pause(10**12) == 0


def test_the_mail_service_rests_by_what_its_source_counts(tmp_path) -> None:
    rig = Rig(tmp_path)
    assert rig.service.pace() == 0
    rig.service_settings = load({"JMAP_ACCOUNT_BANDWIDTH": "1k"})
    assert rig.service.pace() == 0, "a source that does not count is not limited"
    rig.source.background_in = 7_000  # type: ignore[attr-defined]
    assert 4 < rig.service.pace() <= 5
    rig.close()
