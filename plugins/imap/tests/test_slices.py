"""Pieces of sections: one FETCH where the server plays along, and the same octets where it does not."""

from __future__ import annotations

from typing import Any

import pytest
from jmapplug_imap import slices as slices_module
from jmapplug_imap.slices import LINE, Slices
from jmapplug_imap.source import ImapSource

from jmapplug.errors import UpstreamError
from jmapplug.testing.mail_source import MIXED, message

Upstream = Any
ASKED = [("2", 0, 4), ("2", 4, 8), ("1", 6, 100)]
PIECES = [b"AAEC", b"AwQFBgcI", b"part"]


@pytest.fixture
def upstream(dovecot: Any, open_upstream: Any) -> Upstream:
    return open_upstream(dovecot, proxied=True)


def test_all_pieces_come_in_one_fetch(upstream: Upstream) -> None:
    uid = upstream.append(b"INBOX", MIXED)
    source = ImapSource(upstream.settings(), upstream.user, record=True)
    source.headers(b"INBOX", [uid])
    source.commands.clear()
    trips = source.round_trips
    assert source.slices(b"INBOX", uid, [*ASKED, ("2", 0, 2)]) == [*PIECES, b"AA"]
    assert source.round_trips - trips == 1
    assert source.commands == [f"UID FETCH {uid} (UID BODY.PEEK[2]<0.4> BODY.PEEK[2]<4.8> BODY.PEEK[1]<6.100>)"]
    source.close()


def test_nothing_wanted_asks_nothing(upstream: Upstream) -> None:
    source = upstream.source()
    assert source.slices(b"INBOX", 1, []) == [] and source.slices(b"INBOX", 1, [("1", 5, 0)]) == [b""]
    assert upstream.through.connections == 0


@pytest.mark.parametrize("answer", ["BAD no partial fetch here", "NO cannot"])
def test_a_server_without_partial_fetch_gives_the_whole_section(upstream: Upstream, answer: str) -> None:
    uid = upstream.append(b"INBOX", MIXED)
    upstream.through.refuse = [(r"UID FETCH .*\]<", answer)]
    source = upstream.source()
    assert source.slices(b"INBOX", uid, ASKED) == PIECES
    with pytest.raises(KeyError):
        source.slices(b"INBOX", uid + 1, ASKED)


@pytest.mark.parametrize("label", [b"BODY[2]", b"BODY[2]<4>", b"X-ODD"])
def test_a_piece_that_does_not_say_where_it_begins_is_not_believed(upstream: Upstream, label: bytes) -> None:
    uid = upstream.append(b"INBOX", MIXED)
    hidden = upstream.through._hidden
    upstream.through._hidden = lambda line: hidden(line).replace(b"BODY[2]<0>", label)
    source = upstream.source()
    assert source.slices(b"INBOX", uid, [("1", 0, 5), ("2", 0, 4)]) == [b"first", b"AAEC"]


def test_a_broken_connection_is_an_error_and_not_a_missing_message(upstream: Upstream) -> None:
    uid = upstream.append(b"INBOX", MIXED)
    source = upstream.source()
    source.headers(b"INBOX", [uid])
    upstream.through.refuse = [(r"UID FETCH .*\]<", None)]
    with pytest.raises(UpstreamError):
        source.slices(b"INBOX", uid, ASKED)
    upstream.through.refuse = []
    assert upstream.source().slices(b"INBOX", uid, ASKED) == PIECES


def test_a_part_that_is_not_there_is_empty(upstream: Upstream) -> None:
    uid = upstream.append(b"INBOX", message("one"))
    hidden = upstream.through._hidden
    assert upstream.source().slices(b"INBOX", uid, [("7", 0, 5)]) == [b""]
    upstream.through._hidden = lambda line: hidden(line).replace(b'BODY[7]<0> ""', b"BODY[7]<0> NIL")
    assert upstream.source().slices(b"INBOX", uid, [("7", 0, 5), ("1", 0, 5)]) == [b"", b"Hello"]


@pytest.mark.parametrize("asked", [("1", -1, 5), ("1", 0, -5), ("1] BODY[2", 0, 5), ("1\r\nx LOGOUT", 0, 5)])
def test_what_is_no_range_is_refused(upstream: Upstream, asked: tuple[str, int, int]) -> None:
    with pytest.raises(ValueError):
        upstream.source().slices(b"INBOX", 1, [asked])


def test_very_many_pieces_are_asked_for_in_lines_below_the_limit(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert LINE < 8000
    monkeypatch.setattr(slices_module, "LINE", 100)
    uid = upstream.append(b"INBOX", MIXED)
    source = upstream.source()
    asked = [("1", at, 1) for at in range(10)]
    assert b"".join(source.slices(b"INBOX", uid, asked)) == b"first part"
    sent = upstream.through.sent("BODY.PEEK[1]<")
    assert len(sent) == 2 and all(len(line) < 160 for line in sent)
    assert isinstance(source._slices, Slices)
