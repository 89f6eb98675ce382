"""What real clients send to Email/query, client by client: as it was seen, or as the client's code makes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from search_rig import T0, Mail, Rig, utc

from jmapplug.capabilities.mail import email_query, snippet
from jmapplug.jmap import dispatch, request
from jmapplug.jmap.methods import Limits, Method

CORE, MAIL = "urn:ietf:params:jmap:core", "urn:ietf:params:jmap:mail"
METHODS = {
    "Email/query": Method("Email/query", email_query.query, MAIL),
    "Email/queryChanges": Method("Email/queryChanges", email_query.query_changes, MAIL),
    "SearchSnippet/get": Method("SearchSnippet/get", snippet.get, MAIL),
}
NEWEST = [{"property": "receivedAt", "isAscending": False}]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    rig.add(
        *(
            Mail(
                subject=f"{'Re: ' * (n % 2)}Invoice {n}" if n % 3 else f"Holiday {n}",
                body="see the invoices",
                keywords=frozenset({"$flagged"} if n % 4 == 0 else {"$seen"}),
                mailboxes=("inbox",) if n % 5 else ("archive",),
                received=T0 + n,
                size=1000 + n * 7 % 13,
                thread=1 + n % 6,
                attachment=n % 2 == 0,
            )
            for n in range(20)
        )
    )
    yield rig
    rig.close()


def post(rig: Rig, *calls: tuple[str, dict[str, Any]]) -> list[Any]:
    """The method responses to one Request, through the parser and the dispatcher."""
    invocations = [[name, {"accountId": "acc", **args}, str(n)] for n, (name, args) in enumerate(calls)]
    body = msgspec.json.encode({"using": [CORE, MAIL], "methodCalls": invocations})
    parsed = request.parse(body, {CORE, MAIL}, Limits())
    answer = dispatch.execute(parsed, METHODS, {"acc": rig.account}.get, Limits(), session_state="s")
    return list(msgspec.json.decode(answer)["methodResponses"])


def one(rig: Rig, **args: Any) -> dict[str, Any]:
    [[name, reply, _]] = post(rig, ("Email/query", args))
    assert name == "Email/query", reply
    return dict(reply)


def test_bulwark_asks_for_a_total_alone_with_limit_0(rig: Rig) -> None:
    reply = one(rig, filter={"hasKeyword": "$flagged"}, calculateTotal=True, limit=0)
    assert (reply["ids"], reply["total"]) == ([], 5)


def test_bulwark_sends_an_empty_filter(rig: Rig) -> None:
    reply = one(rig, filter={}, sort=NEWEST, position=0, limit=50, calculateTotal=True)
    assert (reply["ids"], reply["total"]) == (rig.expected(None), 20)


def test_bulwark_searches_with_a_star_at_the_word_s_end(rig: Rig) -> None:
    for text, hits in (("invoic*", 20), ("invoic", 0), ("holid*", 7)):
        reply = one(rig, filter={"text": text}, sort=NEWEST, position=0, limit=50, calculateTotal=True)
        assert (reply["total"], len(reply["ids"])) == (hits, hits)


def test_bulwark_pages_through_all_mailboxes_with_the_right_total(rig: Rig) -> None:
    whole = rig.expected({"hasAttachment": True})
    for position in (0, 4, 8, 12):
        reply = one(rig, filter={"hasAttachment": True}, sort=NEWEST, position=position, limit=4, calculateTotal=True)
        assert (reply["ids"], reply["total"]) == (whole[position : position + 4], 10)


def test_bulwark_lists_all_starred_mail_of_every_mailbox(rig: Rig) -> None:
    reply = one(rig, filter={"hasKeyword": "$flagged"}, sort=NEWEST, limit=50, calculateTotal=True)
    assert (reply["ids"], reply["total"]) == (rig.expected({"hasKeyword": "$flagged"}), 5)


def test_bulwark_combines_its_search_form_with_and(rig: Rig) -> None:
    parts = [{"text": "invoic*"}, {"after": utc(T0 + 3)}, {"before": utc(T0 + 15)}, {"hasAttachment": True}]
    tree = {"operator": "AND", "conditions": parts}
    reply = one(rig, filter=tree, sort=NEWEST, position=0, limit=50, calculateTotal=True)
    assert reply["ids"] == rig.expected({"operator": "AND", "conditions": parts[1:]})


def test_bulwark_sends_14_queries_in_one_request(rig: Rig) -> None:
    calls = [
        ("Email/query", {"filter": {"hasKeyword": f"tag{n}"}, "limit": 0, "calculateTotal": True}) for n in range(13)
    ]
    answers = post(rig, *calls, ("Email/query", {"filter": {"notKeyword": "$seen"}, "calculateTotal": True}))
    assert [name for name, _, _ in answers] == ["Email/query"] * 14
    assert [reply["total"] for _, reply, _ in answers] == [0] * 13 + [5]


def test_aerc_lists_a_whole_folder_without_a_limit(rig: Rig) -> None:
    sort = [{"property": "receivedAt", "isAscending": True}]
    inbox = {"inMailbox": rig.box("inbox")}
    reply = one(rig, filter=inbox, sort=sort)
    assert reply["ids"] == rig.expected(inbox, sort)
    assert "limit" not in reply and "total" not in reply


def test_aerc_puts_subject_and_mailbox_into_one_condition(rig: Rig) -> None:
    reply = one(rig, filter={"inMailbox": rig.box("inbox"), "subject": "holiday"})
    names = {mail.id: mail for mail in rig.mails}
    assert reply["ids"]
    assert all("Holiday" in names[id_].subject and "inbox" in names[id_].mailboxes for id_ in reply["ids"])


def test_meli_sends_a_null_collation_and_pages_of_500(rig: Rig) -> None:
    inbox = {"inMailbox": rig.box("inbox")}
    sort = [{"property": "receivedAt", "isAscending": False, "collation": None}]
    reply = one(rig, filter=inbox, sort=sort, position=0, limit=500, calculateTotal=True, collapseThreads=False)
    assert (reply["ids"], reply["total"]) == (rig.expected(inbox), 16)
    assert one(rig, filter=inbox, sort=sort, position=500, limit=500)["ids"] == []


def test_meli_sends_null_for_what_it_does_not_ask(rig: Rig) -> None:
    reply = one(rig, filter=None, sort=None, anchor=None, limit=None, collapseThreads=None, calculateTotal=None)
    assert reply["ids"] == rig.expected(None)


def test_jmapc_sorts_by_subject_size_and_from_and_collapses_threads(rig: Rig) -> None:
    for name in ("subject", "size", "from"):
        sort = [{"property": name, "isAscending": False}]
        reply = one(rig, sort=sort, collapseThreads=True, limit=5, calculateTotal=True)
        assert (reply["ids"], reply["total"]) == (rig.expected(None, sort, collapse=True)[:5], 6)


def test_jmapc_nests_not_and_or(rig: Rig) -> None:
    tree = {
        "operator": "OR",
        "conditions": [
            {"operator": "NOT", "conditions": [{"hasKeyword": "$seen"}]},
            {"operator": "AND", "conditions": [{"minSize": 1005}, {"notKeyword": "$flagged"}]},
        ],
    }
    assert one(rig, filter=tree)["ids"] == rig.expected(tree)


def test_jmap_jam_searches_a_subject(rig: Rig) -> None:
    assert (
        one(rig, filter={"subject": "Holiday"}, limit=2, sort=NEWEST)["ids"] == rig.expected({"subject": "holiday"})[:2]
    )


def test_jmaplib_goes_on_behind_an_anchor(rig: Rig) -> None:
    whole = rig.expected(None)
    reply = one(rig, sort=NEWEST, anchor=whole[4], anchorOffset=1, limit=5)
    assert (reply["position"], reply["ids"]) == (5, whole[5:10])


def test_tmail_shows_snippets_of_what_it_found(rig: Rig) -> None:
    tree = {"text": "holiday"}
    ids = one(rig, filter=tree, sort=NEWEST, limit=3)["ids"]
    [[name, reply, _]] = post(rig, ("SearchSnippet/get", {"filter": tree, "emailIds": ids}))
    assert name == "SearchSnippet/get"
    assert all("<mark>Holiday</mark>" in item["subject"] for item in reply["list"])


def test_ltt_rs_leaves_out_trash_and_follows_with_query_changes(rig: Rig) -> None:
    tree = {"inMailboxOtherThan": [rig.box("trash"), rig.box("archive")]}
    args = {"filter": tree, "sort": NEWEST, "collapseThreads": True}
    reply = one(rig, **args)
    assert reply["ids"] == rig.expected(tree, collapse=True)
    assert reply["canCalculateChanges"] is True
    [new] = rig.add(Mail(received=T0 + 100, thread=2))
    answer = post(rig, ("Email/queryChanges", {**args, "sinceQueryState": reply["queryState"]}))[0][1]
    assert answer["added"][0] == {"id": new, "index": 0}


def test_mujmap_asks_for_everything_outside_some_mailboxes(rig: Rig) -> None:
    tree = {"inMailboxOtherThan": [rig.box("trash")]}
    reply = one(rig, filter=tree, calculateTotal=True, position=5, limit=10)
    assert (reply["ids"], reply["total"]) == (rig.expected(tree)[5:15], 20)
