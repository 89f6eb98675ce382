"""The mail rules that the sync has to keep, each by its number (mail-rules)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import gevent
import greenlet
import msgspec
import pytest
from sync_rig import Rig

from jmapplug.backends import Features, Rights
from jmapplug.capabilities.mail.apply import resettle, settling_folders
from jmapplug.capabilities.mail.store import emails, search
from jmapplug.capabilities.mail.store import mailboxes as boxes_sql
from jmapplug.capabilities.mail.store import sync as sync_sql
from jmapplug.errors import UpstreamError
from jmapplug.testing.memory_source import MemoryServer, switch

PLAIN = Features()
X_GUID = Features(id_scheme="x-guid", condstore=True)


@pytest.fixture
def rig(tmp_path: Path):
    made = Rig(tmp_path)
    for role in ("archive", "trash", "sent"):
        made.server.create(role.capitalize().encode(), role=role)
    yield made
    made.close()


@pytest.fixture
def plain(tmp_path: Path):
    made = Rig(tmp_path, MemoryServer(PLAIN, guid_per_message=False))
    made.server.create(b"Archive")
    yield made
    made.close()


# --- ids ---------------------------------------------------------------------------------------------------------


def test_every_id_is_a_letter_and_26_base32_characters(rig: Rig) -> None:
    """Rule 1."""
    rig.deliver("one", guid="a.b,c=")
    rig.sync()
    (email,) = rig.emails().items()
    for id_ in (email[0], email[1]["threadId"], *email[1]["mailboxIds"]):
        assert re.fullmatch(r"[eta][a-z2-7]{26}", id_)


def test_two_messages_with_one_message_id_are_two_emails(rig: Rig, tmp_path: Path) -> None:
    """Rule 2: a sender chooses the Message-ID; without server ids the bodies are compared."""
    for kind in (None, PLAIN):
        rig = Rig(tmp_path / str(kind is None), MemoryServer(kind))
        rig.deliver("invoice", message_id="forged@x", body="pay Ann")
        rig.deliver("invoice", message_id="forged@x", body="pay Eve")
        rig.sync()
        rig.check()
        assert len(rig.emails()) == 2
        rig.close()


def test_a_copy_is_the_same_email_in_two_mailboxes(rig: Rig, tmp_path: Path) -> None:
    """Rules 2, 3: by the server's id, or by equal headers and body."""
    for number, kind in enumerate((None, X_GUID, PLAIN)):
        rig = Rig(tmp_path / str(number), MemoryServer(kind))
        rig.server.create(b"Archive")
        uid = rig.deliver("one", message_id="m@x")
        rig.sync()
        rig.server.copy(b"INBOX", uid, b"Archive")
        rig.sync()
        rig.check()
        ((_, email),) = rig.emails().items()
        assert len(email["mailboxIds"]) == 2
        rig.close()


def test_a_copy_into_the_same_folder_is_the_same_email_and_counts_once(rig: Rig) -> None:
    """Rule 3."""
    uid = rig.deliver("one")
    rig.sync()
    twin = rig.server.copy(b"INBOX", uid, b"INBOX")
    rig.sync()
    assert rig.counts("Inbox") == (1, 1, 1, 1)
    rig.server.expunge(b"INBOX", uid)
    rig.sync()
    assert rig.counts("Inbox") == (1, 1, 1, 1)
    rig.server.expunge(b"INBOX", twin)
    rig.sync()
    assert rig.counts("Inbox") == (0, 0, 0, 0)


def test_two_messages_that_share_an_x_guid_by_their_headers_are_two_emails(tmp_path: Path) -> None:
    """Rule 3: evidence, not proof."""
    rig = Rig(tmp_path, MemoryServer(X_GUID))
    rig.deliver("one", guid="same", body="short")
    rig.deliver("one", guid="same", body="somewhat longer")
    rig.sync()
    assert len(rig.emails()) == 2
    rig.close()


@pytest.mark.parametrize("before", [Features(), X_GUID, Features(id_scheme="emailid", condstore=True)])
@pytest.mark.parametrize("after", ["", "x-guid", "emailid"])
def test_an_id_scheme_that_comes_or_goes_changes_no_id(before: Features, after: str, tmp_path: Path) -> None:
    """Rule 4: bindings hold; after a UIDVALIDITY change evidence links again."""
    rig = Rig(tmp_path, MemoryServer(before))
    for at in range(5):
        rig.deliver(f"topic {at}", message_id=f"m{at}@x")
    rig.sync()
    ids = set(rig.emails())
    switch(rig.server, id_scheme=after)
    rig.reopen(lose_cache=True)
    rig.sync()
    assert set(rig.emails()) == ids
    rig.server.reset_uids(b"INBOX")
    rig.sync()
    rig.check()
    assert set(rig.emails()) == ids
    rig.close()


