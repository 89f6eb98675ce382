"""Header fields: splitting a header block, the parsed forms of RFC 8621 §4.1.2, and the summary a first sync needs.

Words: a *block* is the octets from the first field to before the empty line; a *value* is what follows a field's colon,
folding included, without the line end that closes it.
"""

from __future__ import annotations

import mmap
import re

import msgspec

from jmapplug.mime.addresses import Address, Group, as_addresses, as_grouped_addresses
from jmapplug.mime.dates import as_date, timestamp
from jmapplug.mime.words import MAX_VALUE, decode, nfc, text_of, uncomment, unfold

__all__ = [
    "Address", "Group", "Summary", "as_addresses", "as_date", "as_grouped_addresses", "as_message_ids", "as_raw",
    "as_text", "as_urls", "block_of", "header_end", "headless", "split", "summary", "timestamp",
]  # fmt: skip

MAX_FIELDS = 10_000

# Lines that are no fields are passed over (as IMAP servers do); only an empty line ends a header.
_FIELD = re.compile(rb"^([!-9;-~]+)[ \t]*:([^\n]*(?:\n[ \t][^\n]*)*)", re.MULTILINE)
_LIKE_A_FIELD = re.compile(rb"[!-9;-~]+[ \t]*:")
_ANGLE = re.compile(r"<([^<>]*)>")
_WINDOW = 4_096


class Summary(msgspec.Struct, frozen=True):
    """What RFC 8621 §4.1.3 names as convenience properties; None where the message has no such field."""

    message_id: list[str] | None = None
    in_reply_to: list[str] | None = None
    references: list[str] | None = None
    sender: list[Address] | None = None
    from_: list[Address] | None = None
    to: list[Address] | None = None
    cc: list[Address] | None = None
    bcc: list[Address] | None = None
    reply_to: list[Address] | None = None
    subject: str | None = None
    sent_at: str | None = None


def split(block: bytes) -> list[tuple[str, bytes]]:
    """(name as written, raw value) of the first 10,000 fields, in their order."""
    fields = []
    for found in _FIELD.finditer(block):
        name, value = found.groups()
        fields.append((name.decode("ascii"), value.removesuffix(b"\r")))
        if len(fields) >= MAX_FIELDS:
            break
    return fields


def block_of(data: bytes) -> bytes:
    """The header block of a message, with the line end of its last field."""
    end = header_end(data, 0, len(data))[0]
    return b"" if headless(data, 0, end) else bytes(data[:end])


def header_end(data: bytes | mmap.mmap, start: int, limit: int) -> tuple[int, int]:
    """Offsets (end of the header block, start of the body) of the entity that begins at ``start``.

    Without an empty line all is header.
    """
    if data[start : start + 2] == b"\r\n":
        return start, min(start + 2, limit)
    if data[start : start + 1] == b"\n":
        return start, min(start + 1, limit)
    at, window = start, _WINDOW
    while at < limit:
        # Windows that grow: neither a message without empty lines nor one without CR is read to its end for each part.
        stop = min(at + window, limit)
        crlf, bare = data.find(b"\n\r\n", at, stop), data.find(b"\n\n", at, stop)
        if crlf >= 0 and (bare < 0 or crlf < bare):
            return crlf + 1, crlf + 3
        if bare >= 0:
            return bare + 1, bare + 2
        if stop == limit:
            break
        at, window = stop - 2, window * 2
    return limit, limit


def headless(data: bytes | mmap.mmap, start: int, end: int) -> bool:
    """Whether what stands where a header should holds no field: then it is text that somebody meant to be read."""
    return end > start and not _LIKE_A_FIELD.match(data[start : start + 1_024]) and not _FIELD.search(data[start:end])


def as_raw(value: bytes) -> str:
    """RFC 8621 §4.1.2.1."""
    return value.decode("utf-8", "replace").replace("\0", "")


def as_text(value: bytes) -> str:
    """RFC 8621 §4.1.2.2: unfolded, encoded words decoded, NFC."""
    text = unfold(text_of(value)).lstrip(" \t")
    if text.isascii() and "=?" not in text:
        return text
    return nfc(decode(text))


def as_message_ids(value: bytes) -> list[str] | None:
    """RFC 8621 §4.1.2.5. Phrases between the ids are passed over (RFC 5322 §4.5.4); ids without brackets are taken."""
    text = unfold(text_of(value[:MAX_VALUE]))
    if "(" in text:
        text = uncomment(text)
    found = _ANGLE.findall(text)
    if not found:
        found = text.replace("<", " ").replace(">", " ").split()
        return found if found and all("@" in name for name in found) else None
    ids = [name if " " not in name and "\t" not in name else "".join(name.split()) for name in found]
    return [name for name in ids if name] or None


def as_urls(value: bytes) -> list[str] | None:
    """RFC 8621 §4.1.2.7, RFC 2369 §2: what stands in angle brackets, outside comments."""
    text = uncomment(unfold(text_of(value[:MAX_VALUE])))
    urls = ["".join(url.split()) for url in _ANGLE.findall(text)]
    return [url for url in urls if url] or None


def summary(block: bytes) -> Summary:
    """The convenience properties of a header block (the whole one, or a selection of its fields).

    Of a field that is repeated the last instance counts (RFC 8621 §4.1.3).
    """
    # The first MAX_FIELDS fields, as everywhere; the usual block is far below and needs no counting.
    found = _FIELD.findall(block) if len(block) < 4 * MAX_FIELDS else _fields(block)
    get = {name.lower(): value for name, value in found}.get
    return Summary(
        _ids(get(b"message-id")),
        _ids(get(b"in-reply-to")),
        _ids(get(b"references")),
        _addresses(get(b"sender")),
        _addresses(get(b"from")),
        _addresses(get(b"to")),
        _addresses(get(b"cc")),
        _addresses(get(b"bcc")),
        _addresses(get(b"reply-to")),
        None if (subject := get(b"subject")) is None else as_text(subject),
        None if (date := get(b"date")) is None else as_date(date),
    )


def _fields(block: bytes) -> list[tuple[bytes, bytes]]:
    return [(name.encode("ascii"), value) for name, value in split(block)]


def _ids(value: bytes | None) -> list[str] | None:
    return None if value is None else as_message_ids(value)


def _addresses(value: bytes | None) -> list[Address] | None:
    return None if value is None else as_addresses(value)
