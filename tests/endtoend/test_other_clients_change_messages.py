"""Another IMAP client changes messages; the view follows on every kind of server (mail-rules 2, 3, 7, 8, 10-16, 19)."""

from __future__ import annotations

import pytest
from scene import Scene, message

from jmapplug.testing.ports import wait_until


def test_changes_are_followed_without_being_asked_for(scene: Scene) -> None:
    """Rule 21: by IDLE in INBOX, by polling elsewhere; flags too where the server has no CONDSTORE."""
    scene.create("Work")
    scene.append("Inbox", message("one"))
    scene.append("Work", message("two"))
    view = scene.begin()

    def words(subject: str) -> set[str]:
        ident = view.by_subject()[subject]
        return set(scene.jmap.call("Email/get", ids=[ident], properties=["keywords"])["list"][0]["keywords"])

    scene.flag("Inbox", "1:*", "\\Flagged")
    wait_until(lambda: words("one") == {"$flagged"}, "the flag in INBOX is seen")
    scene.flag("Work", "1:*", "\\Seen")
    wait_until(lambda: words("two") == {"$seen"}, "the flag elsewhere is seen")


def test_nothing_happened_moves_no_state(scene: Scene) -> None:
    """Rule 12."""
    scene.append("Inbox", message("one"), message("two"))
    states = scene.begin().states
    assert scene.agree().states == states


def test_copies_that_were_there_before_the_first_sync_are_one_email(copying: Scene) -> None:
    """Rule 3."""
    copying.create("Work")
    copying.append("Inbox", message("one"))
    copying.copy("Inbox", "1:*", "Work")
    assert len(copying.begin().emails) == 1


def test_deleted_hides_and_back_comes_the_same_id(scene: Scene) -> None:
    """Rule 13, and rule 11 for the newest Email of the list (queryChanges lists it once)."""
    scene.append("Inbox", message("one"), message("two"))
    before = scene.begin()
    for uid in reversed(scene.uids("Inbox")):
        scene.flag("Inbox", uid, "\\Deleted")
        view = scene.agree()
        assert len(view.emails) == 1
        scene.reborn.update(before.emails.keys() - view.emails.keys() | before.threads.keys() - view.threads.keys())
        scene.flag("Inbox", uid, "\\Deleted", on=False)
        assert scene.agree().by_subject() == before.by_subject()


def test_deleted_and_back_between_two_looks_of_a_client_is_listed_once(scene: Scene) -> None:
    """Rule 11: the client that did not look in between has the Email in its list."""
    scene.append("Inbox", message("one"), message("two"))
    before = scene.begin()
    uid = scene.uids("Inbox")[-1]
    scene.reborn.update(before.emails.keys() | before.threads.keys())
    scene.flag("Inbox", uid, "\\Deleted")
    assert len(scene.sync().emails) == 1
    scene.flag("Inbox", uid, "\\Deleted", on=False)
    assert scene.agree().by_subject() == before.by_subject()


def test_equal_bytes_appended_twice_are_two_emails_where_the_server_says_so(dove: Scene) -> None:
    """Rules 2, 5: the server names them differently."""
    dove.append("Inbox", message("twin"), message("twin"))
    assert len(dove.begin().emails) == 2
    dove.append("Inbox", message("twin"))
    assert len(dove.agree().emails) == 3


def test_different_messages_with_one_message_id_are_two_emails(scene: Scene) -> None:
    """Rule 2: a sender chooses the Message-ID; §0 (11) of the findings."""
    one, two = message("same", body="one", ident="x"), message("same", body="two", ident="x")
    scene.append("Inbox", one)
    [first] = scene.begin().emails
    scene.append("Inbox", two)
    after = scene.agree()
    assert len(after.emails) == 2 and first in after.emails
    got = scene.jmap.call("Email/get", ids=list(after.emails), properties=["preview"])["list"]
    assert sorted(email["preview"] for email in got) == ["one", "two"]


