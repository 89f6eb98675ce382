from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from jmapplug.jmap.dispatch import Outcome, encode_response, encode_run, execute, run
from jmapplug.jmap.errors import MethodError, RequestError, SetError, invalid_arguments
from jmapplug.jmap.methods import Args, Call, Limits, Method, Reply
from jmapplug.jmap.request import Answer, Invocation, RawAnswer, Request, parse, trusted

CORE, MAIL, SENDING = (f"urn:ietf:params:jmap:{name}" for name in ("core", "mail", "submission"))
LIMITS = Limits()
ACCOUNTS = {"A1": "account one", "A2": "account two"}
seen: list[Call] = []


def echo(call: Call, args: Args) -> Reply:
    seen.append(call)
    return args


def make(call: Call, args: Args) -> Reply:
    call.created_ids[args["as"]] = args["id"]
    call.extra.append(("Foo/get", {"implicit": True}))
    return {"created": {args["as"]: {"id": args["id"]}}}


def fail(call: Call, args: Args) -> Reply:
    call.extra.append(("Foo/get", {"implicit": True}))
    raise MethodError("stateMismatch", "Not that state", newState="s2")


def crash(call: Call, args: Args) -> Reply:
    raise ZeroDivisionError("password=hunter2")


def upstream(call: Call, args: Args) -> Reply:
    raise ConnectionError("imap.example.com is away")


METHODS = {
    method.name: method
    for method in (
        Method("Core/echo", echo, CORE, needs_account=False),
        Method("Login/get", echo, CORE, needs_account=False, of_login=True),
        Method("Foo/get", echo, MAIL),
        Method("Foo/set", make, MAIL, writes=True),
        Method("Foo/fail", fail, MAIL),
        Method("Foo/crash", crash, MAIL),
        Method("Foo/away", upstream, MAIL),
        Method("Foo/submit", echo, SENDING, also=(MAIL,)),
        Method("Foo/odd", lambda call, args: {"odd": object()}, MAIL),
        Method("Foo/surrogate", lambda call, args: {"text": "\ud800"}, MAIL),
        Method("Foo/raw", lambda call, args: {"list": [msgspec.Raw(b'{"id":"r1"}')]}, MAIL),
    )
}


def request(*calls: tuple[str, Any], using: tuple[str, ...] = (CORE, MAIL), **more: Any) -> Request:
    invocations = tuple(Invocation(name, args, f"c{n}") for n, (name, args) in enumerate(calls))
    return Request(frozenset(using), invocations, **more)


def ran(*calls: tuple[str, Any], using: tuple[str, ...] = (CORE, MAIL), **options: Any) -> list[tuple[str, Any, str]]:
    outcome = run(request(*calls, using=using), METHODS, ACCOUNTS.get, LIMITS, **options)
    return [(answer.name, answer.args, answer.call_id) for answer in outcome.responses]


def error_of(*calls: tuple[str, Any], **options: Any) -> str:
    name, args, _ = ran(*calls, **options)[-1]
    assert name == "error"
    kind: str = args["type"]
    return kind


def response(*calls: tuple[str, Any], **more: Any) -> Any:
    return json.loads(execute(request(*calls, **more), METHODS, ACCOUNTS.get, LIMITS, session_state="s1"))


def test_calls_are_answered_in_order_with_their_call_ids() -> None:
    assert response(("Core/echo", {"a": [1, None, True]}), ("Foo/get", {"accountId": "A1"})) == {
        "methodResponses": [
            ["Core/echo", {"a": [1, None, True]}, "c0"],
            ["Foo/get", {"accountId": "A1"}, "c1"],
        ],
        "sessionState": "s1",
    }


def test_a_request_without_calls_has_an_empty_response() -> None:
    assert response() == {"methodResponses": [], "sessionState": "s1"}


def test_a_method_of_the_login_gets_the_account_logged_in_with_whatever_it_names() -> None:
    seen.clear()
    ran(("Login/get", {}), ("Login/get", {"accountId": "A2"}), ("Core/echo", {}), login="account one")
    assert [call.account for call in seen] == ["account one", "account one", None]


