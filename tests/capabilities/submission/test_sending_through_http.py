"""Sending over HTTP: a real worker, a real Dovecot, a real SMTP server that delivers before it answers."""

from __future__ import annotations

import http.client
import os
import re
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from jmapplug.testing import smtp_server
from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.ports import accepts, free_ports, running, stop, wait_until
from jmapplug.testing.proxy import USING, Client, Proxy
from jmapplug.testing.smtp_server import SmtpServer

URN = "urn:ietf:params:jmap:submission"
WITH = (*USING, URN)
NO_USER = "550 5.1.1 (<reject1@example.com> )?No such user here"
"""What the server says to an address that it refuses; Dovecot names it."""


@pytest.fixture
def service() -> Iterator[Proxy]:
    """A service of its own, for tests that kill and restart."""
    made = Proxy(JMAP_SYNC_INTERVAL="2", JMAP_IDLE_TIMEOUT="1")
    yield made
    made.stop()


class Person:
    """An account with one draft, and how it sends it."""

    def __init__(self, proxy: Proxy, server: Dovecot, smtp: SmtpServer, account: str, **more: Any) -> None:
        self.proxy, self.server, self.account = proxy, server, account
        self.user = server.new_user()
        with server.imap(self.user) as imap:
            header = f"From: <{self.user}>\r\nTo: <{self.user}>\r\nBcc: secret@example.com\r\nSubject: Hello\r\n"
            assert imap.append("Drafts", r"(\Draft \Seen)", "", f"{header}\r\nText.\r\n".encode())[0] == "OK"
        self.client: Client = proxy.add(account, server, self.user, **{**smtp.settings, **more})
        proxy.settled(account)
        self.email = self.client.call("Email/query", filter={"inMailbox": self.client.mailbox("drafts")})["ids"][0]
        (one,) = self.request("Identity/get", ids=None)[0]["list"]
        self.identity = one["id"]

    def request(self, name: str, **args: Any) -> list[dict[str, Any]]:
        """The responses to one call, those of implicit calls too."""
        return [answer for _, answer, _ in self.client.request((name, args), using=WITH)]

    def send(self, *to: str, hold: int = 0, **more: Any) -> list[dict[str, Any]]:
        record: dict[str, Any] = {"identityId": self.identity, "emailId": self.email}
        if to:
            record["envelope"] = {"rcptTo": [{"email": each} for each in to]}
        if hold:
            sender = {"email": self.user, "parameters": {"HOLDFOR": str(hold)}}
            record["envelope"] = {"mailFrom": sender, "rcptTo": [{"email": each} for each in to]}
        return self.request("EmailSubmission/set", create={"k": record}, **more)

    def submission(self, id_: str) -> dict[str, Any]:
        (one,) = self.request("EmailSubmission/get", ids=[id_])[0]["list"]
        return one

    def subjects(self, folder: str) -> int:
        with self.server.imap(self.user) as imap:
            return int((imap.select(folder)[1][0] or b"0").decode())


@pytest.fixture
def ada(proxy: Proxy, dovecot: Dovecot, smtp: SmtpServer, account_name: str) -> Person:
    return Person(proxy, dovecot, smtp, account_name)


def taken(smtp: SmtpServer, user: str) -> list[smtp_server.Taken]:
    return [each for each in smtp.taken if each.mail_from == user]


# --- a send ----------------------------------------------------------------------------------------------------------


def test_mailing_oneself_through_a_server_that_delivers_before_it_answers_does_not_hang(
    ada: Person, smtp: SmtpServer
) -> None:
    client = ada.client
    drafts, sent = client.mailbox("drafts"), client.mailbox("sent")
    patch = {f"mailboxIds/{drafts}": None, f"mailboxIds/{sent}": True, "keywords/$draft": None}
    answer, *implicit = ada.send(onSuccessUpdateEmail={"#k": patch})
    made = answer["created"]["k"]
    assert made["undoStatus"] == "final"
    assert {each["delivered"] for each in made["deliveryStatus"].values()} == {"unknown"}
    (one,) = taken(smtp, ada.user)
    assert set(one.rcpt_tos) == {ada.user, "secret@example.com"}
    assert b"Bcc" not in one.content
    assert ada.user == one.user or f"AUTH={ada.user.upper()}" in one.mail_options
    assert ada.subjects("INBOX") == 1
    assert len(implicit) == 1
    assert implicit[0]["updated"], implicit
    # The stored copy keeps its Bcc, and is in Sent now.
    ada.proxy.sync(ada.account)
    (email,) = client.call("Email/get", ids=[ada.email], properties=["mailboxIds", "keywords", "bcc"])["list"]
    assert email["mailboxIds"] == {sent: True}
    assert email["bcc"] == [{"name": None, "email": "secret@example.com"}]
    assert "$draft" not in email["keywords"]


