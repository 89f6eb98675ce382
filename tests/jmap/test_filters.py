from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmapplug.jmap.checks import is_bool, is_string, is_uint
from jmapplug.jmap.errors import MethodError
from jmapplug.jmap.filters import Condition, Filter, FilterField, Operator, matches, parse_filter

FIELDS = {
    field.name: field
    for field in (FilterField("text", is_string), FilterField("minSize", is_uint), FilterField("flag", is_bool))
}


def refused(value: Any) -> str:
    with pytest.raises(MethodError) as caught:
        parse_filter(value, FIELDS)
    return caught.value.type


def nest(levels: int) -> Any:
    value: Any = {"text": "x"}
    for _ in range(levels - 1):
        value = {"operator": "NOT", "conditions": [value]}
    return value


@pytest.mark.parametrize("value", [None, {}])
def test_bulwark_and_others_send_null_or_an_empty_filter_for_everything(value: Any) -> None:
    assert parse_filter(value, FIELDS) is None


def test_a_condition_keeps_its_values() -> None:
    assert parse_filter({"text": "x", "minSize": 3}, FIELDS) == Condition({"text": "x", "minSize": 3})


def test_operators_nest_and_an_inner_empty_condition_stays() -> None:
    value = {"operator": "OR", "conditions": [{}, {"operator": "NOT", "conditions": [{"text": "x"}]}]}
    assert parse_filter(value, FIELDS) == Operator("OR", (Condition({}), Operator("NOT", (Condition({"text": "x"}),))))


def test_a_filter_may_be_100_levels_deep() -> None:
    assert parse_filter(nest(100), FIELDS) is not None
    assert refused(nest(101)) == "unsupportedFilter"
    assert refused(nest(900)) == "unsupportedFilter"


def test_a_filter_of_very_many_conditions_is_unsupported() -> None:
    assert parse_filter({"operator": "OR", "conditions": [{"text": "x"}] * 499}, FIELDS)
    assert refused({"operator": "OR", "conditions": [{"text": "x"}] * 500}) == "unsupportedFilter"


@pytest.mark.parametrize("value", [{"colour": 1}, {"": 1}, {"Text": "x"}, {"text": "x", "conditions": []}])
def test_an_unknown_property_is_an_unsupported_filter(value: Any) -> None:
    assert refused(value) == "unsupportedFilter"
    assert refused({"operator": "AND", "conditions": [{"text": "x"}, value]}) == "unsupportedFilter"


@pytest.mark.parametrize(
    "value",
    [[], [{}], "text", 1, True, False, 0, "", {"text": 1}, {"text": None}, {"minSize": -1}, {"minSize": True},
     {"operator": "and", "conditions": []}, {"operator": "XOR", "conditions": []},
     {"operator": None, "conditions": []}, {"operator": ["AND"], "conditions": []}, {"operator": "AND"},
     {"operator": "AND", "conditions": None}, {"operator": "AND", "conditions": {}},
     {"operator": "AND", "conditions": [None]}, {"operator": "AND", "conditions": ["x"]},
     {"operator": "AND", "conditions": [], "text": "x"}],
)  # fmt: skip
def test_a_wrong_shape_or_type_is_invalid_arguments(value: Any) -> None:
    assert refused(value) == "invalidArguments"


TEXTS = ["", "a", "b", "ab"]
LEAVES = st.dictionaries(st.just("text"), st.sampled_from(TEXTS), max_size=1)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.fixed_dictionaries(
        {"operator": st.sampled_from(["AND", "OR", "NOT"]), "conditions": st.lists(inner, max_size=4)}
    ),
    max_leaves=20,
)


def written(tree: Filter) -> Any:
    if isinstance(tree, Condition):
        return tree.values
    return {"operator": tree.operator, "conditions": [written(each) for each in tree.conditions]}


def model(value: Any, subject: str) -> bool:
    if "operator" not in value:
        return value.get("text", "") in subject
    hits = [model(each, subject) for each in value["conditions"]]
    return {"AND": all(hits), "OR": any(hits), "NOT": not any(hits)}[value["operator"]]


@given(TREES)
def test_a_parsed_filter_says_what_was_sent_and_matches_the_same(value: Any) -> None:
    tree = parse_filter(value, FIELDS)
    assert (written(tree) if tree is not None else {}) == value
    for subject in TEXTS:
        assert matches(tree, {"text": lambda wanted, subject=subject: wanted in subject}) == model(value, subject)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.sampled_from(["AND", "OR", "NOT"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["operator", "conditions", "text", "minSize", "?"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(ANY_JSON)
def test_any_json_is_a_filter_or_a_method_error(value: Any) -> None:
    try:
        tree = parse_filter(value, FIELDS)
    except MethodError as error:
        assert error.type in {"invalidArguments", "unsupportedFilter"}
    else:
        assert tree is None or written(tree) == value
