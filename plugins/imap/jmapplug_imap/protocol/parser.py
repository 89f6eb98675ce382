"""Frames to typed responses: one table of readers (RFC 9051 §7)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from jmapplug_imap.protocol import sets, values
from jmapplug_imap.protocol.errors import ParseError
from jmapplug_imap.protocol.fetch import parse_row
from jmapplug_imap.protocol.lexer import Frame
from jmapplug_imap.protocol.responses import (
    Capability,
    Code,
    Continuation,
    Enabled,
    Esearch,
    Exists,
    Expunge,
    Flags,
    Listed,
    MailboxStatus,
    MyRights,
    Namespace,
    Namespaces,
    Other,
    QuotaRoots,
    QuotaUsage,
    Recent,
    Response,
    Search,
    ServerId,
    Status,
    Vanished,
)  # fmt: skip

TEXT_MAX = 500
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_UNTAGGED = re.compile(rb"\* (?:(\d{1,10}) )?([A-Za-z][A-Za-z0-9.\-_]*) *")
_TAGGED = re.compile(rb"([A-Za-z0-9]{1,20}) (OK|NO|BAD)(?: |\Z)", re.IGNORECASE)
# The argument ends at the first "]" outside parentheses (PERMANENTFLAGS, BADCHARSET).
_CODE = re.compile(rb"\[([A-Za-z][A-Za-z0-9\-/.+=]{0,99})(?: ((?:\([^()]*\)|[^\](]|\((?![^()]*\)))*))?\] ?")


def clean(raw: bytes) -> str:
    """A server's text for people, bounded and without control characters."""
    return _CONTROLS.sub(" ", raw[: TEXT_MAX * 4].decode("utf-8", "replace"))[:TEXT_MAX].strip()


def parse(frame: Frame) -> Response:
    """One frame as a response. Raises ParseError where the octets are no such response."""
    data = frame.data
    if data[:2] == b"* ":
        return _untagged(frame)
    if data[:1] == b"+":
        return Continuation(data[1:].lstrip(b" "))
    tagged = _TAGGED.match(data)
    if tagged is None:
        raise ParseError("neither an untagged nor a tagged response")
    return _status(tagged[2].decode().upper(), data[tagged.end() :], tagged[1].decode())


def _untagged(frame: Frame) -> Response:
    head = _UNTAGGED.match(frame.data)
    if head is None:
        return Other("", frame.data[2:])
    name = head[2].decode().upper()
    if head[1] is not None:
        numbered = _NUMBERED.get(name)
        return numbered(frame, int(head[1])) if numbered else Other(name, frame.data[head.end() :], int(head[1]))
    reader = _READERS.get(name)
    return reader(frame, head.end()) if reader else Other(name, frame.data[head.end() :])


def _status(kind: str, rest: bytes, tag: str = "") -> Status:
    found = _CODE.match(rest)
    if found is None:
        return Status(kind, clean(rest), None, tag)
    arguments: list[Any] = []
    if found[2]:
        try:
            arguments = values.values(Frame(found[2]), 0)
        except ParseError:
            arguments = [found[2]]
    return Status(kind, clean(rest[found.end() :]), Code(found[1].decode().upper(), tuple(arguments)), tag)


def _untagged_status(kind: str) -> Callable[[Frame, int], Response]:
    return lambda frame, pos: _status(kind, frame.data[pos:])


def _capability(frame: Frame, pos: int) -> Response:
    return Capability(frozenset(name.decode("latin-1").upper() for name in frame.data[pos:].split()))


def _enabled(frame: Frame, pos: int) -> Response:
    return Enabled(frozenset(name.decode("latin-1").upper() for name in frame.data[pos:].split()))


def _name(item: object) -> bytes:
    # A mailbox may be called NIL.
    return b"NIL" if item is None else values.string(item)


def _separator(item: object) -> str | None:
    return values.text(item)[:1] or None


