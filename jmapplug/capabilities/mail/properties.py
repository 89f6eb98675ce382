"""Which property of an Email comes from where: a column of its row, its header, its body (RFC 8621 §4.1).

Almost every request is for columns only. Those are JSON in the row already, so an answer costs one SELECT of just these
columns and no parsing: :func:`plan_for` makes the SELECT's column list once for each set of properties and keeps it.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec

from jmapplug.capabilities.mail.headers import HeaderProperty, parse_property
from jmapplug.capabilities.mail.store.emails import COLUMNS, INCOMPLETE, select_list

HEADER = frozenset({"headers"})
BODY = frozenset({"bodyStructure", "bodyValues", "textBody", "htmlBody", "attachments"})
FIXED = frozenset(COLUMNS) | HEADER | BODY

DEFAULT = (
    "id", "blobId", "threadId", "mailboxIds", "keywords", "size", "receivedAt", "messageId", "inReplyTo", "references",
    "sender", "from", "to", "cc", "bcc", "replyTo", "subject", "sentAt", "hasAttachment", "preview", "bodyValues",
    "textBody", "htmlBody", "attachments",
)  # fmt: skip
"""RFC 8621 §4.2."""

PARSE_DEFAULT = DEFAULT[DEFAULT.index("messageId") :]
"""RFC 8621 §4.9."""

CONVENIENCE: dict[tuple[str, str], str] = {
    ("message-id", "MessageIds"): "messageId",
    ("in-reply-to", "MessageIds"): "inReplyTo",
    ("references", "MessageIds"): "references",
    ("sender", "Addresses"): "sender",
    ("from", "Addresses"): "from",
    ("to", "Addresses"): "to",
    ("cc", "Addresses"): "cc",
    ("bcc", "Addresses"): "bcc",
    ("reply-to", "Addresses"): "replyTo",
    ("subject", "Text"): "subject",
    ("date", "Date"): "sentAt",
}
"""RFC 8621 §4.1.3: these header forms *are* convenience properties, so the row answers them."""


class Plan(msgspec.Struct, frozen=True):
    """How to answer one set of properties.

    ``columns``: SQL of the properties in ``names``, in that order, and of whether the row lacks something asked for;
    ``raw``: those of them that come as JSON text.
    ``headers``: header properties that need the header block; ``all_headers``: ``headers`` was asked for.
    ``body``: properties that need the structure. ``preview``, ``attachment``: what the row must have.
    """

    names: tuple[str, ...]
    columns: str
    raw: tuple[str, ...]
    headers: tuple[tuple[str, HeaderProperty], ...]
    all_headers: bool
    body: frozenset[str]
    preview: bool
    attachment: bool

    @property
    def row_only(self) -> bool:
        return not (self.headers or self.all_headers or self.body)

    @property
    def needs_header(self) -> bool:
        return bool(self.headers) or self.all_headers


def known(name: str) -> bool:
    """Whether an Email has such a property; False also for a forbidden form (RFC 8621 §4.2: invalidArguments)."""
    return name in FIXED or parse_property(name) is not None


def column(name: str) -> str | None:
    """The property in ``COLUMNS`` that answers this one; None where only the header or the body does."""
    if name in COLUMNS:
        return name
    header = parse_property(name)
    return None if header is None or header.every else CONVENIENCE.get((header.field, header.form))


@lru_cache(maxsize=256)
def plan_for(properties: tuple[str, ...]) -> Plan:
    """The plan for property names that are all :func:`known`; ``id`` is added."""
    names: dict[str, str] = {"id": "id"}
    headers: list[tuple[str, HeaderProperty]] = []
    for name in properties:
        source, header = column(name), parse_property(name)
        if source is not None:
            names[name] = source
        elif header is not None:
            headers.append((name, header))
    return Plan(
        names=tuple(names),
        columns=select_list(names.values(), INCOMPLETE.keys() & set(properties)),
        raw=tuple(name for name, source in names.items() if COLUMNS[source].is_json),
        headers=tuple(headers),
        all_headers="headers" in properties,
        body=BODY.intersection(properties),
        preview="preview" in properties,
        attachment="hasAttachment" in properties,
    )
