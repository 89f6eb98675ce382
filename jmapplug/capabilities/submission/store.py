"""SQL of Identities and of the queue (own), and the log of their changes (cache).

Every change of a record is written in own first and logged in the cache behind it. What a crash leaves between the two
is found by the records' versions at the next start (:func:`reconcile`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from jmapplug.store.account import Change, Store
from jmapplug.store.database import file_identity

IDENTITY, SUBMISSION = "Identity", "EmailSubmission"


class IdentityRow(NamedTuple):
    """One Identity as stored; ``reply_to`` and ``bcc`` are JSON."""

    id: str
    name: str
    email: str
    reply_to: str | None
    bcc: str | None
    text_signature: str
    html_signature: str
    may_delete: int
    version: int


class Address(msgspec.Struct, frozen=True):
    """RFC 8621 §7 Address."""

    email: str
    parameters: dict[str, str | None] | None = None


class Envelope(msgspec.Struct, frozen=True, rename="camel"):
    """RFC 8621 §7 Envelope."""

    mail_from: Address
    rcpt_to: tuple[Address, ...]


class Status(msgspec.Struct, frozen=True, rename="camel"):
    """RFC 8621 §7 DeliveryStatus."""

    smtp_reply: str
    delivered: str
    displayed: str = "unknown"


Statuses = dict[str, Status]


class Submission(msgspec.Struct, frozen=True):
    """One row of the queue; see own_1.sql and the module ``outbox``."""

    id: str
    identity_id: str
    email_id: str
    thread_id: str
    envelope: Envelope
    created_at: int
    send_at: int
    undo_status: str
    delivery: Statuses
    phase: str
    record: str
    due_at: int
    attempts: int
    settled_at: int
    version: int


class Listed(NamedTuple):
    """What queries look at."""

    id: str
    identity_id: str
    email_id: str
    thread_id: str
    undo_status: str
    send_at: int


class Event(NamedTuple):
    """The one thing to say of a record behind a modseq. ``at``: where it stands in the order of changes."""

    at: int
    id: str
    kind: str


_COLUMNS = ", ".join(field.name for field in msgspec.structs.fields(Submission))
_READ = f"SELECT {_COLUMNS} FROM submission_email"  # noqa: S608 - names of our own
_WRITE = (
    f"INSERT OR REPLACE INTO submission_email ({_COLUMNS}) VALUES"  # noqa: S608
    f" ({', '.join('?' * len(msgspec.structs.fields(Submission)))})"
)


def _submission(row: tuple[Any, ...]) -> Submission:
    values = list(row)
    values[4] = msgspec.json.decode(values[4], type=Envelope)
    values[8] = msgspec.json.decode(values[8], type=Statuses)
    return Submission(*values)


# --- the queue -----------------------------------------------------------------------------------------------------


def save(store: Store, row: Submission) -> Submission:
    """Write a row under its next version, and log it where clients see it; the row as it is now."""
    row = msgspec.structs.replace(row, version=row.version + 1)
    values = list(msgspec.structs.astuple(row))
    values[4] = msgspec.json.encode(row.envelope).decode()
    values[8] = msgspec.json.encode(row.delivery).decode()
    store.own.write(lambda txn: txn.execute(_WRITE, values))
    if row.record != "new":
        _log(store, SUBMISSION, row.id, row.version, row.record == "gone")
    return row


def forget(store: Store, id_: str) -> None:
    """The row goes; clients hear of it where they knew it."""
    store.own.write(lambda txn: txn.execute("DELETE FROM submission_email WHERE id = ?", (id_,)))
    if store.cache.row("SELECT 1 FROM submission_log WHERE type = ? AND id = ? AND deleted = 0", (SUBMISSION, id_)):
        _log(store, SUBMISSION, id_, 0, True)


def move(store: Store, id_: str, phase: str, to: str) -> bool:
    """From one phase to another, in one transaction and only from there; whether it was there."""
    more = ", attempts = attempts + 1" if to == "sending" else ""
    sql = f"UPDATE submission_email SET phase = ?{more} WHERE id = ? AND phase = ?"  # noqa: S608
    return store.own.write(lambda txn: txn.execute(sql, (to, id_, phase))) == 1


def find(store: Store, id_: str) -> Submission | None:
    row = store.own.row(f"{_READ} WHERE id = ?", (id_,))
    return None if row is None else _submission(row)


def visible(store: Store, ids: Iterable[str]) -> dict[str, Submission]:
    """Those of ``ids`` that clients see."""
    wanted = msgspec.json.encode(list(ids)).decode()
    where = "record = 'live' AND id IN (SELECT value FROM json_each(?))"
    return {row[0]: _submission(row) for row in store.own.rows(f"{_READ} WHERE {where}", (wanted,))}


def visible_ids(store: Store, limit: int) -> list[str]:
    sql = "SELECT id FROM submission_email WHERE record = 'live' ORDER BY send_at DESC, id LIMIT ?"
    return [id_ for (id_,) in store.own.rows(sql, (limit,))]


def listed(store: Store) -> list[Listed]:
    """Every submission that clients see."""
    sql = f"SELECT {', '.join(Listed._fields)} FROM submission_email WHERE record = 'live'"  # noqa: S608
    return [Listed(*row) for row in store.own.rows(sql)]


def unfinished(store: Store) -> list[Submission]:
    """Every row that is not done, and those whose creation was never answered."""
    return [_submission(row) for row in store.own.rows(f"{_READ} WHERE phase != 'done' OR record = 'new'")]


def due(store: Store, now: float, limit: int) -> list[str]:
    """At most ``limit`` ids of what is queued and due, the longest due first.

    What is just being created is not: its call may still fail as a whole.
    """
    sql = (
        "SELECT id FROM submission_email WHERE phase = 'queued' AND record != 'new' AND due_at <= ?"
        " ORDER BY due_at, id LIMIT ?"
    )
    return [id_ for (id_,) in store.own.rows(sql, (now, limit))]


def next_due(store: Store, after: float) -> int | None:
    """When the next one will be due."""
    sql = "SELECT min(due_at) FROM submission_email WHERE phase = 'queued' AND record != 'new' AND due_at > ?"
    value = store.own.value(sql, (after,))
    return None if value is None else int(value)


def pending(store: Store) -> int:
    """How many are not done."""
    return int(store.own.value("SELECT count(*) FROM submission_email WHERE phase != 'done'"))


def settled_before(store: Store, moment: float, limit: int) -> list[str]:
    """At most ``limit`` ids of what was done before a moment."""
    sql = "SELECT id FROM submission_email WHERE phase = 'done' AND settled_at < ? LIMIT ?"
    return [id_ for (id_,) in store.own.rows(sql, (moment, limit))]


def sent_since(store: Store, moment: float) -> list[Submission]:
    """What the mail server took, or may have taken, since a moment."""
    sql = _READ + " WHERE phase = 'done' AND settled_at >= ? AND undo_status = 'final'"
    rows = map(_submission, store.own.rows(sql, (moment,)))
    return [row for row in rows if any(status.delivered != "no" for status in row.delivery.values())]


# --- identities ----------------------------------------------------------------------------------------------------


def identities(store: Store) -> list[IdentityRow]:
    """Every Identity, the account's own first."""
    columns = ", ".join(IdentityRow._fields)
    sql = f"SELECT {columns} FROM submission_identity ORDER BY may_delete, name, email, id"  # noqa: S608
    return [IdentityRow(*row) for row in store.own.rows(sql)]


