"""Reading Emails: rows for Email/get, the copies upstream, what is filled in later (preview, structure, part sizes).

A *visible* Email has a live row that is in some Mailbox (mail-rules 14).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from jmapplug.mime.structure import Part
from jmapplug.store.account import Change, Store

_VISIBLE = "e.deleted = 0 AND EXISTS (SELECT 1 FROM email_mailbox m WHERE m.eid = e.eid)"
_OF_IDS = f"FROM email e WHERE e.id IN (SELECT value FROM json_each(?)) AND {_VISIBLE}"  # noqa: S608 - our own text
HAS_ATTACHMENT, SERVER_STRUCTURE = 16, 32
"""Bits of ``email.flags``."""

_encode = msgspec.msgpack.Encoder().encode
_decode_part = msgspec.msgpack.Decoder(Part).decode
_decode_sizes = msgspec.msgpack.Decoder(dict[str, tuple[int, bool]]).decode

Sizes = dict[str, tuple[int, bool]]
"""section → (octets after decoding, whether the transfer encoding was broken)."""


class Copy(msgspec.Struct, frozen=True):
    """One upstream copy of an Email: the raw name of its folder, and its UID."""

    key: bytes
    uid: int


class Content(msgspec.Struct, frozen=True):
    """What reading an Email's body needs. ``structure`` None: to be parsed from the message itself."""

    eid: int
    id: str
    structure: Part | None
    sizes: Sizes


class Column(msgspec.Struct, frozen=True):
    """A property in the row ``e``: its SQL, and whether that gives JSON text."""

    sql: str
    is_json: bool = False


COLUMNS: dict[str, Column] = {
    "id": Column("e.id"),
    "blobId": Column("'m-' || e.id"),
    "threadId": Column("e.thread_id"),
    "mailboxIds": Column("e.mailbox_ids", True),
    "keywords": Column("e.keywords", True),
    "size": Column("e.size"),
    "receivedAt": Column("strftime('%Y-%m-%dT%H:%M:%SZ', e.received_at, 'unixepoch')"),
    "messageId": Column("coalesce(e.j_message_id, 'null')", True),
    "inReplyTo": Column("coalesce(e.j_in_reply_to, 'null')", True),
    "references": Column("coalesce(e.j_references, 'null')", True),
    "sender": Column("coalesce(e.j_sender, 'null')", True),
    "from": Column("coalesce(e.j_from, 'null')", True),
    "to": Column("coalesce(e.j_to, 'null')", True),
    "cc": Column("coalesce(e.j_cc, 'null')", True),
    "bcc": Column("coalesce(e.j_bcc, 'null')", True),
    "replyTo": Column("coalesce(e.j_reply_to, 'null')", True),
    "subject": Column("e.subject"),
    "sentAt": Column("e.sent_at"),
    "hasAttachment": Column("iif(e.flags & 16, 'true', 'false')", True),
    "preview": Column("e.preview"),
}
"""Properties of an Email (RFC 8621 §4.1) that its row answers."""

INCOMPLETE = {"preview": "e.preview IS NULL", "hasAttachment": "e.structure IS NULL"}
"""Properties that a row may lack yet, and when it does."""


def select_list(names: Iterable[str], incomplete: Iterable[str]) -> str:
    """What :func:`rows` selects: these columns, and whether the row lacks one of ``incomplete``."""
    lacking = " OR ".join(INCOMPLETE[name] for name in sorted(incomplete))
    return ", ".join([*(COLUMNS[name].sql for name in names), lacking or "0"])


def rows(store: Store, columns: str, ids: Sequence[str]) -> list[tuple[Any, ...]]:
    """``columns`` (of :func:`select_list`) of the visible ones among ``ids``, in any order."""
    return store.cache.rows(f"SELECT {columns} {_OF_IDS}", (json.dumps(ids),))


def visible_ids(store: Store, limit: int) -> list[str]:
    """At most ``limit`` ids of visible Emails."""
    sql = f"SELECT e.id FROM email e WHERE {_VISIBLE} LIMIT ?"  # noqa: S608
    return [id_ for (id_,) in store.cache.rows(sql, (limit,))]


def contents(store: Store, ids: Sequence[str]) -> dict[str, Content]:
    """What is known of these visible Emails' bodies, by id."""
    sql = (
        "SELECT e.eid, e.id, e.structure, (SELECT s.sizes FROM part_size s WHERE s.eid = e.eid) "  # noqa: S608
        f"{_OF_IDS}"
    )
    return {row[1]: _content(row) for row in store.cache.rows(sql, (json.dumps(ids),))}


def content(store: Store, email_id: str) -> Content | None:
    """The same for one Email."""
    return contents(store, [email_id]).get(email_id)


def _content(row: tuple[Any, ...]) -> Content:
    eid, id_, structure, sizes = row
    part = None if structure is None else _decode_part(structure)
    return Content(eid, id_, part, {} if sizes is None else _decode_sizes(sizes))


def unfinished(store: Store, ids: Sequence[str], *, preview: bool) -> dict[str, Content]:
    """Those of ``ids`` whose structure, or with ``preview`` whose preview, is not known yet."""
    missing = "e.structure IS NULL OR e.preview IS NULL" if preview else "e.structure IS NULL"
    sql = f"SELECT e.eid, e.id, e.structure, NULL {_OF_IDS} AND ({missing})"
    return {row[1]: _content(row) for row in store.cache.rows(sql, (json.dumps(ids),))}


