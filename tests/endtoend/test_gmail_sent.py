"""Sending where the server itself puts what is sent into Sent: one copy stays there, and it is the one we know."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gmail_scene import ALL, DRAFTS, SENT, GmailScene

from jmapplug.testing import gmail_server, smtp_server
from jmapplug.testing.gmail_server import Gmail
from jmapplug.testing.ports import wait_until
from jmapplug.testing.proxy import USING
from jmapplug.testing.smtp_server import SmtpServer

WITH = (*USING, "urn:ietf:params:jmap:submission")
RAW_SENT = "[Gmail]/Sent Mail"


@pytest.fixture(scope="module", params=["two-messages", "one-message"])
def server(request: pytest.FixtureRequest) -> Iterator[Gmail]:
    """Whether the server knows that its copy and ours are one message."""
    running = gmail_server.start(*(["--no-dedupe"] if request.param == "two-messages" else []))
    yield running
    running.stop()


@pytest.fixture
def smtp(server: Gmail, tmp_path: Path) -> Iterator[SmtpServer]:
    running = smtp_server.start(
        tmp_path / "out", "--auth", "*:secret", "--sent", f"{server.host}:{server.port}:{server.password}"
    )
    yield running
    running.stop()


@pytest.fixture
def gm(smtp: SmtpServer, gm: GmailScene) -> GmailScene:
    gm.begin(**smtp.settings)
    return gm


def send(gm: GmailScene, after: dict[str, Any]) -> str:
    """Write a draft and send it; the Email's id."""
    drafts = gm.box(*DRAFTS)
    draft = {
        "mailboxIds": {drafts: True}, "keywords": {"$draft": True, "$seen": True}, "from": [{"email": gm.user}],
        "to": [{"email": "bob@example.org"}], "bcc": [{"email": "eve@example.org"}], "subject": "Hello",
        "bodyValues": {"1": {"value": "Text\n"}}, "textBody": [{"partId": "1", "type": "text/plain"}],
    }  # fmt: skip
    (identities,) = gm.jmap.answers(("Identity/get", {}), using=WITH)
    record = {"identityId": identities["list"][0]["id"], "emailId": "#d"}
    responses = gm.jmap.request(
        ("Email/set", {"create": {"d": draft}}),
        ("EmailSubmission/set", {"create": {"k": record}, **after}),
        using=WITH,
    )
    assert responses[1][1]["created"], responses[1][1]
    return str(responses[0][1]["created"]["d"]["id"])


def to_sent(gm: GmailScene) -> dict[str, Any]:
    drafts, sent = gm.box(*DRAFTS), gm.box(*SENT)
    patch = {f"mailboxIds/{drafts}": None, f"mailboxIds/{sent}": True, "keywords/$draft": None}
    return {"onSuccessUpdateEmail": {"#k": patch}}


def in_sent(gm: GmailScene) -> int:
    return len(gm.uids(RAW_SENT))


def test_one_copy_stays_in_sent_and_its_id_is_the_drafts(gm: GmailScene) -> None:
    """Wish 24."""
    ours = send(gm, to_sent(gm))
    wait_until(lambda: in_sent(gm) == 1 and len(gm.uids("[Gmail]/All Mail")) == 1, "one copy is left")
    view = gm.agree()
    assert list(view.emails) == [ours] and gm.where(ours) == {"Sent Mail", "All Mail"}
    assert gm.uids("[Gmail]/Trash") == [] and gm.uids("[Gmail]/Drafts") == []
    raw = gm.uid(RAW_SENT, "FETCH", gm.uids(RAW_SENT)[0], "(BODY.PEEK[])")[0][1]
    assert b"Bcc: eve@example.org" in raw


def test_a_draft_that_is_destroyed_leaves_the_servers_copy(gm: GmailScene) -> None:
    """Where the server says that both are one message, that one is destroyed: the client has asked for it."""
    before = gm.look()
    ours = send(gm, {"onSuccessDestroyEmail": ["#k"]})
    view = gm.agree()
    assert ours not in view.emails and before.emails == {}
    if "--no-dedupe" in gm.server.process.args:  # type: ignore[operator]
        assert in_sent(gm) == 1 and len(view.emails) == 1


def test_a_draft_that_stays_a_draft_is_left_alone(gm: GmailScene) -> None:
    ours = send(gm, {})
    wait_until(lambda: in_sent(gm) == 1, "the server's copy is there")
    assert ours in gm.agree().emails and "Drafts" in gm.where(ours)
    gm.jmap.call("Email/set", update={ours: {"mailboxIds": {gm.box(*SENT): True, gm.box(*ALL): True}}})
    wait_until(lambda: in_sent(gm) == 1, "the server's copy went when ours came")
    assert list(gm.agree().emails) == [ours]


def test_another_message_of_the_same_message_id_stays(gm: GmailScene, smtp: SmtpServer) -> None:
    """What lies in other folders is none of our business, whatever it calls itself."""
    ours = send(gm, to_sent(gm))
    wait_until(lambda: in_sent(gm) == 1, "one copy is left")
    gm.append("INBOX", smtp.taken[0].content)
    view = gm.agree()
    assert ours in view.emails
    if "--no-dedupe" in gm.server.process.args:  # type: ignore[operator]
        other = next(one for one in view.emails if one != ours)
        assert len(view.emails) == 2 and gm.where(other) == {"Inbox", "All Mail"}
