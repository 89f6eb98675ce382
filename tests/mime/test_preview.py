"""Previews and HTML as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmapplug.mime.preview import html_to_text, preview


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Hello\r\n\r\n  there \tyou\u00a0two", "Hello there you two"),
        ("On Monday Jane wrote:\n> old\n> older\n\nMy answer", "My answer"),
        ("On Monday, 1 January 2024,\nJane <jane@example.com> wrote:\n\n> old\n\nMy answer", "My answer"),
        ("Am 1.1.2024 schrieb Jane:\n> alt\nAntwort", "Antwort"),
        ("Answer\n> old\nand more", "Answer and more"),
        ("Text\n-- \nJoe\nACME", "Text"),
        ("Text\n-----Original Message-----\nFrom: x", "Text From: x"),
        ("Title\n=========\ntext", "Title text"),
        ("> only\n> quotes", "only quotes"),
        ("-- \nonly a signature", "-- only a signature"),
        ("a\u200b\u00ad \u200c \ufeffb", "a b"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("", ""),
        ("x" * 1_000, "x" * 256),
        ("😀" * 300, "😀" * 256),
    ],
)
def test_a_preview_is_what_the_sender_wrote_himself(text, shown):
    assert preview(text) == shown


def test_the_preview_of_html_has_no_markup_no_styles_and_no_quotation():
    html = (
        "<html><head><title>t</title><style>p{}</style></head><body><p>Hello&nbsp;<b>world</b>&amp;</p>"
        "<script>x()</script><div>On Monday Jane wrote:<blockquote>old<br>older</blockquote></div>Bye</body></html>"
    )
    assert preview(html, html=True) == "Hello world& Bye"


def test_html_blocks_stand_on_their_own_lines():
    html = "<h1>A</h1><p>one <i>two</i><br>three</p><ul><li>x<li>y</ul><table><tr><td>1</td><td>2</td></tr></table>"
    assert html_to_text(html) == "A\none two\nthree\nx\ny\n1 2"


def test_html_quotations_are_marked_like_those_of_plain_text():
    assert html_to_text("a<blockquote>b<blockquote>c</blockquote></blockquote>d") == "a\n> b\n> c\nd"


def test_html_beyond_the_cap_is_not_looked_at():
    assert html_to_text("<p>" + "a" * 500, cap=103) == "a" * 100


@pytest.mark.parametrize("element", ["<div>", "<b>", "<table><tr><td>", "<blockquote>", "<x>", "<pre>", "<a><b><p>"])
def test_html_without_bottom_still_gives_its_words(element):
    assert html_to_text((element * 40_000)[:190_000].rpartition("<")[0] + "word").strip("> \n") == "word"


@given(
    st.one_of(
        st.text(),
        st.lists(
            st.sampled_from(
                ["<", ">", "<p", "</p>", "<!--", "-->", "\ud800", "a", "&#0;", "&", '"', "<script>", "</", "\0"]
            )
        ).map("".join),
    )
)
def test_no_html_makes_the_reader_raise(html):
    html_to_text(html)
    assert len(preview(html, html=True)) <= 256
    assert len(preview(html)) <= 256 and "\n" not in preview(html)
