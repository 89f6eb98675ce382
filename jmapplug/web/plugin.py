"""The web's part as a built-in plugin: its routes, limits, Basic and Bearer, metrics, through the hooks of anybody.

Imported in every process, so it imports Flask and its own modules only when a hook is called (process rule 5).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jmapplug.hookspecs import hookimpl
from jmapplug.settings import Setting
from jmapplug.web.settings import SETTINGS

if TYPE_CHECKING:
    import flask


@hookimpl
def register_settings() -> list[Setting]:
    """How much a login may keep open."""
    return list(SETTINGS)


@hookimpl
def register_public_routes() -> list[flask.Blueprint]:
    """The Session, the API, WebSocket, blobs, event streams."""
    from jmapplug.web import blobs, events, jmap, sessions, websocket

    return [sessions.routes, jmap.routes, websocket.routes, blobs.routes, events.routes]


@hookimpl
def register_management_routes() -> list[flask.Blueprint]:
    """Accounts, health, metrics, the API's description."""
    from jmapplug.web.management import accounts, health, openapi

    return [accounts.routes, health.routes, openapi.routes]


@hookimpl(tryfirst=True)
def authenticate(request: flask.Request) -> Any:
    """The Authorization header decides where there is one; other plugins are asked about requests without."""
    from jmapplug.web import front

    return front.current().auth.by_header(request)


@hookimpl
def collect_metrics() -> list[tuple[str, str, str, dict[str, str], float]]:
    """What the supervisor, the registry and the fronts know."""
    from jmapplug.web.management import health

    return list(health.samples())
