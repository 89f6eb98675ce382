"""Web push as a client has it: a real worker, a real Dovecot, a push service over TLS with an authority of its own."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.ports import PATIENCE, wait_until
from jmapplug.testing.proxy import Client, Proxy
from jmapplug.testing.push_service import Device, PushService, check_vapid

CORE = "urn:ietf:params:jmap:core"
VAPID = "urn:ietf:params:jmap:webpush-vapid"


@pytest.fixture(scope="module")
def pushes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PushService]:
    service = PushService(tmp_path_factory.mktemp("ca"), "localhost")
    yield service
    service.stop()


def serve(pushes: PushService) -> Proxy:
    environ = {"JMAP_PUSH_PRIVATE": "1", "JMAP_PUSH_CA": str(pushes.ca), "JMAP_PUSH_CONTACT": "mailto:ops@example.com"}
    return Proxy(JMAP_SYNC_INTERVAL="2", JMAP_IDLE_TIMEOUT="1", **environ)


@pytest.fixture(scope="module")
def service(pushes: PushService) -> Iterator[Proxy]:
    made = serve(pushes)
    yield made
    made.stop()


class Phone:
    """A client on a device: an account, a subscription."""

    def __init__(self, proxy: Proxy, server: Dovecot, pushes: PushService, account: str) -> None:
        self.proxy, self.server, self.pushes, self.account = proxy, server, pushes, account
        self.user = server.new_user()
        self.client: Client = proxy.add(account, server, self.user)
        proxy.settled(account)
        self.device = Device()
        self.path = f"capability-{account}"

    def call(self, name: str, **args: Any) -> dict[str, Any]:
        return self.client.call(f"PushSubscription/{name}", accountId=None, **args)

    def create(self) -> str:
        record = {"deviceClientId": "phone", "url": self.pushes.url(self.path), "keys": self.device.keys}
        reply = self.call("set", create={"k": record})
        assert reply["created"], reply
        return str(reply["created"]["k"]["id"])

    def subscribe(self) -> str:
        """As a client does it: create, wait for the code, send it back."""
        id_ = self.create()
        wait_until(lambda: bool(self.pushes.to(self.path)), "the verification")
        value = self.read()[0]
        assert (value["@type"], value["pushSubscriptionId"]) == ("PushVerification", id_)
        reply = self.call("set", update={id_: {"verificationCode": value["verificationCode"]}})
        assert reply["updated"] == {id_: None}, reply
        return id_

    def read(self) -> list[dict[str, Any]]:
        return [self.device.open(each) for each in self.pushes.to(self.path)]

    def told(self) -> dict[str, str]:
        """The newest state of each type that was pushed."""
        found: dict[str, str] = {}
        for value in self.read()[1:]:
            assert value["@type"] == "StateChange"
            found |= value["changed"][self.account]
        return found

    def deliver(self) -> None:
        """Another client puts a message into the inbox."""
        with self.server.imap(self.user) as imap:
            assert imap.append("INBOX", "", "", b"Subject: Hello\r\n\r\nText.\r\n")[0] == "OK"

    def state(self) -> str:
        return str(self.client.call("Email/get", ids=[])["state"])

    def told_of(self, before: str | None) -> str:
        """Wait for a pushed state of Email other than ``before``."""
        wait_until(lambda: self.told().get("Email") not in (None, before), "the push", 90)
        return self.told()["Email"]


@pytest.fixture
def phone(service: Proxy, dovecot: Dovecot, pushes: PushService, account_name: str) -> Phone:
    return Phone(service, dovecot, pushes, account_name)


def test_from_the_subscription_to_a_message_that_another_client_brings(phone: Phone, pushes: PushService) -> None:
    session = phone.client.send("GET", "/session").json
    key = session["capabilities"][VAPID]["applicationServerKey"]
    phone.subscribe()
    phone.deliver()
    phone.told_of(None)
    wait_until(lambda: phone.told().get("Email") == phone.state(), "the pushed state is the one of Email/get")
    for posted in pushes.to(phone.path):
        claims = check_vapid(posted, key)
        assert (claims["aud"], claims["sub"]) == (pushes.origin, "mailto:ops@example.com")
        assert claims["exp"] <= time.time() + 24 * 3600
        assert int(posted.headers["ttl"]) > 0
    log = phone.proxy.log
    assert phone.path not in log


def test_a_restart_of_the_whole_service_pushes_on_although_nobody_asks_for_anything(
    pushes: PushService, dovecot: Dovecot, account_name: str
) -> None:
    service = serve(pushes)
    try:
        phone = Phone(service, dovecot, pushes, account_name)
        key = phone.client.send("GET", "/session").json["capabilities"][VAPID]
        phone.subscribe()
        phone.deliver()
        before = phone.told_of(None)
        service.process.terminate()
        service.process.wait(PATIENCE)
        phone.deliver()
        service.start()
        between = phone.told_of(before)
        phone.deliver()
        phone.told_of(between)
        phone.client = service.client(phone.account, phone.user, dovecot.password)
        assert phone.client.send("GET", "/session").json["capabilities"][VAPID] == key, "the key is the same"
        assert [value["@type"] for value in phone.read()].count("PushVerification") == 1
    finally:
        service.stop()


def test_a_hundred_deliveries_at_once_are_a_handful_of_posts(phone: Phone, pushes: PushService) -> None:
    phone.subscribe()
    with phone.server.imap(phone.user) as imap:
        for number in range(100):
            assert imap.append("INBOX", "", "", b"Subject: %d\r\n\r\nText.\r\n" % number)[0] == "OK"
    phone.proxy.sync(phone.account)
    phone.proxy.settled(phone.account)
    wait_until(lambda: phone.told().get("Email") == phone.state(), "the newest state is pushed", 60)
    assert len(pushes.to(phone.path)) <= 25


def test_a_worker_that_is_killed_pushes_again_when_it_is_back(phone: Phone) -> None:
    phone.subscribe()
    phone.deliver()
    before = phone.told_of(None)
    os.kill(phone.proxy.worker_pid(phone.account), signal.SIGKILL)
    phone.deliver()
    sync = f"/api/accounts/{phone.account}/sync"
    wait_until(lambda: phone.proxy.management.send("POST", sync).status == 200, "the worker is back", 60)
    phone.told_of(before)
    assert [value["@type"] for value in phone.read()].count("PushVerification") == 1


def has_worker(proxy: Proxy, account: str) -> bool:
    try:
        return bool(proxy.worker_pid(account))
    except AssertionError:
        return False


def test_a_verified_subscription_keeps_its_worker_when_others_idle_out(
    phone: Phone, service: Proxy, dovecot: Dovecot, pushes: PushService
) -> None:
    phone.subscribe()
    pid = service.worker_pid(phone.account)
    other = Phone(service, dovecot, pushes, f"{phone.account}x")
    other.create()
    wait_until(lambda: not has_worker(service, other.account), "the end of a worker that was used later", 60)
    assert service.worker_pid(phone.account) == pid
    phone.deliver()
    phone.told_of(None)


def subscriptions(proxy: Proxy, account: str) -> int:
    while (services := proxy.status(account).get("services")) is None:
        proxy.sync(account)  # its worker has ended: there was nothing to stay for
    return int(services[CORE]["pushSubscriptions"])


def with_token(phone: Phone) -> str:
    """The phone logs in with a token of its own: the token's id."""
    made = phone.proxy.registry("token_create", accountid=phone.account, name="phone")
    phone.client = Client(phone.proxy.port, phone.account, f"Bearer {made['token']}")
    return str(made["id"])


