"""The size of a base64 part from its two ends."""

from __future__ import annotations

import base64

from hypothesis import given
from hypothesis import strategies as st

from jmapplug.capabilities.mail.sizes import WINDOW, base64_size


def ends(text: bytes) -> tuple[int, bytes, bytes]:
    return len(text), text[:WINDOW], text[-WINDOW:]


@given(st.integers(1_600, 9_000), st.sampled_from([4, 60, 64, 72, 76, 1_000, 100_000]), st.integers(0, 3))
def test_a_regular_part_is_counted_exactly(octets: int, line: int, closing: int) -> None:
    coded = base64.b64encode(b"\xa5" * octets)
    text = b"\r\n".join(coded[at : at + line] for at in range(0, len(coded), line)) + b"\r\n" * closing
    if len(text) > 2 * WINDOW:
        assert base64_size(*ends(text)) == octets


def regular() -> bytes:
    coded = base64.b64encode(b"\x5a" * 9_001)
    return b"\r\n".join(coded[at : at + 76] for at in range(0, len(coded), 76))


def test_irregular_ends_have_no_answer() -> None:
    text = regular()
    for broken in (
        text.replace(b"\r\n", b"\n"),
        text[:76] + text[78:],
        b"\r\n" + text,
        text[:-1],
        text[:-300] + b"\r\n" + text[-300:],
        text[:-300] + b" " + text[-300:],
        text[:10] + b"=" + text[10:],
        text + b"\r\n-- \r\nfooter!",
        text[:5_000] + b"x" + text[5_000:],
    ):
        assert base64_size(*ends(broken)) is None


@given(st.binary(max_size=40), st.binary(max_size=40), st.integers(0, 5_000))
def test_any_octets_have_an_answer_or_none(head: bytes, tail: bytes, octets: int) -> None:
    found = base64_size(max(octets, len(head), len(tail)), head, tail)
    assert found is None or found >= 0
