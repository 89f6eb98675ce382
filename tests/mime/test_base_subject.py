"""The base subject of RFC 5256 §2.1."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmapplug.mime.base_subject import base_subject


@pytest.mark.parametrize(
    ("subject", "base"),
    [
        ("Hello", "Hello"),
        ("Re: Hello", "Hello"),
        ("RE: re: FW: Fwd: Hello", "Hello"),
        ("Re : Hello", "Hello"),
        ("Re[2]: Hello", "Hello"),
        ("Re: [list] Hello", "Hello"),
        ("[list] Re: Hello", "Hello"),
        ("[a] [b] Hello", "Hello"),
        ("Hello (fwd) (FWD) ", "Hello"),
        ("[Fwd: Hello]", "Hello"),
        ("Re: [Fwd: [list] Re: Hello (fwd)]", "Hello"),
        ("  a\t \tb\r\n c ", "a b c"),
        ("[only]", "[only]"),
        ("Re: [only]", "[only]"),
        ("Re:", ""),
        ("", ""),
        ("Regarding: x", "Regarding: x"),
        ("AW: x", "AW: x"),
        ("Hello [x]", "Hello [x]"),
    ],
)
def test_base_subjects(subject, base):
    assert base_subject(subject) == base


@given(st.lists(st.sampled_from(["re", "fwd", ":", "[", "]", "(fwd)", " ", "[fwd:", "x", "\t"])).map("".join))
def test_a_base_subject_is_its_own_base(subject):
    base = base_subject(subject)
    assert base_subject(base) == base


@given(st.text(min_size=1).map(str.strip).filter(lambda text: text and text[0] not in "[" and not text[-1].isspace()))
def test_answers_have_the_base_of_the_question(subject):
    assert base_subject("Re: " + subject) == base_subject(subject)
    assert base_subject("[list] Re: " + subject) == base_subject(subject)


@pytest.mark.parametrize("piece", ["re:", "[a]", "[", "(fwd)", "[fwd:", "]", "re[a]:"])
def test_long_repetitions_come_to_an_end(piece):
    assert len(base_subject(piece * 200_000)) <= 2_000
