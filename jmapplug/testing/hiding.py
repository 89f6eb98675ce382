"""A relay in front of an IMAP server that hides capabilities and counts commands."""

from __future__ import annotations

import re
from collections.abc import Iterable

from jmapplug.testing.relay import Relay


class Hiding(Relay):
    """``sent(word)``: how many lines of clients began with this command; ``met(pattern)``: how many parts of what they
    said fit; ``octets``: how many that were. ``forget`` begins anew.
    """

    def __init__(self, target: int, hide: Iterable[str] = ()) -> None:
        self._hide = [re.compile(rb" %s(?=[ \]\r])" % re.escape(name.encode())) for name in hide]
        # Each connection has its own thread: what is appended is never lost, what is added to may be.
        self._said: list[bytes] = []
        super().__init__(target)

    def sent(self, word: str) -> int:
        return self.met(rb"^\S+ %s[ \r]" % word.encode())

    def met(self, pattern: bytes) -> int:
        return len(re.findall(pattern, b"".join(self._said), re.IGNORECASE | re.MULTILINE))

    @property
    def octets(self) -> int:
        return sum(map(len, self._said))

    def forget(self) -> None:
        self._said.clear()

    def seen(self, data: bytes, upwards: bool) -> bytes:
        if upwards:
            self._said.append(data)
        elif b"CAPABILITY" in data:
            for pattern in self._hide:
                data = pattern.sub(b"", data)
        return data
