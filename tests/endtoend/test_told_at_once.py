"""Changes in any folder are told at once: NOTIFY for all folders, IDLE with quick looks, or quick looks alone.

Every deadline here is that of the wait for an event; nothing is measured.
"""

from __future__ import annotations

import http.client
import json
import smtplib
import time
from collections.abc import Iterator
from typing import Any

import pytest
from scene import Scene, message

from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.hiding import Hiding
from jmapplug.testing.ports import HOST, wait_until
from jmapplug.testing.proxy import Client, Proxy

INTERVAL = 600
"""JMAP_SYNC_INTERVAL of this proxy: what comes without being told would come too late for any wait here."""


class Events:
    """An event stream of one account: the states that it told."""

    def __init__(self, client: Client) -> None:
        self._account = client.account
        self._connection = http.client.HTTPConnection(HOST, client.connection.port, timeout=60)
        self._connection.request("GET", "/eventsource?types=*&closeafter=no&ping=0", headers=client.headers)
        self._answer = self._connection.getresponse()
        assert self._answer.status == 200

    def until(self, kind: str) -> str:
        """Wait for an event that tells of this type; its state."""
        while line := self._answer.readline():
            if line.startswith(b"data:"):
                changed = json.loads(line[5:])["changed"].get(self._account, {})
                if kind in changed:
                    return str(changed[kind])
        raise AssertionError("the stream has ended")

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(scope="module")
def slow() -> Iterator[Proxy]:
    """A proxy that hardly ever looks by itself."""
    service = Proxy(JMAP_SYNC_INTERVAL=str(INTERVAL))
    yield service
    service.stop()


@pytest.fixture
def notified(slow: Proxy, dovecot: Dovecot, account_name: str) -> Iterator[Scene]:
    """An account whose server tells of everything."""
    scene = Scene(slow, dovecot, account_name, "dovecot")
    for name in ("Work", "Lists"):
        scene.create(name)
    scene.append("Work", message("first"))
    scene.begin()
    watching(scene, "notify")
    yield scene
    scene.close()


def watching(scene: Scene, how: str) -> dict[str, Any]:
    wait_until(lambda: scene.proxy.status(scene.account)["watching"] == how, f"it is watched by {how}")
    return scene.proxy.status(scene.account)


def email(scene: Scene, subject: str) -> dict[str, Any]:
    ids = scene.jmap.call("Email/query", filter={"subject": subject})["ids"]
    return dict(scene.jmap.call("Email/get", ids=ids, properties=["keywords", "mailboxIds"])["list"][0])


def test_a_delivery_into_any_folder_is_an_event(notified: Scene, dovecot: Dovecot) -> None:
    """By LMTP; the detail of an address names the folder."""
    events = Events(notified.jmap)
    with smtplib.LMTP(HOST, dovecot.lmtp_port) as lmtp:
        for folder in ("Inbox", "Work"):
            recipient = notified.user if folder == "Inbox" else notified.user.replace("@", f"+{folder}@")
            lmtp.sendmail("ada@example.com", [recipient], message(f"to {folder}"))
            events.until("EmailDelivery")
    events.close()
    boxes = {name: notified.jmap.call("Mailbox/query", filter={"name": name})["ids"] for name in ("Inbox", "Work")}
    for name, ids in boxes.items():
        assert email(notified, f"to {name}")["mailboxIds"] == dict.fromkeys(ids, True)


def test_what_another_client_does_in_any_folder_is_an_event(notified: Scene) -> None:
    events = Events(notified.jmap)
    notified.append("Lists", message("second"))
    events.until("EmailDelivery")
    notified.flag("Work", "1:*", "\\Flagged")
    events.until("Email")
    assert email(notified, "first")["keywords"] == {"$flagged": True}
    before = email(notified, "first")["mailboxIds"]
    notified.move("Work", "1:*", "Lists")
    events.until("Email")
    wait_until(lambda: email(notified, "first")["mailboxIds"] != before, "the move is seen")
    notified.do("RENAME", notified.name("Work"), notified.name("Play"))
    events.until("Mailbox")
    wait_until(lambda: "Play" in names(notified), "the new name is seen")
    notified.create("New")
    events.until("Mailbox")
    wait_until(lambda: "New" in names(notified), "the new folder is seen")
    notified.do("DELETE", notified.name("New"))
    events.until("Mailbox")
    wait_until(lambda: "New" not in names(notified), "the folder is gone")
    events.close()
    notified.agree()


