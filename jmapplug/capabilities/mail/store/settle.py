"""SQL of settling: what of Emails, Threads and Mailboxes is stored, read and written a batch at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from jmapplug.capabilities.mail.store.sync import listed
from jmapplug.store.database import Txn

_IN = "IN (SELECT value FROM json_each(?))"

MESSAGE_COLUMNS = (
    "sent", "j_message_id", "j_in_reply_to", "j_references", "j_sender", "j_from", "j_to", "j_cc", "j_bcc",
    "j_reply_to", "subject", "sent_at", "sort_subject", "sort_from", "sort_to", "preview", "structure",
)  # fmt: skip
"""In the order of ``details.Columns``."""
STATE_COLUMNS = (
    "eid", "id", "tid", "thread_id", "received_at", "size", "flags", "keywords", "mailbox_ids", "created_modseq",
    "modseq", "revived",
)  # fmt: skip
_ALL = STATE_COLUMNS + MESSAGE_COLUMNS
_INSERT_EMAIL = f"INSERT OR REPLACE INTO email ({', '.join(_ALL)}) VALUES ({', '.join('?' * len(_ALL))})"  # noqa: S608
_FORGOTTEN = ("thread_id", "received_at", "size", "keywords", "mailbox_ids", *MESSAGE_COLUMNS)
_FORGET = ", ".join(f"{name} = NULL" for name in _FORGOTTEN)
_TOMBSTONE = (
    "UPDATE email SET created_modseq = iif(revived, 0, created_modseq), deleted = 1, flags = 0, indexed = 0,"  # noqa: S608
    f" revived = 0, {_FORGET}, modseq = ? WHERE eid = ?"
)


def emails(txn: Txn, eids: Sequence[int]) -> list[tuple[Any, ...]]:
    """(eid, id, tid, received_at, size, flags, keywords) of the live ones."""
    sql = (
        "SELECT eid, id, tid, received_at, size, flags, keywords FROM email"  # noqa: S608
        f" WHERE eid {_IN} AND deleted = 0"
    )
    return txn.rows(sql, (listed(eids),))


def mailboxes_of(txn: Txn, eids: Sequence[int]) -> list[tuple[int, int]]:
    """(eid, mid) where these Emails are visible."""
    return txn.rows(f"SELECT eid, mid FROM email_mailbox WHERE eid {_IN}", (listed(eids),))  # noqa: S608


def visible_copies(txn: Txn, eids: Sequence[int]) -> list[tuple[int, int, str]]:
    """(eid, mid, flags) of every copy of these Emails that is not hidden."""
    return txn.rows(f"SELECT eid, mid, flags FROM message WHERE eid {_IN} AND hidden = 0", (listed(eids),))  # noqa: S608


def insert_emails(txn: Txn, rows: Iterable[tuple[Any, ...]]) -> None:
    txn.executemany(_INSERT_EMAIL, rows)


def update_emails(txn: Txn, rows: Iterable[tuple[Any, ...]]) -> None:
    """Rows (flags, keywords, mailbox_ids, modseq, eid)."""
    txn.executemany("UPDATE email SET flags = ?, keywords = ?, mailbox_ids = ?, modseq = ? WHERE eid = ?", rows)


def destroy_emails(txn: Txn, eids: Sequence[int], modseq: int) -> None:
    """Leave tombstones, and nothing in the text index."""
    indexed = f"SELECT eid FROM email WHERE eid {_IN} AND indexed = 1"  # noqa: S608
    txn.executemany("DELETE FROM fts WHERE rowid = ?", txn.rows(indexed, (listed(eids),)))
    txn.executemany(_TOMBSTONE, ((modseq, eid) for eid in eids))


def write_places(txn: Txn, gone: Iterable[tuple[Any, ...]], come: Iterable[tuple[Any, ...]]) -> None:
    """``gone`` (mid, received_at, id), ``come`` (mid, received_at, id, eid, tid)."""
    txn.executemany("DELETE FROM email_mailbox WHERE mid = ? AND received_at = ? AND id = ?", gone)
    txn.executemany("INSERT INTO email_mailbox (mid, received_at, id, eid, tid) VALUES (?, ?, ?, ?, ?)", come)


def write_keywords(txn: Txn, gone: Iterable[tuple[Any, ...]], come: Iterable[tuple[Any, ...]]) -> None:
    """``gone`` (keyword, received_at, id), ``come`` (keyword, received_at, id, eid)."""
    txn.executemany("DELETE FROM email_keyword WHERE keyword = ? AND received_at = ? AND id = ?", gone)
    txn.executemany("INSERT INTO email_keyword (keyword, received_at, id, eid) VALUES (?, ?, ?, ?)", come)


def threads(txn: Txn, tids: Sequence[int]) -> dict[int, tuple[int, int, int]]:
    """tid → (emails, unread, unread in Trash) of the live ones."""
    sql = f"SELECT tid, emails, unread, unread_trash FROM thread WHERE tid {_IN} AND deleted = 0"  # noqa: S608
    return {row[0]: row[1:] for row in txn.rows(sql, (listed(tids),))}


def thread_places(txn: Txn, tids: Sequence[int]) -> list[tuple[int, int, int]]:
    """(mid, tid, emails) of these threads."""
    return txn.rows(f"SELECT mid, tid, emails FROM mailbox_thread WHERE tid {_IN}", (listed(tids),))  # noqa: S608


def write_thread_places(txn: Txn, gone: Iterable[tuple[int, int]], set_: Iterable[tuple[int, int, int]]) -> None:
    """``gone`` (mid, tid); ``set_`` (mid, tid, emails)."""
    txn.executemany("DELETE FROM mailbox_thread WHERE mid = ? AND tid = ?", gone)
    txn.executemany(
        "INSERT INTO mailbox_thread (mid, tid, emails) VALUES (?, ?, ?)"
        " ON CONFLICT (mid, tid) DO UPDATE SET emails = excluded.emails",
        set_,
    )


def create_threads(txn: Txn, rows: Iterable[tuple[Any, ...]]) -> None:
    """Rows (tid, id, emails, unread, unread_trash, modseq, modseq, revived)."""
    txn.executemany(
        "INSERT OR REPLACE INTO thread (tid, id, emails, unread, unread_trash, created_modseq, modseq, revived)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        rows,
    )


def update_threads(txn: Txn, rows: Iterable[tuple[Any, ...]]) -> None:
    """Rows (emails, unread, unread_trash, deleted, modseq or None where the emailIds are as before, tid)."""
    txn.executemany(
        "UPDATE thread SET emails = ?1, unread = ?2, unread_trash = ?3, deleted = ?4, modseq = coalesce(?5, modseq),"
        " created_modseq = iif(?4 AND revived, 0, created_modseq) WHERE tid = ?6",
        rows,
    )


def add_counts(txn: Txn, rows: Iterable[tuple[int, int, int, int, int, int]]) -> None:
    """Rows (total_emails, unread_emails, total_threads, unread_threads as differences, modseq, mid)."""
    txn.executemany(
        "UPDATE mailbox SET total_emails = total_emails + ?, unread_emails = unread_emails + ?,"
        " total_threads = total_threads + ?, unread_threads = unread_threads + ?, modseq = ? WHERE mid = ?",
        rows,
    )


def buried(txn: Txn, table: str, keys: Sequence[int]) -> set[int]:
    """Which of these Emails (``table`` "email") or threads ("thread") are tombstones."""
    column = {"email": "eid", "thread": "tid"}[table]
    sql = f"SELECT {column} FROM {table} WHERE {column} {_IN} AND deleted = 1"  # noqa: S608
    return {key for (key,) in txn.rows(sql, (listed(keys),))}
