"""Identity/get, /changes, /set (RFC 8621 §6)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from submission_rig import Rig

from jmapplug.capabilities.submission.addresses import allowed, distinct, is_mailbox


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path / "a", send_as=("list@example.org", "*@example.net"))
    yield made
    made.close()


def make(rig: Rig, **record: Any) -> dict[str, Any]:
    answer = rig.call("Identity/set", create={"k": record})
    result: dict[str, Any] = (answer["created"] or answer["notCreated"])["k"]
    return result


def test_the_accounts_own_address_has_an_identity_from_the_start(rig: Rig) -> None:
    (one,) = rig.call("Identity/get", ids=None)["list"]
    assert one == {
        "id": rig.identity, "name": "", "email": "ada@example.org", "replyTo": None, "bcc": None,
        "textSignature": "", "htmlSignature": "", "mayDelete": False,
    }  # fmt: skip


def test_it_may_be_changed_and_not_destroyed(rig: Rig) -> None:
    id_ = rig.identity
    bcc = [{"name": None, "email": "archive@example.org"}]
    change = {"name": "Ada", "textSignature": "-- \nAda", "htmlSignature": "<b>Ada</b>", "bcc": bcc}
    answer = rig.call("Identity/set", update={id_: change}, destroy=["nope"])
    assert answer["updated"] == {id_: None}
    assert answer["notDestroyed"]["nope"]["type"] == "notFound"
    (one,) = rig.call("Identity/get", ids=[id_])["list"]
    assert {name: one[name] for name in change} == change
    assert rig.call("Identity/set", destroy=[id_])["notDestroyed"][id_]["type"] == "forbidden"


def test_null_sets_a_property_back(rig: Rig) -> None:
    id_ = rig.identity
    rig.call("Identity/set", update={id_: {"name": "Ada", "textSignature": "x", "replyTo": [{"email": "r@y.z"}]}})
    (one,) = rig.call("Identity/get", ids=[id_])["list"]
    assert one["replyTo"] == [{"name": None, "email": "r@y.z"}]
    rig.call("Identity/set", update={id_: {"name": None, "textSignature": None, "replyTo": None}})
    (one,) = rig.call("Identity/get", ids=[id_])["list"]
    assert (one["name"], one["textSignature"], one["replyTo"]) == ("", "", None)


def test_several_identities_with_the_addresses_that_the_account_may_use(rig: Rig) -> None:
    for email in ("ada@example.org", "list@example.org", "any@example.net", "*@example.net"):
        made = make(rig, email=email, name="N", textSignature=None)
        assert made["mayDelete"] is True
        assert made["textSignature"] == ""
        assert "email" not in made
    for email in ("boss@example.org", "*@example.org", "any@sub.example.net"):
        assert make(rig, email=email)["type"] == "forbiddenFrom"
    assert len(rig.call("Identity/get", ids=None)["list"]) == 5


@pytest.mark.parametrize(
    ("record", "properties"),
    [
        ({}, ["email"]),
        ({"email": 3}, ["email"]),
        ({"email": "nobody"}, ["email"]),
        ({"email": "ada@example.org", "name": 3}, ["name"]),
        ({"email": "ada@example.org", "bcc": [{"x": 1}], "replyTo": "a@b.c"}, ["bcc", "replyTo"]),
        ({"email": "ada@example.org", "mayDelete": True}, ["mayDelete"]),
        ({"email": "ada@example.org", "id": "x"}, ["id"]),
        ({"email": "ada@example.org", "signature": "x"}, ["signature"]),
    ],
)
def test_what_is_no_identity_is_refused_with_the_names_of_what_is_wrong(
    rig: Rig, record: dict[str, Any], properties: list[str]
) -> None:
    error = make(rig, **record)
    assert (error["type"], error["properties"]) == ("invalidProperties", properties)


@pytest.mark.parametrize(
    "change", [{"email": "list@example.org"}, {"mayDelete": True}, {"name": 3}, {"x": 1}, {"email": None}]
)
def test_what_cannot_be_changed_is_refused(rig: Rig, change: dict[str, Any]) -> None:
    id_ = rig.identity
    error = rig.call("Identity/set", update={id_: change})["notUpdated"][id_]
    assert (error["type"], error["properties"]) == ("invalidProperties", list(change))


def test_unchanged_immutable_properties_may_be_repeated(rig: Rig) -> None:
    (one,) = rig.call("Identity/get", ids=None)["list"]
    assert rig.call("Identity/set", update={one["id"]: {**one, "name": "Ada"}})["updated"] == {one["id"]: None}


def test_changes_are_told_and_pushed_and_an_echo_is_none(rig: Rig) -> None:
    state = rig.call("Identity/get", ids=[])["state"]
    made = make(rig, email="list@example.org")["id"]
    rig.call("Identity/set", update={rig.identity: {"name": "Ada"}})
    step = rig.call("Identity/changes", sinceState=state)
    assert (step["created"], step["updated"]) == ([made], [rig.identity])
    assert rig.published[-1] == {"Identity": step["newState"]}
    rig.call("Identity/set", update={rig.identity: {"name": "Ada"}})
    assert rig.call("Identity/get", ids=[])["state"] == step["newState"]
    rig.call("Identity/set", destroy=[made])
    assert rig.call("Identity/changes", sinceState=step["newState"])["destroyed"] == [made]


def test_identities_outlive_a_restart_and_a_lost_cache(rig: Rig) -> None:
    made = make(rig, email="list@example.org", name="List")["id"]
    before = rig.call("Identity/get", ids=None)
    rig.reopen()
    assert rig.call("Identity/get", ids=None) == before
    rig.lose_cache()
    after = rig.call("Identity/get", ids=None)
    assert after["list"] == before["list"]
    assert rig.error("Identity/changes", sinceState=before["state"])["type"] == "cannotCalculateChanges"
    assert made in [one["id"] for one in after["list"]]


def test_the_identity_follows_the_accounts_address_and_keeps_its_id(rig: Rig) -> None:
    id_, state = rig.identity, rig.call("Identity/get", ids=[])["state"]
    rig.email = "ada@example.com"
    rig.reopen()
    (one,) = rig.call("Identity/get", ids=[id_])["list"]
    assert one["email"] == "ada@example.com"
    assert rig.call("Identity/changes", sinceState=state)["updated"] == [id_]


# --- addresses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "email", ["a@b", "a.b+c@d-e.f", '"a b"@c.d', "a@[127.0.0.1]", "a@[IPv6:::1]", "jörg@bücher.example", "a@xn--x.y"]
)
def test_mailboxes_of_smtp(email: str) -> None:
    assert is_mailbox(email)


@pytest.mark.parametrize(
    "email",
    ["", "a", "a@", "@b", "a b@c.d", "a@b c", "a..b@c.d", ".a@b.c", "a@b..c", "a@-b.c", "<a@b.c>", "a@b.c>", "a@b\r\n",
     "a@[1.2.3]", "a@[x]", "a@b,c@d", "a" * 65 + "@b.c", "a@" + "b" * 256, "a\x00@b.c", "a@b.c\n", "\udc80@b.c"],
)  # fmt: skip
def test_what_is_no_mailbox(email: str) -> None:
    assert not is_mailbox(email)


@given(st.text(max_size=30))
def test_no_mailbox_holds_what_would_end_a_command(text: str) -> None:
    for email in (text, f"a@{text}", f"{text}@b.c"):
        if is_mailbox(email):
            assert not set("\r\n<>\0") & set(email.partition('"')[0] + email.rpartition("@")[2])
            assert "\r" not in email
            assert "\n" not in email


def test_patterns_allow_a_domain_and_nothing_below_it() -> None:
    assert allowed("X@Example.NET", ("*@example.net",))
    assert not allowed("x@sub.example.net", ("*@example.net",))
    assert not allowed("*@example.org", ("ada@example.org",))
    assert not allowed("x@example.net@evil.org", ("*@example.net",))


def test_duplicates_are_those_with_the_same_mailbox() -> None:
    assert distinct(["a@B.c", "a@b.c", "A@b.c"]) == ["a@B.c", "A@b.c"]
