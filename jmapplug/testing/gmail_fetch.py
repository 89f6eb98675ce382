"""The grammar of the tests' Gmail: commands in tokens, FETCH items, sets and search criteria in words."""

from __future__ import annotations

import imaplib
import re
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from jmapplug.mime.structure import Part, parse
from jmapplug.testing.gmail_store import Account, Folder, Message, Refused, field_of

if TYPE_CHECKING:
    from jmapplug.testing.gmail_connection import Connection

LITERAL = re.compile(rb"\{(\d+)(\+?)\}\Z")
_SECTION = re.compile(r"BODY(?:\.PEEK)?\[(.*?)\](?:<(\d+)\.(\d+)>)?\Z", re.IGNORECASE | re.DOTALL)


class Token:
    """A word of a command; ``raw`` its octets. A parenthesised list is a Python list of these."""

    __slots__ = ("raw",)

    def __init__(self, raw: bytes) -> None:
        self.raw = raw

    def __str__(self) -> str:
        return self.raw.decode("utf-8", "surrogateescape")


def tokens(octets: bytes) -> list[Any]:
    """Raises IndexError, ValueError."""
    found: list[Any] = []
    stack: list[list[Any]] = []
    at = 0
    while at < len(octets):
        char = octets[at : at + 1]
        if char == b" ":
            at += 1
        elif char == b"(":
            stack.append(found)
            found = []
            at += 1
        elif char == b")":
            inner, found = found, stack.pop()
            found.append(inner)
            at += 1
        elif char == b'"':
            match = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.DOTALL).match(octets, at)
            assert match
            found.append(Token(re.sub(rb"\\(.)", rb"\1", match[1])))
            at = match.end()
        elif literal := re.compile(rb"\{(\d+)\+?\}\r\n").match(octets, at):
            at = literal.end() + int(literal[1])
            found.append(Token(octets[literal.end() : at]))
        else:
            match = re.compile(rb"(?:\[[^\]]*\]|[^ ()\[])+").match(octets, at)
            assert match
            found.append(Token(match[0]))
            at = match.end()
    return found


def quoted(text: str) -> bytes:
    raw = text.encode("utf-8", "surrogateescape")
    if re.search(rb"[^\x20-\x7e]", raw):
        return literal(raw)
    return b'"' + re.sub(rb'(["\\])', rb"\\\1", raw) + b'"'


def literal(raw: bytes) -> bytes:
    return b"{%d}\r\n%s" % (len(raw), raw)


def pattern(text: str) -> re.Pattern[str]:
    """A LIST pattern."""
    words = {"*": ".*", "%": "[^/]*"}
    return re.compile("".join(words.get(char, re.escape(char)) for char in text), re.IGNORECASE)


def numbers(words: str, last: int) -> set[int]:
    """A sequence set; ``*`` is ``last``."""
    found: set[int] = set()
    for word in words.split(","):
        ends = [last if end == "*" else int(end) for end in word.split(":")]
        low, high = min(ends), max(ends)
        found.update(range(low, min(high, max(last, low)) + 1))
    return found


def compact(ordered: Iterable[int]) -> str:
    return ",".join(str(number) for number in ordered)


listed = compact


def internal_time(text: str) -> int:
    parsed = imaplib.Internaldate2tuple(b'INTERNALDATE "' + text.encode() + b'"')
    if parsed is None:
        raise ValueError("date")
    return int(time.mktime(parsed))


# --- FETCH ------------------------------------------------------------------------------------------------------------


def item(account: Account, folder: Folder, uid: int, name: str) -> bytes:
    """``NAME value``. Raises Refused, KeyError."""
    message = folder.messages[uid]
    section = _SECTION.match(name)
    if section is not None:
        return _section(message, section)
    label = name.upper()
    return label.encode() + b" " + _ITEMS[label](account, folder, uid, message)


def _date(message: Message) -> bytes:
    when = time.gmtime(message.date)
    return b'"' + time.strftime("%d-%b-%Y %H:%M:%S +0000", when).encode() + b'"'


def _labels(account: Account, folder: Folder, uid: int, message: Message) -> bytes:
    return b"(" + b" ".join(quoted(label) for label in account.labels(message, folder.name)) + b")"


_ITEMS: dict[str, Callable[[Account, Folder, int, Message], bytes]] = {
    "UID": lambda account, folder, uid, message: b"%d" % uid,
    "FLAGS": lambda account, folder, uid, message: f"({' '.join(message.shown(folder.name))})".encode(),
    "INTERNALDATE": lambda account, folder, uid, message: _date(message),
    "RFC822.SIZE": lambda account, folder, uid, message: b"%d" % len(message.raw),
    "MODSEQ": lambda account, folder, uid, message: b"(%d)" % folder.modseq[uid],
    "X-GM-MSGID": lambda account, folder, uid, message: b"%d" % message.msgid,
    "X-GM-THRID": lambda account, folder, uid, message: b"%d" % message.thrid,
    "X-GM-LABELS": _labels,
    "BODYSTRUCTURE": lambda account, folder, uid, message: structure(parse(message.raw), message.raw),
}


