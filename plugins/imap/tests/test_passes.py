"""Passes over a folder of a server that answers oddly, in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any
from unittest import mock

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jmapplug_imap import passes as passes_module
from jmapplug_imap.passes import Passes, is_reset
from jmapplug_imap.protocol.dialogue import Result
from jmapplug_imap.protocol.fetch import FetchRow
from jmapplug_imap.protocol.responses import Search
from jmapplug_imap.protocol.selecting import Selected
from jmapplug_imap.protocol.sets import parse

from jmapplug.backends import Features, Item, SyncPoint
from jmapplug.errors import UpstreamError


class Box(msgspec.Struct):
    """A mailbox: uid → (flags, modseq). ``mute``: no row tells of these."""

    messages: dict[int, tuple[tuple[str, ...], int]]
    uidvalidity: int | None = 1
    uidnext: int | None = None
    modseq: int = 0
    gone: list[tuple[int, int]] = []
    late: list[int] = []
    mute: set[int] = set()


class Connection:
    """The server's half: SELECT and UID FETCH over a Box."""

    def __init__(self, box: Box, qresync: bool) -> None:
        self.box = box
        self.enabled = frozenset({"QRESYNC"} if qresync else ())
        self.fetched: list[str] = []

    def select(self, qresync: tuple[int, int] | None, read_only: bool) -> Selected:
        box = self.box
        rows: tuple[FetchRow, ...] = ()
        if qresync and qresync[0] == box.uidvalidity:
            rows = tuple(
                FetchRow(seq, uid, flags=flags)
                for seq, (uid, (flags, modseq)) in enumerate(sorted(box.messages.items()), 1)
                if modseq > qresync[1]
            )
        return Selected(
            b"x",
            len(box.messages),
            box.uidvalidity,
            box.uidnext,
            box.modseq,
            read_only=read_only,
            vanished=tuple(box.gone) if qresync else (),
            rows=rows,
        )

    def fetch(
        self, uids: str | list[int], items: Sequence[str], uid: bool = True, modifiers: Sequence[Any] = (), **_: Any
    ) -> Iterator[FetchRow]:
        if not isinstance(uids, str):
            return (row for row in self._rows("1:*", items, modifiers) if row.uid in uids)
        self.fetched.append(uids)
        if not uid:
            there = sorted(self.box.messages)
            return (FetchRow(int(seq), there[int(seq) - 1]) for seq in uids.split(",") if seq)
        return self._rows(uids, items, modifiers)

    def _rows(self, uids: str, items: Sequence[str], modifiers: Sequence[Any]) -> Iterator[FetchRow]:
        for seq, uid in enumerate(self._named(uids), 1):
            flags, modseq = self.box.messages.get(uid, ((), 10**9))
            if uid not in self.box.mute and (not modifiers or modseq > modifiers[1]):
                yield FetchRow(seq, uid, flags=flags, received_at=uid if "INTERNALDATE" in items else None)

    def _named(self, uids: str) -> list[int]:
        there = sorted([*self.box.messages, *self.box.late])
        ranges = parse(uids.replace("*", str(there[-1] if there else 0)).encode())
        return [uid for uid in there if any(low <= uid <= high for low, high in ranges)]

    def has(self, name: str) -> bool:
        return False

    def command(self, *words: str) -> Result:
        assert words[:2] == ("UID SEARCH", "UID")
        return Result("", None, [Search(tuple(self._named(words[2])), None)])


class Access:
    """As much of the real one as a pass uses."""

    features = Features(condstore=True)

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.validity: dict[bytes, int] = {}
        self.rights: dict[bytes, str] = {}

    def run(self, work: Callable[[Any], Any], background: bool = False) -> Any:
        return work(self.connection)

    def view(self, connection: Connection, key: bytes, validity: int) -> bool:
        assert validity == connection.box.uidvalidity
        return False

    def select(self, connection: Connection, key: bytes, *, read_only: bool, qresync: Any = None) -> Selected:
        return connection.select(qresync, read_only)


def passes(box: Box, qresync: bool = False) -> tuple[Passes, Connection]:
    connection = Connection(box, qresync)
    return Passes(Access(connection)), connection  # type: ignore[arg-type]


def box(*uids: int, **more: Any) -> Box:
    return Box(dict.fromkeys(uids, ((), 1)), **({"uidnext": max(uids, default=0) + 1} | more))


