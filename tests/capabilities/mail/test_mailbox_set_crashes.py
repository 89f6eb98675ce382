"""Mailbox/set when the worker dies or an answer is lost, at every step (mail-rules 6, 27, 28)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sync_rig import Rig

from jmapplug.errors import UpstreamError
from jmapplug.testing.memory_server import MemoryServer

WRITES = ("create_folder", "rename_folder", "delete_folder", "subscribe_folder")


class Killed(BaseException):
    """The process ends here: nothing catches it."""


def begin(folder: Path, ids: bool = True) -> Rig:
    rig = Rig(folder, MemoryServer(guid_per_message=ids))
    for key in (b"A", b"A/x", b"A/x/y", b"B", b"B/z"):
        rig.server.create(key)
    for key in (b"A/x", b"B"):
        rig.deliver(f"in {key.decode()}", key)
    rig.sync()
    return rig


def ids(rig: Rig) -> dict[str, str]:
    return {name: box["id"] for name, box in rig.boxes().items()}


def stories(rig: Rig) -> dict[str, dict[str, Any]]:
    """Calls of Mailbox/set."""
    known = ids(rig)
    return {
        "create": {"create": {"n": {"name": "N", "role": "archive"}, "m": {"name": "M", "parentId": "#n"}}},
        "unsubscribed": {"create": {"n": {"name": "N", "isSubscribed": False}}},
        "rename": {"update": {known["A"]: {"name": "C"}}},
        "move": {"update": {known["A"]: {"name": "C", "parentId": known["z"], "isSubscribed": False}}},
        "swap": {"update": {known["A"]: {"name": "B"}, known["B"]: {"name": "A"}}},
        "destroy": {"destroy": [known["B"], known["z"]], "onDestroyRemoveEmails": True},
    }


STORIES = ("create", "unsubscribed", "rename", "move", "swap", "destroy")


def dying(at: int, before: bool) -> Callable[[str], None]:
    """Dies at the ``at``-th write: before it is sent, or after it was done."""
    left = iter(range(at, -1, -1))

    def hook(name: str) -> None:
        if name in WRITES and next(left, -1) == 0:
            raise Killed

    return hook


def told(rig: Rig, since: str) -> set[str]:
    """The ids that a client has who follows /changes from ``since``, with all that were known then."""
    reply = rig.call("Mailbox/changes", sinceState=since)
    return set(reply["created"]) | set(reply["updated"]), set(reply["destroyed"])  # type: ignore[return-value]


def steps(folder: Path, story: str, with_ids: bool) -> int:
    """How many writes the whole story takes."""
    rig = begin(folder, with_ids)
    rig.call("Mailbox/set", **stories(rig)[story])
    rig.close()
    return sum(name in WRITES for name, _ in rig.source.calls)


def agree(rig: Rig) -> None:
    rig.sync()
    rig.check()
    state = rig.store.state("Mailbox")
    rig.sync()
    assert rig.store.state("Mailbox") == state
    assert rig.store.own.rows("SELECT kind FROM mail_folder_intent WHERE kind <> 'made'") == []
    assert not [name for name in rig.boxes() if name.startswith("moving-")]


@pytest.mark.parametrize("with_ids", [True, False], ids=["mailboxid", "no-ids"])
@pytest.mark.parametrize("before", [True, False], ids=["not-sent", "answer-lost"])
@pytest.mark.parametrize("story", STORIES)
def test_a_worker_that_dies_at_any_write_leaves_every_id(
    tmp_path: Path, story: str, before: bool, with_ids: bool
) -> None:
    """Ids survive, nothing is lost that was not to be destroyed, and the view is the server's."""
    total = steps(tmp_path / "whole", story, with_ids)
    assert total >= 1
    for at in range(total):
        rig = begin(tmp_path / f"{at}", with_ids)
        known, emails, state = ids(rig), rig.emails(), rig.store.state("Mailbox")
        call = stories(rig)[story]
        setattr(rig.source, "before" if before else "after", dying(at, before))
        with pytest.raises(Killed):
            rig.call("Mailbox/set", **call)
        rig.reopen()
        agree(rig)
        now = {box["id"] for box in rig.boxes().values()}
        gone = set(known.values()) - now
        assert gone <= set(call.get("destroy", ()))
        if not call.get("destroy"):
            assert {id_: email["mailboxIds"] for id_, email in rig.emails().items()} == {
                id_: email["mailboxIds"] for id_, email in emails.items()
            }
        reply = rig.call("Mailbox/changes", sinceState=state)
        assert (set(known.values()) | set(reply["created"])) - set(reply["destroyed"]) == now
        rig.close()


