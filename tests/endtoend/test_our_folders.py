"""Mailbox/set on real servers, while a second IMAP client looks (RFC 8621 §2.5; mail-rules 6, 12, 25-27, 30)."""

from __future__ import annotations

from typing import Any

import pytest
from scene import Scene, message


@pytest.fixture(params=["dovecot", "poor", "courier", "cyrus", "pymap"])
def scene(make: Any, request: pytest.FixtureRequest) -> Scene:
    made: Scene = make(request.param)
    return made


@pytest.fixture(params=["dovecot", "poor", "courier", "cyrus"])
def copying(make: Any, request: pytest.FixtureRequest) -> Scene:
    made: Scene = make(request.param)
    return made


NAMES = ("R&D", 'say "hi"', "back\\slash", "Grüße", "日本語", "party 🎉", "(brackets) {5}", "in the middle  two blanks")


def change(scene: Scene, **args: Any) -> dict[str, Any]:
    """A Mailbox/set. What it answers is what /get says then, and the next pass has nothing to add (mail-rules 12)."""
    # pymap ends the connection of a client whose folder goes.
    scene.do("SELECT", "INBOX")
    reply: dict[str, Any] = scene.jmap.call("Mailbox/set", **args)
    there = scene.jmap.call("Mailbox/get", ids=None)
    assert there["state"] == reply["newState"]
    told = scene.jmap.call("Mailbox/changes", sinceState=reply["oldState"])
    made = {record["id"] for record in (reply["created"] or {}).values()}
    assert (set(told["created"]), set(told["destroyed"])) == (made, set(reply["destroyed"] or ()))
    scene.agree()
    after = scene.jmap.call("Mailbox/get", ids=None)
    assert after["list"] == there["list"] and after["state"] == there["state"]
    return reply


def subscribed(scene: Scene) -> set[str]:
    typ, rows = scene.imap.lsub('""', '"*"')
    assert typ == "OK"
    return {row.split(b" ", 2)[2].decode().strip('"') for row in rows if row}


def selects(scene: Scene, *path: str) -> bool:
    return bool(scene.imap.status(scene.name(*path), "(MESSAGES)")[0] == "OK")


def test_created_mailboxes_are_folders_that_others_see_subscribed(scene: Scene) -> None:
    scene.begin()
    reply = change(
        scene,
        create={
            "c": {"name": "Deep", "parentId": "#b", "isSubscribed": False},
            "a": {"name": "Work", "sortOrder": 5},
            "b": {"name": "2026", "parentId": "#a"},
        },
    )
    assert reply["notCreated"] is None
    assert selects(scene, "Work", "2026", "Deep")
    names = subscribed(scene)
    assert {scene.name("Work").strip('"'), scene.name("Work", "2026").strip('"')} <= names
    assert scene.name("Work", "2026", "Deep").strip('"') not in names
    box = scene.look().mailboxes[reply["created"]["a"]["id"]]
    assert (box["sortOrder"], box["isSubscribed"], box["parentId"]) == (5, True, None)
    again = change(scene, create={"x": {"name": "Work"}})
    assert again["notCreated"]["x"]["existingId"] == box["id"]


def test_a_folder_made_by_another_client_just_now_exists_already(scene: Scene) -> None:
    scene.begin()
    scene.create("Late")
    reply = scene.jmap.call("Mailbox/set", create={"x": {"name": "Late"}})
    error = reply["notCreated"]["x"]
    assert error["type"] == "alreadyExists"
    assert error["existingId"] == scene.look().paths()["Late",]


def test_odd_names_are_created_as_given_and_the_delimiter_never(scene: Scene) -> None:
    """mail-rules 25."""
    scene.begin()
    given = {f"n{at}": {"name": name} for at, name in enumerate(NAMES)}
    reply = change(scene, create=given)
    made = {given[key]["name"] for key in reply["created"] or ()}
    assert {(name,) for name in made} <= set(scene.look().paths())
    # Cyrus refuses quotes, backslashes and braces in a name.
    assert len(made) >= (5 if scene.kind == "cyrus" else 6), reply["notCreated"]
    error = change(scene, create={"x": {"name": f"a{scene.separator}b"}})["notCreated"]["x"]
    assert (error["type"], error["properties"]) == ("invalidProperties", ["name"])


def test_renamed_and_moved_mailboxes_keep_their_ids_and_emails(copying: Scene) -> None:
    """mail-rules 6."""
    scene = copying
    for path in (("Old",), ("Old", "Deep"), ("Other",)):
        scene.create(*path)
        scene.do("SUBSCRIBE", scene.name(*path))
    scene.append("Old", message("one"))
    scene.append("Other", message("two"))
    before = scene.begin()
    ids = before.paths()
    reply = change(scene, update={ids["Old",]: {"name": "Neu & schön", "parentId": ids["Other",]}})
    assert reply["notUpdated"] is None
    after = scene.look()
    assert after.paths()["Other", "Neu & schön", "Deep"] == ids["Old", "Deep"]
    assert after.emails == before.emails
    assert scene.name("Other", "Neu & schön", "Deep").strip('"') in subscribed(scene)
    reply = change(scene, update={ids["Old",]: {"name": "Other", "parentId": None}, ids["Other",]: {"name": "Old"}})
    assert reply["notUpdated"] is None
    after = scene.look()
    assert (after.paths()["Other",], after.paths()["Old",]) == (ids["Old",], ids["Other",])
    assert after.emails == before.emails
    reply = change(scene, update={ids["Old",]: {"name": "Old"}, ids["Other",]: {"name": "Other"}})
    assert reply["notUpdated"] is None
    assert scene.look().paths()["Old",] == ids["Old",]


