"""Just enough of Sieve's grammar (RFC 5228 §2, §8.1) to see what a script runs, and how a string is written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

# Every alternative takes what it began with, whatever comes: nothing is looked at twice.
_TOKEN = re.compile(
    r"(?P<skip>\s+|\#[^\n]*|/\*(?:.*?\*/|.*\Z))"
    r'|"(?P<string>(?:[^"\\]|\\.)*+)(?:"|\\?\Z)'
    r"|text:[ \t]*(?:\#[^\n]*)?\r?\n(?P<text>.*?)(?:\r?\n\.(?:\r?\n|\Z)|\Z)"
    r"|(?P<word>:?[A-Za-z_][A-Za-z0-9_]*)|(?P<other>.)",
    re.DOTALL,
)


def tokens(script: bytes) -> Iterator[tuple[str, str]]:
    """("word", "fileinto"), (":word" for tags too), ("string", "INBOX.x"), ("other", ";"). Never raises."""
    for match in _TOKEN.finditer(script.decode("utf-8", "replace")):
        kind = match.lastgroup
        if kind == "word":
            yield "word", match["word"].lower()
        elif kind in ("string", "text"):
            yield "string", re.sub(r"\\(.)", r"\1", match[kind], flags=re.DOTALL) if kind == "string" else match[kind]
        elif kind == "other":
            yield "other", match["other"]


def commands(script: bytes) -> set[str]:
    """Every word outside comments and strings, in lower case."""
    return {value for kind, value in tokens(script) if kind == "word"}


@lru_cache(maxsize=8)
def includes(script: bytes) -> tuple[str, ...]:
    """The names that ``include`` takes from the user's own scripts (RFC 6609 §3.2), in order."""
    if b"include" not in script.lower():
        return ()
    found: list[str] = []
    including = personal = False
    for kind, value in tokens(script):
        if kind == "word":
            if not value.startswith(":"):
                including, personal = value == "include", True
            elif value == ":global":
                personal = False
        elif kind == "string" and including:
            if personal:
                found.append(value)
            including = False
        elif value == ";":
            including = False
    return tuple(found)


def quoted(text: str) -> str:
    """A quoted string (RFC 5228 §2.4.2): every line break as CRLF, without what a script may not hold."""
    lines = text.replace("\0", "\ufffd").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return '"' + "\r\n".join(lines).replace("\\", "\\\\").replace('"', '\\"') + '"'
