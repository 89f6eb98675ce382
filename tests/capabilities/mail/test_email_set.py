"""Email/set update and destroy (RFC 8621 §4.6, mail-rules 3, 15, 27-33) over a server in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import msgspec
import pytest
from gevent.event import Event
from sync_rig import Rig

from jmapplug.backends import Copied, Features, Rights
from jmapplug.capabilities.mail.store import mailboxes, writing
from jmapplug.capabilities.mail.write_recovery import finish_transfers
from jmapplug.capabilities.mail.write_session import WriteSession
from jmapplug.errors import UpstreamError
from jmapplug.jmap.errors import MethodError
from jmapplug.jmap.methods import Call
from jmapplug.testing.memory_source import MemoryServer

FULL = Features(id_scheme="emailid", condstore=True, qresync=True, idle=True, move=True, uidplus=True)


def make(tmp_path: Path, features: Features = FULL) -> Rig:
    rig = Rig(tmp_path, MemoryServer(features))
    rig.server.create(b"Archive")
    for role in ("drafts", "sent", "trash"):
        rig.server.create(role.capitalize().encode(), role=role)
    return rig


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = make(tmp_path)
    yield made
    made.close()


def names(rig: Rig, *names_: str) -> dict[str, bool]:
    return {rig.box(name)["id"]: True for name in names_}


def commands(rig: Rig) -> list[str]:
    return [name for name, _ in rig.source.calls]


def writes(rig: Rig) -> list[str]:
    found = {"append", "store", "copy", "move", "remove"}
    return [name for name in commands(rig) if name in found]


def settled(rig: Rig) -> None:
    """The next pass finds nothing to do: our own echo bumps nothing (mail-rules 12)."""
    before = {name: rig.store.state(name) for name in ("Email", "Thread", "Mailbox")}
    rig.sync()
    assert {name: rig.store.state(name) for name in before} == before
    rig.check()


# --- keywords ------------------------------------------------------------------------------------------------------


def test_a_keyword_is_set_upstream_and_seen_by_the_next_call(rig: Rig) -> None:
    uid = rig.deliver("Hello")
    rig.sync()
    email = rig.email("Hello")
    state = rig.store.state("Email")
    assert rig.call("Email/set", update={email: {"keywords/$flagged": True}})["updated"] == {email: None}
    assert rig.server.folders[b"INBOX"].messages[uid].flags == ("\\Flagged",)
    assert rig.emails()[email]["keywords"] == {"$flagged": True}
    changes = rig.call("Email/changes", sinceState=state)
    assert (changes["created"], changes["updated"], changes["destroyed"]) == ([], [email], [])
    assert rig.published[-1]["Email"] == rig.store.state("Email")
    settled(rig)


@pytest.mark.parametrize("value", [None, False])
def test_null_and_what_real_clients_send_for_it_remove_a_keyword(rig: Rig, value: Any) -> None:
    rig.deliver("Hello", flags=("\\Seen", "work"))
    rig.sync()
    email = rig.email("Hello")
    reply = rig.call("Email/set", update={email: {"keywords/$seen": value, "keywords/WORK": None}})
    assert reply["updated"] == {email: None}
    assert rig.emails()[email]["keywords"] == {}
    assert rig.box("Inbox")["unreadEmails"] == 1
    settled(rig)


def test_keywords_by_value_replace_the_set_and_leave_what_jmap_does_not_show(rig: Rig) -> None:
    uid = rig.deliver("Hello", flags=("\\Seen", "work", "bad]name"))
    rig.sync()
    email = rig.email("Hello")
    rig.call("Email/set", update={email: {"keywords": {"$flagged": True}}})
    assert set(rig.server.folders[b"INBOX"].messages[uid].flags) == {"\\Flagged", "bad]name"}
    assert rig.emails()[email]["keywords"] == {"$flagged": True}
    settled(rig)


def test_keywords_by_value_win_over_what_another_client_sets_meanwhile(rig: Rig) -> None:
    """mail-rules 29: the server's answer shows a keyword that nobody here knew."""
    uid = rig.deliver("Hello", flags=("\\Seen",))
    rig.sync()
    email = rig.email("Hello")

    def meanwhile(name: str) -> None:
        rig.source.before = None
        rig.server.set_flags(b"INBOX", uid, "\\Seen", "theirs")

    rig.source.before = meanwhile
    assert rig.update(email, keywords={"$flagged": True}) is None
    assert rig.server.folders[b"INBOX"].messages[uid].flags == ("\\Flagged",)
    assert rig.emails()[email]["keywords"] == {"$flagged": True}
    settled(rig)


def test_a_hundred_keywords_are_one_command_per_folder(rig: Rig) -> None:
    for at in range(100):
        rig.deliver(f"m{at}", key=b"INBOX" if at % 2 else b"Archive")
    rig.sync()
    rig.source.calls.clear()
    reply = rig.call("Email/set", update={id_: {"keywords/$seen": True} for id_ in rig.emails()})
    assert len(reply["updated"]) == 100 and reply["notUpdated"] is None
    assert commands(rig) == ["store", "store"]
    assert rig.counts("Inbox")[1] == rig.counts("Archive")[1] == 0
    settled(rig)


