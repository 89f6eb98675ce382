"""A connection that breaks while something is written: nothing is lost, nothing there twice, nothing said wrongly.

The sweeps cut a real Dovecot's connection after each so many octets, in either direction, once or for good, and then
look through another client's eyes at what is really there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jmapplug_imap import looking, pool
from jmapplug_imap.source import ImapSource

from jmapplug.errors import UpstreamError
from jmapplug.testing.mail_source import message
from jmapplug.testing.mail_writing import new_message

Upstream = Any
POORER = {
    "rich": set(),
    "bare": {"UIDPLUS", "MULTIAPPEND", "LITERAL+", "QRESYNC", "CONDSTORE", "UNSELECT"},
}
WAYS = [("cut_after", 1), ("cut_after", 10**6), ("cut_up_after", 1), ("cut_up_after", 10**6)]


@pytest.fixture
def upstream(dovecot: Any, open_upstream: Any) -> Upstream:
    return open_upstream(dovecot, proxied=True)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "GRACE", 0.0)
    monkeypatch.setattr(pool, "PATIENCE", 0.0)


class Sweep:
    """Runs one piece of work again and again, cut at another place each time. ``work`` gets a source with known

    features; the octets of its login are not swept over. Yields (the source's answer or error) after the cuts ended.
    """

    def __init__(self, upstream: Upstream, hide: set[str], way: str, cuts: int) -> None:
        self.upstream, self.proxy, self.way, self.cuts = upstream, upstream.through, way, cuts
        self.proxy.hide = hide
        self.done = self.failed = 0

    def source(self) -> ImapSource:
        return ImapSource(self.upstream.settings(), self.upstream.user)

    def passes(self, source: ImapSource) -> int:
        connection = source._access.pool._interactive.connection or source._access.pool._sync.connection
        assert connection is not None
        return connection.bytes_in if self.way == "cut_after" else connection.bytes_out

    def over(self, work: Callable[[ImapSource], Any], steps: int = 25) -> Iterator[Any]:
        """``work``'s answers or UpstreamErrors, one for each place of a cut."""
        self.proxy.cut_after = self.proxy.cut_up_after = None
        source = self.source()
        source._access.run(lambda connection: None)
        start = self.passes(source)
        yield work(source)
        end = self.passes(source)
        source.close()
        for at in range(start + 1, end + 30, max((end - start) // steps, 1)):
            source = self.source()
            source._access.run(lambda connection: None)
            setattr(self.proxy, self.way, at)
            self.proxy.cuts = self.cuts
            try:
                answer = work(source)
                self.done += 1
            except UpstreamError as error:
                answer = error
                self.failed += 1
            finally:
                setattr(self.proxy, self.way, None)
                source.close()
            yield answer


@pytest.fixture(params=WAYS, ids=lambda way: f"{way[0]}-{'once' if way[1] == 1 else 'always'}")
def sweep(request: pytest.FixtureRequest, upstream: Upstream, _hide: set[str]) -> Sweep:
    return Sweep(upstream, _hide, *request.param)


@pytest.fixture(params=list(POORER))
def _hide(request: pytest.FixtureRequest) -> set[str]:
    return POORER[request.param]


def validity(upstream: Upstream, key: bytes = b"INBOX") -> int:
    return int(upstream.client.status(key.decode(), "(UIDVALIDITY)")[1][0].split()[-1].rstrip(b")"))


def test_an_appended_message_is_there_once_or_not_at_all(upstream: Upstream, sweep: Sweep, tmp_path: Path) -> None:
    news = [new_message(tmp_path, message(name)) for name in ("one", "two", "three")]
    before: list[int] = []
    for answer in sweep.over(lambda source: source.append(b"INBOX", news)):
        now = upstream.uids(b"INBOX")
        came = [uid for uid in now if uid not in before]
        before = now
        if isinstance(answer, UpstreamError):
            assert answer.code == "unsure" or came == [], answer
            continue
        told = [one.uid for one in answer if one.uid is not None]
        unsure = sum(one.error is not None and one.error.code == "unsure" for one in answer)
        assert set(told) <= set(came) and len(set(told)) == len(told)
        assert len(came) <= len(told) + unsure and len(came) <= 3, answer
    assert sweep.done and sweep.done + sweep.failed >= 20


def names_of(upstream: Upstream, uids: list[int]) -> dict[int, str]:
    """What the server calls these messages of INBOX."""
    source = ImapSource(upstream.settings(imapHost=upstream.server.host, imapPort=upstream.server.port), upstream.user)
    try:
        return {item.uid: item.server_id or "" for item in source.items(b"INBOX", uids)}
    finally:
        source.close()


@pytest.mark.parametrize("verb", ["move", "known", "copy"])
def test_a_transferred_message_is_never_lost_and_never_there_twice(upstream: Upstream, sweep: Sweep, verb: str) -> None:
    target = upstream.create("Target")
    known = [validity(upstream)]
    uids: list[int] = []

    def work(source: ImapSource) -> Any:
        uids[:] = [upstream.append(b"INBOX", message(f"{verb}{n}")) for n in range(3)]
        if verb == "known":
            return source.move(b"INBOX", known[0], uids, target, names_of(upstream, uids))
        return getattr(source, verb)(b"INBOX", known[0], uids, target)

    for answer in sweep.over(work):
        left, came = upstream.uids(b"INBOX"), upstream.uids(target)
        if verb == "copy":
            assert left == uids and len(came) in (0, 3), answer
        else:
            assert len(left) + len(came) == 3, answer
        if not isinstance(answer, UpstreamError):
            assert sorted(answer.uids.values()) == came and set(answer.uids) <= set(uids)
            assert verb == "copy" or set(answer.uids) == set(uids) - set(left)
        elif answer.code != "unsure":
            assert came == [], answer
        for key, there in ((b"INBOX", left), (target, came)):
            for uid in there:
                upstream.expunge(key, uid)
    assert sweep.done and sweep.done + sweep.failed >= 20


def test_flags_are_as_told(upstream: Upstream, sweep: Sweep) -> None:
    uid = upstream.append(b"INBOX", message("one"))
    known = validity(upstream)
    for answer in sweep.over(lambda source: source.store(b"INBOX", known, [uid], ["\\Seen"], ["\\Flagged"])):
        if not isinstance(answer, UpstreamError):
            assert {flag.lower() for flag in answer[uid]} == {"\\seen"}
            assert upstream.search("SEEN UNFLAGGED") == [uid]
        upstream.flag(b"INBOX", uid, "\\Seen", on=False)
        upstream.flag(b"INBOX", uid, "\\Flagged")
    assert sweep.done


def test_what_is_removed_is_really_gone(upstream: Upstream, sweep: Sweep) -> None:
    known = validity(upstream)
    uids: list[int] = []

    def work(source: ImapSource) -> Any:
        uids[:] = [upstream.append(b"INBOX", message(str(n))) for n in range(3)]
        return source.remove(b"INBOX", known, uids[:2])

    for answer in sweep.over(work):
        left = upstream.uids(b"INBOX")
        assert uids[2] in left
        if not isinstance(answer, UpstreamError):
            assert left == [uids[2]] and answer == uids[:2]
        for uid in left:
            upstream.expunge(b"INBOX", uid)
    assert sweep.done


def test_folders_are_what_was_said(upstream: Upstream, sweep: Sweep) -> None:
    number = iter(range(10_000))
    names: list[str] = []

    def work(source: ImapSource) -> Any:
        names[:] = [f"A{next(number)}", f"B{next(number)}"]
        steps = ["create", "rename", "delete"]
        done = []
        try:
            key = source.create_folder(None, names[0])
            done.append(steps[0])
            key = source.rename_folder(key, None, names[1])
            done.append(steps[1])
            source.delete_folder(key)
            done.append(steps[2])
        except UpstreamError as error:
            return done, error
        return done, None

    for done, error in sweep.over(work):
        there = [bool(upstream.client.status(name, "(MESSAGES)")[0] == "OK") for name in names]
        if error is None:
            assert there == [False, False], done
        else:
            assert error.code is None, (done, error.code)  # a cut: never "exists" or "not there" by our own doing
            assert sum(there) <= 1
            if done == ["create"]:
                assert any(there)
        for name, exists in zip(names, there, strict=True):
            if exists:
                upstream.delete(name.encode())


# --- single faults


@pytest.mark.parametrize("hide", POORER.values(), ids=list(POORER))
def test_a_lost_answer_to_an_append_is_found_out(upstream: Upstream, tmp_path: Path, hide: set[str]) -> None:
    proxy = upstream.through
    proxy.hide = hide
    upstream.append(b"INBOX", message("one"))  # an equal one from before is not taken for ours
    source = upstream.source()
    assert source.features
    proxy.lose, proxy.cuts = "Append completed", 1
    (answer,) = source.append(b"INBOX", [new_message(tmp_path, message("one"))])
    assert answer.error is None and upstream.uids(b"INBOX") == [1, answer.uid] and proxy.cuts == 0


def test_an_append_of_which_nobody_can_find_out_is_unsure(upstream: Upstream, tmp_path: Path) -> None:
    proxy = upstream.through
    source = upstream.source()
    assert source.features
    proxy.lose, proxy.cuts = "Append completed|Logged in", 10**6
    (answer,) = source.append(b"INBOX", [new_message(tmp_path, message("one"))])
    assert answer.error is not None and answer.error.code == "unsure" and upstream.uids(b"INBOX") == [1]


def test_a_connection_that_was_dead_already_costs_only_another_attempt(upstream: Upstream, tmp_path: Path) -> None:
    source = upstream.source()
    target = upstream.create("Target")
    news = [new_message(tmp_path, message("one"))]
    (first,) = source.append(b"INBOX", news)
    for again in (
        lambda: source.append(b"INBOX", news)[0].uid,
        lambda: source.copy(b"INBOX", first.uidvalidity or 0, [1], target).uids,
        lambda: source.move(b"INBOX", first.uidvalidity or 0, [1], target).uids,
    ):
        upstream.through.cut_all()
        assert again()
    assert upstream.uids(b"INBOX") == [2] and len(upstream.uids(target)) == 2


@pytest.mark.parametrize("verb", ["copy", "move", "known"])
@pytest.mark.parametrize("hide", POORER.values(), ids=list(POORER))
def test_a_lost_answer_to_a_transfer_is_found_out(upstream: Upstream, verb: str, hide: set[str]) -> None:
    proxy = upstream.through
    proxy.hide = hide
    target = upstream.create("Target")
    upstream.append(target, message("one"))
    uids = [upstream.append(b"INBOX", message(name)) for name in ("one", "two")]
    source = upstream.source()
    known = source.changes(b"INBOX", None, list).point.uidvalidity
    names = [names_of(upstream, uids)] if verb == "known" else []
    proxy.lose, proxy.cuts = "(Copy|Move) completed|COPYUID", 1
    found = getattr(source, "copy" if verb == "copy" else "move")(b"INBOX", known, uids, target, *names)
    assert set(found.uids) == set(uids) and proxy.cuts == 0
    assert sorted(found.uids.values()) == upstream.uids(target)[1:] and len(upstream.uids(target)) == 3


def test_a_folder_that_is_in_use_is_left_and_tried_again(upstream: Upstream) -> None:
    source = upstream.source()
    key = source.create_folder(None, "Box")
    upstream.through.refuse = [("DELETE Box", "NO [INUSE] somebody reads it")]
    with pytest.raises(UpstreamError) as caught:
        source.delete_folder(key)
    assert caught.value.code == "inuse" and len(upstream.through.sent("DELETE Box")) == 2


def test_a_message_that_is_stored_late_is_found_all_the_same(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server had it all and is still busy with it when we look for the first time."""
    proxy = upstream.through
    source = upstream.source()
    assert source.features
    raw = b"Subject: late\r\nMessage-ID: <late@example.org>\r\n"
    late = new_message(tmp_path, raw)
    proxy.refuse = [(r"^\r\n$", None)]  # the end of the command: cut there, and another client's hand stores it
    arrive = [True]

    def grace(seconds: float) -> None:
        if arrive.pop():
            upstream.append(b"INBOX", raw)

    monkeypatch.setattr(looking.gevent, "sleep", grace)
    (answer,) = source.append(b"INBOX", [late])
    assert answer.error is None and upstream.uids(b"INBOX") == [answer.uid] and not arrive


@pytest.mark.parametrize("verb", ["copy", "move"])
@pytest.mark.parametrize("late", [True, False])
def test_a_transfer_that_the_server_may_be_at_is_not_sent_again(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch, verb: str, late: bool
) -> None:
    """The connection breaks, and the server goes on: another client's hand does what it does."""
    proxy = upstream.through
    target = upstream.create("Target")
    uid = upstream.append(b"INBOX", message("one"))
    source = upstream.source()
    here = source.changes(b"INBOX", None, list).point.uidvalidity
    proxy.refuse = [(f"UID {verb.upper()}", None)]
    slow = [True] if late else []

    def grace(seconds: float) -> None:
        if slow and slow.pop():
            upstream._select(b"INBOX")
            upstream.client.uid(verb, str(uid), "Target")

    monkeypatch.setattr(looking.gevent, "sleep", grace)
    if late:
        found = getattr(source, verb)(b"INBOX", here, [uid], target)
        assert found.uids == {uid: 1} and not slow
    else:
        with pytest.raises(UpstreamError) as caught:
            getattr(source, verb)(b"INBOX", here, [uid], target)
        assert caught.value.code is None and caught.value.temporary
    assert upstream.uids(target) == [1] * late and len(proxy.sent(f"UID {verb}")) == 1


def test_flags_that_the_server_does_not_tell_are_asked_for(upstream: Upstream) -> None:
    uids = [upstream.append(b"INBOX", message(name)) for name in ("one", "two")]
    source = upstream.source()
    known = source.changes(b"INBOX", None, list).point.uidvalidity
    upstream.through.swallow = [r"^\* 1 FETCH", r"^\* 2 FETCH"]
    told = source.store(b"INBOX", known, uids, ["\\Seen"], [])
    assert {uid: [flag.lower() for flag in flags] for uid, flags in told.items()} == {uid: ["\\seen"] for uid in uids}
    assert not upstream.through.swallow


@pytest.mark.parametrize("known", [False, True])
def test_a_move_that_fails_half_way_tells_what_it_did(upstream: Upstream, known: bool) -> None:
    target = upstream.create("Target")
    uids = [upstream.append(b"INBOX", message(name)) for name in ("one", "two")]
    source = upstream.source()
    names = names_of(upstream, uids) if known else {}
    here = source.changes(b"INBOX", None, list).point.uidvalidity
    moved: list[int] = []

    def half(line: bytes) -> None:
        if b"UID MOVE" in line:
            moved.append(upstream.move(b"INBOX", uids[0], target))

    upstream.through.met = half
    upstream.through.refuse = [("UID MOVE", "NO [OVERQUOTA] only the first one fitted")]
    found = source.move(b"INBOX", here, uids, target, names)
    assert found.uids == {uids[0]: moved[0]} and upstream.uids(b"INBOX") == [uids[1]]


def test_a_move_without_copyuid_in_the_answer_is_found_by_the_names(upstream: Upstream) -> None:
    """RFC 4315 §3: a server may leave it out; and one of the messages has been gone for a while."""
    target = upstream.create("Target")
    uids = [upstream.append(b"INBOX", message(name)) for name in ("one", "two", "three")]
    names = names_of(upstream, uids)
    upstream.expunge(b"INBOX", uids[1])
    source = upstream.source()
    here = source.changes(b"INBOX", None, list).point.uidvalidity
    upstream.through.swallow = ["COPYUID"]
    found = source.move(b"INBOX", here, uids, target, names)
    assert not upstream.through.swallow
    assert found.uids == dict(zip((uids[0], uids[2]), upstream.uids(target), strict=True))
    assert upstream.uids(b"INBOX") == []


@pytest.mark.parametrize("verb", ["copy", "move"])
@pytest.mark.parametrize("opened", [False, True])
def test_answers_in_another_order_are_answers_all_the_same(upstream: Upstream, verb: str, opened: bool) -> None:
    """RFC 9051 §5.5: the messages' names come before the STATUS that was asked for first, and then the end is lost."""
    proxy = upstream.through
    target = upstream.create("Target")
    uids = [upstream.append(b"INBOX", message(name)) for name in ("one", "two")]
    source = upstream.source()
    here = source.changes(b"INBOX", None, list).point.uidvalidity
    if opened:
        source.store(b"INBOX", here, uids, ["\\Seen"], [])
    hidden, late = proxy._hidden, list[bytes]()
    told: list[bytes] = []

    def said(line: bytes) -> bytes:
        line = bytes(hidden(line))
        if not told and (b"* STATUS Target" in line or b"OK Status completed" in line):
            late.append(line)
            return b""
        if late and not told and b"OK Fetch completed" in line:
            told.extend([line, *late])
            return b"".join(told)
        return line

    proxy._hidden = said
    proxy.lose, proxy.cuts = "(Copy|Move) completed|COPYUID", 1
    found = getattr(source, verb)(b"INBOX", here, uids, target)
    assert len(told) == 3 and proxy.cuts == 0
    assert found.uids == dict(zip(uids, upstream.uids(target), strict=True))


@pytest.mark.parametrize("damage", ["no name", "refused"])
def test_a_message_without_a_name_is_not_copied_a_second_time(upstream: Upstream, damage: str) -> None:
    proxy = upstream.through
    target = upstream.create("Target")
    uids = [upstream.append(b"INBOX", message(name)) for name in ("one", "two")]
    source = upstream.source()
    here = source.changes(b"INBOX", None, list).point.uidvalidity
    hidden = proxy._hidden
    if damage == "refused":
        proxy.refuse = [("UID FETCH .*X-GUID", "NO it is broken")]
    else:
        proxy._hidden = lambda line: re.sub(rb"(FETCH \(UID 2) X-GUID \S+\)", rb"\1)", bytes(hidden(line)))
    proxy.lose, proxy.cuts = "Copy completed|COPYUID", 1
    with pytest.raises(UpstreamError) as caught:
        source.copy(b"INBOX", here, uids, target)
    assert caught.value.code == "unsure" and len(upstream.uids(target)) == 2


def telling(upstream: Upstream, copyuid: Callable[[bytes, bytes], bytes]) -> None:
    """From now on COPYUID tells of other messages: ``copyuid`` (source UIDs, target UIDs)."""
    hidden = upstream.through._hidden

    def said(line: bytes) -> bytes:
        pattern = rb"(COPYUID \d+ )([\d:,]+) ([\d:,]+)"
        return re.sub(pattern, lambda found: found[1] + copyuid(found[2], found[3]), bytes(hidden(line)))

    upstream.through._hidden = said


@pytest.mark.parametrize("verb", ["copy", "move", "known"])
@pytest.mark.parametrize("told", ["some", "others"])
def test_what_copyuid_does_not_name_is_looked_for(upstream: Upstream, verb: str, told: str) -> None:
    target = upstream.create("Target")
    uids = [upstream.append(b"INBOX", message("one")) for _ in range(3)]
    names = [names_of(upstream, uids)] if verb == "known" else []
    source = upstream.source()
    here = source.changes(b"INBOX", None, list).point.uidvalidity
    telling(upstream, lambda old, new: b"1 1" if told == "some" else b"71:73 1:3")
    found = getattr(source, "copy" if verb == "copy" else "move")(b"INBOX", here, uids, target, *names)
    assert found.uids == dict(zip(uids, upstream.uids(target), strict=True))


@pytest.mark.parametrize("verb", ["copy", "move", "known"])
@pytest.mark.parametrize("cut", [True, False], ids=["cut", "untold"])
def test_a_target_of_which_the_server_tells_nothing_leaves_a_transfer_unsure(
    upstream: Upstream, verb: str, cut: bool
) -> None:
    """Without the right to read there: never a second copy, and never "the message is gone"."""
    target = upstream.create("Target")
    uids = [upstream.append(b"INBOX", message(name)) for name in ("one", "two")]
    names = [names_of(upstream, uids)] if verb == "known" else []
    source = upstream.source()
    here = source.changes(b"INBOX", None, list).point.uidvalidity
    proxy = upstream.through
    proxy.refuse = [("STATUS Target", "NO [NOPERM] not for you")]
    if cut:
        proxy.lose, proxy.cuts = "(Copy|Move) completed|COPYUID", 1
    else:
        proxy.swallow = ["COPYUID"] if verb != "copy" else []
        telling(upstream, lambda old, new: b"none none")
    with pytest.raises(UpstreamError) as caught:
        getattr(source, "copy" if verb == "copy" else "move")(b"INBOX", here, uids, target, *names)
    assert caught.value.code == "unsure" and len(upstream.uids(target)) == 2