_LIST_HEAD = re.compile(rb'\(([^()]*)\) (NIL|"(?:\\?.)?") ', re.IGNORECASE | re.DOTALL)


def _listed(kind: str) -> Callable[[Frame, int], Response]:
    def read(frame: Frame, pos: int) -> Response:
        try:
            found = values.values(frame, pos)
            attributes = [values.text(name) for name in values.items(found[0])]
            separator, key, extended = found[1], _name(found[2]), values.items(found[3]) if len(found) > 3 else []
        except (ParseError, IndexError):
            # A server that does not quote odd names: the rest of the line is the name.
            head = _LIST_HEAD.match(frame.data, pos)
            if head is None or not frame.data[head.end() :]:
                raise ParseError("an unreadable LIST") from None
            attributes = [values.text(name) for name in head[1].split()]
            key, extended = frame.data[head.end() :], []
            separator = None if head[2].upper() == b"NIL" else values.unquote(head[2][1:-1])
        data = _extended(extended)
        old = values.items(data.get("OLDNAME"))
        return Listed(
            key,
            _separator(separator),
            frozenset(name.lower() for name in attributes),
            _name(old[0]) if old else None,
            tuple(values.text(name).upper() for name in values.items(data.get("CHILDINFO"))),
            kind,
        )

    return read


def _extended(pairs: list[Any]) -> dict[str, Any]:
    """RFC 5258 §6 extended data items: ``("OLDNAME" ("x") "CHILDINFO" (…))``; some put each pair in parentheses."""
    flat: list[Any] = []
    for item in pairs:
        flat.extend(item if type(item) is list and item and values.text(item[0]).upper() in _EXTENDED else [item])
    return {
        values.text(name).upper(): value if type(value) is list else [value]
        for name, value in zip(flat[::2], flat[1::2], strict=False)
    }


_EXTENDED = frozenset({"OLDNAME", "CHILDINFO"})
_STATUS_NUMBERS = frozenset({
    "MESSAGES", "RECENT", "UIDNEXT", "UIDVALIDITY", "UNSEEN", "DELETED", "SIZE", "HIGHESTMODSEQ", "APPENDLIMIT",
    "DELETED-STORAGE",
})  # fmt: skip
_STATUS_LOOSE = re.compile(rb"(.+) (\((?:[^()]|\([^()]*\))*\)) *\Z", re.DOTALL)


def _mailbox_status(frame: Frame, pos: int) -> Response:
    try:
        key, pairs = values.values(frame, pos)
    except (ParseError, ValueError):
        loose = _STATUS_LOOSE.match(frame.data, pos)
        if loose is None:
            raise ParseError("an unreadable STATUS") from None
        key, pairs = loose[1], values.value(Frame(loose[2]), 0)[0]
    found: dict[str, int | str | None] = {}
    listed = values.items(pairs)
    for name, item in zip(listed[::2], listed[1::2], strict=False):
        word = values.text(name).upper()
        if item is None:
            found[word] = None
        elif word in _STATUS_NUMBERS:
            found[word] = values.number(item)
        else:
            found[word] = values.text(values.innermost(item))
    return MailboxStatus(_name(key), found)


def _namespaces(frame: Frame, pos: int) -> Response:
    groups = [
        tuple(
            Namespace(values.string(entry[0]), _separator(entry[1])) for entry in values.items(group) if _is_pair(entry)
        )
        for group in values.values(frame, pos)[:3]
    ]
    return Namespaces(*groups)


def _is_pair(item: object) -> bool:
    return type(item) is list and len(item) >= 2


def _my_rights(frame: Frame, pos: int) -> Response:
    found = values.values(frame, pos)
    if len(found) != 2:
        raise ParseError("an unreadable MYRIGHTS")
    return MyRights(_name(found[0]), values.text(found[1]))


def _quota_roots(frame: Frame, pos: int) -> Response:
    found = values.values(frame, pos)
    if not found:
        raise ParseError("an unreadable QUOTAROOT")
    return QuotaRoots(_name(found[0]), tuple(values.text(_name(root)) for root in found[1:]))


