"""The contract of the write half of a MailSource; see ``mail_source``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from jmapplug.backends import MailSource, NewMessage, Rights
from jmapplug.errors import UpstreamError
from jmapplug.testing.mail_upstream import T0, Mirror, Promises, Upstream, folder, message

GONE = ("trycreate", "nonexistent")
LARGE = message("large").replace(b"Hello large", b"0123456789abcdef" * 100_000)
EIGHT_BIT = message("eight") + "Grüße, 会社\r\n".encode() + b"\xff\xfe raw\r\n"


def new_message(folder: Path, raw: bytes, flags: Sequence[str] = (), received_at: int | None = T0) -> NewMessage:
    """A message in a file of its own."""
    path = folder / f"new-{len(list(folder.iterdir()))}.eml"
    path.write_bytes(raw)
    return NewMessage(path, len(raw), tuple(flags), received_at)


def low(flags: Sequence[str] | None) -> set[str]:
    assert flags is not None
    return {flag.lower() for flag in flags}


class Scene:
    """A source that writes, and what another source sees."""

    def __init__(self, upstream: Upstream, source: MailSource, tmp: Path) -> None:
        self.upstream, self.source, self.tmp = upstream, source, tmp

    def validity(self, key: bytes = b"INBOX") -> int:
        found = folder(self.source, key).uidvalidity
        assert found is not None
        return found

    def flags(self, key: bytes = b"INBOX") -> dict[int, set[str]]:
        """As a stranger sees the folder: UID → flags in lower case."""
        listed = self.upstream.source().changes(key, None, list)
        return {item.uid: low(item.flags) for item in listed.new}

    def raw(self, key: bytes, uid: int) -> bytes:
        path = self.tmp / f"raw-{uid}"
        self.upstream.source().raw(key, uid, path)
        return path.read_bytes()

    def new(self, raw: bytes, flags: Sequence[str] = (), received_at: int | None = T0) -> NewMessage:
        return new_message(self.tmp, raw, flags, received_at)


class WritingContract(Promises):
    """Appending, flags, copies, removal, folders."""

    @pytest.fixture
    def scene(self, upstream: Upstream, source: MailSource, tmp_path: Path) -> Scene:
        return Scene(upstream, source, tmp_path)

    # --- append ------------------------------------------------------------------------------------------------

    def test_an_appended_message_has_its_octets_flags_and_date(self, scene: Scene) -> None:
        mark = "$Label" if self.user_keywords else "\\Flagged"
        (answer,) = scene.source.append(b"INBOX", [scene.new(message("one"), ["\\Seen", mark], T0 + 77)])
        assert answer.error is None and answer.uid is not None and answer.uidvalidity == scene.validity()
        (item,) = scene.upstream.source().changes(b"INBOX", None, list).new
        assert (item.uid, item.received_at, low(item.flags)) == (answer.uid, T0 + 77, {"\\seen", mark.lower()})
        assert scene.raw(b"INBOX", answer.uid) == self.kept(message("one"))

    def test_many_messages_are_appended_in_order(self, scene: Scene) -> None:
        key = scene.upstream.create("Import")
        news = [scene.new(message(f"n{n}"), ["\\Seen"] if n % 2 else [], T0 + n) for n in range(25)]
        answers = scene.source.append(key, news)
        uids = [answer.uid for answer in answers if answer.uid is not None]
        assert len(uids) == 25 and uids == sorted(uids) == scene.upstream.uids(key)
        assert scene.raw(key, uids[7]) == self.kept(message("n7"))
        flags = scene.flags(key)
        assert [bool(flags[uid]) for uid in uids] == [bool(n % 2) for n in range(25)]

    def test_equal_messages_are_as_many_messages(self, scene: Scene) -> None:
        answers = scene.source.append(b"INBOX", [scene.new(message("twin"))] * 3)
        assert len({answer.uid for answer in answers}) == 3 and len(scene.upstream.uids(b"INBOX")) == 3

    @pytest.mark.parametrize("raw", [LARGE, EIGHT_BIT, b"\r\nno header\r\n", b"X: y\r\n\r\n"], ids=range(4))
    def test_a_message_of_any_kind_is_appended_as_it_is(self, scene: Scene, raw: bytes) -> None:
        (answer,) = scene.source.append(b"INBOX", [scene.new(raw)])
        assert answer.uid is not None and scene.upstream.uids(b"INBOX") == [answer.uid]
        assert scene.raw(b"INBOX", answer.uid) == self.kept(raw)

    def test_a_message_with_nul_octets_is_kept_or_refused_by_itself(self, scene: Scene) -> None:
        nul = message("nul").replace(b"Hello nul", b"a\0b")
        odd, good = scene.source.append(b"INBOX", [scene.new(nul), scene.new(message("good"))])
        assert good.uid is not None and scene.raw(b"INBOX", good.uid) == self.kept(message("good"))
        assert odd.uid is not None or (odd.error is not None and odd.error.code is not None)

    def test_appending_to_a_folder_that_is_not_there_makes_none(self, scene: Scene) -> None:
        for news in ([scene.new(message("one"))], [scene.new(message("one")), scene.new(message("two"))]):
            with pytest.raises(UpstreamError) as caught:
                scene.source.append(b"No-such-folder", news)
            assert caught.value.code in GONE
        assert not any(f.key == b"No-such-folder" and f.exists for f in scene.source.folders())

    def test_appending_nothing_does_nothing(self, scene: Scene) -> None:
        assert scene.source.append(b"INBOX", []) == []

    def test_our_own_message_has_not_vanished_in_the_next_pass(self, scene: Scene) -> None:
        scene.upstream.append(b"INBOX", message("old"))
        mirror = Mirror(scene.source, b"INBOX")
        mirror.sync()
        (answer,) = scene.source.append(b"INBOX", [scene.new(message("ours"))])
        assert answer.uid is not None
        found = scene.source.changes(b"INBOX", mirror.point, lambda: [*sorted(mirror.items), answer.uid or 0])
        assert not found.vanished and [item.uid for item in found.new] == [answer.uid]

    # --- flags -------------------------------------------------------------------------------------------------

    def test_flags_are_added_and_removed_and_told(self, scene: Scene) -> None:
        one = scene.upstream.append(b"INBOX", message("one"), ["\\Flagged"])
        two = scene.upstream.append(b"INBOX", message("two"), ["\\Answered"])
        told = scene.source.store(b"INBOX", scene.validity(), [one, two], ["\\Seen"], ["\\Flagged"])
        expected = {one: {"\\seen"}, two: {"\\answered", "\\seen"}}
        assert {uid: low(flags) for uid, flags in told.items()} == expected == scene.flags()

    def test_flags_that_are_as_wanted_are_told_too(self, scene: Scene) -> None:
        uid = scene.upstream.append(b"INBOX", message("one"), ["\\Seen"])
        told = scene.source.store(b"INBOX", scene.validity(), [uid], ["\\Seen"], ["\\Flagged"])
        assert {u: low(flags) for u, flags in told.items()} == {uid: {"\\seen"}}

    def test_keywords_are_added_and_removed(self, scene: Scene) -> None:
        if not self.user_keywords:
            pytest.skip("this upstream keeps no keywords")
        uid = scene.upstream.append(b"INBOX", message("one"), ["$Old"])
        scene.source.store(b"INBOX", scene.validity(), [uid], ["$New", "Plain"], ["$Old"])
        assert scene.flags() == {uid: {"$new", "plain"}}

    def test_a_message_that_is_gone_is_left_out_of_the_answer(self, scene: Scene) -> None:
        kept, gone = (scene.upstream.append(b"INBOX", message(name)) for name in ("kept", "gone"))
        scene.source.headers(b"INBOX", [kept])
        scene.upstream.expunge(b"INBOX", gone)
        told = scene.source.store(b"INBOX", scene.validity(), [kept, gone, gone + 50], ["\\Seen"], [])
        assert set(told) == {kept} and scene.flags() == {kept: {"\\seen"}}

    def test_a_message_that_came_after_the_folder_was_opened_can_be_written_to(self, scene: Scene) -> None:
        target = scene.upstream.create("Target")
        old = scene.upstream.append(b"INBOX", message("old"))
        validity = scene.validity()
        scene.source.store(b"INBOX", validity, [old], ["\\Seen"], [])
        for write in (
            lambda uid: scene.source.store(b"INBOX", validity, [uid], ["\\Seen"], []),
            lambda uid: scene.source.copy(b"INBOX", validity, [uid], target).uids,
        ):
            assert write(scene.upstream.append(b"INBOX", message("fresh")))
        uid = scene.upstream.append(b"INBOX", message("fresh"))
        scene.source.remove(b"INBOX", validity, [uid])
        assert uid not in scene.upstream.uids(b"INBOX")

    def test_nothing_is_written_under_another_uidvalidity(self, scene: Scene) -> None:
        target = scene.upstream.create("Target")
        uid = scene.upstream.append(b"INBOX", message("one"))
        wrong = scene.validity() + 1
        writes: list[Callable[[], object]] = [
            lambda: scene.source.store(b"INBOX", wrong, [uid], ["\\Seen"], []),
            lambda: scene.source.copy(b"INBOX", wrong, [uid], target),
            lambda: scene.source.remove(b"INBOX", wrong, [uid]),
        ]
        if scene.source.features.move:
            writes.append(lambda: scene.source.move(b"INBOX", wrong, [uid], target))
        for write in writes:
            with pytest.raises(UpstreamError) as caught:
                write()
            assert caught.value.code == "uidvalidity"
        assert scene.flags() == {uid: set()} and scene.upstream.uids(target) == []

    # --- copy, move, remove ------------------------------------------------------------------------------------

    def test_copies_are_told_with_their_new_uids(self, scene: Scene) -> None:
        target = scene.upstream.create("Target")
        scene.upstream.append(target, message("before"))
        uids = [scene.upstream.append(b"INBOX", message(f"n{n}"), ["\\Seen"]) for n in range(4)]
        scene.upstream.expunge(b"INBOX", uids[1])
        copied = scene.source.copy(b"INBOX", scene.validity(), uids[:3], target)
        assert set(copied.uids) == {uids[0], uids[2]} and copied.uidvalidity == scene.validity(target)
        for old, new in copied.uids.items():
            assert scene.flags(target)[new] == {"\\seen"}
            assert scene.raw(target, new) == self.kept(message(f"n{uids.index(old)}"))
        assert scene.upstream.uids(b"INBOX") == [uids[0], uids[2], uids[3]] and len(scene.upstream.uids(target)) == 3

    def test_a_copy_of_what_is_gone_copies_nothing(self, scene: Scene) -> None:
        target = scene.upstream.create("Target")
        assert scene.source.copy(b"INBOX", scene.validity(), [7, 8], target).uids == {}
        assert scene.source.copy(b"INBOX", scene.validity(), [], target).uids == {}

    def test_a_move_leaves_nothing_behind(self, scene: Scene) -> None:
        if not scene.source.features.move:
            pytest.skip("this upstream has no MOVE")
        target = scene.upstream.create("Target")
        uids = [scene.upstream.append(b"INBOX", message(f"n{n}"), ["\\Flagged"]) for n in range(3)]
        moved = scene.source.move(b"INBOX", scene.validity(), [uids[2], uids[0], 999], target)
        assert set(moved.uids) == {uids[0], uids[2]} and scene.upstream.uids(b"INBOX") == [uids[1]]
        assert sorted(moved.uids.values()) == scene.upstream.uids(target)
        for old, new in moved.uids.items():
            assert scene.raw(target, new) == self.kept(message(f"n{uids.index(old)}"))
            assert scene.flags(target)[new] == {"\\flagged"}

    def test_a_target_that_is_not_there_takes_nothing_away(self, scene: Scene) -> None:
        uid = scene.upstream.append(b"INBOX", message("one"))
        moves = [scene.source.copy, *([scene.source.move] if scene.source.features.move else [])]
        for each in moves:
            with pytest.raises(UpstreamError) as caught:
                each(b"INBOX", scene.validity(), [uid], b"No-such-folder")
            assert caught.value.code in GONE
        assert scene.upstream.uids(b"INBOX") == [uid]

    def test_what_is_removed_is_gone_and_nothing_else(self, scene: Scene) -> None:
        uids = [scene.upstream.append(b"INBOX", message(str(n))) for n in range(5)]
        removed = scene.source.remove(b"INBOX", scene.validity(), [*uids[1:4], 999])
        assert set(uids[1:4]) <= set(removed) and scene.upstream.uids(b"INBOX") == [uids[0], uids[4]]

    def test_what_another_client_marked_as_deleted_stays(self, scene: Scene) -> None:
        """Wish 16."""
        ours, theirs = (scene.upstream.append(b"INBOX", message(name)) for name in ("ours", "theirs"))
        scene.upstream.flag(b"INBOX", theirs, "\\Deleted")
        assert ours in scene.source.remove(b"INBOX", scene.validity(), [ours])
        assert scene.flags()[theirs] == {"\\deleted"}
        # Without UIDPLUS ours stays too, hidden (mail-rules 32).
        assert scene.flags().get(ours, {"\\deleted"}) == {"\\deleted"}

    # --- folders -----------------------------------------------------------------------------------------------

    def test_a_folder_is_made_where_it_was_wanted(self, scene: Scene) -> None:
        name = "Entwürfe ~ 😀"
        parent = scene.source.create_folder(None, "Réseau & 会社")
        child = scene.source.create_folder(parent, name)
        found = folder(scene.source, child)
        assert found.path == ("Réseau & 会社", name) and found.parent == parent
        assert found.selectable and found.subscribed and found.messages == 0
        (answer,) = scene.source.append(child, [scene.new(message("in"))])
        assert answer.uid is not None and scene.upstream.uids(child) == [answer.uid]

    @pytest.mark.parametrize("name", ["", "a/b.c", "tab\there", "line\r\nbreak", "nul\0", "e\u0301", "\u2028"])
    def test_a_name_that_is_no_level_of_its_own_is_refused(self, scene: Scene, name: str) -> None:
        before = [f.key for f in scene.source.folders()]
        with pytest.raises(UpstreamError) as caught:
            scene.source.create_folder(None, name)
        assert caught.value.code == "cannot" and [f.key for f in scene.source.folders()] == before

    def test_a_folder_that_exists_is_not_made_again(self, scene: Scene) -> None:
        key = scene.upstream.create("Box")
        scene.upstream.append(key, message("kept"))
        other = scene.upstream.create("Other")
        tries: list[Callable[[], object]] = [
            lambda: scene.source.create_folder(None, "Box"),
            lambda: scene.source.create_folder(None, "INBOX"),
            lambda: scene.source.rename_folder(other, None, "Box"),
        ]
        for each in tries:
            with pytest.raises(UpstreamError) as caught:
                each()
            assert caught.value.code == "alreadyexists"
        assert len(scene.upstream.uids(key)) == 1 and folder(scene.source, other).selectable

    def test_a_renamed_folder_takes_its_messages_children_and_subscriptions_along(self, scene: Scene) -> None:
        old, place = scene.upstream.create("Old"), scene.upstream.create("Place")
        child = scene.upstream.create("Old", "Child")
        quiet = scene.upstream.create("Old", "Quiet")
        scene.source.subscribe_folder(quiet, False)
        uid = scene.upstream.append(child, message("inside"))
        scene.source.headers(child, [uid])  # the child is open on a connection of ours
        new = scene.source.rename_folder(old, place, "Neu ä")
        found = {f.path: f for f in scene.source.folders() if f.exists}
        assert found["Place", "Neu ä"].key == new and found["Place", "Neu ä"].parent == place
        assert ("Old",) not in found and ("Old", "Child") not in found
        moved = found["Place", "Neu ä", "Child"]
        assert moved.subscribed and found["Place", "Neu ä"].subscribed
        assert not found["Place", "Neu ä", "Quiet"].subscribed
        assert len(scene.upstream.uids(moved.key)) == 1

    def test_a_folder_that_is_not_there_is_neither_renamed_nor_deleted(self, scene: Scene) -> None:
        tries: list[Callable[[], object]] = [
            lambda: scene.source.rename_folder(b"Missing", None, "Else"),
            lambda: scene.source.delete_folder(b"Missing"),
        ]
        for each in tries:
            with pytest.raises(UpstreamError) as caught:
                each()
            assert caught.value.code == "nonexistent"

    def test_the_inbox_is_neither_renamed_nor_deleted(self, scene: Scene) -> None:
        uid = scene.upstream.append(b"INBOX", message("kept"))
        for each in (
            lambda: scene.source.rename_folder(b"INBOX", None, "Else"),
            lambda: scene.source.delete_folder(b"INBOX"),
        ):
            with pytest.raises(UpstreamError) as caught:
                each()
            assert caught.value.code == "cannot"
        assert scene.upstream.uids(b"INBOX") == [uid]

    def test_a_folder_does_not_go_below_itself(self, scene: Scene) -> None:
        key = scene.upstream.create("Box")
        with pytest.raises(UpstreamError) as caught:
            scene.source.rename_folder(key, key, "Inner")
        assert caught.value.code == "cannot" and folder(scene.source, key).selectable

    def test_a_deleted_folder_is_gone_though_it_was_open_everywhere(self, scene: Scene) -> None:
        key = scene.upstream.create("Box")
        kept = scene.upstream.append(b"INBOX", message("kept"))
        uid = scene.upstream.append(key, message("gone"))
        other = scene.upstream.source()
        for source in (scene.source, other):
            source.changes(key, None, list)
            source.headers(key, [uid])
        scene.source.store(key, scene.validity(key), [uid], ["\\Seen"], [])
        scene.source.delete_folder(key)
        assert not any(f.key == key and (f.exists or f.subscribed) for f in scene.source.folders())
        for source in (scene.source, other):
            with pytest.raises(UpstreamError):
                source.changes(key, None, list)
            assert set(source.headers(b"INBOX", [kept])) == {kept}
            assert [item.uid for item in source.changes(b"INBOX", None, list).new] == [kept]

    def test_a_folder_made_again_under_the_same_name_is_another_one(self, scene: Scene) -> None:
        key = scene.source.create_folder(None, "Box")
        first = scene.source.append(key, [scene.new(message("one"))])[0]
        assert first.uid is not None
        before = scene.validity(key)
        scene.source.changes(key, None, list)
        scene.source.delete_folder(key)
        assert scene.source.create_folder(None, "Box") == key
        assert scene.source.changes(key, None, list).new == ()
        second = scene.source.append(key, [scene.new(message("two"))])[0]
        if scene.validity(key) != before:
            with pytest.raises(UpstreamError) as caught:
                scene.source.store(key, before, [second.uid or 0], ["\\Seen"], [])
            assert caught.value.code == "uidvalidity"

    def test_a_folder_with_children_can_be_emptied_of_them_and_deleted(self, scene: Scene) -> None:
        parent = scene.source.create_folder(None, "Parent")
        child = scene.source.create_folder(parent, "Child")
        scene.source.delete_folder(child)
        scene.source.delete_folder(parent)
        assert not any(f.path[0] == "Parent" and f.exists for f in scene.source.folders())

    def test_subscriptions_come_and_go(self, scene: Scene) -> None:
        key = scene.upstream.create("Box")
        for wanted in (False, True):
            scene.source.subscribe_folder(key, wanted)
            assert folder(scene.source, key).subscribed is wanted

    def test_a_folder_for_a_role_is_made(self, scene: Scene) -> None:
        key = scene.source.create_folder(None, "Papierkorb zwei", "trash")
        found = folder(scene.source, key)
        assert found.selectable and found.rights == Rights()
