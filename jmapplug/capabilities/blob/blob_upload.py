"""Blob/upload (RFC 9404 §4.1): blobs made of text, base64 and ranges of other blobs."""

from __future__ import annotations

import binascii
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from jmapplug.capabilities.blob.octets import opened, pieces, select
from jmapplug.errors import UpstreamError
from jmapplug.jmap import sets
from jmapplug.jmap.checks import is_string, is_uint, nullable
from jmapplug.jmap.errors import MethodError, SetError, invalid_arguments
from jmapplug.jmap.methods import Args, Call, Reply
from jmapplug.store import uploads

MAX_SOURCES = 128
"""RFC 9404 §3.1: at least 64."""
MAX_STORED = 2_000_000_000
"""Octets of uploads that an account may have lying about; they expire after a week."""
DEFAULT_TYPE = "application/octet-stream"

_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,127}/[A-Za-z0-9!#$&^_.+-]{1,127}(?:[ \t]*;[\x20-\x7e]{0,200})?")
_DATA = ("data:asText", "data:asBase64")
_RANGE = frozenset({"blobId", "offset", "length"})


class Source(NamedTuple):
    """A DataSourceObject, checked: octets, or a range of another blob ("#" references too)."""

    octets: bytes = b""
    blob_id: str | None = None
    offset: int | None = None
    length: int | None = None


def upload(call: Call, args: Args) -> Reply:
    """Blob/upload. Raises MethodError invalidArguments, requestTooLarge."""
    request = sets.parse(call, args)
    for name in ("update", "destroy", "ifInState"):
        if args.get(name):
            raise invalid_arguments("Blobs are neither updated nor destroyed, and have no state", name)
    outcome = sets.Outcome()
    for key in sets.ordered(request.create, _depends):
        try:
            outcome.created[key] = made = _create(call, request.create[key])
            # RFC 9404 §4.1: always there for later calls, and for later creations of this one.
            call.created_ids[key] = made["id"]
        except SetError as error:
            outcome.not_created[key] = error
    # RFC 9404 §4.1: blobs have no state.
    return outcome.reply(call.account_id, None, "") | {"newState": None}


def _depends(record: sets.Record) -> Iterator[str]:
    """The creation ids that a creation takes octets of; what else begins with "#" is text."""
    data = record.get("data")
    for each in data if isinstance(data, list) else ():
        blob_id = each.get("blobId") if isinstance(each, dict) else None
        if isinstance(blob_id, str) and blob_id.startswith("#"):
            yield blob_id[1:]


def _create(call: Call, record: sets.Record) -> sets.Record:
    type_, sources = _media_type(record), _sources(record)
    store, now = call.account.store, time.time()
    if uploads.stored(store, now) > MAX_STORED:
        raise SetError("overQuota", "There are too many unused uploads; they expire after a week.")
    try:
        made = uploads.make(store, type_, lambda path: _write(call, path, sources), now)
    except (MethodError, UpstreamError) as error:
        # A source lies upstream, and upstream is away: the other creations are none the worse.
        raise SetError("serverFail", "A blob cannot be read at the moment.") from error
    return {"id": made.id, "type": made.type, "size": made.size}


def _write(call: Call, path: Path, sources: list[Source]) -> None:
    with open(path, "wb") as target:
        for index, source in enumerate(sources):
            _append(call, target, source, index)


def _append(call: Call, target: BinaryIO, source: Source, index: int) -> None:
    if source.blob_id is None:
        _fits(call, target, len(source.octets))
        target.write(source.octets)
        return
    with opened(call, source.blob_id) as found:
        if found is None:
            raise _invalid(f"data/{index}/blobId", "There is no such blob")
        file, ref = found
        part = select(ref.size, source.offset, source.length)
        if not part.complete:
            # RFC 9404 §4.1: a range that cannot be fully satisfied makes the source invalid.
            raise _invalid(f"data/{index}", f"The blob has {ref.size} octets")
        _fits(call, target, part.length)
        for octets in pieces(file, part):
            target.write(octets)


def _fits(call: Call, target: BinaryIO, more: int) -> None:
    limit = call.limits.max_size_upload
    if target.tell() + more > limit:
        raise SetError("tooLarge", f"A blob may have {limit} octets", maxSize=limit)


def _media_type(record: sets.Record) -> str:
    for name in record.keys() - {"data", "type"}:
        raise _invalid(name[:100], "There is no such property")
    value = record.get("type")
    if value is None:
        return DEFAULT_TYPE
    if not isinstance(value, str) or not _TYPE.fullmatch(value):
        raise _invalid("type", "Not a media type")
    return value


def _sources(record: sets.Record) -> list[Source]:
    data = record.get("data")
    if not isinstance(data, list):
        raise _invalid("data", "An array of data sources is needed")
    if len(data) > MAX_SOURCES:
        raise _invalid("data", f"At most {MAX_SOURCES} data sources")
    return [_source(each, index) for index, each in enumerate(data)]


def _source(value: Any, index: int) -> Source:
    """RFC 9404 §4.1: exactly one of text, base64 and a blob; nothing is guessed."""
    where = f"data/{index}"
    given = {name: each for name, each in value.items() if each is not None} if isinstance(value, dict) else {}
    inline = [name for name in _DATA if name in given]
    if len(inline) == 1 and len(given) == 1:
        return Source(octets=_inline(inline[0], given[inline[0]], where))
    if "blobId" in given and given.keys() <= _RANGE:
        range_is_valid = nullable(is_uint)(given.get("offset")) and nullable(is_uint)(given.get("length"))
        if is_string(given["blobId"]) and range_is_valid:
            return Source(b"", given["blobId"], given.get("offset"), given.get("length"))
    raise _invalid(where, "A data source is one of data:asText, data:asBase64 and blobId with offset and length")


def _inline(name: str, value: Any, where: str) -> bytes:
    try:
        return _DECODE[name](value)
    except (ValueError, AttributeError, TypeError):
        raise _invalid(f"{where}/{name}", "The data cannot be decoded") from None


def _base64(text: str) -> bytes:
    return binascii.a2b_base64(text.encode("ascii"), strict_mode=True)


_DECODE: dict[str, Callable[[str], bytes]] = {
    "data:asText": lambda text: text.encode("utf-8"),
    "data:asBase64": _base64,
}


def _invalid(name: str, description: str) -> SetError:
    return SetError("invalidProperties", description, [name])
