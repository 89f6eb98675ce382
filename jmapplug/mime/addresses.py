"""Address lists (RFC 5322 §3.4 and §4.4), best effort as RFC 8621 §4.1.2.3 asks: nothing that was written gets lost.

Words: a *mailbox* is one address with an optional name; a *phrase* is the unquoted or quoted words before it.
Plain lists are read by one regular expression, everything else by the reader below.
"""

from __future__ import annotations

import re
from typing import TypedDict

from jmapplug.mime.words import MAX_VALUE, WORD, decode, nfc, only_words, text_of, unfold


class Address(TypedDict):
    """EmailAddress of RFC 8621 §4.1.2.3."""

    name: str | None
    email: str


class Group(TypedDict):
    """EmailAddressGroup of RFC 8621 §4.1.2.4; ``name`` is None for addresses outside a group."""

    name: str | None
    addresses: list[Address]


_PLAIN = re.compile(
    r'[ \t]*(?:"([^"\\]*)"[ \t]*<|([^"<>()\[\],:;@\\]*)<)?'
    r'([^ \t"<>()\[\],:;\\]+@[^ \t"<>()\[\],:;\\@]+)(>?)[ \t]*(,|\Z)'
)
_SPACE_OR_WORD = rf"(?P<gap>[ \t]+)|(?P<word>{WORD})"
_MARK_OR_ATOM = r'(?P<literal>\[[^\]\[<>,;]*\]?)|(?P<mark>[,;:()])|(?P<atom>(?:[^ \t"<(),;:\[=]|=(?!\?))+|.)'
_TOKEN = re.compile(
    rf'{_SPACE_OR_WORD}|(?P<quoted>"(?:[^"\\]++|\\.)*+)(?P<closed>")?|<(?P<angle>(?:[^"<>]++|"[^"<>]*+"?)*+)>?'
    rf"|{_MARK_OR_ATOM}",
    re.DOTALL,
)
# Behind a quote that nobody closed quotes mean nothing.
_UNQUOTED = re.compile(rf"{_SPACE_OR_WORD}|<(?P<angle>[^<>]*+)>?|{_MARK_OR_ATOM}", re.DOTALL)
_PAREN = re.compile(r"[^()\\]+|\\.|.", re.DOTALL)
_PAIR = re.compile(r"\\(.)", re.DOTALL)
_AROUND_MARKS = re.compile(r"[ \t]*([@.])[ \t]*")
_AROUND_AT = re.compile(r"[ \t]*@[ \t]*")


def as_addresses(value: bytes) -> list[Address]:
    """The Addresses form: every mailbox of the list, groups dissolved."""
    text = unfold(text_of(value[:MAX_VALUE]))
    found: list[Address] = []
    at, end = _plain(text, found), len(text)
    if at < end:
        for group in _Reader(text, at).read():
            found += group["addresses"]
    return found


def as_grouped_addresses(value: bytes) -> list[Group]:
    """The GroupedAddresses form: neighbours outside a group stand together under the name None."""
    text = unfold(text_of(value[:MAX_VALUE]))
    found: list[Address] = []
    at = _plain(text, found)
    groups = [Group(name=None, addresses=found)] if found else []
    if at == len(text):
        return groups
    rest = _Reader(text, at).read()
    if groups and rest and rest[0]["name"] is None:
        groups[0]["addresses"] += rest.pop(0)["addresses"]
    return groups + rest


def _plain(text: str, found: list[Address]) -> int:
    """Reads the plain mailboxes at the start of the text; answers where the first other one begins."""
    at, end, match = 0, len(text), _PLAIN.match
    while at < end:
        item = match(text, at)
        if item is None:
            return at
        quoted, phrase, email, close, mark = item.groups()
        if bool(close) != (quoted is not None or phrase is not None):
            return at
        name = quoted if quoted is not None else phrase
        if name:
            name = _name(name.strip(), quoted is not None)
        found.append({"name": name or None, "email": email if email.isascii() else nfc(email)})
        at = item.end()
        if mark and at == end:
            break
    return at


def _name(text: str, quoted: bool) -> str:
    if quoted:
        # Not allowed by RFC 2047 §5 (3), yet the commonest fault of all: a quoted string that is only encoded words.
        return nfc(decode(text) if only_words(text) else text)
    if "  " in text or "\t" in text:
        text = " ".join(text.split())
    return nfc(decode(text) if "=?" in text else text)


