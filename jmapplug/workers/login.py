"""What belongs to a login and not to its account alone: the pool's other accounts, and credentials that come and go.

What is copied from another account is asked of that account's worker; its blobs are files that are copied here.

An account's worker speaks for the whole login where it pushes (RFC 8620 §7.1: "each of the accounts to which the user
has access"). ``__accounts__`` says who belongs to it; the other accounts' workers tell of their changes.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any

import gevent
import msgspec
from gevent.event import Event

from jmapplug.errors import JmapplugError
from jmapplug.jmap import runs
from jmapplug.jmap.errors import MethodError
from jmapplug.jmap.methods import Args, Reply
from jmapplug.jmap.request import Invocation
from jmapplug.store import uploads
from jmapplug.store.account import Store
from jmapplug.workers import paths
from jmapplug.workers.client import WorkerClient
from jmapplug.workers.errors import NotFound, WorkerUnavailable
from jmapplug.workers.feeds import States, Subscription

TIMEOUT = 20.0
PATIENCE = 100.0
"""Seconds for a method in another account's worker."""


class Standing(msgspec.Struct, frozen=True):
    """``accounts`` of the pool, itself among them; ``credentials`` that are good, each with its end (unix seconds)."""

    accounts: tuple[str, ...]
    credentials: dict[str, int | None]


class Login:
    """The login of one account, in that account's worker."""

    def __init__(self, account_id: str, pool: str, client: WorkerClient) -> None:
        self._account_id, self._pool, self._client = account_id, pool, client
        self._watch: Subscription | None = None
        self._on_change: Callable[[], None] | None = None
        self._others: dict[str, Subscription] = {}
        self._news = Event()

    def standing(self) -> Standing:
        """Ask ``__accounts__``. Whoever has left the pool is followed no more. Raises JmapplugError."""
        answer, _ = self._client.call(
            paths.ACCOUNTS, "standing", {"accountid": self._account_id}, timeout=TIMEOUT, retry=True
        )
        found = msgspec.convert(answer, Standing)
        self._follow(found.accounts)
        return found

    # --- credentials

    def renew(self, was: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
        """Store secret settings in place of what they were; the account's record from here on. Raises JmapplugError."""
        header = {"accountid": self._account_id, "was": was, "now": now}
        return self._client.call(paths.ACCOUNTS, "renew", header, timeout=TIMEOUT, retry=True)[0]

    def watch(self, on_standing: Callable[[], None]) -> None:
        """Have ``on_standing`` called when :meth:`standing` may have changed. It must not block; nor does this."""
        if self._watch is None:

            def heard(event: dict[str, Any]) -> None:
                ours = {event.get("pool"), event.get("revoked")} & {self._pool, self._account_id}
                if ours or event.get("restarted"):
                    on_standing()

            self._watch = self._client.subscribe(paths.ACCOUNTS, heard, timeout=0)

    def unwatch(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.close()

    # --- the other accounts

    def follow(self, on_change: Callable[[], None]) -> None:
        """Follow the pool's other accounts: ``on_change`` is called when one of them has news. It must not block.

        Their workers are kept alive meanwhile. Never blocks.
        """
        if self._on_change is None:
            self._on_change = on_change
            gevent.spawn(self._look)

    def unfollow(self) -> None:
        self._on_change = None
        self._follow(())

    def _look(self) -> None:
        try:
            self.standing()
        except JmapplugError:
            pass  # who pushes asks again

    def _follow(self, accounts: tuple[str, ...]) -> None:
        wanted = set(accounts) - {self._account_id} if self._on_change is not None else set()
        for account_id in self._others.keys() - wanted:
            self._others.pop(account_id).close()
        for account_id in wanted - self._others.keys():
            # "" as the position: its first answer is news too.
            self._others[account_id] = self._client.subscribe(
                account_id, partial(self._heard, account_id), since="", timeout=0
            )

    def _heard(self, account_id: str, event: dict[str, Any]) -> None:
        if event.get("gone"):
            self._others.pop(account_id, None)
        self._news.set()
        if self._on_change is not None and event.get("changed"):
            self._on_change()

    def states(self) -> dict[str, States]:
        """accountId → {type: state} of each other account that is followed and has answered."""
        return {account_id: states for account_id, one in self._others.items() if (states := one.states)}

    def gather(self, seconds: float) -> None:
        """Wait until every account that is followed has answered, or for so long."""
        with gevent.Timeout(seconds, False):
            while len(self.states()) < len(self._others):
                self._news.wait()
                self._news.clear()

    # --- what is copied from the other accounts (RFC 8620 §5.4, §6.3)

    def check_source(self, account_id: str) -> None:
        """Raises MethodError fromAccountNotFound for what is none of the login's accounts."""
        if account_id not in self.standing().accounts:
            raise MethodError("fromAccountNotFound")

    def ask(self, account_id: str, name: str, args: Args, using: Collection[str]) -> Reply:
        """One method in another account's worker. Raises MethodError: what it answers, or that nobody answers."""
        call = Invocation(name, {"accountId": account_id, **args}, "0")
        body = runs.encode_body(runs.Run(account_id, 0, (call,)), using, {})
        try:
            _, told = self._call(account_id, "jmap", {"run": True}, body, retry=name.endswith("/get"))
        except NotFound as error:
            raise MethodError("accountNotFound") from error
        (answer,) = runs.decode_answer(told).method_responses
        reply: Reply = msgspec.json.decode(answer.args)
        if answer.name == "error":
            raise MethodError(str(reply.pop("type")), reply.pop("description", None), **reply)
        return reply

    def bring(self, account_id: str, blob_id: str, store: Store) -> str | None:
        """A blob of another account as an upload in ``store``; its id there, None where there is no such blob.

        Raises MethodError, UpstreamError, StorageError.
        """
        for _ in range(2):
            try:
                found, _ = self._call(account_id, "blob", {"blob_id": blob_id}, retry=True)
            except NotFound:
                return None
            copy = partial(_copy, Path(found["path"]))
            try:
                return uploads.make(store, found["type"], copy, time.time()).id
            except FileNotFoundError:
                continue  # evicted between the answer and here: asking again brings it back
        return None

    def _call(
        self, account_id: str, command: str, header: dict[str, Any], body: bytes = b"", *, retry: bool
    ) -> tuple[dict[str, Any], bytes]:
        try:
            return self._client.call(account_id, command, header, body, PATIENCE, retry=retry)
        except WorkerUnavailable as error:
            kind = "serverPartialFail" if error.sent_upstream and not retry else "serverUnavailable"
            raise MethodError(kind, "The other account's worker is not available; try again.") from error


def _copy(source: Path, target: Path) -> None:
    gevent.get_hub().threadpool.apply(shutil.copyfile, (source, target))
