"""The structure of a message as a tree of parts, whoever found it: an IMAP server's BODYSTRUCTURE or our own splitter.

Words: *section* is the IMAP section number of a part ("1", "2.1"); a multipart at the root has the section "".
A message/rfc822 part is a leaf here (RFC 8621 §4.1.4: attached messages have no subParts).
"""

from __future__ import annotations

import re

import msgspec

from jmapplug.mime import params
from jmapplug.mime.splitter import MAX_BOUNDARY, Data, Entity, Splitter
from jmapplug.mime.words import decode_words, text_of, uncomment, unfold


class Part(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One body part, decoded for use.

    ``type`` is lower case ("text/plain", "multipart/mixed"). ``charset`` is None where the part names none
    (RFC 8621 §4.1.4 answers "us-ascii" for text parts then). ``name`` is the decoded file name (disposition filename,
    else the type's name). ``size`` counts octets as they stand in the message (still transfer-encoded).
    ``header``/``body``/``end`` are offsets in the whole message, or -1 where a server made the structure.
    """

    section: str
    type: str
    charset: str | None = None
    name: str | None = None
    disposition: str | None = None
    cid: str | None = None
    language: tuple[str, ...] | None = None
    location: str | None = None
    encoding: str = "7bit"
    size: int = 0
    parts: tuple[Part, ...] = ()
    header: int = -1
    body: int = -1
    end: int = -1

    @property
    def multipart(self) -> bool:
        return self.type.startswith("multipart/")

    def walk(self) -> list[Part]:
        """Every part of the tree, itself first, in document order."""
        found, stack = [], [self]
        while stack:
            part = stack.pop()
            found.append(part)
            stack.extend(reversed(part.parts))
        return found


def parse(data: Data | memoryview, *, max_parts: int = 10_000, max_depth: int = 100) -> Part:
    """The structure of a message by our own reading, with the section numbers that IMAP gives. Never raises.

    A multipart that holds no part at all gets one text/plain child over what is there (IMAP servers show an empty one:
    the grammar of BODYSTRUCTURE has no multipart without parts). Of more than ``max_parts`` parts the last one holds
    the rest; a multipart below ``max_depth`` is an application/octet-stream leaf.
    """
    if isinstance(data, memoryview):
        data = bytes(data)

    def describe(entity: Entity) -> None:
        _describe(entity, _mime_fields(data[entity.header : entity.body]))

    root = Splitter(data, max_parts, max_depth, describe).run()
    return _part(root, "" if _holds_parts(root) else "1")


class _Fields(msgspec.Struct, frozen=True, gc=False):
    """What the header of an entity says of it, as in Part."""

    type: str
    charset: str | None = None
    name: str | None = None
    disposition: str | None = None
    cid: str | None = None
    language: tuple[str, ...] | None = None
    location: str | None = None
    encoding: str = "7bit"


_FIELD = re.compile(rb"(?:\n|\A)content-([a-z-]+)[ \t]*:([^\n]*(?:\n[ \t][^\n]*)*)", re.IGNORECASE)


def _mime_fields(block: bytes) -> dict[bytes, bytes]:
    """The values of the Content-* fields by the rest of their names; of a repeated one the first."""
    lower = block.lower()
    fields: dict[bytes, bytes] = {}
    at = 0 if lower.startswith(b"content-") else lower.find(b"\ncontent-")
    while at >= 0:
        if found := _FIELD.match(block, at):
            fields.setdefault(found[1].lower(), found[2])
            at = found.end()
        else:
            at += 1
        at = lower.find(b"\ncontent-", at)
    return fields


def _describe(entity: Entity, found: dict[bytes, bytes]) -> None:
    kind, given = _type_of(entity, found.get(b"type"))
    shown, shown_given = params.disposition(found[b"disposition"]) if b"disposition" in found else (None, {})
    encoding = params.token(found[b"transfer-encoding"]) if b"transfer-encoding" in found else ""
    cid, language, location = found.get(b"id"), found.get(b"language"), found.get(b"location")
    entity.fields = _Fields(
        kind,
        given.get("charset") or None,
        params.filename(given, shown_given),
        shown,
        None if cid is None else _content_id(cid),
        None if language is None else _languages(language),
        None if location is None else "".join(decode_words(location).split()) or None,
        encoding or "7bit",
    )
    if kind.startswith("multipart/"):
        entity.boundary = given.get("boundary", "").encode("utf-8", "replace")[:MAX_BOUNDARY] or None
    else:
        # Also where it says that it is encoded, which RFC 2046 §5.2.1 forbids: what is in the clear counts.
        entity.message = kind in ("message/rfc822", "message/global")


def _type_of(entity: Entity, value: bytes | None) -> tuple[str, dict[str, str]]:
    if value is not None:
        return params.content_type(value)
    # RFC 2046 §5.1.5: what a digest holds are messages unless they say otherwise.
    digest = entity.parent is not None and entity.parent.fields.type == "multipart/digest"
    return ("message/rfc822" if digest else "text/plain"), {}


def _content_id(value: bytes) -> str | None:
    text = uncomment(unfold(text_of(value[:1_000]))).strip()
    if "<" in text:
        text = text[text.index("<") + 1 :].partition(">")[0]
    return "".join(text.split()) or None


def _languages(value: bytes) -> tuple[str, ...] | None:
    tags = uncomment(unfold(text_of(value[:1_000]))).replace(",", " ").split()
    return tuple(tags) or None


def _holds_parts(entity: Entity) -> bool:
    return entity.fields.type.startswith("multipart/") and not entity.deep


def _part(entity: Entity, section: str) -> Part:
    fields: _Fields = entity.fields
    kind, parts = fields.type, tuple[Part, ...]()
    if _holds_parts(entity):
        prefix = section + "." if section else ""
        children = entity.children or [_content(entity)]
        parts = tuple(_part(child, f"{prefix}{number}") for number, child in enumerate(children, 1))
    elif kind.startswith("multipart/"):
        kind = "application/octet-stream"
    return Part(
        section,
        kind,
        fields.charset,
        fields.name,
        fields.disposition,
        fields.cid,
        fields.language,
        fields.location,
        fields.encoding,
        entity.end - entity.body,
        parts,
        entity.header,
        entity.body,
        entity.end,
    )


def _content(entity: Entity) -> Entity:
    """All that a multipart without parts holds, as one part without a header."""
    child = Entity(entity.body, entity)
    child.end = entity.body if entity.closed else entity.end
    child.fields = _Fields("text/plain", encoding=entity.fields.encoding)
    return child
