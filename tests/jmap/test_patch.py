from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmapplug.jmap.errors import SetError
from jmapplug.jmap.patch import apply

RECORD: dict[str, Any] = {
    "name": "x",
    "keywords": {"$seen": True, "a/b": True},
    "list": [{"a": 1}],
    "deep": {"er": {"v": 1}},
    "no": None,
}


def refused(patch: dict[str, Any]) -> str:
    with pytest.raises(SetError) as caught:
        apply(RECORD, patch)
    return caught.value.type


def test_a_whole_object_is_a_patch() -> None:
    assert apply({"a": 1, "b": 2}, {"a": 3, "c": {"d": 4}}) == {"a": 3, "b": 2, "c": {"d": 4}}


def test_pointers_reach_into_objects_and_unescape() -> None:
    patched = apply(RECORD, {"keywords/a~1b": None, "keywords/m~0n": True, "deep/er/v": 2, "deep/er/w": 3})
    assert patched["keywords"] == {"$seen": True, "m~n": True}
    assert patched["deep"] == {"er": {"v": 2, "w": 3}}


def test_null_sets_the_default_or_removes_and_is_nothing_where_nothing_is() -> None:
    assert apply({"a": 1, "b": 2}, {"a": None, "b": None, "c": None}, {"a": 0}) == {"a": 0}
    assert apply({"k": {"a": 1}}, {"k/a": None, "k/b": None}, {"a": 0}) == {"k": {}}


def test_the_patched_record_itself_stays() -> None:
    before = copy.deepcopy(RECORD)
    apply(RECORD, {"keywords/new": True, "deep/er/v": None, "name": None})
    assert before == RECORD


def test_an_empty_patch_changes_nothing() -> None:
    assert apply(RECORD, {}) == RECORD


@pytest.mark.parametrize(
    "patch",
    [{"list/0": 1}, {"list/0/a": 1}, {"list/-": 1}, {"nothing/a": 1}, {"nothing/a": None}, {"deep/none/v": 1},
     {"name/x": 1}, {"no/x": 1}, {"keywords": {}, "keywords/$seen": True}, {"deep/er": {}, "deep/er/v": 1},
     {"a~": 1}, {"a~2": 1}, {"deep/er": 1, "deep/x": 1, "deep": 1}, {"/name": 1}],
)  # fmt: skip
def test_an_invalid_patch_is_refused(patch: dict[str, Any]) -> None:
    assert refused(patch) == "invalidPatch"


def test_names_that_begin_alike_are_no_prefixes() -> None:
    assert apply({"a": {}, "ab": 1}, {"a/x": 1, "ab": 2, "a-b": 3}) == {"a": {"x": 1}, "ab": 2, "a-b": 3}


KEYS = st.sampled_from(["a", "b", "a/b", "~", "", "0"])
VALUES = st.recursive(
    st.none() | st.integers(0, 3),
    lambda inner: st.dictionaries(KEYS, inner, max_size=3) | st.lists(inner, max_size=2),
    max_leaves=8,
)
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=3)


def difference(old: dict[str, Any], new: dict[str, Any], path: str = "") -> dict[str, Any]:
    """A patch from ``old`` to ``new``, as fine as it can be."""
    patch: dict[str, Any] = {}
    for name in old.keys() | new.keys():
        pointer = path + name.replace("~", "~0").replace("/", "~1")
        before, after = old.get(name), new.get(name)
        if name not in new:
            patch[pointer] = None
        elif isinstance(before, dict) and isinstance(after, dict):
            patch.update(difference(before, after, pointer + "/"))
        elif name not in old or before != after:
            patch[pointer] = after
    return patch


def without_null(value: Any) -> Any:
    """A patch cannot set null: leave null members out."""
    if isinstance(value, dict):
        return {name: without_null(each) for name, each in value.items() if each is not None}
    return value


@given(OBJECTS, OBJECTS)
def test_the_difference_of_two_objects_turns_one_into_the_other(old: dict[str, Any], new: dict[str, Any]) -> None:
    old, new = without_null(old), without_null(new)
    assert apply(old, difference(old, new)) == new


@given(OBJECTS, st.dictionaries(st.lists(KEYS, max_size=4).map("/".join) | st.text(max_size=4), VALUES, max_size=4))
def test_any_patch_is_applied_or_refused_and_never_touches_its_input(record: Any, patch: Any) -> None:
    before = copy.deepcopy((record, patch))
    try:
        apply(record, patch)
    except SetError as error:
        assert error.type == "invalidPatch"
    assert (record, patch) == before