def test_a_lost_cache_comes_back_with_the_same_ids_and_threads(rig: Rig) -> None:
    """Rule 39."""
    rig.deliver("topic", message_id="a@x")
    rig.deliver("Re: topic", message_id="b@x", references=["a@x"])
    rig.deliver("other", b"Archive")
    rig.sync()
    emails, boxes = rig.emails(), rig.boxes()
    rig.reopen(lose_cache=True)
    rig.sync()
    rig.check()
    assert (rig.emails(), rig.boxes()) == (emails, boxes)


def test_a_renamed_folder_keeps_its_id(rig: Rig, tmp_path: Path) -> None:
    """Rule 6: by the server's id, by OLDNAME, or by UIDVALIDITY and three equal messages."""
    for with_ids in (True, False):
        rig = Rig(tmp_path / str(with_ids), MemoryServer(guid_per_message=with_ids))
        rig.server.create(b"Work")
        for at in range(4):
            rig.deliver(f"topic {at}", b"Work", message_id=f"m{at}@x")
        rig.sync()
        before, emails = rig.box("Work"), rig.emails()
        rig.server.rename(b"Work", b"Job")
        rig.sync()
        rig.check()
        assert rig.box("Job") == {**before, "name": "Job"}
        assert rig.emails() == emails
        rig.close()


def test_another_folder_with_an_equal_uidvalidity_is_no_rename(tmp_path: Path) -> None:
    """Rule 6: the samples are other messages."""
    rig = Rig(tmp_path, MemoryServer(guid_per_message=False))
    work = rig.server.create(b"Work")
    for at in range(4):
        rig.deliver(f"topic {at}", b"Work", message_id=f"m{at}@x")
    rig.sync()
    before = rig.box("Work")["id"]
    rig.server.delete(b"Work")
    rig.server.create(b"Job").uidvalidity = work.uidvalidity
    for at in range(4):
        rig.deliver(f"other {at}", b"Job", message_id=f"o{at}@x")
    rig.sync()
    rig.check()
    assert rig.box("Job")["id"] != before
    rig.close()


def test_a_folder_made_anew_under_its_name_is_another_one_if_the_server_says_so(rig: Rig, tmp_path: Path) -> None:
    """Rule 6."""
    for with_ids in (True, False):
        rig = Rig(tmp_path / str(with_ids), MemoryServer(guid_per_message=with_ids))
        rig.server.create(b"Work")
        rig.deliver("one", b"Work")
        rig.sync()
        before = rig.box("Work")["id"]
        rig.server.delete(b"Work")
        rig.server.create(b"Work")
        rig.sync()
        rig.check()
        assert (rig.box("Work")["id"] == before) == (not with_ids)
        rig.close()


def test_two_folders_that_swap_their_names_keep_their_ids(rig: Rig) -> None:
    """Rule 6."""
    rig.server.create(b"A")
    rig.server.create(b"B")
    rig.sync()
    a, b = rig.box("A")["id"], rig.box("B")["id"]
    for old, new in ((b"A", b"C"), (b"B", b"A"), (b"C", b"B")):
        rig.server.rename(old, new)
    rig.sync()
    assert (rig.box("A")["id"], rig.box("B")["id"]) == (b, a)


def test_received_at_and_size_stay_as_first_seen(rig: Rig) -> None:
    """Rule 7: a copy with another date changes nothing."""
    uid = rig.deliver("one", guid="g", received_at=1000)
    rig.sync()
    rig.server.copy(b"INBOX", uid, b"Archive")
    rig.server.folders[b"Archive"].messages[1].received_at = 5000
    rig.server.expunge(b"INBOX", uid)
    rig.sync()
    assert rig.emails()[rig.email("one")]["receivedAt"] == 1000


# --- threads -----------------------------------------------------------------------------------------------------


