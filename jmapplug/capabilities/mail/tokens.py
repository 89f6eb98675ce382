"""The words of a search: text → terms → FTS5 expression, and the same words found again in a text.

One semantics for the index, for messages not indexed yet and for snippets (mail-rules 37). Words are runs of letters
and digits, compared without case and diacritics, whole; ``word*`` is a prefix. A *term* is a sequence of words that
must follow one another: a quoted phrase, or what stands between blanks ("bob@example.org" is three words). All terms
must be present (RFC 8621 §4.4.1). Scripts written without blanks have one word per character.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache

import msgspec

MAX_QUERY = 2_000
"""Characters of a search text that are looked at."""
MAX_TERMS = 64

# Thai, Lao, Myanmar, Khmer, kana, bopomofo, Han, Hangul: no blanks between words, or particles glued to them.
_DENSE = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u312f\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
_HAS_DENSE = re.compile(f"[{_DENSE}]")
# A letter or digit with the marks on it; a dense character is a word of its own.
_WORD = re.compile(f"[{_DENSE}]|(?:[^\\W_{_DENSE}][\u0300-\u036f]*)+")
_CONTROLS = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_ESCAPED = re.compile(r"\\(['\"\\])")


class Term(msgspec.Struct, frozen=True, gc=False):
    """Words in sequence. ``text`` is what the client wrote, without quotes and star; ``words`` are folded."""

    text: str
    words: tuple[str, ...]
    prefix: bool = False


Terms = tuple[Term, ...]


def parse(text: str) -> Terms:
    """The terms of a search text; ``()`` for a blank one and for ``*`` alone, which every Email matches.

    Never raises: quotes that match nothing are text.
    """
    return _parse(text[:MAX_QUERY])


@lru_cache(maxsize=64)
def _parse(text: str) -> Terms:
    text = _CONTROLS.sub(" ", text)
    found = [term for term in map(_term, _chunks(text)) if term is not None]
    # "rock & roll": a sign alone is no word, and is asked for only where nothing else is.
    return tuple([term for term in found if term.words] or found)[:MAX_TERMS]


def _chunks(text: str) -> Iterator[str]:
    """What stands between blanks or between matched quotes; a star behind a closing quote belongs to it."""
    at, size = 0, len(text)
    while at < size:
        char = text[at]
        if char.isspace():
            at += 1
            continue
        end = _closing(text, at) if char in "'\"" else -1
        if end > 0:
            star = text[end + 1 : end + 2] == "*"
            yield _ESCAPED.sub(r"\1", text[at + 1 : end]) + ("*" if star else "")
            at = end + 1 + star
            continue
        end = at
        while end < size and not text[end].isspace():
            end += 1
        yield text[at:end]
        at = end


def _closing(text: str, start: int) -> int:
    """Where the quote at ``start`` is closed; -1 if nowhere. RFC 8621 §4.4.1: a backslash escapes in a phrase."""
    quote, at = text[start], start + 1
    while at < len(text):
        if text[at] == "\\":
            at += 1
        elif text[at] == quote and not text[at + 1 : at + 2].isalnum():
            return at
        at += 1
    return -1


def _term(raw: str) -> Term | None:
    prefix = raw.endswith("*") and len(raw) > 1
    text = (raw[:-1] if prefix else raw).strip()
    if not text.strip("*"):
        return None
    words = tuple(fold(match[0]) for match in _WORD.finditer(text))
    # "!!!*" has nothing that a prefix could be of.
    return Term(text, words, prefix and bool(words) and text[-1:].isalnum())


@lru_cache(maxsize=4096)
def fold(word: str) -> str:
    """A word without case and diacritics, as the index keeps it."""
    if word.isascii():
        return word.lower()
    bare = "".join(char for char in unicodedata.normalize("NFD", word) if not "\u0300" <= char <= "\u036f")
    return unicodedata.normalize("NFC", bare).lower()


def indexable(text: str) -> str:
    """Text as it goes into the index: where the index's own idea of words might differ from ours, ours, folded."""
    if text.isascii():
        return text
    return " ".join(fold(match[0]) for match in _WORD.finditer(text))


def expression(terms: Terms, columns: Iterable[str] = ()) -> str | None:
    """The FTS5 query for ``terms`` in ``columns`` (none: all); None where a term has no word: nothing can match.

    Words go in as quoted strings: whatever a client writes cannot become FTS5 syntax.
    """
    if not terms or not all(term.words for term in terms):
        return None
    body = " AND ".join(_phrase(term) for term in terms)
    names = " ".join(f'"{name}"' for name in columns)
    return f"{{{names}}} : ({body})" if names else body


def any_expression(terms: Terms, column: str) -> str | None:
    """The FTS5 query for at least one of ``terms`` in a column."""
    body = " OR ".join(_phrase(term) for term in terms if term.words)
    return f'{{"{column}"}} : ({body})' if body else None


def _phrase(term: Term) -> str:
    words = " ".join(term.words).replace('"', " ")
    return f'"{words}"*' if term.prefix else f'"{words}"'


class Words(msgspec.Struct, frozen=True):
    """The words of one text with their places in it."""

    folded: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]


def words(text: str) -> Words:
    """Every word of ``text``, folded, with its span in ``text``."""
    folded, spans = [], []
    for match in _WORD.finditer(text):
        folded.append(fold(match[0]))
        spans.append(match.span())
    return Words(tuple(folded), tuple(spans))


def occurrences(term: Term, found: Words) -> list[tuple[int, int]]:
    """The spans where ``term`` stands, in order."""
    first, length = term.words[0] if term.words else None, len(term.words)
    if first is None:
        return []
    spans = []
    for at, word in enumerate(found.folded):
        if (word == first or (length == 1 and term.prefix and word.startswith(first))) and _follows(term, found, at):
            spans.append((found.spans[at][0], found.spans[at + length - 1][1]))
    return spans


def _follows(term: Term, found: Words, at: int) -> bool:
    here = found.folded[at : at + len(term.words)]
    if len(here) < len(term.words):
        return False
    last = here[-1].startswith(term.words[-1]) if term.prefix else here[-1] == term.words[-1]
    return last and here[:-1] == term.words[:-1]


def present(terms: Terms, texts: Iterable[Words]) -> bool:
    """Whether every term stands in at least one of ``texts``."""
    texts = tuple(texts)
    return all(any(occurrences(term, found) for found in texts) for term in terms)


def longest_word(terms: Terms) -> str | None:
    """The longest single word as the client wrote it: what an upstream search can look for, to find candidates."""
    candidates = [match[0] for term in terms for match in _WORD.finditer(term.text)]
    runs = [match[0] for term in terms for match in re.finditer(r"\w+", term.text)]
    dense = [run for run in runs if _HAS_DENSE.search(run)]
    return max(dense or candidates, key=len, default=None)
