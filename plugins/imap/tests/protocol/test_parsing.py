"""Octets to responses: cut anywhere, odd servers, hostile servers."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jmapplug_imap.protocol import ParseError, ProtocolError, fetch, sets, utf7
from jmapplug_imap.protocol import responses as r
from jmapplug_imap.protocol.bodystructure import from_value
from jmapplug_imap.protocol.fetch import FetchRow
from jmapplug_imap.protocol.lexer import Frame, Lexer, Limits
from jmapplug_imap.protocol.parser import parse
from jmapplug_imap.protocol.values import value

SMALL = Limits(line=2000, memory_literal=2000, response=8000)

CORPUS = [
    b"* OK [CAPABILITY IMAP4rev1 IDLE] ready {3}\r\n",
    b"a1 NO [BADCHARSET (UTF-8 {5})] no {10}\r\n",
    b"+ idling\r\n",
    b'* LIST (\\HasNoChildren) "/" {5}\r\na\r\nb"\r\n',
    b'* 1 FETCH (UID 1 FLAGS (\\Seen) BODY[HEADER] {6}\r\na: b\r\n INTERNALDATE "12-Nov-2026 10:20:30 +0100")\r\n',
    b'* 2 FETCH (UID 2 FLAGS () INTERNALDATE " 2-Nov-2026 10:20:30 -0130" X-GUID abc)\r\n',
    b"* SEARCH 1 2 3 (MODSEQ 7)\r\n",
    b'* ESEARCH (TAG "a1") UID COUNT 3 ALL 1:2,9\r\n',
    b"* VANISHED (EARLIER) 1:4294967295\r\n",
    b"* STATUS {3}\r\nabc (MESSAGES 3 UIDNEXT 5 MAILBOXID (M1))\r\n",
    b"* 5 EXISTS\r\n* 4 EXPUNGE\r\n",
    b"* BYE see you\r\n",
    b"\r\n",
    b"* \r\n",
    b"* 1 FETCH (UID 1 BODY[] {0}\r\n)\r\n",
    b'* 3 FETCH (UID 3 BODYSTRUCTURE ("text" "plain" NIL NIL NIL "7bit" 3 1) PREVIEW "a\\"b")\r\n',
]


def one(octets: bytes) -> r.Response:
    lexer = Lexer()
    lexer.feed(octets)
    frame = lexer.next()
    assert frame is not None and lexer.next() is None
    return parse(frame)


def drained(pieces: list[bytes]) -> list[object]:
    """Everything that comes out, errors as the text of their kind (a limit may be noticed earlier or later)."""
    lexer, found = Lexer(SMALL), []
    for piece in pieces:
        try:
            lexer.feed(piece)
            while (frame := lexer.next()) is not None:
                try:
                    found.append(parse(frame))
                except ParseError as error:
                    found.append(str(error))
        except ProtocolError:
            return [*found, "over"]
    return found


octets = st.one_of(
    st.lists(st.one_of(st.sampled_from(CORPUS), st.binary(max_size=12)), max_size=8).map(b"".join),
    st.binary(max_size=200),
)


@given(octets, st.lists(st.integers(0, 2000), max_size=12))
@example(b"".join(CORPUS), list(range(0, 900, 7)))
@settings(deadline=None, max_examples=300)
def test_octets_cut_anywhere_give_the_same_responses(data, cuts):
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[low:high] for low, high in itertools.pairwise(places)]
    assert drained(pieces) == drained([data]) == drained([data[i : i + 1] for i in range(len(data))])


WORDS = (
    b'( ) " \\ NIL nil UID FLAGS BODY[ ] BODYSTRUCTURE RFC822.SIZE INTERNALDATE PREVIEW EMAILID MODSEQ {3} {3}\r\nabc '
    b'"text" "plain" 1 12 "a" * LIST STATUS ESEARCH SEARCH VANISHED NAMESPACE ID FETCH MYRIGHTS TAG ALL : , [ CODE'
)
tokens = st.lists(st.sampled_from(WORDS.split(b" ")), max_size=30).map(b" ".join)


@given(st.sampled_from([b"* 1 FETCH (UID 1 ", b"* LIST ", b"* ", b"* STATUS ", b"* ESEARCH ", b"* OK [", b""]), tokens)
@settings(deadline=None, max_examples=500)
def test_any_soup_of_words_is_a_response_or_a_parse_error(start, soup):
    try:
        parse(Frame(start + soup))
    except ParseError:
        pass


@given(st.recursive(st.none() | st.binary(max_size=8), lambda deeper: st.lists(deeper, max_size=14), max_leaves=40))
@settings(deadline=None)
def test_any_value_is_a_structure_or_none(item):
    part = from_value(item)
    assert part is None or part.walk()


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"* CAPABILITY imap4rev1 Idle\r\n", r.Capability(frozenset({"IMAP4REV1", "IDLE"}))),
        (b"* 23 EXISTS\r\n", r.Exists(23)),
        (b"* 2 recent \r\n", r.Recent(2)),
        (b"* 44 EXPUNGE\r\n", r.Expunge(44)),
        (b"* SEARCH\r\n", r.Search(())),
        (b"* SEARCH 2 3 6 (MODSEQ 917162500)\r\n", r.Search((2, 3, 6), 917162500)),
        (b'* ESEARCH (TAG "A") UID\r\n', r.Esearch("A", True)),
        (
            b'* ESEARCH (TAG "A") UID MIN 2 MAX 47 COUNT 9 ALL 2,10:11 MODSEQ 5\r\n',
            r.Esearch("A", True, 2, 47, 9, ((2, 2), (10, 11)), 5),
        ),
        (b"* VANISHED 405,407:410\r\n", r.Vanished(((405, 405), (407, 410)), False)),
        (b"* VANISHED (EARLIER) 300:310\r\n", r.Vanished(((300, 310),), True)),
        (b"* ENABLED CONDSTORE qresync\r\n", r.Enabled(frozenset({"CONDSTORE", "QRESYNC"}))),
        (b'* ID ("name" "Dovecot" "x" NIL)\r\n', r.ServerId({"name": "Dovecot"})),
        (b"* ID NIL\r\n", r.ServerId({})),
        (b"* FLAGS (\\Seen $x)\r\n", r.Flags(("\\Seen", "$x"))),
        (b"* MYRIGHTS INBOX rwiptsldaex\r\n", r.MyRights(b"INBOX", "rwiptsldaex")),
        (
            b'* NAMESPACE (("" "/")("#mh/" NIL "X" ("y"))) NIL (("Public." "."))\r\n',
            r.Namespaces((r.Namespace(b"", "/"), r.Namespace(b"#mh/", None)), (), (r.Namespace(b"Public.", "."),)),
        ),
        (
            b'* LIST (\\Marked \\NoInferiors) "/" "a \\"b\\" c"\r\n',
            r.Listed(b'a "b" c', "/", frozenset({"\\marked", "\\noinferiors"})),
        ),
        (b'* LIST () "\\\\" INBOX\r\n', r.Listed(b"INBOX", "\\", frozenset())),
        (b"* LIST () NIL NIL\r\n", r.Listed(b"NIL", None, frozenset())),
        (b'* LSUB () "." {3}\r\na b\r\n', r.Listed(b"a b", ".", frozenset(), kind="LSUB")),
        # Servers that forget to quote.
        (b'* LIST (\\Noselect) "/" Sent Items (old\r\n', r.Listed(b"Sent Items (old", "/", frozenset({"\\noselect"}))),
        (
            b'* LIST (\\NonExistent) "/" Foo ("CHILDINFO" ("SUBSCRIBED") "OLDNAME" ("Bar"))\r\n',
            r.Listed(b"Foo", "/", frozenset({"\\nonexistent"}), b"Bar", ("SUBSCRIBED",)),
        ),
        (b'* LIST () "/" New (("OLDNAME" ("Old")))\r\n', r.Listed(b"New", "/", frozenset(), b"Old")),
        (
            b'* STATUS "x y" (MESSAGES 231 UIDNEXT 44292 X-GUID 12345 MAILBOXID (F2) APPENDLIMIT NIL)\r\n',
            r.MailboxStatus(
                b"x y",
                {"MESSAGES": 231, "UIDNEXT": 44292, "X-GUID": "12345", "MAILBOXID": "F2", "APPENDLIMIT": None},
            ),
        ),
        (b"* STATUS x y (MESSAGES 1)\r\n", r.MailboxStatus(b"x y", {"MESSAGES": 1})),
        (b"* OK [UNSEEN 12] first {3}\r\n", r.Status("OK", "first {3}", r.Code("UNSEEN", (b"12",)))),
        (
            b"* OK [PERMANENTFLAGS (\\Deleted [x] \\*)] Limited\r\n",
            r.Status("OK", "Limited", r.Code("PERMANENTFLAGS", ([b"\\Deleted", b"[x]", b"\\*"],))),
        ),
        (b"* NO\r\n", r.Status("NO", "")),
        (b"a7 BAD [X\r\n", r.Status("BAD", "[X", None, "a7")),
        (b"+\r\n", r.Continuation(b"")),
        (b'* QUOTA "" (STORAGE 10 512)\r\n', r.QuotaUsage("", (("STORAGE", 10, 512),))),
        (b"* QUOTAROOT INBOX a {1}\r\nb\r\n", r.QuotaRoots(b"INBOX", ("a", "b"))),
        (b"* 7 WHATEVER x\r\n", r.Other("WHATEVER", b"x", 7)),
    ],
)
def test_a_response_is_read_as_the_rfc_or_a_known_server_writes_it(octets, expected):
    assert one(octets) == expected


@pytest.mark.parametrize(
    "octets",
    [
        b"\r\n",
        b"nonsense\r\n",
        b"a1 MAYBE\r\n",
        b"* SEARCH 1 x\r\n",
        b"* SEARCH 99999999999999999999999\r\n",
        b"* VANISHED 1:*\r\n",
        b"* VANISHED 1:99999999999\r\n",
        b"* STATUS x (MESSAGES many)\r\n",
        b"* LIST\r\n",
        b"* 1 FETCH FLAGS ()\r\n",
        b"* 1 FETCH (FLAGS (\\Seen)\r\n",
    ],
)
def test_what_cannot_be_read_is_an_error_and_never_a_shorter_answer(octets):
    with pytest.raises(ParseError):
        one(octets)


@pytest.mark.parametrize(
    "octets",
    [
        b"x" * 3000,
        b"* OK " + b"x" * 3000 + b"\r\n",
        b"* 1 FETCH (BODY[] {3000}\r\n",
        b"* 1 FETCH (" + (b" BODY[] {1990}\r\n" + b"y" * 1990) * 6,
    ],
)
def test_what_passes_a_limit_is_refused_before_it_is_kept(octets):
    assert drained([octets])[-1] == "over"


def test_deep_nesting_costs_an_error_and_no_recursion():
    deep = b"(" * 100_000
    with pytest.raises(ParseError):
        value(Frame(deep), 0)
    row = parse(Frame(b"* 1 FETCH (UID 9 BODYSTRUCTURE " + deep + b")"))
    assert row == FetchRow(1, 9, damaged=True)


FULL = (
    b'* 12 FETCH (UID 7 RFC822.SIZE 4286 MODSEQ (624140003) EMAILID (M6d99) THREADID NIL SAVEDATE NIL X-GUID "g" '
    b'INTERNALDATE "17-Jul-1996 02:44:25 -0700" FLAGS (\\Seen \\Recent $x) PREVIEW {3}\r\nhi! X-NEW (a (b)) '
    b'BODY[HEADER.FIELDS ("DATE" FROM)] {4}\r\n\r\n\r\n BODY[1.MIME]<0> "q" BINARY[2] ~{2}\r\n\0\xff RFC822.HEADER NIL)'
)


def test_every_item_of_a_row_finds_its_place():
    assert parse(Frame(FULL)) == FetchRow(
        12,
        7,
        ("\\Seen", "$x"),
        837596665,
        "g",
        624140003,
        4286,
        "M6d99",
        preview="hi!",
        sections={"HEADER.FIELDS": b"\r\n\r\n", "1.MIME<0>": b"q", "~2": b"\0\xff", "HEADER": None},
    )


@pytest.mark.parametrize("cut", range(30, len(FULL) - 1, 3))
def test_a_row_that_ends_too_early_is_damaged_and_never_taken_for_whole(cut):
    row = parse(Frame(FULL[:cut]))
    assert row.uid == 7 and row.damaged


SIMPLE = [b"UID", b"FLAGS", b"INTERNALDATE", b"X-GUID", b"MODSEQ", b"RFC822.SIZE", b"EMAILID", b"THREADID"]
FORMS = {
    b"UID": st.integers(1, 2**32 - 1).map(b"UID %d".__mod__),
    b"FLAGS": st.sampled_from([b"FLAGS ()", b"FLAGS (\\Seen)", b"FLAGS (\\Recent \\Seen a b)"]),
    b"INTERNALDATE": st.builds(
        b'INTERNALDATE "%02d-%s-%04d %02d:%02d:%02d %s"'.__mod__,
        st.tuples(
            st.integers(0, 39), st.sampled_from([b"Jan", b"dec", b"Foo"]), st.integers(0, 2050), st.integers(0, 23),
            st.integers(0, 59), st.integers(0, 60), st.sampled_from([b"+0000", b"-0730", b"+1400"]),
        ),
    ),
    b"X-GUID": st.sampled_from([b"X-GUID 00ff", b"X-GUID NIL", b'X-GUID "q"', b"X-GUID NILS"]),
    b"MODSEQ": st.integers(0, 2**63).map(b"MODSEQ (%d)".__mod__),
    b"RFC822.SIZE": st.integers(0, 2**63).map(b"RFC822.SIZE %d".__mod__),
    b"EMAILID": st.sampled_from([b"EMAILID (M-1_x)", b"EMAILID NIL"]),
    b"THREADID": st.sampled_from([b"THREADID (T1)", b"THREADID NIL"]),
}  # fmt: skip


@given(st.permutations(SIMPLE[1:]), st.integers(0, 7), st.data())
@settings(deadline=None)
def test_the_fast_way_reads_rows_exactly_like_the_long_way(names, count, data):
    chosen = [b"UID", *names[:count]]
    lines = [
        b"* %d FETCH (%s)" % (number, b" ".join(data.draw(FORMS[name]) for name in chosen)) for number in range(1, 6)
    ]
    template = fetch.learn(lines[0])
    if template is None:
        return
    buffer = b"\r\n".join([*lines, b""])
    found, pos = template.rows(buffer, 0)
    assert found == [parse(Frame(line)) for line in lines[: len(found)]]
    assert pos == sum(len(line) + 2 for line in lines[: len(found)])


def test_the_fast_way_takes_all_rows_of_the_plain_shape():
    rows = b"".join(
        b'* %d FETCH (UID %d FLAGS (\\Seen) INTERNALDATE "01-Jan-1970 00:01:%02d +0000" X-GUID %032x)\r\n'
        % (n, n, n, n)
        for n in range(1, 60)
    )
    template = fetch.learn(rows.split(b"\r\n")[0])
    found, pos = template.rows(rows + b"* 60 FETCH (UID", 0)
    assert [(row.uid, row.received_at, row.guid) for row in found] == [(n, 60 + n, f"{n:032x}") for n in range(1, 60)]
    assert pos == len(rows)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_a_mailbox_name_survives_modified_utf7(name):
    encoded = utf7.encode(name)
    assert utf7.decode(encoded) == name
    assert all(32 <= octet < 127 for octet in encoded)


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (b"Entw&APw-rfe", "Entwürfe"),
        (b"&U,BTFw-/a&-b", "台北/a&b"),
        (b"&Jjo-!", "☺!"),
        (b"broken & name", "broken & name"),
        (b"&*-", "&*-"),
        (b"&2D3eCg-", "\U0001f60a"),
        ("Entwürfe".encode(), "Entwürfe"),
        (b"\xe9t\xe9", "été"),
    ],
)
def test_raw_names_as_servers_send_them(key, name):
    assert utf7.decode(key) == name


@given(st.sets(st.integers(1, 2**32 - 1)), st.integers(30, 200))
def test_a_set_survives_being_written_in_chunks(numbers, size):
    words = list(sets.chunks(numbers, size))
    assert all(len(word) <= size for word in words)
    assert sorted(n for word in words for n in sets.expand(sets.parse(word.encode()))) == sorted(numbers)


@given(st.lists(st.integers(1, 60), unique=True), st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60))))
def test_within_is_membership_without_expanding(numbers, pairs):
    ranges = tuple((min(pair), max(pair)) for pair in pairs)
    expected = [n for n in sorted(numbers) if any(low <= n <= high for low, high in ranges)]
    assert sets.within(sorted(numbers), ranges) == expected


def test_a_set_of_four_billion_numbers_is_not_expanded():
    with pytest.raises(ProtocolError):
        list(sets.expand(((1, 2**32 - 1),)))
    assert sets.within([5, 9], ((1, 2**32 - 1),)) == [5, 9]


def test_sets_are_as_short_as_can_be():
    assert sets.compress([3, 1, 2, 7, 7]) == "1:3,7"
    assert sets.compress([]) == "" and list(sets.chunks([])) == []


def test_a_large_set_is_cut_at_8000_octets_of_command_line_and_loses_nothing():
    """Mail-rule 23, RFC 7162 §4."""
    numbers = list(range(1, 60_000, 2))
    pieces = list(sets.chunks(numbers))
    assert len(pieces) > 20 and max(map(len, pieces)) <= 8000
    assert [int(each) for piece in pieces for each in piece.split(",")] == numbers


def test_ids_are_read_through_one_pair_of_parentheses_too_many():
    row = parse(Frame(b"* 1 FETCH (UID 1 EMAILID ((M1)))"))
    assert (row.email_id, row.damaged) == ("M1", False)
    assert parse(Frame(b"* STATUS a (MAILBOXID ((F1)))")) == r.MailboxStatus(b"a", {"MAILBOXID": "F1"})


@pytest.mark.parametrize(("written", "read"), [(b"(T1)", "T1"), (b"NIL", None), (b"((T1))", None), (b"()", None)])
def test_a_thread_id_in_another_form_than_the_rfcs_is_none(written: bytes, read: str | None) -> None:
    row = parse(Frame(b"* 1 FETCH (UID 1 EMAILID (M1) THREADID " + written + b" FLAGS ())"))
    assert (row.email_id, row.thread_id, row.damaged, row.flags) == ("M1", read, False, ())


def test_what_a_hostile_server_makes_long_is_not_remembered():
    before = len(fetch._flags)
    row = parse(Frame(b"* 1 FETCH (UID 1 FLAGS (" + b"x" * 5000 + b"))"))
    assert row.flags == ("x" * 5000,) and len(fetch._flags) == before
