"""Moving to another server (mail-rules 4, 17): ids stay where evidence links, and come back with the old server."""

from __future__ import annotations

import copy
import itertools
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sync_rig import Rig

from jmapplug.backends import Features
from jmapplug.capabilities.mail.store import writing
from jmapplug.errors import UpstreamError
from jmapplug.jmap.errors import MethodError
from jmapplug.testing.memory_source import MemoryServer, message

SCHEMES = {
    "emailid": Features(id_scheme="emailid", condstore=True, qresync=True, move=True, uidplus=True),
    "x-guid": Features(id_scheme="x-guid", condstore=True),
    "plain": Features(),
}


def server(scheme: str, identity: str, first: int = 1) -> MemoryServer:
    """Servers count their UIDVALIDITYs from the same number, and their ids from ``first``: so they collide."""
    made = MemoryServer(SCHEMES[scheme], guid_per_message=scheme != "plain")
    made.identity, made._guid = identity, itertools.count(first)
    made.create(b"Work")
    made.create(b"Trash", role="trash")
    return made


def migrate(old: MemoryServer, new: MemoryServer, *, skip: int = 0) -> None:
    """The messages in another order (and so with other UIDs), same date and flags."""
    for key, folder in old.folders.items():
        if key not in new.folders:
            new.create(key)
        for one in list(folder.messages.values())[: len(folder.messages) - skip][::-1]:
            new.deliver(key, one.raw, flags=one.flags, received_at=one.received_at)


def go(rig: Rig, to: MemoryServer) -> None:
    """PATCH: a new worker on other settings."""
    rig.server = to
    rig.reopen()


def ids(rig: Rig) -> dict[str, tuple[str, str]]:
    """Subject → (id, threadId)."""
    return {email["subject"]: (id_, email["threadId"]) for id_, email in rig.emails().items()}


@pytest.fixture(params=list(SCHEMES))
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def old(scheme: str) -> MemoryServer:
    return server(scheme, "bob@old", 50)


@pytest.fixture
def rig(tmp_path: Path, old: MemoryServer) -> Any:
    made = Rig(tmp_path, old)
    for number in range(6):
        made.deliver(f"in {number}", message_id=f"m{number}@x")
        made.deliver(f"Re: in {number}", b"Work", references=[f"m{number}@x"], flags=["\\Seen"])
    made.sync()
    yield made
    made.close()


def test_a_migrated_copy_keeps_every_id(rig: Rig, scheme: str, old: MemoryServer) -> None:
    before, boxes = ids(rig), {name: box["id"] for name, box in rig.boxes().items()}
    state = {kind: rig.call(f"{kind}/get", ids=[])["state"] for kind in ("Email", "Mailbox")}
    new = server(scheme, "bob@new", 900)
    migrate(old, new)
    new.deliver(b"INBOX", message("fresh"))
    go(rig, new)
    rig.sync()
    rig.check()
    asked = [name for name, _ in rig.source.calls]
    # Three folders, two of them with messages, and one look whether it is the old server; no body is fetched.
    looks = 0 if scheme == "plain" else 1
    assert (asked.count("changes"), asked.count("details"), asked.count("raw")) == (3, 2 + looks, 0)
    after = ids(rig)
    fresh = after.pop("fresh")
    assert after == before and {name: box["id"] for name, box in rig.boxes().items()} == boxes
    changes = rig.call("Email/changes", sinceState=state["Email"])
    assert (changes["created"], changes["updated"], changes["destroyed"]) == ([fresh[0]], [], [])
    changes = rig.call("Mailbox/changes", sinceState=state["Mailbox"])
    assert (changes["created"], changes["destroyed"]) == ([], [])


def test_what_is_not_there_any_more_is_destroyed_and_nothing_else(rig: Rig, scheme: str, old: MemoryServer) -> None:
    before = ids(rig)
    new = server(scheme, "bob@new", 900)
    migrate(old, new, skip=2)
    go(rig, new)
    rig.sync()
    rig.check()
    assert set(before) - set(ids(rig)) == {"in 4", "in 5", "Re: in 4", "Re: in 5"} and ids(rig).items() < before.items()


