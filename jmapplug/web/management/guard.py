"""Who may speak to the management port: a token where one is set; never a page of another origin or a rebound name."""

from __future__ import annotations

import hmac
from urllib.parse import urlsplit

from flask import Request

from jmapplug.errors import JmapplugError
from jmapplug.settings import Settings, is_loopback

WRITES = frozenset({"POST", "PATCH", "PUT", "DELETE"})


class Refused(JmapplugError):
    """``status`` 401, 403 or 415, and a text for the operator."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def check(request: Request, settings: Settings) -> None:
    """Raises Refused."""
    if settings.mgmt_token is not None:
        given = request.headers.get("Authorization", "")
        wanted = f"Bearer {settings.mgmt_token}"
        if not hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode()):
            raise Refused(401, "a Bearer token is needed")
    elif not _is_ours(request.headers.get("Host", ""), settings):
        raise Refused(403, "this Host is not served")
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("Host"):
        raise Refused(403, "requests of other origins are refused")
    has_body = bool(request.content_length) or "Transfer-Encoding" in request.headers
    if request.method in WRITES and has_body and request.mimetype != "application/json":
        raise Refused(415, "Content-Type must be application/json")


def _is_ours(host: str, settings: Settings) -> bool:
    """DNS rebinding: a page may make its own name point here, but the Host header still says that name."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return is_loopback(name) or name == settings.mgmt_host
