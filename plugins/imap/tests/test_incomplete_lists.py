"""Lists of a folder with rows that are damaged, halved, doubled or not there: no message is gone that is there."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from jmapplug_imap import listing
from jmapplug_imap.protocol.fetch import FetchRow
from jmapplug_imap.protocol.halves import Halves
from jmapplug_imap.source import ImapSource

from jmapplug.backends import Changes, SyncPoint
from jmapplug.errors import FolderError

Upstream = Any
Said = Callable[[bytes, "re.Match[bytes]"], bytes]

ROW = rb"^\* (\d+) FETCH \((UID (\d+)(?: (FLAGS \([^)]*\)))?[^\r]*)\)\r\n"


def on(sequence: int, said: Said) -> Said:
    """What is said instead of one message's rows."""
    return lambda line, row: said(line, row) if int(row[1]) == sequence else line


DAMAGES: dict[str, Said] = {
    "unreadable flags": on(2, lambda line, row: re.sub(rb"FLAGS \([^)]*\)", rb"FLAGS (((", line)),
    "no flags": on(2, lambda line, row: b"* 2 FETCH (UID %s)\r\n" % row[3]),
    "nil": on(2, lambda line, row: re.sub(rb"FLAGS \([^)]*\)|INTERNALDATE \"[^\"]*\"", rb"MODSEQ NIL", line)),
    "no row": on(2, lambda line, row: b""),
    "nothing readable": on(2, lambda line, row: b"* 2 FETCH (FLAGS (\r\n"),
    "ends early": lambda line, row: line if int(row[1]) < 2 else b"",
}
"""What hides message 2 from a list, and what else the server may say."""


def bare(line: bytes, row: re.Match[bytes]) -> bytes:
    """The row without its flags."""
    return line.replace(row[4], b"") if row[4] else line


def flags_of(row: re.Match[bytes], uid: bytes = b"") -> bytes:
    return b"* %s FETCH (%s%s)\r\n" % (row[1], uid, row[4] or b"")


HARMLESS: dict[str, Said] = {
    "flags first": on(2, lambda line, row: flags_of(row) + bare(line, row)),
    "UID first": lambda line, row: bare(line, row) + flags_of(row),
    "halves": lambda line, row: bare(line, row) + flags_of(row, b"UID %s " % row[3]),
    "doubled": lambda line, row: line * 2,
    "not asked for": on(2, lambda line, row: b"* 9 FETCH (UID 99 FLAGS (\\Seen))\r\n* 5 FETCH (FLAGS ())\r\n" + line),
    "without sense": on(2, lambda line, row: b"* gibberish (((\r\n* 2 NOTHING\r\n" + line),
}


class Saying:
    """From now on lines are said as ``said`` has it, ``times`` of them; set it at any time."""

    def __init__(self, upstream: Upstream) -> None:
        self.said: Said = lambda line, row: line
        self.times = 0
        hidden = upstream.through._hidden

        def change(line: bytes) -> bytes:
            line = bytes(hidden(line))
            row = re.match(ROW, line) if self.times else None
            if row is None:
                return line
            new = self.said(line, row)
            self.times -= new != line
            return new

        upstream.through._hidden = change

    def damage(self, said: Said, times: int = 1_000) -> None:
        self.said, self.times = said, times


@pytest.fixture
def saying(upstream: Upstream) -> Saying:
    for uid, flag in ((1, "\\Seen"), (2, "\\Flagged"), (3, "\\Answered")):
        upstream.flag(b"INBOX", uid, flag)
    return Saying(upstream)


FLAGS = {1: ("\\Seen",), 2: ("\\Flagged",), 3: ("\\Answered",)}


def first(source: ImapSource) -> SyncPoint:
    return source.changes(b"INBOX", None, list).point


def compared(source: ImapSource, point: SyncPoint) -> Changes:
    """A pass that compares everything."""
    return source.changes(b"INBOX", msgspec.structs.replace(point, highestmodseq=0), lambda: [1, 2, 3])


def flags(items: Any) -> dict[int, tuple[str, ...] | None]:
    return {item.uid: item.flags for item in items}