def test_what_is_so_already_is_not_sent(rig: Rig) -> None:
    rig.deliver("Hello", flags=("\\Seen",))
    rig.sync()
    state = rig.store.state("Email")
    rig.source.calls.clear()
    assert rig.update(rig.email("Hello"), **{"keywords/$seen": True}) is None
    assert commands(rig) == [] and rig.store.state("Email") == state


def test_a_write_goes_to_every_copy_that_lacks_the_keyword(rig: Rig) -> None:
    """mail-rules 15."""
    uid = rig.deliver("Hello", flags=("\\Seen",))
    other = rig.server.copy(b"INBOX", uid, b"Archive")
    rig.server.set_flags(b"Archive", other)
    rig.sync()
    email = rig.email("Hello")
    assert rig.emails()[email]["keywords"] == {}
    assert rig.update(email, **{"keywords/$seen": True, "keywords/x": True}) is None
    assert set(rig.server.folders[b"INBOX"].messages[uid].flags) == {"\\Seen", "x"}
    assert set(rig.server.folders[b"Archive"].messages[other].flags) == {"\\Seen", "x"}
    settled(rig)


@pytest.mark.parametrize(
    ("patch", "type_", "properties"),
    [
        ({"keywords/a b": True}, "invalidProperties", ["keywords/a b"]),
        ({"keywords": {"$recent": True}}, "invalidProperties", ["keywords/$recent"]),
        ({"keywords": {"x": 1}}, "invalidProperties", ["keywords"]),
        ({"keywords/x": "yes"}, "invalidProperties", ["keywords/x"]),
        ({"keywords/x/y": True}, "invalidPatch", ["keywords"]),
        ({"keywords/x": True, "keywords": {}}, "invalidPatch", None),
        ({"mailboxIds": {}}, "invalidProperties", ["mailboxIds"]),
        ({"mailboxIds": None}, "invalidProperties", ["mailboxIds"]),
        ({"mailboxIds": {"nowhere": True}}, "invalidProperties", ["mailboxIds"]),
        ({"mailboxIds/nowhere": True}, "invalidProperties", ["mailboxIds"]),
        ({"subject": "Another"}, "invalidProperties", ["subject"]),
        ({"from/0/name": "X"}, "invalidProperties", ["from"]),
        ({"noSuchThing": 1}, "invalidProperties", ["noSuchThing"]),
    ],
)
def test_what_is_wrong_with_a_patch_is_named_and_nothing_is_done(
    rig: Rig, patch: dict[str, Any], type_: str, properties: list[str] | None
) -> None:
    rig.deliver("Hello", flags=("\\Seen",))
    rig.sync()
    email = rig.email("Hello")
    before = rig.server.view()
    error = rig.call("Email/set", update={email: patch})["notUpdated"][email]
    assert (error["type"], error.get("properties")) == (type_, properties)
    assert rig.server.view() == before and writes(rig) == []


def test_removing_the_last_mailbox_removes_nothing(rig: Rig) -> None:
    rig.deliver("Hello")
    rig.sync()
    email = rig.email("Hello")
    inbox = rig.box("Inbox")["id"]
    error = rig.update(email, **{f"mailboxIds/{inbox}": None})
    assert error is not None and error["type"] == "invalidProperties"
    assert len(rig.server.folders[b"INBOX"].messages) == 1


def test_a_property_that_never_changes_may_be_repeated(rig: Rig) -> None:
    rig.deliver("Hello")
    rig.sync()
    email = rig.email("Hello")
    assert rig.update(email, subject="Hello", **{"keywords/$seen": True}) is None
    assert rig.emails()[email]["keywords"] == {"$seen": True}


def test_an_unknown_email_is_not_found(rig: Rig) -> None:
    rig.sync()
    assert rig.update("nobody", **{"keywords/$seen": True}) == {
        "type": "notFound",
        "description": "There is no such Email.",
    }
    assert rig.destroy("nobody")["nobody"]["type"] == "notFound"


def test_a_creation_id_may_stand_for_an_email_and_a_mailbox(rig: Rig) -> None:
    rig.deliver("Hello")
    rig.sync()
    email = rig.email("Hello")
    rig.created_ids |= {"m": email, "box": rig.box("Archive")["id"]}
    reply = rig.call("Email/set", update={"#m": {"mailboxIds": {"#box": True}, "keywords/$seen": True}})
    assert reply["updated"] == {email: None}
    assert rig.emails()[email]["mailboxIds"] == names(rig, "Archive")
    assert rig.call("Email/set", destroy=["#m"])["destroyed"] == [email]


# --- Mailboxes -----------------------------------------------------------------------------------------------------


