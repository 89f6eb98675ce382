"""Words, strings and comments of a script."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmapplug.capabilities.sieve.reading import commands, includes, quoted, tokens


@given(st.text())
def test_a_quoted_string_is_one_string_and_comes_back(text: str) -> None:
    plain = text.encode("utf-8", "replace").decode()
    expected = plain.replace("\0", "\ufffd").replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\r\n")
    assert list(tokens(quoted(plain).encode())) == [("string", expected)]


@given(st.binary(max_size=300))
def test_no_octets_are_too_bad_to_be_read(script: bytes) -> None:
    list(tokens(script))
    includes(script)


@pytest.mark.parametrize("piece", [b"/*", b'"\\', b"text:\n", b"#", b'"', b"text:", b"text:#", b"a", b"\\", b"*/ /* "])
def test_a_hostile_script_costs_no_more_than_its_length(piece: bytes) -> None:
    """With a cost of the square a script of this length would take hours, and the worker with it."""
    list(tokens(piece * (1_000_000 // len(piece))))


def test_words_in_comments_and_strings_are_none() -> None:
    script = b"""# vacation
/* vacation */ require ["vacation"];
if header "subject" text:
vacation
..
.
{ KEEP; }"""
    assert commands(script) == {"require", "if", "header", "keep"}


@pytest.mark.parametrize(
    ("script", "names"),
    [
        (b'include "a"; include :personal :once "b";', ["a", "b"]),
        (b'include :global "a"; include :optional :personal "b \\"c\\"";', ['b "c"']),
        (b'# include "a";\ninclude; fileinto "a"; INCLUDE text:\nx\n.\n;', ["x"]),
        (b'require ["include"]; fileinto "include";', []),
    ],
)
def test_included_scripts_of_the_users_own(script: bytes, names: list[str]) -> None:
    assert includes(script) == tuple(names)