def save_identity(store: Store, row: IdentityRow) -> None:
    """Write it under its next version and log it."""
    row = row._replace(version=row.version + 1)
    sql = f"INSERT OR REPLACE INTO submission_identity VALUES ({', '.join('?' * len(row))})"  # noqa: S608
    store.own.write(lambda txn: txn.execute(sql, row))
    _log(store, IDENTITY, row.id, row.version, False)


def forget_identity(store: Store, id_: str) -> None:
    store.own.write(lambda txn: txn.execute("DELETE FROM submission_identity WHERE id = ?", (id_,)))
    _log(store, IDENTITY, id_, 0, True)


# --- facts ---------------------------------------------------------------------------------------------------------


def fact(store: Store, key: str) -> str | None:
    """What was remembered under a name."""
    value = store.own.value("SELECT value FROM submission_meta WHERE key = ?", (key,))
    return None if value is None else str(value)


def remember(store: Store, key: str, value: str) -> None:
    if fact(store, key) != value:
        sql = "INSERT OR REPLACE INTO submission_meta VALUES (?, ?)"
        store.own.write(lambda txn: txn.execute(sql, (key, value)))


def restored(store: Store) -> bool:
    """Whether own.sqlite3 is not the file of the last :func:`settle`: a backup, or saved from a damaged one."""
    return fact(store, "file") not in (None, file_identity(store.own.path)) or store.restored


