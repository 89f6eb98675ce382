"""Writing: keywords, moves, drafts, imports, removals, on an account of 2,000 messages; beside them a bare APPEND."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterator
from typing import Any

from bench import mail
from bench.proxy import timed
from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.proxy import Client

Row = tuple[str, str, str]
RUNS = 30
BODY = "A line of a draft, as people write them, of about seventy characters.\n"


def writing(server: Dovecot, user: str, client: Client, inbox: str) -> list[Row]:
    """Every figure of the writing half."""
    ids = client.call("Email/query", filter={"inMailbox": inbox}, limit=1000)["ids"]
    return [
        *keywords(client, ids),
        *moves(server, client, inbox, client.mailbox("archive"), ids[:100]),
        *drafts(server, user, client),
        imports(client),
        removals(client, ids),
    ]


def _set(client: Client, **args: Any) -> dict[str, Any]:
    reply = client.call("Email/set", **args)
    assert not (reply["notCreated"] or reply["notUpdated"] or reply["notDestroyed"]), reply
    return reply


def _figure(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ms (p95 {values[int(len(values) * 0.95) - 1]:.2f})"


def keywords(client: Client, ids: list[str]) -> list[Row]:
    turn = itertools.cycle((True, None))

    def flag(emails: list[str]) -> None:
        patch = {"keywords/$flagged": next(turn)}
        _set(client, update=dict.fromkeys(emails, patch))

    flag(ids[:1])
    one = timed(lambda: flag(ids[:1]), RUNS)
    flag(ids[:100])
    many = timed(lambda: flag(ids[:100]), RUNS)
    return [
        ("keyword of one message, folder selected", _figure(one), "≤ 2.5 ms"),
        ("keyword of 100 messages in one call", _figure(many), "≤ 10 ms"),
    ]


def moves(server: Dovecot, client: Client, inbox: str, archive: str, ids: list[str]) -> list[Row]:
    """There and back; and the same by a bare client in an account that nobody watches, in turns."""
    turn = itertools.cycle((archive, inbox))

    def move() -> None:
        patch = {"mailboxIds": {next(turn): True}}
        _set(client, update=dict.fromkeys(ids, patch))

    alone = _bare_moves(server)
    move()
    next(alone)
    ours, bare = [], []
    for _ in range(RUNS):
        bare += timed(lambda: next(alone), 1)
        ours += timed(move, 1)
    alone.close()
    more = statistics.median(ours) - statistics.median(bare)
    return [
        ("a bare SELECT and UID MOVE of 100", _figure(sorted(bare)), ""),
        ("move 100 messages", f"{_figure(sorted(ours))}: MOVE + {more:.2f} ms", "≤ 20 ms"),
    ]


def _bare_moves(server: Dovecot) -> Iterator[None]:
    """Each step moves the same 100 of 2,000 messages, between INBOX and Archive."""
    user = server.new_user()
    mail.fill(server, user, "INBOX", 2000)
    imap = server.imap(user)
    imap.create("Archive")
    uids = "1901:2000"
    try:
        for source, target in itertools.cycle((("INBOX", "Archive"), ("Archive", "INBOX"))):
            imap.select(source)
            imap.uid("MOVE", uids, target)
            uids = imap.response("COPYUID")[1][0].split()[2].decode()
            yield
    finally:
        imap.logout()


def drafts(server: Dovecot, user: str, client: Client) -> list[Row]:
    """Drafts of 20 KB, and the same messages by a bare APPEND, in turns."""
    box = client.mailbox("drafts")
    imap = server.imap(user)
    record = {
        "mailboxIds": {box: True},
        "keywords": {"$draft": True, "$seen": True},
        "from": [{"name": "A", "email": "a@example.org"}],
        "to": [{"name": "B", "email": "b@example.org"}],
        "subject": "A draft of 20 KB",
        "bodyValues": {"1": {"value": BODY * 280}},
        "textBody": [{"partId": "1", "type": "text/plain"}],
    }
    made = _set(client, create={"d": record})["created"]["d"]
    raw = client.send("GET", f"/raw/{client.account}/{made['blobId']}/m?type=message/rfc822").body
    ours, bare = [], []
    for _ in range(RUNS):
        bare += timed(lambda: imap.append("Drafts", "(\\Draft \\Seen)", None, raw), 1)  # type: ignore[arg-type]
        ours += timed(lambda: _set(client, create={"d": record}), 1)
    imap.logout()
    ours.sort()
    bare.sort()
    more = statistics.median(ours) - statistics.median(bare)
    return [
        ("a bare APPEND of 20 KB", _figure(bare), ""),
        ("create a draft of 20 KB", f"{_figure(ours)}: APPEND + {more:.2f} ms", "≤ APPEND + 6 ms"),
    ]


def imports(client: Client) -> Row:
    """1,000 messages of 10 KB from blobs that are uploaded already, in calls of 100."""
    box = client.mailbox("archive")
    blobs = []
    for number in range(1000):
        raw = (
            f"From: a@example.org\r\nSubject: import {number}\r\nMessage-ID: <i{number}@bench>\r\n\r\n"
            + BODY.replace("\n", "\r\n") * 140
        )
        reply = client.send("POST", f"/upload/{client.account}/", raw.encode(), {"Content-Type": "message/rfc822"})
        blobs.append(reply.json["blobId"])
    start = time.perf_counter()
    for at in range(0, 1000, 100):
        emails = {f"i{n}": {"blobId": blobs[n], "mailboxIds": {box: True}} for n in range(at, at + 100)}
        reply = client.call("Email/import", emails=emails)
        assert len(reply["created"]) == 100, reply["notCreated"]
    took = time.perf_counter() - start
    return ("import 1,000 messages of 10 KB in calls of 100", f"{1000 / took:.0f} messages/s", "≥ 400 messages/s")


def removals(client: Client, ids: list[str]) -> Row:
    start = time.perf_counter()
    _set(client, destroy=ids)
    took = (time.perf_counter() - start) * 1000
    return (f"destroy {len(ids):,}", f"{took:.0f} ms", "1 STORE + 1 UID EXPUNGE per folder (a test counts)")
