"""PATCH of host and user name: the account moves to another real server and keeps what evidence can link."""

from __future__ import annotations

import imaplib
import os
import re
import signal
from collections.abc import Callable
from typing import Any

import pytest
from scene import Scene, View, message

from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.ports import wait_until
from jmapplug.testing.proxy import Proxy
from jmapplug.testing.relay import Relay
from tests.invariants.upstream import Upstream

Make = Callable[..., Scene]
LAYOUT = {"dovecot": ("", "/"), "courier": ("INBOX.", ".")}


def patch(scene: Scene, **changes: Any) -> dict[str, Any]:
    reply = scene.proxy.management.send("PATCH", f"/api/accounts/{scene.account}", changes)
    assert reply.status == 200, reply
    answer: dict[str, Any] = reply.json
    return answer


def turn(scene: Scene, server: Dovecot, user: str, kind: str) -> None:
    """What the scene looks at from now on."""
    scene.imap.logout()
    scene.upstream.imap.logout()
    scene.server, scene.user, scene.kind = server, user, kind
    scene.prefix, scene.separator = LAYOUT[kind]
    scene.imap, scene.upstream = server.imap(user), Upstream(server.imap(user))
    scene.checker.move(scene.upstream)


def go(scene: Scene, server: Dovecot, user: str, kind: str) -> dict[str, Any]:
    turn(scene, server, user, kind)
    return patch(scene, username=user, imapHost=server.host, imapPort=server.port, password=server.password)


def migrate(scene: Scene, server: Dovecot, user: str, kind: str) -> None:
    """Every message to the same folder there, with its date and flags and other UIDs."""
    target = server.imap(user)
    prefix, separator = LAYOUT[kind]
    for raw, selectable, *_ in scene.upstream.look().folders.values():
        name = raw if raw == "INBOX" else prefix + raw.removeprefix(scene.prefix).replace(scene.separator, separator)
        if name != "INBOX":
            target.create(f'"{name}"')
        scene.imap.select(f'"{raw}"', readonly=True)
        uids = scene.imap.uid("SEARCH", "ALL")[1][0].split() if selectable else []
        for uid in reversed(uids):
            ((head, octets), *_) = scene.imap.uid("FETCH", uid, "(FLAGS INTERNALDATE BODY.PEEK[])")[1]
            flags = [flag.decode() for flag in imaplib.ParseFlags(head) if flag != b"\\Recent"]
            date = re.search(rb'INTERNALDATE ("[^"]+")', head)
            assert date and target.append(f'"{name}"', f"({' '.join(flags)})", date[1].decode(), octets)[0] == "OK"
    target.logout()


def furnish(scene: Scene) -> View:
    scene.create("Work")
    scene.create("Work", "Größe")
    scene.append("Inbox", *[message(f"number {at}") for at in range(20)])
    scene.append("Inbox", message("answered", "References: <number.1@example.com>"), flags="(\\Answered \\Seen)")
    scene.append("Inbox", message("Re: number 1", "References: <number.1@example.com>"))
    scene.append("Work", *[message(f"work {at}", body="x" * at) for at in range(10)], flags="(\\Flagged Label)")
    # One Message-ID, two messages.
    scene.append("Work", message("twin", ident="twin", body="one"), message("twin", ident="twin", body="two!"))
    return scene.begin()


def ids(view: View) -> dict[str, dict[str, Any]]:
    return {ident: {**email, "blobId": None} for ident, email in view.emails.items()}


@pytest.fixture
def home(make: Make) -> Scene:
    return make("dovecot")


