"""The structure of messages by offsets."""

from __future__ import annotations

import mmap

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mime_corpus import SHAPES, TOP, attached, html, multipart, nested, part, plain

from jmapplug.mime.structure import Part, parse


def outline(data: bytes) -> list[tuple[str, str]]:
    return [(found.section, found.type) for found in parse(data).walk()]


def content(data: bytes) -> list[bytes]:
    """The octets of each leaf."""
    return [data[found.body : found.end] for found in parse(data).walk() if not found.parts]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("empty", [("1", "text/plain")]),
        ("no header", [("1", "text/plain")]),
        ("plain", [("1", "text/plain")]),
        ("alternative", [("", "multipart/alternative"), ("1", "text/plain"), ("2", "text/html")]),
        ("bare LF", [("", "multipart/mixed"), ("1", "text/plain"), ("2", "text/html")]),
        ("missing final boundary", [("", "multipart/mixed"), ("1", "text/plain"), ("2", "text/html")]),
        (
            "missing inner final boundary",
            [
                ("", "multipart/mixed"),
                ("1", "multipart/alternative"),
                ("1.1", "text/plain"),
                ("1.2", "text/html"),
                ("2", "application/pdf"),
            ],
        ),
        (
            "boundary is a prefix",
            [
                ("", "multipart/mixed"),
                ("1", "multipart/alternative"),
                ("1.1", "text/plain"),
                ("1.2", "text/html"),
                ("2", "application/pdf"),
            ],
        ),
        (
            "one boundary twice",
            [
                ("", "multipart/mixed"),
                ("1", "multipart/alternative"),
                ("1.1", "text/plain"),
                ("1.2", "text/html"),
                ("2", "application/pdf"),
            ],
        ),
        ("boundary with spaces", [("", "multipart/mixed"), ("1", "text/plain"), ("2", "text/plain")]),
        (
            "header cut by a boundary",
            [("", "multipart/mixed"), ("1", "text/html"), ("2", "text/plain"), ("3", "text/plain")],
        ),
        ("preamble and epilogue", [("", "multipart/mixed"), ("1", "text/plain")]),
        (
            "attached message",
            [("", "multipart/mixed"), ("1", "text/plain"), ("2", "message/rfc822"), ("3", "application/pdf")],
        ),
        (
            "attached message of the same boundary",
            [("", "multipart/mixed"), ("1", "message/rfc822"), ("2", "application/pdf")],
        ),
        ("digest", [("", "multipart/digest"), ("1", "message/rfc822"), ("2", "text/plain")]),
        ("no boundary parameter", [("", "multipart/mixed"), ("1", "text/plain")]),
        ("boundary never used", [("", "multipart/mixed"), ("1", "text/plain")]),
        ("multipart without parts", [("", "multipart/mixed"), ("1", "text/plain")]),
        ("multipart of nothing", [("", "multipart/mixed"), ("1", "text/plain")]),
        ("messages in messages", [("1", "message/rfc822")]),
        ("unreadable type", [("1", "text/plain")]),
        ("type repeated", [("1", "text/html")]),
    ],
)
def test_sections_are_numbered_as_imap_does(shape, expected):
    assert outline(SHAPES[shape]) == expected


@pytest.mark.parametrize(
    ("shape", "leaves"),
    [
        ("alternative", [b"text", b"<p>text</p>"]),
        ("bare LF", [b"text", b"<p>text</p>"]),
        ("boundary with spaces", [b"one", b"two"]),
        ("header cut by a boundary", [b"", b"", b"end"]),
        ("preamble and epilogue", [b"text"]),
        ("no header", [b"Hello there\r\nsecond line\r\n"]),
        ("no body", [b""]),
        ("no empty line", [b""]),
        ("no boundary parameter", [b"--b\r\n\r\nhello\r\n--b--\r\n"]),
        ("boundary never used", [b"hello\r\n"]),
        ("multipart without parts", [b""]),
        ("junk among the fields", [b"body"]),
        ("mbox line", [b"text"]),
    ],
)
def test_bodies_are_exactly_what_stands_between_header_and_delimiter(shape, leaves):
    assert content(SHAPES[shape]) == leaves


def test_a_nested_multipart_has_dotted_sections():
    data = TOP + multipart(
        "mixed", "a", [plain(), multipart("related", "b", [html(), multipart("mixed", "c", [plain()])])]
    )
    assert [section for section, _ in outline(data)] == ["", "1", "2", "2.1", "2.2", "2.2.1"]


def test_a_part_tells_all_that_its_header_says():
    data = part(
        "Content-Type: image/png; name=type.png\nContent-Disposition: INLINE; filename*=utf-8''%C3%A4.png\n"
        "Content-ID: (c) <a.b@c>\nContent-Language: de, en (x)\nContent-Location:\n http://x/\n y\n"
        "Content-Transfer-Encoding: BASE64 (x)",
        b"AAAA",
    )
    found = parse(data)
    assert found == Part(
        section="1",
        type="image/png",
        charset=None,
        name="ä.png",
        disposition="inline",
        cid="a.b@c",
        language=("de", "en"),
        location="http://x/y",
        encoding="base64",
        size=4,
        header=0,
        body=len(data) - 4,
        end=len(data),
    )


