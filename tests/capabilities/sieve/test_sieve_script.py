"""SieveScript/get, query, validate, and blobs of scripts, against a real Pigeonhole (RFC 9661)."""

from __future__ import annotations

import pytest
from sieve_rig import Rig

from jmapplug.capabilities.sieve import declaration
from jmapplug.capabilities.sieve.scripts import URN
from jmapplug.hookspecs import AccountInfo
from jmapplug.jmap.errors import MethodError
from jmapplug.jmap.methods import Limits

FILE = b'require "fileinto";\r\nfileinto "Lists";\r\n'


def test_what_another_client_made_is_there_with_its_content(rig: Rig) -> None:
    rig.other.write("theirs ü", FILE)
    rig.other.activate("theirs ü")
    script = rig.scripts()["theirs ü"]
    assert script["isActive"] is True
    blob = rig.account.blob(script["blobId"])
    assert (blob.path.read_bytes(), blob.type, blob.name) == (FILE, "application/sieve", "theirs ü.sieve")


def test_properties_and_ids_are_those_asked_for(rig: Rig) -> None:
    id_ = rig.make("a")
    reply = rig.call("SieveScript/get", ids=[id_, "nope"], properties=["name"])
    assert reply["list"] == [{"id": id_, "name": "a"}] and reply["notFound"] == ["nope"]
    assert rig.error("SieveScript/get", properties=["content"]).type == "invalidArguments"


def test_the_state_moves_with_every_foreign_change_and_with_none_else(rig: Rig) -> None:
    def state() -> str:
        return str(rig.call("SieveScript/get", ids=[])["state"])

    states = [state()]
    assert state() == states[0]
    for change in (
        lambda: rig.other.write("a", b"keep;"),
        lambda: rig.other.write("a", b"discard;"),
        lambda: rig.other.activate("a"),
        lambda: rig.other.rename("a", "b"),
        lambda: rig.other.activate(None),
        lambda: rig.other.delete("b"),
    ):
        change()
        states.append(state())
        assert state() == states[-1]
    assert len(set(states)) == 7


def test_a_foreign_change_is_told_to_subscribers_by_the_next_look(rig: Rig) -> None:
    rig.service.sync()
    del rig.told[:]
    rig.other.write("a", b"keep;")
    rig.service._due_at = 0
    rig.service.sync()
    assert rig.told == ["SieveScript"]
    rig.service.sync()
    assert rig.told == ["SieveScript"]


def test_an_id_follows_a_foreign_rename_and_does_not_come_back_for_another_script(rig: Rig) -> None:
    rig.other.write("a", FILE)
    id_ = rig.scripts()["a"]["id"]
    rig.other.rename("a", "b")
    assert rig.scripts()["b"]["id"] == id_
    rig.other.delete("b")
    assert rig.scripts() == {}
    rig.other.write("b", FILE)
    assert rig.scripts()["b"]["id"] != id_


def test_scripts_of_equal_content_do_not_take_each_others_id(rig: Rig) -> None:
    rig.other.write("a", FILE)
    rig.other.write("b", FILE)
    before = {each["id"] for each in rig.scripts().values()}
    rig.other.rename("a", "c")
    rig.other.rename("b", "d")
    after = {each["id"] for each in rig.scripts().values()}
    assert not before & after


def test_a_script_that_came_twice_is_no_rename(rig: Rig) -> None:
    rig.other.write("a", FILE)
    id_ = rig.scripts()["a"]["id"]
    rig.other.rename("a", "b")
    rig.other.write("c", FILE)
    assert id_ not in {each["id"] for each in rig.scripts().values()}


def test_ids_outlive_the_cache(rig: Rig) -> None:
    id_ = rig.make("a")
    rig.store.cache.write(lambda txn: [txn.execute(f"DELETE FROM {t}") for t in ("sieve_script", "sieve_seen")])
    assert rig.scripts()["a"]["id"] == id_


def test_a_blob_is_fetched_again_when_it_was_evicted_and_gone_when_no_script_has_it(rig: Rig) -> None:
    rig.make("a", FILE)
    blob_id = rig.scripts()["a"]["blobId"]
    rig.store.blobs.forget(blob_id)
    assert rig.account.blob(blob_id).path.read_bytes() == FILE
    rig.store.blobs.forget(blob_id)
    rig.other.write("a", b"keep;")
    assert rig.account.blob(blob_id) is None
    assert rig.account.blob("s-nonsense") is None


