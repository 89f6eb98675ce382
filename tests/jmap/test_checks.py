from __future__ import annotations

from typing import Any

import pytest

from jmapplug.jmap import checks


@pytest.mark.parametrize("value", [0, 1, 2**53 - 1])
def test_an_unsigned_int_reaches_2_to_the_53_less_1(value: int) -> None:
    assert checks.is_uint(value)
    assert checks.is_int(-value)


@pytest.mark.parametrize("value", [2**53, 1.0, True, "1", None, [1]])
def test_neither_a_larger_number_nor_a_boolean_nor_a_fraction_is_an_int(value: Any) -> None:
    assert not checks.is_int(value)
    assert not checks.is_uint(value)


def test_a_negative_number_is_no_unsigned_int() -> None:
    assert not checks.is_uint(-1)
    assert checks.is_int(-1)


@pytest.mark.parametrize(
    "value",
    ["2014-10-30T14:12:00+08:00", "2014-10-30T06:12:00Z", "2016-02-29T00:00:00Z", "2016-12-31T23:59:60Z",
     "2014-10-30T06:12:00.125Z", "2014-10-30T06:12:00.120Z", "2014-10-30T06:12:00.000Z", "2014-10-30T06:12:00-00:30"],
)  # fmt: skip
def test_a_date_is_rfc_3339(value: str) -> None:
    assert checks.is_date(value)
    assert checks.is_utc_date(value) == value.endswith("Z")


@pytest.mark.parametrize(
    "value",
    ["2014-10-30", "2014-10-30t06:12:00Z", "2014-10-30T06:12:00z", "2014-10-30T06:12:00", "2014-10-30T06:12:00.Z",
     "2015-02-29T00:00:00Z", "2014-13-01T00:00:00Z", "2014-00-01T00:00:00Z",
     "0000-01-01T00:00:00Z", "2014-10-00T00:00:00Z", "2014-10-30T24:00:00Z", "2014-10-30T00:60:00Z",
     "2014-10-30T00:00:61Z", "2014-10-30T00:00:00+24:00", "2014-10-30T00:00:00+00:60", "2014-10-30 00:00:00Z",
     "٢٠١٤-10-30T00:00:00Z", "2014-10-30T00:00:00Z\n", "", None, 5, True],
)  # fmt: skip
def test_what_is_no_date_of_rfc_8620(value: Any) -> None:
    assert not checks.is_date(value)
    assert not checks.is_utc_date(value)


def test_combinations_of_checks() -> None:
    ids = checks.nullable(checks.list_of(checks.is_id))
    assert ids(None) and ids([]) and ids(["a"])
    assert not ids("a") and not ids([""]) and not ids({"a": 1})
    flags = checks.map_of(checks.is_id, checks.is_bool)
    assert flags({}) and flags({"a": True})
    assert not flags({"a": 1}) and not flags({"": True}) and not flags([])
    role = checks.one_of("inbox", "sent")
    assert role("inbox") and not role("Inbox") and not role(None) and not role(["inbox"])
    assert checks.is_any(object()) and checks.is_string("") and not checks.is_string(b"")
    assert not checks.is_bool(1) and not checks.is_bool(0) and checks.is_bool(False)
