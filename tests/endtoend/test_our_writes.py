"""What a JMAP client writes is on the server, told once, and agrees with what another IMAP client sees."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from refusing import Refusing
from scene import NEWEST, Scene, View, message

from jmapplug.testing.hiding import Hiding
from jmapplug.testing.ports import wait_until


@pytest.fixture(params=["dovecot", "poor", "courier", "cyrus", "pymap"])
def scene(make: Any, request: pytest.FixtureRequest) -> Scene:
    made: Scene = make(request.param)
    return made


@pytest.fixture(params=["dovecot", "poor", "courier", "cyrus"])
def copying(make: Any, request: pytest.FixtureRequest) -> Scene:
    made: Scene = make(request.param)
    return made


@pytest.fixture
def counted(dovecot: Any) -> Iterator[Hiding]:
    """A relay that counts the proxy's commands to Dovecot."""
    relay = Hiding(dovecot.port)
    yield relay
    relay.close()


def set_(scene: Scene, **args: Any) -> dict[str, Any]:
    return scene.jmap.call("Email/set", **args)


def done(reply: dict[str, Any]) -> dict[str, Any]:
    """A /set or import in which nothing failed."""
    failed = [reply[name] for name in ("notCreated", "notUpdated", "notDestroyed") if reply.get(name)]
    assert not failed, failed
    return reply


def draft(box: str, subject: str = "A draft", **more: Any) -> dict[str, Any]:
    return {
        "mailboxIds": {box: True},
        "keywords": {"$draft": True, "$seen": True},
        "from": [{"name": "Ännchen", "email": "ann@example.org"}],
        "to": [{"name": None, "email": "bob@example.org"}],
        "subject": subject,
        "bodyValues": {"1": {"value": "Grüße\n"}},
        "textBody": [{"partId": "1", "type": "text/plain"}],
        **more,
    }


def upload(scene: Scene, octets: bytes) -> str:
    reply = scene.jmap.send("POST", f"/upload/{scene.account}/", octets, {"Content-Type": "message/rfc5322"})
    assert reply.status == 200
    return str(reply.json["blobId"])


def boxes(view: View, *names: str) -> dict[str, bool]:
    paths = view.paths()
    return {paths[(name,)]: True for name in names}


def steady(scene: Scene) -> View:
    """The next pass finds nothing to do."""
    before = scene.look()
    after = scene.agree()
    assert after.states == before.states
    return after


def test_keywords_are_set_removed_and_replaced(scene: Scene) -> None:
    scene.append("Inbox", message("one"), message("two"), flags="\\Answered")
    view = scene.begin()
    one, two = (view.by_subject()[name] for name in ("one", "two"))
    done(set_(scene, update={one: {"keywords/$seen": True, "keywords/$flagged": True}, two: {"keywords/$seen": True}}))
    assert steady(scene).emails[one]["keywords"] == {"$seen": True, "$flagged": True, "$answered": True}
    done(set_(scene, update={one: {"keywords": {"$draft": True}}, two: {"keywords/$seen": False}}))
    view = steady(scene)
    assert view.emails[one]["keywords"] == {"$draft": True}
    assert view.emails[two]["keywords"] == {"$answered": True}


def test_keywords_by_value_replace_what_another_client_has_just_set(scene: Scene) -> None:
    """mail-rules 29."""
    scene.append("Inbox", message("one"))
    one = scene.begin().by_subject()["one"]
    (uid,) = scene.uids("Inbox")
    scene.flag("Inbox", uid, "\\Flagged", "\\Answered")
    done(set_(scene, update={one: {"keywords": {"$seen": True, "$answered": True}}}))
    assert steady(scene).emails[one]["keywords"] == {"$seen": True, "$answered": True}
    assert [len(scene.uids("Inbox", flag)) for flag in ("SEEN", "ANSWERED", "FLAGGED")] == [1, 1, 0]


