"""kill -9 of the worker after every so many octets to a real submission service (AUTH, STARTTLS): wish 25.

Its SMTP connections go through a relay that counts what it says, lets just N octets through and kills it. N grows until
a send comes to its end undisturbed.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from email import message_from_bytes
from typing import Any

import pytest
from test_sending_through_http import WITH, Person, taken

from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.ports import running, wait_until
from jmapplug.testing.proxy import Proxy
from jmapplug.testing.relay import Relay
from jmapplug.testing.smtp_server import SmtpServer

STEP = 131
"""Octets between two deaths."""


@pytest.fixture
def relay(submission: SmtpServer) -> Iterator[Relay]:
    made = Relay(submission.settings["smtpPort"])
    yield made
    made.close()


@pytest.fixture
def ada(proxy: Proxy, dovecot: Dovecot, submission: SmtpServer, relay: Relay, account_name: str) -> Person:
    return Person(proxy, dovecot, submission, account_name, smtpPort=relay.port)


def ended(ada: Person, how: signal.Signals) -> Callable[[], None]:
    pid = ada.proxy.worker_pid(ada.account)

    def action() -> None:
        os.kill(pid, how)
        wait_until(lambda: not running(pid), "the worker is gone")

    return action


def drafted(ada: Person, subject: str) -> str:
    """The id of a new draft to oneself."""
    draft = {
        "mailboxIds": {ada.client.mailbox("drafts"): True},
        "keywords": {"$draft": True},
        "from": [{"email": ada.user}],
        "to": [{"email": ada.user}],
        "subject": subject,
    }
    return str(ada.client.call("Email/set", create={"d": draft})["created"]["d"]["id"])


def send(ada: Person, email: str) -> tuple[str, dict[str, Any]]:
    """What a send answers."""
    record = {"identityId": ada.identity, "emailId": email}
    call = ("EmailSubmission/set", {"create": {"k": record}, "onSuccessDestroyEmail": ["#k"]})
    kind, answer, _ = ada.client.request(call, using=WITH)[0]
    return kind, answer


def sent(submission: SmtpServer, ada: Person) -> Counter[str]:
    """How often each message was taken, by its subject."""
    return Counter(str(message_from_bytes(each.content)["Subject"]) for each in taken(submission, ada.user))


def back(ada: Person) -> bool:
    return ada.proxy.management.send("POST", f"/api/accounts/{ada.account}/sync").status == 200


def test_a_worker_killed_in_a_send_sends_once_at_most_and_says_what_it_knows(
    ada: Person, submission: SmtpServer, relay: Relay
) -> None:
    octets, died, met = 0, True, set()
    while died:
        octets += STEP
        subject = f"after {octets}"
        email = drafted(ada, subject)
        relay.trap(octets, ended(ada, signal.SIGKILL))
        kind, answer = send(ada, email)
        died = not relay.waiting
        relay.disarm()
        wait_until(lambda: back(ada), "the account is back", 60)
        (found,) = ada.request("EmailSubmission/get", ids=None)
        rows = [row for row in found["list"] if row["emailId"] == email]
        times = sent(submission, ada)[subject]
        if kind != "error":
            assert times == 1 and rows[0]["undoStatus"] == "final", answer
            met.add("sent")
        elif rows:
            # Octets of the message may have left: nobody guesses.
            assert answer["type"] == "serverPartialFail"
            ((status, undo),) = [(*row["deliveryStatus"].values(), row["undoStatus"]) for row in rows]
            assert (status["delivered"], undo) == ("unknown", "final") and "not known" in status["smtpReply"]
            met.add("unknown")
        else:
            # For the client it did not happen, and it never will.
            assert answer["type"] == "serverPartialFail" and times == 0
            met.add("nothing")
        kept = ada.client.call("Email/get", ids=[email], properties=["id"])
        assert kind != "error" or kept["list"], "the draft is lost"
        # A worker that ends well ends the slowing down of restarts, too.
        ended(ada, signal.SIGTERM)()
    assert met == {"nothing", "unknown", "sent"}
    assert max(sent(submission, ada).values()) == 1, "sent twice"
    assert ada.subjects("INBOX") == sent(submission, ada).total()
