"""An account's events in another process: one subscription on the wire for all who want to know, kept over restarts.

A *position* is how far an account's events have been told, ``<epoch>-<n>`` like the states themselves: every state with
a number up to *n* has been an event. Numbers of two epochs cannot be compared.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gevent
from gevent.event import Event

from jmapplug.errors import JmapplugError
from jmapplug.workers.channel import Channel, ChannelLost
from jmapplug.workers.errors import NotFound

if TYPE_CHECKING:
    from jmapplug.workers.client import WorkerClient

log = logging.getLogger("jmapplug.workers")

Callback = Callable[[dict[str, Any]], None]
States = dict[str, str]
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 5.0


def _parts(state: str) -> tuple[str, int]:
    epoch, _, number = state.rpartition("-")
    return epoch, int(number) if number.isascii() and number.isdigit() else -1


def later(one: str | None, other: str) -> str:
    """The later of two states (or positions), ``other`` being what was heard last: it wins where nobody can tell."""
    if one is None:
        return other
    (epoch, number), (now, latest) = _parts(one), _parts(other)
    return one if epoch == now and number > latest else other


def _told(states: States, position: str | None) -> States:
    """Without those that wait to be announced: they will be events, and must be news then."""
    reached = _parts(position or "")[1]
    return {name: state for name, state in states.items() if _parts(state)[1] <= reached}


def missed(states: States, position: str, since: str) -> States:
    """Of the states as they are, those that have been told after position ``since`` and up to ``position``.

    All of them where ``since`` is of another epoch (the cache is a new one), or was never handed out: whoever comes
    with it may have missed anything.
    """
    (epoch, number), (now, reached) = _parts(since), _parts(position)
    if epoch != now or number > reached:
        number = -1
    return {name: state for name, state in states.items() if number < _parts(state)[1] <= reached or number < 0}


class Subscription:
    """A wish for one account's events, kept over restarts of its worker until ``close``."""

    def __init__(self, feed: Feed, callback: Callback, since: str | None) -> None:
        self._feed = feed
        self.callback = callback
        self.since = since
        """What it has to be told first, as soon as the worker has answered for the first time."""

    @property
    def position(self) -> str | None:
        """How far ``callback`` has been told; None until the worker has answered for the first time."""
        return self._feed.position if self.since is None else self.since

    @property
    def states(self) -> States:
        """The account's states, as they were last told or asked for; {} until the worker has answered."""
        return dict(self._feed.states)

    def close(self) -> None:
        self._feed.remove(self)

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Feed:
    """All subscriptions of this process to one account: one subscription on the wire, one greenlet that keeps it."""

    def __init__(self, client: WorkerClient, account_id: str) -> None:
        self.account_id = account_id
        self.states: States = {}
        self.position: str | None = None
        self._client = client
        self._members: list[Subscription] = []
        self._subscribed = False
        self._ready = Event()
        self._keeper = gevent.spawn(self._keep)

    def add(self, callback: Callback, since: str | None, timeout: float) -> Subscription:
        member = Subscription(self, callback, since)
        self._members.append(member)
        if self.position is not None:
            self._catch_up(member)
        elif timeout:
            self._ready.wait(timeout)
        return member

    def _catch_up(self, member: Subscription) -> None:
        """Tell what was missed. Nothing can come in between: the states and the position are those of one moment."""
        since, member.since = member.since, None
        if since is not None and self.position is not None:
            changed = missed(self.states, self.position, since)
            if changed:
                self._tell(member, {"changed": changed, "id": self.position})

    def remove(self, member: Subscription) -> None:
        if member not in self._members:
            return
        self._members.remove(member)
        if not self._members:
            self.stop()
            self._client.forget(self)
            gevent.spawn(self._unsubscribe)

    def _unsubscribe(self) -> None:
        channel = self._client.unfollowed(self.account_id)
        if channel is not None:
            try:
                channel.call("unsubscribe", {}, b"", 5)
            except (JmapplugError, ChannelLost):
                pass

    def stop(self) -> None:
        self._keeper.kill(block=False)
        self._ready.set()

    def deliver(self, body: dict[str, Any]) -> None:
        """An event, to every member. States that are known already, or older ones, are no news."""
        if "changed" in body:
            body = {**body, "changed": self._learn(body["changed"], body.get("id"))}
            if not body["changed"]:
                return
        for member in list(self._members):
            self._tell(member, body)

    def _learn(self, states: States, position: str | None) -> States:
        """Take states in; those that are news. An event may overtake the answer to the question that it follows."""
        news = {
            name: state
            for name, state in states.items()
            if state != (known := self.states.get(name)) and later(known, state) == state
        }
        self.states |= news
        if position is not None:
            self.position = later(self.position, position)
        return news

    def _tell(self, member: Subscription, body: dict[str, Any]) -> None:
        try:
            member.callback(body)
        except Exception:
            log.exception("a subscriber failed")

    def _keep(self) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                channel = self._subscribe()
            except NotFound:
                self._ready.set()
                self._client.forget(self)
                self.deliver({"gone": True})
                return
            except (JmapplugError, ChannelLost):
                gevent.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
                continue
            pause = FIRST_PAUSE
            self._ready.set()
            channel.ended.wait()
            self._ready.clear()

    def _subscribe(self) -> Channel:
        """Subscribe on the channel in use. What changed since the last time is delivered as an event."""
        channel = self._client.channel(self.account_id)
        answer, _ = channel.call("subscribe", {}, b"", 30)
        position = answer.get("id")
        states = _told(answer.get("states") or {}, position)
        if self._subscribed:
            self.deliver({"restarted": True})
            self.deliver({"changed": states, "id": position})
        else:
            self._subscribed = True
            self._learn(states, position)
        for member in self._members:
            self._catch_up(member)
        return channel
