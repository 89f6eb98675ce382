"""Email/changes (RFC 8620 §5.2, mail-rules 9, 10)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from email_rig import Rig
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jmapplug.capabilities.mail.email_changes import email_changes
from jmapplug.jmap.errors import MethodError

RAW = b"Subject: x\r\n\r\nText\r\n"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.close()


def state(rig: Rig) -> str:
    return rig.store.state("Email")


def changes(rig: Rig, since: str, **args: Any) -> dict[str, Any]:
    return rig.call(email_changes, sinceState=since, **args)


def test_created_updated_and_destroyed_are_told_once(rig: Rig) -> None:
    old, going = rig.add(RAW), rig.add(RAW)
    since = state(rig)
    new, brief = rig.add(RAW), rig.add(RAW)
    rig.touch(new, old)
    rig.remove(going)
    rig.remove(brief)
    assert changes(rig, since) == {
        "accountId": "acc",
        "oldState": since,
        "newState": state(rig),
        "hasMoreChanges": False,
        "created": [new],
        "updated": [old],
        "destroyed": [going],
    }


def test_nothing_changed_is_an_empty_answer(rig: Rig) -> None:
    rig.add(RAW)
    reply = changes(rig, state(rig))
    assert (reply["created"], reply["updated"], reply["destroyed"]) == ([], [], [])
    assert reply["newState"] == reply["oldState"] == state(rig)


@pytest.mark.parametrize("since", ["", "x", "other-1", "{epoch}-99", "{epoch}-1.", "{epoch}-1.a/b", "{epoch}-1.2.3"])
def test_a_state_that_was_never_handed_out_cannot_be_calculated(rig: Rig, since: str) -> None:
    rig.add(RAW)
    with pytest.raises(MethodError) as error:
        changes(rig, since.format(epoch=rig.store.epoch))
    assert error.value.type == "cannotCalculateChanges"


def test_one_commit_with_more_changes_than_asked_for_comes_in_pieces(rig: Rig) -> None:
    ids = {rig.add(RAW) for _ in range(7)}
    since = state(rig)
    rig.touch(*ids)
    seen: list[str] = []
    while True:
        reply = changes(rig, since, maxChanges=2)
        assert len(reply["updated"]) <= 2
        seen += reply["updated"]
        since = reply["newState"]
        if not reply["hasMoreChanges"]:
            break
    assert sorted(seen) == sorted(ids) and since == state(rig)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_applying_changes_page_by_page_gives_what_is_there(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    rig = Rig(tmp_path_factory.mktemp("changes"))
    known: dict[str, bool] = {}
    since = state(rig)

    def live() -> list[str]:
        return [id_ for (id_,) in rig.store.cache.rows("SELECT id FROM email WHERE deleted = 0 ORDER BY id")]

    for _ in range(data.draw(st.integers(1, 12))):
        kind = data.draw(st.sampled_from(["add", "touch", "remove", "pull"]))
        there = live()
        if kind == "add" or not there:
            rig.add(RAW)
        elif kind == "touch":
            rig.touch(*data.draw(st.lists(st.sampled_from(there), min_size=1, unique=True)))
        elif kind == "remove":
            rig.remove(data.draw(st.sampled_from(there)))
        else:
            since, _ = _pull(rig, since, known, data.draw(st.integers(1, 3)))
    more = True
    while more:
        since, more = _pull(rig, since, known, 2)
    assert sorted(known) == live() and since == state(rig)
    rig.close()


def _pull(rig: Rig, since: str, known: dict[str, bool], most: int) -> tuple[str, bool]:
    reply = changes(rig, since, maxChanges=most)
    assert len(reply["created"]) + len(reply["updated"]) + len(reply["destroyed"]) <= most
    for id_ in reply["created"]:
        assert id_ not in known, "created is told once"
        known[id_] = True
    assert all(id_ in known for id_ in reply["updated"]), "updated only what the client knows"
    for id_ in reply["destroyed"]:
        known.pop(id_, None)
    return reply["newState"], reply["hasMoreChanges"]
