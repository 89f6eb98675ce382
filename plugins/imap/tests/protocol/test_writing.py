"""Octets that go out when something is written, and the codes that come back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jmapplug_imap import looking
from jmapplug_imap.appending import flags, has_nul, internal_date
from jmapplug_imap.looking import Mark
from jmapplug_imap.protocol import CommandNo, Connection, ConnectionBroken, Credentials, Mailbox, Result, Upload, sets
from jmapplug_imap.protocol.commands import UPLOAD_UNASKED_MAX, Writer
from jmapplug_imap.protocol.lexer import Frame
from jmapplug_imap.protocol.parser import parse
from jmapplug_imap.protocol.responses import QuotaRoots, QuotaUsage
from jmapplug_imap.protocol.uidplus import AppendUid, CopyUid, append_uid, copy_uid
from jmapplug_imap.transfer import pieces

from jmapplug.errors import UpstreamError


def result(*lines: bytes, end: bytes = b"OK done") -> Result:
    status = parse(Frame(b"a1 " + end))
    return Result("", status.code, [parse(Frame(line)) for line in lines])


# --- codes


def test_appenduid_tells_one_or_many() -> None:
    assert append_uid(result(end=b"OK [APPENDUID 7 12] ok")) == AppendUid(7, (12,))
    assert append_uid(result(end=b"OK [APPENDUID 7 12:14,20] ok")) == AppendUid(7, (12, 13, 14, 20))
    assert append_uid(result(end=b"OK ok")) is None


def test_copyuid_stands_in_the_tagged_ok_or_before_it() -> None:
    expected = CopyUid(9, {1: 4, 2: 5, 7: 6})
    assert copy_uid(result(end=b"OK [COPYUID 9 1:2,7 4:6] ok")) == expected
    assert copy_uid(result(b"* OK [COPYUID 9 1:2,7 4:6] moved", b"* 1 EXPUNGE")) == expected
    assert copy_uid(result(b"* OK [COPYUID 9 1:2 4:5] a", b"* OK [COPYUID 9 7 6] b")) == expected


@pytest.mark.parametrize(
    "code",
    [b"COPYUID", b"COPYUID 9", b"COPYUID 9 1:2 4", b"COPYUID x 1 2", b"COPYUID 9 * 4", b"COPYUID 9 1:4294967295 1:2"],
)
def test_a_copyuid_that_is_nonsense_tells_nothing(code: bytes) -> None:
    assert copy_uid(result(end=b"OK [" + code + b"] ok")) is None


@given(st.binary(max_size=40).filter(lambda raw: not set(raw) & set(b"\r\n]")))
def test_no_octets_in_a_code_break_the_reading(raw: bytes) -> None:
    for name in (b"APPENDUID ", b"COPYUID 9 "):
        answer = result(end=b"OK [" + name + raw + b"] ok")
        for found in (append_uid(answer), copy_uid(answer)):
            assert found is None or found.uids


def test_quota_answers_are_read() -> None:
    assert parse(Frame(b'* QUOTAROOT INBOX "User quota" ""')) == QuotaRoots(b"INBOX", ("User quota", ""))
    usage = parse(Frame(b'* QUOTA "User quota" (STORAGE 12 102400 MESSAGE 3 1000)'))
    assert usage == QuotaUsage("User quota", (("STORAGE", 12, 102400), ("MESSAGE", 3, 1000)))
    assert parse(Frame(b'* QUOTA "" ()')) == QuotaUsage("", ())


# --- commands


def upload(tmp_path: Path, raw: bytes, **more: bool) -> Upload:
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}"
    path.write_bytes(raw)
    return Upload(path, len(raw), **more)


@pytest.mark.parametrize(
    ("plus", "size", "waits"),
    [("+", 10, False), ("+", UPLOAD_UNASKED_MAX + 1, True), ("-", 4096, False), ("-", 4097, True), ("", 1, True)],
)
def test_a_file_waits_for_the_server_where_it_must(tmp_path: Path, plus: str, size: int, waits: bool) -> None:
    file = Upload(tmp_path, size)
    chunks = Writer(plus=plus).command(b"a1", ["APPEND", Mailbox(b"INBOX"), file])
    sign = b"" if waits else b"+"
    assert chunks == [(b"a1 APPEND INBOX {%d%s}\r\n" % (size, sign), waits), (file, False), (b"\r\n", False)]


def test_a_file_with_nul_octets_is_a_literal8(tmp_path: Path) -> None:
    file = Upload(tmp_path, 5, binary=True)
    chunks = Writer(plus="+").command(b"a1", ["APPEND", Mailbox(b"x"), file, ["\\Seen"], file])
    assert chunks[0] == (b"a1 APPEND x ~{5+}\r\n", False) and chunks[2] == (b" (\\Seen) ~{5+}\r\n", False)


def test_the_end_of_a_guarded_command_waits_for_the_answers_before_it(serve: Any, tmp_path: Path) -> None:
    order: list[str] = []

    def script(peer: Any) -> None:
        peer.login()
        tag = peer.expect("STATUS x .*")
        append = peer.expect(r"APPEND x \{5\+\}")
        while len(peer._buffer) < 5:
            peer._buffer += peer.raw.recv(100)
        assert peer._buffer == b"hello"
        order.append("held")
        peer.send(b"* STATUS x (UIDNEXT 3)\r\n" + tag + b" OK\r\n")
        assert peer.line() == b"hello"
        peer.send(append + b" OK [APPENDUID 1 3] done\r\n")

    connection = logged_in(serve, script)
    last = ["APPEND", Mailbox(b"x"), upload(tmp_path, b"hello")]
    answer = connection.guarded([["STATUS", Mailbox(b"x"), ["UIDNEXT"]]], last, lambda found: order.append("learnt"))
    assert order == ["held", "learnt"] and append_uid(answer) == AppendUid(1, (3,))


def test_a_refused_literal_is_not_sent(serve: Any, tmp_path: Path) -> None:
    def script(peer: Any) -> None:
        peer.login()
        tag = peer.expect("STATUS x .*")
        append = peer.expect(r"APPEND x \{300000\}")
        peer.send(tag + b" OK\r\n" + append + b" NO [TOOBIG] no\r\n")
        peer.answer("NOOP")

    connection = logged_in(serve, script)
    learnt: list[object] = []
    last = ["APPEND", Mailbox(b"x"), upload(tmp_path, b"x" * 300_000)]
    with pytest.raises(CommandNo) as caught:
        connection.guarded([["STATUS", Mailbox(b"x"), ["UIDNEXT"]]], last, learnt.append)
    assert caught.value.code == "toobig" and not learnt and connection.noop()


def test_a_connection_that_breaks_before_the_answers_has_done_nothing(serve: Any, tmp_path: Path) -> None:
    def script(peer: Any) -> None:
        peer.login()
        peer.expect("STATUS x .*")

    connection = logged_in(serve, script)
    learnt: list[object] = []
    with pytest.raises(ConnectionBroken):
        last = ["APPEND", Mailbox(b"x"), upload(tmp_path, b"hello")]
        connection.guarded([["STATUS", Mailbox(b"x"), ["UIDNEXT"]]], last, learnt.append)
    assert not learnt and connection.broken


def logged_in(serve: Any, script: Any) -> Connection:
    connection: Connection = serve(script)
    connection.open()
    connection.login(Credentials("me", "secret"))
    return connection


# --- words and marks


@given(st.lists(st.integers(1, 2**32 - 1), max_size=3_000))
def test_pieces_hold_every_uid_once_in_lines_of_8000_octets(uids: list[int]) -> None:
    cut = list(pieces(uids))
    assert [uid for piece in cut for uid in piece] == sorted(set(uids))
    assert all(len(sets.compress(piece)) <= 8_000 for piece in cut)


@given(st.text(max_size=12))
def test_a_flag_stands_in_its_list_or_is_refused(name: str) -> None:
    try:
        found = flags([name])
    except UpstreamError as error:
        assert error.code == "cannot"
    else:
        assert found == ([] if name.lower() == "\\recent" else [name]) and not set(name) & set(' (){"%*\r\n\0')


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (0, '"01-Jan-1970 00:00:00 +0000"'),
        (1_750_000_000, '"15-Jun-2025 15:06:40 +0000"'),
        (10**15, ""),
        (-(10**14), ""),
    ],
)
def test_internal_dates_are_written_or_left_out(at: int, text: str) -> None:
    assert internal_date(at) == text


def test_nul_octets_are_found_wherever_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_bytes(b"x" * (1 << 20) + b"\0")
    assert has_nul(path)
    path.write_bytes(b"x" * (1 << 20))
    assert not has_nul(path)


def mark(name: str, size: int = 100, message_id: bool = True) -> Mark:
    ids = (("message-id", f"<{name}@x>"),) if message_id else ()
    return Mark("", size, (*ids, ("subject", name)))


def test_marks_are_paired_in_order_and_no_uid_twice() -> None:
    twin = mark("twin")
    assert looking.pair([twin, mark("other"), twin], {5: twin, 6: twin, 7: mark("other")}) == [5, 7, 6]
    assert looking.pair([twin, twin], {5: twin}) == [5, None]


def test_another_size_counts_only_with_a_message_id() -> None:
    assert looking.pair([mark("a")], {3: mark("a", 99)}) == [3]
    assert looking.pair([mark("a", message_id=False)], {3: mark("a", 99, message_id=False)}) == [None]
    assert looking.pair([mark("a"), mark("a")], {3: mark("a", 99), 4: mark("a")}) == [4, 3]


@given(st.binary(max_size=300))
def test_any_octets_have_telling_fields(raw: bytes) -> None:
    assert all(name in ("date", "from", "message-id", "subject") for name, _ in looking.fields_of(raw))


def test_telling_fields_are_the_same_folded_or_not() -> None:
    folded = b"Subject: a long\r\n  line\r\nX-Other: 1\r\nMESSAGE-ID: <1@x>\r\n\r\nSubject: body\r\n"
    assert looking.fields_of(folded) == looking.fields_of(b"Message-Id:<1@x>\nSubject:  a long line\n\n")
