from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmapplug.jmap.errors import MethodError
from jmapplug.jmap.references import Budget, evaluate, resolve, result_of
from jmapplug.jmap.request import Answer, RawAnswer


def ref(path: str, of: str = "c0", name: str = "Foo/get") -> dict[str, str]:
    return {"resultOf": of, "name": name, "path": path}


def resolved(path: str, document: Any) -> Any:
    return resolve({"#ids": ref(path)}, [Answer("Foo/get", document, "c0")])["ids"]


def failure(args: dict[str, Any], responses: list[Any]) -> str:
    with pytest.raises(MethodError) as caught:
        resolve(args, responses)
    return caught.value.type


def test_arguments_without_references_stay_the_same_object() -> None:
    args = {"ids": ["#x"], "a": {"#b": 1}}
    assert resolve(args, []) is args


def test_a_reference_takes_the_value_that_the_path_selects() -> None:
    responses = [Answer("Foo/changes", {"created": ["f1", "f4"]}, "t0")]
    args = {"accountId": "A1", "#ids": ref("/created", "t0", "Foo/changes")}
    assert resolve(args, responses) == {"accountId": "A1", "ids": ["f1", "f4"]}
    assert "#ids" in args


def test_a_star_maps_over_an_array_and_keeps_its_order() -> None:
    document = {"list": [{"id": "a", "threadId": "t1"}, {"id": "b", "threadId": "t2"}]}
    assert resolved("/list/*/threadId", document) == ["t1", "t2"]


def test_a_star_flattens_arrays_of_arrays() -> None:
    document = {"list": [{"emailIds": ["m1", "m2"]}, {"emailIds": []}, {"emailIds": ["m3"]}]}
    assert resolved("/list/*/emailIds", document) == ["m1", "m2", "m3"]


def test_a_star_flattens_one_level_only() -> None:
    assert resolved("/list/*", {"list": [[1, [2]], 3]}) == [1, [2], 3]


def test_stars_can_be_nested() -> None:
    document = {"list": [{"parts": [{"id": 1}, {"id": 2}]}, {"parts": [{"id": 3}]}, {"parts": []}]}
    assert resolved("/list/*/parts/*/id", document) == [1, 2, 3]


def test_a_star_over_an_empty_array_is_an_empty_array() -> None:
    assert resolved("/list/*/id", {"list": []}) == []


def test_a_star_over_an_object_is_a_member_name() -> None:
    assert resolved("/list/*", {"list": {"*": 5}}) == 5


def test_null_is_a_value() -> None:
    assert resolved("/a", {"a": None}) is None
    assert resolved("/list/*/a", {"list": [{"a": None}, {"a": 1}]}) == [None, 1]


@pytest.mark.parametrize(
    ("path", "value"),
    [("", {"": 1, "a/b": 2, "m~n": 3, "~1": 4, "l": [7, [8]], "01": 9}), ("/", 1), ("/a~1b", 2), ("/m~0n", 3),
     ("/~01", 4), ("/l/0", 7), ("/l/1/0", 8), ("/01", 9)],
)  # fmt: skip
def test_paths_are_json_pointers(path: str, value: Any) -> None:
    assert resolved(path, {"": 1, "a/b": 2, "m~n": 3, "~1": 4, "l": [7, [8]], "01": 9}) == value


@pytest.mark.parametrize(
    "path",
    ["ids", "/nothing", "/list/2", "/list/-1", "/list/-", "/list/00", "/list/01", "/list/+0", "/list/٠", "/list/x",
     "/list/", "/list/0/none", "/text/0", "/text/*", "/null/x", "/null/*", "/list/*/none", "/obj/*", "/a~", "/a~2",
     "/list/*/id/*", "/list/" + "9" * 5000, "/*" * 1000],
)  # fmt: skip
def test_a_path_that_leads_nowhere_fails(path: str) -> None:
    document = {"list": [{"id": "a"}, {"id": "b"}], "text": "abc", "null": None, "obj": {"a": 1}, "a~": 1, "a~2": 1}
    assert failure({"#ids": ref(path)}, [Answer("Foo/get", document, "c0")]) == "invalidResultReference"


def test_one_item_without_the_member_fails_the_whole_reference() -> None:
    document = {"list": [{"id": "a"}, {}]}
    assert failure({"#ids": ref("/list/*/id")}, [Answer("Foo/get", document, "c0")]) == "invalidResultReference"


@pytest.mark.parametrize(
    "reference",
    [None, "c0", [], 1, {}, {"resultOf": "c0"}, {"resultOf": "c0", "name": "Foo/get"}, ref("/ids") | {"path": None},
     ref("/ids") | {"path": 1}, ref("/ids") | {"name": ["Foo/get"]}, ref("/ids") | {"resultOf": 0}],
)  # fmt: skip
def test_a_malformed_reference_fails(reference: Any) -> None:
    assert failure({"#ids": reference}, [Answer("Foo/get", {"ids": []}, "c0")]) == "invalidResultReference"


def test_a_call_id_that_nobody_answered_fails() -> None:
    assert failure({"#ids": ref("/ids", "c1")}, [Answer("Foo/get", {"ids": []}, "c0")]) == "invalidResultReference"
    assert failure({"#ids": ref("/ids")}, []) == "invalidResultReference"


def test_a_response_of_another_name_fails_as_does_an_error() -> None:
    assert failure({"#ids": ref("/ids")}, [Answer("Foo/query", {"ids": []}, "c0")]) == "invalidResultReference"
    assert failure({"#ids": ref("/type")}, [Answer("error", {"type": "x"}, "c0")]) == "invalidResultReference"


