"""An account where folders are labels of one store (mail-rules 35), while a second IMAP client looks on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gmail_scene import ALL, DRAFTS, IMPORTANT, INBOX, SENT, SPAM, TRASH, GmailScene
from refusing import Refusing
from scene import message

from jmapplug.testing import gmail_server
from jmapplug.testing.gmail_fetch import numbers
from jmapplug.testing.gmail_server import Gmail
from jmapplug.testing.proxy import Proxy


@pytest.fixture(scope="module", params=["archive", "delete"])
def server(request: pytest.FixtureRequest) -> Iterator[Gmail]:
    """With the kindest and with the cruellest of the settings for EXPUNGE."""
    running = gmail_server.start("--expunge", request.param)
    yield running
    running.stop()


def labelled(gm: GmailScene, subject: str, *labels: str, flags: str = "") -> str:
    """A message in Inbox with further labels; its Email id after the account's first sync."""
    gm.append("INBOX", message(subject), flags=flags)
    uid = gm.uids("INBOX")[-1]
    for label in labels:
        if (label,) not in gm.upstream.look().folders:
            gm.create(label)
        gm.copy("INBOX", uid, label)
    view = gm.begin() if gm.client is None else gm.agree()
    return view.by_subject()[subject]


def ids(gm: GmailScene, *paths: tuple[str, ...]) -> dict[str, bool]:
    boxes = gm.look().paths()
    return {boxes[path]: True for path in paths}


# --- reading ---------------------------------------------------------------------------------------------------------


def test_a_message_with_three_labels_is_one_email(gm: GmailScene) -> None:
    """Wish 10."""
    one = labelled(gm, "one", "Work", "Home")
    assert gm.where(one) == {"Inbox", "Work", "Home", "All Mail"}
    assert len(gm.look().emails) == 1


def test_the_thread_is_the_servers(gm: GmailScene) -> None:
    gm.append("INBOX", message("one"), message("quite another subject", "In-Reply-To: <one@example.com>", ident="two"))
    view = gm.begin()
    assert len(view.threads) == 1 and len(view.emails) == 2


def test_labels_given_and_taken_elsewhere_are_seen(gm: GmailScene) -> None:
    one = labelled(gm, "one", "Work")
    uid = gm.uids("INBOX")[0]
    gm.expunge("Work", "1")
    gm.agree()
    assert gm.where(one) == {"Inbox", "All Mail"}
    gm.copy("INBOX", uid, "[Gmail]/Important")
    gm.agree()
    assert "Important" in gm.where(one)
    gm.move("INBOX", uid, "[Gmail]/Trash")
    gm.agree()
    assert gm.where(one) == {"Trash"}
    gm.move("[Gmail]/Trash", gm.uids("[Gmail]/Trash")[0], "INBOX")
    gm.agree()
    assert gm.where(one) == {"Inbox", "All Mail"}


def test_a_star_given_elsewhere_is_flagged(gm: GmailScene) -> None:
    one = labelled(gm, "one")
    gm.copy("INBOX", "1", "[Gmail]/Starred")
    assert gm.agree().emails[one]["keywords"] == {"$flagged": True}
    assert "Starred" not in {box["name"] for box in gm.look().mailboxes.values()}


# --- labels ----------------------------------------------------------------------------------------------------------


def test_a_label_is_added_and_removed(gm: GmailScene) -> None:
    """Wish 10."""
    one = labelled(gm, "one", "Work")
    inbox, important, work = (gm.box(*path) for path in (INBOX, IMPORTANT, ("Work",)))
    gm.done(update={one: {f"mailboxIds/{important}": True}})
    assert gm.where(one) == {"Inbox", "Work", "Important", "All Mail"}
    gm.done(update={one: {f"mailboxIds/{work}": None, f"mailboxIds/{important}": None}})
    assert gm.where(one) == {"Inbox", "All Mail"}
    reply = gm.done(update={one: {f"mailboxIds/{inbox}": None}})
    assert gm.where(one) == {"All Mail"} and reply["updated"] == {one: None}


def test_a_move_between_labels(gm: GmailScene) -> None:
    one = labelled(gm, "one", "Work", "Home")
    inbox, important = gm.box(*INBOX), gm.box(*IMPORTANT)
    gm.done(update={one: {f"mailboxIds/{inbox}": None, f"mailboxIds/{important}": True}})
    assert gm.where(one) == {"Work", "Home", "Important", "All Mail"}


