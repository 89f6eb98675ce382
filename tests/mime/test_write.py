"""Whole messages: transfer encodings, boundaries, nesting, and blobs that are streamed."""

from __future__ import annotations

import email
import io
from email import policy
from typing import Any, BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmapplug.mime import write as writing
from jmapplug.mime.decode import decode_bytes, decode_text
from jmapplug.mime.structure import Part as Read
from jmapplug.mime.structure import parse
from jmapplug.mime.write import Blob, Part, canonical, write
from jmapplug.mime.write_headers import Unwritable

HEADER = [b"MIME-Version: 1.0\r\n"]


def message(root: Part, **more: Any) -> bytes:
    target = io.BytesIO()
    assert write(target, HEADER, root, **more) == len(target.getvalue())
    return target.getvalue()


def blob(octets: bytes) -> Blob:
    return Blob(len(octets), lambda: io.BytesIO(octets))


def text(value: str, type_: str = "text/plain") -> Part:
    return Part(type_, content=value)


def multipart(*parts: Part, kind: str = "mixed") -> Part:
    return Part(f"multipart/{kind}", parts=parts)


def leaves(octets: bytes) -> list[tuple[Read, bytes]]:
    """(part, decoded octets) by our own parser."""
    found = []
    for part in parse(octets).walk():
        if not part.multipart:
            content, problem = decode_bytes(octets[part.body : part.end], part.encoding)
            assert not problem
            found.append((part, content))
    return found


def independent(octets: bytes) -> list[bytes]:
    """Decoded octets of the leaves by the standard library, which must have no complaint."""
    read = email.message_from_bytes(octets, policy=policy.default)
    found = []
    for part in read.walk():
        assert part.defects == []
        if part.get_content_maintype() not in ("multipart", "message"):
            found.append(part.get_payload(decode=True))
    return found


# (text, the encoding that suits it)
ENCODINGS = [
    ("", "7bit"),
    ("plain\ntext\n", "7bit"),
    ("a line of 998 octets " + "x" * 970, "7bit"),
    ("x" * 100_000, "quoted-printable"),
    (".\n..\n. \n", "7bit"),
    ("From me\n\nFrom you\n>From them", "quoted-printable"),
    ("trailing space \nand tab\t\n", "7bit"),
    ("mostly ascii, one ü in it, and more words that are plain", "quoted-printable"),
    ("日本語" * 50, "base64"),
    ("Привет, мир. " * 20, "base64"),
    ("\x1b[31mred\x0c, and plain text around it", "quoted-printable"),
    ("ü" * 100_000, "base64"),
]


@pytest.mark.parametrize(("value", "encoding"), ENCODINGS)
def test_a_text_gets_the_encoding_that_suits_it_and_comes_back(value: str, encoding: str) -> None:
    for octets in (message(text(value)), message(multipart(text(value), text("other")))):
        part, content = leaves(octets)[0]
        assert part.encoding == encoding
        assert part.charset == "utf-8"
        assert content == canonical(value)
        assert independent(octets)[0] == content
        assert all(len(line) <= 998 for line in octets.split(b"\r\n"))
        assert octets.isascii()


@given(st.text(max_size=300) | st.text(alphabet="ab =.\t\r\nüF日From", max_size=200))
def test_any_text_comes_back(value: str) -> None:
    octets = message(multipart(text(value), text(value, "text/html")))
    for part, content in leaves(octets):
        assert content == canonical(value)
        read = decode_text(octets[part.body : part.end], part.encoding, part.charset)
        expected = value.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
        assert read.text == expected.removeprefix("\ufeff")
        assert not read.problem
    assert octets.count(b"\n") == octets.count(b"\r\n") == octets.count(b"\r")
    assert independent(octets) == [canonical(value)] * 2


@given(st.text(alphabet="From =ü\n.x \t", max_size=400))
def test_quoted_printable_keeps_its_lines_short_and_nothing_at_their_ends(value: str) -> None:
    encoded = writing._quoted_printable(canonical(value))
    for line in encoded.split(b"\r\n"):
        assert len(line) <= 76
        assert not line.startswith(b"From ") and not line.endswith((b" ", b"\t"))
    assert decode_bytes(encoded, "quoted-printable") == (canonical(value), False)


@pytest.mark.parametrize("size", [0, 1, 56, 57, 58, 57 * 4_096 - 1, 57 * 4_096, 57 * 4_096 + 1, 1_000_000])
def test_a_blob_is_base64_in_lines_of_76(size: int) -> None:
    content = bytes(n % 251 for n in range(size))
    for octets in (
        message(Part("image/png", content=blob(content))),
        message(multipart(text("x"), Part("a/b", content=blob(content)))),
    ):
        assert leaves(octets)[-1][1] == content
        assert independent(octets)[-1] == content
        assert max(map(len, octets.split(b"\r\n"))) <= 78


