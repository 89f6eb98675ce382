"""Header fields as they are written: what is read back, how they fold, and that nothing breaks out of them."""

from __future__ import annotations

import re
from email import message_from_bytes, policy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmapplug.mime import headers, write_headers
from jmapplug.mime.words import nfc
from jmapplug.mime.write_headers import Unwritable

TEXT = st.text(max_size=120) | st.text(alphabet=' ab=?ü😀\r\n\t\0"\\<>(),:;@.', max_size=60)
# What the standard library reads without complaint: no characters that it takes for line ends or drops.
FRIENDLY = st.text(alphabet="abcdef ÄÖüß日本語😀שלום'\"\\(),:;@.<>[]", max_size=80)


def value_of(field: bytes) -> bytes:
    """The value of the one field that this is; every line obeys RFC 5322 §2.1.1."""
    assert field.endswith(b"\r\n")
    lines = field[:-2].split(b"\r\n")
    assert all(len(line) <= 998 for line in lines)
    assert all(line[:1] in b" \t" and line.strip() for line in lines[1:])
    assert b"\r" not in field.replace(b"\r\n", b"") and b"\n" not in field.replace(b"\r\n", b"") and b"\0" not in field
    (found,) = headers.split(field)
    return found[1]


def independent(field: bytes) -> Any:
    """The standard library's view; it must have no complaint."""
    message = message_from_bytes(field + b"\r\n", policy=policy.default)
    ((_, value),) = message.items()
    assert message.defects == []
    assert value.defects == ()
    return value


@given(TEXT)
def test_a_text_reads_back_with_all_its_spaces(value: str) -> None:
    field = write_headers.text("Subject", value)
    assert headers.as_text(value_of(field)) == nfc(write_headers.scrubbed(value))


@given(FRIENDLY)
def test_other_readers_see_the_same_text(value: str) -> None:
    read = independent(write_headers.text("Subject", value))
    assert re.sub(r"\s+", " ", str(read)).strip() == re.sub(r"\s+", " ", value).strip()


def test_lines_of_text_keep_to_78_characters() -> None:
    for value in ("word " * 100, "wörter " * 100, "日本語" * 100, "😀" * 300):
        for line in write_headers.text("Subject", value).split(b"\r\n"):
            assert len(line) <= 78


def test_only_the_words_that_need_it_are_encoded() -> None:
    assert write_headers.text("Subject", "Mädchen aus Wien") == b"Subject: =?utf-8?q?M=C3=A4dchen?= aus Wien\r\n"
    assert write_headers.text("Subject", "plain text") == b"Subject: plain text\r\n"


@given(st.lists(st.text(alphabet="äbc", min_size=1, max_size=25), min_size=1, max_size=6))
def test_a_name_that_fits_into_one_encoded_word_is_one(names: list[str]) -> None:
    people: Any = [{"name": name + "é", "email": "a@b.example"} for name in names]
    field = write_headers.addresses("To", people)
    for line in field.split(b"\r\n"):
        assert len(line) <= 78
    # The first one shares its line with the field's name.
    assert field.count(b"=?utf-8?") in (len(names), len(names) + 1)


def test_no_encoded_word_cuts_a_character() -> None:
    for value in ("😀" * 200, "aß" * 300, "日" * 2_000):
        for label, word in re.findall(rb"=\?utf-8\?([bq])\?([^?]*)\?=", write_headers.text("X", value)):
            assert len(word) <= 63
            read = headers.as_text(b" =?utf-8?" + label + b"?" + word + b"?=")
            assert "�" not in read


@pytest.mark.parametrize("value", ["x" * 1_000_000, "ü" * 500_000, "a b " * 250_000, " " * 1_000_000, "=?" * 500_000])
def test_a_megabyte_of_text_is_one_field_that_reads_back(value: str) -> None:
    assert headers.as_text(value_of(write_headers.text("Subject", value))) == value


