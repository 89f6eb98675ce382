"""Email/set create and Email/import (RFC 8621 §4.6, §4.8, mail-rules 5, 30, 31, 34) over a server in memory."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sync_rig import Rig
from test_email_set import FULL, SERVERS, commands, make, names, refusing, settled

from jmapplug.backends import Features, Rights
from jmapplug.capabilities.mail import email_import
from jmapplug.errors import UpstreamError
from jmapplug.jmap.errors import MethodError
from jmapplug.testing.memory_source import message


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = make(tmp_path)
    made.sync()
    yield made
    made.close()


@pytest.fixture(params=list(SERVERS))
def any_rig(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Rig]:
    made = make(tmp_path, SERVERS[request.param])
    made.sync()
    yield made
    made.close()


def draft(rig: Rig, subject: str = "A draft", **more: Any) -> dict[str, Any]:
    return {
        "mailboxIds": names(rig, "Archive"),
        "keywords": {"$draft": True, "$seen": True},
        "from": [{"name": "Ann", "email": "ann@example.org"}],
        "to": [{"name": None, "email": "bob@example.org"}],
        "subject": subject,
        "bodyValues": {"1": {"value": "Hello Bob"}},
        "textBody": [{"partId": "1", "type": "text/plain"}],
        **more,
    }


def one_import(rig: Rig, blob_id: str, **more: Any) -> dict[str, Any]:
    record = {"blobId": blob_id, "mailboxIds": names(rig, "Inbox"), **more}
    return rig.call("Email/import", emails={"i": record})


# --- create --------------------------------------------------------------------------------------------------------


def test_a_created_email_is_there_for_the_next_call_and_told_once(any_rig: Rig) -> None:
    rig = any_rig
    states = {name: rig.store.state(name) for name in ("Email", "Thread")}
    reply = rig.call("Email/set", create={"d": draft(rig)})
    made = reply["created"]["d"]
    assert set(made) == {"id", "blobId", "threadId", "size"} and reply["notCreated"] is None
    assert rig.created_ids == {"d": made["id"]}
    (got,) = rig.call("Email/get", ids=["#d"], fetchTextBodyValues=True)["list"]
    assert got["keywords"] == {"$draft": True, "$seen": True}
    assert got["mailboxIds"] == names(rig, "Archive")
    assert (got["subject"], got["threadId"], got["size"]) == ("A draft", made["threadId"], made["size"])
    assert [value["value"].strip() for value in got["bodyValues"].values()] == ["Hello Bob"]
    assert rig.call("Email/query", filter={"inMailbox": rig.box("Archive")["id"]})["ids"] == [made["id"]]
    changes = rig.call("Email/changes", sinceState=states["Email"])
    assert (changes["created"], changes["updated"]) == ([made["id"]], [])
    assert rig.call("Thread/changes", sinceState=states["Thread"])["created"] == [made["threadId"]]
    assert rig.published[-1]["Email"] == reply["newState"]
    settled(rig)


def test_the_body_of_what_we_wrote_is_not_fetched_again(rig: Rig) -> None:
    rig.call("Email/set", create={"d": draft(rig)})
    rig.source.calls.clear()
    rig.call("Email/get", ids=["#d"], fetchTextBodyValues=True, properties=["bodyValues", "textBody"])
    blob = rig.blob(rig.call("Email/get", ids=["#d"], properties=["blobId"])["list"][0]["blobId"])
    assert blob is not None and b"Subject: A draft" in blob.path.read_bytes()
    assert "raw" not in commands(rig)


def test_drafts_of_one_folder_are_appended_together(rig: Rig) -> None:
    reply = rig.call("Email/set", create={f"d{at}": draft(rig, f"s{at}") for at in range(20)})
    assert len(reply["created"]) == 20
    assert commands(rig).count("append") == 1
    settled(rig)


def test_a_draft_in_two_mailboxes_is_one_email(any_rig: Rig) -> None:
    rig = any_rig
    where = names(rig, "Archive", "Trash")
    made = rig.call("Email/set", create={"d": draft(rig, mailboxIds=where)})["created"]["d"]
    assert rig.emails()[made["id"]]["mailboxIds"] == where
    assert len(rig.server.view()[b"Archive"]) == len(rig.server.view()[b"Trash"]) == 1
    settled(rig)


def test_a_copy_that_fails_takes_the_draft_back(rig: Rig) -> None:
    """Each record is all or nothing (RFC 8620 §5.3)."""
    rig.source.fault = refusing("copy", "overquota")
    reply = rig.call("Email/set", create={"d": draft(rig, mailboxIds=names(rig, "Archive", "Trash"))})
    assert reply["notCreated"]["d"]["type"] == "overQuota" and reply["created"] is None
    assert not any(rig.server.view().values()) and rig.emails() == {}
    settled(rig)


def test_the_received_date_is_what_the_client_gave(rig: Rig) -> None:
    made = rig.call("Email/set", create={"d": draft(rig, receivedAt="2020-02-03T04:05:06Z")})["created"]["d"]
    (got,) = rig.call("Email/get", ids=[made["id"]], properties=["receivedAt"])["list"]
    assert got["receivedAt"] == "2020-02-03T04:05:06Z"


@pytest.mark.parametrize("at", ["1970-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "0001-01-01T00:00:00Z"])
def test_a_received_date_before_any_clock_is_the_first_that_clocks_know(rig: Rig, at: str) -> None:
    """Go's zero time among them; never now, and never what a clock without a sign makes of it."""
    made = rig.call("Email/set", create={"d": draft(rig, receivedAt=at)})["created"]["d"]["id"]
    brought = one_import(rig, rig.upload(message("Hello")), receivedAt=at)["created"]["i"]["id"]
    emails = rig.emails()
    assert {emails[id_]["receivedAt"] for id_ in (made, brought)} == {0}


