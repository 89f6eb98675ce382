"""Sets of message numbers (RFC 9051 §9 sequence-set): "1,3:7" both ways, with bounds against hostile sizes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

from jmapplug_imap.protocol.errors import ParseError, ProtocolError

Ranges: TypeAlias = tuple[tuple[int, int], ...]
"""Inclusive ranges, each low ≤ high, in the server's order."""

MAX_NUMBER = 2**32 - 1
MAX_RANGES = 2_000_000


def ranges_of(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Ascending, joined inclusive ranges of any numbers (duplicates and order do not matter)."""
    found: list[tuple[int, int]] = []
    low = high = -1
    for number in sorted(numbers):
        if number <= high:
            continue
        if number == high + 1 and low >= 0:
            high = number
            continue
        if low >= 0:
            found.append((low, high))
        low = high = number
    if low >= 0:
        found.append((low, high))
    return found


def compress(numbers: Iterable[int]) -> str:
    """The shortest plain set: [1, 2, 3, 7] → "1:3,7"; "" for nothing."""
    return ",".join(f"{low}:{high}" if high > low else str(low) for low, high in ranges_of(numbers))


def chunks(numbers: Iterable[int], octets: int = 8000) -> Iterator[str]:
    """The set of ``numbers`` cut into sets of at most ``octets`` octets each (RFC 7162 §4: keep lines under 8192)."""
    words: list[str] = []
    length = 0
    for low, high in ranges_of(numbers):
        word = f"{low}:{high}" if high > low else str(low)
        if words and length + len(word) + 1 > octets:
            yield ",".join(words)
            words, length = [], 0
        words.append(word)
        length += len(word) + 1
    if words:
        yield ",".join(words)


def parse(text: bytes) -> Ranges:
    """A set as a server writes it. Raises ParseError for anything else, "*" too (a server never means it)."""
    found: list[tuple[int, int]] = []
    for word in text.split(b","):
        low, colon, high = word.partition(b":")
        if not low.isdigit() or (colon and not high.isdigit()) or len(word) > 41:
            raise ParseError("not a set of numbers")
        first, last = int(low), int(high) if colon else int(low)
        if max(first, last) > MAX_NUMBER:
            raise ParseError("a message number over 32 bits")
        # RFC 9051 §9: 4:2 and 2:4 are the same.
        found.append((first, last) if first <= last else (last, first))
        if len(found) > MAX_RANGES:
            raise ParseError("too many ranges")
    return tuple(found)


def expand(ranges: Iterable[tuple[int, int]], bound: int = 5_000_000) -> Iterator[int]:
    """Each number, at most ``bound`` of them; ProtocolError past that. Intersect first where the known set is small."""
    count = 0
    for low, high in ranges:
        count += high - low + 1
        if count > bound:
            raise ProtocolError("a set of too many numbers")
        yield from range(low, high + 1)


def within(numbers: Iterable[int], ranges: Ranges) -> list[int]:
    """Those of ``numbers`` (ascending) that lie in ``ranges``; never expands a range."""
    ordered = sorted(ranges)
    found: list[int] = []
    index = 0
    for number in numbers:
        while index < len(ordered) and ordered[index][1] < number:
            index += 1
        if index < len(ordered) and ordered[index][0] <= number:
            found.append(number)
    return found
