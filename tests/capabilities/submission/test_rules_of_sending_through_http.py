"""RFC 8621 §6 and §7 over HTTP, through Dovecot's Submission (AUTH, STARTTLS) with real mailboxes behind it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from test_sending_through_http import Person, taken

from jmapplug.testing import smtp_server
from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.ports import wait_until
from jmapplug.testing.proxy import Proxy
from jmapplug.testing.smtp_server import SmtpServer

LIST = "list@example.net"


@pytest.fixture
def ada(proxy: Proxy, dovecot: Dovecot, submission: SmtpServer, account_name: str) -> Person:
    return Person(proxy, dovecot, submission, account_name, sendAs=[LIST, "*@example.edu"])


@pytest.fixture(scope="module")
def rich(dovecot: Dovecot, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmtpServer]:
    """A server that holds messages itself, and takes small ones only."""
    arguments = ("--auth", f"*:{dovecot.password}", "--future-release", "7200", "--size", "20000")
    server = smtp_server.start(tmp_path_factory.mktemp("rich"), *arguments)
    yield server
    server.stop()


def written(ada: Person, **more: Any) -> str:
    """The id of a new draft."""
    draft = {
        "mailboxIds": {ada.client.mailbox("drafts"): True},
        "keywords": {"$draft": True},
        "from": [{"email": ada.user}],
        "to": [{"email": "eve@example.com"}],
        "subject": "A draft",
        **more,
    }
    return str(ada.client.call("Email/set", create={"d": draft})["created"]["d"]["id"])


def submit(ada: Person, email: str, **more: Any) -> dict[str, Any]:
    """What one creation makes, or its SetError."""
    record = {"identityId": ada.identity, "emailId": email, **more}
    answer = ada.request("EmailSubmission/set", create={"k": record})[0]
    assert answer["created"] is None or answer["notCreated"] is None
    result: dict[str, Any] = (answer["created"] or answer["notCreated"])["k"]
    return result


# --- identities ------------------------------------------------------------------------------------------------------


def test_an_identity_of_another_address_writes_and_sends_as_it(ada: Person, submission: SmtpServer) -> None:
    state = ada.request("Identity/get", ids=[])[0]["state"]
    more = {"name": "The list", "textSignature": "-- \nus", "htmlSignature": "<i>us</i>"}
    more |= {"replyTo": [{"name": None, "email": "answers@example.net"}], "bcc": [{"name": "A", "email": "a@b.c"}]}
    refused = ada.request("Identity/set", create={"i": {"email": "boss@example.org"}})[0]["notCreated"]["i"]
    assert refused["type"] == "forbiddenFrom"
    made = ada.request("Identity/set", create={"i": {"email": LIST, **more}})[0]["created"]["i"]
    changes = ada.request("Identity/changes", sinceState=state)[0]
    assert (changes["created"], changes["updated"], changes["destroyed"]) == ([made["id"]], [], [])
    (got,) = ada.request("Identity/get", ids=[made["id"]])[0]["list"]
    assert got == {"id": made["id"], "email": LIST, "mayDelete": True, **more}
    email = written(ada, **{"from": [{"email": LIST}]})
    assert submit(ada, email, identityId=made["id"])["undoStatus"] == "final"
    assert [each.mail_from for each in submission.taken if each.mail_from == LIST] == [LIST]
    gone = ada.request("Identity/set", destroy=[made["id"], ada.identity])[0]
    assert gone["destroyed"] == [made["id"]]
    assert gone["notDestroyed"][ada.identity]["type"] == "forbidden"


# --- what is refused, and what is understood -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("draft", "record", "error"),
    [
        ({"from": [{"email": "boss@example.org"}]}, {}, {"type": "forbiddenFrom"}),
        ({"from": None}, {}, {"type": "invalidEmail", "properties": ["from"]}),
        ({"to": None}, {}, {"type": "noRecipients"}),
        ({"to": [{"email": "nobody"}]}, {}, {"type": "invalidRecipients", "invalidRecipients": ["nobody"]}),
        (
            {},
            {"envelope": {"mailFrom": {"email": "boss@example.org"}, "rcptTo": [{"email": "eve@example.com"}]}},
            {"type": "forbiddenMailFrom"},
        ),
        (
            {},
            {"envelope": {"rcptTo": [{"email": f"x{n}@example.com"} for n in range(1001)]}},
            {"type": "tooManyRecipients", "maxRecipients": 1000},
        ),
        ({}, {"envelope": {"rcptTo": [{"email": "policy1@example.com"}]}}, {"type": "forbiddenToSend"}),
        ({}, {"envelope": {"rcptTo": [{"email": "rejectdata@example.com"}]}}, {"type": "forbiddenToSend"}),
        ({}, {"identityId": "nope"}, {"type": "invalidProperties", "properties": ["identityId"]}),
        ({}, {"emailId": "nope"}, {"type": "invalidProperties", "properties": ["emailId"]}),
    ],
)
def test_what_may_not_be_sent_is_refused_with_the_rfcs_error_and_nothing_is_sent(
    ada: Person, submission: SmtpServer, draft: dict[str, Any], record: dict[str, Any], error: dict[str, Any]
) -> None:
    answer = submit(ada, written(ada, **draft), **record)
    answer.pop("description", None)
    assert answer == error
    assert taken(submission, ada.user) == []
    assert ada.request("EmailSubmission/get", ids=None)[0]["list"] == []


@pytest.mark.parametrize(
    "envelope",
    [
        {"rcptTo": [{"email": "eve@example.com"}]},
        {"mailFrom": None, "rcptTo": [{"email": "eve@example.com", "parameters": None}], "size": 7},
        {"mailfrom": {"email": "ADDRESS"}, "rcptTo": [{"email": "eve@example.com"}]},
    ],
)
def test_an_envelope_without_a_sender_has_the_identitys(
    ada: Person, submission: SmtpServer, envelope: dict[str, Any]
) -> None:
    if "mailfrom" in envelope:
        envelope = {**envelope, "mailfrom": {"email": ada.user}}
    made = submit(ada, written(ada), envelope=envelope)
    assert made["envelope"]["mailFrom"]["email"] == ada.user
    (one,) = taken(submission, ada.user)
    assert one.rcpt_tos == ["eve@example.com"]


def test_a_message_larger_than_the_server_takes_is_too_large(
    proxy: Proxy, dovecot: Dovecot, rich: SmtpServer, account_name: str
) -> None:
    ada = Person(proxy, dovecot, rich, account_name)
    body = {"bodyValues": {"1": {"value": "x" * 30_000}}, "textBody": [{"partId": "1", "type": "text/plain"}]}
    assert submit(ada, written(ada))["undoStatus"] == "final"
    error = submit(ada, written(ada, **body))
    assert (error["type"], error["maxSize"]) == ("tooLarge", 20_000)
    assert len(taken(rich, ada.user)) == 1


def test_dsn_parameters_reach_the_server(ada: Person, submission: SmtpServer) -> None:
    sender = {"email": ada.user, "parameters": {"RET": "HDRS", "ENVID": "q1"}}
    to = {"email": "eve@example.com", "parameters": {"NOTIFY": "SUCCESS,FAILURE", "ORCPT": "rfc822;eve@example.com"}}
    assert submit(ada, written(ada), envelope={"mailFrom": sender, "rcptTo": [to]})["undoStatus"] == "final"
    (one,) = taken(submission, ada.user)
    assert {"RET=HDRS", "ENVID=Q1"} <= {each.upper() for each in one.mail_options}
    assert "NOTIFY=SUCCESS,FAILURE" in one.rcpt_options
    assert any(each.upper().startswith("ORCPT=RFC822;") for each in one.rcpt_options)


def test_an_address_beyond_ascii_is_sent_where_the_server_can_and_refused_where_not(
    ada: Person, proxy: Proxy, dovecot: Dovecot, rich: SmtpServer, account_name: str
) -> None:
    there = Person(proxy, dovecot, rich, f"{account_name}x")
    envelope = {"rcptTo": [{"email": "jörg@example.com"}]}
    assert submit(there, written(there), envelope=envelope)["undoStatus"] == "final"
    (one,) = taken(rich, there.user)
    assert one.rcpt_tos == ["jörg@example.com"] and "SMTPUTF8" in one.mail_options
    # Dovecot 2.3's Submission has no SMTPUTF8.
    error = submit(ada, written(ada), envelope=envelope)
    assert (error["type"], error["invalidRecipients"]) == ("invalidRecipients", ["jörg@example.com"])


# --- after a success -------------------------------------------------------------------------------------------------


def test_the_email_may_go_after_a_success_in_the_same_response(ada: Person, submission: SmtpServer) -> None:
    email = written(ada)
    record = {"identityId": ada.identity, "emailId": email}
    bad = {**record, "envelope": {"rcptTo": [{"email": "reject1@example.com"}]}}
    responses = ada.client.request(
        ("EmailSubmission/set", {"create": {"b": bad}, "onSuccessDestroyEmail": ["#b"]}),
        ("EmailSubmission/set", {"create": {"k": record}, "onSuccessDestroyEmail": ["#k"]}),
        ("Email/get", {"ids": [email], "properties": ["id"]}),
    )
    assert [(name, id_) for name, _, id_ in responses] == [
        ("EmailSubmission/set", "0"), ("EmailSubmission/set", "1"), ("Email/set", "1"), ("Email/get", "2"),
    ]  # fmt: skip
    assert responses[2][1]["destroyed"] == [email]
    assert responses[3][1]["notFound"] == [email]
    assert len(taken(submission, ada.user)) == 1
    assert ada.subjects("Drafts") == 1  # the one from the beginning


def test_what_has_been_sent_cannot_be_unsent(ada: Person) -> None:
    made = submit(ada, written(ada))
    answer = ada.request("EmailSubmission/set", update={made["id"]: {"undoStatus": "canceled"}})[0]
    assert answer["notUpdated"][made["id"]]["type"] == "cannotUnsend"


# --- later -----------------------------------------------------------------------------------------------------------


def held(ada: Person, seconds: int = 3600) -> dict[str, Any]:
    sender = {"email": ada.user, "parameters": {"HOLDFOR": str(seconds)}}
    return {"mailFrom": sender, "rcptTo": [{"email": "eve@example.com"}]}


def test_a_message_that_is_due_later_is_found_taken_back_and_told(ada: Person, submission: SmtpServer) -> None:
    query = {"filter": {"undoStatus": "pending"}, "sort": [{"property": "sentAt"}]}
    start = ada.request("EmailSubmission/query", **query)[0]
    state = ada.request("EmailSubmission/get", ids=[])[0]["state"]
    email = written(ada)
    made = submit(ada, email, envelope=held(ada))
    assert made["undoStatus"] == "pending" and made["sendAt"] > "2026"
    found = ada.request("EmailSubmission/query", **query)[0]
    assert found["ids"] == [made["id"]]
    delta = ada.request("EmailSubmission/queryChanges", sinceQueryState=start["queryState"], **query)[0]
    assert delta["added"] == [{"id": made["id"], "index": 0}]
    # The draft may go: the queue has its own copy (mail-rules 36).
    ada.client.call("Email/set", destroy=[email])
    back = ada.request("EmailSubmission/set", update={made["id"]: {"undoStatus": "canceled"}})[0]
    assert made["id"] in back["updated"]
    changes = ada.request("EmailSubmission/changes", sinceState=state)[0]
    assert (changes["created"], changes["updated"]) == ([made["id"]], [])
    assert ada.submission(made["id"])["undoStatus"] == "canceled"
    assert ada.request("EmailSubmission/query", **query)[0]["ids"] == []
    assert taken(submission, ada.user) == []


def test_a_server_that_holds_messages_gets_them_at_once(
    proxy: Proxy, dovecot: Dovecot, rich: SmtpServer, account_name: str
) -> None:
    """RFC 4865."""
    ada = Person(proxy, dovecot, rich, account_name)
    wait_until(lambda: submit(ada, written(ada), envelope=held(ada))["undoStatus"] == "final", "FUTURERELEASE is known")
    (one,) = taken(rich, ada.user)
    assert [each for each in one.mail_options if each.startswith("HOLDUNTIL=")], one.mail_options
    # Longer than the server holds them we do.
    assert submit(ada, written(ada), envelope=held(ada, 10_000))["undoStatus"] == "pending"
    assert len(taken(rich, ada.user)) == 1


# --- meanwhile -------------------------------------------------------------------------------------------------------


def test_nobody_waits_for_smtp_but_the_sender(ada: Person, submission: SmtpServer) -> None:
    """No lock of the account is held while SMTP talks."""
    email, other = written(ada), written(ada, subject="Another")
    envelope = {"rcptTo": [{"email": "slow@example.com"}]}
    answers: list[dict[str, Any]] = []
    sending = Person.__new__(Person)
    vars(sending).update({**vars(ada), "client": ada.proxy.client(ada.account, ada.user, ada.server.password)})
    thread = threading.Thread(target=lambda: answers.append(submit(sending, email, envelope=envelope)))
    thread.start()
    marks = [submission.outbox / "held", submission.outbox / "release"]
    try:
        wait_until(marks[0].exists, "the server holds its answer")
        box = ada.client.call("Mailbox/set", create={"m": {"name": "Meanwhile"}})["created"]["m"]["id"]
        patch = {"keywords/$flagged": True, "mailboxIds": {box: True}}
        assert other in ada.client.call("Email/set", update={other: patch})["updated"]
        ada.proxy.sync(ada.account)
        # The Email that is being sent is not locked either, and a second message goes its way.
        assert email in ada.client.call("Email/set", update={email: {"keywords/$flagged": True}})["updated"]
        assert submit(ada, other)["undoStatus"] == "final"
        assert thread.is_alive() and not answers
    finally:
        marks[1].touch()
        thread.join(60)
        for mark in marks:
            mark.unlink(missing_ok=True)
    assert answers[0]["undoStatus"] == "final"
    assert len(taken(submission, ada.user)) == 2