def _section(message: Message, match: re.Match[str]) -> bytes:
    raw, name = message.raw, match[1]
    octets = section_of(raw, name)
    shown = f"BODY[{name}]"
    if match[2] is not None:
        start, count = int(match[2]), int(match[3])
        octets = None if octets is None else octets[start : start + count]
        shown += f"<{start}>"
    return shown.encode() + b" " + (b"NIL" if octets is None else literal(octets))


def section_of(raw: bytes, name: str) -> bytes | None:
    root = parse(raw)
    head = raw[: root.body]
    upper = name.upper()
    if upper == "":
        return raw
    if upper == "HEADER":
        return head
    if upper == "TEXT":
        return raw[root.body :]
    fields = re.match(r"HEADER\.FIELDS \((.*)\)", name, re.IGNORECASE)
    if fields:
        wanted = {field.encode().lower().strip(b'"') for field in fields[1].split()}
        rows = re.findall(rb"[^\n]*\n(?:[ \t][^\n]*\n)*", head)
        return b"".join(row for row in rows if row.partition(b":")[0].strip().lower() in wanted) + b"\r\n"
    mime = upper.endswith(".MIME")
    part = next((one for one in root.walk() if one.section == upper.removesuffix(".MIME")), None)
    if part is None:
        return None
    return raw[part.header : part.body] if mime else raw[part.body : part.end]


def structure(part: Part, raw: bytes) -> bytes:
    kind, _, subtype = part.type.partition("/")
    if part.multipart:
        inner = b"".join(structure(each, raw) for each in part.parts)
        return b"(" + inner + b" " + quoted(subtype) + b' ("boundary" "x") NIL NIL NIL)'
    params = [("charset", part.charset), ("name", part.name)]
    words = [quoted(name) + b" " + quoted(value) for name, value in params if value]
    body = raw[part.body : part.end]
    rows: list[bytes] = [
        quoted(kind),
        quoted(subtype),
        b"(" + b" ".join(words) + b")" if words else b"NIL",
        quoted(f"<{part.cid}>") if part.cid else b"NIL",
        b"NIL",
        quoted(part.encoding),
        b"%d" % len(body),
    ]
    if part.type == "message/rfc822":
        rows += [b"(" + b" ".join([b"NIL"] * 10) + b")", structure(parse(body), body)]
    if kind == "text" or part.type == "message/rfc822":
        rows.append(b"%d" % body.count(b"\n"))
    name = b' ("filename" ' + quoted(part.name) + b")" if part.name else b" NIL"
    disposition = b"(" + quoted(part.disposition) + name + b")" if part.disposition else b"NIL"
    return b"(" + b" ".join([*rows, b"NIL", disposition, b"NIL", b"NIL"]) + b")"


# --- SEARCH -----------------------------------------------------------------------------------------------------------

Test = Callable[[int], bool]


def criteria(connection: Connection, args: list[Any]) -> Test:
    """All of ``args``. Raises Refused, ValueError."""
    tests: list[Test] = []
    while args:
        tests.append(_one(connection, args))
    return lambda uid: all(test(uid) for test in tests)


def _one(connection: Connection, args: list[Any]) -> Test:
    folder = connection.there
    first = args.pop(0)
    if isinstance(first, list):
        return criteria(connection, first)
    word = str(first).upper()
    if word in _FLAG_KEYS:
        flag, wanted = _FLAG_KEYS[word]
        return lambda uid: (flag in folder.messages[uid].shown(folder.name)) is wanted
    if word == "ALL":
        return lambda uid: True
    if word == "NOT":
        inner = _one(connection, args)
        return lambda uid: not inner(uid)
    if word == "OR":
        one, two = _one(connection, args), _one(connection, args)
        return lambda uid: one(uid) or two(uid)
    if word == "UID":
        uids = set(connection.uids(args.pop(0), True))
        return lambda uid: uid in uids
    if word in ("X-GM-MSGID", "X-GM-THRID"):
        number, which = int(str(args.pop(0))), word[5:].lower()
        return lambda uid: getattr(folder.messages[uid], which) == number
    if word == "HEADER":
        name, value = str(args.pop(0)), args.pop(0).raw.lower()
        return lambda uid: value in field_of(folder.messages[uid].raw, name).lower()
    if word in ("TEXT", "BODY", "SUBJECT", "FROM", "TO", "CC", "BCC"):
        value = args.pop(0).raw.lower()
        return lambda uid: value in _text(folder.messages[uid], word).lower()
    if re.fullmatch(r"[\d:*,]+", word):
        some = set(connection.uids(first, False))
        return lambda uid: uid in some
    raise Refused("[CANNOT] unknown search key " + word)


_FLAG_KEYS = {
    prefix + name: (flag, prefix == "")
    for name, flag in {
        "DELETED": "\\Deleted", "SEEN": "\\Seen", "FLAGGED": "\\Flagged", "DRAFT": "\\Draft", "ANSWERED": "\\Answered",
    }.items()
    for prefix in ("", "UN")
}  # fmt: skip


def _text(message: Message, word: str) -> bytes:
    if word == "TEXT":
        return message.raw
    if word == "BODY":
        return message.raw[parse(message.raw).body :]
    return field_of(message.raw, word.lower())
