"""The exact size of a base64 part after decoding, from its length and its two ends (mail-rules 38).

A message view asks for the sizes of all parts, and no 20 MB attachment may be downloaded to tell one. The transfer-
encoded length is known from the structure. Writers of base64 cut it into lines of one length, so the first octets give
that length, and the last ones tell padding, closing line ends, and whether the lines still stand where that length puts
them. Where anything at either end is not like that, there is no answer here, and the part is decoded to be counted.
"""

from __future__ import annotations

import re

WINDOW = 1024
"""Octets read at each end; a part of up to twice that is read whole."""

_LINES = re.compile(rb"[A-Za-z0-9+/\r\n]*")
_CLOSED = re.compile(rb"([A-Za-z0-9+/\r\n]*?)(={0,2})((?:\r\n)*)")


def windows(section: str, octets: int) -> list[tuple[str, int, int]]:
    """The slices of a part of this encoded length that :func:`base64_size` wants."""
    if octets <= 2 * WINDOW:
        return [(section, 0, octets)]
    return [(section, 0, WINDOW), (section, octets - WINDOW, WINDOW)]


def base64_size(octets: int, head: bytes, tail: bytes) -> int | None:
    """Size after decoding of base64 text of this length that begins and ends so; None where that cannot be told."""
    closed = _CLOSED.fullmatch(tail)
    if closed is None or not _LINES.fullmatch(head):
        return None
    line = head.find(b"\r\n")
    if line == 0 or not _regular(head, 0, line) or not _regular(closed[1] + closed[2], octets - len(tail), line):
        return None
    end = octets - len(closed[3])
    rows, rest = divmod(end, line + 2) if line > 0 else (0, end)
    characters = rows * max(line, 0) + rest
    if characters % 4 or (line > 0 and (line % 4 or rest > line)):
        return None
    return characters // 4 * 3 - len(closed[2])


def _regular(text: bytes, offset: int, line: int) -> bool:
    """Whether line ends stand in ``text``, which begins at ``offset`` of the part, just where ``line`` puts them."""
    if line < 0:
        return b"\r" not in text and b"\n" not in text
    step = line + 2
    ends = range((line - offset) % step, len(text), step)
    feeds = [at + 1 for at in ends if at + 1 < len(text)]
    if offset % step == line + 1:
        # A line end that the window cuts in two begins with its LF.
        feeds.insert(0, 0)
    return [at for at, octet in enumerate(text) if octet in b"\r\n"] == sorted([*ends, *feeds]) and all(
        text[at] == 10 for at in feeds
    )