SERVERS = {
    "all": FULL,
    "no MOVE": Features(id_scheme="emailid", condstore=True, qresync=True, uidplus=True),
    "no UIDPLUS": Features(id_scheme="emailid", condstore=True, move=True),
    "nothing": Features(),
}


@pytest.fixture(params=list(SERVERS))
def any_rig(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Rig]:
    made = make(tmp_path, SERVERS[request.param])
    yield made
    made.close()


def test_moving_an_email_keeps_its_id_on_any_server(any_rig: Rig) -> None:
    rig = any_rig
    rig.deliver("Hello", flags=("\\Seen",))
    rig.deliver("Other")
    rig.sync()
    email = rig.email("Hello")
    before, state = rig.emails()[email], rig.store.state("Email")
    assert rig.update(email, mailboxIds=names(rig, "Archive")) is None
    now = rig.emails()[email]
    assert now["mailboxIds"] == names(rig, "Archive")
    assert {**now, "mailboxIds": 0} == {**before, "mailboxIds": 0}
    assert [one.raw for one in rig.server.folders[b"Archive"].messages.values()]
    assert rig.call("Email/changes", sinceState=state)["updated"] == [email]
    settled(rig)
    assert rig.email("Hello") == email


def test_moving_a_hundred_is_one_command_per_pair_of_folders(rig: Rig) -> None:
    for at in range(100):
        rig.deliver(f"m{at}", key=b"INBOX" if at % 2 else b"Archive")
    rig.sync()
    rig.source.calls.clear()
    trash = names(rig, "Trash")
    reply = rig.call("Email/set", update={id_: {"mailboxIds": trash} for id_ in rig.emails()})
    assert len(reply["updated"]) == 100
    assert commands(rig) == ["move", "move"]
    assert rig.counts("Trash")[0] == 100 and rig.counts("Inbox")[0] == 0
    settled(rig)


def test_an_email_goes_into_a_further_mailbox_and_out_again(any_rig: Rig) -> None:
    rig = any_rig
    rig.deliver("Hello")
    rig.sync()
    email = rig.email("Hello")
    archive = rig.box("Archive")["id"]
    assert rig.update(email, **{f"mailboxIds/{archive}": True}) is None
    assert rig.emails()[email]["mailboxIds"] == names(rig, "Inbox", "Archive")
    settled(rig)
    assert rig.update(email, **{f"mailboxIds/{archive}": None, "keywords/x": True}) is None
    assert rig.emails()[email]["mailboxIds"] == names(rig, "Inbox")
    assert len(rig.server.view()[b"Archive"]) == 0
    settled(rig)


@pytest.mark.parametrize("told", ["deleted", "nothing"])
@pytest.mark.parametrize("more", [{}, {"keywords/x": True}], ids=["", "keyword"])
def test_no_copy_goes_while_the_one_that_stays_may_be_going(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, told: str, more: dict[str, Any]
) -> None:
    """Another client marks it as deleted in that moment, or its flags cannot be read."""
    uid = rig.deliver("Hello")
    rig.sync()
    email, archive = rig.email("Hello"), rig.box("Archive")["id"]
    assert rig.update(email, **{f"mailboxIds/{archive}": True}) is None
    if told == "deleted":
        rig.server.set_flags(b"INBOX", uid, "\\Deleted")
    else:
        more, items = {}, rig.source.items
        monkeypatch.setattr(
            rig.source, "items", lambda *of: [msgspec.structs.replace(one, flags=None) for one in items(*of)]
        )
    error = rig.update(email, **{f"mailboxIds/{archive}": None, **more})
    assert error is not None and error["type"] == "serverFail"
    assert len(rig.server.view()[b"Archive"]) == 1
    monkeypatch.undo()
    settled(rig)


@pytest.mark.parametrize("move", [True, False])
def test_no_copy_goes_while_the_one_that_was_moved_may_be_going(tmp_path: Path, move: bool) -> None:
    """Another client has just marked it as deleted, and that went with it."""
    rig = make(tmp_path, msgspec.structs.replace(FULL, move=move))
    uid = rig.deliver("Hello")
    rig.sync()
    email = rig.email("Hello")
    assert rig.update(email, mailboxIds=names(rig, "Inbox", "Archive")) is None
    rig.server.set_flags(b"INBOX", uid, "\\Deleted")
    error = rig.update(email, mailboxIds=names(rig, "Sent"))
    assert error is not None and error["type"] == "serverFail"
    assert len(rig.server.view()[b"Archive"]) == 1
    settled(rig)
    assert rig.emails()[email]["mailboxIds"] == names(rig, "Archive")
    assert rig.update(email, mailboxIds=names(rig, "Sent")) is None
    settled(rig)
    rig.close()


def test_from_one_mailbox_into_two_others(any_rig: Rig) -> None:
    rig = any_rig
    rig.deliver("Hello")
    rig.sync()
    email = rig.email("Hello")
    assert rig.update(email, mailboxIds=names(rig, "Archive", "Trash"), keywords={"$seen": True}) is None
    assert rig.emails()[email]["mailboxIds"] == names(rig, "Archive", "Trash")
    assert rig.emails()[email]["keywords"] == {"$seen": True}
    assert not rig.server.view()[b"INBOX"]
    settled(rig)


