"""Other users' folders and public ones (NAMESPACE): their own tree, the rights that MYRIGHTS gives, moves, changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from scene import message

from jmapplug.testing.dovecot import KEEPER, Dovecot
from jmapplug.testing.ports import wait_until
from jmapplug.testing.proxy import Client, Proxy

CONTENT = ("mayReadItems", "mayAddItems", "mayRemoveItems", "maySetSeen", "maySetKeywords")
Boxes = dict[tuple[str, ...], dict[str, Any]]


class Shared:
    """Ada shares folders, Bob is the account of the proxy."""

    def __init__(self, proxy: Proxy, server: Dovecot, account: str) -> None:
        self.proxy, self.server, self.account = proxy, server, account
        self.ada, self.bob = server.new_user("ada"), server.new_user("bob")
        self.owner = server.imap(self.ada)
        self.reader = server.imap(self.bob)
        self.client: Client | None = None

    def share(self, name: str, rights: str, *messages: bytes) -> None:
        if name not in ("INBOX", "Trash"):
            self.owner.create(name)
        for each in messages:
            assert self.owner.append(name, "", "", each)[0] == "OK"
        self.rights(name, rights)

    def rights(self, name: str, rights: str) -> None:
        assert self.owner.setacl(name, self.bob, rights or '""')[0] == "OK"

    def flags(self, name: str) -> list[bytes]:
        """What Ada sees of a folder's messages."""
        self.owner.select(name, readonly=True)
        return [row for row in self.owner.uid("FETCH", "1:*", "FLAGS")[1] if row]

    def begin(self) -> Client:
        self.client = self.proxy.add(self.account, self.server, self.bob)
        self.proxy.settled(self.account)
        return self.client

    @property
    def jmap(self) -> Client:
        assert self.client is not None
        return self.client

    def boxes(self) -> Boxes:
        got = {box["id"]: box for box in self.jmap.call("Mailbox/get", ids=None)["list"]}

        def path(box: dict[str, Any]) -> tuple[str, ...]:
            above = got.get(box["parentId"])
            return (*(path(above) if above else ()), box["name"])

        return {path(box): box for box in got.values()}

    def box(self, *names: str) -> dict[str, Any]:
        """A folder of Ada's."""
        return self.boxes()["shared", self.ada, *names]

    def emails(self) -> dict[str, dict[str, Any]]:
        ids = self.jmap.call("Email/query")["ids"]
        properties = ["subject", "mailboxIds", "keywords"]
        got = self.jmap.call("Email/get", ids=ids, properties=properties)["list"]
        return {email["subject"]: email for email in got}

    def soon(self, what: Callable[[], bool], text: str) -> None:
        """Dovecot believes an ACL for a second; each look is a pass that was asked for."""

        def looked() -> bool:
            self.proxy.sync(self.account)
            return what()

        wait_until(looked, text)

    def close(self) -> None:
        self.owner.logout()
        self.reader.logout()
        if self.client is not None:
            assert self.proxy.management.send("DELETE", f"/api/accounts/{self.account}").status == 200


@pytest.fixture
def shared(proxy: Proxy, dovecot_shared: Dovecot, account_name: str) -> Iterator[Shared]:
    scene = Shared(proxy, dovecot_shared, account_name)
    yield scene
    scene.close()


def granted(box: dict[str, Any]) -> set[str]:
    return {name for name, allowed in box["myRights"].items() if allowed}


