"""Accounts that log in with OAuth: a token that ends is noticed where a person has to act (wish 19)."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from refusing import Refusing
from scene import Scene, View, message
from test_providers import patch, sync

from jmapplug.testing import dovecot as dovecot_server
from jmapplug.testing import smtp_server
from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.ports import free_ports, running, wait_until
from jmapplug.testing.proxy import USING, Client, Proxy
from jmapplug.testing.token_server import CLIENT_SECRET, TokenServer

VACATION = "urn:ietf:params:jmap:vacationresponse"
EXPIRED = "* BYE Session invalidated - AccessTokenExpired"


@pytest.fixture(scope="module")
def provider() -> Iterator[TokenServer]:
    provider = TokenServer()
    yield provider
    provider.stop()


@pytest.fixture(scope="module")
def server(provider: TokenServer) -> Iterator[Dovecot]:
    if not dovecot_server.available():
        pytest.skip("Dovecot is not installed")
    server = dovecot_server.start(oauth=provider.introspection)
    yield server
    server.stop()


@pytest.fixture
def relay(server: Dovecot) -> Iterator[Refusing]:
    relay = Refusing(server.port)
    yield relay
    relay.close()


class OAuthScene(Scene):
    """Its user has a token of ours: the mail server's password would be stored as soon as it is used."""

    def begin(self, **more: Any) -> View:
        self.proxy.add(self.account, self.server, self.user, **{**self.settings, **more})
        made = self.proxy.registry("token_create", accountid=self.account, name="test")
        self.client = Client(self.proxy.port, self.account, f"Bearer {made['token']}")
        self.proxy.settled(self.account)
        return self.agree()


@pytest.fixture
def scene(proxy: Proxy, server: Dovecot, provider: TokenServer, relay: Refusing, account_name: str) -> Iterator[Scene]:
    """``provider`` gives each refresh token once."""
    provider.asked.clear()
    provider.rotates, provider.revoked = True, False
    scene = OAuthScene(proxy, server, account_name, "dovecot")
    scene.settings = {**provider.settings(scene.user), "imapPort": relay.port}
    yield scene
    scene.close()


def all_that_is_told(scene: Scene) -> str:
    paths = ("/api/accounts", f"/api/accounts/{scene.account}", f"/api/accounts/{scene.account}/status", "/metrics")
    return scene.proxy.log + "".join(scene.proxy.management.send("GET", path).body.decode() for path in paths)


def no_secret(scene: Scene, provider: TokenServer) -> None:
    """None of what was ever given out is told, logged, or lies in clear in a file."""
    data = scene.proxy.folder / "data"
    files = [file.read_bytes() for file in data.rglob("*") if file.is_file()]
    told = all_that_is_told(scene)
    for secret in (*provider.issued, CLIENT_SECRET):
        assert secret not in told
        assert not [1 for octets in files if secret.encode() in octets]


def watched(scene: Scene) -> None:
    wait_until(lambda: scene.proxy.status(scene.account)["watching"] == "notify", "it is watched")


def test_a_token_that_expires_is_replaced_at_the_next_log_in_by_one_request(
    scene: Scene, provider: TokenServer, relay: Refusing
) -> None:
    scene.append("Inbox", message("one"))
    scene.begin()
    asked = len(provider.asked)
    assert asked == 2, "once when it was made, once by the worker"
    assert not relay.sent("LOGIN|AUTHENTICATE PLAIN")
    watched(scene)
    provider.expire()
    relay.cut_all()
    scene.append("Inbox", message("two"))
    wait_until(lambda: len(scene.jmap.call("Email/query")["ids"]) == 2, "the news")
    watched(scene)
    assert set(scene.agree().by_subject()) == {"one", "two"}
    assert len(provider.asked) == asked + 1
    no_secret(scene, provider)


