"""urn:ietf:params:jmap:websocket (RFC 8887): what the Session says of it. The work is done by web/websocket.py."""

from __future__ import annotations

from typing import Any

from jmapplug.hookspecs import AccountInfo, Capability, hookimpl
from jmapplug.jmap.methods import Limits
from jmapplug.jmap.session import WEBSOCKET


def server_value(limits: Limits) -> dict[str, Any]:
    """RFC 8887 §3; the Session adds the ``url``."""
    return {"supportsPush": True}


def account_value(info: AccountInfo) -> None:
    """RFC 8887 §3: nothing of it belongs to an account."""


CAPABILITY = Capability(urn=WEBSOCKET, server_value=server_value, account_value=account_value)


@hookimpl
def register_capabilities() -> list[Capability]:
    return [CAPABILITY]
