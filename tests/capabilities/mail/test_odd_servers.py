"""Servers that refuse a folder, tell no UIDNEXT, let UIDs jump, or lose a message while we look (wishes 13, 20, 21)."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sync_rig import Rig

from jmapplug.backends import Features, Folder, Item
from jmapplug.capabilities.mail.store import emails as emails_sql
from jmapplug.capabilities.mail.store import mailboxes as boxes_sql
from jmapplug.errors import FolderError, UpstreamError
from jmapplug.mime.structure import Part
from jmapplug.testing.memory_source import MemoryServer


@pytest.fixture(params=[Features(id_scheme="x-guid", condstore=True, qresync=True), Features()], ids=["good", "bare"])
def rig(tmp_path: Path, request: pytest.FixtureRequest):
    made = Rig(tmp_path, MemoryServer(request.param, guid_per_message=bool(request.param.id_scheme)))
    made.server.create(b"Archive")
    made.server.create(b"Work")
    yield made
    made.close()


def refuse(rig: Rig, key: bytes, temporary: bool) -> None:
    def before(name: str) -> None:
        if name == "changes" and rig.source.calls[-1][1] == key:
            raise FolderError("not now", code="inuse" if temporary else "noperm", temporary=temporary)

    rig.source.fault = before


def test_a_folder_that_is_not_ours_to_read_does_not_keep_the_others_from_being_read(rig: Rig) -> None:
    rig.deliver("old")
    rig.sync()
    refuse(rig, b"Work", temporary=False)
    rig.deliver("hidden", b"Work")
    rig.deliver("news")
    rig.server.expunge(b"INBOX", 1)
    rig.sync()
    assert {one["subject"] for one in rig.emails().values()} == {"news"}
    assert rig.service.status()["refused"] == 1
    rig.source.fault = None
    rig.sync()
    rig.check()
    assert rig.service.status()["refused"] == 0


def test_while_a_folder_is_in_use_elsewhere_news_is_shown_and_nothing_goes_out_of_sight(rig: Rig) -> None:
    """Mail-rules 19: what left another folder may have gone to this one."""
    rig.deliver("moves", message_id="moves@x")
    rig.deliver("stays")
    rig.sync()
    ident = rig.email("moves")
    refuse(rig, b"Work", temporary=True)
    rig.server.move(b"INBOX", 1, b"Work")
    rig.deliver("news", b"Archive")
    with pytest.raises(UpstreamError, match="not now"):
        rig.service.sync()
    assert {one["subject"] for one in rig.emails().values()} == {"moves", "stays", "news"}
    rig.source.fault = None
    rig.sync()
    rig.check()
    if rig.source.features.id_scheme:  # else a message that another client moved is a new one
        assert rig.email("moves") == ident


def test_a_folder_in_use_elsewhere_holds_up_no_history_and_no_sync_point_of_the_others(rig: Rig) -> None:
    """Else a first sync would list everything anew at each pass, and show the newest of each folder for ever."""
    for number in range(60):
        rig.deliver(f"m{number}", b"Archive")
    refuse(rig, b"Work", temporary=True)
    with pytest.raises(FolderError):
        rig.service.sync()
    while rig.service.background():
        pass
    assert len(rig.emails()) == 60
    assert all(row.uidnext for row in boxes_sql.rows(rig.store) if row.key != b"Work")
    rig.source.fault = None
    rig.sync()
    rig.check()


def test_history_passes_over_a_folder_that_is_refused_by_then(rig: Rig) -> None:
    for number in range(60):
        rig.deliver(f"m{number}", b"Archive", received_at=1_000 + number)
        rig.deliver(f"w{number}", b"Work", received_at=2_000 + number)
    rig.service.sync()

    def before(name: str) -> None:
        if name == "details" and rig.source.calls[-1][1][0] == b"Work":
            raise FolderError("not now", code="inuse")

    rig.source.fault = before
    while rig.service.background():
        pass
    assert sum(one["subject"].startswith("m") for one in rig.emails().values()) == 60
    rig.source.fault = None
    rig.sync()
    rig.check()


@pytest.mark.parametrize("lasts", [False, True])
def test_a_folder_that_has_gone_begins_the_pass_anew_once(rig: Rig, lasts: bool) -> None:
    """It was renamed, and a message moved into it: a move all the same. Where it is listed for ever others are read."""
    rig.deliver("moves", message_id="moves@x")
    rig.sync()
    ident = rig.email("moves")
    rig.deliver("first", b"Work")

    def before(name: str) -> None:
        if name == "changes" and not lasts and b"Work" in rig.server.folders:
            rig.server.rename(b"Work", b"Job")
            rig.server.move(b"INBOX", 1, b"Job")
        if name == "changes" and rig.source.calls[-1][1] == b"Work":
            raise FolderError("no such mailbox", code="nonexistent", temporary=False)

    rig.source.fault = before
    rig.deliver("news", b"Archive")
    rig.service.sync()
    assert {"news", "moves"} <= {one["subject"] for one in rig.emails().values()}
    if rig.source.features.id_scheme or lasts:  # else a message that another client moved is a new one
        assert rig.email("moves") == ident
    rig.source.fault = None
    rig.sync()
    rig.check()


def test_a_server_that_tells_no_uidnext_gives_the_same_ids_after_a_lost_cache(rig: Rig) -> None:
    for at in range(3):
        rig.deliver(f"topic {at}", message_id=f"m{at}@x")
    status = rig.source._status
    silence(rig, status)
    rig.service.setup()
    rig.sync()
    before = {id_: one["subject"] for id_, one in rig.emails().items()}
    rig.reopen(lose_cache=True)
    silence(rig, rig.source._status)
    rig.service.setup()
    rig.sync()
    assert {id_: one["subject"] for id_, one in rig.emails().items()} == before


def silence(rig: Rig, status) -> None:
    def told(folder) -> Folder:
        return msgspec.structs.replace(status(folder), uidnext=None)

    rig.source._status = told  # type: ignore[method-assign]


def test_uids_may_jump_by_half_of_what_there_is(rig: Rig) -> None:
    """RFC 9051 §2.3.1.1: they need not be contiguous."""
    rig.deliver("low")
    rig.sync()
    rig.server.folders[b"INBOX"].uidnext = 2**31 + 7
    rig.deliver("high")
    rig.sync()
    rig.check()
    rig.server.folders[b"INBOX"].uidnext = 2**32 - 1
    rig.deliver("highest")
    rig.sync()
    rig.check()
    rig.server.set_flags(b"INBOX", 2**31 + 7, "\\Seen")
    rig.server.expunge(b"INBOX", 1)
    rig.sync()
    rig.check()
    assert {one["subject"] for one in rig.emails().values()} == {"high", "highest"}


def test_what_vanishes_between_the_listing_and_its_details_fails_nothing(rig: Rig) -> None:
    rig.sync()
    for at in range(4):
        rig.deliver(f"topic {at}")

    def before(name: str) -> None:
        if name == "details" and 2 in rig.server.folders[b"INBOX"].messages:
            rig.server.expunge(b"INBOX", 2)

    rig.source.before = before
    rig.sync()
    rig.source.before = None
    assert {one["subject"] for one in rig.emails().values()} == {"topic 0", "topic 2", "topic 3"}
    rig.sync()
    rig.check()


def test_a_message_that_vanishes_before_its_text_is_read_is_not_found_and_the_others_are(rig: Rig) -> None:
    for at in range(3):
        rig.deliver(f"topic {at}")
    rig.sync()
    ids = {one["subject"]: id_ for id_, one in rig.emails().items()}
    rig.server.expunge(b"INBOX", 2)
    rig.source.part = missing(rig.source.part)  # type: ignore[method-assign]
    rig.source.raw = missing(rig.source.raw)  # type: ignore[method-assign]
    got = rig.call("Email/get", ids=list(ids.values()), properties=["bodyValues"], fetchTextBodyValues=True)
    assert got["notFound"] == [ids["topic 1"]]
    assert {one["id"] for one in got["list"]} == {ids["topic 0"], ids["topic 2"]}


def missing(read):
    """As MailSource says: KeyError when the message is gone."""
    return lambda *args: read(*args)


@pytest.mark.parametrize("whole", [True, False])
def test_a_message_that_the_server_cannot_give_is_cut_from_the_whole_or_not_found_and_fails_no_other(
    rig: Rig, whole: bool
) -> None:
    """Wish 20."""
    for at in range(3):
        rig.deliver(f"topic {at}")
    rig.sync()
    ids = {one["subject"]: id_ for id_, one in rig.emails().items()}
    part = rig.source.part

    def silent(key: bytes, uid: int, section: str, target: Path) -> int:
        if uid == 2:
            raise UpstreamError("it does not come", code="unreadable", temporary=False)
        return part(key, uid, section, target)

    rig.source.part = silent  # type: ignore[method-assign]
    if not whole:
        raw = rig.source.raw
        rig.source.raw = lambda key, uid, target: silent(key, uid, "", target) if uid == 2 else raw(key, uid, target)  # type: ignore[method-assign]
    got = rig.call("Email/get", ids=list(ids.values()), properties=["bodyValues"], fetchTextBodyValues=True)
    assert got["notFound"] == ([] if whole else [ids["topic 1"]])
    assert len(got["list"]) + len(got["notFound"]) == 3


def test_a_message_with_neither_structure_nor_text_waits_and_the_others_are_shown(rig: Rig) -> None:
    """Wish 21."""
    for at in range(3):
        rig.deliver(f"topic {at}")
    detail, raw = rig.source._detail, rig.source.raw

    def unreadable(one):
        found = detail(one)
        return msgspec.structs.replace(found, structure=None) if one.uid == 2 else found

    def silent(key: bytes, uid: int, target: Path) -> int:
        raise UpstreamError("it does not come", code="unreadable", temporary=False)

    rig.source._detail, rig.source.raw = unreadable, silent  # type: ignore[method-assign]
    rig.sync()
    assert {one["subject"] for one in rig.emails().values()} == {"topic 0", "topic 2"}
    rig.source.raw = raw  # type: ignore[method-assign]
    rig.deliver("news")
    rig.sync()
    assert {one["subject"] for one in rig.emails().values()} == {"topic 0", "topic 1", "topic 2", "news"}


def test_a_message_that_cannot_be_compared_is_one_of_its_own_and_fails_no_other(tmp_path: Path) -> None:
    """Wish 21: without server ids, bodies of equal messages are compared."""
    rig = Rig(tmp_path, MemoryServer(Features(), guid_per_message=False))
    rig.server.create(b"Archive")
    rig.deliver("twin", message_id="twin@x")
    rig.sync()

    def fault(name: str) -> None:
        if name == "raw" and rig.source.calls[-1][1][0] == b"Archive":
            raise UpstreamError("the server cannot give it", code="unreadable", temporary=False)

    rig.source.fault = fault
    rig.deliver("twin", b"Archive", message_id="twin@x")
    rig.deliver("other", b"Archive")
    rig.sync()
    assert sorted(one["subject"] for one in rig.emails().values()) == ["other", "twin", "twin"]
    rig.close()


def test_a_structure_that_names_parts_that_are_not_there_gives_way_to_our_own_for_good(rig: Rig) -> None:
    """Wish 21: the server's word is checked when a part is wanted."""
    rig.deliver("odd", body="The text.\r\n")
    one = rig.server.folders[b"INBOX"].messages[1]
    html = Part("2", "text/html", charset="utf-8", size=99)
    one.structure = Part("", "multipart/mixed", parts=(Part("1", "text/calendar", size=5), html))
    rig.sync()
    one.structure = None
    ident = rig.email("odd")
    for _ in range(2):
        wanted = {"properties": ["bodyValues", "textBody", "attachments"], "fetchTextBodyValues": True}
        [got] = rig.call("Email/get", ids=[ident], fetchHTMLBodyValues=True, **wanted)["list"]
        [part] = got["textBody"]
        assert part["type"] == "text/plain" and got["attachments"] == []
        assert got["bodyValues"][part["partId"]]["value"] == "The text.\n"
        rig.reopen()
    content = emails_sql.contents(rig.store, [ident])[ident]
    assert content.structure is not None and content.structure.type == "text/plain"


