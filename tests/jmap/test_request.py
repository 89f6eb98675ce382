from __future__ import annotations

import gc
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmapplug.jmap.errors import RequestError
from jmapplug.jmap.methods import Limits
from jmapplug.jmap.request import Invocation, Request, parse, trusted

CORE = "urn:ietf:params:jmap:core"
KNOWN = frozenset({CORE, "urn:ietf:params:jmap:mail"})
LIMITS = Limits(max_size_request=100_000, max_calls_in_request=3)


def body(**members: Any) -> bytes:
    return json.dumps({"using": [CORE], "methodCalls": [["Core/echo", {}, "c0"]], **members}).encode()


def refused(octets: bytes, limits: Limits = LIMITS) -> RequestError:
    with pytest.raises(RequestError) as caught:
        parse(octets, KNOWN, limits)
    assert caught.value.status == 400
    return caught.value


def kind(octets: bytes) -> str:
    return refused(octets).type.removeprefix("urn:ietf:params:jmap:error:")


def with_args(text: str) -> bytes:
    return b'{"using":[],"methodCalls":[["Core/echo",' + text.encode() + b',"c0"]]}'


def test_a_request_is_taken_apart() -> None:
    request = parse(body(createdIds={"k1": "e1"}), KNOWN, LIMITS)
    assert request == Request(frozenset({CORE}), (Invocation("Core/echo", {}, "c0"),), {"k1": "e1"})


def test_created_ids_that_were_not_sent_are_none_and_an_empty_map_is_kept() -> None:
    assert parse(body(), KNOWN, LIMITS).created_ids is None
    assert parse(body(createdIds=None), KNOWN, LIMITS).created_ids is None
    assert parse(body(createdIds={}), KNOWN, LIMITS).created_ids == {}


def test_members_that_the_server_does_not_know_are_ignored() -> None:
    assert parse(body(other={"a": [1]}), KNOWN, LIMITS).calls[0].name == "Core/echo"


def test_an_empty_using_is_a_request() -> None:
    assert parse(body(using=[]), KNOWN, LIMITS).using == frozenset()


def test_a_request_without_calls_is_a_request() -> None:
    assert parse(body(methodCalls=[]), KNOWN, LIMITS).calls == ()


@pytest.mark.parametrize(
    "octets",
    [b"", b"{", b"nonsense", b"{'using': []}", b'{"using":[]} x', b'"\xff"', b"\xef\xbb\xbf{}", b'"\xed\xa0\x80"',
     b"\x00", b'"a\nb"', b"01", b'{"a":1,}', b"{}".decode().encode("utf-16")],
)  # fmt: skip
def test_what_is_no_json_is_not_json(octets: bytes) -> None:
    assert kind(octets) == "notJSON"


@pytest.mark.parametrize(
    "args",
    ['{"a":1,"a":1}', '{"a":{"b":1,"b":2}}', '{"a":[{"b":1,"\\u0062":2}]}'],
)
def test_duplicate_member_names_are_no_i_json(args: str) -> None:
    assert kind(with_args(args)) == "notJSON"


@pytest.mark.parametrize("text", ["\\ud800", "\\udc00", "\\ud800x", "\\udc00\\ud800", "x\\uD83D\\u0041"])
def test_lone_surrogates_are_no_i_json_in_values_and_names(text: str) -> None:
    assert kind(with_args('{"a":"' + text + '"}')) == "notJSON"
    assert kind(with_args('{"' + text + '":1}')) == "notJSON"


def test_escaped_surrogate_pairs_and_escaped_backslashes_are_fine() -> None:
    request = parse(with_args('{"a":"\\ud83d\\ude00","b":"\\\\ud800"}'), KNOWN, LIMITS)
    assert request.calls[0].args == {"a": "\U0001f600", "b": "\\ud800"}


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", "9" * 400, "9" * 5000])
def test_numbers_that_no_double_holds_are_no_i_json(number: str) -> None:
    assert kind(with_args('{"a":' + number + "}")) == "notJSON"


def test_an_integer_beyond_64_bits_has_the_precision_of_a_double() -> None:
    assert parse(with_args('{"a":123456789012345678901234567890}'), KNOWN, LIMITS).calls[0].args == {
        "a": 1.2345678901234568e29
    }


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_nesting_is_limited_and_never_crashes(opening: str, closing: str) -> None:
    def nested(levels: int) -> bytes:
        # The Request itself, methodCalls, the call and its arguments are four levels.
        inner = levels - 4
        return with_args('{"x":' + opening * inner + "1" + closing * inner + "}")

    assert parse(nested(256), KNOWN, LIMITS)
    assert kind(nested(257)) == "notJSON"
    assert kind(nested(10_000)) == "notJSON"
    assert kind((opening * 15_000).encode()) == "notJSON"


