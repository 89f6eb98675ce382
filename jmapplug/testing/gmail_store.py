"""What Gmail keeps behind its IMAP: one store of messages, and folders that are views of it.

A message has labels; each label is a folder. What is not in Trash or Spam is in All Mail; Starred shows what is
``\\Flagged``. Flags belong to the message, ``\\Deleted`` to the view that it was set in. Words: a *folder* is a view
with UIDs of its own; *place* is "" for a message in All Mail, else the folder that has it alone.
"""

from __future__ import annotations

import hashlib
import re
import socket
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

INBOX, ALL, DRAFTS, SENT = "INBOX", "[Gmail]/All Mail", "[Gmail]/Drafts", "[Gmail]/Sent Mail"
SPAM, STARRED, TRASH, IMPORTANT = "[Gmail]/Spam", "[Gmail]/Starred", "[Gmail]/Trash", "[Gmail]/Important"
USES = {
    ALL: "\\All", DRAFTS: "\\Drafts", SENT: "\\Sent", SPAM: "\\Junk", STARRED: "\\Flagged", TRASH: "\\Trash",
    IMPORTANT: "\\Important",
}  # fmt: skip
LABELS = {INBOX: "\\Inbox", SENT: "\\Sent", DRAFTS: "\\Draft", STARRED: "\\Starred", IMPORTANT: "\\Important"}
"""Folder → what X-GM-LABELS calls it; a user's label is its own name."""
ALONE = (TRASH, SPAM)
ARCHIVE, TO_TRASH, FOR_GOOD = "archive", "trash", "delete"
"""What happens to a message that is expunged from its last folder: a user's setting."""


class Refused(Exception):
    """NO, with its text (and response code)."""


@dataclass(slots=True, eq=False)
class Message:
    msgid: int
    thrid: int
    raw: bytes
    date: int
    flags: set[str] = field(default_factory=set)
    labels: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    place: str = ""

    def is_in(self, name: str) -> bool:
        if name in ALONE:
            return self.place == name
        if self.place:
            return False
        return name == ALL or (name == STARRED and "\\Flagged" in self.flags) or name in self.labels

    def shown(self, name: str) -> list[str]:
        """The flags as a view shows them."""
        return sorted(self.flags | ({"\\Deleted"} if name in self.deleted else set()))


@dataclass(slots=True, eq=False)
class Folder:
    name: str
    uidvalidity: int
    uidnext: int = 1
    messages: dict[int, Message] = field(default_factory=dict)
    uids: dict[Message, int] = field(default_factory=dict)
    modseq: dict[int, int] = field(default_factory=dict)
    highest: int = 1
    subscribed: bool = True