def test_only_the_first_response_with_the_call_id_counts() -> None:
    responses = [Answer("Foo/set", {"ids": [1]}, "c0"), Answer("Foo/get", {"ids": [2]}, "c0")]
    assert failure({"#ids": ref("/ids")}, responses) == "invalidResultReference"
    twice = [Answer("Foo/get", {"ids": [1]}, "c0"), Answer("Foo/get", {"ids": [2]}, "c0")]
    assert resolve({"#ids": ref("/ids")}, twice) == {"ids": [1]}


def test_an_argument_in_both_forms_is_invalid_arguments_even_if_the_reference_is_bad() -> None:
    assert failure({"ids": None, "#ids": None}, []) == "invalidArguments"


def test_encoded_values_in_earlier_responses_are_decoded_where_the_path_passes() -> None:
    raw = msgspec.Raw
    document = {"list": [raw(b'{"id":"a","to":[{"email":"x"}]}'), {"id": raw(b'"b"'), "to": raw(b"[]")}]}
    assert resolved("/list/*/id", document) == ["a", "b"]
    assert resolved("/list/*/to/*/email", document) == ["x"]
    assert resolved("/list/0/to/0/email", document) == "x"


def test_what_a_handler_receives_holds_no_encoded_values() -> None:
    document = {"list": [{"a": {"b": msgspec.Raw(b'{"c":[1]}')}}]}
    assert resolved("/list", document) == [{"a": {"b": {"c": [1]}}}]
    assert resolved("", document) == {"list": [{"a": {"b": {"c": [1]}}}]}


def test_responses_of_another_worker_can_be_referred_to() -> None:
    answer = RawAnswer("Foo/get", msgspec.Raw(b'{"ids":["a"]}'), "c0")
    assert resolve({"#ids": ref("/ids")}, [answer]) == {"ids": ["a"]}


def test_structs_and_tuples_in_replies_count_as_objects_and_arrays() -> None:
    class Point(msgspec.Struct):
        x: int

    assert resolved("/list/*/x", {"list": (Point(1), Point(2))}) == [1, 2]
    assert resolved("/list/1", {"list": (1, Point(2))}) == {"x": 2}


def test_what_a_reference_gives_can_be_changed_without_harm_to_the_response() -> None:
    document = {"ids": ["a"], "list": [{"to": ["b"]}]}
    responses = [Answer("Foo/get", document, "c0")]
    args = resolve({"#ids": ref("/ids"), "#list": ref("/list")}, responses)
    args["ids"].append("c")
    args["list"][0]["to"].append("d")
    assert document == {"ids": ["a"], "list": [{"to": ["b"]}]}


def test_a_request_cannot_copy_more_than_its_budget() -> None:
    responses = [Answer("Foo/get", {"text": "x" * 400, "ids": ["a"] * 100}, "c0")]
    budget = Budget(1000)
    resolve({"#a": ref("/text")}, responses, budget)
    resolve({"#a": ref("/ids")}, responses, budget)
    with pytest.raises(MethodError, match="too much"):
        resolve({"#a": ref("/text")}, responses, budget)
    # Once it is spent not even a small copy is made: trying costs time as well.
    with pytest.raises(MethodError, match="too much"):
        resolve({"#a": ref("/ids/0")}, responses, budget)


@pytest.mark.parametrize("value", ["x" * 51, ["x"] * 26, {"x" * 51: 1}, [[]] * 51, [["x" * 51]], [1] * 60])
def test_text_names_and_values_all_weigh(value: Any) -> None:
    with pytest.raises(MethodError):
        Budget(50).spend(value)
    Budget(200).spend(value)


def test_the_call_ids_that_references_name() -> None:
    assert result_of({"#a": ref("/x", "c1"), "#b": ref("/x", "c2"), "#c": 5, "#d": {"resultOf": 1}, "e": ref("")}) == [
        "c1",
        "c2",
    ]


NAMES = st.sampled_from(["a", "b", "", "~", "/", "~1", "*", "0", "1", "-"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=12,
)


def pointers(value: Any) -> list[tuple[str, Any]]:
    """Every pointer into ``value`` with what it must give."""
    found = [("", value)]
    if isinstance(value, dict):
        for name, member in value.items():
            escaped = name.replace("~", "~0").replace("/", "~1")
            found += [(f"/{escaped}{path}", each) for path, each in pointers(member)]
    elif isinstance(value, list):
        for index, item in enumerate(value):
            found += [(f"/{index}{path}", each) for path, each in pointers(item)]
    return found


@given(st.dictionaries(NAMES, JSON, max_size=3))
def test_every_pointer_into_a_document_gives_what_is_there(document: dict[str, Any]) -> None:
    for path, value in pointers(document):
        assert evaluate(document, path) == value
        encoded = RawAnswer("Foo/get", msgspec.Raw(json.dumps(document).encode()), "c0")
        assert resolve({"#x": ref(path)}, [encoded]) == {"x": value}


@given(
    JSON, st.lists(st.sampled_from(["*", "a", "0", "", "~", "~0", "/"]), max_size=6).map("/".join) | st.text(max_size=8)
)
def test_any_path_into_any_document_gives_a_value_or_one_error(document: Any, path: str) -> None:
    try:
        resolved(path, document)
    except MethodError as error:
        assert error.type == "invalidResultReference"


@given(st.lists(st.lists(st.lists(st.integers(), max_size=3), max_size=3), max_size=3))
def test_stars_flatten_like_a_comprehension(matrix: list[list[list[int]]]) -> None:
    document = {"list": [{"rows": [{"cells": row} for row in rows]} for rows in matrix]}
    wanted = [cell for rows in matrix for row in rows for cell in row]
    assert resolved("/list/*/rows/*/cells", document) == wanted
