"""SieveScript/set against a real Pigeonhole (RFC 9661 §2.4)."""

from __future__ import annotations

from typing import Any

import pytest
from sieve_rig import Rig

FILE = b'require "fileinto";\r\nfileinto "Lists";\r\n'


def refused(reply: dict[str, Any], group: str) -> dict[str, Any]:
    (error,) = reply[group].values()
    return dict(error)


def create(rig: Rig, **record: Any) -> dict[str, Any]:
    return rig.call("SieveScript/set", create={"k": record})


def test_a_script_is_created_from_an_upload_and_read_back(rig: Rig) -> None:
    reply = create(rig, name="mine", blobId=rig.upload(FILE))
    made = reply["created"]["k"]
    assert rig.scripts()["mine"] == {"name": "mine", **made} and made["isActive"] is False
    assert rig.account.blob(made["blobId"]).path.read_bytes() == FILE == rig.other.read("mine")
    assert reply["oldState"] != reply["newState"] == rig.call("SieveScript/get", ids=[])["state"]
    assert [reply[name] for name in ("updated", "destroyed", "notCreated", "notUpdated", "notDestroyed")] == [None] * 5


def test_a_script_without_a_name_gets_one_that_is_told(rig: Rig) -> None:
    blob = rig.upload(FILE)
    reply = rig.call("SieveScript/set", create={"a": {"name": None, "blobId": blob}, "b": {"blobId": blob}})
    names = [reply["created"][key]["name"] for key in "ab"]
    assert len(set(names)) == 2 and set(names) == set(rig.scripts())


def test_names_are_told_in_nfc(rig: Rig) -> None:
    reply = create(rig, name="u\u0308", blobId=rig.upload(FILE))
    assert reply["created"]["k"]["name"] == "\u00fc" and list(rig.scripts()) == ["\u00fc"]


@pytest.mark.parametrize("name", ["", "a\nb", "a\x7fb", "a\u0085b", "a\u2028b", "x" * 513, 5, "a/b"])
def test_names_that_managesieve_or_this_server_cannot_carry_are_refused(rig: Rig, name: Any) -> None:
    error = refused(create(rig, name=name, blobId=rig.upload(FILE)), "notCreated")
    assert (error["type"], error["properties"]) == ("invalidProperties", ["name"])


@pytest.mark.parametrize(
    ("content", "type_"),
    [
        (b"keep;\r\nrubbish;", "invalidSieve"),
        (b'require "nonsense";', "invalidSieve"),
        (b"", "invalidSieve"),
        (b"keep; # \xff", "invalidSieve"),
        (b"keep; #\0", "invalidSieve"),
        (b"#" * 300_000, "tooLarge"),
        (b"#" * 1_000_001, "tooLarge"),
    ],
)
def test_content_that_the_server_does_not_take_is_a_seterror(rig: Rig, content: bytes, type_: str) -> None:
    error = refused(create(rig, name="a", blobId=rig.upload(content)), "notCreated")
    assert error["type"] == type_
    assert content != b"keep;\r\nrubbish;" or "line 2" in error["description"]
    assert rig.scripts() == {}


@pytest.mark.parametrize("blob", ["f-nope", None, 5, "#other"])
def test_a_blob_that_is_not_there_is_a_seterror(rig: Rig, blob: Any) -> None:
    error = refused(create(rig, name="a", blobId=blob), "notCreated")
    assert (error["type"], error["properties"]) == ("invalidProperties", ["blobId"])


def test_a_blob_may_be_named_by_its_creation_id(rig: Rig) -> None:
    rig.created["B"] = rig.upload(FILE)
    assert create(rig, name="a", blobId="#B")["created"]
    assert rig.other.read("a") == FILE


def test_two_scripts_never_have_one_name(rig: Rig) -> None:
    first, second = rig.make("a"), rig.make("b")
    error = refused(create(rig, name="a", blobId=rig.upload(FILE)), "notCreated")
    assert (error["type"], error["existingId"]) == ("alreadyExists", first)
    error = refused(rig.call("SieveScript/set", update={second: {"name": "a"}}), "notUpdated")
    assert (error["type"], error["existingId"]) == ("alreadyExists", first)


def test_one_script_too_many_is_over_quota(rig: Rig) -> None:
    blob = rig.upload(FILE)
    reply = rig.call("SieveScript/set", create={f"k{n}": {"name": f"s{n}", "blobId": blob} for n in range(13)})
    assert len(reply["created"]) == 12 and refused(reply, "notCreated")["type"] == "overQuota"


def test_a_rename_keeps_id_content_and_activity(rig: Rig) -> None:
    id_ = rig.make("a", FILE)
    rig.activate(id_)
    before = rig.scripts()["a"]
    assert rig.call("SieveScript/set", update={id_: {"name": "b"}})["updated"] == {id_: None}
    assert rig.scripts() == {"b": {**before, "name": "b"}}


def test_new_content_has_a_new_blob_which_is_told_and_the_active_script_stays_active(rig: Rig) -> None:
    id_ = rig.make("a")
    rig.activate(id_)
    reply = rig.call("SieveScript/set", update={id_: {"blobId": rig.upload(FILE)}})
    script = rig.scripts()["a"]
    assert reply["updated"] == {id_: {"blobId": script["blobId"]}} and script["isActive"]
    assert rig.other.read("a") == FILE


def test_an_update_is_all_or_nothing(rig: Rig) -> None:
    id_ = rig.make("a", b"keep;")
    reply = rig.call("SieveScript/set", update={id_: {"blobId": rig.upload(FILE), "name": "x/y"}})
    assert refused(reply, "notUpdated")["type"] == "invalidProperties"
    assert rig.other.read("a") == b"keep;" and list(rig.scripts()) == ["a"]


