"""Sieve and vacation through the whole service: discovery, Session, uploads, push, a vacation answer that arrives."""

from __future__ import annotations

import http.client
import json
import os
import signal
import smtplib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest

from jmapplug.testing import smtp_server
from jmapplug.testing.cyrus import Cyrus
from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.ports import HOST, running, wait_until
from jmapplug.testing.proxy import USING, Client, Proxy
from jmapplug.testing.pymap_server import Pymap
from jmapplug.testing.smtp_server import SmtpServer

SIEVE = "urn:ietf:params:jmap:sieve"
VACATION = "urn:ietf:params:jmap:vacationresponse"
CORE = "urn:ietf:params:jmap:core"
SCRIPT = b'require "fileinto";\r\nif header :contains "subject" "list" { fileinto "Lists"; stop; }\r\n'


@pytest.fixture
def user(dovecot_sieve: Dovecot) -> str:
    return dovecot_sieve.new_user()


@pytest.fixture
def client(proxy: Proxy, dovecot_sieve: Dovecot, account_name: str, user: str) -> Client:
    """Nobody names the ManageSieve server: it is found on the IMAP host."""
    return proxy.add(account_name, dovecot_sieve, user, sievePort=dovecot_sieve.sieve_port)


@pytest.fixture
def outbox(dovecot_sieve: Dovecot, tmp_path: Path) -> Iterator[SmtpServer]:
    server = smtp_server.start(tmp_path / "outbox", port=dovecot_sieve.smtp_port)
    yield server
    server.stop()


def call(client: Client, name: str, using: tuple[str, ...] = (CORE, SIEVE, VACATION), **args: Any) -> dict[str, Any]:
    ((kind, answer, _),) = client.request((name, args), using=using)
    assert kind == name, answer
    return dict(answer)


def upload(client: Client, content: bytes) -> str:
    reply = client.send("POST", f"/upload/{client.account}/", content, {"Content-Type": "application/sieve"})
    assert reply.status == 200, reply
    return str(reply.json["blobId"])


def test_the_session_tells_of_sieve_from_the_first_moment_on(client: Client) -> None:
    session = client.send("GET", "/session").json
    offered = session["accounts"][client.account]["accountCapabilities"]
    assert {"fileinto", "include", "vacation"} <= set(offered[SIEVE]["sieveExtensions"])
    assert offered[SIEVE]["maxNumberRedirects"] is not None and offered[VACATION] == {}
    assert session["capabilities"][SIEVE]["implementation"]
    assert session["primaryAccounts"][SIEVE] == session["primaryAccounts"][VACATION] == client.account


def test_what_was_learnt_stays_known_while_no_worker_runs(client: Client, proxy: Proxy) -> None:
    before = client.send("GET", "/session").json
    pid = proxy.worker_pid(client.account)
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not running(pid), "the worker ends")
    assert client.send("GET", "/session").json == {**before, "eventSourceUrl": ANY}


def test_an_account_without_managesieve_has_neither(
    proxy: Proxy, dovecot_sieve: Dovecot, account_name: str, user: str
) -> None:
    client = proxy.add(account_name, dovecot_sieve, user, sievePort=0)
    offered = client.send("GET", "/session").json["accounts"][account_name]["accountCapabilities"]
    assert SIEVE not in offered and VACATION not in offered
    for name in ("SieveScript/get", "VacationResponse/get"):
        ((kind, answer, _),) = client.request((name, {}), using=(CORE, SIEVE, VACATION))
        assert (kind, answer["type"]) == ("error", "accountNotSupportedByMethod")


def test_a_server_with_nothing_but_imap_offers_nothing_but_mail(
    proxy: Proxy, pymap_server: Pymap, account_name: str
) -> None:
    """No Sieve, no SMTP, no quotas."""
    client = proxy.add(account_name, pymap_server, pymap_server.new_user(), sievePort=0)
    proxy.settled(account_name)
    offered = client.send("GET", "/session").json["accounts"][account_name]["accountCapabilities"]
    assert set(offered) == {"urn:ietf:params:jmap:mail", "urn:ietf:params:jmap:blob"}
    for name in ("SieveScript/set", "VacationResponse/set", "Identity/get", "EmailSubmission/set", "Quota/get"):
        using = ("submission", "sieve", "vacationresponse", "quota", "mail", "core")
        ((kind, answer, _),) = client.request((name, {}), using=tuple(f"urn:ietf:params:jmap:{one}" for one in using))
        assert (kind, answer["type"]) == ("error", "accountNotSupportedByMethod"), name