def test_keywords_are_lower_case_and_recent_is_none(dove: Scene) -> None:
    """Rule 15: whatever the case upstream, which may differ from folder to folder."""
    dove.create("Work")
    dove.append("Inbox", message("one"), flags="($Forwarded Urgent)")
    dove.append("Work", message("two"), flags="(URGENT $forwarded)")
    view = dove.begin()
    assert {frozenset(email["keywords"]) for email in view.emails.values()} == {frozenset({"$forwarded", "urgent"})}
    found = dove.jmap.call("Email/query", filter={"hasKeyword": "uRGENT"}, sort=[{"property": "subject"}])["ids"]
    assert found == [view.by_subject()["one"], view.by_subject()["two"]]


def test_messages_deleted_before_the_first_sync_are_never_seen(scene: Scene) -> None:
    """Rule 13."""
    scene.append("Inbox", message("one"), message("two"))
    scene.flag("Inbox", scene.uids("Inbox")[0], "\\Deleted")
    assert set(scene.begin().by_subject()) == {"two"}
    scene.expunge("Inbox", scene.uids("Inbox")[0])
    assert set(scene.agree().by_subject()) == {"two"}


def test_received_at_size_and_blob_stay_when_a_message_moves(dove: Scene) -> None:
    """Rule 7."""
    dove.create("Work")
    dove.append("Inbox", message("one"), date='"05-Jan-2026 10:00:00 +0200"')
    [before] = dove.begin().emails.values()
    assert before["receivedAt"] == "2026-01-05T08:00:00Z" and before["size"] == len(message("one"))
    dove.move("Inbox", "1:*", "Work")
    [after] = dove.agree().emails.values()
    names = ("id", "receivedAt", "size", "threadId", "blobId")
    assert [after[name] for name in names] == [before[name] for name in names]


@pytest.mark.parametrize("kind", ["dovecot", "pymap"])
def test_threads_follow_references_and_subjects(make: object, kind: str) -> None:
    """Rule 8: threads never merge, another subject is another thread, a late original joins its reply's."""
    scene: Scene = make(kind)  # type: ignore[operator]
    scene.append("Inbox", message("Re: plan", "References: <plan@example.com>", ident="r1"))
    before = scene.begin()
    thread = before.emails[before.by_subject()["Re: plan"]]["threadId"]
    scene.append(
        "Inbox",
        message("plan"),
        message("Other", "In-Reply-To: <plan@example.com>"),
        message("Re: Re: plan", "In-Reply-To: <r1@example.com>", ident="r2"),
    )
    after = scene.agree()
    threads = {email["subject"]: email["threadId"] for email in after.emails.values()}
    if kind == "pymap":
        # THREADID is the server's word: it knows no subjects, so only ours is asked for here.
        assert threads["Re: plan"] == thread
        return
    assert threads["plan"] == threads["Re: plan"] == threads["Re: Re: plan"] == thread != threads["Other"]
    dove_state = after.states["Email"]
    scene.append("Inbox", message("plan", "References: <r2@example.com> <elsewhere@example.com>", ident="r3"))
    last = scene.agree()
    told = scene.jmap.call("Email/changes", sinceState=dove_state)
    assert len(told["created"]) == 1 and not told["updated"]
    assert len(last.threads[thread]["emailIds"]) == 4


def test_unread_counts_follow_the_trash_rule(dove: Scene) -> None:
    """Rule 16, RFC 8621 §2."""
    dove.append("Inbox", message("a"), flags="(\\Seen)")
    dove.append("Trash", message("Re: a", "In-Reply-To: <a@example.com>"))
    view = dove.begin()
    boxes = {box["role"]: box for box in view.mailboxes.values()}
    assert len(view.threads) == 1
    assert (boxes["inbox"]["unreadThreads"], boxes["trash"]["unreadThreads"]) == (0, 1)
    dove.append("Drafts", message("RE: a", "In-Reply-To: <a@example.com>", ident="d"), flags="(\\Draft)")
    boxes = {box["role"]: box for box in dove.agree().mailboxes.values()}
    assert boxes["drafts"]["unreadThreads"] == 0, "a draft is never unread"
    dove.move("Trash", "1:*", "Sent")
    boxes = {box["role"]: box for box in dove.agree().mailboxes.values()}
    assert (boxes["inbox"]["unreadThreads"], boxes["sent"]["unreadThreads"], boxes["trash"]["unreadThreads"]) == (
        1,
        1,
        0,
    )
