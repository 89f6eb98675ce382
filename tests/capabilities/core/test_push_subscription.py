"""PushSubscription/get and /set (RFC 8620 §7.2): what the methods answer."""

from __future__ import annotations

import calendar
import time
from pathlib import Path
from typing import Any

import pytest
from push_rig import Rig, until

from jmapplug.capabilities.core import push_subscription
from jmapplug.testing.push_service import PushService

DAY = 86_400


def date(ahead: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + ahead))


def seconds(utc: str) -> float:
    """From now to a date."""
    return calendar.timegm(time.strptime(utc, "%Y-%m-%dT%H:%M:%SZ")) - time.time()


# --- /get


def test_get_has_no_account_and_no_state_and_set_has_no_states(rig: Rig) -> None:
    assert rig.call("PushSubscription/get", ids=None) == {"list": [], "notFound": []}
    assert rig.call("PushSubscription/get", ids=["a", "a"], properties=["types"]) == {"list": [], "notFound": ["a"]}
    reply = rig.call("PushSubscription/set", create=None)
    assert reply == dict.fromkeys(("created", "updated", "destroyed", "notCreated", "notUpdated", "notDestroyed"), None)


@pytest.mark.parametrize("name", ["PushSubscription/get", "PushSubscription/set"])
@pytest.mark.parametrize("args", [{"accountId": "acc"}, {"ifInState": "s"}, {"x": None}])
def test_what_belongs_to_accounts_is_no_argument(rig: Rig, name: str, args: dict[str, Any]) -> None:
    assert rig.call(name, **args)["type"] == "invalidArguments"


@pytest.mark.parametrize("args", [{"ids": "a"}, {"ids": [1]}, {"properties": ["secret"]}, {"properties": "id"}])
def test_arguments_of_get_are_checked(rig: Rig, args: dict[str, Any]) -> None:
    assert rig.call("PushSubscription/get", **args)["type"] == "invalidArguments"
    assert rig.call("PushSubscription/get", ids=["x"] * 4097)["type"] == "requestTooLarge"


@pytest.mark.parametrize("name", ["url", "keys"])
def test_asking_for_the_url_or_the_keys_is_forbidden(rig: Rig, name: str) -> None:
    assert rig.call("PushSubscription/get", properties=["id", name])["type"] == "forbidden"


def test_a_subscription_shows_everything_but_url_and_keys(rig: Rig) -> None:
    id_ = rig.subscribe(types=["Email", "Mailbox", "Email"])
    (found,) = rig.call("PushSubscription/get")["list"]
    code = rig.row(id_).code
    assert found == {
        "id": id_,
        "deviceClientId": "dev",
        "verificationCode": code,
        "expires": found["expires"],
        "types": ["Email", "Mailbox"],
    }
    assert rig.call("PushSubscription/get", ids=[id_], properties=["types"])["list"] == [
        {"id": id_, "types": ["Email", "Mailbox"]}
    ]


def test_the_code_is_not_shown_to_who_has_not_received_it(rig: Rig) -> None:
    rig.create()
    assert rig.call("PushSubscription/get")["list"][0]["verificationCode"] is None


# --- create


