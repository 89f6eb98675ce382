"""The way to a worker: ``WorkerClient`` in fronts, in the management process, and from worker to worker."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import Event
from gevent.lock import Semaphore

from jmapplug.errors import JmapplugError
from jmapplug.settings import Settings
from jmapplug.workers import control, paths
from jmapplug.workers.channel import Channel, ChannelLost
from jmapplug.workers.errors import NotFound, WorkerUnavailable

log = logging.getLogger("jmapplug.workers")

TIMEOUT = 60.0
ATTEMPTS = 4  # of a request that no worker has read
Callback = Callable[[dict[str, Any]], None]


class Subscription:
    """A wish for one account's events, kept over restarts of its worker until ``close``."""

    def __init__(self, feed: _Feed, callback: Callback) -> None:
        self._feed = feed
        self.callback = callback

    @property
    def position(self) -> int | None:
        """The number of the account's last event; None until the worker has answered for the first time."""
        return self._feed.position

    def close(self) -> None:
        self._feed.remove(self)

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class WorkerClient:
    """One connection per worker, opened at the first call; any number of greenlets may call at once.

    ``lead``: this process is a front, which starts the supervisor when there is none and holds a lease on it.
    Others (workers, the management process) live under a supervisor and never start one.
    """

    def __init__(self, settings: Settings, *, lead: bool = True) -> None:
        self.settings = settings
        self._lead = lead
        self._lease: control.Lease | None = None
        self._keeper: Any = None
        self._channels: dict[str, Channel] = {}
        self._locks: dict[str, Semaphore] = {}
        self._feeds: dict[str, _Feed] = {}
        self._closed = False

    # --- calls

    def call(
        self,
        account_id: str,
        command: str,
        header: dict[str, Any] | None = None,
        payload: bytes = b"",
        timeout: float = TIMEOUT,
        *,
        retry: bool = False,
    ) -> tuple[dict[str, Any], bytes]:
        """Ask a worker; its answer's header and payload.

        ``retry``: asking twice does no harm, so a worker that dies before answering is asked once more.
        Raises WorkerUnavailable (WorkerTimeout after ``timeout`` seconds), or what the worker raised, as its own class
        (NotFound, Conflict, SetupError, UpstreamError, MethodError, RequestError, RemoteError).
        """
        again = retry
        for _ in range(ATTEMPTS):
            channel = self._channels.get(account_id)
            if channel is None or not channel.usable:
                channel = self._open(account_id)
            try:
                return channel.call(command, header or {}, payload, timeout)
            except ChannelLost as error:
                if error.sent:
                    if not again:
                        raise WorkerUnavailable(sent_upstream=True) from None
                    again = False
        raise WorkerUnavailable

    def _open(self, account_id: str) -> Channel:
        lock = self._locks.setdefault(account_id, Semaphore())
        with lock:
            channel = self._channels.get(account_id)
            if channel is not None and channel.usable:
                return channel
            channel = self._connect(account_id)
            self._channels[account_id] = channel
            return channel

    def _connect(self, account_id: str) -> Channel:
        """Connect through the listening socket that the supervisor holds, having it made when it is missing."""
        if self._closed:
            raise WorkerUnavailable("stopping")
        path = paths.socket_path(self.settings, account_id)

        def on_event(name: str, body: dict[str, Any]) -> None:
            self._event(account_id, name, body)

        for _ in range(3):
            try:
                return Channel(path, on_event)
            except (FileNotFoundError, ConnectionRefusedError):
                self.ensure(account_id)
            except OSError as error:
                raise WorkerUnavailable(f"no connection to the worker: {error.strerror}") from None
        raise WorkerUnavailable

    # --- the supervisor

    def start(self) -> None:
        """Have a supervisor, hold a lease on it from now on (fronts only). Raises SettingError, WorkerUnavailable."""
        if self._lead and self._lease is None:
            self._lease = control.ensure_supervisor(self.settings)
            self._keeper = gevent.spawn(self._keep)

    def _keep(self) -> None:
        """A supervisor that was killed is started again at once, not at the next request."""
        pause = 0.05
        while not self._closed:
            lease = self._lease
            if lease is not None:
                lease.wait_gone()
                lease.close()
            if self._closed:
                return
            try:
                self._lease = control.ensure_supervisor(self.settings, again=True)
                pause = 0.05
            except (JmapplugError, OSError) as error:
                self._lease = None
                log.error("the supervisor does not start: %s", error)
                gevent.sleep(pause)
                pause = min(pause * 2, 10.0)

    def ensure(self, account_id: str) -> None:
        """Have the account's listening socket made. Raises WorkerUnavailable."""
        self.control("ensure", id=account_id)

    def control(self, command: str, **arguments: Any) -> dict[str, Any]:
        """A command to the supervisor (``workers.control.ask``), which a front starts when it is away.

        "status" → {"pid", "started", "children": [{"id", "pid", "started", "restarts", "hangs"}]} (unix seconds);
        "stop" and "remove" (id) are answered when the worker has ended. Raises WorkerUnavailable.
        """
        for last in (False, True):
            try:
                return control.ask(self.settings, command, **arguments)
            except OSError as error:
                if last or not self._lead or self._closed:
                    raise WorkerUnavailable(f"the supervisor is away: {error.strerror or error}") from None
            with control.ensure_supervisor(self.settings, again=True):
                # The lease bridges the moment until ``_keep`` has its own.
                if self._lease is None:
                    self.start()
        raise AssertionError("unreachable")

    # --- events

    def subscribe(
        self, account_id: str, callback: Callback, *, since: int | None = None, timeout: float = 5.0
    ) -> Subscription:
        """Have ``callback`` called with every event of an account, in this process's reader greenlet (do not block).

        Events are ``{"changed": {type: state}, "id": n}`` (``n`` rises with every change; the last one seen, given as
        ``since`` to a later subscription, makes what was missed arrive at once); of ``__accounts__``
        ``{"revoked": …}``;
        ``{"restarted": True}`` when the subscription was broken for a moment (revocations may have been missed);
        ``{"gone": True}``, the last one, when there is no such account (any more).
        The worker is kept alive, and subscribed to again when it restarts; what changed meanwhile is delivered.
        Returns when the worker has answered, or after ``timeout`` seconds (then it goes on trying).
        """
        feed = self._feeds.get(account_id)
        if feed is None:
            feed = self._feeds[account_id] = _Feed(self, account_id)
        return feed.add(callback, since, timeout)

    def _event(self, account_id: str, name: str, body: dict[str, Any]) -> None:
        feed = self._feeds.get(account_id)
        if feed is not None:
            feed.deliver(body)

    def _forget(self, feed: _Feed) -> None:
        if self._feeds.get(feed.account_id) is feed:
            del self._feeds[feed.account_id]

    # --- end

    def close(self, *, final: bool = True, timeout: float = 4.5) -> None:
        """End connections and subscriptions; with ``final``, stop the supervisor too if no other front needs it.

        Waits, at most ``timeout`` seconds, until the workers have ended.
        """
        self._closed = True
        for feed in list(self._feeds.values()):
            feed.stop()
        for channel in self._channels.values():
            channel.close()
        if self._keeper is not None:
            self._keeper.kill()
        if self._lease is not None:
            if final:
                self._lease.shut_down(timeout)
            else:
                self._lease.close()


