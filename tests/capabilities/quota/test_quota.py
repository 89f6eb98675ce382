from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quota_rig import CORE, MAIL, QuotaRig

from jmapplug.capabilities.quota import QUOTA, URN, service
from jmapplug.hookspecs import AccountInfo

BOX = ("User quota", "STORAGE", 1000, 5000)
COUNT = ("User quota", "MESSAGE", 3, 100)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[QuotaRig]:
    made = QuotaRig(tmp_path)
    yield made
    made.store.close()


def test_a_quota_has_every_property_of_the_rfc(rig: QuotaRig) -> None:
    rig.set(BOX)
    (quota,) = rig.get().values()
    assert quota | {"id": ""} == {
        "id": "",
        "resourceType": "octets",
        "used": 1000,
        "hardLimit": 5000,
        "warnLimit": None,
        "softLimit": None,
        "scope": "account",
        "name": "User quota",
        "description": None,
        "types": ["Mail", "Email"],
    }


def test_octets_and_messages_of_one_root_are_two_quotas(rig: QuotaRig) -> None:
    rig.set(BOX, COUNT, ("User quota", "MAILBOX", 7, 50), ("User quota", "ANNOTATION-STORAGE", 7, 50))
    found = rig.call("Quota/get", ids=None)["list"]
    assert sorted((each["resourceType"], each["used"], each["types"]) for each in found) == [
        ("count", 3, ["Mail", "Email"]),
        ("count", 7, ["Mailbox"]),
        ("octets", 1000, ["Mail", "Email"]),
    ]


def test_a_root_without_a_name_and_numbers_too_large_for_json_are_told_as_well_as_they_can(rig: QuotaRig) -> None:
    rig.set(("", "STORAGE", 2**60, 2**62), ("a\x00\nb", "MESSAGE", -1, 5))
    found = rig.get()
    assert (found["Mail octets"]["used"], found["Mail octets"]["hardLimit"]) == (2**53 - 1, 2**53 - 1)
    assert found["ab count"]["used"] == 0


def test_ids_stay_when_values_change_and_when_the_cache_is_lost(rig: QuotaRig, tmp_path: Path) -> None:
    rig.set(BOX, COUNT)
    before = {name: quota["id"] for name, quota in rig.get().items()}
    rig.store.close()
    (tmp_path / "account" / "cache.sqlite3").unlink()
    again = QuotaRig(tmp_path)
    again.set(("User quota", "MESSAGE", 9, 9), ("User quota", "STORAGE", 9, 9))
    assert {name: quota["id"] for name, quota in again.get().items()} == before
    again.store.close()


def test_a_quota_of_mail_is_not_told_to_a_request_that_does_not_use_mail(rig: QuotaRig) -> None:
    rig.set(BOX)
    (got, queried) = rig.request(("Quota/get", {"ids": None}), ("Quota/query", {}), using=(CORE, URN))
    assert got[1]["list"] == [] and queried[1]["ids"] == []


def test_bulwark_calls_quota_get_with_nothing_but_mail_in_using(rig: QuotaRig) -> None:
    rig.set(BOX)
    ((name, answer),) = rig.request(("Quota/get", {"ids": None}), using=(CORE, MAIL))
    assert name == "Quota/get" and len(answer["list"]) == 1


def test_a_change_of_usage_alone_names_used_as_the_updated_property(rig: QuotaRig) -> None:
    rig.set(BOX, COUNT)
    ids, since = rig.get(), rig.state()
    rig.set(("User quota", "STORAGE", 1234, 5000), COUNT)
    answer = rig.call("Quota/changes", sinceState=since)
    assert answer["updated"] == [ids["User quota octets"]["id"]]
    assert (answer["created"], answer["destroyed"], answer["hasMoreChanges"]) == ([], [], False)
    assert answer["updatedProperties"] == ["used"]
    assert answer["newState"] == rig.state() != since


def test_a_changed_limit_makes_the_updated_properties_null(rig: QuotaRig) -> None:
    rig.set(BOX, COUNT)
    since = rig.state()
    rig.set(("User quota", "STORAGE", 1234, 9999), ("User quota", "MESSAGE", 4, 100))
    answer = rig.call("Quota/changes", sinceState=since)
    assert len(answer["updated"]) == 2 and answer["updatedProperties"] is None
    assert rig.call("Quota/changes", sinceState=answer["newState"])["updatedProperties"] is None


