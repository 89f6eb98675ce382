"""Waiting on a connection for changes in the mailbox that is open: IDLE (RFC 2177)."""

from __future__ import annotations

import time

from jmapplug_imap.protocol.channel import Timeouts
from jmapplug_imap.protocol.dialogue import Dialogue
from jmapplug_imap.protocol.errors import ConnectionBroken, ProtocolError
from jmapplug_imap.protocol.lexer import Limits
from jmapplug_imap.protocol.responses import Capability, Continuation, Recent, Response, Status


class Idling(Dialogue):
    """A Dialogue that can wait. ``done`` may be called from another greenlet."""

    def __init__(self, timeouts: Timeouts, limits: Limits) -> None:
        super().__init__(timeouts, limits)
        self._idle = ""

    def idle(self, timeout: float | None = None) -> list[Response]:
        """Wait for changes at most ``timeout`` seconds (default ``timeouts.idle``); what came, [] at the end or done().

        Ends with the first change (EXISTS, EXPUNGE, FETCH, VANISHED, STATUS, LIST …); "still here" texts do not count.
        Raises CommandNo/CommandBad where the server refuses, ConnectionBroken.
        """
        with self._exclusive():
            until = time.monotonic() + (self.timeouts.idle if timeout is None else timeout)
            self._idle = "starting"
            try:
                return self._idling(until)
            finally:
                self._idle = ""

    def done(self) -> None:
        """End a running :meth:`idle` from another greenlet; nothing where none runs. Never raises."""
        if self._idle == "starting":
            self._idle = "stop"
        elif self._idle == "waiting":
            try:
                self._say_done()
            except (ConnectionBroken, OSError):
                self.abort()

    def _idling(self, until: float) -> list[Response]:
        pending = self._send([["IDLE"]], self._deadline(None))[0]
        events: list[Response] = []
        if not self._go_ahead(pending, self._deadline(None)):
            return self._ended(pending).untagged
        events.extend(response for response in pending.untagged if _matters(response))
        pending.untagged.clear()
        stop = self._idle == "stop"
        self._idle = "waiting"
        if events or stop:
            self._say_done()
        while self._idle == "waiting":
            response = self._receive(until, quiet=True)
            if response is None or _matters(response):
                self._say_done()
                events.extend([] if response is None else [response])
            elif type(response) is Status and response.tag:
                # RFC 2177: only DONE ends it. done() may have said so during this read.
                if self._idle == "waiting":
                    raise ProtocolError("the server ended IDLE by itself")
                self._end(response)
        self._ended(self._finish(pending, self._deadline(None)))
        return events + [response for response in pending.untagged if _matters(response)]

    def _say_done(self) -> None:
        if self._idle == "waiting":
            self._idle = "done"
            self._open_channel().send(b"DONE\r\n", self.timeouts.read)


def _matters(response: Response) -> bool:
    """Whether an untagged response is news about mail (and not a text)."""
    return type(response) not in (Status, Capability, Continuation, Recent)
