"""kill -9 of the worker after every so many octets of a write: nothing lost, nothing doubled, and it goes on.

The worker's IMAP connections go through a relay that counts what it says to the server, lets just N octets through and
kills it. N grows until a write comes to its end undisturbed.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from scene import Scene, message
from test_our_writes import boxes, draft, upload

from jmapplug.testing.ports import running, wait_until
from jmapplug.testing.relay import Relay

STEP = 31
"""Octets between two deaths; no command is shorter."""

Write = Callable[[Scene, str, str], tuple[str, dict[str, Any]]]
"""(scene, the id of the message to write to, its subject) → a method call."""


def _move(scene: Scene, email: str, subject: str) -> tuple[str, dict[str, Any]]:
    patch = {"mailboxIds": boxes(scene.history[0], "Archive"), "keywords/$flagged": True}
    return "Email/set", {"update": {email: patch}}


def _spread(scene: Scene, email: str, subject: str) -> tuple[str, dict[str, Any]]:
    return "Email/set", {"update": {email: {"mailboxIds": boxes(scene.history[0], "Archive", "Trash")}}}


def _import(scene: Scene, email: str, subject: str) -> tuple[str, dict[str, Any]]:
    where = boxes(scene.history[0], "Archive", "Trash")
    return "Email/import", {"emails": {"i": {"blobId": upload(scene, message(f"new {subject}")), "mailboxIds": where}}}


def _replace(scene: Scene, email: str, subject: str) -> tuple[str, dict[str, Any]]:
    new = draft(next(iter(boxes(scene.history[0], "Archive"))), f"new {subject}")
    return "Email/set", {"create": {"d": new}, "destroy": [email]}


def _destroy(scene: Scene, email: str, subject: str) -> tuple[str, dict[str, Any]]:
    return "Email/set", {"destroy": [email]}


MAKES = frozenset({"import", "replace"})
"""These APPEND a message, which nothing journals: after a death it is there or not (the client asks, and may retry)."""

WRITES: dict[str, tuple[Write, bool]] = {
    "move": (_move, False),
    "spread": (_spread, False),
    "import": (_import, False),
    "replace": (_replace, True),
    "destroy": (_destroy, True),
}
"""Name → (the write, whether the message that it is about goes)."""


@pytest.fixture
def relay(dovecot: Any) -> Iterator[Relay]:
    made = Relay(dovecot.port)
    yield made
    made.close()


def kill(scene: Scene) -> Callable[[], None]:
    pid = scene.proxy.worker_pid(scene.account)

    def action() -> None:
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not running(pid), "the worker is dead")

    return action


def end(scene: Scene) -> None:
    pid = scene.proxy.worker_pid(scene.account)
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not running(pid), "the worker ends")


def synced(scene: Scene) -> bool:
    return scene.proxy.management.send("POST", f"/api/accounts/{scene.account}/sync").status == 200


@pytest.mark.parametrize("name", WRITES)
def test_a_worker_killed_in_a_write_loses_and_doubles_nothing(dove: Scene, relay: Relay, name: str) -> None:
    write, goes = WRITES[name]
    dove.append("Inbox", message("bystander"))
    dove.begin(imapPort=relay.port)
    octets, died = 0, True
    made: set[tuple[bool, bool]] = set()
    while died:
        octets += STEP
        subject = f"{name} {octets}"
        dove.append("Inbox", message(subject))
        view = dove.sync()
        ids = view.by_subject()
        call = write(dove, ids[subject], subject)
        relay.trap(octets, kill(dove))
        ((kind, answer, _),) = dove.jmap.request(call)
        died = not relay.waiting
        relay.disarm()
        if died:
            # mail-rules 28: something may have been sent.
            assert kind == "error" and answer["type"] == "serverPartialFail", answer
        del dove.history[1:]
        wait_until(lambda: synced(dove), "the account is back", 60)
        after = dove.agree()
        counted = Counter(email["subject"] for email in after.emails.values())
        assert max(counted.values()) == 1, "doubled"
        lost = ids.keys() - counted.keys()
        assert lost <= ({subject} if goes else set()), "lost"
        is_made = counted[f"new {subject}"] == 1
        made.add((died, is_made))
        assert is_made or name not in MAKES or not lost, "the old message is gone, and the new one is not there"
        # A worker that ends well ends the slowing down of restarts, too.
        end(dove)
        assert all(after.emails[ids[one]]["id"] == ids[one] for one in ids.keys() - lost), "another id"
    assert octets > 2 * STEP, "the write was never disturbed"
    if name in MAKES:
        assert made == {(True, False), (True, True), (False, True)}, "died before and after the server had it"
