"""What the contract of a MailSource works with: messages, another client's hands, and the simplest store there is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from jmapplug.backends import Changes, Folder, Item, MailSource, SyncPoint

PLAIN = (
    b"Date: Mon, 2 Nov 2026 10:00:00 +0100\r\nFrom: Ann <ann@example.org>\r\nTo: bob@example.org\r\n"
    b"Subject: %s\r\nMessage-ID: <%s@example.org>\r\nX-Note: kept\r\n"
    b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nHello %s, this is the text.\r\n"
)
MIXED = (
    b"Date: Mon, 2 Nov 2026 10:00:00 +0100\r\nFrom: Ann <ann@example.org>\r\nSubject: two parts\r\n"
    b"Message-ID: <mixed@example.org>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=cut\r\n\r\n"
    b"--cut\r\nContent-Type: text/plain\r\n\r\nfirst part\r\n"
    b"--cut\r\nContent-Type: application/octet-stream; name=a.bin\r\n"
    b"Content-Disposition: attachment; filename=a.bin\r\n"
    b"Content-Transfer-Encoding: base64\r\n\r\nAAECAwQFBgcICQ==\r\n--cut--\r\n"
)
T0 = 1_750_000_000  # unix seconds of the oldest message appended here
DEADLINE = 60.0  # seconds; a test that waits longer has failed


def message(name: str) -> bytes:
    """A small text message with ``name`` as its subject."""
    word = name.encode()
    return PLAIN % (word, word, word)


class Upstream(Protocol):
    """One upstream account, and another client's hands in it. Keys are those of ``Folder.key``."""

    def source(self) -> MailSource:
        """A new source for the account (closed by ``close``)."""

    def create(self, *path: str) -> bytes:
        """Create and subscribe a folder by its levels; its key."""

    def delete(self, key: bytes) -> None: ...

    def append(self, key: bytes, message: bytes, flags: Sequence[str] = (), received_at: int = T0) -> int:
        """Store a message; its UID."""

    def flag(self, key: bytes, uid: int, flag: str, on: bool = True) -> None: ...

    def expunge(self, key: bytes, uid: int) -> None: ...

    def move(self, key: bytes, uid: int, target: bytes) -> int:
        """Move a message as a client without MOVE would; its UID in ``target``."""

    def uids(self, key: bytes) -> list[int]:
        """What is really there, ascending."""

    def close(self) -> None: ...


class Mirror:
    """What a client knows of one folder after each pass: the simplest store one can have."""

    def __init__(self, source: MailSource, key: bytes) -> None:
        self.source, self.key = source, key
        self.point: SyncPoint | None = None
        self.items: dict[int, Item] = {}

    def sync(self) -> Changes:
        """One pass, applied."""
        found = self.source.changes(self.key, self.point, lambda: sorted(self.items))
        if found.reset:
            self.items.clear()
        for item in found.flags:
            if item.uid in self.items:
                self.items[item.uid] = item
        for item in found.new:
            assert item.uid not in self.items, "new means not known before"
            assert item.received_at is not None
            self.items[item.uid] = item
        for uid in found.vanished:
            self.items.pop(uid, None)
        self.point = found.point
        return found

    def flags(self) -> dict[int, frozenset[str]]:
        """uid → flags in lower case."""
        return {uid: frozenset(flag.lower() for flag in item.flags or ()) for uid, item in self.items.items()}


class Promises:
    """What a subclass of the contract says of its upstream."""

    user_keywords = True
    """False: flags that the upstream does not know are lost."""
    exact_octets = True
    """False: messages come back with other line breaks."""
    makes_previews = True
    """False: the upstream says that it makes previews, and has none."""

    def kept(self, message: bytes) -> bytes:
        """How the upstream gives back a message."""
        return message if self.exact_octets else message.replace(b"\r\n", b"\n")


def split_lines(block: bytes) -> list[bytes]:
    """Lines without their ends."""
    return block.replace(b"\r\n", b"\n").split(b"\n")


def folder(source: MailSource, key: bytes) -> Folder:
    """The folder as the source lists it now."""
    return next(f for f in source.folders() if f.key == key)