def test_an_attached_message_is_a_leaf_with_its_whole_octets():
    data = SHAPES["attached message"]
    found = parse(data).parts[1]
    assert found.parts == ()
    assert data[found.body : found.end].startswith(TOP) and data[found.body : found.end].endswith(b"--in--\r\n")


def test_an_attached_message_that_calls_itself_encoded_is_looked_into_where_it_is_not():
    inner = part("Content-Type: message/rfc822\nContent-Transfer-Encoding: base64", multipart("mixed", "b", [plain()]))
    data = TOP + multipart("mixed", "b", [inner])
    assert [section for section, _ in outline(data)] == ["", "1"]


def test_of_two_boundaries_that_begin_a_line_the_longer_one_counts():
    inner = multipart("mixed", "bb", [plain(), plain()])
    data = TOP + multipart("mixed", "b", [inner, plain()]).replace(b"--bb\r\n", b"--bbx\r\n")
    assert [section for section, _ in outline(data)] == ["", "1", "1.1", "1.2", "2"]


def test_text_where_a_header_should_be_is_the_body():
    data = TOP + multipart("mixed", "b", [b"no empty line before this text", html()])
    assert content(data) == [b"no empty line before this text", b"<p>text</p>"]
    assert outline(data)[2] == ("2", "text/html")


def test_of_too_many_parts_the_last_one_holds_the_rest():
    data = SHAPES["ten thousand parts"]
    found = parse(data)
    assert len(found.walk()) == 10_000
    assert found.parts[-1].end == len(data)
    assert len(parse(data, max_parts=3).walk()) == 3


def test_too_deep_a_multipart_is_a_file():
    leaf = parse(nested(150)).walk()[-1]
    assert leaf.type == "application/octet-stream"
    assert leaf.section.count(".") == 99
    assert parse(nested(3), max_depth=2).walk()[-1].type == "application/octet-stream"
    assert parse(nested(2), max_depth=2).walk()[-1].type == "text/plain"


def test_a_memoryview_and_a_mapped_file_read_like_bytes(tmp_path):
    data = SHAPES["attached message"]
    path = tmp_path / "message"
    path.write_bytes(data)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert parse(mapped) == parse(data) == parse(memoryview(data))


def check(data: bytes) -> None:
    """Offsets are in range, children inside their parents and in order, sections say where they stand."""
    root = parse(data)
    assert root.header == 0 and root.end == len(data)
    for found in root.walk():
        assert 0 <= found.header <= found.body <= found.end <= len(data)
        assert found.size == found.end - found.body
        assert found.multipart == bool(found.parts)
        before = found.body
        for number, child in enumerate(found.parts, 1):
            assert child.section == (f"{found.section}.{number}" if found.section else str(number))
            assert before <= child.header and child.end <= found.end
            before = child.end


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_keeps_the_offsets_in_order(shape):
    check(SHAPES[shape])


_BITS = st.lists(
    st.sampled_from(
        [b"\r\n", b"\n", b"\r", b"--b", b"--bb", b"--b--", b"--", b"Content-Type: ", b"multipart/mixed; boundary=b",
         b"multipart/alternative; boundary=bb", b"multipart/digest; boundary=b", b"message/rfc822", b"text/html",
         b"Content-Transfer-Encoding: base64", b"x", b": ", b" ", b"\0", b"\xff", b"\r\n\r\n", b"\r\n--b\r\n",
         b"\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n", b"\r\nContent-Type: message/rfc822\r\n\r\n"]
    ),
    max_size=60,
).map(b"".join)  # fmt: skip


@given(st.one_of(st.binary(), _BITS, _BITS.map(lambda raw: b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + raw)))
def test_any_octets_have_a_structure(data):
    check(data)


@given(st.sampled_from([name for name, data in SHAPES.items() if len(data) < 5_000]), st.data())
def test_a_cut_or_damaged_shape_has_a_structure(shape, draw):
    data = SHAPES[shape]
    at = draw.draw(st.integers(0, len(data)))
    check(data[:at])
    check(data[:at] + draw.draw(st.binary(max_size=3)) + data[at + 1 :])


_trees = st.recursive(
    st.sampled_from([plain(), html(), attached(), part("X: y"), part("Content-Type: message/rfc822", TOP + plain())]),
    lambda children: st.lists(children, min_size=1, max_size=4),
    max_leaves=12,
)


def _written(tree, path="b"):
    if isinstance(tree, bytes):
        return tree
    return multipart("mixed", path, [_written(child, f"{path}{at}.") for at, child in enumerate(tree)])


def _sections(tree, section=""):
    if isinstance(tree, bytes):
        return [section or "1"]
    below = section + "." if section else ""
    return [section] + [name for at, child in enumerate(tree, 1) for name in _sections(child, f"{below}{at}")]


@given(_trees)
def test_a_tree_that_was_written_is_read_back(tree):
    assert [found.section for found in parse(TOP + _written(tree)).walk()] == _sections(tree)
