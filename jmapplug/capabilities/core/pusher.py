"""The posts to PushSubscriptions (RFC 8620 §7.2): from the worker of the account logged in with, for all of its pool.

What there is to tell is always computed: the states as they are against those in the row (``told``). So nothing waits
in memory: a burst becomes one post, and what changed while the worker was away is told when it is back. One greenlet
per subscription that has something to tell; at most one post of it is under way. Right before each post we ask who
belongs to the login and which credentials are good: neither an account that has left is told of, nor anything to
somebody whose credentials have ended.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from typing import Any

import gevent
import msgspec
from gevent.event import Event

from jmapplug.capabilities.core import store as sql
from jmapplug.capabilities.core.store import States, Subscription
from jmapplug.errors import JmapplugError, SettingError, StorageError
from jmapplug.store import wake

log = logging.getLogger("jmapplug.push")

URN = "urn:ietf:params:jmap:core"
MARK = "push"
COALESCE = 0.2
"""Seconds from a change to its post: what follows at once goes with it."""
GAP = 1.0
LONGEST_GAP = 600.0
FIRST_PAUSE = 5.0
LONGEST_PAUSE = 3600.0
MOST_REFUSALS = 5
MOST_TRIES_TO_VERIFY = 5
MOST_OCTETS = 3500
"""Octets of states in one post, so that it fits one record of RFC 8291; the others follow in the next."""
GATHER = 2.0
"""Seconds that a new subscription waits for the states of the login's other accounts."""
AT_ONCE = frozenset({"Email", "EmailDelivery", "Mailbox", "Thread"})