def copies(store: Store, eids: Iterable[int]) -> dict[int, list[Copy]]:
    """Where upstream the messages of these Emails lie; copies marked \\Deleted last. Ghosts lie nowhere."""
    found: dict[int, list[Copy]] = {eid: [] for eid in eids}
    sql = (
        "SELECT c.eid, b.key, c.uid FROM message c JOIN mailbox b ON b.mid = c.mid AND b.deleted = 0"
        " WHERE c.eid IN (SELECT value FROM json_each(?)) AND c.uid > 0 ORDER BY c.hidden, c.mid, c.uid"
    )
    for eid, key, uid in store.cache.rows(sql, (json.dumps(list(found)),)):
        found[eid].append(Copy(bytes(key), uid))
    return found


def is_ghost(store: Store, eid: int) -> bool:
    """Whether it is still to be found out where this Email's message lies, if anywhere."""
    return store.cache.row("SELECT 1 FROM message WHERE eid = ? AND uid < 0", (eid,)) is not None


def save_previews(store: Store, previews: Mapping[int, str], owed: Iterable[int] = ()) -> None:
    """Store previews that were not known (eid → text).

    For those in ``owed`` the Email changes: a client was answered without the property, and only /changes tells it.
    """

    late = [eid for eid in owed if eid in previews]

    def work(change: Change) -> None:
        sql = "UPDATE email SET preview = ? WHERE eid = ? AND preview IS NULL AND deleted = 0"
        change.txn.executemany(sql, [(text, eid) for eid, text in previews.items()])
        if late:
            sql = "UPDATE email SET modseq = ? WHERE eid = ? AND deleted = 0"
            change.txn.executemany(sql, [(change.modseq, eid) for eid in late])
            change.touch("Email")

    if previews:
        # A sync under way may hold its own news back (mail-rules 20): only ours are told now.
        store.commit(work, announce=bool(late))


def save_structure(store: Store, eid: int, structure: Part, has_attachment: bool) -> None:
    """Store what our own parser found, for good (mail-rules 38)."""
    flags = HAS_ATTACHMENT if has_attachment else 0
    values = (_encode(structure), ~(HAS_ATTACHMENT | SERVER_STRUCTURE), flags, eid)
    sql = "UPDATE email SET structure = ?, flags = (flags & ?) | ? WHERE eid = ? AND structure IS NULL AND deleted = 0"
    store.commit(lambda change: change.txn.execute(sql, values), announce=False)


def replace_structure(store: Store, eid: int, structure: Part) -> None:
    """Our own parser's structure for one that the server told wrongly; sizes of its parts mean nothing any more.

    Nor do the texts in the index: others may have been taken for them.
    """

    def work(change: Change) -> None:
        values = (_encode(structure), ~SERVER_STRUCTURE, eid)
        sql = "UPDATE email SET structure = ?, flags = flags & ?, indexed = 0 WHERE eid = ? AND deleted = 0"
        change.txn.execute(sql, values)
        change.txn.execute("DELETE FROM part_size WHERE eid = ?", (eid,))

    store.commit(work, announce=False)


def save_sizes(store: Store, eid: int, sizes: Sizes) -> Sizes:
    """Add sizes of parts to what is known of an Email; all of them. One that is known stays as it was answered."""

    def work(change: Change) -> Sizes:
        stored = change.txn.value("SELECT sizes FROM part_size WHERE eid = ?", (eid,))
        merged: Sizes = {} if stored is None else _decode_sizes(stored)
        for section, (octets, problem) in sizes.items():
            answered = merged.get(section, (octets, False))
            merged[section] = (answered[0], answered[1] or problem)
        sql = "INSERT OR REPLACE INTO part_size SELECT ?, ? FROM email WHERE eid = ? AND deleted = 0"
        change.txn.execute(sql, (eid, _encode(merged), eid))
        return merged

    return store.commit(work, announce=False)


class Event(msgspec.Struct, frozen=True):
    """What happened to one Email in a range of modseqs: the last thing that matters, and at which modseq."""

    id: str
    at: int
    kind: str


_EVENTS = """
SELECT id, at, kind FROM (
    SELECT id,
        CASE WHEN deleted = 0 AND (created_modseq > :since OR created_modseq = :since AND id > :after)
            THEN created_modseq ELSE modseq END AS at,
        CASE WHEN deleted = 1 THEN 'destroyed'
            WHEN created_modseq > :since OR created_modseq = :since AND id > :after THEN 'created'
            ELSE 'updated' END AS kind,
        deleted = 1 AND (created_modseq > :since OR created_modseq = :since AND id > :after) AS unseen
    FROM email WHERE modseq >= :since
) WHERE unseen = 0 AND (at > :since OR at = :since AND id > :after)
ORDER BY at, id LIMIT :limit
"""


def events(store: Store, since: int, after: str, limit: int) -> list[Event]:
    """At most ``limit`` changes behind the point (``since``, ``after``), in order of (modseq, id).

    mail-rules 10: created = live rows created behind the point, wherever they were modified since; updated = modified
    behind it, created before it; destroyed = tombstones behind it that were created before it.
    """
    values = {"since": since, "after": after, "limit": limit}
    return [Event(*row) for row in store.cache.rows(_EVENTS, values)]
