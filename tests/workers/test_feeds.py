"""What a subscriber missed: states, positions, and a feed on a channel that answers as the test says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gevent
from gevent.event import Event
from hypothesis import given
from hypothesis import strategies as st

from jmapplug.workers.errors import NotFound, WorkerUnavailable
from jmapplug.workers.feeds import Feed, later, missed


def test_what_lies_between_two_positions_was_missed() -> None:
    states = {"A": "e-1", "B": "e-5", "C": "e-7", "D": "e-9"}
    assert missed(states, "e-7", "e-5") == {"C": "e-7"}, "D waits to be announced, and will be an event"
    assert missed(states, "e-9", "e-9") == {}


def test_a_position_that_means_nothing_here_missed_everything() -> None:
    states = {"A": "e-0", "B": "e-5"}
    for since in ("", "x", "other-5", "e-6", "e-", "e-٣", "5"):
        assert missed(states, "e-5", since) == states


@given(st.lists(st.sets(st.sampled_from("ABC"), min_size=1), max_size=12), st.data())
def test_whoever_comes_back_with_any_position_ends_with_the_states_as_they_are(
    commits: list[set[str]], data: st.DataObject
) -> None:
    """Each commit moves some types and is an event; a client sees a prefix of them, then what it missed."""
    now = dict.fromkeys("ABC", "e-0")
    history = [dict(now)]
    for number, types in enumerate(commits, 1):
        now |= dict.fromkeys(types, f"e-{number}")
        history.append(dict(now))
    seen = data.draw(st.integers(0, len(commits)))
    told = missed(now, f"e-{len(commits)}", f"e-{seen}")
    assert history[seen] | told == now
    assert all(history[seen][name] != state for name, state in told.items()), "nothing is told twice"


def test_the_later_of_two_states() -> None:
    assert later(None, "e-1") == "e-1"
    assert later("e-2", "e-10") == later("e-10", "e-2") == "e-10"
    assert later("e-10", "f-2") == "f-2", "of two epochs, what was heard last"


class Wire:
    """A client whose channel gives ``answers`` in turn (an exception is raised); events come by ``feed.deliver``."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.lost = Event()
        self.forgotten = 0

    def channel(self, account_id: str) -> Any:
        self.lost = Event()
        return SimpleNamespace(call=self.call, ended=self.lost)

    def call(self, command: str, header: dict[str, Any], payload: bytes, timeout: float) -> Any:
        answer = self.answers.pop(0)
        if callable(answer):
            answer = answer()
        if isinstance(answer, Exception):
            raise answer
        return answer, b""

    def forget(self, feed: Feed) -> None:
        self.forgotten += 1

    def unfollowed(self, account_id: str) -> None:
        return None


def answer(position: str, **states: str) -> dict[str, Any]:
    return {"states": states, "id": position}


def test_an_event_that_overtakes_the_answer_is_not_undone_by_it() -> None:
    """Both are read in one go, and the event is told before the greenlet that asked wakes up."""
    wire = Wire(lambda: feed.deliver({"changed": {"A": "e-2"}, "id": "e-2"}) or answer("e-1", A="e-1", B="e-1"))
    feed = Feed(wire, "a")  # type: ignore[arg-type]
    events: list[Any] = []
    member = feed.add(events.append, None, 60)
    assert (member.position, member.states) == ("e-2", {"A": "e-2", "B": "e-1"})
    assert events == [{"changed": {"A": "e-2"}, "id": "e-2"}]
    member.close()


def test_who_comes_before_the_worker_has_answered_is_told_then_and_keeps_its_position_until_then() -> None:
    gone_on = Event()
    wire = Wire(WorkerUnavailable(), lambda: gone_on.wait() and answer("e-4", A="e-4", B="e-1"))
    feed = Feed(wire, "a")  # type: ignore[arg-type]
    events: list[Any] = []
    member = feed.add(events.append, "e-2", 0)
    assert (member.position, events) == ("e-2", [])
    gone_on.set()
    with gevent.Timeout(60):
        while not events:
            gevent.sleep(0.005)
    assert events == [{"changed": {"A": "e-4"}, "id": "e-4"}]
    assert member.position == "e-4"
    member.close()
    assert wire.forgotten == 1


def test_what_is_known_already_is_no_event() -> None:
    wire = Wire(answer("e-3", A="e-3"), answer("e-4", A="e-4"))
    feed = Feed(wire, "a")  # type: ignore[arg-type]
    events: list[Any] = []
    member = feed.add(events.append, None, 60)
    for number in (3, 2, 4, 4):
        feed.deliver({"changed": {"A": f"e-{number}"}, "id": f"e-{number}"})
    wire.lost.set()
    with gevent.Timeout(60):
        while {"restarted": True} not in events:
            gevent.sleep(0.005)
    assert events == [{"changed": {"A": "e-4"}, "id": "e-4"}, {"restarted": True}]
    member.close()


def test_what_was_committed_and_not_announced_yet_is_news_when_it_is() -> None:
    feed = Feed(Wire(answer("e-3", A="e-3", B="e-4")), "a")  # type: ignore[arg-type]
    events: list[Any] = []
    member = feed.add(events.append, None, 60)
    assert (member.states, member.position) == ({"A": "e-3"}, "e-3")
    announced = {"changed": {"B": "e-4"}, "id": "e-4"}
    feed.deliver(announced)
    assert (events, member.position) == ([announced], "e-4")
    member.close()


def test_an_account_that_is_gone_is_the_last_event() -> None:
    wire = Wire(NotFound("no"))
    feed = Feed(wire, "a")  # type: ignore[arg-type]
    events: list[Any] = []
    feed.add(events.append, "e-1", 60)
    assert events == [{"gone": True}]
    assert wire.forgotten == 1