def test_threads_never_merge(rig: Rig) -> None:
    """Rule 8: threadId is immutable, a late link joins one of the two."""
    rig.deliver("topic", message_id="a@x")
    rig.deliver("topic", message_id="b@x")
    rig.sync()
    before = rig.emails()
    rig.deliver("Re: topic", message_id="c@x", references=["a@x", "b@x"])
    rig.sync()
    after = rig.emails()
    assert {id_: after[id_]["threadId"] for id_ in before} == {id_: one["threadId"] for id_, one in before.items()}
    assert after[rig.email("Re: topic")]["threadId"] in {one["threadId"] for one in before.values()}


def test_a_reply_that_comes_before_its_original_shares_its_thread(rig: Rig) -> None:
    """Rule 8: history is read newest first."""
    rig.deliver("Re: topic", message_id="b@x", references=["a@x"], received_at=2000)
    rig.deliver("topic", message_id="a@x", received_at=1000)
    rig.sync()
    one, two = rig.emails().values()
    assert one["threadId"] == two["threadId"]
    (thread,) = rig.call("Thread/get", ids=[one["threadId"]])["list"]
    assert thread["emailIds"] == [rig.email("topic"), rig.email("Re: topic")]


def test_another_subject_is_another_thread(rig: Rig) -> None:
    """Rule 8, RFC 5256 §2.1."""
    rig.deliver("topic", message_id="a@x")
    rig.deliver("something else", message_id="b@x", references=["a@x"])
    rig.sync()
    assert len({one["threadId"] for one in rig.emails().values()}) == 2


def test_a_servers_thread_id_decides(rig: Rig) -> None:
    """Rule 8: THREADID, X-GM-THRID."""
    rig.deliver("topic", message_id="a@x", thread_id="T1")
    rig.deliver("another topic", message_id="b@x", thread_id="T1")
    rig.deliver("Re: topic", message_id="c@x", references=["a@x"], thread_id="T2")
    rig.sync()
    threads = {one["subject"]: one["threadId"] for one in rig.emails().values()}
    assert threads["topic"] == threads["another topic"] != threads["Re: topic"]


# --- visibility --------------------------------------------------------------------------------------------------


def test_a_deleted_flag_hides_and_its_end_brings_the_same_id_back(rig: Rig) -> None:
    """Rule 13."""
    uid = rig.deliver("one", flags=["$Label"])
    rig.sync()
    before, state = rig.emails(), rig.store.state("Email")
    rig.server.set_flags(b"INBOX", uid, "\\Deleted", "$Label")
    rig.sync()
    assert rig.emails() == {}
    assert rig.counts("Inbox") == (0, 0, 0, 0)
    gone = rig.call("Email/changes", sinceState=state)
    assert gone["destroyed"] == list(before)
    rig.server.set_flags(b"INBOX", uid, "$Label")
    rig.sync()
    rig.check()
    assert rig.emails() == before
    assert rig.call("Email/changes", sinceState=gone["newState"])["created"] == list(before)


def test_an_email_that_went_comes_back_and_goes_again_is_told_to_the_oldest_state(rig: Rig) -> None:
    """Rule 10: destroyed are tombstones of what an older state knew."""
    uid = rig.deliver("one")
    rig.sync()
    states = {name: rig.store.state(name) for name in ("Email", "Thread")}
    for flags in (["\\Deleted"], [], ["\\Deleted"]):
        rig.server.set_flags(b"INBOX", uid, *flags)
        rig.sync()
    for name, state in states.items():
        assert len(rig.call(f"{name}/changes", sinceState=state)["destroyed"]) == 1


def test_messages_deleted_before_the_first_sync_are_never_seen(rig: Rig) -> None:
    """Rule 13."""
    rig.deliver("one", flags=["\\Deleted"])
    rig.sync()
    assert rig.emails() == {}
    assert not [call for call in rig.source.calls if call[0] == "details"]


def test_nothing_is_visible_before_its_details_are_in(rig: Rig) -> None:
    """Rule 14: listed, but in no count and no Email."""
    for at in range(80):
        rig.deliver(f"topic {at}")
    rig.service.sync()
    assert len(rig.emails()) == 50
    assert rig.counts("Inbox")[0] == 50
    assert rig.service.status()["pending"] == 30
    assert rig.service.background()
    assert rig.counts("Inbox")[0] == 80