def test_a_set_of_labels_without_all_mail_is_taken_and_the_difference_is_told(gm: GmailScene) -> None:
    one = labelled(gm, "one", "Work")
    reply = gm.done(update={one: {"mailboxIds": ids(gm, ("Work",))}})
    assert reply["updated"] == {one: {"mailboxIds": ids(gm, ("Work",), ALL)}}
    assert gm.where(one) == {"Work", "All Mail"}


def test_archiving_by_the_folder_of_all_mail(gm: GmailScene) -> None:
    one = labelled(gm, "one", "Work")
    reply = gm.done(update={one: {"mailboxIds": ids(gm, ALL)}})
    assert reply["updated"] == {one: None} and gm.where(one) == {"All Mail"}


def test_leaving_all_mail_alone_does_nothing_and_is_told(gm: GmailScene) -> None:
    one = labelled(gm, "one")
    reply = gm.done(update={one: {f"mailboxIds/{gm.box(*ALL)}": None}})
    assert reply["updated"] == {one: {"mailboxIds": ids(gm, INBOX, ALL)}}


def test_an_email_that_is_in_no_mailbox_is_refused(gm: GmailScene) -> None:
    one = labelled(gm, "one")
    gm.done(update={one: {"mailboxIds": ids(gm, ALL)}})
    reply = gm.jmap.call("Email/set", update={one: {f"mailboxIds/{gm.box(*ALL)}": None}})
    assert reply["notUpdated"][one]["type"] == "invalidProperties"
    gm.agree()


# --- Trash and Spam --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [TRASH, SPAM], ids=["trash", "spam"])
def test_trash_and_spam_have_a_message_alone(gm: GmailScene, place: tuple[str, ...]) -> None:
    one = labelled(gm, "one", "Work", "Home")
    reply = gm.done(update={one: {"mailboxIds": ids(gm, place)}})
    assert reply["updated"] == {one: None} and gm.where(one) == {place[-1]}


def test_one_label_becoming_trash_takes_all_and_says_so(gm: GmailScene) -> None:
    one = labelled(gm, "one", "Work")
    inbox, trash = gm.box(*INBOX), gm.box(*TRASH)
    reply = gm.done(update={one: {f"mailboxIds/{inbox}": None, f"mailboxIds/{trash}": True}})
    assert reply["updated"] == {one: {"mailboxIds": {trash: True}}}


@pytest.mark.parametrize("targets", [(INBOX,), (ALL,), (INBOX, ("Work",), IMPORTANT), (INBOX, TRASH)])
def test_what_leaves_trash_is_in_all_mail_again(gm: GmailScene, targets: tuple[tuple[str, ...], ...]) -> None:
    one = labelled(gm, "one", "Work")
    gm.done(update={one: {"mailboxIds": ids(gm, TRASH)}})
    gm.done(update={one: {"mailboxIds": ids(gm, *targets)}})
    assert gm.where(one) == {path[-1] for path in targets if path != TRASH} | {"All Mail"}


def test_from_spam_to_trash(gm: GmailScene) -> None:
    one = labelled(gm, "one")
    gm.done(update={one: {"mailboxIds": ids(gm, SPAM)}})
    gm.done(update={one: {"mailboxIds": ids(gm, TRASH)}})
    assert gm.where(one) == {"Trash"}


def test_destroying_takes_every_copy_for_good(gm: GmailScene) -> None:
    one = labelled(gm, "one", "Work", "Home")
    labelled(gm, "two", "Work")
    gm.done(destroy=[one])
    assert list(gm.look().by_subject()) == ["two"]
    for folder in gm.upstream.look().folders.values():
        name = folder.raw
        assert not folder.selectable or len(gm.uids(name)) == (name in ("INBOX", "Work", "[Gmail]/All Mail"))


def test_destroying_what_is_in_trash(gm: GmailScene) -> None:
    one = labelled(gm, "one")
    gm.done(update={one: {"mailboxIds": ids(gm, TRASH)}})
    gm.done(destroy=[one])
    assert gm.look().emails == {}


def test_many_at_once(gm: GmailScene) -> None:
    """Each fate in one call, in few commands."""
    names = [f"m{number}" for number in range(12)]
    gm.append("INBOX", *map(message, names))
    by_subject = gm.begin().by_subject()
    trash, important, inbox = (gm.box(*path) for path in (TRASH, IMPORTANT, INBOX))
    fates = [{"mailboxIds": {trash: True}}, {f"mailboxIds/{important}": True, f"mailboxIds/{inbox}": None}]
    fates += [{"keywords/$seen": True}]
    update = {by_subject[name]: fates[at % 3] for at, name in enumerate(names[:9])}
    gm.done(update=update, destroy=[by_subject[name] for name in names[9:]])
    assert len(gm.look().emails) == 9


