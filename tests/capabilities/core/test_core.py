from __future__ import annotations

import json

from jmapplug import hookspecs
from jmapplug.capabilities import core
from jmapplug.jmap.dispatch import execute
from jmapplug.jmap.methods import Limits
from jmapplug.jmap.request import parse
from jmapplug.jmap.sorting import COLLATIONS

CAPABILITY = core.register_capabilities()[0]
METHODS = {method.name: method for method in CAPABILITY.methods}


def test_core_is_registered_through_the_public_hook() -> None:
    assert getattr(core.register_capabilities, f"{hookspecs.PROJECT}_impl")
    assert CAPABILITY.urn == "urn:ietf:params:jmap:core"


def test_jmapc_and_mujmap_find_all_eight_members_of_the_core_capability() -> None:
    limits = Limits(1, 2, 3, 4, 5, 6, 7)
    assert CAPABILITY.server_value(limits) == {
        "maxSizeUpload": 1,
        "maxConcurrentUpload": 2,
        "maxSizeRequest": 3,
        "maxConcurrentRequests": 4,
        "maxCallsInRequest": 5,
        "maxObjectsInGet": 6,
        "maxObjectsInSet": 7,
        "collationAlgorithms": list(COLLATIONS),
    }


def test_the_default_limits_reach_the_suggested_minimums() -> None:
    value = CAPABILITY.server_value(Limits())
    minimums = {
        "maxSizeUpload": 50_000_000,
        "maxConcurrentUpload": 4,
        "maxSizeRequest": 10_000_000,
        "maxConcurrentRequests": 4,
        "maxCallsInRequest": 32,
        "maxObjectsInGet": 500,
        "maxObjectsInSet": 500,
    }
    assert all(value[name] >= minimum for name, minimum in minimums.items())


def test_core_has_nothing_to_say_of_an_account() -> None:
    info = hookspecs.AccountInfo("A1", "anna@example.com", "imap", frozenset({"mail"}))
    assert CAPABILITY.account_value(info) is None


def test_core_echo_needs_no_account_and_answers_what_it_got() -> None:
    args = {"hello": True, "high": 5, "nested": {"a": [None, "ü", {}]}, "accountId": "nobody"}
    body = json.dumps({"using": [CAPABILITY.urn], "methodCalls": [["Core/echo", args, "b3ff"]]}).encode()
    request = parse(body, [CAPABILITY.urn], Limits())
    answer = json.loads(execute(request, METHODS, lambda account_id: None, Limits(), session_state="s"))
    assert answer == {"methodResponses": [["Core/echo", args, "b3ff"]], "sessionState": "s"}
