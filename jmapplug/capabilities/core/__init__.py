"""urn:ietf:params:jmap:core (RFC 8620 §2, §4, §6.3, §7.2): the limits, Core/echo, Blob/copy, web push (RFC 9749)."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from jmapplug.capabilities.core import push_subscription
from jmapplug.capabilities.core.blob_copy import blob_copy
from jmapplug.capabilities.core.pusher import URN, Pusher
from jmapplug.capabilities.core.settings import SETTINGS
from jmapplug.errors import SettingError
from jmapplug.hookspecs import AccountInfo, Capability, Schema, hookimpl
from jmapplug.jmap.methods import Args, Call, Limits, Method, Reply
from jmapplug.jmap.sorting import COLLATIONS
from jmapplug.settings import Setting, Settings

log = logging.getLogger("jmapplug.push")

_HERE = Path(__file__).parent
VAPID_URN = "urn:ietf:params:jmap:webpush-vapid"


def echo(call: Call, args: Args) -> Reply:
    """``Core/echo``, RFC 8620 §4: the arguments, as they are."""
    return args


def server_value(limits: Limits) -> dict[str, Any]:
    """The object under Session.capabilities: every member that RFC 8620 §2 requires (real clients fail without)."""
    return {
        "maxSizeUpload": limits.max_size_upload,
        "maxConcurrentUpload": limits.max_concurrent_upload,
        "maxSizeRequest": limits.max_size_request,
        "maxConcurrentRequests": limits.max_concurrent_requests,
        "maxCallsInRequest": limits.max_calls_in_request,
        "maxObjectsInGet": limits.max_objects_in_get,
        "maxObjectsInSet": limits.max_objects_in_set,
        "collationAlgorithms": list(COLLATIONS),
    }


def account_value(info: AccountInfo) -> None:
    """Nothing in core belongs to an account, nor in web push."""


def vapid_value(settings: Settings) -> dict[str, Any] | None:
    """RFC 9749 §3: ``applicationServerKey``; None (it is not announced) where the key cannot be read."""
    from jmapplug.capabilities.core import vapid

    try:
        return {"applicationServerKey": vapid.load(settings.datadir).public}
    except SettingError as error:
        log.error("web push is not offered: %s", error)
        return None


CORE = Capability(
    urn=URN,
    methods=(
        Method("Core/echo", echo, URN, needs_account=False),
        Method("Blob/copy", blob_copy, URN),
        Method("PushSubscription/get", push_subscription.get, URN, needs_account=False, of_login=True),
        Method("PushSubscription/set", push_subscription.set_, URN, needs_account=False, of_login=True, writes=True),
    ),
    server_value=server_value,
    account_value=account_value,
    schema=Schema(own=tuple((_HERE / f"own_{n}.sql").read_text(encoding="utf-8") for n in (1, 2))),
    service=Pusher,
)
WEBPUSH = Capability(urn=VAPID_URN, service_value=vapid_value, account_value=account_value)


@hookimpl
def register_capabilities() -> list[Capability]:
    return [CORE, WEBPUSH]


@hookimpl
def register_settings() -> list[Setting]:
    return list(SETTINGS)
