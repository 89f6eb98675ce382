"""Copies from one account of a login to another (RFC 8620 §5.4, §6.3; RFC 8621 §4.7), on real servers."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from scene import Scene, message

from jmapplug.testing.hiding import Hiding
from jmapplug.testing.ports import running, wait_until
from jmapplug.testing.proxy import Proxy

STEP = 89
KEPT = {"$seen": True, "$flagged": True, "x": True}


class Pair:
    """Two accounts of one login, which is that of ``source``."""

    def __init__(self, source: Scene, target: Scene, **more: Any) -> None:
        self.source, self.target = source, target
        source.begin()
        target.begin(pool=source.account, **more)
        self.inbox = target.history[0].paths()["Inbox",]

    def request(self, **args: Any) -> list[Any]:
        call = {"fromAccountId": self.source.account, "accountId": self.target.account, **args}
        return self.source.jmap.request(("Email/copy", call))

    def copy(self, **args: Any) -> dict[str, Any]:
        kind, answer, _ = self.request(**args)[0]
        assert kind == "Email/copy", answer
        return dict(answer)

    def of(self, subject: str, /, **more: Any) -> dict[str, Any]:
        """A creation."""
        return {"id": self.source.look().by_subject()[subject], "mailboxIds": {self.inbox: True}, **more}


@pytest.fixture
def pair(make: Any) -> Pair:
    source, target = make("dovecot"), make("courier")
    source.append("Inbox", message("one"), flags="\\Seen \\Flagged x", date='"02-Jan-2020 10:00:00 +0000"')
    source.append("Inbox", message("two", body="y" * 20_000))
    return Pair(source, target)


def test_a_copy_is_the_same_message_with_its_keywords_and_date(pair: Pair) -> None:
    state = pair.target.look().states["Email"]
    creations = {"c": pair.of("one"), "d": pair.of("two", keywords={"$draft": True}, receivedAt="2021-03-04T05:06:07Z")}
    answer = pair.copy(create=creations)
    assert (answer["fromAccountId"], answer["accountId"]) == (pair.source.account, pair.target.account)
    assert answer["notCreated"] is None and answer["oldState"] == state
    assert set(answer["created"]["c"]) == {"id", "blobId", "threadId", "size"}
    view = pair.target.agree()
    assert view.states["Email"] == answer["newState"]
    one, two = (view.emails[answer["created"][key]["id"]] for key in "cd")
    assert (one["keywords"], one["receivedAt"]) == (KEPT, "2020-01-02T10:00:00Z")
    assert (two["keywords"], two["receivedAt"]) == ({"$draft": True}, "2021-03-04T05:06:07Z")
    blob = answer["created"]["c"]["blobId"]
    assert pair.target.jmap.send("GET", f"/raw/{pair.target.account}/{blob}/x").body == message("one")
    # The originals are as they were.
    assert pair.source.agree().emails == pair.source.history[0].emails


def test_what_cannot_be_copied_is_told_and_the_rest_is_copied(pair: Pair) -> None:
    answer = pair.copy(
        create={
            "gone": {"id": "nope", "mailboxIds": {pair.inbox: True}},
            "none": {"mailboxIds": {pair.inbox: True}},
            "where": pair.of("one", mailboxIds={"nope": True}),
            "nowhere": pair.of("one", mailboxIds={}),
            "other": pair.of("one", subject="Another"),
            "c": pair.of("one"),
        }
    )
    assert {key: error["type"] for key, error in answer["notCreated"].items()} == {
        "gone": "notFound", "none": "notFound", "where": "invalidProperties", "nowhere": "invalidProperties",
        "other": "invalidProperties",
    }  # fmt: skip
    assert list(answer["created"]) == ["c"]
    assert pair.copy(create={"x": {"id": "nope", "mailboxIds": {pair.inbox: True}}})["created"] is None
    assert set(pair.target.agree().by_subject()) == {"one"}


def test_a_copy_is_known_by_its_creation_id_to_the_next_call(pair: Pair) -> None:
    ids = {"accountId": pair.target.account}
    copy = {"fromAccountId": pair.source.account, **ids, "create": {"c": pair.of("one")}}
    answers = pair.source.jmap.request(
        ("Email/copy", copy), ("Email/set", {**ids, "update": {"#c": {"keywords": {"$answered": True}}}})
    )
    assert answers[1][1]["updated"] == {answers[0][1]["created"]["c"]["id"]: None}


def test_originals_go_after_their_copies_are_there_in_the_same_response(pair: Pair) -> None:
    ids = pair.source.look().by_subject()
    creations = {"c": pair.of("one"), "bad": pair.of("two", mailboxIds={"nope": True})}
    (name, answer, first), (then, gone, second) = pair.request(create=creations, onSuccessDestroyOriginal=True)
    assert (name, then, first) == ("Email/copy", "Email/set", second)
    assert list(answer["created"]) == ["c"]
    assert (gone["accountId"], gone["destroyed"]) == (pair.source.account, [ids["one"]])
    assert set(pair.source.agree().by_subject()) == {"two"}
    assert set(pair.target.agree().by_subject()) == {"one"}


def test_states_are_compared_on_both_sides(pair: Pair) -> None:
    states = {"ifFromInState": pair.source.look().states["Email"], "ifInState": pair.target.look().states["Email"]}
    for name in states:
        ((kind, error, _),) = pair.request(create={"c": pair.of("one")}, **{**states, name: "other-1"})
        assert (kind, error["type"]) == ("error", "stateMismatch")
    assert pair.target.agree().emails == {}
    more = {"onSuccessDestroyOriginal": True, "destroyFromIfInState": "other-1"}
    (_, answer, _), (kind, error, _) = pair.request(create={"c": pair.of("one")}, **states, **more)
    assert answer["created"]
    assert (kind, error["type"]) == ("error", "stateMismatch")
    assert set(pair.source.agree().by_subject()) == {"one", "two"}


def test_a_full_target_leaves_the_originals(make: Any, dovecot: Any) -> None:
    source = make("dovecot")
    source.append("Inbox", message("big", body="x" * 1_500_000))
    pair = Pair(source, make("dovecot", dovecot.new_user("small")))
    ((_, answer, _),) = pair.request(create={"c": pair.of("big")}, onSuccessDestroyOriginal=True)
    assert answer["notCreated"]["c"]["type"] == "overQuota"
    assert set(source.agree().by_subject()) == {"big"}


def test_strangers_are_not_copied_from(pair: Pair, make: Any) -> None:
    stranger = make("dovecot")
    stranger.append("Inbox", message("secret"))
    id_ = stranger.begin().by_subject()["secret"]
    blob = stranger.look().emails[id_]["blobId"]
    for account in (stranger.account, "nobody"):
        ((kind, error, _),) = pair.request(create={"c": {**pair.of("one"), "id": id_}}, fromAccountId=account)
        assert (kind, error["type"]) == ("error", "fromAccountNotFound")
        error = pair.source.jmap.error("Blob/copy", fromAccountId=account, blobIds=[blob])
        assert error["type"] == "fromAccountNotFound"
    ((kind, error, _),) = pair.request(create={"c": pair.of("one")}, accountId=stranger.account)
    assert (kind, error["type"]) == ("error", "accountNotFound")
    assert set(stranger.agree().by_subject()) == {"secret"}


def test_blobs_are_copied(pair: Pair) -> None:
    jmap = pair.source.jmap
    upload = jmap.send("POST", f"/upload/{pair.source.account}/", b"words", {"Content-Type": "text/x-words"}).json
    email = next(iter(pair.source.look().emails.values()))
    args = {"fromAccountId": pair.source.account, "accountId": pair.target.account}
    answer = jmap.call("Blob/copy", **args, blobIds=[upload["blobId"], email["blobId"], "f-nope"])
    assert (answer["fromAccountId"], answer["accountId"]) == (pair.source.account, pair.target.account)
    assert answer["notCopied"] == {"f-nope": {"type": "blobNotFound"}}
    here = pair.target.jmap.send("GET", f"/raw/{pair.target.account}/{answer['copied'][upload['blobId']]}/x")
    assert (here.body, here.headers["content-type"]) == (b"words", "text/x-words")
    whole = pair.target.jmap.send("GET", f"/raw/{pair.target.account}/{answer['copied'][email['blobId']]}/x")
    assert len(whole.body) == email["size"]
    assert jmap.call("Blob/copy", **args, blobIds=["f-nope"])["copied"] is None


@pytest.fixture
def relay(dovecot: Any) -> Iterator[Hiding]:
    made = Hiding(dovecot.port)
    yield made
    made.close()


def test_a_worker_killed_in_a_moving_copy_loses_nothing(make: Any, relay: Hiding, proxy: Proxy) -> None:
    """The target's worker dies after every so many octets; the original goes only after the copy is there."""
    pair = Pair(make("dovecot"), make("dovecot"), imapPort=relay.port)
    octets, died = 0, True
    while died:
        octets += STEP
        subject = f"m{octets}"
        pair.source.append("Inbox", message(subject))
        pair.source.sync()
        wait_until(lambda: _synced(pair.target), "the account is back", 60)
        creation = pair.of(subject)
        pid = proxy.worker_pid(pair.target.account)
        relay.trap(octets, lambda pid=pid: _ended(pid, signal.SIGKILL))  # type: ignore[misc]
        kind, answer, _ = pair.request(create={"c": creation}, onSuccessDestroyOriginal=True)[0]
        died = not relay.waiting
        relay.disarm()
        assert kind == "Email/copy" or (died and answer["type"] == "serverPartialFail"), answer
        wait_until(lambda: _synced(pair.target), "the account is back", 60)
        there = [email["subject"] for email in pair.target.look().emails.values()].count(subject)
        left = pair.source.sync().by_subject()
        assert there <= 1 and (there or subject in left), "lost or doubled"
        assert kind == "error" or (there, subject in left) == (1, False)
        _ended(proxy.worker_pid(pair.target.account), signal.SIGTERM)
    assert octets > 2 * STEP, "the copy was never disturbed"


def _ended(pid: int, how: signal.Signals) -> None:
    os.kill(pid, how)
    wait_until(lambda: not running(pid), "the worker is gone")


def _synced(scene: Scene) -> bool:
    return scene.proxy.management.send("POST", f"/api/accounts/{scene.account}/sync").status == 200
