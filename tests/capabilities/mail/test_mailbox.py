"""Mailbox/get, /changes, /query, /queryChanges (RFC 8621 §2)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sync_rig import Rig

from jmapplug.backends import Rights
from jmapplug.jmap.errors import MethodError


@pytest.fixture
def rig(tmp_path: Path):
    made = Rig(tmp_path)
    made.server.create(b"Trash", role="trash")
    for key in (b"Work", b"Work/Old", b"Work/New", b"alpha"):
        made.server.create(key)
    made.server.folders[b"alpha"].subscribed = False
    made.sync()
    yield made
    made.close()


def names(rig: Rig, reply: dict[str, Any]) -> list[str]:
    by_id = {box["id"]: box["name"] for box in rig.boxes().values()}
    return [by_id[id_] for id_ in reply["ids"]]


def query(rig: Rig, **args: Any) -> list[str]:
    return names(rig, rig.call("Mailbox/query", **args))


def test_get_answers_every_property(rig: Rig) -> None:
    """RFC 8621 §2."""
    rig.deliver("one")
    rig.sync()
    inbox = rig.box("Inbox")
    assert set(inbox) == {
        "id", "name", "parentId", "role", "sortOrder", "totalEmails", "unreadEmails", "totalThreads", "unreadThreads",
        "myRights", "isSubscribed",
    }  # fmt: skip
    assert (inbox["role"], inbox["parentId"], inbox["isSubscribed"], rig.counts("Inbox")) == (
        "inbox", None, True, (1, 1, 1, 1),
    )  # fmt: skip
    assert len(inbox["myRights"]) == 9
    assert rig.box("Old")["parentId"] == rig.box("Work")["id"]
    assert rig.box("alpha")["isSubscribed"] is False


def test_get_answers_the_asked_properties_and_what_it_did_not_find(rig: Rig) -> None:
    id_ = rig.box("Work")["id"]
    reply = rig.call("Mailbox/get", ids=[id_, "anope"], properties=["name"])
    assert reply["list"] == [{"id": id_, "name": "Work"}]
    assert reply["notFound"] == ["anope"]
    with pytest.raises(MethodError) as caught:
        rig.call("Mailbox/get", ids=None, properties=["nope"])
    assert caught.value.type == "invalidArguments"


def test_a_new_email_changes_counts_only(rig: Rig) -> None:
    """Rule 10, RFC 8621 §2.2: updatedProperties."""
    state = rig.store.state("Mailbox")
    rig.deliver("one")
    rig.sync()
    reply = rig.call("Mailbox/changes", sinceState=state)
    assert reply["updated"] == [rig.box("Inbox")["id"]]
    assert reply["updatedProperties"] == ["totalEmails", "unreadEmails", "totalThreads", "unreadThreads"]
    assert reply["newState"] == rig.store.state("Mailbox")


def test_a_rename_beside_new_mail_tells_no_updated_properties(rig: Rig) -> None:
    """Rule 10: only if every updated Mailbox changed counts alone."""
    state = rig.store.state("Mailbox")
    rig.deliver("one")
    rig.server.rename(b"alpha", b"beta")
    rig.sync()
    reply = rig.call("Mailbox/changes", sinceState=state)
    assert len(reply["updated"]) == 2
    assert reply["updatedProperties"] is None


def test_created_and_destroyed_mailboxes_are_told(rig: Rig) -> None:
    """Rule 10."""
    state, gone = rig.store.state("Mailbox"), rig.box("alpha")["id"]
    rig.server.delete(b"alpha")
    rig.server.create(b"New")
    rig.sync()
    reply = rig.call("Mailbox/changes", sinceState=state)
    assert (reply["created"], reply["destroyed"], reply["updatedProperties"]) == ([rig.box("New")["id"]], [gone], None)


def test_changes_come_in_pieces_of_max_changes(rig: Rig) -> None:
    """RFC 8620 §5.2: also where one commit changed more."""
    for key in sorted(rig.server.folders):
        rig.deliver("one", key)
        rig.sync()
    found: list[str] = []
    state, more = f"{rig.store.epoch}-0", True
    while more:
        reply = rig.call("Mailbox/changes", sinceState=state, maxChanges=2)
        assert len(reply["created"] + reply["updated"] + reply["destroyed"]) <= 2
        assert set(reply["updated"]) <= set(found), "updated, but never created"
        found += reply["created"]
        state, more = reply["newState"], reply["hasMoreChanges"]
    assert sorted(found) == sorted(box["id"] for box in rig.boxes().values())
    assert state == rig.store.state("Mailbox")


def test_a_state_of_another_store_cannot_be_calculated_from(rig: Rig) -> None:
    """Rule 9."""
    for state in ("", "x-1", f"{rig.store.epoch}-999", f"{rig.store.epoch}-1.no id"):
        with pytest.raises(MethodError) as caught:
            rig.call("Mailbox/changes", sinceState=state)
        assert caught.value.type == "cannotCalculateChanges"


@pytest.mark.parametrize(
    ("filter_", "found"),
    [
        (None, {"Inbox", "Trash", "Work", "Old", "New", "alpha"}),
        ({}, {"Inbox", "Trash", "Work", "Old", "New", "alpha"}),
        ({"role": "inbox"}, {"Inbox"}),
        ({"role": None}, {"Work", "Old", "New", "alpha"}),
        ({"hasAnyRole": True}, {"Inbox", "Trash"}),
        ({"hasAnyRole": False}, {"Work", "Old", "New", "alpha"}),
        ({"name": "ORK"}, {"Work"}),
        ({"parentId": None}, {"Inbox", "Trash", "Work", "alpha"}),
        ({"isSubscribed": False}, {"alpha"}),
        ({"operator": "NOT", "conditions": [{"hasAnyRole": True}, {"name": "o"}]}, {"New", "alpha"}),
        ({"operator": "OR", "conditions": [{"name": "old"}, {"role": "trash"}]}, {"Old", "Trash"}),
        ({"operator": "AND", "conditions": [{"name": "o"}, {"role": None}]}, {"Old", "Work"}),
    ],
)
def test_filters(rig: Rig, filter_: Any, found: set[str]) -> None:
    """RFC 8621 §2.3."""
    assert set(query(rig, filter=filter_)) == found


def test_filter_by_parent(rig: Rig) -> None:
    assert set(query(rig, filter={"parentId": rig.box("Work")["id"]})) == {"Old", "New"}


def test_an_unknown_filter_or_sort_is_unsupported(rig: Rig) -> None:
    for args, error in (
        ({"filter": {"size": 1}}, "unsupportedFilter"),
        ({"sort": [{"property": "x"}]}, "unsupportedSort"),
    ):
        with pytest.raises(MethodError) as caught:
            rig.call("Mailbox/query", **args)
        assert caught.value.type == error


def test_sorts(rig: Rig) -> None:
    """RFC 8621 §2.3: sortOrder and name must be supported; names ignore letter case."""
    by_name = [{"property": "name"}]
    assert query(rig, sort=by_name) == ["alpha", "Inbox", "New", "Old", "Trash", "Work"]
    assert query(rig, sort=[{"property": "name", "isAscending": False}])[0] == "Work"
    assert query(rig)[:2] == ["Inbox", "Trash"]
    assert query(rig, sort=[{"property": "name", "collation": "i;octet"}])[-1] == "alpha"
    assert query(rig, sort=[{"property": "parent/name"}])[-3:] == ["Work", "New", "Old"]


def test_sort_as_tree_puts_children_after_their_parent(rig: Rig) -> None:
    """RFC 8621 §2.3."""
    names_ = query(rig, sort=[{"property": "name", "isAscending": False}], sortAsTree=True)
    assert names_ == ["Work", "Old", "New", "Trash", "Inbox", "alpha"]


def test_filter_as_tree_needs_every_ancestor(rig: Rig) -> None:
    """RFC 8621 §2.3."""
    rig.server.create(b"Now")
    rig.server.create(b"Now/Nowhere")
    rig.sync()
    filter_ = {"name": "n"}
    assert set(query(rig, filter=filter_)) == {"Inbox", "New", "Now", "Nowhere"}
    assert set(query(rig, filter=filter_, filterAsTree=True)) == {"Inbox", "Now", "Nowhere"}


def test_total_position_and_limit(rig: Rig) -> None:
    reply = rig.call("Mailbox/query", sort=[{"property": "name"}], position=-2, limit=1, calculateTotal=True)
    assert (names(rig, reply), reply["position"], reply["total"]) == (["Trash"], 4, 6)
    assert rig.call("Mailbox/query", limit=0, calculateTotal=True)["ids"] == []


def test_query_changes_replayed_is_the_new_result(rig: Rig) -> None:
    """RFC 8620 §5.6."""
    args: dict[str, Any] = {"sort": [{"property": "name"}], "filter": {"hasAnyRole": False}}
    before = rig.call("Mailbox/query", **args)
    rig.server.rename(b"alpha", b"zulu")
    rig.server.delete(b"Work/Old")
    rig.server.create(b"beta")
    rig.sync()
    delta = rig.call("Mailbox/queryChanges", **args, sinceQueryState=before["queryState"], calculateTotal=True)
    ids = [id_ for id_ in before["ids"] if id_ not in delta["removed"]]
    for item in delta["added"]:
        ids.insert(item["index"], item["id"])
    after = rig.call("Mailbox/query", **args)
    assert ids == after["ids"]
    assert (delta["newQueryState"], delta["total"]) == (after["queryState"], len(ids))


def test_new_mail_does_not_move_the_state_of_a_query(rig: Rig) -> None:
    state = rig.call("Mailbox/query")["queryState"]
    rig.deliver("one")
    rig.sync()
    assert rig.call("Mailbox/query")["queryState"] == state
    delta = rig.call("Mailbox/queryChanges", sinceQueryState=state)
    assert (delta["removed"], delta["added"]) == ([], [])


@pytest.mark.parametrize(
    "more", [{"sortAsTree": True}, {"filterAsTree": True}, {"sort": [{"property": "parent/name"}]}]
)
def test_tree_orders_cannot_calculate_changes(rig: Rig, more: dict[str, Any]) -> None:
    """Rule 11."""
    reply = rig.call("Mailbox/query", **more)
    assert reply["canCalculateChanges"] is False
    with pytest.raises(MethodError) as caught:
        rig.call("Mailbox/queryChanges", **more, sinceQueryState=reply["queryState"])
    assert caught.value.type == "cannotCalculateChanges"


def test_a_read_only_folder_gives_no_right_to_change(rig: Rig) -> None:
    """Rule 24: READ-ONLY SELECT and empty PERMANENTFLAGS; and it lasts over the next listing."""
    rig.server.folders[b"Work"].read_only = True
    rig.server.folders[b"alpha"].permanent_flags = ()
    for key in (b"Work", b"alpha"):
        rig.deliver("one", key)
    rig.sync()
    rig.sync()
    work, alpha = rig.box("Work")["myRights"], rig.box("alpha")["myRights"]
    off = ("mayAddItems", "mayRemoveItems", "maySetSeen", "maySetKeywords")
    assert [work[name] for name in off] == [False] * 4
    assert [alpha[name] for name in off] == [True, True, False, False]
    assert work["mayReadItems"]


def test_changed_rights_are_told(rig: Rig) -> None:
    state = rig.store.state("Mailbox")
    rig.server.folders[b"Work"].rights = Rights(may_delete=False)
    rig.sync()
    assert rig.call("Mailbox/changes", sinceState=state)["updated"] == [rig.box("Work")["id"]]
    assert rig.box("Work")["myRights"]["mayDelete"] is False
