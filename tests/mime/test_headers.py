"""Splitting of header blocks and the parsed forms of RFC 8621 §4.1.2."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmapplug.mime import headers


def test_split_keeps_names_as_written_and_values_with_their_folding():
    block = b"SUBJECT : one\r\n two\r\nX-a:\r\nto: b\n"
    assert headers.split(block) == [("SUBJECT", b" one\r\n two"), ("X-a", b""), ("to", b" b")]


def test_split_passes_over_lines_that_are_no_fields():
    block = b"From joe Mon\r\nFrom: a\r\njunk\r\n\tmore: junk\r\nTo: b\r\nbl\xe4: c\r\n: d\r\n"
    assert headers.split(block) == [("From", b" a"), ("To", b" b")]


def test_split_stops_at_ten_thousand_fields():
    assert len(headers.split(b"A: b\n" * 50_000)) == 10_000


@pytest.mark.parametrize(
    ("data", "block"),
    [
        (b"A: b\r\n\r\nbody\r\n\r\n", b"A: b\r\n"),
        (b"A: b\n\nbody\r\n\r\n", b"A: b\n"),
        (b"A: b\r\nC: d", b"A: b\r\nC: d"),
        (b"\r\nbody: x\r\n\r\n", b""),
        (b"\nbody: x", b""),
        (b"just a text\r\nand more\r\n\r\n", b""),
        (b"From joe\r\nA: b\r\n\r\n", b"From joe\r\nA: b\r\n"),
        (b"A: " + b"b" * 10_000 + b"\r\n\r\nbody", b"A: " + b"b" * 10_000 + b"\r\n"),
        (b"A: " + b"b" * 4_091 + b"\r\n\r\nbody", b"A: " + b"b" * 4_091 + b"\r\n"),
        (b"", b""),
    ],
)
def test_a_header_block_ends_before_the_empty_line(data, block):
    assert headers.block_of(data) == block


def test_a_raw_value_keeps_its_space_replaces_what_is_not_utf8_and_drops_nul():
    assert headers.as_raw(b" gr\xc3\xbc\xdf\r\n \0x") == " grü\ufffd\r\n x"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b" Hello\r\n World ", "Hello World "),
        (b"   three spaces", "three spaces"),
        (b" gr\xc3\xbc\xc3\x9fe", "grüße"),
        (b" gr\xfc\xdfe", "grüße"),
        (b" =?utf-8?Q?gr=C3=BC=C3=9Fe?=", "grüße"),
        (b" =?UTF-8?b?Z3LDvMOfZQ==?= x", "grüße x"),
        (b" =?utf-8?q?a?=\r\n =?utf-8?q?b?= c", "ab c"),
        (b" a =?utf-8?q?b?= =?iso-8859-1?q?=E4?=", "a bä"),
        # A character cut in two between words.
        (b" =?utf-8?q?=C3?= =?utf-8?q?=A4?=", "ä"),
        (b" =?utf-8?B?4oI=?= =?utf-8?B?rA==?=", "€"),
        (b" =?iso-2022-jp?B?GyRCRnxLXBsoQg==?=", "日本"),
        # A character that gb18030 has and gb2312 has not.
        (b" =?gb2312?B?1uzpRrv5?=", "朱镕基"),
        (b" =?utf-8*en?q?language?=", "language"),
        # RFC 8621 §4.1.2.2: wrong places are left alone.
        (b" a=?utf-8?q?b?=", "a=?utf-8?q?b?="),
        (b" =?utf-8?q?b?=a", "=?utf-8?q?b?=a"),
        (b" =?utf-8?q?two words?=", "=?utf-8?q?two words?="),
        (b" =?x-martian?q?b?= =?utf-8?q?c?=", "=?x-martian?q?b?= c"),
        (b" =?utf-8?x?b?=", "=?utf-8?x?b?="),
        # The charset is known, the octets are not its own.
        (b" =?utf-8?q?=FF?=", "\ufffd"),
        (b" =?us-ascii?q?=E4?=", "ä"),
        # Controls encoded in words go.
        (b" =?utf-8?q?a=00=0D=0A=1Bb?=", "ab"),
        (b" a\0b", "ab"),
        # NFC
        ("e\u0301".encode(), "é"),
        (b" =?utf-8?q?e=CC=81?=", "é"),
        (b"", ""),
        (b" =?utf-8?B?Z3LDvMOfZQ?=", "grüße"),
    ],
)
def test_the_text_form(value, text):
    assert headers.as_text(value) == text


@pytest.mark.parametrize(
    ("value", "ids"),
    [
        (b" <a@b>", ["a@b"]),
        (b" <a@b>\r\n\t<c@d><e@f>", ["a@b", "c@d", "e@f"]),
        (b" (comment <x@y>) < a@b >", ["a@b"]),
        (b" Your message of Monday <a@b>", ["a@b"]),
        (b" <a(1)@b>", ["a(1)@b"]),
        (b" <long\r\n id@b>", ["longid@b"]),
        (b" a@b", ["a@b"]),
        (b" no id at all", None),
        (b" <>", None),
        (b"", None),
    ],
)
def test_the_message_ids_form(value, ids):
    assert headers.as_message_ids(value) == ids


@pytest.mark.parametrize(
    ("value", "date", "stamp"),
    [
        (b" Mon, 13 Oct 2013 14:12:00 +0200", "2013-10-13T14:12:00+02:00", 1_381_666_320),
        (b" 13 Oct 13 14:12 EST", "2013-10-13T14:12:00-05:00", 1_381_691_520),
        (b" 13 Oct 113 14:12 UT", "2013-10-13T14:12:00Z", 1_381_673_520),
        (b" Sunday, 06-Nov-94 08:49:37 GMT", "1994-11-06T08:49:37Z", 784_111_777),
        (b" Mon Oct 13 14:12:00 2013", "2013-10-13T14:12:00Z", 1_381_673_520),
        (b" Mon Oct 13 14:12:00 PDT 2013", "2013-10-13T14:12:00-07:00", 1_381_698_720),
        (b" 2013-10-13T14:12:00.25+05:30", "2013-10-13T14:12:00+05:30", 1_381_653_720),
        (b" Mon,\r\n 13 (the) Oct 2013 (a (nested) one) 14:12:60 -0330", "2013-10-13T14:12:59-03:30", 1_381_686_179),
        (b" 1 Jan 2020 00:00:00 +9999", "2020-01-01T00:00:00Z", 1_577_836_800),
        (b" 1 Jan 2020 00:00:00 -0000", "2020-01-01T00:00:00Z", 1_577_836_800),
        (b" 1 January 2020 0:00:00 (CET)", "2020-01-01T00:00:00Z", 1_577_836_800),
        (b" 1 Jan 2020 00:00:00 A", "2020-01-01T00:00:00Z", 1_577_836_800),
        (b" Fri, 1 Jan 2021 5:06:07 PM -0800", "2021-01-01T17:06:07-08:00", 1_609_549_567),
        (b" Thu, 29 Feb 2024 10:10:10 +0000", "2024-02-29T10:10:10Z", 1_709_201_410),
        (b" 1 Jan 1960 00:00:00 +0000", "1960-01-01T00:00:00Z", -315_619_200),
        (b" Thu, 29 Feb 2023 10:10:10 +0000", None, None),
        (b" 1 Foo 2023 10:10:10 +0000", None, None),
        (b" 1 Jan 2023 25:10:10 +0000", None, None),
        (b" 1 Jan 0000 10:10:10 +0000", None, None),
        (b" Oct 13 14:12:00", None, None),
        (b" soon", None, None),
        (b"", None, None),
    ],
)
def test_the_date_form_keeps_the_senders_offset(value, date, stamp):
    assert headers.as_date(value) == date
    assert headers.timestamp(value) == stamp
    assert date is None or headers.timestamp(date) == stamp


@given(st.datetimes(timezones=st.timezones()))
def test_a_date_that_the_standard_library_writes_is_read_back(moment):
    from email.utils import format_datetime

    moment = moment.replace(microsecond=0)
    offset = moment.utcoffset()
    if moment.year >= 1000 and offset is not None and not offset.seconds % 60:
        assert headers.timestamp(format_datetime(moment).encode()) == int(moment.timestamp())


@pytest.mark.parametrize(
    ("value", "urls"),
    [
        (b" <mailto:a@b>,\r\n <http://x/y> (Web (page) <no>)", ["mailto:a@b", "http://x/y"]),
        (b" <http://x/(1)>", ["http://x/(1)"]),
        (b" <http://long\r\n er>", ["http://longer"]),
        (b" NO (posting not allowed)", None),
        (b"", None),
    ],
)
def test_the_urls_form(value, urls):
    assert headers.as_urls(value) == urls


def test_the_summary_holds_the_convenience_properties():
    block = (
        b"Date: Mon, 13 Oct 2013 14:12:00 +0200\r\nFROM: Joe <joe@example.com>\r\nsender: s@x\r\nReply-To: r@x\r\n"
        b"To: a@x, b@x\r\nCc: c@x\r\nBcc: d@x\r\nMessage-Id: <m@x>\r\nIn-Reply-To: <i@x>\r\nReferences: <r1@x>\r\n"
        b" <r2@x>\r\nSubject: =?utf-8?q?=C3=A4?=\r\n\r\n"
    )

    def only(email):
        return [{"name": None, "email": email}]

    assert headers.summary(block) == headers.Summary(
        message_id=["m@x"],
        in_reply_to=["i@x"],
        references=["r1@x", "r2@x"],
        sender=only("s@x"),
        from_=[{"name": "Joe", "email": "joe@example.com"}],
        to=only("a@x") + only("b@x"),
        cc=only("c@x"),
        bcc=only("d@x"),
        reply_to=only("r@x"),
        subject="ä",
        sent_at="2013-10-13T14:12:00+02:00",
    )


def test_the_summary_of_no_fields_is_all_null():
    assert headers.summary(b"\r\n") == headers.Summary()


def test_of_a_repeated_field_the_last_instance_counts():
    assert headers.summary(b"Subject: one\r\nsubject: two\r\n\r\n").subject == "two"


def test_8_bit_fields_are_read_as_utf8_and_else_as_latin():
    found = headers.summary("From: Jürgen <j@x>\r\n".encode() + "Subject: Grüße\r\n".encode("latin-1"))
    assert found.from_ == [{"name": "Jürgen", "email": "j@x"}]
    assert found.subject == "Grüße"


_name = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=":"), min_size=1, max_size=20)
_value = st.binary(max_size=60).filter(lambda raw: b"\n" not in raw and not raw.endswith(b"\r"))


@given(st.lists(st.tuples(_name, _value)))
def test_split_undoes_join(fields):
    block = b"".join(name.encode() + b":" + value + b"\r\n" for name, value in fields)
    assert headers.split(block) == fields


@given(st.text().filter(lambda text: all(char.isprintable() for char in text)))
def test_text_encoded_by_the_standard_library_is_decoded(text):
    import unicodedata
    from email.header import Header

    encoded = Header(text.encode("utf-8", "ignore").decode(), "utf-8").encode().encode()
    expected = unicodedata.normalize("NFC", text.encode("utf-8", "ignore").decode())
    assert headers.as_text(encoded) == expected


_FORMS = (
    headers.as_raw, headers.as_text, headers.as_addresses, headers.as_grouped_addresses, headers.as_message_ids,
    headers.as_date, headers.as_urls, headers.timestamp,
)  # fmt: skip
_BITS = st.lists(
    st.sampled_from(
        [b"<", b">", b"(", b")", b'"', b"\\", b",", b";", b":", b"@", b" ", b"\r\n ", b"\t", b"=?", b"?=", b"?q?",
         b"?b?", b"utf-8", b"iso-2022-jp", b"utf-7", b"a", b"b.c", b"[", b"]", b"\xff", b"\xc3\xa4", b"\0", b"=C3",
         b"+2AA-", b"1 Jan 2020 10:10:10", b"+0100", b"99", b"-", b"."]
    )
).map(b"".join)  # fmt: skip


@given(st.one_of(st.binary(), _BITS))
def test_no_value_makes_a_form_raise_and_all_answers_are_json(value):
    for form in _FORMS:
        msgspec.json.encode(form(value))


@given(st.one_of(st.binary(), _BITS))
def test_no_block_makes_the_summary_raise(value):
    block = b"From: " + value + b"\r\nSubject:" + value + b"\r\nDate:" + value + b"\r\n" + value
    msgspec.json.encode(headers.summary(block))
    headers.split(value)
    assert headers.block_of(value) == value[: len(headers.block_of(value))]


@given(_BITS)
def test_grouped_and_plain_addresses_agree(value):
    groups = headers.as_grouped_addresses(value)
    assert [one for group in groups for one in group["addresses"]] == headers.as_addresses(value)