# --- folders that are too large for one answer (wish 23)


@pytest.mark.parametrize("seed", range(4))
def test_a_folder_that_is_listed_window_by_window_is_like_any_other(rig: Rig, seed: int) -> None:
    dice = random.Random(seed)
    rig.source.window = 3
    for at in range(20):
        rig.deliver(f"topic {at}", message_id=f"m{at}@x")
    rig.sync()
    rig.check()
    for turn in range(12):
        inbox = rig.server.folders[b"INBOX"]
        for _ in range(dice.randrange(1, 6)):
            there = sorted(inbox.messages)
            uid = dice.choice(there)
            what = dice.randrange(5)
            if what == 0:
                rig.server.set_flags(b"INBOX", uid, *dice.sample(["\\Seen", "\\Flagged", "\\Deleted", "work"], 2))
            elif what == 1 and len(there) > 5:
                rig.server.expunge(b"INBOX", uid)
            elif what == 2 and len(there) > 5:
                rig.server.move(b"INBOX", uid, b"Work")
            else:
                inbox.uidnext += dice.choice([0, 0, 1, 1_000])
                for more in range(dice.choice([1, 1, 8])):
                    rig.deliver(f"turn {turn} {more}", message_id=f"{turn}.{more}.{dice.random()}@x")
        rig.sync()
        rig.check()
    assert any(name == "listed" for name, _ in rig.source.calls)