def test_writing_and_sending_in_one_request(ada: Person, smtp: SmtpServer) -> None:
    """As clients do it: the message is made, sent and filed, each step referring to the one before."""
    drafts, sent = ada.client.mailbox("drafts"), ada.client.mailbox("sent")
    draft = {
        "mailboxIds": {drafts: True},
        "keywords": {"$draft": True},
        "from": [{"email": ada.user}],
        "to": [{"name": "Jörg", "email": "joerg@example.com"}],
        "subject": "Grüße",
        "bodyValues": {"1": {"value": "Größe"}},
        "textBody": [{"partId": "1", "type": "text/plain"}],
    }
    record = {"identityId": ada.identity, "emailId": "#draft"}
    patch = {f"mailboxIds/{drafts}": None, f"mailboxIds/{sent}": True, "keywords/$draft": None}
    responses = ada.client.request(
        ("Email/set", {"create": {"draft": draft}}),
        ("EmailSubmission/set", {"create": {"k": record}, "onSuccessUpdateEmail": {"#k": patch}}),
    )
    assert [name for name, _, _ in responses] == ["Email/set", "EmailSubmission/set", "Email/set"], responses
    id_ = responses[0][1]["created"]["draft"]["id"]
    assert responses[1][1]["created"]["k"]["undoStatus"] == "final"
    assert responses[2][1]["updated"] == {id_: None}
    (email,) = ada.client.call("Email/get", ids=[id_], properties=["mailboxIds", "keywords"])["list"]
    assert email["mailboxIds"] == {sent: True}
    assert taken(smtp, ada.user)[0].rcpt_tos == ["joerg@example.com"]


def test_an_imported_message_is_sent_as_aerc_does(ada: Person, smtp: SmtpServer) -> None:
    octets = f"From: {ada.user}\r\nTo: eve@example.com\r\nSubject: imported\r\n\r\nText.\r\n".encode()
    reply = ada.client.send("POST", f"/upload/{ada.account}/", octets, {"Content-Type": "message/rfc822"})
    sent = ada.client.mailbox("sent")
    blob = {"blobId": reply.json["blobId"], "mailboxIds": {sent: True}, "keywords": {"$seen": True}}
    envelope = {"mailfrom": {"email": ada.user}, "rcptTo": [{"email": "eve@example.com"}]}
    record = {"identityId": ada.identity, "emailId": "#aerc", "envelope": envelope}
    responses = ada.client.request(
        ("Email/import", {"emails": {"aerc": blob}}), ("EmailSubmission/set", {"create": {"aerc": record}})
    )
    assert responses[1][1]["created"], responses
    # Dovecot's Submission puts its Received field before it.
    assert taken(smtp, ada.user)[0].content.endswith(octets)


def test_a_refused_recipient_is_told_at_once_and_the_draft_stays(ada: Person, smtp: SmtpServer) -> None:
    answer, *implicit = ada.send("reject1@example.com", onSuccessDestroyEmail=["#k"])
    error = answer["notCreated"]["k"]
    assert (error["type"], error["invalidRecipients"]) == ("invalidRecipients", ["reject1@example.com"])
    assert re.fullmatch(NO_USER, error["description"])
    assert implicit == []
    assert ada.subjects("Drafts") == 1


def test_some_refused_recipients_are_in_the_delivery_status(ada: Person) -> None:
    made = ada.send("reject1@example.com", "eve@example.com")[0]["created"]["k"]
    status = made["deliveryStatus"]
    assert {email: each["delivered"] for email, each in status.items()} == {
        "reject1@example.com": "no",
        "eve@example.com": "unknown",
    }
    assert re.fullmatch(NO_USER, status["reject1@example.com"]["smtpReply"])
    assert status["eve@example.com"]["smtpReply"] == "250 2.1.5 Ok"


def test_a_message_without_an_answer_is_unknown(
    proxy: Proxy, dovecot: Dovecot, own_smtp: SmtpServer, account_name: str
) -> None:
    """Dovecot's Submission would answer that it was not taken."""
    ada = Person(proxy, dovecot, own_smtp, account_name)
    made = ada.send("cutafter@example.com")[0]["created"]["k"]
    (status,) = made["deliveryStatus"].values()
    assert status["delivered"] == "unknown"
    assert made["undoStatus"] == "final"
    assert len(taken(own_smtp, ada.user)) == 1


def test_the_session_tells_what_can_be_sent(ada: Person, smtp: SmtpServer, proxy: Proxy, dovecot: Dovecot) -> None:
    ada.send("eve@example.com")

    def value() -> dict[str, Any]:
        session = ada.client.send("GET", "/session").json
        found: dict[str, Any] = session["accounts"][ada.account]["accountCapabilities"].get(URN, {})
        return found

    wait_until(lambda: "DSN" in value().get("submissionExtensions", {}), "the worker reports")
    said = {"SIZE": ["49998976"]} if smtp.before else {"SIZE": ["50000000"], "SMTPUTF8": []}
    assert value() == {
        "maxDelayedSend": 30 * 86_400,
        "submissionExtensions": {"FUTURERELEASE": ["2592000"], "DSN": [], **said},
    }
    user, account = dovecot.new_user(), f"{ada.account}x"
    reader = proxy.add(account, dovecot, user)
    assert URN not in reader.send("GET", "/session").json["accounts"][account]["accountCapabilities"]
    ((name, answer, _),) = reader.request(("Identity/get", {}), using=WITH)
    assert (name, answer["type"]) == ("error", "accountNotSupportedByMethod")


