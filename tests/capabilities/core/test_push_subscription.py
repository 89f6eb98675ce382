"""PushSubscription/get and /set (RFC 8620 §7.2) while there is no push to outside."""

from __future__ import annotations

from typing import Any

import pytest

from jmapplug.capabilities.core import push_subscription
from jmapplug.jmap.errors import MethodError
from jmapplug.jmap.methods import Call, Limits


def call(method: Any, **args: Any) -> dict[str, Any]:
    found: dict[str, Any] = method(Call("x", "", None, Limits(), {}, frozenset()), args)
    return found


def test_there_are_none() -> None:
    assert call(push_subscription.get, ids=None) == {"list": [], "notFound": []}
    assert call(push_subscription.get, ids=["a", "a"], properties=["types"]) == {"list": [], "notFound": ["a"]}


@pytest.mark.parametrize("args", [{"ids": "a"}, {"ids": [1]}, {"properties": ["url"]}, {"accountId": "a"}])
def test_arguments_of_get_are_checked(args: dict[str, Any]) -> None:
    with pytest.raises(MethodError) as caught:
        call(push_subscription.get, **args)
    assert caught.value.type == "invalidArguments"


def test_a_subscription_is_refused_by_name_and_never_taken_silently() -> None:
    record = {"deviceClientId": "d", "url": "https://push.example.com/x"}
    reply = call(push_subscription.set_, create={"p": record}, update={"u": {}}, destroy=["d"])
    assert set(reply) == {"created", "updated", "destroyed", "notCreated", "notUpdated", "notDestroyed"}
    assert reply["created"] is None
    assert reply["notCreated"]["p"]["type"] == "forbidden"
    assert reply["notUpdated"]["u"]["type"] == reply["notDestroyed"]["d"]["type"] == "notFound"


@pytest.mark.parametrize(
    ("record", "name"),
    [
        ({"deviceClientId": "d", "url": "http://push.example.com/"}, "url"),
        ({"deviceClientId": "d"}, "url"),
        ({"url": "https://push.example.com/"}, "deviceClientId"),
    ],
)
def test_what_is_wrong_with_a_subscription_is_named(record: dict[str, Any], name: str) -> None:
    error = call(push_subscription.set_, create={"p": record})["notCreated"]["p"]
    assert (error["type"], error["properties"]) == ("invalidProperties", [name])