def test_a_structure_that_nobody_can_read_is_parsed_from_the_message(rig: Rig) -> None:
    """Rules 14, 38: and the Email says that its structure is ours."""
    rig.deliver("one")
    original = rig.source._detail
    rig.source._detail = lambda one: type(original(one))(  # type: ignore[method-assign]
        **{name: getattr(original(one), name) for name in original(one).__struct_fields__ if name != "structure"},
        structure=None,
    )
    rig.sync()
    flags, structure = rig.store.cache.row("SELECT flags, structure FROM email")
    assert flags & 32 == 0
    assert structure is not None


def test_keywords_of_several_copies(rig: Rig) -> None:
    """Rule 15: $seen and $draft if all copies have them, others if one has; lower case; odd names hidden."""
    uid = rig.deliver("one", flags=["\\Seen", "\\Draft", "\\Flagged", "$MDNSent", "bad%name", "\\Recent"])
    rig.server.copy(b"INBOX", uid, b"Archive")
    rig.server.set_flags(b"Archive", 1, "\\Seen", "Work")
    rig.sync()
    ((_, email),) = rig.emails().items()
    assert set(email["keywords"]) == {"$seen", "$flagged", "$mdnsent", "work"}
    assert "$MDNSent" in rig.store.cache.value("SELECT flags FROM message WHERE flags LIKE '%MDN%'")


# --- counts ------------------------------------------------------------------------------------------------------


def test_unread_threads_follow_the_trash_rule(rig: Rig) -> None:
    """Rule 16, RFC 8621 §2: an unread Email in Trash does not make the thread unread in the inbox."""
    rig.deliver("topic", message_id="a@x", flags=["\\Seen"])
    rig.deliver("Re: topic", b"Trash", message_id="b@x", references=["a@x"])
    rig.sync()
    assert (rig.counts("Inbox"), rig.counts("Trash")) == ((1, 0, 1, 0), (1, 1, 1, 1))


def test_a_reply_elsewhere_makes_the_thread_unread_in_the_inbox(rig: Rig) -> None:
    """Rule 16, RFC 8621 §2."""
    rig.deliver("topic", message_id="a@x", flags=["\\Seen"])
    uid = rig.deliver("Re: topic", b"Archive", message_id="b@x", references=["a@x"])
    rig.sync()
    assert rig.counts("Inbox") == (1, 0, 1, 1)
    rig.server.set_flags(b"Archive", uid, "\\Draft")
    rig.sync()
    assert rig.counts("Inbox") == (1, 0, 1, 0)


def test_a_trash_that_appears_later_moves_the_unread_counts(rig: Rig) -> None:
    """Rule 16."""
    rig.server.create(b"Bin")
    rig.server.delete(b"Trash")
    rig.deliver("topic", message_id="a@x", flags=["\\Seen"])
    rig.deliver("Re: topic", b"Bin", message_id="b@x", references=["a@x"])
    rig.sync()
    assert rig.counts("Inbox") == (1, 0, 1, 1)
    rig.server.folders[b"Bin"].role = "trash"
    rig.sync()
    rig.check()
    assert rig.counts("Inbox") == (1, 0, 1, 0)


def test_a_trash_that_goes_leaves_right_counts(rig: Rig) -> None:
    """Rules 16, 26: its role is free at once, for the Trash made anew in the same moment too."""
    rig.deliver("topic", message_id="a@x")
    rig.deliver("Re: topic", b"Trash", message_id="b@x", references=["a@x"])
    rig.deliver("Re: topic", b"Archive", message_id="c@x", references=["a@x"], flags=["\\Seen"])
    rig.sync()
    old = rig.box("Trash")["id"]
    rig.server.delete(b"Trash")
    rig.server.create(b"Trash", role="trash")
    rig.deliver("Re: topic", b"Trash", message_id="d@x", references=["a@x"])
    rig.sync()
    rig.check()
    assert (rig.box("Trash")["role"], rig.box("Trash")["id"] != old) == ("trash", True)
    rig.server.delete(b"Trash")
    rig.sync()
    rig.check()


def test_a_rename_of_inbox_is_a_move_of_its_emails(rig: Rig) -> None:
    """Rule 25: INBOX stays what it is, whatever id the server gives the new folder."""
    uid = rig.deliver("one")
    rig.sync()
    inbox, id_, state = rig.box("Inbox")["id"], rig.email("one"), rig.store.state("Email")
    new = rig.server.create(b"Old mail")
    new.guid, rig.server.folders[b"INBOX"].guid = rig.server.folders[b"INBOX"].guid, "boxnew"
    rig.server.move(b"INBOX", uid, b"Old mail")
    rig.sync()
    rig.check()
    assert rig.box("Inbox")["id"] == inbox
    changes = rig.call("Email/changes", sinceState=state)
    assert (changes["updated"], changes["destroyed"]) == ([id_], [])