class Account:
    """One user's mail. Every method wants ``lock``. ``told`` sockets get an octet when something changed."""

    def __init__(self, dedupe: bool = True, expunge: str = ARCHIVE) -> None:
        self.dedupe, self.expunged = dedupe, expunge
        self.lock = threading.RLock()
        self.told: set[socket.socket] = set()
        self._clock = 1
        self._validity = 0
        self._next = 1_800_000_000_000_000_000
        self.messages: list[Message] = []
        self.folders: dict[str, Folder] = {}
        for name in (INBOX, *USES):
            self._open(name)

    def _open(self, name: str) -> Folder:
        self._validity += 1
        folder = self.folders[name] = Folder(name, self._validity)
        return folder

    def folder(self, name: str) -> Folder:
        """Raises Refused."""
        found = self.folders.get(INBOX if name.upper() == INBOX else name)
        if found is None:
            raise Refused("[NONEXISTENT] Unknown Mailbox: " + name)
        return found

    # --- messages ----------------------------------------------------------------------------------------------------

    def append(self, name: str, raw: bytes, flags: Iterable[str], date: int) -> int:
        """The UID. Raises Refused."""
        folder = self.folder(name)
        ident = message_id(raw)
        found = next((m for m in self.messages if ident and message_id(m.raw) == ident), None)
        if found is None or not self.dedupe:
            self._next += int.from_bytes(hashlib.sha1(raw).digest()[:3], "big") + 1
            found = Message(self._next, self._thread(raw) or self._next, raw, date)
            self.messages.append(found)
        found.flags |= set(flags) - {"\\Deleted", "\\Recent"}
        if name == DRAFTS:
            found.flags.add("\\Draft")
        self._put(found, folder.name)
        self._settle(found, True)
        return folder.uids[found]

    def _thread(self, raw: bytes) -> int | None:
        named = set(re.findall(rb"<[^<>\s]+>", field_of(raw, "references") + field_of(raw, "in-reply-to")))
        return next((m.thrid for m in self.messages if message_id(m.raw) in named), None)

    def _put(self, message: Message, name: str) -> None:
        if name in ALONE:
            if message.place != name:
                message.labels.clear()
                message.deleted.clear()
            message.place = name
            return
        if message.place:
            message.place = ""
            message.deleted.clear()
        if name == STARRED:
            message.flags.add("\\Flagged")
        elif name != ALL:
            message.labels.add(name)

    def _take(self, message: Message, name: str) -> None:
        message.deleted.discard(name)
        if name == STARRED:
            message.flags.discard("\\Flagged")
        message.labels.discard(name)

    def copy(self, source: Folder, uids: Iterable[int], target: str, moving: bool) -> dict[int, int]:
        """UID in the source → UID in the target. Raises Refused."""
        there = self.folder(target)
        found = {}
        for uid in uids:
            message = source.messages.get(uid)
            if message is None:
                continue
            if moving and source.name != there.name:
                self._take(message, source.name)
            self._put(message, there.name)
            self._settle(message, STARRED in (source.name, there.name))
            found[uid] = there.uids[message]
        return found

    def expunge(self, folder: Folder, only: set[int] | None) -> None:
        """What is ``\\Deleted`` in this view leaves it; out of Trash and Spam it goes for good."""
        for uid, message in list(folder.messages.items()):
            if folder.name not in message.deleted or (only is not None and uid not in only):
                continue
            self._take(message, folder.name)
            gone = folder.name in ALONE
            if not gone and not message.labels:
                gone = self.expunged == FOR_GOOD
                if self.expunged == TO_TRASH:
                    self._put(message, TRASH)
            if gone:
                self.messages.remove(message)
                message.place = "nowhere"
            self._settle(message, True)

    def change(self, folder: Folder, uid: int, sign: str, flags: set[str]) -> None:
        """STORE FLAGS ("+", "-" or "")."""
        message = folder.messages[uid]
        before = set(message.shown(folder.name))
        after = before | flags if sign == "+" else before - flags if sign == "-" else set(flags)
        if after == before:
            return
        message.flags = after - {"\\Deleted"}
        (message.deleted.add if "\\Deleted" in after else message.deleted.discard)(folder.name)
        self._settle(message, True)

    def labels(self, message: Message, selected: str) -> list[str]:
        """X-GM-LABELS: never the selected folder."""
        names = {name for name in (*message.labels, STARRED) if message.is_in(name) and name != selected}
        return sorted(LABELS.get(name, name) for name in names)

    def relabel(self, folder: Folder, uid: int, sign: str, names: Iterable[str]) -> None:
        """STORE X-GM-LABELS. Raises Refused."""
        message = folder.messages[uid]
        known = {label: name for name, label in LABELS.items()}
        wanted = {self.folder(known.get(name, name)).name for name in names}
        if sign == "":
            for name in [n for n in message.labels if n not in wanted and n != folder.name]:
                self._take(message, name)
        for name in wanted:
            (self._take if sign == "-" else self._put)(message, name)
        self._settle(message, True)

    def _settle(self, message: Message, touched: bool) -> None:
        """Every view as the message is now."""
        self._clock += 1
        for folder in self.folders.values():
            uid = folder.uids.get(message)
            if message.is_in(folder.name) and message.place != "nowhere":
                if uid is None:
                    uid = folder.uids[message] = folder.uidnext
                    folder.uidnext += 1
                    folder.messages[uid] = message
                elif not touched:
                    continue
                folder.modseq[uid] = folder.highest = self._clock
            elif uid is not None:
                del folder.uids[message], folder.messages[uid], folder.modseq[uid]
                message.deleted.discard(folder.name)
                folder.highest = self._clock
        for each in list(self.told):
            try:
                each.send(b"!")
            except OSError:
                self.told.discard(each)

    # --- folders -----------------------------------------------------------------------------------------------------

    def create(self, name: str) -> None:
        if name in self.folders or name.upper() == INBOX:
            raise Refused("[ALREADYEXISTS] Duplicate folder name " + name)
        if name.startswith("[Gmail]"):
            raise Refused("[CANNOT] Invalid folder name " + name)
        self._open(name)

    def rename(self, old: str, new: str) -> None:
        self._own(old)
        self.folder(old)
        if new in self.folders or new.startswith("[Gmail]") or new.upper() == INBOX:
            raise Refused("[ALREADYEXISTS] Duplicate folder name " + new)
        moving: Callable[[str], bool] = lambda name: name == old or name.startswith(old + "/")  # noqa: E731
        for name in [n for n in self.folders if moving(n)]:
            folder = self.folders.pop(name)
            folder.name = new + name[len(old) :]
            self.folders[folder.name] = folder
            for message in folder.messages.values():
                message.labels = {folder.name if n == name else n for n in message.labels}
                message.deleted = {folder.name if n == name else n for n in message.deleted}

    def delete(self, name: str) -> None:
        self._own(name)
        folder = self.folder(name)
        for message in list(folder.messages.values()):
            self._take(message, name)
            self._settle(message, False)
        del self.folders[name]

    def _own(self, name: str) -> None:
        if name.upper() == INBOX or name.startswith("[Gmail]"):
            raise Refused("[CANNOT] Cannot change a system folder")


def field_of(raw: bytes, name: str) -> bytes:
    """A header field, unfolded; b"" where there is none."""
    head = re.split(rb"\r?\n\r?\n", raw, maxsplit=1)[0]
    found = re.search(rb"(?im)^%s[ \t]*:((?:[^\n]*(?:\n[ \t][^\n]*)*))" % re.escape(name.encode()), head)
    return b" ".join(found[1].split()) if found else b""


def message_id(raw: bytes) -> bytes:
    return field_of(raw, "message-id")
