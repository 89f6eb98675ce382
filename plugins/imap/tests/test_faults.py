"""Connections that break, servers that refuse: never a wrong or shortened answer."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest
from jmapplug_imap import access as access_module
from jmapplug_imap import pool
from jmapplug_imap.source import ImapSource

from jmapplug.backends import NewMessage, SearchTerm, SyncPoint
from jmapplug.errors import AuthenticationError, FolderError, UpstreamError
from jmapplug.testing.mail_source import MIXED, Mirror, message

Upstream = Any


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every pause is told of: these tests cut thousands of times."""
    monkeypatch.setattr(pool, "PATIENCE", 0.0)


def facts(source: ImapSource, folder: Path) -> list[Any]:
    """One of everything that can be read."""
    listed = source.changes(b"INBOX", None, list)
    uids = [item.uid for item in listed.new]
    source.raw(b"INBOX", uids[0], folder / "raw")
    return [
        [(f.key, f.messages, f.role) for f in source.folders()],
        (listed.new, listed.point.messages),
        source.newest(b"INBOX", 2),
        [detail for batch in source.details(b"INBOX", uids) for detail in batch],
        source.headers(b"INBOX", uids),
        source.texts(b"INBOX", "1", uids, 10),
        source.previews(b"INBOX", uids),
        source.search(b"INBOX", SearchTerm("subject", "two")),
        (folder / "raw").read_bytes(),
    ]


def test_a_connection_cut_anywhere_is_replaced_and_the_answer_is_whole(upstream: Upstream, tmp_path: Path) -> None:
    expected = facts(upstream.source(), tmp_path)
    proxy = upstream.through
    cut = 0
    for octets in range(0, 9_000, 331):
        proxy.cut_after, proxy.cuts = octets, 1
        source = upstream.source()
        # A cut while connecting is told (and not tried again in haste): then the caller comes back.
        try:
            found = facts(source, tmp_path)
        except UpstreamError:
            assert proxy.cuts == 0
            found = facts(upstream.source(), tmp_path)
        assert found == expected, octets
        source.close()
        cut += proxy.cuts == 0
    assert cut >= 15


def everything(source: ImapSource, point: SyncPoint | None) -> list[Any]:
    """A whole sync: the folders, one pass, the details of what it lists; in two batches."""
    folders = [(f.key, f.uidvalidity, f.messages, f.role, f.rights) for f in source.folders()]
    found = source.changes(b"INBOX", point, lambda: [1, 2, 3])
    uids = [item.uid for item in (*found.new, *found.flags)]
    details = [
        detail for half in (uids[::2], uids[1::2]) for batch in source.details(b"INBOX", half) for detail in batch
    ]
    return [folders, found, details]