def test_an_empty_listing_does_not_empty_the_account(rig: Rig) -> None:
    """Rule 17."""
    rig.deliver("one")
    rig.sync()
    before = rig.emails()
    rig.source.folders = list  # type: ignore[method-assign]
    with pytest.raises(UpstreamError):
        rig.sync()
    assert rig.emails() == before


def test_a_folder_that_goes_takes_its_emails_but_not_those_elsewhere(rig: Rig) -> None:
    """Rule 16: folder destroys."""
    uid = rig.deliver("both")
    rig.server.copy(b"INBOX", uid, b"Archive")
    rig.deliver("only there", b"Archive")
    rig.sync()
    rig.server.delete(b"Archive")
    rig.sync()
    rig.check()
    assert [email["subject"] for email in rig.emails().values()] == ["both"]
    assert "Archive" not in rig.boxes()


def test_a_folder_that_may_not_be_read_shows_without_items(rig: Rig) -> None:
    """RFC 4314 "r": other folders are read all the same; the right comes back, and the ids with it."""
    rig.deliver("one", b"Archive")
    rig.deliver("two")
    rig.sync()
    before, folder = rig.emails(), rig.server.folders[b"Archive"]
    folder.rights = Rights(may_read_items=False)
    rig.deliver("three")
    rig.sync()
    assert sorted(email["subject"] for email in rig.emails().values()) == ["three", "two"]
    assert rig.boxes()["Archive"]["totalEmails"] == 0 and not rig.boxes()["Archive"]["myRights"]["mayReadItems"]
    folder.rights = Rights()
    rig.sync()
    rig.check()
    assert before.items() <= rig.emails().items()


def test_a_folder_that_is_withdrawn_while_a_pass_reads_does_not_stop_it(rig: Rig) -> None:
    rig.deliver("one", b"Archive")
    rig.sync()
    rig.deliver("two", b"Archive")
    rig.deliver("three", b"Trash")
    changes = rig.source.changes

    def refuse(key: bytes, *rest: Any) -> Any:
        if key == b"Archive":
            raise UpstreamError("Permission denied", code="noperm", temporary=False)
        return changes(key, *rest)

    rig.source.changes = refuse  # type: ignore[method-assign]
    rig.sync()
    assert sorted(email["subject"] for email in rig.emails().values()) == ["one", "three"]
    rig.source.changes = changes  # type: ignore[method-assign]
    rig.sync()
    assert sorted(email["subject"] for email in rig.emails().values()) == ["one", "three", "two"]


def test_rights_that_grow_beyond_what_select_said_are_asked_for_again(rig: Rig) -> None:
    folder = rig.server.folders[b"Archive"]
    folder.rights, folder.read_only = Rights(may_add_items=False, may_set_keywords=False), True
    rig.deliver("one", b"Archive")
    rig.sync()
    assert not rig.boxes()["Archive"]["myRights"]["mayAddItems"]
    folder.rights, folder.read_only = Rights(), False
    rig.sync()
    assert all(rig.boxes()["Archive"]["myRights"].values())


# --- the pass ----------------------------------------------------------------------------------------------------


def test_a_pass_without_changes_moves_no_state_and_asks_once(rig: Rig) -> None:
    """Rule 12, and nothing but one LIST-STATUS goes upstream."""
    rig.deliver("one", flags=["\\Seen"])
    rig.sync()
    states = rig.store.modseq
    rig.source.calls.clear()
    rig.sync()
    assert rig.store.modseq == states
    assert [name for name, _ in rig.source.calls] == ["folders"]


def test_another_clients_move_is_a_move(rig: Rig) -> None:
    """Rule 19: new messages of all changed folders come before what vanished, whatever the order of folders."""
    for start, end in ((b"INBOX", b"Archive"), (b"Archive", b"INBOX")):
        uid = rig.deliver("moved", start)
        rig.sync()
        id_, state = rig.email("moved"), rig.store.state("Email")
        rig.server.move(start, uid, end)
        rig.sync()
        changes = rig.call("Email/changes", sinceState=state)
        assert (changes["created"], changes["updated"], changes["destroyed"]) == ([], [id_], [])
        rig.server.expunge(end, max(rig.server.folders[end].messages))
        rig.sync()