@pytest.mark.parametrize("patch", [{"isActive": True}, {"id": "x"}, {"content": "x"}, {"name/x": "y"}])
def test_what_the_client_does_not_set_is_refused(rig: Rig, patch: dict[str, Any]) -> None:
    id_ = rig.make("a")
    error = refused(rig.call("SieveScript/set", update={id_: patch}), "notUpdated")
    assert error["type"] in ("invalidProperties", "invalidPatch")
    # What is as it was may be sent back.
    assert rig.call("SieveScript/set", update={id_: rig.scripts()["a"]})["updated"] == {id_: None}
    assert refused(create(rig, name="b", blobId="x", isActive=True), "notCreated")["properties"] == ["isActive"]


def test_a_script_is_destroyed_unless_it_is_active(rig: Rig) -> None:
    id_ = rig.make("a")
    rig.activate(id_)
    error = refused(rig.call("SieveScript/set", destroy=[id_]), "notDestroyed")
    assert error["type"] == "sieveIsActive"
    # RFC 9661 §2.4: deactivated in a separate call.
    both = rig.call("SieveScript/set", destroy=[id_], onSuccessDeactivateScript=True)
    assert refused(both, "notDestroyed")["type"] == "sieveIsActive" and rig.active() == ["a"]
    assert rig.call("SieveScript/set", onSuccessDeactivateScript=True)["updated"] == {id_: {"isActive": False}}
    assert rig.call("SieveScript/set", destroy=[id_, "nope"])["destroyed"] == [id_]
    assert rig.scripts() == {} == dict(rig.other.scripts())


def test_if_in_state_sees_a_foreign_change(rig: Rig) -> None:
    id_ = rig.make("a")
    state = rig.call("SieveScript/get", ids=[])["state"]
    rig.other.write("a", FILE)
    assert rig.error("SieveScript/set", ifInState=state, destroy=[id_]).type == "stateMismatch"
    state = rig.call("SieveScript/get", ids=[])["state"]
    assert rig.call("SieveScript/set", ifInState=state, destroy=[id_])["destroyed"] == [id_]


# --- activation


def test_a_created_script_is_activated_in_the_same_call_and_the_old_one_reported(rig: Rig) -> None:
    old = rig.make("old")
    rig.activate(old)
    reply = rig.call(
        "SieveScript/set", create={"A": {"name": "new", "blobId": rig.upload(FILE)}}, onSuccessActivateScript="#A"
    )
    assert reply["created"]["A"]["isActive"] is True and reply["updated"] == {old: {"isActive": False}}
    assert rig.active() == ["new"] and dict(rig.other.scripts())["new"] is True
    assert reply["newState"] == rig.call("SieveScript/get", ids=[])["state"]


def test_nothing_is_activated_when_anything_failed(rig: Rig) -> None:
    id_ = rig.make("a")
    reply = rig.call("SieveScript/set", destroy=["nope"], onSuccessActivateScript=id_)
    assert reply["notDestroyed"] and reply["updated"] is None and rig.active() == []


@pytest.mark.parametrize("given", ["nope", "#nope", "", "not an id!"])
def test_an_unknown_script_to_activate_is_ignored(rig: Rig, given: str) -> None:
    id_ = rig.make("a")
    rig.activate(id_)
    reply = rig.call("SieveScript/set", onSuccessActivateScript=given)
    assert reply["updated"] is None and rig.active() == ["a"]


def test_deactivation_comes_before_activation(rig: Rig) -> None:
    first, second = rig.make("a"), rig.make("b")
    rig.activate(first)
    reply = rig.call("SieveScript/set", onSuccessActivateScript=second, onSuccessDeactivateScript=True)
    assert reply["updated"] == {first: {"isActive": False}, second: {"isActive": True}}
    assert rig.call("SieveScript/set", onSuccessDeactivateScript=False)["updated"] is None
    assert rig.active() == ["b"]


# --- connections that break


@pytest.mark.parametrize("when", ["before", "after"])
def test_after_a_cut_what_really_happened_is_told(rig: Rig, when: str) -> None:
    rig.call("SieveScript/get", ids=None)
    rig.between.cut = ("PUTSCRIPT", when)
    reply = create(rig, name="a", blobId=rig.upload(FILE))
    if when == "after":
        assert reply["created"]["k"]["id"] == rig.scripts()["a"]["id"]
    else:
        assert refused(reply, "notCreated")["type"] == "serverFail" and rig.scripts() == {}


def test_a_rename_that_was_done_before_the_cut_keeps_the_id(rig: Rig) -> None:
    rig.make("twin", FILE)
    id_ = rig.make("a", FILE)
    rig.between.cut = ("RENAMESCRIPT", "after")
    assert rig.call("SieveScript/set", update={id_: {"name": "b"}})["updated"] == {id_: None}
    assert rig.scripts()["b"]["id"] == id_


def test_an_activation_that_failed_after_the_records_were_done_is_a_partial_failure(rig: Rig) -> None:
    rig.between.cut = ("SETACTIVE", "before")
    error = rig.error(
        "SieveScript/set", create={"k": {"name": "a", "blobId": rig.upload(FILE)}}, onSuccessActivateScript="#k"
    )
    assert error.type == "serverPartialFail" and list(rig.scripts()) == ["a"]


def test_a_page_of_scripts_costs_two_round_trips(rig: Rig) -> None:
    for number in range(5):
        rig.other.write(f"s{number}", b"keep;")
    rig.scripts()
    before = rig.source._connection.round_trips
    rig.scripts()
    assert rig.source._connection.round_trips - before == 2
