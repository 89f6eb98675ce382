"""A new Email (the ``create`` of Email/set, RFC 8621 §4.6) → a message in a file.

What a client may not set is refused with the SetErrors of the RFC; where the RFC lets the server mend something
harmless that real clients send, it is mended. ``mailboxIds``, ``keywords`` and ``receivedAt`` are the caller's.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

from jmapplug.capabilities.mail import compose_headers
from jmapplug.capabilities.mail.compose_body import BODY, Draft, structure
from jmapplug.capabilities.mail.compose_headers import Field, Record, invalid
from jmapplug.jmap.errors import SetError
from jmapplug.jmap.methods import Call
from jmapplug.jmap.sets import resolved
from jmapplug.mime import headers, write, write_headers
from jmapplug.mime.params import content_type
from jmapplug.mime.write_headers import Unwritable
from jmapplug.mime.write_params import is_token
from jmapplug.store.blobs import BlobRef
from jmapplug.store.pace import breathe

CALLERS = frozenset({"mailboxIds", "keywords", "receivedAt"})
"""Properties of a create that Email/set checks and uses itself."""
SERVER_SET = frozenset({"id", "blobId", "threadId", "size", "hasAttachment", "preview"})
_KNOWN = CALLERS | SERVER_SET | {"headers", "bodyValues", *BODY}
_DOMAIN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*")


@dataclass(frozen=True, slots=True)
class Composed:
    """A message with CRLF line ends. ``path`` is a temporary file that is now the caller's, to keep or to unlink.

    ``message_id``: its Message-ID without brackets; None where the client's own cannot be read.
    """

    path: Path
    size: int
    message_id: str | None


def compose(call: Call, record: Record) -> Composed:
    """The message of a create object. Nothing is left behind when it raises.

    Raises SetError invalidProperties, blobNotFound (with ``notFound``), tooLarge; MethodError serverUnavailable where
    a blob has to come from upstream and cannot.
    """
    _check(record)
    fields = compose_headers.fields_of(record)
    content = [one.path for one in fields.values() if one.name.startswith("content-")]
    if content:
        # RFC 8621 §4.6: only body parts have these.
        raise invalid("Content-* header fields belong to body parts", *content)
    root = structure(record)
    _merge(fields, root)
    blobs = _Blobs(call, root.leaves())
    message_id = _complete(fields, call.account)
    return _written(call, compose_headers.ordered(fields), blobs, root, message_id)


def _check(record: Record) -> None:
    given = [name for name, value in record.items() if value is not None]
    unknown = [
        name for name in given if name not in _KNOWN and not compose_headers.is_header_property(name, email=True)
    ]
    if unknown:
        raise invalid("Email has no such properties", *unknown)
    # RFC 8620 §5.3: null is what these are before the server sets them, so it says nothing.
    wrong = [name for name in given if name in SERVER_SET]
    if wrong:
        raise invalid("These properties are set by the server", *wrong)
    if "headers" in given:
        raise invalid("Header fields are set one by one, as properties", "headers")


def _merge(fields: dict[str, Field], root: Draft) -> None:
    """The header of the outermost part is the message's own."""
    for name, one in root.others.items():
        if name in fields:
            raise invalid("Two properties stand for the same header field", fields[name].path, one.path)
        fields[name] = one


def _complete(fields: dict[str, Field], account: Any) -> str | None:
    """Adds what a message needs (RFC 8621 §4.6, RFC 2045 §4); the Message-ID."""
    if "date" not in fields:
        fields["date"] = Field("date", "", write_headers.date("Date", datetime.now(UTC)))
    if "mime-version" not in fields:
        fields["mime-version"] = Field("mime-version", "", b"MIME-Version: 1.0\r\n")
    if "message-id" not in fields:
        own = f"{uuid.uuid4()}@{_domain(fields, account)}"
        fields["message-id"] = Field("message-id", "", write_headers.message_ids("Message-ID", [own]))
    ids = headers.as_message_ids(fields["message-id"].octets.partition(b":")[2])
    return ids[0] if ids else None