def test_ids_of_another_server_are_not_believed(rig: Rig, scheme: str) -> None:
    """Equal UIDVALIDITY, UIDs, EMAILIDs and MAILBOXIDs: other messages all the same."""
    before = ids(rig)
    new = server(scheme, "bob@new", 50)
    for number in range(6):
        new.deliver(b"INBOX", message(f"other {number}"))
        new.deliver(b"Work", message(f"else {number}"))
    go(rig, new)
    rig.sync()
    rig.check()
    assert not {id_ for id_, _ in ids(rig).values()} & {id_ for id_, _ in before.values()}
    assert len(ids(rig)) == 12


def test_two_messages_with_one_message_id_stay_two(rig: Rig, scheme: str, old: MemoryServer) -> None:
    for body in ("one\r\n", "two\r\n"):
        rig.server.deliver(b"INBOX", message("twin", message_id="twin@x", body=body), received_at=1_700_500_000)
    rig.sync()
    new = server(scheme, "bob@new", 900)
    migrate(old, new)
    new.deliver(b"INBOX", message("in 0", message_id="m0@x", body="not the same\r\n"))
    go(rig, new)
    rig.sync()
    rig.check()  # different messages never share an Email


def test_while_the_new_server_is_away_the_old_view_stays(rig: Rig, scheme: str, old: MemoryServer) -> None:
    before, states = rig.emails(), rig.store.modseq
    new = server(scheme, "bob@new", 900)
    go(rig, new)

    def away(name: str) -> None:
        raise UpstreamError("connection refused")

    rig.source.fault = away
    with pytest.raises(UpstreamError):
        rig.sync()
    assert (rig.emails(), rig.store.modseq) == (before, states)
    go(rig, old)
    rig.sync()
    assert (rig.emails(), rig.store.modseq) == (before, states)
    assert "details" not in {name for name, _ in rig.source.calls}, "nothing was read anew"


def test_nothing_is_read_or_written_under_the_uids_of_the_old_server(rig: Rig, scheme: str, old: MemoryServer) -> None:
    new = server(scheme, "bob@new", 900)
    for number in range(6):
        new.deliver(b"INBOX", message(f"other {number}"))
    blob = "m-" + rig.email("in 0")
    go(rig, new)
    with pytest.raises(MethodError) as caught:
        rig.blob(blob)
    assert caught.value.type == "serverUnavailable"
    refused = rig.update(rig.email("in 0"), keywords__flagged=True)
    assert refused is not None and refused["type"] == "serverFail"
    assert rig.destroy(rig.email("in 1"))[rig.email("in 1")]["type"] == "serverFail"
    with pytest.raises(MethodError) as caught:
        rig.blob(blob)
    assert caught.value.type == "serverUnavailable"
    assert len(new.folders[b"INBOX"].messages) == 6
    assert not any(one.flags for one in new.folders[b"INBOX"].messages.values())


def test_a_wrong_empty_host_and_back_gives_the_old_ids_again(rig: Rig, scheme: str, old: MemoryServer) -> None:
    before, boxes = ids(rig), {name: box["id"] for name, box in rig.boxes().items()}
    state = {kind: rig.call(f"{kind}/get", ids=[])["state"] for kind in ("Email", "Mailbox")}
    wrong = MemoryServer(SCHEMES[scheme], guid_per_message=scheme != "plain")
    wrong.identity = "bob@wrong"
    go(rig, wrong)
    rig.sync()
    rig.check()
    assert not rig.emails() and set(rig.boxes()) == {"Inbox"}
    wrong.create(b"Work")
    wrong.deliver(b"Work", message("stranger"))
    rig.sync()
    go(rig, old)
    rig.sync()
    rig.check()
    assert ids(rig) == before and {name: box["id"] for name, box in rig.boxes().items()} == boxes
    assert rig.box("Trash")["role"] == "trash"
    assert set(rig.call("Mailbox/changes", sinceState=state["Mailbox"])["destroyed"]) <= set()
    # What is known since before all this and goes now is told, although it had gone once already.
    rig.server.delete(b"Work")
    rig.sync()
    assert boxes["Work"] in rig.call("Mailbox/changes", sinceState=state["Mailbox"])["destroyed"]
    gone = {id_ for subject, (id_, _) in before.items() if subject.startswith("Re:")}
    assert gone <= set(rig.call("Email/changes", sinceState=state["Email"])["destroyed"])