@pytest.mark.parametrize("story", STORIES)
def test_an_answer_that_is_lost_at_any_write_leads_to_what_the_server_has(tmp_path: Path, story: str) -> None:
    """The call answers with an error for that record, and its own look shows what really happened."""
    for at in range(steps(tmp_path / "whole", story, True)):
        rig = begin(tmp_path / f"{at}")
        known = ids(rig)
        left = iter(range(at, -1, -1))

        def lost(name: str, left: Iterator[int] = left) -> None:
            if name in WRITES and next(left, -1) == 0:
                raise UpstreamError("the connection broke", code="unsure")

        rig.source.after = lost
        reply = rig.call("Mailbox/set", **stories(rig)[story])
        rig.source.after = None
        errors = [
            error for group in ("notCreated", "notUpdated", "notDestroyed") for error in (reply[group] or {}).values()
        ]
        # What takes a subscription back or off is no reason to fail a record.
        assert errors or story == "unsubscribed"
        agree(rig)
        now = {box["id"] for box in rig.boxes().values()}
        assert set(known.values()) - now <= set(stories_destroy(rig, story, known))
        rig.close()


def stories_destroy(rig: Rig, story: str, known: dict[str, str]) -> list[str]:
    return [known["B"], known["z"]] if story == "destroy" else []


def test_a_role_asked_for_at_creation_survives_the_crash(tmp_path: Path) -> None:
    """The folder is there with a name that suggests nothing."""
    rig = begin(tmp_path)
    rig.source.after = dying(0, False)
    with pytest.raises(Killed):
        rig.call("Mailbox/set", create={"n": {"name": "Odds and ends", "role": "archive"}})
    rig.reopen()
    agree(rig)
    assert rig.box("Odds and ends")["role"] == "archive"
    rig.close()


@pytest.mark.parametrize("lose_cache", [False, True])
def test_half_a_swap_is_taken_back(tmp_path: Path, lose_cache: bool) -> None:
    """A worker died while one of the two had its passing name."""
    rig = begin(tmp_path, ids=False)
    known = ids(rig)
    rig.source.after = dying(0, False)
    with pytest.raises(Killed):
        rig.call("Mailbox/set", **stories(rig)["swap"])
    assert [key for key in rig.server.folders if key.startswith(b"moving-")]
    rig.reopen(lose_cache=lose_cache)
    agree(rig)
    assert ids(rig) == known
    assert b"A/x/y" in rig.server.folders and b"B/z" in rig.server.folders
    rig.close()


def test_emails_of_a_destroyed_mailbox_go_with_the_next_pass_when_the_worker_dies_between(tmp_path: Path) -> None:
    rig = begin(tmp_path)
    for at in range(30):
        rig.deliver(f"n{at}", b"A/x/y")
    rig.sync()
    box = rig.box("y")["id"]
    rig.source.after = dying(0, False)
    with pytest.raises(Killed):
        rig.call("Mailbox/set", destroy=[box], onDestroyRemoveEmails=True)
    rig.reopen()
    agree(rig)
    assert {email["subject"] for email in rig.emails().values()} == {"in A/x", "in B"}
    rig.close()
