"""The vacation script as text: out and in again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jmapplug.capabilities.sieve.reading import commands
from jmapplug.capabilities.vacationresponse.script import Vacation, answers, parse, render

DATES = st.none() | st.sampled_from(["2026-01-02T03:04:05Z", "2026-12-31T23:59:60.5Z"])
TEXTS = st.none() | st.text(st.characters(exclude_categories=["Cs"]))
VACATIONS = st.builds(
    Vacation, isEnabled=st.booleans(), fromDate=DATES, toDate=DATES, subject=TEXTS, textBody=TEXTS, htmlBody=TEXTS
)
ADDRESSES = ["ann@example.org", 'odd"one@example.org']


@given(VACATIONS)
def test_values_come_back_and_words_stay_in_their_strings(vacation: Vacation) -> None:
    script = render(vacation, ADDRESSES)
    assert parse(script) == vacation and script == render(vacation, ADDRESSES)
    assert parse(script.replace(b"\r\n", b"\n")) == vacation
    assert script.isascii() or vacation.isEnabled
    assert b"\0" not in script and b"\n" not in script.replace(b"\r\n", b"")
    allowed = {"require", "vacation", ":addresses", ":subject", ":mime", "if", "allof", "not", "anyof"}
    allowed |= {"currentdate", ":zone", ":value", ":is"}
    assert commands(script) <= (allowed if vacation.isEnabled else set())
    assert answers(script) is vacation.isEnabled


@given(VACATIONS, st.data())
def test_one_changed_octet_is_noticed(vacation: Vacation, data: st.DataObject) -> None:
    script = render(vacation, ADDRESSES)
    at = data.draw(st.integers(0, len(script.rstrip()) - 1))
    changed = script[:at] + bytes([script[at] ^ 1]) + script[at + 1 :]
    assert parse(changed) is None


def test_what_is_not_ours_is_not_read() -> None:
    assert parse(b"") is None and parse(b"keep;") is None and parse(b"\xff\xfe") is None
