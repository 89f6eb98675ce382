"""An account with the core capability alone, whose states move on request, and a real push service on a socket."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gevent

from jmapplug.capabilities.core import CORE
from jmapplug.capabilities.core import store as sql
from jmapplug.capabilities.core.pusher import URN, Pusher
from jmapplug.errors import JmapplugError
from jmapplug.jmap import dispatch
from jmapplug.jmap.methods import Limits
from jmapplug.jmap.request import trusted
from jmapplug.store.account import Store
from jmapplug.testing.push_service import Device, Posted, PushService

ACCOUNT = "acc"
TYPES = ("Email", "Mailbox", "Quota", "Thread")
METHODS = {method.name: method for method in CORE.methods}


def until(check: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    """Wait for a condition while greenlets run; what it gave."""
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        gevent.sleep(0.005)
    return found


PASSWORD = "password~1"


class Pool:
    """The account's ``login``: what ``__accounts__`` and the other accounts' workers would say is set by the test."""

    def __init__(self) -> None:
        self.accounts = [ACCOUNT]
        self.credentials: dict[str, int | None] = {PASSWORD: None}
        self.known: dict[str, dict[str, str]] = {}
        self.coming: dict[str, dict[str, str]] = {}
        self.away = False
        self.asked = 0
        self.on_standing: Callable[[], object] | None = None
        self.on_change: Callable[[], object] | None = None

    def standing(self) -> Any:
        self.asked += 1
        gevent.sleep(0)
        if self.away:
            raise JmapplugError("away")
        return SimpleNamespace(accounts=tuple(self.accounts), credentials=dict(self.credentials))

    def states(self) -> dict[str, dict[str, str]]:
        followed = self.accounts if self.on_change is not None else []
        return {id_: dict(states) for id_, states in self.known.items() if id_ in followed}

    def move(self, account_id: str, **states: str) -> None:
        """Another account's states move, told as its worker tells them."""
        self.known.setdefault(account_id, {}).update(states)
        if self.on_change is not None:
            self.on_change()

    def watch(self, on_standing: Callable[[], object]) -> None:
        self.on_standing = on_standing

    def unwatch(self) -> None:
        self.on_standing = None

    def follow(self, on_change: Callable[[], object]) -> None:
        self.on_change = on_change

    def unfollow(self) -> None:
        self.on_change = None

    def gather(self, seconds: float) -> None:
        """Those answer that took their time."""
        self.known |= self.coming


class Rig:
    """``reopen`` is a restart of the worker; ``ahead``: seconds that its clock is before ours."""

    def __init__(self, folder: Path, service: PushService) -> None:
        self.folder, self.service = folder / "account", service
        self.service_settings = SimpleNamespace(
            datadir=folder / "data",
            baseurl="https://mail.example.com",
            extra={"JMAP_PUSH_PRIVATE": True, "JMAP_PUSH_SUBSCRIPTIONS": 32},
        )
        if service.ca is not None:
            self.service_settings.extra["JMAP_PUSH_CA"] = str(service.ca)
        self.ahead = 0.0
        self.login, self.credential = Pool(), PASSWORD
        self.device = Device()
        self.moved = dict.fromkeys(TYPES, 0)
        self.open()

    # --- what a Pusher sees of the account ---------------------------------------------------------------------------

    id = ACCOUNT

    def states(self) -> dict[str, str]:
        return {name: f"e-{number}" for name, number in self.moved.items()}

    def spawn(self, function: Callable[[], object]) -> Any:
        return gevent.spawn(function)

    # --- life --------------------------------------------------------------------------------------------------------

    def open(self) -> None:
        self.watchers: list[Callable[[dict[str, str]], None]] = []
        self.audience: list[Callable[[], bool]] = []
        self.store = Store(self.folder, [CORE.schema])
        self.pusher = Pusher(self, clock=lambda: time.time() + self.ahead)
        self.services = {URN: self.pusher}

    def close(self) -> None:
        self.pusher.close()
        self.store.close()

    def reopen(self) -> None:
        self.close()
        self.open()
        self.pusher.sync()

    def move(self, *types: str) -> None:
        """States that move, told as the account tells them."""
        for name in types:
            self.moved[name] += 1
        news = {name: self.states()[name] for name in types}
        for watcher in self.watchers:
            watcher(news)

    # --- the client --------------------------------------------------------------------------------------------------

    def call(self, name: str, **args: Any) -> dict[str, Any]:
        body = {"using": [URN], "methodCalls": [[name, args, "0"]]}
        answer = dispatch.execute(
            trusted(json.dumps(body).encode()),
            METHODS,
            lambda id_: None,
            Limits(),
            session_state="s",
            login=self,
            credential=self.credential,
        )
        ((_, reply, _),) = json.loads(answer)["methodResponses"]
        found: dict[str, Any] = reply
        return found

    def create(self, path: str = "a", **more: Any) -> dict[str, Any]:
        """One creation: the whole reply."""
        record = {"deviceClientId": "dev", "url": self.service.url(path), "keys": self.device.keys, **more}
        return self.call("PushSubscription/set", create={"k": {n: v for n, v in record.items() if v is not ...}})

    def update(self, id_: str, **patch: Any) -> dict[str, Any]:
        return self.call("PushSubscription/set", update={id_: patch})

    def subscribe(self, path: str = "a", **more: Any) -> str:
        """A verified subscription: its id. The verification is out of ``service.posts`` again."""
        id_ = str(self.create(path, **more)["created"]["k"]["id"])
        posted = until(lambda: self.service.to(path), "the verification")[-1]
        code = self.read(posted, more.get("keys", 1) is None)["verificationCode"]
        until(lambda: not self.pusher._driven, "the end of that post")
        assert self.update(id_, verificationCode=code)["updated"] == {id_: None}
        self.service.posts.clear()
        return id_

    def read(self, posted: Posted, plain: bool = False) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(posted.body) if plain else self.device.open(posted)
        return found

    def told(self, path: str = "a") -> list[dict[str, str]]:
        """The account's own states in each post to a path."""
        return [each[ACCOUNT] for each in self.changed(path)]

    def changed(self, path: str = "a") -> list[dict[str, dict[str, str]]]:
        """The states of all accounts in each post to a path."""
        return [self.read(each)["changed"] for each in self.service.to(path)]

    def row(self, id_: str) -> sql.Subscription:
        found = sql.one(self.store, id_)
        assert found is not None
        return found

    def away(self, change: Callable[[], None]) -> None:
        """The worker ends, something changes, it comes back and posts; then it ends and comes back once more."""
        self.close()
        change()
        self.open()
        self.pusher.sync()
        until(lambda: self.service.posts, "the post")
        self.quiet()
        self.reopen()
        self.quiet()

    def quiet(self) -> None:
        """Wait until nothing is under way."""
        until(lambda: not self.pusher._driven, "the end of all posts")
