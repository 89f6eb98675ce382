"""Each breach, provoked once, is found; and nothing is found where nothing is wrong."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.proxy import Client, Proxy
from tests.invariants import __main__ as program
from tests.invariants import jmap_view, replay, rules
from tests.invariants.jmap_view import View
from tests.invariants.rules import Ledger, Wish
from tests.invariants.upstream import Folder, Held, Message

INBOX, WORK = ("Inbox",), ("Work",)
ONE, TWO = ("guid1", "one"), ("guid2", "two")


def box(ident: str, name: str, role: str | None, emails: int, unread: int) -> dict[str, Any]:
    counts = dict.fromkeys(("totalEmails", "totalThreads"), emails) | dict.fromkeys(
        ("unreadEmails", "unreadThreads"), unread
    )
    return {"id": ident, "name": name, "parentId": None, "role": role, "isSubscribed": True, **counts}


def email(ident: str, subject: str, *boxes: str, keywords: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "id": ident, "subject": subject, "mailboxIds": dict.fromkeys(boxes, True), "receivedAt": "2026-01-01T00:00:00Z",
        "keywords": dict.fromkeys(keywords, True), "threadId": f"t{ident}", "size": 9, "blobId": f"m-{ident}",
        "messageId": None,
    }  # fmt: skip


def shown() -> View:
    """One in both Mailboxes, seen; two in the Inbox."""
    emails = {"e1": email("e1", "one", "a1", "a2", keywords=("$seen",)), "e2": email("e2", "two", "a1")}
    boxes = {"a1": box("a1", "Inbox", "inbox", 2, 1), "a2": box("a2", "Work", None, 1, 0)}
    threads = {f"t{ident}": {"id": f"t{ident}", "emailIds": [ident]} for ident in emails}
    states = dict.fromkeys(("Mailbox", "Email", "Thread"), "x-1")
    queries = {"": ("x-1", ["e1", "e2"]), "a1": ("x-1", ["e1", "e2"]), "a2": ("x-1", ["e1"])}
    return View(states, boxes, emails, threads, queries, {"": 2, "a1": 2, "a2": 1})


def copy_of(group: tuple[str, str], path: tuple[str, ...], uid: int, *words: str, deleted: bool = False) -> Message:
    return Message(path, uid, *group, frozenset(words), 9, deleted)


def held(*more: Message) -> Held:
    folders = {INBOX: Folder("INBOX", True, True, "box1"), WORK: Folder("Work", True, True, "box2")}
    base = (copy_of(ONE, INBOX, 1, "$seen"), copy_of(ONE, WORK, 1, "$seen"), copy_of(TWO, INBOX, 2))
    return Held(folders, base + more)


def found(breaches: Any) -> str:
    return "\n".join(breaches)


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    ledger = Ledger()
    for _ in range(2):
        assert not found(rules.conservation(held(), shown()))
        assert not found(ledger.note(held(), shown()))
    wishes = [Wish("e1", keywords={"$seen": True, "$flagged": False}, mailboxes=frozenset({"a1", "a2"})), Wish("e2")]
    assert not found(rules.acknowledged(held(), shown(), ledger, wishes))
    assert not found(rules.untouched(held(), held(), ()))
    deleted = held(copy_of(("guid3", "three"), WORK, 7, deleted=True))
    assert not found(rules.conservation(deleted, shown())), "Deleted is neither visible nor counted"


Change = Callable[[View], object]
VIEWS: dict[str, tuple[Change, str]] = {
    "lost": (lambda v: _drop(v, "e2"), "I1: 1 × “two” in Inbox with [], 9 octets on the server, and no such Email"),
    "out of nothing": (lambda v: _add(v, "e3", "three"), "is shown as ['e3'], and not so on the server"),
    "in one folder too few": (lambda v: v.emails["e1"]["mailboxIds"].pop("a2"), "“one” in Inbox, Work"),
    "a keyword": (lambda v: v.emails["e2"]["keywords"].update({"x": True}), "“two” in Inbox with ['x']"),
    "a size": (lambda v: v.emails["e2"].update(size=8), "8 octets is shown as ['e2']"),
    "a Mailbox too few": (lambda v: v.mailboxes["a2"].update(name="Play"), "I1: Work is no Mailbox"),
    "a Mailbox too many": (lambda v: v.mailboxes["a2"].update(name="Play"), "I1: Play is the Mailbox a2 and no folder"),
    "subscription": (lambda v: v.mailboxes["a2"].update(isSubscribed=False), "Work (a2): isSubscribed is False"),
    "a count": (
        lambda v: v.mailboxes["a1"].update(unreadThreads=5),
        "a1 (Inbox) counts (2, 1, 2, 5), not (2, 1, 2, 1)",
    ),
    "a list": (lambda v: v.queries["a1"][1].remove("e2"), "the list of a1"),
    "a total": (lambda v: v.totals.update({"a1": 3}), "total 3"),
    "a thread": (lambda v: v.threads["te1"]["emailIds"].clear(), "I1: the Thread te1 holds [], not ['e1']"),
}


def _drop(view: View, ident: str) -> None:
    del view.emails[ident]


def _add(view: View, ident: str, subject: str) -> None:
    view.emails[ident] = email(ident, subject, "a1")


@pytest.mark.parametrize("name", VIEWS)
def test_i1_each_difference_is_named(name: str) -> None:
    change, words = VIEWS[name]
    view = shown()
    change(view)
    assert words in found(rules.conservation(held(), view))


def test_i1_octets_are_compared() -> None:
    ask = (held(), shown(), lambda one: b"123456789", lambda blob: b"123456789", ["e1", "e2"])
    assert not found(rules.contents(*ask))
    told = found(rules.contents(held(), shown(), lambda one: b"12345678X", lambda blob: b"123456789", ["e1"]))
    assert "I5: the Email e1 has other octets than its copy 1 in Work" in told
    assert "I1: the Email e2 has 2 octets" in found(rules.contents(*ask[:3], lambda blob: b"12", ["e2"]))


WISHES = {
    "I2: the Email e1 was destroyed and is in ['Inbox', 'Work']": Wish("e1", destroyed=True),
    "I2: $flagged of the Email e1 was set, and is not so": Wish("e1", keywords={"$flagged": True}),
    "I2: $seen of the Email e1 was removed, and is not so": Wish("e1", keywords={"$seen": False}),
    "I2: the Email e1 was put into [('Inbox',)] and is in": Wish("e1", mailboxes=frozenset({"a1"})),
    "I2: the Email e9 was acknowledged and is not on the server": Wish("e9"),
}


@pytest.mark.parametrize("words", WISHES)
def test_i2_what_was_acknowledged_and_is_not_so(words: str) -> None:
    ledger = Ledger()
    assert not found(ledger.note(held(), shown()))
    assert words in found(rules.acknowledged(held(), shown(), ledger, [WISHES[words]]))


class Scripted:
    """A client whose every answer is this."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers

    def request(self, *calls: tuple[str, dict[str, Any]]) -> list[Any]:
        return [[name, copy.deepcopy(self.answers[name.replace("/", "_")]), "0"] for name, _ in calls]


