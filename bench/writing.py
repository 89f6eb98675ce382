"""Writing: keywords, moves, drafts, imports, removals, on an account of 2,000 messages; beside them a bare client's."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from bench import peer
from bench.proxy import timed
from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.proxy import Client

Row = tuple[str, str, str]
Step = Callable[[], object]
RUNS = 30
BODY = "A line of a draft, as people write them, of about seventy characters.\n"


class Peers(NamedTuple):
    """Who does the same beside us: bare clients of our own server, and Cyrus's JMAP where it is at hand."""

    server: Dovecot
    native: Client | None


def writing(server: Dovecot, user: str, client: Client, inbox: str) -> list[Row]:
    """Every figure of the writing half."""
    ids = client.call("Email/query", filter={"inMailbox": inbox}, limit=1000)["ids"]
    with peer.native() as native:
        peers = Peers(server, native)
        rows = [
            *keywords(peers, client, ids[:1], "keyword of one message", "≤ 2.5 ms"),
            *keywords(peers, client, ids[:100], "keyword of 100 messages", "≤ 10 ms"),
            *moves(peers, client, ids[:100]),
            *drafts(peers, user, client),
        ]
    return [*rows, imports(client), removals(client, ids)]


def _set(client: Client, **args: Any) -> dict[str, Any]:
    reply = client.call("Email/set", **args)
    assert not (reply.get("notCreated") or reply.get("notUpdated") or reply.get("notDestroyed")), reply
    return reply


def _figure(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ms (p95 {values[int(len(values) * 0.95) - 1]:.2f})"


def _in_turns(what: str, reach: str, ours: Step, bare: Step, native: Step | None) -> list[Row]:
    """The rows of RUNS runs of each step, taken in turns after one run of each."""
    steps = {what: ours, f"{what}, a bare IMAP client": bare}
    if native is not None:
        steps[f"{what}, Cyrus's own JMAP"] = native
    found: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()
    for _ in range(RUNS):
        for name, step in steps.items():
            found[name] += timed(step, 1)
    reaches = itertools.chain((reach,), itertools.repeat(""))
    return [(name, _figure(sorted(values)), each) for (name, values), each in zip(found.items(), reaches, strict=False)]


def keywords(peers: Peers, client: Client, ids: list[str], what: str, reach: str) -> list[Row]:
    """Each step changes them the other way."""

    def flagging(client: Client, emails: list[str]) -> Step:
        turn = itertools.cycle((True, None))

        def flag() -> None:
            patch = {"keywords/$flagged": next(turn)}
            _set(client, update=dict.fromkeys(emails, patch))

        return flag

    with peer.stores(peers.server, len(ids)) as bare:
        native = flagging(peers.native, peer.newest(peers.native, len(ids))) if peers.native is not None else None
        return _in_turns(what, reach, flagging(client, ids), bare, native)


def moves(peers: Peers, client: Client, ids: list[str]) -> list[Row]:
    """There and back."""

    def moving(client: Client, emails: list[str]) -> Step:
        turn = itertools.cycle((client.mailbox("archive"), client.mailbox("inbox")))

        def move() -> None:
            patch = {"mailboxIds": {next(turn): True}}
            _set(client, update=dict.fromkeys(emails, patch))

        return move

    with peer.moves(peers.server) as bare:
        native = moving(peers.native, peer.newest(peers.native, len(ids))) if peers.native is not None else None
        return _in_turns("move 100 messages", "≤ 20 ms", moving(client, ids), bare, native)


def drafts(peers: Peers, user: str, client: Client) -> list[Row]:
    """Drafts of 20 KB; the bare client appends the same message to the same folder."""

    def record(client: Client) -> dict[str, Any]:
        return {
            "mailboxIds": {client.mailbox("drafts"): True},
            "keywords": {"$draft": True, "$seen": True},
            "from": [{"name": "A", "email": "a@example.org"}],
            "to": [{"name": "B", "email": "b@example.org"}],
            "subject": "A draft of 20 KB",
            "bodyValues": {"1": {"value": BODY * 280}},
            "textBody": [{"partId": "1", "type": "text/plain"}],
        }

    def drafting(client: Client) -> Step:
        made = record(client)
        return lambda: _set(client, create={"d": made})

    made = _set(client, create={"d": record(client)})["created"]["d"]
    raw = client.send("GET", f"/raw/{client.account}/{made['blobId']}/m?type=message/rfc822").body
    native = drafting(peers.native) if peers.native is not None else None
    with peer.appends(peers.server, user, raw) as bare:
        return _in_turns("create a draft of 20 KB", "≤ a bare APPEND + 6 ms", drafting(client), bare, native)


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
        answer = client.call("Email/import", emails=emails)
        assert len(answer["created"]) == 100, answer["notCreated"]
    took = time.perf_counter() - start
    return ("import 1,000 messages of 10 KB in calls of 100", f"{1000 / took:.0f} messages/s", "≥ 400 messages/s")


def removals(client: Client, ids: list[str]) -> Row:
    start = time.perf_counter()
    _set(client, destroy=ids)
    took = (time.perf_counter() - start) * 1000
    return (f"destroy {len(ids):,}", f"{took:.0f} ms", "1 STORE + 1 UID EXPUNGE per folder (a test counts)")
