"""A message's Detail → the columns of its ``email`` row, each JSON fragment encoded once (RFC 8621 §4.1).

Pure. A message whose header defies us still becomes an Email, with nulls: mail must not be invisible for its looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from jmapplug.backends import Detail
from jmapplug.capabilities.mail import ids
from jmapplug.capabilities.mail.keywords import HAS_ATTACHMENT, SERVER_STRUCTURE
from jmapplug.capabilities.mail.threads import reference_order
from jmapplug.jmap.sorting import COLLATIONS
from jmapplug.mime.base_subject import base_subject
from jmapplug.mime.body import has_attachment
from jmapplug.mime.dates import timestamp
from jmapplug.mime.headers import Summary, summary

_SORT_KEY_MAX = 200
_encode = msgspec.json.Encoder().encode
_pack = msgspec.msgpack.Encoder().encode
_casemap = COLLATIONS["i;unicode-casemap"]


class Columns(NamedTuple):
    """The columns that the message itself decides, in the order of ``store.sync.EMAIL_COLUMNS``."""

    sent: int | None
    j_message_id: str | None
    j_in_reply_to: str | None
    j_references: str | None
    j_sender: str | None
    j_from: str | None
    j_to: str | None
    j_cc: str | None
    j_bcc: str | None
    j_reply_to: str | None
    subject: str | None
    sent_at: str | None
    sort_subject: str
    sort_from: str
    sort_to: str
    preview: str | None
    structure: bytes | None


class Facts(NamedTuple):
    """One message ready to become an Email: ``columns``, the fixed ``bits`` of its flags, and what links it."""

    uid: int
    size: int
    received_at: int
    bits: int
    columns: Columns
    content: int
    references: list[int]


def sort_key(text: str) -> str:
    """The i;unicode-casemap key of a text (RFC 5051), cut to an index's measure."""
    cut = text[:_SORT_KEY_MAX]
    return cut.upper() if cut.isascii() else _casemap(cut)


_address_key = lru_cache(maxsize=512)(sort_key)


def forget() -> None:
    """Drop what is remembered from one message to the next."""
    _address_key.cache_clear()


def _json(value: Any) -> str | None:
    return None if value is None else _encode(value).decode()


def _first_name(addresses: Sequence[Any] | None) -> str:
    """RFC 8621 §4.4.2: the first address's name, else its email."""
    if not addresses:
        return ""
    first = addresses[0]
    return _address_key(first["name"] or first["email"] or "")


def _read(header: bytes) -> Summary:
    try:
        return summary(header)
    except Exception:
        return Summary()


def facts_of(detail: Detail, salt: bytes, server_structure: bool = True) -> Facts:
    """Everything about one message but its ids. ``server_structure``: the structure is the server's own."""
    head = _read(detail.header)
    base = base_subject(head.subject) if head.subject else ""
    key = sort_key(base)
    structure = detail.structure
    fixed = 0
    if structure is not None:
        fixed = (HAS_ATTACHMENT if has_attachment(structure) else 0) | (SERVER_STRUCTURE if server_structure else 0)
    columns = Columns(
        timestamp(head.sent_at) if head.sent_at else None,
        _json(head.message_id),
        _json(head.in_reply_to),
        _json(head.references),
        _json(head.sender),
        _json(head.from_),
        _json(head.to),
        _json(head.cc),
        _json(head.bcc),
        _json(head.reply_to),
        head.subject,
        head.sent_at,
        key,
        _first_name(head.from_),
        _first_name(head.to),
        detail.preview,
        None if structure is None else _pack(structure),
    )
    related = reference_order(head.message_id, head.in_reply_to, head.references)
    return Facts(
        detail.uid,
        detail.size,
        detail.received_at,
        fixed,
        columns,
        ids.content_evidence(salt, detail.header, detail.size),
        ids.reference_hashes(salt, key, related),
    )