def test_two_copies_in_one_folder_move_together(rig: Rig) -> None:
    """mail-rules 3: (folder, UID) → Email is many to one."""
    uid = rig.deliver("Hello")
    rig.server.copy(b"INBOX", uid, b"INBOX")
    rig.sync()
    email = rig.email("Hello")
    assert rig.update(email, mailboxIds=names(rig, "Archive")) is None
    assert not rig.server.folders[b"INBOX"].messages
    assert rig.counts("Archive")[0] == 1
    settled(rig)


def test_without_uidplus_a_foreign_deleted_message_is_never_expunged(tmp_path: Path) -> None:
    """Wish 16, mail-rules 32: ours stays \\Deleted, and invisible."""
    rig = make(tmp_path, Features(id_scheme="emailid", condstore=True))
    foreign = rig.deliver("Foreign", flags=("\\Deleted",))
    rig.deliver("Ours")
    rig.sync()
    email = rig.email("Ours")
    assert rig.destroy(email) == {}
    assert foreign in rig.server.folders[b"INBOX"].messages
    assert rig.emails() == {}
    settled(rig)
    rig.close()


# --- destroy -------------------------------------------------------------------------------------------------------


def test_a_destroyed_email_is_gone_from_every_folder(any_rig: Rig) -> None:
    rig = any_rig
    uid = rig.deliver("Hello")
    rig.server.copy(b"INBOX", uid, b"Archive")
    rig.sync()
    email, state = rig.email("Hello"), rig.store.state("Email")
    assert rig.call("Email/set", destroy=[email])["destroyed"] == [email]
    assert not any(rig.server.view().values())
    assert rig.call("Email/get", ids=[email])["notFound"] == [email]
    assert rig.call("Email/changes", sinceState=state)["destroyed"] == [email]
    settled(rig)


def test_destroying_a_thousand_is_one_removal_per_folder(rig: Rig) -> None:
    for at in range(1000):
        rig.deliver(f"m{at}")
    rig.sync()
    rig.source.calls.clear()
    assert len(rig.call("Email/set", destroy=list(rig.emails()))["destroyed"]) == 1000
    assert commands(rig) == ["remove"]
    assert rig.counts("Inbox") == (0, 0, 0, 0)
    settled(rig)


def test_updating_what_the_same_call_destroys_is_will_destroy(rig: Rig) -> None:
    rig.deliver("Hello")
    rig.sync()
    email = rig.email("Hello")
    reply = rig.call("Email/set", update={email: {"keywords/x": True}}, destroy=[email])
    assert reply["notUpdated"][email]["type"] == "willDestroy" and reply["destroyed"] == [email]


# --- what goes wrong -----------------------------------------------------------------------------------------------


def refusing(name: str, code: str | None, times: int = 1) -> Any:
    left = [times]

    def fault(called: str) -> None:
        if called == name and left[0]:
            left[0] -= 1
            raise UpstreamError("refused", code=code, temporary=False)

    return fault


@pytest.mark.parametrize(
    ("code", "type_"),
    [("overquota", "overQuota"), ("noperm", "forbidden"), ("trycreate", "notFound"), (None, "serverFail")],
)
def test_a_refused_copy_leaves_the_source_untouched(rig: Rig, code: str | None, type_: str) -> None:
    rig.deliver("Hello")
    rig.sync()
    email = rig.email("Hello")
    before = rig.server.view()
    rig.source.fault = refusing("copy", code)
    error = rig.update(email, mailboxIds=names(rig, "Archive", "Trash"), keywords={"x": True})
    assert error is not None and error["type"] == type_
    # The keyword was taken back too: each record is all or nothing (mail-rules 27).
    assert rig.server.view() == before
    assert rig.emails()[email]["mailboxIds"] == names(rig, "Inbox")
    assert rig.emails()[email]["keywords"] == {}
    settled(rig)


def test_a_refused_move_takes_the_further_copies_back(rig: Rig) -> None:
    rig.deliver("Hello")
    rig.sync()
    email = rig.email("Hello")
    before = rig.server.view()
    rig.source.fault = refusing("move", "overquota")
    error = rig.update(email, mailboxIds=names(rig, "Archive", "Trash"))
    assert error is not None and error["type"] == "overQuota"
    assert rig.server.view() == before
    assert rig.emails()[email]["mailboxIds"] == names(rig, "Inbox")
    settled(rig)


