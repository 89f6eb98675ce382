"""Push on a WebSocket whose client is slow, with a hub whose workers are lists of callbacks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gevent
from gevent.event import Event

from jmapplug.push.hub import Hub
from jmapplug.web.auth import Principal
from jmapplug.web.conversation import Conversation
from tests.web.test_push import Workers


class Slow:
    """A channel with no room until ``room`` is set."""

    def __init__(self) -> None:
        self.room = Event()
        self.sent: list[str] = []

    def wait_for_room(self) -> bool:
        self.room.wait()
        return True

    def send(self, text: str) -> None:
        self.sent.append(text)


def enable(conversation: Conversation) -> None:
    conversation._enable({"dataTypes": None}, None, b"")
    gevent.sleep(0)


def test_what_a_slow_client_has_not_been_told_yet_is_told_after_it_enables_push_anew() -> None:
    workers, channel = Workers(), Slow()
    workers.reached = {"a": "e-5", "b": "e-1"}
    here: Any = SimpleNamespace(hub=Hub(workers))
    principal = Principal("a", "password", {"a": None, "b": None})  # type: ignore[dict-item]
    conversation = Conversation(here, principal, None, channel)  # type: ignore[arg-type]
    enable(conversation)
    workers.tell("a", 6, Email="e-6")
    enable(conversation)
    assert workers.since == {"a": "e-5", "b": "e-1"}, "from where it has been told, not from now"
    conversation._disable()
    enable(conversation)
    assert workers.since == {"a": None, "b": None}, "after a Disable it begins now"
    conversation._disable()
    channel.room.set()
    gevent.sleep(0.01)
    assert channel.sent == []


def test_an_account_that_joins_is_told_of_from_the_beginning_and_the_others_from_where_they_were() -> None:
    workers, channel = Workers(), Slow()
    workers.reached = {"a": "e-5"}
    joined = Principal("a", "password", {"a": None, "c": None})  # type: ignore[dict-item]
    here: Any = SimpleNamespace(hub=Hub(workers), auth=SimpleNamespace(again=lambda *asked: joined))
    principal = Principal("a", "password", {"a": None, "b": None})  # type: ignore[dict-item]
    conversation = Conversation(here, principal, None, channel)  # type: ignore[arg-type]
    enable(conversation)
    conversation.renew()
    gevent.sleep(0)
    assert (workers.since["a"], workers.since["c"]) == ("e-5", "")
    channel.room.set()
    with gevent.Timeout(60):
        while workers.callbacks["b"]:  # nobody follows who has left
            gevent.sleep(0.001)
    conversation._disable()
