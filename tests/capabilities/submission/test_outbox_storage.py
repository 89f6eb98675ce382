"""The queue's own disk gives out at every commit, and comes back: nothing is sent twice, nothing is forgotten."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gevent
import pytest
from submission_rig import Rig

from jmapplug.capabilities.submission import email_submission_set, outbox
from jmapplug.errors import FAILING, FULL, StorageError
from jmapplug.store import damage, wake

DAY = 86_400
TO = {"rcptTo": [{"email": "x@y.z"}]}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "STORAGE_STEP", 0.002)
    monkeypatch.setattr(email_submission_set, "PATIENCE", 0.5)


class FullDisk:
    """``own.sqlite3`` of a rig takes nothing more after its ``after``-th commit, until :meth:`mend`."""

    steps: tuple[str, ...] = ("write",)
    why = FULL

    def __init__(self, rig: Rig, after: int) -> None:
        self.left = after
        self.refused = 0
        self._own = rig.store.own
        for name in self.steps:
            setattr(self._own, name, partial(self._step, getattr(self._own, name)))

    def _step(self, done: Callable[..., Any], *given: Any) -> Any:
        if self.left == 0:
            self.refused += 1
            raise StorageError(self.why)
        self.left -= 1
        return done(*given)

    def mend(self) -> None:
        for name in self.steps:
            delattr(self._own, name)


class DeadDisk(FullDisk):
    """It cannot be read either."""

    steps = ("write", "rows", "row")
    why = FAILING


def put_off(rig: Rig) -> str:
    sender = {"email": "ada@example.org", "parameters": {"HOLDFOR": "60"}}
    return str(rig.create(envelope={"mailFrom": sender, **TO})["id"])


COMMITS = range(8)


@pytest.mark.parametrize("after", COMMITS)
def test_a_send_whose_disk_is_full_at_any_commit_is_done_once_when_there_is_room(rig: Rig, after: int) -> None:
    told = put_off(rig)
    disk = FullDisk(rig, after)
    rig.pass_time(61)
    if after == COMMITS[-1]:
        assert not disk.refused, "a send has more commits than are tried here"
    before = len(rig.way.taken)
    assert disk.refused < 200, "it is not tried without a pause"
    for _ in range(3):
        rig.pass_time(3600)
    assert len(rig.way.taken) == before, "without room nothing more is begun"
    disk.mend()
    rig.rest()
    for _ in range(3):
        rig.pass_time(DAY)
    assert len(rig.way.taken) == 1
    assert rig.get(told)["deliveryStatus"]["x@y.z"]["smtpReply"] == "250 2.1.5 Ok"
    assert not rig.service.busy
    assert list((rig.folder / "outbox").iterdir()) == []


@pytest.mark.parametrize("after", range(30))
def test_a_send_whose_disk_fails_at_any_step_is_done_once_when_it_is_well_again(rig: Rig, after: int) -> None:
    put_off(rig)
    disk = DeadDisk(rig, after)
    rig.pass_time(61)
    gevent.sleep(0.02)
    assert disk.refused < 200, "it is not tried without a pause"
    disk.mend()
    gevent.sleep(0.05)
    for _ in range(3):
        rig.pass_time(DAY)
    assert len(rig.way.taken) == 1
    assert not rig.service.busy


def test_a_full_disk_is_not_asked_again_and_again(rig: Rig) -> None:
    put_off(rig)
    disk = FullDisk(rig, 0)
    rig.pass_time(61)
    assert disk.refused == 1
    for _ in range(10):
        rig.pass_time(0)
    gevent.sleep(0.2)
    assert disk.refused == 1
    rig.pass_time(outbox.STORAGE_PAUSE + 1)
    assert disk.refused == 2
    disk.mend()


@pytest.mark.parametrize("after", COMMITS)
def test_an_immediate_send_whose_disk_is_full_is_sent_once_at_most(rig: Rig, after: int) -> None:
    identity = rig.identity
    disk = FullDisk(rig, after)
    record = {"identityId": identity, "emailId": "e1", "envelope": TO}
    try:
        with gevent.Timeout(60):
            answer = rig.call("EmailSubmission/set", create={"k": record})
            created = bool(answer["created"])
    except StorageError:
        created = False
    disk.mend()
    rig.rest()
    rig.reopen()
    for _ in range(6):
        rig.pass_time(DAY)
    assert len(rig.way.taken) <= 1
    assert not created or len(rig.way.taken) == 1
    if rig.way.taken:
        assert len(rig.call("EmailSubmission/get", ids=None)["list"]) == 1, "what left is there to be seen"
    assert not rig.service.busy


def test_a_message_that_cannot_be_queued_leaves_neither_a_file_nor_a_worker_that_stays(rig: Rig) -> None:
    identity = rig.identity
    FullDisk(rig, 0)
    with pytest.raises(StorageError):
        rig.call("EmailSubmission/set", create={"k": {"identityId": identity, "emailId": "e1", "envelope": TO}})
    assert list((rig.folder / "outbox").iterdir()) == []
    assert not wake.is_marked(rig.folder)


def test_a_queued_message_whose_row_was_lost_is_kept_to_be_looked_at(rig: Rig) -> None:
    put_off(rig)
    rig.close()
    path = rig.folder / "own.sqlite3"
    path.write_bytes(os.urandom(50_000))
    damage.mark(path)
    rig.open()
    rig.pass_time(61)
    assert rig.way.taken == []
    assert list((rig.folder / "outbox").iterdir()) == []
    (kept,) = (rig.folder / outbox.LOST).iterdir()
    assert b"Subject: Hello" in kept.read_bytes()


def test_what_cannot_be_removed_from_a_read_only_disk_keeps_nobody_from_reading(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A creation that was killed between the message and its row."""
    rig.close()
    left = rig.folder / "outbox" / "left"
    left.touch()

    def refused(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(Path, "unlink", refused)
        rig.open()
        assert rig.call("EmailSubmission/get", ids=None)["list"] == []
        with pytest.raises(StorageError):
            rig.service.sync()
    rig.service.sync()
    assert not left.exists()


def test_a_queue_saved_from_a_damaged_file_sends_nothing_that_was_due(rig: Rig) -> None:
    told = put_off(rig)
    rig.close()
    damage.mark(rig.folder / "own.sqlite3")
    rig.now += 61
    rig.open()
    rig.pass_time(DAY)
    assert rig.way.taken == []
    assert rig.get(told)["deliveryStatus"]["x@y.z"]["delivered"] == "unknown"


def test_an_empty_queue_is_not_looked_into_again_and_one_with_something_is(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock may be set while something waits."""
    monkeypatch.setattr(outbox, "LONGEST_WAIT", 0.01)
    looks = []
    due = outbox.sql.due
    monkeypatch.setattr(outbox.sql, "due", lambda *given: looks.append(1) or due(*given))
    rig.service.outbox.run()
    gevent.sleep(0.1)
    assert len(looks) == 1
    put_off(rig)
    with gevent.Timeout(60):
        while len(looks) < 5:
            gevent.sleep(0.01)
