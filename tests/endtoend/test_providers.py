"""What mail providers do to their users' clients: throttling, few connections, goodbyes, alerts (wishes 11, 12)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from refusing import Refusing
from scene import Scene, message

from jmapplug.testing import dovecot as dovecot_server
from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.ports import running, wait_until
from jmapplug.testing.proxy import Proxy


@pytest.fixture
def scene(dove: Scene) -> Scene:
    return dove


def sync(scene: Scene) -> Any:
    """What one pass answers."""
    return scene.proxy.management.send("POST", f"/api/accounts/{scene.account}/sync")


def patch(scene: Scene, **changes: Any) -> Any:
    return scene.proxy.management.send("PATCH", f"/api/accounts/{scene.account}", changes)


def status(scene: Scene) -> dict[str, Any]:
    return scene.proxy.status(scene.account)


THROTTLED = [
    ("AUTHENTICATE|LOGIN", "NO [LIMIT] Rate limit hit.", 30, "fewer requests"),
    ("EXAMINE|SELECT", "NO Request is throttled. Suggested Backoff Time: 178755 milliseconds", 178, "fewer requests"),
    ("LIST|AUTHENTICATE", "* BYE [UNAVAILABLE] back soon: retry after 100 seconds", 100, "not available"),
    ("LIST|AUTHENTICATE", "* BYE Maximum number of connections exceeded", 30, "fewer requests"),
    ("AUTHENTICATE|LOGIN", "NO [INUSE] locked by another session, try again in 2 minutes", 120, "in use elsewhere"),
]


@pytest.mark.parametrize(("what", "answer", "least", "words"), THROTTLED)
def test_a_server_that_throttles_is_left_alone_until_its_time_whoever_asks(
    scene: Scene, relay: Refusing, what: str, answer: str, least: float, words: str
) -> None:
    """Wish 12: what is cached is served, what is not is a clean error, and the pause stays as long as it was."""
    scene.append("Inbox", *[message(f"number {at}") for at in range(3)])
    before = scene.begin(imapPort=relay.port)
    scene.append("Inbox", message("news"))
    relay.refuse = [(what, answer)]
    relay.cut_all()
    wait_until(lambda: relay.met, "the server has refused")
    assert sync(scene).status == 500
    wait_until(lambda: status(scene)["next_retry"] is not None, "a pause")
    told = status(scene)
    assert words in told["error"]
    assert least - 4 <= told["next_retry"] <= least * 1.5
    asked = len(relay.asked)
    ident = next(iter(before.emails))
    for _ in range(3):
        assert sync(scene).status == 500
        assert scene.jmap.call("Email/query")["ids"]
        body = {"properties": ["bodyValues"], "fetchTextBodyValues": True}
        assert scene.jmap.error("Email/get", ids=[ident], **body)["type"] == "serverUnavailable"
        refused = scene.jmap.call("Email/set", update={ident: {"keywords/$flagged": True}})["notUpdated"][ident]
        assert refused["type"] in ("rateLimit", "serverFail")
    assert len(relay.asked) == asked, "nothing was asked during the pause"
    assert told["next_retry"] - 1 > 0 and 0 < status(scene)["next_retry"] <= told["next_retry"] + 1
    # Settings that are written, even the same ones, end the pause at once.
    relay.refuse = []
    assert "warning" not in patch(scene).json
    scene.proxy.settled(scene.account)
    assert set(scene.agree().by_subject()) - set(before.by_subject()) == {"news"}
    assert (status(scene)["error"], status(scene)["next_retry"]) == (None, None)


def test_a_limit_at_append_is_told_for_each_draft_and_holds_nothing(scene: Scene, relay: Refusing) -> None:
    """Wish 12, RFC 5530 §3 LIMIT: it may speak of the folder itself."""
    scene.append("Inbox", message("one"))
    before = scene.begin(imapPort=relay.port)
    relay.refuse = [(" APPEND ", "NO [LIMIT] not so many")]
    drafts = scene.jmap.mailbox("drafts")
    new = {f"k{at}": {"mailboxIds": {drafts: True}, "subject": f"draft {at}"} for at in range(3)}
    failed = scene.jmap.call("Email/set", create=new)["notCreated"]
    assert {error["type"] for error in failed.values()} == {"rateLimit"} and len(failed) == 3
    assert relay.met == 1
    [ident] = before.emails
    assert scene.jmap.call("Email/set", update={ident: {"keywords/$seen": True}})["updated"] == {ident: None}
    assert status(scene)["error"] is None
    relay.refuse = []
    assert len(scene.jmap.call("Email/set", create=new)["created"]) == 3
    scene.agree()


# --- credentials


def log_ins(relay: Refusing) -> int:
    return len(relay.sent("AUTHENTICATE|LOGIN"))


def test_refused_credentials_are_not_tried_by_requests_nor_by_new_workers_until_settings_are_written(
    dovecot: Dovecot, relay: Refusing, account_name: str
) -> None:
    """Wish 12: at most one log-in a minute; the pause is the account's and not its process's."""
    service = Proxy(JMAP_SYNC_INTERVAL="1", JMAP_IDLE_TIMEOUT="1")
    scene = Scene(service, dovecot, account_name, "dovecot")
    try:
        scene.append("Inbox", message("one"))
        scene.begin(imapPort=relay.port)
        relay.refuse = [("AUTHENTICATE|LOGIN", "NO [AUTHENTICATIONFAILED] wrong password")]
        relay.cut_all()
        wait_until(lambda: relay.met, "the log-in is refused")
        tries = log_ins(relay)
        assert sync(scene).status == 500
        told = status(scene)
        assert "does not take the stored credentials" in told["error"]
        assert 50 <= told["next_retry"] <= 60
        pid = service.worker_pid(scene.account)
        wait_until(lambda: not running(pid), "the idle worker has ended")
        assert scene.jmap.call("Email/query")["ids"] and sync(scene).status == 500
        assert service.worker_pid(scene.account) != pid
        assert status(scene)["next_retry"] <= told["next_retry"]
        assert log_ins(relay) == tries
        relay.refuse = []
        assert "warning" not in patch(scene).json
        service.settled(scene.account)
        assert status(scene)["error"] is None
    finally:
        scene.imap.logout()
        service.stop()


def test_a_log_in_with_the_password_that_the_server_takes_wakes_the_account_at_once(
    proxy: Proxy, dovecot: Dovecot, account_name: str
) -> None:
    """Wish 12."""
    user = dovecot.new_user()
    body = {"accountid": account_name, "email": user, "password": "old", "imapHost": dovecot.host}
    body |= {"imapPort": dovecot.port, "imapSSL": 0}
    made = proxy.management.send("POST", "/api/accounts", body)
    assert made.status == 201 and "refuses this login" in made.json["warning"]
    wait_until(lambda: "stored credentials" in (proxy.status(account_name)["error"] or ""), "the worker says so, too")
    client = proxy.client(account_name, user, dovecot.password)
    assert client.call("Email/query")["ids"] == []
    proxy.settled(account_name)  # well before the minute is over: the deadline of this wait
    assert proxy.status(account_name)["error"] is None
    assert proxy.management.send("DELETE", f"/api/accounts/{account_name}").status == 200


# --- few connections


@pytest.mark.parametrize("room", [1, 4])
def test_an_account_works_with_the_connections_that_its_server_gives_it(
    proxy: Proxy, account_name: str, room: int
) -> None:
    """Wish 11: mail_max_userip_connections=1 and =4; the other client has one of the four."""
    server = dovecot_server.start(connections=room)
    relay = Refusing(server.port)
    scene = Scene(proxy, server, account_name, "dovecot")
    try:
        scene.append("Inbox", *[message(f"number {at}") for at in range(3)])
        if room == 1:
            scene.imap.logout()
        scene.client = proxy.add(account_name, server, scene.user, imapPort=relay.port)
        proxy.settled(account_name)
        ids = scene.jmap.call("Email/query")["ids"]
        for turn in range(10):
            body = {"properties": ["bodyValues"], "fetchTextBodyValues": True}
            assert len(scene.jmap.call("Email/get", ids=ids, **body)["list"]) == 3
            change = {ident: {"keywords/$flagged": turn % 2 == 0 or None} for ident in ids}
            assert set(scene.jmap.call("Email/set", update=change)["updated"]) == set(ids)
            assert sync(scene).status == 200
        told = status(scene)
        assert told["error"] is None and told["connections"] <= min(room, 3)
        assert room == 1 or told["watching"] == "notify"
        if room == 1:
            assert proxy.management.send("DELETE", f"/api/accounts/{account_name}").status == 200
            scene.imap = server.imap(scene.user)
            assert len(scene.uids("Inbox", "UNFLAGGED")) == 3
    finally:
        if room != 1:
            scene.close()
        relay.close()
        server.stop()


def test_never_more_than_three_connections_after_fifty_that_broke(scene: Scene, relay: Refusing) -> None:
    """Wish 11."""
    scene.append("Inbox", *[message(f"number {at}") for at in range(3)])
    ids = list(scene.begin(imapPort=relay.port).emails)
    for turn in range(50):
        relay.cut_all()
        change = {ident: {"keywords/$flagged": turn % 2 == 0 or None} for ident in ids}
        assert set(scene.jmap.call("Email/set", update=change)["updated"]) == set(ids)
    assert relay.connections >= 50 and relay.most <= 3
    wait_until(lambda: sync(scene).status == 200, "well again")
    scene.agree()
    assert relay.live <= 3


# --- what does not move


def test_behind_a_highestmodseq_that_sticks_new_mail_and_flags_are_seen(scene: Scene, relay: Refusing) -> None:
    """Wish 14: it never moves, and nothing is told of by the server itself."""
    relay.change = lambda line: re.sub(
        rb"HIGHESTMODSEQ \d+", b"HIGHESTMODSEQ 4000", re.sub(rb" (NOTIFY|IDLE)\b", b"", line)
    )
    scene.create("Work")
    scene.append("Inbox", message("one"))
    scene.append("Work", message("two"))
    scene.begin(imapPort=relay.port)
    scene.flag("Work", "1", "\\Seen")
    wait_until(lambda: keywords(scene)["two"] == {"$seen": True}, "UNSEEN tells of it", 60)
    scene.append("Inbox", message("three"))
    wait_until(lambda: "three" in keywords(scene), "it is seen", 60)
    assert "HIGHESTMODSEQ does not move" in scene.proxy.log
    scene.flag("Work", "1", "\\Flagged")
    scene.agree()
    assert keywords(scene)["two"] == {"$seen": True, "$flagged": True}


def keywords(scene: Scene) -> dict[str, dict[str, bool]]:
    """Subject → keywords."""
    ids = scene.jmap.call("Email/query")["ids"]
    found = scene.jmap.call("Email/get", ids=ids, properties=["subject", "keywords"])["list"]
    return {email["subject"]: email["keywords"] for email in found}


# --- alerts


def test_an_alert_is_shown_to_the_operator_and_logged_once(scene: Scene, relay: Refusing) -> None:
    """RFC 9051 §7.1: "MUST be presented to the user in a fashion that calls the user's attention"."""

    def alerting(line: bytes) -> bytes:
        done = b" OK List completed" in line
        return (b"* OK [ALERT] The \x1b[31mserver moves\x07 at 5\r\n" if done else b"") + line

    scene.append("Inbox", message("one"))
    relay.change = alerting
    scene.begin(imapPort=relay.port)
    for _ in range(3):
        assert sync(scene).status == 200
    [alert] = status(scene)["alerts"]
    assert alert == "The  [31mserver moves  at 5"
    assert scene.proxy.log.count("server moves") == 1
    session = scene.jmap.send("GET", "/.well-known/jmap")
    assert b"server moves" not in session.body


# --- what an account may use


def test_background_work_keeps_to_its_bandwidth_while_users_do_not_wait(dovecot: Dovecot, account_name: str) -> None:
    """JMAP_ACCOUNT_BANDWIDTH."""
    service = Proxy(JMAP_ACCOUNT_BANDWIDTH="5k")
    scene = Scene(service, dovecot, account_name, "dovecot")
    try:
        body = "\r\n".join(f"line {at} of a long text" for at in range(2_000))
        scene.append("Inbox", *[message(f"number {at}", body=body) for at in range(60)])
        client = scene.client = service.add(account_name, dovecot, scene.user)
        wait_until(lambda: client.call("Email/query", limit=1)["ids"], "a first page")
        ids = client.call("Email/query", limit=50)["ids"]
        wanted = {"properties": ["bodyValues"], "fetchTextBodyValues": True}
        octets = sum(len(str(one)) for one in client.call("Email/get", ids=ids, **wanted)["list"])
        # At 5,000 octets a second this alone would take minutes; the text index is still at it.
        assert octets > 2_000_000
        for _ in range(20):
            service.sync(account_name)
        told = service.status(account_name)
        assert told["unindexed"] and told["error"] is None
    finally:
        scene.imap.logout()
        service.stop()


def test_an_accounts_cached_bodies_keep_to_its_disk_and_uploads_stay(dovecot: Dovecot, account_name: str) -> None:
    """JMAP_ACCOUNT_DISK: what upstream can give again goes, what is larger than everything is served all the same."""
    service = Proxy(JMAP_ACCOUNT_DISK="100k", JMAP_SYNC_INTERVAL="1")
    scene = Scene(service, dovecot, account_name, "dovecot")
    folder = service.folder / "data" / "accounts" / account_name
    try:
        body = "\r\n".join(f"line {at} of a long text" for at in range(2_000))
        scene.append("Inbox", *[message(f"number {at}", body=body) for at in range(10)], message("all", body=body * 5))
        view = scene.begin()
        upload = scene.jmap.send("POST", f"/upload/{account_name}", b"x" * 300_000, {"Content-Type": "text/plain"})
        assert upload.status == 200
        for ident in view.emails:
            wanted = {"properties": ["bodyValues"], "fetchTextBodyValues": True}
            [got] = scene.jmap.call("Email/get", ids=[ident], **wanted)["list"]
            assert len(got["bodyValues"]["1"]["value"]) > 40_000
        sync(scene)
        wait_until(lambda: size(folder / "parts") <= 100_000, "room was made")
        assert size(folder / "uploads") == 300_000
        [got] = scene.jmap.call("Email/get", ids=[view.by_subject()["all"]], **wanted)["list"]
        assert len(got["bodyValues"]["1"]["value"]) > 200_000
    finally:
        scene.imap.logout()
        service.stop()


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
