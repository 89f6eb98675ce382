from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmapplug.jmap.checks import is_string
from jmapplug.jmap.errors import MethodError
from jmapplug.jmap.sorting import COLLATIONS, Comparator, SortField, parse_sort

FIELDS = {
    "receivedAt": SortField("receivedAt"),
    "hasKeyword": SortField("hasKeyword", {"keyword": is_string}),
    "subject": SortField("subject", collations=frozenset({"i;unicode-casemap"})),
}


def refused(value: Any) -> str:
    with pytest.raises(MethodError) as caught:
        parse_sort(value, FIELDS)
    return caught.value.type


@pytest.mark.parametrize("value", [None, []])
def test_no_sort_is_an_empty_one(value: Any) -> None:
    assert parse_sort(value, FIELDS) == ()


def test_a_comparator_is_ascending_unless_it_says_otherwise() -> None:
    sort = parse_sort([{"property": "receivedAt"}, {"property": "subject", "isAscending": False}], FIELDS)
    assert sort == (Comparator("receivedAt"), Comparator("subject", False))
    assert sort[0].is_ascending


def test_meli_sends_a_null_collation() -> None:
    assert parse_sort([{"property": "receivedAt", "isAscending": False, "collation": None}], FIELDS) == (
        Comparator("receivedAt", False),
    )


def test_null_members_count_as_absent() -> None:
    assert parse_sort([{"property": "receivedAt", "isAscending": None, "keyword": None}], FIELDS) == (
        Comparator("receivedAt"),
    )


def test_an_announced_collation_is_kept() -> None:
    value = [{"property": "subject", "collation": "i;unicode-casemap"}]
    assert parse_sort(value, FIELDS) == (Comparator("subject", collation="i;unicode-casemap"),)
    assert parse_sort([{"property": "receivedAt", "collation": "i;octet"}], FIELDS)


def test_a_comparators_own_member_is_checked_and_kept() -> None:
    assert parse_sort([{"property": "hasKeyword", "keyword": "$seen"}], FIELDS) == (
        Comparator("hasKeyword", extra={"keyword": "$seen"}),
    )


@pytest.mark.parametrize(
    "value",
    [[{"property": "colour"}], [{"property": ""}], [{"property": "subject", "collation": "i;klingon"}],
     [{"property": "subject", "collation": "i;octet"}], [{"property": "receivedAt", "collation": ""}],
     [{"property": "receivedAt"}] * 33],
)  # fmt: skip
def test_an_unknown_property_or_collation_is_an_unsupported_sort(value: Any) -> None:
    assert refused(value) == "unsupportedSort"


@pytest.mark.parametrize(
    "value",
    [{}, "subject", 1, True, ["subject"], [None], [{}], [{"property": 1}], [{"property": None}],
     [{"property": "subject", "isAscending": 1}], [{"property": "subject", "isAscending": 0.0}],
     [{"property": "subject", "isAscending": "true"}], [{"property": "subject", "collation": 5}],
     [{"property": "hasKeyword"}], [{"property": "hasKeyword", "keyword": 1}],
     [{"property": "hasKeyword", "keyword": None}], [{"property": "subject", "keyword": "$seen"}]],
)  # fmt: skip
def test_a_wrong_shape_or_type_is_invalid_arguments(value: Any) -> None:
    assert refused(value) == "invalidArguments"


def test_collations_compare_as_their_registration_says() -> None:
    ascii_, octet, unicode_ = (COLLATIONS[f"i;{name}"] for name in ("ascii-casemap", "octet", "unicode-casemap"))
    assert ascii_("aÄä") == "AÄä"
    assert octet("aB") == "aB"
    # RFC 5051: title case, then decomposed.
    assert unicode_("ä") == unicode_("Ä") == "A\u0308"
    assert unicode_("ǆ") == unicode_("Ǆ") == unicode_("ǅ")
    assert unicode_("ﬁ") == "fi"
    assert unicode_("ß") == "ß"
    assert unicode_("Ｆ") == unicode_("f") == "F"
    assert sorted(["b", "Ä", "a", "B"], key=unicode_) == ["a", "Ä", "b", "B"]


@given(st.text())
def test_a_casemap_ignores_ascii_case(text: str) -> None:
    lower = "".join(char.lower() if char.isascii() else char for char in text)
    for name in ("i;ascii-casemap", "i;unicode-casemap"):
        assert COLLATIONS[name](text) == COLLATIONS[name](lower)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["subject", "receivedAt", "hasKeyword", "i;octet"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["property", "isAscending", "collation", "keyword"]), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(ANY_JSON)
def test_any_json_is_a_sort_or_a_method_error(value: Any) -> None:
    try:
        sort = parse_sort(value, FIELDS)
    except MethodError as error:
        assert error.type in {"invalidArguments", "unsupportedSort"}
    else:
        assert [each.property for each in sort] == [each["property"] for each in value or []]
