"""What one front process has: the things its routes share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from flask import Flask, current_app

from jmapplug.jmap.methods import Limits
from jmapplug.plugins import Plugins
from jmapplug.push.hub import Hub
from jmapplug.registry.credentials import derive, load_key
from jmapplug.settings import Settings
from jmapplug.web.auth import REGISTRY, Authenticator
from jmapplug.web.connections import Connections
from jmapplug.web.limits import UnderWay
from jmapplug.web.metrics import FrontMetrics
from jmapplug.web.settings import EVENT_STREAMS, WEBSOCKETS
from jmapplug.workers.client import WorkerClient


@dataclass(slots=True)
class Front:
    """One front; made once per process, after gevent's patch."""

    settings: Settings
    plugins: Plugins
    client: WorkerClient
    auth: Authenticator
    hub: Hub
    limits: Limits = field(default_factory=Limits)
    metrics: FrontMetrics = field(default_factory=FrontMetrics)
    sockets: Connections = field(default_factory=Connections)
    streams: Connections = field(default_factory=Connections)
    requests: UnderWay = field(init=False)
    uploads: UnderWay = field(init=False)
    socket_places: UnderWay = field(init=False)
    stream_places: UnderWay = field(init=False)
    of_login: frozenset[str] = field(init=False)
    """The methods that belong to the login (``Method.of_login``)."""

    def __post_init__(self) -> None:
        self.of_login = frozenset(name for name, method in self.plugins.methods.items() if method.of_login)
        self.requests = UnderWay("maxConcurrentRequests", self.limits.max_concurrent_requests)
        self.uploads = UnderWay("maxConcurrentUpload", self.limits.max_concurrent_upload)
        extra = self.settings.extra
        self.socket_places = UnderWay("maxConcurrentWebSockets", extra[WEBSOCKETS], retry_after=30)
        self.stream_places = UnderWay("maxConcurrentEventStreams", extra[EVENT_STREAMS], retry_after=30)

    def start(self) -> None:
        """Have a supervisor, hear of revocations."""
        self.client.start()
        self.client.subscribe(REGISTRY, self._heard)
        self.sockets.start()
        self.streams.start()

    def _heard(self, event: dict[str, Any]) -> None:
        """Accounts, pools or tokens have changed."""
        self.auth.purge()
        self.sockets.heard(event)
        self.streams.heard(event)

    def stop(self) -> None:
        """End the streams and sockets so that the server can stop (process rule 9). Safe in a signal handler."""
        self.hub.stop()
        self.sockets.stop()


def make(settings: Settings, plugins: Plugins) -> Front:
    """A front on these settings; nothing is connected yet."""
    client = WorkerClient(settings)
    key = derive(load_key(settings), "eventsource-ticket")
    return Front(settings, plugins, client, Authenticator(settings, plugins, client, key), Hub(client))


def attach(app: Flask, front: Front) -> None:
    """Give the routes their front."""
    app.extensions["jmapplug"] = front


def current() -> Front:
    """The front of the request's app."""
    front: Front = current_app.extensions["jmapplug"]
    return front