def test_shared_folders_are_a_tree_of_their_own_with_the_rights_of_their_acl(shared: Shared) -> None:
    shared.share("Work", "lrws", message("one"))
    shared.share("Work/Plans", "lrwstei", message("two"))
    shared.share("Blind", "l", message("three"))
    shared.share("Drop", "li", message("four"))
    shared.share("Trash", "lrk", message("five"))
    shared.share("INBOX", "lr", message("six"))
    keeper = shared.server.imap(KEEPER)
    name = f"public/{shared.account}"
    assert keeper.create(name + "/News")[0] == keeper.append(name + "/News", "", "", message("seven"))[0] == "OK"
    assert keeper.setacl(name + "/News", shared.bob, "lrs")[0] == "OK"
    keeper.logout()
    shared.begin()
    boxes = shared.boxes()
    ada = ("shared", shared.ada)
    rights = {path[1:]: granted(box) for path, box in boxes.items() if path[0] in ("shared", "public")}
    assert rights == {
        (): set(),
        ada[1:]: {"mayReadItems"},
        (*ada[1:], "Work"): {"mayReadItems", "maySetKeywords", "maySetSeen"},
        (*ada[1:], "Work", "Plans"): set(CONTENT),
        (*ada[1:], "Blind"): set(),
        (*ada[1:], "Drop"): set(),
        (*ada[1:], "Trash"): {"mayReadItems", "mayCreateChild"},
        (shared.account,): set(),
        (shared.account, "News"): {"mayReadItems", "maySetSeen"},
    }
    # What is Ada's Trash is nobody's of ours, and her folders do not mix with ours.
    assert boxes["Trash",]["role"] == "trash" and boxes[*ada, "Trash"]["role"] is None
    assert boxes["Inbox",]["role"] == "inbox" and boxes["Inbox",]["totalEmails"] == 0
    assert {path for path in boxes if path[0] == "Inbox"} == {("Inbox",)}
    assert set(shared.emails()) == {"one", "two", "five", "six", "seven"}
    assert [boxes[*ada, name]["totalEmails"] for name in ("Blind", "Drop")] == [0, 0]


def test_shared_folders_are_subscribed_as_the_user_says(shared: Shared) -> None:
    shared.share("Work", "lr")
    jmap = shared.begin()
    work = shared.box("Work")
    assert not work["isSubscribed"]
    assert jmap.call("Mailbox/set", update={work["id"]: {"isSubscribed": True}})["notUpdated"] is None
    subscribed = b"".join(row for row in shared.reader.lsub('""', '"*"')[1] if row)
    assert f"shared/{shared.ada}/Work".encode() in subscribed
    shared.proxy.sync(shared.account)
    assert shared.box("Work")["isSubscribed"]


def test_what_happens_in_a_shared_folder_is_seen_without_being_asked_for(shared: Shared) -> None:
    """NOTIFY's "personal" does not cover it: somebody looks."""
    shared.share("Work", "lr", message("one"))
    jmap = shared.begin()
    since = jmap.call("Email/get", ids=[])["state"]
    shared.owner.append("Work", "", "", message("two"))
    wait_until(lambda: set(shared.emails()) == {"one", "two"}, "Ada's new message is there")
    assert jmap.call("Email/changes", sinceState=since)["created"] == [shared.emails()["two"]["id"]]


def test_rights_that_come_and_go_are_told_as_changes(shared: Shared) -> None:
    shared.share("Work", "lr", message("one"))
    shared.share("Other", "lr", message("two"))
    jmap = shared.begin()
    work, one = shared.box("Work")["id"], shared.emails()["one"]["id"]
    since = {kind: jmap.call(f"{kind}/get", ids=[])["state"] for kind in ("Mailbox", "Email")}
    shared.rights("Work", "lrswite")
    shared.soon(lambda: granted(shared.box("Work")) == set(CONTENT), "all rights are there")
    assert work in jmap.call("Mailbox/changes", sinceState=since["Mailbox"])["updated"]
    assert jmap.call("Email/set", update={one: {"keywords/$flagged": True}})["notUpdated"] is None

    # Not to be read any more: the Mailbox stays, its Emails go; the other folder is not disturbed.
    shared.rights("Work", "l")
    shared.owner.append("Other", "", "", message("three"))
    shared.soon(lambda: set(shared.emails()) == {"two", "three"}, "nothing of it is shown")
    assert (granted(shared.box("Work")), shared.box("Work")["totalEmails"]) == (set(), 0)
    assert one in jmap.call("Email/changes", sinceState=since["Email"])["destroyed"]

    # And again: the same ids.
    shared.rights("Work", "lr")
    shared.soon(lambda: "one" in shared.emails(), "it is back")
    assert (shared.emails()["one"]["id"], shared.box("Work")["id"]) == (one, work)

    shared.owner.deleteacl("Work", shared.bob)
    shared.soon(lambda: ("shared", shared.ada, "Work") not in shared.boxes(), "it is not shared any more")
    assert set(shared.emails()) == {"two", "three"}
    assert work in jmap.call("Mailbox/changes", sinceState=since["Mailbox"])["destroyed"]


