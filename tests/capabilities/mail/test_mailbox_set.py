"""Mailbox/set (RFC 8621 §2.5, RFC 8620 §5.3; mail-rules 25-27, 29, 30)."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import pytest
from sync_rig import Rig

from jmapplug.backends import Rights
from jmapplug.capabilities.mail.mailbox_plan import MAX_MAILBOX_NAME
from jmapplug.capabilities.mail.mailbox_set import ensure_role
from jmapplug.errors import UpstreamError
from jmapplug.jmap.errors import MethodError
from jmapplug.testing.memory_server import MemoryServer

COUNTS = {"totalEmails": 0, "unreadEmails": 0, "totalThreads": 0, "unreadThreads": 0}


@pytest.fixture
def rig(tmp_path: Path):
    made = Rig(tmp_path)
    for key in (b"Work", b"Work/Old", b"Play"):
        made.server.create(key)
    made.sync()
    yield made
    # Whatever a test did: the next pass finds nothing to change, and the view is the server's (mail-rules 12).
    made.source.fault = made.source.after = None
    state = made.store.state("Mailbox")
    made.sync()
    assert made.store.state("Mailbox") == state
    made.check()
    assert names_on_server(made) == names(made)
    made.close()


def names(rig: Rig) -> set[tuple[str, ...]]:
    """Paths of the Mailboxes."""
    boxes = {box["id"]: box for box in rig.call("Mailbox/get", ids=None)["list"]}

    def path(box: dict[str, Any]) -> tuple[str, ...]:
        return (*(path(boxes[box["parentId"]]) if box["parentId"] else ()), box["name"])

    return {path(box) for box in boxes.values()}


def names_on_server(rig: Rig) -> set[tuple[str, ...]]:
    return {
        tuple("Inbox" if level == "INBOX" else level for level in folder.path) for folder in rig.server.folders.values()
    }


def create(rig: Rig, /, **record: Any) -> dict[str, Any]:
    """Create one Mailbox; what the server answers of it, or its SetError."""
    reply = rig.call("Mailbox/set", create={"x": record})
    found: dict[str, Any] = (reply["created"] or reply["notCreated"])["x"]
    return found


def update(rig: Rig, mailbox: str, /, **patch: Any) -> dict[str, Any] | None:
    """Update the Mailbox of this name; its SetError, or None."""
    id_ = rig.box(mailbox)["id"]
    reply = rig.call("Mailbox/set", update={id_: patch})
    assert (id_ in (reply["updated"] or {})) != (id_ in (reply["notUpdated"] or {}))
    return (reply["notUpdated"] or {}).get(id_)


def destroy(rig: Rig, *boxes: str, **args: Any) -> dict[str, str]:
    """Destroy the Mailboxes of these names; name → type of the error."""
    ids = {rig.box(name)["id"]: name for name in boxes}
    reply = rig.call("Mailbox/set", destroy=list(ids), **args)
    return {ids[id_]: error["type"] for id_, error in (reply["notDestroyed"] or {}).items()}


# --- create ----------------------------------------------------------------------------------------------------------


def test_create_answers_what_the_client_did_not_give(rig: Rig) -> None:
    """RFC 8620 §5.3 created: server-set and defaulted properties."""
    reply = rig.call("Mailbox/set", create={"x": {"name": "New"}})
    made = reply["created"]["x"]
    box = rig.box("New")
    assert made == {name: value for name, value in box.items() if name != "name"}
    assert {name: box[name] for name in COUNTS} == COUNTS
    assert (box["parentId"], box["role"], box["isSubscribed"]) == (None, None, True)
    assert all(box["myRights"].values())
    assert reply["oldState"] != reply["newState"] == rig.store.state("Mailbox")
    assert [reply[name] for name in ("updated", "destroyed", "notCreated", "notUpdated", "notDestroyed")] == [None] * 5


def test_a_new_mailbox_is_there_for_the_next_call_and_told_once(rig: Rig) -> None:
    state, query = rig.store.state("Mailbox"), rig.call("Mailbox/query")
    id_ = create(rig, name="New", parentId=rig.box("Work")["id"])["id"]
    assert id_ in rig.call("Mailbox/query")["ids"]
    assert id_ not in query["ids"]
    told = rig.call("Mailbox/changes", sinceState=state)
    assert (told["created"], told["updated"], told["destroyed"]) == ([id_], [], [])
    rig.sync()
    assert rig.call("Mailbox/changes", sinceState=told["newState"])["created"] == []
    assert rig.server.folders[b"Work/New"].subscribed


def test_creations_refer_to_each_other_in_any_order(rig: Rig) -> None:
    """mail-rules 30."""
    reply = rig.call(
        "Mailbox/set",
        create={
            "c": {"name": "C", "parentId": "#b"},
            "a": {"name": "A"},
            "b": {"name": "B", "parentId": "#a"},
        },
    )
    assert reply["notCreated"] is None
    assert ("A", "B", "C") in names(rig)
    assert reply["created"]["c"]["parentId"] == reply["created"]["b"]["id"]
    assert rig.created_ids == {key: made["id"] for key, made in reply["created"].items()}


def test_a_creation_id_of_an_earlier_call_is_a_parent(rig: Rig) -> None:
    rig.call("Mailbox/set", create={"a": {"name": "A"}})
    assert "id" in create(rig, name="B", parentId="#a")
    assert ("A", "B") in names(rig)


def test_a_child_of_a_mailbox_that_could_not_be_created_is_not_created(rig: Rig) -> None:
    reply = rig.call("Mailbox/set", create={"a": {"name": ""}, "b": {"name": "B", "parentId": "#a"}})
    assert reply["created"] is None
    assert {key: error["properties"] for key, error in reply["notCreated"].items()} == {
        "a": ["name"], "b": ["parentId"],
    }  # fmt: skip


def test_creations_in_a_circle_are_refused(rig: Rig) -> None:
    reply = rig.call("Mailbox/set", create={"a": {"name": "A", "parentId": "#b"}, "b": {"name": "B", "parentId": "#a"}})
    assert {error["properties"][0] for error in reply["notCreated"].values()} == {"parentId"}


@pytest.mark.parametrize(
    ("record", "wrong"),
    [
        ({}, ["name"]),
        ({"name": ""}, ["name"]),
        ({"name": "  "}, ["name"]),
        ({"name": 5}, ["name"]),
        ({"name": None}, ["name"]),
        ({"name": "a\tb"}, ["name"]),
        ({"name": "a\x85b"}, ["name"]),
        ({"name": "x" * (MAX_MAILBOX_NAME + 1)}, ["name"]),
        ({"name": "é" * (MAX_MAILBOX_NAME // 2 + 1)}, ["name"]),
        ({"name": "a/b"}, ["name"]),
        ({"name": "A", "parentId": "nowhere"}, ["parentId"]),
        ({"name": "A", "parentId": "#nowhere"}, ["parentId"]),
        ({"name": "A", "parentId": 3}, ["parentId"]),
        ({"name": "A", "role": "nonsense"}, ["role"]),
        ({"name": "A", "role": "inbox"}, ["role"]),
        ({"name": "A", "role": "Trash"}, ["role"]),
        ({"name": "A", "sortOrder": -1}, ["sortOrder"]),
        ({"name": "A", "sortOrder": 2**31}, ["sortOrder"]),
        ({"name": "A", "sortOrder": True}, ["sortOrder"]),
        ({"name": "A", "isSubscribed": None}, ["isSubscribed"]),
        ({"name": "A", "id": "a1"}, ["id"]),
        ({"name": "A", "totalEmails": 0, "myRights": {}}, ["totalEmails", "myRights"]),
        ({"name": "A", "colour": "red"}, ["colour"]),
        ({"name": "", "sortOrder": "1"}, ["name", "sortOrder"]),
    ],
)
def test_invalid_records_name_all_their_wrong_properties(rig: Rig, record: Any, wrong: list[str]) -> None:
    """RFC 8621 §2, RFC 8620 §5.3 invalidProperties."""
    error = create(rig, **record)
    assert (error["type"], error["properties"]) == ("invalidProperties", wrong)


def test_the_longest_name_is_taken(rig: Rig) -> None:
    assert "id" in create(rig, name="é" * (MAX_MAILBOX_NAME // 2))


def test_a_name_is_normalised_and_the_client_is_told(rig: Rig) -> None:
    """RFC 5198: NFC."""
    given = unicodedata.normalize("NFD", "Entwürfe")
    assert create(rig, name=given)["name"] == "Entwürfe"
    assert rig.box("Entwürfe")
    error = create(rig, name=given)
    assert error["type"] == "alreadyExists"


def test_a_sibling_of_the_same_name_already_exists(rig: Rig) -> None:
    """RFC 8621 §2, and what the clarifications say."""
    error = create(rig, name="Work")
    assert (error["type"], error["existingId"]) == ("alreadyExists", rig.box("Work")["id"])
    assert create(rig, name="inBOX")["existingId"] == rig.box("Inbox")["id"]
    assert "id" in create(rig, name="Work", parentId=rig.box("Play")["id"])
    assert "id" in create(rig, name="work")


def test_a_folder_that_another_client_just_made_is_named_as_existing(rig: Rig) -> None:
    rig.server.create(b"Late")
    error = create(rig, name="Late")
    assert error["type"] == "alreadyExists"
    assert error["existingId"] == rig.box("Late")["id"]


def test_a_mailbox_can_be_created_unsubscribed_with_role_and_order(rig: Rig) -> None:
    made = create(rig, name="Bin", role="trash", sortOrder=77, isSubscribed=False)
    assert not {"role", "sortOrder", "isSubscribed"} & made.keys()
    box = rig.box("Bin")
    assert (box["role"], box["sortOrder"], box["isSubscribed"]) == ("trash", 77, False)
    assert rig.server.folders[b"Bin"].subscribed is False
    rig.reopen(lose_cache=True)
    rig.sync()
    box = rig.box("Bin")
    assert (box["role"], box["sortOrder"]) == ("trash", 77)


def test_a_parent_that_takes_no_children_forbids_them(rig: Rig) -> None:
    rig.server.folders[b"Work"].rights = Rights(may_create_child=False)
    rig.sync()
    assert create(rig, name="A", parentId=rig.box("Work")["id"])["type"] == "forbidden"


@pytest.mark.parametrize(
    ("code", "type_", "temporary"),
    [
        ("noperm", "forbidden", False),
        ("overquota", "overQuota", False),
        ("limit", "rateLimit", False),
        ("cannot", "invalidProperties", False),
        ("nonexistent", "invalidProperties", False),
        (None, "serverFail", False),
        (None, "serverFail", True),
    ],
)
def test_what_the_server_refuses_is_an_error_of_that_record_alone(
    rig: Rig, code: str | None, type_: str, temporary: bool
) -> None:
    """mail-rules 24, 27."""

    def fault(name: str) -> None:
        if name == "create_folder" and not rig.source.calls[-1][1][1].startswith("Good"):
            raise UpstreamError("a secret text of the server", code=code, temporary=temporary)

    rig.source.fault = fault
    reply = rig.call("Mailbox/set", create={"a": {"name": "Bad"}, "b": {"name": "Good"}})
    error = reply["notCreated"]["a"]
    assert error["type"] == type_
    assert "secret" not in str(error)
    assert list(reply["created"]) == ["b"]


def test_a_new_mailbox_that_the_server_does_not_list_yet_stays(rig: Rig) -> None:
    """mail-rules 12; some servers forget a new folder in LIST for a while."""
    id_ = create(rig, name="Shy", parentId=rig.box("Work")["id"])["id"]
    rig.reopen()
    listed = rig.source.folders
    rig.source.folders = lambda: [f for f in listed() if f.key != b"Work/Shy"]  # type: ignore[method-assign]
    state = rig.store.state("Mailbox")
    rig.sync()
    assert rig.box("Shy")["id"] == id_
    assert rig.store.state("Mailbox") == state
    rig.deliver("one", b"Work/Shy")
    rig.sync()
    assert rig.counts("Shy")[0] == 1
    rig.source.folders = listed  # type: ignore[method-assign]


def test_a_mailbox_that_was_never_listed_and_is_gone_goes(rig: Rig) -> None:
    listed = rig.source.folders
    rig.source.folders = lambda: [f for f in listed() if f.key != b"Shy"]  # type: ignore[method-assign]
    assert "id" in create(rig, name="Shy")
    rig.sync()
    assert rig.box("Shy")
    rig.server.delete(b"Shy")
    rig.sync()
    assert "Shy" not in rig.boxes()
    rig.source.folders = listed  # type: ignore[method-assign]


def test_a_pass_that_runs_meanwhile_neither_loses_nor_doubles_a_new_mailbox(rig: Rig) -> None:
    """Between any two calls of a pass."""
    rig.deliver("one", b"Play")
    calls = 0

    def between(name: str) -> None:
        nonlocal calls
        if name == "changes":
            rig.source.before = None
            calls += 1
            assert "id" in create(rig, name="New")
            assert update(rig, "Play", name="Renamed") is None
            assert destroy(rig, "Old") == {}

    rig.source.before = between
    ids = {name: box["id"] for name, box in rig.boxes().items()}
    rig.sync()
    assert calls == 1
    rig.sync()
    assert rig.box("Renamed")["id"] == ids["Play"]
    assert rig.counts("Renamed")[0] == 1
    assert rig.box("New") and "Old" not in rig.boxes()


# --- update ----------------------------------------------------------------------------------------------------------


def test_rename_keeps_the_id_and_those_of_all_below(rig: Rig) -> None:
    """mail-rules 6."""
    rig.deliver("one", b"Work/Old")
    rig.sync()
    before, emails, state = rig.boxes(), rig.emails(), rig.store.state("Mailbox")
    assert update(rig, "Work", name="Labour") is None
    after = rig.boxes()
    assert after["Labour"]["id"] == before["Work"]["id"]
    assert after["Old"] == before["Old"]
    assert rig.emails() == emails
    assert set(rig.server.folders) == {b"INBOX", b"Labour", b"Labour/Old", b"Play"}
    told = rig.call("Mailbox/changes", sinceState=state)
    assert (told["created"], told["updated"], told["destroyed"]) == ([], [before["Work"]["id"]], [])
    rig.reopen(lose_cache=True)
    rig.sync()
    assert {name: box["id"] for name, box in rig.boxes().items()} == {name: box["id"] for name, box in after.items()}


def test_move_and_rename_at_once(rig: Rig) -> None:
    ids = {name: box["id"] for name, box in rig.boxes().items()}
    assert update(rig, "Work", name="Labour", parentId=ids["Play"]) is None
    assert ("Play", "Labour", "Old") in names(rig)
    assert rig.box("Labour")["id"] == ids["Work"]
    assert len([call for call in rig.source.calls if call[0] == "rename_folder"]) == 1
    assert update(rig, "Old", parentId=None) is None
    assert ("Old",) in names(rig)


def test_a_whole_mailbox_is_a_patch_and_what_is_equal_changes_nothing(rig: Rig) -> None:
    """RFC 8620 §5.3: server-set properties with the value that they have."""
    box = rig.box("Work")
    calls = len(rig.source.calls)
    state = rig.store.state("Mailbox")
    assert update(rig, "Work", **box) is None
    assert (len(rig.source.calls), rig.store.state("Mailbox")) == (calls, state)
    assert update(rig, "Work", **{"myRights/mayDelete": True}) is None
    assert update(rig, "Work", **(box | {"name": "Labour"})) is None
    assert rig.box("Labour")["id"] == box["id"]


@pytest.mark.parametrize(
    ("patch", "type_", "wrong"),
    [
        ({"totalEmails": 7}, "invalidProperties", ["totalEmails"]),
        ({"id": "a1"}, "invalidProperties", ["id"]),
        ({"myRights/mayDelete": False}, "invalidProperties", ["myRights"]),
        ({"name": None}, "invalidProperties", ["name"]),
        ({"name": "a/b"}, "invalidProperties", ["name"]),
        ({"name": "Play"}, "invalidProperties", ["name"]),
        ({"parentId": "nowhere"}, "invalidProperties", ["parentId"]),
        ({"role": "inbox"}, "invalidProperties", ["role"]),
        ({"isSubscribed": "yes"}, "invalidProperties", ["isSubscribed"]),
        ({"colour": "red"}, "invalidProperties", ["colour"]),
        ({"name/x": "y"}, "invalidPatch", ["name"]),
    ],
)
def test_bad_patches_are_refused(rig: Rig, patch: dict[str, Any], type_: str, wrong: list[str]) -> None:
    before = rig.box("Work")
    error = update(rig, "Work", sortOrder=5, **patch)
    assert error is not None
    assert (error["type"], error["properties"]) == (type_, wrong)
    assert rig.box("Work") == before, "nothing of a refused record is done"


def test_into_its_own_descendant_is_refused(rig: Rig) -> None:
    for below in ("Work", "Old"):
        error = update(rig, "Work", parentId=rig.box(below)["id"])
        assert error is not None
        assert (error["type"], error["properties"]) == ("invalidProperties", ["parentId"])


def test_inbox_is_neither_renamed_nor_hidden_nor_destroyed(rig: Rig) -> None:
    """mail-rules 25."""
    for patch in ({"name": "Other"}, {"parentId": rig.box("Work")["id"]}, {"isSubscribed": False}):
        error = update(rig, "Inbox", **patch)
        assert error is not None and error["type"] == "forbidden"
    error = update(rig, "Inbox", role=None)
    assert error is not None and error["properties"] == ["role"]
    assert update(rig, "Inbox", sortOrder=9) is None
    assert destroy(rig, "Inbox") == {"Inbox": "forbidden"}


def test_rights_are_asked_before_anything_is_sent(rig: Rig) -> None:
    rig.server.folders[b"Work"].rights = Rights(may_rename=False, may_delete=False)
    rig.server.folders[b"Play"].rights = Rights(may_create_child=False)
    rig.sync()
    calls = len(rig.source.calls)
    for name, patch in (("Work", {"name": "A"}), ("Old", {"parentId": rig.box("Play")["id"]})):
        error = update(rig, name, **patch)
        assert error is not None and error["type"] == "forbidden"
    assert destroy(rig, "Work") == {"Work": "forbidden"}
    assert len(rig.source.calls) == calls
    assert update(rig, "Work", isSubscribed=False, sortOrder=3, role="archive") is None


def test_two_mailboxes_swap_their_names(rig: Rig) -> None:
    """RFC 8620 §5.3; mail-rules 30. Clients never see the passing name."""
    ids = {name: box["id"] for name, box in rig.boxes().items()}
    seen: set[str] = set()
    rig.source.before = lambda name: seen.update(rig.boxes()) if name == "rename_folder" else None
    reply = rig.call("Mailbox/set", update={ids["Work"]: {"name": "Play"}, ids["Play"]: {"name": "Work"}})
    rig.source.before = None
    assert reply["notUpdated"] is None
    assert set(reply["updated"]) == {ids["Work"], ids["Play"]}
    assert (rig.box("Work")["id"], rig.box("Play")["id"]) == (ids["Play"], ids["Work"])
    assert ("Play", "Old") in names(rig)
    assert not [name for name in seen if name.startswith("moving")]


def test_a_ring_of_names_and_a_chain_work(rig: Rig) -> None:
    for name in "ABCD":
        rig.server.create(name.encode())
    rig.sync()
    ids = {name: box["id"] for name, box in rig.boxes().items()}
    ring = {"A": "B", "B": "C", "C": "A", "Play": "D", "D": "E"}
    reply = rig.call("Mailbox/set", update={ids[old]: {"name": new} for old, new in ring.items()})
    assert reply["notUpdated"] is None
    assert {new: ids[old] for old, new in ring.items()}.items() <= {n: b["id"] for n, b in rig.boxes().items()}.items()
    assert len([call for call in rig.source.calls if call[0] == "rename_folder"]) == len(ring) + 1


def test_parent_and_child_change_places(rig: Rig) -> None:
    ids = {name: box["id"] for name, box in rig.boxes().items()}
    reply = rig.call("Mailbox/set", update={ids["Work"]: {"parentId": ids["Old"]}, ids["Old"]: {"parentId": None}})
    assert reply["notUpdated"] is None
    assert ("Old", "Work") in names(rig)


def test_a_swap_that_the_server_breaks_off_gives_both_their_names_back(rig: Rig) -> None:
    """mail-rules 27."""
    ids = {name: box["id"] for name, box in rig.boxes().items()}

    def fault(name: str) -> None:
        if name == "rename_folder" and rig.source.calls[-1][1][0] == b"Play":
            raise UpstreamError("no", code="noperm", temporary=False)

    rig.source.fault = fault
    reply = rig.call("Mailbox/set", update={ids["Work"]: {"name": "Play"}, ids["Play"]: {"name": "Work"}})
    assert reply["updated"] is None
    assert {id_: error["type"] for id_, error in reply["notUpdated"].items()} == {
        ids["Play"]: "forbidden", ids["Work"]: "invalidProperties",
    }  # fmt: skip
    assert {name: box["id"] for name, box in rig.boxes().items()} == ids


def test_names_that_become_free_in_the_same_call_can_be_taken(rig: Rig) -> None:
    """Only the final state has to be valid (RFC 8620 §5.3)."""
    ids = {name: box["id"] for name, box in rig.boxes().items()}
    reply = rig.call(
        "Mailbox/set", create={"a": {"name": "Play"}, "b": {"name": "Work"}},
        update={ids["Work"]: {"name": "W"}}, destroy=[ids["Play"]],
    )  # fmt: skip
    assert set(reply["created"]) == {"a", "b"}
    assert reply["destroyed"] == [ids["Play"]]
    assert {"W", "Work", "Play"} <= set(rig.boxes())
    assert rig.box("Play")["id"] != ids["Play"]


def test_update_and_destroy_of_a_creation_in_its_own_call(rig: Rig) -> None:
    reply = rig.call(
        "Mailbox/set", create={"a": {"name": "A"}, "b": {"name": "B"}},
        update={"#a": {"sortOrder": 3}, "#c": {"sortOrder": 1}}, destroy=["#b"],
    )  # fmt: skip
    assert reply["updated"] == {rig.box("A")["id"]: None}
    assert reply["notUpdated"]["#c"]["type"] == "notFound"
    assert reply["destroyed"] == [reply["created"]["b"]["id"]]
    assert rig.box("A")["sortOrder"] == 3 and "B" not in rig.boxes()


def test_update_of_what_is_destroyed_in_the_same_call_is_skipped(rig: Rig) -> None:
    id_ = rig.box("Play")["id"]
    reply = rig.call("Mailbox/set", update={id_: {"name": "X"}}, destroy=[id_])
    assert reply["notUpdated"][id_]["type"] == "willDestroy"
    assert reply["destroyed"] == [id_]


def test_subscription_goes_upstream(rig: Rig) -> None:
    assert update(rig, "Work", isSubscribed=False) is None
    assert rig.server.folders[b"Work"].subscribed is False
    assert rig.box("Work")["isSubscribed"] is False


def test_a_rename_that_is_refused_takes_the_subscription_back(rig: Rig) -> None:
    """mail-rules 27: a record is one unit."""

    def fault(name: str) -> None:
        if name == "rename_folder":
            raise UpstreamError("no", code="noperm", temporary=False)

    rig.source.fault = fault
    error = update(rig, "Work", isSubscribed=False, name="A", sortOrder=99)
    assert error is not None and error["type"] == "forbidden"
    assert rig.server.folders[b"Work"].subscribed is True
    assert rig.box("Work")["sortOrder"] != 99


def test_a_role_is_bound_here_and_survives_all(rig: Rig) -> None:
    """mail-rules 26: the client's wins, also over what the server states."""
    state = rig.store.state("Mailbox")
    assert update(rig, "Play", role="archive") is None
    assert rig.box("Play")["sortOrder"] == 4, "the order that the role gives"
    assert rig.call("Mailbox/changes", sinceState=state)["updated"] == [rig.box("Play")["id"]]
    rig.server.create(b"Archive", role="archive")
    rig.reopen(lose_cache=True)
    rig.sync()
    assert (rig.box("Play")["role"], rig.box("Archive")["role"]) == ("archive", None)


