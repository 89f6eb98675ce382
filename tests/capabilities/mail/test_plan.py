"""plan.py: upstream's answers and our rows in, actions out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jmapplug.backends import Folder, Item
from jmapplug.capabilities.mail.plan import Known, is_changed, is_modseq_back, is_reset, missing, order, plan_items

flags = st.lists(st.sampled_from(["\\Seen", "\\Deleted", "\\Recent", "Work", "$Junk"]), max_size=4).map(tuple)
items = st.lists(st.builds(Item, st.integers(1, 20), flags, st.integers(0, 100)), unique_by=lambda item: item.uid)


@given(items, items)
def test_applying_a_plan_makes_the_rows_equal_to_the_listing(before: list[Item], after: list[Item]) -> None:
    """And a second plan has nothing to do (rule 12)."""
    rows = {row.uid: (row.flags, row.hidden) for row in plan_items(before, {}).new}
    plan = plan_items(after, rows)
    for row in (*plan.new, *plan.changes, *plan.hiding):
        rows[row.uid] = (row.flags, row.hidden)
    for uid in missing(after, list(rows)):
        del rows[uid]
    assert plan_items(after, rows) == ([], [], [])
    assert set(rows) == {item.uid for item in after}


@given(items, items)
def test_only_what_takes_a_copy_out_of_sight_is_hiding(before: list[Item], after: list[Item]) -> None:
    """Rule 19."""
    rows = {row.uid: (row.flags, row.hidden) for row in plan_items(before, {}).new}
    plan = plan_items(after, rows)
    assert all(row.hidden and not rows[row.uid][1] for row in plan.hiding)
    assert all(not row.hidden or rows[row.uid][1] for row in plan.changes)


def test_recent_and_the_order_of_flags_are_no_change() -> None:
    """Rules 12, 15."""
    rows = {1: ("Work \\Seen", False)}
    assert plan_items([Item(1, ("\\Seen", "\\Recent", "Work"))], rows) == ([], [], [])


def test_flags_of_an_unknown_message_make_no_copy() -> None:
    assert plan_items([Item(7, ("\\Seen",))], {}) == ([], [], [])


def test_a_folder_is_changed_when_any_part_of_its_status_differs() -> None:
    known = Known(1, 10, 5, 3, 0)
    same = {"uidvalidity": 1, "uidnext": 10, "highestmodseq": 5, "messages": 3}
    assert not is_changed(Folder(b"a", ("a",), **same), known)
    for name in same:
        assert is_changed(Folder(b"a", ("a",), **{**same, name: 99}), known)
    assert is_changed(Folder(b"a", ("a",), **same), Known(1, None, None, None, 0))


def test_uids_mean_nothing_after_a_new_validity_or_a_smaller_uidnext() -> None:
    """Rule 22; a first listing under way included."""
    assert is_reset(Known(1, 10, 5, 3, 0), 2, 10)
    assert is_reset(Known(1, 10, 5, 3, 0), 1, 9)
    assert is_reset(Known(1, None, None, None, 0), 2, 10)
    assert not is_reset(Known(1, None, None, None, 0), 1, 1)
    assert not is_reset(Known(None, None, None, None, 0), 2, 10)


def test_a_modseq_that_went_back_is_noticed() -> None:
    known = Known(1, 10, 5, 3, 0)
    assert is_modseq_back(Folder(b"a", ("a",), uidvalidity=1, uidnext=10, highestmodseq=4), known)
    assert not is_modseq_back(Folder(b"a", ("a",), uidvalidity=1, uidnext=10, highestmodseq=5), known)


def test_inbox_comes_first_and_roles_before_the_rest() -> None:
    folders = [Folder(b"a", ("a",)), Folder(b"t", ("t",), role="trash"), Folder(b"i", ("i",), role="inbox")]
    assert [folder.key for folder in order(folders)] == [b"i", b"t", b"a"]