def cut_points(end: int) -> range:
    """Offsets all over an exchange of ``end`` octets, some 400 of them, at every place of a line sooner or later."""
    return range(0, end + 200, max(end // 400, 1) | 1)


@pytest.mark.parametrize("hide", [set(), {"QRESYNC", "CONDSTORE", "LIST-STATUS"}], ids=["qresync", "bare"])
@pytest.mark.parametrize("cuts", [1, 10**6], ids=["once", "always"])
def test_a_cut_at_any_octet_of_a_whole_sync_gives_the_right_answer_or_an_error(
    upstream: Upstream, hide: set[str], cuts: int
) -> None:
    proxy = upstream.through
    proxy.hide = hide
    first = upstream.source()
    point = first.changes(b"INBOX", None, list).point
    upstream.flag(b"INBOX", 1, "\\Flagged")
    upstream.expunge(b"INBOX", 2)
    upstream.append(b"INBOX", message("four"))
    upstream.append(b"INBOX", MIXED)
    source = upstream.source()
    expected = everything(source, point)
    end = source.bytes_in
    assert end > 3_000 and {item.uid for item in expected[1].new} == {4, 5} and expected[1].vanished == (2,)
    right = wrong = 0
    for octets in cut_points(end):
        proxy.cut_after, proxy.cuts = octets, cuts
        source = ImapSource(upstream.settings(), upstream.user)
        try:
            assert everything(source, point) == expected, octets
            right += 1
        except UpstreamError:
            wrong += 1
        finally:
            source.close()
    assert right >= 200 and wrong >= 20


def test_a_connection_that_always_breaks_at_one_place_is_an_error_and_not_a_missing_message(
    upstream: Upstream, tmp_path: Path
) -> None:
    proxy = upstream.through
    uid = upstream.append(b"INBOX", MIXED)
    uids = [1, 2, 3, uid]
    reads: list[Callable[[ImapSource], Any]] = [
        lambda source: source.headers(b"INBOX", uids),
        lambda source: source.headers(b"INBOX", [uid]),
        lambda source: source.part_headers(b"INBOX", uid, ["1", "2"]),
        lambda source: source.texts(b"INBOX", "1", [uid], 1000),
        lambda source: source.previews(b"INBOX", [uid]),
        lambda source: source.slices(b"INBOX", uid, [("2", 0, 5), ("2", 5, 5)]),
        lambda source: source.newest(b"INBOX", 3),
        lambda source: (source.raw(b"INBOX", uid, tmp_path / "raw"), (tmp_path / "raw").read_bytes()),
        lambda source: [(d.uid, d.size, d.received_at) for batch in source.details(b"INBOX", uids) for d in batch],
    ]
    right = wrong = 0
    for read in reads:
        whole = upstream.source()
        assert whole.features
        login = whole.bytes_in
        expected = read(whole)
        for octets in range(login - 100, whole.bytes_in + 20, 23):
            proxy.cuts = 0
            source = upstream.source()
            assert source.features
            proxy.cut_all()
            proxy.cut_after, proxy.cuts = octets, 10**6
            try:
                assert read(source) == expected, octets
                right += 1
            except UpstreamError:
                wrong += 1
            finally:
                source.close()
        proxy.cuts = 0
    assert right > 50 and wrong > 50


def test_a_batch_that_breaks_behind_its_last_row_is_complete(upstream: Upstream) -> None:
    uids = [1, 2, 3, upstream.append(b"INBOX", MIXED)]
    expected = upstream.source().headers(b"INBOX", uids)
    hidden = upstream.through._hidden
    fetches = 0

    def cut(line: bytes) -> bytes:
        nonlocal fetches
        end = b" OK Fetch completed" in line
        # Twice in the middle of the batch (the pool tries again itself), then behind the last row of what was missing.
        if (fetches < 2 and line.startswith(b"* 3 FETCH")) or (fetches == 2 and end):
            fetches += 1
            raise OSError("cut")
        return bytes(hidden(line))

    upstream.through._hidden = cut
    assert upstream.source().headers(b"INBOX", uids) == expected
    assert fetches == 3


def test_a_connection_that_keeps_breaking_is_an_error_and_never_an_empty_answer(
    upstream: Upstream, tmp_path: Path
) -> None:
    proxy = upstream.through
    source = upstream.source()
    uids = [item.uid for item in source.changes(b"INBOX", None, list).new]
    proxy.cut_after, proxy.cuts = 0, 10**6
    proxy.cut_all()
    for call in (
        source.folders,
        lambda: source.changes(b"INBOX", None, list),
        lambda: source.newest(b"INBOX", 5),
        lambda: list(source.details(b"INBOX", uids)),
        lambda: source.headers(b"INBOX", uids),
        lambda: source.search(b"INBOX", SearchTerm("text", "one")),
        lambda: source.raw(b"INBOX", uids[0], tmp_path / "raw"),
    ):
        with pytest.raises(UpstreamError):
            call()
    assert not (tmp_path / "raw").exists()


def test_a_server_that_falls_silent_ends_at_the_deadline(upstream: Upstream, patience: Any) -> None:
    waits = patience()
    source = ImapSource(upstream.settings(), upstream.user)
    try:
        source.folders()
        upstream.through.deaf = True
        waits.become(connect=0.5, read=0.2, command=0.4)
        with pytest.raises(UpstreamError):
            source.folders()
        upstream.through.deaf = False
    finally:
        source.close()


GOODBYE = b"* BYE [ALERT] shutting down\r\n"


def test_a_goodbye_at_any_line_of_a_whole_sync_gives_the_right_answer_or_an_error(upstream: Upstream) -> None:
    """RFC 9051 §7.1.5: at any time; in the middle of FETCH, between a command and its answer, instead of a greeting."""
    proxy = upstream.through
    first = upstream.source()
    point = first.changes(b"INBOX", None, list).point
    upstream.flag(b"INBOX", 1, "\\Flagged")
    upstream.expunge(b"INBOX", 2)
    upstream.append(b"INBOX", MIXED)
    hidden, passed, at = proxy._hidden, 0, -1

    def said(line: bytes) -> bytes:
        nonlocal passed
        passed += 1
        if passed == at:
            proxy.say(GOODBYE)
            raise OSError("gone")
        return bytes(hidden(line))

    proxy._hidden = said
    expected = everything(upstream.source(), point)
    right = wrong = 0
    for at in range(1, passed + 1):
        passed = 0
        source = upstream.source()
        try:
            assert everything(source, point) == expected, at
            right += 1
        except UpstreamError as error:
            assert "shutting down" in str(error) or "broke" in str(error) or "closed" in str(error)
            wrong += 1
            assert everything(upstream.source(), point) == expected
        source.close()
    assert right > 40 and wrong > 5


@pytest.mark.parametrize("hide", [set(), {"NOTIFY"}], ids=["notify", "idle"])
def test_a_goodbye_to_one_who_waits_ends_the_wait_and_the_next_one_connects_again(
    upstream: Upstream, hide: set[str]
) -> None:
    upstream.through.hide = hide
    watch = upstream.source().watch(b"INBOX")
    waiting = gevent.spawn(watch.wait, 60)
    gevent.idle()
    upstream.through.say(b"* BYE Disconnected for inactivity\r\n")
    with pytest.raises(UpstreamError, match="inactivity"):
        waiting.get(timeout=60)
    assert watch.wait(60) is not None
    watch.close()


@pytest.mark.parametrize(
    ("line", "work"),
    [
        ("EXAMINE|SELECT", lambda source: source.headers(b"INBOX", [1])),
        ("UID FETCH", lambda source: source.headers(b"INBOX", [1, 2, 3])),
        ("UID FETCH", lambda source: list(source.details(b"INBOX", [1, 2, 3]))),
        ("STATUS|APPEND", lambda source: source.folders()),
        ("LIST", lambda source: source.folders()),
        ("UID SEARCH", lambda source: source.search(b"INBOX", SearchTerm("text", "one"))),
    ],
)
@pytest.mark.parametrize(
    "answer",
    ["NO [THROTTLED] slow down", "BAD Request is throttled. Suggested Backoff Time: 178755", "NO [LIMIT] rate"],
)
def test_a_throttled_command_is_not_repeated_in_any_way(
    upstream: Upstream, line: str, work: Callable[[ImapSource], Any], answer: str
) -> None:
    """Wish 12: no smaller batch, no other connection, no second try."""
    source = upstream.source()
    assert source.features
    upstream.through.refuse = [(line, answer)]
    asked = 0
    for _ in range(3):
        with pytest.raises(UpstreamError) as caught:
            work(source)
        assert not isinstance(caught.value, FolderError), "it is the whole server that wants less of us"
        assert caught.value.code == "throttled" and caught.value.temporary and (caught.value.retry_after or 0) > 29
        asked = asked or len(upstream.through.lines)
        assert len(upstream.through.lines) == asked
    assert len([each for each in upstream.through.lines if re.search(line.encode(), each)]) <= 3
    assert source.held is not None


def test_a_folder_in_use_elsewhere_is_left_alone_for_a_while_and_others_are_read(upstream: Upstream) -> None:
    """RFC 5530 §3 INUSE, UNAVAILABLE."""
    key = upstream.create("Box")
    upstream.append(key, message("inside"))
    source = upstream.source()
    source.folders()
    upstream.through.refuse = [('(EXAMINE|SELECT) "?INBOX', "NO [INUSE] locked by a POP3 session")]
    for _ in range(5):
        with pytest.raises(FolderError) as caught:
            source.headers(b"INBOX", [1])
        assert caught.value.code == "inuse" and caught.value.temporary
    assert len(upstream.through.sent("INBOX")) - len(upstream.through.sent("STATUS")) <= 3
    assert len([each for each in upstream.through.lines if b"EXAMINE INBOX" in each]) == 1
    assert source.held is None and set(source.headers(key, [1])) == {1}


def test_an_append_that_meets_a_limit_stops_the_others_of_its_call(upstream: Upstream, tmp_path: Path) -> None:
    """Wish 12: each is told clearly, and none but the first is sent."""
    source = upstream.source()
    upstream.through.hide = {"MULTIAPPEND"}
    upstream.through.refuse = [("APPEND", "NO [LIMIT] not so many")]
    (tmp_path / "m").write_bytes(message("new"))
    size = (tmp_path / "m").stat().st_size
    answers = source.append(b"INBOX", [NewMessage(tmp_path / "m", size)] * 5)
    assert [answer.error.code for answer in answers if answer.error] == ["limit"] * 5
    assert len(upstream.through.sent(" APPEND ")) == 1


def test_a_broken_download_leaves_no_half_file(upstream: Upstream, tmp_path: Path) -> None:
    uid = upstream.append(b"INBOX", message("big") + b"x" * 70 + b"\r\n" + b"line\r\n" * 100_000)
    source = upstream.source()
    source.headers(b"INBOX", [uid])
    upstream.through.cut_after, upstream.through.cuts = 200_000, 2
    with pytest.raises(UpstreamError):
        source.raw(b"INBOX", uid, tmp_path / "raw")
    assert not (tmp_path / "raw").exists()
    assert source.raw(b"INBOX", uid, tmp_path / "raw") > 600_000  # the server is well again


def test_refused_credentials_are_not_tried_again_at_once(upstream: Upstream) -> None:
    """Wish 12."""
    source = ImapSource(upstream.settings(password="wrong"), upstream.user)
    for _ in range(5):
        with pytest.raises(AuthenticationError):
            source.folders()
    assert upstream.through.connections == 1
    source.close()


def test_a_server_that_is_away_is_not_stormed(upstream: Upstream) -> None:
    """Wish 12."""
    source = upstream.source()
    upstream.through.refuse = [("(?i)LOGIN|AUTHENTICATE", None)]
    for _ in range(20):
        with pytest.raises(UpstreamError):
            source.folders()
    assert upstream.through.connections <= 2


def test_no_more_than_three_connections_whatever_happens(upstream: Upstream) -> None:
    """Wish 11."""
    source = upstream.source()
    watch = source.watch(b"INBOX")
    uids = [item.uid for item in source.changes(b"INBOX", None, list).new]
    jobs = [gevent.spawn(source.headers, b"INBOX", uids) for _ in range(20)]
    jobs += [gevent.spawn(source.changes, b"INBOX", None, list) for _ in range(5)]
    jobs += [gevent.spawn(lambda: list(source.details(b"INBOX", uids, background=True))) for _ in range(5)]
    gevent.joinall(jobs, timeout=120, raise_error=True)
    assert watch is not None and upstream.through.most <= 3
    for _ in range(10):
        upstream.through.cut_all()
        assert len(source.headers(b"INBOX", uids)) == 3
    assert upstream.through.most <= 3


def test_who_waits_does_not_queue_behind_the_history(upstream: Upstream) -> None:
    source = upstream.source()
    uids = [item.uid for item in source.changes(b"INBOX", None, list).new]
    pool = source._access.pool
    blocked, entered = gevent.event.Event(), gevent.event.Event()

    def history(connection: Any) -> None:
        entered.set()
        blocked.wait(60)

    job = gevent.spawn(pool.run, history, True)
    assert entered.wait(60)
    assert len(source.headers(b"INBOX", uids)) == 3
    assert not job.ready()
    blocked.set()
    job.get(timeout=60)


# --- one bad message


@pytest.mark.parametrize("answer", ["NO [SERVERBUG] cannot parse", "BAD broken", None])
def test_one_message_that_breaks_its_batch_comes_without_structure_and_the_others_whole(
    upstream: Upstream, answer: str | None
) -> None:
    """Wish 21."""
    uids = [upstream.append(b"INBOX", MIXED) for _ in range(20)]
    bad = uids[7]
    # Refuse every FETCH of BODYSTRUCTURE whose set holds the bad message.
    covers = "|".join(f"{low}:{high}" for low in uids for high in uids if low < bad <= high or low <= bad < high)
    upstream.through.refuse = [(rf"UID FETCH (\S+,)?({covers}|{bad})(,\S+)? .*BODYSTRUCTURE", answer)]
    found = {d.uid: d for batch in upstream.source().details(b"INBOX", uids) for d in batch}
    assert sorted(found) == uids
    assert found[bad].structure is None and b"two parts" in found[bad].header and found[bad].size == len(MIXED)
    assert all(found[uid].structure is not None for uid in uids if uid != bad)


@pytest.mark.parametrize("answer", ["NO cannot", None])
def test_a_message_whose_header_breaks_too_comes_with_size_and_date(upstream: Upstream, answer: str | None) -> None:
    upstream.through.refuse = [(r"UID FETCH (2|1:3|1:2|2:3|1,3:2) .*BODY", answer)]
    found = {d.uid: d for batch in upstream.source().details(b"INBOX", [1, 2, 3]) for d in batch}
    assert sorted(found) == [1, 2, 3]
    assert (found[2].header, found[2].structure, found[2].size) == (b"", None, len(message("two")))
    assert found[1].structure and found[3].structure


def test_a_server_that_refuses_every_message_is_an_error(upstream: Upstream) -> None:
    uids = [upstream.append(b"INBOX", message(str(n))) for n in range(70)]
    upstream.through.refuse = [("UID FETCH", None)]
    with pytest.raises(UpstreamError):
        list(upstream.source().details(b"INBOX", uids))


def test_a_folder_that_is_refused_is_told_at_once(upstream: Upstream) -> None:
    source = upstream.source()
    source.folders()
    upstream.through.refuse = [("EXAMINE|SELECT", "NO [NOPERM] no")]
    with pytest.raises(UpstreamError) as caught:
        list(source.details(b"INBOX", [1, 2, 3]))
    assert caught.value.code == "noperm"
    assert len(upstream.through.sent("EXAMINE")) == 1


def test_uids_of_a_folder_that_was_replaced_are_not_used(upstream: Upstream) -> None:
    key = upstream.create("Box")
    upstream.append(key, message("old"))
    source = upstream.source()
    (item,) = source.changes(key, None, list).new
    upstream.delete(key)
    upstream.create("Box")
    upstream.append(key, message("new"))
    source.headers(b"INBOX", [1])
    with pytest.raises(UpstreamError) as caught:
        source.headers(key, [item.uid])
    assert caught.value.code == "uidvalidity"
    point = source.changes(key, None, list).point
    assert source.changes(key, point, list).reset is False
    assert b"Subject: new" in source.headers(key, [item.uid])[item.uid]


def test_a_highestmodseq_that_sticks_is_found_out_by_the_count(upstream: Upstream) -> None:
    mirror = Mirror(upstream.source(), b"INBOX")
    mirror.sync()
    gone = min(mirror.items)
    upstream.expunge(b"INBOX", gone)
    point = upstream.source().changes(b"INBOX", None, list).point
    assert mirror.point is not None
    # As if the server had told the new state without the loss that led to it.
    mirror.point = SyncPoint(point.uidvalidity, point.uidnext, point.highestmodseq, mirror.point.messages)
    assert mirror.sync().vanished == (gone,)


def test_a_pass_costs_one_round_trip_and_a_second_one_for_what_is_new(upstream: Upstream) -> None:
    mirror = Mirror(upstream.source(), b"INBOX")
    mirror.sync()
    before = mirror.source.round_trips
    mirror.sync()
    assert mirror.source.round_trips - before == 1
    upstream.flag(b"INBOX", 1, "\\Flagged")
    upstream.expunge(b"INBOX", 2)
    mirror.sync()
    assert mirror.source.round_trips - before == 2
    upstream.append(b"INBOX", message("new"))
    mirror.sync()
    assert mirror.source.round_trips - before == 4
    assert mirror.flags() == {1: {"\\flagged"}, 3: set(), 4: set()}


def test_what_may_be_written_is_told_by_every_pass(upstream: Upstream) -> None:
    key = upstream.create("Shown")
    source = upstream.source()
    for found in (source.changes(key, None, list), source.changes(key, None, list)):
        assert "\\*" in found.permanent_flags and not found.read_only
    upstream.command("SETACL", "Shown", f'"{upstream.user}"', "lra")
    assert upstream.source().changes(key, None, list).read_only


# --- watching


def test_a_watch_whose_connection_breaks_says_so_and_then_asks_for_a_pass(upstream: Upstream) -> None:
    watch = upstream.source().watch(b"INBOX")
    waiting = gevent.spawn(watch.wait, 60)
    gevent.idle()
    upstream.through.cut_all()
    with pytest.raises(UpstreamError):
        waiting.get(timeout=60)
    assert watch.wait(60) is not None  # who knows what was missed
    assert watch.wait(0.01) is None
    watch.close()


def test_changes_between_two_waits_are_not_missed(upstream: Upstream) -> None:
    watch = upstream.source().watch(b"INBOX")
    assert watch.wait(0.01) is None
    upstream.append(b"INBOX", message("between"))
    assert b"INBOX" in watch.wait(60)
    upstream.flag(b"INBOX", 1, "\\Flagged")
    assert b"INBOX" in watch.wait(60)
    upstream.expunge(b"INBOX", 1)
    assert b"INBOX" in watch.wait(60)
    watch.close()


def test_a_closed_source_refuses_work_and_ends_its_watches(upstream: Upstream) -> None:
    source = upstream.source()
    watch = source.watch(b"INBOX")
    waiting = gevent.spawn(watch.wait, 60)
    gevent.idle()
    source.close()
    assert waiting.get(timeout=60) is None
    with pytest.raises(UpstreamError):
        source.folders()
    with pytest.raises(UpstreamError):
        source.watch(b"INBOX")


def test_long_listings_let_other_greenlets_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_module, "SLICE", 0.0)
    turns = 0

    def other() -> None:
        nonlocal turns
        while True:
            gevent.sleep(0.00001)  # a timer: a greenlet that is merely ready is not what waits for a socket
            turns += 1

    job = gevent.spawn(other)
    assert list(access_module.paced(range(200), background=False)) == list(range(200)) and turns == 0
    assert list(access_module.paced(range(200))) == list(range(200)) and turns >= 3
    job.kill()


# --- the first connection


@pytest.mark.parametrize(("breaks", "connections"), [(1, 2), (2, 2)])
def test_a_server_that_breaks_at_the_first_questions_is_asked_once_more(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch, breaks: int, connections: int
) -> None:
    asked: list[Any] = []
    ask = access_module.features_of

    def broken(connection: Any) -> Any:
        asked.append(connection)
        if len(asked) <= breaks:
            upstream.through.cut_all()
        return ask(connection)

    monkeypatch.setattr(access_module, "features_of", broken)
    source = upstream.source()
    if breaks == 1:
        assert source.features.id_scheme == "x-guid"
    else:
        with pytest.raises(UpstreamError):
            source.folders()
    assert upstream.through.connections == len(asked) == connections


def test_two_first_connections_at_once_ask_the_first_questions_once(upstream: Upstream) -> None:
    source = upstream.source()
    jobs = [gevent.spawn(source.headers, b"INBOX", [uid]) for uid in (1, 2, 3)]
    gevent.joinall(jobs, timeout=120, raise_error=True)
    assert upstream.through.connections == 2
    assert len(upstream.through.sent("X-GUID")) == 1


def test_a_folder_that_a_connection_cannot_find_any_more_is_asked_for_on_another_one(upstream: Upstream) -> None:
    """Dovecot 2.3.19 says it for ever on a connection that knew the folder before its index was lost."""
    source = upstream.source()
    point = source.changes(b"INBOX", None, list).point
    upstream.append(b"INBOX", message("four"))
    before = upstream.through.connections
    refusal = ("(SELECT|EXAMINE) INBOX", "NO Mailbox was deleted under us (0.001 + 0.000 secs).")
    upstream.through.refuse.append(refusal)

    def met(line: bytes) -> None:
        if b"AUTHENTICATE" in line or b"LOGIN" in line:
            upstream.through.refuse.clear()

    upstream.through.met = met
    assert [item.uid for item in source.changes(b"INBOX", point, list).new] == [4]
    assert upstream.through.connections == before + 1
    upstream.through.refuse.append(refusal)
    upstream.through.met = lambda line: None
    with pytest.raises(UpstreamError, match="deleted under us"):
        source.changes(b"INBOX", point, list)
    assert upstream.through.connections == before + 2