# --- keywords --------------------------------------------------------------------------------------------------------


def test_keywords_are_of_the_message_and_written_once(gm: GmailScene) -> None:
    one = labelled(gm, "one", "Work", "Home", flags="\\Answered")
    gm.done(update={one: {"keywords/$seen": True, "keywords/$flagged": True, "keywords/mine": True}})
    assert set(gm.look().emails[one]["keywords"]) == {"$seen", "$flagged", "$answered", "mine"}
    assert gm.uids("[Gmail]/Starred") != []
    gm.done(update={one: {"keywords": {}}})
    assert gm.look().emails[one]["keywords"] == {} and gm.uids("[Gmail]/Starred") == []


def test_keywords_and_mailboxes_in_one_patch(gm: GmailScene) -> None:
    one = labelled(gm, "one", "Work")
    gm.done(update={one: {"keywords/$seen": True, "mailboxIds": ids(gm, TRASH)}})
    assert gm.look().emails[one]["keywords"] == {"$seen": True} and gm.where(one) == {"Trash"}
    gm.done(update={one: {"keywords/$seen": None, "mailboxIds": ids(gm, INBOX)}})
    assert gm.look().emails[one]["keywords"] == {} and gm.where(one) == {"Inbox", "All Mail"}


# --- new messages ----------------------------------------------------------------------------------------------------


def draft(boxes: dict[str, bool], subject: str = "A draft") -> dict[str, Any]:
    return {
        "mailboxIds": boxes,
        "keywords": {"$draft": True, "$seen": True},
        "from": [{"name": None, "email": "ann@example.org"}],
        "subject": subject,
        "bodyValues": {"1": {"value": "Text\n"}},
        "textBody": [{"partId": "1", "type": "text/plain"}],
    }


def test_a_draft_is_in_all_mail_too_and_the_answer_says_so(gm: GmailScene) -> None:
    gm.begin()
    made = gm.done(create={"d": draft(ids(gm, DRAFTS))})["created"]["d"]
    assert made["mailboxIds"] == ids(gm, DRAFTS, ALL) and gm.where(made["id"]) == {"Drafts", "All Mail"}
    gm.done(create={"e": draft(ids(gm, DRAFTS), "Better")}, destroy=[made["id"]])
    assert list(gm.look().by_subject()) == ["Better"]


@pytest.mark.parametrize("paths", [(ALL,), (INBOX, ALL), (TRASH,), (INBOX, IMPORTANT, SENT)])
def test_a_new_message_goes_where_it_can_be(gm: GmailScene, paths: tuple[tuple[str, ...], ...]) -> None:
    gm.begin()
    made = gm.done(create={"d": draft(ids(gm, *paths))})["created"]["d"]
    assert gm.where(made["id"]) == {path[-1] for path in paths} | (set() if TRASH in paths else {"All Mail"})


def upload(gm: GmailScene, octets: bytes) -> str:
    reply = gm.jmap.send("POST", f"/upload/{gm.account}/", octets, {"Content-Type": "message/rfc822"})
    return str(reply.json["blobId"])


@pytest.mark.parametrize("paths", [(INBOX,), (SENT,), (ALL,), (TRASH,)])
def test_importing_what_is_there_loses_nothing(gm: GmailScene, paths: tuple[tuple[str, ...], ...]) -> None:
    """The server gives back the message that it has: it must not lose a label, or more, because of that."""
    one = labelled(gm, "one", "Work")
    emails = {"i": {"blobId": upload(gm, message("one")), "mailboxIds": ids(gm, *paths)}}
    answer = gm.jmap.call("Email/import", emails=emails)["notCreated"]["i"]
    assert (answer["type"], answer["existingId"]) == ("alreadyExists", one)
    gm.agree()
    assert gm.where(one) == ({"Trash"} if TRASH in paths else {"Inbox", "Work", "All Mail"})


def hidden(gm: GmailScene, where: tuple[str, ...], **more: Any) -> str:
    """A message in Inbox and Work; another client has hidden it in one folder."""
    gm.begin(**more)
    one = labelled(gm, "one", "Work")
    (uid,) = gm.uids(where)
    gm.flag(where, uid, "\\Deleted")
    gm.agree()
    assert gm.where(one) == {"Inbox", "Work", "All Mail"} - {where[-1]}
    return one


@pytest.mark.parametrize("where", [("Work",), ALL])
def test_what_another_client_hid_in_a_folder_is_seen_when_it_is_put_there(
    gm: GmailScene, where: tuple[str, ...]
) -> None:
    """A label is there once: what COPY tells is the UID from before, and no look at changes would tell its flags."""
    one = hidden(gm, where)
    gm.done(update={one: {f"mailboxIds/{gm.box(*where)}": True}})
    assert gm.where(one) == {"Inbox", "Work", "All Mail"}


