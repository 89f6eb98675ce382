"""What the log says: which request and account a line belongs to, and never a secret or anything of a message."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from refusing import Refusing
from scene import Scene, message

from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.ports import HOST, free_ports, wait_until
from jmapplug.testing.proxy import Proxy, basic

WORDS = ("Zitronenfalter", "Quittengelee", "Pfauenauge", "Himbeergeist", "Nachtkerze", "Waldmeister")
"""A subject, a body, a keyword, a name of a folder, a file's name, a search."""
SUBJECT, BODY, KEYWORD, FOLDER, FILE, SEARCH = WORDS
WRONG = "Holunderbeere-wrong-password"
MAIL = ("urn:ietf:params:jmap:core", "urn:ietf:params:jmap:mail", "urn:ietf:params:jmap:submission")


@pytest.fixture(params=["text", "json"])
def talkative(request: pytest.FixtureRequest) -> Iterator[Proxy]:
    """A service that says all that it ever says."""
    made = Proxy(JMAP_DEBUG="1", JMAP_LOG_FORMAT=request.param, JMAP_TRUSTED_PROXIES=HOST, JMAP_SYNC_INTERVAL="2")
    made.format = request.param  # type: ignore[attr-defined]
    yield made
    made.stop()


def ids(line: str, form: str) -> dict[str, Any]:
    """The ids in a line."""
    if form == "json":
        return {name: value for name, value in json.loads(line).items() if name in ("request", "account")}
    return dict(re.findall(r" (request|account)=(\S+)", line))


def lines(service: Proxy) -> list[str]:
    return [line for line in service.log.splitlines() if "jmapplug" in line and not line.startswith(("jmapplug:", " "))]


@pytest.fixture
def chatty(dovecot: Dovecot) -> Iterator[Refusing]:
    """A mail server that repeats what it refuses: names of folders and keywords."""
    relay = Refusing(dovecot.port)
    relay.refuse = [
        (f"(SELECT|EXAMINE) .*{FOLDER}", f"NO [NOPERM] /srv/mail/.{FOLDER}/cur: permission to {FOLDER} denied"),
        (f"UID STORE .*{KEYWORD}", f"NO Invalid keyword <{KEYWORD.lower()}>"),
    ]
    yield relay
    relay.close()


def story(scene: Scene, chatty: Refusing) -> None:
    """A bit of everything, much of it wrong."""
    scene.create(FOLDER)
    scene.append("Inbox", message(SUBJECT, body=f"Something of {BODY}."), message(f"Re: {SUBJECT}", body=BODY))
    scene.begin(imapPort=chatty.port)
    client, service = scene.jmap, scene.proxy
    scene.append(FOLDER, message(SUBJECT))
    wait_until(lambda: chatty.met > 0, "a folder is refused")
    [first, *_] = client.call("Email/query")["ids"]
    inbox = client.mailbox("inbox")
    client.call("Email/query", filter={"text": SEARCH})
    client.call("Email/get", ids=[first], fetchAllBodyValues=True, properties=["subject", "bodyValues", "preview"])
    client.call("Email/set", update={first: {f"keywords/{KEYWORD}": True, "mailboxIds/no": True}, SUBJECT: {}})
    refused = client.call("Email/set", update={first: {f"keywords/{KEYWORD}": True}})
    assert refused["notUpdated"], refused
    draft = {"mailboxIds": {inbox: True}, "subject": SUBJECT, "bodyValues": {"1": {"value": BODY}}}
    client.call("Email/set", create={"a": {**draft, "textBody": [{"partId": "1", "type": "text/plain"}]}, "b": draft})
    client.error("Email/query", filter={"nothing": SUBJECT})
    client.error(f"Email/{SUBJECT}")
    client.call("Mailbox/set", create={"a": {"name": f"{FOLDER}/{FOLDER}"}, "b": {"name": FOLDER}})
    made = client.send("POST", f"/upload/{scene.account}/", BODY.encode(), {"Content-Type": "text/plain"})
    blob = made.json["blobId"]
    client.send("GET", f"/raw/{scene.account}/{blob}/{FILE}?type=text/plain")
    client.send("GET", f"/raw/{scene.account}/{SUBJECT}/{FILE}")
    client.send("POST", "/jmap", f'{{"using": ["{SUBJECT}"], "{BODY}'.encode(), {"Content-Type": "application/json"})
    client.send("POST", "/jmap", {"using": [SUBJECT], "methodCalls": [[BODY, {}, "0"]]})
    client.call("Email/import", emails={"a": {"blobId": blob, "mailboxIds": {inbox: True}}})
    client.request(("Email/parse", {"blobIds": [blob, SUBJECT]}), ("Identity/get", {"ids": None}), using=MAIL)
    client.request(("EmailSubmission/set", {"create": {"a": {"emailId": first, "identityId": SUBJECT}}}), using=MAIL)
    service.http.send("GET", "/session", headers={"Authorization": basic(scene.user, WRONG)})
    service.http.send("GET", "/session", headers={"Authorization": "Basic " + WRONG})
    (nobody,) = free_ports(1)
    changed = {"password": WRONG, "imapPort": scene.server.port}
    service.management.send("PATCH", f"/api/accounts/{scene.account}", changed)
    service.management.send("POST", f"/api/accounts/{scene.account}/sync")
    service.management.send("PATCH", f"/api/accounts/{scene.account}", changed | {"imapPort": nobody})
    service.management.send("POST", f"/api/accounts/{scene.account}/sync")
    service.management.send("POST", "/api/accounts", f'{{"password": "{WRONG}'.encode())


