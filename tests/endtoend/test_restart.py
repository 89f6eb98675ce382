"""The whole service ends and begins again: every account answers at once, and nothing is read anew."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from scene import message

from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.hiding import Hiding
from jmapplug.testing.proxy import Client, Proxy

ACCOUNTS = 10
MESSAGES = 20
DETAILS = rb"BODYSTRUCTURE|BODY\.PEEK|INTERNALDATE"
"""What a FETCH asks for that wants more than flags."""


@pytest.fixture
def relay(dovecot: Dovecot) -> Iterator[Hiding]:
    made = Hiding(dovecot.port)
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
    service: Proxy, relay: Hiding, dovecot: Dovecot, how: Any
) -> None:
    users = {f"r{number}": filled(dovecot) for number in range(ACCOUNTS)}
    clients = {name: service.add(name, dovecot, user, imapPort=relay.port) for name, user in users.items()}
    for name in users:
        service.settled(name)
    before = {name: states(client) for name, client in clients.items()}
    assert relay.met(DETAILS) > ACCOUNTS, "the first sync is counted"
    how(service)
    relay.forget()
    service.start()
    clients = {name: service.client(name, user, dovecot.password) for name, user in users.items()}
    assert {name: states(client) for name, client in clients.items()} == before
    for name in users:
        service.settled(name)
    assert {name: states(client) for name, client in clients.items()} == before
    assert relay.sent("LIST") >= ACCOUNTS, "passes were made"
    assert relay.met(DETAILS) == 0 and relay.sent("(UID )?FETCH") == 0
    [name, *_] = users
    imap = dovecot.imap(users[name])
    imap.append("INBOX", "", "", message("new"))
    imap.logout()
    service.sync(name)
    assert states(clients[name])[2] == MESSAGES + 1
    assert 0 < relay.met(DETAILS) < MESSAGES, "one message is read, not all of them"
