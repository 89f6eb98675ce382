"""JMAP over WebSocket (RFC 8887): the handshake here, the talk in web/conversation.py, the frames in web/channel.py."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, Request, Response, request
from wsproto.utilities import generate_accept_token

from jmapplug.web import framing, front, sessions, tickets
from jmapplug.web.answers import allow_origin, json_answer
from jmapplug.web.auth import Principal, Unauthorized
from jmapplug.web.channel import Channel
from jmapplug.web.conversation import Conversation
from jmapplug.web.front import Front

routes = Blueprint("websocket", __name__)

PROTOCOL = "jmap"


# Werkzeug keeps rules for requests with "Upgrade: websocket" apart; without it there is a 426 to be told.
@routes.get("/jmap/ws", websocket=True)
@routes.get("/jmap/ws/", websocket=True)
@routes.get("/jmap/ws")
@routes.get("/jmap/ws/")
def websocket() -> Response:
    """The handshake (RFC 6455 §4.2, RFC 8887 §4.1). Raises Unauthorized, TooManyFailures, RequestError limit."""
    here = front.current()
    refused = _refused(here, request)
    if refused is not None:
        return refused
    principal = log_in(here, request)
    with ExitStack() as held:
        held.enter_context(here.socket_places.one(principal.key))
        return _Upgrade(here, principal, request, held.pop_all())


def _refused(here: Front, asked: Request) -> Response | None:
    """What is wrong with a handshake, before anybody looks at credentials."""
    headers = asked.headers
    if "websocket" not in _tokens(headers.get("Upgrade")) or "upgrade" not in _tokens(headers.get("Connection")):
        return _problem(426, "this is for WebSocket connections", Upgrade="websocket", Connection="Upgrade")
    if headers.get("Sec-WebSocket-Version", "").strip() != "13":
        return _problem(426, "only version 13 is spoken", **{"Upgrade": "websocket", "Sec-WebSocket-Version": "13"})
    if asked.method != "GET" or not _is_key(headers.get("Sec-WebSocket-Key", "")):
        return _problem(400, "the Sec-WebSocket-Key is missing or wrong")
    # RFC 8887 §4.1: the client MUST offer "jmap", and without it in the answer there is no connection.
    if PROTOCOL not in _tokens(headers.get("Sec-WebSocket-Protocol"), fold=False):
        return _problem(400, "the subprotocol jmap has to be offered")
    if not origin_allowed(here, asked):
        return _problem(403, "this origin may not connect")
    if _socket(asked.environ) is None:
        return _problem(501, "the server gives no access to its connections")
    return None


def log_in(here: Front, asked: Request) -> Principal:
    """Authorization, or the ticket of the Session's URL; a cookie (a plugin's) only from a page of our own origin.

    A page of another origin can make a browser connect here with the user's cookies, and CORS does not prevent it.
    Raises Unauthorized, TooManyFailures.
    """
    ticket = asked.args.get("ticket")
    if "Authorization" not in asked.headers:
        if ticket:
            return here.auth.by_ticket(ticket, tickets.WEBSOCKET)
        if asked.headers.get("Origin") != _own_origin(here, asked):
            raise Unauthorized("credentials are needed")
    return here.auth.principal(asked)


def origin_allowed(here: Front, asked: Request) -> bool:
    """Whether pages of the request's Origin may connect (with credentials of their own): JMAP_CORS_ORIGINS, or ours."""
    origin = asked.headers.get("Origin")
    if origin is None or origin == _own_origin(here, asked):
        return True
    return allow_origin(here.settings.cors_origins, origin) is not None


def _own_origin(here: Front, asked: Request) -> str:
    base = urlsplit(sessions.base_url(here, asked))
    return f"{base.scheme}://{base.netloc}"


class _Upgrade(Response):
    """101, and then the connection until it ends; ``held`` is closed then."""

    def __init__(self, here: Front, principal: Principal, asked: Request, held: ExitStack) -> None:
        super().__init__(status=101)
        self._here, self._principal, self._held = here, principal, held
        # The request itself, not Flask's stand-in for "the current one": greenlets of the conversation look at it.
        self._asked: Request = getattr(asked, "_get_current_object", lambda: asked)()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        headers = self._asked.headers
        deflate = framing.negotiate(headers.get("Sec-WebSocket-Extensions", ""))
        answer = [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Accept", generate_accept_token(headers["Sec-WebSocket-Key"].strip().encode()).decode()),
            ("Sec-WebSocket-Protocol", PROTOCOL),
        ]
        if deflate is not None:
            answer.append(("Sec-WebSocket-Extensions", deflate[0]))
        with self._held:
            start_response("101 Switching Protocols", answer)(b"")
            channel = Channel(_socket(environ), self._here.limits.max_size_request, deflate[1] if deflate else None)
            Conversation(self._here, self._principal, self._asked, channel).run()
        return []


def _socket(environ: dict[str, Any]) -> Any:
    """The connection, as `serve` and gunicorn give it."""
    return environ.get("jmapplug.socket") or environ.get("gunicorn.socket")


def _tokens(value: str | None, *, fold: bool = True) -> set[str]:
    found = {token.strip() for token in (value or "").split(",")}
    return {token.lower() for token in found} if fold else found


def _is_key(text: str) -> bool:
    """RFC 6455 §4.1: 16 octets in base64."""
    try:
        return len(base64.b64decode(text.strip(), validate=True)) == 16
    except (binascii.Error, ValueError):
        return False


def _problem(status: int, detail: str, **headers: str) -> Response:
    body = {"type": "about:blank", "status": status, "detail": detail}
    return json_answer(body, status, content_type="application/problem+json", headers=headers)
