"""What stays open for a login, event streams and WebSockets: asked for their credentials when those change."""

from __future__ import annotations

import time
from typing import Any

import gevent
from gevent.event import Event

from jmapplug.errors import JmapplugError
from jmapplug.web.auth import Principal

EVERY = 30.0  # seconds between looks for log-ins that were last checked long ago
AGAIN = 1.0  # seconds until the next look when the registry was away
GOING_AWAY = 1001


class Connection:
    """One of them. ``stale``: something about log-ins has changed; ``due``: about this one."""

    def __init__(self, principal: Principal) -> None:
        self.principal = principal
        self.stale = self.due = False

    @property
    def names(self) -> frozenset[str]:
        """The login and the accounts that it stands for."""
        return frozenset((self.principal.login, self.principal.account_id, *self.principal.accounts))

    def renew(self) -> None:
        """Check the log-in; where it is good no more, end. Raises JmapplugError when nobody can tell."""
        raise NotImplementedError

    def end(self, code: int, reason: str) -> None:
        """End soon (a WebSocket with a Close frame of this code). Never blocks."""
        raise NotImplementedError


class Connections:
    """All of a kind in one front. A log-in that changed is checked at once; any other one of a WebSocket before the
    next request on its connection, as it is on HTTP, where every change empties the cache of log-ins."""

    def __init__(self) -> None:
        self.open: set[Connection] = set()
        self.stopped = False
        self._due = Event()
        self._heard_at = 0.0

    def start(self) -> None:
        gevent.spawn(self._watch)

    def add(self, connection: Connection) -> None:
        self.open.add(connection)
        if connection.principal.checked <= self._heard_at:
            # The event may have been about it, and it was not there yet.
            connection.stale = connection.due = True
            self._due.set()
        if self.stopped:
            connection.end(GOING_AWAY, "the server stops")

    def discard(self, connection: Connection) -> None:
        self.open.discard(connection)

    def heard(self, event: dict[str, Any]) -> None:
        """An event of the registry: ``{"revoked", "pool"}``, ``{"changed_account"}`` or ``{"restarted"}``."""
        self._heard_at = time.monotonic()
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
                    if each.due or each.principal.expired:
                        each.renew()
                except JmapplugError:
                    each.due, pause = True, AGAIN