def test_what_cannot_be_taken_back_is_told_and_shown(rig: Rig) -> None:
    rig.deliver("Hello")
    rig.sync()
    email = rig.email("Hello")

    def fault(name: str) -> None:
        if name in ("move", "remove"):
            raise UpstreamError("refused", code="noperm", temporary=False)

    rig.source.fault = fault
    error = rig.update(email, mailboxIds=names(rig, "Archive", "Trash"))
    assert error is not None and error["type"] == "forbidden" and "could not be taken back" in error["description"]
    rig.source.fault = None
    assert len(rig.emails()[email]["mailboxIds"]) == 2
    settled(rig)


def test_one_refused_group_does_not_fail_the_others(rig: Rig) -> None:
    rig.deliver("In the inbox")
    rig.deliver("Archived", key=b"Archive")
    rig.sync()
    here, there = rig.email("In the inbox"), rig.email("Archived")
    rig.source.fault = refusing("store", "noperm")
    reply = rig.call("Email/set", update={id_: {"keywords/$seen": True} for id_ in (here, there)})
    assert len(reply["updated"]) == len(reply["notUpdated"]) == 1
    settled(rig)


def test_a_message_that_vanished_meanwhile_is_not_found(rig: Rig) -> None:
    uid = rig.deliver("Hello")
    rig.sync()
    email = rig.email("Hello")
    rig.server.expunge(b"INBOX", uid)
    for patch in ({"keywords/$seen": True}, {"mailboxIds": names(rig, "Archive")}):
        rig.source.calls.clear()
        error = rig.call("Email/set", update={email: patch})["notUpdated"][email]
        assert error["type"] == "notFound"
    settled(rig)
    assert rig.emails() == {}


def test_a_folder_that_was_replaced_is_never_written_to(rig: Rig) -> None:
    """Wish 13: no STORE ever on a wrong UID."""
    rig.deliver("Hello")
    rig.sync()
    email = rig.email("Hello")
    rig.server.reset_uids(b"INBOX")
    error = rig.update(email, **{"keywords/$seen": True})
    assert error is not None and error["type"] == "notFound"
    assert all(one.flags == () for one in rig.server.folders[b"INBOX"].messages.values())
    rig.sync()
    assert rig.update(rig.email("Hello"), **{"keywords/$seen": True}) is None


@pytest.mark.parametrize("name", ["store", "copy", "move", "remove"])
def test_an_answer_that_was_lost_loses_and_doubles_nothing(tmp_path: Path, name: str) -> None:
    """The server did the work, the connection broke before the answer: serverFail, and the view is right again."""
    features = FULL if name != "copy" else SERVERS["no MOVE"]
    rig = make(tmp_path, features)
    rig.deliver("Hello")
    rig.sync()
    email = rig.email("Hello")

    def lost(called: str) -> None:
        if called == name:
            rig.source.after = None
            raise UpstreamError("cut", code="unsure")

    rig.source.after = lost
    if name == "remove":
        assert rig.destroy(email)[email]["type"] == "serverFail"
    else:
        error = rig.update(email, mailboxIds=names(rig, "Archive"), keywords={"$seen": True})
        assert error is not None and error["type"] == "serverFail"
    rig.check()
    count = sum(len(folder) for folder in rig.server.view().values())
    assert len(rig.emails()) == (0 if name == "remove" else 1)
    assert count >= len(rig.emails())
    settled(rig)
    rig.close()


def test_rights_are_checked_before_anything_is_sent(rig: Rig) -> None:
    """mail-rules 24."""
    rig.server.folders[b"Archive"].rights = Rights(may_add_items=False, may_set_seen=False)
    rig.deliver("Hello")
    rig.deliver("Shut", key=b"Archive")
    rig.sync()
    hello, shut = rig.email("Hello"), rig.email("Shut")
    error = rig.update(hello, mailboxIds=names(rig, "Archive"))
    assert error is not None and error["type"] == "forbidden" and "mayAddItems" in error["description"]
    error = rig.update(shut, **{"keywords/$seen": True})
    assert error is not None and error["type"] == "forbidden" and "maySetSeen" in error["description"]
    assert rig.update(shut, **{"keywords/x": True}) is None
    assert writes(rig) == ["store"]


def test_a_keyword_that_the_server_does_not_keep_is_named(rig: Rig) -> None:
    """mail-rules 33: an error, not silence."""
    rig.server.folders[b"INBOX"].permanent_flags = ("\\Seen", "\\Flagged", "\\Deleted", "known")
    uid = rig.deliver("Hello")
    rig.sync()
    email = rig.email("Hello")
    error = rig.update(email, **{"keywords/foo": True, "keywords/$seen": True})
    assert error is not None and error["type"] == "invalidProperties"
    assert error["properties"] == ["keywords/foo"] and "foo" in error["description"]
    assert rig.server.folders[b"INBOX"].messages[uid].flags == ()
    assert rig.update(email, **{"keywords/KNOWN": True}) is None