def test_a_server_that_does_not_tell_uidnext_is_read_all_the_same() -> None:
    runner, connection = passes(box(3, 5, uidnext=None))
    first = runner.changes(b"x", None, list)
    assert [i.uid for i in first.new] == [3, 5] and first.point.uidnext == 6
    assert runner.changes(b"x", first.point, lambda: [3, 5]).new == ()  # n:* names the last message again
    connection.box.messages[9] = ((), 2)
    second = runner.changes(b"x", first.point, lambda: [3, 5])
    assert [i.uid for i in second.new] == [9] and second.point.uidnext == 10 and not second.reset


def test_no_uidvalidity_is_an_error() -> None:
    with pytest.raises(UpstreamError):
        passes(box(1, uidvalidity=None))[0].changes(b"x", None, list)


def test_what_arrives_after_the_select_waits_for_the_next_pass() -> None:
    runner, connection = passes(box(1, 2, late=[3]))
    first = runner.changes(b"x", None, list)
    assert [i.uid for i in first.new] == [1, 2] and first.point.uidnext == 3
    connection.box = box(1, 2, 3)
    assert [i.uid for i in runner.changes(b"x", first.point, lambda: [1, 2]).new] == [3]


def test_a_vanished_set_of_four_billion_is_not_written_out() -> None:
    top = 4_000_000_000
    runner, _ = passes(Box({7: ((), 1)}, 1, top, 9, [(1, 6), (8, 4_294_967_295)]), qresync=True)
    found = runner.changes(b"x", SyncPoint(1, top, 5, 3), lambda: [4, 7, 3_999_999_999])
    assert found.vanished == (4, 3_999_999_999)


def test_vanished_numbers_that_were_never_known_do_no_harm() -> None:
    runner, _ = passes(Box({2: ((), 1)}, 1, 10, 9, [(1, 1), (3, 9)]), qresync=True)
    assert runner.changes(b"x", SyncPoint(1, 10, 5, 2), lambda: [1, 2]).vanished == (1,)


@pytest.mark.parametrize("modseq", [0, 3])
def test_a_modseq_that_is_lost_or_went_back_means_comparing_everything(modseq: int) -> None:
    runner, connection = passes(Box({1: (("\\Seen",), 1), 2: ((), 1)}, 1, 4, modseq), qresync=True)
    found = runner.changes(b"x", SyncPoint(1, 4, 5, 3), lambda: [1, 2, 3])
    assert [i.uid for i in found.flags] == [1, 2] and found.vanished == (3,)
    assert found.point.highestmodseq == modseq and connection.fetched == ["1:3"]


def test_condstore_asks_only_for_what_changed_and_compares_uids_only_when_the_count_says_so() -> None:
    runner, connection = passes(Box({1: (("\\Seen",), 7), 2: ((), 1), 3: ((), 1)}, 1, 4, 7))
    found = runner.changes(b"x", SyncPoint(1, 4, 5, 3), lambda: pytest.fail("not needed"))
    assert [i.uid for i in found.flags] == [1] and not found.vanished and connection.fetched == ["1:3"]
    del connection.box.messages[2]
    assert runner.changes(b"x", found.point, lambda: [1, 2, 3]).vanished == (2,)


def test_a_row_that_cannot_be_read_is_asked_for_item_by_item() -> None:
    class Damaging(Connection):
        def _rows(self, uids: str, items: Sequence[str], modifiers: Sequence[Any]) -> Iterator[FetchRow]:
            for row in super()._rows(uids, items, modifiers):
                alone = list(items) == ["UID", "FLAGS"]
                flags = ("\\Seen",) if alone else None
                yield FetchRow(row.seq, row.uid, flags=flags, damaged=not alone) if row.uid == 2 else row

    found = Passes(Access(Damaging(box(1, 2, 3), False))).changes(b"x", None, list)  # type: ignore[arg-type]
    assert [(i.uid, i.flags, i.received_at) for i in found.new] == [(1, (), 1), (2, ("\\Seen",), None), (3, (), 3)]


def test_a_list_of_which_hardly_anything_can_be_read_is_no_list() -> None:
    runner, connection = passes(box(*range(1, 300)))
    connection.box.mute = set(range(100, 300))
    with pytest.raises(UpstreamError):
        runner.changes(b"x", None, list)
    connection.box.mute = set(range(200, 300))
    assert [i.flags for i in runner.changes(b"x", None, list).new] == [()] * 199 + [None] * 100


