"""``GET /api/accounts/:id/status``: each field against the real thing, at each phase of an account's life."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.ports import free_ports, running, wait_until
from jmapplug.testing.proxy import Proxy

MANY = 2500


@pytest.fixture(scope="module")
def service() -> Iterator[Proxy]:
    """Its workers end soon when nobody asks."""
    made = Proxy(JMAP_IDLE_TIMEOUT="2")
    yield made
    made.stop()


def filled(server: Dovecot, count: int) -> str:
    user = server.new_user()
    imap = server.imap(user)
    for number in range(count):
        text = f"From: a@example.com\r\nSubject: number {number}\r\nMessage-ID: <{number}@x>\r\n\r\nhello\r\n"
        imap.append("INBOX", "", "", text.encode())
    imap.logout()
    return user


def fits(schema: dict[str, Any], value: Any) -> bool:
    if "enum" in schema:
        return value in schema["enum"]
    names = {int: "integer", float: "number", str: "string", bool: "boolean", type(None): "null", list: "array"}
    given = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return names[type(value)] in given or (isinstance(value, int) and "number" in given)


def looked_at(service: Proxy, account: str) -> dict[str, Any]:
    """The status, held against its description in the OpenAPI document."""
    status = service.status(account)
    document = service.management.send("GET", "/api/openapi.json").json
    answer = document["paths"]["/api/accounts/{accountid}/status"]["get"]["responses"]["200"]
    schema = answer["content"]["application/json"]["schema"]
    assert set(schema["required"]) <= set(status)
    wrong = {name for name, one in schema["properties"].items() if not fits(one, status[name])}
    assert not wrong, {name: status[name] for name in wrong}
    return status


def test_an_account_whose_server_is_away_says_so_and_when_it_is_tried_again(
    proxy: Proxy, dovecot: Dovecot, account_name: str
) -> None:
    (nobody,) = free_ports(1)
    body = {"accountid": account_name, "email": "a@example.com", "password": "p", "imapHost": dovecot.host}
    reply = proxy.management.send("POST", "/api/accounts", body | {"imapPort": nobody, "imapSSL": 0})
    assert reply.status == 201 and reply.json["warning"]
    seen: list[dict[str, Any]] = [{}]

    def told() -> bool:
        seen[0] = looked_at(proxy, account_name)
        return seen[0]["next_retry"] is not None and seen[0]["status"] == "error"

    wait_until(told, "a failure is waited out")
    [status] = seen
    assert (status["phase"], status["last_sync"], status["messages"]) == ("failed", None, 0)
    assert "refused" in status["error"].lower()
    assert 0 <= status["next_retry"] <= 300


def test_a_first_sync_tells_how_much_of_how_much_is_done_and_then_how_changes_are_learnt(
    proxy: Proxy, dovecot: Dovecot, account_name: str
) -> None:
    user = filled(dovecot, MANY)
    proxy.add(account_name, dovecot, user)
    seen: list[dict[str, Any]] = []

    def half_done() -> bool:
        seen.append(looked_at(proxy, account_name))
        return 0 < seen[-1]["messages_done"] < seen[-1]["messages"] and seen[-1]["phase"] != "idle"

    wait_until(half_done, "the first sync is under way", 60)
    assert seen[-1]["running"] and seen[-1]["connections"] >= 1 and seen[-1]["error"] is None
    proxy.settled(account_name)
    wait_until(lambda: proxy.status(account_name)["watching"] == "notify", "it is watched")
    status = looked_at(proxy, account_name)
    assert status["messages_done"] == status["messages"] == MANY
    assert status["folders_done"] == status["folders"] == 6
    assert status["last_sync"] == pytest.approx(time.time(), abs=60)
    assert (status["phase"], status["error"], status["next_retry"]) == ("idle", None, None)
    done = [one["messages_done"] for one in seen]
    assert done == sorted(done)


def test_a_worker_that_idled_out_is_not_started_by_the_question_nor_kept_by_it(
    service: Proxy, dovecot: Dovecot
) -> None:
    service.add("resting", dovecot, filled(dovecot, 3))
    service.settled("resting")
    before = service.status("resting")
    pid = service.worker_pid("resting")

    def ended() -> bool:
        service.status("resting")
        return not running(pid)

    wait_until(ended, "the worker ends although it is looked at", 60)
    wait_until(lambda: not service.status("resting")["running"], "the supervisor has seen it")
    for _ in range(3):
        status = looked_at(service, "resting")
    assert (status["phase"], status["connections"], status["running"]) == ("stopped", 0, False)
    assert status["messages"] == before["messages"] == 3
    assert status["last_sync"] is not None
    with pytest.raises(AssertionError, match="no worker"):
        service.worker_pid("resting")


def test_a_worker_that_does_not_answer_is_not_waited_for(service: Proxy, dovecot: Dovecot) -> None:
    service.add("stuck", dovecot, filled(dovecot, 2))
    service.settled("stuck")
    pid = service.worker_pid("stuck")
    os.kill(pid, signal.SIGSTOP)
    try:
        status = looked_at(service, "stuck")
        assert (status["phase"], status["running"], status["messages"]) == ("not answering", True, 2)
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: service.status("stuck")["phase"] != "not answering", "it goes on")


def test_the_status_of_no_account_is_not_found(service: Proxy) -> None:
    assert service.management.send("GET", "/api/accounts/nobody/status").status == 404


def test_credentials_of_another_key_are_told_in_words_and_not_as_an_internal_error(dovecot: Dovecot) -> None:
    service = Proxy()
    try:
        service.add("alice", dovecot, dovecot.new_user())
        service.kill()
        service.environ["JMAP_SECRET_KEY"] = "ab" * 32
        service.start()
        words = "the credentials of alice were stored under another key"
        assert service.management.send("POST", "/api/accounts/alice/sync").json["error"].startswith(words)
        status = looked_at(service, "alice")
        assert (status["status"], status["phase"]) == ("error", "failed")
        assert status["error"].startswith(words)
        reply = service.management.send("PATCH", "/api/accounts/alice", {"imapPort": dovecot.port})
        assert reply.status == 500
        assert reply.json["error"].startswith(words)
        assert "Traceback" not in service.log
    finally:
        service.stop()
