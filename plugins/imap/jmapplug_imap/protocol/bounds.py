"""How much one FETCH may be answered with, and how long (its answer is read row by row, without an end in sight).

Each response alone is bounded by :class:`Limits` and the read timeout; here is what bounds them together, so that a
server which sends small complete responses for ever is cut off. An honest server never comes near: other clients'
changes may bring a row for every message of the mailbox besides those asked for, and a cold disk takes its time.
"""

from __future__ import annotations

import time

from jmapplug_imap.protocol.errors import ParseError, ProtocolError
from jmapplug_imap.protocol.lexer import Lexer, Limits
from jmapplug_imap.protocol.sets import MAX_NUMBER, parse

ROWS = 4
"""Responses for one message."""
OCTETS = 4096
"""Octets kept of one message, besides ``Limits.fetch`` for all."""
SECONDS = 0.05
"""Time for one message, besides the command timeout for all."""
RATE = 1024
"""Octets per second that are slow but honest."""
MESSAGES = 5_000_000
"""A server may announce four billion messages; so many are believed."""


def count(numbers: str, exists: int | None) -> int:
    """At most how many messages a set names, in a mailbox with ``exists`` of them (None: not known)."""
    try:
        named = sum(high - low + 1 for low, high in parse(numbers.replace("*", str(MAX_NUMBER)).encode()))
    except ParseError:
        named = MESSAGES
    return min(named, MESSAGES if exists is None else exists + 1, MESSAGES)


class Bound:
    """The bound of one FETCH command for ``messages`` messages; ``timeout`` in seconds is for what it costs anyway."""

    def __init__(self, lexer: Lexer, limits: Limits, messages: int, timeout: float) -> None:
        self._lexer, self._literal = lexer, limits.literal
        self._responses = limits.untagged + ROWS * messages
        self._octets = limits.fetch + OCTETS * messages
        self._seconds = timeout + SECONDS * messages
        self._began, self._taken, self._sunk = time.monotonic(), lexer.taken, lexer.sunk

    def spend(self, responses: int) -> None:
        """So many more responses have come. Raises ProtocolError past the bound."""
        self._responses -= responses
        taken = self._lexer.taken - self._taken
        sunk = self._lexer.sunk - self._sunk
        if self._responses < 0:
            raise ProtocolError("too many responses to one FETCH")
        if taken - sunk > self._octets or sunk > self._literal:
            raise ProtocolError("the answer to one FETCH is larger than the limit")
        if time.monotonic() - self._began > self._seconds + taken / RATE:
            raise ProtocolError("the answer to one FETCH takes too long")
