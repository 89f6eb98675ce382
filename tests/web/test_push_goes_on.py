"""Clients that were away, workers that are killed, caches that are lost: nothing is missed, and nothing told twice."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.ports import wait_until
from jmapplug.testing.proxy import Client, Proxy
from tests.web.test_eventsource import Stream, deliver
from tests.web.test_websocket import Talk

ONCE = "/eventsource?types=Email&closeafter=state&ping=0"
ALL = "/eventsource?types=*&closeafter=no&ping=0"


class Pool:
    """Two accounts of one login, and a second client on each."""

    def __init__(self, proxy: Proxy, dovecot: Dovecot, name: str) -> None:
        self.proxy, self.names = proxy, (name, f"{name}b")
        users = [dovecot.new_user() for _ in self.names]
        self.client: Client = proxy.add(name, dovecot, users[0])
        proxy.add(self.names[1], dovecot, users[1], pool=name)
        self._imap = dict(zip(self.names, map(dovecot.imap, users), strict=True))
        for each in self.names:
            proxy.settled(each)

    def back(self, last: str) -> Stream:
        """A stream of a client that was here before."""
        return Stream(self.proxy.port, ONCE, {**self.client.headers, "Last-Event-ID": last})

    def stream(self, path: str) -> Stream:
        """A stream that listens to both."""
        return self.listening(Stream(self.proxy.port, path, self.client.headers))

    def listening(self, stream: Stream) -> Stream:
        for name in self.names:
            wait_until(lambda name=name: self.proxy.status(name)["subscribers"] == 1, "it listens")  # type: ignore[misc]
        return stream

    def deliver(self, name: str, subject: str) -> str:
        """A message, seen here: the state of Email then."""
        deliver(self._imap[name], subject)
        self.proxy.sync(name)
        return self.state(name)

    def state(self, name: str) -> str:
        return str(self.client.call("Email/get", accountId=name, ids=[])["state"])

    def lose_the_cache(self, name: str) -> None:
        """The worker is killed; the next one finds no cache."""
        pid = self.worker(name)
        for path in (Path(self.proxy.environ["JMAP_DATADIR"]) / "accounts" / name).glob("cache.sqlite3*"):
            path.unlink()
        os.kill(pid, signal.SIGKILL)

    def worker(self, name: str) -> int:
        found: list[int] = []

        def look() -> bool:
            try:
                found.append(self.proxy.worker_pid(name))
            except AssertionError:
                return False
            return True

        wait_until(look, "there is a worker")
        return found[0]


@pytest.fixture
def pool(proxy: Proxy, dovecot: Dovecot, account_name: str) -> Pool:
    return Pool(proxy, dovecot, account_name)


def event(stream: Stream) -> dict[str, Any]:
    found = stream.event()
    assert found is not None
    return found


def test_a_client_that_was_away_is_told_of_what_it_missed_in_each_account_and_of_nothing_twice(pool: Pool) -> None:
    first, second = pool.names
    stream = pool.stream(ONCE)
    pool.deliver(second, "one")
    told = event(stream)
    assert told["data"]["changed"].keys() == {second}
    assert {part.partition("=")[0] for part in told["id"].split(",")} == {first, second}
    wait_until(lambda: pool.proxy.status(second)["subscribers"] == 0, "it has gone")
    state = pool.deliver(second, "two")
    missed = event(pool.back(told["id"]))
    assert missed["data"]["changed"] == {second: {"Email": state}}
    again = pool.listening(pool.back(missed["id"]))
    state = pool.deliver(first, "three")
    assert event(again)["data"]["changed"] == {first: {"Email": state}}, "nothing was missed, so nothing came before"


def test_open_streams_and_sockets_outlive_a_lost_cache_and_old_ids_bring_everything(pool: Pool) -> None:
    second = pool.names[1]
    stream, talk = pool.stream(ALL), Talk(pool.proxy.port, pool.client.headers)
    talk.send("WebSocketPushEnable", dataTypes=None)
    talk.echo("R")
    assert talk.receive()["requestId"] == "R"
    pool.deliver(second, "one")
    old, push_state = event(stream)["id"], talk.state()["pushState"]
    before = pool.state(second).partition("-")[0]
    pool.lose_the_cache(second)

    def current(told: dict[str, Any]) -> bool:
        """Whether an event tells the state of Email in the new cache, once it is filled."""
        return str(told.get(second, {}).get("Email", "")).partition("-")[0] not in ("", before)

    while not current(event(stream)["data"]["changed"]):
        pass
    while not current(talk.state()["changed"]):
        pass
    pool.proxy.settled(second)
    # Until the new cache has counted further than the old one had: a bare number would look like one that was told.
    while int(pool.state(second).partition("-")[2]) <= int(old.rpartition("-")[2]):
        pool.deliver(second, "more")
    for stream_or_talk in (stream, talk):
        stream_or_talk.close()
    state = pool.state(second)
    assert event(pool.back(old))["data"]["changed"] == {second: {"Email": state}}, "nothing of the first one"
    with Talk(pool.proxy.port, pool.client.headers) as talk:
        talk.send("WebSocketPushEnable", dataTypes=["Email", "Mailbox"], pushState=push_state)
        changed = talk.state()["changed"]
        assert changed.keys() == {second} and changed[second].keys() == {"Email", "Mailbox"}
        assert changed[second]["Email"] == state


def test_a_worker_that_is_killed_again_and_again_loses_no_change(pool: Pool) -> None:
    """SIGKILL right behind each delivery: it may have been seen, committed, told, or none of that."""
    second = pool.names[1]
    stream = pool.stream("/eventsource?types=EmailDelivery&closeafter=no&ping=0")
    told = ""
    for number in range(5):
        deliver(pool._imap[second], f"number {number}")
        os.kill(pool.worker(second), signal.SIGKILL)
        changed = event(stream)["data"]["changed"]
        assert changed.keys() == {second} and changed[second]["EmailDelivery"] != told
        told = changed[second]["EmailDelivery"]
    stream.close()