def test_a_role_that_the_client_took_away_does_not_come_back_by_the_listing(rig: Rig) -> None:
    rig.server.create(b"Sent", role="sent")
    rig.sync()
    assert update(rig, "Sent", role=None) is None
    rig.sync()
    assert rig.box("Sent")["role"] is None
    assert update(rig, "Work", role="sent") is None
    rig.sync()
    assert rig.box("Work")["role"] == "sent"


def test_a_role_is_nobody_s_twice(rig: Rig) -> None:
    """RFC 8621 §2."""
    assert update(rig, "Work", role="trash") is None
    error = update(rig, "Play", role="trash")
    assert error is not None
    assert (error["type"], error["properties"]) == ("invalidProperties", ["role"])
    assert create(rig, name="Bin", role="trash")["properties"] == ["role"]


def test_roles_change_hands_in_one_call(rig: Rig) -> None:
    assert update(rig, "Work", role="trash") is None
    assert update(rig, "Play", role="archive") is None
    ids = {name: box["id"] for name, box in rig.boxes().items()}
    reply = rig.call("Mailbox/set", update={ids["Work"]: {"role": "archive"}, ids["Play"]: {"role": "trash"}})
    assert reply["notUpdated"] is None
    assert (rig.box("Work")["role"], rig.box("Play")["role"]) == ("archive", "trash")
    reply = rig.call("Mailbox/set", update={ids["Old"]: {"role": "trash"}, ids["Play"]: {"role": None}})
    assert reply["notUpdated"] is None
    assert (rig.box("Old")["role"], rig.box("Play")["role"]) == ("trash", None)


