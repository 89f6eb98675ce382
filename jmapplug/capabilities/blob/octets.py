"""A blob's octets in ranges: opened once, read in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple

from jmapplug.jmap.checks import is_id
from jmapplug.jmap.methods import Call
from jmapplug.jmap.sets import resolved
from jmapplug.store.pace import breathe

PIECE = 256 * 1024
_TRIES = 3


class Range(NamedTuple):
    """What of a blob is there of the octets asked for; ``complete``: all of them."""

    offset: int
    length: int
    complete: bool


def select(size: int, offset: int | None, length: int | None) -> Range:
    """The part of ``offset``, ``length`` that lies in a blob of ``size`` octets (RFC 9404 §4.2).

    Without a length it is all that is left: complete, unless it begins past the end.
    """
    start = offset or 0
    wanted = max(size - start, 0) if length is None else length
    there = min(wanted, max(size - start, 0))
    return Range(min(start, size), there, start <= size and there == wanted)


@contextmanager
def opened(call: Call, blob_id: str) -> Iterator[tuple[BinaryIO, Any] | None]:
    """The open file and BlobRef of a blob ("#" references too), None where there is none.

    Raises MethodError serverUnavailable and UpstreamError where it lies upstream and that is away.
    """
    id_ = resolved(call, blob_id)
    if not is_id(id_):
        yield None
        return
    for _ in range(_TRIES):
        ref = call.account.blob(id_)
        if ref is None:
            break
        try:
            file = open(ref.path, "rb")  # noqa: SIM115 - closed below
        except FileNotFoundError:  # evicted meanwhile: asking again brings it back
            continue
        with file:
            yield file, ref
        return
    yield None


def pieces(file: BinaryIO, part: Range) -> Iterator[bytes]:
    """The octets of a range, giving way to other requests in between. Raises EOFError when the file is shorter."""
    file.seek(part.offset)
    left = part.length
    while left:
        octets = file.read(min(left, PIECE))
        if not octets:
            raise EOFError
        left -= len(octets)
        yield octets
        breathe()
