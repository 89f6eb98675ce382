"""Search texts: what they mean, and that the index, our own matcher and hostile input agree on it."""

from __future__ import annotations

from collections.abc import Iterator

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st
from search_rig import FOLDER

from jmapplug.capabilities.mail.tokens import (
    any_expression,
    expression,
    fold,
    indexable,
    longest_word,
    occurrences,
    parse,
    present,
    words,
)


@pytest.fixture(scope="module")
def database() -> Iterator[apsw.Connection]:
    connection = apsw.Connection(":memory:")
    connection.execute((FOLDER / "cache_1.sql").read_text())
    yield connection
    connection.close()


def finds(database: apsw.Connection, query: str, text: str) -> bool:
    """Whether the index finds ``query`` in a document of ``text``."""
    database.execute("DELETE FROM fts")
    database.execute("INSERT INTO fts(rowid, subject, body) VALUES (1, ?, '')", (indexable(text),))
    match = expression(parse(query))
    return match is not None and bool(database.execute("SELECT 1 FROM fts WHERE fts MATCH ?", (match,)).fetchall())


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("hello", "Well, HELLO there"),
        ("cafe", "a Café"),
        ("café", "CAFE"),
        ("cafe\u0301", "café"),
        ("bob@example.org", "Bob <bob@example.org>"),
        ("example.org", "bob@example.org"),
        ("invoice*", "invoices 2026"),
        ("two one", "one two"),
        ('"one two"', "zero one two three"),
        ("'one two'", "zero one two three"),
        ('"one tw"*', "zero one two"),
        (r'"say \"one\" two"', "say one two"),
        ("rock & roll", "rock roll"),
        ("don't", "I don't know"),
        ("rock 'n' roll", "rock n roll"),
        ("日本", "これは日本語です"),
        ("日本*", "日本語"),
        ("語", "日本語"),
        ("서울", "서울에서"),
        ("สวัส", "สวัสดี"),
        ("straße", "Straße"),
        ("ПРИВЕТ", "привет"),
        ("हिन्दी", "यह हिन्दी है"),
        ("ﬀ", "ﬀ"),
    ],
)
def test_a_text_is_found(database: apsw.Connection, query: str, text: str) -> None:
    assert finds(database, query, text)
    assert present(parse(query), [words(text)])


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("hell", "hello"),
        ('"one three"', "one two three"),
        ("one four", "one two three"),
        ("本日", "日本"),
        ("xoice*", "invoice"),
        ("!!!", "!!!"),
        ('"', 'quote " here'),
    ],
)
def test_a_text_is_not_found(database: apsw.Connection, query: str, text: str) -> None:
    assert not finds(database, query, text)
    assert not present(parse(query), [words(text)])


HOSTILE = [
    '"', "'", "*", "**", "^a", "a^b", "a:b", "subject:x", "{a}", "(a", "a)", "NEAR(a b, 3)", "a AND", "OR", "NOT a",
    "-a", "+a", "a\x00b", "\ud800", "';DROP TABLE fts;--", "a" * 100_000, '"' * 500, "\\", '"\\', "%_", "?1", ":x",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_never_a_syntax_error(database: apsw.Connection, text: str) -> None:
    finds(database, text, "anything")


@given(query=st.text(max_size=60), text=st.text(max_size=60))
def test_the_index_and_our_matcher_agree_on_any_text(database: apsw.Connection, query: str, text: str) -> None:
    text = text.encode("utf-8", "ignore").decode()
    terms = parse(query)
    expected = bool(terms) and all(term.words for term in terms) and present(terms, [words(text)])
    if all((char.isalnum() and char < "\u2e80") or char.isascii() for char in query + text):
        assert finds(database, query, text) == expected
    else:
        finds(database, query, text)


@given(text=st.text(alphabet=st.sampled_from("aAéÉ ßñ日本語. '\"*-_ЖжΣσς"), max_size=30), data=st.data())
def test_every_run_of_words_of_a_text_finds_it(database: apsw.Connection, text: str, data: st.DataObject) -> None:
    found = words(text)
    if not found.spans:
        return
    first = data.draw(st.integers(0, len(found.spans) - 1))
    last = data.draw(st.integers(first, len(found.spans) - 1))
    piece = text[found.spans[first][0] : found.spans[last][1]].replace('"', " ")
    assert finds(database, f'"{piece}"', text)


@given(st.text(max_size=200))
def test_parsing_and_folding_never_raise_and_folding_is_final(text: str) -> None:
    for term in parse(text):
        assert all(fold(word) == word for word in term.words if word.isascii())
    longest_word(parse(text))
    words(text)


def test_columns_limit_where_a_word_is_looked_for(database: apsw.Connection) -> None:
    database.execute("DELETE FROM fts")
    database.execute("INSERT INTO fts(rowid, \"from\", subject) VALUES (1, 'ann', 'lunch')")
    for column, word, hits in (("from", "ann", 1), ("from", "lunch", 0), ("subject", "lunch", 1)):
        match = expression(parse(word), (column,))
        assert len(database.execute("SELECT 1 FROM fts WHERE fts MATCH ?", (match,)).fetchall()) == hits


def test_any_of_the_terms_is_enough_for_a_snippet(database: apsw.Connection) -> None:
    database.execute("DELETE FROM fts")
    database.execute("INSERT INTO fts(rowid, body) VALUES (1, 'only lunch')")
    match = any_expression(parse("dinner lunch"), "body")
    assert database.execute("SELECT rowid FROM fts WHERE fts MATCH ?", (match,)).fetchall() == [(1,)]
    assert any_expression(parse("!!!"), "body") is None


def test_occurrences_are_spans_of_the_text_as_it_is() -> None:
    text = "The Café, the cafe\u0301 and CAFETERIA"
    [term] = parse("cafe")
    assert [text[start:end] for start, end in occurrences(term, words(text))] == ["Café", "cafe\u0301"]
    [term] = parse("cafe*")
    assert len(occurrences(term, words(text))) == 3


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("a longest b*", "longest"),
        ('"one three"', "three"),
        ("bob@example.org", "example"),
        ("日本語", "日本語"),
        ("!!", None),
    ],
)
def test_upstream_is_asked_for_the_longest_word(query: str, word: str | None) -> None:
    assert longest_word(parse(query)) == word
