"""Body lists and hasAttachment (RFC 8621 §4.1.4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mime_corpus import SHAPES

from jmapplug.mime.body import body_lists, has_attachment, part_id
from jmapplug.mime.structure import Part, parse


def tree(kind: str, *parts: Part, **fields: str) -> Part:
    return Part(fields.pop("section", ""), kind, parts=parts, **fields)


def leaf(letter: str, kind: str, disposition: str | None = None, **fields: str) -> Part:
    return Part(letter, kind, disposition=disposition, **fields)


def letters(parts: list[Part]) -> str:
    return "".join(part_id(part) for part in parts)


# The example of RFC 8621 §4.1.4: a mailing list put a header and a footer around a message in two forms.
EXAMPLE = tree(
    "multipart/mixed",
    leaf("A", "text/plain", "inline"),
    tree(
        "multipart/mixed",
        tree(
            "multipart/alternative",
            tree(
                "multipart/mixed",
                leaf("B", "text/plain", "inline"),
                leaf("C", "image/jpeg", "inline"),
                leaf("D", "text/plain", "inline"),
            ),
            tree("multipart/related", leaf("E", "text/html"), leaf("F", "image/jpeg")),
        ),
        leaf("G", "image/jpeg", "attachment"),
        leaf("H", "application/x-excel"),
        leaf("J", "message/rfc822"),
    ),
    leaf("K", "text/plain", "inline"),
)


def test_the_example_of_the_rfc():
    text, html, attachments = body_lists(EXAMPLE)
    assert (letters(text), letters(html), letters(attachments)) == ("ABCDK", "AEK", "CFGHJ")


@pytest.mark.parametrize(
    ("root", "expected"),
    [
        (leaf("1", "text/plain"), ("1", "1", "")),
        (leaf("1", "text/html"), ("1", "1", "")),
        (leaf("1", "text/plain", "attachment"), ("", "", "1")),
        (leaf("1", "application/pdf"), ("", "", "1")),
        (leaf("1", "image/png"), ("1", "1", "")),
        (leaf("1", "text/calendar"), ("", "", "1")),
        (tree("multipart/alternative", leaf("1", "text/plain"), leaf("2", "text/html")), ("1", "2", "")),
        (tree("multipart/alternative", leaf("1", "text/html")), ("1", "1", "")),
        (tree("multipart/alternative", leaf("1", "text/plain")), ("1", "1", "")),
        (
            tree("multipart/alternative", leaf("1", "text/plain"), leaf("2", "text/html"), leaf("3", "text/calendar")),
            ("1", "2", "3"),
        ),
        (tree("multipart/related", leaf("1", "text/html"), leaf("2", "image/png")), ("1", "1", "2")),
        (
            tree(
                "multipart/mixed",
                leaf("1", "text/plain"),
                leaf("2", "text/plain", name="a.txt"),
                leaf("3", "image/png"),
            ),
            ("13", "13", "2"),
        ),
        (tree("multipart/mixed", leaf("1", "text/plain"), leaf("2", "text/plain")), ("12", "12", "")),
        (
            tree(
                "multipart/alternative",
                leaf("1", "text/plain"),
                tree("multipart/related", leaf("2", "text/html"), leaf("3", "image/png"), leaf("4", "application/pdf")),
            ),
            ("1", "2", "34"),
        ),
        (tree("multipart/mixed"), ("", "", "")),
    ],
)
def test_body_lists(root, expected):
    assert tuple(map(letters, body_lists(root))) == expected


_leaves = st.builds(
    Part,
    section=st.just("1"),
    type=st.sampled_from(
        ["text/plain", "text/html", "image/png", "application/pdf", "text/calendar", "message/rfc822"]
    ),
    disposition=st.sampled_from([None, "inline", "attachment", "odd"]),
    name=st.sampled_from([None, "a"]),
    cid=st.sampled_from([None, "c"]),
)
_trees = st.recursive(
    _leaves,
    lambda children: st.builds(
        Part,
        section=st.just(""),
        type=st.sampled_from(["multipart/mixed", "multipart/alternative", "multipart/related", "multipart/x"]),
        parts=st.lists(children, max_size=4).map(tuple),
    ),
    max_leaves=12,
)


@given(_trees)
def test_every_leaf_is_shown_somewhere(root):
    text, html, attachments = body_lists(root)
    leaves = [part for part in root.walk() if not part.multipart]
    shown = [id(part) for part in (*text, *html, *attachments)]
    # A form that stands inside an alternative of its other form is in no list; that is the RFC's own algorithm.
    assert all(id(part) in shown or part.type.startswith("text/") for part in leaves)
    assert not any(part.multipart for part in (*text, *html, *attachments))
    assert has_attachment(root) in (True, False)


@pytest.mark.parametrize(
    ("root", "attached"),
    [
        (leaf("1", "text/plain"), False),
        (leaf("1", "application/pdf"), True),
        (leaf("1", "application/pkcs7-mime", "attachment", name="smime.p7m"), False),
        (EXAMPLE, True),
        (tree("multipart/related", leaf("1", "text/html"), leaf("2", "image/png", cid="x")), False),
        (
            tree("multipart/related", leaf("1", "text/html"), leaf("2", "image/png", "inline", cid="x", name="a.png")),
            False,
        ),
        (tree("multipart/related", leaf("1", "text/html"), leaf("2", "image/png", "attachment", cid="x")), True),
        (tree("multipart/related", leaf("1", "text/html"), leaf("2", "text/css", cid="x")), False),
        (tree("multipart/mixed", leaf("1", "text/plain"), leaf("2", "image/png", "inline", name="a.png")), False),
        (tree("multipart/mixed", leaf("1", "text/plain"), leaf("2", "image/png", name="a.png")), True),
        (tree("multipart/mixed", leaf("1", "text/plain"), leaf("2", "image/png")), False),
        (tree("multipart/mixed", leaf("1", "text/plain"), leaf("2", "image/png", "attachment")), True),
        (tree("multipart/mixed", leaf("1", "text/plain"), leaf("2", "text/plain", name="notes.txt")), True),
        (tree("multipart/mixed", leaf("1", "text/plain"), leaf("2", "application/pdf", "inline", name="a.pdf")), True),
        (tree("multipart/mixed", leaf("1", "text/plain"), leaf("2", "message/rfc822")), True),
        (
            tree("multipart/signed", leaf("1", "text/plain"), leaf("2", "application/pgp-signature", name="s.asc")),
            False,
        ),
        (
            tree(
                "multipart/signed",
                leaf("1", "text/plain"),
                leaf("2", "application/pkcs7-signature", "attachment", name="smime.p7s"),
            ),
            False,
        ),
        (
            tree(
                "multipart/encrypted",
                leaf("1", "application/pgp-encrypted"),
                leaf("2", "application/octet-stream", "inline", name="encrypted.asc"),
            ),
            False,
        ),
        (
            tree("multipart/alternative", leaf("1", "text/plain"), leaf("2", "text/html"), leaf("3", "text/calendar")),
            False,
        ),
        (tree("multipart/mixed", leaf("1", "text/plain"), leaf("2", "text/calendar", "attachment")), True),
        (
            tree(
                "multipart/report",
                leaf("1", "text/plain"),
                leaf("2", "message/delivery-status"),
                leaf("3", "message/rfc822"),
            ),
            False,
        ),
    ],
)
def test_an_attachment_is_what_a_reader_calls_one(root, attached):
    assert has_attachment(root) is attached


@pytest.mark.parametrize(
    ("shape", "attached"),
    [
        ("plain", False),
        ("alternative", False),
        ("attached message", True),
        ("invitation", False),
        ("signed", False),
        ("bounce", False),
    ],
)
def test_attachments_of_whole_messages(shape, attached):
    assert has_attachment(parse(SHAPES[shape])) is attached
