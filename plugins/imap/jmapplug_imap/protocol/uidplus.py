"""Where appended and copied messages are now: APPENDUID and COPYUID (RFC 4315 §3, RFC 3502, RFC 6851 §4.3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from jmapplug_imap.protocol import sets
from jmapplug_imap.protocol.dialogue import Result
from jmapplug_imap.protocol.errors import ParseError, ProtocolError
from jmapplug_imap.protocol.responses import Code, Status

BOUND = 1_000_000
"""More messages than one command of ours ever names."""


class AppendUid(msgspec.Struct, frozen=True):
    """Of the messages appended, in order."""

    uidvalidity: int
    uids: tuple[int, ...]


class CopyUid(msgspec.Struct, frozen=True):
    """UID in the source → UID in the target, whose ``uidvalidity`` it is."""

    uidvalidity: int
    uids: dict[int, int]


def append_uid(result: Result) -> AppendUid | None:
    """None where the server does not tell, or tells nonsense."""
    for code in _codes(result, "APPENDUID"):
        numbers = _numbers(code, 1)
        if code.number and numbers:
            return AppendUid(code.number, numbers)
    return None


def copy_uid(result: Result) -> CopyUid | None:
    """From the tagged OK (COPY) or an untagged one (MOVE: some servers send several); None where it is not told."""
    found: dict[int, int] = {}
    validity = None
    for code in _codes(result, "COPYUID"):
        old, new = _numbers(code, 1), _numbers(code, 2)
        if not code.number or not old or len(old) != len(new):
            return None
        validity = code.number
        found.update(zip(old, new, strict=True))
    return None if validity is None else CopyUid(validity, found)


def _codes(result: Result, name: str) -> Iterator[Code]:
    untagged: Iterable[Code | None] = (status.code for status in result.of(Status))
    return (code for code in (*untagged, result.code) if code is not None and code.name == name)


def _numbers(code: Code, index: int) -> tuple[int, ...]:
    """RFC 4315 §3: the sets are in the order of the messages. () for what is none."""
    try:
        word = code.values[index]
        return tuple(sets.expand(sets.parse(word if isinstance(word, bytes) else b""), BOUND))
    except (IndexError, ParseError, ProtocolError):
        return ()
