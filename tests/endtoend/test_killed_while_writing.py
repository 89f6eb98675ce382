"""kill -9 of the worker, or the end of its connections, after every so many octets of a write: nothing lost, nothing
doubled, and it goes on.

The worker's IMAP connections go through a relay that counts what it says to the server, lets just N octets through and
kills it, or cuts the connection. N grows until a write comes to its end undisturbed.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from scene import POOR, Scene, View, message
from test_our_writes import boxes, draft, upload

from jmapplug.testing.hiding import Hiding
from jmapplug.testing.ports import running, wait_until
from jmapplug.testing.relay import Relay

STEP = 31
"""Octets between two deaths; no command is shorter."""
LONG = 127
"""The same where most octets are a message's."""

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


def _create(scene: Scene, email: str, subject: str) -> tuple[str, dict[str, Any]]:
    return "Email/set", {"create": {"d": draft(next(iter(boxes(scene.history[0], "Archive"))), f"new {subject}")}}


def _replace(scene: Scene, email: str, subject: str) -> tuple[str, dict[str, Any]]:
    new = draft(next(iter(boxes(scene.history[0], "Archive"))), f"new {subject}")
    return "Email/set", {"create": {"d": new}, "destroy": [email]}


def _destroy(scene: Scene, email: str, subject: str) -> tuple[str, dict[str, Any]]:
    return "Email/set", {"destroy": [email]}


MAKES = frozenset({"import", "create", "replace"})
"""These APPEND a message, which nothing journals: after a death it is there or not (the client asks, and may retry)."""

WRITES: dict[str, tuple[Write, bool, int]] = {
    "move": (_move, False, STEP),
    "spread": (_spread, False, STEP),
    "import": (_import, False, LONG),
    "create": (_create, False, LONG),
    "replace": (_replace, True, LONG),
    "destroy": (_destroy, True, STEP),
}
"""Name → (the write, whether the message that it is about goes, octets between two deaths)."""


@pytest.fixture(params=[(), POOR], ids=["whole", "poor"])
def relay(dovecot: Any, request: pytest.FixtureRequest) -> Iterator[Relay]:
    made = Hiding(dovecot.port, request.param)
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
    dove.append("Inbox", message("bystander"))
    dove.begin(imapPort=relay.port)
    octets, died, step = 0, True, WRITES[name][2]
    made: set[tuple[bool, bool]] = set()
    while died:
        octets += step
        turn = Turn(dove, name, octets)
        relay.trap(octets, kill(dove))
        ((kind, answer, _),) = dove.jmap.request(turn.call)
        died = not relay.waiting
        relay.disarm()
        if died:
            # mail-rules 28: something may have been sent.
            assert kind == "error" and answer["type"] == "serverPartialFail", answer
        del dove.history[1:]
        wait_until(lambda: synced(dove), "the account is back", 60)
        made.add((died, turn.law(dove.agree())))
        # A worker that ends well ends the slowing down of restarts, too.
        end(dove)
    assert octets > 2 * step, "the write was never disturbed"
    if name in MAKES:
        assert made == {(True, False), (True, True), (False, True)}, "died before and after the server had it"


@pytest.mark.parametrize("name", WRITES)
def test_a_connection_cut_in_a_write_loses_and_doubles_nothing_and_the_answer_is_so(
    dove: Scene, relay: Relay, name: str
) -> None:
    dove.append("Inbox", message("bystander"))
    dove.begin(imapPort=relay.port)
    octets, cut, step = 0, True, WRITES[name][2]
    while cut:
        octets += step
        turn = Turn(dove, name, octets)
        relay.trap(octets, lambda: None)
        ((kind, answer, _),) = dove.jmap.request(turn.call)
        cut = not relay.waiting
        relay.disarm()
        assert kind == turn.call[0], answer
        del dove.history[1:]
        after = dove.agree()
        turn.law(after)
        turn.told(answer, after)
    assert octets > 2 * step, "the write was never disturbed"


class Turn:
    """One write that is disturbed after so many octets, and what must hold after it."""

    def __init__(self, scene: Scene, name: str, octets: int) -> None:
        write, self.goes, _ = WRITES[name]
        self.makes = name in MAKES
        self.subject = f"{name} {octets}"
        scene.append("Inbox", message(self.subject))
        self.ids = scene.sync().by_subject()
        self.email = self.ids[self.subject]
        self.before = scene.look().emails[self.email]
        self.call = write(scene, self.email, self.subject)

    def law(self, after: View) -> bool:
        """Nothing is lost, nothing is there twice, and each has the id that it had; whether a new one is there."""
        counted = Counter(email["subject"] for email in after.emails.values())
        assert max(counted.values()) == 1, "doubled"
        lost = self.ids.keys() - counted.keys()
        assert lost <= ({self.subject} if self.goes else set()), "lost"
        assert all(after.emails[self.ids[one]]["id"] == self.ids[one] for one in self.ids.keys() - lost), "another id"
        is_made = counted[f"new {self.subject}"] == 1
        assert is_made or not self.makes or not lost, "the old message is gone, and the new one is not there"
        return is_made

    def told(self, answer: dict[str, Any], after: View) -> None:
        """What the answer says is so: done, or untouched."""
        subjects = {email["subject"] for email in after.emails.values()}
        assert (f"new {self.subject}" in subjects) == bool(answer.get("created")), answer
        assert (self.email in after.emails) == (not answer.get("destroyed")), answer
        if "update" in self.call[1]:
            wanted = self.call[1]["update"][self.email]["mailboxIds"]
            is_so = wanted if answer["updated"] else self.before["mailboxIds"]
            assert after.emails[self.email]["mailboxIds"] == is_so, answer
