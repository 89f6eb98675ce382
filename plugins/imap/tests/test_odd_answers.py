"""What real servers answer wrongly, one message at a time (wishes 20, 21): the others come whole."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from jmapplug_imap.source import ImapSource

from jmapplug.backends import SearchTerm
from jmapplug.errors import UpstreamError
from jmapplug.testing.mail_source import MIXED, message

Upstream = Any


def change(upstream: Upstream, pattern: bytes, by: bytes, times: int = 1_000) -> list[bytes]:
    """From now on the server says something else, so many times; what it would have said."""
    hidden, met = upstream.through._hidden, []

    def said(line: bytes) -> bytes:
        line = bytes(hidden(line))
        if len(met) < times and re.search(pattern, line):
            met.append(line)
            return re.sub(pattern, by, line)
        return line

    upstream.through._hidden = said
    return met


def subjects(source: ImapSource) -> dict[int, bytes]:
    found = (detail for batch in source.details(b"INBOX", [1, 2, 3]) for detail in batch)
    return {one.uid: one.header.split(b"Subject: ")[1].split(b"\r\n")[0] for one in found}


@pytest.mark.parametrize("value", [b" NIL", b""], ids=["nil", "nothing"])
@pytest.mark.parametrize("times", [1, 1_000], ids=["once", "always"])
def test_a_row_without_what_was_asked_for_is_asked_for_again_and_then_fails_alone(
    upstream: Upstream, value: bytes, times: int
) -> None:
    """Wish 20 (iCloud)."""
    # The literal of message 2 does not come: its announcement and its lines are those of a row without it.
    text = b"(From|To|Date|Message-ID|Subject|Cc|Bcc|Sender|Reply-To|In-Reply-To|References|Received)[^\r]*\r\n|\r\n"
    skipping = False
    hidden, met = upstream.through._hidden, 0

    def said(line: bytes) -> bytes:
        nonlocal skipping, met
        line = bytes(hidden(line))
        if met < times and line.startswith(b"* 2 FETCH") and line.endswith(b"}\r\n"):
            skipping, met = True, met + 1
            return re.sub(rb" BODY\[HEADER[^{]*\{\d+\}\r\n", b" BODY[HEADER]" + value if value else b"", line)
        if skipping and re.fullmatch(text, line):
            return b""
        skipping = False
        return line

    upstream.through._hidden = said
    found = subjects(upstream.source())
    assert met == min(times, 2)
    assert found == {1: b"one", 3: b"three"} | ({2: b"two"} if times == 1 else {})


@pytest.mark.parametrize("times", [1, 1_000], ids=["once", "always"])
def test_a_whole_message_that_does_not_come_is_an_error_of_its_own(
    upstream: Upstream, tmp_path: Path, times: int
) -> None:
    """Wish 20: never "gone", which would be another truth."""
    upstream.append(b"INBOX", b"Subject: x\r\n\r\n")  # short enough for one line of its own
    source = upstream.source()
    hidden, met, skipping = upstream.through._hidden, 0, False

    def said(line: bytes) -> bytes:
        nonlocal met, skipping
        line = bytes(hidden(line))
        if met < times and re.match(rb"\* 4 FETCH .*BODY\[\] \{", line):
            met, skipping = met + 1, True
            return b"* 4 FETCH (UID 4"
        if skipping:
            skipping = not line.startswith(b")")
            return line if not skipping else b""
        return line

    upstream.through._hidden = said
    if times == 1:
        assert source.raw(b"INBOX", 4, tmp_path / "raw") == len(b"Subject: x\r\n\r\n")
    else:
        with pytest.raises(UpstreamError) as caught:
            source.raw(b"INBOX", 4, tmp_path / "raw")
        assert caught.value.code == "unreadable" and not (tmp_path / "raw").exists()
    assert met == min(times, 2)
    assert source.raw(b"INBOX", 1, tmp_path / "raw") == len(message("one"))


def test_a_message_that_is_gone_is_gone_and_costs_one_question_more(upstream: Upstream, tmp_path: Path) -> None:
    source = upstream.source()
    source.headers(b"INBOX", [1])
    upstream.expunge(b"INBOX", 2)
    with pytest.raises(KeyError):
        source.raw(b"INBOX", 2, tmp_path / "raw")
    assert set(source.headers(b"INBOX", [1, 2, 3])) == {1, 3}


@pytest.mark.parametrize("answer", ["NO it is broken", "BAD it is broken"])
def test_a_message_that_the_server_refuses_to_give_is_an_error_of_its_own(
    upstream: Upstream, tmp_path: Path, answer: str
) -> None:
    source = upstream.source()
    upstream.through.refuse = [(r"UID FETCH 2 ", answer)]
    with pytest.raises(UpstreamError) as caught:
        source.raw(b"INBOX", 2, tmp_path / "raw")
    assert caught.value.code == "unreadable"
    upstream.through.refuse = [("UID FETCH", "NO [SERVERBUG] internal error")]
    with pytest.raises(UpstreamError) as caught:
        source.raw(b"INBOX", 1, tmp_path / "raw")
    assert caught.value.temporary and caught.value.code == "serverbug"


@pytest.mark.parametrize("size", [b"0", b"17", b"4294967295"])
def test_a_wrong_size_neither_cuts_a_download_nor_hangs_it(upstream: Upstream, tmp_path: Path, size: bytes) -> None:
    """The size is told as the server says at first sight; what is read is as long as its literal."""
    uid = upstream.append(b"INBOX", MIXED)
    met = change(upstream, rb"RFC822\.SIZE \d+", b"RFC822.SIZE " + size)
    source = upstream.source()
    [detail] = [one for batch in source.details(b"INBOX", [uid]) for one in batch]
    assert detail.size == int(size) and met
    assert source.raw(b"INBOX", uid, tmp_path / "raw") == len(MIXED)
    assert (tmp_path / "raw").read_bytes() == MIXED


@pytest.mark.parametrize(
    "structure",
    [
        b"NIL",
        b"()",
        b'("TEXT" "PLAIN" NIL NIL NIL "7BIT")',
        b'(NIL "MIXED")',
        b'((("A"',
        b'"TEXT"',
        b'("TEXT" "PLAIN" ("CHARSET") NIL NIL "7BIT" -5 1)',
    ],
)
def test_a_structure_that_cannot_be_read_is_none_and_the_others_are_whole(upstream: Upstream, structure: bytes) -> None:
    """Wish 21: MailKit#919, #1446 (Exchange NIL), #878 (GMX), #1861 (Yandex)."""
    met = change(upstream, rb"^(\* 2 FETCH .*)BODYSTRUCTURE \(.*\)( BODY\[)", rb"\1BODYSTRUCTURE " + structure + rb"\2")
    source = upstream.source()
    found = {one.uid: one for batch in source.details(b"INBOX", [1, 2, 3]) for one in batch}
    assert met and set(found) == {1, 2, 3}
    assert found[1].structure is not None and found[3].structure is not None
    assert b"Subject: two" in found[2].header


