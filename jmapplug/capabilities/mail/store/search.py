"""The full-text index: rows of ``fts``, and what is not in there yet.

An Email is *indexed* when its headers and texts are in ``fts``. Until then its headers are looked at in its own row.
"""

# ruff: noqa: S608 - the texts come from this module, every value is bound.
from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from typing import Any

import msgspec

from jmapplug.mime.structure import Part
from jmapplug.store.account import Store
from jmapplug.store.database import Txn

_decode_part = msgspec.msgpack.Decoder(Part).decode
_ADDRESSES = msgspec.json.Decoder(list[dict[str, str | None]])
_ROW = "e.eid, e.received_at, e.structure, e.subject, e.j_from, e.j_to, e.j_cc, e.j_bcc"
_LIVE = "e.deleted = 0 AND e.received_at IS NOT NULL"


class Headers(msgspec.Struct, frozen=True):
    """The header texts of one Email as they are searched: names and addresses, subject."""

    from_: str
    to: str
    cc: str
    bcc: str
    subject: str


class Pending(msgspec.Struct, frozen=True):
    """An Email to be indexed. ``structure`` None: to be parsed from the message itself."""

    eid: int
    received_at: int
    structure: Part | None
    headers: Headers


class Document(msgspec.Struct, frozen=True):
    """What goes into the index for one Email; the texts as ``tokens.indexable`` makes them."""

    eid: int
    headers: Headers
    body: str


def unindexed(store: Store) -> int:
    """How many Emails are not in the index."""
    sql = "SELECT count(*) FROM email INDEXED BY email_unindexed WHERE deleted = 0 AND indexed = 0"
    return int(store.cache.value(sql))


def pending(store: Store, eids: Collection[int], *, again: bool = False) -> list[Pending]:
    """Those of ``eids`` that are not indexed (with ``again``: all that live), newest first."""
    sql = (
        f"SELECT {_ROW} FROM email e WHERE e.eid IN (SELECT value FROM json_each(?)) AND {_LIVE}"
        f"{'' if again else ' AND e.indexed = 0'} ORDER BY e.received_at DESC"
    )
    return [_pending(row) for row in store.cache.rows(sql, (json.dumps(list(eids)),))]


Place = tuple[int, int]
"""(received_at, eid): a place in the order in which messages are indexed."""
_BEHIND_ALL = (2**62, 0)


def newest_unindexed(store: Store, limit: int, before: Place | None = None) -> list[Pending]:
    """The next ones to index, newest first, behind ``before``."""
    sql = (
        f"SELECT {_ROW} FROM email e INDEXED BY email_unindexed WHERE e.indexed = 0 AND {_LIVE}"
        " AND (e.received_at, e.eid) < (?, ?) ORDER BY e.received_at DESC, e.eid DESC LIMIT ?"
    )
    return [_pending(row) for row in store.cache.rows(sql, (*(before or _BEHIND_ALL), limit))]


def unindexed_headers(
    store: Store, needle: str | None, before: Place | None, count: int
) -> tuple[list[Pending], Place | None]:
    """Which of the next ``count`` unindexed Emails behind ``before`` may have a folded word in their headers.

    And the place where the next chunk begins; None at the end. Case is ASCII's here, and a text that is not ASCII
    always may match: the caller judges. Structures are left out.
    """
    start = before or _BEHIND_ALL
    scope = f"FROM email e INDEXED BY email_unindexed WHERE e.indexed = 0 AND {_LIVE}"
    scope += " AND (e.received_at, e.eid) < (?, ?)"
    order = "ORDER BY e.received_at DESC, e.eid DESC"
    last = store.cache.row(f"SELECT e.received_at, e.eid {scope} {order} LIMIT 1 OFFSET ?", (*start, count - 1))
    columns = _ROW.replace("e.structure", "NULL")
    sql = f"SELECT {columns} {scope} AND (e.received_at, e.eid) >= (?, ?)"
    values: list[Any] = [*start, *((-(2**62), 0) if last is None else last)]
    if needle is not None:
        texts = " || ".join(f"coalesce(e.{name}, '')" for name in ("subject", "j_from", "j_to", "j_cc", "j_bcc"))
        sql += f" AND ({texts} LIKE ? OR {texts} GLOB ?)"
        values += [f"%{needle}%" if needle.isascii() else "", "*[^\x01-\x7f]*"]
    found = [_pending(row) for row in store.cache.rows(f"{sql} {order}", values)]
    return found, None if last is None else (last[0], last[1])


