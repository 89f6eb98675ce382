"""Searches: what they find, with all, some or nothing indexed; upstream's part; frozen answers (mail-rules 37)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import gevent.event
import pytest
from search_rig import NEWEST, T0, Mail, Rig

from jmapplug.capabilities.mail import search
from jmapplug.errors import UpstreamError


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.close()


def mails() -> list[Mail]:
    return [
        Mail(
            "Lunch on friday", from_=("Alice Sender", "alice@example.com"), body="Shall we eat pizza?", received=T0 + 1
        ),
        Mail("Minutes", to=("Carol", "carol@work.example"), body="The pizza budget is gone", received=T0 + 2),
        Mail("Réunion", cc=("Dörte", "doerte@example.net"), body="Grüße", received=T0 + 3, mailboxes=("archive",)),
        Mail("Secret", bcc=("Eve", "eve@hidden.example"), body="日本語のテキスト", received=T0 + 4),
    ]


SEARCHES: list[tuple[dict[str, Any], list[str]]] = [
    ({"from": "alice"}, ["Lunch on friday"]),
    ({"from": "Sender"}, ["Lunch on friday"]),
    ({"from": "alice@example.com"}, ["Lunch on friday"]),
    ({"from": "example.com"}, ["Lunch on friday"]),
    ({"from": "pizza"}, []),
    ({"to": "carol"}, ["Minutes"]),
    ({"cc": "dorte"}, ["Réunion"]),
    ({"cc": "DÖRTE"}, ["Réunion"]),
    ({"bcc": "hidden"}, ["Secret"]),
    ({"subject": "reunion"}, ["Réunion"]),
    ({"subject": '"on friday"'}, ["Lunch on friday"]),
    ({"subject": '"friday on"'}, []),
    ({"subject": "friday lunch"}, ["Lunch on friday"]),
    ({"subject": "lun*"}, ["Lunch on friday"]),
    ({"subject": "lun"}, []),
    ({"body": "pizza"}, ["Minutes", "Lunch on friday"]),
    ({"body": "lunch"}, []),
    ({"body": "日本"}, ["Secret"]),
    ({"body": "grüße"}, ["Réunion"]),
    ({"text": "pizza"}, ["Minutes", "Lunch on friday"]),
    ({"text": "pizza lunch"}, ["Lunch on friday"]),
    ({"text": "carol budget"}, ["Minutes"]),
    ({"text": "doerte@example.net"}, ["Réunion"]),
    ({"text": "*"}, ["Secret", "Réunion", "Minutes", "Lunch on friday"]),
    ({"text": ""}, ["Secret", "Réunion", "Minutes", "Lunch on friday"]),
    ({"inMailbox": "inbox", "text": "pizza", "from": "alice"}, ["Lunch on friday"]),
    ({"inMailbox": "archive", "text": "pizza"}, []),
    ({"operator": "NOT", "conditions": [{"text": "pizza"}]}, ["Secret", "Réunion"]),
    ({"operator": "OR", "conditions": [{"body": "budget"}, {"subject": "secret"}]}, ["Secret", "Minutes"]),
    (
        {"operator": "AND", "conditions": [{"body": "pizza"}, {"operator": "NOT", "conditions": [{"from": "alice"}]}]},
        ["Minutes"],
    ),
    ({"header": ["Subject"]}, ["Secret", "Réunion", "Minutes", "Lunch on friday"]),
    ({"header": ["Cc"]}, ["Réunion"]),
    ({"header": ["subject", "FRIDAY"]}, ["Lunch on friday"]),
    ({"header": ["Message-ID", "<m2@example.org>"]}, ["Minutes"]),
]


def named(rig: Rig, tree: dict[str, Any]) -> dict[str, Any]:
    return {name: rig.box(value) if name == "inMailbox" else value for name, value in tree.items()}


@pytest.mark.parametrize("indexed", ["all", "none", "half"])
def test_searches_mean_the_same_however_much_is_indexed(rig: Rig, indexed: str) -> None:
    first, *rest = mails()
    rig.add(first, *rest, indexed=indexed == "all")
    for tree, subjects in SEARCHES:
        if indexed != "all":
            rig.store.cache.write(lambda txn: txn.execute("DELETE FROM fts"))
            rig.store.cache.write(lambda txn: txn.execute("UPDATE email SET indexed = 0"))
        if indexed == "half":
            from jmapplug.capabilities.mail.index import index_emails

            index_emails(rig.account, [one.eid for one in rig.mails[::2]])
        search._memories.clear()
        assert rig.subjects(named(rig, tree), NEWEST) == subjects, tree


def test_a_search_over_an_indexed_account_asks_upstream_nothing(rig: Rig) -> None:
    rig.add(*mails())
    rig.source.calls.clear()
    rig.query({"text": "pizza"})
    assert rig.source.calls == []


def test_words_in_headers_need_no_upstream_before_they_are_indexed(rig: Rig) -> None:
    rig.add(*mails(), indexed=False)
    rig.source.fail_at = 1
    assert rig.subjects({"from": "alice"}) == ["Lunch on friday"]
    assert rig.source.calls == []


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 8])
def test_headers_are_looked_at_in_chunks_without_losing_one(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(search, "HEADER_CHUNK", chunk)
    names = ("alice", "bob", "Álice")
    rig.add(*(Mail(from_=(names[n % 3], "x@example.org"), received=T0 + n // 2) for n in range(7)), indexed=False)
    assert len(rig.ids({"from": "alice"})) == 5
    assert len(rig.ids({"from": "bob"})) == 2


def test_upstream_is_asked_for_unindexed_messages_only(rig: Rig) -> None:
    rig.add(*(Mail(body="pizza", received=T0 + n) for n in range(5)))
    [new] = rig.add(Mail(body="pizza too", received=T0 + 9), indexed=False)
    asked: list[Any] = []
    real = rig.source.search
    rig.source.search = lambda key, term, uids=None: (asked.append((key, uids)), real(key, term, uids))[1]  # type: ignore[method-assign]
    assert len(rig.ids({"body": "pizza"})) == 6
    assert asked == [(b"inbox", [rig.mails[-1].uids["inbox"]])]
    assert rig.store.cache.value("SELECT indexed FROM email WHERE id = ?", (new,)) == 1


def test_only_the_mailbox_asked_for_is_searched_upstream(rig: Rig) -> None:
    rig.add(Mail(body="pizza", mailboxes=("archive",)), Mail(body="pizza"), indexed=False)
    rig.query({"inMailbox": rig.box("archive"), "body": "pizza"})
    assert {what[0] for name, what in rig.source.calls if name == "search"} == {b"archive"}


def test_what_upstream_calls_a_hit_is_judged_by_the_local_rules(rig: Rig) -> None:
    rig.add(Mail("one", body="the pizzas"), Mail("two", body="the pizza"), indexed=False)
    assert rig.subjects({"body": "pizza"}) == ["two"]


@pytest.mark.parametrize("failing", ["search", "texts"])
def test_upstream_away_gives_the_local_answer_with_a_state_that_will_not_match(rig: Rig, failing: str) -> None:
    rig.add(Mail("pizza in the subject", body="x"), Mail("no", body="pizza"), indexed=False)

    def fault(name: str) -> None:
        if name == failing:
            raise UpstreamError("away")

    rig.source.fault = fault
    first, second = rig.query({"text": "pizza"}), rig.query({"text": "pizza"})
    assert len(first["ids"]) == 1
    assert first["queryState"] != second["queryState"]
    rig.source.fault = None
    assert len(rig.ids({"text": "pizza"})) == 2


def test_a_slow_upstream_is_not_waited_for_beyond_the_deadline(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "DEADLINE", 0.01)
    rig.add(Mail("pizza in the subject", body="x"), Mail("no", body="pizza"), indexed=False)
    gate, searched = gevent.event.Event(), []

    def before(name: str) -> None:
        if name == "search":
            searched.append(name)
            gate.wait()

    rig.source.before = before
    first = rig.query({"text": "pizza"})
    assert len(first["ids"]) == 1
    assert rig.query({"text": "pizza"})["queryState"] != first["queryState"]
    # The two have waited for one and the same search, and what it finds late serves the next.
    [job] = search.memory(rig.store).jobs.values()
    gate.set()
    job.done.wait()
    assert searched == ["search"]
    assert len(rig.ids({"text": "pizza"})) == 2


def test_a_search_is_frozen_for_paging_while_mail_comes_and_goes(rig: Rig) -> None:
    rig.add(*(Mail(f"pizza {n}", received=T0 + n) for n in range(6)))
    first = rig.query({"text": "pizza"}, NEWEST, limit=3)
    [new] = rig.add(Mail("pizza new", received=T0 + 99))
    rig.destroy(rig.mails[0])
    second = rig.query({"text": "pizza"}, NEWEST, position=3, limit=3)
    assert second["queryState"] == first["queryState"]
    assert (second["total"], len({*first["ids"], *second["ids"]})) == (6, 6)
    again = rig.query({"text": "pizza"}, NEWEST, limit=3)
    assert again["queryState"] != first["queryState"]
    assert (again["ids"][0], again["total"]) == (new, 6)


def test_an_incomplete_answer_serves_its_own_later_pages(rig: Rig) -> None:
    rig.add(*(Mail(f"pizza {n}", received=T0 + n) for n in range(6)), indexed=False)
    rig.source.fail_at = 1
    first = rig.query({"text": "pizza"}, NEWEST, limit=3)
    second = rig.query({"text": "pizza"}, NEWEST, position=3, limit=3)
    assert second["queryState"] == first["queryState"]
    assert len({*first["ids"], *second["ids"]}) == 6
    assert len(rig.source.calls) == 1


def test_a_frozen_answer_lasts_five_minutes(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.add(Mail("pizza"), Mail("pizza"))
    first = rig.query({"text": "pizza"}, limit=1)
    rig.add(Mail("pizza"))
    clock = search.time.monotonic
    monkeypatch.setattr(search.time, "monotonic", lambda: clock() + search.FROZEN_FOR + 1)
    later = rig.query({"text": "pizza"}, position=1)
    assert later["queryState"] != first["queryState"]
    assert later["total"] == 3


def test_the_query_state_moves_while_the_index_grows(rig: Rig) -> None:
    rig.add(Mail("pizza"), indexed=False)
    first = rig.query({"subject": "pizza"})["queryState"]
    rig.index()
    search._memories.clear()
    assert rig.query({"subject": "pizza"})["queryState"] != first


@pytest.mark.parametrize("collapse", [False, True])
def test_an_answer_too_long_to_be_kept_has_the_same_pages(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, collapse: bool
) -> None:
    rig.add(*(Mail(f"pizza {n}", received=T0 + n // 2, thread=1 + n % 9) for n in range(30)))
    whole = rig.expected({"subject": "pizza"}, collapse=collapse)
    monkeypatch.setattr(search, "FROZEN_MAX", 7)
    for position in range(0, 30, 4):
        reply = rig.query({"subject": "pizza"}, NEWEST, position=position, limit=4, collapseThreads=collapse)
        assert reply["ids"] == whole[position : position + 4]
        assert reply["total"] == len(whole)


def test_an_anchor_is_found_in_a_search(rig: Rig) -> None:
    ids = rig.add(*(Mail(f"pizza {n}", received=T0 + n) for n in range(5)))
    reply = rig.query({"text": "pizza"}, NEWEST, anchor=ids[2], anchorOffset=-1, limit=2)
    assert (reply["position"], reply["ids"]) == (1, [ids[3], ids[2]])


# --- header conditions ----------------------------------------


def test_any_header_field_is_found_through_upstream_and_judged_by_its_decoded_text(rig: Rig) -> None:
    rig.add(
        Mail("a", extra=("X-Tag: blue sky",)),
        Mail("b", extra=("X-Tag: =?utf-8?q?gr=C3=BCn?=",)),
        Mail("c", mailboxes=("archive",), extra=("X-Tag: Blue",)),
        Mail("d"),
    )
    assert sorted(rig.subjects({"header": ["x-tag", "blue"]})) == ["a", "c"]
    assert rig.subjects({"header": ["X-Tag", "sky blue"]}) == ["a"]
    assert sorted(rig.subjects({"header": ["X-Tag"]})) == ["a", "b", "c"]
    assert rig.subjects({"inMailbox": rig.box("archive"), "header": ["X-Tag"]}) == ["c"]
    assert rig.query({"header": ["X-Tag"]})["canCalculateChanges"] is False


def test_a_header_condition_under_not_or_and_or_is_answered(rig: Rig) -> None:
    rig.add(Mail("a", extra=("X-Tag: blue",)), Mail("b"))
    tag = {"header": ["X-Tag"]}
    assert rig.subjects({"operator": "NOT", "conditions": [tag]}) == ["b"]
    assert len(rig.ids({"operator": "OR", "conditions": [tag, {"subject": "b"}]})) == 2


HOSTILE = ['"', "'", "*", "a:b", "{a}", "NEAR(", "NOT", "\x00", "\ud800", "%", "'; DROP TABLE email; --", "a" * 5000]


@pytest.mark.parametrize("field", ["text", "from", "subject", "body", "header"])
def test_hostile_text_is_answered_and_changes_nothing(rig: Rig, field: str) -> None:
    rig.add(Mail("plain"))
    rig.add(Mail("new"), indexed=False)
    for text in HOSTILE:
        if field == "header" and "\ud800" in text:
            continue
        rig.query({field: ["Subject", text] if field == "header" else text})
    assert len(rig.ids()) == 2