def test_a_move_by_copy_and_deleted_flag_is_a_move(rig: Rig) -> None:
    """Rules 13, 19: hiding waits for the end of the pass too."""
    uid = rig.deliver("moved", b"Archive")
    rig.sync()
    state = rig.store.state("Email")
    rig.server.copy(b"Archive", uid, b"Sent")
    rig.server.set_flags(b"Archive", uid, "\\Deleted")
    rig.sync()
    assert rig.call("Email/changes", sinceState=state)["destroyed"] == []


def test_a_move_in_the_middle_of_a_pass_is_a_move(rig: Rig) -> None:
    """Rule 19: out of a folder that is read late, into one that was read before or did not look changed."""
    uid = rig.deliver("moved", b"Sent")
    rig.sync()
    id_, state = rig.email("moved"), rig.store.state("Email")
    rig.deliver("other", b"Sent")

    def meanwhile(name: str) -> None:
        if name == "changes":
            rig.source.before = None
            rig.server.move(b"Sent", uid, b"Archive")

    rig.source.before = meanwhile
    rig.sync()
    rig.check()
    assert rig.email("moved") == id_
    assert rig.call("Email/changes", sinceState=state)["destroyed"] == []


def test_many_moved_at_once_keep_their_ids_although_their_details_wait(rig: Rig) -> None:
    """Rule 19: more than a pass fetches by itself, into a folder that is new."""
    for at in range(120):
        rig.deliver(f"topic {at}")
    rig.sync()
    before = {email["subject"]: id_ for id_, email in rig.emails().items()}
    rig.server.create(b"2025")
    for uid in sorted(rig.server.folders[b"INBOX"].messages):
        rig.server.move(b"INBOX", uid, b"2025")
    rig.service.sync()
    assert {email["subject"]: id_ for id_, email in rig.emails().items()} == before
    rig.sync()
    rig.check()


def test_the_sync_point_does_not_move_when_a_pass_breaks(rig: Rig) -> None:
    """Rule 18."""
    rig.sync()
    before = rig.store.cache.rows("SELECT mid, uidnext, highestmodseq FROM mailbox")
    rig.deliver("one")
    rig.deliver("two", b"Archive")

    def fault(name: str) -> None:
        if name == "details":
            raise UpstreamError("gone")

    rig.source.fault = fault
    with pytest.raises(UpstreamError):
        rig.sync()
    assert rig.store.cache.rows("SELECT mid, uidnext, highestmodseq FROM mailbox") == before
    rig.source.fault = None
    rig.sync()
    rig.check()


def test_a_uidnext_that_went_back_is_a_restored_server(rig: Rig, plain: Rig) -> None:
    """Rule 22: the same UIDs are other messages; those that are still there keep their ids."""
    for one in (plain,):
        for at in range(6):
            one.deliver(f"topic {at}", message_id=f"m{at}@x")
        one.sync()
        before = {email["subject"]: id_ for id_, email in one.emails().items()}
        one.server.restore(b"INBOX", 4)
        one.deliver("new 4", message_id="n4@x")
        one.sync()
        one.check()
        after = {email["subject"]: id_ for id_, email in one.emails().items()}
        assert after == {**{f"topic {at}": before[f"topic {at}"] for at in range(3)}, "new 4": after["new 4"]}
        assert after["new 4"] not in before.values()


def test_a_restored_server_is_noticed_even_with_a_lost_cache(plain: Rig) -> None:
    """Rules 22, 39: own.sqlite3 remembers UIDNEXT."""
    for at in range(6):
        plain.deliver(f"topic {at}", message_id=f"m{at}@x")
    plain.sync()
    before = set(plain.emails())
    plain.server.restore(b"INBOX", 4)
    plain.deliver("new 4", message_id="n4@x")
    plain.reopen(lose_cache=True)
    plain.sync()
    plain.check()
    assert plain.email("new 4") not in before


def test_flags_without_condstore_are_compared(plain: Rig) -> None:
    """Rule 21, issue §4: flags and UIDs are compared where the server keeps no modseq."""
    uid = plain.deliver("one")
    plain.sync()
    plain.server.set_flags(b"INBOX", uid, "\\Flagged")
    plain.sync()
    plain.check()
    ((_, email),) = plain.emails().items()
    assert email["keywords"] == {"$flagged": True}


