"""Email/queryChanges: a client's list, spliced as told, is the new list (RFC 8620 §5.6, mail-rules 11)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from search_rig import NEWEST, T0, Mail, Rig, splice
from test_email_query import varied

from jmapplug.jmap.errors import MethodError

KNOWN = 15
FILTERS: list[Any] = [
    None,
    {"inMailbox": "inbox"},
    {"inMailbox": "inbox", "notKeyword": "$seen"},
    {"hasAttachment": True},
    {"operator": "NOT", "conditions": [{"inMailbox": "trash"}]},
    {"someInThreadHaveKeyword": "$flagged"},
    {"inMailbox": "inbox", "allInThreadHaveKeyword": "$seen"},
]
SORTS: list[Any] = [
    NEWEST,
    [{"property": "subject"}, {"property": "receivedAt"}],
    [{"property": "hasKeyword", "keyword": "$flagged", "isAscending": False}, *NEWEST],
    [{"property": "someInThreadHaveKeyword", "keyword": "$flagged"}, *NEWEST],
]


def named(rig: Rig, tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: rig.box(value) if key == "inMailbox" else named(rig, value) for key, value in tree.items()}
    return [named(rig, each) for each in tree] if isinstance(tree, list) else tree


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    rig.add(*varied(20))
    yield rig
    rig.close()


def mutate(rig: Rig, data: st.DataObject, gone: list[Mail]) -> None:
    kind = data.draw(st.sampled_from(["add", "keywords", "move", "destroy", "revive"]))
    one = data.draw(st.sampled_from(rig.mails))
    if kind == "add":
        rig.add(Mail(received=T0 + data.draw(st.integers(0, 12)), thread=data.draw(st.integers(1, 9))), indexed=False)
    elif kind == "keywords":
        rig.change(one, keywords=data.draw(st.sets(st.sampled_from(["$seen", "$flagged"])).map(frozenset)))
    elif kind == "move":
        rig.change(one, mailboxes=data.draw(st.sampled_from([("inbox",), ("trash",), ("inbox", "archive")])))
    elif kind == "revive" and gone:
        rig.revive(gone.pop())
    elif len(rig.mails) > 3:
        rig.destroy(one)
        gone.append(one)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_splicing_the_changes_gives_the_new_list(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    rig = Rig(tmp_path_factory.mktemp("changes"))
    rig.add(*varied(KNOWN), indexed=False)
    queries = [(f, s, c) for f in FILTERS for s in SORTS for c in (False, True)]
    before = [rig.query(named(rig, f), s, collapseThreads=c) for f, s, c in queries]
    gone: list[Mail] = []
    for _ in range(data.draw(st.integers(1, 6))):
        mutate(rig, data, gone)
    for (filter_, sort, collapse), old in zip(queries, before, strict=True):
        args = {"filter": named(rig, filter_), "sort": sort, "collapseThreads": collapse, "calculateTotal": True}
        delta = rig.call("Email/queryChanges", sinceQueryState=old["queryState"], **args)
        now = rig.expected(args["filter"], sort, collapse=collapse)
        assert splice(old["ids"], delta) == now, (filter_, sort, collapse)
        assert delta["total"] == len(now)
        assert delta["newQueryState"] == rig.query(args["filter"], sort, collapseThreads=collapse)["queryState"]
    rig.close()


def test_nothing_happened_means_no_changes(rig: Rig) -> None:
    state = rig.query()["queryState"]
    delta = rig.call("Email/queryChanges", sinceQueryState=state)
    assert (delta["removed"], delta["added"], delta["newQueryState"]) == ([], [], state)


def test_new_mail_removes_nothing_from_a_plain_list(rig: Rig) -> None:
    state = rig.query()["queryState"]
    [new] = rig.add(Mail(received=T0 + 99))
    delta = rig.call("Email/queryChanges", sinceQueryState=state)
    assert (delta["removed"], delta["added"]) == ([], [{"id": new, "index": 0}])


def test_more_changes_than_max_changes_are_too_many(rig: Rig) -> None:
    state = rig.query()["queryState"]
    rig.add(Mail(), Mail(), Mail())
    with pytest.raises(MethodError) as caught:
        rig.call("Email/queryChanges", sinceQueryState=state, maxChanges=2)
    assert caught.value.type == "tooManyChanges"
    assert len(rig.call("Email/queryChanges", sinceQueryState=state, maxChanges=3)["added"]) == 3


def test_changes_behind_the_last_known_id_are_left_out_of_an_immutable_list_only(rig: Rig) -> None:
    reply = rig.query(None, NEWEST, limit=5)
    mine = {"sinceQueryState": reply["queryState"], "upToId": reply["ids"][-1], "sort": NEWEST}
    old, new = rig.add(Mail(received=T0 - 50), Mail(received=T0 + 50))
    added = rig.call("Email/queryChanges", **mine)["added"]
    assert [item["id"] for item in added] == [new]
    mutable = {"operator": "OR", "conditions": [{"hasKeyword": "x"}, {"notKeyword": "x"}]}
    added = rig.call("Email/queryChanges", filter=mutable, **mine)["added"]
    assert [item["id"] for item in added] == [new, old]


@pytest.mark.parametrize("field", ["text", "from", "to", "cc", "bcc", "subject", "body"])
def test_a_search_says_that_it_cannot_calculate_changes(rig: Rig, field: str) -> None:
    reply = rig.query({field: "word1"})
    assert reply["canCalculateChanges"] is False
    with pytest.raises(MethodError) as caught:
        rig.call("Email/queryChanges", filter={field: "word1"}, sinceQueryState=reply["queryState"])
    assert caught.value.type == "cannotCalculateChanges"


@pytest.mark.parametrize("state", ["", "x", "foreign-1", "0", "-1", "\0"])
def test_a_foreign_query_state_is_refused(rig: Rig, state: str) -> None:
    with pytest.raises(MethodError) as caught:
        rig.call("Email/queryChanges", sinceQueryState=state)
    assert caught.value.type == "cannotCalculateChanges"


def test_a_query_state_of_the_future_is_refused(rig: Rig) -> None:
    with pytest.raises(MethodError) as caught:
        rig.call("Email/queryChanges", sinceQueryState=f"{rig.store.epoch}-{rig.store.modseq + 1}")
    assert caught.value.type == "cannotCalculateChanges"
