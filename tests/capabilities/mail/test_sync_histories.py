"""Any history of the upstream: after each pass the store is what the server shows, and /changes tells it all."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sync_rig import Rig

from jmapplug.backends import Features
from jmapplug.errors import UpstreamError
from jmapplug.store import database
from jmapplug.testing.memory_source import MemoryServer, message

KINDS = {
    "qresync": Features(id_scheme="emailid", condstore=True, qresync=True),
    "condstore": Features(id_scheme="x-guid", condstore=True),
    "plain": Features(),
}
FOLDERS = (b"INBOX", b"Archive", b"Trash", b"Box", b"Box/Inner")
FLAGS = (("\\Seen",), ("\\Seen", "$Forwarded"), ("\\Flagged", "Label"), ("\\Draft",), ("\\Deleted", "\\Seen"), ())

number = st.integers(0, 30)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("deliver"), number, number, number),
        st.tuples(st.just("copy"), number, number, number),
        st.tuples(st.just("move"), number, number, number),
        st.tuples(st.just("flags"), number, number, number),
        st.tuples(st.just("expunge"), number, number, number),
        st.tuples(st.just("reset"), number, number, number),
        st.tuples(st.just("restore"), number, number, number),
        st.tuples(st.just("create"), number, number, number),
        st.tuples(st.just("delete"), number, number, number),
        st.tuples(st.just("sync"), number, number, number),
    ),
    max_size=25,
)


def pick(values: Any, at: int) -> Any:
    ordered = sorted(values)
    return ordered[at % len(ordered)] if ordered else None


def act(server: MemoryServer, step: tuple[str, int, int, int]) -> None:
    """One thing that another client, or a delivery, does."""
    name, a, b, c = step
    key = pick(server.folders, a)
    folder = server.folders[key]
    uid = pick(folder.messages, b)
    if name == "deliver":
        subject = f"Re: topic {b % 4}" if b % 3 else f"topic {b % 4}"
        references = [f"m{b % 4}@x"] if b % 3 else []
        server.deliver(key, message(subject, message_id=f"m{c % 6}@x", references=references, body=f"text {c}"))
    elif name == "create":
        new = FOLDERS[b % len(FOLDERS)]
        if new not in server.folders:
            server.create(new, role="trash" if new == b"Trash" else None)
    elif name == "delete" and key != b"INBOX":
        server.delete(key)
    elif name == "reset":
        server.reset_uids(key)
    elif name == "restore" and folder.messages:
        server.restore(key, uid)
    elif uid is not None and name in ("copy", "move"):
        getattr(server, name)(key, uid, pick(server.folders, c))
    elif uid is not None and name == "flags":
        server.set_flags(key, uid, *FLAGS[c % len(FLAGS)])
    elif uid is not None and name == "expunge":
        server.expunge(key, uid)


class Replica:
    """A client's copy, kept by /changes alone."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.states = {"Email": rig.store.state("Email"), "Thread": rig.store.state("Thread")}
        self.states["Mailbox"] = rig.store.state("Mailbox")
        self.records: dict[str, dict[str, Any]] = {name: {} for name in self.states}

    def truth(self) -> dict[str, dict[str, Any]]:
        emails = self.rig.emails()
        threads = self.rig.call("Thread/get", ids=sorted({email["threadId"] for email in emails.values()}))
        boxes = self.rig.call("Mailbox/get", ids=None)
        return {
            "Email": emails,
            "Thread": {one["id"]: one for one in threads["list"]},
            "Mailbox": {one["id"]: one for one in boxes["list"]},
        }

    def follow(self, max_changes: int | None) -> None:
        truth = self.truth()
        for name, known in self.records.items():
            more = True
            while more:
                reply = self.rig.call(f"{name}/changes", sinceState=self.states[name], maxChanges=max_changes)
                assert not set(reply["created"]) & set(reply["updated"]) | set(reply["created"]) & set(
                    reply["destroyed"]
                )
                for id_ in reply["updated"]:
                    assert id_ in known, "updated, but never created"
                counts = reply.get("updatedProperties")
                for id_ in reply["created"] + reply["updated"]:
                    if id_ in truth[name]:
                        fresh = truth[name][id_]
                        if counts and id_ in reply["updated"]:
                            fresh = {**known[id_], **{count: fresh[count] for count in counts}}
                        known[id_] = fresh
                for id_ in reply["destroyed"]:
                    known.pop(id_, None)
                self.states[name], more = reply["newState"], reply["hasMoreChanges"]
            assert known == truth[name], name


