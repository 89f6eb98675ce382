"""A mail server in memory: folders, messages, and all that other clients and deliveries do to them.

Looked at through :class:`~jmapplug.testing.memory_source.MemorySource`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from jmapplug.backends import Features, Rights
from jmapplug.errors import UpstreamError
from jmapplug.mime.structure import Part

if TYPE_CHECKING:
    from jmapplug.testing.memory_source import MemorySource

_MODSEQ_STEP = 1


class StoredMessage:
    """One copy in one folder."""

    __slots__ = ("flags", "guid", "modseq", "preview", "raw", "received_at", "structure", "thread_id", "uid")

    def __init__(self, uid: int, raw: bytes, flags: Iterable[str], received_at: int, guid: str, modseq: int) -> None:
        self.uid = uid
        self.raw = raw
        self.flags = tuple(flags)
        self.received_at = received_at
        self.guid = guid
        self.modseq = modseq
        self.thread_id: str | None = None
        self.structure: Part | None = None
        self.preview: str | None = None


class StoredFolder:
    """One folder. ``vanished`` remembers (modseq, uid) of what went, as QRESYNC servers do."""

    def __init__(self, key: bytes, path: tuple[str, ...], parent: bytes | None, uidvalidity: int, guid: str) -> None:
        self.key = key
        self.path = path
        self.parent = parent
        self.uidvalidity = uidvalidity
        self.uidnext = 1
        self.modseq = 1
        self.guid = guid
        self.messages: dict[int, StoredMessage] = {}
        self.vanished: list[tuple[int, int]] = []
        self.selectable = True
        self.exists = True
        self.subscribed = True
        self.role: str | None = None
        self.role_by_name: str | None = None
        self.rights = Rights()
        self.read_only = False
        self.permanent_flags: tuple[str, ...] = ("\\Seen", "\\Draft", "\\Flagged", "\\Answered", "\\Deleted", "\\*")
        self.old_key: bytes | None = None

    def bump(self) -> int:
        self.modseq += _MODSEQ_STEP
        return self.modseq


def message(
    subject: str = "Hello",
    *,
    message_id: str | None = None,
    references: Sequence[str] = (),
    sender: str = "Ann <ann@example.org>",
    to: str = "bob@example.org",
    date: str = "Mon, 05 Jan 2026 10:00:00 +0100",
    body: str = "Hello Bob.\r\n",
    extra: Sequence[str] = (),
) -> bytes:
    """A small message. ``references`` also makes In-Reply-To of its last id."""
    lines = [f"From: {sender}", f"To: {to}", f"Subject: {subject}", f"Date: {date}", *extra]
    if message_id:
        lines.append(f"Message-ID: <{message_id}>")
    if references:
        lines.append("In-Reply-To: <" + references[-1] + ">")
        lines.append("References: " + " ".join(f"<{one}>" for one in references))
    lines += ["MIME-Version: 1.0", "Content-Type: text/plain; charset=utf-8"]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


class Watcher(Protocol):
    """Whoever wants to be told of changes."""

    def wake(self, keys: Iterable[bytes]) -> None: ...


class MemoryServer:
    """The upstream itself. Changing it wakes the watches of its sources."""

    def __init__(self, features: Features | None = None, *, guid_per_message: bool = True) -> None:
        self.features = features or Features(
            id_scheme="emailid", condstore=True, qresync=True, idle=True, move=True, uidplus=True, special_use=True
        )
        self.identity = "bob@memory"
        self.folders: dict[bytes, StoredFolder] = {}
        self.mailbox_ids = guid_per_message
        self._guid = itertools.count(1)
        self._validity = itertools.count(1000)
        self.watches: set[Watcher] = set()
        self._clock = itertools.count(1_700_000_000, 60)
        self.largest: int | None = None
        """Octets of the largest message that may be appended or copied."""
        self.quota: int | None = None
        """Octets of all messages together."""
        self.ids_by_content = False
        """Whether a message with the octets of another one gets its id (EMAILID), as some servers do."""
        self.create(b"INBOX", role="inbox")

    # --- what other clients and the delivery agent do -----------------------------------------------------------------

    def create(
        self, key: bytes, *, role: str | None = None, path: tuple[str, ...] | None = None, parent: bytes | None = None
    ) -> StoredFolder:
        """A new folder; levels are cut at "/" unless ``path`` is given."""
        levels = path or tuple(key.decode().split("/"))
        if parent is None and path is None and b"/" in key:
            parent = key.rsplit(b"/", 1)[0]
        folder = StoredFolder(key, levels, parent, next(self._validity), f"box{next(self._guid)}")
        folder.role = role
        self.folders[key] = folder
        self._wake(key)
        return folder

    def delete(self, key: bytes) -> None:
        del self.folders[key]
        self._wake(key)

    def unmake(self, key: bytes) -> None:
        """The folder loses its messages and can no longer be selected; its name stays."""
        folder = self.folders[key]
        folder.selectable, folder.messages, folder.vanished = False, {}, []
        self._wake(key)

    def rename(self, old: bytes, new: bytes) -> None:
        """RENAME, children included; UIDVALIDITY and ids stay."""
        for key in sorted(self.folders):
            if key == old or key.startswith(old + b"/"):
                folder = self.folders.pop(key)
                folder.key = new + key[len(old) :]
                folder.path = tuple(folder.key.decode().split("/"))
                folder.parent = folder.key.rsplit(b"/", 1)[0] if b"/" in folder.key else None
                self.folders[folder.key] = folder
        self._wake(old, new)

    def deliver(
        self,
        key: bytes = b"INBOX",
        raw: bytes | None = None,
        *,
        flags: Iterable[str] = (),
        received_at: int | None = None,
        guid: str | None = None,
        thread_id: str | None = None,
        structure: Part | None = None,
    ) -> int:
        """Append a message; its UID."""
        folder = self.folders[key]
        when = next(self._clock) if received_at is None else received_at
        raw = message() if raw is None else raw
        guid = guid or (self._same(raw) if self.ids_by_content else None) or f"g{next(self._guid)}"
        one = StoredMessage(folder.uidnext, raw, flags, when, guid, folder.bump())
        one.thread_id = thread_id
        one.structure = structure
        folder.messages[one.uid] = one
        folder.uidnext += 1
        self._wake(key)
        return one.uid

    def copy(self, key: bytes, uid: int, target: bytes) -> int:
        """COPY: same id, date and flags; the new UID."""
        one = self.folders[key].messages[uid]
        return self.deliver(
            target, one.raw, flags=one.flags, received_at=one.received_at, guid=one.guid, thread_id=one.thread_id
        )

    def move(self, key: bytes, uid: int, target: bytes) -> int:
        new = self.copy(key, uid, target)
        self.expunge(key, uid)
        return new

    def expunge(self, key: bytes, *uids: int) -> None:
        folder = self.folders[key]
        modseq = folder.bump()
        for uid in uids:
            del folder.messages[uid]
            folder.vanished.append((modseq, uid))
        self._wake(key)

    def set_flags(self, key: bytes, uid: int, *flags: str) -> None:
        """Replace the flags."""
        folder = self.folders[key]
        folder.messages[uid].flags = tuple(flags)
        folder.messages[uid].modseq = folder.bump()
        self._wake(key)

    def reset_uids(self, key: bytes) -> None:
        """A new UIDVALIDITY: the same messages, other UIDs."""
        folder = self.folders[key]
        folder.uidvalidity = next(self._validity)
        old = sorted(folder.messages.values(), key=lambda one: one.uid)
        folder.messages, folder.vanished, folder.uidnext = {}, [], 1
        for one in old:
            one.uid = folder.uidnext
            one.modseq = folder.bump()
            folder.messages[one.uid] = one
            folder.uidnext += 1
        self._wake(key)

    def restore(self, key: bytes, uidnext: int) -> None:
        """The server came back from a backup: messages from ``uidnext`` on never were, UIDVALIDITY is the same."""
        folder = self.folders[key]
        folder.messages = {uid: one for uid, one in folder.messages.items() if uid < uidnext}
        folder.uidnext = uidnext
        folder.bump()
        self._wake(key)

    def check_room(self, *sizes: int) -> None:
        """Whether messages of these octets fit. Raises UpstreamError: "toobig", "overquota"."""
        if self.largest is not None and any(size > self.largest for size in sizes):
            raise UpstreamError("the message is too big", code="toobig", temporary=False)
        used = sum(len(one.raw) for folder in self.folders.values() for one in folder.messages.values())
        if self.quota is not None and used + sum(sizes) > self.quota:
            raise UpstreamError("the quota is exceeded", code="overquota", temporary=False)

    def view(self) -> dict[bytes, dict[int, tuple[frozenset[str], bytes]]]:
        """What is UNDELETED where: folder → UID → (flags, the message)."""
        return {
            key: {
                uid: (frozenset(one.flags), one.raw)
                for uid, one in folder.messages.items()
                if "\\deleted" not in {flag.lower() for flag in one.flags}
            }
            for key, folder in self.folders.items()
            if folder.selectable and folder.exists
        }

    def source(self) -> MemorySource:
        """A connection to this server."""
        from jmapplug.testing.memory_source import MemorySource

        return MemorySource(self)

    def _same(self, raw: bytes) -> str | None:
        return next((o.guid for f in self.folders.values() for o in f.messages.values() if o.raw == raw), None)

    def _wake(self, *keys: bytes) -> None:
        for watch in list(self.watches):
            watch.wake(keys)


def switch(server: MemoryServer, **features: Any) -> None:
    """Change what the server can do (mail-rules 4: an id scheme that appears or vanishes later)."""
    server.features = msgspec.structs.replace(server.features, **features)
