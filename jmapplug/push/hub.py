"""The front's fan-out: state changes of accounts to those who listen, merged until they are read (RFC 8620 §7.1)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from gevent.event import Event

ANSWERED = 2.0
"""Seconds that a new listener waits for its accounts' workers, all of them together."""

Changed = dict[str, dict[str, str]]
"""accountId → type → state, as in a StateChange."""


class Subscribe(Protocol):
    """What the hub needs of a WorkerClient."""

    def subscribe(
        self,
        account_id: str,
        callback: Callable[[dict[str, Any]], None],
        *,
        since: str | None = None,
        timeout: float = ANSWERED,
    ) -> Any:
        """A handle with ``close()`` and ``position``: how far ``callback`` has been told (None: not known yet).

        Waits, at most ``timeout`` seconds, until it is known.
        """


class Listener:
    """One stream: what has changed since it last read, and the position that it has reached in each account.

    ``types``: None = all. Use as a context manager; leaving it ends the subscriptions.
    """

    def __init__(self, hub: Hub, accounts: Iterable[str], types: frozenset[str] | None, since: dict[str, str]) -> None:
        self._hub, self._accounts, self._types, self._since = hub, tuple(accounts), types, since
        self._pending: Changed = {}
        self._handles: dict[str, Any] = {}
        self._ready = Event()
        self.closed = False

    def __enter__(self) -> Listener:
        self._hub.listeners.add(self)
        if self._hub.stopped:
            # It has come just before the front was told to stop.
            self.close()
            return self
        until = time.monotonic() + ANSWERED
        for account_id in self._accounts:
            left = max(0.0, until - time.monotonic())
            self._handles[account_id] = self._hub.client.subscribe(
                account_id, self._receiver(account_id), since=self._since.get(account_id), timeout=left
            )
        return self

    def __exit__(self, *exc: object) -> None:
        self._hub.listeners.discard(self)
        for handle in self._handles.values():
            handle.close()

    def _receiver(self, account_id: str) -> Callable[[dict[str, Any]], None]:
        def receive(event: dict[str, Any]) -> None:
            if event.get("gone"):
                self.close()
                return
            changed = event.get("changed") or {}
            wanted = {name: state for name, state in changed.items() if self._types is None or name in self._types}
            if wanted:
                self._pending.setdefault(account_id, {}).update(wanted)
                self._ready.set()

        return receive

    @property
    def positions(self) -> dict[str, str]:
        """How far all of the login's accounts have been told, those without an event so far too.

        Right after :meth:`wait` it covers what that gave. One whose worker has not answered yet is left out.
        """
        reached = {account_id: handle.position for account_id, handle in self._handles.items()}
        return {account_id: position for account_id, position in reached.items() if position is not None}

    def wait(self, timeout: float | None) -> Changed | None:
        """What changed, merged; {} after ``timeout`` seconds without any; None when the stream is to end."""
        self._ready.wait(timeout)
        self._ready.clear()
        if self.closed:
            return None
        changed, self._pending = self._pending, {}
        return changed

    def close(self) -> None:
        """End the stream from outside: the client has gone, the account is deleted, the front stops."""
        self.closed = True
        self._ready.set()


class Hub:
    """All listeners of one front."""

    def __init__(self, client: Subscribe) -> None:
        self.client = client
        self.listeners: set[Listener] = set()
        self.stopped = False

    def listen(
        self, accounts: Iterable[str], types: frozenset[str] | None = None, since: dict[str, str] | None = None
    ) -> Listener:
        """A listener for these accounts' changes; ``since``: positions behind which what was missed is told first."""
        return Listener(self, accounts, types, since or {})

    def stop(self) -> None:
        """End every stream, also those that are just beginning (process rule 9)."""
        self.stopped = True
        for listener in list(self.listeners):
            listener.close()
