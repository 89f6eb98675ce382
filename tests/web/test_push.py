"""The hub and the event stream, on a client that is a list of callbacks."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from jmapplug.jmap.errors import RequestError
from jmapplug.push import positions
from jmapplug.push.eventsource import Wish, read_wish, stream
from jmapplug.push.hub import Hub


class Workers:
    """Remembers who listens; ``tell`` sends an event."""

    def __init__(self) -> None:
        self.callbacks: dict[str, list[Callable[[dict[str, Any]], None]]] = {}
        self.since: dict[str, str | None] = {}
        self.reached: dict[str, str | None] = {}

    def subscribe(
        self, account_id: str, callback: Callable[[dict[str, Any]], None], *, since: str | None, timeout: float
    ) -> Any:
        self.callbacks.setdefault(account_id, []).append(callback)
        self.since[account_id] = since
        workers = self

        class Handle:
            @property
            def position(self) -> str | None:
                return workers.reached.get(account_id)

            def close(self) -> None:
                workers.callbacks[account_id].remove(callback)

        return Handle()

    def tell(self, account_id: str, number: int, **changed: str) -> None:
        self.reached[account_id] = f"e-{number}"
        for callback in list(self.callbacks[account_id]):
            callback({"changed": changed, "id": f"e-{number}"})


def wish(**more: Any) -> Wish:
    return Wish(**{"types": None, "close_after_state": False, "ping": 0, "since": {}, **more})


def test_changes_that_come_together_leave_in_one_event_with_the_newest_state() -> None:
    workers = Workers()
    listener = Hub(workers).listen(["a"])
    with listener:
        workers.tell("a", 1, Email="e-1", Mailbox="m-1")
        workers.tell("a", 2, Email="e-2")
        assert listener.wait(0) == {"a": {"Email": "e-2", "Mailbox": "m-1"}}
        assert listener.wait(0) == {}


def test_a_listeners_position_names_accounts_in_which_nothing_has_happened_yet() -> None:
    workers = Workers()
    workers.reached = {"a": "e-3", "b": "e-9", "d": None}
    with Hub(workers).listen(["a", "b", "c", "d"]) as listener:
        workers.tell("c", 1, Email="e-1")
        assert listener.positions == {"a": "e-3", "b": "e-9", "c": "e-1"}, "d has not answered yet"


def test_a_position_comes_back_as_it_was_written_and_anything_else_begins_anew() -> None:
    text = positions.write({"b": "0f-9", "a": "c0-3"})
    assert text == "a=c0-3,b=0f-9"
    assert positions.since(text, ["a", "c"]) == {"a": "c0-3", "c": positions.NOWHERE}
    for garbage in ("", "a", "a=", "=3", "a=3", "a=c0-", "a=c0--3", "a=c0-٣", "a=c0-3\n", "\0"):
        assert positions.since(garbage, ["a"]) == {"a": positions.NOWHERE}


def test_a_text_of_megabytes_is_read_in_no_time() -> None:
    """Anybody can send one as pushState; the time is that of a few passes over it, not of its square."""
    assert positions.since("a" * 5_000_000, ["a"]) == {"a": positions.NOWHERE}


def test_a_type_nobody_asked_for_is_not_told() -> None:
    workers = Workers()
    with Hub(workers).listen(["a"], frozenset({"Mailbox"})) as listener:
        workers.tell("a", 1, Email="e-1")
        assert listener.wait(0) == {}
        workers.tell("a", 2, Mailbox="m-2")
        assert listener.wait(0) == {"a": {"Mailbox": "m-2"}}


def test_leaving_ends_every_subscription() -> None:
    workers = Workers()
    hub = Hub(workers)
    with hub.listen(["a", "b"]):
        assert len(hub.listeners) == 1
    assert workers.callbacks == {"a": [], "b": []}
    assert not hub.listeners


def test_stopping_the_hub_ends_its_streams() -> None:
    hub = Hub(Workers())
    listener = hub.listen(["a"])
    with listener:
        hub.stop()
        assert listener.wait(None) is None


def test_a_stream_that_begins_while_the_hub_stops_ends_at_once() -> None:
    workers = Workers()
    hub = Hub(workers)
    listener = hub.listen(["a"])
    hub.stop()
    with listener:
        assert list(stream(listener, wish())) == []
    assert workers.callbacks == {}
    assert not hub.listeners


def test_a_deleted_account_ends_the_stream() -> None:
    workers = Workers()
    with Hub(workers).listen(["a"]) as listener:
        workers.callbacks["a"][0]({"gone": True})
        assert listener.wait(None) is None


def test_the_event_is_a_state_change_with_line_feeds_only_and_a_position() -> None:
    workers = Workers()
    workers.reached = {"b": "e-7"}
    with Hub(workers).listen(["a", "b"]) as listener:
        events = stream(listener, wish(close_after_state=True, ping=1))
        assert next(events) == b'event: ping\ndata: {"interval":1}\n\n'
        workers.tell("a", 12, Email="x-12")
        event = next(events)
    assert b"\r" not in event
    name, position, data, *rest = event.decode().split("\n")
    assert (name, position, rest) == ("event: state", "id: a=e-12,b=e-7", ["", ""])
    assert json.loads(data.removeprefix("data: ")) == {"@type": "StateChange", "changed": {"a": {"Email": "x-12"}}}
    assert next(events, None) is None, "closeafter=state"


def test_the_position_of_the_last_event_is_given_to_the_worker_again() -> None:
    workers = Workers()
    asked = read_wish({"types": "*"}, "a=e-12,b=e-7", ["a", "b", "c"])
    with Hub(workers).listen(["a", "b", "c"], asked.types, asked.since):
        assert workers.since == {"a": "e-12", "b": "e-7", "c": positions.NOWHERE}, "c has joined meanwhile"
    assert read_wish({"types": "*"}, None, ["a"]).since == {}, "a first visit begins now"


@pytest.mark.parametrize(("given", "seconds"), [("0", 0), ("1", 30), ("29", 30), ("45", 45), (None, 300)])
def test_a_ping_is_none_or_at_least_thirty_seconds(given: str | None, seconds: int) -> None:
    assert read_wish({} if given is None else {"ping": given}, None, []).ping == seconds


@pytest.mark.parametrize("query", [{"ping": "x"}, {"ping": "-1"}, {"closeafter": "never"}])
def test_a_variable_that_says_nothing_known_is_refused(query: dict[str, str]) -> None:
    with pytest.raises(RequestError):
        read_wish(query, None, [])


def test_a_list_of_types_is_taken_as_names_and_a_star_as_all() -> None:
    assert read_wish({"types": "Email, Mailbox"}, None, []).types == {"Email", "Mailbox"}
    assert read_wish({"types": "*"}, None, []).types is None