def _quota(frame: Frame, pos: int) -> Response:
    found = values.values(frame, pos)
    if len(found) != 2:
        raise ParseError("an unreadable QUOTA")
    words = values.items(found[1])
    triplets = zip(words[::3], words[1::3], words[2::3], strict=False)
    return QuotaUsage(
        values.text(_name(found[0])),
        tuple((values.text(name).upper(), values.number(used), values.number(limit)) for name, used, limit in triplets),
    )


_NUMBERS = re.compile(rb"([\d ]*)(?:\(MODSEQ (\d{1,20})\) *)?\Z", re.IGNORECASE)


def _search(frame: Frame, pos: int) -> Response:
    found = _NUMBERS.match(frame.data, pos)
    if found is None:
        raise ParseError("an unreadable SEARCH")
    words = found[1].split()
    if words and max(map(len, words)) > 20:
        raise ParseError("a message number over 64 bits")
    return Search(tuple(map(int, words)), int(found[2]) if found[2] else None)


def _esearch(frame: Frame, pos: int) -> Response:
    found = values.values(frame, pos)
    tag, uid = None, False
    data: dict[str, Any] = {}
    if found and type(found[0]) is list:
        correlator = found.pop(0)
        tag = values.text(correlator[1]) if len(correlator) == 2 else None
    if found and values.text(found[0]).upper() == "UID":
        uid = True
        found.pop(0)
    for name, item in zip(found[::2], found[1::2], strict=False):
        data[values.text(name).upper()] = item
    partial = data.get("PARTIAL")
    ranges = partial[1] if type(partial) is list and len(partial) == 2 else None
    low, high, count, modseq = (
        values.number(data[name]) if name in data else None for name in ("MIN", "MAX", "COUNT", "MODSEQ")
    )
    return Esearch(
        tag,
        uid,
        low,
        high,
        count,
        sets.parse(values.string(data["ALL"])) if "ALL" in data else None,
        modseq,
        sets.parse(values.string(ranges)) if ranges is not None else None,
    )


def _vanished(frame: Frame, pos: int) -> Response:
    found = values.values(frame, pos)
    earlier = bool(found) and type(found[0]) is list
    numbers = found[1:] if earlier else found
    if len(numbers) != 1:
        raise ParseError("an unreadable VANISHED")
    return Vanished(sets.parse(values.string(numbers[0])), earlier)


def _flags(frame: Frame, pos: int) -> Response:
    return Flags(tuple(values.text(name) for name in values.items(values.value(frame, pos)[0])))


def _server_id(frame: Frame, pos: int) -> Response:
    pairs = values.items(values.value(frame, pos)[0])[:60]
    return ServerId(
        {
            values.text(name).lower()[:30]: clean(item)
            for name, item in zip(pairs[::2], pairs[1::2], strict=False)
            if type(item) is bytes
        }
    )


_NUMBERED: dict[str, Callable[[Frame, int], Response]] = {
    "FETCH": lambda frame, number: parse_row(frame),
    "EXISTS": lambda frame, number: Exists(number),
    "RECENT": lambda frame, number: Recent(number),
    "EXPUNGE": lambda frame, number: Expunge(number),
}
_READERS: dict[str, Callable[[Frame, int], Response]] = {
    **{kind: _untagged_status(kind) for kind in ("OK", "NO", "BAD", "BYE", "PREAUTH")},
    "CAPABILITY": _capability,
    "ENABLED": _enabled,
    "LIST": _listed("LIST"),
    "LSUB": _listed("LSUB"),
    "STATUS": _mailbox_status,
    "NAMESPACE": _namespaces,
    "MYRIGHTS": _my_rights,
    "QUOTAROOT": _quota_roots,
    "QUOTA": _quota,
    "SEARCH": _search,
    "ESEARCH": _esearch,
    "VANISHED": _vanished,
    "FLAGS": _flags,
    "ID": _server_id,
}
