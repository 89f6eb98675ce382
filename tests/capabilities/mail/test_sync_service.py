"""service.py: what the worker's loop sees of the sync (hookspecs.SyncService)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gevent
import pytest
from sync_rig import Rig

from jmapplug.backends import Features
from jmapplug.capabilities.mail import writes
from jmapplug.capabilities.mail.service import HISTORY
from jmapplug.capabilities.mail.sync_pass import FLAGS_AGE
from jmapplug.errors import FolderError, UpstreamError
from jmapplug.testing import memory_server
from jmapplug.testing.memory_source import MemoryServer, switch


@pytest.fixture
def rig(tmp_path: Path):
    made = Rig(tmp_path)
    made.server.create(b"Archive")
    yield made
    made.close()


def subjects(rig: Rig) -> set[str]:
    return {email["subject"] for email in rig.emails().values()}


def test_setup_shows_the_newest_fifty_of_inbox_without_listing_it(rig: Rig) -> None:
    """Rule 20: by INTERNALDATE, which UIDs do not tell after a migration."""
    for at in range(120):
        rig.deliver(f"topic {at}", received_at=1_000_000 - at)
    rig.service.setup()
    assert subjects(rig) == {f"topic {at}" for at in range(50)}
    assert [name for name, _ in rig.source.calls] == ["folders", "newest", "details"]
    assert set(rig.boxes()) == {"Inbox", "Archive"}


def test_setup_twice_and_then_sync_is_the_same_as_sync(rig: Rig) -> None:
    for at in range(60):
        rig.deliver(f"topic {at}")
    rig.service.setup()
    before = set(rig.emails())
    rig.service.setup()
    rig.sync()
    rig.check()
    assert before < set(rig.emails())


def test_a_first_sync_shows_the_newest_of_each_folder_then_history_newest_first(rig: Rig) -> None:
    """Rule 20."""
    for at in range(700):
        rig.deliver(f"inbox {at}")
    for at in range(60):
        rig.deliver(f"archive {at}", b"Archive", received_at=1000 + at)
    rig.service.sync()
    assert len(rig.emails()) == 100
    assert {f"archive {at}" for at in range(10, 60)} < subjects(rig)
    assert rig.service.background()
    next_ = 700 - 50 - HISTORY
    assert f"inbox {next_}" in subjects(rig)
    assert f"inbox {next_ - 1}" not in subjects(rig)
    assert "archive 9" not in subjects(rig)
    while rig.service.background():
        pass
    rig.check()


def test_history_goes_on_where_a_killed_worker_stopped(rig: Rig) -> None:
    for at in range(1200):
        rig.deliver(f"topic {at}")
    rig.service.sync()
    rig.service.background()
    done = set(rig.emails())
    rig.reopen()
    rig.service.sync()
    assert not [call for call in rig.source.calls if call[0] == "changes"]
    while rig.service.background():
        pass
    rig.check()
    assert done < set(rig.emails())


def test_history_is_told_every_five_seconds_and_live_mail_at_once(rig: Rig) -> None:
    """Rule 20."""
    now = [100.0]
    rig.service._clock = lambda: now[0]
    for at in range(2000):
        rig.deliver(f"topic {at}")
    rig.service.sync()
    rig.published.clear()
    rig.service.background()
    rig.service.background()
    assert rig.published == []
    now[0] += 6
    rig.service.background()
    assert [set(one) for one in rig.published] == [{"Email", "EmailDelivery", "Mailbox", "Thread"}]
    while rig.service.background():
        pass
    rig.published.clear()
    rig.deliver("live")
    rig.service.sync()
    assert rig.published
    assert rig.published[-1]["Email"] == rig.store.state("Email")


def test_a_flag_change_is_no_email_delivery(rig: Rig) -> None:
    """RFC 8621 §1.5."""
    rig.deliver("one")
    rig.sync()
    rig.published.clear()
    rig.server.set_flags(b"INBOX", 1, "\\Seen")
    rig.sync()
    assert {name for one in rig.published for name in one} == {"Email", "Mailbox"}


def test_what_was_applied_before_a_break_is_told(rig: Rig) -> None:
    rig.deliver("one")
    rig.deliver("two", b"Archive")
    details = []

    def fault(name: str) -> None:
        details.extend([name] if name == "details" else [])
        if len(details) == 2:
            raise UpstreamError("gone")

    rig.source.fault = fault
    with pytest.raises(UpstreamError):
        rig.service.sync()
    assert len(rig.emails()) == 1
    assert rig.published[-1]["Email"] == rig.store.state("Email")


def test_an_account_does_not_look_empty_while_its_server_is_away(rig: Rig) -> None:
    """Rule 17."""
    rig.deliver("one")
    rig.sync()
    before = (rig.emails(), rig.boxes())

    def fault(name: str) -> None:
        raise UpstreamError("away")

    rig.reopen()
    rig.source.fault = fault
    with pytest.raises(UpstreamError):
        rig.service.sync()
    assert (rig.emails(), rig.boxes()) == before


def test_a_message_that_goes_during_history_does_not_stop_it(rig: Rig) -> None:
    for at in range(600):
        rig.deliver(f"topic {at}")
    rig.service.sync()
    rig.server.expunge(b"INBOX", 1, 2, 300)
    slices = 0
    while rig.service.background():
        slices += 1
        assert slices < 20, "the slices do not come to an end"
    rig.sync()
    rig.check()


def test_a_folder_made_anew_between_listing_and_details_shows_no_wrong_message(rig: Rig) -> None:
    """Rule 2: under the old UIDs there are other messages now."""
    for at in range(120):
        rig.deliver(f"topic {at}")
    rig.service.sync()
    inbox = rig.server.folders[b"INBOX"]
    rig.server.expunge(b"INBOX", *list(inbox.messages)[:20])
    rig.server.reset_uids(b"INBOX")
    while rig.service.background():
        pass
    rig.sync()
    rig.check()


def test_waiting_ends_when_something_changes_in_inbox(rig: Rig) -> None:
    rig.sync()
    assert rig.service.wait(0.01)  # The watch begins: something may have come before it.
    assert not rig.service.wait(0.01)
    waiting = gevent.spawn(rig.service.wait, 30)
    gevent.sleep(0)
    rig.deliver("one")
    assert waiting.get(timeout=60) is True


def test_waiting_without_idle_ends_at_the_timeout_or_at_the_close(tmp_path: Path) -> None:
    rig = Rig(tmp_path, MemoryServer(Features()))
    rig.sync()
    assert rig.service.wait(0.01) is False
    waiting = gevent.spawn(rig.service.wait, 30)
    gevent.sleep(0)
    rig.service.close()
    assert waiting.get(timeout=60) is False
    rig.close()


def test_a_watch_that_breaks_is_opened_again(rig: Rig) -> None:
    rig.sync()
    rig.service.wait(0.01)

    def broken(timeout: float) -> bool:
        raise UpstreamError("gone")

    rig.service._watching._watch.wait = broken  # type: ignore[union-attr,method-assign]
    with pytest.raises(UpstreamError):
        rig.service.wait(1)
    assert rig.service.wait(0.01)
    assert [name for name, _ in rig.source.calls].count("watch") == 2


def test_status_needs_no_network(rig: Rig) -> None:
    for at in range(70):
        rig.deliver(f"topic {at}")
    assert rig.service.status() == {
        "folders": 0,
        "folders_done": 0,
        "messages": 0,
        "messages_done": 0,
        "pending": 0,
        "unindexed": 0,
        "phase": "idle",
        "watching": "poll",
        "refused": 0,
        "warning": None,
    }
    rig.service.sync()
    rig.source.calls.clear()
    assert rig.service.status() == {
        "folders": 2,
        "folders_done": 2,
        "messages": 70,
        "messages_done": 50,
        "pending": 20,
        "unindexed": 50,
        "phase": "idle",
        "watching": "poll",
        "refused": 0,
        "warning": None,
    }
    assert rig.source.calls == []


def test_further_background_work_comes_after_history(rig: Rig) -> None:
    order: list[int] = []

    def index(account: Rig) -> bool:
        order.append(len(account.emails()))
        return len(order) < 3

    rig.service._slices = (index,)
    for at in range(70):
        rig.deliver(f"topic {at}")
    rig.sync()
    assert order == [70, 70, 70]


def test_without_condstore_unchanged_folders_are_compared_now_and_then_only(tmp_path: Path) -> None:
    """Rule 21: a full comparison of each folder now and then."""
    rig = Rig(tmp_path, MemoryServer(Features()), full_flags=False)
    rig.deliver("one")
    rig.sync()
    rig.source.calls.clear()
    rig.server.set_flags(b"INBOX", 1, "\\Flagged")
    rig.service.wait(0)
    rig.sync()
    assert [name for name, _ in rig.source.calls if name != "watch"] == ["folders"]
    rig.store.cache.write(lambda txn: txn.execute("UPDATE mailbox SET full_flags_at = full_flags_at - 700"))
    rig.service.wait(0)
    rig.sync()
    rig.check()
    rig.close()


def test_a_highestmodseq_that_sticks_is_not_believed_after_the_first_new_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wish 14: new mail is seen as ever, flags within five minutes, and at once where UNSEEN tells of them."""
    monkeypatch.setattr(memory_server, "_MODSEQ_STEP", 0)
    rig = Rig(tmp_path, MemoryServer(Features(condstore=True)), full_flags=False)
    rig.server.create(b"Archive")
    rig.deliver("one")
    rig.deliver("two", b"Archive")
    rig.sync()

    def looked() -> None:
        rig.service.wait(0)
        rig.sync()

    rig.server.set_flags(b"Archive", 1, "\\Seen")
    looked()
    rig.check()
    rig.server.set_flags(b"Archive", 1, "\\Seen", "\\Flagged")
    looked()
    assert not rig.service._stuck
    rig.deliver("three")
    looked()
    assert rig.service._stuck and FLAGS_AGE[1] + 60 <= 300
    rig.store.cache.write(lambda txn: txn.execute("UPDATE mailbox SET full_flags_at = full_flags_at - 700"))
    looked()
    rig.check()
    rig.close()


