"""Transfer encodings, charsets and limits."""

from __future__ import annotations

import base64
import binascii
import quopri

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mime_corpus import SHAPES

from jmapplug.mime import charsets
from jmapplug.mime.decode import Decoded, Decoder, decode_bytes, decode_text
from jmapplug.mime.structure import parse


@pytest.mark.parametrize(
    ("encoding", "raw", "content", "problem"),
    [
        ("7bit", b"a\r\n\xff", b"a\r\n\xff", False),
        ("", b"a", b"a", False),
        ("X-Unknown", b"a=41", b"a=41", True),
        ("BASE64", b"aGVs\r\nbG8=\r\n", b"hello", False),
        ("base64", b"aGVsbG8", b"hello", True),
        ("base64", b"aGVs!bG8=", b"hello", True),
        ("base64", b"aGVsb", b"hel", True),
        ("base64", b"aGVsbG8=\r\n--\r\nlist footer", b"hello", True),
        ("base64", b"aGVsbG8==", b"hello", False),
        ("base64", b"====", b"", False),
        ("base64", b"", b"", False),
        ("quoted-printable", b"a=C3=A4=\r\nb  \r\nc", b"a\xc3\xa4b\r\nc", False),
        ("quoted-printable", b"a=c3=a4", b"a\xc3\xa4", False),
        ("quoted-printable", b"soft = \r\nbreak =", b"soft break ", False),
        ("quoted-printable", b"a=ZZ", b"a=ZZ", True),
        ("quoted-printable", b"a=\xff", b"a=\xff", True),
        ("x-uuencode", b"begin 644 x\n#:&D*\n`\nend\n", b"hi\n", False),
        ("x-uuencode", b"no beginning", b"", True),
    ],
)
def test_transfer_encodings(encoding, raw, content, problem):
    assert decode_bytes(raw, encoding) == (content, problem)


_CODERS = {
    "base64": lambda data: base64.encodebytes(data).replace(b"\n", b"\r\n"),
    "quoted-printable": lambda data: binascii.b2a_qp(data, istext=False),
    "binary": lambda data: data,
    "x-uuencode": lambda data: (
        b"begin 644 x\n" + b"".join(binascii.b2a_uu(data[at : at + 45]) for at in range(0, len(data), 45)) + b"`\nend\n"
    ),
}


@given(st.binary(max_size=400), st.sampled_from(sorted(_CODERS)), st.lists(st.integers(0, 600)))
def test_what_was_encoded_is_decoded_however_it_is_cut(data, encoding, cuts):
    raw = _CODERS[encoding](data)
    decoder, at, content = Decoder(encoding), 0, b""
    for cut in sorted(cuts):
        content += decoder.feed(raw[at:cut])
        at = max(at, cut)
    content += decoder.feed(raw[at:]) + decoder.flush()
    assert (content, decoder.problem) == (data, False)


@given(st.binary(max_size=300), st.sampled_from(sorted(_CODERS)), st.integers(0, 300))
def test_malformed_octets_decode_alike_in_one_piece_and_in_two(raw, encoding, cut):
    decoder = Decoder(encoding)
    content = decoder.feed(raw[:cut]) + decoder.feed(raw[cut:]) + decoder.flush()
    assert (content, decoder.problem) == decode_bytes(raw, encoding)


@pytest.mark.parametrize("piece", [b"=41", b"a ", b" \t", b"=", b"=4"])
def test_a_long_quoted_printable_line_decodes_alike_however_it_is_cut(piece):
    raw = piece * 70_000 + b" x"
    decoder = Decoder("quoted-printable")
    content = b"".join(decoder.feed(raw[at : at + 9_973]) for at in range(0, len(raw), 9_973)) + decoder.flush()
    assert (content, decoder.problem) == decode_bytes(raw, "quoted-printable")


@pytest.mark.parametrize("cut", range(9))
def test_base64_padding_may_be_cut_in_two(cut):
    decoder = Decoder("base64")
    assert decoder.feed(b"aGVsbA=="[:cut]) + decoder.feed(b"aGVsbA=="[cut:]) + decoder.flush() == b"hell"
    assert not decoder.problem


def test_a_quoted_printable_line_without_end_is_not_held_back():
    decoder = Decoder("quoted-printable")
    content = [decoder.feed(b"=41" * 30_000) for _ in range(4)]
    assert all(content)
    assert b"".join(content) + decoder.flush() == b"A" * 120_000
    assert quopri.decodestring(b"=41") == b"A"


