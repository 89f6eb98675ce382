"""A message disposition notification as a message (RFC 8098) and as an MDN object (RFC 9007 §2). Pure.

Words: the *notification* is the second part of the multipart/report, fields like those of a header.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jmapplug.mime import headers, params, structure
from jmapplug.mime.decode import decode_bytes, decode_text
from jmapplug.mime.splitter import Data
from jmapplug.mime.structure import Part
from jmapplug.mime.words import text_of, uncomment, unfold
from jmapplug.mime.write import Part as NewPart
from jmapplug.mime.write_headers import Line

ACTION_MODES = ("manual-action", "automatic-action")
SENDING_MODES = ("mdn-sent-manually", "mdn-sent-automatically")
TYPES = ("deleted", "dispatched", "displayed", "processed")
PROPERTIES = (
    "forEmailId", "subject", "textBody", "includeOriginalMessage", "reportingUA", "disposition", "mdnGateway",
    "originalRecipient", "finalRecipient", "originalMessageId", "error", "extensionFields",
)  # fmt: skip
FIELDS = {
    "reportingUA": "Reporting-UA",
    "mdnGateway": "MDN-Gateway",
    "originalRecipient": "Original-Recipient",
    "finalRecipient": "Final-Recipient",
    "originalMessageId": "Original-Message-ID",
}
"""Property → field of the notification, in the order of RFC 8098 §3.1."""
RESERVED = frozenset({name.lower() for name in FIELDS.values()} | {"disposition", "error"})
MAX_TEXT = 1_000_000
"""Octets of the human-readable part that are read."""
_MAX_NOTIFICATION = 65_536
_MAX_EXTENSIONS = 100

_NOTIFICATIONS = frozenset({"message/disposition-notification", "message/global-disposition-notification"})
_DISPOSITION = re.compile(
    rf"\s*({'|'.join(ACTION_MODES)})\s*/\s*({'|'.join(SENDING_MODES)})\s*;\s*({'|'.join(TYPES)})\s*(?:/.*)?"
)
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]+")

Mdn = dict[str, Any]


# --- reading -------------------------------------------------------------------------------------------------------


def parse(data: Data) -> Mdn | None:
    """The MDN in a message, ``forEmailId`` left null; None where it is none (RFC 8098 §3)."""
    root = structure.parse(data)
    parts = root.parts if root.type == "multipart/report" else ()
    notification = next((part for part in parts if part.type in _NOTIFICATIONS), None)
    if notification is None:
        return None
    header = bytes(data[root.header : root.body])
    fields = _fields(header)
    if _report_type(fields.get("content-type")) not in ("", "disposition-notification"):
        return None
    told = _fields(_content(data, notification))
    disposition = _DISPOSITION.fullmatch(uncomment(_text(told.get("disposition", b""))).lower())
    if disposition is None:
        return None
    subject = fields.get("subject")
    return {
        "forEmailId": None,
        "subject": None if subject is None else headers.as_text(subject),
        "textBody": _human(data, root),
        "includeOriginalMessage": any(part.type in ("message/rfc822", "message/global") for part in parts),
        "disposition": dict(zip(("actionMode", "sendingMode", "type"), disposition.groups(), strict=True)),
        **{name: _text(told[field.lower()]) if field.lower() in told else None for name, field in FIELDS.items()},
        **_repeated(_content(data, notification)),
    }


def _content(data: Data, part: Part) -> bytes:
    raw = bytes(data[part.body : min(part.end, part.body + 2 * _MAX_NOTIFICATION)])
    # Some programs end the notification with an empty line in the middle: fields are fields.
    return decode_bytes(raw, part.encoding)[0][:_MAX_NOTIFICATION]


def _fields(block: bytes) -> dict[str, bytes]:
    """Field name in lower case → its first value."""
    found: dict[str, bytes] = {}
    for name, value in headers.split(block):
        found.setdefault(name.lower(), value)
    return found


def _repeated(block: bytes) -> Mdn:
    """``error`` and ``extensionFields``."""
    errors: list[str] = []
    extensions: dict[str, str] = {}
    for name, value in headers.split(block):
        if name.lower() == "error":
            errors.append(_text(value))
        elif name.lower() not in RESERVED and len(extensions) < _MAX_EXTENSIONS:
            extensions.setdefault(name, _text(value))
    return {"error": errors or None, "extensionFields": extensions or None}


def _text(value: bytes) -> str:
    return _CONTROLS.sub(" ", unfold(text_of(value))).strip()


def _report_type(value: bytes | None) -> str:
    return params.content_type(value)[1].get("report-type", "").lower() if value is not None else ""


def _human(data: Data, root: Part) -> str | None:
    """The first plain text of the first part (RFC 6522 §3: it may come in several forms)."""
    first = root.parts[0]
    part = next((part for part in first.walk() if part.type == "text/plain"), None)
    if part is None:
        return None
    raw = bytes(data[part.body : min(part.end, part.body + 4 * MAX_TEXT)])
    return decode_text(raw, part.encoding, part.charset, limit=MAX_TEXT).text


# --- writing -------------------------------------------------------------------------------------------------------


def compose(mdn: Mapping[str, Any], original: NewPart | None) -> NewPart:
    """The multipart/report of an MDN. Raises Unwritable."""
    text = "".join(_lines(mdn))
    # RFC 6533 §5: what is not ASCII needs the global form.
    kind = "message/disposition-notification" if text.isascii() else "message/global-disposition-notification"
    parts = [NewPart("text/plain", content=mdn["textBody"] or ""), NewPart(kind, content=text)]
    if original is not None:
        parts.append(original)
    return NewPart("multipart/report", {"report-type": "disposition-notification"}, parts=tuple(parts))


def _lines(mdn: Mapping[str, Any]) -> Iterator[str]:
    for name, field in FIELDS.items():
        if mdn.get(name) is not None:
            yield _field(field, mdn[name])
    yield _field("Disposition", _DISPOSITION_TEXT(mdn["disposition"]))
    for name, value in (mdn.get("extensionFields") or {}).items():
        yield _field(name, value)


_DISPOSITION_TEXT: Callable[[Mapping[str, str]], str] = "{actionMode}/{sendingMode}; {type}".format_map


def _field(name: str, value: str) -> str:
    line = Line(name)
    for word in value.split():
        line.put(word)
    return line.done().decode()
