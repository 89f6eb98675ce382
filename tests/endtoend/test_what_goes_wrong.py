"""Servers that are restored or away, workers that are killed, caches that are lost (mail-rules 2, 4, 9, 17, 18, 39)."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from refusing import Refusing
from scene import Scene, View, message

from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.ports import running, stop, wait_until
from jmapplug.testing.proxy import Proxy
from jmapplug.testing.relay import Relay

Make = Callable[[str], Scene]
MANY = 2_500
COMMITS = 3
"""How many times a first sync is interrupted, each time further on."""


@pytest.fixture
def alone(dovecot: Dovecot, account_name: str) -> Iterator[Scene]:
    """An account on a service of its own, which may be stopped; its workers end when nobody asks for a second."""
    service = Proxy(JMAP_SYNC_INTERVAL="5", JMAP_IDLE_TIMEOUT="1")
    scene = Scene(service, dovecot, account_name, "dovecot")
    yield scene
    scene.imap.logout()
    service.stop()


def again(scene: Scene) -> None:
    """A new client of the same account: the old one's connection ended with its service."""
    scene.client = scene.proxy.client(scene.account, scene.user, scene.server.password)


def restart(scene: Scene, *between: Callable[[], None]) -> None:
    stop(scene.proxy.process)
    for work in between:
        work()
    scene.proxy.start()
    again(scene)


def folder_of(scene: Scene) -> Path:
    return scene.proxy.folder / "data" / "accounts" / scene.account


def ids_by_subject(view: View) -> dict[str, tuple[str, str]]:
    return {email["subject"]: (ident, email["threadId"]) for ident, email in view.emails.items()}


def new_validity(scene: Scene, *path: str) -> None:
    """Dovecot's maildir forgets its indexes, and gives the folder another UIDVALIDITY."""
    home = scene.server.folder / "mail" / scene.user / "maildir"
    folder = home.joinpath("." + ".".join(path)) if path != ("Inbox",) else home
    uids = folder / "dovecot-uidlist"
    head, rest = uids.read_text().split("\n", 1)
    words = head.split(" ")
    words[1] = f"V{int(words[1][1:]) + 1000}"
    # The same messages get other UIDs, too: what is bound to old ones must mean nothing.
    lines = [line.split(" ", 1) for line in rest.splitlines()]
    shifted = [f"{int(uid) + 7} {what}" for uid, what in lines]
    words[2] = f"N{int(words[2][1:]) + 7}"
    uids.write_text("\n".join([" ".join(words), *shifted, ""]))
    for index in folder.glob("dovecot.index*"):
        index.unlink()


def well(scene: Scene) -> None:
    """Whose files are changed behind its back, Dovecot may answer an internal error once."""
    sync = f"/api/accounts/{scene.account}/sync"
    wait_until(lambda: scene.proxy.management.send("POST", sync).status == 200, "Dovecot is well again")


def test_a_new_uidvalidity_changes_no_id(courier: Scene) -> None:
    """Rules 2, 4: known messages are linked again by what the server calls them; the folder keeps its id."""
    courier.create("Work")
    courier.append("Work", *[message(f"number {at}") for at in range(60)])
    courier.append("Inbox", message("elsewhere"))
    courier.copy("Work", courier.uids("Work")[0], "Inbox")
    before = courier.begin()
    courier.do("SELECT", courier.name("Inbox"))
    old = courier.imap.status(courier.name("Work"), "(UIDVALIDITY)")[1]
    courier.imap.logout()
    new_validity(courier, "Work")
    courier.imap = courier.server.imap(courier.user)
    assert courier.imap.status(courier.name("Work"), "(UIDVALIDITY)")[1] != old
    well(courier)
    after = courier.agree()
    assert ids_by_subject(after) == ids_by_subject(before)
    assert after.paths()["Work",] == before.paths()["Work",]
    got = courier.jmap.call("Email/get", ids=list(after.emails), properties=["preview"])["list"]
    assert {email["preview"] for email in got} == {"Some text."}


