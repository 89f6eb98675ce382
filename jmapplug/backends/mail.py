"""Mail upstream: the values that a :class:`MailSource` reads and writes, and its contract."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import msgspec

from jmapplug.errors import UpstreamError
from jmapplug.mime.structure import Part


class Rights(msgspec.Struct, frozen=True):
    """RFC 8621 §2 MailboxRights."""

    may_read_items: bool = True
    may_add_items: bool = True
    may_remove_items: bool = True
    may_set_seen: bool = True
    may_set_keywords: bool = True
    may_create_child: bool = True
    may_rename: bool = True
    may_delete: bool = True
    may_submit: bool = True


class Folder(msgspec.Struct, frozen=True):
    """One upstream mailbox, as LIST and STATUS tell.

    ``key`` raw upstream name; ``path`` its decoded levels (["INBOX"], ["Archive", "2024"]); ``parent`` the key of the
    level above (None at the top), which need not be listed itself. ``role`` is a JMAP role that the server states
    (SPECIAL-USE, INBOX); ``role_by_name`` one that its well-known name suggests. ``server_id`` is MAILBOXID or
    Dovecot's mailbox GUID. The STATUS fields are None for a folder that cannot be selected.
    """

    key: bytes
    path: tuple[str, ...]
    parent: bytes | None = None
    selectable: bool = True
    exists: bool = True
    subscribed: bool = True
    role: str | None = None
    role_by_name: str | None = None
    server_id: str | None = None
    old_key: bytes | None = None
    rights: Rights = Rights()
    uidvalidity: int | None = None
    uidnext: int | None = None
    highestmodseq: int | None = None
    messages: int | None = None
    unseen: int | None = None


class SyncPoint(msgspec.Struct, frozen=True):
    """Up to where a folder is known. ``highestmodseq`` 0 = the server keeps none. Moves only after a complete pass."""

    uidvalidity: int
    uidnext: int
    highestmodseq: int = 0
    messages: int = 0


class Item(msgspec.Struct, frozen=True, gc=False):
    """The cheap facts of one message; ``flags`` spelt as upstream, no \\Recent; ``server_id``: EMAILID or X-GUID.

    ``flags`` None: the message is there, and they could not be read: what is known of it stays as it is.
    """

    uid: int
    flags: tuple[str, ...] | None
    received_at: int | None = None
    server_id: str | None = None
    thread_id: str | None = None

    def lacks(self, new: bool) -> bool:
        """Whether it could not be read whole; of a ``new`` message the date is wanted too."""
        return self.flags is None or (new and self.received_at is None)


class Changes(msgspec.Struct, frozen=True):
    """One complete pass over a folder since a SyncPoint.

    ``reset``: UIDVALIDITY changed, or UIDNEXT went back (mail-rules 22): nothing known holds, ``new`` lists everything.
    ``new``: messages with a UID not known before (received_at set; None: it could not be read, and the message comes
    with ``flags`` of a later pass). ``flags``: known messages whose flags may have changed (all of them on a server
    without CONDSTORE). ``vanished``: known UIDs that are gone. ``windows``: ranges of
    UIDs (first, last), newest first, of which this tells nothing, because they are too much for one answer: they are to
    be asked for one by one (``MailSource.listed``) before the pass is complete. None of them crosses ``since.uidnext``.
    """

    point: SyncPoint
    reset: bool
    new: tuple[Item, ...]
    flags: tuple[Item, ...]
    vanished: tuple[int, ...]
    read_only: bool = False
    permanent_flags: tuple[str, ...] = ()
    windows: tuple[tuple[int, int], ...] = ()


class Detail(msgspec.Struct, frozen=True):
    """What makes a message an Email. ``header``: the raw header block, or at least the fields of ``HEADER_FIELDS``.

    ``whole_header`` says which. ``structure`` is None where the server's could not be read: the core parses the message
    itself. ``preview`` is None where the server makes none.
    ``item``: what ``items`` tells, where it was asked for too.
    """

    uid: int
    size: int
    received_at: int
    header: bytes
    structure: Part | None
    preview: str | None = None
    whole_header: bool = False
    item: Item | None = None


HEADER_FIELDS = (
    "Date", "From", "Sender", "Reply-To", "To", "Cc", "Bcc", "Subject", "Message-ID", "In-Reply-To", "References",
)  # fmt: skip
"""The header fields that every Detail carries; ``Received`` too where the server gives no message ids of its own."""


class Features(msgspec.Struct, frozen=True):
    """What this upstream can do. ``id_scheme``: "emailid", "x-guid", "gmail" or "" (no message ids of its own).

    ``labels``: the folders are views of one store, and a message has flags once, whichever view shows it (``Views``).
    The folder *everything* shows each message outside Trash and Junk; those two have a message alone: what goes there
    leaves all other folders, and what comes from there is in *everything* again. ``MailSource.remove`` takes a message
    out of one folder, for good only in Trash and Junk. ``stores_sent``: the server itself puts what is submitted into
    Sent.
    """

    id_scheme: str = ""
    condstore: bool = False
    qresync: bool = False
    idle: bool = False
    notify: bool = False
    previews: bool = False
    move: bool = False
    uidplus: bool = False
    search: bool = True
    special_use: bool = False
    labels: bool = False
    stores_sent: bool = False


class Views(msgspec.Struct, frozen=True):
    """Keys of special folders where ``Features.labels``; None where an account has no such folder."""

    everything: bytes | None = None
    trash: bytes | None = None
    junk: bytes | None = None


class NewMessage(msgspec.Struct, frozen=True):
    """A message to append: a file of ``size`` octets with CRLF line ends, flags as upstream spells them."""

    path: Path
    size: int
    flags: tuple[str, ...] = ()
    received_at: int | None = None


class Appended(msgspec.Struct, frozen=True):
    """What became of one message: its UID, or the error of the server. ``uidvalidity`` is that of the folder now.

    An error with the code ``unsure`` means that nobody could find out whether the message is there.
    """

    uid: int | None = None
    uidvalidity: int | None = None
    error: UpstreamError | None = None


NO_IDS: Mapping[int, str] = MappingProxyType({})
"""Of no message it is known what the server calls it."""


class Copied(msgspec.Struct, frozen=True):
    """What COPY or MOVE did: UIDs in the source → UIDs in the target. UIDs that were not there are missing in it."""

    uids: dict[int, int]
    uidvalidity: int | None = None


class Watch(Protocol):
    """A wait for changes on a connection of its own. One greenlet waits; ``close`` may be called from any other.

    ``how``: a word for the operator ("notify", "idle"). ``complete``: it tells of changes in every folder, and of
    folders that come, go or change their names; else only of the folder that ``MailSource.watch`` was given.
    ``closed``: somebody closed it, and it tells nothing any more. All of them may change while one waits.
    """

    @property
    def how(self) -> str: ...

    @property
    def complete(self) -> bool: ...

    @property
    def closed(self) -> bool: ...

    def wait(self, timeout: float) -> frozenset[bytes] | None:
        """Wait at most ``timeout`` seconds; as soon as something changed upstream, the keys of the folders concerned.

        Empty: something may have changed, and nobody can say where. None: nothing came, or the watch was closed. What
        happens between two waits is told by the second one. Raises UpstreamError when the connection breaks.
        """

    def close(self) -> None: ...


class MailSource(Protocol):
    """Mail upstream. Safe to call from several greenlets: each call finds its own connection or waits for one.

    ``priority`` of reads: calls made while a user waits must not queue behind a background history fetch.
    """

    @property
    def identity(self) -> str:
        """Which upstream this is: a login at a place; no network. Under another one UIDs and ids mean other things."""

    @property
    def features(self) -> Features: ...

    def folders(self) -> list[Folder]:
        """Every mailbox with its status, in a constant number of round trips."""

    def changes(self, key: bytes, since: SyncPoint | None, known: Callable[[], Sequence[int]]) -> Changes:
        """One complete pass. ``since`` None: ``new`` lists the whole folder (UID, INTERNALDATE, flags, id) cheaply.

        Raises FolderError where the server does not open this folder or cannot list it, ``temporary`` where it may
        later.
        ``known()`` gives the UIDs known locally, ascending; called only where the server cannot tell what vanished.
        Only those below ``since.uidnext`` are judged: what we appended ourselves since lies beyond it, and is in
        ``new`` while it is there.
        """

    def listed(self, key: bytes, validity: int, first: int, last: int, new: bool) -> tuple[Item, ...]:
        """Every message of a window that ``changes`` left open, ascending: ``new``, as new ones; else UID and flags.

        What is known there and is not listed is gone. Raises UpstreamError ("uidvalidity": the folder was replaced).
        """

    def newest(self, key: bytes, count: int) -> tuple[Item, ...]:
        """The ``count`` truly newest messages by INTERNALDATE, without listing the whole folder where possible."""

    def items(self, key: bytes, uids: Sequence[int]) -> list[Item]:
        """These messages as ``changes`` lists new ones, as they are now; UIDs that are not there are left out."""

    def details(
        self, key: bytes, uids: Sequence[int], background: bool = False, with_items: bool = False
    ) -> Iterator[list[Detail]]:
        """Headers, structure, size (and preview where cheap) in batches; UIDs that are gone are left out.

        ``with_items``: each Detail with its Item, in the same round trip; one that can only be had in pieces has none.
        """

    def headers(self, key: bytes, uids: Sequence[int]) -> dict[int, bytes]:
        """Whole header blocks."""

    def part_headers(self, key: bytes, uid: int, sections: Sequence[str]) -> dict[str, bytes]:
        """MIME headers of parts (``BODY.PEEK[n.MIME]``), section → block, in one round trip."""

    def previews(self, key: bytes, uids: Sequence[int]) -> dict[int, str]:
        """Previews made by the server; {} where ``features.previews`` is False."""

    def texts(
        self, key: bytes, section: str, uids: Sequence[int], limit: int, background: bool = False
    ) -> dict[int, bytes]:
        """The first ``limit`` raw octets of one section of many messages, one FETCH (previews, text index)."""

    def part(self, key: bytes, uid: int, section: str, target: Path) -> int:
        """Stream one section, still transfer-encoded, into the file ``target``; its octets. KeyError when gone."""

    def slices(self, key: bytes, uid: int, ranges: Sequence[tuple[str, int, int]]) -> list[bytes]:
        """Small pieces of one message: (section, offset, count) in octets of the section, still transfer-encoded.

        One answer per range, shorter than ``count`` only at the section's end; in one round trip where possible.
        KeyError when the message is gone.
        """

    def raw(self, key: bytes, uid: int, target: Path) -> int:
        """Stream the whole message into ``target``; its octets. KeyError when gone."""

    def search(self, key: bytes, criteria: SearchTerm, uids: Sequence[int] | None = None) -> list[int]:
        """UIDs (of ``uids``, or all) that match upstream, fresh (after NOOP)."""

    def watch(self, key: bytes) -> Watch | None:
        """A Watch of the whole account where the server can tell of that (NOTIFY), else of this folder (IDLE).

        No change after this returns is missed. None where the server tells nothing unasked. Raises UpstreamError.
        """

    # --- writing. ``validity`` is the UIDVALIDITY that the UIDs belong to: where the folder has another one nothing is
    # done and UpstreamError(code="uidvalidity") is raised. A refusal is an UpstreamError with the response code in
    # lower case (mail-rules 24); a cut connection is looked after on a new one, and told as what really happened.

    def append(self, key: bytes, messages: Sequence[NewMessage]) -> list[Appended]:
        """Append messages, in order, one answer each (MULTIAPPEND where offered; on NO once more one by one).

        Raises UpstreamError where nothing was appended at all (unknown folder: code "trycreate" or "nonexistent").
        """

    def store(
        self, key: bytes, validity: int, uids: Sequence[int], add: Sequence[str], remove: Sequence[str]
    ) -> dict[int, tuple[str, ...]]:
        """+FLAGS and -FLAGS of many messages: UID → flags as they are now (no \\Recent). What is gone is missing."""

    def copy(self, key: bytes, validity: int, uids: Sequence[int], target: bytes) -> Copied:
        """COPY into another folder; the source stays. All or nothing upstream (RFC 9051 §6.4.7)."""

    def move(
        self, key: bytes, validity: int, uids: Sequence[int], target: bytes, known: Mapping[int, str] = NO_IDS
    ) -> Copied:
        """UID MOVE; only where ``features.move`` (else the caller copies, checks and removes).

        ``known``: UID → ``Item.server_id`` as far as the caller knows it; it saves asking for what is moved.
        """

    def remove(self, key: bytes, validity: int, uids: Sequence[int]) -> list[int]:
        """\\Deleted, then UID EXPUNGE; the UIDs that are gone or hidden for good now.

        Without UIDPLUS a plain EXPUNGE runs only while no other message of the folder is \\Deleted (mail-rules 32);
        ours stay flagged otherwise, and invisible.
        """

    # --- where ``features.labels``

    def views(self) -> Views:
        """Which folders are special, as the server says. Raises UpstreamError."""

    def located(self, key: bytes, validity: int, server_ids: Sequence[str]) -> dict[str, int]:
        """The server's message id → UID, of those that are in this folder now."""

    # --- folders

    def create_folder(self, parent: bytes | None, name: str, role: str | None = None) -> bytes:
        """A new folder below ``parent`` (None: top of the personal namespace), subscribed; the new key, confirmed.

        ``role``: with a special use where offered (RFC 6154). Raises UpstreamError: "alreadyexists", "cannot" (a name
        that holds the delimiter or is no Net-Unicode).
        """

    def rename_folder(self, key: bytes, parent: bytes | None, name: str) -> bytes:
        """RENAME, children and subscription included; the new key. Raises UpstreamError as ``create_folder``."""

    def delete_folder(self, key: bytes) -> None:
        """The folder goes, and its subscription."""

    def subscribe_folder(self, key: bytes, subscribed: bool) -> None:
        """SUBSCRIBE or UNSUBSCRIBE."""


class SearchTerm(msgspec.Struct, frozen=True, tag=True):
    """A text condition for upstream SEARCH. ``field``: text, from, to, cc, bcc, subject, body or header:<Name>."""

    field: str
    value: str