def test_without_the_right_nothing_is_written(shared: Shared) -> None:
    shared.share("Work", "lrs", message("one"), message("two"), message("three"))
    shared.reader.append("INBOX", "", "", message("mine"))
    jmap = shared.begin()
    emails, inbox, work = shared.emails(), jmap.mailbox("inbox"), shared.box("Work")["id"]
    one, two, three, mine = (emails[name]["id"] for name in ("one", "two", "three", "mine"))
    answer = jmap.call(
        "Email/set",
        update={
            one: {"mailboxIds": {inbox: True}},  # would have to leave Ada's folder
            two: {"keywords": {"$seen": True, "$flagged": True}},  # the first one would be allowed
            mine: {"mailboxIds": {work: True}, "keywords/$answered": True},
        },
        destroy=[three],
    )
    errors = [*answer["notUpdated"].values(), *answer["notDestroyed"].values()]
    assert [error["type"] for error in errors] == ["forbidden"] * 4
    refused = jmap.call(
        "Mailbox/set",
        create={"c": {"name": "Below", "parentId": work}, "d": {"name": "Bob", "parentId": shared.box()["parentId"]}},
        update={work: {"name": "Renamed"}},
    )
    errors = [*refused["notCreated"].values(), *refused["notUpdated"].values()]
    assert [error["type"] for error in errors] == ["forbidden"] * 3
    assert jmap.call("Mailbox/set", destroy=[work])["notDestroyed"][work]["type"] == "forbidden"
    shared.proxy.sync(shared.account)
    assert shared.emails() == emails
    assert not any(b"\\Flagged" in row or b"\\Seen" in row for row in shared.flags("Work"))
    shared.reader.select("INBOX", readonly=True)
    (row,) = shared.reader.uid("FETCH", "1:*", "FLAGS")[1]
    assert b"\\Answered" not in row


def test_seen_in_a_shared_folder_is_each_reader_s_own(shared: Shared) -> None:
    shared.share("Work", "lrs", message("one"))
    jmap = shared.begin()
    one = shared.emails()["one"]["id"]
    assert jmap.call("Email/set", update={one: {"keywords/$seen": True}})["notUpdated"] is None
    shared.proxy.sync(shared.account)
    assert shared.emails()["one"]["keywords"] == {"$seen": True}
    assert shared.box("Work")["unreadEmails"] == 0
    assert not any(b"\\Seen" in row for row in shared.flags("Work"))
    shared.owner.select("Work")
    shared.owner.uid("STORE", "1", "+FLAGS", "(\\Flagged \\Seen)")
    shared.soon(lambda: "$flagged" in shared.emails()["one"]["keywords"], "a common flag is told")
    assert shared.emails()["one"]["id"] == one


def test_moves_between_own_and_shared_folders_lose_nothing(shared: Shared) -> None:
    shared.share("Work", "lrswtei", message("theirs"), message("stays"))
    shared.reader.append("INBOX", "(\\Seen)", "", message("mine"))
    jmap = shared.begin()
    emails, inbox, work = shared.emails(), jmap.mailbox("inbox"), shared.box("Work")["id"]
    theirs, mine, stays = (emails[name]["id"] for name in ("theirs", "mine", "stays"))
    moves = {
        theirs: {"mailboxIds": {inbox: True}},
        mine: {"mailboxIds": {work: True}, "keywords/$flagged": True},
        stays: {f"mailboxIds/{inbox}": True},
    }
    assert jmap.call("Email/set", update=moves)["notUpdated"] is None
    shared.proxy.sync(shared.account)
    after = shared.emails()
    assert {name: (email["id"], set(email["mailboxIds"])) for name, email in after.items()} == {
        "theirs": (theirs, {inbox}),
        "mine": (mine, {work}),
        "stays": (stays, {inbox, work}),
    }
    assert after["mine"]["keywords"] == {"$seen": True, "$flagged": True}
    assert len(shared.flags("Work")) == 2 and any(b"\\Flagged" in row for row in shared.flags("Work"))
    shared.reader.select("INBOX", readonly=True)
    assert len(shared.reader.uid("SEARCH", "ALL")[1][0].split()) == 2


