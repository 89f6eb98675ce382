"""``Foo/query`` and ``Foo/queryChanges`` against a plain list."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmapplug.jmap.checks import Checker, is_bool, is_string
from jmapplug.jmap.errors import MethodError
from jmapplug.jmap.methods import Args, Call, Limits
from jmapplug.jmap.standard import (
    Comparator,
    Condition,
    Delta,
    Filter,
    FilterField,
    Sort,
    SortField,
    query,
    query_changes,
)

IDS = [f"f{n}" for n in range(10)]


class Listed:
    query_state = "q1"
    can_calculate_changes = True

    def __init__(self, ids: list[str]) -> None:
        self.ids = ids
        self.calls: list[str] = []

    def total(self) -> int:
        self.calls.append("total")
        return len(self.ids)

    def window(self, position: int, limit: int | None) -> list[str]:
        assert position >= 0
        assert limit is None or limit > 0
        self.calls.append("window")
        return self.ids[position:] if limit is None else self.ids[position : position + limit]

    def index_of(self, id: str) -> int | None:
        return self.ids.index(id) if id in self.ids else None


class Foo:
    name = "Foo"
    filter_fields: ClassVar[dict[str, FilterField]] = {"name": FilterField("name", is_string)}
    sort_fields: ClassVar[dict[str, SortField]] = {"name": SortField("name"), "size": SortField("size")}
    default_sort = (Comparator("size", False),)
    extra_args: ClassVar[dict[str, Checker]] = {"collapse": is_bool}
    tolerated = frozenset({"legacy"})

    def __init__(self, ids: list[str] | None = None, max_limit: int | None = None) -> None:
        self.result = Listed(IDS if ids is None else ids)
        self.max_limit = max_limit
        self.delta = Delta("q0", "q1", ["f1", "x"], [(7, "f7"), (0, "f0")], 10)
        self.asked: list[tuple[Filter | None, Sort, Args]] = []

    def query(self, call: Call, filter: Filter | None, sort: Sort, args: Args) -> Listed:
        self.asked.append((filter, sort, args))
        return self.result

    def query_changes(self, call: Call, filter: Filter | None, sort: Sort, args: Args, since: str) -> Delta:
        self.asked.append((filter, sort, args))
        if since == "old":
            raise MethodError("cannotCalculateChanges")
        return self.delta


CALL = Call("Foo/query", "A1", "acc", Limits(), {}, frozenset())


def ask(source: Foo | None = None, **args: Any) -> Any:
    return query(CALL, {"accountId": "A1", **args}, source or Foo())


def ask_changes(source: Foo | None = None, **args: Any) -> Any:
    return query_changes(CALL, {"accountId": "A1", "sinceQueryState": "q0", **args}, source or Foo())


def refused(how: Any = ask, **args: Any) -> str:
    with pytest.raises(MethodError) as caught:
        how(**args)
    error_type: str = caught.value.type
    return error_type


def test_a_query_answers_all_that_rfc_8620_names_and_nothing_else() -> None:
    assert ask(position=2, limit=3) == {
        "accountId": "A1",
        "queryState": "q1",
        "canCalculateChanges": True,
        "position": 2,
        "ids": ["f2", "f3", "f4"],
    }


def test_aerc_asks_for_a_whole_folder_without_a_limit() -> None:
    for args in ({}, {"limit": None}):
        reply = ask(**args)
        assert reply["ids"] == IDS
        assert "limit" not in reply


def test_bulwark_asks_with_limit_0_for_the_total_alone() -> None:
    source = Foo()
    reply = ask(source, limit=0, calculateTotal=True)
    assert (reply["ids"], reply["total"], reply["position"]) == ([], 10, 0)
    assert "limit" not in reply
    assert source.result.calls == ["total"]


def test_the_total_is_neither_told_nor_counted_unless_asked_for() -> None:
    for args in ({}, {"calculateTotal": False}, {"calculateTotal": None}):
        source = Foo()
        assert "total" not in ask(source, **args)
        assert source.result.calls == ["window"]


def test_a_limit_of_the_server_is_enforced_and_announced() -> None:
    for asked in ({}, {"limit": None}, {"limit": 5}):
        reply = ask(Foo(max_limit=4), **asked)
        assert (len(reply["ids"]), reply["limit"]) == (4, 4)
    for asked in ({"limit": 4}, {"limit": 2}, {"limit": 0}):
        reply = ask(Foo(max_limit=4), **asked)
        assert "limit" not in reply
        assert len(reply["ids"]) == asked["limit"]


def test_a_negative_position_counts_from_the_end_and_is_clamped() -> None:
    assert (ask(position=-3)["position"], ask(position=-3)["ids"]) == (7, ["f7", "f8", "f9"])
    assert ask(position=-11)["position"] == 0
    assert ask(Foo([]), position=-1)["position"] == 0


def test_a_position_behind_the_end_is_no_error() -> None:
    reply = ask(position=50)
    assert (reply["position"], reply["ids"]) == (50, [])


def test_an_anchor_replaces_the_position() -> None:
    assert ask(anchor="f4", position=-1, limit=2)["ids"] == ["f4", "f5"]
    assert ask(anchor="f4", anchorOffset=-2, limit=2)["ids"] == ["f2", "f3"]
    assert ask(anchor="f1", anchorOffset=-5)["position"] == 0
    assert ask(anchor="f8", anchorOffset=5)["ids"] == []


def test_an_anchor_offset_without_an_anchor_is_ignored() -> None:
    assert ask(anchorOffset=5, position=1)["position"] == 1
    assert ask(anchor=None, anchorOffset=5)["position"] == 0


def test_an_anchor_outside_the_results_is_not_found() -> None:
    assert refused(anchor="f99") == "anchorNotFound"


def test_null_arguments_have_their_defaults() -> None:
    reply = ask(position=None, anchor=None, anchorOffset=None, limit=None, calculateTotal=None, collapse=None)
    assert reply["ids"] == IDS


@pytest.mark.parametrize(
    "args",
    [{"position": 1.5}, {"position": "1"}, {"position": True}, {"position": 2**53}, {"anchor": 1}, {"anchor": ""},
     {"anchor": "a b"}, {"anchorOffset": "1"}, {"limit": -1}, {"limit": 1.0}, {"limit": "5"}, {"limit": False},
     {"calculateTotal": 1}, {"calculateTotal": "true"}, {"filter": []}, {"filter": {"name": 1}}, {"sort": {}},
     {"sort": [{"property": "name", "isAscending": 1}]}, {"colour": 1}, {"collapse": 1}, {"ids": []}],
)  # fmt: skip
def test_a_query_refuses_wrong_arguments(args: dict[str, Any]) -> None:
    assert refused(**args) == "invalidArguments"


def test_unknown_properties_in_filter_and_sort_have_their_own_errors() -> None:
    for how in (ask, ask_changes):
        assert refused(how, filter={"colour": 1}) == "unsupportedFilter"
        assert refused(how, sort=[{"property": "colour"}]) == "unsupportedSort"
        assert refused(how, sort=[{"property": "name", "collation": "i;none"}]) == "unsupportedSort"


@pytest.mark.parametrize("empty", [None, {}])
def test_the_source_gets_a_filter_a_sort_and_its_own_arguments(empty: Any) -> None:
    source = Foo()
    ask(source, filter={"name": "x"}, sort=[{"property": "name", "collation": None}], collapse=True, legacy=1)
    ask(source, filter=empty, sort=[])
    assert source.asked == [
        (Condition({"name": "x"}), (Comparator("name"),), {"collapse": True}),
        (None, Foo.default_sort, {}),
    ]


def model(ids: list[str], args: dict[str, Any]) -> tuple[int, list[str]] | None:
    """RFC 8620 §5.5, word by word, on a list."""
    position = args.get("position", 0)
    if args.get("anchor") is not None:
        if args["anchor"] not in ids:
            return None
        position = max(0, ids.index(args["anchor"]) + args.get("anchorOffset", 0))
    elif position < 0:
        position = max(0, len(ids) + position)
    limit = args.get("limit")
    return position, [
        id_ for index, id_ in enumerate(ids) if index >= position and (limit is None or index < position + limit)
    ]


OFFSET = st.integers(-13, 13)
ARGS = st.fixed_dictionaries(
    {},
    optional={
        "position": OFFSET,
        "anchor": st.sampled_from([None, *IDS]),
        "anchorOffset": OFFSET,
        "limit": st.none() | st.integers(0, 12),
        "calculateTotal": st.booleans(),
    },
)


@given(st.lists(st.sampled_from(IDS), unique=True), ARGS)
def test_every_window_is_the_one_that_a_plain_list_gives(ids: list[str], args: dict[str, Any]) -> None:
    wanted = model(ids, args)
    if wanted is None:
        assert refused(source=Foo(ids), **args) == "anchorNotFound"
        return
    reply = ask(Foo(ids), **args)
    assert (reply["position"], reply["ids"]) == wanted
    assert reply.get("total") == (len(ids) if args.get("calculateTotal") else None)


def test_query_changes_answers_added_in_order_of_index() -> None:
    assert ask_changes() == {
        "accountId": "A1",
        "oldQueryState": "q0",
        "newQueryState": "q1",
        "removed": ["f1", "x"],
        "added": [{"id": "f0", "index": 0}, {"id": "f7", "index": 7}],
    }


def test_query_changes_tells_the_total_only_if_asked() -> None:
    assert ask_changes(calculateTotal=True)["total"] == 10
    assert "total" not in ask_changes(calculateTotal=False)


def test_each_removed_and_each_added_item_is_a_change() -> None:
    assert ask_changes(maxChanges=4)["removed"]
    assert refused(ask_changes, maxChanges=3) == "tooManyChanges"


def test_query_changes_hands_its_hints_to_the_source() -> None:
    source = Foo()
    ask_changes(source, filter={}, maxChanges=9, upToId="f4", calculateTotal=True, collapse=False)
    ask_changes(source, upToId=None)
    assert source.asked == [
        (None, Foo.default_sort, {"collapse": False, "calculateTotal": True, "maxChanges": 9, "upToId": "f4"}),
        (None, Foo.default_sort, {"calculateTotal": False}),
    ]


def test_a_query_state_that_is_too_old_cannot_be_calculated_from() -> None:
    assert refused(ask_changes, sinceQueryState="old") == "cannotCalculateChanges"


@pytest.mark.parametrize(
    "args",
    [{"sinceQueryState": None}, {"sinceQueryState": 1}, {"maxChanges": 0}, {"maxChanges": -1}, {"maxChanges": True},
     {"maxChanges": "1"}, {"upToId": 1}, {"upToId": ""}, {"calculateTotal": 0}, {"filter": "x"}, {"sort": "x"},
     {"position": 0}, {"limit": 5}, {"anchor": "f1"}, {"collapse": "x"}],
)  # fmt: skip
def test_query_changes_refuses_wrong_arguments(args: dict[str, Any]) -> None:
    assert refused(ask_changes, **args) == "invalidArguments"


def test_query_changes_needs_a_query_state() -> None:
    with pytest.raises(MethodError) as caught:
        query_changes(CALL, {"accountId": "A1"}, Foo())
    assert caught.value.type == "invalidArguments"
