"""The front's fan-out: state changes of accounts to those who listen, merged until they are read (RFC 8620 §7.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from gevent.event import Event

Changed = dict[str, dict[str, str]]
"""accountId → type → state, as in a StateChange."""


class Subscribe(Protocol):
    """What the hub needs of a WorkerClient."""

    def subscribe(
        self, account_id: str, callback: Callable[[dict[str, Any]], None], *, since: int | None = None
    ) -> Any:
        """A handle with ``close()`` and ``position``, the number of the account's last event (None: not known yet)."""


class Listener:
    """One stream: what has changed since it last read, and the position it has reached in each account.

    ``types``: None = all. Use as a context manager; leaving it ends the subscriptions.
    """

    def __init__(self, hub: Hub, accounts: Iterable[str], types: frozenset[str] | None, since: dict[str, int]) -> None:
        self._hub, self._accounts, self._types, self._since = hub, tuple(accounts), types, since
        self._pending: Changed = {}
        self._handles: list[Any] = []
        self._ready = Event()
        self.positions: dict[str, int] = dict(since)
        self.closed = False

    def __enter__(self) -> Listener:
        self._hub.listeners.add(self)
        if self._hub.stopped:
            # Its headers left just before the front was told to stop.
            self.close()
            return self
        for account_id in self._accounts:
            handle = self._hub.client.subscribe(
                account_id, self._receiver(account_id), since=self._since.get(account_id)
            )
            self._handles.append(handle)
            if (reached := getattr(handle, "position", None)) is not None:
                # Of an account without an event so far too: the client's position is the whole login's.
                self.positions.setdefault(account_id, reached)
        return self

    def __exit__(self, *exc: object) -> None:
        self._hub.listeners.discard(self)
        for handle in self._handles:
            handle.close()

    def _receiver(self, account_id: str) -> Callable[[dict[str, Any]], None]:
        def receive(event: dict[str, Any]) -> None:
            if event.get("gone"):
                self.close()
                return
            if "id" in event:
                self.positions[account_id] = event["id"]
            changed = event.get("changed") or {}
            wanted = {name: state for name, state in changed.items() if self._types is None or name in self._types}
            if wanted:
                self._pending.setdefault(account_id, {}).update(wanted)
                self._ready.set()

        return receive

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
        self, accounts: Iterable[str], types: frozenset[str] | None = None, since: dict[str, int] | None = None
    ) -> Listener:
        """A listener for these accounts' changes."""
        return Listener(self, accounts, types, since or {})

    def stop(self) -> None:
        """End every stream, also those that are just beginning (process rule 9)."""
        self.stopped = True
        for listener in list(self.listeners):
            listener.close()
