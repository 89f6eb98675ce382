"""The whole of ``backends.MailSource`` over a :class:`~jmapplug.testing.memory_server.MemoryServer`, with faults.

The write half is in ``memory_writing``.

For tests of whatever stands on a MailSource. What other clients do is done to the server (``deliver``, ``move``,
``set_flags``, ``expunge``, …); :class:`MemorySource` is a connection to it. Every call of the source is counted
(``calls``) and may fail on demand: before the work (``fail_at``, ``fault``) or, when writing, after it (``after``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gevent.event
import msgspec

from jmapplug.backends import Changes, Detail, Features, Folder, Item, SearchTerm, SyncPoint, Views
from jmapplug.errors import UpstreamError
from jmapplug.mime.structure import Part
from jmapplug.testing.memory_server import MemoryServer, StoredFolder, StoredMessage, message, switch
from jmapplug.testing.memory_writing import MemoryWriting

__all__ = ["MemoryServer", "MemorySource", "MemoryWatch", "StoredFolder", "StoredMessage", "message", "switch"]


class MemoryWatch:
    """Wakes at any change of the server (NOTIFY), or of one folder (IDLE)."""

    def __init__(self, server: MemoryServer, key: bytes) -> None:
        self.event = gevent.event.Event()
        self.closed = False
        self.complete = server.features.notify
        self._key = key
        self._news: set[bytes] = set()
        self._server = server
        server.watches.add(self)

    @property
    def how(self) -> str:
        return "notify" if self.complete else "idle"

    def wake(self, keys: Iterable[bytes]) -> None:
        self._news.update(keys if self.complete else {self._key}.intersection(keys))
        if self._news:
            self.event.set()

    def wait(self, timeout: float) -> frozenset[bytes] | None:
        woken = self.event.wait(timeout)
        self.event.clear()
        news, self._news = frozenset(self._news), set()
        return news if woken and not self.closed else None

    def close(self) -> None:
        self.closed = True
        self._server.watches.discard(self)
        self.event.set()


class MemorySource(MemoryWriting):
    """A connection to a :class:`MemoryServer`. ``fail_at``: the number of the call that raises UpstreamError.

    ``fault(name)`` is asked before each call and may raise. ``before(name)`` is called before each call too: tests
    change the server there, between two calls of a pass. ``after(name)`` is called when a write is done and its
    answer has not reached the caller: what it raises is a lost answer.
    """

    def __init__(self, server: MemoryServer) -> None:
        self.server = server
        self.calls: list[tuple[str, Any]] = []
        self.fail_at: int | None = None
        self.fault: Callable[[str], None] | None = None
        self.before: Callable[[str], None] | None = None
        self.after: Callable[[str], None] | None = None
        self.batch = 100
        self.window = 0
        """A folder with more messages than this is listed in windows of so many; 0: none is."""

    @property
    def identity(self) -> str:
        return self.server.identity

    @property
    def features(self) -> Features:
        return self.server.features

    def _call(self, name: str, what: Any = None) -> None:
        self.calls.append((name, what))
        if self.fault is not None:
            self.fault(name)
        if self.fail_at is not None and len(self.calls) == self.fail_at:
            raise UpstreamError("the connection broke")
        if self.before is not None:
            self.before(name)

    def _folder(self, key: bytes) -> StoredFolder:
        folder = self.server.folders.get(key)
        if folder is None or not folder.selectable:
            raise UpstreamError("no such mailbox", code="nonexistent")
        return folder

    def folders(self) -> list[Folder]:
        self._call("folders")
        return [self._status(folder) for folder in self.server.folders.values()]

    def _status(self, folder: StoredFolder) -> Folder:
        status: dict[str, int | None] = {}
        if folder.selectable and folder.exists:
            status = {
                "uidvalidity": folder.uidvalidity,
                "uidnext": folder.uidnext,
                "highestmodseq": folder.modseq if self.features.condstore else None,
                "messages": len(folder.messages),
                "unseen": sum("\\Seen" not in one.flags for one in folder.messages.values()),
            }
        return Folder(
            key=folder.key,
            path=folder.path,
            parent=folder.parent,
            selectable=folder.selectable,
            exists=folder.exists,
            subscribed=folder.subscribed,
            role=folder.role,
            role_by_name=folder.role_by_name,
            server_id=folder.guid if self.server.mailbox_ids else None,
            old_key=folder.old_key,
            rights=folder.rights,
            **status,
        )

    def _item(self, one: StoredMessage) -> Item:
        flags = tuple(flag for flag in one.flags if flag.lower() != "\\recent")
        server_id = one.guid if self.features.id_scheme else None
        return Item(one.uid, flags, one.received_at, server_id, one.thread_id)

    def changes(self, key: bytes, since: SyncPoint | None, known: Callable[[], Sequence[int]]) -> Changes:
        self._call("changes", key)
        found = self._changes(key, since, known)
        return found if not self.window else self._windowed(found, since)

    def _windowed(self, found: Changes, since: SyncPoint | None) -> Changes:
        """The same, with what is too much left open."""
        end = since.uidnext if since is not None and not found.reset else 1
        new, old = found.new, found.flags
        cut: list[tuple[int, int]] = []
        if len(new) > self.window:
            starts = [end, *(item.uid for item in new[self.window :: self.window])]
            cut += zip(starts, [*(uid - 1 for uid in starts[1:]), found.point.uidnext - 1], strict=True)
            new = ()
        if not self.features.condstore and len(old) > self.window:
            starts = [1, *(item.uid for item in old[self.window :: self.window])]
            cut += zip(starts, [*(uid - 1 for uid in starts[1:]), end - 1], strict=True)
            old = ()
        vanished = () if cut and not old and found.flags else found.vanished
        windows = tuple(sorted(cut, reverse=True))
        return msgspec.structs.replace(found, new=new, flags=old, vanished=vanished, windows=windows)

    def _changes(self, key: bytes, since: SyncPoint | None, known: Callable[[], Sequence[int]]) -> Changes:
        folder = self._folder(key)
        point = SyncPoint(
            folder.uidvalidity,
            folder.uidnext,
            folder.modseq if self.features.condstore else 0,
            len(folder.messages),
        )
        everything = sorted(folder.messages.values(), key=lambda one: one.uid)
        more = {"read_only": folder.read_only, "permanent_flags": folder.permanent_flags}
        reset = since is not None and (since.uidvalidity != folder.uidvalidity or folder.uidnext < since.uidnext)
        if since is None or reset:
            return Changes(point, reset, tuple(map(self._item, everything)), (), (), **more)  # type: ignore[arg-type]
        new = [one for one in everything if one.uid >= since.uidnext]
        old = [one for one in everything if one.uid < since.uidnext]
        if self.features.condstore and since.highestmodseq:
            old = [one for one in old if one.modseq > since.highestmodseq]
        return Changes(
            point,
            False,
            tuple(map(self._item, new)),
            tuple(map(self._item, old)),
            self._vanished(folder, since, known),
            **more,  # type: ignore[arg-type]
        )

    def _vanished(self, folder: StoredFolder, since: SyncPoint, known: Callable[[], Sequence[int]]) -> tuple[int, ...]:
        if self.features.qresync and since.highestmodseq:
            gone = [uid for modseq, uid in folder.vanished if modseq > since.highestmodseq and uid < since.uidnext]
        else:
            gone = [uid for uid in known() if uid not in folder.messages and uid < since.uidnext]
        return tuple(sorted(gone))

    def listed(self, key: bytes, validity: int, first: int, last: int, new: bool) -> tuple[Item, ...]:
        self._call("listed", (key, first, last, new))
        folder = self._folder(key)
        if folder.uidvalidity != validity:
            raise UpstreamError("a folder was replaced", code="uidvalidity")
        found = [folder.messages[uid] for uid in sorted(folder.messages) if first <= uid <= last]
        return tuple(self._item(one) if new else Item(one.uid, self._item(one).flags) for one in found)

    def newest(self, key: bytes, count: int) -> tuple[Item, ...]:
        self._call("newest", key)
        found = sorted(self._folder(key).messages.values(), key=lambda one: (one.received_at, one.uid))
        return tuple(map(self._item, found[::-1][:count]))

    def items(self, key: bytes, uids: Sequence[int]) -> list[Item]:
        self._call("items", (key, tuple(uids)))
        found = self._folder(key).messages
        return [self._item(found[uid]) for uid in uids if uid in found]

    def views(self) -> Views:
        return Views()

    def located(self, key: bytes, validity: int, server_ids: Sequence[str]) -> dict[str, int]:
        return {}

    def details(
        self, key: bytes, uids: Sequence[int], background: bool = False, with_items: bool = False
    ) -> Iterator[list[Detail]]:
        self._call("details", (key, tuple(uids)))
        folder = self._folder(key)
        found = [folder.messages[uid] for uid in uids if uid in folder.messages]
        for start in range(0, len(found), self.batch):
            batch = [self._detail(one) for one in found[start : start + self.batch]]
            items = [self._item(one) if with_items else None for one in found[start : start + self.batch]]
            yield [msgspec.structs.replace(one, item=item) for one, item in zip(batch, items, strict=True)]

    def _detail(self, one: StoredMessage) -> Detail:
        header = one.raw.split(b"\r\n\r\n", 1)[0] + b"\r\n\r\n"
        body = len(one.raw) - len(header)
        structure = one.structure or Part("1", "text/plain", charset="utf-8", size=max(body, 0))
        return Detail(one.uid, len(one.raw), one.received_at, header, structure, one.preview, True)

    def headers(self, key: bytes, uids: Sequence[int]) -> dict[int, bytes]:
        self._call("headers", (key, tuple(uids)))
        found = self._folder(key).messages
        return {uid: self._detail(found[uid]).header for uid in uids if uid in found}

    def part_headers(self, key: bytes, uid: int, sections: Sequence[str]) -> dict[str, bytes]:
        self._call("part_headers", (key, uid, tuple(sections)))
        one = self._folder(key).messages.get(uid)
        if one is None:
            return {}
        found = {}
        for section in sections:
            part = self._part(one, section)
            if part is not None and part.header >= 0:
                found[section] = one.raw[part.header : part.body]
            elif part is not None:
                found[section] = self._detail(one).header
        return found

    def previews(self, key: bytes, uids: Sequence[int]) -> dict[int, str]:
        self._call("previews", (key, tuple(uids)))
        if not self.features.previews:
            return {}
        found = self._folder(key).messages
        return {uid: found[uid].preview or "" for uid in uids if uid in found}

    def texts(
        self, key: bytes, section: str, uids: Sequence[int], limit: int, background: bool = False
    ) -> dict[int, bytes]:
        self._call("texts", (key, section, tuple(uids)))
        found = self._folder(key).messages
        return {uid: self._section(found[uid], section)[:limit] for uid in uids if uid in found}

    def _part(self, one: StoredMessage, section: str) -> Part | None:
        if one.structure is None:
            return Part("1", "text/plain") if section == "1" else None
        return next((part for part in one.structure.walk() if part.section == section), None)

    def _section(self, one: StoredMessage, section: str) -> bytes:
        part = self._part(one, section)
        if part is None:
            raise KeyError(section)
        if part.body >= 0:
            return one.raw[part.body : part.end]
        return one.raw.split(b"\r\n\r\n", 1)[-1]

    def part(self, key: bytes, uid: int, section: str, target: Path) -> int:
        self._call("part", (key, uid, section))
        data = self._section(self._folder(key).messages[uid], section)
        return target.write_bytes(data)

    def slices(self, key: bytes, uid: int, ranges: Sequence[tuple[str, int, int]]) -> list[bytes]:
        self._call("slices", (key, uid, tuple(ranges)))
        one = self._folder(key).messages[uid]
        return [self._section(one, section)[at : at + count] for section, at, count in ranges]

    def raw(self, key: bytes, uid: int, target: Path) -> int:
        self._call("raw", (key, uid))
        return target.write_bytes(self._folder(key).messages[uid].raw)

    def search(self, key: bytes, criteria: SearchTerm, uids: Sequence[int] | None = None) -> list[int]:
        self._call("search", (key, criteria))
        needle = criteria.value.lower().encode()
        found = self._folder(key).messages
        return [
            uid
            for uid in (sorted(found) if uids is None else uids)
            if uid in found and needle in _searched(found[uid], criteria.field)
        ]

    def watch(self, key: bytes) -> MemoryWatch | None:
        self._call("watch", key)
        return MemoryWatch(self.server, key) if self.features.idle or self.features.notify else None


def _searched(one: StoredMessage, field: str) -> bytes:
    header, _, body = one.raw.lower().partition(b"\r\n\r\n")
    if field == "text":
        return one.raw.lower()
    if field == "body":
        return body
    name = field.partition(":")[2] or field
    wanted = name.lower().encode() + b":"
    return b"\n".join(line for line in header.split(b"\r\n") if line.startswith(wanted))