@pytest.mark.parametrize("value", ["=?utf-8?q?x?=", "a =?utf-8?b?eA==?= b", "=?x", "?=", "a=?utf-8?q?x?=b"])
def test_what_looks_like_an_encoded_word_is_not_decoded(value: str) -> None:
    assert headers.as_text(value_of(write_headers.text("Subject", value))) == value


def test_a_long_word_of_a_token_stays_in_one_piece() -> None:
    assert write_headers.text("X-Token", "t" * 600) == b"X-Token: " + b"t" * 600 + b"\r\n"


NAMES = st.none() | TEXT
EMAILS = st.sampled_from(
    ["a@b.example", "a..b@c", "üser@bücher.example", '"john doe"@x.org', "a@[127.0.0.1]", "unfinished", "x+y=z@h"]
)
ADDRESSES = st.lists(st.fixed_dictionaries({"name": NAMES, "email": EMAILS}), max_size=6)


def shown(name: str | None) -> str | None:
    return (nfc(write_headers.scrubbed(name)).strip() or None) if name is not None else None


@given(ADDRESSES)
def test_addresses_read_back_with_their_names(value: list[dict[str, Any]]) -> None:
    field = write_headers.addresses("To", value)  # type: ignore[arg-type]
    if not value:
        assert field == b""
        return
    assert headers.as_addresses(value_of(field)) == [
        {"name": shown(one["name"]), "email": one["email"]} for one in value
    ]


@given(st.lists(st.fixed_dictionaries({"name": NAMES, "addresses": ADDRESSES}), max_size=4))
def test_groups_read_back_with_their_members(value: list[dict[str, Any]]) -> None:
    expected: list[dict[str, Any]] = []
    for group in value:
        name = shown(group["name"])
        members = [{"name": shown(one["name"]), "email": one["email"]} for one in group["addresses"]]
        if name is None and expected and expected[-1]["name"] is None:
            expected[-1]["addresses"] += members
        elif name is not None or members:
            expected.append({"name": name, "addresses": members})
    field = write_headers.groups("To", value)  # type: ignore[arg-type]
    assert (headers.as_grouped_addresses(value_of(field)) if field else []) == expected


@given(st.lists(st.tuples(FRIENDLY, st.sampled_from(["a@b.example", '"a b"@c.example'])), min_size=1, max_size=4))
def test_other_readers_see_the_same_addresses(value: list[tuple[str, str]]) -> None:
    read = independent(write_headers.addresses("To", [{"name": name, "email": email} for name, email in value]))
    # The standard library shows one space where there are several, and one where two encoded words meet.
    assert [("".join(one.display_name.split()), one.addr_spec) for one in read.addresses] == [
        ("".join(name.split()), email) for name, email in value
    ]


@given(st.text(max_size=60) | st.text(alphabet='ab@<>"\\,;:() \r\n', max_size=20))
def test_whatever_stands_for_an_address_stays_one_address(email: str) -> None:
    field = write_headers.addresses("To", [{"name": "N", "email": email}, {"name": None, "email": "last@example.org"}])
    value_of(field)
    read = message_from_bytes(field + b"\r\n", policy=policy.default)["To"]
    assert "last@example.org" in str(read)


@pytest.mark.parametrize(
    ("email", "written"),
    [
        ("<a@b.example>", "a@b.example"),
        (" a@b.example\r\n", "a@b.example"),
        ("john doe@x.org", '"john doe"@x.org'),
        ("a,b@x.org", '"a,b"@x.org'),
        ("a@b, c@d", '"a@b, c@d"'),
        ('say "hi"', '"say \\"hi\\""'),
        ("@", '"@"'),
        ("", ""),
    ],
)
def test_an_address_that_is_none_is_kept_in_quotes(email: str, written: str) -> None:
    assert write_headers.address(email) == written


def test_ten_thousand_recipients_fit_and_read_back() -> None:
    value = [{"name": f"Nämé {n}", "email": f"user{n}@x.org"} for n in range(10_000)]
    read = headers.as_addresses(value_of(write_headers.addresses("To", value)))  # type: ignore[arg-type]
    assert read == value


