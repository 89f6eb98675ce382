"""The contract of ``MailSource.changes`` and ``newest``; see ``mail_source``."""

from __future__ import annotations

import random

import pytest

from jmapplug.backends import MailSource, SyncPoint
from jmapplug.errors import UpstreamError
from jmapplug.testing.mail_upstream import T0, Mirror, Promises, Upstream, message


class ChangesContract(Promises):
    """Passes over a folder, and its newest messages."""

    # --- changes -----------------------------------------------------------------------------------------------

    def test_a_first_pass_lists_the_whole_folder(self, upstream: Upstream, source: MailSource) -> None:
        one = upstream.append(b"INBOX", message("one"), ["\\Seen"], T0 + 5)
        flag = "$Label" if self.user_keywords else "\\Answered"
        two = upstream.append(b"INBOX", message("two"), [flag], T0)
        found = source.changes(b"INBOX", None, list)
        assert [(i.uid, i.received_at) for i in found.new] == [(one, T0 + 5), (two, T0)]
        assert [{f.lower() for f in i.flags or ()} for i in found.new] == [{"\\seen"}, {flag.lower()}]
        assert not found.flags and not found.vanished and found.point.messages == 2
        assert found.point.uidnext > two and found.point.uidvalidity

    def test_a_first_pass_over_an_empty_folder_is_empty(self, upstream: Upstream, source: MailSource) -> None:
        key = upstream.create("Empty")
        found = source.changes(key, None, list)
        assert (found.new, found.flags, found.vanished, found.point.messages) == ((), (), (), 0)

    def test_a_second_pass_tells_what_came_what_changed_and_what_went(
        self, upstream: Upstream, source: MailSource
    ) -> None:
        kept, gone = (upstream.append(b"INBOX", message(name)) for name in ("kept", "gone"))
        mirror = Mirror(source, b"INBOX")
        mirror.sync()
        fresh = upstream.append(b"INBOX", message("fresh"), ["\\Flagged"])
        upstream.flag(b"INBOX", kept, "\\Seen")
        upstream.expunge(b"INBOX", gone)
        found = mirror.sync()
        assert not found.reset and [i.uid for i in found.new] == [fresh] and found.vanished == (gone,)
        assert mirror.flags() == {kept: {"\\seen"}, fresh: {"\\flagged"}}

    def test_a_pass_over_an_unchanged_folder_brings_nothing_new(self, upstream: Upstream, source: MailSource) -> None:
        uid = upstream.append(b"INBOX", message("one"), ["\\Seen"])
        mirror = Mirror(source, b"INBOX")
        mirror.sync()
        found = mirror.sync()
        assert not found.reset and not found.new and not found.vanished
        assert mirror.flags() == {uid: {"\\seen"}}

    def test_a_removed_flag_is_told(self, upstream: Upstream, source: MailSource) -> None:
        uid = upstream.append(b"INBOX", message("one"), ["\\Seen", "\\Flagged"])
        mirror = Mirror(source, b"INBOX")
        mirror.sync()
        upstream.flag(b"INBOX", uid, "\\Seen", on=False)
        mirror.sync()
        assert mirror.flags() == {uid: {"\\flagged"}}

    def test_a_message_that_came_and_went_between_two_passes_is_not_new(
        self, upstream: Upstream, source: MailSource
    ) -> None:
        mirror = Mirror(source, b"INBOX")
        mirror.sync()
        upstream.expunge(b"INBOX", upstream.append(b"INBOX", message("brief")))
        assert not mirror.sync().new and not mirror.items

    def test_an_emptied_folder_loses_every_message(self, upstream: Upstream, source: MailSource) -> None:
        uids = [upstream.append(b"INBOX", message(str(n))) for n in range(4)]
        mirror = Mirror(source, b"INBOX")
        mirror.sync()
        for uid in uids:
            upstream.expunge(b"INBOX", uid)
        assert sorted(mirror.sync().vanished) == uids and not mirror.items

    def test_a_move_is_an_arrival_there_and_a_loss_here(self, upstream: Upstream, source: MailSource) -> None:
        target = upstream.create("Target")
        uid = upstream.append(b"INBOX", message("mover"))
        here, there = Mirror(source, b"INBOX"), Mirror(source, target)
        identity = here.sync().new[0].server_id
        there.sync()
        arrived = upstream.move(b"INBOX", uid, target)
        (item,) = there.sync().new
        assert item.uid == arrived and item.server_id == identity
        assert here.sync().vanished == (uid,)

    def test_a_new_source_goes_on_from_a_stored_point(self, upstream: Upstream, source: MailSource) -> None:
        first = upstream.append(b"INBOX", message("one"))
        mirror = Mirror(source, b"INBOX")
        mirror.sync()
        second = upstream.append(b"INBOX", message("two"))
        upstream.expunge(b"INBOX", first)
        mirror.source = upstream.source()
        found = mirror.sync()
        assert not found.reset and [i.uid for i in found.new] == [second] and found.vanished == (first,)

    def test_another_uidvalidity_is_a_reset_that_lists_everything(self, upstream: Upstream, source: MailSource) -> None:
        uid = upstream.append(b"INBOX", message("one"))
        point = source.changes(b"INBOX", None, list).point
        foreign = SyncPoint(point.uidvalidity + 1, 1000, 1, 500)
        found = source.changes(b"INBOX", foreign, lambda: range(1, 501))
        assert found.reset and [i.uid for i in found.new] == [uid] and not found.vanished

    def test_a_uidnext_that_went_back_is_a_reset(self, upstream: Upstream, source: MailSource) -> None:
        uid = upstream.append(b"INBOX", message("one"))
        now = source.changes(b"INBOX", None, list).point
        later = SyncPoint(now.uidvalidity, now.uidnext + 50, now.highestmodseq, 51)
        found = source.changes(b"INBOX", later, lambda: range(1, 51))
        assert found.reset and [i.uid for i in found.new] == [uid]  # the server was restored: mail-rules 22

    def test_many_random_changes_end_in_the_truth(self, upstream: Upstream, source: MailSource) -> None:
        chance = random.Random(20261123)
        mirror = Mirror(source, b"INBOX")
        for _ in range(6):
            for _ in range(5):
                _random_change(chance, upstream)
            mirror.sync()
            assert sorted(mirror.items) == upstream.uids(b"INBOX")
            fresh = Mirror(source, b"INBOX")
            fresh.sync()
            assert mirror.flags() == fresh.flags()

    def test_a_folder_that_does_not_exist_is_an_error_and_not_empty(self, source: MailSource) -> None:
        with pytest.raises(UpstreamError):
            source.changes(b"No-such-folder", None, list)

    # --- newest ------------------------------------------------------------------------------------------------

    def test_newest_goes_by_arrival_and_not_by_uid(self, upstream: Upstream, source: MailSource) -> None:
        old, newest, middle = (
            upstream.append(b"INBOX", message(str(at)), (), T0 + at * 86_400) for at in (1, 9, 5)
        )  # as after a migration
        items = source.newest(b"INBOX", 2)
        assert [i.uid for i in items] == [newest, middle] and items[0].received_at == T0 + 9 * 86_400
        assert [i.uid for i in source.newest(b"INBOX", 50)] == [newest, middle, old]

    def test_newest_of_an_empty_folder_is_empty(self, source: MailSource) -> None:
        assert source.newest(b"INBOX", 50) == ()


def _random_change(chance: random.Random, upstream: Upstream) -> None:
    uids = upstream.uids(b"INBOX")
    kind = chance.choice(["append", "append", "flag", "unflag", "expunge"] if uids else ["append"])
    if kind == "append":
        flags = chance.sample(["\\Seen", "\\Flagged", "$Forwarded"], chance.randrange(3))
        upstream.append(b"INBOX", message(f"m{chance.randrange(10**9)}"), flags, T0 + chance.randrange(10**6))
    elif kind == "expunge":
        upstream.expunge(b"INBOX", chance.choice(uids))
    else:
        upstream.flag(b"INBOX", chance.choice(uids), chance.choice(["\\Seen", "\\Answered"]), on=kind == "flag")
