"""The process ``__accounts__``: the registry's commands behind their socket, and its background work."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import Event

from jmapplug import plugins
from jmapplug.registry.safety import copy_forever
from jmapplug.registry.service import COMMANDS, Header, Registry
from jmapplug.registry.waking import wake_forever
from jmapplug.settings import Settings
from jmapplug.workers import hearts
from jmapplug.workers.client import WorkerClient
from jmapplug.workers.server import Answer, Request, Server

DRAIN = 2.0


def _subscribe(request: Request) -> Answer:
    """Events from now on: ``{"revoked": accountid or token id, "pool": …}``, ``{"changed_account": accountid}``."""
    request.connection.subscribed = True
    return {}


def _unsubscribe(request: Request) -> Answer:
    request.connection.subscribed = False
    return {}


def _ping(request: Request) -> Answer:
    return request.header, request.payload


def serve(registry: Registry, listener: Any) -> Server:
    """A server of all commands on ``listener``, not started yet."""

    def bound(function: Callable[[Registry, Header], Header]) -> Callable[[Request], Answer]:
        return lambda request: function(registry, request.header)

    commands: dict[str, Callable[[Request], Answer]] = {name: bound(function) for name, function in COMMANDS.items()}
    server = Server(listener, commands | {"subscribe": _subscribe, "unsubscribe": _unsubscribe, "ping": _ping})
    registry.broadcast = server.broadcast
    return server


def main(listener: Any, settings: Settings) -> int:
    """The process's whole life; ends with SIGTERM."""
    stop = Event()
    gevent.signal_handler(signal.SIGTERM, stop.set)
    registry = Registry(settings, plugins.load(), WorkerClient(settings, lead=False))
    server = serve(registry, listener)
    server.start()
    hearts.ready()
    background = [gevent.spawn(registry.finish_deletions), gevent.spawn(registry.flush_forever)]
    background.append(gevent.spawn(copy_forever, settings))
    background.append(gevent.spawn(wake_forever, settings, registry.names, registry.client))
    stop.wait()
    server.drain(DRAIN)
    gevent.killall(background, timeout=1)
    registry.close()
    return 0
