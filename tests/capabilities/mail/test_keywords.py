"""keywords.py: RFC 8621 §4.1.1, rules 13, 15, 16."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmapplug.capabilities.mail import keywords as kw


def test_the_four_system_flags_and_lower_case() -> None:
    assert kw.keywords_of("$Forwarded \\ANSWERED \\Draft \\Flagged \\seen Work") == frozenset(
        {"$seen", "$draft", "$flagged", "$answered", "$forwarded", "work"}
    )


@pytest.mark.parametrize(
    "flag", ["\\Recent", "\\Deleted", "\\Odd", "a(b", "a]", "a%", 'a"', "a\\b", "ü", "x" * 256, "a\x7f"]
)
def test_what_jmap_does_not_allow_is_hidden(flag: str) -> None:
    """Rule 15."""
    assert kw.keywords_of(flag) == frozenset()


@pytest.mark.parametrize("flag", ["$Seen", "$draft", "$FLAGGED", "$answered"])
def test_a_user_flag_spelt_like_a_system_keyword_is_not_that_keyword(flag: str) -> None:
    assert kw.keywords_of(flag) == frozenset()


def test_a_copy_is_hidden_by_deleted_in_any_spelling_and_recent_is_never_kept() -> None:
    """Rules 13, 15."""
    assert kw.canonical(("\\DELETED", "\\recent", "Work")) == ("Work \\DELETED", True)


def test_a_thousand_flags_make_a_bounded_number_of_keywords() -> None:
    assert len(kw.keywords_of(" ".join(f"k{at}" for at in range(1000)))) == 200


@given(
    st.lists(st.lists(st.sampled_from(["\\Seen", "\\Draft", "\\Flagged", "work"]), max_size=4), min_size=1, max_size=4)
)
def test_merging_needs_all_for_seen_and_draft_and_one_for_others(copies: list[list[str]]) -> None:
    """Rule 15."""
    merged = kw.merged(" ".join(flags) for flags in copies)
    for flag, word in (("\\Seen", "$seen"), ("\\Draft", "$draft")):
        assert (word in merged) == all(flag in flags for flags in copies)
    for flag, word in (("\\Flagged", "$flagged"), ("work", "work")):
        assert (word in merged) == any(flag in flags for flags in copies)


def test_the_keyword_table_holds_the_absence_of_seen() -> None:
    assert kw.indexed(frozenset({"$seen", "a"})) == {"a"}
    assert kw.indexed(frozenset({"a"})) == {"a", kw.UNSEEN}


def test_a_draft_is_never_unread() -> None:
    """Rule 16."""
    assert kw.bits(frozenset({"$draft"})) & kw.UNREAD_MASK
    assert not kw.bits(frozenset({"$flagged"})) & kw.UNREAD_MASK
