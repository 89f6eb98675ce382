"""Random histories: a second IMAP client, two JMAP clients at once, and kill -9 of the worker; then I1, I2, I3 and I5.

Hypothesis chooses the steps. ``JMAPPLUG_HISTORIES=200`` runs so many for each kind of server, other ones each time.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from matrix_steps import Other
from scene import NEWEST, Scene, message, none
from test_killed_while_writing import end, kill, synced
from test_matrix import HIDDEN, SERVERS
from test_our_writes import draft

from jmapplug.testing.hiding import Hiding
from jmapplug.testing.ports import wait_until
from jmapplug.testing.proxy import Client, Proxy
from tests.invariants.rules import Wish, acknowledged

RUNS = int(os.environ.get("JMAPPLUG_HISTORIES", "0"))
KINDS = ("dovecot", f"no {HIDDEN[-1]}", "courier", "cyrus")
FOLDERS = ("Inbox", "A", "B", "Trash")
WORDS = ("$seen", "$flagged", "mine")
FLAGS = {"$seen": "\\Seen", "$flagged": "\\Flagged", "mine": "mine"}

NUMBERS = st.integers(0, 7)
WRITE = st.tuples(st.sampled_from(("flag", "file", "add", "destroy", "draft", "import", "box")), NUMBERS, NUMBERS)
ACT = st.tuples(
    st.sampled_from(("deliver", "flag", "move", "copy", "expunge", "hide", "show", "rename", "anew")), NUMBERS, NUMBERS
)
STEP = st.one_of(
    st.tuples(st.just("jmap"), WRITE),
    st.tuples(st.just("imap"), ACT),
    st.tuples(st.just("imap"), ACT),
    st.tuples(st.just("both"), WRITE, WRITE),
    st.tuples(st.just("race"), WRITE, ACT),
    st.tuples(st.just("agree")),
    st.tuples(st.just("kill"), WRITE, st.integers(20, 400)),
)
Write = tuple[str, int, int]
_accounts = itertools.count(1)


class Away(Exception):
    """The worker was killed before the write that was meant to meet it."""


class History:
    """One account's. ``sure``: subjects that nobody took away; ``wishes``: what was acknowledged and is untouched.

    ``stale``: the other client did something since the last pass: a write may not reach a copy that is not known yet.
    """

    def __init__(self, scene: Scene, relay: Hiding, other: Other) -> None:
        self.scene, self.relay, self.other = scene, relay, other
        self.sure: set[str] = set()
        self.wishes: dict[str, Wish] = {}
        self.stale = False
        self.count = itertools.count(1)
        self.second: Client

    def begin(self) -> None:
        for name in ("A", "B"):
            self.scene.create(name)
        for where in FOLDERS:
            self.other.deliver(where, self.fresh(), self.fresh())
        self.scene.begin(imapPort=self.relay.port)
        self.second = self.scene.proxy.client(self.scene.account, self.scene.user, self.scene.server.password)

    def fresh(self) -> str:
        subject = f"s{next(self.count)}s"
        self.sure.add(subject)
        return subject

    def doubt(self, *subjects: str | None) -> None:
        """Somebody may have taken these away, or changed them."""
        self.sure -= set(subjects)
        self.wishes = {key: wish for key, wish in self.wishes.items() if not {key, None} & set(subjects)}

    # --- the JMAP clients

    def call(self, client: Client, write: Write) -> tuple[str, dict[str, Any], str | None]:
        """(method, arguments, subject of what it is about) of a write to what is there at this moment."""
        kind, one, two = write
        back = {"resultOf": "0", "name": "Email/query", "path": "/ids"}
        (_, _, _), (_, got, _), (_, boxes, _) = client.request(
            ("Email/query", {"sort": NEWEST}),
            ("Email/get", {"#ids": back, "properties": ["subject", "mailboxIds"]}),
            ("Mailbox/get", {"ids": None, "properties": ["name", "role", "parentId"]}),
        )
        top = {box["name"]: box["id"] for box in boxes["list"] if box["name"] in ("Inbox", "A", "B", "A2", "Trash")}
        places = sorted(top.values())
        place, elsewhere = places[one % len(places)], places[two % len(places)]
        if kind == "draft":
            subject = self.fresh()
            return "Email/set", {"create": {"d": draft(place, subject)}}, subject
        if kind == "import":
            raw = message(self.fresh())
            return (
                "Email/import",
                {"emails": {"i": {"blobId": self.blob(client, raw), "mailboxIds": {place: True}}}},
                None,
            )
        if kind == "box" or not got["list"]:
            return "Mailbox/set", {"create": {"m": {"name": f"made {one}{two}"}}}, None
        email = got["list"][one % len(got["list"])]
        patches: dict[str, dict[str, Any]] = {
            "flag": {f"keywords/{WORDS[two % 3]}": True if two < 5 else None},
            "file": {"mailboxIds": {place: True, elsewhere: True}},
            "add": {f"mailboxIds/{elsewhere}": True},
        }
        if kind == "destroy":
            return "Email/set", {"destroy": [email["id"]]}, email["subject"]
        return "Email/set", {"update": {email["id"]: patches[kind]}}, email["subject"]

    def blob(self, client: Client, raw: bytes) -> str:
        reply = client.send("POST", f"/upload/{self.scene.account}/", raw, {"Content-Type": "message/rfc5322"})
        if reply.status == 503:
            raise Away
        assert reply.status == 200, reply
        return str(reply.json["blobId"])

    def write(self, client: Client, write: Write, alone: bool) -> None:
        method, args, subject = self.call(client, write)
        if write[0] == "destroy":
            self.doubt(subject)
        ((name, reply, _),) = client.request((method, args))
        if name == "error" or any(reply.get(each) for each in ("notCreated", "notUpdated", "notDestroyed")):
            self.doubt(subject)
            for email in (*args.get("update", {}), *args.get("destroy", ())):
                self.wishes.pop(email, None)
            return
        for email, patch in args.get("update", {}).items():
            words = {key.partition("/")[2]: bool(value) for key, value in patch.items() if key.startswith("keywords/")}
            self.wishes.pop(email, None)
            if alone and words and not self.stale:
                self.wishes[email] = Wish(email, keywords=words)
        for email in args.get("destroy", ()):
            self.wishes.pop(email, None)
            if alone and not self.stale:
                self.wishes[email] = Wish(email, destroyed=True)

    # --- the other client

    def act(self, act: Write) -> None:
        kind, one, two = act
        self.stale = True
        where, target = FOLDERS[one % 4], FOLDERS[two % 4]
        scene = self.scene
        with suppress(AssertionError):  # a folder that is not there under this name now
            ACTS[kind](self, where, target, two)
        if scene.imap.state == "SELECTED":
            scene.imap.unselect()

    def deliver(self, where: str, target: str, number: int) -> None:
        subject = self.fresh()
        self.sure.discard(subject)
        self.other.deliver(where, subject)
        self.sure.add(subject)

    def pick(self, where: str, number: int) -> str | None:
        uids = self.scene.uids(self.other.at(where))
        return uids[number % len(uids)] if uids else None

    def flag(self, where: str, target: str, number: int) -> None:
        if uid := self.pick(where, number):
            self.wishes.clear()
            self.scene.flag(self.other.at(where), uid, FLAGS[WORDS[number % 3]], on=number < 4)

    def move(self, where: str, target: str, number: int) -> None:
        uid = self.pick(where, number)
        if uid and where != target:
            self.wishes.clear()
            self.scene.move(self.other.at(where), uid, self.other.at(target))

    def copy(self, where: str, target: str, number: int) -> None:
        if uid := self.pick(where, number):
            self.wishes.clear()
            self.scene.copy(self.other.at(where), uid, self.other.at(target))

    def subject_of(self, where: str, uid: str) -> str:
        rows = self.scene.uid(self.other.at(where), "FETCH", uid, "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
        return str(rows[0][1].partition(b":")[2].strip().decode())

    def expunge(self, where: str, target: str, number: int) -> None:
        if uid := self.pick(where, number):
            self.doubt(self.subject_of(where, uid))
            self.wishes.clear()
            self.scene.expunge(self.other.at(where), uid)

    def hide(self, where: str, target: str, number: int) -> None:
        if uid := self.pick(where, number):
            self.doubt(self.subject_of(where, uid))
            self.wishes.clear()
            self.scene.flag(self.other.at(where), uid, "\\Deleted")

    def show(self, where: str, target: str, number: int) -> None:
        uids = self.scene.uids(self.other.at(where), "DELETED")
        if uids:
            self.wishes.clear()
            self.scene.flag(self.other.at(where), ",".join(uids), "\\Deleted", on=False)

    def rename(self, where: str, target: str, number: int) -> None:
        old, new = ("A", "A2") if number % 2 else ("A2", "A")
        self.other.folder("RENAME", (old,), (new,))

    def anew(self, where: str, target: str, number: int) -> None:
        for uid in self.scene.uids("B"):
            self.doubt(self.subject_of("B", uid))
        self.wishes.clear()
        self.other.folder("DELETE", ("B",))
        self.other.folder("CREATE", ("B",))

    # --- the steps

    def step(self, what: tuple[Any, ...]) -> None:
        kind, *rest = what
        STEPS[kind](self, *rest)

    def jmap(self, write: Write) -> None:
        self.write(self.scene.jmap, write, alone=True)

    def both(self, one: Write, two: Write) -> None:
        together(lambda: self.write(self.scene.jmap, one, False), lambda: self.write(self.second, two, False))

    def race(self, write: Write, act: Write) -> None:
        self.wishes.clear()
        together(lambda: self.write(self.second, write, False), lambda: self.act(act))
        self.wishes.clear()

    def killed(self, write: Write, octets: int) -> None:
        scene = self.scene
        scene.jmap.call("Mailbox/get", ids=[])  # there is a worker
        self.relay.trap(octets, kill(scene))
        with suppress(Away):
            self.write(scene.jmap, write, True)
        self.relay.disarm()
        wait_until(lambda: synced(scene), "the account is back", 60)
        end(scene)

    def agree(self, **how: int) -> None:
        scene = self.scene
        # What is hidden and shown between two looks is told as created (RFC 8620 §5.2).
        for view in scene.history:
            scene.reborn.update(view.emails, view.threads)
        wait_until(lambda: synced(scene), "the account can be read", 60)
        scene.agree(**how)
        self.stale = False
        checker = scene.checker
        none(acknowledged(checker.held, checker.view, checker.ledger, self.wishes.values()))
        counted = Counter(email["subject"] for email in checker.view.emails.values())
        none(f"I1: {subject} is doubled" for subject, count in counted.items() if count > 1)
        none(f"I1: {subject} is lost" for subject in self.sure - counted.keys())


ACTS: dict[str, Callable[..., None]] = {
    "deliver": History.deliver, "flag": History.flag, "move": History.move, "copy": History.copy,
    "expunge": History.expunge, "hide": History.hide, "show": History.show, "rename": History.rename,
    "anew": History.anew,
}  # fmt: skip
STEPS: dict[str, Callable[..., None]] = {
    "jmap": History.jmap, "imap": History.act, "both": History.both, "race": History.race, "kill": History.killed,
    "agree": History.agree,
}  # fmt: skip


def together(*works: Callable[[], None]) -> None:
    """All at once; the first error of any."""
    errors: list[BaseException] = []

    def run(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    if errors:
        raise errors[0]


@pytest.fixture(params=KINDS)
def opened(request: pytest.FixtureRequest, proxy: Proxy) -> Iterator[Callable[[], History]]:
    row = SERVERS[request.param]
    server: Any = request.getfixturevalue(row.fixture)
    made: list[History] = []

    def close() -> None:
        while made:
            history = made.pop()
            history.scene.close()
            history.relay.close()

    def open_() -> History:
        close()
        scene = row.scene(proxy, server, f"h{os.getpid()}n{next(_accounts)}", row.kind)
        made.append(History(scene, Hiding(server.port, row.hidden), Other(scene, dict(row.places), row.renumber)))
        made[-1].begin()
        return made[-1]

    yield open_
    close()


@settings(
    max_examples=RUNS or 2,
    derandomize=not RUNS,
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate) if not RUNS else tuple(Phase)[:3],
    suppress_health_check=list(HealthCheck),
)
@given(steps=st.lists(STEP, min_size=8, max_size=16))
def test_any_history_ends_with_one_view(opened: Callable[[], History], steps: list[tuple[Any, ...]]) -> None:
    history = opened()
    for each in steps:
        history.step(each)
    history.agree(sample=3)
