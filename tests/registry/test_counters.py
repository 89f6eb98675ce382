"""Counters of many fronts, added up."""

from __future__ import annotations

from jmapplug.registry.counters import FRESH, Totals


def test_fronts_are_added_up_label_by_label():
    totals = Totals()
    totals.take("a", {"x_total": 2, "calls_total": [["Email/get", 3], ["Email/query", 1]], "open": 1})
    totals.take("b", {"x_total": 5, "calls_total": [["Email/get", 4]], "open": 2})
    assert totals.totals() == {"x_total": 7, "calls_total": [["Email/get", 7], ["Email/query", 1]], "open": 3}


def test_a_front_that_began_anew_under_the_same_name_never_makes_a_counter_fall():
    totals = Totals()
    totals.take("a", {"x_total": 10})
    totals.take("a", {"x_total": 1})
    totals.take("a", {"x_total": 2})
    assert totals.totals() == {"x_total": 12}


def test_the_gauges_of_a_front_that_is_gone_are_forgotten_and_its_counters_kept():
    now = [0.0]
    totals = Totals(lambda: now[0])
    totals.take("a", {"x_total": 10, "open": 4})
    now[0] = FRESH + 1
    assert totals.totals() == {"x_total": 10}