class Pusher:
    """One account's ``SyncService`` of the core capability."""

    def __init__(self, account: Any, *, clock: Callable[[], float] = time.time) -> None:
        self.account = account
        self.clock = clock
        self._driven: dict[str, Any] = {}
        self._closed = Event()
        self._checked = False
        self._any = self._needed = False
        account.watchers.append(self._changed)
        account.audience.append(lambda: self._needed)
        try:
            self.note()
        except StorageError as error:
            # No room for the mark: what is there is read all the same, and the next pass sets it.
            log.error("web push: %s", error)

    # --- what the methods ask for ------------------------------------------------------------------------------------

    def live(self) -> list[Subscription]:
        """The subscriptions that have not expired."""
        now = self.clock()
        return [row for row in sql.every(self.account.store) if row.expires > now]

    def of(self, credential: str) -> list[Subscription]:
        """RFC 8620 §7.2.1: those "created using the same authentication credentials"."""
        return [row for row in self.live() if row.credential == credential]

    def states(self) -> States:
        """Those of every account of the login, as far as their workers have answered."""
        return {**self.account.login.states(), self.account.id: self.account.states()}

    def gathered(self) -> States:
        """The same for a new subscription, which waits a moment for those that have to be asked first."""
        self.account.login.follow(self.kick)
        self.check()
        self.account.login.gather(GATHER)
        return self.states()

    def begin(self, row: Subscription) -> None:
        """A new subscription: its PushVerification leaves."""
        sql.save(self.account.store, row)
        self.note()
        self.kick()

    def remove(self, ids: list[str]) -> None:
        """Destroy subscriptions, and whatever is under way for them."""
        sql.erase(self.account.store, ids)
        for id_ in ids:
            greenlet = self._driven.pop(id_, None)
            if greenlet is not None and greenlet is not gevent.getcurrent():
                greenlet.kill(block=False)
        self.note()

    def note(self) -> None:
        """Whether this worker has to stay and to be woken (mail-rules 40). After every change of a row."""
        rows = self.live()
        self._any = bool(rows)
        self._needed = any(row.verified or not row.code_sent for row in rows)
        if self._any:
            self.account.login.watch(lambda: self.account.spawn(self.check))
        else:
            self.account.login.unwatch()
        if self._needed:
            self.account.login.follow(self.kick)
            wake.mark(self.account.folder, MARK)
        else:
            wake.unmark(self.account.folder, MARK)
            self.account.login.unfollow()

    # --- SyncService -------------------------------------------------------------------------------------------------

    def setup(self) -> None:
        """Nothing: no data of an upstream is behind this."""

    def sync(self) -> None:
        """What has expired goes; what is to be told is told."""
        now = self.clock()
        gone = [row.id for row in sql.every(self.account.store) if row.expires <= now]
        if not self._checked:
            gone += self._of_another_key()
            self._checked = True
        if gone:
            self.remove(gone)
        self.note()
        if self._any:
            self.check()
        self.kick()

    def check(self) -> Any:
        """End what was made with credentials that are good no more (RFC 8620 §7.2); what the login stands for now.

        None when nobody can tell.
        """
        try:
            standing = self.account.login.standing()
        except JmapplugError as error:
            log.info("account %s: the login is not checked: %s", self.account.id, error)
            return None
        gone = [row.id for row in sql.every(self.account.store) if row.credential not in standing.credentials]
        if gone:
            log.info("account %s: push subscriptions ended with their credentials: %d", self.account.id, len(gone))
            self.remove(gone)
        return standing

    def _of_another_key(self) -> list[str]:
        """RFC 9749 §5: subscriptions under an application server key that is not ours any more are destroyed."""
        rows = self.live()
        if not rows:
            return []
        from jmapplug.capabilities.core import vapid

        try:
            public = vapid.load(self.account.service_settings.datadir).public
        except SettingError as error:
            log.error("web push: %s", error)
            return []
        return [row.id for row in rows if row.vapid != public]

    def background(self) -> bool:
        return False

    @property
    def seldom(self) -> bool:
        """Without subscriptions nothing expires."""
        return not self._any

    def wait(self, timeout: float) -> bool:
        self._closed.wait(timeout)
        return False

    def status(self) -> dict[str, Any]:
        """``pushSubscriptions``: how many there are."""
        return {"pushSubscriptions": len(self.live())}

    @property
    def busy(self) -> bool:
        """Whether the worker has to stay."""
        return self._needed

    def close(self) -> None:
        self._closed.set()
        self.account.login.unwatch()
        self.account.login.unfollow()
        gevent.killall(list(self._driven.values()), timeout=1)

    # --- what there is to tell ---------------------------------------------------------------------------------------

    def _changed(self, news: dict[str, str]) -> None:
        if self._any:
            self.kick()

    def kick(self) -> None:
        """Have a greenlet for every subscription with something to tell. Never blocks."""
        for row in self.live():
            if row.id not in self._driven and self._has_work(row):
                self._driven[row.id] = greenlet = self.account.spawn(lambda id_=row.id: self._drive(id_))
                greenlet.rawlink(lambda ended, id_=row.id: self._ended(id_, ended))

    def _ended(self, id_: str, greenlet: Any) -> None:
        if self._driven.get(id_) is greenlet:
            del self._driven[id_]

    def _has_work(self, row: Subscription) -> bool:
        if row.expires <= self.clock():
            return False
        return bool(row.news(self.states())) if row.verified else not row.code_sent

    def _waiting(self, id_: str) -> Subscription | None:
        """The row as it is now, None where it has nothing to tell."""
        row = sql.one(self.account.store, id_)
        return row if row is not None and self._has_work(row) else None

    def _drive(self, id_: str) -> None:
        try:
            self._work_off(id_)
        finally:
            # At once, and not when the hub gets to it: a change in between has to find nobody here.
            self._ended(id_, gevent.getcurrent())

    def _work_off(self, id_: str) -> None:
        while (row := self._waiting(id_)) is not None:
            gevent.sleep(max(row.due_at - self.clock(), COALESCE if row.verified else 0.0))
            # What changed in the meantime goes with it; what expired or was told otherwise does not go at all.
            row = self._waiting(id_)
            if row is None or row.due_at > self.clock():
                continue
            if self.check() is None:
                self._settle(row, "unreachable", None, {})
            elif (row := self._waiting(id_)) is not None:
                (self._tell if row.verified else self._verify)(row)

    def _tell(self, row: Subscription) -> None:
        """A StateChange (RFC 8620 §7.1)."""
        news = fitting(row.news(self.states()))
        body = {"@type": "StateChange", "changed": news}
        urgent = any(AT_ONCE & each.keys() for each in news.values())
        headers = {"Urgency": "normal" if urgent else "low", "Topic": self._topic(news)}
        self._settle(row, *self._post(row, body, headers), news)

    def _topic(self, news: States) -> str:
        """RFC 8030 §5.4: it replaces one that waits under the same topic, so it must tell of the same types."""
        named = "\0".join((self.account.id, *(f"{id_} {name}" for id_ in sorted(news) for name in sorted(news[id_]))))
        return hashlib.sha256(named.encode()).hexdigest()[:32]

    def _verify(self, row: Subscription) -> None:
        """The PushVerification (RFC 8620 §7.2.2): one request, ever; tried again only where none has left."""
        body = {"@type": "PushVerification", "pushSubscriptionId": row.id, "verificationCode": row.code}
        self._settle(row, *self._post(row, body, {"Urgency": "high"}), {})

    # --- one post ----------------------------------------------------------------------------------------------------

    def _post(self, row: Subscription, value: dict[str, Any], headers: dict[str, str]) -> tuple[str, float | None]:
        """Encrypt, sign, post: what came of it (a key of AFTER), and the seconds of Retry-After."""
        from jmapplug.capabilities.core import push_http, push_target

        extra, now = self.account.service_settings.extra, self.clock()
        private, host = bool(extra.get("JMAP_PUSH_PRIVATE")), "?"

        def leaving() -> None:
            # On the disk before the first octet: a worker that dies here does not send a second one.
            if not row.verified:
                sql.change(self.account.store, row.id, code_sent=1)

        try:
            target = push_target.parse(row.url, private)
            host = target.host
            body = self._sealed(row, value, headers, now)
            ca = extra.get("JMAP_PUSH_CA")
            answer = push_http.post(target, headers, body, now=now, leaving=leaving, private=private, ca=ca)
        except (push_target.Refused, push_http.NotSent, push_http.NoAnswer, SettingError) as error:
            # The host and no more of the URL: who knows it can push.
            log.info("account %s: push to %s: %s: %s", self.account.id, host, type(error).__name__, error)
            kinds = {push_target.Refused: "refused", push_http.NoAnswer: "later"}
            return kinds.get(type(error), "unreachable"), None
        kind = outcome(answer.status)
        if kind != "done":
            log.info("account %s: push to %s: answered %d", self.account.id, host, answer.status)
        return kind, answer.retry_after

    def _sealed(self, row: Subscription, value: dict[str, Any], headers: dict[str, str], now: float) -> bytes:
        """The body, and into ``headers`` what belongs to it. Raises SettingError."""
        from jmapplug.capabilities.core import push_encryption, vapid

        settings = self.account.service_settings
        body = msgspec.json.encode(value)
        # RFC 8620 §7.2: application/json, and a TTL.
        headers |= {"Content-Type": "application/json", "TTL": str(max(int(row.expires - now), 0))}
        if row.p256dh is not None and row.auth is not None:
            body = push_encryption.encrypt(body, row.p256dh, row.auth)
            headers["Content-Encoding"] = "aes128gcm"
        contact = settings.extra.get("JMAP_PUSH_CONTACT") or settings.baseurl
        headers["Authorization"] = vapid.load(settings.datadir).authorization(row.url, now, contact)
        return body

    def _settle(self, row: Subscription, kind: str, retry_after: float | None, told: States) -> None:
        fresh = sql.one(self.account.store, row.id)
        if fresh is None:
            return
        after = AFTER[kind](fresh, self.clock(), retry_after, told)
        if after is None:
            log.info("account %s: push subscription %s ended: %s", self.account.id, row.id, kind)
            self.remove([row.id])
        else:
            sql.save(self.account.store, after)
            self.note()


