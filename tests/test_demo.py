"""``jmapplug demo``: what `make run` starts."""

from __future__ import annotations

import os
import re
import shlex
import signal
import smtplib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jmapplug.demo.samples import samples
from jmapplug.testing.ports import HOST, free_ports, running, wait_until
from jmapplug.testing.proxy import Client, basic

USER = "alice@demo.example"


class Demo:
    """A demo in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.mgmt = free_ports(2)
        self.log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        """Start (again); what it prints once it is ready."""
        environ = os.environ | {
            "JMAP_HOST": HOST, "JMAP_PORT": str(self.port), "JMAP_MGMT_PORT": str(self.mgmt),
            "JMAP_DATADIR": str(self.folder / "data"),
        }  # fmt: skip
        with open(self.log, "wb") as log:
            command = [sys.executable, "-m", "jmapplug", "demo"]
            self.process = subprocess.Popen(command, env=environ, stdout=log, stderr=log, start_new_session=True)
        wait_until(lambda: "Ctrl-C ends it" in self.text, "the demo is ready", 240)
        return self.text

    @property
    def text(self) -> str:
        return self.log.read_text()

    def interrupt(self) -> None:
        """Ctrl-C reaches every process in the foreground."""
        assert self.process is not None
        group = os.getpgid(self.process.pid)
        os.killpg(group, signal.SIGINT)
        assert self.process.wait(60) is not None
        wait_until(lambda: not _members(group), "no process is left")

    @property
    def client(self) -> Client:
        return Client(self.port, "alice", basic(USER, "demo"))


def _members(group: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.getpgid(int(entry.name)) == group and running(int(entry.name)):
                    found.append(int(entry.name))
            except ProcessLookupError:
                continue
    return found


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    one = Demo(tmp_path_factory.mktemp("demo"))
    yield one
    if one.process is not None and one.process.poll() is None:
        one.interrupt()


def total(client: Client) -> int:
    return int(client.call("Email/query", filter=None, calculateTotal=True, limit=0)["total"])


def test_the_demo_prints_a_line_that_works_and_keeps_its_data(demo: Demo) -> None:
    text = demo.start()
    assert f"http://localhost:{demo.port}/session" in text
    assert "password demo" in text
    (line,) = re.findall(r"^\s+(curl .*)$", text, re.M)
    said = subprocess.run(shlex.split(line), capture_output=True, check=True, timeout=60).stdout
    assert b'"Mailbox/get"' in said
    assert b'"role":"inbox"' in said
    expected = sum(1 for _ in samples(USER, "Alice Demo"))
    wait_until(lambda: total(demo.client) == expected, "the sample mail is there", 60)

    port = int(re.findall(r"127\.0\.0\.1:(\d+) \(mail to", text)[0])
    with smtplib.SMTP(HOST, port, local_hostname="localhost") as smtp:
        smtp.sendmail("x@example.com", [USER], "Subject: by SMTP\r\nFrom: x@example.com\r\n\r\nhello\r\n")
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            smtp.sendmail("x@example.com", ["nobody@demo.example"], "Subject: x\r\n\r\nx\r\n")
    wait_until(lambda: total(demo.client) == expected + 1, "the delivery is there", 60)

    demo.interrupt()
    demo.start()
    wait_until(lambda: total(demo.client) == expected + 1, "the second start has the mail of the first", 60)


def test_the_samples_are_varied_and_the_same_each_time() -> None:
    first = list(samples(USER, "Alice Demo"))
    assert first == list(samples(USER, "Alice Demo"))
    assert 190 <= len(first) <= 230
    assert len({sample.folder for sample in first}) >= 8
    whole = b"".join(sample.message for sample in first)
    for sign in (b"In-Reply-To:", b"text/html", b"multipart/related", b"message/rfc822", b"image/png", b"koi8-r"):
        assert sign in whole


def test_conversations_of_the_samples_hold_together(demo: Demo) -> None:
    if demo.process is None:
        demo.start()
    expected = sum(1 for _ in samples(USER, "Alice Demo"))
    wait_until(lambda: total(demo.client) >= expected, "the sample mail is there", 60)
    ids = demo.client.call("Email/query", filter={"subject": "Quarterly figures"})["ids"]
    emails = demo.client.call("Email/get", ids=ids, properties=["threadId", "subject", "mailboxIds"])["list"]
    ours = [email for email in emails if email["subject"].endswith("(1)")]
    assert len(ours) >= 2
    assert len({email["threadId"] for email in ours}) == 1
    assert len({tuple(email["mailboxIds"]) for email in ours}) == 2, "received and sent"


def test_a_letter_from_alice_to_bob_in_the_demo(demo: Demo) -> None:
    """A newcomer's first letter: a draft, sent, filed in Sent, received."""
    if demo.process is None:
        demo.start()
    alice = demo.client
    drafts, sent = alice.mailbox("drafts"), alice.mailbox("sent")
    (identity,) = alice.call("Identity/get", ids=None)["list"]
    draft = {
        "mailboxIds": {drafts: True},
        "keywords": {"$draft": True, "$seen": True},
        "from": [{"email": USER}],
        "to": [{"email": "bob@demo.example"}],
        "subject": "A letter",
        "bodyValues": {"1": {"value": "Hello Bob"}},
        "textBody": [{"partId": "1", "type": "text/plain"}],
    }
    after = {"mailboxIds": {sent: True}, "keywords/$draft": None}
    answers = alice.request(
        ("Email/set", {"create": {"m": draft}}),
        (
            "EmailSubmission/set",
            {
                "create": {"s": {"identityId": identity["id"], "emailId": "#m"}},
                "onSuccessUpdateEmail": {"#s": after},
            },
        ),
    )
    assert [name for name, _, _ in answers] == ["Email/set", "EmailSubmission/set", "Email/set"], answers
    made = answers[0][1]["created"]["m"]["id"]
    (email,) = alice.call("Email/get", ids=[made], properties=["mailboxIds", "keywords"])["list"]
    assert (email["mailboxIds"], email["keywords"]) == ({sent: True}, {"$seen": True})
    bob = Client(demo.port, "bob", basic("bob@demo.example", "demo"))
    wait_until(lambda: bob.call("Email/query", filter={"subject": "A letter"})["ids"], "the letter is there", 60)


def test_filing_in_two_folders_and_leaving_the_first_keeps_the_message_in_the_demo(demo: Demo) -> None:
    """pymap's own COPY makes an empty message."""
    if demo.process is None:
        demo.start()
    alice = demo.client
    inbox, archive = alice.mailbox("inbox"), alice.mailbox("archive")
    (one,) = alice.call("Email/query", filter={"inMailbox": inbox}, limit=1)["ids"]
    (before,) = alice.call("Email/get", ids=[one], properties=["size", "subject"])["list"]
    for patch in ({f"mailboxIds/{archive}": True}, {f"mailboxIds/{inbox}": None}):
        assert alice.call("Email/set", update={one: patch})["updated"] == {one: None}
    blob = alice.send("GET", f"/raw/alice/m-{one}/x?type=message/rfc822").body
    assert len(blob) == before["size"] and before["subject"].encode()[:20] in blob