def test_names_and_roles_in_one_circle(rig: Rig) -> None:
    assert update(rig, "Work", role="trash") is None
    ids = {name: box["id"] for name, box in rig.boxes().items()}
    patches = {ids["Work"]: {"name": "Play", "role": None}, ids["Play"]: {"name": "P", "role": "trash"}}
    assert rig.call("Mailbox/set", update=patches)["notUpdated"] is None
    back = {ids["Work"]: {"name": "P", "role": "trash"}, ids["Play"]: {"name": "Play", "role": "archive"}}
    assert rig.call("Mailbox/set", update=back)["notUpdated"] is None
    assert {rig.box(name)["id"]: rig.box(name)["role"] for name in ("P", "Play")} == {
        ids["Work"]: "trash", ids["Play"]: "archive",
    }  # fmt: skip


def test_what_another_record_does_not_give_up_is_not_taken(rig: Rig) -> None:
    """Each waits for something of the other, but only one of them lets go."""
    assert update(rig, "Work", role="trash") is None
    before = {name: (box["id"], box["role"]) for name, box in rig.boxes().items()}
    ids = {name: box["id"] for name, box in rig.boxes().items()}
    reply = rig.call("Mailbox/set", update={ids["Work"]: {"name": "Play"}, ids["Play"]: {"role": "trash"}})
    assert {id_: error["properties"] for id_, error in reply["notUpdated"].items()} == {
        ids["Work"]: ["name"], ids["Play"]: ["role"],
    }  # fmt: skip
    assert {name: (box["id"], box["role"]) for name, box in rig.boxes().items()} == before