@pytest.mark.parametrize(
    ("charset", "raw", "text", "problem"),
    [
        ("utf-8", "grüße".encode(), "grüße", False),
        ("UTF-8", b"a\xffb", "a\ufffdb", True),
        ("utf-8", b"\xef\xbb\xbfmark", "mark", False),
        (None, b"plain", "plain", False),
        (None, "grüße".encode(), "grüße", False),
        (None, "grüße".encode("latin-1"), "grüße", True),
        ("us-ascii", "grüße".encode(), "grüße", True),
        ("iso-8859-1", b"\x80 \x93x\x94 \x81", "€ “x” \x81", False),
        ("gb2312", "朱镕基".encode("gb18030"), "朱镕基", False),
        ("GBK", "中€".encode("gb18030"), "中€", False),
        ("ks_c_5601-1987", "똠방각하".encode("cp949"), "똠방각하", False),
        ("euc-kr", "한국어".encode("euc-kr"), "한국어", False),
        ("big5", "繁體中文".encode("big5"), "繁體中文", False),
        ("koi8-r", "привет".encode("koi8-r"), "привет", False),
        ("windows-1251", "привет".encode("cp1251"), "привет", False),
        ("shift_jis", "①日本".encode("cp932"), "①日本", False),
        ("iso-2022-jp", "日本語".encode("iso-2022-jp"), "日本語", False),
        ("iso-2022-jp", b"\x1b$BF|K\\-!\x1b(B!", "日本①!", False),
        ("iso-2022-jp", b"\x1b$B\xff\xff\x1b(B!", None, True),
        ("utf-7", b"gr+APwA3w-e", "grüße", False),
        ("utf-7", b"+2AA-", "\ufffd", True),
        ("utf-16", "grüße".encode("utf-16"), "grüße", False),
        ("x-martian", "grüße".encode(), "grüße", True),
        ("x-martian", b"gr\xfc\xdfe", "grüße", True),
        ("rot13", b"uryyb", "uryyb", True),
        ("hex", b"6869", "6869", True),
        ("../../../etc/passwd", b"a", "a", True),
        ("utf-8\0", b"a", "a", False),
        ("é" * 5_000, b"a", "a", True),
    ],
)
def test_charsets(charset, raw, text, problem):
    found = decode_text(raw, "8bit", charset)
    assert found.problem is problem
    assert text is None or found.text == text


def test_unknown_charset_labels_are_not_remembered_without_end():
    for number in range(2_000):
        charsets.codec(f"x-unknown-{number}")
    assert len(charsets._SEEN) <= 512


def test_line_ends_become_lf_and_nul_goes():
    assert decode_text(b"a\r\nb\nc\r\n", "7bit", None).text == "a\nb\nc\n"
    assert decode_text(b"a\0b", "7bit", None) == Decoded("ab", True, False)


@pytest.mark.parametrize(
    ("limit", "text", "truncated"),
    [(3, "aäb"[:2], True), (2, "a", True), (1, "a", True), (4, "aäb", False), (0, "aäb", False), (None, "aäb", False)],
)
def test_a_limit_counts_octets_and_never_cuts_a_character(limit, text, truncated):
    assert decode_text("aäb".encode(), "8bit", "utf-8", limit=limit) == Decoded(text, False, truncated)


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        (12, "<p>Hello "),
        (8, "<p>Hello"),
        (2, ""),
        (30, "<p>Hello "),
        (40, '<p>Hello <a title="1 > 0 <x">there</a> 1'),
        (43, '<p>Hello <a title="1 > 0 <x">there</a> 1 < '),
    ],
)
def test_a_limit_does_not_cut_a_tag_of_html(limit, text):
    raw = b'<p>Hello <a title="1 > 0 <x">there</a> 1 < 2 and so on'
    found = decode_text(raw, "7bit", "utf-8", limit=limit, html=True)
    assert (found.text, found.truncated) == (text, True)


def test_what_a_limit_cuts_off_is_no_encoding_problem():
    raw = base64.encodebytes("日本語".encode() * 5_000)
    found = decode_text(raw, "base64", "utf-8", limit=100)
    assert found == Decoded("日本語" * 11, False, True)
    jis = ("日本語" * 20_000).encode("iso-2022-jp")
    assert decode_text(jis, "7bit", "iso-2022-jp", limit=9) == Decoded("日本語", False, True)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0\r\ufeff"), max_size=200), st.integers(1, 700))
def test_a_limited_value_is_a_prefix_of_the_whole(text, limit):
    raw = binascii.b2a_qp(text.encode(), istext=False)
    found = decode_text(raw, "quoted-printable", "utf-8", limit=limit)
    assert text.startswith(found.text)
    assert len(found.text.encode()) <= limit
    assert found.truncated == (len(text.encode()) > limit)


_CHARSETS = st.sampled_from([None, "x", *sorted(set(charsets._CODECS.values()))])


@given(
    st.binary(max_size=200),
    st.sampled_from(["7bit", "base64", "quoted-printable", "x-uuencode", "x"]),
    _CHARSETS,
    st.integers(0, 50),
    st.booleans(),
)
def test_no_octets_in_any_charset_make_the_decoder_raise(raw, encoding, charset, limit, html):
    found = decode_text(raw, encoding, charset, limit=limit, html=html)
    found.text.encode("utf-8")
    assert not limit or len(found.text.encode()) <= limit


@pytest.mark.parametrize("shape", ["iso-2022-jp", "gb2312", "big5", "euc-kr", "koi8-r", "utf-7", "utf-8 header"])
def test_the_shapes_in_other_charsets_are_readable(shape):
    data = SHAPES[shape]
    found = parse(data)
    text = decode_text(data[found.body : found.end], found.encoding, found.charset)
    assert not text.problem and not text.text.isascii()