def test_what_is_gone_between_search_and_fetch_is_left_out(upstream: Upstream) -> None:
    source = upstream.source()
    found = source.search(b"INBOX", SearchTerm("text", "t"))
    upstream.expunge(b"INBOX", 2)
    assert set(found) >= {1, 2, 3}
    assert [one.uid for batch in source.details(b"INBOX", found) for one in batch] == [1, 3]
    assert set(source.texts(b"INBOX", "1", found, 100)) == {1, 3}


def test_nothing_is_read_but_by_peeking(upstream: Upstream, tmp_path: Path) -> None:
    """Wish 20: only BODY.PEEK is sent, never RFC822 (iCloud answers that without the message)."""
    source = ImapSource(upstream.settings(), upstream.user, record=True)
    uids = [item.uid for item in source.changes(b"INBOX", None, list).new]
    list(source.details(b"INBOX", uids, with_items=True))
    source.headers(b"INBOX", uids)
    source.part_headers(b"INBOX", 1, ["1"])
    source.texts(b"INBOX", "1", uids, 10)
    source.slices(b"INBOX", 1, [("1", 0, 3)])
    source.part(b"INBOX", 1, "1", tmp_path / "part")
    source.raw(b"INBOX", 1, tmp_path / "raw")
    source.newest(b"INBOX", 3)
    fetches = [command for command in source.commands if "FETCH" in command]
    assert len(fetches) >= 8
    assert not [one for one in fetches if re.search(r"RFC822(?!\.SIZE)|BODY\[|BINARY\[|RFC822\.TEXT", one)]
    assert upstream.search("UNSEEN") == uids
    source.close()