@pytest.mark.parametrize("kind", KINDS)
@given(history=steps, max_changes=st.sampled_from([None, 1, 3]))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_after_each_pass_the_store_is_what_the_server_shows(kind: str, history: Any, max_changes: int | None) -> None:
    """Rules 3, 10, 12, 13, 15, 16, 18, 19, 22."""
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig(Path(folder), MemoryServer(KINDS[kind]))
        replica = Replica(rig)
        try:
            for step in [*history, ("sync", 0, 0, 0)]:
                if step[0] != "sync":
                    act(rig.server, step)
                # A restored server that hands out UIDs again before anybody looks cannot be told from an honest one.
                if step[0] not in ("sync", "restore"):
                    continue
                rig.sync()
                rig.check()
                replica.follow(max_changes)
            states = [rig.store.state(name) for name in ("Email", "Thread", "Mailbox")]
            rig.sync()
            assert states == [rig.store.state(name) for name in ("Email", "Thread", "Mailbox")]
        finally:
            rig.close()


class Killed(BaseException):
    """The worker died."""


def _crashing(rig: Rig, at: int) -> contextlib.ExitStack:
    """The worker dies at the ``at``-th boundary: before or after a transaction, before or inside a call upstream."""
    count = [0]
    stack = contextlib.ExitStack()
    original = database.Database.write

    def boundary() -> None:
        count[0] += 1
        if count[0] == at:
            raise Killed

    def write(self: database.Database, work: Any) -> Any:
        boundary()
        result = original(self, work)
        boundary()
        return result

    patch = pytest.MonkeyPatch()
    patch.setattr(database.Database, "write", write)
    stack.callback(patch.undo)
    rig.source.fault = lambda name: boundary()
    return stack


def _prepared(folder: Path, kind: str) -> Rig:
    server = MemoryServer(KINDS[kind])
    rig = Rig(folder, server)
    for key in (b"Archive", b"Trash"):
        server.create(key, role=key.decode().lower())
    for at in range(12):
        rig.deliver(f"topic {at}", (b"INBOX", b"Archive")[at % 2], message_id=f"m{at}@x", body=f"text {at}")
    return rig


def _disturb(rig: Rig) -> None:
    """Moves, flags, a reset, a new folder: all that a pass has to do at once."""
    server = rig.server
    server.move(b"INBOX", 1, b"Archive")
    server.copy(b"INBOX", 2, b"Trash")
    server.set_flags(b"INBOX", 3, "\\Seen")
    server.set_flags(b"INBOX", 4, "\\Deleted")
    server.expunge(b"Archive", 1)
    server.reset_uids(b"Archive")
    server.create(b"New")
    server.move(b"INBOX", 5, b"New")
    rig.deliver("late", b"New", message_id="late@x")


@pytest.mark.parametrize("kind", KINDS)
def test_killed_anywhere_the_next_passes_end_the_same(kind: str, tmp_path: Path) -> None:
    """Rules 2, 4, 18, 19: same end state and, of what was known before, the same ids."""
    at, boundaries = 0, True
    while boundaries:
        at += 3
        rig = _prepared(tmp_path / f"{kind}{at}", kind)
        boundaries = False
        for stage in (lambda rig: None, _disturb):
            stage(rig)
            before = {subject_of(email): id_ for id_, email in rig.emails().items()}
            with _crashing(rig, at):
                try:
                    rig.sync()
                except Killed:
                    boundaries = True
            rig.reopen()
            rig.sync()
            rig.check()
            after = {subject_of(email): id_ for id_, email in rig.emails().items()}
            stays = {subject: id_ for subject, id_ in before.items() if subject in after}
            if kind != "plain":
                assert stays == {subject: after[subject] for subject in stays}
        rig.close()
    assert at > 30, "the kills were not inside a pass"


def subject_of(email: dict[str, Any]) -> str:
    return str(email["subject"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_connection_that_breaks_at_any_call_loses_nothing(kind: str, tmp_path: Path) -> None:
    """Rule 18: the sync point moves at the end of a complete pass only."""
    rig = _prepared(tmp_path, kind)
    rig.sync()
    _disturb(rig)
    for at in range(1, 40):
        rig.source = rig.server.source()
        rig.source.fail_at = at
        try:
            rig.sync()
        except UpstreamError:
            continue
        break
    else:
        pytest.fail("no pass came to its end")
    rig.check()
    rig.close()