def test_unread_threads_follow_the_trash(rig: Rig) -> None:
    """mail-rules 16; the client is told of counts that it did not ask for."""
    rig.deliver("one", b"Work", message_id="1@x")
    rig.deliver("Re: one", b"Play", message_id="2@x", references=["1@x"], flags=["\\Seen"])
    rig.sync()
    assert rig.counts("Play")[3] == 1
    id_ = rig.box("Work")["id"]
    reply = rig.call("Mailbox/set", update={id_: {"role": "trash"}})
    assert reply["updated"][id_] == {"sortOrder": 6}
    assert (rig.counts("Work")[3], rig.counts("Play")[3]) == (1, 0)
    reply = rig.call("Mailbox/set", update={id_: {"role": None}})
    assert rig.counts("Play")[3] == 1


def test_an_order_is_kept_here(rig: Rig) -> None:
    calls = len(rig.source.calls)
    assert update(rig, "Work", sortOrder=42) is None
    assert len(rig.source.calls) == calls
    rig.reopen(lose_cache=True)
    rig.sync()
    assert rig.box("Work")["sortOrder"] == 42


def test_a_normalised_name_is_told_in_updated(rig: Rig) -> None:
    id_ = rig.box("Work")["id"]
    reply = rig.call("Mailbox/set", update={id_: {"name": unicodedata.normalize("NFD", "Mühe")}})
    assert reply["updated"][id_] == {"name": "Mühe"}


