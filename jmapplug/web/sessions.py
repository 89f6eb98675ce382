"""The Session (RFC 8620 §2) and where clients find it."""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import quote

import msgspec
from flask import Blueprint, Request, Response, request

from jmapplug.hookspecs import AccountInfo
from jmapplug.jmap.session import SessionAccount, session_object
from jmapplug.web import front, tickets
from jmapplug.web.answers import NO_STORE, json_answer
from jmapplug.web.auth import Principal
from jmapplug.web.front import Front

routes = Blueprint("session", __name__)

_encode = msgspec.json.Encoder(order="deterministic").encode


@routes.get("/session")
def session() -> Response:
    """The Session object. The ETag changes with ``state``, and with the tickets in its URLs, which do not last."""
    here = front.current()
    principal = here.auth.principal(request)
    # The pool is asked each time: a Session must not be older than the accounts it lists.
    fresh = here.auth.load(principal.account_id, principal.login)
    value = build(here, fresh, request)
    tag = f'"{value["state"]}-{hashlib.sha256(_encode(value)).hexdigest()[:8]}"'
    if tag in request.headers.get("If-None-Match", ""):
        return Response(status=304, headers={"ETag": tag, **NO_STORE})
    return json_answer(value, headers={"ETag": tag, **NO_STORE})


@routes.get("/.well-known/jmap")
def well_known() -> Response:
    """301 to the Session; the Session itself to who could not follow: Safari drops Authorization on a redirect."""
    wants_json = "application/json" in request.headers.get("Accept", "")
    if request.headers.get("Origin") or (request.headers.get("Authorization") and wants_json):
        return session()
    location = f"{base_url(front.current(), request)}/session"
    return Response(status=301, headers={"Location": location, **NO_STORE})


def build(here: Front, principal: Principal, asked: Request) -> dict[str, Any]:
    """The Session of a login, its URLs absolute."""
    base = base_url(here, asked)
    ticket = tickets.issue(here.auth.ticket_key, principal.account_id, principal.credential)
    variables = "types={types}&closeafter={closeafter}&ping={ping}"
    return session_object(
        username=principal.username,
        accounts=[_account(here, info) for info in principal.accounts.values()],
        primary=principal.account_id,
        capabilities=_capabilities(here),
        base_url=base,
        event_source_url=f"{base}/eventsource?{variables}&ticket={quote(ticket, safe='')}",
        web_socket_url=_web_socket_url(here, principal, base),
    )


def _capabilities(here: Front) -> dict[str, dict[str, Any]]:
    """Those that the service has, by URN."""
    values = {
        urn: (each.server_value(here.limits), each.service_value(here.settings))
        for urn, each in here.plugins.capabilities.items()
    }
    return {urn: {**value, **more} for urn, (value, more) in values.items() if more is not None}


def _web_socket_url(here: Front, principal: Principal, base: str) -> str:
    """RFC 8887 §3. The ticket is for browsers."""
    key, purpose = here.auth.ticket_key, tickets.WEBSOCKET
    ticket = tickets.issue(key, principal.account_id, principal.credential, purpose=purpose)
    # http → ws, https → wss
    return f"ws{base.removeprefix('http')}/jmap/ws?ticket={quote(ticket, safe='')}"


def state(here: Front, principal: Principal, asked: Request) -> str:
    """``sessionState``: the Session's state, computed once per cached login."""
    if not principal.session_state:
        principal.session_state = build(here, principal, asked)["state"]
    return principal.session_state


def _account(here: Front, info: AccountInfo) -> SessionAccount:
    values = {urn: each.account_value(info) for urn, each in here.plugins.capabilities.items()}
    return SessionAccount(
        id=info.id,
        name=info.email,
        is_personal=True,
        is_read_only=info.read_only,
        capabilities={urn: value for urn, value in values.items() if value is not None},
    )


def base_url(here: Front, asked: Request) -> str:
    """BASEURL; X-Forwarded-* only from a trusted proxy and only where BASEURL was left at its default."""
    settings = here.settings
    forwarded = asked.headers.get("X-Forwarded-Host")
    if not forwarded or not here.auth.trusted(asked.remote_addr or "") or not _default(settings.baseurl, settings):
        return settings.baseurl
    scheme = asked.headers.get("X-Forwarded-Proto", "https")
    prefix = asked.headers.get("X-Forwarded-Prefix", "").rstrip("/")
    host = forwarded.split(",")[0].strip()
    if scheme not in ("http", "https") or not _host_is_clean(host) or not _path_is_clean(prefix):
        return settings.baseurl
    return f"{scheme}://{host}{prefix}"


def _default(baseurl: str, settings: Any) -> bool:
    return bool(baseurl == f"http://localhost:{settings.jmap_port}")


def _host_is_clean(host: str) -> bool:
    return 0 < len(host) < 256 and all(char.isalnum() or char in ".-:[]" for char in host)


def _path_is_clean(path: str) -> bool:
    return not path or (path.startswith("/") and all(char.isalnum() or char in "/-._~" for char in path))
