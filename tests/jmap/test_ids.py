from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from jmapplug.jmap.ids import is_id, mint, random_id

PART = st.text(max_size=20) | st.binary(max_size=20)
SHAPE = re.compile(r"e[a-z2-7]{26}")


@given(st.lists(PART, max_size=5))
def test_a_minted_id_is_a_letter_and_26_lower_case_base32_characters(identity: list[str | bytes]) -> None:
    made = mint("e", *identity)
    assert SHAPE.fullmatch(made)
    assert is_id(made)
    assert made == mint("e", *identity)


@given(st.lists(PART, max_size=4), st.lists(PART, max_size=4))
def test_different_identities_give_different_ids(one: list[str | bytes], other: list[str | bytes]) -> None:
    assert (mint("e", *one) == mint("e", *other)) == (one == other)


def test_parts_are_not_glued_together() -> None:
    assert len({mint("e", "ab", "c"), mint("e", "a", "bc"), mint("e", "abc"), mint("e", b"ab", "c")}) == 4


def test_the_kind_tells_two_ids_of_one_identity_apart() -> None:
    assert mint("e", "x")[1:] == mint("t", "x")[1:]
    assert mint("e", "x") != mint("t", "x")


def test_the_id_of_an_identity_never_changes_between_versions() -> None:
    assert mint("e", "mailbox", b"\x00\xff", "42") == "eeqtgklqorlnrse4ryqe6s7qihi"


def test_random_ids_have_the_same_shape_and_differ() -> None:
    made = {random_id("e") for _ in range(100)}
    assert len(made) == 100
    assert all(SHAPE.fullmatch(each) for each in made)


def test_an_id_is_1_to_255_characters_of_the_url_safe_alphabet() -> None:
    for good in ("a", "A-z_09", "x" * 255):
        assert is_id(good)
    for bad in ("", "x" * 256, "a b", "a.b", "ä", "a\n", "#a", "a/b", "a=", None, 1, ["a"], b"a"):
        assert not is_id(bad)
