"""Removing header fields while a message is copied."""

from __future__ import annotations

import io
from email import message_from_bytes, policy
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmapplug.mime import strip
from jmapplug.mime.headers import split
from jmapplug.mime.strip import strip_fields


def stripped(folder: Path, message: bytes, *names: str) -> bytes:
    source, target = folder / "message", io.BytesIO()
    source.write_bytes(message)
    assert strip_fields(source, target, set(names)) == len(target.getvalue())
    return target.getvalue()


def test_a_folded_field_goes_whole_and_its_neighbours_stay(tmp_path: Path) -> None:
    message = b"To: a@b\r\nBcc: c@d,\r\n e@f,\r\n\tg@h\r\nSubject: s\r\n folded\r\n\r\nbody\r\n"
    assert stripped(tmp_path, message, "Bcc") == b"To: a@b\r\nSubject: s\r\n folded\r\n\r\nbody\r\n"


@pytest.mark.parametrize("field", [b"Bcc", b"BCC", b"bcc", b"bCc ", b"Bcc\t "])
def test_a_name_matches_in_any_spelling(tmp_path: Path, field: bytes) -> None:
    assert stripped(tmp_path, field + b": x@y\r\nTo: a@b\r\n\r\n", "bcc") == b"To: a@b\r\n\r\n"


def test_every_instance_of_every_name_goes(tmp_path: Path) -> None:
    message = b"Bcc: 1\r\nTo: a\r\nResent-Bcc: 2\r\nBcc:\r\n 3\r\n\r\n"
    assert stripped(tmp_path, message, "Bcc", "Resent-Bcc") == b"To: a\r\n\r\n"


def test_a_name_that_only_begins_like_it_stays(tmp_path: Path) -> None:
    message = b"Bcc-X: 1\r\nX-Bcc: 2\r\nBc: 3\r\nBcc\r\n\r\n"
    assert stripped(tmp_path, message, "Bcc") == message


def test_the_body_is_left_alone_byte_for_byte(tmp_path: Path) -> None:
    body = b"Bcc: not a field\r\n bare\nLF \r CR \0 \xff\r\n\r\nBcc: nor this"
    assert stripped(tmp_path, b"Bcc: x\r\nTo: a\r\n\r\n" + body, "Bcc") == b"To: a\r\n\r\n" + body


def test_line_ends_without_cr_are_understood_and_kept(tmp_path: Path) -> None:
    assert stripped(tmp_path, b"To: a\nBcc: x,\n y\nCc: c\n\nbody\n", "Bcc") == b"To: a\nCc: c\n\nbody\n"


def test_a_line_of_white_space_inside_a_field_belongs_to_it(tmp_path: Path) -> None:
    assert stripped(tmp_path, b"Bcc: x,\r\n \r\n y@z\r\nTo: a\r\n\r\nb", "Bcc") == b"To: a\r\n\r\nb"


@pytest.mark.parametrize("message", [b"", b"\r\n", b"\r\nBcc: body\r\n", b"\nBcc: body", b"no header at all"])
def test_a_message_without_a_header_is_copied(tmp_path: Path, message: bytes) -> None:
    assert stripped(tmp_path, message, "Bcc") == message


def test_a_field_that_ends_the_file_goes(tmp_path: Path) -> None:
    assert stripped(tmp_path, b"To: a\r\nBcc: x", "Bcc") == b"To: a\r\n"


def test_a_field_longer_than_one_read_goes_to_its_end(tmp_path: Path) -> None:
    long = b"x@y, " * 40_000
    assert len(long) > 3 * strip._LINE
    message = b"Bcc: " + long + b"\r\n " + long + b"Bcc: \r\nX-Long: " + long + b"Bcc: z\r\n\r\nbody"
    assert stripped(tmp_path, message, "Bcc") == b"X-Long: " + long + b"Bcc: z\r\n\r\nbody"


def test_a_large_body_is_streamed(tmp_path: Path) -> None:
    class Target(io.RawIOBase):
        largest = total = 0

        def write(self, data: bytes) -> int:  # type: ignore[override]
            self.largest, self.total = max(self.largest, len(data)), self.total + len(data)
            return len(data)

    source, target = tmp_path / "message", Target()
    source.write_bytes(b"Bcc: x\r\n\r\n" + b"x" * 5_000_000)
    assert strip_fields(source, target, {"Bcc"}) == target.total == 5_000_002
    assert target.largest <= 1 << 18


_LINES = st.lists(
    st.sampled_from([b"To: a@b", b"Bcc: x@y", b"bcc:", b" folded", b"\tfolded", b"Subject: Bcc: no", b"junk", b"x: y"]),
    max_size=12,
)


@given(header=_LINES, body=st.binary(max_size=40), end=st.sampled_from([b"\r\n", b"\n"]))
def test_what_is_left_is_the_message_without_those_fields(
    tmp_path_factory: pytest.TempPathFactory, header: list[bytes], body: bytes, end: bytes
) -> None:
    block = b"".join(line + end for line in [b"First: 1", *header])
    left = stripped(tmp_path_factory.getbasetemp(), block + end + body, "Bcc")
    assert left.endswith(end + body)
    left_block = left[: len(left) - len(end + body)]
    assert split(left_block) == [one for one in split(block) if one[0].lower() != "bcc"]
    assert message_from_bytes(left, policy=policy.default)["Bcc"] is None