def test_no_log_line_holds_a_secret_or_anything_of_a_message(
    talkative: Proxy, dovecot: Dovecot, account_name: str, chatty: Refusing
) -> None:
    scene = Scene(talkative, dovecot, account_name, "dovecot")
    story(scene, chatty)
    wait_until(lambda: talkative.status(account_name)["error"], "the server is away")
    log = talkative.log
    authorization = basic(scene.user, dovecot.password).split()[1]
    secrets = [*WORDS, WRONG, base64.b64encode(WRONG.encode()).decode().rstrip("="), authorization]
    secrets += [f"password={dovecot.password}", f'"password": "{dovecot.password}"', "ticket="]
    found = {secret: line for line in log.splitlines() for secret in secrets if secret.lower() in line.lower()}
    assert not found, found
    assert "Traceback" not in log, log[-5000:]
    assert len(lines(talkative)) > 40, "the debug log is on"


def test_each_line_of_a_request_bears_its_id_and_account_in_front_and_worker(
    talkative: Proxy, dovecot: Dovecot, account_name: str
) -> None:
    scene = Scene(talkative, dovecot, account_name, "dovecot")
    scene.begin()
    form = talkative.format  # type: ignore[attr-defined]
    body = {"using": MAIL, "methodCalls": [["Mailbox/get", {"accountId": account_name, "ids": None}, "0"]]}
    reply = scene.jmap.send("POST", "/jmap", body, {"X-Request-Id": "mine-1.2"})
    assert reply.headers["x-request-id"] == "mine-1.2"

    def mine() -> list[str]:
        return [line for line in lines(talkative) if ids(line, form).get("request") == "mine-1.2"]

    wait_until(lambda: len(mine()) >= 2, "front and worker have written")
    assert {ids(line, form)["account"] for line in mine()} == {account_name}
    assert any("Mailbox/get" in line for line in mine()) and any("POST /jmap" in line for line in mine())
    if form == "json":
        assert {json.loads(line)["pid"] for line in mine()} >= {talkative.worker_pid(account_name)}
        assert all(json.loads(line)["time"].endswith("Z") for line in mine())
    made = [scene.jmap.send("POST", "/jmap", body, {"X-Request-Id": bad}).headers["x-request-id"] for bad in BAD]
    assert len(set(made)) == len(BAD) and not set(made) & set(BAD)
    reply = talkative.management.send("GET", f"/api/accounts/{account_name}")
    told = reply.headers["x-request-id"]
    wait_until(lambda: any(ids(line, form).get("request") == told for line in lines(talkative)), "it is logged")


BAD = ("x" * 65, "a b", "ä", 'a"b', "")


def test_a_request_id_of_a_stranger_is_not_believed(proxy: Proxy) -> None:
    reply = proxy.http.send("GET", "/session", headers={"X-Request-Id": "mine"})
    assert re.fullmatch("[0-9a-f]{16}", reply.headers["x-request-id"])