@pytest.mark.parametrize(
    ("more", "properties"),
    [
        ({"mailboxIds": {}}, ["mailboxIds"]),
        ({"mailboxIds": None}, ["mailboxIds"]),
        ({"mailboxIds": {"nowhere": True}}, ["mailboxIds"]),
        ({"mailboxIds": {"x": "y"}}, ["mailboxIds"]),
        ({"keywords": {"a b": True}}, ["keywords/a b"]),
        ({"keywords": ["x"]}, ["keywords"]),
        ({"receivedAt": "yesterday"}, ["receivedAt"]),
    ],
)
def test_what_is_wrong_with_a_draft_is_named(rig: Rig, more: dict[str, Any], properties: list[str]) -> None:
    error = rig.call("Email/set", create={"d": draft(rig, **more)})["notCreated"]["d"]
    assert (error["type"], error["properties"]) == ("invalidProperties", properties)
    assert "append" not in commands(rig)
    assert list(rig.store.blobs.parts.glob("new-*")) == []


def test_no_right_to_add_is_forbidden(rig: Rig) -> None:
    rig.server.folders[b"Archive"].rights = Rights(may_add_items=False)
    rig.server.deliver(b"Archive")
    rig.sync()
    assert rig.call("Email/set", create={"d": draft(rig)})["notCreated"]["d"]["type"] == "forbidden"


def test_a_draft_is_replaced_in_one_call_with_its_old_parts(rig: Rig) -> None:
    """mail-rules 31: create and destroy in one call; the new one takes a part of the old one."""
    blob = rig.upload(b"octets", "application/x-thing")
    file = {"blobId": blob, "type": "application/x-thing", "disposition": "attachment", "name": "a.bin"}
    old = rig.call("Email/set", create={"d": draft(rig, attachments=[file])})["created"]["d"]["id"]
    (got,) = rig.call("Email/get", ids=[old], properties=["attachments"])["list"]
    part = {**file, "blobId": got["attachments"][0]["blobId"]}
    reply = rig.call("Email/set", create={"n": draft(rig, "Second", attachments=[part])}, destroy=[old])
    assert reply["destroyed"] == [old]
    (new,) = rig.call("Email/get", ids=[reply["created"]["n"]["id"]], properties=["attachments"])["list"]
    ref = rig.blob(new["attachments"][0]["blobId"])
    assert ref is not None and ref.path.read_bytes() == b"octets"
    gone = rig.blob(f"m-{old}")
    assert gone is not None and b"A draft" in gone.path.read_bytes()
    settled(rig)


def test_a_reply_joins_the_thread_of_what_it_answers(rig: Rig) -> None:
    rig.server.deliver(b"INBOX", message("Topic", message_id="first@x"))
    rig.sync()
    thread = rig.emails()[rig.email("Topic")]["threadId"]
    made = rig.call("Email/set", create={"d": draft(rig, "Re: Topic", inReplyTo=["first@x"], references=["first@x"])})
    assert made["created"]["d"]["threadId"] == thread
    assert rig.call("Thread/get", ids=[thread])["list"][0]["emailIds"] == [
        rig.email("Topic"),
        made["created"]["d"]["id"],
    ]
    settled(rig)


