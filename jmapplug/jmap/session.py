"""The Session object (RFC 8620 §2)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

CORE = "urn:ietf:params:jmap:core"
WEBSOCKET = "urn:ietf:params:jmap:websocket"
_encoder = msgspec.json.Encoder(order="deterministic")


class SessionAccount(msgspec.Struct, frozen=True):
    """One entry of ``accounts``; ``capabilities`` are its accountCapabilities."""

    id: str
    name: str
    is_personal: bool
    is_read_only: bool
    capabilities: Mapping[str, Mapping[str, Any]]


def session_object(
    *,
    username: str,
    accounts: Sequence[SessionAccount],
    primary: str,
    capabilities: Mapping[str, Mapping[str, Any]],
    base_url: str,
    event_source_url: str,
    web_socket_url: str = "",
) -> dict[str, Any]:
    """The Session as JSON values. URLs are absolute under ``base_url`` (real clients do not resolve relative ones).

    ``primary``: the account logged in with. ``event_source_url``: a complete template with {types}, {closeafter} and
    {ping}. ``web_socket_url`` becomes the ``url`` of the capability for WebSocket (RFC 8887 §3) where that is among
    ``capabilities``. Both may carry a ticket that changes, so these two members are what ``state`` does not cover.
    """
    base = base_url.rstrip("/")
    session: dict[str, Any] = {
        "capabilities": dict(capabilities),
        "accounts": {account.id: _account(account) for account in accounts},
        "primaryAccounts": _primary_accounts(accounts, primary, capabilities),
        "username": username,
        "apiUrl": f"{base}/jmap",
        "downloadUrl": f"{base}/raw/{{accountId}}/{{blobId}}/{{name}}?type={{type}}",
        "uploadUrl": f"{base}/upload/{{accountId}}/",
    }
    state = hashlib.sha256(_encoder.encode(session)).hexdigest()[:16]
    if WEBSOCKET in capabilities:
        session["capabilities"][WEBSOCKET] = {"url": web_socket_url, **capabilities[WEBSOCKET]}
    return {**session, "eventSourceUrl": event_source_url, "state": state}


def _account(account: SessionAccount) -> dict[str, Any]:
    return {
        "name": account.name,
        "isPersonal": account.is_personal,
        "isReadOnly": account.is_read_only,
        "accountCapabilities": dict(account.capabilities),
    }


def _primary_accounts(
    accounts: Sequence[SessionAccount], primary: str, capabilities: Mapping[str, Mapping[str, Any]]
) -> dict[str, str]:
    """The account logged in with where it has the capability, else the first personal one that has it.

    RFC 8620 §2: core should not be there; no entry where no account of the user's own is fit.
    """
    ranked = sorted((each for each in accounts if each.is_personal), key=lambda each: each.id != primary)
    found: dict[str, str] = {}
    for account in ranked:
        for urn in account.capabilities:
            if urn != CORE and urn in capabilities:
                found.setdefault(urn, account.id)
    return found