def test_an_answer_is_visible_to_the_next_call_of_the_same_request(scene: Scene) -> None:
    scene.append("Inbox", message("one"))
    view = scene.begin()
    one = view.by_subject()["one"]
    answers = scene.jmap.request(
        ("Email/set", {"update": {one: {"keywords/$seen": True}}}),
        ("Email/get", {"ids": [one], "properties": ["keywords"]}),
        ("Email/changes", {"sinceState": view.states["Email"]}),
        ("Mailbox/get", {"ids": [view.paths()[("Inbox",)]], "properties": ["unreadEmails"]}),
    )
    (_, done_, _), (_, got, _), (_, changes, _), (_, box, _) = answers
    assert done_["updated"] == {one: None}
    assert got["list"][0]["keywords"] == {"$seen": True}
    assert (changes["updated"], changes["newState"]) == ([one], done_["newState"])
    assert box["list"][0]["unreadEmails"] == 0
    steady(scene)


def test_moving_keeps_the_id_and_filing_in_two_makes_one_email(copying: Scene) -> None:
    scene = copying
    scene.create("Work")
    scene.append("Inbox", message("one"), message("two"), message("three"))
    view = scene.begin()
    one, two = (view.by_subject()[name] for name in ("one", "two"))
    done(set_(scene, update={one: {"mailboxIds": boxes(view, "Work")}, two: {"keywords/$seen": True}}))
    view = steady(scene)
    assert view.emails[one]["mailboxIds"] == boxes(view, "Work")
    done(set_(scene, update={one: {f"mailboxIds/{view.paths()[('Inbox',)]}": True}}))
    view = steady(scene)
    assert view.emails[one]["mailboxIds"] == boxes(view, "Inbox", "Work")
    done(set_(scene, update={one: {"mailboxIds": boxes(view, "Trash", "Archive"), "keywords/$flagged": True}}))
    view = steady(scene)
    assert view.emails[one]["mailboxIds"] == boxes(view, "Trash", "Archive")
    assert view.emails[one]["keywords"] == {"$flagged": True}


def test_destroyed_emails_are_gone_and_nothing_else(scene: Scene) -> None:
    scene.append("Inbox", *(message(f"m{at}") for at in range(5)))
    view = scene.begin()
    gone = [view.by_subject()[name] for name in ("m1", "m3")]
    assert done(set_(scene, destroy=gone))["destroyed"] == gone
    assert set(steady(scene).by_subject()) == {"m0", "m2", "m4"}


def test_destroying_what_a_query_finds(scene: Scene) -> None:
    """Bulwark empties a folder so: 500 at once by reference."""
    scene.append("Inbox", *(message(f"m{at}") for at in range(60)))
    view = scene.begin()
    answers = scene.jmap.request(
        ("Email/query", {"filter": {"inMailbox": view.paths()[("Inbox",)]}, "sort": NEWEST, "limit": 500}),
        ("Email/set", {"#destroy": {"resultOf": "0", "name": "Email/query", "path": "/ids"}}),
    )
    assert len(answers[1][1]["destroyed"]) == 60
    assert steady(scene).emails == {}


def test_five_hundred_of_a_query_are_destroyed_by_one_store_and_one_expunge(dove: Scene, counted: Hiding) -> None:
    dove.append("Trash", *(message(f"m{at}") for at in range(500)))
    dove.append("Inbox", message("stays"))
    view = dove.begin(imapPort=counted.port)
    answers = dove.jmap.request(
        ("Email/query", {"filter": {"inMailbox": view.paths()["Trash",]}, "sort": NEWEST, "limit": 500}),
        ("Email/set", {"#destroy": {"resultOf": "0", "name": "Email/query", "path": "/ids"}}),
    )
    assert len(done(answers[1][1])["destroyed"]) == 500
    assert (counted.sent("UID STORE"), counted.sent("UID EXPUNGE")) == (1, 1)
    dove.sync()
    assert [email["subject"] for email in dove.look().emails.values()] == ["stays"]
    assert dove.uids("Trash") == []


def test_a_hundred_are_flagged_by_one_command_and_moved_by_one(dove: Scene, counted: Hiding) -> None:
    dove.append("Inbox", *(message(f"m{at}") for at in range(100)))
    view = dove.begin(imapPort=counted.port)
    done(set_(dove, update={id_: {"keywords/$flagged": True} for id_ in view.emails}))
    assert counted.sent("UID STORE") == 1
    done(set_(dove, update={id_: {"mailboxIds": boxes(view, "Archive")} for id_ in view.emails}))
    assert (counted.sent("UID MOVE"), counted.sent("UID COPY"), counted.sent("UID STORE")) == (1, 0, 1)
    assert len(steady(dove).emails) == 100