def test_quotas_that_come_and_go_are_created_and_destroyed(rig: QuotaRig) -> None:
    rig.set(BOX)
    box, since = rig.get()["User quota octets"]["id"], rig.state()
    rig.set(COUNT)
    answer = rig.call("Quota/changes", sinceState=since)
    assert answer["destroyed"] == [box]
    assert answer["created"] == [rig.get()["User quota count"]["id"]]
    middle = rig.state()
    rig.set(BOX, COUNT)
    assert rig.call("Quota/changes", sinceState=middle)["created"] == [box]


def test_changes_come_in_as_small_pieces_as_a_client_takes(rig: QuotaRig) -> None:
    since = rig.state()
    rig.set(BOX, COUNT, ("other", "STORAGE", 1, 2))
    whole = rig.call("Quota/changes", sinceState=since)
    pieces: list[str] = []
    while True:
        answer = rig.call("Quota/changes", sinceState=since, maxChanges=1)
        assert len(answer["created"]) == 1
        pieces += answer["created"]
        since = answer["newState"]
        if not answer["hasMoreChanges"]:
            break
    assert sorted(pieces) == sorted(whole["created"]) and len(pieces) == 3


def test_a_state_of_another_store_cannot_be_calculated_from(rig: QuotaRig) -> None:
    assert rig.error("Quota/changes", sinceState="nonsense-1") == "cannotCalculateChanges"
    assert rig.error("Quota/queryChanges", sinceQueryState="nonsense-1") == "cannotCalculateChanges"


def test_quotas_are_read_again_after_a_change_of_emails_and_not_for_each_call(rig: QuotaRig) -> None:
    rig.set(BOX)
    for _ in range(5):
        rig.get()
    assert rig.upstream.reads == 1
    rig.set(("User quota", "STORAGE", 2000, 5000))
    assert rig.get()["User quota octets"]["used"] == 2000
    assert rig.upstream.reads == 2