def test_a_folder_that_vanished_upstream_is_not_found(rig: Rig) -> None:
    for name in ("Play", "Old"):
        rig.server.delete(rig.store.cache.value("SELECT key FROM mailbox WHERE name = ?", (name,)))
    error = update(rig, "Play", name="A")
    assert error is not None and error["type"] == "notFound"
    rig.sync()


# --- destroy ---------------------------------------------------------------------------------------------------------


def test_destroy_of_an_empty_mailbox(rig: Rig) -> None:
    state, id_ = rig.store.state("Mailbox"), rig.box("Play")["id"]
    assert destroy(rig, "Play") == {}
    assert rig.call("Mailbox/get", ids=[id_])["notFound"] == [id_]
    told = rig.call("Mailbox/changes", sinceState=state)
    assert (told["created"], told["updated"], told["destroyed"]) == ([], [], [id_])
    assert b"Play" not in rig.server.folders


def test_unknown_ids_are_not_found(rig: Rig) -> None:
    reply = rig.call("Mailbox/set", destroy=["nope", "#nope"], update={"nope": {"name": "A"}})
    assert {error["type"] for error in reply["notDestroyed"].values()} == {"notFound"}
    assert reply["notUpdated"]["nope"]["type"] == "notFound"


def test_emails_keep_a_mailbox_from_being_destroyed(rig: Rig) -> None:
    """RFC 8621 §2.5."""
    rig.deliver("one", b"Play")
    rig.sync()
    assert destroy(rig, "Play") == {"Play": "mailboxHasEmail"}
    assert destroy(rig, "Play", onDestroyRemoveEmails=False) == {"Play": "mailboxHasEmail"}
    assert len(rig.server.folders[b"Play"].messages) == 1


