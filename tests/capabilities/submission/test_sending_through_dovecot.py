"""Through Dovecot's Submission service: STARTTLS, AUTH, and a relay behind it that delivers before it answers."""

from __future__ import annotations

from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.proxy import USING, Proxy
from jmapplug.testing.smtp_server import SmtpServer

WITH = (*USING, "urn:ietf:params:jmap:submission")


def test_a_message_goes_through_a_real_submission_service_and_comes_back(
    proxy: Proxy, dovecot_submission: Dovecot, submission: SmtpServer, account_name: str
) -> None:
    server, user = dovecot_submission, dovecot_submission.new_user()
    client = proxy.add(account_name, server, user, **submission.settings)
    proxy.settled(account_name)
    drafts, sent = client.mailbox("drafts"), client.mailbox("sent")
    draft = {
        "mailboxIds": {drafts: True}, "keywords": {"$draft": True}, "from": [{"email": user}], "to": [{"email": user}],
        "bcc": [{"email": "reject1@example.com"}], "subject": "Hello",
        "bodyValues": {"1": {"value": ".\r\n..\r\nText"}}, "textBody": [{"partId": "1", "type": "text/plain"}],
    }  # fmt: skip
    (found,) = client.answers(("Identity/get", {}), using=WITH)
    record = {"identityId": found["list"][0]["id"], "emailId": "#d"}
    patch = {f"mailboxIds/{drafts}": None, f"mailboxIds/{sent}": True, "keywords/$draft": None}
    responses = client.request(
        ("Email/set", {"create": {"d": draft}}),
        ("EmailSubmission/set", {"create": {"k": record}, "onSuccessUpdateEmail": {"#k": patch}}),
        using=WITH,
    )
    assert responses[1][1]["created"], responses[1][1]["notCreated"]
    made = responses[1][1]["created"]["k"]
    told = {email: status["delivered"] for email, status in made["deliveryStatus"].items()}
    assert told == {user: "unknown", "reject1@example.com": "no"}
    assert made["deliveryStatus"]["reject1@example.com"]["smtpReply"].startswith("550 5.1.1 ")
    with server.imap(user) as imap:
        imap.select("INBOX")
        (one,) = imap.search(None, "ALL")[1][0].split()
        octets = imap.fetch(one, "(BODY.PEEK[])")[1][0][1]
    assert b"\r\n.\r\n..\r\nText" in octets
    assert b"Bcc" not in octets
    assert [name for name, _, _ in responses] == ["Email/set", "EmailSubmission/set", "Email/set"]