# --- import --------------------------------------------------------------------------------------------------------


def test_an_imported_message_is_there_at_once_octet_by_octet(any_rig: Rig) -> None:
    rig = any_rig
    raw = message("Hello", extra=["Received: from x by y; Tue, 03 Mar 2020 10:00:00 +0100", "X-Odd:   kept  "])
    blob = rig.upload(raw)
    reply = one_import(rig, blob, keywords={"$Seen": True, "Work": True})
    made = reply["created"]["i"]
    assert set(reply) == {"accountId", "oldState", "newState", "created", "notCreated"}
    (got,) = rig.call("Email/get", ids=[made["id"]], properties=["keywords", "receivedAt", "size", "blobId"])["list"]
    assert got["keywords"] == {"$seen": True, "work": True}
    # RFC 8621 §4.8: the default is the time of the most recent Received header.
    assert got["receivedAt"] == "2020-03-03T09:00:00Z"
    ref = rig.blob(got["blobId"])
    assert ref is not None and ref.path.read_bytes() == raw and got["size"] == len(raw)
    assert rig.blob(blob) is not None
    settled(rig)


def test_a_message_without_received_fields_is_received_now(rig: Rig) -> None:
    made = one_import(rig, rig.upload(message("Hello")))["created"]["i"]
    received = rig.emails()[made["id"]]["receivedAt"]
    assert received > 1_790_000_000


def test_importing_the_same_message_twice_makes_two_emails(any_rig: Rig) -> None:
    """mail-rules 5: our own APPEND is always a new Email, with its own id and mutable properties."""
    rig = any_rig
    blob = rig.upload(message("Hello", message_id="same@x"))
    first = one_import(rig, blob)["created"]["i"]["id"]
    second = one_import(rig, blob, keywords={"$seen": True})["created"]["i"]["id"]
    assert first != second
    assert rig.emails()[first]["keywords"] == {} and rig.emails()[second]["keywords"] == {"$seen": True}
    assert rig.counts("Inbox")[0] == 2
    settled(rig)


def test_what_the_server_calls_the_same_message_already_exists(rig: Rig) -> None:
    """mail-rules 5: an EMAILID that is known."""
    rig.server.deliver(b"Archive", message("Hello"), guid="known")
    rig.sync()
    there = rig.email("Hello")
    original = rig.server.deliver
    rig.server.deliver = lambda key, raw, **more: original(key, raw, guid="known", **more)  # type: ignore[method-assign, assignment, misc]
    reply = one_import(rig, rig.upload(message("Hello")))
    assert reply["created"] is None
    assert reply["notCreated"]["i"]["type"] == "alreadyExists" and reply["notCreated"]["i"]["existingId"] == there
    assert not rig.server.view()[b"INBOX"]
    settled(rig)


def same(rig: Rig) -> str:
    """The id of a message "Hello" in Archive; the server calls whatever comes from now on the same as that."""
    rig.server.deliver(b"Archive", message("Hello"), guid="known")
    rig.server.deliver(b"Archive", message("Other"))
    rig.sync()
    original = rig.server.deliver
    rig.server.deliver = lambda key, raw, **more: original(key, raw, **more | {"guid": "known"})  # type: ignore[method-assign, assignment, misc]
    return rig.email("Hello")


def _renumbered(rig: Rig) -> None:
    """Now the UID is another message's."""
    rig.server.expunge(b"Archive", 1)
    rig.server.reset_uids(b"Archive")


REMOVALS: dict[str, Callable[[Rig], None]] = {
    "expunged": lambda rig: rig.server.expunge(b"Archive", 1),
    "hidden": lambda rig: rig.server.set_flags(b"Archive", 1, "\\Deleted"),
    "renumbered": _renumbered,
}


@pytest.mark.parametrize("removed", REMOVALS)
def test_a_new_copy_of_what_was_just_removed_stays(rig: Rig, removed: str) -> None:
    """Another client removed the one that we know of, and no pass has seen it: the new copy is all that there is."""
    there = same(rig)
    REMOVALS[removed](rig)
    made = one_import(rig, rig.upload(message("Hello")))["created"]["i"]["id"]
    rig.sync()
    rig.check()
    assert made != there and rig.email("Hello") == made
    assert len(rig.server.view()[b"INBOX"]) == 1


