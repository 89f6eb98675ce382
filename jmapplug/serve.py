"""``jmapplug serve``: both ports bound first, then the supervisor, then this process as the one front."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable
from typing import NoReturn

from jmapplug import plugins as plugin_manager
from jmapplug.errors import SettingError
from jmapplug.registry import safety
from jmapplug.settings import Settings
from jmapplug.web import front as fronts
from jmapplug.web.app import create_app
from jmapplug.web.auth import REGISTRY
from jmapplug.web.front import Front
from jmapplug.web.reports import report_forever
from jmapplug.web.server import Server, bind, told_by_signals
from jmapplug.workers import paths
from jmapplug.workers.client import WorkerClient
from jmapplug.workers.control import MGMT_FD


def serve(settings: Settings, ready: Callable[[Settings], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT. ``ready`` is called once requests are answered. Raises SettingError."""
    plugins = plugin_manager.load()
    paths.prepare(settings)
    safety.check(settings)
    told = told_by_signals()  # before anybody can see that we are there
    listener = bind(settings.jmap_host, settings.jmap_port, "JMAP_PORT")
    management = bind(settings.mgmt_host, settings.mgmt_port, "JMAP_MGMT_PORT")
    # The supervisor inherits the management port's socket, so that nobody takes the port in between.
    os.set_inheritable(management.fileno(), True)
    os.environ[MGMT_FD] = str(management.fileno())
    front = fronts.make(settings, plugins)
    server = Server(listener, create_app(front), told, on_stop=front.stop)
    front.start()
    os.environ.pop(MGMT_FD, None)
    management.close()
    reporter = report_forever(front)
    if ready:
        ready(settings)
    # What is here now stays: the collector need not walk over it while requests wait.
    gc.collect()
    gc.freeze()
    try:
        server.serve_until_told()
    finally:
        reporter.kill()
        front.client.close()


def fail(error: SettingError) -> NoReturn:
    """One clear line and exit status 2."""
    sys.stderr.write(f"jmapplug: {error}\n")
    raise SystemExit(2)


def start_front(settings: Settings) -> Front:
    """A front for another server's process (gunicorn): it only connects. Raises SettingError."""
    paths.prepare(settings)
    safety.check(settings)
    front = fronts.make(settings, plugin_manager.load())
    front.start()
    report_forever(front)
    return front


def create_token(settings: Settings, account_id: str, name: str, days: int | None) -> str:
    """A new token of an account, through the running service or, without one, a supervisor of the moment.

    Raises NotFound, SetupError, SettingError.
    """
    expires = None if days is None else int(time.time()) + days * 86_400
    client = WorkerClient(settings)
    client.start()
    try:
        header = {"accountid": account_id, "name": name, "expires": expires}
        return str(client.call(REGISTRY, "token_create", header)[0]["token"])
    finally:
        client.close(final=False)
