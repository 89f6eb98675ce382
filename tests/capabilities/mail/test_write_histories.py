"""Our writes among everybody else's, passes in between, and deaths at every step: nothing is lost, views converge."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sync_rig import Rig
from test_sync_histories import Killed, Replica, _crashing, act, number, pick

from jmapplug.backends import Features
from jmapplug.errors import UpstreamError
from jmapplug.testing.memory_source import MemoryServer, message

KINDS = {
    "all": Features(id_scheme="emailid", condstore=True, qresync=True, move=True, uidplus=True),
    "no MOVE": Features(id_scheme="x-guid", condstore=True, uidplus=True),
    "no UIDPLUS": Features(id_scheme="x-guid", condstore=True, move=True),
    "nothing": Features(),
}
WRITES = ("keyword", "unkeyword", "value", "refile", "add", "import", "destroy")
OTHERS = ("deliver", "copy", "move", "flags", "expunge", "sync")


def some(names: tuple[str, ...]) -> st.SearchStrategy[tuple[str, int, int, int]]:
    return st.tuples(st.sampled_from(names), number, number, number)


steps = st.lists(st.one_of(some(WRITES), some(OTHERS)), max_size=25)


def octets(rig: Rig) -> set[bytes]:
    """Every message that the server has, visible or not."""
    return {one.raw for folder in rig.server.folders.values() for one in folder.messages.values()}


def write(rig: Rig, step: tuple[str, int, int, int]) -> dict[str, Any] | None:
    """One JMAP write; the response, None where there was nothing to write to."""
    name, a, b, c = step
    boxes = {box["id"]: box for box in rig.call("Mailbox/get", ids=None)["list"]}
    email = pick(rig.emails(), a)
    box, other = pick(boxes, b), pick(boxes, c)
    if name == "import":
        blob = rig.upload(message(f"imported {a} {b} {c}", message_id=f"i{a}.{b}.{c}@x"))
        emails = {"i": {"blobId": blob, "mailboxIds": {box: True, other: True}, "keywords": {"$seen": bool(c % 2)}}}
        return rig.call("Email/import", emails=emails)
    if email is None:
        return None
    if name == "destroy":
        return rig.call("Email/set", destroy=[email])
    patches: dict[str, dict[str, Any]] = {
        "keyword": {"keywords/$seen": True, "keywords/Label": True},
        "unkeyword": {"keywords/$seen": None, "keywords/label": False},
        "value": {"keywords": {"$flagged": True, f"k{c % 3}": True}},
        "refile": {"mailboxIds": {box: True}, "keywords/$seen": True},
        "add": {f"mailboxIds/{box}": True, f"mailboxIds/{other}": True},
    }
    return rig.call("Email/set", update={email: patches[name]})


@pytest.mark.parametrize("kind", KINDS)
@given(history=steps, max_changes=st.sampled_from([None, 2]))
@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_we_and_others_write_views_converge(kind: str, history: Any, max_changes: int | None) -> None:
    """Rules 3, 5, 12, 15, 18, 27, 32: after a pass the view is the server's, /changes told it, no message is lost."""
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig(Path(folder), MemoryServer(KINDS[kind]))
        for key in (b"Archive", b"Trash"):
            rig.server.create(key, role="trash" if key == b"Trash" else None)
        replica = Replica(rig)
        rig.sync()
        try:
            for step in [*history, ("sync", 0, 0, 0)]:
                if step[0] == "sync":
                    rig.sync()
                    rig.check()
                elif step[0] in WRITES:
                    before = octets(rig)
                    write(rig, step)
                    assert len(before - octets(rig)) <= (step[0] == "destroy"), "a message is lost"
                else:
                    act(rig.server, step)
                replica.follow(max_changes)
            states = [rig.store.state(name) for name in ("Email", "Thread", "Mailbox")]
            rig.sync()
            assert states == [rig.store.state(name) for name in ("Email", "Thread", "Mailbox")]
        finally:
            rig.close()


@pytest.mark.parametrize("kind", KINDS)
@given(history=steps, during=st.lists(some(OTHERS[:-1]), max_size=12))
@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
def test_others_that_write_in_the_middle_of_ours(kind: str, history: Any, during: Any) -> None:
    """Between two commands of one write, and between two questions of a pass, others act."""
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig(Path(folder), MemoryServer(KINDS[kind]))
        for key in (b"Archive", b"Trash"):
            rig.server.create(key, role="trash" if key == b"Trash" else None)
        replica = Replica(rig)
        rig.sync()
        left = list(during)

        def meanwhile(name: str) -> None:
            if left:
                act(rig.server, left.pop())

        try:
            for step in history:
                rig.source.before = meanwhile
                if step[0] == "sync":
                    rig.sync()
                elif step[0] in WRITES:
                    write(rig, step)
                else:
                    act(rig.server, step)
                rig.source.before = None
                replica.follow(None)
            left.clear()
            rig.sync()
            rig.sync()
            rig.check()
            replica.follow(None)
        finally:
            rig.close()


