"""PushSubscription/get and /set (RFC 8620 §7.2) of a service that pushes nothing to outside yet.

There are no subscriptions, and none can be made: that is said, and never a subscription taken that stays silent.
"""

from __future__ import annotations

from typing import Any

from jmapplug.jmap import sets
from jmapplug.jmap.checks import is_string, list_of
from jmapplug.jmap.errors import SetError, invalid_arguments
from jmapplug.jmap.methods import Args, Call, Reply
from jmapplug.jmap.sets import Outcome

PROPERTIES = frozenset({"id", "deviceClientId", "verificationCode", "expires", "types"})
"""What may be asked for: ``url`` and ``keys`` are never returned (RFC 8620 §7.2.1)."""
UNAVAILABLE = "This service has no push to outside; use the event source of the Session."


def get(call: Call, args: Args) -> Reply:
    """RFC 8620 §7.2.1: no accountId, no state. Raises MethodError invalidArguments, forbidden."""
    ids, properties = args.get("ids"), args.get("properties")
    for name in args.keys() - {"ids", "properties"}:
        raise invalid_arguments(f"Unknown argument: {name[:100]}", name[:100])
    if ids is not None and not list_of(is_string)(ids):
        raise invalid_arguments("ids must be an array of ids or null", "ids")
    if properties is not None and not (list_of(is_string)(properties) and PROPERTIES.issuperset(properties)):
        raise invalid_arguments("properties must be an array of readable properties or null", "properties")
    return {"list": [], "notFound": list(dict.fromkeys(ids or ()))}


def set_(call: Call, args: Args) -> Reply:
    """RFC 8620 §7.2.2: no accountId, no states. Raises MethodError invalidArguments, requestTooLarge."""
    request = sets.parse(call, args)
    outcome = Outcome()
    for key, record in request.create.items():
        outcome.not_created[key] = _refusal(record)
    for id_ in request.update:
        outcome.not_updated[id_] = SetError("notFound", "There is no such subscription.")
    for id_ in request.destroy:
        outcome.not_destroyed[id_] = SetError("notFound", "There is no such subscription.")
    reply = outcome.reply("", None, "")
    return {name: value for name, value in reply.items() if name not in ("accountId", "oldState", "newState")}


def _refusal(record: dict[str, Any]) -> SetError:
    url = record.get("url")
    if not isinstance(url, str) or not url.startswith("https://"):
        return SetError("invalidProperties", "url must begin with https:// (RFC 8620 §7.2)", ["url"])
    if not isinstance(record.get("deviceClientId"), str):
        return SetError("invalidProperties", "deviceClientId must be a string", ["deviceClientId"])
    return SetError("forbidden", UNAVAILABLE)