def _pending(row: tuple[Any, ...]) -> Pending:
    eid, received_at, structure, subject, from_, to, cc, bcc = row
    part = None if structure is None else _decode_part(structure)
    headers = Headers(_people(from_), _people(to), _people(cc), _people(bcc), subject or "")
    return Pending(eid, received_at, part, headers)


def _people(addresses: str | None) -> str:
    """The names and addresses of an address field, as one text."""
    if addresses is None:
        return ""
    people = _ADDRESSES.decode(addresses)
    return "\n".join(f"{person.get('name') or ''}\n{person.get('email') or ''}" for person in people)


_INSERT = 'INSERT OR REPLACE INTO fts(rowid, "from", "to", cc, bcc, subject, body) VALUES (?, ?, ?, ?, ?, ?, ?)'


def save(store: Store, documents: Iterable[Document]) -> None:
    """Put documents into the index. One whose Email is gone in the meantime is left out."""

    def work(txn: Txn) -> None:
        for document in documents:
            if txn.execute("UPDATE email SET indexed = 1 WHERE eid = ? AND deleted = 0", (document.eid,)):
                h = document.headers
                txn.execute(_INSERT, (document.eid, h.from_, h.to, h.cc, h.bcc, h.subject, document.body))

    store.cache.write(work)


def folders(store: Store, mailbox_id: str | None) -> list[tuple[int, bytes]]:
    """(mid, key) of one Mailbox or of all that can be searched upstream; INBOX and what has most mail first."""
    sql = "SELECT mid, key FROM mailbox WHERE deleted = 0 AND selectable = 1"
    if mailbox_id is not None:
        return [(mid, bytes(key)) for mid, key in store.cache.rows(sql + " AND id = ?", (mailbox_id,))]
    sql += " ORDER BY role IS NOT 'inbox', total_emails DESC"
    return [(mid, bytes(key)) for mid, key in store.cache.rows(sql)]


def uids(store: Store, mid: int, *, unindexed: bool) -> dict[int, int]:
    """uid → eid of a folder's visible messages, or only of those whose Email is not indexed; newest first."""
    sql = (
        "SELECT m.uid, m.eid FROM message m JOIN email e ON e.eid = m.eid"
        f" WHERE m.mid = ? AND m.uid > 0 AND m.hidden = 0 AND e.deleted = 0{' AND e.indexed = 0' if unindexed else ''}"
        " ORDER BY e.received_at DESC"
    )
    return dict(store.cache.rows(sql, (mid,)))


def messages(store: Store, mid: int) -> int:
    """How many messages of a folder are known."""
    return int(store.cache.value("SELECT count(*) FROM message WHERE mid = ? AND uid > 0", (mid,)))


def matching(store: Store, query: str, eids: Collection[int]) -> set[int]:
    """Those of ``eids`` that the index finds for an FTS5 query."""
    sql = "SELECT rowid FROM fts WHERE fts MATCH ? AND rowid IN (SELECT value FROM json_each(?))"
    return {eid for (eid,) in store.cache.rows(sql, (query, json.dumps(list(eids))))}


class Shown(msgspec.Struct, frozen=True):
    """What a snippet is made from, besides the texts."""

    eid: int
    id: str
    subject: str | None
    preview: str | None
    indexed: bool


def shown(store: Store, ids: Collection[str]) -> dict[str, Shown]:
    """The visible ones among ``ids``."""
    sql = (
        "SELECT e.eid, e.id, e.subject, e.preview, e.indexed FROM email e"
        " WHERE e.id IN (SELECT value FROM json_each(?)) AND e.deleted = 0"
        " AND EXISTS (SELECT 1 FROM email_mailbox v WHERE v.eid = e.eid)"
    )
    return {
        row[1]: Shown(row[0], row[1], row[2], row[3], bool(row[4]))
        for row in store.cache.rows(sql, (json.dumps(list(ids)),))
    }
