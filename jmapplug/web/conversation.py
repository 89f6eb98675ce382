"""JMAP on an open WebSocket (RFC 8887 §4.3): Requests in parallel, their Responses as they are ready, StateChanges."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import flask
import gevent
import msgspec

from jmapplug.errors import JmapplugError
from jmapplug.jmap import request as requests
from jmapplug.jmap.errors import RequestError
from jmapplug.jmap.request import Request
from jmapplug.push import positions
from jmapplug.push.hub import Listener
from jmapplug.waiting import wait
from jmapplug.web import calls, sessions
from jmapplug.web.auth import Principal, Unauthorized
from jmapplug.web.channel import Channel
from jmapplug.web.connections import Connection
from jmapplug.web.front import Front
from jmapplug.workers import context

DRAIN = 2.0  # seconds for Requests under way when the connection is to end
POLICY_VIOLATION, MESSAGE_TOO_BIG = 1008, 1009

log = logging.getLogger("jmapplug.web")
_encode = msgspec.json.Encoder().encode


class Conversation(Connection):
    """One WebSocket connection."""

    def __init__(self, here: Front, principal: Principal, asked: flask.Request, channel: Channel) -> None:
        super().__init__(principal)
        self.here, self.channel = here, channel
        self._asked = asked
        self._running: set[gevent.Greenlet] = set()
        self._ending = False
        self._listener: Listener | None = None
        self._types: frozenset[str] | None = None
        self._told: dict[str, str] = {}

    def run(self) -> None:
        """Talk until the connection has ended."""
        self.here.sockets.add(self)
        try:
            for message in self.channel.messages():
                if message is None:
                    self._refuse(None, calls.too_large(self.here))
                    self.end(MESSAGE_TOO_BIG, "maxSizeRequest")
                elif not self._ending:
                    self._take(message)
        finally:
            self._ending = True
            self.here.sockets.discard(self)
            self._disable()
            self.channel.end()

    def _take(self, message: bytes) -> None:
        ident = None
        try:
            value = requests.decode(message, self.here.limits)
            kind = value.get("@type") if isinstance(value, dict) else None
            take = MESSAGES.get(kind) if isinstance(kind, str) else None
            if take is None:
                raise RequestError("notRequest", f"not an object with an @type of {', '.join(MESSAGES)}")
            given = value.get("id")
            if given is not None and not isinstance(given, str):
                raise RequestError("notRequest", "the id must be a string")
            ident = given
            take(self, value, ident, message)
        except RequestError as error:
            self._refuse(ident, error)

    # --- Requests

    def _request(self, value: dict[str, Any], ident: str | None, message: bytes) -> None:
        """RFC 8887 §4.3.2. Raises RequestError, maxConcurrentRequests among the limits."""
        with ExitStack() as place:
            place.enter_context(calls.place(self.here, self.principal))
            parsed = requests.check(value, self.here.plugins.capabilities, self.here.limits)
            greenlet = gevent.spawn(self._answer, place.pop_all(), parsed, ident, message)
        self._running.add(greenlet)
        greenlet.rawlink(self._running.discard)

    def _answer(self, place: ExitStack, parsed: Request, ident: str | None, message: bytes) -> None:
        context.begin(context.new_id(), self.principal.account_id)
        with place:
            try:
                self.channel.send(self._response(parsed, ident, message))
            except RequestError as error:
                self._refuse(ident, error)
            except Unauthorized as error:
                self._refuse(ident, _about(401, str(error)))
            except JmapplugError:
                self._refuse(ident, _about(503, "the service is not available; try again"))
            except Exception:
                log.exception("a request failed")
                self._refuse(ident, _about(500, "internal error"))

    def _response(self, parsed: Request, ident: str | None, message: bytes) -> str:
        """RFC 8887 §4.3.3: the Response with two more members."""
        if self.stale or self.principal.expired:
            self._renew()
        state = sessions.state(self.here, self.principal, self._asked)
        answer = calls.answer(self.here, self.principal, state, parsed, message)
        head = {"@type": "Response"} if ident is None else {"@type": "Response", "requestId": ident}
        return (_encode(head)[:-1] + b"," + answer[1:]).decode()

    def _refuse(self, ident: str | None, error: RequestError) -> None:
        """RFC 8887 §4.3.4."""
        body = {"@type": "RequestError", "requestId": ident, **error.to_json()}
        self.channel.send(_encode(body).decode())

    # --- push

    def _enable(self, value: dict[str, Any], ident: str | None, message: bytes) -> None:
        """RFC 8887 §4.3.5.2. What has changed since ``pushState`` is told at once."""
        types, state = value.get("dataTypes"), value.get("pushState")
        if types is not None and not (isinstance(types, list) and all(isinstance(name, str) for name in types)):
            raise RequestError("notRequest", "dataTypes must be null or an array of strings")
        if state is not None and not isinstance(state, str):
            raise RequestError("notRequest", "pushState must be a string")
        since = self._told if state is None else positions.since(state, self.principal.accounts)
        self._listen(None if types is None else frozenset(types), since)

    def _listen(self, types: frozenset[str] | None, since: dict[str, str]) -> None:
        listener, before = self.here.hub.listen(self.principal.accounts, types, since), self._listener
        self._listener, self._types = listener, types
        gevent.spawn(self._tell, listener, before, since)

    def _tell(self, listener: Listener, before: Listener | None, since: dict[str, str]) -> None:
        with listener:
            # What the one before had not told yet is behind its position: this one tells it.
            self._told = listener.positions | since
            if before is not None:
                before.close()
            # A slow client's changes merge in its listener, so it is not told more than it reads.
            while self.channel.wait_for_room() and (changed := listener.wait(None)) is not None:
                self._told = listener.positions
                if changed:
                    told = {"@type": "StateChange", "changed": changed, "pushState": positions.write(self._told)}
                    self.channel.send(_encode(told).decode())

    def _disable(self, *_: Any) -> None:
        """RFC 8887 §4.3.5.3."""
        listener, self._listener, self._told = self._listener, None, {}
        if listener is not None:
            listener.close()

    # --- the log-in (RFC 8887 §4.1: credentials that are good no more close the connection)

    def renew(self) -> None:
        try:
            self._renew()
        except Unauthorized:
            pass

    def _renew(self) -> None:
        """Check the log-in; it may have other accounts now. Raises Unauthorized after having begun to end."""
        old = self.principal
        self.stale = self.due = False
        try:
            found = self.here.auth.again(old.account_id, old.login, old.credential)
        except Unauthorized:
            self.end(POLICY_VIOLATION, "the credentials are not valid any more")
            raise
        except JmapplugError:
            self.stale = True
            raise
        self.principal = found
        if self._listener is not None and found.accounts.keys() != old.accounts.keys():
            self._listen(self._types, {name: self._told.get(name, positions.NOWHERE) for name in found.accounts})

    # --- the end

    def end(self, code: int, reason: str) -> None:
        """Let Requests under way finish for a moment, then close. Never blocks."""
        if not self._ending:
            self._ending = True
            gevent.spawn(self._end, code, reason)

    def _end(self, code: int, reason: str) -> None:
        self._disable()
        wait(self._running, DRAIN)
        self.channel.close(code, reason)


def _about(status: int, detail: str) -> RequestError:
    """A problem that RFC 8620 has no type for."""
    error = RequestError("", detail, status=status)
    error.type = "about:blank"
    return error


# RFC 8887 §4.3: what a client may send.
MESSAGES: dict[str, Callable[[Conversation, dict[str, Any], str | None, bytes], None]] = {
    "Request": Conversation._request,
    "WebSocketPushEnable": Conversation._enable,
    "WebSocketPushDisable": Conversation._disable,
}
