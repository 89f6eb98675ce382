"""onSuccessUpdateEmail and onSuccessDestroyEmail: the implicit Email/set behind EmailSubmission/set (RFC 8621 §7.5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jmapplug.jmap.checks import list_of, map_of
from jmapplug.jmap.errors import MethodError
from jmapplug.jmap.methods import Args, Call
from jmapplug.jmap.sets import is_reference, resolved


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


EXTRA_ARGS = {
    "onSuccessUpdateEmail": map_of(is_reference, _is_object),
    "onSuccessDestroyEmail": list_of(is_reference),
}


def run(call: Call, extra: Args, emails: Mapping[str, str]) -> None:
    """``emails``: creation id or id of each submission that succeeded → its Email. Nothing to do: no call."""
    succeeded = {call.created_ids.get(key, key): email for key, email in emails.items()}
    update: dict[str, dict[str, Any]] = {}
    for key, changes in extra.get("onSuccessUpdateEmail", {}).items():
        email = succeeded.get(resolved(call, key))
        if email is not None:
            update[email] = update.get(email, {}) | changes
    destroy = [
        succeeded[id_] for key in extra.get("onSuccessDestroyEmail", []) if (id_ := resolved(call, key)) in succeeded
    ]
    if not update and not destroy:
        return
    args: Args = {"update": update or None, "destroy": list(dict.fromkeys(destroy)) or None}
    place = len(call.extra)
    try:
        answer = ("Email/set", call.invoke("Email/set", args))
    except MethodError as error:
        answer = ("error", error.to_json())
    # Before what that call itself has added.
    call.extra.insert(place, answer)
