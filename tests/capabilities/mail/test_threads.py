"""threads.py: rule 8."""

from __future__ import annotations

from jmapplug.capabilities.mail.ids import reference_hashes
from jmapplug.capabilities.mail.threads import CAP, Threads, reference_order

SALT = b"s" * 16


def test_an_email_without_relatives_founds_a_thread() -> None:
    threads = Threads({}, {})
    assert threads.join([1, 2], 7) == 7
    assert threads.learned == {1: 7, 2: 7}


def test_the_nearest_relative_decides_and_nothing_merges() -> None:
    """Rule 8: hashes that are known keep their thread."""
    threads = Threads({1: 10, 2: 20}, {10: 1, 20: 1})
    assert threads.join([2, 1, 3], 30) == 20
    assert threads.known == {1: 10, 2: 20, 3: 20}
    assert (threads.learned, threads.replaced) == ({3: 20}, {})


def test_the_thousand_and_first_starts_another_thread_that_the_next_ones_join() -> None:
    """Rule 8: a thread holds at most 1,000."""
    threads = Threads({}, {})
    tids = [threads.join([1], eid) for eid in range(1, CAP + 3)]
    assert tids[:CAP] == [1] * CAP
    assert tids[CAP:] == [CAP + 1, CAP + 1]
    assert threads.replaced == {1: CAP + 1}


def test_a_full_relative_is_passed_over_for_another_one() -> None:
    threads = Threads({1: 10, 2: 20}, {10: CAP, 20: 5})
    assert threads.join([1, 2], 30) == 20


def test_relatives_are_asked_nearest_first() -> None:
    assert reference_order(["me"], ["parent"], ["root", "grandparent", "parent"]) == [
        "parent", "parent", "grandparent", "me", "root",
    ]  # fmt: skip
    assert reference_order(None, None, None) == []


def test_thousands_of_references_are_cut_and_the_root_stays() -> None:
    many = [f"m{at}@x" for at in range(5000)]
    hashes = reference_hashes(SALT, "s", many)
    assert len(hashes) == 50
    assert hashes[-1] == reference_hashes(SALT, "s", [many[-1]])[0]


def test_the_subject_and_the_account_are_part_of_a_reference() -> None:
    (one,) = reference_hashes(SALT, "A", ["m@x"])
    assert one not in (reference_hashes(SALT, "B", ["m@x"])[0], reference_hashes(b"t" * 16, "A", ["m@x"])[0])
    assert -(1 << 63) <= one < 1 << 63