def test_back_and_forth_between_two_servers_with_a_lost_cache(rig: Rig, scheme: str, old: MemoryServer) -> None:
    before = ids(rig)
    new = server(scheme, "bob@new", 900)
    migrate(old, new)
    new.deliver(b"INBOX", message("only here"))
    for at, to in enumerate((new, old, new, old)):
        go(rig, to)
        if at == 2:
            rig.reopen(lose_cache=True)
        rig.sync()
        rig.check()
        assert before.items() <= ids(rig).items()
        assert ("only here" in ids(rig)) == (to is new)


def test_a_move_that_is_killed_anywhere_ends_with_the_same_ids(tmp_path: Path, scheme: str, old: MemoryServer) -> None:
    new = server(scheme, "bob@new", 900)
    for number in range(5):
        old.deliver(b"INBOX", message(f"in {number}", message_id=f"m{number}@x"))
        old.deliver(b"Work", message(f"work {number}", message_id=f"w{number}@x"))
    migrate(old, new)
    for at in itertools.count(1):
        rig = Rig(tmp_path / str(at), old)
        rig.sync()
        before = ids(rig)
        go(rig, new)
        rig.source.fail_at = at
        try:
            rig.sync()
            done = True
        except UpstreamError:
            done = False
        assert set(ids(rig)) == set(before), "nothing leaves before all is read"
        rig.reopen()
        rig.sync()
        rig.check()
        assert ids(rig) == before
        rig.close()
        if done:
            break
    assert at > 4


@pytest.mark.parametrize("scheme", ["emailid", "x-guid"], indirect=True)
def test_the_same_server_under_another_name_is_not_read_anew(rig: Rig, old: MemoryServer) -> None:
    before, states = rig.emails(), rig.store.modseq
    old.identity = "bob@mail.old"
    rig.reopen()
    rig.sync()
    assert (rig.emails(), rig.store.modseq) == (before, states)
    # One listing, and the newest of the two folders that have messages.
    assert [name for name, _ in rig.source.calls] == ["folders", "details", "details"]
    uid = old.deliver(b"INBOX", message("next"))
    rig.sync()
    assert rig.id_at(b"INBOX", uid) == rig.email("next")


@pytest.mark.parametrize("scheme", ["emailid", "x-guid"], indirect=True)
def test_a_copy_that_went_its_own_way_is_not_the_same_server(rig: Rig, old: MemoryServer) -> None:
    """A clone with the same ids, to which other mail came since."""
    before, late = ids(rig), rig.deliver("late")
    rig.sync()
    old.identity = "bob@clone"
    del old.folders[b"INBOX"].messages[late]
    old.folders[b"INBOX"].uidnext = late
    assert old.deliver(b"INBOX", message("something else")) == late
    rig.reopen()
    rig.sync()
    rig.check()
    assert before.items() <= ids(rig).items() and set(ids(rig)) == {*before, "something else"}


@pytest.mark.parametrize("scheme", ["emailid", "x-guid"], indirect=True)
def test_a_clone_that_was_taken_for_the_server_and_went_its_own_way(rig: Rig, old: MemoryServer) -> None:
    before, clone = ids(rig), copy.deepcopy(old)
    clone.identity = "bob@clone"
    go(rig, clone)
    clone.deliver(b"INBOX", message("only there"))
    rig.sync()
    assert before.items() < ids(rig).items()
    go(rig, old)
    rig.sync()
    assert ids(rig) == before
    uid = old.deliver(b"INBOX", message("only here"))
    assert uid in clone.folders[b"INBOX"].messages
    rig.sync()
    rig.check()
    here = ids(rig)["only here"]
    go(rig, clone)
    rig.sync()
    rig.check()
    assert here != ids(rig)["only there"] and before.items() < ids(rig).items()