def test_a_list_that_would_not_be_read_to_its_end_is_not_written() -> None:
    value = [{"name": "N" * 60, "email": f"user{n}@example.org"} for n in range(10_000)]
    with pytest.raises(Unwritable):
        write_headers.addresses("To", value)  # type: ignore[arg-type]


@given(st.lists(st.text(alphabet='abc@.<> \r\nü()"', min_size=1, max_size=30), min_size=1, max_size=5))
def test_message_ids_read_back_without_brackets(value: list[str]) -> None:
    bare = ["".join(one.split()).replace("<", "").replace(">", "") for one in value]
    if not all(bare):
        with pytest.raises(Unwritable):
            write_headers.message_ids("References", value)
        return
    assert headers.as_message_ids(value_of(write_headers.message_ids("References", value))) == bare


def test_many_references_fold() -> None:
    value = [f"{n}.{'x' * 40}@example.org" for n in range(300)]
    field = write_headers.message_ids("References", value)
    assert max(map(len, field.split(b"\r\n"))) <= 78
    assert headers.as_message_ids(value_of(field)) == value


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("2014-10-30T14:12:00+08:00", b"Thu, 30 Oct 2014 14:12:00 +0800"),
        ("2026-01-01T00:00:00Z", b"Thu, 01 Jan 2026 00:00:00 +0000"),
        ("1999-12-31T23:59:60-03:30", b"Fri, 31 Dec 1999 23:59:59 -0330"),
        ("2024-02-29T01:02:03.5Z", b"Thu, 29 Feb 2024 01:02:03 +0000"),
        ("0001-01-01T00:00:00Z", b"Mon, 01 Jan 0001 00:00:00 +0000"),
    ],
)
def test_dates_keep_their_offset(value: str, written: bytes) -> None:
    assert write_headers.date("Date", value) == b"Date: " + written + b"\r\n"


@pytest.mark.parametrize("value", ["", "2026-02-30T00:00:00Z", "2026-01-01", "2026-01-01T00:00:00Z\r\nX: y"])
def test_what_is_no_date_is_not_written(value: str) -> None:
    with pytest.raises(Unwritable):
        write_headers.date("Date", value)


@given(st.lists(st.text(alphabet='ab:/?=&#()<>,; \r\n%ü"', min_size=1, max_size=30), min_size=1, max_size=4))
def test_urls_read_back(value: list[str]) -> None:
    cleaned = [write_headers.scrubbed(one).strip() for one in value]
    if not all(cleaned):
        with pytest.raises(Unwritable):
            write_headers.urls("List-Help", value)
        return
    escapes = {" ": "%20", "<": "%3C", ">": "%3E", '"': "%22", "ü": "%C3%BC"}
    expected = ["".join(escapes.get(char, char) for char in one) for one in cleaned]
    assert headers.as_urls(value_of(write_headers.urls("List-Help", value))) == expected


@given(st.text(alphabet=" \tab:\r\n\0ü", max_size=30))
def test_a_raw_value_stays_in_its_field_or_is_refused(value: str) -> None:
    try:
        field = write_headers.raw("X-Raw", value)
    except Unwritable:
        assert re.search(r"[\r\n\0]", value)
        return
    read = headers.as_raw(value_of(field))
    assert "".join(read.split()) == "".join(value.split())


def test_a_raw_value_keeps_its_own_folds_and_gets_others_only_where_it_must() -> None:
    assert write_headers.raw("X", " a\n\tb\r\n  c") == b"X: a\r\n\tb\r\n  c\r\n"
    assert write_headers.raw("X", " " + "ab " * 200) == b"X: " + b"ab " * 200 + b"\r\n"
    assert max(map(len, write_headers.raw("X", "ab " * 1_000).split(b"\r\n"))) <= 78
    with pytest.raises(Unwritable):
        write_headers.raw("X", "a" * 2_000)


def test_lone_surrogates_become_replacement_characters_and_pairs_characters() -> None:
    assert write_headers.scrubbed("a\ud83d\ude00b\ud800c") == "a😀b�c"
