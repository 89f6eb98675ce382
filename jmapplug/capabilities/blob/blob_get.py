"""Blob/get (RFC 9404 §4.2): octets as text or base64, digests, sizes, of ranges."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from jmapplug.capabilities.blob.octets import Range, opened, pieces, select
from jmapplug.jmap.checks import is_string, is_uint, list_of
from jmapplug.jmap.errors import MethodError, invalid_arguments
from jmapplug.jmap.methods import Args, Call, Reply
from jmapplug.jmap.sets import blob_ids

DIGESTS = {"sha-256": "sha256", "sha": "sha1", "sha-512": "sha512", "md5": "md5"}
"""The names of RFC 3230's registry, lower case, best first → hashlib's."""
MAX_OCTETS = 10_000_000
"""Octets that one call answers as data; the rest is for ranges and for the download URL."""

_DEFAULT = ("data", "size")
_DATA = frozenset({"data", "data:asText", "data:asBase64"})
_KNOWN = _DATA | {"size"} | {f"digest:{name}" for name in DIGESTS}
_ARGUMENTS = frozenset({"accountId", "ids", "properties", "offset", "length"})


def get(call: Call, args: Args) -> Reply:
    """Blob/get. Raises MethodError invalidArguments, requestTooLarge, serverUnavailable."""
    for name in args.keys() - _ARGUMENTS:
        raise invalid_arguments(f"Unknown argument: {name[:100]}", name[:100])
    ids, wanted = blob_ids(call, args, "ids"), _properties(args.get("properties"))
    offset, length = _uint(args, "offset"), _uint(args, "length")
    answer = _Answer(wanted)
    not_found: list[str] = []
    for blob_id in ids:
        with opened(call, blob_id) as found:
            if found is None:
                not_found.append(blob_id)
            else:
                answer.add(blob_id, *found, offset, length)
    # No state: a blob never changes (RFC 9404 §4.2.1).
    return {"accountId": call.account_id, "list": answer.list, "notFound": not_found}


class _Answer:
    """The list that grows; ``left`` octets of data may still go into it."""

    def __init__(self, wanted: tuple[str, ...]) -> None:
        self.list: list[dict[str, Any]] = []
        self.left = MAX_OCTETS
        self._wanted = wanted
        self._data = bool(_DATA.intersection(wanted))
        self._digests = [name for name in wanted if name.startswith("digest:")]

    def add(self, blob_id: str, file: BinaryIO, ref: Any, offset: int | None, length: int | None) -> None:
        part = select(ref.size, offset, length)
        record: dict[str, Any] = {"id": blob_id}
        if self._data or self._digests:
            record |= self._contents(file, part)
            if not part.complete:
                record["isTruncated"] = True
        if "size" in self._wanted:
            # RFC 9404 §4.2: of the entire blob, whatever the range.
            record["size"] = ref.size
        self.list.append(record)

    def _contents(self, file: BinaryIO, part: Range) -> dict[str, Any]:
        if self._data:
            self.left -= part.length
            if self.left < 0:
                raise MethodError("requestTooLarge", f"At most {MAX_OCTETS} octets of data in a call: ask for ranges")
        sums = {name: hashlib.new(DIGESTS[name[7:]], usedforsecurity=False) for name in self._digests}
        kept = []
        for octets in pieces(file, part):
            for one in sums.values():
                one.update(octets)
            if self._data:
                kept.append(octets)
        digests = {name: base64.b64encode(one.digest()).decode() for name, one in sums.items()}
        return dict(self._represented(b"".join(kept))) | digests

    def _represented(self, octets: bytes) -> Iterator[tuple[str, Any]]:
        if not self._data:
            return
        text = _text(octets) if self._wants("data", "data:asText") else None
        if self._wants("data", "data:asText") and text is None:
            yield "isEncodingProblem", True
        # RFC 9404 §4.2: data is the text, or base64 where the octets are none; asText is null then.
        if self._wants("data:asText") or ("data" in self._wanted and text is not None):
            yield "data:asText", text
        if self._wants("data:asBase64") or ("data" in self._wanted and text is None):
            yield "data:asBase64", base64.b64encode(octets).decode()

    def _wants(self, *names: str) -> bool:
        return any(name in self._wanted for name in names)


def _text(octets: bytes) -> str | None:
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _properties(value: Any) -> tuple[str, ...]:
    if value is None:
        return _DEFAULT
    if not list_of(is_string)(value):
        raise invalid_arguments("properties must be an array of strings or null", "properties")
    for name in value:
        if name not in _KNOWN and name != "id":
            raise invalid_arguments(f"Blob has no property {name[:100]}", "properties")
    return tuple(dict.fromkeys(value))


def _uint(args: Args, name: str) -> int | None:
    value = args.get(name)
    if value is not None and not is_uint(value):
        raise invalid_arguments(f"{name} must be an unsigned integer or null", name)
    return value