def test_many_siblings_are_not_depth() -> None:
    assert parse(with_args('{"x":[' + ",".join(["[]"] * 1000) + "]}"), KNOWN, LIMITS)


@pytest.mark.parametrize(
    "octets",
    [
        b"[]",
        b"null",
        b"1",
        b'"x"',
        b'{"foo":"bar"}',
        body(using=None),
        body(using="urn:ietf:params:jmap:core"),
        body(using={CORE: {}}),
        body(using=[1]),
        body(methodCalls=None),
        body(methodCalls={}),
        body(methodCalls=[{}]),
        body(methodCalls=[["Core/echo", {}]]),
        body(methodCalls=[["Core/echo", {}, "c0", 1]]),
        body(methodCalls=[["Core/echo", [], "c0"]]),
        body(methodCalls=[["Core/echo", None, "c0"]]),
        body(methodCalls=[["Core/echo", {}, 0]]),
        body(methodCalls=[[1, {}, "c0"]]),
        body(createdIds=[]),
        body(createdIds={"a": 1}),
        body(createdIds={"a b": "x"}),
        body(createdIds={"a": "not an id"}),
    ],
)
def test_json_that_is_no_request_is_not_request(octets: bytes) -> None:
    assert kind(octets) == "notRequest"


def test_an_unknown_capability_refuses_the_request_and_is_named() -> None:
    error = refused(body(using=[CORE, "https://example.com/apis/foobar"]))
    assert error.type == "urn:ietf:params:jmap:error:unknownCapability"
    assert "https://example.com/apis/foobar" in error.detail
    assert error.to_json() == {"type": error.type, "status": 400, "detail": error.detail}


def test_too_many_calls_are_a_limit_that_is_named() -> None:
    call = ["Core/echo", {}, "c"]
    assert len(parse(body(methodCalls=[call] * 3), KNOWN, LIMITS).calls) == 3
    error = refused(body(methodCalls=[call] * 4))
    assert error.type == "urn:ietf:params:jmap:error:limit"
    assert error.to_json()["limit"] == "maxCallsInRequest"


def test_too_large_a_request_is_a_limit_that_is_named() -> None:
    octets = body()
    assert parse(octets, KNOWN, Limits(max_size_request=len(octets)))
    error = refused(octets, Limits(max_size_request=len(octets) - 1))
    assert error.to_json()["limit"] == "maxSizeRequest"


def test_brackets_in_strings_are_not_depth() -> None:
    text = ('[{\\"[\\\\' * 300) + '"'
    assert parse(with_args('{"x":"' + text + "}"), KNOWN, LIMITS).calls[0].args == {"x": '[{"[\\' * 300}
    deep = "[" * 252 + '"]]]]"' + "]" * 252
    assert parse(with_args('{"x":' + deep + "}"), KNOWN, LIMITS)
    assert kind(with_args('{"x":[' + deep + "]}")) == "notJSON"


def test_a_large_request_leaves_the_garbage_collector_as_it_was() -> None:
    large = Limits(max_size_request=1_000_000)
    octets = with_args('{"x":"' + "y" * 200_000 + '"}')
    for state, switch in ((True, gc.enable), (False, gc.disable)):
        switch()
        try:
            assert parse(octets, KNOWN, large)
            with pytest.raises(RequestError):
                parse(octets[:-1], KNOWN, large)
            assert gc.isenabled() is state
        finally:
            gc.enable()


@given(st.binary(max_size=300))
def test_any_octets_give_a_request_or_a_request_error(octets: bytes) -> None:
    try:
        assert isinstance(parse(octets, KNOWN, LIMITS), Request)
    except RequestError as error:
        assert error.status == 400


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(), max_size=5), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(JSON, JSON, JSON)
def test_any_json_gives_a_request_or_a_request_error(using: Any, calls: Any, created: Any) -> None:
    octets = json.dumps({"using": using, "methodCalls": calls, "createdIds": created}).encode()
    try:
        request = parse(octets, KNOWN, LIMITS)
    except RequestError as error:
        assert error.status == 400
    else:
        assert msgspec.json.encode(request.calls)


@given(st.dictionaries(st.text(max_size=8), JSON, max_size=4))
def test_what_passes_the_check_survives_the_way_to_a_worker(args: dict[str, Any]) -> None:
    octets = json.dumps({"using": [CORE], "methodCalls": [["Core/echo", args, "c"]], "createdIds": {"a": "b"}}).encode()
    try:
        request = parse(octets, KNOWN, LIMITS)
    except RequestError:
        return
    assert trusted(msgspec.json.encode(
        {"using": list(request.using), "methodCalls": request.calls, "createdIds": request.created_ids}
    )) == request  # fmt: skip


def test_a_worker_reads_a_clients_own_octets() -> None:
    request = trusted(body(createdIds={"a": "b"}, unknown=1))
    assert request == Request(frozenset({CORE}), (Invocation("Core/echo", {}, "c0"),), {"a": "b"})
