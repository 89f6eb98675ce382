"""The memory source keeps the contract of a MailSource, so that what is tested on it holds on a server."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest

from jmapplug.backends import Features, MailSource, NewMessage
from jmapplug.errors import UpstreamError
from jmapplug.testing.mail_changes import ChangesContract
from jmapplug.testing.mail_upstream import T0, Upstream, message
from jmapplug.testing.mail_writing import WritingContract
from jmapplug.testing.memory_source import MemoryServer, MemorySource, switch


class MemoryUpstream:
    """jmapplug.testing.mail_upstream.Upstream over a MemoryServer."""

    def __init__(self, server: MemoryServer) -> None:
        self.server = server

    def source(self) -> MemorySource:
        return self.server.source()

    def create(self, *path: str) -> bytes:
        return self.server.create("/".join(path).encode()).key

    def delete(self, key: bytes) -> None:
        self.server.delete(key)

    def append(self, key: bytes, message: bytes, flags: Sequence[str] = (), received_at: int = T0) -> int:
        return self.server.deliver(key, message, flags=flags, received_at=received_at)

    def flag(self, key: bytes, uid: int, flag: str, on: bool = True) -> None:
        old = [each for each in self.server.folders[key].messages[uid].flags if each != flag]
        self.server.set_flags(key, uid, *old, *([flag] if on else []))

    def expunge(self, key: bytes, uid: int) -> None:
        self.server.expunge(key, uid)

    def move(self, key: bytes, uid: int, target: bytes) -> int:
        return self.server.move(key, uid, target)

    def uids(self, key: bytes) -> list[int]:
        return sorted(self.server.folders[key].messages)

    def close(self) -> None: ...


ABLE = Features(id_scheme="emailid", condstore=True, qresync=True, move=True, uidplus=True)
KINDS = {"rich": ABLE, "poor": Features(id_scheme="emailid")}


@pytest.mark.parametrize("_features", KINDS.values(), ids=list(KINDS))
class TestMemory(ChangesContract, WritingContract):
    @pytest.fixture
    def upstream(self, _features: Features) -> Upstream:
        return MemoryUpstream(MemoryServer(_features))

    @pytest.fixture
    def source(self, upstream: Upstream) -> MailSource:
        return upstream.source()


# --- what tests of the core ask of it besides


@pytest.fixture
def server() -> MemoryServer:
    return MemoryServer()


_numbers = itertools.count()


def new(folder: Path, raw: bytes, flags: Sequence[str] = ()) -> NewMessage:
    path = folder / f"{next(_numbers)}.eml"
    path.write_bytes(raw)
    return NewMessage(path, len(raw), tuple(flags), T0)


def test_an_answer_may_be_lost_after_the_server_has_done_the_work(server: MemoryServer, tmp_path: Path) -> None:
    source = server.source()

    def lose(name: str) -> None:
        raise UpstreamError(f"the answer to {name} was lost")

    source.after = lose
    with pytest.raises(UpstreamError, match="append"):
        source.append(b"INBOX", [new(tmp_path, message("one"))])
    assert len(server.folders[b"INBOX"].messages) == 1


def test_a_fault_before_the_work_leaves_everything_as_it_was(server: MemoryServer, tmp_path: Path) -> None:
    source = server.source()
    source.fail_at = 1
    with pytest.raises(UpstreamError):
        source.append(b"INBOX", [new(tmp_path, message("one"))])
    assert not server.folders[b"INBOX"].messages and source.calls[0][0] == "append"


def test_flags_that_are_not_permanent_are_dropped_without_a_word(server: MemoryServer, tmp_path: Path) -> None:
    server.folders[b"INBOX"].permanent_flags = ("\\Seen", "$Label")
    source = server.source()
    (answer,) = source.append(b"INBOX", [new(tmp_path, message("one"), ["\\Seen", "$Other"])])
    validity, uid = answer.uidvalidity or 0, answer.uid or 0
    assert source.store(b"INBOX", validity, [uid], ["$label", "$Third", "\\Flagged"], []) == {uid: ("\\Seen", "$label")}


def test_a_read_only_folder_takes_nothing(server: MemoryServer, tmp_path: Path) -> None:
    uid = server.deliver()
    box = server.folders[b"INBOX"]
    box.read_only = True
    source = server.source()
    for write in (
        lambda: source.append(b"INBOX", [new(tmp_path, message("one"))]),
        lambda: source.store(b"INBOX", box.uidvalidity, [uid], ["\\Seen"], []),
        lambda: source.remove(b"INBOX", box.uidvalidity, [uid]),
    ):
        with pytest.raises(UpstreamError) as caught:
            write()
        assert caught.value.code == "noperm"
    assert list(box.messages) == [uid] and box.messages[uid].flags == ()


def test_a_message_that_is_too_large_is_refused_by_itself(server: MemoryServer, tmp_path: Path) -> None:
    server.largest = 2_000
    small, large = new(tmp_path, message("small")), new(tmp_path, message("large") + b"x" * 2_000)
    answers = server.source().append(b"INBOX", [large, small])
    assert answers[0].error is not None and answers[0].error.code == "toobig" and answers[1].uid == 1
    server.quota = 0
    (answer,) = server.source().append(b"INBOX", [small])
    assert answer.error is not None and answer.error.code == "overquota"


def test_a_server_may_give_equal_messages_one_id(server: MemoryServer, tmp_path: Path) -> None:
    server.ids_by_content = True
    twin = new(tmp_path, message("twin"))
    server.source().append(b"INBOX", [twin, twin])
    assert len({one.guid for one in server.folders[b"INBOX"].messages.values()}) == 1


def test_without_move_there_is_no_move(server: MemoryServer) -> None:
    switch(server, move=False)
    with pytest.raises(UpstreamError):
        server.source().move(b"INBOX", server.folders[b"INBOX"].uidvalidity, [server.deliver()], b"INBOX")
