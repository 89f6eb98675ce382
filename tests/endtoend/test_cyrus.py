"""A day on Cyrus: other ids, no previews, its own way with rights and special uses."""

from __future__ import annotations

import imaplib
from collections.abc import Iterator
from typing import Any

import pytest

from jmapplug.testing.cyrus import Cyrus
from jmapplug.testing.hiding import Hiding
from jmapplug.testing.ports import wait_until
from jmapplug.testing.proxy import Client, Proxy


def message(number: int) -> bytes:
    return f"From: a@b.c\r\nMessage-ID: <m{number}@x>\r\nSubject: s{number}\r\n\r\nHello number {number}\r\n".encode()


@pytest.fixture
def user(cyrus: Cyrus) -> str:
    return cyrus.new_user()


@pytest.fixture
def other(cyrus: Cyrus, user: str) -> Iterator[imaplib.IMAP4]:
    """Another client of the same mailbox, with five messages in it."""
    client = cyrus.imap(user)
    for number in range(5):
        client.append("INBOX", "", "", message(number))
    yield client
    client.logout()


@pytest.fixture
def client(proxy: Proxy, cyrus: Cyrus, user: str, other: imaplib.IMAP4, account_name: str) -> Client:
    made = proxy.add(account_name, cyrus, user)
    proxy.settled(account_name)
    return made


def emails(client: Client, **filter_: Any) -> dict[str, str]:
    """Subject → id."""
    ids = client.call("Email/query", filter=filter_)["ids"]
    return {each["subject"]: each["id"] for each in client.call("Email/get", ids=ids, properties=["subject"])["list"]}


def test_mailboxes_have_their_roles_and_messages_their_previews(client: Client) -> None:
    boxes = client.call("Mailbox/get", ids=None)["list"]
    assert {box["role"] for box in boxes} == {"inbox", "drafts", "sent", "trash", "junk", "archive"}
    ids = client.call("Email/query")["ids"]
    previews = {each["preview"] for each in client.call("Email/get", ids=ids, properties=["preview"])["list"]}
    assert previews == {f"Hello number {number}" for number in range(5)}
    assert set(emails(client, text="number")) == {f"s{number}" for number in range(5)}


def test_ids_stay_through_passes_moves_and_renames(client: Client, proxy: Proxy, other: imaplib.IMAP4) -> None:
    boxes = client.call("Mailbox/get", ids=None)
    before = emails(client)
    proxy.sync(client.account)
    assert client.call("Mailbox/get", ids=None) == boxes
    made = client.call("Mailbox/set", create={"m": {"name": "Neu ü"}})["created"]["m"]["id"]
    moved = {before["s0"]: {"mailboxIds": {made: True}, "keywords/$seen": True, "keywords/$label": True}}
    assert client.call("Email/set", update=moved)["notUpdated"] is None
    assert client.call("Mailbox/set", update={made: {"name": "Anders"}})["notUpdated"] is None
    proxy.sync(client.account)
    assert emails(client) == before
    (found,) = client.call("Email/get", ids=[before["s0"]], properties=["keywords", "mailboxIds"])["list"]
    assert (found["keywords"], found["mailboxIds"]) == ({"$seen": True, "$label": True}, {made: True})
    assert other.select("Anders")[1] == [b"1"]
    other.close()
    assert client.call("Mailbox/set", destroy=[made], onDestroyRemoveEmails=True)["destroyed"] == [made]
    assert b"Anders" not in b"".join(other.list()[1])


