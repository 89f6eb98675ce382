"""Writing on a real Dovecot: how many commands and round trips it takes, and what a poor server makes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jmapplug_imap import appending
from jmapplug_imap.source import ImapSource

from jmapplug.backends import NewMessage
from jmapplug.errors import FolderError, UpstreamError
from jmapplug.testing.mail_source import message
from jmapplug.testing.mail_writing import new_message

Upstream = Any


@pytest.fixture
def upstream(dovecot: Any, open_upstream: Any) -> Upstream:
    return open_upstream(dovecot, proxied=True)


class Counted:
    """A source that notes its commands; ``commands(work)`` gives those of one piece of work, and the round trips."""

    def __init__(self, upstream: Upstream) -> None:
        self.source = ImapSource(upstream.settings(), upstream.user, record=True)
        self.validity = self.source.changes(b"INBOX", None, list).point.uidvalidity

    def commands(self, work: Callable[[], object]) -> tuple[list[str], int]:
        before, trips = len(self.source.commands), self.source.round_trips
        work()
        return self.source.commands[before:], self.source.round_trips - trips


@pytest.fixture
def counted(upstream: Upstream) -> Any:
    for n in range(3):
        upstream.append(b"INBOX", message(f"n{n}"))
    counted = Counted(upstream)
    yield counted
    counted.source.close()


def verbs(commands: list[str]) -> list[str]:
    return [" ".join(c.split(" ")[: 2 if c.startswith("UID") else 1]) for c in commands]


def test_a_flag_in_an_open_folder_is_one_round_trip(counted: Counted) -> None:
    source, validity = counted.source, counted.validity
    source.store(b"INBOX", validity, [1], ["\\Seen"], [])
    commands, trips = counted.commands(lambda: source.store(b"INBOX", validity, [1], ["\\Flagged"], ["\\Seen"]))
    assert trips == 1 and commands == ["UID STORE 1 +FLAGS (\\Flagged)", "UID STORE 1 -FLAGS (\\Seen)"]


def test_reading_does_not_close_a_folder_that_is_open_for_writing(counted: Counted) -> None:
    source = counted.source
    source.store(b"INBOX", counted.validity, [1], ["\\Seen"], [])
    commands, _ = counted.commands(
        lambda: (source.headers(b"INBOX", [1]), source.store(b"INBOX", counted.validity, [1], ["\\Flagged"], []))
    )
    assert verbs(commands) == ["UID FETCH", "UID STORE"]


def test_a_folder_opened_for_reading_is_opened_again_for_writing(counted: Counted) -> None:
    source = counted.source
    source.headers(b"INBOX", [1])
    source.changes(b"INBOX", None, list)  # EXAMINE now
    commands, _ = counted.commands(lambda: source.store(b"INBOX", counted.validity, [1], ["\\Seen"], []))
    assert verbs(commands) in (["SELECT", "UID STORE"], ["UID STORE"])


def test_many_flags_are_one_command(counted: Counted, tmp_path: Path) -> None:
    source = counted.source
    source.append(b"INBOX", [new_message(tmp_path, message(f"m{n}")) for n in range(97)])
    source.changes(b"INBOX", None, list)
    uids = list(range(1, 101))
    told: dict[int, tuple[str, ...]] = {}
    commands, _ = counted.commands(lambda: told.update(source.store(b"INBOX", counted.validity, uids, ["\\Seen"], [])))
    assert verbs(commands) == ["SELECT", "UID STORE"] and commands[1] == "UID STORE 1:100 +FLAGS (\\Seen)"
    assert set(told) == set(uids)


def test_a_set_that_is_too_long_for_one_line_goes_in_pieces_of_one_write(counted: Counted) -> None:
    uids = [1, 2, 3, *range(1_000_001, 1_006_001, 2)]
    source = counted.source
    source.store(b"INBOX", counted.validity, [1], ["\\Seen"], [])
    told: dict[int, tuple[str, ...]] = {}
    commands, trips = counted.commands(
        lambda: told.update(source.store(b"INBOX", counted.validity, uids, ["\\Flagged"], []))
    )
    assert set(told) == {1, 2, 3} and all(len(c) < 8_192 for c in commands)
    assert trips <= 12  # STORE, FETCH of the untold in chunks, NOOP and the same once more


def test_a_thousand_messages_are_removed_by_one_store_and_one_expunge(counted: Counted, tmp_path: Path) -> None:
    source = counted.source
    answers = source.append(b"INBOX", [new_message(tmp_path, message(str(n))) for n in range(200)])
    uids = [answer.uid or 0 for answer in answers]
    commands, _ = counted.commands(lambda: source.remove(b"INBOX", counted.validity, uids))
    assert verbs(commands).count("UID STORE") <= 2 and "UID FETCH" not in verbs(commands)
    assert [c for c in commands if "EXPUNGE" in c][-1] == f"UID EXPUNGE {uids[0]}:{uids[-1]}"


def test_a_hundred_messages_are_one_append(counted: Counted, tmp_path: Path) -> None:
    news = [new_message(tmp_path, message(str(n)) + b"x" * 10_000) for n in range(100)]
    answers: list[Any] = []
    commands, trips = counted.commands(lambda: answers.extend(counted.source.append(b"INBOX", news)))
    assert verbs(commands) == ["STATUS", "APPEND"] and trips == 1
    assert [answer.uid for answer in answers] == list(range(4, 104))


def test_an_append_is_cut_by_number_and_by_octets(
    counted: Counted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appending, "MESSAGES", 4)
    monkeypatch.setattr(appending, "OCTETS", 3_000)
    sizes = [10, 10, 10, 10, 10, 2_900, 2_900, 9_000, 10]
    news = [new_message(tmp_path, message("x") + b"y" * size) for size in sizes]
    answers: list[Any] = []
    commands, _ = counted.commands(lambda: answers.extend(counted.source.append(b"INBOX", news)))
    assert verbs(commands).count("APPEND") == 6 and [a.uid for a in answers] == list(range(4, 13))


def test_a_move_is_one_write_and_the_answer(counted: Counted, upstream: Upstream) -> None:
    target = upstream.create("Target")
    source = counted.source
    source.store(b"INBOX", counted.validity, [1], ["\\Seen"], [])
    commands, trips = counted.commands(lambda: source.move(b"INBOX", counted.validity, [1, 2], target))
    # MOVE is not sent before the questions are answered.
    assert verbs(commands) == ["STATUS", "UID FETCH", "UID MOVE"] and trips == 2


def test_a_move_of_messages_whose_names_are_known_asks_for_none_and_opens_the_folder_along(
    counted: Counted, upstream: Upstream
) -> None:
    target = upstream.create("Target")
    source = counted.source
    names = {item.uid: item.server_id or "" for item in source.items(b"INBOX", [1, 2, 3])}
    source.changes(target, None, list)  # the other folder is open now
    found: list[Any] = []
    commands, trips = counted.commands(
        lambda: found.append(source.move(b"INBOX", counted.validity, [1, 2], target, names))
    )
    assert verbs(commands) == ["SELECT", "STATUS", "UID MOVE"] and trips == 2
    commands, trips = counted.commands(
        lambda: found.append(source.move(b"INBOX", counted.validity, [3], target, names))
    )
    assert verbs(commands) == ["STATUS", "UID MOVE"] and trips == 2
    assert [uid for one in found for uid in one.uids.values()] == upstream.uids(target)


def test_a_folder_that_cannot_be_opened_is_told_whatever_was_asked_along(counted: Counted, upstream: Upstream) -> None:
    target = upstream.create("Target")
    with pytest.raises(FolderError):
        counted.source.move(b"Nowhere", 1, [1], target)
    with pytest.raises(UpstreamError) as caught:
        counted.source.move(b"INBOX", counted.validity + 1, [1], target)
    assert caught.value.code == "uidvalidity" and upstream.uids(target) == []


# --- what a server may do to us


def test_a_large_message_is_announced_before_it_is_sent(upstream: Upstream, counted: Counted, tmp_path: Path) -> None:
    large = new_message(tmp_path, message("large") + b"x" * 300_000)
    _, trips = counted.commands(lambda: counted.source.append(b"INBOX", [large]))
    assert trips == 2 and not [line for line in upstream.through.lines if b"{300" in line and b"+}" in line]


def test_a_refused_message_of_many_is_told_and_the_others_are_there(
    upstream: Upstream, counted: Counted, tmp_path: Path
) -> None:
    # The proxy refuses what it sees in a line: MULTIAPPEND first, and later the one message that holds the word.
    upstream.through.hide = {"LITERAL+"}
    upstream.through.refuse = [
        (r"APPEND INBOX .*\{777\}", "NO [TOOBIG] Too large"),
    ]
    body = message("fits")
    bad = body + b"z" * (777 - len(body))
    source = upstream.source()
    good = source.append(b"INBOX", [new_message(tmp_path, raw) for raw in (bad, body + b"1", body + b"2")])
    assert [answer.error.code if answer.error else None for answer in good] == ["toobig", None, None]
    assert upstream.uids(b"INBOX") == [1, 2, 3, good[1].uid, good[2].uid]


@pytest.mark.parametrize(
    ("text", "code"),
    [("OVERQUOTA", "overquota"), ("LIMIT", "limit"), ("CANNOT", "cannot"), ("UNAVAILABLE", "unavailable")],
)
def test_a_refusal_of_one_message_keeps_the_servers_code(
    upstream: Upstream, tmp_path: Path, text: str, code: str
) -> None:
    upstream.through.hide = {"LITERAL+"}
    upstream.through.refuse = [("APPEND", f"NO [{text}] no")]
    (answer,) = upstream.source().append(b"INBOX", [new_message(tmp_path, message("one"))])
    assert answer.uid is None and answer.error is not None and answer.error.code == code


@pytest.mark.parametrize("text", ["TRYCREATE", "NONEXISTENT", "NOPERM"])
def test_a_refusal_of_the_folder_is_raised(upstream: Upstream, tmp_path: Path, text: str) -> None:
    upstream.through.hide = {"LITERAL+"}
    upstream.through.refuse = [("APPEND", f"NO [{text}] no")]
    with pytest.raises(UpstreamError) as caught:
        upstream.source().append(b"INBOX", [new_message(tmp_path, message("one"))] * 2)
    assert caught.value.code == text.lower()


def test_a_folder_that_is_read_only_is_not_written_to(upstream: Upstream) -> None:
    uid = upstream.append(b"INBOX", message("one"))
    validity = upstream.source().changes(b"INBOX", None, list).point.uidvalidity
    upstream.command("SETACL", "INBOX", "owner", "lr")
    source = upstream.source()
    for write in (
        lambda: source.store(b"INBOX", validity, [uid], ["\\Seen"], []),
        lambda: source.remove(b"INBOX", validity, [uid]),
        lambda: source.move(b"INBOX", validity, [uid], b"Trash"),
    ):
        with pytest.raises(UpstreamError) as caught:
            write()
        assert caught.value.code == "noperm"
    upstream.command("SETACL", "INBOX", "owner", "lrwstipekxa")
    assert upstream.uids(b"INBOX") == [uid]


def test_a_flag_that_is_no_flag_never_reaches_the_server(upstream: Upstream, tmp_path: Path) -> None:
    uid = upstream.append(b"INBOX", message("one"))
    source = upstream.source()
    validity = source.changes(b"INBOX", None, list).point.uidvalidity
    for flag in ("a b", "x)", "a\r\nb LOGOUT", "", "\\", "{3}", "é"):
        with pytest.raises(UpstreamError) as caught:
            source.store(b"INBOX", validity, [uid], [flag], [])
        assert caught.value.code == "cannot"
        bad, good = source.append(
            b"INBOX", [new_message(tmp_path, message("bad"), [flag]), new_message(tmp_path, message("good"))]
        )
        assert bad.error is not None and bad.error.code == "cannot" and good.uid is not None


def test_a_message_over_the_announced_limit_is_not_sent(upstream: Upstream, tmp_path: Path) -> None:
    source = upstream.source()
    assert source.features
    source._access.capabilities |= {"APPENDLIMIT=500"}
    answers = source.append(
        b"INBOX", [new_message(tmp_path, message("large") + b"x" * 500), new_message(tmp_path, message("small"))]
    )
    assert answers[0].error is not None and answers[0].error.code == "toobig" and answers[1].uid == 1
    assert len(upstream.through.sent("APPEND")) == 1


def test_a_file_that_is_shorter_than_said_is_an_error_and_no_message(upstream: Upstream, tmp_path: Path) -> None:
    honest = new_message(tmp_path, message("short"))
    source = upstream.source()
    with pytest.raises(UpstreamError):
        source.append(b"INBOX", [NewMessage(honest.path, honest.size + 100)])
    assert upstream.uids(b"INBOX") == [] and source.append(b"INBOX", [honest])[0].uid == 1


def test_a_view_of_a_folder_that_was_expunged_elsewhere_is_renewed(upstream: Upstream) -> None:
    target = upstream.create("Target")
    uids = [upstream.append(b"INBOX", message(str(n))) for n in range(3)]
    source = upstream.source()
    validity = source.changes(b"INBOX", None, list).point.uidvalidity
    source.store(b"INBOX", validity, uids, ["\\Seen"], [])
    upstream.expunge(b"INBOX", uids[1])
    assert set(source.store(b"INBOX", validity, uids, ["\\Flagged"], [])) == {uids[0], uids[2]}
    upstream.expunge(b"INBOX", uids[0])
    assert set(source.copy(b"INBOX", validity, uids, target).uids) == {uids[2]}
    assert set(source.remove(b"INBOX", validity, uids)) == set(uids) and upstream.uids(b"INBOX") == []


@pytest.mark.parametrize("fresh", [False, True])
def test_an_expunge_that_did_not_see_the_flag_before_it_is_said_once_more(upstream: Upstream, fresh: bool) -> None:
    """Dovecot 2.3, when it begins a new index log between the two: OK, and the message is there (seen end to end)."""
    uids = [upstream.append(b"INBOX", message(str(n))) for n in range(2)]
    source = upstream.source()
    validity = source.changes(b"INBOX", None, list).point.uidvalidity
    if fresh:
        source.changes(b"Trash", None, list)
    upstream.through.refuse = [("UID EXPUNGE", "OK Expunge completed")]

    def met(line: bytes) -> None:
        if len(upstream.through.sent("UID EXPUNGE")) > 1:
            upstream.through.refuse = []

    upstream.through.met = met
    assert source.remove(b"INBOX", validity, uids[:1]) == uids[:1]
    assert upstream.uids(b"INBOX") == uids[1:] and len(upstream.through.sent("UID EXPUNGE")) == 2


def test_a_server_that_removes_nothing_is_told(upstream: Upstream) -> None:
    uid = upstream.append(b"INBOX", message("one"))
    source = upstream.source()
    validity = source.changes(b"INBOX", None, list).point.uidvalidity
    upstream.through.refuse = [("UID EXPUNGE", "OK Expunge completed")]
    with pytest.raises(UpstreamError, match="does not remove"):
        source.remove(b"INBOX", validity, [uid])
    assert len(upstream.through.sent("UID EXPUNGE")) == 2


def test_a_special_use_is_asked_for_where_it_is_offered(upstream: Upstream) -> None:
    source = upstream.source()
    key = source.create_folder(None, "Meine Gesendeten", "sent")
    asked = upstream.through.sent("USE (\\Sent)")
    assert bool(asked) is source.features.special_use
    assert key in {f.key for f in source.folders()}


def test_a_special_use_that_is_refused_does_not_cost_the_folder(upstream: Upstream) -> None:
    upstream.through.refuse = [(r"CREATE .*USE", "NO [USEATTR] not this one")]
    source = upstream.source()
    assert source.features
    source.folders()
    access = source._access
    original = type(access.pool).run

    def offered(pool: Any, work: Any, *args: Any, **more: Any) -> Any:
        def wrapped(connection: Any) -> Any:
            connection.capabilities |= {"CREATE-SPECIAL-USE"}
            return work(connection)

        return original(pool, wrapped, *args, **more)

    access.pool.run = offered.__get__(access.pool)  # type: ignore[method-assign]
    key = source.create_folder(None, "Meine", "sent")
    assert key in {f.key for f in source.folders()} and upstream.through.sent("USE (\\Sent)")


def test_a_folder_that_list_loses_is_listed_all_the_same(upstream: Upstream) -> None:
    # Dovecot 2.3.19 with its list index: the connection that made these changes does not list "C" at the end.
    source = upstream.source()
    source.folders()
    source.create_folder(None, "C")
    upstream.command("RENAME", "C", "D")
    nested = source.create_folder(None, "B")
    inner = source.create_folder(nested, "K")
    source.delete_folder(inner)
    source.delete_folder(nested)
    source.delete_folder(b"D")
    source.create_folder(None, "B")
    upstream.command("CREATE", "C")
    assert b"C" in {f.key for f in source.folders() if f.selectable}


def test_folders_are_listed_by_a_connection_that_has_changed_none(upstream: Upstream) -> None:
    source = upstream.source()
    source.folders()
    assert upstream.through.connections == 1
    source.create_folder(None, "One")
    source.create_folder(None, "Two")
    source.folders()
    assert upstream.through.connections == 2
    source.folders()  # soon after a change on yet another one (listing_trust)
    assert upstream.through.connections in (2, 3)


def test_a_view_from_before_the_folder_was_replaced_is_opened_anew(upstream: Upstream, tmp_path: Path) -> None:
    """What Dovecot 2.3 answers in such a view is played by the proxy.

    The real one sometimes takes the new folder's transaction log for a broken one of the old folder ("indexid changed",
    one time in 30) and starts its index anew without the message: whoever has the folder open does it, not only we.
    """
    source = upstream.source()
    source.create_folder(None, "Box")
    (answer,) = source.append(b"Box", [new_message(tmp_path, message("old"))])
    old = answer.uidvalidity or 0
    source.store(b"Box", old, [1], ["\\Seen"], [])  # open on our connection
    upstream.delete(b"Box")
    upstream.create("Box")
    upstream.append(b"Box", message("new"))
    upstream.through.refuse = [(r"UID STORE 1 \+FLAGS \(.Flagged", "NO [SERVERBUG] Internal error occurred.")]
    with pytest.raises(UpstreamError) as caught:
        source.store(b"Box", old, [1], ["\\Flagged"], [])
    assert caught.value.code == "uidvalidity"
    upstream.through.refuse = []
    new = source.changes(b"Box", None, list)
    assert [item.flags for item in new.new] == [()]
    assert source.store(b"Box", new.point.uidvalidity, [1], ["\\Flagged"], []) == {1: ("\\Flagged",)}
