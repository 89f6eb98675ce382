"""Parameters of Content-Type and Content-Disposition: RFC 2231, RFC 2047 and what mailers write instead."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmapplug.mime import params


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b" text/plain; charset=utf-8", ("text/plain", {"charset": "utf-8"})),
        (b' TEXT/HTML ; CharSet = "UTF-8" ;', ("text/html", {"charset": "UTF-8"})),
        (b" text/plain; charset=us-ascii (Plain text)", ("text/plain", {"charset": "us-ascii"})),
        (b" (a) text/plain (b); charset=x", ("text/plain", {"charset": "x"})),
        (b" text/plain;\r\n\tcharset=x;\r\n format=flowed", ("text/plain", {"charset": "x", "format": "flowed"})),
        (b' application/pdf; name="a;b\\"c.pdf"; x=y', ("application/pdf", {"name": 'a;b"c.pdf', "x": "y"})),
        (b" application/pdf; name=report (1).pdf; x=y", ("application/pdf", {"name": "report (1).pdf", "x": "y"})),
        (b" application/pdf; name=C:\\a\\b.pdf", ("application/pdf", {"name": "C:\\a\\b.pdf"})),
        (b' text/plain; charset="utf-8', ("text/plain", {"charset": "utf-8"})),
        (b" text/plain; charset=a; charset=b", ("text/plain", {"charset": "a"})),
        (b' multipart/mixed; boundary="=_?a:b;c"', ("multipart/mixed", {"boundary": "=_?a:b;c"})),
        (b" multipart; boundary=x", ("multipart/mixed", {"boundary": "x"})),
        (b" text", ("text/plain", {})),
        (b" /; =", ("text/plain", {})),
        (b"", ("text/plain", {})),
    ],
)
def test_content_types(value, found):
    assert params.content_type(value) == found


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b" ATTACHMENT; filename=a.txt", ("attachment", {"filename": "a.txt"})),
        (b" inline", ("inline", {})),
        (b" filename=a.txt", (None, {"filename": "a.txt"})),
        (b'"attachment"; filename=a', ("attachment", {"filename": "a"})),
        (b"", (None, {})),
    ],
)
def test_dispositions(value, found):
    assert params.disposition(value) == found


@pytest.mark.parametrize(
    ("written", "name"),
    [
        (b"filename*=utf-8''%E2%82%AC%20rates.txt", "€ rates.txt"),
        (b"filename*=iso-8859-1'en'%A3.txt", "£.txt"),
        (b"filename*=%41.txt", "A.txt"),
        (b"filename*=x-martian''%C3%A4.txt", "ä.txt"),
        (b"filename*0=a; filename*1=b.txt", "ab.txt"),
        (b"filename*1=b.txt; filename*0=a", "ab.txt"),
        (b"filename*0=a; filename*2=c", "a"),
        (b"filename*0*=utf-8''%E2%82; filename*1*=%AC; filename*2=\" 100%25.txt\"", "€ 100%25.txt"),
        (b"filename=plain.txt; filename*=utf-8''%C3%A4.txt", "ä.txt"),
        (b"filename*=utf-8''%C3%A4.txt; filename=plain.txt", "ä.txt"),
        (b'filename="=?utf-8?B?w6QudHh0?="', "ä.txt"),
        (b"filename==?utf-8?Q?=C3=A4=2Etxt?=", "ä.txt"),
        (b'filename="=?utf-8?Q?=C3?=\r\n =?utf-8?Q?=A4.txt?="', "ä.txt"),
        (b'filename="a =?utf-8?Q?=C3=A4?=.txt"', "a ä.txt"),
        (b'filename*0="=?utf-8?Q?=C3=A4?="; filename*1=".txt"', "ä.txt"),
        ("filename=ä.txt".encode(), "ä.txt"),
        ("filename=ä.txt".encode("latin-1"), "ä.txt"),
        (b'filename="a\0\x1bb.txt"', "ab.txt"),
        (b"filename*x=odd", None),
        (b"filename=", None),
    ],
)
def test_file_names(written, name):
    assert params.filename({}, params.disposition(b"attachment; " + written)[1]) == name


def test_the_name_of_the_disposition_wins_over_that_of_the_type():
    assert params.filename({"name": "type"}, {"filename": "disposition"}) == "disposition"
    assert params.filename({"name": "type"}, {}) == "type"
    assert params.filename({}, {}) is None


def test_pairs_of_a_bodystructure_are_read_like_those_of_a_field():
    pairs = [(b"CHARSET", b"utf-8"), (b"NAME*0*", b"utf-8''%C3"), (b"name*1*", b"%A4"), (b"X", b"=?utf-8?q?y?=")]
    assert params.decode_parameter_list(pairs) == {"charset": "utf-8", "name": "ä", "x": "y"}


_BITS = st.lists(
    st.sampled_from(
        [b";", b"=", b'"', b"\\", b"*", b"0", b"1", b"'", b"%C3", b"%", b"(", b")", b" ", b"\r\n ", b"name",
         b"filename", b"utf-8", b"text/", b"/", b"=?utf-8?q?a?=", b"\xff", b"\0"]
    )
).map(b"".join)  # fmt: skip


@given(st.one_of(st.binary(), _BITS))
def test_no_value_makes_the_reader_raise(value):
    kind, _ = params.content_type(value)
    assert kind == kind.lower() and kind.count("/") == 1
    params.disposition(value)
    params.token(value)
    params.decode_parameter_list([(value, value), (b"a*0*", value), (b"a*1", value)])


@given(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=50))
def test_a_name_written_by_rfc_2231_comes_back(name):
    import unicodedata
    from urllib.parse import quote

    octets = quote(name, safe="")
    pieces = "; ".join(
        f"filename*{number}*={'utf-8%s' % (chr(39) * 2) if not number else ''}{octets[at : at + 9]}"
        for number, at in enumerate(range(0, len(octets), 9))
        # An escape is never cut in two: pieces of nine are three escapes, or nine plain characters.
    )
    if all(char.isascii() is False for char in name):
        found = params.disposition(b"attachment; " + pieces.encode())[1]
        assert found["filename"] == unicodedata.normalize("NFC", name)
