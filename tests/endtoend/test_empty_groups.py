"""What is empty in a /set, an import or a parse is null, never {}: real clients test it for truth."""

from __future__ import annotations

from typing import Any

import pytest

from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.ports import free_ports
from jmapplug.testing.proxy import USING, Client, Proxy

ALL = (
    *USING,
    *(f"urn:ietf:params:jmap:{name}" for name in ("submission", "vacationresponse", "sieve", "mdn", "blob", "quota")),
)
NOT = {"created": "notCreated", "updated": "notUpdated", "destroyed": "notDestroyed"}
SETS = ("Email/set", "Mailbox/set", "Identity/set", "EmailSubmission/set", "VacationResponse/set", "SieveScript/set")


@pytest.fixture(scope="module")
def client(proxy: Proxy, dovecot_sieve: Dovecot) -> Client:
    (port,) = free_ports(1)
    more = {"sievePort": dovecot_sieve.sieve_port, "smtpHost": dovecot_sieve.host, "smtpPort": port, "smtpSSL": 0}
    body = {
        "accountid": "groups", "email": (user := dovecot_sieve.new_user()), "password": dovecot_sieve.password,
        "imapHost": dovecot_sieve.host, "imapPort": dovecot_sieve.port, "imapSSL": 0, **more,
    }  # fmt: skip
    assert proxy.management.send("POST", "/api/accounts", body).status == 201
    proxy.settled("groups")
    return proxy.client("groups", user, dovecot_sieve.password)


def answered(client: Client, name: str, **args: Any) -> dict[str, Any]:
    ((kind, answer, _),) = client.request((name, args), using=ALL)
    assert kind == name, answer
    return dict(answer)


def groups(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: answer[name] for pair in NOT.items() for name in pair if name in answer}


@pytest.mark.parametrize("name", SETS)
def test_a_set_of_nothing(client: Client, name: str) -> None:
    for empty in ({}, {"create": {}, "update": {}, "destroy": []}, {"create": None, "update": None, "destroy": None}):
        answer = answered(client, name, **empty)
        assert groups(answer) == dict.fromkeys((*NOT, *NOT.values()))
        assert answer["oldState"] == answer["newState"]


@pytest.mark.parametrize("name", SETS)
def test_a_set_in_which_all_fails(client: Client, name: str) -> None:
    answer = answered(client, name, create={"x": {"nonsense": 1}}, update={"nope": {}}, destroy=["nope"])
    assert all(answer[each] is None for each in NOT), answer
    assert {each: list(answer[each]) for each in NOT.values()} == {
        "notCreated": ["x"], "notUpdated": ["nope"], "notDestroyed": ["nope"],
    }  # fmt: skip


def test_a_set_in_which_all_is_done(client: Client) -> None:
    made = answered(client, "Mailbox/set", create={"m": {"name": "Groups"}})
    id_ = made["created"]["m"]["id"]
    assert {name for name, value in groups(made).items() if value is not None} == {"created"}
    renamed = answered(client, "Mailbox/set", update={id_: {"name": "More groups"}})
    assert groups(renamed) == {**dict.fromkeys((*NOT, *NOT.values())), "updated": {id_: None}}
    gone = answered(client, "Mailbox/set", destroy=[id_])
    assert groups(gone) == {**dict.fromkeys((*NOT, *NOT.values())), "destroyed": [id_]}


@pytest.mark.parametrize(
    ("name", "args", "null", "names"),
    [
        ("Email/import", {"emails": {}}, ("created", "notCreated"), ()),
        ("Email/import", {"emails": {"i": {"blobId": "nope", "mailboxIds": {}}}}, ("created",), ("notCreated",)),
        ("Email/parse", {"blobIds": ["nope"]}, ("parsed", "notParsable"), ("notFound",)),
        ("MDN/parse", {"blobIds": ["nope"]}, ("parsed", "notParsable"), ("notFound",)),
        ("Blob/upload", {"create": {}}, ("created", "notCreated"), ()),
        ("SearchSnippet/get", {"filter": {"text": "x"}, "emailIds": []}, ("notFound",), ()),
    ],
)
def test_what_is_not_a_set(
    client: Client, name: str, args: dict[str, Any], null: tuple[str, ...], names: tuple[str, ...]
) -> None:
    answer = answered(client, name, **args)
    assert {each: answer[each] for each in null} == dict.fromkeys(null)
    assert all(answer[each] for each in names), answer
