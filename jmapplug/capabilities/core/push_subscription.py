"""PushSubscription/get and /set (RFC 8620 §7.2): kept in the account logged in with, seen by who made them.

That is whoever comes with the same credentials: the same token, or the account's password while it is the same.
"""

from __future__ import annotations

import calendar
import hmac
import secrets
import time
from collections.abc import Mapping
from typing import Any

from jmapplug.capabilities.core import push_target
from jmapplug.capabilities.core import store as sql
from jmapplug.capabilities.core.pusher import URN, Pusher
from jmapplug.capabilities.core.store import States, Subscription
from jmapplug.errors import SettingError
from jmapplug.jmap import patch as patches
from jmapplug.jmap import sets
from jmapplug.jmap.checks import Checker, is_string, is_utc_date, list_of
from jmapplug.jmap.errors import MethodError, SetError, invalid_arguments
from jmapplug.jmap.ids import random_id
from jmapplug.jmap.methods import Args, Call, Reply

READABLE = ("id", "deviceClientId", "verificationCode", "expires", "types")
PRIVATE = frozenset({"url", "keys"})
SETTABLE = frozenset({"deviceClientId", "url", "keys", "verificationCode", "expires", "types"})
LONGEST_LIFE = 7 * 86_400
"""Seconds (RFC 8620 §7.2: "SHOULD be at least 7 days"), for credentials that have no end of their own."""
MOST_IN_AN_HOUR = 20
MOST_TYPES = 100
LONGEST_NAME = 255


def pusher_of(account: Any) -> Pusher:
    found: Pusher = account.services[URN]
    return found


# --- PushSubscription/get -----------------------------------------------------------------------------------------


def get(call: Call, args: Args) -> Reply:
    """RFC 8620 §7.2.1: no accountId, no state. Raises MethodError invalidArguments, forbidden, requestTooLarge."""
    _only(args, "ids", "properties")
    ids, properties = args.get("ids"), args.get("properties")
    if ids is not None and not list_of(is_string)(ids):
        raise invalid_arguments("ids must be an array of ids or null", "ids")
    if ids is not None and len(ids) > call.limits.max_objects_in_get:
        raise MethodError("requestTooLarge", f"At most {call.limits.max_objects_in_get} ids in a call")
    wanted = _properties(properties)
    rows = {row.id: row for row in pusher_of(call.account).of(call.credential)}
    asked = list(rows) if ids is None else list(dict.fromkeys(ids))
    shown = [
        {name: value for name, value in _json(rows[id_]).items() if name in wanted} for id_ in asked if id_ in rows
    ]
    return {"list": shown, "notFound": [id_ for id_ in asked if id_ not in rows]}


def _only(args: Args, *names: str) -> None:
    """What belongs to accounts is no argument here; null is as good as left out."""
    for name in args.keys() - set(names):
        if args[name] is not None or name not in ("accountId", "ifInState"):
            raise invalid_arguments(f"Unknown argument: {name[:100]}", name[:100])


def _properties(given: Any) -> set[str]:
    if given is None:
        return set(READABLE)
    if not list_of(is_string)(given):
        raise invalid_arguments("properties must be an array of properties or null", "properties")
    if not PRIVATE.isdisjoint(given):
        # RFC 8620 §7.2.1: "the method call MUST be rejected".
        raise MethodError("forbidden", "url and keys are never returned")
    if not set(READABLE).issuperset(given):
        raise invalid_arguments("properties must be an array of properties or null", "properties")
    return {"id", *given}


def _json(row: Subscription) -> dict[str, Any]:
    """What the client may see. The code only once it is proven that the client has it."""
    return {
        "id": row.id,
        "deviceClientId": row.device_client_id,
        "verificationCode": row.code if row.verified else None,
        "expires": _date(row.expires),
        "types": None if row.types is None else list(row.types),
    }