class _Reader:
    """One pass over a list that is not plain. State: the words and the address of the mailbox being read."""

    def __init__(self, text: str, at: int) -> None:
        self.text, self.at = text, at
        self.groups: list[Group] = []
        self.inside = False
        self.token, self.comments = _TOKEN, True
        self.clear()

    def clear(self) -> None:
        # (text, quoted, whether white space stood before)
        self.words: list[tuple[str, bool, bool]] = []
        self.angle: str | None = None
        self.comment: str | None = None
        self.gap = False

    def read(self) -> list[Group]:
        text = self.text
        while self.at < len(text):
            found = self.token.match(text, self.at)
            if found is None:  # cannot be: the last alternative takes any character
                break
            self.at = found.end()
            self.take(found)
        self.flush()
        return self.groups

    def take(self, found: re.Match[str]) -> None:
        kind, piece = found.lastgroup, found[0]
        if kind == "gap":
            self.gap = True
            return
        if kind == "mark":
            self.mark(piece)
            return
        if kind == "quoted":
            self.at, self.token = found.start() + 1, _UNQUOTED
            return
        if kind == "angle":
            if self.angle is not None:
                self.flush()
            self.angle = found["angle"]
        else:
            if self.angle is not None:
                # Words behind an address: a comma was forgotten.
                self.flush()
            self.words.append((piece, kind == "closed", self.gap))
        self.gap = False

    def mark(self, piece: str) -> None:
        if piece == "(" and self.comments:
            self.comment = self.skip_comment()
            self.gap = True
        elif piece == ":" and not self.inside and self.angle is None and self.words:
            self.groups.append(Group(name=self.phrase(self.words), addresses=[]))
            self.inside = True
            self.clear()
        elif piece in ",;":
            self.flush()
            self.inside = self.inside and piece == ","
        else:
            self.words.append((piece, False, self.gap))
            self.gap = False

    def skip_comment(self) -> str | None:
        """From behind the opening parenthesis to behind its closing one; the words inside."""
        start, kept, depth = self.at, [], 1
        while self.at < len(self.text) and depth:
            found = _PAREN.match(self.text, self.at)
            piece = found[0] if found else self.text[self.at]
            self.at += len(piece)
            depth += (piece == "(") - (piece == ")")
            if depth:
                kept.append(piece[1:] if piece[0] == "\\" else piece)
        if depth:
            # Never closed: the parenthesis goes, what follows is read as if it stood alone.
            self.at, self.comments = start, False
            return self.comment
        return nfc(decode(" ".join("".join(kept).split()))) or None

    def phrase(self, words: list[tuple[str, bool, bool]]) -> str | None:
        """A display name; quoted strings lose their quotes, encoded words are decoded."""
        pieces: list[str] = []
        run: list[str] = []
        for text, quoted, gap in words:
            if quoted:
                pieces += [_name("".join(run).strip(), False)] if run else []
                run = []
                pieces.append(_name(_PAIR.sub(r"\1", text[1:-1]).strip(), True))
            else:
                run.append(" " + text if gap and run else text)
        pieces += [_name("".join(run).strip(), False)] if run else []
        return " ".join(piece for piece in pieces if piece) or None

    def flush(self) -> None:
        name, email = self.mailbox()
        if email or name:
            if not self.inside and (not self.groups or self.groups[-1]["name"] is not None):
                self.groups.append(Group(name=None, addresses=[]))
            self.groups[-1]["addresses"].append({"name": name, "email": email})
        self.clear()

    def mailbox(self) -> tuple[str | None, str]:
        words = self.words
        if self.angle is not None:
            return self.phrase(words) or self.comment, _address(self.angle)
        if not words:
            return None, ""
        text = "".join((" " if gap else "") + word for word, _, gap in words).strip()
        quotes = any(quoted for _, quoted, _ in words)
        if not quotes and "@" in text and " " in text:
            # RFC 5322 §4.4: white space around "@" and "." of an address that stands alone.
            tight = _AROUND_MARKS.sub(r"\1", text)
            text = _AROUND_AT.sub("@", text) if " " in tight else tight
        marked = [piece for piece in text.split(" ") if "@" in piece]
        if not marked or quotes:
            at = next((n for n, word in enumerate(words) if "@" in word[0] and not word[1] and word[2]), 0)
            name = self.phrase(words[:at]) if at else None
            rest = "".join((" " if gap and n else "") + word for n, (word, _, gap) in enumerate(words[at:]))
            return name or self.comment, nfc(decode(rest))
        # "John Doe john@example.com": the angle brackets were forgotten.
        name = " ".join(piece for piece in text.split(" ") if piece != marked[0])
        return (_name(name, False) if name else None) or self.comment, nfc(marked[0])


def _address(angle: str) -> str:
    """The addr-spec between angle brackets: white space and the route of RFC 5322 §4.4 go."""
    text = angle.strip()
    if '"' not in text:
        text = "".join(text.split())
    if text.startswith("@") and ":" in text:
        text = text[text.index(":") + 1 :]
    return nfc(text)
