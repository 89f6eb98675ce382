"""Body properties of a new Email → the tree of parts to write (RFC 8621 §4.1.4, §4.6).

Words: a *draft* is a part as the client described it, checked, before its blob is looked up. Paths are written as in
``compose_headers``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from jmapplug.capabilities.mail.compose_headers import Field, Record, fields_of, invalid, is_header_property
from jmapplug.jmap.checks import is_uint
from jmapplug.mime import params, write_headers, write_params
from jmapplug.mime.write_headers import Unwritable

MAX_PARTS = 1_000
MAX_DEPTH = 50
"""What our own reader (10,000 and 100) still opens with room to spare."""

BODY = ("bodyStructure", "textBody", "htmlBody", "attachments")
_KNOWN = frozenset({
    "partId", "blobId", "size", "name", "type", "charset", "disposition", "cid", "language", "location", "subParts",
})  # fmt: skip
_STRINGS = ("partId", "blobId", "name", "type", "charset", "disposition", "cid", "location")
# A header field and the properties that stand for it as well (RFC 8621 §4.6: never two for one).
_SAME_FIELD = {
    "content-type": ("type", "charset"),
    "content-disposition": ("disposition", "name"),
    "content-id": ("cid",),
    "content-language": ("language",),
    "content-location": ("location",),
}
_MULTIPART_LACKS = ("partId", "blobId", "charset")
_LANGUAGE = re.compile(r"[A-Za-z0-9]{1,8}(?:-[A-Za-z0-9]{1,8}){0,15}")


@dataclass(frozen=True, slots=True)
class Draft:
    """``type`` "" : that of the blob. ``text`` is the body value, where the part has a ``partId``."""

    path: str
    type: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    fields: tuple[bytes, ...] = ()
    others: Mapping[str, Field] = field(default_factory=dict)
    blob_id: str | None = None
    text: str = ""
    cid: str | None = None
    disposition: str | None = None
    parts: tuple[Draft, ...] = ()

    @property
    def multipart(self) -> bool:
        return self.type.startswith("multipart/")

    def leaves(self) -> Iterator[Draft]:
        if not self.multipart:
            yield self
        for part in self.parts:
            yield from part.leaves()


def structure(record: Record) -> Draft:
    """The tree of a new Email's body; an empty text where it has none. Raises SetError invalidProperties."""
    given = [name for name in BODY if record.get(name) is not None]
    if "bodyStructure" in given and len(given) > 1:
        raise invalid("bodyStructure excludes textBody, htmlBody and attachments", *given)
    reader = _Reader(_values(record.get("bodyValues")))
    if "bodyStructure" in given:
        return reader.part(record["bodyStructure"], "bodyStructure", "text/plain", 1)
    text = reader.body(record, "textBody", "text/plain")
    html = reader.body(record, "htmlBody", "text/html")
    return _arranged(text, html, reader.attachments(record.get("attachments")))


def _arranged(text: Draft | None, html: Draft | None, attachments: list[Draft]) -> Draft:
    """mixed(alternative(text, related(html, its pictures)), files), each level only where it is needed."""
    pictures = [one for one in attachments if html and one.cid and one.disposition != "attachment"]
    files = [_disposed(one, "attachment") for one in attachments if one not in pictures]
    if html and pictures:
        html = _multipart("related", html, *(_disposed(one, "inline") for one in pictures))
    shown = _multipart("alternative", text, html) if text and html else text or html
    if files:
        return _multipart("mixed", *((shown,) if shown else ()), *files)
    return shown or Draft("", "text/plain")


def _multipart(kind: str, *parts: Draft) -> Draft:
    return Draft("", f"multipart/{kind}", parts=parts)


def _disposed(part: Draft, disposition: str) -> Draft:
    """An attachment that does not say how it is to be shown would otherwise be read as a part of the text."""
    if part.disposition is not None:
        return part
    name = part.parameters.get("name")
    written = write_params.field("Content-Disposition", disposition, {"filename": name} if name else {})
    return replace(part, disposition=disposition, fields=(written, *part.fields))