def test_an_account_whose_smtp_is_wrong_still_reads_mail_and_says_so(
    proxy: Proxy, dovecot: Dovecot, account_name: str
) -> None:
    user, (port,) = dovecot.new_user(), free_ports(1)
    body = {
        "accountid": account_name, "email": user, "password": dovecot.password, "imapHost": dovecot.host,
        "imapPort": dovecot.port, "imapSSL": 0, "smtpHost": "127.0.0.1", "smtpPort": port, "smtpSSL": 0,
    }  # fmt: skip
    reply = proxy.management.send("POST", "/api/accounts", body)
    assert reply.status == 201
    assert "sending does not work" in reply.json["warning"]
    assert dovecot.password not in reply.json["warning"]
    proxy.settled(account_name)
    assert proxy.client(account_name, user, dovecot.password).mailbox("inbox")


# --- and whatever dies -----------------------------------------------------------------------------------------------


def test_killed_while_the_server_holds_its_answer_nothing_is_sent_again(
    service: Proxy, dovecot: Dovecot, smtp: SmtpServer, account_name: str
) -> None:
    """Wish 25."""
    ada = Person(service, dovecot, smtp, account_name)
    answers: list[Any] = []

    def send() -> None:
        try:
            answers.append(ada.client.send("POST", "/jmap", _request(ada)).json["methodResponses"])
        except (OSError, http.client.HTTPException) as error:
            answers.append(error)

    sending = threading.Thread(target=send)
    sending.start()
    held, release = smtp.outbox / "held", smtp.outbox / "release"
    try:
        wait_until(held.exists, "the server has the message")
        os.kill(service.worker_pid(account_name), signal.SIGKILL)
        sending.join(60)
        ((name, _, _),) = answers[0]
        assert name == "error"
    finally:
        release.touch()
    client = service.client(account_name, ada.user, dovecot.password)
    (found,) = client.answers(("EmailSubmission/get", {}), using=WITH)
    (one,) = found["list"]
    assert one["undoStatus"] == "final"
    (status,) = one["deliveryStatus"].values()
    assert status["delivered"] == "unknown"
    assert "not known" in status["smtpReply"]
    assert len(taken(smtp, ada.user)) == 1
    for path in (held, release):
        path.unlink()


def _request(ada: Person) -> dict[str, Any]:
    record = {
        "identityId": ada.identity,
        "emailId": ada.email,
        "envelope": {"rcptTo": [{"email": "slow@example.com"}]},
    }
    args = {"accountId": ada.account, "create": {"k": record}}
    return {"using": list(WITH), "methodCalls": [["EmailSubmission/set", args, "0"]]}


def test_a_message_that_is_due_later_goes_out_though_nobody_asks(
    service: Proxy, dovecot: Dovecot, submission: SmtpServer, account_name: str
) -> None:
    ada = Person(service, dovecot, submission, account_name)
    made = ada.send("eve@example.com", hold=4)[0]["created"]["k"]
    assert made["undoStatus"] == "pending"
    worker = service.worker_pid(account_name)
    # The service lets an idle worker go after a second, and this one too as soon as it is sent.
    wait_until(lambda: bool(taken(submission, ada.user)) or not running(worker), "the message is sent")
    assert taken(submission, ada.user), "the worker has stayed for it"


def test_a_message_that_is_due_later_survives_a_restart_of_the_service(
    service: Proxy, dovecot: Dovecot, submission: SmtpServer, account_name: str
) -> None:
    ada = Person(service, dovecot, submission, account_name)
    ada.send("eve@example.com", hold=3)
    os.kill(service.worker_pid(account_name), signal.SIGKILL)
    stop(service.process)
    wait_until(lambda: not accepts(service.mgmt), "the service has ended")
    service.start()
    wait_until(lambda: bool(taken(submission, ada.user)), "the message is sent")
    client = service.client(account_name, ada.user, dovecot.password)
    wait_until(lambda: _undo(client) == "final", "the record says so")
    assert len(taken(submission, ada.user)) == 1


def _undo(client: Client) -> str:
    (found,) = client.answers(("EmailSubmission/get", {}), using=WITH)
    return str(found["list"][0]["undoStatus"])


def test_a_server_that_is_away_is_no_reason_to_lose_the_message(
    proxy: Proxy, dovecot: Dovecot, smtp: SmtpServer, account_name: str
) -> None:
    ada = Person(proxy, dovecot, smtp, account_name)
    down = smtp.outbox / "down"
    down.touch()
    try:
        made = ada.send("eve@example.com")[0]["created"]["k"]
        assert made["undoStatus"] == "pending"
        assert made["deliveryStatus"]["eve@example.com"]["delivered"] == "queued"
        canceled = ada.request("EmailSubmission/set", update={made["id"]: {"undoStatus": "canceled"}})[0]
        assert made["id"] in canceled["updated"]
    finally:
        down.unlink()
    assert taken(smtp, ada.user) == []
