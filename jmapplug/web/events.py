"""``GET /eventsource`` (RFC 8620 §7.3)."""

from __future__ import annotations

from contextlib import ExitStack

from flask import Blueprint, Response, request

from jmapplug.push import eventsource
from jmapplug.web import front, streams
from jmapplug.web.auth import Principal
from jmapplug.web.front import Front
from jmapplug.web.streams import Stream

routes = Blueprint("events", __name__)


@routes.get("/eventsource")
def events() -> Response:
    """A stream of StateChanges for every account of the login. Raises RequestError, limit among others."""
    here = front.current()
    principal = _principal(here)
    wish = eventsource.read_wish(request.args, request.headers.get("Last-Event-ID"), principal.accounts)
    listener = here.hub.listen(principal.accounts, wish.types, wish.since)
    with ExitStack() as held:
        held.enter_context(here.stream_places.one(principal.key))
        # Before the headers: who reads a state when they have come is told of whatever follows it.
        held.enter_context(listener)
        stream = Stream(here.auth, principal, listener)
        here.streams.add(stream)
        held.callback(here.streams.discard, stream)
        return streams.respond(listener, eventsource.stream(listener, wish), request.environ, held.pop_all())


def _principal(here: Front) -> Principal:
    """A browser's EventSource cannot send Authorization: the Session's URL carries a ticket."""
    ticket = request.args.get("ticket")
    if ticket and "Authorization" not in request.headers:
        return here.auth.by_ticket(ticket)
    return here.auth.principal(request)
