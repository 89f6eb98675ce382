"""The queue dies at every step (a commit, or a point of the hand-over) and the worker starts again on the same files.

Two laws hold whatever happened: the mail server never takes a message twice, and what a client was told was created is
sent in the end, or says that nobody knows.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import gevent
import gevent.event
import msgspec
import pytest
from gevent.hub import Hub
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from submission_rig import Rig

from jmapplug.capabilities.submission import delivery as outcomes
from jmapplug.capabilities.submission import store as sql
from jmapplug.capabilities.submission.outbox import Outbox
from jmapplug.errors import FULL, StorageError, UpstreamError
from jmapplug.store import wake
from jmapplug.store.database import Database

DAY = 86_400
TO = {"rcptTo": [{"email": "x@y.z"}]}


class Crash(BaseException):
    """The process is gone: nothing after it happens."""


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hub, "NOT_ERROR", (*Hub.NOT_ERROR, Crash))


class Dying:
    """``own.sqlite3`` of a rig, until its ``after``-th commit: that one and all later ones never happen."""

    def __init__(self, rig: Rig, after: int) -> None:
        self.left = after
        self.died = False
        database, write = rig.store.own, rig.store.own.write

        def counted(work: Callable[[Any], Any]) -> Any:
            if self.left == 0:
                self.died = True
                raise Crash
            self.left -= 1
            return write(work)

        database.write = counted  # type: ignore[method-assign]


def restart(rig: Rig, meanwhile: Callable[[], object] = lambda: None) -> None:
    """As after kill -9: no greenlet of the old life does anything any more."""
    gevent.killall(list(rig.service.outbox._greenlets.values()))
    if rig.service.outbox._runner is not None:
        rig.service.outbox._runner.kill()
    rig.service.outbox._runner = None
    rig.service.outbox._greenlets.clear()
    rig.store.own.write = Database.write.__get__(rig.store.own)  # type: ignore[method-assign]
    rig.store.close()
    rig.way.gates.clear()
    rig.way.fail.clear()
    meanwhile()
    rig.open()


def create(rig: Rig, **more: Any) -> str | None:
    """The id that the client was told; None where the process died before."""
    identity = rig.identity
    try:
        with gevent.Timeout(60):
            record = {"identityId": identity, "emailId": "e1", "envelope": TO, **more}
            answer = rig.call("EmailSubmission/set", create={"k": record})
    except Crash:
        return None
    return str(answer["created"]["k"]["id"]) if answer["created"] else None


def check(rig: Rig, told: str | None) -> None:
    """The laws, after a restart and enough time."""
    rig.pass_time(0)
    for _ in range(6):
        rig.pass_time(DAY)
    assert len(rig.way.taken) <= 1
    assert not rig.service.busy
    assert not wake.is_marked(rig.folder)
    assert list((rig.folder / "outbox").iterdir()) == []
    if told is not None:
        (status,) = rig.get(told)["deliveryStatus"].values()
        assert status["delivered"] == "unknown"
        assert len(rig.way.taken) == 1 or "not known" in status["smtpReply"]
    elif rig.way.taken:
        # The client was told nothing: then the message is there to be seen.
        assert len(rig.call("EmailSubmission/get", ids=None)["list"]) == 1


COMMITS = range(12)


@pytest.mark.parametrize("after", COMMITS)
def test_dying_at_any_commit_of_an_immediate_send(rig: Rig, after: int) -> None:
    dying = Dying(rig, after)
    told = create(rig)
    if after == COMMITS[-1]:
        assert not dying.died, "a send has more commits than are tried here"
    restart(rig)
    check(rig, told)


@pytest.mark.parametrize("after", COMMITS)
def test_dying_at_any_commit_of_a_send_that_was_put_off(rig: Rig, after: int) -> None:
    sender = {"email": "ada@example.org", "parameters": {"HOLDFOR": "3600"}}
    told = create(rig, envelope={"mailFrom": sender, **TO})
    assert told is not None
    Dying(rig, after)
    rig.pass_time(3601)
    restart(rig)
    check(rig, told)


@pytest.mark.parametrize("step", ["connect", "data", "answer"])
def test_dying_in_the_middle_of_the_hand_over(rig: Rig, step: str) -> None:
    sender = {"email": "ada@example.org", "parameters": {"HOLDFOR": "60"}}
    told = create(rig, envelope={"mailFrom": sender, **TO})
    assert told is not None
    rig.way.gates[step] = gevent.event.Event()
    rig.pass_time(61)
    assert rig.way.reached[-1] == step
    restart(rig)
    before = len(rig.way.taken)
    check(rig, told)
    # Sent again only where nothing of the message had left.
    assert len(rig.way.taken) == (before + 1 if step == "connect" else before)
    reply = rig.get(told)["deliveryStatus"]["x@y.z"]["smtpReply"]
    assert reply == ("250 2.1.5 Ok" if step == "connect" else outcomes.CRASHED)


@pytest.mark.parametrize("step", ["connect", "data", "answer"])
@pytest.mark.parametrize("room", range(4))
def test_a_start_that_finds_no_room_is_made_up_for_before_anything_is_sent(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, step: str, room: int
) -> None:
    """``room`` for so many commits; then none, while clients read."""
    sender = {"email": "ada@example.org", "parameters": {"HOLDFOR": "60"}}
    told = create(rig, envelope={"mailFrom": sender, **TO})
    assert told is not None
    rig.way.gates[step] = gevent.event.Event()
    rig.pass_time(61)
    before = len(rig.way.taken)
    left, write = [room], Database.write

    def full(database: Database, work: Callable[[Any], Any]) -> Any:
        if left[0] == 0:
            raise StorageError(FULL)
        left[0] -= 1
        return write(database, work)

    with monkeypatch.context() as disk:
        restart(rig, lambda: disk.setattr(Database, "write", full))
        assert rig.get(told)["emailId"] == "e1"
        for _ in range(3):
            rig.now += DAY
            with suppress(StorageError):
                rig.service.sync()
            gevent.sleep(0.01)
        assert len(rig.way.taken) == before, "without room nothing is begun"
    rig.service.sync()
    check(rig, told)
    assert len(rig.way.taken) == (before + 1 if step == "connect" else before)


def test_a_restored_queue_that_finds_no_room_at_first_is_still_one(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    sender = {"email": "ada@example.org", "parameters": {"HOLDFOR": "3600"}}
    soon = create(rig, envelope={"mailFrom": sender, **TO})
    assert soon is not None
    rig.close()
    shutil.copytree(rig.folder, rig.folder.with_name("copy"))
    shutil.rmtree(rig.folder)
    shutil.copytree(rig.folder.with_name("copy"), rig.folder)
    rig.now += 3601
    with monkeypatch.context() as disk:
        disk.setattr(Outbox, "_finish", lambda *_args: _raise(StorageError(FULL)))
        rig.open()
    rig.reopen()
    assert rig.get(soon)["deliveryStatus"]["x@y.z"]["smtpReply"] == outcomes.RESTORED
    rig.pass_time(DAY)
    assert rig.way.taken == []


def _raise(error: Exception) -> None:
    raise error


def test_an_unanswered_creation_of_which_nothing_left_did_not_happen(rig: Rig) -> None:
    rig.way.gates["connect"] = gevent.event.Event()
    greenlet = gevent.spawn(create, rig)
    with gevent.Timeout(60):
        while "connect" not in rig.way.reached:
            gevent.sleep(0.001)
    greenlet.kill()
    # The row is published by the call's own end; here the process is gone before it could.
    (row,) = sql.unfinished(rig.store)
    sql.save(rig.store, msgspec.structs.replace(row, record="new"))
    restart(rig)
    assert sql.unfinished(rig.store) == []
    check(rig, None)
    assert rig.way.taken == []


def test_a_restored_queue_sends_nothing_that_was_due_meanwhile(rig: Rig) -> None:
    sender = {"email": "ada@example.org", "parameters": {"HOLDFOR": "3600"}}
    soon = create(rig, envelope={"mailFrom": sender, **TO})
    late = {"email": "ada@example.org", "parameters": {"HOLDFOR": "7200"}}
    later = create(rig, envelope={"mailFrom": late, **TO})
    assert soon is not None
    assert later is not None
    rig.close()
    shutil.copytree(rig.folder, rig.folder.with_name("copy"))
    shutil.rmtree(rig.folder)
    shutil.copytree(rig.folder.with_name("copy"), rig.folder)
    rig.now += 3601
    rig.open()
    assert rig.get(soon)["deliveryStatus"]["x@y.z"] == {
        "smtpReply": outcomes.RESTORED, "delivered": "unknown", "displayed": "unknown",
    }  # fmt: skip
    assert rig.get(soon)["undoStatus"] == "final"
    rig.pass_time(3600)
    assert len(rig.way.taken) == 1
    assert rig.get(later)["undoStatus"] == "final"


def test_a_message_whose_file_is_gone_says_so(rig: Rig) -> None:
    sender = {"email": "ada@example.org", "parameters": {"HOLDFOR": "3600"}}
    made = create(rig, envelope={"mailFrom": sender, **TO})
    assert made is not None
    rig.close()
    (rig.folder / "outbox" / made).unlink()
    rig.open()
    assert rig.get(made)["deliveryStatus"]["x@y.z"]["smtpReply"] == outcomes.LOST
    assert not rig.service.busy


def test_files_that_nobody_knows_are_removed_at_the_start(rig: Rig) -> None:
    rig.close()
    (rig.folder / "outbox" / "orphan").write_bytes(b"x")
    rig.open()
    assert list((rig.folder / "outbox").iterdir()) == []


def test_a_change_that_the_cache_missed_is_told_after_the_restart(rig: Rig) -> None:
    sender = {"email": "ada@example.org", "parameters": {"HOLDFOR": "60"}}
    made = create(rig, envelope={"mailFrom": sender, **TO})
    assert made is not None
    state = rig.call("EmailSubmission/get", ids=[])["state"]
    commit = rig.store.commit
    rig.store.commit = lambda *a, **k: (_ for _ in ()).throw(Crash())  # type: ignore[method-assign,assignment]
    rig.pass_time(61)
    rig.store.commit = commit  # type: ignore[method-assign]
    restart(rig)
    assert rig.call("EmailSubmission/changes", sinceState=state)["updated"] == [made]
    assert rig.get(made)["undoStatus"] == "final"
    check(rig, made)


# --- any history -----------------------------------------------------------------------------------------------------

REPLIES = ("250 2.1.5 Ok", "451 4.7.1 Later", "550 5.1.1 No")
FAULTS = ("", "away", "unsure")
_server = st.tuples(st.sampled_from(REPLIES), st.sampled_from(REPLIES), st.sampled_from(FAULTS))
_step = st.one_of(
    st.tuples(st.just("create"), st.tuples(st.sampled_from([0, 0, 60, 3600]), _server)),
    st.tuples(st.just("time"), st.tuples(st.sampled_from([1, 61, 3601, DAY]), _server)),
    st.tuples(st.just("cancel"), st.integers(0, 2)),
    st.tuples(st.just("destroy"), st.integers(0, 2)),
    st.tuples(st.just("die"), st.integers(0, 6)),
    st.tuples(st.just("restart"), st.none()),
)


class History:
    """Applies steps; knows which ids a client was told, and which message each one is (its subject)."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.told: list[str] = []
        self.number = 0
        self.canceled: set[str] = set()
        self.subjects: dict[str, bytes] = {}

    def apply(self, name: str, value: Any) -> None:
        try:
            getattr(self, name)(value)
        except Crash:
            restart(self.rig)

    def create(self, how: tuple[int, tuple[str, str, str]]) -> None:
        hold, server = how
        self.serve(server)
        self.number += 1
        subject = b"n%d;" % self.number
        self.rig.emails["e1"] = b"From: ada@example.org\r\nTo: a@y.z, b@y.z\r\nSubject: " + subject + b"\r\n\r\n"
        envelope: dict[str, Any] = {"rcptTo": [{"email": "a@y.z"}, {"email": "b@y.z"}]}
        if hold:
            envelope["mailFrom"] = {"email": "ada@example.org", "parameters": {"HOLDFOR": str(hold)}}
        made = self.rig.create(envelope=envelope)
        if "id" in made:
            self.told.append(made["id"])
            self.subjects[made["id"]] = subject

    def time(self, how: tuple[int, tuple[str, str, str]]) -> None:
        self.serve(how[1])
        self.rig.pass_time(how[0])

    def serve(self, how: tuple[str, str, str]) -> None:
        """What the server does from now on."""
        self.rig.way.answers = {"a@y.z": how[0], "b@y.z": how[1]}
        faults = {"away": ("connect", UpstreamError("x")), "unsure": ("answer", UpstreamError("x", code="unsure"))}
        self.rig.way.fail = dict([faults[how[2]]]) if how[2] else {}

    def cancel(self, at: int) -> None:
        if at < len(self.told):
            answer = self.rig.call("EmailSubmission/set", update={self.told[at]: {"undoStatus": "canceled"}})
            if answer["updated"]:
                self.canceled.add(self.told[at])

    def destroy(self, at: int) -> None:
        if at < len(self.told):
            self.rig.call("EmailSubmission/set", destroy=[self.told[at]])

    def die(self, after: int) -> None:
        Dying(self.rig, after)

    def restart(self, _: None) -> None:
        restart(self.rig)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(_step, min_size=2, max_size=10))
def test_no_history_sends_a_message_twice_or_one_that_was_taken_back(
    steps: list[tuple[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Wish 25."""
    rig = Rig(tmp_path_factory.mktemp("history") / "a")
    history = History(rig)
    for name, value in steps:
        history.apply(name, value)
    restart(rig)
    rig.way.answers = {}
    for _ in range(6):
        rig.pass_time(DAY)
    sent = [
        (octets.split(b"Subject: ")[1].split(b";")[0], each.email) for _, to, octets in rig.way.taken for each in to
    ]
    assert len(sent) == len(set(sent))
    for id_ in history.canceled & history.subjects.keys():
        number = history.subjects[id_].rstrip(b";")
        assert (number, "a@y.z") not in sent
    for one in rig.call("EmailSubmission/get", ids=None)["list"]:
        assert one["undoStatus"] in ("final", "canceled")
        assert all(status["delivered"] != "queued" for status in one["deliveryStatus"].values())
    assert not rig.service.busy
    rig.close()
    shutil.rmtree(rig.folder, ignore_errors=True)
