"""urn:ietf:params:jmap:core (RFC 8620 §2, §4, §6.3): the limits, Core/echo, Blob/copy."""

from __future__ import annotations

from typing import Any

from jmapplug.capabilities.core import push_subscription
from jmapplug.capabilities.core.blob_copy import blob_copy
from jmapplug.hookspecs import AccountInfo, Capability, hookimpl
from jmapplug.jmap.methods import Args, Call, Limits, Method, Reply
from jmapplug.jmap.sorting import COLLATIONS

URN = "urn:ietf:params:jmap:core"


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
    """Nothing in core belongs to an account."""


CORE = Capability(
    urn=URN,
    methods=(
        Method("Core/echo", echo, URN, needs_account=False),
        Method("Blob/copy", blob_copy, URN),
        Method("PushSubscription/get", push_subscription.get, URN, needs_account=False),
        Method("PushSubscription/set", push_subscription.set_, URN, needs_account=False),
    ),
    server_value=server_value,
    account_value=account_value,
)


@hookimpl
def register_capabilities() -> list[Capability]:
    return [CORE]