def test_an_unknown_method_fails_alone() -> None:
    responses = ran(("Foo/none", {}), ("Core/echo", {"a": 1}))
    assert responses == [("error", {"type": "unknownMethod"}, "c0"), ("Core/echo", {"a": 1}, "c1")]


def test_an_empty_using_knows_no_method_at_all() -> None:
    assert error_of(("Core/echo", {}), using=()) == "unknownMethod"
    assert error_of(("Foo/get", {"accountId": "A1"}), using=()) == "unknownMethod"


def test_a_method_exists_only_if_its_capability_is_used() -> None:
    assert error_of(("Foo/get", {"accountId": "A1"}), using=(CORE,)) == "unknownMethod"
    assert error_of(("Core/echo", {}), using=(MAIL,)) == "unknownMethod"


def test_aerc_uses_mail_without_core() -> None:
    assert ran(("Foo/get", {"accountId": "A1"}), using=(MAIL,))[0][0] == "Foo/get"


def test_bulwark_submits_with_core_and_mail_only() -> None:
    call = ("Foo/submit", {"accountId": "A1"})
    assert ran(call, using=(CORE, MAIL))[0][0] == "Foo/submit"
    assert ran(call, using=(SENDING,))[0][0] == "Foo/submit"
    assert error_of(call, using=(CORE,)) == "unknownMethod"


@pytest.mark.parametrize("args", [{}, {"accountId": None}, {"accountId": 1}, {"accountId": ["A1"]}])
def test_a_missing_or_odd_account_id_is_invalid_arguments(args: Args) -> None:
    assert error_of(("Foo/get", args)) == "invalidArguments"


def test_an_account_that_the_login_does_not_have_is_not_found() -> None:
    assert error_of(("Foo/get", {"accountId": "A9"})) == "accountNotFound"


def test_the_handler_gets_the_account_and_the_frame_of_its_request() -> None:
    seen.clear()
    ran(("Foo/get", {"accountId": "A2"}), ("Core/echo", {}), created_ids={"k": "f1"})
    call = seen[0]
    assert (call.name, call.account_id, call.account) == ("Foo/get", "A2", "account two")
    assert (call.limits, call.using, call.created_ids) == (LIMITS, frozenset({CORE, MAIL}), {"k": "f1"})
    assert (seen[1].account_id, seen[1].account) == ("", None)


def test_references_are_resolved_before_the_account_is_looked_up() -> None:
    reference = {"resultOf": "c0", "name": "Core/echo", "path": "/id"}
    responses = ran(("Core/echo", {"id": "A1"}), ("Foo/get", {"#accountId": reference, "x": 1}))
    assert responses[1] == ("Foo/get", {"accountId": "A1", "x": 1}, "c1")


def test_a_reference_that_fails_rejects_its_call_only() -> None:
    bad = {"resultOf": "c0", "name": "Core/echo", "path": "/none"}
    responses = ran(("Core/echo", {}), ("Core/echo", {"#a": bad}), ("Core/echo", {}))
    assert [name for name, _, _ in responses] == ["Core/echo", "error", "Core/echo"]
    assert responses[1][1]["type"] == "invalidResultReference"


def test_a_reference_to_a_later_call_or_to_itself_fails() -> None:
    for of in ("c0", "c1"):
        reference = {"resultOf": of, "name": "Core/echo", "path": ""}
        assert ran(("Core/echo", {"#a": reference}), ("Core/echo", {}))[0][1]["type"] == "invalidResultReference"


def test_a_reference_can_name_an_encoded_part_of_a_response() -> None:
    reference = {"resultOf": "c0", "name": "Foo/raw", "path": "/list/*/id"}
    assert response(("Foo/raw", {"accountId": "A1"}), ("Core/echo", {"#ids": reference}))["methodResponses"] == [
        ["Foo/raw", {"list": [{"id": "r1"}]}, "c0"],
        ["Core/echo", {"ids": ["r1"]}, "c1"],
    ]