# --- deaths --------------------------------------------------------------------------------------------------------


def prepared(folder: Path, kind: str) -> Rig:
    rig = Rig(folder, MemoryServer(KINDS[kind]))
    for key in (b"Archive", b"Trash"):
        rig.server.create(key)
    for at in range(6):
        rig.deliver(f"topic {at}", message_id=f"m{at}@x", body=f"text {at}")
    rig.sync()
    return rig


def boxes(rig: Rig, *names: str) -> dict[str, bool]:
    return {rig.box(name)["id"]: True for name in names}


Work = Callable[[Rig], Any]


def _import(rig: Rig) -> Any:
    where = boxes(rig, "Archive", "Trash")
    blob = rig.upload(message("imported", message_id="i@x"))
    return rig.call("Email/import", emails={"i": {"blobId": blob, "mailboxIds": where}})


def _replace(rig: Rig) -> Any:
    draft = {
        "mailboxIds": boxes(rig, "Archive"),
        "subject": "topic 2 again",
        "bodyValues": {"1": {"value": "x"}},
        "textBody": [{"partId": "1", "type": "text/plain"}],
    }
    return rig.call("Email/set", create={"d": draft}, destroy=[rig.email("topic 2")])


def _all(rig: Rig, **patch: Any) -> Any:
    return rig.call("Email/set", update=dict.fromkeys(rig.emails(), patch))


WORKS: dict[str, Work] = {
    "keywords": lambda rig: _all(rig, **{"keywords/$seen": True}),
    "move": lambda rig: _all(rig, mailboxIds=boxes(rig, "Archive")),
    "spread": lambda rig: _all(rig, mailboxIds=boxes(rig, "Archive", "Trash"), keywords={"x": True}),
    "import": _import,
    "destroy": lambda rig: rig.call("Email/set", destroy=[rig.email("topic 2")]),
    "replace": _replace,
}
GOES = {"destroy": 1, "replace": 1}
"""How many messages a work takes away on purpose."""


def verify(rig: Rig, work: str, before: set[bytes], ids: dict[str, str]) -> None:
    """After the restart: nothing lost, nothing doubled, ids as before."""
    rig.reopen()
    rig.sync()
    rig.sync()
    rig.check()
    assert len(before - octets(rig)) <= GOES.get(work, 0), "a message is lost"
    seen = [one.raw for folder in rig.server.folders.values() for one in folder.messages.values()]
    emails = {email["subject"]: id_ for id_, email in rig.emails().items()}
    assert len(emails) == len(rig.emails()), "a message is doubled"
    for subject, id_ in ids.items():
        if rig.server.features.id_scheme:
            assert emails.get(subject, id_) == id_
    if work == "move":
        # Never in both, once the journal was looked at.
        assert len(seen) == len(set(seen))


@pytest.mark.parametrize("work", WORKS)
@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_any_step_of_a_write_nothing_is_lost_or_doubled(kind: str, work: str, tmp_path: Path) -> None:
    """mail-rules 27, 28: at each transaction, and before each command upstream."""
    at, died = 0, True
    while died:
        at += 1
        rig = prepared(tmp_path / f"{at}", kind)
        before = octets(rig)
        ids = {email["subject"]: id_ for id_, email in rig.emails().items()}
        died = False
        with _crashing(rig, at):
            try:
                WORKS[work](rig)
            except Killed:
                died = True
        verify(rig, work, before, ids)
        rig.close()
    assert at > 2, "the kills were not inside the write"


class Cut:
    """The ``left``-th command meets a connection that breaks."""

    def __init__(self, left: int, code: str | None) -> None:
        self.left = left
        self.code = code

    def __call__(self, name: str) -> None:
        self.left -= 1
        if self.left == 0:
            raise UpstreamError("cut", code=self.code)


@pytest.mark.parametrize("how", ["answer", "question"])
@pytest.mark.parametrize("work", WORKS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_connection_that_breaks_at_any_command_loses_and_doubles_nothing(
    kind: str, work: str, how: str, tmp_path: Path
) -> None:
    """Before the command reached the server, or after it was done and before the answer came."""
    at, broke = 0, True
    while broke:
        at += 1
        rig = prepared(tmp_path / f"{at}", kind)
        before = octets(rig)
        ids = {email["subject"]: id_ for id_, email in rig.emails().items()}
        cut = Cut(at, "unsure" if how == "answer" else None)
        setattr(rig.source, "after" if how == "answer" else "fault", cut)
        with contextlib.suppress(UpstreamError):
            WORKS[work](rig)
        broke = cut.left <= 0
        verify(rig, work, before, ids)
        rig.close()