def test_what_another_client_hid_in_all_mail_is_seen_when_its_label_goes(gm: GmailScene) -> None:
    one = hidden(gm, ALL)
    gm.done(update={one: {"mailboxIds": ids(gm, ALL)}})
    assert gm.where(one) == {"All Mail"}


def test_what_stays_hidden_is_not_told_to_be_there(gm: GmailScene, server: Gmail) -> None:
    """The server lets nobody show it again: the write fails, and takes back nothing that was there before."""
    relay = Refusing(server.port)
    one = hidden(gm, ("Work",), imapPort=relay.port)
    relay.refuse = [("UID STORE", "NO not now")]
    reply = gm.jmap.call("Email/set", update={one: {f"mailboxIds/{gm.box('Work')}": True}})
    assert reply["notUpdated"][one]["type"] == "serverFail" and relay.met
    gm.agree()
    assert gm.where(one) == {"Inbox", "All Mail"}
    assert gm.uids("Work", "DELETED") == ["1"]
    relay.close()


# --- folders ---------------------------------------------------------------------------------------------------------


def test_a_label_that_is_destroyed_leaves_its_messages(gm: GmailScene) -> None:
    one = labelled(gm, "one", "Work")
    gm.done(update={one: {"mailboxIds": ids(gm, ("Work",))}})
    work = gm.box("Work")
    assert gm.jmap.call("Mailbox/set", destroy=[work])["notDestroyed"][work]["type"] == "mailboxHasEmail"
    reply = gm.jmap.call("Mailbox/set", destroy=[work], onDestroyRemoveEmails=True)
    assert reply["destroyed"] == [work]
    gm.agree()
    assert gm.where(one) == {"All Mail"}


def test_a_label_is_made_and_renamed(gm: GmailScene) -> None:
    one = labelled(gm, "one")
    made = gm.jmap.call("Mailbox/set", create={"w": {"name": "Work"}})["created"]["w"]["id"]
    gm.done(update={one: {f"mailboxIds/{made}": True}})
    gm.jmap.call("Mailbox/set", update={made: {"name": "Play"}})
    gm.agree()
    assert gm.where(one) == {"Inbox", "Play", "All Mail"}


def test_the_servers_own_folders_cannot_be_changed(gm: GmailScene) -> None:
    gm.begin()
    trash = gm.box(*TRASH)
    assert gm.jmap.call("Mailbox/set", update={trash: {"name": "Bin"}})["notUpdated"][trash]["type"] == "forbidden"
    assert gm.jmap.call("Mailbox/set", destroy=[trash])["notDestroyed"][trash]["type"] == "forbidden"


def test_a_role_that_a_client_gives_to_a_label_destroys_nothing(gm: GmailScene) -> None:
    """Only the server's own Trash has a message alone, whatever is called Trash here."""
    one = labelled(gm, "one", "Work")
    work, trash = gm.box("Work"), gm.box(*TRASH)
    gm.jmap.call("Mailbox/set", update={trash: {"role": None}, work: {"role": "trash"}})
    gm.done(update={one: {"mailboxIds": {work: True}}})
    assert gm.where(one) == {"Work", "All Mail"}
    gm.done(destroy=[one])
    assert gm.look().emails == {}


def test_a_message_is_asked_for_once_however_many_labels_it_has(
    proxy: Proxy, account_name: str, tmp_path: Path
) -> None:
    """Wish 10."""
    server = gmail_server.start(log=tmp_path / "log")
    scene = GmailScene(proxy, server, account_name, "gmail")
    try:
        scene.create("Work")
        scene.append("INBOX", *(message(f"m{number}", body="needle") for number in range(30)))
        scene.uid("INBOX", "COPY", "1:*", "Work")
        scene.begin()
        (found,) = scene.jmap.call("Email/query", filter={"text": "m7"})["ids"]
        blob = scene.jmap.call("Email/get", ids=[found], properties=["blobId"])["list"][0]["blobId"]
        url = f"/raw/{scene.account}/{blob}/m.eml"
        for _ in range(2):
            assert scene.jmap.send("GET", url).body == message("m7", body="needle")
        asked = [line for line in server.commands if "FETCH" in line]
        details = [numbers(line.split()[3], 30) for line in asked if "BODYSTRUCTURE" in line]
        assert sum(map(len, details)) == 30, "each message's details, once"
        assert sum("BODY.PEEK[]" in line for line in asked) == 1
    finally:
        scene.close()
        server.stop()