def test_a_script_is_uploaded_made_activated_and_downloaded(client: Client) -> None:
    record = {"name": "mine", "blobId": upload(client, SCRIPT)}
    reply = call(client, "SieveScript/set", create={"A": record}, onSuccessActivateScript="#A")
    made = reply["created"]["A"]
    assert made["isActive"] is True
    got = client.send("GET", f"/raw/{client.account}/{made['blobId']}/mine.sieve?type=application/sieve")
    assert (got.status, got.body) == (200, SCRIPT)
    assert got.headers["content-type"].startswith("application/sieve")


def test_clients_that_name_mail_only_may_use_the_vacation_response(client: Client) -> None:
    (found,) = call(client, "VacationResponse/get", USING, ids=["singleton"])["list"]
    assert found["isEnabled"] is False


def test_a_vacation_answer_arrives_and_the_change_is_pushed(
    client: Client, proxy: Proxy, dovecot_sieve: Dovecot, user: str, outbox: SmtpServer
) -> None:
    record = {"name": "mine", "blobId": upload(client, SCRIPT)}
    call(client, "SieveScript/set", create={"A": record}, onSuccessActivateScript="#A")
    stream = http.client.HTTPConnection(HOST, proxy.port, timeout=30)
    stream.request("GET", "/eventsource?types=VacationResponse&closeafter=state&ping=0", headers=client.headers)
    events = stream.getresponse()
    wait_until(lambda: proxy.status(client.account)["subscribers"] > 0, "the stream is subscribed")
    values = {"isEnabled": True, "textBody": "Away."}
    state = call(client, "VacationResponse/set", update={"singleton": values})["newState"]
    told = next(line for line in events.read().splitlines() if line.startswith(b"data:"))
    assert json.loads(told[5:])["changed"][client.account] == {"VacationResponse": state}

    with smtplib.LMTP(HOST, dovecot_sieve.lmtp_port, local_hostname="localhost") as lmtp:
        message = (
            f"From: friend@example.com\r\nTo: {user}\r\nSubject: a list\r\nMessage-ID: <1@example.com>\r\n\r\nHi\r\n"
        )
        lmtp.sendmail("friend@example.com", [user], message.encode())
    (answer,) = [taken for taken in outbox.taken if "friend@example.com" in taken.rcpt_tos]
    assert b"Away." in answer.content and b"Auto-Submitted: auto-replied" in answer.content
    imap = dovecot_sieve.imap(user)
    assert imap.select("Lists")[1] == [b"1"]
    imap.logout()


def test_on_cyrus_the_users_rules_stay_in_force_beside_the_response(
    proxy: Proxy, cyrus: Cyrus, account_name: str
) -> None:
    """Another ManageSieve server, with a script that another tool made."""
    user = cyrus.new_user()
    client = proxy.add(account_name, cyrus, user, sievePort=cyrus.sieve_port, sieveSSL=0)
    proxy.settled(account_name)
    client.call("Mailbox/set", create={"m": {"name": "Lists"}})
    record = {"name": "mine", "blobId": upload(client, SCRIPT)}
    made = call(client, "SieveScript/set", create={"A": record}, onSuccessActivateScript="#A")["created"]["A"]
    assert made["isActive"] is True

    def filed(number: int) -> int:
        with smtplib.LMTP(HOST, cyrus.lmtp_port, local_hostname="localhost") as lmtp:
            text = f"From: friend@example.com\r\nTo: {user}\r\nSubject: a list {number}\r\n\r\nHi\r\n"
            lmtp.sendmail("", [user], text.encode())
        return int(imap.select("Lists")[1][0])

    def mine() -> tuple[bool, str]:
        (script,) = call(client, "SieveScript/get", ids=[made["id"]])["list"]
        return script["isActive"], script["blobId"]

    imap = cyrus.imap(user)
    assert filed(1) == 1
    values = {
        "isEnabled": True,
        "textBody": "Away ✓",
        "fromDate": "2026-01-01T00:00:00Z",
        "toDate": "2036-01-01T00:00:00Z",
    }
    assert call(client, "VacationResponse/set", update={"singleton": values})["updated"] == {"singleton": None}
    (found,) = call(client, "VacationResponse/get", ids=["singleton"])["list"]
    assert {name: found[name] for name in values} == values
    assert filed(2) == 2
    assert mine() == (True, made["blobId"])
    call(client, "VacationResponse/set", update={"singleton": {"isEnabled": False}})
    assert call(client, "VacationResponse/get", ids=["singleton"])["list"][0]["isEnabled"] is False
    assert mine() == (True, made["blobId"])
    imap.logout()