def test_a_goodbye_to_a_whole_write_is_looked_into_with_a_new_token(
    scene: Scene, provider: TokenServer, relay: Refusing
) -> None:
    """imapsync#250. The server may have taken the message: it is looked for; the client writes it again."""
    scene.begin()
    asked = len(provider.asked)

    def expired() -> None:
        relay.refuse = []
        provider.expire()

    relay.refuse, relay.on_refused = [(" APPEND ", EXPIRED)], expired
    new = {"mailboxIds": {scene.jmap.mailbox("drafts"): True}, "subject": "written once"}
    assert scene.jmap.call("Email/set", create={"k": new})["notCreated"]["k"]
    assert relay.met == 1 and len(provider.asked) == asked + 1
    assert scene.jmap.call("Email/set", create={"k": new})["created"]["k"]
    assert [*scene.agree().by_subject()] == ["written once"] and len(scene.uids("Drafts")) == 1
    assert len(provider.asked) == asked + 1


def test_a_refresh_token_that_was_replaced_outlives_all_processes(
    server: Dovecot, provider: TokenServer, account_name: str
) -> None:
    provider.rotates, provider.revoked = True, False
    service = Proxy(JMAP_SYNC_INTERVAL="5")
    scene = OAuthScene(service, server, account_name, "dovecot")
    scene.settings = provider.settings(scene.user)
    try:
        scene.append("Inbox", message("one"))
        scene.begin()
        provider.asked.clear()
        for _ in range(2):
            service.kill()
            provider.expire()
            service.start()
            assert sync(scene).status == 200
        assert len({one["refresh_token"] for one in provider.asked}) == len(provider.asked) == 2
        assert "warning" not in patch(scene).json
        service.settled(scene.account)
        scene.jmap.connection.close()  # to the service that was killed
        scene.agree()
        no_secret(scene, provider)
    finally:
        scene.imap.logout()
        service.stop()


def test_a_change_of_settings_does_not_bring_back_the_token_that_was_replaced_meanwhile(
    scene: Scene, provider: TokenServer
) -> None:
    scene.begin()
    provider.rotates = False
    stored = scene.proxy.registry("open", accountid=scene.account)["settings"]["oauthRefreshToken"]
    newer, asked = provider.consent(scene.user), len(provider.asked)
    provider.release.clear()
    with ThreadPoolExecutor(1) as pool:
        changed = pool.submit(patch, scene, oauthScope="imap")
        try:
            wait_until(lambda: len(provider.asked) > asked, "the settings are tried")
            news = {"was": {"oauthRefreshToken": stored}, "now": {"oauthRefreshToken": newer}}
            scene.proxy.registry("renew", accountid=scene.account, **news)
        finally:
            provider.release.set()
        assert "warning" not in changed.result(60).json
    now = scene.proxy.registry("open", accountid=scene.account)["settings"]
    assert (now["oauthRefreshToken"], now["oauthScope"]) == (newer, "imap")


def test_a_refresh_token_that_ended_is_told_with_what_to_do_and_not_tried_again_until_there_is_another(
    scene: Scene, provider: TokenServer, relay: Refusing
) -> None:
    """Wish 12: no storm, neither at the provider nor at the mail server, whoever asks."""
    scene.append("Inbox", message("one"))
    scene.begin()
    watched(scene)
    provider.revoked = True
    provider.expire()
    asked = len(provider.asked)
    relay.cut_all()
    wait_until(lambda: len(provider.asked) > asked, "the provider has refused")
    wait_until(lambda: scene.proxy.status(scene.account)["next_retry"], "a pause")
    assert sync(scene).status == 500
    told = scene.proxy.status(scene.account)
    assert "invalid_grant" in told["error"] and "sign in at the provider once more" in told["error"]
    assert 45 < told["next_retry"] <= 60
    tries = relay.connections
    for _ in range(3):
        assert sync(scene).status == 500
        assert scene.jmap.call("Email/query")["ids"]
        new = {"mailboxIds": {scene.jmap.mailbox("drafts"): True}, "subject": "not now"}
        assert scene.jmap.call("Email/set", create={"k": new})["notCreated"]["k"]
    assert (len(provider.asked), relay.connections) == (asked + 1, tries)
    no_secret(scene, provider)
    # A wrong one is told at once.
    wrong = patch(scene, oauthRefreshToken="wrong")
    assert "sign in at the provider" in wrong.json["warning"] and "wrong" not in wrong.json["warning"]
    provider.revoked = False
    assert "warning" not in patch(scene, oauthRefreshToken=provider.consent(scene.user)).json
    scene.proxy.settled(scene.account)
    assert scene.proxy.status(scene.account)["error"] is None
    scene.agree()