def test_a_message_that_we_have_not_seen_yet_is_not_lost(rig: Rig) -> None:
    rig.deliver("late", b"Play")
    assert destroy(rig, "Play") == {"Play": "mailboxHasEmail"}
    assert len(rig.server.folders[b"Play"].messages) == 1
    rig.sync()


def test_messages_flagged_deleted_may_go(rig: Rig) -> None:
    """mail-rules 13: they are no Emails."""
    rig.deliver("old", b"Play", flags=["\\DELETED"])
    rig.sync()
    rig.deliver("older", b"Play", flags=["\\Deleted"])
    assert destroy(rig, "Play") == {}


def test_destroy_with_its_emails(rig: Rig) -> None:
    """RFC 8621 §2.5: Emails that are nowhere else are destroyed, others lose the Mailbox."""
    for at in range(250):
        rig.deliver(f"n{at}", b"Play")
    both = rig.deliver("both", b"Play")
    rig.server.copy(b"Play", both, b"Work")
    rig.sync()
    kept, state = rig.email("both"), rig.store.state("Email")
    gone = set(rig.emails()) - {kept}
    assert destroy(rig, "Play", onDestroyRemoveEmails=True) == {}
    assert list(rig.emails()) == [kept]
    assert rig.emails()[kept]["mailboxIds"] == {rig.box("Work")["id"]: True}
    told = rig.call("Email/changes", sinceState=state)
    assert (set(told["destroyed"]), told["updated"], told["created"]) == (gone, [kept], [])
    assert rig.store.own.value("SELECT count(*) FROM mail_binding JOIN mail_mailbox USING (mid) WHERE gone") == 0