def told(state: str = "x-2", **lists: list[str]) -> dict[str, Any]:
    return {"newState": state, "hasMoreChanges": False, "created": [], "updated": [], "destroyed": [], **lists}


def replays(view: View, reborn: frozenset[str] = frozenset(), one_by_one: bool = False, **answers: Any) -> str:
    nothing = {f"{kind}_changes": told() for kind in ("Mailbox", "Email", "Thread")}
    client: Any = Scripted(**nothing, Email_queryChanges={"removed": [], "added": []})
    client.answers |= answers
    view.states.update(dict.fromkeys(view.states, "x-2"))
    return found(replay.replayed(client, shown(), view, reborn=reborn, one_by_one=one_by_one))


def test_i3_each_kind_of_wrong_answer_is_named() -> None:
    assert not replays(shown())
    changed = shown()
    changed.emails["e2"]["keywords"]["x"] = True
    assert "I3: Email from x-1: e2 changed and nothing told it" in replays(changed)
    assert not replays(changed, Email_changes=told(updated=["e2"]))
    assert "ends at x-3, /get is at x-2" in replays(shown(), Email_changes=told("x-3"))
    assert "too many ['e3'], missing []" in replays(shown(), Email_changes=told(created=["e3"]))
    assert "too many [], missing ['e2']" in replays(shown(), Email_changes=told(destroyed=["e2"]))
    assert "created what was known: ['e1']" in replays(shown(), Email_changes=told(created=["e1"]))
    assert not replays(shown(), frozenset({"e1"}), Email_changes=told(created=["e1"]))
    assert "updated what was not known: ['e3']" in replays(shown(), Email_changes=told(updated=["e3"]))
    assert "destroyed what was not known: ['e3']" in replays(shown(), Email_changes=told(destroyed=["e3"]))
    assert "one id in two lists: {'e1'}" in replays(shown(), Email_changes=told(updated=["e1"], destroyed=["e1"]))
    assert "more than 1 changes" in replays(shown(), one_by_one=True, Email_changes=told(updated=["e1", "e2"]))
    counted = shown()
    counted.mailboxes["a1"]["name"] = "New"
    wrong = told(updated=["a1"], updatedProperties=["totalEmails"])
    assert "updatedProperties lacks ['name'] of a1" in replays(counted, Mailbox_changes=wrong)
    refused = {"type": "cannotCalculateChanges"}
    assert "cannotCalculateChanges" in replays(shown(), Email_changes=refused)
    assert "I3: queryChanges of everything" in replays(shown(), Email_queryChanges=refused)
    shifted = {"removed": ["e1"], "added": []}
    assert "I3: queryChanges of a1 from x-1: gives ['e2']" in replays(shown(), Email_queryChanges=shifted)