def test_old_values_are_read_again(rig: QuotaRig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.set(BOX)
    rig.get()
    monkeypatch.setattr(service, "MAX_AGE", 0.0)
    rig.get()
    assert rig.upstream.reads == 2


def test_callers_at_the_same_time_share_one_look_at_the_server(rig: QuotaRig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.set(BOX)
    told = rig.upstream.quotas

    def slow() -> Any:
        gevent.sleep(0)
        return told()

    monkeypatch.setattr(rig.upstream, "quotas", slow)
    done = [gevent.spawn(rig.get) for _ in range(5)]
    gevent.joinall(done, raise_error=True)
    assert rig.upstream.reads == 1


def test_what_was_seen_last_is_answered_while_the_server_is_away(rig: QuotaRig) -> None:
    rig.set(BOX)
    rig.get()
    rig.upstream.down = True
    rig.mail_changes()
    assert rig.get()["User quota octets"]["used"] == 1000


def test_a_server_that_was_never_seen_is_unavailable_and_its_account_not_empty(rig: QuotaRig) -> None:
    rig.upstream.down = True
    assert rig.error("Quota/get", ids=None) == "serverUnavailable"


def test_an_account_without_quotas_says_that_it_has_none(rig: QuotaRig) -> None:
    rig.upstream.down = True
    rig.account.offers = lambda: ["mail"]
    assert rig.error("Quota/get", ids=None) == "accountNotSupportedByMethod"


def test_only_what_changed_moves_the_state_and_is_pushed(rig: QuotaRig) -> None:
    rig.set(BOX, COUNT)
    rig.service.sync()
    rig.told.clear()
    rig.mail_changes()
    rig.service.sync()
    assert not [each for each in rig.told if "Quota" in each]
    rig.set(("User quota", "STORAGE", 2000, 6000), ("User quota", "MESSAGE", 4, 100))
    rig.service.sync()
    assert [each for each in rig.told if "Quota" in each] == [{"Quota": rig.store.state("Quota")}]


def test_the_service_wakes_when_emails_change_and_not_when_mailboxes_do(
    rig: QuotaRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "PAUSE", 0.0)
    rig.store.commit(lambda change: change.touch("Mailbox"))
    assert rig.service.wait(0.0) is False
    rig.mail_changes()
    assert rig.service.wait(60) is True


def test_the_service_looks_seldom_once_the_server_has_answered(rig: QuotaRig) -> None:
    """The next pass may be ten minutes away: not before it is known what there is."""
    rig.set(BOX)
    rig.upstream.down = True
    rig.service.sync()
    assert not rig.service.seldom
    rig.upstream.down = False
    rig.service.sync()
    assert rig.service.seldom
    rig.account.offers, rig.account.session.known = list, False
    rig.service.sync()
    assert not rig.service.seldom
    rig.account.session.known = True
    rig.service.sync()
    assert rig.service.seldom


def test_a_server_that_refuses_quotas_does_not_stop_the_account(rig: QuotaRig) -> None:
    rig.upstream.down = True
    rig.service.sync()
    rig.account.offers = lambda: ["mail"]
    rig.service.sync()
    assert rig.upstream.reads == 1


QUERIES: list[tuple[dict[str, Any], list[str]]] = [
    ({}, ["a octets", "B count", "B octets"]),
    ({"filter": {"name": "b"}}, ["B count", "B octets"]),
    ({"filter": {"resourceType": "count"}}, ["B count"]),
    ({"filter": {"scope": "account", "type": "Email", "name": "A"}}, ["a octets"]),
    ({"filter": {"scope": "domain"}}, []),
    ({"filter": {"type": "Mail"}}, ["a octets", "B count", "B octets"]),
    ({"filter": {"operator": "NOT", "conditions": [{"name": "a"}]}}, ["B count", "B octets"]),
    ({"sort": [{"property": "used", "isAscending": False}]}, ["B octets", "a octets", "B count"]),
    ({"sort": [{"property": "name", "isAscending": False}, {"property": "used"}]}, ["B count", "B octets", "a octets"]),
    ({"position": 1, "limit": 1, "sort": [{"property": "used"}]}, ["a octets"]),
]


@pytest.mark.parametrize(("args", "expected"), QUERIES)
def test_quotas_are_filtered_and_sorted(rig: QuotaRig, args: dict[str, Any], expected: list[str]) -> None:
    rig.set(("B", "STORAGE", 30, 100), ("B", "MESSAGE", 10, 100), ("a", "STORAGE", 20, 100))
    names = {quota["id"]: name for name, quota in rig.get().items()}
    answer = rig.call("Quota/query", **args)
    found = [names[id_] for id_ in answer["ids"]]
    assert (found if args.get("sort") else sorted(found, key=str.casefold)) == expected
    assert answer["canCalculateChanges"] is True


@pytest.mark.parametrize(
    ("args", "error"),
    [
        ({"filter": {"used": 5}}, "unsupportedFilter"),
        ({"filter": {"name": 5}}, "invalidArguments"),
        ({"sort": [{"property": "hardLimit"}]}, "unsupportedSort"),
    ],
)
def test_other_filters_and_sorts_are_refused(rig: QuotaRig, args: dict[str, Any], error: str) -> None:
    rig.set(BOX)
    assert rig.error("Quota/query", **args) == error


def spliced(old: list[str], answer: dict[str, Any]) -> list[str]:
    """RFC 8620 §5.6: what a client makes of /queryChanges."""
    new = [id_ for id_ in old if id_ not in answer["removed"]]
    for one in answer["added"]:
        new.insert(one["index"], one["id"])
    return new


ROOTS = st.dictionaries(
    st.sampled_from([("a", "STORAGE"), ("a", "MESSAGE"), ("b", "STORAGE"), ("c", "MESSAGE")]),
    st.tuples(st.integers(0, 5), st.integers(5, 7)),
)


@given(steps=st.lists(ROOTS, min_size=2, max_size=6))
@settings(deadline=None, max_examples=40)
def test_changes_and_query_changes_lead_from_every_state_to_the_present(
    tmp_path_factory: pytest.TempPathFactory, steps: list[dict[tuple[str, str], tuple[int, int]]]
) -> None:
    rig = QuotaRig(tmp_path_factory.mktemp("rig"))
    args = {"filter": {"type": "Mail"}, "sort": [{"property": "used"}]}
    seen = []
    for step in steps:
        rig.set(*((*key, *values) for key, values in step.items()))
        answer = rig.call("Quota/get", ids=None)
        query = rig.call("Quota/query", **args)
        seen.append((answer["state"], {each["id"]: each for each in answer["list"]}, query["queryState"], query["ids"]))
    _, now, _, ids_now = seen[-1]
    for state, known, query_state, ids in seen:
        answer = rig.call("Quota/changes", sinceState=state)
        told = {*answer["created"], *answer["updated"]}
        assert {id_ for id_ in known if id_ not in answer["destroyed"]} | told == now.keys()
        assert {id_: now[id_] for id_ in now if id_ not in told} == {id_: known[id_] for id_ in now if id_ not in told}
        changes = rig.call("Quota/queryChanges", sinceQueryState=query_state, **args)
        assert spliced(ids, changes) == ids_now
    rig.store.close()


def test_the_capability_is_told_of_accounts_whose_server_has_quotas() -> None:
    def value(*offers: str) -> Any:
        return QUOTA.account_value(AccountInfo("a", "a@example.com", "imap", frozenset(offers)))

    assert value("mail", "quota") == {}
    assert value("mail") is None
    assert value() is None