def test_old_content_stays_readable_while_it_is_cached(rig: Rig) -> None:
    rig.make("a", FILE)
    blob_id = rig.scripts()["a"]["blobId"]
    rig.other.delete("a")
    assert rig.scripts() == {}
    assert rig.account.blob(blob_id).path.read_bytes() == FILE


# --- query


def test_query_filters_and_sorts_by_name_and_activity(rig: Rig) -> None:
    ids = {name: rig.make(name) for name in ("beta", "Alpha", "gamma")}
    rig.activate(ids["gamma"])

    def ask(**args: object) -> list[str]:
        names = {id_: name for name, id_ in ids.items()}
        return [names[id_] for id_ in rig.call("SieveScript/query", **args)["ids"]]

    assert ask() == ["Alpha", "beta", "gamma"]
    assert ask(sort=[{"property": "isActive", "isAscending": False}, {"property": "name", "isAscending": False}]) == [
        "gamma",
        "beta",
        "Alpha",
    ]
    assert ask(filter={"name": "A", "isActive": False}) == ["Alpha", "beta"]
    assert ask(filter={"operator": "NOT", "conditions": [{"isActive": True}]}, limit=1, position=1) == ["beta"]
    assert rig.error("SieveScript/query", filter={"content": "x"}).type == "unsupportedFilter"
    assert rig.error("SieveScript/query", sort=[{"property": "blobId"}]).type == "unsupportedSort"
    reply = rig.call("SieveScript/query", calculateTotal=True)
    assert reply["total"] == 3 and reply["canCalculateChanges"] is False
    assert reply["queryState"] == rig.call("SieveScript/get", ids=[])["state"]


# --- validate


def test_validate_answers_null_or_the_compilers_words_and_stores_nothing(rig: Rig) -> None:
    assert rig.call("SieveScript/validate", blobId=rig.upload(FILE)) == {"accountId": "acc", "error": None}
    error = rig.call("SieveScript/validate", blobId=rig.upload(b"keep;\r\nrubbish;"))["error"]
    assert error["type"] == "invalidSieve" and "line 2" in error["description"]
    assert rig.scripts() == {}


@pytest.mark.parametrize("content", [b"", b"keep; # \xff", b"keep; # \0", b"#" * 300_000, b"#" * 1_000_001])
def test_what_can_be_no_script_is_invalid_too(rig: Rig, content: bytes) -> None:
    assert rig.call("SieveScript/validate", blobId=rig.upload(content))["error"]["type"] == "invalidSieve"


@pytest.mark.parametrize("args", [{}, {"blobId": None}, {"blobId": "f-nope"}, {"blobId": 5}, {"blobId": "x", "y": 1}])
def test_validate_refuses_arguments_without_a_blob(rig: Rig, args: dict[str, object]) -> None:
    assert rig.error("SieveScript/validate", **args).type == "invalidArguments"


# --- accounts and the Session


def test_an_account_without_managesieve_says_so(rig: Rig) -> None:
    rig.account.services.clear()
    for name in (
        "SieveScript/get",
        "SieveScript/set",
        "SieveScript/query",
        "VacationResponse/get",
        "VacationResponse/set",
    ):
        assert rig.error(name).type == "accountNotSupportedByMethod"
    assert rig.error("SieveScript/validate", blobId="s-x").type == "accountNotSupportedByMethod"


def test_the_session_tells_what_the_worker_learnt(rig: Rig) -> None:
    rig.service.setup()
    info = AccountInfo("acc", rig.user, "imap", frozenset({"mail", "sieve"}), facts=rig.facts)
    value = declaration.account_value(info)
    assert value is not None and {"fileinto", "include", "vacation"} <= set(value["sieveExtensions"])
    assert (value["notificationMethods"], value["externalLists"], value["maxNumberScripts"]) == (["mailto"], None, None)
    assert value["maxSizeScriptName"] >= 512 and value["maxNumberRedirects"] == rig.facts[URN]["maxNumberRedirects"]
    assert declaration.account_value(AccountInfo("acc", "", "imap", frozenset({"mail"}), facts=rig.facts)) is None
    assert declaration.SIEVE.server_value(Limits())["implementation"]


def test_a_server_that_is_away_is_no_error_of_the_sync_and_an_error_of_the_call(rig: Rig) -> None:
    rig.between.stop()
    rig.service.setup()
    assert rig.service.status()["error"]
    with pytest.raises(Exception) as caught:
        rig.call("SieveScript/get", ids=None)
    assert not isinstance(caught.value, MethodError)  # dispatch makes serverUnavailable of it