def test_a_copy_into_a_folder_that_keeps_no_flags_keeps_ours(shared: Shared) -> None:
    """Right "i" alone: the flags that we know are kept here (mail-rules 33), and nothing is lost."""
    shared.share("Pile", "lri")
    shared.reader.append("INBOX", "", "", message("mine"))
    jmap = shared.begin()
    mine, pile = shared.emails()["mine"]["id"], shared.box("Pile")["id"]
    assert granted(shared.box("Pile")) == {"mayReadItems", "mayAddItems"}
    assert jmap.call("Email/set", update={mine: {f"mailboxIds/{pile}": True}})["notUpdated"] is None
    shared.proxy.sync(shared.account)
    assert set(shared.emails()["mine"]["mailboxIds"]) == {jmap.mailbox("inbox"), pile}
    assert jmap.call("Email/set", destroy=[mine])["notDestroyed"][mine]["type"] == "forbidden"
    assert len(shared.flags("Pile")) == 1 and set(shared.emails()) == {"mine"}


def test_folders_that_a_server_lists_by_their_prefix_alone(
    proxy: Proxy, dovecot_apart: Dovecot, account_name: str
) -> None:
    """Not in LIST "*"; and the public ones have a separator of their own."""
    scene = Shared(proxy, dovecot_apart, account_name)
    scene.share("Work/Deep", "lr", message("one"))
    keeper = dovecot_apart.imap(KEEPER)
    assert keeper.create(f'"#public.{account_name}.News"')[0] == "OK"
    assert keeper.setacl(f'"#public.{account_name}.News"', scene.bob, "lr")[0] == "OK"
    keeper.append(f'"#public.{account_name}.News"', "", "", message("two"))
    try:
        jmap = scene.begin()
        assert ("shared", scene.ada, "Work", "Deep") in scene.boxes()
        assert ("#public", account_name, "News") in scene.boxes()
        assert set(scene.emails()) == {"one", "two"}
        state = jmap.call("Mailbox/get", ids=[])["state"]
        proxy.sync(account_name)
        assert jmap.call("Mailbox/get", ids=[])["state"] == state
        scene.owner.append("Work/Deep", "", "", message("three"))
        proxy.sync(account_name)
        assert set(scene.emails()) == {"one", "two", "three"}
    finally:
        keeper.logout()
        scene.close()


def test_own_folders_below_a_shared_one_where_that_is_allowed(shared: Shared) -> None:
    shared.share("Work", "lrkxswtei")
    jmap = shared.begin()
    work = shared.box("Work")["id"]
    assert {"mayCreateChild", "mayRename", "mayDelete"} <= granted(shared.box("Work"))
    made = jmap.call("Mailbox/set", create={"c": {"name": "Below", "parentId": work}})["created"]["c"]["id"]
    assert shared.box("Work", "Below")["id"] == made
    assert b"Work/Below" in b"".join(row for row in shared.owner.list('""', '"*"')[1] if row)
    assert jmap.call("Mailbox/set", update={made: {"name": "Beneath"}})["notUpdated"] is None
    shared.proxy.sync(shared.account)
    assert shared.box("Work", "Beneath")["id"] == made
    assert jmap.call("Mailbox/set", destroy=[made])["destroyed"] == [made]
    typ, rows = shared.owner.list('""', '"Work/*"')
    assert (typ, rows) == ("OK", [None])
