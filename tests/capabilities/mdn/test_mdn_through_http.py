"""Read receipts over HTTP: a real Dovecot, and an SMTP server that delivers into it."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from jmapplug.capabilities.mdn import MDN, report
from jmapplug.hookspecs import AccountInfo
from jmapplug.testing import smtp_server
from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.ports import wait_until
from jmapplug.testing.proxy import USING, Client, Proxy
from jmapplug.testing.smtp_server import SmtpServer

ALL = (*USING, "urn:ietf:params:jmap:mdn", "urn:ietf:params:jmap:submission")
BY_HAND = {"actionMode": "manual-action", "sendingMode": "mdn-sent-manually", "type": "displayed"}
BY_ITSELF = {"actionMode": "automatic-action", "sendingMode": "mdn-sent-automatically", "type": "processed"}
MARK = {"keywords/$mdnsent": True}
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def smtp(dovecot: Dovecot, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmtpServer]:
    lmtp = f"{dovecot.host}:{dovecot.lmtp_port}"
    server = smtp_server.start(
        tmp_path_factory.mktemp("outbox"), "--lmtp", lmtp, "--size", "100000", "--auth", "*:secret"
    )
    yield server
    server.stop()


class Person:
    """A mailbox, its account in the proxy, and the Identity of its address."""

    def __init__(self, proxy: Proxy, dovecot: Dovecot, smtp: SmtpServer, name: str, **more: Any) -> None:
        self.proxy, self.dovecot = proxy, dovecot
        self.address = dovecot.new_user()
        self.jmap: Client = proxy.add(name, dovecot, self.address, **smtp.settings, **more)
        (identity,) = self.call("Identity/get", ids=None)["list"]
        self.identity = identity["id"]

    def call(self, name: str, **args: Any) -> dict[str, Any]:
        kind, answer, _ = self.jmap.request((name, args), using=ALL)[0]
        assert kind == name, answer
        return dict(answer)

    def error(self, name: str, **args: Any) -> dict[str, Any]:
        kind, answer, _ = self.jmap.request((name, args), using=ALL)[0]
        assert kind == "error", answer
        return dict(answer)

    def receives(self, *header: str, box: str = "INBOX", flags: str = "", body: str = "Hello") -> str:
        """A new message; the id of its Email. ``%`` in a field is its number."""
        number = next(_numbers)
        lines = (*header, f"Subject: number {number}", f"To: {self.address}", "", body, "")
        other = self.dovecot.imap(self.address)
        other.append(box, flags, "", "\r\n".join(lines).encode())
        other.logout()
        self.proxy.sync(self.jmap.account)
        (id_,) = self.call("Email/query", filter={"subject": f'"number {number}"'})["ids"]
        return str(id_)

    def send(self, email: str, disposition: dict[str, str] = BY_HAND, **more: Any) -> dict[str, Any]:
        """One notification: its part of ``sent``, or its SetError."""
        record = {"forEmailId": email, "disposition": disposition, **more}
        answer = self.call("MDN/send", identityId=self.identity, send={"k": record}, onSuccessUpdateEmail={"#k": MARK})
        assert answer["sent"] is None or answer["notSent"] is None
        return dict((answer["sent"] or answer["notSent"])["k"])


@pytest.fixture(scope="module")
def ann(proxy: Proxy, dovecot: Dovecot, smtp: SmtpServer) -> Person:
    return Person(proxy, dovecot, smtp, "mdn-ann")


@pytest.fixture(scope="module")
def bob(proxy: Proxy, dovecot: Dovecot, smtp: SmtpServer) -> Person:
    return Person(proxy, dovecot, smtp, "mdn-bob")


def asked(address: str = "ann@example.org") -> str:
    return f"Disposition-Notification-To: {address}"


def test_accounts_that_can_send_have_the_mdn_capability(bob: Person) -> None:
    session = bob.jmap.send("GET", "/session").json
    assert session["capabilities"][MDN.urn] == {}
    assert session["accounts"][bob.jmap.account]["accountCapabilities"][MDN.urn] == {}
    assert MDN.account_value(AccountInfo("a", "a@example.org", "imap", frozenset({"mail"}))) is None


def test_a_receipt_reaches_the_sender_who_understands_it(ann: Person, bob: Person, smtp: SmtpServer) -> None:
    original = ann.receives("Message-ID: <first@example.org>", asked(ann.address), box="Sent", flags="\\Seen")
    email = bob.receives(
        "Message-ID: <first@example.org>", asked(ann.address), "Original-Recipient: rfc822; alias@x.org"
    )
    before = len(smtp.taken)
    sent = bob.send(
        email,
        reportingUA="joes-pc; Foomail 97.1",
        subject="Gelesen: größer",
        textBody="Ja ✓",
        extensionFields={"X-Mood": "good"},
    )
    assert sent == {
        "includeOriginalMessage": False,
        "mdnGateway": None,
        "originalRecipient": "rfc822; alias@x.org",
        "finalRecipient": f"rfc822; {bob.address}",
        "originalMessageId": "<first@example.org>",
        "error": None,
    }
    (taken,) = smtp.taken[before:]
    assert (taken.mail_from, taken.rcpt_tos) == ("", [ann.address])
    ann.proxy.sync(ann.jmap.account)
    (receipt,) = ann.call("Email/query", filter={"inMailbox": ann.jmap.mailbox("inbox"), "subject": "Gelesen"})["ids"]
    (found,) = ann.call("Email/get", ids=[receipt], properties=["blobId", "from", "to", "inReplyTo"])["list"]
    assert (found["from"][0]["email"], found["to"][0]["email"]) == (bob.address, ann.address)
    assert found["inReplyTo"] == ["first@example.org"]
    answer = ann.call("MDN/parse", blobIds=[found["blobId"], "m-nobody"])
    assert answer["notFound"] == ["m-nobody"] and answer["notParsable"] is None
    parsed = answer["parsed"][found["blobId"]]
    assert parsed.pop("textBody").strip() == "Ja ✓"
    assert parsed == {
        "forEmailId": original,
        "subject": "Gelesen: größer",
        "includeOriginalMessage": False,
        "reportingUA": "joes-pc; Foomail 97.1",
        "disposition": BY_HAND,
        "mdnGateway": None,
        "originalRecipient": "rfc822; alias@x.org",
        "finalRecipient": f"rfc822; {bob.address}",
        "originalMessageId": "<first@example.org>",
        "error": None,
        "extensionFields": {"X-Mood": "good"},
    }


def test_the_email_is_marked_and_no_second_receipt_goes_out(bob: Person, smtp: SmtpServer) -> None:
    email = bob.receives(asked())
    args = {"identityId": bob.identity, "send": {"k": {"forEmailId": email, "disposition": BY_HAND}}}
    (first, answer, _), (implicit, marked, _) = bob.jmap.request(
        ("MDN/send", args | {"onSuccessUpdateEmail": {"#k": MARK}}), using=ALL
    )
    assert (first, implicit) == ("MDN/send", "Email/set")
    assert answer["sent"]["k"]["textBody"] and answer["sent"]["k"]["subject"]
    assert list(marked["updated"]) == [email]
    (found,) = bob.call("Email/get", ids=[email], properties=["keywords"])["list"]
    assert found["keywords"] == {"$mdnsent": True}
    before = len(smtp.taken)
    assert bob.send(email)["type"] == "mdnAlreadySent"
    assert len(smtp.taken) == before


def test_two_receipts_for_one_email_in_a_call_are_one(bob: Person, smtp: SmtpServer) -> None:
    email = bob.receives(asked())
    record = {"forEmailId": email, "disposition": BY_HAND}
    before = len(smtp.taken)
    answer = bob.call(
        "MDN/send",
        identityId=bob.identity,
        send={"a": record, "b": record},
        onSuccessUpdateEmail={"#a": MARK, "#b": MARK},
    )
    assert list(answer["sent"]) == ["a"] and answer["notSent"]["b"]["type"] == "mdnAlreadySent"
    assert len(smtp.taken) == before + 1


def test_a_receipt_is_no_submission_that_clients_see(bob: Person) -> None:
    state = bob.call("EmailSubmission/get", ids=None)
    assert "type" not in bob.send(bob.receives(asked()))
    assert bob.call("EmailSubmission/get", ids=None)["list"] == state["list"] == []


def test_the_original_message_travels_whole_when_asked_for(bob: Person, smtp: SmtpServer) -> None:
    email = bob.receives(asked(), body="Grüße " * 3)
    assert bob.send(email, includeOriginalMessage=True)["error"] is None
    content = smtp.taken[-1].content
    assert content.count(b"Content-Type: message/rfc822") == 1
    assert ("Grüße " * 3).encode() in content
    found = report.parse(content)
    assert found is not None and found["includeOriginalMessage"] is True


def test_an_email_that_asks_for_none_is_not_found(bob: Person) -> None:
    assert bob.send(bob.receives("X-Nothing: here"))["type"] == "notFound"
    assert bob.send(bob.receives(asked("nobody")))["type"] == "notFound"
    assert bob.send("enobody")["type"] == "notFound"


def test_a_notification_is_not_notified_of(bob: Person) -> None:
    kind = "Content-Type: multipart/report; report-type=disposition-notification; boundary=b"
    assert bob.send(bob.receives(asked(), kind, body="--b--"))["type"] == "forbidden"


@pytest.mark.parametrize(
    ("path", "to", "allowed"),
    [
        ("<ann@example.org>", "ann@example.org", True),
        ("<ann@EXAMPLE.org>", "Ann <ann@example.org>", True),
        ("<other@example.org>", "ann@example.org", False),
        (None, "ann@example.org", False),
        ("<ann@example.org>", "ann@example.org, other@example.org", False),
    ],
)
def test_automatic_receipts_only_go_where_the_message_came_from(
    bob: Person, path: str | None, to: str, allowed: bool
) -> None:
    email = bob.receives(*([f"Return-Path: {path}"] if path else []), asked(to))
    answer = bob.send(email, BY_ITSELF)
    assert answer.get("type") == (None if allowed else "forbidden")
    if not allowed:  # a person may
        assert "type" not in bob.send(email)


def test_the_final_recipient_must_be_an_address_of_the_account(bob: Person) -> None:
    email = bob.receives(asked())
    assert bob.send(email, finalRecipient="rfc822; boss@example.com")["type"] == "forbiddenFrom"
    assert bob.send(email, finalRecipient="nonsense")["properties"] == ["finalRecipient"]
    assert bob.send(email, finalRecipient="x400; a@b.c")["properties"] == ["finalRecipient"]
    assert bob.send(email, finalRecipient=bob.address)["finalRecipient"] == f"rfc822; {bob.address}"


def test_an_identity_of_a_whole_domain_answers_from_the_address_that_was_written_to(
    proxy: Proxy, dovecot: Dovecot, smtp: SmtpServer
) -> None:
    cat = Person(proxy, dovecot, smtp, "mdn-cat", sendAs=["*@sales.example"])
    cat.identity = cat.call("Identity/set", create={"i": {"email": "*@sales.example"}})["created"]["i"]["id"]
    email = cat.receives(asked(), "Cc: Shop <shop@sales.example>, other@example.org")
    assert cat.send(email)["finalRecipient"] == "rfc822; shop@sales.example"
    assert b"From: shop@sales.example\r\n" in smtp.taken[-1].content
    nowhere = cat.receives(asked())
    assert cat.send(nowhere)["properties"] == ["finalRecipient"]
    assert cat.send(nowhere, finalRecipient="me@sales.example")["finalRecipient"] == "rfc822; me@sales.example"


@pytest.mark.parametrize(
    ("record", "wrong"),
    [
        ({"disposition": None}, "disposition"),
        ({"disposition": BY_HAND | {"type": "Displayed"}}, "disposition"),
        ({"disposition": BY_HAND | {"extra": "x"}}, "disposition"),
        ({"forEmailId": None}, "forEmailId"),
        ({"reportingUA": "two\r\nlines: x"}, "reportingUA"),
        ({"finalRecipient": ""}, "finalRecipient"),
        ({"subject": 5}, "subject"),
        ({"includeOriginalMessage": None}, "includeOriginalMessage"),
        ({"extensionFields": {"Disposition": "x"}}, "extensionFields"),
        ({"extensionFields": {"X Y": "x"}}, "extensionFields"),
        ({"extensionFields": {"X-Y": "x\ny"}}, "extensionFields"),
        ({"mdnGateway": "dns; x"}, "mdnGateway"),
        ({"originalMessageId": "<x@y>"}, "originalMessageId"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_an_invalid_mdn_names_what_is_wrong(bob: Person, record: dict[str, Any], wrong: str) -> None:
    send = {"k": {"forEmailId": "e1", "disposition": BY_HAND} | record}
    answer = bob.call("MDN/send", identityId=bob.identity, send=send, onSuccessUpdateEmail={"#k": MARK})
    assert answer["sent"] is None
    assert answer["notSent"]["k"]["type"] == "invalidProperties"
    assert answer["notSent"]["k"]["properties"] == [wrong]


@pytest.mark.parametrize(
    "args",
    [
        {"identityId": "inobody"},
        {"identityId": None},
        {"send": None},
        {"send": {"k": 5}},
        {"onSuccessUpdateEmail": None},
        {"onSuccessUpdateEmail": {}},
        {"onSuccessUpdateEmail": {"#k": {"keywords/$seen": True}}},
        {"onSuccessUpdateEmail": {"#k": {"keywords/$mdnsent": None}}},
        {"onSuccessUpdateEmail": {"#other": MARK}},
        {"colour": "red"},
    ],
)
def test_a_call_that_would_not_mark_the_email_or_has_wrong_arguments_is_refused(
    bob: Person, smtp: SmtpServer, args: dict[str, Any]
) -> None:
    good = {
        "identityId": bob.identity,
        "send": {"k": {"forEmailId": "e1", "disposition": BY_HAND}},
        "onSuccessUpdateEmail": {"#k": {"keywords": {"$mdnsent": True}}},
    }
    before = len(smtp.taken)
    assert bob.error("MDN/send", **(good | args))["type"] == "invalidArguments"
    assert len(smtp.taken) == before


def test_a_refusal_of_the_mail_server_leaves_the_email_unmarked(bob: Person) -> None:
    email = bob.receives(asked("reject@example.net"))
    answer = bob.send(email)
    assert answer["type"] == "forbidden" and "5.1.1" in answer["description"]
    (found,) = bob.call("Email/get", ids=[email], properties=["keywords"])["list"]
    assert found["keywords"] == {}
    assert bob.call("EmailSubmission/get", ids=None)["list"] == []


def test_a_message_larger_than_the_server_takes_is_not_included(bob: Person) -> None:
    email = bob.receives(asked(), body="x" * 70 + "\r\n" + ("y" * 70 + "\r\n") * 2_000)
    answer = bob.send(email, includeOriginalMessage=True)
    assert (answer["type"], answer["maxSize"]) == ("tooLarge", 100_000)
    assert "type" not in bob.send(email)


def test_what_is_no_notification_is_not_parsable(bob: Person) -> None:
    email = bob.receives("X-Just: mail")
    (found,) = bob.call("Email/get", ids=[email], properties=["blobId"])["list"]
    answer = bob.call("MDN/parse", blobIds=[found["blobId"]])
    assert answer == {
        "accountId": bob.jmap.account,
        "parsed": None,
        "notParsable": [found["blobId"]],
        "notFound": None,
    }
    assert bob.error("MDN/parse", blobIds=None)["type"] == "invalidArguments"
    assert bob.error("MDN/parse", blobIds=[], properties=[])["type"] == "invalidArguments"


def send_slowly(bob: Person, smtp: SmtpServer, email: str) -> tuple[threading.Thread, list[Any]]:
    """A call that hangs where the mail server has the message and has not answered; its responses, later."""
    for name in ("held", "release"):
        (smtp.outbox / name).unlink(missing_ok=True)
    answers: list[Any] = []
    client = bob.proxy.client(bob.jmap.account, bob.address, bob.dovecot.password)
    thread = threading.Thread(
        target=lambda: answers.extend(client.request(("MDN/send", arguments(bob, email)), using=ALL))
    )
    thread.start()
    wait_until((smtp.outbox / "held").exists, "the mail server has the message")
    return thread, answers


def arguments(bob: Person, email: str) -> dict[str, Any]:
    record = {"forEmailId": email, "disposition": BY_HAND}
    return {"identityId": bob.identity, "send": {"k": record}, "onSuccessUpdateEmail": {"#k": MARK}}


def test_while_a_receipt_is_on_its_way_nobody_else_sends_one(bob: Person, smtp: SmtpServer) -> None:
    email = bob.receives(asked("slow@example.net"))
    thread, answers = send_slowly(bob, smtp, email)
    assert bob.send(email)["type"] == "mdnAlreadySent"
    (smtp.outbox / "release").touch()
    thread.join(60)
    assert answers[0][1]["notSent"] is None
    assert [taken.rcpt_tos for taken in smtp.taken].count(["slow@example.net"]) == 1


def test_a_receipt_that_was_under_way_when_the_worker_died_is_not_sent_again(bob: Person, smtp: SmtpServer) -> None:
    email = bob.receives(asked("slow-and-killed@example.net"))
    thread, answers = send_slowly(bob, smtp, email)
    os.kill(bob.proxy.worker_pid(bob.jmap.account), signal.SIGKILL)
    thread.join(60)
    (smtp.outbox / "release").touch()
    assert answers[0][0] == "error"
    assert bob.send(email)["type"] == "mdnAlreadySent"
    (left,) = bob.call("EmailSubmission/get", ids=None)["list"]
    (status,) = left["deliveryStatus"].values()
    assert (left["emailId"], left["undoStatus"], status["delivered"]) == (email, "final", "unknown")
    assert [taken.rcpt_tos for taken in smtp.taken].count(["slow-and-killed@example.net"]) == 1
    assert bob.call("EmailSubmission/set", destroy=[left["id"]])["destroyed"] == [left["id"]]
