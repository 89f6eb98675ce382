"""Our own disk is full: reads go on, writes fail before they reach the mail server, and everything resumes by itself.

The data folder is a small file system of its own, which takes root (or it is skipped): only a real one gives out in all
the places where something is written.
"""

from __future__ import annotations

import errno
import http.client
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from scene import Scene, message

from jmapplug.testing import smtp_server
from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.ports import running, stop, wait_until
from jmapplug.testing.proxy import Client, Proxy
from jmapplug.testing.push_service import Device, PushService
from jmapplug.testing.smtp_server import SmtpServer

SIZE = 48 * 1024 * 1024
LITTLE = 10 * 1024 * 1024
"""More than what is kept for work under way, less than an upload."""
SUBMISSION = ("urn:ietf:params:jmap:core", "urn:ietf:params:jmap:mail", "urn:ietf:params:jmap:submission")


@pytest.fixture
def small_disk(dovecot: Dovecot, account_name: str) -> Iterator[Scene]:
    """An account on a service whose data folder is a file system of 48 MB."""
    service = Proxy(JMAP_SYNC_INTERVAL="2", JMAP_PUSH_PRIVATE="1")
    stop(service.process)
    data = service.folder / "data"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0700", "none", data], check=False)
    if mounted.returncode:
        service.stop()
        pytest.skip("a small file system cannot be mounted here (it takes root)")
    try:
        service.start()
        yield Scene(service, dovecot, account_name, "dovecot")
    finally:
        stop(service.process)
        subprocess.run(["umount", "--lazy", data], check=True)
        service.stop()


def fill(data: Path, leave: int = 0) -> Path:
    """Take all of the disk but ``leave`` octets, or what has become free of it meanwhile."""
    ballast = data / "ballast"
    with open(ballast, "ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            assert error.errno == errno.ENOSPC
        file.truncate(max(0, file.tell() - leave))
    return ballast


def upstream(scene: Scene) -> dict[str, Any]:
    """What another client sees: folders, and each folder's messages with their flags."""
    folders = sorted(line.rpartition(b") ")[2] for line in scene.imap.list()[1])
    told: dict[str, Any] = {"folders": folders}
    for name in ("INBOX", "Work"):
        scene.imap.select(name, readonly=True)
        told[name] = scene.imap.uid("FETCH", "1:*", "(UID FLAGS)")[1]
    return told


def writes(scene: Scene) -> list[tuple[str, dict[str, Any]]]:
    """Every kind of write to this account."""
    inbox, work = (box["id"] for box in scene.jmap.call("Mailbox/get", ids=None)["list"] if box["name"] in NAMES)
    first, second, *_ = scene.jmap.call("Email/query", filter={"inMailbox": inbox})["ids"]
    draft = {"mailboxIds": {work: True}, "subject": "new", "from": [{"name": "A", "email": "a@example.com"}]}
    return [
        ("Email/set", {"update": {first: {"mailboxIds": {work: True}}}}),
        ("Email/set", {"update": {second: {"keywords/$flagged": True}}}),
        ("Email/set", {"destroy": [first]}),
        ("Email/set", {"create": {"a": draft}}),
        ("Mailbox/set", {"create": {"a": {"name": "Another"}}}),
        ("Mailbox/set", {"update": {work: {"name": "Other"}}}),
        ("Mailbox/set", {"destroy": [work], "onDestroyRemoveEmails": True}),
    ]


NAMES = ("Inbox", "INBOX", "Work")


def uploads(scene: Scene) -> list[str]:
    return os.listdir(scene.proxy.folder / "data" / "accounts" / scene.account / "uploads")


def test_on_a_full_disk_reads_go_on_and_nothing_is_begun_that_cannot_be_written_down(small_disk: Scene) -> None:
    scene, service = small_disk, small_disk.proxy
    data = service.folder / "data"
    scene.create("Work")
    scene.append("Inbox", *[message(f"number {at}") for at in range(12)])
    scene.append("Work", message("at work"))
    before = scene.begin()
    [ident, *_] = before.emails
    body = {"ids": [ident], "properties": ["bodyValues", "textBody"], "fetchTextBodyValues": True}
    known = scene.jmap.call("Email/get", **body)["list"]
    there = upstream(scene)
    tries = writes(scene)
    management = service.management

    # An upload that the disk gives out under.
    ballast = fill(data, LITTLE)
    reply = scene.jmap.send("POST", f"/upload/{scene.account}/", bytes(2 * LITTLE), {"Content-Type": "a/b"})
    assert (reply.status, reply.headers["content-type"]) == (507, "application/problem+json"), reply
    assert uploads(scene) == []

    ballast.unlink()
    ballast = fill(data)
    assert scene.jmap.call("Email/get", **body)["list"] == known
    assert {*scene.jmap.call("Email/query")["ids"]} == {*before.emails}
    for name, args in tries:
        error = scene.jmap.error(name, **args)
        assert error["type"] == "serverUnavailable", (name, args, error)
        assert "disk" not in error["description"].lower()
    assert upstream(scene) == there
    reply = scene.jmap.send("POST", f"/upload/{scene.account}/", b"x" * 5000, {"Content-Type": "a/b"})
    assert (reply.status, uploads(scene)) == (507, [])

    # Sync pauses, and says why. The registry answers; what it cannot write is refused.
    scene.append("Inbox", message("while it was full"))
    assert management.send("POST", f"/api/accounts/{scene.account}/sync").status >= 500
    wait_until(lambda: "full" in (service.status(scene.account)["error"] or ""), "the status says that it is full")
    wait_until(lambda: service.status(scene.account)["next_retry"] is not None, "it is tried again")
    account = {"accountid": "more", "email": "a@example.com", "password": "p" * 60_000, "imapHost": "127.0.0.1"}
    reply = management.send("POST", "/api/accounts", account | {"imapPort": 1, "imapSSL": 0})
    assert reply.status == 507 and "full" in reply.json["error"], reply
    assert [one["accountid"] for one in management.send("GET", "/api/accounts").json] == [scene.account]

    # A worker that begins now, and a service that begins now, have no room either.
    pid = service.worker_pid(scene.account)
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not running(pid), "the worker ends")
    fill(data)  # its log and that one's index are gone, and there is no room to make them again
    assert scene.jmap.call("Email/get", **body)["list"] == known
    stop(service.process)
    fill(data)
    service.start()
    scene.client = service.client(scene.account, scene.user, scene.server.password)
    assert scene.jmap.call("Email/get", **body)["list"] == known
    assert upstream(scene)["folders"] == there["folders"]

    # Room is back: nobody has to do anything.
    ballast.unlink()
    wait_until(lambda: len(scene.jmap.call("Email/query")["ids"]) == len(before.emails) + 1, "it is seen", 60)
    assert service.status(scene.account)["error"] is None
    scene.history.clear()
    after = scene.agree()
    assert {subject: after.by_subject()[subject] for subject in before.by_subject()} == before.by_subject()
    (first, update), *_ = tries
    assert scene.jmap.call(first, **update)["updated"]
    reply = scene.jmap.send("POST", f"/upload/{scene.account}/", b"x" * 5000, {"Content-Type": "a/b"})
    assert reply.status == 200
    scene.agree()
    assert "Traceback" not in service.log, service.log[-6000:]