def test_an_email_in_two_folders_stays_one(rig: Rig, scheme: str, old: MemoryServer) -> None:
    uid = rig.deliver("both")
    rig.server.copy(b"INBOX", uid, b"Work")
    rig.sync()
    before, both = ids(rig), rig.email("both")
    assert len(rig.emails()[both]["mailboxIds"]) == 2
    new = server(scheme, "bob@new", 900)
    migrate(old, new)
    go(rig, new)
    rig.sync()
    rig.check()
    assert ids(rig) == before and len(rig.emails()[both]["mailboxIds"]) == 2


def test_a_folder_with_another_name_there_keeps_its_emails_ids(rig: Rig, scheme: str, old: MemoryServer) -> None:
    before = ids(rig)
    new = server(scheme, "bob@new", 900)
    migrate(old, new)
    new.rename(b"Work", b"Arbeit")
    go(rig, new)
    rig.sync()
    rig.check()
    assert ids(rig) == before and "Work" not in rig.boxes()


def test_what_was_begun_at_the_old_server_is_not_finished_at_the_new_one(
    rig: Rig, scheme: str, old: MemoryServer
) -> None:
    """A journalled move names UIDs: there they are other messages, or, as here, nobody asked for it there."""
    rig.server.copy(b"INBOX", 1, b"Work")
    rig.sync()
    mids = {key: mid for mid, key in rig.store.cache.rows("SELECT mid, key FROM mailbox")}
    eid = rig.store.cache.value("SELECT eid FROM message WHERE mid = ? AND uid = 1", (mids[b"INBOX"],))
    writing.begin_transfer(rig.store, mids[b"INBOX"], mids[b"Work"], {1: eid}, True)
    new = server(scheme, "bob@new", 900)
    for key in (b"INBOX", b"Work"):
        for one in old.folders[key].messages.values():
            new.deliver(key, one.raw, flags=one.flags, received_at=one.received_at)
    go(rig, new)
    rig.sync()
    assert len(new.folders[b"INBOX"].messages) == 6 and not writing.transfers(rig.store)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("deliver"), st.integers(0, 1), st.integers(0, 5), st.integers(0, 2)),
        st.tuples(st.just("expunge"), st.integers(0, 1), st.integers(0, 9), st.integers(0, 2)),
        st.tuples(st.just("copy"), st.integers(0, 1), st.integers(0, 9), st.integers(0, 2)),
        st.tuples(st.just("sync"), st.integers(0, 1), st.just(0), st.just(0)),
    ),
    max_size=10,
)
# Two bodies of one length under each Message-ID, and two times of arrival: all that could be confused.
RAWS = [message(f"s{n % 3}", message_id=f"m{n % 3}@x", body=f"body {n // 3}\r\n") for n in range(6)]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS, st.sampled_from(list(SCHEMES)))
def test_any_history_between_two_servers_shows_the_truth(steps: list[tuple[str, int, int, int]], kind: str) -> None:
    """After each pass the store is what that server shows, and no two different messages ever shared an id."""
    servers = [server(kind, "bob@one", 50), server(kind, "bob@two", 50)]
    meant: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig(Path(folder), servers[0])
        for name, which, a, b in [*steps, ("sync", 0, 0, 0), ("sync", 1, 0, 0), ("sync", 0, 0, 0)]:
            there, key = servers[which], (b"INBOX", b"Work", b"Trash")[b]
            uids = sorted(there.folders[key].messages)
            if name == "deliver":
                there.deliver(key, RAWS[a], received_at=1_700_000_000 + a % 2)
            elif name == "expunge" and uids:
                there.expunge(key, uids[a % len(uids)])
            elif name == "copy" and uids:
                there.copy(key, uids[a % len(uids)], b"Work")
            elif name == "sync":
                go(rig, there)
                rig.sync()
                rig.check()
                for place, one in there.folders.items():
                    for uid, stored in one.messages.items():
                        assert meant.setdefault(rig.id_at(place, uid), stored.raw) == stored.raw
        rig.close()