def _domain(fields: dict[str, Field], account: Any) -> str:
    """The sender's domain (RFC 5322 §3.6.4); never the name of this machine."""
    sender = fields["from"].octets.partition(b":")[2] if "from" in fields else b""
    emails = [one["email"] for one in headers.as_addresses(sender)] + [str(getattr(account, "email", ""))]
    for email in emails:
        domain = email.rpartition("@")[2] if "@" in email else ""
        with suppress(UnicodeError):
            domain = domain if domain.isascii() else domain.encode("idna").decode("ascii")
        if len(domain) <= 253 and _DOMAIN.fullmatch(domain):
            return domain.lower()
    return "jmapplug.invalid"


class _Blobs:
    """The blobs of a new Email, all looked up before anything is written."""

    def __init__(self, call: Call, leaves: Iterable[Draft]) -> None:
        """Raises SetError blobNotFound, tooLarge."""
        self.account = call.account
        self.found: dict[str, BlobRef] = {}
        self.ids: dict[str, str] = {}
        parts = [leaf.blob_id for leaf in leaves if leaf.blob_id is not None]
        missing = []
        for given in dict.fromkeys(parts):
            id_ = self.ids[given] = resolved(call, given)
            ref = self.account.blob(id_)
            if ref is None:
                missing.append(given)
            else:
                self.found[given] = ref
        if missing:
            raise SetError("blobNotFound", "There are no such blobs", notFound=missing)
        if sum(self.found[given].size for given in parts) > _max_attachments():
            raise SetError("tooLarge", f"Attachments may have {_max_attachments()} octets in all")

    def type(self, given: str) -> tuple[str, dict[str, str]]:
        """The media type of a blob, with the charset that it was uploaded with."""
        kind, parameters = content_type(self.found[given].type.encode("utf-8", "replace"))
        main, _, sub = kind.partition("/")
        if main == "multipart" or not is_token(main) or not is_token(sub) or "/" not in self.found[given].type:
            return "application/octet-stream", {}
        charset = parameters.get("charset", "")
        return kind, {"charset": charset} if kind.startswith("text/") and is_token(charset) else {}

    def content(self, given: str) -> write.Blob:
        def file() -> BinaryIO:
            try:
                return self.found[given].path.open("rb")
            except FileNotFoundError:
                # A later blob of the same message may have pushed this one out of the cache.
                ref = self.account.blob(self.ids[given])
                if ref is None:
                    raise SetError("blobNotFound", "There are no such blobs", notFound=[given]) from None
                self.found[given] = ref
                return cast(BinaryIO, ref.path.open("rb"))

        return write.Blob(self.found[given].size, lambda: cast(BinaryIO, _Paced(file())))


def _max_attachments() -> int:
    # Imported when used: the declaration stands above every method.
    from jmapplug.capabilities.mail.declaration import MAX_ATTACHMENTS

    return MAX_ATTACHMENTS


def _part(draft: Draft, blobs: _Blobs) -> write.Part:
    kind, parameters = draft.type, draft.parameters
    content: str | write.Blob = draft.text
    if draft.blob_id is not None:
        if not kind:
            kind, own = blobs.type(draft.blob_id)
            parameters = own | dict(parameters) if kind.startswith("text/") else _without_charset(parameters)
        content = blobs.content(draft.blob_id)
    parts = tuple(_part(part, blobs) for part in draft.parts)
    if kind == "multipart/related" and "type" not in parameters:
        # RFC 2387 §3.1: the type of the part that the others belong to.
        parameters = {"type": parts[0].type, **parameters}
    return write.Part(kind, parameters, (*draft.fields, *_inner(draft)), content, parts)


def _without_charset(parameters: Any) -> dict[str, str]:
    return {name: value for name, value in parameters.items() if name != "charset"}


def _inner(draft: Draft) -> list[bytes]:
    return [one.octets for one in draft.others.values()]


class _Paced:
    """A file that lets other requests go first now and then."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    def read(self, size: int) -> bytes:
        breathe()
        return self.file.read(size)

    def write(self, octets: bytes) -> int:
        breathe()
        return self.file.write(octets)

    def __enter__(self) -> _Paced:
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()


def _written(call: Call, fields: list[bytes], blobs: _Blobs, root: Draft, message_id: str | None) -> Composed:
    # The outermost part's other fields stand in the message's header already.
    tree = _part(replace(root, others={}), blobs)
    path: Path = call.account.store.blobs.temporary()
    try:
        with path.open("wb") as file:
            size = write.write(cast(BinaryIO, _Paced(file)), fields, tree)
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, Unwritable):
            raise invalid(str(error), "bodyValues") from None
        raise
    return Composed(path, size, message_id)