def fitting(news: States) -> States:
    """As many of these as one record holds, at least one."""
    found: States = {}
    size = 0
    for account_id, states in news.items():
        size += len(account_id) + len('"":{},')
        for name, state in states.items():
            size += len(name) + len(state) + len('"":"",')
            if size > MOST_OCTETS and found:
                return found
            found.setdefault(account_id, {})[name] = state
    return found


def outcome(status: int) -> str:
    """What a status of the push service means (RFC 8030 §5, §7.3; RFC 8620 §7.2)."""
    if 200 <= status < 300:
        return "done"
    if status in (404, 410):
        return "gone"
    if status == 429:
        return "slower"
    return "later" if status >= 500 or status == 408 else "refused"


def _done(row: Subscription, now: float, retry_after: float | None, told: States) -> Subscription:
    gap = max(row.gap / 2, GAP)
    values = {"told": row.told_also(told), "gap": gap, "failures": 0, "refusals": 0}
    return msgspec.structs.replace(row, **values, due_at=now + gap if row.verified else 0.0)


def _later(row: Subscription, now: float, retry_after: float | None, told: States) -> Subscription:
    pause = min(FIRST_PAUSE * 2.0 ** min(row.failures, 20), LONGEST_PAUSE)
    if not row.verified:
        pause = 0.0  # its one request has left: nothing follows before the client is heard of
    return msgspec.structs.replace(row, failures=row.failures + 1, due_at=now + max(pause, retry_after or 0.0))


def _slower(row: Subscription, now: float, retry_after: float | None, told: States) -> Subscription:
    """RFC 8620 §7.2: 429 "MUST cause the JMAP server to reduce the frequency of pushes"."""
    return msgspec.structs.replace(_later(row, now, retry_after, told), gap=min(max(row.gap, GAP) * 4, LONGEST_GAP))


def _unreachable(row: Subscription, now: float, retry_after: float | None, told: States) -> Subscription:
    pause = min(FIRST_PAUSE * 2.0 ** min(row.failures, 20), LONGEST_PAUSE)
    given_up = int(not row.verified and row.failures + 1 >= MOST_TRIES_TO_VERIFY)
    values = {"failures": row.failures + 1, "code_sent": row.code_sent or given_up}
    return msgspec.structs.replace(row, **values, due_at=now + pause)


def _refused(row: Subscription, now: float, retry_after: float | None, told: States) -> Subscription | None:
    if not row.verified:
        return msgspec.structs.replace(row, code_sent=1)
    if row.refusals + 1 >= MOST_REFUSALS:
        return None
    return msgspec.structs.replace(_later(row, now, retry_after, told), refusals=row.refusals + 1)


def _gone(row: Subscription, now: float, retry_after: float | None, told: States) -> None:
    return None


AFTER: dict[str, Callable[[Subscription, float, float | None, States], Subscription | None]] = {
    "done": _done,
    "gone": _gone,
    "later": _later,
    "slower": _slower,
    "unreachable": _unreachable,
    "refused": _refused,
}
