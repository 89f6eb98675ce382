"""A folder that LIST leaves out is no folder that is gone: which connection is believed, and what it costs."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import pytest
from jmapplug_imap import listing_trust

from jmapplug.errors import UpstreamError

Upstream = Any
DEADLINE = 60.0


@pytest.fixture
def upstream(dovecot: Any, open_upstream: Any) -> Upstream:
    return open_upstream(dovecot, proxied=True)


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders changed long ago."""
    monkeypatch.setattr(listing_trust, "SETTLES", 0.0)


def names(found: Iterable[Any]) -> set[str]:
    return {"/".join(folder.path) for folder in found}


@pytest.mark.parametrize("layout", ["dovecot", "dovecot_maildir"])
def test_what_is_made_right_after_a_rename_is_listed(
    layout: str, open_upstream: Any, request: pytest.FixtureRequest
) -> None:
    """Dovecot tells no connection of it that has listed in between, however often that one asks."""
    place = {} if layout == "dovecot" else {"separator": ".", "prefix": "INBOX."}
    upstream = open_upstream(request.getfixturevalue(layout), **place)
    old, new, made = (f'"{upstream.prefix}{name}"' for name in ("old", "new", "made"))
    upstream.create("old")
    source = upstream.source()
    assert "old" in names(source.folders())
    upstream.command("RENAME", old, new)
    assert "new" in names(source.folders())
    upstream.command("CREATE", made)
    assert {"new", "made"} <= names(source.folders())


def test_a_row_that_is_withheld_destroys_nothing(upstream: Upstream, settled: None) -> None:
    upstream.create("Work")
    source = upstream.source()
    before = source.folders()
    connections = upstream.through.connections
    upstream.through.swallow = [r'^\* LIST .* "?Work']
    assert source.folders() == before and not upstream.through.swallow
    assert upstream.through.connections == connections + 1
    source.folders()
    assert upstream.through.connections == connections + 1


def test_a_short_listing_that_cannot_be_confirmed_is_an_error(upstream: Upstream, settled: None) -> None:
    upstream.create("Work")
    source = upstream.source()
    before = source.folders()
    upstream.through.swallow = [r'^\* LIST .* "?Work']
    upstream.through.refuse = [("AUTHENTICATE|LOGIN", "NO [UNAVAILABLE] not now")]
    with pytest.raises(UpstreamError):
        source.folders()
    upstream.through.refuse = []
    source._access.pool._first.succeeded()
    assert source.folders() == before


def test_a_folder_that_was_made_anew_is_confirmed(upstream: Upstream, settled: None) -> None:
    work = upstream.create("Work")
    source = upstream.source()
    (before,) = [each for each in source.folders() if each.key == work]
    upstream.delete(work)
    upstream.create("Work")
    connections = upstream.through.connections
    (after,) = [each for each in source.folders() if each.key == work]
    assert after.uidvalidity != before.uidvalidity
    assert upstream.through.connections == connections + 1


@pytest.mark.parametrize("left", [True, False])
def test_while_folders_change_each_look_is_on_a_new_connection_and_one_more_after_that(
    upstream: Upstream, left: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing_trust, "SETTLES", 600.0)
    work = upstream.create("Work")
    source = upstream.source()
    source.folders()
    source.folders()
    before = upstream.through.connections
    assert before == 1
    if left:
        upstream.delete(work)
    else:
        upstream.create("More")
    found = names(source.folders())
    assert ("Work" in found, "More" in found) == (not left, not left)
    assert upstream.through.connections == before + left  # what has left is confirmed at once
    source.folders()
    assert upstream.through.connections == before + left + 1
    monkeypatch.setattr(source._access, "unsettled_until", time.monotonic())
    for _ in range(3):
        source.folders()
    assert upstream.through.connections == before + left + 2


def test_many_changes_are_not_as_many_log_ins(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing_trust, "SETTLES", 600.0)
    monkeypatch.setattr(listing_trust, "MINUTE", 600.0)
    source = upstream.source()
    for number in range(listing_trust.RENEWALS * 2):
        upstream.create(f"Box {number}")
        assert f"Box {number}" in names(source.folders())
    assert upstream.through.connections == 1 + listing_trust.RENEWALS
    source._access.unsettled_until = time.monotonic()
    source.folders()
    assert upstream.through.connections == 2 + listing_trust.RENEWALS


def test_no_connection_lists_for_ever(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    source = upstream.source()
    source.folders()
    before = upstream.through.connections
    source.folders()
    assert upstream.through.connections == before
    monkeypatch.setattr(listing_trust, "LISTS_FOR", 0.0)
    source.folders()
    assert upstream.through.connections == before + 1


@pytest.mark.parametrize("hide", [set(), {"NOTIFY"}])
def test_a_watch_asks_for_one_look_more_after_folders_have_changed(
    upstream: Upstream, hide: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing_trust, "SETTLES", 0.3)
    upstream.through.hide = hide
    work = upstream.create("Work")
    source = upstream.source()
    source.folders()
    upstream.delete(work)
    watch = source.watch(b"INBOX")
    assert watch is not None
    source.folders()
    assert watch.wait(DEADLINE) == frozenset()
    source.folders()
    assert watch.wait(0.2) is None