def test_a_vacation_response_is_set_and_read_back_with_the_token(
    scene: Scene, provider: TokenServer, server: Dovecot
) -> None:
    """Nobody names the ManageSieve server: it is found on the IMAP host, with the token that IMAP was tried with."""
    if not server.sieve_port:
        pytest.skip("Pigeonhole is not installed")
    scene.begin(sievePort=server.sieve_port)
    assert len(provider.asked) == 2, "once when it was made, once by the worker"
    using = (*USING, VACATION)

    def call(name: str, **args: Any) -> Any:
        ((kind, answer, _),) = scene.jmap.request((name, args), using=using)
        assert kind == name, answer
        return answer

    values = {"isEnabled": True, "subject": "Away", "textBody": "Back in May."}
    assert call("VacationResponse/set", update={"singleton": values})["updated"] == {"singleton": None}
    asked = len(provider.asked)
    # A new worker gets one token for both, with the refresh token that the one before has left.
    provider.expire()
    pid = scene.proxy.worker_pid(scene.account)
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not running(pid), "the worker ends")
    (found,) = call("VacationResponse/get", ids=["singleton"])["list"]
    assert {name: found[name] for name in values} == values
    assert sync(scene).status == 200
    assert len(provider.asked) == asked + 1 == len({one["refresh_token"] for one in provider.asked})
    no_secret(scene, provider)


def test_sending_that_does_not_work_is_told_when_the_account_is_made(scene: Scene, provider: TokenServer) -> None:
    scene.begin()
    (port,) = free_ports(1)
    answer = patch(
        scene, smtpHost="127.0.0.1", smtpPort=port, smtpSSL=0, oauthRefreshToken=provider.consent(scene.user)
    )
    assert answer.status == 200 and answer.json["warning"].startswith("sending does not work: ")
    no_secret(scene, provider)


def test_sending_logs_in_with_the_token_too(
    scene: Scene, provider: TokenServer, server: Dovecot, tmp_path: Path
) -> None:
    if not server.submission_port:
        pytest.skip("Dovecot's submission is not installed")
    out = smtp_server.start(tmp_path / "outbox", port=server.smtp_port)
    try:
        scene.begin(smtpHost="127.0.0.1", smtpPort=server.submission_port, smtpSSL=0)
        asked = len(provider.asked)
        provider.expire()
        using = (*USING, "urn:ietf:params:jmap:submission")
        (found,) = scene.jmap.answers(("Identity/get", {}), using=using)
        draft = {
            "mailboxIds": {scene.jmap.mailbox("drafts"): True}, "from": [{"email": scene.user}],
            "to": [{"email": "bob@example.org"}], "subject": "Hello",
        }  # fmt: skip
        record = {"identityId": found["list"][0]["id"], "emailId": "#d"}
        answers = scene.jmap.request(
            ("Email/set", {"create": {"d": draft}}), ("EmailSubmission/set", {"create": {"k": record}}), using=using
        )
        assert answers[1][1]["created"], answers[1][1]
        wait_until(lambda: len(out.taken) == 1, "the message has left")
        assert out.taken[0].rcpt_tos == ["bob@example.org"] and len(provider.asked) == asked + 1
        no_secret(scene, provider)
    finally:
        out.stop()