def test_creation_answers_what_the_server_has_set(rig: Rig) -> None:
    made = rig.create(keys=...)["created"]["k"]
    assert set(made) == {"id", "keys", "types", "verificationCode", "expires"}
    assert (made["keys"], made["types"], made["verificationCode"]) == (None, None, None)
    assert 7 * DAY - 60 < seconds(made["expires"]) <= 7 * DAY


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({"deviceClientId": ...}, "deviceClientId"),
        ({"deviceClientId": ""}, "deviceClientId"),
        ({"deviceClientId": "x" * 256}, "deviceClientId"),
        ({"url": ...}, "url"),
        ({"url": "push.example.com"}, "url"),
        ({"url": "https://nowhere.invalid/"}, "url"),
        ({"keys": "abc"}, "keys"),
        ({"keys": {"p256dh": "AAAA", "auth": "AAAA"}}, "keys"),
        ({"keys": {}}, "keys"),
        ({"verificationCode": "guess"}, "verificationCode"),
        ({"expires": "tomorrow"}, "expires"),
        ({"expires": "2020-01-01T00:00:00Z"}, "expires"),
        ({"types": "Email"}, "types"),
        ({"types": [1]}, "types"),
        ({"types": ["x"] * 101}, "types"),
        ({"id": "mine"}, "id"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_is_wrong_with_a_subscription_is_named(rig: Rig, more: dict[str, Any], name: str) -> None:
    error = rig.create(**more)["notCreated"]["k"]
    assert (error["type"], error["properties"]) == ("invalidProperties", [name])
    assert rig.call("PushSubscription/get")["list"] == []


def test_a_login_has_so_many_subscriptions_and_no_more(rig: Rig) -> None:
    rig.service_settings.extra["JMAP_PUSH_SUBSCRIPTIONS"] = 2
    ids = [rig.create(f"p{n}")["created"]["k"]["id"] for n in range(2)]
    assert rig.create("p3")["notCreated"]["k"]["type"] == "overQuota"
    rig.call("PushSubscription/set", destroy=ids[:1])
    assert rig.create("p4")["created"]


def test_the_rate_of_creation_is_limited_also_across_restarts(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 8620 §8.6: a verification is a request to a stranger."""
    monkeypatch.setattr(push_subscription, "MOST_IN_AN_HOUR", 2)
    for n in range(2):
        id_ = rig.create(f"p{n}")["created"]["k"]["id"]
        rig.call("PushSubscription/set", destroy=[id_])
    rig.reopen()
    assert rig.create("p")["notCreated"]["k"]["type"] == "rateLimit"
    rig.ahead = 3601
    assert rig.create("p")["created"]


# --- update


def test_a_wrong_code_is_refused_and_changes_nothing(rig: Rig) -> None:
    id_ = rig.create()["created"]["k"]["id"]
    for wrong in ("guess", "", 5, "é", ["x"]):
        error = rig.update(id_, verificationCode=wrong)["notUpdated"][id_]
        assert (error["type"], error["properties"]) == ("invalidProperties", ["verificationCode"])
    assert not rig.row(id_).verified
    assert rig.update(id_, verificationCode=None)["updated"] == {id_: None}, "it is null"


def test_the_right_code_verifies_and_may_be_told_again(rig: Rig) -> None:
    id_ = rig.subscribe()
    assert rig.row(id_).verified
    assert rig.update(id_, verificationCode=rig.row(id_).code)["updated"] == {id_: None}
    assert rig.update(id_, verificationCode="other")["notUpdated"][id_]["type"] == "invalidProperties"
    assert rig.update(id_, verificationCode=None)["notUpdated"][id_]["type"] == "invalidProperties"
    assert rig.row(id_).verified


def test_a_lifetime_is_capped_at_seven_days_and_kept_up_by_updates(rig: Rig) -> None:
    id_ = rig.create(expires=date(2 * DAY))["created"]["k"]["id"]
    wished = date(3 * DAY)
    assert rig.update(id_, expires=wished)["updated"] == {id_: None}
    assert rig.call("PushSubscription/get")["list"][0]["expires"] == wished
    rig.ahead = 2.5 * DAY
    told = rig.update(id_, expires=date(90 * DAY))["updated"][id_]["expires"]
    assert 9.5 * DAY - 60 < seconds(told) <= 9.5 * DAY
    told = rig.update(id_, expires=None)["updated"][id_]["expires"]
    assert 9.5 * DAY - 60 < seconds(told) <= 9.5 * DAY
    assert rig.update(id_, expires="2020-01-01T00:00:00Z")["notUpdated"][id_]["properties"] == ["expires"]
    assert not rig.row(id_).verified, "a longer life is no verification"


@pytest.mark.parametrize(
    ("patch", "kind"),
    [
        ({"url": "https://other.example.com/"}, "invalidProperties"),
        ({"keys": None}, "invalidProperties"),
        ({"keys/auth": "BTBZMqHH6r4Tts7J_aSIgg"}, "invalidProperties"),
        ({"deviceClientId": "other"}, "invalidProperties"),
        ({"id": "other"}, "invalidProperties"),
        ({"id": None}, "invalidProperties"),
        ({"colour": "red"}, "invalidProperties"),
        ({"types": ["x", 5]}, "invalidProperties"),
        ({"types/0": "Email"}, "invalidPatch"),
        ({"types": None, "types/0": "x"}, "invalidPatch"),
    ],
)
def test_what_cannot_be_changed_is_not(rig: Rig, patch: dict[str, Any], kind: str) -> None:
    id_ = rig.create(types=["Email"])["created"]["k"]["id"]
    before = rig.row(id_)
    assert rig.update(id_, **patch)["notUpdated"][id_]["type"] == kind
    assert rig.row(id_).types == before.types
    assert rig.row(id_).url == before.url
    assert rig.update(id_, url=before.url, keys=rig.device.keys, deviceClientId="dev")["updated"] == {id_: None}


def test_creating_updating_and_destroying_go_together_in_one_call(rig: Rig) -> None:
    old = rig.create("old")["created"]["k"]["id"]
    record = {"deviceClientId": "d", "url": rig.service.url("new")}
    reply = rig.call(
        "PushSubscription/set",
        create={"n": record},
        update={"#n": {"types": ["Email"]}, old: {"types": []}, "nobody": {}},
        destroy=[old, "none"],
    )
    new = reply["created"]["n"]["id"]
    assert reply["updated"] == {new: None}
    assert {id_: error["type"] for id_, error in reply["notUpdated"].items()} == {
        old: "willDestroy", "nobody": "notFound",
    }  # fmt: skip
    assert reply["destroyed"] == [old]
    assert reply["notDestroyed"]["none"]["type"] == "notFound"


# --- destroy, expiry


def files(rig: Rig) -> bytes:
    """The octets of own.sqlite3 and its log."""
    return b"".join(path.read_bytes() for path in sorted(Path(rig.store.folder).glob("own.sqlite3*")))


def test_a_destroyed_subscription_leaves_neither_url_nor_keys_on_the_disk(rig: Rig) -> None:
    id_ = rig.subscribe("secret-capability-url")
    row = rig.row(id_)
    secrets = [row.url.encode(), str(row.p256dh).encode(), str(row.auth).encode(), row.code.encode()]
    assert all(secret in files(rig) for secret in secrets)
    assert rig.call("PushSubscription/set", destroy=[id_])["destroyed"] == [id_]
    assert not any(secret in files(rig) for secret in secrets)
    assert rig.call("PushSubscription/get", ids=[id_])["notFound"] == [id_]


def test_an_expired_subscription_is_gone_at_once_and_erased_by_the_next_pass(rig: Rig) -> None:
    id_ = rig.subscribe(expires=date(3600))
    rig.ahead = 3601
    assert rig.call("PushSubscription/get")["list"] == []
    assert rig.update(id_, expires=date(DAY))["notUpdated"][id_]["type"] == "notFound"
    rig.move("Email")
    rig.pusher.sync()
    rig.quiet()
    assert rig.service.posts == []
    assert rig.service.url("a").encode() not in files(rig)
    assert not rig.pusher.busy


def test_a_device_that_subscribes_again_is_not_told_everything_twice(rig: Rig) -> None:
    first, other = rig.subscribe("a"), rig.subscribe("b")
    second = rig.create("a")["created"]["k"]["id"]
    assert {row.id for row in rig.pusher.live()} == {first, other, second}, "the first one works until the second does"
    until(lambda: rig.row(second).code_sent, "the verification")
    rig.update(second, verificationCode=rig.row(second).code)
    assert {row.id for row in rig.pusher.live()} == {other, second}


def test_neither_url_nor_code_is_in_what_a_log_would_show(rig: Rig, push_service: PushService) -> None:
    row = rig.row(rig.subscribe("hidden"))
    assert "hidden" not in repr(row)
    assert row.code not in f"{row!r} {row}"
