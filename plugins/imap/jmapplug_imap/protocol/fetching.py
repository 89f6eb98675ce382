"""FETCH: the rows of one message or of a million, as they arrive (RFC 9051 §6.4.5, RFC 7162 §3.1.4)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any

from jmapplug_imap.protocol.bounds import Bound, count
from jmapplug_imap.protocol.channel import Channel, Timeouts
from jmapplug_imap.protocol.commands import Command, Part
from jmapplug_imap.protocol.dialogue import Dialogue, Pending
from jmapplug_imap.protocol.errors import CommandError
from jmapplug_imap.protocol.fetch import FetchRow
from jmapplug_imap.protocol.halves import Halves
from jmapplug_imap.protocol.lexer import Limits, OnLiteral
from jmapplug_imap.protocol.responses import LOST_ROW, Expunge, Other, Response, Status, Vanished
from jmapplug_imap.protocol.sets import chunks


class Fetching(Dialogue):
    """What FETCH needs besides. Public on :class:`Connection`."""

    def __init__(self, timeouts: Timeouts, limits: Limits) -> None:
        super().__init__(timeouts, limits)
        self._exists: int | None = None

    def fetch(
        self,
        uids: str | Iterable[int],
        items: Sequence[Part],
        uid: bool = True,
        on_literal: OnLiteral | None = None,
        *,
        modifiers: Sequence[Part] = (),
        on_other: Callable[[Response], None] | None = None,
        lenient: bool = False,
    ) -> Iterator[FetchRow]:
        """FETCH, rows as they arrive: ``fetch([1, 2], ["UID", "FLAGS"])``, ``fetch("1:*", […])``. Starts at next().

        ``items`` (and ``modifiers``: ``["CHANGEDSINCE", 5, "VANISHED"]``) go in parentheses. Numbers are cut into sets
        of 8,000 octets, one command each, the next one sent ahead. With ``uid`` a row that carries none is given when
        another one has told whose it is. ``on_literal(start)`` may give a binary file for a literal to go to
        (``start.section``, ``.uid``, ``.size``); a literal past ``limits.memory_literal`` without one is a
        ProtocolError, as is an answer past its :class:`Bound`. ``on_other`` gets every other untagged response
        (VANISHED, EXISTS, …); with ``lenient`` also an Other named LOST_ROW: for a row that cannot be read at all,
        which else breaks the connection, for rows whose UID nobody told, and for what may be lacking before a NO
        [EXPUNGEISSUED]. Its rows count as complete (the rest is gone); any other NO or BAD is raised after the rows.
        The connection is busy until the last row; giving up earlier breaks it.
        """
        words = [uids] if isinstance(uids, str) else list(chunks(uids))
        extra: list[Part] = [list(modifiers)] if modifiers else []
        commands: list[Command] = [
            ["UID FETCH" if uid else "FETCH", word, list(items), *extra] for word in words if word
        ]
        sizes = [count(word, self._exists) for word in words if word]
        return self._fetch(commands, sizes, uid, on_literal, on_other, lenient)

    def fetch_all(self, uids: str | Iterable[int], items: Sequence[Part], **options: Any) -> list[FetchRow]:
        """:meth:`fetch`, read to the end."""
        return list(self.fetch(uids, items, **options))

    def _fetch(
        self,
        commands: list[Command],
        sizes: list[int],
        uid: bool,
        on_literal: OnLiteral | None,
        on_other: Callable[[Response], None] | None,
        lenient: bool,
    ) -> Generator[FetchRow, None, None]:
        if not commands:
            return
        with self._exclusive():
            channel = self._open_channel()
            channel.begin_rows(on_literal, lenient)
            refusal: CommandError | None = None
            ahead = self._send(commands[:1], self._deadline(None))
            for index in range(len(commands)):
                pending = ahead.pop(0)
                if index + 1 < len(commands) and refusal is None:
                    ahead += self._send(commands[index + 1 : index + 2], self._deadline(None))
                # The time of a command sent ahead begins when the one before it has ended.
                bound = Bound(channel.lexer, self.limits, sizes[index], self.timeouts.command)
                yield from self._rows(channel, bound, pending, uid, on_other, lenient)
                outcome = self._outcome(pending)
                if isinstance(outcome, CommandError):
                    if outcome.code != "expungeissued":
                        refusal = refusal or outcome
                    elif lenient and on_other is not None:
                        on_other(Other(LOST_ROW, b""))
                if not ahead:
                    break
            channel.end_rows()
            if refusal is not None:
                raise refusal

    def _rows(
        self,
        channel: Channel,
        bound: Bound,
        pending: Pending,
        uid: bool,
        on_other: Callable[[Response], None] | None,
        lenient: bool,
    ) -> Generator[FetchRow, None, None]:
        halves = Halves()
        while pending.status is None:
            rows = channel.rows()
            yield from halves.whole(rows) if uid else rows
            response = self._receive(None)
            bound.spend(len(rows) + 1)
            if type(response) is FetchRow:
                row = halves.put(response) if uid else response
                if row is not None:
                    yield row
            elif type(response) is Status and response.tag:
                self._end(response)
            elif response is not None:
                if type(response) in (Expunge, Vanished):
                    halves.forget()
                if on_other is not None:
                    on_other(response)
        if lenient and on_other is not None and halves.lost:
            on_other(Other(LOST_ROW, b""))