def test_blobs_are_streamed_in_blocks() -> None:
    class Source(io.BytesIO):
        largest = 0

        def read(self, size: int | None = -1, /) -> bytes:
            assert size is not None and size > 0
            type(self).largest = max(self.largest, size)
            return super().read(size)

    class Target:
        largest = 0

        def write(self, octets: bytes) -> int:
            self.largest = max(self.largest, len(octets))
            return len(octets)

    content, target = b"Subject: x\n\n" + b"y\n" * 2_000_000, Target()

    def source() -> BinaryIO:
        return Source(content)

    parts = [Part(type_, content=Blob(len(content), source)) for type_ in ("a/b", "text/plain", "message/rfc822")]
    write(target, HEADER, multipart(*parts))  # type: ignore[arg-type]
    assert Source.largest <= 256 * 1024
    assert target.largest <= 512 * 1024


INNER = b"Subject: inner\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n"


@pytest.mark.parametrize(
    ("content", "encoding"), [(INNER, "7bit"), (INNER + "ü".encode(), "8bit"), (b"a: b\r\n\r\n" + b"x" * 2_000, "7bit")]
)
def test_an_attached_message_is_passed_on_as_it_is(content: bytes, encoding: str) -> None:
    octets = message(multipart(text("x"), multipart(Part("message/rfc822", content=blob(content)))))
    assert octets.count(content) == 1
    part, read = leaves(octets)[1]
    assert (part.encoding, read) == (encoding, content)
    # RFC 2045 §6.4: what is around it says 8bit as well, and nothing else does.
    assert octets.count(b"Content-Transfer-Encoding: 8bit\r\n") == (3 if encoding == "8bit" else 0)
    assert b"base64" not in octets
    independent(octets)


def test_line_ends_of_an_attached_message_are_made_crlf_across_blocks() -> None:
    content = b"a: b\n\n" + b"x" * (57 * 4_096 - 7) + b"\r\n" + b"y\rz\0\n"
    read = leaves(message(Part("message/rfc822", content=blob(content))))[0][1]
    assert read == content.replace(b"\0", b"").replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")


def test_reports_are_not_encoded_either() -> None:
    octets = message(multipart(text("x"), text("Reporting-UA: ü\n", "message/disposition-notification"), kind="report"))
    assert leaves(octets)[1][0].encoding == "8bit"
    with pytest.raises(Unwritable):
        message(text("x" * 999, "message/delivery-status"))


def test_a_boundary_is_in_no_part() -> None:
    tokens = iter(["inmessage", "intext", "inblob", "fresh"])
    root = multipart(
        text("--=_1_intext--"),
        Part("message/rfc822", content=blob(b"a: b\r\n\r\n--=_1_inmessage\r\n")),
        Part("message/rfc822", content=blob(b"x" * (57 * 4_096 - 3) + b"inblob")),
        Part("a/b", content=blob(b"fresh")),
    )
    octets = message(root, token=lambda: next(tokens))
    assert octets.count(b"\r\n--=_1_fresh\r\n") == 4
    assert next(tokens, None) is None


def test_no_boundary_is_the_beginning_of_another() -> None:
    root = text("leaf")
    for _ in range(30):
        root = multipart(root, text("x"))
    octets = message(root)
    found = [line[2:] for line in octets.split(b"\r\n") if line.startswith(b"--") and not line.endswith(b"--")]
    names = set(found)
    assert len(names) == 30
    assert not [one for one in names for other in names if one != other and other.startswith(one)]
    assert all(len(name) <= 70 for name in names)
    assert len(leaves(octets)) == 31
    independent(octets)


def test_texts_full_of_delimiters_stay_in_their_parts() -> None:
    value = "--\n--x\n--=_1_x--\n\n--\n"
    octets = message(multipart(text(value), text(value)))
    assert [content for _, content in leaves(octets)] == [canonical(value)] * 2


@pytest.mark.parametrize(
    ("octets", "charset"),
    [(b"ascii", None), ("ü".encode(), "utf-8"), (b"\xfc", None), ("ü".encode()[:1], None)],
)
def test_a_text_file_in_utf_8_says_so(octets: bytes, charset: str | None) -> None:
    part, content = leaves(message(Part("text/csv", content=blob(octets))))[0]
    assert (part.charset, content) == (charset, octets)


def test_a_charset_that_is_given_for_a_blob_is_kept() -> None:
    octets = message(Part("text/csv", {"charset": "iso-8859-1"}, content=blob("ü".encode("latin-1"))))
    assert leaves(octets)[0][0].charset == "iso-8859-1"


def test_a_blob_with_other_octets_than_it_said_is_an_error() -> None:
    for type_ in ("a/b", "message/rfc822"):
        with pytest.raises(OSError, match="9 octets gave 4"):
            message(Part(type_, content=Blob(9, lambda: io.BytesIO(b"1234"))))