def _date(moment: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


# --- PushSubscription/set -----------------------------------------------------------------------------------------


def set_(call: Call, args: Args) -> Reply:
    """RFC 8620 §7.2.2: no accountId, no states. Raises MethodError invalidArguments, requestTooLarge."""
    _only(args, "create", "update", "destroy")
    reply = sets.set_(call, {name: value for name, value in args.items() if value is not None}, _Source())
    return {name: value for name, value in reply.items() if name not in ("accountId", "oldState", "newState")}


class _Source:
    """Subscriptions as a ``sets.SetSource``."""

    name = "PushSubscription"
    extra_args: Mapping[str, Checker] = {}

    def state(self, account: Any) -> str:
        return ""

    def create(self, call: Call, record: dict[str, Any], args: Args) -> dict[str, Any]:
        pusher = pusher_of(call.account)
        now, ends = pusher.clock(), _end_of(pusher, call.credential)
        fields = _checked(record, now, ends)
        settings = call.account.service_settings
        private = bool(settings.extra.get("JMAP_PUSH_PRIVATE"))
        keys, target = _keys(record.get("keys")), _target(record["url"], private)
        _admit(pusher, call.credential, now)
        _look_up(target, private)
        row = Subscription(
            id=random_id("P"),
            url=record["url"],
            p256dh=keys[0],
            auth=keys[1],
            code=secrets.token_hex(20),
            vapid=_application_server_key(settings),
            # What the client knows at this moment is its own affair; what changes from now on is told.
            told=pusher.gathered(),
            credential=call.credential,
            credential_ends=ends,
            **fields,
        )
        _begin(pusher, row)
        given = {name: None for name in ("keys", "types", "verificationCode") if name not in record}
        return {"id": row.id, **given, "expires": _date(row.expires)}

    def update(self, call: Call, id: str, patch: dict[str, Any], args: Args) -> dict[str, Any] | None:
        pusher = pusher_of(call.account)
        row = _found(pusher, call.credential, id)
        before = _json(row) | {"url": row.url, "keys": _keys_json(row)}
        after = patches.apply(before, patch, dict.fromkeys(SETTABLE))
        for name in sorted(after.keys() | before.keys()):
            if name not in before or (
                name in ("id", "deviceClientId", "url", "keys") and after.get(name) != before[name]
            ):
                raise _invalid(name, "unknown, or cannot be changed")
        now = pusher.clock()
        values: dict[str, Any] = {}
        if after["verificationCode"] != before["verificationCode"]:
            values["verified"] = _verified(row, after["verificationCode"])
        if "expires" in patch:
            values["expires"] = _expires(after["expires"], now, row.credential_ends)
        if after["types"] != before["types"]:
            values |= _new_types(row, _types(after["types"]), pusher.states())
        sql.change(pusher.account.store, id, **values)
        if values.get("verified"):
            _replace_earlier(pusher, row)
        pusher.note()
        pusher.kick()
        told = _date(values["expires"]) if "expires" in values else None
        return {"expires": told} if told is not None and told != patch["expires"] else None

    def destroy(self, call: Call, id: str, args: Args) -> None:
        pusher = pusher_of(call.account)
        pusher.remove([_found(pusher, call.credential, id).id])


def _found(pusher: Pusher, credential: str, id_: str) -> Subscription:
    row = next((each for each in pusher.of(credential) if each.id == id_), None)
    if row is None:
        raise SetError("notFound", "There is no such subscription.")
    return row


def _invalid(name: str, why: str) -> SetError:
    return SetError("invalidProperties", why, [name])


def _end_of(pusher: Pusher, credential: str) -> int | None:
    """When these credentials end, unix seconds; None: not by themselves. Raises SetError, MethodError."""
    standing = pusher.check()
    if standing is None:
        raise MethodError("serverUnavailable", "The service cannot check the log-in at the moment.")
    if credential not in standing.credentials:
        raise SetError("forbidden", "The credentials are not valid any more.")
    ends: int | None = standing.credentials[credential]
    return ends


def _checked(record: dict[str, Any], now: float, ends: int | None) -> dict[str, Any]:
    """The plain properties of a new subscription. Raises SetError invalidProperties, with all unknown names."""
    if unknown := sorted(record.keys() - SETTABLE):
        raise SetError("invalidProperties", "unknown, or set by the server", [name[:100] for name in unknown])
    device = record.get("deviceClientId")
    if not isinstance(device, str) or not 0 < len(device) <= LONGEST_NAME:
        raise _invalid("deviceClientId", f"deviceClientId must be a string of 1 to {LONGEST_NAME} characters")
    if record.get("verificationCode") is not None:
        raise _invalid("verificationCode", "verificationCode must be null at creation (RFC 8620 §7.2)")
    if not isinstance(record.get("url"), str):
        raise _invalid("url", "url must be a string")
    expires = _expires(record.get("expires"), now, ends)
    return {"device_client_id": device, "expires": expires, "types": _types(record.get("types"))}


def _expires(value: Any, now: float, ends: int | None) -> int:
    """RFC 8620 §7.2: none given and too far away alike end at the limit, or with credentials that have an end."""
    latest = int(now) + LONGEST_LIFE if ends is None else ends
    if value is None:
        return latest
    if not is_utc_date(value):
        raise _invalid("expires", "expires must be a UTCDate or null")
    moment = calendar.timegm(time.strptime(value[:17] + "00", "%Y-%m-%dT%H:%M:%S")) + int(value[17:19])
    if moment <= now:
        raise _invalid("expires", "expires is in the past")
    return min(moment, latest)


def _types(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not list_of(is_string)(value) or len(value) > MOST_TYPES or any(len(name) > LONGEST_NAME for name in value):
        raise _invalid("types", f"types must be an array of at most {MOST_TYPES} type names, or null")
    return tuple(dict.fromkeys(value))


def _new_types(row: Subscription, types: tuple[str, ...] | None, states: States) -> dict[str, Any]:
    """What was not wanted before begins at its state now."""
    others = {id_: {name: state for name, state in each.items() if not row.wants(name)} for id_, each in states.items()}
    return {"types": types, "told": row.told_also(others)}


def _keys(value: Any) -> tuple[str | None, str | None]:
    if value is None:
        return None, None
    from jmapplug.capabilities.core import push_encryption

    try:
        p256dh, auth = value["p256dh"], value["auth"]
        push_encryption.check_keys(p256dh, auth)
    except (TypeError, KeyError, ValueError):
        why = "keys must have p256dh (a P-256 point, uncompressed) and auth (16 octets), in URL-safe base64"
        raise _invalid("keys", why) from None
    return p256dh, auth


def _keys_json(row: Subscription) -> dict[str, Any] | None:
    return None if row.p256dh is None else {"p256dh": row.p256dh, "auth": row.auth}


def _target(url: str, private: bool) -> push_target.Target:
    try:
        return push_target.parse(url, private)
    except push_target.Refused as error:
        raise _invalid("url", str(error)) from None


def _look_up(target: push_target.Target, private: bool) -> None:
    try:
        push_target.addresses(target, private)
    except (push_target.Refused, push_target.Unresolved) as error:
        raise _invalid("url", str(error)) from None


def _begin(pusher: Pusher, row: Subscription) -> None:
    """Looking the host up and asking the other accounts took a while. Raises SetError overQuota."""
    try:
        _room(pusher, row.credential)
    except SetError:
        pusher.note()
        raise
    pusher.begin(row)


def _room(pusher: Pusher, credential: str) -> None:
    most: int = pusher.account.service_settings.extra["JMAP_PUSH_SUBSCRIPTIONS"]
    if len(pusher.of(credential)) >= most:
        raise SetError("overQuota", f"A login may have {most} push subscriptions")


def _admit(pusher: Pusher, credential: str, now: float) -> None:
    """RFC 8620 §8.6: the number and the rate of creation are limited. Raises SetError overQuota, rateLimit."""
    store = pusher.account.store
    _room(pusher, credential)
    if sql.created_since(store, now - 3600) >= MOST_IN_AN_HOUR:
        raise SetError("rateLimit", f"At most {MOST_IN_AN_HOUR} push subscriptions in an hour")
    sql.note_creation(store, now, 3600)


def _application_server_key(settings: Any) -> str:
    from jmapplug.capabilities.core import vapid

    try:
        return vapid.load(settings.datadir).public
    except SettingError:
        raise SetError("forbidden", "This service cannot push at the moment; its operator has to look.") from None


def _verified(row: Subscription, code: Any) -> int:
    """RFC 8620 §7.2.2: a wrong code "MUST be rejected … with an invalidProperties SetError"."""
    if not isinstance(code, str) or not hmac.compare_digest(code.encode("utf-8", "replace"), row.code.encode()):
        raise _invalid("verificationCode", "this is not the code that was pushed")
    return 1


def _replace_earlier(pusher: Pusher, row: Subscription) -> None:
    """The client made this one again without knowing of the last: a device is not told everything twice."""
    same = [each.id for each in pusher.live() if (each.device_client_id, each.url) == (row.device_client_id, row.url)]
    pusher.remove([id_ for id_ in same if id_ != row.id])
