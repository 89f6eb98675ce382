"""What a second IMAP client does in one account, step by step: one scenario for every kind of server.

``STEPS`` is the table; ``needs`` are words that a server may lack (``test_matrix.SERVERS``). Subjects are unique.
"""

from __future__ import annotations

import base64
import imaplib
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

from scene import Scene, Where, message

NAMES = (
    "R&D",
    "&-",
    'say "hi"',
    "back\\slash",
    "Grüße",
    "Ünïcödé &amp; more",
    "日本語",
    "party 🎉",
    "per%cent",
    "a.b",
    "a/b",
    "Entw&APw-rfe",
    "in the middle  two blanks",
    "trailing blank ",
    "(brackets) {5}",
    "~tilde",
)
LEAST = 8
"""So many of the odd names every server takes."""
FIRST, ALL = ("Work",), "1:*"
DEEP = ("Work", "2026")
MANY = [f"many {at:02}" for at in range(20)]


class Other:
    """The second client. ``places``: where this server keeps Trash and Drafts; ``renumber``: a new UIDVALIDITY."""

    def __init__(self, scene: Scene, places: Mapping[str, Where], renumber: Callable[[Scene, str], None]) -> None:
        self.scene, self.places, self.renumbered = scene, places, renumber

    def at(self, where: Where) -> Where:
        return self.places.get(where, where) if isinstance(where, str) else where

    def deliver(self, where: Where, *subjects: str, flags: str = "", date: str = "") -> None:
        self.scene.append(self.at(where), *(message(one) for one in subjects), flags=flags, date=date)

    def raw(self, where: Where, *raws: bytes) -> None:
        self.scene.append(self.at(where), *raws)

    def uids(self, where: Where, *subjects: str) -> str:
        found = [self.scene.uids(self.at(where), f'SUBJECT "{one}"') for one in subjects]
        assert all(found), (where, subjects, found)
        return ",".join(uid for each in found for uid in each)

    def flag(self, where: Where, subject: str, *flags: str, on: bool = True) -> None:
        self.scene.flag(self.at(where), self.uids(where, subject), *flags, on=on)

    def keep(self, where: Where, subject: str, *flags: str) -> None:
        """All flags are these now."""
        self.scene.uid(self.at(where), "STORE", self.uids(where, subject), "FLAGS", f"({' '.join(flags)})")

    def copy(self, where: Where, subject: str, target: Where) -> None:
        self.scene.copy(self.at(where), self.uids(where, subject), self.at(target))

    def move(self, where: Where, target: Where, *subjects: str) -> None:
        self.scene.move(self.at(where), self.uids(where, *subjects), self.at(target))

    def expunge(self, where: Where, *subjects: str) -> None:
        self.scene.expunge(self.at(where), self.uids(where, *subjects))

    def expunge_one(self, where: Where, deleted: str, gone: str) -> None:
        """Two are ``\\Deleted``, and one of them goes (RFC 4315 §2.1)."""
        self.scene.flag(self.at(where), self.uids(where, deleted, gone), "\\Deleted")
        self.scene.uid(self.at(where), "EXPUNGE", self.uids(where, gone).split(",")[0])

    def empty(self, where: Where) -> None:
        if self.scene.uids(self.at(where)):
            self.scene.expunge(self.at(where), ALL)

    def folder(self, verb: str, *paths: tuple[str, ...]) -> None:
        """CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE; we have no folder open that this is about."""
        self.scene.do("SELECT", "INBOX")
        names = [self.scene.name(*path) for path in paths]
        try:
            self.scene.do(verb, *names)
        except imaplib.IMAP4.abort:
            # pymap's maildir may trip over who lists it at the same moment; then it is half done at most.
            self.scene.imap = self.scene.server.imap(self.scene.user)
            with suppress(AssertionError):
                self.scene.do(verb, *names)

    def rename_inbox(self) -> None:
        self.scene.imap.unselect()
        self.scene.do("RENAME", "INBOX", self.scene.name("Old mail"))

    def anew(self, path: tuple[str, ...], *subjects: str) -> None:
        """Deleted, made again under its name, and filled."""
        self.folder("DELETE", path)
        self.folder("CREATE", path)
        self.deliver(path, *subjects)

    def swap(self, one: str, two: str) -> None:
        for old, new in ((one, "passing"), (two, one), ("passing", two)):
            self.folder("RENAME", (old,), (new,))

    def odd_names(self) -> None:
        made = []
        for name in NAMES:
            separates = self.scene.separator in name or (self.scene.kind == "pymap" and "." in name)
            if not separates and self.scene.imap.create(self.scene.name(name))[0] == "OK":
                made.append(name)
                self.deliver(name, f"odd {len(made)}")
        assert len(made) >= LEAST, made

    def out_and_back(self, where: str) -> None:
        """Everything leaves, the folder is made anew, everything returns: as some clients compact."""
        self.folder("CREATE", ("Aside",))
        self.scene.move(self.at(where), ALL, ("Aside",))
        self.folder("DELETE", (where,))
        self.folder("CREATE", (where,))
        self.scene.move(("Aside",), ALL, (where,))
        self.folder("DELETE", ("Aside",))

    def renumber(self, where: str) -> None:
        self.scene.do("SELECT", "INBOX")
        self.renumbered(self.scene, where)

    def many_folders(self, verb: str) -> None:
        for at in range(8):
            self.folder(verb, (f"box {at}",))
            if verb == "CREATE":
                self.deliver((f"box {at}",), f"boxed {at:02}")