def settle(store: Store) -> None:
    """The queue is that of this file now. Behind all else that a start does, which may be killed."""
    remember(store, "file", file_identity(store.own.path))


# --- changes -------------------------------------------------------------------------------------------------------

_LOG = (
    "INSERT INTO submission_log (type, id, version, created_modseq, modseq, deleted)"
    " VALUES (:type, :id, :version, :n, :n, :deleted)"
    " ON CONFLICT (type, id) DO UPDATE SET version = :version, modseq = :n, deleted = :deleted"
)


def _log(store: Store, type_: str, id_: str, version: int, deleted: bool) -> None:
    """One record, one modseq: /changes can stop behind any of them."""

    def work(change: Change) -> None:
        values = {"type": type_, "id": id_, "version": version, "n": change.modseq, "deleted": int(deleted)}
        change.txn.execute(_LOG, values)
        change.touch(type_)

    store.commit(work)


def reconcile(store: Store) -> None:
    """Log what own has and the cache does not know: after a crash between the two, and in a new cache."""
    for type_, sql in (
        (SUBMISSION, "SELECT id, version FROM submission_email WHERE record = 'live'"),
        (IDENTITY, "SELECT id, version FROM submission_identity"),
    ):
        there: dict[str, int] = dict(store.own.rows(sql))
        query = "SELECT id, version FROM submission_log WHERE type = ? AND deleted = 0"
        logged: dict[str, int] = dict(store.cache.rows(query, (type_,)))
        for id_ in logged.keys() - there.keys():
            _log(store, type_, id_, 0, True)
        for id_, version in there.items():
            if logged.get(id_) != version:
                _log(store, type_, id_, version, False)


def events(store: Store, type_: str, since: int, limit: int) -> list[Event]:
    """At most ``limit`` changes behind ``since``, oldest first (mail-rules 10); no two of them at one modseq."""
    sql = (
        "SELECT at, id, kind FROM ("
        " SELECT id, iif(created_modseq > ?2 AND deleted = 0, created_modseq, modseq) AS at,"
        " CASE WHEN deleted = 1 THEN iif(created_modseq > ?2, NULL, 'destroyed')"
        " WHEN created_modseq > ?2 THEN 'created' ELSE 'updated' END AS kind"
        " FROM submission_log WHERE type = ?1 AND modseq > ?2) WHERE kind NOTNULL ORDER BY at LIMIT ?3"
    )
    return [Event(*row) for row in store.cache.rows(sql, (type_, since, limit))]


def touched(store: Store, type_: str, since: int) -> list[tuple[str, int, int]]:
    """(id, created_modseq, deleted) of every record that changed behind a modseq."""
    sql = "SELECT id, created_modseq, deleted FROM submission_log WHERE type = ? AND modseq > ?"
    return [(str(id_), int(created), int(deleted)) for id_, created, deleted in store.cache.rows(sql, (type_, since))]
