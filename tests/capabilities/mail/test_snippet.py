"""SearchSnippet/get (RFC 8621 §5)."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from search_rig import Mail, Rig

from jmapplug.capabilities.mail.snippet import excerpt, mark, terms_of
from jmapplug.capabilities.mail.tokens import parse
from jmapplug.errors import UpstreamError
from jmapplug.jmap.errors import MethodError


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.close()


def snippets(rig: Rig, filter: Any, *ids: str) -> list[tuple[str | None, str | None]]:
    reply = rig.call("SearchSnippet/get", filter=filter, emailIds=list(ids))
    assert reply["notFound"] is None
    return [(one["subject"], one["preview"]) for one in reply["list"]]


def test_matches_are_marked_in_subject_and_body(rig: Rig) -> None:
    [a] = rig.add(Mail("The Foosball <competition>", body="Every year the foosball & more is held"))
    found = snippets(rig, {"text": "foosball"}, a)
    assert found == [
        (
            "The <mark>Foosball</mark> &lt;competition&gt;",
            "Every year the <mark>foosball</mark> &amp; more is held",
        )
    ]


def test_what_does_not_match_is_null(rig: Rig) -> None:
    ids = rig.add(Mail("foo", body="nothing"), Mail("nothing", body="a foo"), Mail("nothing", body="at all"))
    found = snippets(rig, {"text": "foo"}, *ids)
    assert found == [("<mark>foo</mark>", None), (None, "a <mark>foo</mark>"), (None, None)]


@pytest.mark.parametrize(
    ("filter_", "subject", "preview"),
    [
        ({"subject": "foo"}, "<mark>foo</mark> bar", None),
        ({"body": "foo"}, None, "a <mark>foo</mark> bar"),
        ({"from": "ann"}, None, None),
        ({"text": '"foo bar"'}, "<mark>foo bar</mark>", "a <mark>foo bar</mark>"),
        ({"text": "fo*"}, "<mark>foo</mark> bar", "a <mark>foo</mark> bar"),
        ({"text": "foo bar"}, "<mark>foo</mark> <mark>bar</mark>", "a <mark>foo</mark> <mark>bar</mark>"),
        ({"operator": "NOT", "conditions": [{"text": "foo"}]}, None, None),
        ({"operator": "OR", "conditions": [{"subject": "bar"}, {"body": "foo"}]}, "foo <mark>bar</mark>",
         "a <mark>foo</mark> bar"),
        ({"inMailbox": "x"}, None, None),
        ({}, None, None),
        (None, None, None),
    ],
)  # fmt: skip
def test_each_condition_marks_its_own_field(rig: Rig, filter_: Any, subject: str | None, preview: str | None) -> None:
    ids = rig.add(Mail("foo bar", body="a foo bar"))
    assert snippets(rig, filter_, *ids) == [(subject, preview)]


def test_the_words_around_a_match_far_inside_are_shown(rig: Rig) -> None:
    [a] = rig.add(Mail(body="before " * 300 + "needle " + "after " * 300))
    [(_, preview)] = snippets(rig, {"body": "needle"}, a)
    assert preview is not None
    assert "before <mark>needle</mark> after" in preview
    assert len(preview.encode()) <= 255


def test_texts_are_fetched_once_for_all_and_only_for_those_that_match(rig: Rig) -> None:
    ids = rig.add(*(Mail(body="needle" if n % 2 else "hay") for n in range(6)))
    rig.source.calls.clear()
    assert sum(preview is not None for _, preview in snippets(rig, {"body": "needle"}, *ids)) == 3
    assert len(rig.source.calls) == 1


def test_a_preview_that_shows_the_match_needs_no_fetch(rig: Rig) -> None:
    ids = rig.add(Mail(body="a needle", preview="a needle"))
    rig.source.calls.clear()
    assert snippets(rig, {"body": "needle"}, *ids) == [(None, "a <mark>needle</mark>")]
    assert rig.source.calls == []


def test_a_message_that_is_not_indexed_yet_has_a_snippet(rig: Rig) -> None:
    ids = rig.add(Mail(body="a needle"), indexed=False)
    assert snippets(rig, {"body": "needle"}, *ids) == [(None, "a <mark>needle</mark>")]


def test_without_upstream_the_preview_is_null(rig: Rig) -> None:
    ids = rig.add(Mail("needle", body="a needle"))

    def fault(name: str) -> None:
        raise UpstreamError("away")

    rig.source.fault = fault
    assert snippets(rig, {"text": "needle"}, *ids) == [("<mark>needle</mark>", None)]


def test_ids_that_are_none_are_not_found(rig: Rig) -> None:
    ids = rig.add(Mail("foo"))
    reply = rig.call("SearchSnippet/get", filter={"text": "foo"}, emailIds=["nope", *ids, ids[0], ""])
    assert [one["emailId"] for one in reply["list"]] == ids
    assert reply["notFound"] == ["nope", ""]


@pytest.mark.parametrize(
    ("args", "error"),
    [
        ({}, "invalidArguments"),
        ({"emailIds": None}, "invalidArguments"),
        ({"emailIds": [1]}, "invalidArguments"),
        ({"emailIds": [], "filter": {"nope": 1}}, "unsupportedFilter"),
        ({"emailIds": [], "ids": []}, "invalidArguments"),
        ({"emailIds": [f"e{n}" for n in range(4097)]}, "requestTooLarge"),
    ],
)
def test_a_wrong_argument_is_refused(rig: Rig, args: dict[str, Any], error: str) -> None:
    with pytest.raises(MethodError) as caught:
        rig.call("SearchSnippet/get", **args)
    assert caught.value.type == error


TEXTS = st.lists(st.sampled_from(["needle", "<b>", "&amp;", "Ünï", "日本", "a", "😀" * 9, "x" * 90, "\n"]), max_size=90)


@given(TEXTS.map(" ".join))
def test_a_snippet_is_short_well_formed_and_says_what_the_text_says(text: str) -> None:
    preview = excerpt(text, parse("needle"))
    assert (preview is None) == ("needle" not in text)
    if preview is not None:
        assert len(preview.encode()) <= 255
        assert "<mark>needle</mark>" in preview
        bare = re.sub("</?mark>", "", preview)
        assert "<" not in bare and ">" not in bare
        assert html.unescape(bare) in " ".join(text.split()) or "&amp;amp;" in bare


@given(st.text(max_size=300), st.text(max_size=20))
def test_any_text_and_query_give_a_snippet_or_none(text: str, query: str) -> None:
    for found in (excerpt(text, parse(query)), mark(text, parse(query))):
        assert found is None or "<mark>" in found


def test_a_match_longer_than_a_snippet_is_cut_inside_its_mark() -> None:
    preview = excerpt("é" * 400, parse("é" * 400))
    assert preview is not None and preview.startswith("<mark>é") and preview.endswith("é</mark>")
    assert 250 <= len(preview.encode()) <= 255


def test_terms_under_two_nots_show_again() -> None:
    from jmapplug.capabilities.mail.filters import FILTER_FIELDS
    from jmapplug.jmap.filters import parse_filter

    tree = {"operator": "NOT", "conditions": [{"operator": "NOT", "conditions": [{"text": "foo"}]}]}
    assert terms_of(parse_filter(tree, FILTER_FIELDS), frozenset({"text"})) == parse("foo")