@pytest.fixture
def smtp(dovecot: Dovecot, tmp_path: Path) -> Iterator[SmtpServer]:
    server = smtp_server.start(tmp_path, "--auth", f"*:{dovecot.password}")
    yield server
    server.stop()


@pytest.fixture
def pushes() -> Iterator[PushService]:
    service = PushService()
    yield service
    service.stop()


def subscribe(client: Client, pushes: PushService, device: Device) -> None:
    """A verified PushSubscription."""
    record = {"deviceClientId": "phone", "url": pushes.url("phone"), "keys": device.keys}
    reply = client.call("PushSubscription/set", accountId=None, create={"k": record})
    wait_until(lambda: pushes.to("phone"), "the verification")
    code = device.open(pushes.posts.pop())["verificationCode"]
    known = {reply["created"]["k"]["id"]: {"verificationCode": code}}
    assert client.call("PushSubscription/set", accountId=None, update=known)["updated"]


def send(client: Client, email: str, to: str) -> None:
    """Its answer, if there is one, says nothing here."""
    identity = client.answers(("Identity/get", {"ids": None}), using=SUBMISSION)[0]["list"][0]["id"]
    record = {"identityId": identity, "emailId": email, "envelope": {"rcptTo": [{"email": to}]}}
    with suppress(OSError, http.client.HTTPException):
        client.request(("EmailSubmission/set", {"create": {"k": record}}), using=SUBMISSION)


def test_a_worker_that_was_sending_and_has_web_push_is_read_with_no_octet_left(
    small_disk: Scene, smtp: SmtpServer, pushes: PushService
) -> None:
    """It is killed while the mail server holds its answer: what came of that has to wait to be written down."""
    scene, service = small_disk, small_disk.proxy
    data, device = service.folder / "data", Device()
    scene.append("Inbox", message("hello").replace(b"ada@example.com", scene.user.encode()))
    before = scene.begin(**smtp.settings)
    [ident] = before.emails
    other = service.client(scene.account, scene.user, scene.server.password)
    subscribe(scene.jmap, pushes, device)
    sending = threading.Thread(target=send, args=(other, ident, "slow@example.com"))
    sending.start()
    wait_until((smtp.outbox / "held").exists, "the mail server has the message")
    ballast = fill(data)
    os.kill(service.worker_pid(scene.account), signal.SIGKILL)
    sending.join(60)
    (smtp.outbox / "release").touch()
    fill(data)
    assert scene.look().emails.keys() == {ident}
    wait_until(lambda: "full" in (service.status(scene.account)["error"] or ""), "the status says that it is full")
    stop(service.process)
    fill(data)
    service.start()
    scene.client = service.client(scene.account, scene.user, scene.server.password)
    assert scene.look().emails.keys() == {ident}
    scene.append("Inbox", message("news"))

    ballast.unlink()
    wait_until(lambda: len(scene.jmap.call("Email/query")["ids"]) == 2, "the new one is seen", 60)
    wait_until(lambda: pushes.to("phone"), "it is pushed", 60)
    wait_until(lambda: unknown(scene.jmap), "what came of the send is written down", 60)
    assert len(smtp.taken) == 1
    assert service.status(scene.account)["error"] is None
    assert "Traceback" not in service.log, service.log[-6000:]


def unknown(client: Client) -> bool:
    (found,) = client.answers(("EmailSubmission/get", {"ids": None}), using=SUBMISSION)
    statuses = [status for one in found["list"] for status in one["deliveryStatus"].values()]
    return [each["delivered"] for each in statuses] == ["unknown"] and found["list"][0]["undoStatus"] == "final"
