"""Previews of a page: waited for, found in few round trips, never invented (mail-rules 14)."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import gevent.event
import pytest
from email_rig import Rig, lines

from jmapplug.capabilities.mail import previews
from jmapplug.capabilities.mail.email_changes import email_changes
from jmapplug.capabilities.mail.email_get import email_get
from jmapplug.capabilities.mail.store import emails

PAGE = ["id", "subject", "preview"]


def plain(text: str) -> bytes:
    return lines(f"Subject: {text}", "Content-Type: text/plain; charset=utf-8", "", text, "")


def html(text: str) -> bytes:
    coded = base64.b64encode(f"<style>x</style><p>{text}".encode()).decode()
    return lines(
        "Content-Type: multipart/alternative; boundary=a",
        "",
        "--a",
        "Content-Type: text/plain",
        "",
        "  ",
        "--a",
        "Content-Type: text/html; charset=utf-8",
        "Content-Transfer-Encoding: base64",
        "",
        coded,
        "--a--",
        "",
    )


PICTURE = lines("Content-Type: image/png", "Content-Transfer-Encoding: base64", "", "AAAA", "")


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.close()


def page(rig: Rig, ids: list[str]) -> list[Any]:
    """The previews as answered; None where the member is absent."""
    return [email.get("preview") for email in rig.call(email_get, ids=ids, properties=PAGE)["list"]]


def stored(rig: Rig) -> list[Any]:
    return [text for (text,) in rig.store.cache.rows("SELECT preview FROM email ORDER BY eid")]


def test_missing_previews_cost_one_fetch_per_folder_and_section(rig: Rig) -> None:
    keys = [[b"INBOX"], [b"Archive"], [b"INBOX", b"Archive"]]
    ids = [rig.add(plain(f"text {n}"), keys=keys[n % 3]) for n in range(30)]
    assert page(rig, ids) == [f"text {n}" for n in range(30)]
    assert sorted((name, what[:2]) for name, what in rig.source.calls) == [
        ("texts", (b"Archive", "1")),
        ("texts", (b"INBOX", "1")),
    ]
    rig.source.calls.clear()
    assert page(rig, ids) == [f"text {n}" for n in range(30)]
    assert rig.source.calls == []


def test_an_empty_plain_text_gives_way_to_the_html(rig: Rig) -> None:
    ids = [rig.add(html("schöne Grüße")), rig.add(plain("plain"))]
    assert page(rig, ids) == ["schöne Grüße", "plain"]
    assert sorted(what[1] for _, what in rig.source.calls) == ["1", "2"]


def test_a_message_without_text_has_an_empty_preview_without_a_round_trip(rig: Rig) -> None:
    assert page(rig, [rig.add(PICTURE)]) == [""]
    assert rig.source.calls == [] and stored(rig) == [""]


def test_a_server_that_makes_previews_is_asked_once_per_folder(tmp_path: Path) -> None:
    rig = Rig(tmp_path, previews=True)
    ids = [rig.add(plain(f"text {n}")) for n in range(5)]
    for one in rig.server.folders[b"INBOX"].messages.values():
        one.preview = f"made {one.uid}"
    assert page(rig, ids) == [f"made {n}" for n in range(1, 6)]
    assert rig.source.names() == ["previews"]
    rig.close()


def test_a_message_that_we_parse_ourselves_gets_its_preview_from_the_whole(rig: Rig) -> None:
    assert page(rig, [rig.add(html("whole"), structure="none"), rig.add(plain("own"), structure="own")]) == [
        "whole",
        "own",
    ]
    assert rig.source.names() == ["raw", "raw"]


def test_the_next_copy_is_asked_where_the_first_folder_fails(rig: Rig) -> None:
    email_id = rig.add(plain("copy"), keys=[b"INBOX", b"Archive"])
    del rig.server.folders[b"INBOX"]
    assert page(rig, [email_id]) == ["copy"]


def test_an_upstream_that_is_down_leaves_previews_out_and_the_page_is_served(rig: Rig) -> None:
    known, unknown = rig.add(plain("x"), preview="known"), rig.add(plain("unknown"))
    rig.source.down = True
    reply = rig.call(email_get, ids=[known, unknown], properties=PAGE)
    assert reply["list"] == [
        {"id": known, "subject": "x", "preview": "known"},
        {"id": unknown, "subject": "unknown"},
    ]
    assert stored(rig) == ["known", None]


def test_a_late_preview_is_stored_and_told_as_a_change(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(previews, "DEADLINE", 0.01)
    email_id = rig.add(plain("late"))
    rig.source.gate = gevent.event.Event()
    state = rig.call(email_get, ids=[], properties=PAGE)["state"]
    assert page(rig, [email_id]) == [None] and stored(rig) == [None]
    job = previews._under_way[rig.store][1]
    rig.source.gate.set()
    job.join()
    assert page(rig, [email_id]) == ["late"]
    reply = rig.call(email_changes, sinceState=state)
    assert reply["updated"] == [email_id] and reply["newState"] != state
    assert rig.source.names() == ["texts"]


def test_a_preview_in_time_is_no_change(rig: Rig) -> None:
    email_id = rig.add(plain("soon"))
    state = rig.store.state("Email")
    assert page(rig, [email_id]) == ["soon"]
    assert rig.store.state("Email") == state


def test_two_pages_at_once_fetch_once(rig: Rig) -> None:
    ids = [rig.add(plain(f"t{n}")) for n in range(3)]
    rig.source.gate = gevent.event.Event()
    jobs = [gevent.spawn(page, rig, ids) for _ in range(3)]
    gevent.idle()
    rig.source.gate.set()
    assert [job.get() for job in jobs] == [["t0", "t1", "t2"]] * 3
    assert rig.source.names() == ["texts"]


def test_a_preview_is_at_most_256_characters(rig: Rig) -> None:
    (text,) = page(rig, [rig.add(plain("word " * 500))])
    assert 200 < len(text) <= 256


def test_a_text_that_the_server_cannot_give_comes_from_the_whole(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    email_id = rig.add(plain("broken server"))
    monkeypatch.setattr(rig.source, "texts", lambda *args, **more: {})
    assert page(rig, [email_id]) == ["broken server"]


def test_a_message_that_is_gone_upstream_has_no_preview_yet(rig: Rig) -> None:
    email_id = rig.add(plain("gone"))
    rig.server.expunge(b"INBOX", 1)
    assert page(rig, [email_id]) == [None] and stored(rig) == [None]


def test_a_preview_that_is_known_stays(rig: Rig) -> None:
    rig.add(plain("x"), preview="first")
    emails.save_previews(rig.store, {1: "second"})
    assert stored(rig) == ["first"]