def test_a_modseq_that_sticks_is_healed_by_the_daily_comparison(rig: Rig) -> None:
    """Rule 21: of a flag that moves nothing in STATUS."""
    uid = rig.deliver("one")
    rig.sync()
    rig.server.folders[b"INBOX"].messages[uid].flags = ("\\Flagged",)

    def keywords() -> list[dict[str, bool]]:
        rig.sync()
        return [email["keywords"] for email in rig.emails().values()]

    assert keywords() == [{}]
    rig.store.cache.write(lambda txn: txn.execute("UPDATE mailbox SET full_flags_at = full_flags_at - 90000"))
    assert keywords() == [{"$flagged": True}]


def test_copies_of_a_time_before_a_reset_are_never_asked_for(rig: Rig) -> None:
    """Rule 2: while a folder's UIDs are made anew its old copies are kept under negative numbers; those are no UIDs."""
    rig.deliver("one")
    rig.sync()
    [(mid, eid)] = rig.store.cache.rows("SELECT mid, eid FROM message")
    assert emails.copies(rig.store, [eid])[eid] and search.uids(rig.store, mid, unindexed=False)
    rig.store.cache.write(lambda txn: txn.execute("UPDATE message SET uid = -uid"))
    assert emails.copies(rig.store, [eid]) == {eid: []}
    assert not search.uids(rig.store, mid, unindexed=False) and not search.messages(rig.store, mid)


def test_a_folder_that_stays_for_its_children_only_loses_its_emails(rig: Rig) -> None:
    """Rule 16, RFC 9051 §6.3.5: DELETE of a parent leaves it with \\NoSelect."""
    rig.deliver("kept")
    rig.deliver("lost", b"Archive")
    rig.sync()
    assert len(rig.emails()) == 2
    listing = rig.source.folders
    rig.source.folders = lambda: [  # type: ignore[method-assign]
        msgspec.structs.replace(one, selectable=one.key != b"Archive") for one in listing()
    ]
    for _ in range(2):
        rig.sync()
        assert len(rig.emails()) == 1
        assert [row.total_emails for row in boxes_sql.rows(rig.store) if not row.selectable] == [0]
    rig.source.folders = listing  # type: ignore[method-assign]
    rig.sync()
    rig.check()
    assert len(rig.emails()) == 2


def test_no_transaction_is_open_while_another_greenlet_runs(rig: Rig) -> None:
    """Process rule 13: work never yields."""
    for at in range(150):
        rig.deliver(f"topic {at}")
    inside: list[Any] = []

    def trace(event: str, args: Any) -> None:
        if rig.store.own.in_transaction or rig.store.cache.in_transaction:
            inside.append(args)

    beside = gevent.spawn(lambda: [gevent.sleep(0) for _ in range(1000)])
    old = greenlet.settrace(trace)
    try:
        rig.sync()
    finally:
        greenlet.settrace(old)
        beside.kill()
    assert inside == []


def test_what_a_pass_has_read_stays_when_the_folder_is_read_once_more_in_it(rig: Rig) -> None:
    """Rule 19: an Email in limbo is looked for in folders that have grown; what came to them first is not lost."""
    uid = rig.deliver("gone")
    rig.sync()
    rig.server.expunge(b"INBOX", uid)
    rig.deliver("first", b"Archive")

    def before(name: str) -> None:
        if name == "details":
            rig.source.before = None
            rig.deliver("second", b"Archive")

    rig.source.before = before
    rig.sync()
    assert rig.source.before is None
    assert {email["subject"] for email in rig.emails().values()} == {"first", "second"}
    rig.check()


def test_a_copy_that_was_lost_here_comes_back_when_all_flags_are_compared(plain: Rig) -> None:
    """Losing sight of a message is the worst that can happen, whatever the reason: a look at everything heals it."""
    plain.deliver("one")
    plain.deliver("two")
    plain.sync()
    before = plain.email("one")

    def lose(change: Any) -> None:
        eids = sync_sql.emails_of(change.txn, 1, [1])
        sync_sql.delete_copies(change.txn, 1, [1])
        resettle(change, settling_folders(plain.store, boxes_sql.rows(plain.store)), eids)

    plain.store.commit(lose)
    assert plain.email("two") and len(plain.emails()) == 1
    plain.server.set_flags(b"INBOX", 2, "\\Seen")
    plain.sync()
    plain.check()
    assert plain.email("one") == before