def test_a_token_and_the_password_do_not_see_each_others_subscriptions(phone: Phone) -> None:
    with_password = phone.create()
    token = with_token(phone)
    assert phone.call("get", ids=None)["list"] == []
    assert phone.call("set", destroy=[with_password])["notDestroyed"][with_password]["type"] == "notFound"
    phone.path += "-token"
    made = phone.create()
    assert [one["id"] for one in phone.call("get", ids=None)["list"]] == [made]
    # The same token as a password of Basic is the same credential.
    assert token
    secret = phone.client.headers["Authorization"].removeprefix("Bearer ")
    phone.client = phone.proxy.client(phone.account, phone.user, secret)
    assert phone.call("set", destroy=[made])["destroyed"] == [made]


def test_revoking_a_token_destroys_its_subscription_at_once(phone: Phone) -> None:
    token = with_token(phone)
    phone.subscribe()
    assert subscriptions(phone.proxy, phone.account) == 1
    phone.proxy.registry("token_revoke", id=token)
    wait_until(lambda: subscriptions(phone.proxy, phone.account) == 0, "the end of the subscription")
    before = len(phone.read())
    phone.deliver()
    phone.proxy.sync(phone.account)
    assert len(phone.read()) == before
    own = Path(phone.proxy.environ["JMAP_DATADIR"]) / "accounts" / phone.account
    assert not any(phone.path.encode() in path.read_bytes() for path in own.glob("own.sqlite3*"))


def test_a_token_that_is_revoked_while_its_worker_sleeps_ends_its_subscription_at_the_next_start(phone: Phone) -> None:
    token = with_token(phone)
    phone.create()
    wait_until(lambda: len(phone.read()) == 1, "the verification")
    wait_until(lambda: not has_worker(phone.proxy, phone.account), "the worker idles out", 60)
    phone.proxy.registry("token_revoke", id=token)
    phone.proxy.sync(phone.account)
    wait_until(lambda: subscriptions(phone.proxy, phone.account) == 0, "the end of the subscription")