def test_keywords_that_the_server_does_not_keep_are_named(dove: Scene) -> None:
    """mail-rules 33: PERMANENTFLAGS without \\*."""
    relay = Refusing(dove.server.port)
    relay.change = lambda line: line.replace(b" \\*)]", b")]")
    dove.append("Inbox", message("one"))
    view = dove.begin(imapPort=relay.port)
    one, inbox = view.by_subject()["one"], view.paths()["Inbox",]
    error = set_(dove, update={one: {"keywords/foo": True, "keywords/$seen": True}})["notUpdated"][one]
    assert (error["type"], error["properties"]) == ("invalidProperties", ["keywords/foo"])
    record = {
        "blobId": upload(dove, message("two")),
        "mailboxIds": {inbox: True},
        "keywords": {"$seen": True, "foo": True},
    }
    error = dove.jmap.call("Email/import", emails={"i": record})["notCreated"]["i"]
    assert error["type"] == "invalidProperties" and "foo" in error["description"]
    error = set_(dove, create={"d": draft(inbox, keywords={"$draft": True, "foo": True})})["notCreated"]["d"]
    assert error["type"] == "invalidProperties" and "foo" in error["description"]
    assert set(steady(dove).by_subject()) == {"one"}
    assert dove.uids("Inbox", "SEEN") == []
    # What a client sets by itself after a reply never fails the patch that it stands in.
    done(set_(dove, update={one: {"keywords/$forwarded": True, "keywords/$seen": True}}))
    (got,) = dove.jmap.call("Email/get", ids=[one], properties=["keywords"])["list"]
    assert got["keywords"] == {"$seen": True, "$forwarded": True}
    assert len(dove.uids("Inbox", "SEEN")) == 1
    relay.close()


def test_what_would_leave_an_email_nowhere_is_refused_and_nothing_is_removed(scene: Scene) -> None:
    scene.append("Inbox", message("one"))
    view = scene.begin()
    one, inbox = view.by_subject()["one"], view.paths()["Inbox",]
    for patch in (
        {"mailboxIds": {}},
        {f"mailboxIds/{inbox}": None},
        {"mailboxIds": {"nope": True}},
        {"mailboxIds/nope": True, f"mailboxIds/{inbox}": None},
        {"mailboxIds": {inbox: True, "#nope": True}},
    ):
        error = set_(scene, update={one: {**patch, "keywords/$seen": True}})["notUpdated"][one]
        assert error["type"] == "invalidProperties" and error["properties"], patch
    view = steady(scene)
    assert view.emails[one]["mailboxIds"] == {inbox: True} and view.emails[one]["keywords"] == {}


def test_a_reply_joins_its_thread_and_threads_follow_what_comes_and_goes(scene: Scene) -> None:
    scene.append("Inbox", message("one"))
    view = scene.begin()
    (one,) = view.emails.values()
    answer = {"inReplyTo": ["one@example.com"], "references": ["one@example.com"]}
    made = done(set_(scene, create={"d": draft(view.paths()["Inbox",], "Re: one", **answer)}))["created"]["d"]
    assert made["threadId"] == one["threadId"]
    changes = scene.jmap.call("Thread/changes", sinceState=view.states["Thread"])
    assert (changes["created"], changes["updated"], changes["destroyed"]) == ([], [one["threadId"]], [])
    (thread,) = scene.jmap.call("Thread/get", ids=[one["threadId"]])["list"]
    assert set(thread["emailIds"]) == {one["id"], made["id"]}
    done(set_(scene, destroy=[one["id"], made["id"]]))
    assert scene.jmap.call("Thread/changes", sinceState=changes["newState"])["destroyed"] == [one["threadId"]]
    steady(scene)


def test_a_draft_is_created_read_back_and_replaced(scene: Scene) -> None:
    scene.create("Work")
    view = scene.begin()
    work = view.paths()[("Work",)]
    made = done(set_(scene, create={"d": draft(work)}))["created"]["d"]
    (got,) = scene.jmap.call("Email/get", ids=[made["id"]], fetchTextBodyValues=True)["list"]
    assert got["bodyValues"]["1"]["value"] == "Grüße\n"
    assert (got["subject"], got["size"], got["from"][0]["name"]) == ("A draft", made["size"], "Ännchen")
    blob = scene.jmap.send("GET", f"/raw/{scene.account}/{made['blobId']}/x?type=message/rfc822").body
    # pymap's maildir keeps lines with LF alone.
    assert len(blob) == made["size"] and blob.startswith(b"Date: ")
    steady(scene)
    reply = done(set_(scene, create={"n": draft(work, "Another")}, destroy=[made["id"]]))
    assert reply["destroyed"] == [made["id"]]
    assert set(steady(scene).by_subject()) == {"Another"}


