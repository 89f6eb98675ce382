"""ImapSource: the MailSource of an IMAP account. It only deals out; the work is in its parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jmapplug.backends import (
    NO_IDS,
    Appended,
    Changes,
    Copied,
    Detail,
    Features,
    Folder,
    Item,
    NewMessage,
    SearchTerm,
    SyncPoint,
    Views,
)  # fmt: skip
from jmapplug.errors import UpstreamError
from jmapplug_imap.access import Access
from jmapplug_imap.appending import Appending
from jmapplug_imap.connecting import connect
from jmapplug_imap.contents import Contents
from jmapplug_imap.finding import Finding
from jmapplug_imap.folder_changes import FolderChanges
from jmapplug_imap.folders import FolderLister
from jmapplug_imap.labels import Labels
from jmapplug_imap.oauth import Tokens
from jmapplug_imap.passes import Passes
from jmapplug_imap.protocol.channel import Timeouts
from jmapplug_imap.protocol.commands import Command
from jmapplug_imap.protocol.connection import Connection
from jmapplug_imap.quota import ImapQuota
from jmapplug_imap.settings import ImapSettings
from jmapplug_imap.slices import Slices
from jmapplug_imap.transfer import Transfer
from jmapplug_imap.watch import ImapWatch, may_notify
from jmapplug_imap.writing import Writing


class ImapSource:
    """See backends.MailSource. ``record``: keep every command in ``commands`` (tests only: it grows for ever)."""

    def __init__(
        self,
        settings: ImapSettings,
        email: str,
        *,
        tokens: Tokens | None = None,
        timeouts: Timeouts | None = None,
        record: bool = False,
    ) -> None:
        self.commands: list[str] = []
        factory = _recorder(self.commands) if record else Connection
        port = settings.imapPort
        self.identity = f"{settings.username or email}@{(settings.imapHost or '').lower().rstrip('.')}:{port}"
        self._access = Access(lambda: connect(settings, email, tokens=tokens, timeouts=timeouts, factory=factory))
        self._folders = FolderLister(self._access)
        self._passes = Passes(self._access)
        self._contents = Contents(self._access)
        self._slices = Slices(self._access, self._contents.stream)
        self._finding = Finding(self._access)
        self._appending = Appending(self._access)
        self._writing = Writing(self._access)
        self._transfer = Transfer(self._access)
        self._labels = Labels(self._access, self._folders, self._transfer, self._writing)
        self._folder_changes = FolderChanges(self._access, self._folders, self._passes)
        self._watches: list[ImapWatch] = []

    @property
    def features(self) -> Features:
        """What the server can do; connects if nothing else has yet. Raises UpstreamError."""
        return self._access.features

    @property
    def known(self) -> bool:
        """Whether a connection was made once."""
        return self._access.known

    @property
    def round_trips(self) -> int:
        """How often this source has asked the server anything and waited (watches not counted)."""
        return self._access.pool.round_trips

    @property
    def bytes_in(self) -> int:
        """Octets received from the server so far (watches not counted)."""
        return self._access.pool.bytes_in

    @property
    def background_in(self) -> int:
        """Octets received by passes and background work."""
        return self._access.pool.background_in

    @property
    def connections(self) -> int:
        """How many connections are open, watches included."""
        return self._access.pool.open + sum(watch.connected for watch in self._watches)

    @property
    def held(self) -> UpstreamError | None:
        """Why the server is not asked anything now, with the seconds left; None where it may be."""
        return self._access.pool.held

    def hold(self, error: UpstreamError, seconds: float) -> None:
        """Do not connect for so long: an earlier session's pause is not over."""
        self._access.pool.hold(error, seconds)

    @property
    def alerts(self) -> tuple[str, ...]:
        """What the server wanted a person to see, the newest last."""
        return self._access.alerts

    def folders(self) -> list[Folder]:
        return self._folders.folders()

    def changes(self, key: bytes, since: SyncPoint | None, known: Callable[[], Sequence[int]]) -> Changes:
        return self._passes.changes(key, since, known)

    def listed(self, key: bytes, validity: int, first: int, last: int, new: bool) -> tuple[Item, ...]:
        return self._passes.listed(key, validity, first, last, new)

    def newest(self, key: bytes, count: int) -> tuple[Item, ...]:
        return self._finding.newest(key, count)

    def items(self, key: bytes, uids: Sequence[int]) -> list[Item]:
        return self._finding.items(key, uids)

    def views(self) -> Views:
        return self._labels.views()

    def located(self, key: bytes, validity: int, server_ids: Sequence[str]) -> dict[str, int]:
        return self._labels.located(key, validity, server_ids)

    def details(
        self, key: bytes, uids: Sequence[int], background: bool = False, with_items: bool = False
    ) -> Iterator[list[Detail]]:
        return self._contents.details(key, uids, background, with_items)

    def headers(self, key: bytes, uids: Sequence[int]) -> dict[int, bytes]:
        return self._contents.headers(key, uids)

    def part_headers(self, key: bytes, uid: int, sections: Sequence[str]) -> dict[str, bytes]:
        return self._contents.part_headers(key, uid, sections)

    def previews(self, key: bytes, uids: Sequence[int]) -> dict[int, str]:
        return self._contents.previews(key, uids)

    def texts(
        self, key: bytes, section: str, uids: Sequence[int], limit: int, background: bool = False
    ) -> dict[int, bytes]:
        return self._contents.texts(key, section, uids, limit, background)

    def part(self, key: bytes, uid: int, section: str, target: Path) -> int:
        return self._contents.stream(key, uid, section, target)

    def slices(self, key: bytes, uid: int, ranges: Sequence[tuple[str, int, int]]) -> list[bytes]:
        return self._slices.read(key, uid, ranges)

    def raw(self, key: bytes, uid: int, target: Path) -> int:
        return self._contents.stream(key, uid, "", target)

    def search(self, key: bytes, criteria: SearchTerm, uids: Sequence[int] | None = None) -> list[int]:
        return self._finding.search(key, criteria, uids)

    def watch(self, key: bytes) -> ImapWatch | None:
        """See MailSource.watch: connected and listening when this returns. Raises UpstreamError."""
        if not self.features.idle and not may_notify(self._access):
            return None
        watch = ImapWatch(self._access, key)
        self._watches = [each for each in self._watches if not each.closed]
        self._watches.append(watch)
        return watch

    @property
    def quota(self) -> ImapQuota | None:
        """None where the server keeps no quotas, or while nobody knows yet."""
        return ImapQuota(self._access) if self.known and "QUOTA" in self._access.capabilities else None

    # --- writing

    def append(self, key: bytes, messages: Sequence[NewMessage]) -> list[Appended]:
        return self._appending.append(key, messages)

    def store(
        self, key: bytes, validity: int, uids: Sequence[int], add: Sequence[str], remove: Sequence[str]
    ) -> dict[int, tuple[str, ...]]:
        return self._writing.store(key, validity, uids, add, remove)

    def copy(self, key: bytes, validity: int, uids: Sequence[int], target: bytes) -> Copied:
        return self._transfer.copy(key, validity, uids, target)

    def move(
        self, key: bytes, validity: int, uids: Sequence[int], target: bytes, known: Mapping[int, str] = NO_IDS
    ) -> Copied:
        return self._transfer.move(key, validity, uids, target, known)

    def remove(self, key: bytes, validity: int, uids: Sequence[int]) -> list[int]:
        if self.features.labels:
            return self._labels.remove(key, validity, uids)
        return self._writing.remove(key, validity, uids)

    def create_folder(self, parent: bytes | None, name: str, role: str | None = None) -> bytes:
        return self._folder_changes.create(parent, name, role)

    def rename_folder(self, key: bytes, parent: bytes | None, name: str) -> bytes:
        return self._folder_changes.rename(key, parent, name)

    def delete_folder(self, key: bytes) -> None:
        self._folder_changes.delete(key)

    def subscribe_folder(self, key: bytes, subscribed: bool) -> None:
        self._folder_changes.subscribe(key, subscribed)

    def close(self) -> None:
        """Close every connection, watches too."""
        for watch in self._watches:
            watch.close()
        self._access.pool.close()


def _recorder(commands: list[str]) -> type[Connection]:
    """A Connection that notes what it sends, without literals and secrets."""

    class Recorded(Connection):
        def _send(self, sent: Sequence[Command], deadline: float, held: Any = None) -> list[Any]:
            commands.extend(" ".join(map(_shown, command[:1] if _secret(command) else command)) for command in sent)
            return super()._send(sent, deadline, held)

    return Recorded


def _secret(command: Command) -> bool:
    return str(command[0]).upper().startswith(("LOGIN", "AUTHENTICATE"))


def _shown(part: Any) -> str:
    if isinstance(part, (list, tuple)):
        return "(" + " ".join(map(_shown, part)) + ")"
    return part if isinstance(part, str) else part.decode() if isinstance(part, bytes) else repr(part)
