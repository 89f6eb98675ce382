"""folders.py: rules 6, 25, 26."""

from __future__ import annotations

from collections.abc import Sequence

from jmapplug.backends import Folder, Rights
from jmapplug.capabilities.mail.folders import Binding, Box, plan_boxes, rights_json


def folder(path: str, **more: object) -> Folder:
    levels = tuple(path.split("/"))
    parent = "/".join(levels[:-1]).encode() or None
    return Folder(path.encode(), levels, parent, **more)  # type: ignore[arg-type]


def planned(listing: Sequence[Folder], known: Sequence[Binding] = ()) -> dict[bytes, Box]:
    return {box.key: box for box in plan_boxes(listing, known, {})}


def bound(mid: int, key: str, role: str | None = None, server_id: str | None = None) -> Binding:
    return Binding(mid, key.encode(), server_id, 1, 1, role, "server" if role else None, None)


def test_inbox_is_shown_as_inbox_and_may_not_be_renamed_or_deleted() -> None:
    """Rule 25; clients look for either spelling."""
    box = planned([folder("INBOX", role="inbox")])[b"INBOX"]
    rights = rights_json(box.rights)
    assert (box.name, box.role) == ("Inbox", "inbox")
    assert (rights["mayRename"], rights["mayDelete"], rights["mayReadItems"]) == (False, False, True)


def test_a_parent_that_is_not_listed_may_only_have_children() -> None:
    """Rule 25, any number of levels."""
    boxes = planned([folder("a/b/c")])
    assert set(boxes) == {b"a", b"a/b", b"a/b/c"}
    for key in (b"a", b"a/b"):
        allowed = [name for name, may in rights_json(boxes[key].rights).items() if may]
        assert allowed == ["mayCreateChild"]
        assert not boxes[key].selectable
    assert [boxes[key].parent for key in (b"a", b"a/b", b"a/b/c")] == [None, b"a", b"a/b"]


def test_siblings_that_collide_get_a_suffix_that_stays() -> None:
    """Rule 25: after decoding or NFC."""
    composed = Folder(b"one", ("Caf\u00e9",))
    decomposed = Folder(b"two", ("Cafe\u0301",))
    first = planned([composed, decomposed])
    names = {first[b"one"].name, first[b"two"].name}
    assert len(names) == 2
    assert "Caf\u00e9" in names
    known = [bound(1, "one"), bound(2, "two")]
    again = planned([decomposed, composed], known)
    assert {key: box.name for key, box in again.items()} == {key: box.name for key, box in first.items()}


def test_the_same_name_under_another_parent_is_no_collision() -> None:
    boxes = planned([folder("a"), folder("b"), folder("a/x"), folder("b/x")])
    assert boxes[b"a/x"].name == boxes[b"b/x"].name == "x"


def test_names_hold_no_control_characters_and_are_never_empty() -> None:
    """RFC 8621 §2: Net-Unicode, at least one character."""
    boxes = planned([Folder(b"x", ("a\0b\r",)), Folder(b"y", ("",)), Folder(b"z", ())])
    assert all(box.name and box.name.isprintable() for box in boxes.values())


def test_a_role_goes_to_the_server_s_choice_before_a_name() -> None:
    """Rule 26: duplicates get null."""
    boxes = planned([folder("Trash", role_by_name="trash"), folder("Bin", role="trash"), folder("Bin2", role="trash")])
    assert [boxes[key].role for key in (b"Trash", b"Bin", b"Bin2")] == [None, "trash", None]


def test_a_later_candidate_never_takes_a_role_over() -> None:
    """Rule 26: roles are bindings."""
    known = [bound(1, "Old", "trash"), bound(2, "New")]
    boxes = planned([folder("New", role="trash"), folder("Old")], known)
    assert (boxes[b"Old"].role, boxes[b"New"].role) == ("trash", None)


def test_a_role_is_free_again_when_its_mailbox_is_gone() -> None:
    """Rule 26."""
    boxes = planned([folder("New", role="trash")], [bound(1, "Old", "trash"), bound(2, "New")])
    assert boxes[b"New"].role == "trash"


def test_a_mailbox_has_one_role_only() -> None:
    boxes = planned([folder("All", role="all", role_by_name="archive")])
    assert boxes[b"All"].role == "all"


def test_server_ids_decide_before_names() -> None:
    """Rule 6."""
    known = [bound(1, "A", server_id="ga"), bound(2, "B", server_id="gb")]
    boxes = planned([folder("A", server_id="gb"), folder("B", server_id="ga"), folder("C", server_id="gc")], known)
    assert [boxes[key].mid for key in (b"A", b"B", b"C")] == [2, 1, 0]


def test_a_server_id_twice_binds_one_folder_only() -> None:
    known = [bound(1, "A", server_id="g")]
    boxes = planned([folder("X", server_id="g"), folder("Y", server_id="g")], known)
    assert sorted(box.mid for box in boxes.values()) == [0, 1]


def test_a_server_id_that_appears_later_keeps_the_binding_by_name() -> None:
    """Rules 4, 6."""
    (box,) = planned([folder("A", server_id="g")], [bound(1, "A")]).values()
    assert (box.mid, box.server_id) == (1, "g")


def test_oldname_moves_the_binding() -> None:
    """Rule 6."""
    (box,) = planned([folder("New", old_key=b"Old")], [bound(1, "Old")]).values()
    assert box.mid == 1


def test_rights_are_what_the_server_gives() -> None:
    """Rule 24, RFC 8621 §2."""
    (box,) = planned([folder("A", rights=Rights(may_add_items=False, may_submit=False))]).values()
    refused = [name for name, may in rights_json(box.rights).items() if not may]
    assert refused == ["mayAddItems", "maySubmit"]
