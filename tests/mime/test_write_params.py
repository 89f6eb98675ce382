"""MIME header fields as they are written: parameters, and names in any script (RFC 2231)."""

from __future__ import annotations

from email import message_from_bytes, policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmapplug.mime import params, write_params
from jmapplug.mime.words import nfc
from jmapplug.mime.write_headers import Unwritable, scrubbed

NAMES = st.text(min_size=1, max_size=150) | st.text(alphabet="ab =?\"\\;'%*.\r\n\0üß日😀ש", min_size=1, max_size=80)


def value_of(field: bytes) -> bytes:
    assert field.endswith(b"\r\n") and field.isascii() and b"\0" not in field
    lines = field[:-2].split(b"\r\n")
    assert all(line.startswith(b" ") for line in lines[1:])
    assert not any(b"\r" in line or b"\n" in line for line in lines)
    return field.partition(b":")[2]


@given(NAMES)
def test_a_file_name_reads_back(name: str) -> None:
    field = write_params.field("Content-Disposition", "attachment", {"filename": name})
    kind, parameters = params.disposition(value_of(field))
    assert kind == "attachment"
    assert parameters.get("filename", "") == nfc(scrubbed(name).strip())


@given(st.text(alphabet="abc .-_äöü日本語😀שלום()[]'%*\"\\;=?", min_size=1, max_size=150))
def test_other_readers_see_the_same_file_name(name: str) -> None:
    field = write_params.field("Content-Disposition", "attachment", {"filename": name})
    message = message_from_bytes(field + b"\r\n", policy=policy.default)
    assert message["content-disposition"].defects == ()
    assert message["content-disposition"].params["filename"] == name.strip()


def test_lines_keep_to_78_characters_but_for_one_name_in_quotes() -> None:
    field = write_params.field("Content-Type", "application/pdf", {"name": "日本語" * 100, "charset": "utf-8"})
    assert max(map(len, field.split(b"\r\n"))) <= 78
    plain = write_params.field("Content-Disposition", "attachment", {"filename": "long name " * 20 + ".pdf"})
    assert max(map(len, plain.split(b"\r\n"))) <= 998


def test_an_ascii_name_stands_in_quotes_as_old_readers_want_it() -> None:
    field = write_params.field("Content-Disposition", "attachment", {"filename": "report (1).pdf"})
    assert field == b'Content-Disposition: attachment; filename="report (1).pdf"\r\n'


def test_no_section_of_a_name_cuts_a_character() -> None:
    field = write_params.field("Content-Disposition", "attachment", {"filename": "😀" * 60})
    sections = field.split(b"\r\n ")[1:]
    assert len(sections) > 10
    for section in sections:
        assert section.rstrip(b";\r\n").count(b"%") % 4 == 0


def test_what_cannot_be_read_again_is_not_written() -> None:
    with pytest.raises(Unwritable):
        write_params.field("Content-Disposition", "attachment", {"filename": "x" * 2_001})
    with pytest.raises(Unwritable):
        write_params.field("Content-Type", "a/b", {"na me": "x"})