def names(scene: Scene) -> set[str]:
    return {box["name"] for box in scene.jmap.call("Mailbox/get", ids=None, properties=["name"])["list"]}


def test_a_storm_of_deliveries_makes_a_handful_of_passes(notified: Scene, dovecot: Dovecot) -> None:
    """Counted in listings, as the mail server sees them."""
    hiding = Hiding(dovecot.port)
    other = Scene(notified.proxy, dovecot, f"{notified.account}storm", "dovecot")
    other.begin(imapPort=hiding.port)
    watching(other, "notify")
    before, begun = hiding.sent("LIST"), time.monotonic()
    other.append("Inbox", *(message(f"storm {number}") for number in range(1000)))
    total = lambda: other.jmap.call("Email/query", calculateTotal=True, limit=0)["total"]  # noqa: E731
    wait_until(lambda: total() == 1000, "all are there", 60)
    # However slow this machine is: three at once, two for each second that it lasted; and the one after the opening.
    assert hiding.sent("LIST") - before <= 5 + 2 * (time.monotonic() - begun)
    other.close()
    hiding.close()


@pytest.mark.parametrize(("hidden", "how"), [({"NOTIFY"}, "idle"), ({"NOTIFY", "IDLE"}, "poll")])
def test_without_notify_other_folders_are_looked_at_often_while_somebody_listens(
    proxy: Proxy, dovecot: Dovecot, account_name: str, hidden: set[str], how: str
) -> None:
    hiding = Hiding(dovecot.port, hidden)
    scene = Scene(proxy, dovecot, account_name, "dovecot")
    scene.create("Work")
    scene.begin(imapPort=hiding.port)
    status = watching(scene, how)
    assert status["connections"] <= 3
    events = Events(scene.jmap)
    for number, folder in enumerate(("Work", "Inbox", "Work")):
        scene.append(folder, message(f"number {number}"))
        events.until("EmailDelivery")
    events.close()
    scene.close()
    hiding.close()


def test_a_clients_own_change_is_an_event_without_a_look_at_the_mail_server(
    slow: Proxy, dovecot: Dovecot, account_name: str
) -> None:
    """The write itself tells; the next look by the clock would come after minutes, and nothing else is told."""
    hiding = Hiding(dovecot.port, {"NOTIFY", "IDLE"})
    scene = Scene(slow, dovecot, account_name, "dovecot")
    scene.append("Inbox", message("first"))
    scene.begin(imapPort=hiding.port)
    watching(scene, "poll")
    (ident,) = scene.jmap.call("Email/query", filter={"subject": "first"})["ids"]

    def flag(keyword: str) -> str:
        return str(scene.jmap.call("Email/set", update={ident: {f"keywords/{keyword}": True}})["newState"])

    flag("$answered")  # the first write makes folders that are missing, and lists them
    events = Events(scene.jmap)
    wait_until(lambda: slow.status(scene.account)["subscribers"] == 1, "it listens")
    looks = hiding.sent("LIST"), slow.status(scene.account)["last_sync"]
    state = flag("$flagged")
    while events.until("Email") != state:
        pass
    assert (hiding.sent("LIST"), slow.status(scene.account)["last_sync"]) == looks
    events.close()
    scene.close()
    hiding.close()


def test_an_operator_sees_how_it_is_watched_and_when_it_is_tried_again(
    proxy: Proxy, dovecot: Dovecot, account_name: str
) -> None:
    hiding = Hiding(dovecot.port)
    scene = Scene(proxy, dovecot, account_name, "dovecot")
    scene.begin(imapPort=hiding.port)
    status = watching(scene, "notify")
    assert (status["error"], status["next_retry"]) == (None, None) and 1 <= status["connections"] <= 3
    hiding.cut()

    def down() -> bool:
        status = scene.proxy.status(scene.account)
        return bool(status["error"]) and status["next_retry"] is not None and status["connections"] == 0

    wait_until(down, "the outage is told", 60)
    hiding.mend()
    wait_until(lambda: not scene.proxy.status(scene.account)["error"], "it goes on", 90)
    watching(scene, "notify")
    scene.close()
    hiding.close()