def test_another_password_ends_a_subscription_and_other_settings_do_not(phone: Phone) -> None:
    phone.subscribe()
    change = f"/api/accounts/{phone.account}"
    assert phone.proxy.management.send("PATCH", change, {"smtpPort": 2525}).status == 200
    phone.proxy.sync(phone.account)
    assert subscriptions(phone.proxy, phone.account) == 1
    assert phone.proxy.management.send("PATCH", change, {"password": "another one"}).status == 200
    wait_until(lambda: subscriptions(phone.proxy, phone.account) == 0, "the end of the subscription")


def test_the_other_accounts_of_the_login_are_told_in_the_same_message(phone: Phone, dovecot: Dovecot) -> None:
    """Nobody is connected, and nobody has ever asked for anything in the second account."""
    second, user = f"{phone.account}b", dovecot.new_user()
    phone.proxy.add(second, dovecot, user, pool=phone.account)
    phone.proxy.settled(second)
    wait_until(lambda: not has_worker(phone.proxy, second), "its worker idles out", 60)
    phone.subscribe()
    with dovecot.imap(user) as imap:
        assert imap.append("INBOX", "", "", b"Subject: Hello\r\n\r\nText.\r\n")[0] == "OK"

    def told(account: str) -> bool:
        return any("Email" in each["changed"].get(account, {}) for each in phone.read()[1:])

    wait_until(lambda: told(second), "the push", 90)
    state = phone.client.call("Email/get", accountId=second, ids=[])["state"]
    wait_until(
        lambda: any(one["changed"].get(second, {}).get("Email") == state for one in phone.read()[1:]), "as it is"
    )
    os.kill(phone.proxy.worker_pid(second), signal.SIGKILL)
    before = len(phone.read())
    with dovecot.imap(user) as imap:
        assert imap.append("INBOX", "", "", b"Subject: Again\r\n\r\nText.\r\n")[0] == "OK"
    wait_until(lambda: any(second in one["changed"] for one in phone.read()[before:]), "the push after a crash", 90)
    phone.proxy.management.send("DELETE", f"/api/accounts/{second}")
    phone.deliver()
    wait_until(lambda: told(phone.account), "the account's own change", 90)


def test_another_login_neither_sees_nor_changes_nor_destroys_a_subscription(
    phone: Phone, service: Proxy, dovecot: Dovecot, pushes: PushService
) -> None:
    id_ = phone.subscribe()
    other = Phone(service, dovecot, pushes, f"{phone.account}x")
    assert other.call("get", ids=[id_]) == {"list": [], "notFound": [id_]}
    assert other.call("get", ids=None)["list"] == []
    reply = other.call("set", update={id_: {"types": []}}, destroy=[id_])
    assert reply["notUpdated"][id_]["type"] == "willDestroy"
    assert reply["notDestroyed"][id_]["type"] == "notFound"
    assert other.call("set", update={id_: {"types": []}})["notUpdated"][id_]["type"] == "notFound"
    assert [one["id"] for one in phone.call("get", ids=None)["list"]] == [id_]


def test_an_accountid_is_refused_and_other_calls_of_the_request_are_answered(phone: Phone) -> None:
    id_ = phone.create()
    using = (CORE, "urn:ietf:params:jmap:mail", VAPID)
    answers = phone.client.request(
        ("Mailbox/get", {"ids": []}),
        ("PushSubscription/get", {"accountId": None}),
        ("PushSubscription/get", {}),
        ("PushSubscription/get", {"accountId": None, "properties": ["url"]}),
        using=using,
    )
    assert [name for name, *_ in answers] == ["Mailbox/get", "PushSubscription/get", "error", "error"]
    assert answers[1][1]["list"][0]["id"] == id_
    assert [answers[n][1]["type"] for n in (2, 3)] == ["invalidArguments", "forbidden"]


def test_a_service_as_it_comes_posts_neither_over_http_nor_into_its_own_network(
    proxy: Proxy, dovecot: Dovecot, pushes: PushService, account_name: str
) -> None:
    phone = Phone(proxy, dovecot, pushes, account_name)
    urls = [pushes.url("x"), "http://push.example.com/", "https://127.0.0.1/", "https://[::ffff:10.0.0.1]/"]
    create = {str(n): {"deviceClientId": "phone", "url": url} for n, url in enumerate(urls)}
    reply = phone.call("set", create=create)
    assert reply["created"] is None
    assert {error["type"] for error in reply["notCreated"].values()} == {"invalidProperties"}
    assert pushes.to("x") == []


def test_the_key_of_the_service_is_kept_and_for_its_user_alone(service: Proxy, phone: Phone) -> None:
    path = Path(service.environ["JMAP_DATADIR"]) / "vapid.key"
    assert path.stat().st_mode & 0o777 == 0o600
    text = json.dumps(phone.client.send("GET", "/session").json)
    assert path.read_text().splitlines()[1][:40] not in text
