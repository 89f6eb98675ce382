"""IMAP flags ↔ JMAP keywords (RFC 8621 §4.1.1, mail-rules 13, 15).

Words: a *flag* is upstream's, in its spelling; a *keyword* is JMAP's, in lower case; *bits* are the columns of the
``email`` table's ``flags``. The flags of a copy are kept as one text: sorted, blank separated, never ``\\Recent``.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import msgspec

SEEN, DRAFT, FLAGGED, ANSWERED, HAS_ATTACHMENT, SERVER_STRUCTURE = 1, 2, 4, 8, 16, 32
UNREAD_MASK = SEEN | DRAFT
"""An Email is unread when it has neither bit: a draft never is (mail-rules 16)."""
UNSEEN = "!$seen"
"""How the keyword table keeps the absence of ``$seen``."""

_SYSTEM = {"\\seen": "$seen", "\\draft": "$draft", "\\flagged": "$flagged", "\\answered": "$answered"}
_BITS = {"$seen": SEEN, "$draft": DRAFT, "$flagged": FLAGGED, "$answered": ANSWERED}
FLAG_OF = {"$seen": "\\Seen", "$draft": "\\Draft", "$flagged": "\\Flagged", "$answered": "\\Answered"}
"""Keyword → the system flag that it is upstream; every other keyword is a flag of its own name."""
_ALL_COPIES = frozenset({"$seen", "$draft"})
_FORBIDDEN = frozenset('(){]%*"\\')
_MAX_KEYWORDS = 200


def is_keyword(text: str) -> bool:
    """Whether RFC 8621 §4.1.1 allows this as a keyword (in whatever letter case)."""
    return 0 < len(text) <= 255 and all("!" <= char <= "~" for char in text) and _FORBIDDEN.isdisjoint(text)


@lru_cache(maxsize=1024)
def canonical(flags: tuple[str, ...] | None) -> tuple[str, bool]:
    """(the text that is kept, whether ``\\Deleted`` hides the copy). None: they could not be read."""
    flags = flags or ()
    lower = {flag.lower() for flag in flags}
    kept = sorted({flag for flag in flags if flag.lower() != "\\recent" and not set(flag) & {" ", "\t", "\r", "\n"}})
    return " ".join(kept), "\\deleted" in lower


def is_visible(flags: tuple[str, ...] | None) -> bool:
    """Whether a copy with these flags is certainly to be seen; None: they could not be read."""
    return flags is not None and not canonical(flags)[1]


@lru_cache(maxsize=1024)
def keywords_of(flags: str) -> frozenset[str]:
    """The keywords of one copy. Names that JMAP does not allow are hidden (mail-rules 15)."""
    found: set[str] = set()
    for flag in flags.split():
        lower = flag.lower()
        if lower.startswith("\\"):
            if lower in _SYSTEM:
                found.add(_SYSTEM[lower])
        # A user flag that is spelt like the JMAP name of a system flag is another thing: it stays hidden.
        elif lower not in _BITS and lower != "$recent" and is_keyword(lower) and len(found) < _MAX_KEYWORDS:
            found.add(lower)
    return frozenset(found)


def merged(copies: Iterable[str]) -> frozenset[str]:
    """The keywords of an Email by its visible copies' flags: $seen and $draft need all, others one (mail-rules 15)."""
    each = {keywords_of(flags) for flags in copies}
    if len(each) == 1:
        return each.pop()
    anywhere = frozenset[str]().union(*each)
    everywhere = frozenset.intersection(*each) if each else frozenset[str]()
    return (anywhere - _ALL_COPIES) | (everywhere & _ALL_COPIES)


@lru_cache(maxsize=1024)
def as_json(keywords: frozenset[str]) -> str:
    """The ``keywords`` property, encoded."""
    return msgspec.json.encode(dict.fromkeys(sorted(keywords), True)).decode()


@lru_cache(maxsize=1024)
def from_json(text: str) -> frozenset[str]:
    """The keywords of the encoded property."""
    return frozenset(msgspec.json.decode(text, type=dict[str, bool]))


@lru_cache(maxsize=1024)
def bits(keywords: frozenset[str]) -> int:
    """The four keywords that have bits."""
    return sum(bit for keyword, bit in _BITS.items() if keyword in keywords)


@lru_cache(maxsize=1024)
def indexed(keywords: frozenset[str]) -> frozenset[str]:
    """What the keyword table holds for an Email with these keywords."""
    return keywords - {"$seen"} if "$seen" in keywords else keywords | {UNSEEN}
