"""What stays open for a login hears of what happens to it, also while it is being opened."""

from __future__ import annotations

from collections.abc import Iterator

import gevent
import pytest
from gevent.event import Event

from jmapplug.web.auth import Principal
from jmapplug.web.connections import Connection, Connections


class Open(Connection):
    def __init__(self, account: str) -> None:
        super().__init__(Principal(account, "token", {account: None}))  # type: ignore[dict-item]
        self.renewed = Event()

    def renew(self) -> None:
        self.stale = self.due = False
        self.renewed.set()

    def end(self, code: int, reason: str) -> None:
        pass


@pytest.fixture
def connections() -> Iterator[Connections]:
    made = Connections()
    watcher = gevent.spawn(made._watch)
    yield made
    watcher.kill()


def test_only_those_that_an_event_is_about_look_at_once(connections: Connections) -> None:
    mine, other = Open("a"), Open("b")
    connections.add(mine)
    connections.add(other)
    connections.heard({"revoked": "a", "pool": "a"})
    assert mine.renewed.wait(5)
    assert other.stale and not other.renewed.is_set(), "it looks before its next request"


def test_one_whose_log_in_was_checked_before_an_event_looks_when_it_is_open(connections: Connections) -> None:
    """A stream waits for its accounts' workers before it is one of those that hear of revocations."""
    early = Open("a")
    connections.heard({"revoked": "token", "pool": "a"})
    late = Open("a")
    connections.add(early)
    connections.add(late)
    assert early.renewed.wait(5)
    gevent.sleep(0)
    assert not late.stale and not late.renewed.is_set()