def test_a_new_uidvalidity_in_the_middle_of_a_first_sync_loses_and_doubles_nothing(dove: Scene) -> None:
    """Wish 13: half of the details are read, and some of the Emails are shown already."""
    count = 300
    dove.create("Work")
    dove.append("Work", *[message(f"number {at}") for at in range(count)])
    config = ("-c", str(dove.server.folder / "dovecot.conf"))
    relay, seen = Refusing(dove.server.port), [0]

    def change(line: bytes) -> bytes:
        seen[0] += b"BODY[HEADER" in line
        if seen[0] == count // 2:
            seen[0] += 1
            command = ["doveadm", *config, "mailbox", "update", "-u", dove.user, "--uid-validity", "4000000000", "Work"]
            subprocess.run(command, check=True, timeout=120)
        return line

    relay.change = change
    before = ids_by_subject(dove.begin(imapPort=relay.port))
    assert seen[0] > count, "it was in the middle"
    assert dove.imap.status(dove.name("Work"), "(UIDVALIDITY)")[1] == [b"Work (UIDVALIDITY 4000000000)"]
    assert before.keys() == {f"number {at}" for at in range(count)}
    assert len({ident for ident, _ in before.values()}) == count
    assert ids_by_subject(dove.agree()) == before
    relay.close()


def test_while_the_server_is_away_what_is_cached_is_served(proxy: Proxy, dovecot: Dovecot, account_name: str) -> None:
    """Rule 17: never an empty account; what needs the server is a clean error; afterwards everything is as before."""
    relay = Relay(dovecot.port)
    scene = Scene(proxy, dovecot, account_name, "dovecot")
    scene.append("Inbox", *[message(f"number {at}") for at in range(5)])
    before = scene.begin(imapPort=relay.port)
    [ident, *_] = before.emails
    read = {"properties": ["bodyValues", "textBody"], "fetchTextBodyValues": True}
    [known] = scene.jmap.call("Email/get", ids=[ident], **read)["list"]
    relay.cut()
    assert proxy.management.send("POST", f"/api/accounts/{account_name}/sync").status >= 400
    away = scene.look()
    assert (away.emails, away.mailboxes, away.states) == (before.emails, before.mailboxes, before.states)
    assert scene.jmap.call("Email/get", ids=[ident], **read)["list"] == [known]
    unknown = next(other for other in before.emails if other != ident)
    error = scene.jmap.error("Email/get", ids=[unknown], **{**read, "properties": ["bodyValues", "header:X-None"]})
    assert error["type"] == "serverUnavailable"
    scene.append("Inbox", message("meanwhile"))
    relay.mend()
    # It is not asked again before its pause is over.
    sync = f"/api/accounts/{account_name}/sync"
    wait_until(lambda: proxy.management.send("POST", sync).status == 200, "the server is used again", 60)
    after = scene.agree()
    assert set(after.by_subject()) - set(before.by_subject()) == {"meanwhile"}
    scene.close()
    relay.close()


def test_a_first_sync_killed_again_and_again_ends_with_the_same_ids(alone: Scene) -> None:
    """Rules 18, 39: what was shown before a kill -9 has the same id after it, and nothing is lost."""
    alone.create("Work")
    alone.append("Inbox", *[message(f"number {at}") for at in range(MANY)])
    alone.do("SELECT", alone.name("Inbox"))
    alone.uid("Inbox", "COPY", "1:40", alone.name("Work"))
    alone.client = alone.proxy.add(alone.account, alone.server, alone.user)
    seen: dict[str, tuple[str, str]] = {}
    moments: list[int] = []
    for part in range(COMMITS):
        wanted = (part + 1) * MANY // (COMMITS + 1)
        wait_until(lambda: shown(alone) >= wanted, f"{wanted} Emails are shown", 60)  # noqa: B023
        now = shown_now(alone)
        moments.append(len(now))
        seen |= now
        pid = alone.proxy.worker_pid(alone.account)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not running(pid), "the worker is gone")  # noqa: B023
        again(alone)
    alone.proxy.settled(alone.account)
    now = ids_by_subject(alone.agree())
    assert len(now) == MANY
    assert moments[0] < moments[1] < MANY, "killed too late to prove anything"
    assert seen.items() <= now.items()


