"""The server's responses as values (RFC 9051 §7). Names and attributes keep the RFC's words.

Mailbox names are raw octets (``key``); flag names and attributes are as the server spells them unless said otherwise.
Sets of numbers are ranges ``((low, high), …)``: a hostile server may name four billion messages in twelve octets.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from jmapplug_imap.protocol.fetch import FetchRow
from jmapplug_imap.protocol.sets import Ranges


class Code(msgspec.Struct, frozen=True):
    """A response code: ``name`` upper case ("UIDVALIDITY"), ``values`` its arguments as parsed octets and lists."""

    name: str
    values: tuple[Any, ...] = ()

    @property
    def number(self) -> int | None:
        """Its first argument as a number; None where it is none."""
        first = self.values[0] if self.values else None
        return int(first) if isinstance(first, bytes) and first.isdigit() and len(first) < 21 else None


class Status(msgspec.Struct, frozen=True):
    """OK, NO, BAD, BYE or PREAUTH (``kind``); ``tag`` is "" for an untagged one."""

    kind: str
    text: str
    code: Code | None = None
    tag: str = ""


class Continuation(msgspec.Struct, frozen=True):
    """``+ text``: the server wants more."""

    text: bytes


class Capability(msgspec.Struct, frozen=True):
    names: frozenset[str]


class Listed(msgspec.Struct, frozen=True):
    """LIST or LSUB (``kind``). ``attributes`` lower case (``\\noselect``); ``separator`` None for a flat name.

    ``old_key`` is OLDNAME (RFC 9051 §6.3.9.7), ``child_info`` the criteria of CHILDINFO in upper case.
    """

    key: bytes
    separator: str | None
    attributes: frozenset[str]
    old_key: bytes | None = None
    child_info: tuple[str, ...] = ()
    kind: str = "LIST"


class MailboxStatus(msgspec.Struct, frozen=True):
    """STATUS: item name in upper case → number, or text for ids (MAILBOXID, X-GUID), None for NIL."""

    key: bytes
    items: dict[str, int | str | None]


class Namespace(msgspec.Struct, frozen=True):
    prefix: bytes
    separator: str | None


class Namespaces(msgspec.Struct, frozen=True):
    """NAMESPACE (RFC 2342)."""

    personal: tuple[Namespace, ...] = ()
    others: tuple[Namespace, ...] = ()
    shared: tuple[Namespace, ...] = ()


class MyRights(msgspec.Struct, frozen=True):
    key: bytes
    rights: str


class QuotaRoots(msgspec.Struct, frozen=True):
    """QUOTAROOT (RFC 9208 §4.2.2): the quota roots of one mailbox."""

    key: bytes
    roots: tuple[str, ...]


class QuotaUsage(msgspec.Struct, frozen=True):
    """QUOTA (RFC 9208 §4.2.1). ``resources``: (name in upper case, usage, limit) in the resource's own units."""

    root: str
    resources: tuple[tuple[str, int, int], ...]


class Search(msgspec.Struct, frozen=True):
    numbers: tuple[int, ...]
    modseq: int | None = None


class Esearch(msgspec.Struct, frozen=True):
    """ESEARCH (RFC 4731): ``all`` None where the server gave no ALL (nothing found, or not asked)."""

    tag: str | None
    uid: bool
    min: int | None = None
    max: int | None = None
    count: int | None = None
    all: Ranges | None = None
    modseq: int | None = None
    partial: Ranges | None = None


class Vanished(msgspec.Struct, frozen=True):
    """VANISHED (RFC 7162 §3.2.10)."""

    uids: Ranges
    earlier: bool


class Exists(msgspec.Struct, frozen=True):
    count: int


class Recent(msgspec.Struct, frozen=True):
    count: int


class Expunge(msgspec.Struct, frozen=True):
    seq: int


class Flags(msgspec.Struct, frozen=True):
    names: tuple[str, ...]


class Enabled(msgspec.Struct, frozen=True):
    names: frozenset[str]


class ServerId(msgspec.Struct, frozen=True):
    """ID (RFC 2971): lower-case field names."""

    fields: dict[str, str]


LOST_ROW = "FETCH"
"""The name of an Other that was a row which cannot be read."""


class Other(msgspec.Struct, frozen=True):
    """A response that this package does not read: ``name`` in upper case, ``data`` the octets after it."""

    name: str
    data: bytes
    number: int | None = None


Response: TypeAlias = (
    FetchRow | Status | Continuation | Capability | Listed | MailboxStatus | Namespaces | MyRights | QuotaRoots
    | QuotaUsage | Search | Esearch | Vanished | Exists | Recent | Expunge | Flags | Enabled | ServerId | Other
)  # fmt: skip
