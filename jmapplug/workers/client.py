"""The way to a worker: ``WorkerClient`` in fronts, in the management process, and from worker to worker."""

from __future__ import annotations

import logging
from typing import Any

import gevent
from gevent.lock import Semaphore

from jmapplug.errors import JmapplugError
from jmapplug.settings import Settings
from jmapplug.workers import control, paths
from jmapplug.workers.channel import Channel, ChannelLost
from jmapplug.workers.errors import WorkerUnavailable
from jmapplug.workers.feeds import Callback, Feed, Subscription

log = logging.getLogger("jmapplug.workers")

TIMEOUT = 60.0
ATTEMPTS = 4  # of a request that no worker has read


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
        self._feeds: dict[str, Feed] = {}
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
                channel = self.channel(account_id)
            try:
                return channel.call(command, header or {}, payload, timeout)
            except ChannelLost as error:
                if error.sent:
                    if not again:
                        raise WorkerUnavailable(sent_upstream=True) from None
                    again = False
        raise WorkerUnavailable

    def channel(self, account_id: str) -> Channel:
        """The connection to a worker, opened where there is none. Raises WorkerUnavailable."""
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
        self, account_id: str, callback: Callback, *, since: str | None = None, timeout: float = 5.0
    ) -> Subscription:
        """Have ``callback`` called with every event of an account, in this process's reader greenlet (do not block).

        Events are ``{"changed": {type: state}, "id": position}`` (the last position, given as ``since`` to a later
        subscription, makes what was missed arrive at once); of ``__accounts__`` ``{"revoked": …}``;
        ``{"restarted": True}`` when the subscription was broken for a moment (revocations may have been missed);
        ``{"gone": True}``, the last one, when there is no such account (any more).
        The worker is kept alive, and subscribed to again when it restarts; what changed meanwhile is delivered.
        Returns when the worker has answered, or after ``timeout`` seconds (then it goes on trying). With 0 it does not
        give any other greenlet a turn.
        """
        feed = self._feeds.get(account_id)
        if feed is None:
            feed = self._feeds[account_id] = Feed(self, account_id)
        return feed.add(callback, since, timeout)

    def _event(self, account_id: str, name: str, body: dict[str, Any]) -> None:
        feed = self._feeds.get(account_id)
        if feed is not None:
            feed.deliver(body)

    def forget(self, feed: Feed) -> None:
        """A feed has ended."""
        if self._feeds.get(feed.account_id) is feed:
            del self._feeds[feed.account_id]

    def unfollowed(self, account_id: str) -> Channel | None:
        """The open connection to an account whose events nobody here wants any more; None where there is none."""
        channel = self._channels.get(account_id)
        return channel if channel is not None and channel.usable and account_id not in self._feeds else None

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