def test_forwarded_and_its_like_are_kept_here_where_the_server_refuses_them(rig: Rig) -> None:
    """mail-rules 33: the message just sent would stay in Drafts otherwise."""
    rig.server.folders[b"INBOX"].permanent_flags = ("\\Seen", "\\Flagged", "\\Deleted")
    rig.deliver("Hello")
    rig.sync()
    email = rig.email("Hello")
    assert rig.update(email, **{"keywords/$forwarded": True, "keywords/$seen": True}) is None
    assert rig.emails()[email]["keywords"] == {"$seen": True, "$forwarded": True}
    settled(rig)
    rig.reopen(lose_cache=True)
    rig.sync()
    assert rig.emails()[email]["keywords"] == {"$seen": True, "$forwarded": True}
    assert rig.update(email, **{"keywords/$forwarded": None}) is None
    assert rig.emails()[email]["keywords"] == {"$seen": True}
    settled(rig)


def test_what_the_target_folder_would_drop_is_kept_here(rig: Rig) -> None:
    rig.server.folders[b"Trash"].permanent_flags = ("\\Seen", "\\Deleted")
    rig.deliver("Hello", flags=("work",))
    rig.sync()
    email = rig.email("Hello")
    assert rig.update(email, mailboxIds=names(rig, "Trash")) is None
    assert rig.emails()[email]["keywords"] == {"work": True}
    settled(rig)


def test_if_in_state_compares_with_what_upstream_has_now(rig: Rig) -> None:
    """mail-rules 29."""
    uid = rig.deliver("Hello")
    rig.sync()
    email, state = rig.email("Hello"), rig.store.state("Email")
    rig.server.set_flags(b"INBOX", uid, "\\Seen")
    with pytest.raises(MethodError) as caught:
        rig.call("Email/set", ifInState=state, update={email: {"keywords/x": True}})
    assert caught.value.type == "stateMismatch"
    assert writes(rig) == []
    reply = rig.call("Email/set", ifInState=rig.store.state("Email"), update={email: {"keywords/x": True}})
    assert reply["updated"] == {email: None}


# --- a pass at the same time ---------------------------------------------------------------------------------------


def test_a_pass_that_read_before_our_write_does_not_undo_it(rig: Rig) -> None:
    """The pass has the folder's old flags in hand when our STORE comes through."""
    first = rig.deliver("First")
    rig.deliver("Second")
    rig.sync()
    email = rig.email("Second")
    rig.server.set_flags(b"INBOX", first, "\\Flagged")
    original = rig.source.changes

    def changes(*args: Any) -> Any:
        found = original(*args)
        assert rig.update(email, **{"keywords/$seen": True}) is None
        assert rig.update(rig.email("First"), mailboxIds=names(rig, "Archive")) is None
        rig.source.changes = original  # type: ignore[method-assign]
        return found

    rig.source.changes = changes  # type: ignore[method-assign]
    state = rig.store.state("Email")
    rig.service.sync()
    assert rig.emails()[email]["keywords"] == {"$seen": True}
    assert rig.emails()[rig.email("First")]["mailboxIds"] == names(rig, "Archive")
    rig.sync()
    changes_ = rig.call("Email/changes", sinceState=state)
    assert sorted(changes_["updated"]) == sorted(rig.emails()) and not changes_["destroyed"]
    settled(rig)


@pytest.mark.parametrize("when", ["read while we write", "applied before our answer"])
@pytest.mark.parametrize("known", [True, False], ids=["known", "first listing"])
@pytest.mark.parametrize("condstore", [True, False], ids=["CONDSTORE", "no CONDSTORE"])
def test_what_others_do_between_our_command_and_its_answer_is_not_lost(
    tmp_path: Path, when: str, known: bool, condstore: bool
) -> None:
    """The answer to our STORE is older than theirs, and comes in after a pass has read theirs."""
    features = msgspec.structs.replace(FULL, condstore=condstore, qresync=condstore)
    rig = Rig(tmp_path, MemoryServer(features), full_flags=False)
    for role in ("drafts", "sent", "trash"):
        rig.server.create(role.capitalize().encode(), role=role)
    flagged, gone = (rig.deliver(subject) for subject in ("Flagged", "Gone"))
    rig.sync()
    if not known:
        # What we know of the folder is what an interrupted first listing left.
        rig.store.cache.write(lambda txn: txn.execute("UPDATE mailbox SET uidnext = NULL WHERE key = ?", (b"INBOX",)))
    passes: list[gevent.Greenlet] = []
    read, go_on = Event(), Event()
    original, original_store = rig.source.changes, rig.source.store

    def changes(key: bytes, *args: Any) -> Any:
        found = original(key, *args)
        if key == b"INBOX" and when == "read while we write":
            read.set()
            go_on.wait(5)
        return found

    def store(*args: Any) -> Any:
        answer = original_store(*args)
        rig.server.set_flags(b"INBOX", flagged, "\\Flagged", "\\Seen")
        rig.server.expunge(b"INBOX", gone)
        passes.append(gevent.spawn(rig.service.sync))
        if when == "read while we write":
            read.wait(5)
        else:
            gevent.sleep(0.05)
        return answer

    rig.source.changes, rig.source.store = changes, store  # type: ignore[method-assign]
    ids = [rig.email("Flagged"), rig.email("Gone")]
    rig.call("Email/set", update={id_: {"keywords/$seen": True} for id_ in ids})
    go_on.set()
    gevent.joinall(passes, timeout=5, raise_error=True)
    rig.source.changes, rig.source.store = original, original_store  # type: ignore[method-assign]
    rig.sync()
    assert {email["subject"]: email["keywords"] for email in rig.emails().values()} == {
        "Flagged": {"$seen": True, "$flagged": True}
    }
    settled(rig)
    rig.close()