def test_imports_have_their_date_flags_and_octets(scene: Scene) -> None:
    view = scene.begin()
    inbox = boxes(view, "Inbox")
    raws = [message(f"imported {at}", body="x" * 10_000) for at in range(30)]
    emails = {
        f"i{at}": {
            "blobId": upload(scene, raw),
            "mailboxIds": inbox,
            "keywords": {"$seen": True, "$flagged": True},
            "receivedAt": f"2020-01-{at + 1:02}T10:00:00Z",
        }
        for at, raw in enumerate(raws)
    }
    created = done(scene.jmap.call("Email/import", emails=emails))["created"]
    view = steady(scene)
    for at in range(len(raws)):
        one = created[f"i{at}"]
        assert view.emails[one["id"]]["receivedAt"] == f"2020-01-{at + 1:02}T10:00:00Z"
        assert view.emails[one["id"]]["keywords"] == {"$seen": True, "$flagged": True}
    body = scene.jmap.send("GET", f"/raw/{scene.account}/{created['i7']['blobId']}/x?type=message/rfc822").body
    assert body.replace(b"\r\n", b"\n") == raws[7].replace(b"\r\n", b"\n")
    assert scene.kind == "pymap" or body == raws[7]


def test_a_large_message_is_streamed_on_its_way_up(dove: Scene) -> None:
    """30 MB, as an import and as an attachment: neither is ever whole in the worker's memory."""
    view = dove.begin()
    body = b"x" * 998 + b"\r\n"
    blob = upload(dove, message("large") + body * 30_000)
    pid = dove.proxy.worker_pid(dove.account)
    before = _memory(pid, "VmRSS")
    record = {"blobId": blob, "mailboxIds": boxes(view, "Inbox")}
    done(dove.jmap.call("Email/import", emails={"i": record}))
    file = {"blobId": blob, "type": "application/octet-stream", "disposition": "attachment"}
    made = done(set_(dove, create={"d": draft(view.paths()["Inbox",], attachments=[file])}))["created"]["d"]
    assert made["size"] > 40_000_000
    assert _memory(pid, "VmHWM") - before < 15_000
    assert len(dove.sync().emails) == 2


