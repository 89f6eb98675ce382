"""Responses from a transport: lexer and parser behind one ``receive``, with the deadlines."""

from __future__ import annotations

import time

import msgspec

from jmapplug_imap.protocol.errors import ConnectionBroken, ParseError, ProtocolError
from jmapplug_imap.protocol.fetch import FetchRow, Template, is_row, learn
from jmapplug_imap.protocol.lexer import Lexer, Limits, OnLiteral
from jmapplug_imap.protocol.parser import parse
from jmapplug_imap.protocol.responses import LOST_ROW, Other, Response
from jmapplug_imap.protocol.transport import Transport

PROGRESS = 16 * 1024
"""Octets that count as progress: a server that drips single octets does not hold the read deadline off."""

LEARNING = 3
"""How many rows of one FETCH are looked at for a template."""


class Timeouts(msgspec.Struct, frozen=True):
    """Seconds. ``connect``: TCP, TLS and greeting each; ``read``: silence inside an answer; ``command``: one whole

    command other than FETCH; ``idle``: silence of a server that we listen to, after which it is asked something. RFC
    2177 wants that before 29 minutes; with ``read`` it says when a connection that died silently is noticed, and many
    firewalls forget a silent one after five minutes.
    """

    connect: float = 10
    read: float = 60
    command: float = 300
    idle: float = 240


class Channel:
    """One transport and the lexer on it."""

    def __init__(self, transport: Transport, limits: Limits, read: float) -> None:
        self.transport = transport
        self.lexer = Lexer(limits)
        self._read = read
        self._template: Template | None = None
        self._learning = 0
        self._lenient = False

    def send(self, data: bytes, timeout: float) -> None:
        self.transport.send(data, timeout)

    def start_deflate(self) -> None:
        """Right after the tagged OK of COMPRESS: what follows it is compressed already."""
        self.lexer.feed(self.transport.start_deflate(self.lexer.take_rest()))

    def begin_rows(self, on_literal: OnLiteral | None, lenient: bool = False) -> None:
        """A FETCH begins: rows alike may be matched in one go. ``lenient``: one beyond reading is an Other."""
        self.lexer.on_literal = on_literal
        self._template, self._learning, self._lenient = None, LEARNING, lenient

    def end_rows(self) -> None:
        self.lexer.on_literal = None
        self._template, self._learning, self._lenient = None, 0, False

    def rows(self) -> list[FetchRow]:
        """The complete rows at the head of the buffer that are like those learned; often empty."""
        if self._template is None or (window := self.lexer.window()) is None:
            return []
        found, pos = self._template.rows(*window)
        self.lexer.advance(pos)
        return found

    def receive(self, deadline: float | None, quiet: bool = False) -> Response | None:
        """The next response. At ``deadline`` (time.monotonic) None when ``quiet``, else ConnectionBroken.

        The read timeout counts from the last progress; a quiet wait has none between two responses.
        """
        silent_since = time.monotonic()
        progress = 0
        while (frame := self.lexer.next()) is None:
            until = silent_since + self._read
            waiting = quiet and self.lexer.idle
            if deadline is not None and (waiting or not quiet):
                until = deadline if waiting else min(deadline, until)
            try:
                data = self.transport.receive(until - time.monotonic())
            except TimeoutError as error:
                if waiting:
                    return None
                raise ConnectionBroken("the server did not answer in time") from error
            self.lexer.feed(data)
            progress += len(data)
            if progress >= PROGRESS or waiting:
                silent_since, progress = time.monotonic(), 0
        try:
            response = parse(frame)
        except ParseError as error:
            if self._lenient and is_row(frame.data):
                return Other(LOST_ROW, frame.data)
            raise ProtocolError(f"an unreadable response: {error}") from error
        if self._learning and type(response) is FetchRow:
            self._learning -= 1
            self._template = learn(frame.data) or self._template
        return response
