"""``Foo/get`` and ``Foo/changes`` over a type that lives in a dict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmapplug.jmap.checks import Checker, is_string, is_uint
from jmapplug.jmap.errors import MethodError
from jmapplug.jmap.methods import Args, Call, Limits
from jmapplug.jmap.standard import ChangeSet, changes, get

RECORDS = {f"f{n}": {"id": f"f{n}", "name": f"Foo {n}", "size": n} for n in range(5)}


class Foo:
    name = "Foo"
    properties = frozenset({"id", "name", "size"})
    default_properties: tuple[str, ...] = ("name", "id", "size")
    extra_args: ClassVar[dict[str, Checker]] = {"maxBytes": is_uint, "style": is_string}
    tolerated = frozenset({"legacy"})

    def __init__(self) -> None:
        self.loads: list[tuple[list[str], tuple[str, ...], Args]] = []
        self.every: list[str] | None = list(RECORDS)
        self.gone: set[str] = set()
        self.order: list[str] = []

    def check_property(self, name: str) -> bool:
        return name.startswith("header:")

    def state(self, account: Any) -> str:
        self.order.append("state")
        return f"{account}-1"

    def all_ids(self, account: Any, limit: int) -> Sequence[str] | None:
        return None if self.every is None else self.every[: limit + 1]

    def load(self, call: Call, ids: list[str], properties: tuple[str, ...], args: Args) -> list[dict[str, Any]]:
        self.order.append("load")
        self.loads.append((ids, properties, args))
        found = [RECORDS[each] for each in ids if each in RECORDS and each not in self.gone]
        return [{name: record.get(name) for name in properties} for record in found]


def call(limit: int = 4, **created: str) -> Call:
    return Call("Foo/get", "A1", "acc", Limits(max_objects_in_get=limit), created, frozenset())


def ask(source: Foo | None = None, limit: Any = 10, created: Any = None, **args: Any) -> Any:
    return get(call(limit, **(created or {})), {"accountId": "A1", **args}, source or Foo())


def refused(**args: Any) -> MethodError:
    with pytest.raises(MethodError) as caught:
        ask(**args)
    return caught.value


def test_records_come_with_account_and_state() -> None:
    assert ask(ids=["f1", "f9"], properties=["name"]) == {
        "accountId": "A1",
        "state": "acc-1",
        "list": [{"id": "f1", "name": "Foo 1"}],
        "notFound": ["f9"],
    }


def test_an_empty_list_of_ids_gives_an_empty_list_without_loading() -> None:
    source = Foo()
    reply = ask(source, ids=[])
    assert (reply["list"], reply["notFound"], source.loads) == ([], [], [])


def test_null_or_absent_ids_give_all_records() -> None:
    for args in ({}, {"ids": None}):
        reply = ask(**args)
        assert [record["id"] for record in reply["list"]] == list(RECORDS)
        assert reply["notFound"] == []


def test_a_record_that_goes_away_while_all_are_read_is_not_reported_as_not_found() -> None:
    source = Foo()
    source.gone = {"f1"}
    assert ask(source, ids=None)["notFound"] == []


def test_all_records_are_too_many_beyond_the_limit_or_where_the_type_has_no_such_list() -> None:
    assert len(ask(limit=5)["list"]) == 5
    assert refused(limit=4).type == "requestTooLarge"
    source = Foo()
    source.every = None
    assert refused(source=source).type == "requestTooLarge"


def test_more_ids_than_the_limit_are_too_large() -> None:
    assert ask(limit=2, ids=["f1", "f2"])["list"]
    assert refused(limit=2, ids=["f1", "f2", "f3"]).type == "requestTooLarge"


def test_an_id_that_is_repeated_is_answered_once() -> None:
    reply = ask(ids=["f1", "x", "f1", "x"], limit=2)
    assert [record["id"] for record in reply["list"]] == ["f1"]
    assert reply["notFound"] == ["x"]


def test_what_cannot_be_an_id_is_not_found_and_never_reaches_the_source() -> None:
    source = Foo()
    odd = ["", "a b", "x" * 300, "é", "#unknown"]
    assert ask(source, ids=[*odd, "f1"])["notFound"] == odd
    assert source.loads[0][0] == ["f1"]


@pytest.mark.parametrize("ids", ["f1", {}, 1, True, [1], [None], [["f1"]]])
def test_ids_of_a_wrong_type_are_invalid_arguments(ids: Any) -> None:
    error = refused(ids=ids)
    assert (error.type, error.more) == ("invalidArguments", {"arguments": ["ids"]})


def test_a_creation_reference_stands_for_the_id_that_was_made() -> None:
    reply = ask(ids=["#new", "f1", "#other"], created={"new": "f1", "x": "f2"})
    assert [record["id"] for record in reply["list"]] == ["f1"]
    assert reply["notFound"] == ["#other"]


@pytest.mark.parametrize("properties", [None, ...])
def test_real_clients_ask_for_all_default_properties_by_null_or_by_leaving_them_out(properties: Any) -> None:
    source = Foo()
    ask(source, ids=["f1"], **({} if properties is ... else {"properties": None}))
    assert source.loads[0][1] == Foo.default_properties


def test_the_id_is_always_loaded_first_and_no_property_twice() -> None:
    source = Foo()
    ask(source, ids=["f1"], properties=["name", "name", "size"])
    ask(source, ids=["f1"], properties=[])
    ask(source, ids=["f1"], properties=["id"])
    assert [load[1] for load in source.loads] == [("id", "name", "size"), ("id",), ("id",)]


def test_default_properties_without_the_id_get_it() -> None:
    source = Foo()
    source.default_properties = ("name",)
    ask(source, ids=["f1"])
    assert source.loads[0][1] == ("id", "name")


def test_properties_without_a_fixed_name_are_the_types_own_business() -> None:
    source = Foo()
    ask(source, ids=["f1"], properties=["header:List-Id:asText"])
    assert source.loads[0][1] == ("id", "header:List-Id:asText")


@pytest.mark.parametrize("properties", [["colour"], ["Name"], [""], "name", {}, [1], [None], True])
def test_an_invalid_property_is_invalid_arguments_even_without_ids(properties: Any) -> None:
    assert refused(ids=[], properties=properties).type == "invalidArguments"


def test_an_unexpected_argument_is_invalid_arguments_and_named() -> None:
    error = refused(ids=[], colour=1)
    assert (error.type, error.more) == ("invalidArguments", {"arguments": ["colour"]})


def test_a_types_own_arguments_are_checked_and_handed_on() -> None:
    source = Foo()
    ask(source, ids=["f1"], maxBytes=5, style=None, legacy={"what": "ever"})
    assert source.loads[0][2] == {"maxBytes": 5}
    assert refused(ids=[], maxBytes=-1).more == {"arguments": ["maxBytes"]}
    assert refused(ids=[], style=5).type == "invalidArguments"


def test_the_state_is_taken_before_the_records_so_that_no_change_is_lost() -> None:
    source = Foo()
    ask(source, ids=["f1"])
    assert source.order == ["state", "load"]


@given(st.lists(st.sampled_from([*RECORDS, "x", "y", "#k", "#none", "not an id"]), max_size=12))
def test_each_id_is_answered_exactly_once_as_found_or_not_found(ids: list[str]) -> None:
    reply = ask(ids=ids, limit=20, created={"k": "f0"})
    answered = [record["id"] for record in reply["list"]] + reply["notFound"]
    assert len(answered) == len(set(answered))
    assert set(answered) == {"f0" if each == "#k" else each for each in ids}


class Log:
    name = "Foo"

    def __init__(self) -> None:
        self.asked: list[tuple[Any, str, int | None]] = []

    def state(self, account: Any) -> str:
        return "s2"

    def changes(self, account: Any, since: str, max_changes: int | None) -> ChangeSet:
        self.asked.append((account, since, max_changes))
        if since == "old":
            raise MethodError("cannotCalculateChanges")
        return ChangeSet(since, "s2", True, ["a"], ["b"], ["c"], {"updatedProperties": None})


def ask_changes(source: Log | None = None, **args: Any) -> Any:
    return changes(call(), {"accountId": "A1", **args}, source or Log())


def test_changes_are_answered_with_both_states_and_the_types_own_members() -> None:
    source = Log()
    assert ask_changes(source, sinceState="s1", maxChanges=3) == {
        "accountId": "A1",
        "oldState": "s1",
        "newState": "s2",
        "hasMoreChanges": True,
        "created": ["a"],
        "updated": ["b"],
        "destroyed": ["c"],
        "updatedProperties": None,
    }
    assert source.asked == [("acc", "s1", 3)]


def test_max_changes_may_be_null_or_absent() -> None:
    source = Log()
    ask_changes(source, sinceState="s1")
    ask_changes(source, sinceState="s1", maxChanges=None)
    assert [asked[2] for asked in source.asked] == [None, None]


@pytest.mark.parametrize(
    "args",
    [{}, {"sinceState": None}, {"sinceState": 1}, {"sinceState": "s", "maxChanges": 0},
     {"sinceState": "s", "maxChanges": -1}, {"sinceState": "s", "maxChanges": 1.5},
     {"sinceState": "s", "maxChanges": True}, {"sinceState": "s", "maxChanges": "5"},
     {"sinceState": "s", "maxChanges": 2**53}, {"sinceState": "s", "colour": 1}],
)  # fmt: skip
def test_changes_refuses_wrong_arguments(args: dict[str, Any]) -> None:
    with pytest.raises(MethodError) as caught:
        ask_changes(**args)
    assert caught.value.type == "invalidArguments"


def test_a_state_that_is_too_old_cannot_be_calculated_from() -> None:
    with pytest.raises(MethodError) as caught:
        ask_changes(sinceState="old")
    assert caught.value.type == "cannotCalculateChanges"
