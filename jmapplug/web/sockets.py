"""The open WebSocket connections of a front: told when it stops, and asked for their credentials when those change."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol

import gevent
from gevent.event import Event

from jmapplug.errors import JmapplugError

EVERY = 30.0  # seconds between looks for log-ins that were last checked long ago
AGAIN = 1.0  # seconds until the next look when the registry was away
GOING_AWAY = 1001


class Conversation(Protocol):
    """What this module needs to know of a connection."""

    stale: bool
    due: bool

    @property
    def names(self) -> Collection[str]:
        """The login and the accounts that it stands for."""

    @property
    def expired(self) -> bool:
        """Whether the log-in was last checked long ago."""

    @property
    def pushing(self) -> bool:
        """Whether the client listens for StateChanges."""

    def renew(self) -> None:
        """Check the log-in; where it is good no more, end. Raises JmapplugError when nobody can tell."""

    def end(self, code: int, reason: str) -> None:
        """End soon, with a Close frame. Never blocks."""


class Sockets:
    """All of them. A log-in that changed is checked at once; any other one before the next request on its connection,
    as it is on HTTP, where every change empties the cache of log-ins."""

    def __init__(self) -> None:
        self.open: set[Conversation] = set()
        self.stopped = False
        self._due = Event()

    def start(self) -> None:
        gevent.spawn(self._watch)

    def add(self, conversation: Conversation) -> None:
        self.open.add(conversation)
        if self.stopped:
            conversation.end(GOING_AWAY, "the server stops")

    def discard(self, conversation: Conversation) -> None:
        self.open.discard(conversation)

    @property
    def pushing(self) -> int:
        return sum(1 for each in self.open if each.pushing)

    def heard(self, event: dict[str, Any]) -> None:
        """An event of the registry: ``{"revoked"}``, ``{"changed_account"}``, ``{"restarted"}``. Never blocks."""
        about = {event[name] for name in ("revoked", "pool", "changed_account") if name in event}
        for each in self.open:
            each.stale = True
            each.due = each.due or not about or not about.isdisjoint(each.names)
        self._due.set()

    def stop(self) -> None:
        """End all of them, also those that are just beginning (process rule 9). Never blocks."""
        self.stopped = True
        for each in list(self.open):
            each.end(GOING_AWAY, "the server stops")

    def _watch(self) -> None:
        pause = EVERY
        while True:
            self._due.wait(pause)
            self._due.clear()
            pause = EVERY
            for each in list(self.open):
                try:
                    if each.due or each.expired:
                        each.renew()
                except JmapplugError:
                    each.due, pause = True, AGAIN