def test_a_reference_cannot_mean_the_implicit_response_of_a_call() -> None:
    reference = {"resultOf": "c0", "name": "Foo/get", "path": "/implicit"}
    assert error_of(("Foo/set", {"accountId": "A1", "as": "k", "id": "f"}), ("Core/echo", {"#a": reference})) == (
        "invalidResultReference"
    )


def test_echoes_of_echoes_cannot_grow_without_bound() -> None:
    first = ("Core/echo", {"x": "y" * 1000})
    bombs = [
        ("Core/echo", {f"#{name}": {"resultOf": f"c{n}", "name": "Core/echo", "path": ""} for name in "abcdefgh"})
        for n in range(30)
    ]
    responses = ran(first, *bombs)
    assert responses[-1][1]["type"] == "invalidResultReference"
    assert len(encode_response([Answer(*each) for each in responses], "s", None)) < 100_000_000


def test_the_deepest_request_that_is_let_in_is_answered() -> None:
    deep = b"[" * 252 + b"]" * 252
    body = b'{"using":["' + CORE.encode() + b'"],"methodCalls":[["Core/echo",{"x":' + deep + b'},"c0"]]}'
    for whole in (parse(body, {CORE}, LIMITS), trusted(body)):
        answer = execute(whole, METHODS, ACCOUNTS.get, LIMITS, session_state="s1")
        assert deep in answer


def test_implicit_responses_follow_with_the_same_call_id() -> None:
    assert ran(("Foo/set", {"accountId": "A1", "as": "k1", "id": "f1"}), ("Core/echo", {})) == [
        ("Foo/set", {"created": {"k1": {"id": "f1"}}}, "c0"),
        ("Foo/get", {"implicit": True}, "c0"),
        ("Core/echo", {}, "c1"),
    ]


def test_a_method_error_is_answered_with_its_members_and_without_implicit_calls() -> None:
    assert ran(("Foo/fail", {"accountId": "A1"}), ("Core/echo", {})) == [
        ("error", {"type": "stateMismatch", "description": "Not that state", "newState": "s2"}, "c0"),
        ("Core/echo", {}, "c1"),
    ]


def test_created_ids_are_returned_only_to_a_client_that_sent_them() -> None:
    call = ("Foo/set", {"accountId": "A1", "as": "k1", "id": "f1"})
    assert "createdIds" not in response(call)
    assert response(call, created_ids={})["createdIds"] == {"k1": "f1"}
    assert response(call, created_ids={"k0": "f0"})["createdIds"] == {"k0": "f0", "k1": "f1"}


def test_the_clients_created_ids_are_copied_and_a_later_call_sees_new_ones() -> None:
    seen.clear()
    given = {"k0": "f0"}
    outcome = run(
        request(("Foo/set", {"accountId": "A1", "as": "k1", "id": "f1"}), ("Core/echo", {}), created_ids=given),
        METHODS,
        ACCOUNTS.get,
        LIMITS,
    )
    assert given == {"k0": "f0"}
    assert outcome.created_ids == seen[0].created_ids == {"k0": "f0", "k1": "f1"}


def test_a_defect_is_a_server_fail_that_tells_the_log_and_not_the_client() -> None:
    logged: list[tuple[str, Exception]] = []
    responses = ran(("Foo/crash", {"accountId": "A1"}), ("Core/echo", {}), on_error=lambda *args: logged.append(args))
    assert responses[0][1]["type"] == "serverFail"
    assert "hunter2" not in json.dumps(responses)
    assert responses[1][0] == "Core/echo"
    assert [(name, type(error)) for name, error in logged] == [("Foo/crash", ZeroDivisionError)]
    assert error_of(("Foo/crash", {"accountId": "A1"})) == "serverFail"


def test_the_workers_map_turns_its_exceptions_into_method_errors() -> None:
    def error_map(error: Exception) -> MethodError | None:
        return MethodError("serverUnavailable", "Away") if isinstance(error, OSError) else None

    logged: list[str] = []
    options = {"error_map": error_map, "on_error": lambda name, error: logged.append(name)}
    assert error_of(("Foo/away", {"accountId": "A1"}), **options) == "serverUnavailable"
    assert logged == []
    assert error_of(("Foo/crash", {"accountId": "A1"}), **options) == "serverFail"
    assert logged == ["Foo/crash"]


