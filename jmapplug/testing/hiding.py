"""A relay in front of an IMAP server that hides capabilities and counts commands."""

from __future__ import annotations

import re
from collections.abc import Iterable

from jmapplug.testing.relay import Relay


class Hiding(Relay):
    """``sent(word)``: how many lines of clients began with this command; ``said(pattern)``: whether any part fits."""

    def __init__(self, target: int, hide: Iterable[str] = ()) -> None:
        self._hide = [re.compile(rb" %s(?=[ \]\r])" % re.escape(name.encode())) for name in hide]
        self._said: list[bytes] = []
        super().__init__(target)

    def sent(self, word: str) -> int:
        return len(re.findall(rb"(?im)^\S+ %s[ \r]" % word.encode(), b"".join(self._said)))

    def said(self, pattern: bytes) -> bool:
        return re.search(pattern, b"".join(self._said), re.IGNORECASE) is not None

    def seen(self, data: bytes, upwards: bool) -> bytes:
        if upwards:
            self._said.append(data)
        elif b"CAPABILITY" in data:
            for pattern in self._hide:
                data = pattern.sub(b"", data)
        return data
