"""The write half of :class:`~jmapplug.testing.memory_source.MemorySource`: what a good IMAP server would do.

``after(name)`` is called when the server has done the work and before the answer reaches the caller; what it raises is
an answer that was lost. Refusals are UpstreamErrors with the response codes of RFC 5530 in lower case.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jmapplug.backends import NO_IDS, Appended, Copied, Features, NewMessage
from jmapplug.errors import UpstreamError
from jmapplug.mime.structure import parse

if TYPE_CHECKING:
    from jmapplug.testing.memory_server import MemoryServer, StoredFolder, StoredMessage

DELETED = "\\deleted"
UNFIT = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode categories that a folder's name may not hold."""


class MemoryWriting:
    """Mixed into MemorySource, which gives ``server``, ``features`` and ``_call``."""

    server: MemoryServer
    after: Callable[[str], None] | None

    if TYPE_CHECKING:

        @property
        def features(self) -> Features: ...

        def _call(self, name: str, what: Any = None) -> None: ...

        def _folder(self, key: bytes) -> StoredFolder: ...

    def _done(self, name: str) -> None:
        if self.after is not None:
            self.after(name)

    def _writable(self, key: bytes, validity: int) -> StoredFolder:
        """The folder as SELECT would give it for writing."""
        folder = self._folder(key)
        if folder.uidvalidity != validity:
            raise UpstreamError("a folder was replaced upstream", code="uidvalidity")
        if folder.read_only:
            raise UpstreamError("the folder is read-only", code="noperm", temporary=False)
        return folder

    def _target(self, key: bytes) -> StoredFolder:
        folder = self.server.folders.get(key)
        if folder is None or not folder.selectable or not folder.exists:
            raise UpstreamError("no such mailbox", code="trycreate", temporary=False)
        if folder.read_only or not folder.rights.may_add_items:
            raise UpstreamError("no permission", code="noperm", temporary=False)
        return folder

    # --- messages

    def append(self, key: bytes, messages: Sequence[NewMessage]) -> list[Appended]:
        self._call("append", (key, tuple(messages)))
        folder = self._target(key)
        answers = [self._appended(folder, one) for one in messages]
        self._done("append")
        return answers

    def _appended(self, folder: StoredFolder, new: NewMessage) -> Appended:
        try:
            self.server.check_room(new.size)
            raw = new.path.read_bytes()
            uid = self.server.deliver(
                folder.key,
                raw,
                flags=kept(folder, new.flags),
                received_at=new.received_at,
                structure=parse(raw),
            )
        except UpstreamError as error:
            return Appended(uidvalidity=folder.uidvalidity, error=error)
        return Appended(uid, folder.uidvalidity)

    def store(
        self, key: bytes, validity: int, uids: Sequence[int], add: Sequence[str], remove: Sequence[str]
    ) -> dict[int, tuple[str, ...]]:
        self._call("store", (key, tuple(uids), tuple(add), tuple(remove)))
        folder = self._writable(key, validity)
        gone = {flag.lower() for flag in remove}
        for one in _present(folder, uids):
            new = [*one.flags, *(flag for flag in kept(folder, add) if flag.lower() not in _lower(one.flags))]
            self._set(folder, one, [flag for flag in new if flag.lower() not in gone])
        self._done("store")
        return {one.uid: _visible(one.flags) for one in _present(folder, uids)}

    def _set(self, folder: StoredFolder, one: StoredMessage, flags: Iterable[str]) -> None:
        """An equal set of flags changes no MODSEQ."""
        new = tuple(flags)
        if _lower(new) != _lower(one.flags):
            self.server.set_flags(folder.key, one.uid, *new)

    def copy(self, key: bytes, validity: int, uids: Sequence[int], target: bytes) -> Copied:
        self._call("copy", (key, tuple(uids), target))
        folder = self._folder(key)
        if folder.uidvalidity != validity:
            raise UpstreamError("a folder was replaced upstream", code="uidvalidity")
        copied = self._copied(folder, uids, self._target(target))
        self._done("copy")
        return copied

    def move(
        self, key: bytes, validity: int, uids: Sequence[int], target: bytes, known: Mapping[int, str] = NO_IDS
    ) -> Copied:
        self._call("move", (key, tuple(uids), target))
        if not self.features.move:
            raise UpstreamError("the server has no MOVE", temporary=False)
        folder = self._writable(key, validity)
        copied = self._copied(folder, uids, self._target(target))
        if copied.uids:
            self.server.expunge(key, *copied.uids)
        self._done("move")
        return copied

    def _copied(self, folder: StoredFolder, uids: Sequence[int], target: StoredFolder) -> Copied:
        """All or nothing: the room for all of them is looked at first."""
        found = _present(folder, uids)
        self.server.check_room(*(len(one.raw) for one in found))
        new = {}
        for one in found:
            new[one.uid] = self.server.copy(folder.key, one.uid, target.key)
            copy = target.messages[new[one.uid]]
            copy.flags = kept(target, copy.flags)
        return Copied(new, target.uidvalidity)

    def remove(self, key: bytes, validity: int, uids: Sequence[int]) -> list[int]:
        self._call("remove", (key, tuple(uids)))
        folder = self._writable(key, validity)
        if not folder.rights.may_remove_items:
            raise UpstreamError("no permission", code="noperm", temporary=False)
        ours = _present(folder, uids)
        mine = {one.uid for one in ours}
        foreign = [o for o in folder.messages.values() if DELETED in _lower(o.flags) and o.uid not in mine]
        # mail-rules 32: without UIDPLUS a plain EXPUNGE would take the foreign ones too.
        if self.features.uidplus or not foreign:
            if ours:
                self.server.expunge(key, *mine)
        else:
            for one in ours:
                self._set(folder, one, [*(flag for flag in one.flags if flag.lower() != DELETED), "\\Deleted"])
        self._done("remove")
        return sorted(set(uids))

    # --- folders

    def create_folder(self, parent: bytes | None, name: str, role: str | None = None) -> bytes:
        self._call("create_folder", (parent, name, role))
        key = self._name(parent, name)
        folder = self.server.create(key, role=role if self.features.special_use else None)
        self._done("create_folder")
        return folder.key

    def rename_folder(self, key: bytes, parent: bytes | None, name: str) -> bytes:
        self._call("rename_folder", (key, parent, name))
        folder = self._known(key)
        if key.upper() == b"INBOX" or not folder.rights.may_rename:
            raise UpstreamError("this mailbox cannot be renamed", code="cannot", temporary=False)
        new = self._name(parent, name)
        if new.startswith(key + b"/"):
            raise UpstreamError("a mailbox cannot go below itself", code="cannot", temporary=False)
        self.server.rename(key, new)
        self._done("rename_folder")
        return new

    def delete_folder(self, key: bytes) -> None:
        self._call("delete_folder", key)
        folder = self._known(key)
        if key.upper() == b"INBOX" or not folder.rights.may_delete:
            raise UpstreamError("this mailbox cannot be deleted", code="cannot", temporary=False)
        if any(other.startswith(key + b"/") for other in self.server.folders):
            # RFC 9051 §6.3.4: a mailbox with inferiors loses its messages and stays as a name.
            if not folder.selectable:
                raise UpstreamError("the mailbox has children", code="haschildren", temporary=False)
            self.server.unmake(key)
        else:
            self.server.delete(key)
        self._done("delete_folder")

    def subscribe_folder(self, key: bytes, subscribed: bool) -> None:
        self._call("subscribe_folder", (key, subscribed))
        self._known(key).subscribed = subscribed
        self._done("subscribe_folder")

    def _known(self, key: bytes) -> StoredFolder:
        folder = self.server.folders.get(key)
        if folder is None:
            raise UpstreamError("no such mailbox", code="nonexistent", temporary=False)
        return folder

    def _name(self, parent: bytes | None, name: str) -> bytes:
        if not name or "/" in name or any(unicodedata.category(c) in UNFIT for c in name):
            raise UpstreamError("not a name for a mailbox", code="cannot", temporary=False)
        if unicodedata.normalize("NFC", name) != name:
            raise UpstreamError("the name is no Net-Unicode", code="cannot", temporary=False)
        above = self.server.folders.get(parent) if parent is not None else None
        if above is not None and not above.rights.may_create_child:
            raise UpstreamError("no permission", code="noperm", temporary=False)
        key = name.encode() if parent is None else parent + b"/" + name.encode()
        if key in self.server.folders or key.upper() == b"INBOX":
            raise UpstreamError("the mailbox exists", code="alreadyexists", temporary=False)
        return key


def kept(folder: StoredFolder, flags: Iterable[str]) -> tuple[str, ...]:
    """What a server with this folder's PERMANENTFLAGS keeps of ``flags``; it drops the rest without a word."""
    permanent = _lower(folder.permanent_flags)
    unique = {flag.lower(): flag for flag in reversed(list(flags)) if flag.lower() != "\\recent"}
    found = [flag for flag in reversed(unique.values()) if _allowed(flag.lower(), permanent)]
    return tuple(found)


def _allowed(flag: str, permanent: frozenset[str]) -> bool:
    return flag in permanent or ("\\*" in permanent and not flag.startswith("\\"))


def _present(folder: StoredFolder, uids: Iterable[int]) -> list[StoredMessage]:
    return [folder.messages[uid] for uid in sorted(set(uids)) if uid in folder.messages]


def _lower(flags: Iterable[str]) -> frozenset[str]:
    return frozenset(flag.lower() for flag in flags)


def _visible(flags: Iterable[str]) -> tuple[str, ...]:
    return tuple(flag for flag in flags if flag.lower() != "\\recent")