def test_a_migrated_account_keeps_its_ids(home: Scene, dovecot_maildir: Dovecot) -> None:
    """Another Dovecot, in Courier's layout: other UIDs, UIDVALIDITYs, GUIDs and separators."""
    before = furnish(home)
    old, user = (home.server, home.user, "dovecot"), dovecot_maildir.new_user()
    migrate(home, dovecot_maildir, user, "courier")
    assert "warning" not in go(home, dovecot_maildir, user, "courier")
    home.append("Inbox", message("fresh"))
    # agree(): the view is the server's, the counts are right, and /changes leads here from what was before.
    home.proxy.settled(home.account)
    after = home.agree()
    fresh = after.by_subject()["fresh"]
    assert set(after.emails) == {*before.emails, fresh}
    assert {ident: email["threadId"] for ident, email in after.emails.items() if ident != fresh} == {
        ident: email["threadId"] for ident, email in before.emails.items()
    }
    assert after.paths() == before.paths()
    changes = home.jmap.call("Email/changes", sinceState=before.states["Email"])
    assert (changes["created"], changes["destroyed"]) == ([fresh], [])
    # What is read and written is the new server's.
    number = after.by_subject()["number 3"]
    blob = home.jmap.send("GET", f"/raw/{home.account}/{after.emails[number]['blobId']}/m.eml")
    assert b"Subject: number 3" in blob.body
    moved = {number: {"mailboxIds": {after.paths()["Work", "Größe"]: True}, "keywords/$seen": True}}
    assert home.jmap.call("Email/set", update=moved)["notUpdated"] is None
    there = home.agree()

    go(home, *old)
    home.proxy.settled(home.account)
    back = home.agree()
    assert ids(back) == ids(before) and back.paths() == before.paths()
    assert there.emails.keys() - back.emails.keys() == {fresh}


def test_nothing_changes_while_the_new_server_is_away_or_refuses(home: Scene, dovecot_maildir: Dovecot) -> None:
    before = furnish(home)
    old = (home.server, home.user, "dovecot")
    relay = Relay(dovecot_maildir.port)
    relay.cut()
    user = dovecot_maildir.new_user()
    assert patch(home, username=user, imapPort=relay.port)["warning"]
    view = home.look()
    assert (view.emails, view.mailboxes, view.states) == (before.emails, before.mailboxes, before.states)
    # The way opens only when the account does not take it any more.
    assert patch(home, imapPort=dovecot_maildir.port, username="nobody@example.org", password="wrong")["warning"]
    relay.mend()
    assert home.proxy.management.send("POST", f"/api/accounts/{home.account}/sync").status == 500
    client = home.proxy.client(home.account, home.user, "wrong")
    found = client.call("Email/query", calculateTotal=True)
    assert found["total"] == len(before.emails)
    # Back again: nothing had happened, nothing is told.
    patch(home, imapPort=old[0].port, username=old[1], password=old[0].password)
    after = home.agree()
    assert after.states == before.states
    relay.close()


def test_a_wrong_empty_host_is_no_end(home: Scene, dovecot_maildir: Dovecot) -> None:
    """Its truth is shown, an empty account; the ids wait for the way back."""
    before = furnish(home)
    old = (home.server, home.user, "dovecot")
    warning = go(home, dovecot_maildir, dovecot_maildir.new_user(), "courier")["warning"]
    shown = sum(box["totalEmails"] for box in before.mailboxes.values())
    assert f"shows 0 messages, and {shown} are known" in warning and f"{old[1]}@" in warning
    home.proxy.settled(home.account)
    empty = home.agree()
    assert home.proxy.status(home.account)["warning"] == warning
    os.kill(home.proxy.worker_pid(home.account), signal.SIGKILL)
    # The next worker knows it, too.
    wait_until(lambda: "shows 0 messages" in (home.proxy.status(home.account)["warning"] or ""), "the warning again")
    assert not empty.emails and empty.paths()["Inbox",] == before.paths()["Inbox",]
    assert "warning" not in go(home, *old)
    home.proxy.settled(home.account)
    assert home.proxy.status(home.account)["warning"] is None
    back = home.look()
    assert ids(back) == ids(before) and back.paths() == before.paths()


def test_another_name_of_the_same_server_is_no_move(proxy: Proxy, home: Scene, dovecot: Dovecot) -> None:
    before = furnish(home)
    patch(home, imapHost="localhost")
    proxy.sync(home.account)
    assert home.agree().states == before.states


def test_a_search_or_a_body_in_the_middle_of_a_move_is_never_another_message(
    home: Scene, dovecot_maildir: Dovecot
) -> None:
    """While the folders are read anew a client that asks gets the old facts or a clean error."""
    before = furnish(home)
    user = dovecot_maildir.new_user()
    migrate(home, dovecot_maildir, user, "courier")
    go(home, dovecot_maildir, user, "courier")
    seen: set[str] = set()

    def all_read() -> bool:
        for ident, email in before.emails.items():
            reply = home.jmap.send("GET", f"/raw/{home.account}/{email['blobId']}/m.eml")
            if reply.status == 200:
                assert f"Subject: {email['subject']}".encode() in reply.body
                seen.add(ident)
        return seen == set(before.emails)

    wait_until(all_read, "every message can be read at the new server", 60)
    assert set(home.look().emails) == set(before.emails)