@pytest.mark.parametrize("hidden", [(), ("CONDSTORE", "QRESYNC")], ids=["condstore", "plain"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_known_message_that_cannot_be_read_is_there_and_read_by_the_next_pass(
    upstream: Upstream, saying: Saying, damage: str, hidden: tuple[str, ...]
) -> None:
    upstream.through.hide = set(hidden)
    source = upstream.source()
    point = first(source)
    saying.damage(DAMAGES[damage])
    found = compared(source, point)
    assert found.vanished == () and found.new == ()
    assert flags(found.flags).items() >= {1: FLAGS[1], 2: None}.items()
    assert set(flags(found.flags)) == {1, 2, 3}
    saying.times = 0
    if hidden:
        assert flags(compared(source, found.point).flags) == FLAGS
    else:
        [status] = [folder for folder in source.folders() if folder.key == b"INBOX"]
        assert status.highestmodseq != found.point.highestmodseq  # the next look leads to a pass
        again = source.changes(b"INBOX", found.point, list)
        assert flags(again.flags)[2] == FLAGS[2] and again.vanished == ()
        assert status.highestmodseq == again.point.highestmodseq
    upstream.expunge(b"INBOX", 2)
    assert compared(source, found.point).vanished == (2,)


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_cannot_be_read_once_is_asked_for_again(upstream: Upstream, saying: Saying, damage: str) -> None:
    source = upstream.source()
    point = first(source)
    saying.damage(DAMAGES[damage], 1)
    found = compared(source, point)
    assert not saying.times
    assert (flags(found.flags), found.vanished) == (FLAGS, ())


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("times", [1, 1_000], ids=["once", "always"])
def test_a_new_message_that_cannot_be_read_is_read_later(
    upstream: Upstream, saying: Saying, damage: str, times: int
) -> None:
    source = upstream.source()
    saying.damage(DAMAGES[damage], times)
    found = source.changes(b"INBOX", None, list)
    assert set(flags(found.new)) == {1, 2, 3} and flags(found.new)[1] == FLAGS[1]
    if times == 1:
        assert flags(found.new) == FLAGS and all(item.received_at for item in found.new)
        return
    saying.times = 0
    again = source.changes(b"INBOX", found.point, lambda: [1, 3])
    assert flags(again.flags)[2] == FLAGS[2] and not again.vanished
    [item] = source.items(b"INBOX", [2])
    assert item.flags == FLAGS[2] and item.received_at


@pytest.mark.parametrize("hidden", [(), ("CONDSTORE", "QRESYNC")], ids=["condstore", "plain"])
def test_new_mail_that_is_left_out_of_its_list_is_found(
    upstream: Upstream, saying: Saying, hidden: tuple[str, ...]
) -> None:
    upstream.through.hide = set(hidden)
    source = upstream.source()
    point = first(source)
    for at in range(2):
        upstream.append(b"INBOX", b"Subject: %d\r\n\r\n" % at)
    upstream.expunge(b"INBOX", 1)
    saying.damage(on(4, lambda line, row: b""), 1)
    saying.damage(lambda line, row: b"" if row[3] == b"5" else line, 1)
    found = source.changes(b"INBOX", point, lambda: [1, 2, 3])
    assert not saying.times
    assert (set(flags(found.new)), found.vanished) == ({4, 5}, (1,))
    assert all(item.received_at for item in found.new)


def test_mail_that_comes_meanwhile_hides_nothing_where_uidnext_is_not_told(upstream: Upstream, saying: Saying) -> None:
    upstream.through.hide = {"CONDSTORE", "QRESYNC"}
    hidden = upstream.through._hidden
    upstream.through._hidden = lambda line: b"" if b"[UIDNEXT" in line else hidden(line)
    source = upstream.source()
    point = first(source)
    coming = [b"4:*", b"1:3"]

    def met(line: bytes) -> None:
        if coming and b"UID FETCH %s" % coming[0] in line:
            coming.pop(0)
            if coming:
                upstream.append(b"INBOX", b"Subject: late\r\n\r\n")
            else:
                saying.damage(on(2, lambda line, row: b""), 1)

    upstream.through.met = met
    found = compared(source, point)
    assert not coming and not saying.times
    assert (flags(found.flags), found.vanished, set(flags(found.new))) == (FLAGS, (), {4})


def test_a_message_that_goes_is_missed_where_uidnext_is_not_told(upstream: Upstream, saying: Saying) -> None:
    """Mail came during the pass before, and was not counted by it: now the numbers are what they were."""
    upstream.through.hide = {"QRESYNC"}
    hidden = upstream.through._hidden
    upstream.through._hidden = lambda line: b"" if b"[UIDNEXT" in line else hidden(line)
    source = upstream.source()
    point = first(source)
    coming = [b"Subject: late\r\n\r\n"]

    def met(line: bytes) -> None:
        if coming and b"UID FETCH 4:*" in line:
            upstream.append(b"INBOX", coming.pop())

    upstream.through.met = met
    point = source.changes(b"INBOX", point, lambda: [1, 2, 3]).point
    assert not coming and (point.uidnext, point.messages) == (5, 3)
    upstream.expunge(b"INBOX", 1)
    assert source.changes(b"INBOX", point, lambda: [1, 2, 3, 4]).vanished == (1,)


@pytest.mark.parametrize("said", HARMLESS)
def test_rows_in_pieces_twice_or_of_others_are_put_together(upstream: Upstream, saying: Saying, said: str) -> None:
    source = upstream.source()
    saying.damage(HARMLESS[said])
    found = source.changes(b"INBOX", None, list)
    assert flags(found.new) == FLAGS and all(item.received_at for item in found.new)
    again = compared(source, found.point)
    assert (flags(again.flags), again.vanished, again.new) == (FLAGS, (), ())


@pytest.mark.parametrize("damage", DAMAGES)
def test_flags_that_changed_and_cannot_be_read_are_not_passed_over(
    upstream: Upstream, saying: Saying, damage: str
) -> None:
    """CONDSTORE: the row of CHANGEDSINCE is damaged."""
    upstream.through.hide = {"QRESYNC"}
    source = upstream.source()
    point = first(source)
    upstream.flag(b"INBOX", 2, "\\Draft")
    saying.damage(DAMAGES[damage])
    found = source.changes(b"INBOX", point, lambda: [1, 2, 3])
    assert found.vanished == ()
    saying.times = 0
    again = source.changes(b"INBOX", found.point, lambda: [1, 2, 3])
    seen = flags(found.flags) | flags(again.flags)
    # A row that never came, and of which nobody can know, is found by the daily comparison.
    if damage not in ("no row", "ends early"):
        assert set(seen[2] or ()) == {"\\Flagged", "\\Draft"}


@pytest.mark.parametrize("hidden", ["QRESYNC", "nothing"])
@pytest.mark.parametrize("expunged", [b"", b"* 9 EXPUNGE\r\n"], ids=["", "expunge"])
def test_flags_that_changed_are_not_passed_over_where_nobody_says_whose_they_are(
    upstream: Upstream, saying: Saying, hidden: str, expunged: bytes
) -> None:
    upstream.through.hide = {hidden}
    source = upstream.source()
    point = first(source)
    upstream.flag(b"INBOX", 2, "\\Draft")
    saying.damage(lambda line, row: flags_of(row) + expunged, 1)
    found = source.changes(b"INBOX", point, lambda: [1, 2, 3])
    assert not saying.times
    assert set(flags(found.flags)[2] or ()) == {"\\Flagged", "\\Draft"} and found.vanished == ()


def test_changes_of_which_some_are_left_out_for_an_expunge_are_not_believed(upstream: Upstream, saying: Saying) -> None:
    """RFC 5530 §3 EXPUNGEISSUED: how much of the answer came, nobody says."""
    upstream.through.hide = {"QRESYNC"}
    source = upstream.source()
    point = first(source)
    upstream.flag(b"INBOX", 2, "\\Draft")
    saying.damage(lambda line, row: b"", 1)
    hidden = upstream.through._hidden

    def said(line: bytes) -> bytes:
        line = bytes(hidden(line))
        return line if saying.times else line.replace(b"OK Fetch completed", b"NO [EXPUNGEISSUED] Fetch completed")

    upstream.through._hidden = said
    found = source.changes(b"INBOX", point, lambda: [1, 2, 3])
    assert not saying.times
    assert set(flags(found.flags)[2] or ()) == {"\\Flagged", "\\Draft"} and found.vanished == ()


def test_a_row_without_uid_says_nothing_a_second_time_of_the_one_before() -> None:
    """Octets of a section would be written twice."""
    halves = Halves()
    whole = FetchRow(2, 7, sections={"": b"octets"})
    assert halves.put(whole) is whole
    assert halves.put(FetchRow(2, flags=("\\Seen",))) == FetchRow(2, 7, flags=("\\Seen",))
    assert halves.put(FetchRow(3, flags=("\\Seen",))) is None
    assert halves.whole([FetchRow(3, 8, size=1), FetchRow(4, 9)]) == [
        FetchRow(3, 8, flags=("\\Seen",), size=1),
        FetchRow(4, 9),
    ]
    assert not halves.lost
    assert halves.put(FetchRow(5, flags=())) is None
    assert halves.lost
    halves.forget()
    assert halves.lost
    assert halves.put(FetchRow(5, 10)) == FetchRow(5, 10)


@pytest.mark.parametrize(("untold", "code"), [(b" EXISTS", "serverbug"), (b"[UIDVALIDITY", None)])
def test_a_folder_of_which_the_server_does_not_tell_enough_is_neither_empty_nor_in_the_way_of_others(
    upstream: Upstream, untold: bytes, code: str | None
) -> None:
    source = upstream.source()
    point = first(source)
    hidden = upstream.through._hidden
    upstream.through._hidden = lambda line: b"" if untold in line else hidden(line)
    source.close()
    source = upstream.source()
    for since in (None, point):
        with pytest.raises(FolderError) as caught:
            source.changes(b"INBOX", since, lambda: [1, 2, 3])
        assert caught.value.code == code


def test_a_folder_made_anew_whose_size_is_not_told_is_not_an_empty_one(upstream: Upstream) -> None:
    source = upstream.source()
    key = upstream.create("Box")
    point = source.changes(key, None, list).point
    upstream.delete(key)
    upstream.create("Box")
    upstream.append(key, b"Subject: new\r\n\r\n")
    hidden, proxy = upstream.through._hidden, upstream.through
    proxy._hidden = lambda line: b"" if b" EXISTS" in line and b" SELECT " in proxy.lines[-1] else hidden(line)
    with pytest.raises(FolderError):
        source.changes(key, point, list)
    proxy._hidden = hidden
    assert len(source.changes(key, point, list).new) == 1


def test_a_folder_that_is_the_old_one_again_is_read_from_its_old_point(upstream: Upstream, saying: Saying) -> None:
    """A server restored twice: what was seen in between is forgotten, and nothing is passed over."""
    source = upstream.source()
    point = first(source)
    upstream.flag(b"INBOX", 2, "\\Draft")
    lasting = source._passes._lasting
    lasting[b"INBOX"] = lasting[b"INBOX"]._replace(uidvalidity=1)
    found = source.changes(b"INBOX", point, lambda: [1, 2, 3])
    assert not found.reset and set(flags(found.flags)[2] or ()) == {"\\Flagged", "\\Draft"}


def test_a_folder_of_which_too_much_cannot_be_read_is_an_error_of_that_folder(
    upstream: Upstream, saying: Saying, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wish 21: the others are read all the same."""
    monkeypatch.setattr(listing, "UNREADABLE_MAX", 1)
    source = upstream.source()
    point = first(source)
    saying.damage(lambda line, row: re.sub(rb"FLAGS \([^)]*\)", rb"FLAGS (((", line))
    for since in (None, msgspec.structs.replace(point, highestmodseq=0)):
        with pytest.raises(FolderError) as caught:
            source.changes(b"INBOX", since, lambda: [1, 2, 3])
        assert caught.value.code == "serverbug" and caught.value.temporary
    saying.times = 0
    assert flags(compared(source, point).flags) == FLAGS


def test_a_complete_list_costs_no_further_question(upstream: Upstream) -> None:
    upstream.through.hide = {"CONDSTORE", "QRESYNC"}
    source = upstream.source()
    point = first(source)
    upstream.expunge(b"INBOX", 2)
    before = source.round_trips
    assert compared(source, point).vanished == (2,)
    assert source.round_trips - before == 2  # EXAMINE, FETCH
