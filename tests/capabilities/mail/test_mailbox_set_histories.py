"""Random histories of Mailbox/set, passes, other clients and lost answers: one law for all (mail-rules 6, 12)."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from sync_rig import Rig

from jmapplug.errors import UpstreamError
from jmapplug.testing.memory_server import MemoryServer

NAMES = ("A", "B", "C", "D")
ROLES = ("archive", "trash", None)

place = st.sampled_from(("top", 0, 1, 2, 3, "#x", "#y"))
created = st.fixed_dictionaries(
    {"name": st.sampled_from(NAMES), "parent": place},
    optional={"role": st.sampled_from(ROLES), "isSubscribed": st.booleans(), "sortOrder": st.integers(0, 9)},
)
patched = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(NAMES),
        "parent": place,
        "role": st.sampled_from(ROLES),
        "isSubscribed": st.booleans(),
        "sortOrder": st.integers(0, 9),
    },
)
call = st.fixed_dictionaries(
    {
        "create": st.dictionaries(st.sampled_from(("x", "y")), created, max_size=2),
        "update": st.dictionaries(st.integers(0, 4), patched, max_size=4),
        "destroy": st.lists(st.integers(0, 4), max_size=2),
        "emails": st.booleans(),
    }
)
step = st.one_of(
    st.tuples(st.just("set"), call),
    st.tuples(st.just("set"), call),
    st.tuples(st.just("sync"), st.none()),
    st.tuples(st.just("reopen"), st.booleans()),
    st.tuples(st.just("deliver"), st.integers(0, 4)),
    st.tuples(st.just("other creates"), st.sampled_from(NAMES)),
    st.tuples(st.just("other renames"), st.tuples(st.integers(1, 4), st.sampled_from(NAMES))),
    st.tuples(st.just("fault"), st.tuples(st.integers(1, 6), st.sampled_from(("before", "after")))),
)


def arguments(rig: Rig, given_: dict[str, Any]) -> dict[str, Any]:
    """Numbers are places in the list of ids."""
    ids = sorted(box["id"] for box in rig.call("Mailbox/get", ids=None)["list"])

    def record(wanted: dict[str, Any]) -> dict[str, Any]:
        made = {name: value for name, value in wanted.items() if name != "parent"}
        if "parent" in wanted:
            at = wanted["parent"]
            made["parentId"] = None if at == "top" else at if isinstance(at, str) else ids[at % len(ids)]
        return made

    return {
        "create": {key: record(value) for key, value in given_["create"].items()},
        "update": {ids[at % len(ids)]: record(value) for at, value in given_["update"].items()},
        "destroy": [ids[at % len(ids)] for at in given_["destroy"]],
        "onDestroyRemoveEmails": given_["emails"],
    }


class History:
    """A rig, and what a client knows who follows /changes."""

    def __init__(self, folder: Path, ids: bool) -> None:
        self.rig = Rig(folder, MemoryServer(guid_per_message=ids))
        self.rig.server.create(b"A")
        self.rig.server.create(b"A/B")
        self.rig.deliver("first", b"A/B")
        self.rig.sync()
        self.look()

    def look(self) -> None:
        reply = self.rig.call("Mailbox/get", ids=None)
        self.known: dict[str, dict[str, Any]] = {box["id"]: box for box in reply["list"]}
        self.state: str = reply["state"]

    def follow(self) -> None:
        """/changes since the last look leads to what /get answers."""
        told = self.rig.call("Mailbox/changes", sinceState=self.state)
        before = self.known
        self.look()
        assert not set(told["created"]) & set(before)
        assert (set(before) | set(told["created"])) - set(told["destroyed"]) == set(self.known)
        changed = {id_ for id_ in set(before) & set(self.known) if before[id_] != self.known[id_]}
        assert changed <= set(told["updated"])

    def guids(self) -> dict[str, str]:
        """Upstream's own id of each folder → the id that we gave it."""
        found = {}
        for id_, key in self.rig.store.cache.rows("SELECT id, key FROM mailbox WHERE deleted = 0"):
            if key in self.rig.server.folders:
                found[self.rig.server.folders[key].guid] = id_
        return found

    def agree(self) -> None:
        self.rig.source.fault = self.rig.source.after = None
        self.rig.sync()
        self.rig.check()
        self.follow()
        state = self.rig.store.state("Mailbox")
        self.rig.sync()
        assert self.rig.store.state("Mailbox") == state
        places = [(box["parentId"], box["name"]) for box in self.known.values()]
        assert len(places) == len(set(places))
        roles = [box["role"] for box in self.known.values() if box["role"]]
        assert len(roles) == len(set(roles))

    def run(self, kind: str, value: Any) -> None:
        rig = self.rig
        folders = sorted(rig.server.folders)
        if kind == "set":
            before = dict(self.known)
            asked = arguments(rig, value)
            reply = rig.call("Mailbox/set", **asked)
            self.follow()
            self.check_answer(asked, reply, before)
            rig.source.fault = rig.source.after = None
        elif kind == "sync":
            self.agree()
        elif kind == "reopen":
            rig.reopen(lose_cache=value)
            if value:
                rig.sync()
                self.look()
        elif kind == "deliver":
            rig.deliver("more", folders[value % len(folders)])
        elif kind == "other creates" and value.encode() not in rig.server.folders:
            rig.server.create(value.encode())
            self.agree()
        elif kind == "other renames":
            at, name = value
            old, new = folders[at % len(folders)], name.encode() + b"2"
            if old != b"INBOX" and new not in rig.server.folders and rig.server.mailbox_ids:
                rig.server.rename(old, new)
                self.agree()
        elif kind == "fault":
            count, when = value
            setattr(rig.source, "fault" if when == "before" else "after", broken(count, when))

    def check_answer(self, asked: Any, reply: Any, before: Any) -> None:
        """Every record is answered once; what was updated has what was asked for; what failed for good is unchanged."""
        updated, failed = set(reply["updated"] or ()), set(reply["notUpdated"] or ())
        assert updated | failed == set(asked["update"]) and not updated & failed
        assert set(reply["created"] or ()) | set(reply["notCreated"] or ()) == set(asked["create"])
        gone = set(reply["destroyed"] or ())
        assert gone | set(reply["notDestroyed"] or ()) == set(asked["destroy"])
        assert not gone & set(self.known)
        for id_ in updated & set(self.known):
            for name, value in asked["update"][id_].items():
                wanted = (reply["updated"][id_] or {}).get(name, value)
                wanted = self.rig.created_ids.get(wanted[1:]) if str(wanted).startswith("#") else wanted
                assert self.known[id_][name] == wanted, (name, asked, reply)
        for id_, error in (reply["notUpdated"] or {}).items():
            if error["type"] in ("invalidProperties", "forbidden") and id_ in self.known and id_ in before:
                for name in ("name", "isSubscribed", "sortOrder"):
                    assert self.known[id_][name] == before[id_][name]


def broken(count: int, when: str) -> Any:
    """The ``count``-th folder write fails: not sent, or its answer lost."""
    left = iter(range(count - 1, -1, -1))

    def hook(name: str) -> None:
        if name.endswith("_folder") and next(left, -1) == 0:
            raise UpstreamError("broken", code="unsure" if when == "after" else "noperm", temporary=when == "after")

    return hook


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(step, max_size=12), with_ids=st.booleans())
def test_any_history_keeps_ids_and_agrees_with_the_server(steps: list[tuple[str, Any]], with_ids: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        history = History(Path(folder), with_ids)
        history.agree()
        ids = history.guids()
        try:
            for kind, value in steps:
                history.run(kind, value)
                now = history.guids()
                assert {guid: id_ for guid, id_ in now.items() if guid in ids} == {
                    guid: id_ for guid, id_ in ids.items() if guid in now
                }, "a folder that stayed has another id"
                ids |= now
            history.agree()
        finally:
            history.rig.close()