def test_two_writers_of_one_email_both_get_their_way(rig: Rig) -> None:
    for at in range(20):
        rig.deliver(f"m{at}")
    rig.sync()
    rig.source.before = lambda name: gevent.sleep(0)
    emails = list(rig.emails())
    trash = names(rig, "Trash")
    jobs = [gevent.spawn(rig.update, id_, **{"keywords/$seen": True}) for id_ in emails]
    jobs += [gevent.spawn(rig.update, id_, mailboxIds=trash) for id_ in emails]
    jobs += [gevent.spawn(rig.service.sync)]
    gevent.joinall(jobs, timeout=60)
    assert [job.value for job in jobs] == [None] * 41
    assert all(email["mailboxIds"] == trash for email in rig.emails().values())
    assert all(email["keywords"] == {"$seen": True} for email in rig.emails().values())
    rig.sync()
    settled(rig)


def test_a_write_that_fails_inside_leaves_the_lock_free(rig: Rig) -> None:
    rig.deliver("Hello")
    rig.sync()
    call = Call("x", rig.id, rig, rig.limits, {}, frozenset())
    with pytest.raises(ZeroDivisionError), WriteSession(call):
        raise ZeroDivisionError
    with gevent.Timeout(5):
        gevent.spawn(rig.update, rig.email("Hello"), **{"keywords/$seen": True}).get()


class Died(BaseException):
    """The worker's end, in the middle of a write."""


def die_before(rig: Rig, step: str) -> None:
    def die(name: str) -> None:
        if name == step:
            raise Died

    rig.source.before = die


def test_a_move_in_two_steps_is_finished_after_a_crash(tmp_path: Path) -> None:
    """mail-rules 28: COPY was done, the worker died before the source went."""
    rig = make(tmp_path, SERVERS["no MOVE"])
    rig.deliver("Hello")
    rig.sync()
    email = rig.email("Hello")

    die_before(rig, "remove")
    with pytest.raises(Died):
        rig.update(email, mailboxIds=names(rig, "Archive"))
    assert len(rig.server.view()[b"INBOX"]) == len(rig.server.view()[b"Archive"]) == 1
    rig.reopen()
    rig.sync()
    assert not rig.server.view()[b"INBOX"] and len(rig.server.view()[b"Archive"]) == 1
    assert rig.emails()[email]["mailboxIds"] == names(rig, "Archive")
    settled(rig)
    rig.close()


def test_a_move_in_two_steps_that_had_not_begun_is_forgotten(tmp_path: Path) -> None:
    rig = make(tmp_path, SERVERS["no MOVE"])
    rig.deliver("Hello")
    rig.sync()
    email = rig.email("Hello")

    die_before(rig, "copy")
    with pytest.raises(Died):
        rig.update(email, mailboxIds=names(rig, "Archive"))
    rig.reopen()
    rig.sync()
    assert rig.emails()[email]["mailboxIds"] == names(rig, "Inbox")
    assert rig.store.own.value("SELECT count(*) FROM mail_transfer") == 0
    settled(rig)
    rig.close()


def test_a_journalled_move_whose_copy_is_not_there_any_more_removes_nothing(tmp_path: Path) -> None:
    """A write that failed took its copy back, while a pass that had read the copy was about to finish the move."""
    rig = make(tmp_path, SERVERS["no MOVE"])
    rig.deliver("Hello")
    rig.sync()
    copied = rig.server.copy(b"INBOX", 1, b"Archive")
    rig.sync()
    boxes = {row.key: row for row in mailboxes.rows(rig.store)}
    inbox, archive = boxes[b"INBOX"].mid, boxes[b"Archive"].mid
    eid = rig.store.cache.value("SELECT eid FROM message WHERE mid = ? AND uid = 1", (inbox,))
    writing.begin_transfer(rig.store, inbox, archive, {1: eid}, True)
    rig.server.expunge(b"Archive", copied)
    folders: Any = None
    finish_transfers(rig.store, rig.source, {row.mid: row for row in boxes.values()}, folders)
    assert list(rig.server.folders[b"INBOX"].messages) == [1] and not writing.transfers(rig.store)
    rig.sync()
    assert rig.emails()[rig.email("Hello")]["mailboxIds"] == names(rig, "Inbox")
    settled(rig)
    rig.close()