def test_admission_comes_after_the_account_and_before_the_handler() -> None:
    asked: list[tuple[str, Any]] = []

    def admit(method: Method, account: Any) -> None:
        asked.append((method.name, account))
        if method.writes:
            raise MethodError("accountReadOnly")

    calls = [("Foo/set", {"accountId": "A1", "as": "k", "id": "f"}), ("Foo/get", {"accountId": "A1"})]
    responses = ran(*calls, ("Foo/get", {"accountId": "A9"}), ("Core/echo", {}), admit=admit)
    assert [args.get("type") for _, args, _ in responses] == ["accountReadOnly", None, "accountNotFound", None]
    assert asked == [("Foo/set", "account one"), ("Foo/get", "account one"), ("Core/echo", None)]


def test_every_call_is_observed_once_and_invented_names_do_not_become_metrics() -> None:
    observed: list[tuple[str, float, str | None]] = []
    ran(
        ("Core/echo", {}),
        ("Foo/get", {}),
        ("Foo/invented", {}),
        ("Foo/crash", {"accountId": "A1"}),
        on_call=lambda *args: observed.append(args),
    )
    assert [(name, kind) for name, _, kind in observed] == [
        ("Core/echo", None),
        ("Foo/get", "invalidArguments"),
        ("unknown", "unknownMethod"),
        ("Foo/crash", "serverFail"),
    ]
    assert all(seconds >= 0 for _, seconds, _ in observed)


@pytest.mark.parametrize("name", ["Foo/odd", "Foo/surrogate"])
def test_an_answer_that_is_no_json_fails_alone(name: str) -> None:
    logged: list[str] = []
    octets = execute(
        request(("Core/echo", {"a": 1}), (name, {"accountId": "A1"}), ("Core/echo", {})),
        METHODS,
        ACCOUNTS.get,
        LIMITS,
        session_state="s1",
        on_error=lambda name, error: logged.append(name),
    )
    responses = json.loads(octets)["methodResponses"]
    assert [each[0] for each in responses] == ["Core/echo", "error", "Core/echo"]
    assert responses[1][1]["type"] == "serverFail"
    assert logged == [name]


def test_previous_responses_of_other_workers_can_be_referred_to() -> None:
    previous = RawAnswer("Foo/get", msgspec.Raw(b'{"list":[{"id":"f1"}]}'), "p0")
    reference = {"resultOf": "p0", "name": "Foo/get", "path": "/list/*/id"}
    call = ("Core/echo", {"#ids": reference})
    wanted = [("Core/echo", {"ids": ["f1"]}, "c0")]
    assert ran(call, previous=[previous]) == wanted
    outcome = run(request(call, previous=(previous,)), METHODS, ACCOUNTS.get, LIMITS)
    assert [(each.name, each.args, each.call_id) for each in outcome.responses] == wanted


def test_a_workers_answer_to_a_run_always_has_its_created_ids() -> None:
    outcome = Outcome([Answer("Foo/get", {"list": msgspec.Raw(b"[1]")}, "c0")], {"k": "f"})
    assert json.loads(encode_run(outcome)) == {
        "methodResponses": [["Foo/get", {"list": [1]}, "c0"]],
        "createdIds": {"k": "f"},
    }


def test_errors_as_json() -> None:
    assert RequestError("limit", "Too many", limit="maxConcurrentRequests", status=429).to_json() == {
        "type": "urn:ietf:params:jmap:error:limit",
        "status": 429,
        "detail": "Too many",
        "limit": "maxConcurrentRequests",
    }
    assert invalid_arguments("Bad", "ids").to_json() == {
        "type": "invalidArguments",
        "description": "Bad",
        "arguments": ["ids"],
    }
    assert invalid_arguments("Bad").to_json() == {"type": "invalidArguments", "description": "Bad"}
    assert SetError("alreadyExists", "There", ["name"], existingId="m1").to_json() == {
        "type": "alreadyExists",
        "description": "There",
        "properties": ["name"],
        "existingId": "m1",
    }
    assert SetError("notFound").to_json() == {"type": "notFound"}