def test_what_goes_while_a_large_folder_is_listed_is_gone_and_what_comes_waits(rig: Rig) -> None:
    rig.source.window = 3
    for at in range(10):
        rig.deliver(f"topic {at}")

    def before(name: str) -> None:
        if name == "listed" and 2 in rig.server.folders[b"INBOX"].messages:
            rig.server.expunge(b"INBOX", 2)
            rig.deliver("late")

    rig.source.before = before
    rig.sync()
    rig.source.before = None
    shown = {one["subject"] for one in rig.emails().values()}
    assert shown == {f"topic {at}" for at in range(10) if at != 1}
    rig.sync()
    rig.check()


def test_what_cannot_be_read_in_a_large_folder_is_read_by_the_next_pass(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.source.window = 3
    for at in range(10):
        rig.deliver(f"topic {at}")
    listed = rig.source.listed

    def damaged(*asked: Any) -> tuple[Item, ...]:
        return tuple(item if item.uid != 10 else Item(10, None) for item in listed(*asked))

    monkeypatch.setattr(rig.source, "listed", damaged)
    rig.sync()
    assert len(rig.emails()) == 9
    monkeypatch.undo()
    rig.sync()
    rig.check()
    before = len(rig.source.calls)
    if rig.source.features.condstore:
        rig.sync()
        assert [name for name, _ in rig.source.calls[before:]] == ["folders"]


def test_the_newest_are_shown_before_a_large_folder_has_been_listed(rig: Rig) -> None:
    """Wish 23."""
    rig.source.window = 10
    for at in range(100):
        rig.deliver(f"topic {at}")
    rig.service.setup()
    assert len(rig.emails()) == 50
    assert not [name for name, _ in rig.source.calls if name in ("changes", "listed")]
    listed: list[int] = []
    rig.source.before = lambda name: listed.append(len(rig.emails())) if name == "listed" else None
    rig.service.sync()
    assert len(listed) == 10 and set(listed) == {50}
    assert next(call[1:3] for name, call in rig.source.calls if name == "listed") == (91, 100)


def test_a_large_folder_that_is_replaced_while_it_is_listed_is_begun_anew(rig: Rig) -> None:
    rig.source.window = 3
    for at in range(10):
        rig.deliver(f"topic {at}", message_id=f"m{at}@x")

    def before(name: str) -> None:
        if name == "listed" and rig.source.calls[-1][1][1] == 1:
            rig.server.folders[b"INBOX"].uidvalidity += 1

    rig.source.before = before
    with pytest.raises(UpstreamError):
        rig.sync()
    rig.source.before = None
    rig.sync()
    rig.check()
