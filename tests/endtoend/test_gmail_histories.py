"""Random days of a JMAP client and another IMAP client in one account where folders are labels (mail-rules 35)."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from gmail_scene import ALL, IMPORTANT, INBOX, SENT, SPAM, TRASH, GmailScene
from scene import View, message
from test_gmail import draft, upload

from jmapplug.testing import gmail_server
from jmapplug.testing.gmail_server import Gmail

STEPS = 30
PLACES = (INBOX, ("Work",), ("Home",), IMPORTANT, ALL, TRASH, SPAM, SENT)
RAW = ("INBOX", "Work", "Home", "[Gmail]/Important", "[Gmail]/Trash", "[Gmail]/Spam", "[Gmail]/Starred")


@pytest.fixture(scope="module", params=["archive", "trash"])
def server(request: pytest.FixtureRequest) -> Iterator[Gmail]:
    running = gmail_server.start("--expunge", request.param)
    yield running
    running.stop()


class Day:
    """The steps of one history. ``alive``: subjects of what nobody has destroyed."""

    def __init__(self, gm: GmailScene, seed: int) -> None:
        self.gm, self.random = gm, random.Random(seed)
        self.alive: set[str] = set()
        self.count = 0
        self.view: View

    def subject(self) -> str:
        self.count += 1
        self.alive.add(f"m{self.count}")
        return f"m{self.count}"

    def some(self) -> list[str]:
        """A few Email ids."""
        return self.random.sample(sorted(self.view.emails), min(len(self.view.emails), self.random.randint(1, 3)))

    def boxes(self) -> dict[str, bool]:
        paths = self.view.paths()
        return {paths[path]: True for path in self.random.sample(PLACES, self.random.randint(1, 3))}

    # --- the JMAP client's

    def set_(self) -> None:
        some = self.some()
        doomed = [each for each in some if self.random.random() < 0.2]
        update = {each: self.patch(each) for each in some if each not in doomed}
        create = {"d": draft(self.boxes(), self.subject())} if self.random.random() < 0.3 else {}
        self.alive -= {self.view.emails[each]["subject"] for each in doomed}
        self.gm.done(update=update, destroy=doomed, create=create)

    def patch(self, email: str) -> dict[str, Any]:
        kind = self.random.randrange(4)
        words = {f"keywords/{self.random.choice(['$seen', '$flagged', 'mine'])}": self.random.choice([True, None])}
        if kind == 0:
            return words
        if kind == 1:
            return {"mailboxIds": self.boxes(), **words}
        if kind == 2:
            return {f"mailboxIds/{next(iter(self.boxes()))}": True}
        here = list(self.view.emails[email]["mailboxIds"])
        return {f"mailboxIds/{here[0]}": None, f"mailboxIds/{self.view.paths()[INBOX]}": True}

    def import_(self) -> None:
        blob = upload(self.gm, message(self.subject()))
        reply = self.gm.jmap.call("Email/import", emails={"i": {"blobId": blob, "mailboxIds": self.boxes()}})
        assert reply["created"], reply
        self.agree()

    # --- the other client's

    def arrive(self) -> None:
        self.gm.append(self.random.choice(RAW[:5]), message(self.subject()))
        self.agree()

    def relabel(self) -> None:
        folder = self.random.choice(RAW[:6])
        uids = self.gm.uids(folder)
        if uids:
            act = self.gm.copy if self.random.random() < 0.5 else self.gm.move
            target = self.random.choice([name for name in RAW if name != folder])
            act(folder, self.random.choice(uids), target)
        self.agree()

    def unlabel(self) -> None:
        folder = self.random.choice(RAW[:4])
        uids = self.gm.uids(folder)
        if uids:
            self.gm.expunge(folder, self.random.choice(uids))
        self.agree()

    def flag(self) -> None:
        uids = self.gm.uids("[Gmail]/All Mail")
        if uids:
            flag = self.random.choice(["\\Seen", "\\Flagged", "mine"])
            self.gm.flag("[Gmail]/All Mail", self.random.choice(uids), flag, on=self.random.random() < 0.6)
        self.agree()

    def agree(self) -> None:
        self.view = self.gm.agree()
        del self.gm.history[:-3]


@pytest.mark.parametrize("seed", range(3))
def test_any_day_ends_with_one_view(gm: GmailScene, seed: int) -> None:
    for label in ("Work", "Home"):
        gm.create(label)
    day = Day(gm, seed)
    gm.append("INBOX", *(message(day.subject()) for _ in range(4)))
    gm.append("[Gmail]/Drafts", message(day.subject()))
    gm.begin()
    day.agree()
    steps: list[Callable[[], None]] = [
        day.set_,
        day.set_,
        day.set_,
        day.import_,
        day.arrive,
        day.relabel,
        day.unlabel,
        day.flag,
    ]
    for _ in range(STEPS):
        day.random.choice(steps)()
        day.agree()
        assert set(day.view.by_subject()) == day.alive and len(day.view.emails) == len(day.alive)