def test_a_rename_on_a_server_whose_ids_follow_names_keeps_ours(pym: Scene) -> None:
    """pymap's MAILBOXID changes with the name of a folder: the binding of our own RENAME decides what it can."""
    pym.create("Old")
    before = pym.begin()
    pym.do("SELECT", "INBOX")
    reply = pym.jmap.call("Mailbox/set", update={before.paths()["Old",]: {"name": "New"}})
    assert reply["notUpdated"] is None
    view = pym.agree()
    assert ("New",) in view.paths() and ("Old",) not in view.paths()


def test_destroying(scene: Scene) -> None:
    """RFC 8621 §2.5."""
    for path in (("A",), ("A", "b"), ("Full",), ("Late",)):
        scene.create(*path)
    scene.append("Full", message("one"), message("two"))
    ids = scene.begin().paths()
    scene.append("Late", message("three"))
    reply = scene.jmap.call("Mailbox/set", destroy=[ids["A",], ids["Full",], ids["Late",]])
    assert {id_: error["type"] for id_, error in reply["notDestroyed"].items()} == {
        ids["A",]: "mailboxHasChild", ids["Full",]: "mailboxHasEmail", ids["Late",]: "mailboxHasEmail",
    }  # fmt: skip
    assert set(scene.agree().by_subject()) == {"one", "two", "three"}
    reply = change(scene, destroy=[ids["A",], ids["A", "b"], ids["Full",]], onDestroyRemoveEmails=True)
    assert set(reply["destroyed"]) == {ids["A",], ids["A", "b"], ids["Full",]}
    assert not selects(scene, "Full") and not selects(scene, "A")
    assert set(scene.look().by_subject()) == {"three"}
    error = change(scene, destroy=[ids["Inbox",]], onDestroyRemoveEmails=True)["notDestroyed"][ids["Inbox",]]
    assert error["type"] == "forbidden"


@pytest.mark.parametrize("kind", ["dovecot", "courier"])
def test_a_new_folder_that_the_server_forgets_to_list_stays(make: Any, kind: str) -> None:
    """Dovecot 2.3.19 loses folders from LIST after a RENAME and a DELETE of others, for a while."""
    scene: Scene = make(kind)
    scene.begin()
    ids: dict[str, str] = {}
    for name in ("A", "B", "C"):
        ids[name] = change(scene, create={"x": {"name": name}})["created"]["x"]["id"]
    for round_ in range(4):
        reply = scene.jmap.call(
            "Mailbox/set",
            update={ids["A"]: {"name": f"A{round_}"}},
            destroy=[ids["B"]],
            create={"b": {"name": "B"}, "n": {"name": f"N{round_}", "parentId": ids["C"]}},
        )
        assert reply["notCreated"] is None and reply["notUpdated"] is None and reply["notDestroyed"] is None
        ids["B"], new = (reply["created"][key]["id"] for key in ("b", "n"))
        state = reply["newState"]
        view = scene.sync()
        assert view.states["Mailbox"] == state
        assert {*ids.values(), new} <= set(view.mailboxes)


def test_roles_are_kept_here_and_go_upstream_where_the_server_takes_them(scene: Scene) -> None:
    """mail-rules 26."""
    view = scene.begin()
    taken = {box["role"] for box in view.mailboxes.values()}
    role = next(one for one in ("memos", "snoozed", "scheduled") if one not in taken)
    reply = change(scene, create={"x": {"name": "Odd", "role": role}})
    made = reply["created"]["x"]["id"]
    assert scene.look().mailboxes[made]["role"] == role
    other = change(scene, create={"y": {"name": "Other"}})["created"]["y"]["id"]
    reply = change(scene, update={made: {"role": None}, other: {"role": role}})
    assert reply["notUpdated"] is None
    assert scene.look().mailboxes[other]["role"] == role


def test_rights_of_the_server_are_kept(dove: Scene) -> None:
    """mail-rules 24."""
    dove.create("Work")
    dove.do("SETACL", dove.name("Work"), "owner", "lrwstie")
    id_ = dove.begin().paths()["Work",]
    reply = change(dove, create={"x": {"name": "Below", "parentId": id_}}, update={id_: {"name": "W"}}, destroy=[])
    assert reply["notCreated"]["x"]["type"] == reply["notUpdated"][id_]["type"] == "forbidden"
    assert change(dove, destroy=[id_])["notDestroyed"][id_]["type"] == "forbidden"
