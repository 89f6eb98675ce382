"""Basic and Bearer authentication (part II of the API)."""

from __future__ import annotations

import subprocess
import sys
import time

from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.ports import wait_until
from jmapplug.testing.proxy import Client, Http, Proxy, basic


def status(proxy: Proxy, authorization: str | None) -> int:
    headers = {"Authorization": authorization} if authorization else {}
    return Http(proxy.port).send("GET", "/session", headers=headers).status


def test_no_or_unreadable_credentials_are_401_with_both_challenges(proxy: Proxy) -> None:
    for authorization in (None, "Basic", "Basic !!!", "Basic bm9jb2xvbg==", "Bearer", "Bearer x", "Digest a", ""):
        headers = {} if authorization is None else {"Authorization": authorization}
        reply = Http(proxy.port).send("POST", "/jmap", {}, headers)
        assert (authorization, reply.status) == (authorization, 401)
        assert "Basic" in reply.headers["www-authenticate"] or "Bearer" in reply.headers["www-authenticate"]


def test_email_accountid_and_login_name_are_user_names(proxy: Proxy, dovecot: Dovecot) -> None:
    login = dovecot.new_user()
    proxy.add("named", dovecot, "someone.else@example.net", username=login)
    for name in ("someone.else@example.net", "named", login):
        assert status(proxy, basic(name, dovecot.password)) == 200
    assert status(proxy, basic("nobody", dovecot.password)) == 401


def test_a_wrong_password_is_refused_after_asking_the_upstream(proxy: Proxy, dovecot: Dovecot) -> None:
    user = dovecot.new_user()
    proxy.add("wrongly", dovecot, user)
    assert status(proxy, basic(user, "wrong")) == 401
    assert status(proxy, basic(user, "")) == 401


def test_a_password_that_changed_upstream_heals_the_stored_one(proxy: Proxy, dovecot: Dovecot) -> None:
    user = dovecot.new_user()
    body = {
        "accountid": "healing", "email": user, "password": "an old one", "imapHost": dovecot.host,
        "imapPort": dovecot.port, "imapSSL": 0,
    }  # fmt: skip
    created = proxy.management.send("POST", "/api/accounts", body)
    assert created.status == 201
    assert "an old one" not in created.body.decode()
    assert created.json["warning"].startswith("setup failed: ")
    client = proxy.client("healing", user, dovecot.password)
    assert client.send("GET", "/session").status == 200
    proxy.sync("healing")
    assert client.call("Mailbox/get", ids=None)["list"]


def test_a_token_of_the_command_line_is_a_bearer_and_a_basic_password(proxy: Proxy, alice: Client, user: str) -> None:
    command = [sys.executable, "-m", "jmapplug", "token", "create", alice.account, "--name", "phone"]
    token = subprocess.run(command, env=proxy.environ, check=True, capture_output=True, text=True).stdout.strip()
    assert len(token) >= 43
    assert status(proxy, f"Bearer {token}") == 200
    assert status(proxy, basic(user, token)) == 200
    assert status(proxy, f"Bearer {token[:-1]}x") == 401
    assert token not in proxy.log


def test_a_token_is_good_until_it_expires_and_not_for_as_long_as_a_login_is_remembered(
    proxy: Proxy, alice: Client, user: str
) -> None:
    end = int(time.time()) + 2
    token = proxy.registry("token_create", accountid=alice.account, name="short", expires=end)["token"]
    for authorization in (f"Bearer {token}", basic(user, token)):
        assert status(proxy, authorization) == 200
    wait_until(lambda: time.time() > end, "it has expired")
    for authorization in (f"Bearer {token}", basic(user, token)):
        assert status(proxy, authorization) == 401


def test_a_token_for_an_unknown_account_is_an_error(proxy: Proxy) -> None:
    command = [sys.executable, "-m", "jmapplug", "token", "create", "nobody"]
    done = subprocess.run(command, env=proxy.environ, capture_output=True, text=True)
    assert done.returncode == 1
    assert "not found" in done.stderr


def test_failures_are_limited_per_user_and_say_when_to_come_back(dovecot: Dovecot) -> None:
    service = Proxy()
    try:
        for _ in range(10):
            assert status(service, basic("mallory", "x")) == 401
        reply = Http(service.port).send("GET", "/session", headers={"Authorization": basic("mallory", "x")})
        assert reply.status == 429
        assert 0 < int(reply.headers["retry-after"]) <= 300
    finally:
        service.stop()


def test_a_deleted_account_is_locked_out_at_once(proxy: Proxy, dovecot: Dovecot) -> None:
    client = proxy.add("leaving", dovecot, dovecot.new_user())
    assert client.send("GET", "/session").status == 200
    assert proxy.management.send("DELETE", "/api/accounts/leaving").json == {"deleted": True}
    assert client.send("GET", "/session").status == 401
