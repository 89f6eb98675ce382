"""``POST /jmap``: limits and shape here, everything else in the account's worker (design §2, §6)."""

from __future__ import annotations

from flask import Blueprint, Response, request

from jmapplug.jmap import request as requests
from jmapplug.jmap.errors import RequestError
from jmapplug.web import bodies, calls, front, sessions
from jmapplug.web.answers import NO_STORE, json_answer
from jmapplug.web.front import Front

routes = Blueprint("jmap", __name__)


@routes.post("/jmap")
@routes.post("/jmap/")
def jmap() -> Response:
    """RFC 8620 §3.3. Raises RequestError for the whole Request."""
    here = front.current()
    principal = here.auth.principal(request)
    with calls.place(here, principal):
        if request.mimetype != "application/json":
            raise RequestError("notJSON", "the Content-Type must be application/json")
        body = _body(here)
        parsed = requests.parse(body, here.plugins.capabilities, here.limits)
        state = sessions.state(here, principal, request)
        return json_answer(calls.answer(here, principal, state, parsed, body), headers=NO_STORE)


def _body(here: Front) -> bytes:
    try:
        return bodies.whole(request.environ, here.limits.max_size_request)
    except bodies.BodyTooLarge:
        raise calls.too_large(here) from None
