"""BODYSTRUCTURE to Part: as RFC 9051 writes it, and as servers do."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jmapplug_imap.protocol import bodystructure
from jmapplug_imap.protocol.errors import ParseError
from jmapplug_imap.protocol.lexer import Frame
from jmapplug_imap.protocol.parser import parse
from jmapplug_imap.protocol.values import value

from jmapplug.mime.structure import Part

TEXT = b'("TEXT" "PLAIN" ("CHARSET" "UTF-8") NIL NIL "QUOTED-PRINTABLE" 2279 48 NIL NIL NIL NIL)'
HTML = b'("text" "html" ("charset" "utf-8") NIL NIL "7bit" 10 1 NIL NIL NIL NIL)'
IMAGE = (
    b'("image" "png" ("name" "x.png") "<a@b>" NIL "base64" 99 NIL ("inline" ("filename" "y.png")) ("en" "de") '
    b'"u/\r\n v")'
)
ENVELOPE = b'("d" "s" (("a" NIL "b" "c")) NIL NIL NIL NIL NIL NIL "<m>")'
MESSAGE = (
    b'("message" "rfc822" NIL NIL NIL "7bit" 900 '
    + ENVELOPE
    + b" "
    + TEXT
    + b' 30 NIL ("attachment" ("filename" "m.eml")) NIL NIL)'
)


def read(octets: bytes) -> Part | None:
    part, pos = bodystructure.read(Frame(octets), 0)
    assert pos == len(octets)
    return part


def shape(part: Part | None) -> object:
    """(section, type) of every part."""
    return None if part is None else [(each.section, each.type) for each in part.walk()]


def test_a_single_part_at_the_root_is_section_1():
    assert read(TEXT) == Part("1", "text/plain", "UTF-8", encoding="quoted-printable", size=2279)


def test_sections_of_nested_multiparts_are_numbered_like_imap_does():
    octets = b"((" + TEXT + HTML + b' "ALTERNATIVE" ("boundary" "x") NIL NIL)' + IMAGE + MESSAGE + b' "MIXED")'
    assert shape(read(octets)) == [
        ("", "multipart/mixed"),
        ("1", "multipart/alternative"),
        ("1.1", "text/plain"),
        ("1.2", "text/html"),
        ("2", "image/png"),
        ("3", "message/rfc822"),
    ]


def test_disposition_name_cid_language_and_location_are_decoded():
    image = IMAGE.replace(b"\r\n", b"")
    expected = Part("1", "image/png", None, "y.png", "inline", "a@b", ("en", "de"), "u/v", "base64", 99)
    assert read(image) == expected
    (part,) = read(b"(" + image + b' "related")').parts
    assert part == expected


def test_an_attached_message_is_a_leaf_with_its_name():
    assert read(MESSAGE) == Part("1", "message/rfc822", None, "m.eml", "attachment", size=900)


@pytest.mark.parametrize(
    ("params", "name"),
    [
        (b'("name" "=?utf-8?q?=C3=A9?=.pdf")', "é.pdf"),
        (b'("name*" "utf-8\'\'%C3%A9.pdf")', "é.pdf"),
        (b'("name*0" "a" "name*1" "b.pdf")', "ab.pdf"),
        (b'("name" "a \\"q\\".pdf")', 'a "q".pdf'),
        (b'("name" {4}\r\nlit.)', "lit."),
        (b'("NAME" NIL)', None),
        (b'("name")', None),
        (b"NIL", None),
        (b'"odd"', None),
        ('("name" "é.pdf")'.encode(), "é.pdf"),
    ],
)
def test_file_names_in_every_spelling(params, name):
    part = read(b'("application" "pdf" ' + params + b' NIL NIL "base64" 5)')
    assert part is not None and part.name == name and part.type == "application/pdf"


@pytest.mark.parametrize(
    ("disposition", "how", "name"),
    [
        (rb'("attachment; filename=\"a.bin\"" NIL)', "attachment", "a.bin"),
        (b'("Attachment; filename=a.bin" NIL)', "attachment", "a.bin"),
        (b'("attachment; filename=a.bin" ("filename" "b.bin"))', "attachment", "b.bin"),
        (b"(\"attachment; filename*=utf-8''%C3%A9.bin\" NIL)", "attachment", "é.bin"),
        (b'"inline; filename=a.bin"', "inline", "a.bin"),
        (b'("inline;" NIL)', "inline", None),
        (b'("; x" NIL)', None, None),
        (b'(";" NIL)', None, None),
    ],
)
def test_a_disposition_that_is_the_whole_field_is_taken_apart(disposition, how, name):
    part = read(b'("a" "b" NIL NIL NIL "7bit" 5 NIL ' + disposition + b" NIL NIL)")
    assert part is not None and (part.disposition, part.name) == (how, name)


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        # Exchange: NIL where a word must be.
        (b'("text" "plain" NIL NIL NIL NIL 5 1)', [("1", "text/plain")]),
        (b'(NIL NIL NIL NIL NIL "7bit" NIL)', [("1", "text/plain")]),
        (b'(NIL "plain" NIL NIL NIL "7bit" 3)', [("1", "text/plain")]),
        # Lines left out.
        (b'("text" "plain" ("charset" "x") NIL NIL "7bit" 5 NIL NIL NIL NIL)', [("1", "text/plain")]),
        # message/rfc822 described like any other part.
        (b'("message" "rfc822" NIL NIL NIL "7bit" 5 NIL ("attachment" NIL) NIL NIL)', [("1", "message/rfc822")]),
        # Spaces between the parts of a multipart, and extensions of the future.
        (
            b"(" + TEXT + b" " + HTML + b' "mixed" NIL NIL NIL NIL "x" (1 2))',
            [("", "multipart/mixed"), ("1", "text/plain"), ("2", "text/html")],
        ),
        # A multipart without parts (Courier), a wrong count of fields, nothing at all: the caller parses the message.
        (b'("mixed" ("boundary" "x") NIL NIL)', None),
        (b'("multipart" "mixed" NIL NIL NIL "7bit" 5)', None),
        (b'("text" "plain" NIL)', None),
        (b"(" + TEXT + b")", None),
        (b"(" + TEXT + b" NIL)", None),
        (b"()", None),
        (b"NIL", None),
        (b'"text"', None),
        (b'("text" "plain" NIL NIL NIL "7bit" many 3)', None),
    ],
)  # fmt: skip
def test_what_odd_servers_send_is_read_or_left_to_the_message_itself(octets, expected):
    assert shape(read(octets)) == expected


def test_an_unreadable_structure_does_not_harm_the_rest_of_its_row():
    row = parse(Frame(b'* 1 FETCH (BODYSTRUCTURE ("mixed" NIL) UID 4 FLAGS (\\Seen))'))
    assert (row.uid, row.flags, row.structure, row.damaged) == (4, ("\\Seen",), None, False)


@pytest.mark.parametrize("octets", [b"((", b"(" + TEXT, b'("text" "plain', b")", b""])
def test_a_structure_without_an_end_is_an_error(octets):
    with pytest.raises(ParseError):
        read(octets)


def test_depth_and_count_are_bounded():
    assert read(b"(" * 150 + TEXT + b' "mixed")' * 150) is None
    assert read(b"(" + TEXT * 10_001 + b' "mixed")') is None
    assert len(read(b"(" + TEXT * 5_000 + b' "mixed")').parts) == 5_000


words = st.sampled_from([b'"a"', b"NIL", b'"text"', b'"UTF-8"', b'""'])
pairs = st.lists(words, max_size=4).map(lambda each: b"(" + b" ".join(each) + b")" if each else b"NIL")
leaves = st.builds(
    lambda kind, params, cid, tail: b"(" + b" ".join([kind, b'"x"', params, cid, b'NIL "8BIT" 5', *tail]) + b")",
    st.sampled_from([b'"text"', b'"Image"', b'"multipart"']),
    pairs,
    words,
    st.lists(st.one_of(words, pairs, st.just(b'("inline" ("filename" "f"))'), st.just(b"7")), max_size=6),
)
trees = st.recursive(
    leaves,
    lambda deeper: st.builds(
        lambda parts, tail: b"(" + b"".join(parts) + b" " + b" ".join([b'"Mixed"', *tail]) + b")",
        st.lists(deeper, min_size=1, max_size=4),
        st.lists(st.one_of(words, pairs), max_size=4),
    ),
    max_leaves=8,
)


@given(trees)
@settings(deadline=None, max_examples=300)
def test_the_fast_way_and_the_general_way_agree(octets):
    try:
        fast, _ = bodystructure._fast(octets, 0, "", [10_000], 0)
    except bodystructure._Plain:
        return
    assert fast == bodystructure.from_value(value(Frame(octets), 0)[0])
