"""The management process: ``__management__`` under the supervisor."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from typing import Any

from flask import Flask, Response, current_app, request
from werkzeug.exceptions import HTTPException

from jmapplug import plugins as plugin_manager
from jmapplug.errors import SettingError, SetupError, StorageError
from jmapplug.plugins import Plugins
from jmapplug.settings import Settings
from jmapplug.web import request_ids
from jmapplug.web.answers import json_answer
from jmapplug.web.bodies import BadBody, BodyTooLarge
from jmapplug.web.management import accounts, guard
from jmapplug.web.server import Server, told_by_signals
from jmapplug.workers import context, hearts
from jmapplug.workers.client import WorkerClient
from jmapplug.workers.errors import Conflict, NotFound, WorkerUnavailable

log = logging.getLogger("jmapplug.management")


def create_app(settings: Settings, plugins: Plugins, client: WorkerClient) -> Flask:
    """The management port's app."""
    app = Flask("jmapplug.web.management", static_folder=None)
    app.extensions["jmapplug.client"] = client
    app.extensions["jmapplug.plugins"] = plugins
    for blueprints in plugins.manager.hook.register_management_routes():
        for blueprint in blueprints:
            app.register_blueprint(blueprint)
    app.extensions["jmapplug.requests"] = itertools.count(1)
    app.before_request(lambda: _begin(settings))
    app.before_request(_count)
    app.before_request(lambda: guard.check(request, settings))
    app.after_request(_after)
    for error, answer in ANSWERS.items():
        app.register_error_handler(error, answer)
    return app


def _begin(settings: Settings) -> None:
    request_ids.begin(request, settings.trusted_proxies)
    context.of_account(str((request.view_args or {}).get("account_id", ""))[:128])


def _after(response: Response) -> Response:
    log.debug("%s %s answered with %d", request.method, request.url_rule, response.status_code)
    return request_ids.give_back(response)


def _count() -> None:
    current_app.extensions["jmapplug.mgmt_requests"] = next(current_app.extensions["jmapplug.requests"])


def _answer(status: int, text: str | None = None) -> Callable[[Any], Response]:
    return lambda error: json_answer({"error": text or str(error)}, status)


def _unexpected(error: Exception) -> Response:
    log.error("request failed", exc_info=error)
    return json_answer({"error": "internal error"}, 500)


def _http(error: HTTPException) -> Response:
    return json_answer({"error": (error.name or "error").lower()}, error.code or 500)


def _setup(error: SetupError) -> Response:
    return json_answer({"error": f"{error.field}: {error}" if error.field else str(error)}, 400)


ANSWERS: dict[type[Exception], Callable[[Any], Response]] = {
    guard.Refused: lambda error: json_answer({"error": str(error)}, error.status),
    accounts.Invalid: _answer(400),
    SetupError: _setup,
    NotFound: accounts.missing,
    Conflict: _answer(409),
    BodyTooLarge: _answer(413),
    BadBody: _answer(400),
    StorageError: _answer(507),
    WorkerUnavailable: _answer(500),
    SettingError: _answer(500),
    HTTPException: _http,
    Exception: _unexpected,
}


def main(listener: Any, settings: Settings) -> None:
    """Serve the management port on a listening socket until told to stop."""
    app = create_app(settings, plugin_manager.load(), WorkerClient(settings, lead=False))
    hearts.ready()
    Server(listener, app, told_by_signals()).serve_until_told()
