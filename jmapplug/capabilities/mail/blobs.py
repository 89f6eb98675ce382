"""Blob ids of mail, and the files they stand for (RFC 8620 §6, mail-rules 1).

``m-<email>``: the message; ``p-<email>-<section>``: a part of it after decoding; ``f-<uuid>``: an upload. Behind any of
them ``-<section>`` names a part of the message *in* that blob (an attached message, as Email/parse sees it), and so on.
In a section "_" stands for ".". What is cached of an Email that is destroyed is served as long as it is cached.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jmapplug.capabilities.mail import fetch, structures
from jmapplug.capabilities.mail.store import emails
from jmapplug.capabilities.mail.structures import Message
from jmapplug.mime.structure import Part
from jmapplug.store import uploads
from jmapplug.store.blobs import BlobRef

_SECTION = r"\d{1,5}(?:_\d{1,5}){0,99}"
_BLOB = re.compile(
    rf"(?P<base>m-(?P<message>[a-z0-9]+)|p-(?P<email>[a-z0-9]+)-(?P<section>{_SECTION})"
    rf"|f-[0-9a-f]{{8}}(?:-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}})(?P<inner>(?:-{_SECTION}){{0,8}})",
    re.ASCII,
)
MESSAGE_TYPE = "message/rfc822"
_PRUNE_AT_ONCE = 100


def find(account: Any, blob_id: str) -> BlobRef | None:
    """The file of a blob; None where there is no such blob. Raises MethodError serverUnavailable."""
    found = _BLOB.fullmatch(blob_id) if len(blob_id) <= 255 else None
    if found is None:
        return None
    try:
        ref = _base(account, found)
        base = found["base"]
        for section in found["inner"].split("-")[1:]:
            ref = None if ref is None else _inside(account, ref.path, base, section)
            base = f"{base}-{section}"
        return ref
    except fetch.Gone:
        return None


def _base(account: Any, found: re.Match[str]) -> BlobRef | None:
    if found["message"]:
        return _message(account, found["message"])
    if found["email"]:
        return _part(account, found["email"], found["section"])
    return _upload(account, found["base"])


def _message(account: Any, email_id: str) -> BlobRef | None:
    content = emails.content(account.store, email_id)
    if content is None:
        return _left(account, f"m-{email_id}", MESSAGE_TYPE)
    path = fetch.raw_message(account, content.eid, email_id)
    return BlobRef(path, path.stat().st_size, MESSAGE_TYPE)


def _part(account: Any, email_id: str, section: str) -> BlobRef | None:
    content = emails.content(account.store, email_id)
    if content is None:
        return _left(account, f"p-{email_id}-{section}", "application/octet-stream")
    return structures.reading(account, content, lambda message: _leaf(message, section))


def _inside(account: Any, path: Path, base: str, section: str) -> BlobRef | None:
    message = structures.open_file(account, path, base)
    try:
        return None if message is None else _leaf(message, section)
    finally:
        if message is not None:
            message.close()


def _leaf(message: Message, section: str) -> BlobRef | None:
    part = _named(message.root, section.replace("_", "."))
    if part is None:
        return None
    path = message.decoded(part)
    return BlobRef(path, path.stat().st_size, part.type, part.name)


def _named(root: Part, section: str) -> Part | None:
    return next((part for part in root.walk() if part.section == section and not part.multipart), None)


def _left(account: Any, blob_id: str, type_: str) -> BlobRef | None:
    """What is left of an Email that is destroyed (mail-rules 31)."""
    path = account.store.blobs.find(blob_id)
    return None if path is None else BlobRef(path, path.stat().st_size, type_)


def _upload(account: Any, blob_id: str) -> BlobRef | None:
    upload = uploads.find(account.store, blob_id, time.time())
    if upload is None:
        return None
    path: Path = account.store.blobs.upload_path(blob_id)
    return BlobRef(path, upload.size, upload.type) if path.is_file() else None


def prune_uploads(account: Any, now: float | None = None) -> int:
    """Remove some uploads whose time is over, files first; how many (0 = none left)."""
    gone = uploads.expired(account.store, time.time() if now is None else now, _PRUNE_AT_ONCE)
    for blob_id in gone:
        account.store.blobs.upload_path(blob_id).unlink(missing_ok=True)
    if gone:
        uploads.forget(account.store, gone)
    return len(gone)


PREFIXES: dict[str, Callable[[Any, str], Any]] = {"m": find, "p": find, "f": find}
