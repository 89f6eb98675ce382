"""``GET /eventsource`` (RFC 8620 §7.3)."""

from __future__ import annotations

from flask import Blueprint, Response, request

from jmapplug.push import eventsource
from jmapplug.web import front, streams
from jmapplug.web.auth import Principal
from jmapplug.web.front import Front

routes = Blueprint("events", __name__)


@routes.get("/eventsource")
def events() -> Response:
    """A stream of StateChanges for every account of the login."""
    here = front.current()
    principal = _principal(here)
    wish = eventsource.read_wish(request.args, request.headers.get("Last-Event-ID"), principal.accounts)
    listener = here.hub.listen(principal.accounts, wish.types, wish.since)
    return streams.respond(listener, eventsource.stream(listener, wish), request.environ)


def _principal(here: Front) -> Principal:
    """A browser's EventSource cannot send Authorization: the Session's URL carries a ticket."""
    ticket = request.args.get("ticket")
    if ticket and "Authorization" not in request.headers:
        return here.auth.by_ticket(ticket)
    return here.auth.principal(request)