def _values(value: Any) -> dict[str, str]:
    """partId → text."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise invalid("bodyValues must be an object", "bodyValues")
    found = {}
    for part_id, one in value.items():
        path = f"bodyValues/{part_id}"
        if not isinstance(one, dict) or not isinstance(one.get("value"), str):
            raise invalid("An EmailBodyValue has a value, which is a string", path)
        for name in ("isEncodingProblem", "isTruncated"):
            # RFC 8621 §4.6: what is not the whole text must not become the text.
            if one.get(name) not in (None, False):
                raise invalid(f"{name} must be false or left out", f"{path}/{name}")
        found[part_id] = one["value"]
    return found


class _Reader:
    """Reads EmailBodyPart objects; counts them."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values = values
        self.count = 0

    def body(self, record: Record, name: str, type_: str) -> Draft | None:
        """RFC 8621 §4.6: exactly one part, and of this type. An empty list is what clients send for none."""
        value = record.get(name)
        if value is None or value == []:
            return None
        if not isinstance(value, list) or len(value) != 1:
            raise invalid(f"{name} must have exactly one part", name)
        part = self.part(value[0], f"{name}/0", type_, 1)
        if part.type and part.type != type_:
            raise invalid(f"The part of {name} must be {type_}", f"{name}/0/type")
        return replace(part, type=type_)

    def attachments(self, value: Any) -> list[Draft]:
        if value is None:
            return []
        if not isinstance(value, list):
            raise invalid("attachments must be an array", "attachments")
        parts = []
        for at, one in enumerate(value):
            part = self.part(one, f"attachments/{at}", "text/plain", 1)
            if part.multipart:
                # RFC 8621 §4.1.4: the list names leaves.
                raise invalid("An attachment is no multipart", f"attachments/{at}/type")
            parts.append(part)
        return parts

    def part(self, value: Any, path: str, default: str, depth: int) -> Draft:
        self.count += 1
        if self.count > MAX_PARTS or depth > MAX_DEPTH:
            raise invalid(f"More than {MAX_PARTS} parts, or {MAX_DEPTH} levels", path.partition("/")[0])
        if not isinstance(value, dict):
            raise invalid("An EmailBodyPart is an object", path)
        given = {name: one for name, one in value.items() if one is not None}
        _check(given, path)
        fields = fields_of(given, f"{path}/")
        _check_fields(given, fields, path)
        kind, parameters = self.type(given, fields, path, default)
        if kind.startswith("multipart/"):
            return self.multipart(given, fields, path, (kind, parameters), depth)
        if given.get("subParts"):
            raise invalid("Only a multipart has subParts", f"{path}/subParts")
        return self.leaf(given, fields, path, (kind, parameters))

    def type(self, given: Record, fields: Mapping[str, Field], path: str, default: str) -> tuple[str, dict[str, str]]:
        """(the type in lower case, its parameters); "" where the blob has to tell."""
        if "content-type" in fields:
            # The parameters that RFC 8621 has no property for (method, protocol, report-type) come this way.
            where, octets = fields["content-type"].path, fields["content-type"].octets.partition(b":")[2]
        elif "type" in given:
            where, octets = f"{path}/type", write_headers.whole(given["type"]).encode()
        elif given.get("subParts"):
            return "multipart/mixed", {}
        else:
            return ("" if "blobId" in given and not path.startswith(("textBody", "htmlBody")) else default), {}
        kind, parameters = params.content_type(octets)
        main, _, sub = kind.partition("/")
        if not octets.strip().lower().startswith(kind.encode()) or not all(map(write_params.is_token, (main, sub))):
            raise invalid("This is no media type", where)
        for name in ("boundary", "charset") if "partId" in given else ("boundary",):
            parameters.pop(name, None)
        return kind, parameters

    def multipart(
        self, given: Record, fields: Mapping[str, Field], path: str, kind: tuple[str, dict[str, str]], depth: int
    ) -> Draft:
        wrong = [f"{path}/{name}" for name in _MULTIPART_LACKS if name in given]
        if wrong:
            raise invalid("A multipart has subParts and nothing else to hold", *wrong)
        parts = given.get("subParts")
        if not isinstance(parts, list) or not parts:
            # RFC 2046 §5.1: at least one body part.
            raise invalid("A multipart needs at least one part", f"{path}/subParts")
        children = tuple(
            self.part(one, f"{path}/subParts/{at}", "text/plain", depth + 1) for at, one in enumerate(parts)
        )
        return replace(_described(given, fields, path, kind), parts=children)

    def leaf(self, given: Record, fields: Mapping[str, Field], path: str, kind: tuple[str, dict[str, str]]) -> Draft:
        part_id, blob_id = given.get("partId"), given.get("blobId")
        if (part_id is None) == (blob_id is None):
            raise invalid("A part has either a partId or a blobId", f"{path}/partId", f"{path}/blobId")
        if part_id is not None:
            self.check_value(given, path)
            return replace(_described(given, fields, path, kind), text=self.values[part_id])
        if "charset" in given and (kind[0] or "text/").startswith("text/"):
            kind = (kind[0], kind[1] | {"charset": given["charset"]})
        return replace(_described(given, fields, path, kind), blob_id=blob_id)

    def check_value(self, given: Record, path: str) -> None:
        """RFC 8621 §4.6: what a part with a partId must not have, and where its text must be."""
        wrong = [f"{path}/{name}" for name in ("charset", "size") if name in given]
        if wrong:
            raise invalid("A part with a partId has neither charset nor size", *wrong)
        if given["partId"] not in self.values:
            raise invalid("There is no such partId in bodyValues", f"{path}/partId")