def shown_now(scene: Scene) -> dict[str, tuple[str, str]]:
    """What one request shows, in the middle of a sync."""
    back = {"resultOf": "0", "name": "Email/query", "path": "/ids"}
    _, answer = scene.jmap.answers(
        ("Email/query", {}), ("Email/get", {"#ids": back, "properties": ["subject", "threadId"]})
    )
    assert answer["list"] and not answer["notFound"]
    return {email["subject"]: (email["id"], email["threadId"]) for email in answer["list"]}


def shown(scene: Scene) -> int:
    return int(scene.jmap.call("Email/query", calculateTotal=True, limit=0)["total"])


def test_a_lost_cache_comes_back_with_the_same_ids(alone: Scene) -> None:
    """Rules 9, 39: ids, threads and Mailboxes are the same; states of the lost one are refused."""
    alone.create("Work")
    alone.append("Inbox", message("one"), message("Re: one", "In-Reply-To: <one@example.com>"), message("two"))
    alone.copy("Inbox", "1", "Work")
    before = alone.begin()

    def lose() -> None:
        files = list(folder_of(alone).glob("cache.sqlite3*"))
        assert files
        for each in files:
            each.unlink()

    restart(alone, lose)
    alone.proxy.settled(alone.account)
    alone.history.clear()
    after = alone.agree()
    assert ids_by_subject(after) == ids_by_subject(before)
    assert after.paths() == before.paths()
    assert not set(after.states.values()) & set(before.states.values())
    for kind, state in before.states.items():
        assert alone.jmap.error(f"{kind}/changes", sinceState=state)["type"] == "cannotCalculateChanges"
    query = {"sinceQueryState": before.queries[""][0]}
    assert alone.jmap.error("Email/queryChanges", **query)["type"] == "cannotCalculateChanges"


def test_a_restart_moves_no_state(alone: Scene) -> None:
    """Rule 9: the epoch is the store's."""
    alone.append("Inbox", message("one"))
    before = alone.begin()
    restart(alone)
    assert alone.agree().states == before.states


def test_an_idle_worker_ends_and_the_next_request_wakes_it(alone: Scene) -> None:
    """Rule 40's other half: without a reason to stay it goes; what changed meanwhile is told."""
    alone.append("Inbox", message("one"))
    before = alone.begin()
    pid = alone.proxy.worker_pid(alone.account)
    wait_until(lambda: not running(pid), "the worker ends", 60)
    alone.append("Inbox", message("two"))
    alone.flag("Inbox", "1", "\\Seen")
    assert alone.jmap.call("Email/get", ids=list(before.emails), properties=["subject"])["list"]
    after = alone.agree()
    assert set(after.by_subject()) == {"one", "two"}


def test_messages_that_a_broken_server_loses_and_finds_again_keep_their_ids(dove: Scene) -> None:
    """Rules 2, 4, 13: Dovecot's sdbox without its indexes is empty, until ``force-resync`` finds the files."""
    dove.create("Work")
    dove.append("Work", *[message(f"number {at}") for at in range(30)])
    before = dove.begin()
    dove.reborn.update(before.emails.keys() | before.threads.keys())
    dove.imap.logout()
    folder = dove.server.folder / "mail" / dove.user / "sdbox" / "mailboxes" / "Work" / "dbox-Mails"
    for each in list(folder.glob("dovecot.index*")):
        each.unlink()
    dove.imap = dove.server.imap(dove.user)
    dove.imap.select(dove.name("Work"))
    well(dove)
    assert not dove.agree().emails
    config = str(dove.server.folder / "dovecot.conf")

    def found() -> bool:
        # A connection that has seen the empty folder may make Dovecot 2.3.19 forget the new index once more.
        dove.do("SELECT", dove.name("Inbox"))
        subprocess.run(["doveadm", "-c", config, "force-resync", "-u", dove.user, "Work"], check=True, timeout=120)
        return len(dove.agree().emails) == len(before.emails)

    wait_until(found, "Dovecot has found the files", 60)
    after = dove.agree()
    assert {subject: pair[0] for subject, pair in ids_by_subject(after).items()} == before.by_subject()
    assert ids_by_subject(after) == ids_by_subject(before)