class _Feed:
    """All subscriptions of this process to one account: one subscription on the wire, one greenlet that keeps it."""

    def __init__(self, client: WorkerClient, account_id: str) -> None:
        self.account_id = account_id
        self._client = client
        self._members: list[Subscription] = []
        self._states: dict[str, str] = {}
        self.position: int | None = None
        self._subscribed = False
        self._ready = Event()
        self._keeper = gevent.spawn(self._keep)

    def add(self, callback: Callback, since: int | None, timeout: float) -> Subscription:
        member = Subscription(self, callback)
        self._members.append(member)
        self._ready.wait(timeout)
        if since is not None:
            # What was missed comes before what happens now: the position told with the latter covers both.
            gevent.spawn(self._catch_up, member, since).join(timeout)
        return member

    def _catch_up(self, member: Subscription, since: int) -> None:
        pause = 0.05
        while member in self._members:
            try:
                missed, _ = self._client.call(self.account_id, "subscribe", {"since": since}, retry=True)
            except NotFound:
                return
            except JmapplugError:
                gevent.sleep(pause)
                pause = min(pause * 2, 5.0)
                continue
            if missed.get("changed") and member in self._members:
                member.callback({"changed": missed["changed"], "id": missed["id"]})
            return

    def remove(self, member: Subscription) -> None:
        if member not in self._members:
            return
        self._members.remove(member)
        if not self._members:
            self.stop()
            self._client._forget(self)
            gevent.spawn(self._unsubscribe)

    def _unsubscribe(self) -> None:
        channel = self._client._channels.get(self.account_id)
        if channel is not None and channel.usable and self.account_id not in self._client._feeds:
            try:
                channel.call("unsubscribe", {}, b"", 5)
            except (JmapplugError, ChannelLost):
                pass

    def stop(self) -> None:
        self._keeper.kill(block=False)
        self._ready.set()

    def deliver(self, body: dict[str, Any]) -> None:
        self._states.update(body.get("changed") or {})
        self.position = body.get("id", self.position)
        for member in list(self._members):
            try:
                member.callback(body)
            except Exception:
                log.exception("a subscriber failed")

    def _keep(self) -> None:
        pause = 0.05
        while True:
            try:
                channel = self._subscribe()
            except NotFound:
                self._ready.set()
                self._client._forget(self)
                self.deliver({"gone": True})
                return
            except (JmapplugError, ChannelLost):
                gevent.sleep(pause)
                pause = min(pause * 2, 5.0)
                continue
            pause = 0.05
            self._ready.set()
            channel.ended.wait()
            self._ready.clear()

    def _subscribe(self) -> Channel:
        """Subscribe on the channel in use; what changed since the last event seen is delivered."""
        channel = self._client._open(self.account_id)
        answer, _ = channel.call("subscribe", {"states": self._states} if self._states else {}, b"", 30)
        if self._subscribed:
            self.deliver({"restarted": True})
        self._subscribed = True
        if answer.get("changed"):
            self.deliver({"changed": answer["changed"], "id": answer["id"]})
        self._states.update(answer.get("states") or {})
        self.position = answer.get("id", self.position)
        return channel
