"""Another IMAP client changes folders; Mailboxes follow and keep their ids (mail-rules 6, 17, 24-26)."""

from __future__ import annotations

import pytest
from scene import Scene, View, message


def box(view: View, *path: str) -> dict[str, object]:
    return view.mailboxes[view.paths()[path]]


def test_inbox_is_shown_as_inbox_subscribed_and_stays(scene: Scene) -> None:
    """Rule 25."""
    view = scene.begin()
    inbox = box(view, "Inbox")
    assert (inbox["role"], inbox["isSubscribed"], inbox["parentId"]) == ("inbox", True, None)
    rights = inbox["myRights"]
    assert isinstance(rights, dict) and not rights["mayRename"] and not rights["mayDelete"] and rights["mayReadItems"]


@pytest.mark.parametrize("kind", ["dovecot", "courier", "pymap"])
def test_a_renamed_folder_keeps_its_id_and_its_emails_theirs(make: object, kind: str) -> None:
    """Rule 6: also when only its parent was renamed."""
    scene: Scene = make(kind)  # type: ignore[operator]
    scene.create("Old")
    scene.create("Old", "Deep")
    scene.append("Old", message("one"))
    before = scene.begin()
    scene.do("SELECT", scene.name("Inbox"))
    scene.do("RENAME", scene.name("Old"), scene.name("New"))
    after = scene.agree()
    assert after.paths()["New",] == before.paths()["Old",]
    assert after.by_subject() == before.by_subject()
    assert after.emails == before.emails, "mailboxIds name the same Mailbox"
    assert after.paths()["New", "Deep"] == before.paths()["Old", "Deep"]
    told = scene.jmap.call("Mailbox/changes", sinceState=before.states["Mailbox"])
    assert not told["created"] and not told["destroyed"]


def test_rename_of_inbox_is_a_move_of_its_emails(dove: Scene) -> None:
    """Rule 25."""
    dove.append("Inbox", message("one"), message("two"))
    before = dove.begin()
    dove.do("RENAME", "INBOX", dove.name("Kept"))
    after = dove.agree()
    assert after.paths()["Inbox",] == before.paths()["Inbox",]
    assert after.by_subject() == before.by_subject()
    assert box(after, "Inbox")["totalEmails"] == 0 and box(after, "Kept")["totalEmails"] == 2


def test_parents_that_cannot_be_selected_only_hold_children(dove: Scene) -> None:
    """Rule 25: three levels that nobody made, and one that was deleted under its child."""
    dove.create("a", "b", "c", "d")
    dove.create("p")
    dove.create("p", "q")
    dove.append("p", message("one"))
    view = dove.begin()
    assert view.paths()["a", "b", "c", "d"]
    for path in (("a",), ("a", "b"), ("a", "b", "c")):
        rights = box(view, *path)["myRights"]
        assert isinstance(rights, dict)
        assert not rights["mayReadItems"] and not rights["mayAddItems"] and rights["mayCreateChild"]
    ident = view.paths()["p",]
    dove.do("SELECT", "INBOX")
    dove.do("DELETE", dove.name("p"))
    after = dove.agree()
    assert not after.emails and box(after, "p")["totalEmails"] == 0
    assert after.paths()["p", "q"] == view.paths()["p", "q"]
    assert ident == view.paths()["p",]


def test_courier_s_prefix_is_no_mailbox(courier: Scene) -> None:
    """Rule 25, wish 18: "INBOX." before every name, "." between levels."""
    courier.create("Work")
    courier.create("Work", "2026")
    view = courier.begin()
    assert ("Work", "2026") in view.paths() and ("Sent",) in view.paths()
    assert box(view, "Sent")["role"] == "sent" and box(view, "Sent")["parentId"] is None


def test_roles_go_by_name_where_the_server_states_none(pym: Scene) -> None:
    """Rule 26: in the user's language; a second candidate gets none, now or later."""
    for name in ("Papierkorb", "Gesendet", "Entwürfe"):
        pym.create(name)
    view = pym.begin()
    roles = {path: each["role"] for path in view.paths() if (each := box(view, *path))["role"]}
    wanted = {("Inbox",): "inbox", ("Papierkorb",): "trash", ("Gesendet",): "sent", ("Entwürfe",): "drafts"}
    assert roles == wanted
    pym.create("Trash")
    view = pym.agree()
    assert box(view, "Papierkorb")["role"] == "trash" and box(view, "Trash")["role"] is None


def test_a_role_survives_a_rename(dove: Scene) -> None:
    """Rule 26: roles are bindings."""
    before = dove.begin()
    dove.do("RENAME", dove.name("Archive"), dove.name("Old things"))
    after = dove.agree()
    assert after.paths()["Old things",] == before.paths()["Archive",]
    assert box(after, "Old things")["role"] == "archive"


def test_rights_are_those_of_the_server(dove: Scene) -> None:
    """Rule 24: MYRIGHTS."""
    dove.create("Work")
    dove.append("Work", message("one"))
    dove.do("SETACL", dove.name("Work"), "owner", "lra")
    view = dove.begin()
    rights = box(view, "Archive")["myRights"]
    assert isinstance(rights, dict) and all(rights.values())
    rights = box(view, "Work")["myRights"]
    assert isinstance(rights, dict)
    assert rights["mayReadItems"]
    assert not any(rights[name] for name in ("mayAddItems", "mayRemoveItems", "maySetSeen", "maySetKeywords"))


def test_three_hundred_folders_are_one_tree(dove: Scene) -> None:
    """Issue §4: hundreds of folders. (That they cost a constant number of round trips: plugins/imap, test_folders.)"""
    for at in range(300):
        dove.create("many", f"folder {at % 20}", f"below {at}")
    dove.append("Inbox", message("one"))
    view = dove.begin()
    assert len([path for path in view.paths() if len(path) == 3]) == 300