def test_i4_never_twice_and_never_not() -> None:
    raw = b"Subject: x\r\nMessage-ID: <m1@x>\r\n\r\nMessage-ID: <no@x>\r\n"
    assert not found(rules.sent([raw], ["m1@x"]))
    assert "I4: <m1@x> was taken 2 times" in found(rules.sent([raw, raw], []))
    assert "I4: <m2@x> was acknowledged and never taken" in found(rules.sent([raw], ["m1@x", "m2@x"]))


def test_i5_ids_keep_their_meaning() -> None:
    def noted(change: Callable[[View], object], server: Held | None = None) -> str:
        ledger, view = Ledger(), shown()
        assert not found(ledger.note(held(), view))
        change(view)
        return found(ledger.note(server or held(), view))

    assert "I5: the Email e1 was" in noted(lambda view: view.emails["e1"].update(threadId="t9"))
    renamed = noted(lambda view: view.emails.update(e7=view.emails.pop("e2")))
    assert "I5: ('guid2', 'two') was the Email e2 and is e7" in renamed
    other = held()
    other = Held(
        other.folders, tuple(each._replace(identity="guid9") if each.uid == 2 else each for each in other.messages)
    )
    assert "I5: the Email e2 stood for ('guid2', 'two') and stands for ('guid9', 'two')" in noted(
        lambda view: None, other
    )
    swapped = Held(held().folders | {WORK: Folder("Work", True, True, "box9")}, held().messages)
    assert "I5: the Mailbox a2 stood for box2 and stands for box9" in noted(lambda view: None, swapped)


def test_i6_what_was_not_named_is_as_it_was() -> None:
    after = held(copy_of(("guid3", "three"), WORK, 7))
    assert "I6: “three”, 7 in Work, was not named and came" in found(rules.untouched(held(), after, ()))
    assert "I6: “three”, 7 in Work, was not named and went" in found(rules.untouched(after, held(), ()))
    flagged = Held(after.folders, tuple(each._replace(deleted=True) for each in after.messages))
    assert found(rules.untouched(after, flagged, (ONE, TWO))).count("I6") == 1
    assert not found(rules.untouched(after, flagged, (ONE, TWO, ("guid3", "three"))))


def test_the_program_reads_a_real_account_and_says_what_is_wrong(
    dovecot: Dovecot, proxy: Proxy, account_name: str, tmp_path: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = dovecot.new_user()
    imap = dovecot.imap(user)
    raw = b"Subject: one\r\nMessage-ID: <one@x>\r\n\r\nText\r\n"
    imap.append("INBOX", "(\\Flagged)", "", raw)
    client = proxy.add(account_name, dovecot, user)
    proxy.settled(account_name)
    outbox = tmp_path / "outbox"
    outbox.mkdir()
    (outbox / "00001.eml").write_bytes(raw)
    (tmp_path / "confirmed").write_text("one@x\n")
    arguments = [
        "--imap", f"{dovecot.host}:{dovecot.port}:{user}:{dovecot.password}",
        "--jmap", f"http://127.0.0.1:{proxy.port}:{user}:{dovecot.password}",
        "--history", str(tmp_path / "history"), "--smtp", str(outbox), "--confirmed", str(tmp_path / "confirmed"),
    ]  # fmt: skip
    assert program.main(arguments) == 0, capsys.readouterr().out
    assert "1 Emails in 6 Mailboxes, 0 breaches" in capsys.readouterr().out
    (ident,) = client.call("Email/query")["ids"]
    client.call("Email/set", update={ident: {"keywords/$seen": True}})
    assert program.main(arguments) == 0, "what was handed out by the first run leads to what there is now"
    (tmp_path / "confirmed").write_text("one@x two@x\n")
    real = jmap_view.look

    def forged(client: Client) -> View:
        view = real(client)
        view.emails[ident]["keywords"]["x"] = True
        return view

    monkeypatch.setattr("tests.invariants.checker.look", forged)
    assert program.main(arguments) == 1
    out = capsys.readouterr().out
    assert f"is shown as ['{ident}'], and not so on the server" in out
    assert "I4: <two@x> was acknowledged and never taken" in out
    imap.logout()