def test_a_transfer_that_stopped_in_the_middle_fails_the_rest_and_loses_nothing(rig: Rig) -> None:
    """RFC 6851 §4.1: MOVE may have moved some. What is still there is not gone."""
    for at in range(4):
        rig.deliver(f"m{at}")
    rig.sync()
    original = rig.source.move

    def move(key: bytes, validity: int, uids: Any, target: bytes, known: Any) -> Any:
        return original(key, validity, list(uids)[:2], target, known)

    rig.source.move = move  # type: ignore[method-assign]
    archive = names(rig, "Archive")
    reply = rig.call("Email/set", update={id_: {"mailboxIds": archive} for id_ in rig.emails()})
    assert len(reply["updated"]) == 2
    assert {error["type"] for error in reply["notUpdated"].values()} == {"serverFail"}
    assert rig.counts("Archive")[0] == rig.counts("Inbox")[0] == 2
    settled(rig)


@pytest.mark.parametrize("scheme", ["emailid", ""])
def test_a_message_whose_move_was_not_told_is_never_out_of_sight(
    tmp_path: Path, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = make(tmp_path, msgspec.structs.replace(FULL, id_scheme=scheme))
    rig.deliver("one", message_id="one@x")
    rig.sync()
    ident, state, move = rig.email("one"), rig.store.state("Email"), rig.source.move
    monkeypatch.setattr(rig.source, "move", lambda *asked: Copied({}, move(*asked).uidvalidity))
    assert (rig.update(ident, mailboxIds=names(rig, "Archive")) or {})["type"] == "notFound"
    assert rig.emails()[ident]["mailboxIds"] == names(rig, "Archive")
    changes = rig.call("Email/changes", sinceState=state)
    assert (changes["created"], changes["updated"], changes["destroyed"]) == ([], [ident], [])
    settled(rig)
    assert rig.store.own.value("SELECT count(*) FROM mail_transfer") == 0
    rig.close()


def test_a_message_that_another_client_has_just_moved_is_never_out_of_sight(rig: Rig) -> None:
    rig.sync()
    for patch in ({"mailboxIds": names(rig, "Archive")}, {"keywords__$seen": True}, {"keywords": {"$flagged": True}}):
        uid = rig.deliver(str(patch))
        rig.sync()
        ident, state = rig.email(str(patch)), rig.store.state("Email")
        rig.server.move(b"INBOX", uid, b"Trash")
        assert (rig.update(ident, **patch) or {})["type"] == "notFound"
        assert rig.emails()[ident]["mailboxIds"] == names(rig, "Trash")
        changes = rig.call("Email/changes", sinceState=state)
        assert (changes["created"], changes["updated"], changes["destroyed"]) == ([], [ident], [])
        settled(rig)


def test_a_flag_that_quietly_stays_is_told(rig: Rig) -> None:
    rig.deliver("Hello", flags=("\\Seen",))
    rig.sync()
    email = rig.email("Hello")
    rig.source.store = lambda key, validity, uids, add, remove: dict.fromkeys(uids, ("\\Seen",))  # type: ignore[method-assign]
    error = rig.update(email, **{"keywords/$seen": None})
    assert error is not None and error["type"] == "forbidden"
    assert rig.emails()[email]["keywords"] == {"$seen": True}


def test_the_first_write_makes_the_folders_that_every_client_needs(tmp_path: Path) -> None:
    """mail-rules 25: Drafts, Sent and Trash, subscribed, their roles bound."""
    rig = Rig(tmp_path, MemoryServer(FULL))
    rig.deliver("Hello")
    rig.sync()
    assert set(rig.boxes()) == {"Inbox"}
    assert rig.update(rig.email("Hello"), **{"keywords/$seen": True}) is None
    assert {box["role"] for box in rig.boxes().values()} == {"inbox", "drafts", "sent", "trash"}
    assert all(folder.subscribed for folder in rig.server.folders.values())
    settled(rig)
    rig.close()


def test_a_server_that_refuses_those_folders_keeps_nobody_from_writing(tmp_path: Path) -> None:
    rig = Rig(tmp_path, MemoryServer(FULL))
    rig.deliver("Hello")
    rig.sync()
    rig.source.fault = refusing("create_folder", "noperm", 3)
    assert rig.update(rig.email("Hello"), **{"keywords/$seen": True}) is None
    assert set(rig.boxes()) == {"Inbox"}
    rig.close()


def test_what_is_kept_here_is_not_kept_when_the_record_fails(rig: Rig) -> None:
    rig.server.folders[b"INBOX"].permanent_flags = ("\\Seen", "\\Flagged", "\\Deleted")
    rig.deliver("Hello")
    rig.sync()
    email = rig.email("Hello")
    rig.source.fault = refusing("store", "noperm")
    assert rig.update(email, **{"keywords/$forwarded": True, "keywords/$seen": True}) is not None
    assert rig.emails()[email]["keywords"] == {}
    assert rig.store.own.value("SELECT count(*) FROM mail_keyword") == 0
    settled(rig)
