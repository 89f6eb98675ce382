"""Quota over HTTP, on real servers with IMAP QUOTA."""

from __future__ import annotations

from typing import Any

import pytest

from jmapplug.testing.cyrus import Cyrus
from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.ports import wait_until
from jmapplug.testing.proxy import USING, Client, Proxy
from jmapplug.testing.pymap_server import Pymap

QUOTA = "urn:ietf:params:jmap:quota"
LARGE = b"Subject: large\r\n\r\n" + (b"x" * 76 + b"\r\n") * 2_000


def capabilities(client: Client) -> dict[str, Any]:
    (account,) = client.send("GET", "/session").json["accounts"].values()
    return dict(account["accountCapabilities"])


def the(client: Client, **args: Any) -> dict[str, Any]:
    (quota,) = client.call("Quota/get", **({"ids": None} | args))["list"]
    return dict(quota)


@pytest.fixture
def small(proxy: Proxy, dovecot: Dovecot, account_name: str) -> tuple[str, Client]:
    user = dovecot.new_user("small")
    client = proxy.add(account_name, dovecot, user)
    proxy.settled(account_name)
    return user, client


def test_the_session_has_quota_where_the_mail_server_has(small: tuple[str, Client]) -> None:
    assert capabilities(small[1])[QUOTA] == {}


def test_the_limits_of_a_real_server_are_told_in_octets(small: tuple[str, Client], dovecot: Dovecot) -> None:
    quota = the(small[1])
    assert (quota["resourceType"], quota["used"], quota["hardLimit"]) == ("octets", 0, dovecot.small_quota)
    assert (quota["name"], quota["scope"]) == ("User quota", "account")


def test_what_another_client_appends_is_used_and_told_by_changes(small: tuple[str, Client], dovecot: Dovecot) -> None:
    user, client = small
    before = client.call("Quota/get", ids=None)
    other = dovecot.imap(user)
    other.append("INBOX", "", "", LARGE)
    wait_until(lambda: the(client)["used"] > 0, "the new message is counted")
    answer = client.call("Quota/changes", sinceState=before["state"])
    assert answer["updated"] == [before["list"][0]["id"]]
    assert answer["updatedProperties"] == ["used"]
    assert 0 < the(client)["used"] - len(LARGE) < 2_048
    other.logout()


def test_what_we_import_and_destroy_is_told_in_the_same_request(small: tuple[str, Client]) -> None:
    _, client = small
    blob = client.send("POST", f"/upload/{client.account}/", LARGE).json["blobId"]
    email = {"blobId": blob, "mailboxIds": {client.mailbox("inbox"): True}}
    imported, told = client.request(("Email/import", {"emails": {"a": email}}), ("Quota/get", {"ids": None}))
    assert told[1]["list"][0]["used"] >= len(LARGE)
    destroyed = {"destroy": [imported[1]["created"]["a"]["id"]]}
    _, told = client.request(("Email/set", destroyed), ("Quota/get", {"ids": None}))
    assert told[1]["list"][0]["used"] == 0


def test_a_full_mailbox_refuses_more_and_says_why(small: tuple[str, Client], dovecot: Dovecot) -> None:
    _, client = small
    blob = client.send("POST", f"/upload/{client.account}/", LARGE).json["blobId"]
    email = {"blobId": blob, "mailboxIds": {client.mailbox("inbox"): True}}
    answer = client.call("Email/import", emails={f"n{number}": email for number in range(8)})
    room = dovecot.small_quota // len(LARGE)
    assert len(answer["created"]) == room
    assert {error["type"] for error in answer["notCreated"].values()} == {"overQuota"}
    assert the(client)["used"] <= dovecot.small_quota


def test_a_change_of_usage_is_pushed(small: tuple[str, Client], dovecot: Dovecot, proxy: Proxy) -> None:
    user, client = small
    the(client)
    listening = proxy.client(client.account, user, dovecot.password)
    listening.connection.request("GET", "/eventsource?types=Quota&closeafter=state&ping=0", headers=listening.headers)
    stream = listening.connection.getresponse()
    other = dovecot.imap(user)
    other.append("INBOX", "", "", LARGE)
    other.logout()
    told = stream.read().decode()
    assert '"Quota"' in told and '"Email"' not in told


def test_cyrus_quotas_are_told_as_well(proxy: Proxy, cyrus: Cyrus, account_name: str) -> None:
    user = cyrus.new_user()
    client = proxy.add(account_name, cyrus, user)
    quota = the(client)
    assert (quota["resourceType"], quota["hardLimit"], quota["used"]) == ("octets", cyrus.quota, 0)
    other = cyrus.imap(user)
    other.append("INBOX", "", "", LARGE)
    other.logout()
    wait_until(lambda: the(client)["used"] > 0, "the new message is counted")


def test_a_server_without_quotas_has_no_such_capability(proxy: Proxy, pymap_server: Pymap, account_name: str) -> None:
    client = proxy.add(account_name, pymap_server, pymap_server.new_user())
    assert QUOTA not in capabilities(client)
    ((kind, error, _),) = client.request(("Quota/get", {"ids": None}), using=(*USING, QUOTA))
    assert (kind, error["type"]) == ("error", "accountNotSupportedByMethod")