def test_a_new_copy_stays_while_nobody_can_say_whether_the_old_one_is_there(rig: Rig) -> None:
    there = same(rig)
    rig.source.fault = refusing("items", None)
    error = one_import(rig, rig.upload(message("Hello")))["notCreated"]["i"]
    assert error["type"] == "serverFail"
    assert len(rig.server.view()[b"INBOX"]) == 1
    rig.sync()
    rig.check()
    assert rig.id_at(b"INBOX", 1) == there


@pytest.mark.parametrize("ends", [b"\n", b"\r"])
def test_bare_line_ends_become_crlf(rig: Rig, ends: bytes) -> None:
    raw = message("Hello", body="one\r\n\r\ntwo\r\n")
    one_import(rig, rig.upload(raw.replace(b"\r\n", ends)))
    (stored,) = rig.server.folders[b"INBOX"].messages.values()
    assert stored.raw == raw


@given(text=st.text("ab\r\n", max_size=40), block=st.integers(1, 7))
@settings(deadline=None)
def test_line_ends_are_seen_whatever_the_blocks(text: str, block: int) -> None:
    """What is read in pieces is judged, and mended, as a whole."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(email_import, "_BLOCK", block)
        path = Path(folder) / "m"
        path.write_bytes(text.encode())
        wanted = re.sub(r"\r\n|\r|\n", "\r\n", text).encode()
        assert email_import._has_bare_ends(path) == (wanted != text.encode())
        account = SimpleNamespace(store=SimpleNamespace(blobs=SimpleNamespace(temporary=lambda: Path(folder) / "t")))
        mended, ours = email_import._with_crlf(account, path)
        assert mended.read_bytes() == wanted and ours == (wanted != text.encode())


@pytest.mark.parametrize(
    ("record", "type_", "properties"),
    [
        ({"blobId": "f-00000000-0000-0000-0000-000000000000"}, "invalidProperties", ["blobId"]),
        ({"blobId": None}, "invalidProperties", ["blobId"]),
        ({"blobId": 7}, "invalidProperties", ["blobId"]),
        ({"mailboxIds": {}}, "invalidProperties", ["mailboxIds"]),
        ({"keywords": {"a]": True}}, "invalidProperties", ["keywords/a]"]),
        ({"subject": "x"}, "invalidProperties", ["subject"]),
    ],
)
def test_what_is_wrong_with_an_import_is_named(
    rig: Rig, record: dict[str, Any], type_: str, properties: list[str]
) -> None:
    error = one_import(rig, rig.upload(message()), **record)["notCreated"]["i"]
    assert (error["type"], error["properties"]) == (type_, properties)


@pytest.mark.parametrize("octets", [b"", b"\x00\x01\x02 no message", b"just some text\n"])
def test_what_is_no_message_is_an_invalid_email(rig: Rig, octets: bytes) -> None:
    assert one_import(rig, rig.upload(octets))["notCreated"]["i"]["type"] == "invalidEmail"


def test_the_media_type_of_an_upload_does_not_matter(rig: Rig) -> None:
    assert one_import(rig, rig.upload(message(), "message/rfc5322"))["created"]


def test_a_hundred_imports_are_one_append(rig: Rig) -> None:
    emails = {
        f"i{at}": {"blobId": rig.upload(message(f"m{at}")), "mailboxIds": names(rig, "Inbox")} for at in range(100)
    }
    reply = rig.call("Email/import", emails=emails)
    assert len(reply["created"]) == 100
    assert commands(rig)[-2:] == ["append", "details"]
    settled(rig)


def test_one_message_over_quota_fails_alone(rig: Rig) -> None:
    """mail-rules 34."""
    original = rig.source.append

    def append(key: bytes, messages: Any) -> Any:
        answers = original(key, messages[:1])
        return [*answers, *(type(answers[0])(error=UpstreamError("full", code="overquota")) for _ in messages[1:])]

    rig.source.append = append  # type: ignore[method-assign]
    emails = {f"i{at}": {"blobId": rig.upload(message(f"m{at}")), "mailboxIds": names(rig, "Inbox")} for at in range(2)}
    reply = rig.call("Email/import", emails=emails)
    assert list(reply["created"]) == ["i0"] and reply["notCreated"]["i1"]["type"] == "overQuota"
    settled(rig)


@pytest.mark.parametrize("code", ["overquota", "trycreate", "toobig", None])
def test_a_refused_append_leaves_nothing(rig: Rig, code: str | None) -> None:
    rig.source.fault = refusing("append", code)
    reply = one_import(rig, rig.upload(message()))
    wanted = {"overquota": "overQuota", "trycreate": "notFound", "toobig": "tooLarge", None: "serverFail"}
    assert reply["notCreated"]["i"]["type"] == wanted[code]
    assert rig.emails() == {} and not any(rig.server.view().values())
    settled(rig)


@pytest.mark.parametrize("step", ["append", "details"])
def test_what_was_appended_and_not_seen_is_found_by_the_next_pass(rig: Rig, step: str) -> None:
    """The connection broke right after the work: no id for the client, but the message is there, once."""

    def lost(called: str) -> None:
        if called == step:
            rig.source.after = rig.source.fault = None
            raise UpstreamError("cut", code="unsure")

    if step == "append":
        rig.source.after = lost
    else:
        rig.source.fault = lost
    reply = one_import(rig, rig.upload(message("Hello")))
    assert reply["notCreated"]["i"]["type"] == "serverFail"
    # The call itself has looked before it answered.
    assert len(rig.emails()) == 1
    settled(rig)


def test_a_folder_never_read_before_takes_what_is_appended(tmp_path: Path) -> None:
    rig = make(tmp_path, Features(id_scheme="emailid", condstore=True, move=True, uidplus=True))
    rig.service.setup()
    reply = rig.call(
        "Email/import", emails={"i": {"blobId": rig.upload(message("Hello")), "mailboxIds": names(rig, "Archive")}}
    )
    assert reply["created"]
    assert rig.counts("Archive")[0] == 1
    rig.sync()
    rig.check()
    assert rig.email("Hello") == reply["created"]["i"]["id"]
    rig.close()


def test_an_appended_message_that_somebody_removes_before_the_next_pass_vanishes(any_rig: Rig) -> None:
    rig = any_rig
    made = one_import(rig, rig.upload(message("Hello")))["created"]["i"]["id"]
    (uid,) = rig.server.folders[b"INBOX"].messages
    rig.server.expunge(b"INBOX", uid)
    rig.server.deliver(b"INBOX", message("Other"))
    rig.sync()
    assert made not in rig.emails() and len(rig.emails()) == 1
    rig.check()


def test_if_in_state_of_an_import(rig: Rig) -> None:
    with pytest.raises(MethodError, match="state"):
        rig.call("Email/import", ifInState="other-1", emails={})


def test_arguments_of_an_import_are_checked(rig: Rig) -> None:
    for args in ({}, {"emails": None}, {"emails": {"bad id!": {}}}, {"emails": {}, "more": 1}):
        with pytest.raises(MethodError) as caught:
            rig.call("Email/import", **args)
        assert caught.value.type == "invalidArguments"


@pytest.mark.parametrize(
    "args",
    [
        {"fromAccountId": "a1"},
        {"fromAccountId": "a1", "create": {}},
        {"fromAccountId": 3, "create": {}},
        {"fromAccountId": "a2"},
        {"fromAccountId": "a2", "create": []},
        {"fromAccountId": "a2", "create": {}, "onSuccessDestroyOriginal": "yes"},
        {"fromAccountId": "a2", "create": {}, "onSuccessDestroyOriginal": 1},
        {"fromAccountId": "a2", "create": {}, "ifFromInState": 3},
        {"fromAccountId": "a2", "create": {}, "more": 1},
    ],
)
def test_arguments_of_a_copy_are_checked_and_it_is_never_within_an_account(rig: Rig, args: dict[str, Any]) -> None:
    with pytest.raises(MethodError) as caught:
        rig.call("Email/copy", **args)
    assert caught.value.type == "invalidArguments"


def test_two_patches_for_one_email_are_refused_and_none_is_lost(rig: Rig) -> None:
    id_ = one_import(rig, rig.upload(message("Hello")))["created"]["i"]["id"]
    reply = rig.call("Email/set", update={"#i": {"keywords/a": True}, id_: {"keywords/b": True}})
    assert reply["updated"] is None and reply["notUpdated"][id_]["type"] == "invalidPatch"
    assert rig.emails()[id_]["keywords"] == {}


def test_id_references_reach_across_calls_of_one_request(rig: Rig) -> None:
    """aerc: import, then something with the imported Email."""
    one_import(rig, rig.upload(message("Hello")))
    reply = rig.call("Email/set", update={"#i": {"keywords/$seen": True}})
    assert list(reply["updated"]) == [rig.email("Hello")]
    assert FULL.move
