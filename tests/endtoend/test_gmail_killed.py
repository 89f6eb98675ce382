"""kill -9 of the worker after every so many octets of a write, where folders are labels (mail-rules 28, 35)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from gmail_scene import ALL, DRAFTS, IMPORTANT, INBOX, TRASH, GmailScene
from scene import View, message
from test_gmail import draft, upload
from test_killed_while_writing import end, kill, synced

from jmapplug.testing import gmail_server
from jmapplug.testing.gmail_server import Gmail
from jmapplug.testing.ports import wait_until
from jmapplug.testing.relay import Relay

STEP = 97
"""Octets between two deaths; with 31 it takes four minutes."""

Write = Callable[[GmailScene, str, str], tuple[str, dict[str, Any]]]
Paths = tuple[str, ...]


def ids(view: View, *paths: Paths) -> dict[str, bool]:
    return {view.paths()[path]: True for path in paths}


def _update(*paths: Paths, **more: Any) -> Write:
    def write(gm: GmailScene, email: str, subject: str) -> tuple[str, dict[str, Any]]:
        return "Email/set", {"update": {email: {"mailboxIds": ids(gm.history[0], *paths), **more}}}

    return write


def _import(gm: GmailScene, email: str, subject: str) -> tuple[str, dict[str, Any]]:
    blob = upload(gm, message(f"new {subject}"))
    where = ids(gm.history[0], INBOX, IMPORTANT, ALL)
    return "Email/import", {"emails": {"i": {"blobId": blob, "mailboxIds": where}}}


def _replace(gm: GmailScene, email: str, subject: str) -> tuple[str, dict[str, Any]]:
    new = draft(ids(gm.history[0], DRAFTS), f"new {subject}")
    return "Email/set", {"create": {"d": new}, "destroy": [email]}


def _destroy(gm: GmailScene, email: str, subject: str) -> tuple[str, dict[str, Any]]:
    return "Email/set", {"destroy": [email]}


FLAG = {"keywords/$flagged": True}
WRITES: dict[str, tuple[Write, str, bool]] = {
    "relabel": (_update(("Work",), IMPORTANT, **FLAG), "INBOX", False),
    "archive": (_update(ALL), "INBOX", False),
    "trash": (_update(TRASH, **FLAG), "INBOX", False),
    "back": (_update(INBOX, ("Work",), IMPORTANT), "[Gmail]/Trash", False),
    "import": (_import, "INBOX", False),
    "replace": (_replace, "[Gmail]/Drafts", True),
    "destroy": (_destroy, "INBOX", True),
}
"""Name → (the write, the folder its message is in before, whether the message goes)."""


@pytest.fixture(scope="module")
def server() -> Iterator[Gmail]:
    running = gmail_server.start("--expunge", "delete")
    yield running
    running.stop()


@pytest.fixture
def relay(server: Gmail) -> Iterator[Relay]:
    made = Relay(server.port)
    yield made
    made.close()


@pytest.mark.parametrize("name", WRITES)
def test_a_worker_killed_in_a_write_loses_and_doubles_nothing(gm: GmailScene, relay: Relay, name: str) -> None:
    write, folder, goes = WRITES[name]
    gm.create("Work")
    gm.append("INBOX", message("bystander"))
    gm.begin(imapPort=relay.port)
    octets, died = 0, True
    while died:
        octets += STEP
        subject = f"{name} {octets}"
        gm.append(folder, message(subject))
        known = gm.sync().by_subject()
        call = write(gm, known[subject], subject)
        relay.trap(octets, kill(gm))
        ((kind, answer, _),) = gm.jmap.request(call)
        # The pass that follows a write may spring the trap behind its answer.
        died = kind == "error"
        relay.disarm()
        if died:
            assert answer["type"] == "serverPartialFail" and not relay.waiting, answer
        del gm.history[1:]
        wait_until(lambda: synced(gm), "the account is back", 60)
        after = gm.agree()
        counted = Counter(email["subject"] for email in after.emails.values())
        assert max(counted.values()) == 1, "doubled"
        lost = known.keys() - counted.keys()
        assert lost <= ({subject} if goes else set()), "lost"
        end(gm)
        assert all(known[one] in after.emails for one in known.keys() - lost), "another id"
    assert octets > 2 * STEP, "the write was never disturbed"
