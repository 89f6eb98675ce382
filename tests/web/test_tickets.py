"""Tickets of event streams."""

from __future__ import annotations

import string

from hypothesis import given
from hypothesis import strategies as st

from jmapplug.web import tickets

KEY = b"k" * 32


def test_a_ticket_names_its_account_and_login_for_a_day() -> None:
    ticket = tickets.issue(KEY, "alice", "password", now=1000)
    assert tickets.check(KEY, ticket, now=1000 + 23 * 3600) == ("alice", "password")
    assert tickets.check(KEY, ticket, now=1000 + 26 * 3600) is None


def test_a_ticket_does_not_change_within_the_hour() -> None:
    assert tickets.issue(KEY, "alice", "x", now=3600) == tickets.issue(KEY, "alice", "x", now=7199)


def test_a_ticket_for_a_websocket_is_for_that_alone_and_for_an_hour() -> None:
    ticket = tickets.issue(KEY, "alice", "password~s", now=1000, purpose=tickets.WEBSOCKET)
    assert tickets.check(KEY, ticket, now=1000 + 3599, purpose=tickets.WEBSOCKET) == ("alice", "password~s")
    assert tickets.check(KEY, ticket, now=1000 + 2 * 3600, purpose=tickets.WEBSOCKET) is None
    assert tickets.check(KEY, ticket, now=1000) is None
    events = tickets.issue(KEY, "alice", "password", now=1000)
    assert tickets.check(KEY, events, now=1000, purpose=tickets.WEBSOCKET) is None


def test_a_ticket_of_another_key_is_refused() -> None:
    assert tickets.check(b"other" * 8, tickets.issue(KEY, "alice", "x")) is None


@given(st.integers(0, 200), st.sampled_from(string.ascii_letters + string.digits + ".-_"))
def test_any_changed_character_makes_a_ticket_worthless(position: int, other: str) -> None:
    ticket = tickets.issue(KEY, "alice", "x", now=5)
    position %= len(ticket)
    changed = ticket[:position] + other + ticket[position + 1 :]
    assert (tickets.check(KEY, changed, now=6) is None) == (changed != ticket)


@given(st.text())
def test_no_text_is_a_ticket_by_chance(text: str) -> None:
    assert tickets.check(KEY, text) is None
