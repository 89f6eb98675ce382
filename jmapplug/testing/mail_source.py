"""The contract of a MailSource as a class of tests: a backend's whole test is a subclass and one fixture.

::

    class TestImap(MailSourceContract):
        @pytest.fixture
        def upstream(self, dovecot): return DovecotUpstream(dovecot)

The subclass gives ``upstream``: an :class:`Upstream`, a mail account of its own, empty but for its INBOX, and changed
through the eyes of *another* client. Every test opens its sources with ``upstream.source()``.
"""

from __future__ import annotations

from collections.abc import Iterator

import gevent
import pytest

from jmapplug.backends import MailSource, SearchTerm
from jmapplug.testing.mail_changes import ChangesContract
from jmapplug.testing.mail_contents import ContentsContract
from jmapplug.testing.mail_upstream import DEADLINE, MIXED, Mirror, Upstream, folder, message, split_lines
from jmapplug.testing.mail_writing import WritingContract

__all__ = ["MIXED", "MailSourceContract", "Mirror", "Upstream", "message"]


class MailSourceContract(ChangesContract, ContentsContract, WritingContract):
    """Subclass it and give the fixture ``upstream``. The class attributes say what the upstream cannot keep."""

    @pytest.fixture
    def upstream(self) -> Upstream:
        raise NotImplementedError("the subclass gives the fixture 'upstream'")

    @pytest.fixture
    def source(self, upstream: Upstream) -> MailSource:
        return upstream.source()

    @pytest.fixture(autouse=True)
    def _bounded(self) -> Iterator[None]:
        with gevent.Timeout(DEADLINE * 4):
            yield

    # --- folders -----------------------------------------------------------------------------------------------

    def test_each_source_of_one_account_is_the_same_upstream(self, upstream: Upstream, source: MailSource) -> None:
        assert source.identity and source.identity == upstream.source().identity

    def test_the_inbox_is_listed_with_its_role_and_its_status(self, upstream: Upstream, source: MailSource) -> None:
        upstream.append(b"INBOX", message("one"))
        inbox = folder(source, b"INBOX")
        assert (inbox.role, inbox.path, inbox.parent) == ("inbox", ("INBOX",), None)
        assert inbox.selectable and inbox.exists and inbox.messages == 1 and inbox.uidvalidity
        assert not inbox.rights.may_delete and not inbox.rights.may_rename

    def test_a_new_folder_appears_under_its_parent_with_its_decoded_name(
        self, upstream: Upstream, source: MailSource
    ) -> None:
        parent = upstream.create("Réseau & 会社")
        child = upstream.create("Réseau & 会社", "Entwürfe ~ 😀")
        assert folder(source, parent).path == ("Réseau & 会社",)
        found = folder(source, child)
        assert found.path == ("Réseau & 会社", "Entwürfe ~ 😀") and found.parent == parent

    def test_a_deleted_folder_is_not_listed_any_more(self, upstream: Upstream, source: MailSource) -> None:
        key = upstream.create("Short-lived")
        assert folder(source, key).selectable
        upstream.delete(key)
        assert not any(f.key == key and f.exists for f in source.folders())

    def test_status_tells_that_a_folder_changed(self, upstream: Upstream, source: MailSource) -> None:
        key = upstream.create("Box")
        before = folder(source, key)
        upstream.append(key, message("new"))
        after = folder(source, key)
        assert (before.uidnext, before.messages) != (after.uidnext, after.messages)
        assert after.uidvalidity == before.uidvalidity and after.messages == 1

    def test_every_key_is_listed_once_and_parents_come_first(self, upstream: Upstream, source: MailSource) -> None:
        for name in ("a", "b", "c"):
            upstream.create("Tree", name)
        folders = source.folders()
        keys = [f.key for f in folders]
        assert len(keys) == len(set(keys))
        assert all(f.parent is None or keys.index(f.parent) < keys.index(f.key) for f in folders)

    # --- search, watch, many callers ---------------------------------------------------------------------------

    def test_search_finds_what_has_just_come(self, upstream: Upstream, source: MailSource) -> None:
        if not source.features.search:
            pytest.skip("this upstream offers no search")
        upstream.append(b"INBOX", message("apple"))
        assert source.search(b"INBOX", SearchTerm("subject", "pear")) == []
        uid = upstream.append(b"INBOX", message("pear"))
        assert source.search(b"INBOX", SearchTerm("subject", "pear")) == [uid]
        assert source.search(b"INBOX", SearchTerm("text", "pear"), [uid + 1]) == []

    def test_search_takes_any_text(self, upstream: Upstream, source: MailSource) -> None:
        if not source.features.search:
            pytest.skip("this upstream offers no search")
        upstream.append(b"INBOX", message("apple"))
        for value in ('"\\', "Grüße 会社", "a\r\nx LOGOUT", ""):
            assert isinstance(source.search(b"INBOX", SearchTerm("body", value)), list)

    def test_a_watch_wakes_when_a_message_arrives(self, upstream: Upstream, source: MailSource) -> None:
        watch = source.watch(b"INBOX")
        if watch is None:
            pytest.skip("this upstream cannot tell of changes")
        try:
            assert watch.wait(0.01) is None
            waiting = gevent.spawn(watch.wait, DEADLINE)
            gevent.idle()
            upstream.append(b"INBOX", message("ping"))
            assert waiting.get(timeout=DEADLINE) is not None
        finally:
            watch.close()

    def test_a_complete_watch_tells_which_folder_changed_whatever_happens_there(
        self, upstream: Upstream, source: MailSource
    ) -> None:
        watch = source.watch(b"INBOX")
        if watch is None or not watch.complete:
            pytest.skip("this upstream cannot tell of changes everywhere")

        def told(key: bytes) -> None:
            # An upstream may say more than it has to: what counts is that this folder is named in the end.
            while (keys := watch.wait(DEADLINE)) and key not in keys:
                pass
            assert keys is not None, key

        try:
            key = upstream.create("Elsewhere")
            told(key)
            uid = upstream.append(key, message("one"))
            told(key)
            upstream.flag(key, uid, "\\Flagged")
            told(key)
            upstream.expunge(key, uid)
            told(key)
            upstream.delete(key)
            told(key)
        finally:
            watch.close()

    def test_a_watch_that_is_not_complete_names_its_own_folder_only(
        self, upstream: Upstream, source: MailSource
    ) -> None:
        watch = source.watch(b"INBOX")
        if watch is None or watch.complete:
            pytest.skip("this upstream cannot tell of changes, or tells of all")
        try:
            upstream.append(upstream.create("Elsewhere"), message("one"))
            upstream.append(b"INBOX", message("two"))
            assert watch.wait(DEADLINE) == frozenset({b"INBOX"})
        finally:
            watch.close()

    def test_a_watch_ends_when_another_greenlet_closes_it(self, source: MailSource) -> None:
        watch = source.watch(b"INBOX")
        if watch is None:
            pytest.skip("this upstream cannot tell of changes")
        waiting = gevent.spawn(watch.wait, DEADLINE * 10)
        gevent.idle()
        watch.close()
        assert waiting.get(timeout=DEADLINE) is None and watch.closed

    def test_many_greenlets_read_at_once(self, upstream: Upstream, source: MailSource) -> None:
        boxes = [upstream.create(f"Box{n}") for n in range(4)]
        expected = {key: upstream.append(key, message(key.decode())) for key in boxes}
        jobs = [gevent.spawn(source.headers, key, [expected[key]]) for key in boxes * 5]
        for key, job in zip(boxes * 5, jobs, strict=True):
            assert b"Subject: " + key in split_lines(job.get(timeout=DEADLINE)[expected[key]])
