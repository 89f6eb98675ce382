"""One connection from a process to one worker: many requests in flight on it, events on the side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
from gevent import socket
from gevent.event import AsyncResult, Event

from jmapplug.workers import context, wire
from jmapplug.workers.errors import WorkerTimeout, WorkerUnavailable, from_wire
from jmapplug.workers.wire import Kind

Reply = tuple[dict[str, Any], bytes]
EventCallback = Callable[[str, dict[str, Any]], None]


class ChannelLost(Exception):
    """The connection ended before the answer. ``sent``: the worker may have read the request."""

    def __init__(self, sent: bool) -> None:
        super().__init__("connection to the worker lost")
        self.sent = sent


class Channel:
    """``usable`` turns False once the worker said goodbye (it takes no new requests, answers
    what it has) or is gone; ``ended`` is set at the same moment.
    """

    def __init__(self, path: str, on_event: EventCallback, connect_timeout: float = 10.0) -> None:
        """Connect. Raises OSError."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(connect_timeout)
            self._socket.connect(path)
            self._socket.settimeout(None)
        except BaseException:
            self._socket.close()
            raise
        self.usable = True
        self.ended = Event()
        self._greeted = False
        self._on_event = on_event
        self._waiting: dict[int, AsyncResult[Reply]] = {}
        self._last = 0
        self._outbox = wire.Outbox(self._socket)
        self._reader = gevent.spawn(self._read)

    def call(self, command: str, header: dict[str, Any], payload: bytes, timeout: float) -> Reply:
        """Raises ChannelLost, WorkerTimeout, or the error that the worker answered."""
        self._last = ident = self._last + 1
        if request := context.request():
            header = {**header, context.KEY: request}
        pieces = wire.encode(Kind.REQUEST, ident, command, header, payload)
        answer: AsyncResult[Reply] = AsyncResult()
        self._waiting[ident] = answer
        try:
            try:
                self._outbox.send(pieces)
            except OSError:
                # The reader learns of it at its next turn; nobody may take this connection until then.
                self._no_more()
                raise ChannelLost(sent=False) from None
            except wire.WireError as error:
                raise WorkerUnavailable(str(error)) from None
            reply: Reply = answer.get(timeout=timeout)
            return reply
        except gevent.Timeout:
            raise WorkerTimeout(f"no answer to {command} within {timeout:g} s", sent_upstream=True) from None
        finally:
            self._waiting.pop(ident, None)
            if not self.usable and not self._waiting:
                self._half_close()

    def _read(self) -> None:
        decoder = wire.Decoder()
        try:
            while data := self._socket.recv(wire.RECEIVE):
                for frame, payload in decoder.feed(data):
                    self._take(frame, payload)
        except (OSError, wire.WireError):
            pass
        finally:
            self._end()

    def _take(self, frame: wire.Frame, payload: bytes) -> None:
        if frame.kind == Kind.GOODBYE:
            self._no_more()
            if not self._waiting:
                self._half_close()
        elif frame.kind == Kind.HELLO:
            self._greeted = True
        elif frame.kind == Kind.EVENT:
            self._on_event(frame.name, frame.body)
        elif (answer := self._waiting.get(frame.id)) is not None:
            if frame.kind == Kind.ANSWER:
                answer.set((frame.body, payload))
            else:
                answer.set_exception(from_wire(frame.body))

    def _no_more(self) -> None:
        """No new request on this connection."""
        self.usable = False
        self.ended.set()

    def _half_close(self) -> None:
        """Nothing more will be asked on this connection: the worker may end once it has read that."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def _end(self) -> None:
        self._no_more()
        self._outbox.close()
        self._socket.close()
        for answer in list(self._waiting.values()):
            answer.set_exception(ChannelLost(sent=self._greeted))

    def close(self) -> None:
        """End the connection; calls under way fail with ChannelLost."""
        self.usable = False
        self._reader.kill(block=False)
        if not self._reader.started:  # killed before its first turn: its ``finally`` never runs
            self._end()
