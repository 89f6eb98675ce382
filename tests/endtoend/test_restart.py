"""The whole service ends and begins again: every account answers at once, and nothing is read anew."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from scene import message

from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.proxy import Client, Proxy
from jmapplug.testing.relay import Relay

ACCOUNTS = 10
MESSAGES = 20
COMMAND = re.compile(rb"^\S+ (?:UID )?([A-Z]+)", re.MULTILINE)


class Counting(Relay):
    """Counts IMAP commands, and FETCHes that ask for more than flags."""

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self.counts: Counter[str] = Counter()

    def seen(self, data: bytes, upwards: bool) -> bytes:
        if upwards:
            self.counts.update(found.decode() for found in COMMAND.findall(data))
            self.counts["details"] += len(re.findall(rb"BODYSTRUCTURE|BODY\.PEEK|INTERNALDATE", data))
        return data


@pytest.fixture
def relay(dovecot: Dovecot) -> Iterator[Counting]:
    made = Counting(dovecot.port)
    yield made
    made.close()


@pytest.fixture
def service() -> Iterator[Proxy]:
    made = Proxy(JMAP_SYNC_INTERVAL="30")
    yield made
    made.stop()


def filled(server: Dovecot) -> str:
    user = server.new_user()
    imap = server.imap(user)
    for number in range(MESSAGES):
        imap.append("INBOX", "", "", message(f"number {number}"))
    imap.logout()
    return user


def states(client: Client) -> tuple[Any, ...]:
    emails, boxes = client.answers(("Email/get", {"ids": []}), ("Mailbox/get", {"ids": None}))
    return emails["state"], boxes["state"], sum(box["totalEmails"] for box in boxes["list"])


def end(service: Proxy) -> None:
    service.process.terminate()
    service.process.wait(60)


@pytest.mark.parametrize("how", [Proxy.kill, end], ids=["killed", "ended"])
def test_after_a_restart_all_accounts_answer_and_nothing_is_synchronised_anew(
    service: Proxy, relay: Counting, dovecot: Dovecot, how: Any
) -> None:
    users = {f"r{number}": filled(dovecot) for number in range(ACCOUNTS)}
    clients = {name: service.add(name, dovecot, user, imapPort=relay.port) for name, user in users.items()}
    for name in users:
        service.settled(name)
    before = {name: states(client) for name, client in clients.items()}
    assert relay.counts["details"] > ACCOUNTS, "the first sync is counted"
    how(service)
    relay.counts.clear()
    service.start()
    clients = {name: service.client(name, user, dovecot.password) for name, user in users.items()}
    assert {name: states(client) for name, client in clients.items()} == before
    for name in users:
        service.settled(name)
    assert {name: states(client) for name, client in clients.items()} == before
    assert relay.counts["LIST"] >= ACCOUNTS, "passes were made"
    assert relay.counts["details"] == 0 and relay.counts["FETCH"] == 0, relay.counts
    [name, *_] = users
    imap = dovecot.imap(users[name])
    imap.append("INBOX", "", "", message("new"))
    imap.logout()
    service.sync(name)
    assert states(clients[name])[2] == MESSAGES + 1
    assert 0 < relay.counts["details"] < MESSAGES, "one message is read, not all of them"
