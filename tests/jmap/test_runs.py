from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmapplug.jmap import runs
from jmapplug.jmap.dispatch import encode_run, execute, run
from jmapplug.jmap.errors import MethodError
from jmapplug.jmap.methods import Args, Call, Limits, Method, Reply
from jmapplug.jmap.request import Answer, AnyAnswer, Invocation, RawAnswer, Request, trusted

CORE = "urn:ietf:params:jmap:core"


def request(*accounts: Any, created_ids: dict[str, str] | None = None) -> Request:
    """One call for each of ``accounts``; None: a call that names no account."""
    calls = tuple(
        Invocation("Foo/get", {} if account is None else {"accountId": account}, f"c{n}")
        for n, account in enumerate(accounts)
    )
    return Request(frozenset({CORE}), calls, created_ids)


def shape(*accounts: Any, allowed: Any = None) -> list[tuple[str, int, int]]:
    return [(each.account_id, each.position, len(each.calls)) for each in runs.split(request(*accounts), "P", allowed)]


def test_a_request_for_one_account_is_one_run() -> None:
    assert shape("A", "A", "A") == [("A", 0, 3)]


def test_consecutive_calls_for_one_account_share_a_run() -> None:
    assert shape("A", "A", "B", "A") == [("A", 0, 2), ("B", 2, 1), ("A", 3, 1)]


def test_calls_without_an_account_stay_where_they_stand() -> None:
    assert shape(None, "B", None, "B", None) == [("B", 0, 5)]
    assert shape("A", None, "B") == [("A", 0, 2), ("B", 2, 1)]
    assert shape("A", 5, ["B"], "B") == [("A", 0, 3), ("B", 3, 1)]


def test_a_request_that_names_no_account_goes_to_the_primary_one() -> None:
    assert shape(None, None) == [("P", 0, 2)]
    assert shape() == [("P", 0, 0)]


def test_foreign_accounts_make_no_run_of_their_own() -> None:
    assert shape("X", "A", "X", "B", allowed={"A", "B"}) == [("A", 0, 3), ("B", 3, 1)]
    assert shape("X", allowed={"A"}) == [("P", 0, 1)]


@given(st.lists(st.sampled_from(["A", "B", "X", None, 5]), max_size=12))
def test_runs_hold_every_call_once_in_order_and_neighbours_differ(accounts: list[Any]) -> None:
    whole = request(*accounts)
    found = runs.split(whole, "P", {"A", "B"})
    assert tuple(call for each in found for call in each.calls) == whole.calls
    assert all(one.account_id != other.account_id for one, other in pairwise(found))
    for each in found:
        assert whole.calls[each.position : each.position + len(each.calls)] == each.calls
        assert {call.args.get("accountId") for call in each.calls} & {"A", "B"} <= {each.account_id}


def test_a_method_of_the_login_goes_to_the_account_logged_in_with() -> None:
    calls = [("Foo/get", {"accountId": "A"}), ("Login/get", {}), ("Login/set", {"accountId": "B"}), ("Foo/get", {})]
    whole = Request(frozenset({CORE}), tuple(Invocation(name, args, "c") for name, args in calls), None)
    found = runs.split(whole, "P", {"A", "B", "P"}, {"Login/get", "Login/set"})
    assert [(each.account_id, each.position, len(each.calls)) for each in found] == [("A", 0, 1), ("P", 1, 3)]


def test_a_run_needs_the_first_response_of_each_call_that_it_refers_to() -> None:
    reference = {"resultOf": "c1", "name": "Foo/get", "path": "/ids"}
    run_ = runs.Run("A", 0, (Invocation("Foo/get", {"#ids": reference, "#more": 5}, "c2"),))
    earlier = [Answer("Foo/get", n, call_id) for n, call_id in enumerate(["c0", "c1", "c1", "c3"])]
    assert runs.needed(run_, earlier) == [earlier[1]]
    assert runs.needed(runs.Run("A", 0, (Invocation("Foo/get", {}, "c2"),)), earlier) == []


def test_a_run_arrives_at_the_worker_as_it_was_sent() -> None:
    run_ = runs.Run("A", 0, request("A").calls)
    previous: list[AnyAnswer] = [
        Answer("Foo/get", {"ids": ["x"]}, "p"),
        RawAnswer("Foo/get", msgspec.Raw(b'{"a":1}'), "q"),
    ]
    got = trusted(runs.encode_body(run_, [CORE], {"k": "f"}, previous))
    assert (got.using, got.calls, got.created_ids) == (frozenset({CORE}), run_.calls, {"k": "f"})
    assert [(each.name, bytes(each.args), each.call_id) for each in got.previous] == [
        ("Foo/get", b'{"ids":["x"]}', "p"),
        ("Foo/get", b'{"a":1}', "q"),
    ]
    assert trusted(runs.encode_body(run_, [CORE], None)).created_ids is None


def test_a_broken_answer_of_a_worker_is_an_error_of_the_decoder() -> None:
    for body in (b"", b"{}", b'{"methodResponses":[["a",{}]],"createdIds":{}}'):
        with pytest.raises(msgspec.MsgspecError):
            runs.decode_answer(body)


def test_every_call_of_a_run_without_an_answer_gets_the_error() -> None:
    run_ = runs.split(request("A", "A"), "A")[0]
    answers = runs.failed(run_, MethodError("serverUnavailable", "Away"))
    assert json.loads(runs.merge([answers], "s", None)) == {
        "methodResponses": [
            ["error", {"type": "serverUnavailable", "description": "Away"}, "c0"],
            ["error", {"type": "serverUnavailable", "description": "Away"}, "c1"],
        ],
        "sessionState": "s",
    }


def numbers(call: Call, args: Args) -> Reply:
    call.created_ids[f"k{len(call.created_ids)}"] = call.account_id
    given = [int(n) for n in args.get("ids", [])]
    return {"list": [{"id": n} for n in [*given, len(given)]], "made": dict(call.created_ids)}


METHODS = {"Foo/get": Method("Foo/get", numbers, CORE)}


def through_runs(whole: Request) -> bytes:
    """What a front and one worker per account do."""
    answers: list[RawAnswer] = []
    created = whole.created_ids
    for run_ in runs.split(whole, "A", {"A", "B"}):
        body = runs.encode_body(run_, whole.using, created, runs.needed(run_, answers))
        own = {run_.account_id: run_.account_id}
        reply = runs.decode_answer(encode_run(run(trusted(body), METHODS, own.get, Limits())))
        answers += reply.method_responses
        created = reply.created_ids
    return runs.merge([answers], "s", None if whole.created_ids is None else created)


@given(
    st.lists(st.tuples(st.sampled_from(["A", "B", "X", None]), st.none() | st.integers(0, 7)), max_size=8),
    st.none() | st.just({}) | st.just({"k0": "x"}),
)
def test_a_request_over_several_workers_is_answered_as_by_one(
    plan: list[tuple[str | None, int | None]], created: dict[str, str] | None
) -> None:
    calls = []
    for n, (account, of) in enumerate(plan):
        args: Args = {} if account is None else {"accountId": account}
        if of is not None:
            args["#ids"] = {"resultOf": f"c{of}", "name": "Foo/get", "path": "/list/*/id"}
        calls.append(Invocation("Foo/get", args, f"c{n}"))
    whole = Request(frozenset({CORE}), tuple(calls), created)
    both = {"A": "A", "B": "B"}
    assert json.loads(through_runs(whole)) == json.loads(execute(whole, METHODS, both.get, Limits(), session_state="s"))