def test_children_keep_their_parent_whatever_becomes_of_the_emails(rig: Rig) -> None:
    """RFC 8621 §2.5, and the clarifications."""
    rig.deliver("one", b"Work")
    rig.sync()
    assert destroy(rig, "Work") == {"Work": "mailboxHasChild"}
    assert destroy(rig, "Work", onDestroyRemoveEmails=True) == {"Work": "mailboxHasChild"}
    assert rig.counts("Work")[0] == 1


@pytest.mark.parametrize("order", [("Work", "Old"), ("Old", "Work")])
def test_parent_and_child_go_in_one_call(rig: Rig, order: tuple[str, str]) -> None:
    """mail-rules 30."""
    ids = [rig.box(name)["id"] for name in order]
    reply = rig.call("Mailbox/set", destroy=[*ids, ids[0]])
    assert set(reply["destroyed"]) == set(ids)
    assert reply["notDestroyed"] is None


def test_a_parent_stays_when_its_child_has_to(rig: Rig) -> None:
    rig.deliver("one", b"Work/Old")
    rig.sync()
    assert destroy(rig, "Work", "Old") == {"Work": "mailboxHasChild", "Old": "mailboxHasEmail"}


def test_a_trash_that_is_destroyed_leaves_right_counts(rig: Rig) -> None:
    rig.deliver("one", b"Work", message_id="1@x")
    rig.deliver("Re: one", b"Play", message_id="2@x", references=["1@x"])
    rig.sync()
    assert update(rig, "Play", role="trash") is None
    assert destroy(rig, "Play", onDestroyRemoveEmails=True) == {}
    assert rig.counts("Work") == (1, 1, 1, 1)
    assert create(rig, name="Bin", role="trash")["id"]