class Step(NamedTuple):
    name: str
    act: Callable[[Other], object]
    needs: frozenset[str] = frozenset()


def step(name: str, act: Callable[[Other], object], *needs: str) -> Step:
    return Step(name, act, frozenset(needs))


def reply(subject: str, to: str) -> bytes:
    return message(subject, f"In-Reply-To: <{to}@example.com>", ident=subject.replace(":", ""))


def encoded(subject: str) -> str:
    return f"=?utf-8?b?{base64.b64encode(subject.encode()).decode()}?="


STEPS = (
    step("a message arrives", lambda o: o.deliver("Inbox", "m1")),
    step("four arrive at once", lambda o: o.deliver("Inbox", "m2", "m3", "m4", "m5")),
    step("a reply arrives", lambda o: o.raw("Inbox", reply("Re: m1", "m1"))),
    step("an encoded subject arrives", lambda o: o.raw("Inbox", message(encoded("Grüße 日本 🎉"), ident="greetings"))),
    step("an old one arrives", lambda o: o.deliver("Inbox", "old1", date='" 1-Feb-2011 03:04:05 +0000"')),
    step("a seen one with a keyword arrives", lambda o: o.deliver("Inbox", "seen1", flags="(\\Seen Todo)")),
    step("one that is Deleted already arrives", lambda o: o.deliver("Inbox", "dead1", flags="(\\Deleted)")),
    step("\\Seen is set", lambda o: o.flag("Inbox", "m1", "\\Seen")),
    step("two flags are set", lambda o: o.flag("Inbox", "m2", "\\Flagged", "\\Answered")),
    step("a flag is removed", lambda o: o.flag("Inbox", "m2", "\\Answered", on=False)),
    step("a keyword is set", lambda o: o.flag("Inbox", "m3", "$Forwarded", "Work")),
    step("all flags are replaced", lambda o: o.keep("Inbox", "m3", "\\Draft", "Play")),
    step("a keyword is removed", lambda o: o.flag("Inbox", "m3", "Play", "\\Draft", on=False)),
    step("everything is read", lambda o: o.scene.flag("Inbox", ALL, "\\Seen")),
    step("a folder is made", lambda o: o.folder("CREATE", ("Work",))),
    step("mail arrives in it", lambda o: o.deliver("Work", "w1", "w2", "w3", "w4")),
    step("a folder is made in it", lambda o: o.folder("CREATE", DEEP)),
    step("mail arrives deep", lambda o: o.deliver(DEEP, "d1", "d2")),
    step("one moves", lambda o: o.move("Inbox", "Work", "m4")),
    step("it moves on", lambda o: o.move("Work", DEEP, "m4")),
    step("it moves back", lambda o: o.move(DEEP, "Inbox", "m4")),
    step("three move at once", lambda o: o.move("Work", "Inbox", "w1", "w2", "w3")),
    step("one is copied", lambda o: o.copy("Inbox", "m5", "Work"), "copy"),
    step("the copy alone is flagged", lambda o: o.flag("Work", "m5", "\\Flagged", "Two"), "copy"),
    step("\\Seen of one copy goes", lambda o: o.flag("Work", "m5", "\\Seen", on=False), "copy"),
    step("the copy goes", lambda o: o.expunge("Work", "m5"), "copy"),
    step("one is copied within its folder", lambda o: o.copy("Inbox", "m5", "Inbox"), "copy"),
    step(
        "one of the two goes",
        lambda o: o.scene.expunge("Inbox", o.uids("Inbox", "m5").split(",")[0]),
        "copy",
        "expunges",
    ),
    step("moved by COPY and EXPUNGE", lambda o: (o.copy("Inbox", "w1", DEEP), o.expunge("Inbox", "w1")), "copy"),
    step("one is Deleted", lambda o: o.flag("Inbox", "w2", "\\Deleted")),
    step("and comes back", lambda o: o.flag("Inbox", "w2", "\\Deleted", on=False)),
    step("one of two Deleted goes", lambda o: o.expunge_one("Inbox", "w2", "w3"), "uidplus"),
    step("the other comes back", lambda o: o.flag("Inbox", "w2", "\\Deleted", on=False), "uidplus"),
    step("one goes for good", lambda o: o.expunge("Inbox", "m2")),
    step("a folder is subscribed", lambda o: o.folder("SUBSCRIBE", ("Work",))),
    step("a folder is renamed", lambda o: o.folder("RENAME", DEEP, ("Work", "2027"))),
    step("its parent is renamed", lambda o: o.folder("RENAME", ("Work",), ("Projects",))),
    step("mail arrives in both", lambda o: (o.deliver("Projects", "p1"), o.deliver(("Projects", "2027"), "p2"))),
    step("it moves to the top", lambda o: o.folder("RENAME", ("Projects", "2027"), ("Years",))),
    step("the old name is taken anew", lambda o: (o.folder("CREATE", ("Work",)), o.deliver("Work", "w5"))),
    step("two folders swap their names", lambda o: o.swap("Work", "Years"), "swap"),
    step("a folder is unsubscribed", lambda o: o.folder("UNSUBSCRIBE", ("Projects",))),
    step("three levels that nobody made", lambda o: o.folder("CREATE", ("a", "b", "c")), "bare parents"),
    step("mail arrives in the deepest", lambda o: o.deliver(("a", "b", "c"), "deep1"), "bare parents"),
    step("the top of it is renamed", lambda o: o.folder("RENAME", ("a",), ("z",)), "bare parents"),
    step("a parent is made, filled and deleted", lambda o: _parent(o), "bare parents", "delete above"),
    step("the parent is made again", lambda o: o.folder("CREATE", ("up",)), "bare parents", "delete above"),
    step("a folder is made anew, empty", lambda o: o.anew(("Work",))),
    step("mail arrives in the new one", lambda o: o.deliver("Work", "n1", "n2")),
    step("a folder is made anew, with other mail", lambda o: o.anew(("Work",), "n3", "n4")),
    step("everything out, anew, and back in", lambda o: o.out_and_back("Work"), "copy"),
    step("a folder with mail is deleted", lambda o: o.folder("DELETE", ("Years",))),
    step("a new UIDVALIDITY", lambda o: o.renumber("Work"), "renumber"),
    step("mail arrives after it", lambda o: o.deliver("Work", "after1")),
    step("a flag after it", lambda o: o.flag("Work", "n3", "\\Flagged")),
    step("odd names", lambda o: o.odd_names()),
    step("renamed to an odd name", lambda o: o.folder("RENAME", ("Grüße",), ("Ä & Ö",))),
    step("an odd name is deleted", lambda o: o.folder("DELETE", ("R&D",))),
    step("mail moves into an odd name", lambda o: o.move("Inbox", "日本語", "m4")),
    step("a draft is written", lambda o: o.deliver("Drafts", "draft1", flags="(\\Draft)")),
    step("an unread reply arrives in Trash", lambda o: o.raw("Trash", reply("Re: m1", "m1"))),
    step("one is thrown away", lambda o: o.move("Inbox", "Trash", "old1")),
    step("Trash is emptied", lambda o: o.empty("Trash")),
    step("two of one Message-ID, not the same", lambda o: _impostors(o)),
    step("the same octets in two folders", lambda o: (o.deliver("Inbox", "twin"), o.deliver("Work", "twin")), "twins"),
    step("twenty arrive", lambda o: o.deliver("Inbox", *MANY)),
    step("twenty move", lambda o: o.move("Inbox", "Work", "many")),
    step("twenty are flagged", lambda o: o.flag("Work", "many", "\\Flagged")),
    step("twenty go", lambda o: o.expunge("Work", "many")),
    step("eight folders come", lambda o: o.many_folders("CREATE")),
    step("eight folders go", lambda o: o.many_folders("DELETE")),
    step("INBOX is renamed", lambda o: o.rename_inbox(), "rename inbox"),
    step("mail arrives in the new INBOX", lambda o: o.deliver("Inbox", "last1")),
    step("INBOX is emptied", lambda o: o.empty("Inbox")),
)


def _parent(other: Other) -> None:
    other.folder("CREATE", ("up",))
    other.folder("CREATE", ("up", "down"))
    other.deliver(("up", "down"), "child1")
    other.deliver("up", "parent1")
    other.folder("DELETE", ("up",))


def _impostors(other: Other) -> None:
    other.raw("Inbox", message("same1", body="one", ident="same"), message("same2", body="two", ident="same"))