def test_both_sides_see_what_the_other_one_does(client: Client, other: imaplib.IMAP4) -> None:
    before = emails(client)
    other.append("INBOX", "", "", message(9))
    wait_until(lambda: "s9" in emails(client), "the new message is seen")
    assert set(client.call("Email/set", destroy=[before["s1"], before["s2"]])["destroyed"]) == {
        before["s1"],
        before["s2"],
    }
    draft = {
        "mailboxIds": {client.mailbox("drafts"): True},
        "keywords": {"$draft": True},
        "subject": "draft",
        "bodyValues": {"t": {"value": "text"}},
        "textBody": [{"partId": "t", "type": "text/plain"}],
    }
    assert client.call("Email/set", create={"d": draft})["notCreated"] is None
    assert other.select("INBOX")[1] == [b"4"]
    assert other.select("Drafts")[1] == [b"1"]
    assert b"\\Draft" in other.fetch("1", "(FLAGS)")[1][0]


def test_what_was_just_removed_can_be_imported(
    proxy: Proxy, cyrus: Cyrus, user: str, other: imaplib.IMAP4, account_name: str
) -> None:
    """EMAILID is that of the octets here: the new copy must not go because of one that is gone (mail-rules 5)."""
    relay = Hiding(cyrus.port, ("NOTIFY", "IDLE"))
    client = proxy.add(account_name, cyrus, user, imapPort=relay.port)
    proxy.settled(account_name)
    there = emails(client)["s3"]
    kind = {"Content-Type": "message/rfc822"}
    blob = client.send("POST", f"/upload/{account_name}/", message(3), kind).json["blobId"]
    record = {"blobId": blob, "mailboxIds": {client.mailbox("archive"): True}}
    answer = client.call("Email/import", emails={"i": record})["notCreated"]["i"]
    assert (answer["type"], answer["existingId"]) == ("alreadyExists", there)
    other.select("INBOX")
    other.uid("STORE", "4", "+FLAGS", "(\\Deleted)")
    other.expunge()
    made = client.call("Email/import", emails={"i": record})["created"]["i"]["id"]
    proxy.sync(account_name)
    assert emails(client)["s3"] == made != there
    assert other.select("Archive")[1] == [b"1"]
    relay.close()


def test_other_users_folders_have_their_rights(
    proxy: Proxy, cyrus: Cyrus, user: str, other: imaplib.IMAP4, account_name: str
) -> None:
    """ "Other Users/<user>/"; rights come with LIST; what may not be read is refused without a code."""
    ada = cyrus.new_user()
    owner = cyrus.imap(ada)
    for name, rights in (("Work", "lrs"), ("Work/Plans", "lrswite"), ("Blind", "l"), ("Trash", "lr")):
        owner.create(name)
        owner.append(name, "", "", message(len(name) * 10))
        assert owner.setacl(name, user, rights)[0] == "OK"
    client = proxy.add(account_name, cyrus, user)
    proxy.settled(account_name)
    boxes = {box["id"]: box for box in client.call("Mailbox/get", ids=None)["list"]}
    above = next(box["id"] for box in boxes.values() if box["name"] == ada)
    assert boxes[boxes[above]["parentId"]]["name"] == "Other Users"
    theirs = {box["name"]: box for box in boxes.values() if box["parentId"] == above}
    granted = {name: {right for right, has in box["myRights"].items() if has} for name, box in theirs.items()}
    assert granted == {"Work": {"mayReadItems", "maySetSeen"}, "Blind": set(), "Trash": {"mayReadItems"}}
    assert theirs["Trash"]["role"] is None and theirs["Blind"]["totalEmails"] == 0
    assert set(emails(client)) == {*(f"s{number}" for number in range(5)), "s40", "s50", "s100"}
    plan = emails(client)["s100"]
    moved = client.call("Email/set", update={plan: {"mailboxIds": {client.mailbox("inbox"): True}}})
    assert moved["notUpdated"] is None
    # The right to read is withdrawn: the other folders are read all the same, and so is this one later.
    owner.setacl("Work", user, "l")
    owner.append("Trash", "", "", message(99))
    proxy.sync(account_name)
    assert {"s99", "s100"} <= set(emails(client)) and "s40" not in emails(client)
    owner.setacl("Work", user, "lr")
    proxy.sync(account_name)
    assert {"s40", "s99"} <= set(emails(client)) and emails(client)["s100"] == plan
    owner.logout()