# --- the call --------------------------------------------------------------------------------------------------------


def test_if_in_state_looks_at_what_others_did_to_the_folders(rig: Rig) -> None:
    """RFC 8620 §5.3, mail-rules 29."""
    state = rig.store.state("Mailbox")
    rig.server.create(b"Late")
    with pytest.raises(MethodError) as caught:
        rig.call("Mailbox/set", ifInState=state, create={"x": {"name": "New"}})
    assert caught.value.type == "stateMismatch"
    assert b"New" not in rig.server.folders
    reply = rig.call("Mailbox/set", ifInState=rig.store.state("Mailbox"), create={"x": {"name": "New"}})
    assert reply["created"]["x"]["id"]


def test_unknown_arguments_are_invalid(rig: Rig) -> None:
    for args in ({"onDestroyRemoveEmails": 1}, {"nope": True}, {"create": []}):
        with pytest.raises(MethodError) as caught:
            rig.call("Mailbox/set", **args)
        assert caught.value.type == "invalidArguments"


def test_a_call_for_nothing_does_nothing(rig: Rig) -> None:
    calls = len(rig.source.calls)
    reply = rig.call("Mailbox/set", create={}, update=None, destroy=[])
    assert reply["oldState"] == reply["newState"]
    assert len(rig.source.calls) == calls


def test_state_changes_are_published(rig: Rig) -> None:
    rig.published.clear()
    create(rig, name="New")
    assert rig.published and set(rig.published[-1]) == {"Mailbox"}


# --- a role that is needed -------------------------------------------------------------------------------------------


def test_a_missing_trash_is_made_on_first_need(rig: Rig) -> None:
    """Wish 17. mail-rules 25."""
    row = ensure_role(rig, "trash")
    box = rig.box("Trash")
    assert (row.id, box["role"], box["isSubscribed"]) == (box["id"], "trash", True)
    assert ensure_role(rig, "trash").id == row.id
    assert len([call for call in rig.source.calls if call[0] == "create_folder"]) == 1


def test_a_folder_of_the_right_name_is_taken_for_the_role(rig: Rig) -> None:
    rig.server.create(b"Drafts")
    rig.sync()
    assert ensure_role(rig, "drafts").id == rig.box("Drafts")["id"]
    assert rig.box("Drafts")["role"] == "drafts"


def test_a_role_that_another_client_made_meanwhile_is_found(rig: Rig) -> None:
    rig.server.create(b"Gesendet", role="sent")
    assert ensure_role(rig, "sent").name == "Gesendet"


def test_a_role_that_cannot_be_made_is_an_error(rig: Rig) -> None:
    def fault(name: str) -> None:
        if name == "create_folder":
            raise UpstreamError("no", code="noperm", temporary=False)

    rig.source.fault = fault
    with pytest.raises(UpstreamError):
        ensure_role(rig, "trash")


def test_a_server_without_mailbox_ids_keeps_them_over_our_renames(tmp_path: Path) -> None:
    """mail-rules 6: the binding follows our own RENAME, also of a folder with less than three messages."""
    rig = Rig(tmp_path, MemoryServer(guid_per_message=False))
    for key in (b"A", b"A/x", b"B"):
        rig.server.create(key)
    rig.sync()
    ids = {name: box["id"] for name, box in rig.boxes().items()}
    reply = rig.call("Mailbox/set", update={ids["A"]: {"name": "B"}, ids["B"]: {"name": "A"}})
    assert reply["notUpdated"] is None
    rig.reopen(lose_cache=True)
    rig.sync()
    assert {name: box["id"] for name, box in rig.boxes().items()} == ids | {"A": ids["B"], "B": ids["A"]}
    assert ("B", "x") in names(rig)
    rig.close()