def _memory(pid: int, name: str) -> int:
    """KB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])


def test_the_same_message_imported_twice_is_two_emails_or_exists_already_and_stays_so(copying: Scene) -> None:
    """mail-rules 5: Cyrus calls the two the same message."""
    scene = copying
    view = scene.begin()
    blob = upload(scene, message("same"))
    record = {"blobId": blob, "mailboxIds": boxes(view, "Inbox")}
    first, second = (scene.jmap.call("Email/import", emails={"i": record}) for _ in range(2))
    ids = {done(first)["created"]["i"]["id"]}
    if scene.kind == "cyrus":
        error = second["notCreated"]["i"]
        assert (error["type"], {error["existingId"]}) == ("alreadyExists", ids)
    else:
        ids.add(done(second)["created"]["i"]["id"])
        assert len(ids) == 2
    assert set(steady(scene).emails) == ids


def test_a_write_is_pushed_to_other_clients_at_once(dove: Scene) -> None:
    dove.append("Inbox", message("one"))
    view = dove.begin()
    other = dove.proxy.client(dove.account, dove.user, dove.server.password)
    other.connection.request("GET", "/eventsource?types=Email&closeafter=state&ping=0", headers=other.headers)
    answer = other.connection.getresponse()
    state = done(set_(dove, update={view.by_subject()["one"]: {"keywords/$seen": True}}))["newState"]
    assert state in answer.read().decode()


def test_a_message_that_vanished_meanwhile_is_not_found(dove: Scene) -> None:
    dove.append("Inbox", message("one"), message("two"))
    view = dove.begin()
    one = view.by_subject()["one"]
    [uid, _] = dove.uids("Inbox")
    dove.expunge("Inbox", uid)
    for patch in ({"keywords/$flagged": True}, {"mailboxIds": boxes(view, "Archive")}):
        error = set_(dove, update={one: patch})["notUpdated"][one]
        assert error["type"] == "notFound"
    assert set(dove.agree().by_subject()) == {"two"}


def test_a_folder_that_another_client_just_removed_takes_nothing_away(scene: Scene) -> None:
    scene.create("Away")
    scene.append("Inbox", message("one"))
    view = scene.begin()
    one, inbox, away = view.by_subject()["one"], view.paths()["Inbox",], view.paths()["Away",]
    blob = upload(scene, message("two"))
    scene.do("SELECT", "INBOX")
    scene.do("DELETE", scene.name("Away"))
    for patch in ({"mailboxIds": {away: True}}, {f"mailboxIds/{away}": True}):
        error = set_(scene, update={one: {**patch, "keywords/$seen": True}})["notUpdated"][one]
        assert error["type"] in ("notFound", "invalidProperties", "serverFail"), error
    error = scene.jmap.call("Email/import", emails={"i": {"blobId": blob, "mailboxIds": {away: True, inbox: True}}})
    assert list(error["notCreated"]) == ["i"]
    assert list(set_(scene, create={"d": draft(away)})["notCreated"]) == ["d"]
    view = scene.agree()
    assert {email["subject"]: email["mailboxIds"] for email in view.emails.values()} == {"one": {inbox: True}}
    assert view.emails[one]["keywords"] == {}


def test_what_another_client_marked_as_deleted_is_never_expunged_by_us(make: Any) -> None:
    """mail-rules 32: without UIDPLUS ours stay marked, too, until nothing foreign is there."""
    scene: Scene = make("poor")
    scene.append("Inbox", *(message(f"m{at}") for at in range(4)))
    view = scene.begin()
    foreign, *_ = scene.uids("Inbox")
    scene.flag("Inbox", foreign, "\\Deleted")
    scene.agree()
    done(set_(scene, destroy=[view.by_subject()["m1"]]))
    done(set_(scene, update={view.by_subject()["m2"]: {"mailboxIds": boxes(view, "Archive")}}))
    view = scene.agree()
    assert set(view.by_subject()) == {"m2", "m3"}
    assert len(scene.uids("Inbox")) == 4 and len(scene.uids("Inbox", "DELETED")) == 3
    scene.flag("Inbox", foreign, "\\Deleted", on=False)
    assert set(scene.agree().by_subject()) == {"m0", "m2", "m3"}


def test_a_folder_made_anew_under_us_is_never_written_to(dove: Scene) -> None:
    """Wish 13: UIDVALIDITY changed since; no STORE on a wrong UID."""
    dove.create("Box")
    dove.append("Box", message("old"))
    view = dove.begin()
    old = view.by_subject()["old"]
    dove.do("DELETE", dove.name("Box"))
    dove.create("Box")
    dove.append("Box", message("new"))
    error = set_(dove, update={old: {"keywords/$flagged": True}})["notUpdated"][old]
    assert error["type"] in ("notFound", "serverFail")
    view = dove.agree()
    assert view.emails[view.by_subject()["new"]]["keywords"] == {}


def test_over_quota_leaves_everything_where_it_was(small: Scene) -> None:
    scene = small
    scene.append("Inbox", message("one", body="x" * 600_000))
    view = scene.begin()
    one = view.by_subject()["one"]
    error = set_(scene, update={one: {f"mailboxIds/{view.paths()[('Archive',)]}": True, "keywords/$seen": True}})
    assert error["notUpdated"][one]["type"] == "overQuota"
    record = {"blobId": upload(scene, message("big", body="y" * 900_000)), "mailboxIds": boxes(view, "Inbox")}
    reply = scene.jmap.call("Email/import", emails={"i": record})
    assert reply["notCreated"]["i"]["type"] == "overQuota"
    reply = set_(scene, create={"d": draft(view.paths()[("Inbox",)], bodyValues={"1": {"value": "z" * 900_000}})})
    assert reply["notCreated"]["d"]["type"] == "overQuota"
    view = steady(scene)
    assert view.emails[one]["keywords"] == {} and view.emails[one]["mailboxIds"] == boxes(view, "Inbox")


def test_two_jmap_clients_and_an_imap_client_write_at_once_and_converge(copying: Scene) -> None:
    from concurrent.futures import ThreadPoolExecutor

    scene = copying
    scene.create("Work")
    scene.append("Inbox", *(message(f"m{at}") for at in range(30)))
    view = scene.begin()
    ids = list(view.emails)
    clients = [scene.proxy.client(scene.account, scene.user, scene.server.password) for _ in range(2)]

    def keywords() -> None:
        for id_ in ids:
            done(clients[0].call("Email/set", update={id_: {"keywords/$seen": True, "keywords/x": True}}))

    def moves() -> None:
        for id_ in ids[::2]:
            done(clients[1].call("Email/set", update={id_: {"mailboxIds": boxes(view, "Work")}}))

    def flags() -> None:
        for uid in scene.uids("Inbox"):
            scene.imap.uid("STORE", uid, "+FLAGS.SILENT", "(\\Flagged)")

    with ThreadPoolExecutor() as pool:
        for job in [pool.submit(work) for work in (keywords, moves, flags)]:
            job.result()
    wait_until(lambda: scene.look().states == scene.sync().states, "nothing changes any more")
    view = scene.agree()
    assert set(view.emails) == set(ids)
    for at, id_ in enumerate(ids):
        assert {"$seen", "x"} <= set(view.emails[id_]["keywords"])
        assert view.emails[id_]["mailboxIds"] == boxes(view, "Inbox" if at % 2 else "Work")


@pytest.mark.parametrize("kind", ["dovecot", "courier", "cyrus", "pymap"])
def test_mailboxes_and_emails_are_made_in_one_request(make: Any, kind: str) -> None:
    scene = make(kind)
    scene.begin()
    answers = scene.jmap.request(
        ("Mailbox/set", {"create": {"box": {"name": "Projekt Ö"}, "sub": {"name": "2026", "parentId": "#box"}}}),
        ("Email/set", {"create": {"d": draft("#sub")}}),
        ("Email/query", {"filter": {"inMailbox": "#sub"}}),
    )
    made = done(answers[0][1])["created"]
    assert done(answers[1][1])["created"]["d"]["id"]
    view = steady(scene)
    assert view.paths()[("Projekt Ö", "2026")] == made["sub"]["id"]
    assert view.mailboxes[made["sub"]["id"]]["totalEmails"] == 1


def test_what_was_just_written_is_found_and_shown_in_snippets(scene: Scene) -> None:
    """Search and snippets see the written state: before the index has it, and after the words are gone."""
    view = scene.begin()
    inbox = view.paths()[("Inbox",)]
    body = {"bodyValues": {"1": {"value": "A quagga in the garden"}}}
    search = {"filter": {"text": "quagga"}}
    back = {"resultOf": "1", "name": "Email/query", "path": "/ids"}
    answers = scene.jmap.request(
        ("Email/set", {"create": {"d": draft(inbox, "Animals", **body)}}),
        ("Email/query", search),
        ("SearchSnippet/get", {**search, "#emailIds": back}),
    )
    made = done(answers[0][1])["created"]["d"]["id"]
    assert answers[1][1]["ids"] == [made]
    (snippet,) = answers[2][1]["list"]
    assert "<mark>quagga</mark>" in snippet["preview"]
    done(
        set_(
            scene, update={made: {"mailboxIds": boxes(view, "Trash") if ("Trash",) in view.paths() else {inbox: True}}}
        )
    )
    assert scene.jmap.call("Email/query", **search)["ids"] == [made]
    done(set_(scene, destroy=[made]))
    assert scene.jmap.call("Email/query", **search)["ids"] == []


def test_attached_messages_of_what_was_just_written_are_parsed(dove: Scene) -> None:
    view = dove.begin()
    blob = upload(dove, message("inner", body="Inner words"))
    file = {"blobId": blob, "type": "message/rfc822", "disposition": "attachment", "name": "inner.eml"}
    made = done(set_(dove, create={"d": draft(view.paths()[("Inbox",)], attachments=[file])}))["created"]["d"]
    (got,) = dove.jmap.call("Email/get", ids=[made["id"]], properties=["attachments"])["list"]
    part = got["attachments"][0]["blobId"]
    parsed = dove.jmap.call("Email/parse", blobIds=[part], properties=["subject", "preview"])["parsed"][part]
    assert parsed == {"subject": "inner", "preview": "Inner words"}
