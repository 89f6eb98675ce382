"""Email/query against plain Python: every filter, operator, sort and window (RFC 8621 §4.4)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from search_rig import NEWEST, T0, Mail, Rig, utc

from jmapplug.capabilities.mail.email_query import FILTER_FIELDS, SORT_FIELDS
from jmapplug.capabilities.mail.store.statements import compile_query
from jmapplug.jmap.errors import MethodError
from jmapplug.jmap.filters import parse_filter
from jmapplug.jmap.sorting import parse_sort

KEYWORDS = ("$seen", "$flagged", "$draft", "work", "$forwarded")


def varied(count: int) -> list[Mail]:
    """Mails in which every property takes several values, with ties in receivedAt."""
    boxes = itertools.cycle((("inbox",), ("archive",), ("inbox", "archive"), ("trash",), ("inbox", "trash")))
    names = (
        ("Ann", "ann@example.org"),
        ("", "zoe@example.org"),
        ("bob", "bob@example.org"),
        ("Émile", "e@example.org"),
    )
    return [
        Mail(
            subject=f"{'Re: ' * (n % 2)}word{n % 5} note",
            from_=names[n % 4],
            to=names[(n // 2) % 4],
            body=f"text{n % 3} alpha",
            keywords=frozenset(name for at, name in enumerate(KEYWORDS) if (n * 7 + at * 3) % (at + 2) == 0),
            mailboxes=next(boxes),
            received=T0 + (n * 37) % 11,
            size=1000 + (n * 13) % 17,
            sent=None if n % 9 == 0 else T0 - n % 4,
            thread=1 + n % 7,
            attachment=n % 3 == 0,
        )
        for n in range(count)
    ]


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    rig = Rig(tmp_path_factory.mktemp("query"))
    rig.add(*varied(40))
    yield rig
    rig.close()


def conditions(rig: Rig) -> st.SearchStrategy[dict[str, Any]]:
    boxes = st.sampled_from([rig.box(name) for name in ("inbox", "archive", "trash", "none")])
    keyword = st.sampled_from((*KEYWORDS, "$SEEN", "unknown"))
    moment = st.integers(T0 - 1, T0 + 12).map(utc)
    return st.fixed_dictionaries(
        {},
        optional={
            "inMailbox": boxes,
            "inMailboxOtherThan": st.lists(boxes, max_size=3),
            "before": moment,
            "after": moment,
            "minSize": st.integers(1000, 1017),
            "maxSize": st.integers(1000, 1017),
            "hasKeyword": keyword,
            "notKeyword": keyword,
            "someInThreadHaveKeyword": keyword,
            "allInThreadHaveKeyword": keyword,
            "noneInThreadHaveKeyword": keyword,
            "hasAttachment": st.booleans(),
            "subject": st.sampled_from(["word1", "WORD2", "missing"]),
            "body": st.sampled_from(["text0", "alpha"]),
        },
    ).map(lambda whole: dict(list(whole.items())[:3]))


def filters(rig: Rig) -> st.SearchStrategy[dict[str, Any]]:
    return st.recursive(
        conditions(rig),
        lambda inner: st.fixed_dictionaries(
            {"operator": st.sampled_from(["AND", "OR", "NOT"]), "conditions": st.lists(inner, max_size=3)}
        ),
        max_leaves=6,
    )


def sorts() -> st.SearchStrategy[list[dict[str, Any]]]:
    plain = st.sampled_from(["receivedAt", "size", "sentAt", "from", "to", "subject"])
    keyed = st.sampled_from(["hasKeyword", "someInThreadHaveKeyword", "allInThreadHaveKeyword"])
    one = st.fixed_dictionaries({"property": plain, "isAscending": st.booleans()}) | st.fixed_dictionaries(
        {"property": keyed, "isAscending": st.booleans(), "keyword": st.sampled_from(KEYWORDS)}
    )
    return st.lists(one, min_size=1, max_size=3)


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_filter_with_any_sort_lists_what_plain_python_lists(rig: Rig, data: st.DataObject) -> None:
    filter_, sort, collapse = data.draw(filters(rig)), data.draw(sorts()), data.draw(st.booleans())
    assert rig.ids(filter_, sort, collapseThreads=collapse) == rig.expected(filter_, sort, collapse=collapse)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_window_is_a_slice_of_the_whole_list(rig: Rig, data: st.DataObject) -> None:
    filter_, sort, collapse = data.draw(filters(rig)), data.draw(sorts()), data.draw(st.booleans())
    whole = rig.expected(filter_, sort, collapse=collapse)
    position, limit = data.draw(st.integers(-45, 45)), data.draw(st.integers(1, 45) | st.none())
    reply = rig.query(filter_, sort, collapseThreads=collapse, position=position, limit=limit)
    start = position if position >= 0 else max(0, len(whole) + position)
    assert reply["ids"] == whole[start : None if limit is None else start + limit]
    assert (reply["position"], reply["total"]) == (start, len(whole))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_an_anchor_is_found_at_its_place_in_any_list(rig: Rig, data: st.DataObject) -> None:
    filter_, sort, collapse = data.draw(filters(rig)), data.draw(sorts()), data.draw(st.booleans())
    whole = rig.expected(filter_, sort, collapse=collapse)
    anchor = data.draw(st.sampled_from(rig.mails)).id
    args = {"collapseThreads": collapse, "anchor": anchor, "anchorOffset": data.draw(st.integers(-3, 3)), "limit": 4}
    if anchor not in whole:
        with pytest.raises(MethodError, match="anchor"):
            rig.query(filter_, sort, **args)
        return
    start = max(0, whole.index(anchor) + args["anchorOffset"])
    reply = rig.query(filter_, sort, **args)
    assert (reply["position"], reply["ids"]) == (start, whole[start : start + 4])


def test_without_a_sort_the_newest_come_first(rig: Rig) -> None:
    assert rig.ids(None, None) == rig.ids(None, []) == rig.expected(None)


def test_fractions_of_seconds_and_leap_seconds_in_dates_are_understood(rig: Rig) -> None:
    half = utc(T0 + 3)[:-1] + ".5Z"
    assert rig.ids({"after": half}) == rig.expected({"after": utc(T0 + 4)})
    assert rig.ids({"before": half}) == rig.expected({"before": utc(T0 + 4)})
    assert rig.ids({"after": "1990-12-31T23:59:60Z"}) == rig.expected(None)


def test_a_filter_of_a_hundred_levels_is_answered_and_a_deeper_one_refused(rig: Rig) -> None:
    tree: dict[str, Any] = {"hasKeyword": "work"}
    for _ in range(98):
        tree = {"operator": "NOT", "conditions": [tree]}
    assert rig.ids(tree) == rig.expected({"hasKeyword": "work"})
    for _ in range(5):
        tree = {"operator": "AND", "conditions": [tree]}
    with pytest.raises(MethodError) as caught:
        rig.query(tree)
    assert caught.value.type == "unsupportedFilter"


@pytest.mark.parametrize("operator", ["AND", "OR", "NOT"])
def test_the_largest_filters_that_are_parsed_are_answered_or_refused(rig: Rig, operator: str) -> None:
    wide = {"operator": operator, "conditions": [{"subject": f"word{n}", "notKeyword": f"k{n}"} for n in range(240)]}
    assert rig.ids(wide) == rig.expected(wide)
    deep: dict[str, Any] = {"hasKeyword": "work"}
    for n in range(98):
        deep = {"operator": operator, "conditions": [{"body": f"x{n}"}, deep, {"hasAttachment": n % 2 == 0}]}
    assert rig.ids(deep) == rig.expected(deep)
    everything = {"inMailboxOtherThan": [], "minSize": 1, "maxSize": 1, "text": "x", "from": "x", "to": "x"}
    with pytest.raises(MethodError) as caught:
        rig.query({"operator": operator, "conditions": [everything] * 450})
    assert caught.value.type == "unsupportedFilter"


@pytest.mark.parametrize(
    ("args", "error"),
    [
        ({"filter": {"inmailbox": "x"}}, "unsupportedFilter"),
        ({"filter": {"inMailbox": 3}}, "invalidArguments"),
        ({"filter": {"header": []}}, "invalidArguments"),
        ({"filter": {"header": ["a", "b", "c"]}}, "invalidArguments"),
        ({"filter": {"header": ["a b"]}}, "invalidArguments"),
        ({"filter": {"before": "yesterday"}}, "invalidArguments"),
        ({"filter": {"minSize": -1}}, "invalidArguments"),
        ({"sort": [{"property": "colour"}]}, "unsupportedSort"),
        ({"sort": [{"property": "subject", "collation": "i;none"}]}, "unsupportedSort"),
        ({"sort": [{"property": "hasKeyword"}]}, "invalidArguments"),
        ({"limit": -1}, "invalidArguments"),
        ({"collapseThreads": "yes"}, "invalidArguments"),
        ({"unknown": 1}, "invalidArguments"),
    ],
)
def test_a_wrong_argument_is_refused_with_the_right_error(rig: Rig, args: dict[str, Any], error: str) -> None:
    with pytest.raises(MethodError) as caught:
        rig.call("Email/query", **args)
    assert caught.value.type == error


@pytest.mark.parametrize("collation", ["i;ascii-casemap", "i;unicode-casemap", "i;octet"])
def test_every_announced_collation_sorts_names(rig: Rig, collation: str) -> None:
    from jmapplug.jmap.sorting import COLLATIONS

    names = {one.id: one.from_[0] or one.from_[1] for one in rig.mails}
    got = [COLLATIONS[collation](names[i]) for i in rig.ids(None, [{"property": "from", "collation": collation}])]
    assert got == sorted(got)


@pytest.mark.parametrize(
    "filter_",
    [
        {"inMailbox": "inbox"},
        {"inMailbox": "inbox", "hasKeyword": "work"},
        {"inMailbox": "inbox", "notKeyword": "$seen"},
        {"hasKeyword": "$flagged"},
        None,
    ],
)
def test_a_list_page_is_read_in_the_order_of_an_index(rig: Rig, filter_: dict[str, Any] | None) -> None:
    named = filter_ and {name: rig.box(value) if name == "inMailbox" else value for name, value in filter_.items()}
    statement = compile_query(rig.store.cache, parse_filter(named, FILTER_FIELDS), parse_sort(NEWEST, SORT_FIELDS))
    sql = f"EXPLAIN QUERY PLAN SELECT {statement.alias}.id FROM {statement.source} WHERE {statement.where}"
    plan = [row[3] for row in rig.store.cache.rows(f"{sql} ORDER BY {statement.order} LIMIT 50", statement.params)]
    assert not any("TEMP B-TREE" in step for step in plan)


def test_totals_of_whole_mailboxes_come_from_their_counts(rig: Rig) -> None:
    asked: list[str] = []
    rows = rig.store.cache._txn._connection
    rows.set_exec_trace(lambda cursor, sql, values: asked.append(sql) or True)
    try:
        for collapse in (False, True):
            rig.query({"inMailbox": rig.box("inbox")}, NEWEST, collapseThreads=collapse, limit=5)
    finally:
        rows.set_exec_trace(None)
    assert asked and not any("count(" in sql for sql in asked)


def test_the_total_is_counted_once_per_state(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.add(*varied(5))
    asked: list[str] = []
    rig.store.cache._txn._connection.set_exec_trace(lambda cursor, sql, values: asked.append(sql) or True)
    for _ in range(3):
        rig.query({"hasAttachment": True})
    assert sum("count(*)" in sql for sql in asked) == 1
    rig.add(Mail(attachment=True))
    assert rig.query({"hasAttachment": True})["total"] == 3
    rig.close()


def test_an_emoji_that_is_no_word_is_found_as_it_is(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.add(Mail(subject="party 🎉 today"), Mail(subject="plain"))
    assert rig.subjects({"subject": "🎉"}) == ["party 🎉 today"]
    assert rig.ids({"from": "🎉"}) == []
    rig.close()