def test_without_condstore_signs_of_changed_flags_are_followed_at_once(tmp_path: Path) -> None:
    """Rule 21: UNSEEN of any folder, what IDLE tells of INBOX, and a pass that somebody asks for."""
    rig = Rig(tmp_path, MemoryServer(Features(idle=True)), full_flags=False)
    rig.server.create(b"Archive")
    rig.deliver("one")
    rig.deliver("two", b"Archive")
    rig.sync()
    rig.service.wait(0)
    rig.sync()
    rig.server.set_flags(b"Archive", 1, "\\Seen")
    rig.service.wait(0)
    rig.sync()
    rig.check()
    rig.server.set_flags(b"INBOX", 1, "\\Flagged")
    assert rig.service.wait(60)
    rig.sync()
    rig.check()
    rig.server.set_flags(b"Archive", 1, "\\Seen", "\\Flagged")
    rig.sync()
    rig.check()
    rig.close()


def test_upkeep_forgets_emails_that_nobody_remembers(rig: Rig) -> None:
    """Rule 39: own.sqlite3 does not grow for ever, and what a tombstone remembers stays."""
    rig.deliver("one")
    rig.deliver("two")
    rig.sync()
    rig.server.expunge(b"INBOX", 1)
    rig.sync()
    rig.service._upkeep = (0.0, -1)
    while rig.service.background():
        pass
    assert rig.store.own.value("SELECT count(*) FROM mail_email") == 2
    rig.store.cache.write(lambda txn: txn.execute("DELETE FROM email WHERE deleted = 1"))
    rig.service._upkeep = (0.0, -1)
    while rig.service.background():
        pass
    assert rig.store.own.value("SELECT count(*) FROM mail_email") == 1
    assert rig.store.own.value("SELECT count(DISTINCT eid) FROM mail_evidence") == 1