def test_an_emptied_folder_costs_no_fetch() -> None:
    runner, connection = passes(box(uidnext=5))
    assert runner.changes(b"x", SyncPoint(1, 5, 0, 2), lambda: [1, 4]).vanished == (1, 4)
    assert connection.fetched == []


@pytest.mark.parametrize(
    ("since", "answer"),
    [
        (SyncPoint(1, 10), False),
        (SyncPoint(2, 10), True),
        (SyncPoint(1, 11), True),
        (SyncPoint(1, 9), False),
    ],
)
def test_what_a_reset_is(since: SyncPoint, answer: bool) -> None:
    assert is_reset(since, Selected(b"x", 0, 1, 10)) is answer


_FLAGS = st.sampled_from([(), ("\\Seen",), ("\\Seen", "$x")])
_STEP = st.lists(st.tuples(st.sampled_from(["new", "flag", "gone"]), st.integers(0, 9), _FLAGS), max_size=6)


@given(
    st.lists(_STEP, max_size=6),
    st.sampled_from([(True, True), (False, True), (False, False)]),
    st.booleans(),
    st.sampled_from([1, 2, 3, passes_module.LISTING]),
    st.sets(st.integers(1, 12)),
)
def test_every_sequence_of_changes_ends_in_the_truth(
    steps: list[list[tuple[str, int, tuple[str, ...]]]],
    kind: tuple[bool, bool],
    tells_uidnext: bool,
    listing: int,
    mute: set[int],
) -> None:
    """A client that applies each pass knows exactly what is there, with QRESYNC, CONDSTORE or nothing.

    Folders with more than ``listing`` messages are read window by window. Of ``mute`` messages no row tells in
    every second pass; they are not gone then, and the next one finds them.
    """
    qresync, condstore = kind
    tells_uidnext = tells_uidnext or qresync
    state = Box({}, 1, 1 if tells_uidnext else None, 1 if condstore else 0)
    runner, _ = passes(state, qresync)
    known: dict[int, tuple[str, ...]] = {}
    point: SyncPoint | None = None
    top, modseq = 0, 1
    for at, step in enumerate([[], *steps, []]):
        state.mute = mute if at % 2 == 0 and at <= len(steps) else set()
        gone: list[tuple[int, int]] = []
        for action, pick, flags in step:
            modseq += 1
            uids = sorted(state.messages)
            if action == "new":
                top += 1
                state.messages[top] = (flags, modseq)
            elif uids and action == "flag":
                state.messages[uids[pick % len(uids)]] = (flags, modseq)
            elif uids:
                uid = uids[pick % len(uids)]
                del state.messages[uid]
                gone.append((uid, uid))
        state.uidnext = top + 1 if tells_uidnext else None
        state.modseq, state.gone = modseq if condstore else 0, gone
        with mock.patch.object(passes_module, "LISTING", listing):
            found = runner.changes(b"x", point, lambda: sorted(known))
        assert not found.reset or not tells_uidnext
        before = known.keys() & state.messages.keys()
        _take(known, [*found.flags, *(item for item in found.new if item.received_at is not None)])
        for uid in found.vanished:
            known.pop(uid, None)
        end = 1 if point is None or found.reset else point.uidnext
        for low, high in found.windows:
            assert high < end or low >= end
            listed = runner.listed(b"x", 1, low, high, low >= end)
            for uid in {uid for uid in known if low <= uid <= high} - {item.uid for item in listed}:
                del known[uid]
            _take(known, listed)
        point = found.point
        truth = {uid: flags for uid, (flags, _) in state.messages.items()}
        assert before <= known.keys() <= truth.keys() and truth.keys() - known.keys() <= state.mute
        # A change that CHANGEDSINCE leaves out is found when everything is compared.
        sure = known.keys() - (mute if condstore else state.mute)
        assert {uid: known[uid] for uid in sure} == {uid: truth[uid] for uid in sure}
    assert known.keys() == truth.keys()


def _take(known: dict[int, tuple[str, ...]], items: Iterable[Item]) -> None:
    """As a pass does it: flags that are not known change nothing; of what it did not know it asks for the rest."""
    known |= {item.uid: item.flags for item in items if item.flags is not None}