def _check(given: Record, path: str) -> None:
    """Names and types of the properties of a part."""
    unknown = [f"{path}/{name}" for name in given if name not in _KNOWN and not is_header_property(name, email=False)]
    if unknown:
        raise invalid("These properties cannot be set", *unknown)
    wrong = [f"{path}/{name}" for name in _STRINGS if not isinstance(given.get(name, ""), str)]
    wrong += [f"{path}/size"] if not is_uint(given.get("size", 0)) else []
    if not isinstance(given.get("subParts", []), list):
        wrong.append(f"{path}/subParts")
    languages = given.get("language", [])
    if not isinstance(languages, list) or not all(
        isinstance(one, str) and _LANGUAGE.fullmatch(one) for one in languages
    ):
        wrong.append(f"{path}/language")
    for name in ("charset", "disposition"):
        if name in given and isinstance(given[name], str) and not write_params.is_token(given[name]):
            wrong.append(f"{path}/{name}")
    if wrong:
        raise invalid("These properties have the wrong type or form", *wrong)


def _check_fields(given: Record, fields: Mapping[str, Field], path: str) -> None:
    if "content-transfer-encoding" in fields:
        # RFC 8621 §4.6: the server chooses it.
        raise invalid("Content-Transfer-Encoding cannot be set", fields["content-transfer-encoding"].path)
    for field_name, names in _SAME_FIELD.items():
        same = [f"{path}/{name}" for name in names if name in given]
        if field_name in fields and same:
            raise invalid("Two properties stand for the same header field", fields[field_name].path, *same)


def _described(given: Record, fields: Mapping[str, Field], path: str, kind: tuple[str, dict[str, str]]) -> Draft:
    """The draft with its MIME fields, and without content."""
    parameters, name = dict(kind[1]), write_headers.scrubbed(given.get("name", "")).strip() or None
    disposition = given["disposition"].lower() if "disposition" in given else None
    if name is not None:
        # In both fields: RFC 2183 knows the one, and many readers only the other.
        parameters["name"] = name
    own: list[bytes] = []
    try:
        write_params.field("Content-Type", kind[0], parameters)
        if disposition is not None:
            own.append(write_params.field("Content-Disposition", disposition, {"filename": name} if name else {}))
        elif "content-disposition" in fields:
            disposition = params.disposition(fields["content-disposition"].octets.partition(b":")[2])[0]
            if disposition is None:
                raise invalid("This is no disposition", fields["content-disposition"].path)
        if given.get("cid"):
            own.append(write_headers.message_ids("Content-ID", [given["cid"]]))
        if given.get("language"):
            own.append(f"Content-Language: {', '.join(given['language'])}\r\n".encode("ascii"))
        if given.get("location"):
            own.append(write_headers.text("Content-Location", "%20".join(given["location"].split())))
    except Unwritable as error:
        raise invalid(str(error), path) from None
    own += [one.octets for one in fields.values() if one.name.startswith("content-") and one.name != "content-type"]
    others = {one.name: one for one in fields.values() if not one.name.startswith("content-")}
    cid = given.get("cid") or ("header" if "content-id" in fields else None)
    return Draft(path, kind[0], parameters, tuple(own), others, cid=cid, disposition=disposition)