def test_qresync_condstore_and_neither_end_the_same(tmp_path: Path) -> None:
    """Issue 2 §4: a server may lose the extensions in between."""
    rig = Rig(tmp_path)
    rig.deliver("one")
    rig.deliver("two")
    rig.sync()
    switch(rig.server, qresync=False)
    rig.server.expunge(b"INBOX", 1)
    rig.sync()
    rig.check()
    switch(rig.server, condstore=False)
    rig.server.set_flags(b"INBOX", 2, "\\Seen")
    rig.deliver("three")
    rig.sync()
    rig.check()
    switch(rig.server, condstore=True, qresync=True)
    rig.server.expunge(b"INBOX", 2)
    rig.sync()
    rig.check()
    rig.close()


def test_news_of_our_own_writes_wait_until_we_are_done(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass for each echo of a hundred writes would slow them down; other people's news wait a second at most."""
    for at in range(5):
        rig.deliver(f"topic {at}")
    rig.sync()
    rig.service.wait(0)
    # A machine that has other things to do may stand still for a tenth of a second between two writes.
    monkeypatch.setattr(writes, "QUIET", 1.0)
    monkeypatch.setattr(writes, "PATIENCE", 60.0)
    waiting = gevent.spawn(rig.service.wait, 30)
    gevent.idle()
    for email in rig.emails():
        assert rig.update(email, **{"keywords/$seen": True}) is None
        gevent.idle()
        assert not waiting.dead
    assert waiting.get(timeout=60) is True


def test_a_folder_that_cannot_be_opened_does_not_hold_up_the_others(rig: Rig) -> None:
    """Its own mail stays in sight, and the refusal is told when all else is done."""
    rig.server.create(b"Broken")
    rig.deliver("kept", b"Broken")
    rig.deliver("gone")
    rig.sync()
    rig.deliver("unseen", b"Broken")
    rig.deliver("new")
    rig.server.expunge(b"INBOX", 1)
    changes = rig.source.changes

    def refusing(key: bytes, *args: Any) -> Any:
        if key == b"Broken":
            raise FolderError("this folder's index is broken", code="serverbug")
        return changes(key, *args)

    rig.source.changes = refusing  # type: ignore[method-assign]
    with pytest.raises(UpstreamError, match="index is broken"):
        rig.sync()
    assert subjects(rig) == {"kept", "new"}
    rig.source.changes = changes  # type: ignore[method-assign]
    rig.sync()
    assert subjects(rig) == {"kept", "new", "unseen"}
    rig.check()


def test_a_folder_that_is_deleted_between_the_listing_and_the_look_into_it_is_no_failure(rig: Rig) -> None:
    rig.server.create(b"Short")
    rig.deliver("one", b"Short")

    def before(name: str) -> None:
        if name == "changes" and b"Short" in rig.server.folders:
            rig.server.delete(b"Short")

    rig.source.before = before
    rig.sync()
    rig.check()
