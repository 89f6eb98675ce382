"""The JMAP port's Flask app: routes, and the one place where errors become HTTP answers (design law 2)."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from jmapplug.errors import JmapplugError, StorageError, UpstreamError
from jmapplug.jmap.errors import RequestError
from jmapplug.web import front as fronts
from jmapplug.web import request_ids
from jmapplug.web.answers import add_cors, compress, json_answer, preflight, problem
from jmapplug.web.auth import TooManyFailures, Unauthorized
from jmapplug.web.bodies import BadBody, BodyTooLarge
from jmapplug.web.front import Front
from jmapplug.workers.errors import Conflict, NotFound, WorkerUnavailable

log = logging.getLogger("jmapplug.web")


def create_app(front: Front) -> Flask:
    """The app of one front."""
    app = Flask("jmapplug.web", static_folder=None, template_folder=None)
    app.url_map.strict_slashes = False
    fronts.attach(app, front)
    for blueprints in front.plugins.manager.hook.register_public_routes():
        for blueprint in blueprints:
            app.register_blueprint(blueprint)
    app.before_request(_before)
    app.after_request(_after)
    for error, answer in ANSWERS.items():
        app.register_error_handler(error, answer)
    return app


def _before() -> Response | None:
    here = fronts.current()
    request_ids.begin(request, here.settings.trusted_proxies)
    here.metrics.http_requests += 1
    if request.method == "OPTIONS":
        return preflight(here.settings.cors_origins, request.headers.get("Origin"))
    return None


def _after(response: Response) -> Response:
    here = fronts.current()
    # The rule and not the path: a path may hold an id, a name of a file, and a query a ticket.
    log.debug("%s %s answered with %d", request.method, request.url_rule, response.status_code)
    response = request_ids.give_back(response)
    response = add_cors(response, here.settings.cors_origins, request.headers.get("Origin"))
    return compress(request, response)


def _error(kind: str, status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    body = {"type": kind, "status": status, "detail": detail}
    return json_answer(body, status, content_type="application/problem+json", headers=headers)


_CHALLENGES = ('Basic realm="JMAP", charset="UTF-8"', 'Bearer realm="JMAP"')


def _unauthorized(error: Unauthorized) -> Response:
    response = _error("about:blank", 401, str(error))
    for challenge in _CHALLENGES:
        response.headers.add("WWW-Authenticate", challenge)
    return response


def _too_many(error: TooManyFailures) -> Response:
    return _error("about:blank", 429, str(error), {"Retry-After": str(math.ceil(error.seconds))})


def _http(error: HTTPException) -> Response:
    response = _error("about:blank", error.code or 500, error.description or "")
    for name, value in error.get_headers():
        if name.lower() in ("allow", "location", "content-range"):
            response.headers[name] = value
    return response


def _unexpected(error: Exception) -> Response:
    log.error("request failed", exc_info=error)
    return _error("about:blank", 500, "internal error")


def _plain(status: int, detail: str = "", headers: dict[str, str] | None = None) -> Callable[[Any], Response]:
    return lambda error: _error("about:blank", status, detail or str(error), headers)


ANSWERS: dict[type[Exception], Callable[[Any], Response]] = {
    RequestError: problem,
    Unauthorized: _unauthorized,
    TooManyFailures: _too_many,
    NotFound: _plain(404, "not found"),
    Conflict: _plain(409),
    BodyTooLarge: _plain(413, headers={"Connection": "close"}),
    BadBody: _plain(400, headers={"Connection": "close"}),
    WorkerUnavailable: _plain(503, "the account's worker is not available", {"Retry-After": "1"}),
    # RFC 4918 §11.5: what the request needs cannot be stored; for the moment.
    StorageError: _plain(507, "the server cannot store anything at the moment", {"Retry-After": "30"}),
    UpstreamError: _plain(503, "the mail server is not available", {"Retry-After": "5"}),
    JmapplugError: _plain(500, "internal error"),
    HTTPException: _http,
    Exception: _unexpected,
}
