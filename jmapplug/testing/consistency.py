"""Recomputes what the mail store keeps incrementally, from the copies alone, and compares: for tests.

``check`` looks at one store; ``check_view`` also at a :class:`~jmapplug.testing.memory_source.MemoryServer`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from jmapplug.capabilities.mail.keywords import indexed, keywords_of, merged
from jmapplug.store.account import Store
from jmapplug.testing.memory_source import MemoryServer


def _emails(store: Store) -> dict[int, tuple[set[int], frozenset[str]]]:
    """eid → (mids, keywords) by the visible copies, and the keywords that are kept here."""
    local: dict[int, set[str]] = defaultdict(set)
    for eid, keyword in store.own.rows("SELECT eid, keyword FROM mail_keyword"):
        local[eid].add(keyword)
    copies: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for eid, mid, flags in store.cache.rows("SELECT eid, mid, flags FROM message WHERE eid NOTNULL AND hidden = 0"):
        copies[eid].append((mid, flags))
    return {
        eid: ({mid for mid, _ in each}, merged(flags for _, flags in each) | local[eid]) for eid, each in copies.items()
    }


def check(store: Store) -> None:
    """Raises AssertionError where a stored row, count or thread is not what the copies say."""
    wanted = _emails(store)
    names: dict[int, str] = dict(store.cache.rows("SELECT mid, id FROM mailbox WHERE deleted = 0"))
    trash = store.cache.value("SELECT mid FROM mailbox WHERE role = 'trash' AND deleted = 0")
    live: dict[int, Any] = {}
    for eid, tid, flags, keywords, boxes, received_at in store.cache.rows(
        "SELECT eid, tid, flags, keywords, mailbox_ids, received_at FROM email WHERE deleted = 0"
    ):
        assert eid in wanted, f"Email {eid} has no copy"
        mids, words = wanted[eid]
        assert set(json.loads(keywords)) == words, f"keywords of {eid}"
        assert set(json.loads(boxes)) == {names[mid] for mid in mids}, f"mailboxIds of {eid}"
        bits = sum(
            bit for bit, word in ((1, "$seen"), (2, "$draft"), (4, "$flagged"), (8, "$answered")) if word in words
        )
        assert flags & 15 == bits, f"bits of {eid}"
        live[eid] = (tid, received_at)
    assert set(live) == set(wanted), "copies without an Email"
    _check_rows(store, wanted, live)
    _check_threads(store, wanted, live, trash)
    _check_counts(store, wanted, live, trash, names)


def _check_rows(store: Store, wanted: dict[int, Any], live: dict[int, Any]) -> None:
    places = {(mid, eid) for eid, (mids, _) in wanted.items() for mid in mids}
    stored = store.cache.rows("SELECT mid, eid, tid, received_at FROM email_mailbox")
    assert sorted((mid, eid) for mid, eid, _, _ in stored) == sorted(places), "email_mailbox"
    assert all((tid, at) == live[eid] for _, eid, tid, at in stored), "email_mailbox's copies of columns"
    words = {(word, eid) for eid, (_, keywords) in wanted.items() for word in indexed(keywords)}
    assert set(store.cache.rows("SELECT keyword, eid FROM email_keyword")) == words, "email_keyword"


def _unread(wanted: dict[int, Any], eid: int) -> bool:
    return not wanted[eid][1] & {"$seen", "$draft"}


def _check_threads(store: Store, wanted: dict[int, Any], live: dict[int, Any], trash: int | None) -> None:
    threads: dict[int, list[int]] = defaultdict(lambda: [0, 0, 0])
    places: dict[tuple[int, int], int] = defaultdict(int)
    for eid, (tid, _) in live.items():
        mids = wanted[eid][0]
        threads[tid][0] += 1
        if _unread(wanted, eid):
            threads[tid][1] += bool(mids - {trash})
            threads[tid][2] += trash in mids
        for mid in mids:
            places[mid, tid] += 1
    stored = store.cache.rows("SELECT tid, emails, unread, unread_trash FROM thread WHERE deleted = 0")
    assert {tid: rest for tid, *rest in stored} == dict(threads), "threads"
    found = {(mid, tid): count for mid, tid, count in store.cache.rows("SELECT mid, tid, emails FROM mailbox_thread")}
    assert found == dict(places), "mailbox_thread"
    assert all(count[0] <= 1000 for count in threads.values()), "a thread over its cap"


def _check_counts(
    store: Store, wanted: dict[int, Any], live: dict[int, Any], trash: int | None, names: dict[int, str]
) -> None:
    unread_outside = {live[eid][0] for eid in live if _unread(wanted, eid) and wanted[eid][0] - {trash}}
    unread_inside = {live[eid][0] for eid in live if _unread(wanted, eid) and trash in wanted[eid][0]}
    for mid in names:
        here = [eid for eid in live if mid in wanted[eid][0]]
        threads = {live[eid][0] for eid in here}
        unread = threads & (unread_inside if mid == trash else unread_outside)
        counts = (len(here), sum(_unread(wanted, eid) for eid in here), len(threads), len(unread))
        stored = store.cache.row(
            "SELECT total_emails, unread_emails, total_threads, unread_threads FROM mailbox WHERE mid = ?", (mid,)
        )
        assert stored == counts, f"counts of mailbox {mid}: {stored}, not {counts}"


def check_view(store: Store, server: MemoryServer) -> None:
    """The store holds what the server shows UNDELETED, copy for copy; copies of one Email are one message."""
    check(store)
    keys: dict[int, bytes] = dict(store.cache.rows("SELECT mid, key FROM mailbox WHERE deleted = 0 AND selectable"))
    view = server.view()
    assert set(keys.values()) == set(view), "folders"
    messages: dict[int, set[bytes]] = defaultdict(set)
    for mid, key in keys.items():
        rows = store.cache.rows("SELECT uid, flags, eid FROM message WHERE mid = ? AND hidden = 0", (mid,))
        assert {uid for uid, _, _ in rows} == set(view[key]), f"UIDs of {key!r}"
        for uid, flags, eid in rows:
            assert eid is not None, f"{key!r} {uid} is still pending"
            assert keywords_of(flags) == keywords_of(" ".join(view[key][uid][0])), f"flags of {key!r} {uid}"
            messages[eid].add(view[key][uid][1])
    # Two different messages never share an id.
    assert all(len(raws) == 1 for raws in messages.values()), "different messages share an Email"
