"""Emails as rows of the store and as messages of a mail server in memory, and what queries over them should answer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gevent
import msgspec

from jmapplug.capabilities import mail
from jmapplug.capabilities.mail import email_query, index, snippet
from jmapplug.hookspecs import Schema
from jmapplug.jmap.filters import matches, parse_filter
from jmapplug.jmap.ids import mint
from jmapplug.jmap.methods import Call, Limits
from jmapplug.jmap.sorting import COLLATIONS
from jmapplug.mime.base_subject import base_subject
from jmapplug.mime.structure import Part, parse
from jmapplug.store.account import Store
from jmapplug.testing import memory_source
from jmapplug.testing.memory_source import MemoryServer, MemorySource

FOLDER = Path(mail.__file__).parent
T0 = 1_700_000_000
NEWEST = [{"property": "receivedAt", "isAscending": False}]
KEY = COLLATIONS["i;unicode-casemap"]


def utc(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Mail:
    """One Email. Addresses as (name, email); ``raw`` replaces the message made from the rest."""

    subject: str = "Hello"
    from_: tuple[str, str] = ("Ann", "ann@example.org")
    to: tuple[str, str] = ("Bob", "bob@example.org")
    cc: tuple[str, str] | None = None
    bcc: tuple[str, str] | None = None
    body: str = "nothing much"
    keywords: frozenset[str] = frozenset()
    mailboxes: tuple[str, ...] = ("inbox",)
    received: int = T0
    size: int = 1000
    sent: int | None = T0
    thread: int = 0
    attachment: bool = False
    preview: str | None = None
    extra: tuple[str, ...] = ()
    raw: bytes | None = None
    structure: str = "server"
    eid: int = 0
    id: str = ""
    uids: dict[str, int] = field(default_factory=dict)

    def message(self) -> bytes:
        if self.raw is not None:
            return self.raw
        extra = list(self.extra)
        for name, person in (("Cc", self.cc), ("Bcc", self.bcc)):
            if person is not None:
                extra.append(f"{name}: {person[0]} <{person[1]}>")
        sender, to = (f"{name} <{email}>" for name, email in (self.from_, self.to))
        return memory_source.message(self.subject, sender=sender, to=to, body=self.body, extra=extra)


def people(person: tuple[str, str] | None) -> str | None:
    return None if person is None else json.dumps([{"name": person[0] or None, "email": person[1]}], ensure_ascii=False)


class Rig:
    """An account: ``add``, ``change``, ``destroy`` Emails; ``query`` as a client does; ``expected`` is the oracle."""

    def __init__(self, folder: Path, mailboxes: Iterable[str] = ("inbox", "archive", "trash")) -> None:
        self.server = MemoryServer()
        self.source = MemorySource(self.server)
        own, cache = (
            tuple(path.read_text() for path in sorted(FOLDER.glob(f"{half}_*.sql"))) for half in ("own", "cache")
        )
        self.store = Store(folder / "store", [Schema(own=own, cache=cache)])
        self.account = SimpleNamespace(
            id="acc", store=self.store, mail_source=lambda: self.source, spawn=gevent.spawn, limits=Limits()
        )
        self.mails: list[Mail] = []
        self.mids: dict[str, int] = {}
        self.server.delete(b"INBOX")
        for name in mailboxes:
            self.server.create(name.encode())
            mid = self.mids[name] = len(self.mids) + 1
            self.store.commit(lambda change, mid=mid, name=name: self._add_mailbox(change, mid, name))

    def close(self) -> None:
        self.store.close()

    def box(self, name: str) -> str:
        """The id of a Mailbox."""
        return mint("a", str(self.mids.get(name, name)))

    def _add_mailbox(self, change: Any, mid: int, name: str) -> None:
        change.txn.execute(
            "INSERT INTO mailbox (mid, id, key, name, role, created_modseq, modseq, props_modseq)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (mid, mint("a", str(mid)), name.encode(), name, name, *[change.modseq] * 3),
        )

    # --- changing --------------------

    def add(self, *mails: Mail, indexed: bool = True) -> list[str]:
        """Store and deliver; their ids. ``indexed``: put them into the full-text index, too."""
        for one in mails:
            one.eid = int(self.store.cache.value("SELECT coalesce(max(eid), 0) + 1 FROM email"))
            one.id = mint("e", str(one.eid))
            one.thread = one.thread or 1000 + one.eid
            parsed = parse(one.message()) if one.raw is not None else None
            one.uids = {
                name: self.server.deliver(name.encode(), one.message(), received_at=one.received, structure=parsed)
                for name in one.mailboxes
            }
            self.store.commit(lambda change, one=one: self._write(change, one, change.modseq))
            self.mails.append(one)
        if indexed:
            self.index()
        return [one.id for one in mails]

    def index(self) -> int:
        """Run the background index to its end; how many slices it took."""
        slices = 0
        while index.index_slice(self.account):
            slices += 1
        return slices

    def change(self, one: Mail, **values: Any) -> None:
        """Other keywords, or other mailboxes."""
        for name, value in values.items():
            setattr(one, name, value)
        born = self.store.cache.value("SELECT created_modseq FROM email WHERE eid = ?", (one.eid,))
        indexed = self.store.cache.value("SELECT indexed FROM email WHERE eid = ?", (one.eid,))
        revived = self.store.cache.value("SELECT revived FROM email WHERE eid = ?", (one.eid,))
        self.store.commit(lambda change: self._write(change, one, born, indexed, revived))

    def destroy(self, one: Mail) -> None:
        def work(change: Any) -> None:
            self._forget(change, one)
            change.txn.execute("DELETE FROM fts WHERE rowid = ?", (one.eid,))
            change.txn.execute(
                "UPDATE email SET deleted = 1, indexed = 0, received_at = NULL, modseq = ?,"
                " created_modseq = iif(revived, 0, created_modseq), revived = 0 WHERE eid = ?",
                (change.modseq, one.eid),
            )
            self._count(change, one)

        self.store.commit(work)
        self.mails.remove(one)
        for name, uid in one.uids.items():
            if uid in self.server.folders[name.encode()].messages:
                self.server.expunge(name.encode(), uid)

    def revive(self, one: Mail) -> None:
        """``\\Deleted`` was cleared: the row is made anew, with its old id."""
        self.store.commit(lambda change: self._write(change, one, change.modseq, revived=1))
        self.mails.append(one)
        self.index()

    def _forget(self, change: Any, one: Mail) -> None:
        for table in ("email_mailbox", "email_keyword", "message"):
            change.txn.execute(f"DELETE FROM {table} WHERE eid = ?", (one.eid,))

    def _write(self, change: Any, one: Mail, born: int, indexed: int = 0, revived: int = 0) -> None:
        self._forget(change, one)
        structure = None
        if one.structure == "server":
            part = bare(parse(one.raw)) if one.raw is not None else Part("1", "text/plain", "utf-8", size=len(one.body))
            structure = msgspec.msgpack.encode(part)
        bits = {"$seen": 1, "$draft": 2, "$flagged": 4, "$answered": 8}
        flags = sum(bits.get(name, 0) for name in one.keywords) | (16 if one.attachment else 0)
        values = {
            "eid": one.eid, "id": one.id, "tid": one.thread, "thread_id": mint("t", str(one.thread)),
            "received_at": one.received, "size": one.size, "sent": one.sent, "flags": flags,
            "j_from": people(one.from_), "j_to": people(one.to), "j_cc": people(one.cc), "j_bcc": people(one.bcc),
            "j_message_id": json.dumps([f"m{one.eid}@example.org"]), "subject": one.subject,
            "sort_subject": KEY(base_subject(one.subject)), "sort_from": KEY(one.from_[0] or one.from_[1]),
            "sort_to": KEY(one.to[0] or one.to[1]), "preview": one.preview, "structure": structure,
            "indexed": indexed, "revived": revived, "created_modseq": born, "modseq": change.modseq,
        }  # fmt: skip
        sql = f"INSERT OR REPLACE INTO email ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})"
        change.txn.execute(sql, tuple(values.values()))
        for name in one.mailboxes:
            row = (self.mids[name], one.received, one.id, one.eid, one.thread)
            change.txn.execute("INSERT INTO email_mailbox VALUES (?, ?, ?, ?, ?)", row)
            sql = "INSERT INTO message (mid, uid, eid, flags, received_at) VALUES (?, ?, ?, '', ?)"
            change.txn.execute(sql, (self.mids[name], one.uids.get(name, -one.eid), one.eid, one.received))
        stored = (one.keywords - {"$seen"}) | (set() if "$seen" in one.keywords else {"!$seen"})
        for keyword in stored:
            row = (keyword, one.received, one.id, one.eid)
            change.txn.execute("INSERT INTO email_keyword VALUES (?, ?, ?, ?)", row)
        self._count(change, one)

    def _count(self, change: Any, one: Mail) -> None:
        change.touch("Email")
        change.txn.execute(
            "UPDATE mailbox SET total_emails = (SELECT count(*) FROM email_mailbox x WHERE x.mid = mailbox.mid),"
            " total_threads = (SELECT count(DISTINCT tid) FROM email_mailbox x WHERE x.mid = mailbox.mid)"
        )
        live = int(change.txn.value("SELECT count(*) FROM email WHERE tid = ? AND deleted = 0", (one.thread,)))
        change.txn.execute(
            "INSERT OR REPLACE INTO thread (tid, id, emails, created_modseq, modseq, deleted)"
            " VALUES (?, ?, ?, 1, ?, ?)",
            (one.thread, mint("t", str(one.thread)), live, change.modseq, int(live == 0)),
        )

    # --- asking --------------------

    def call(self, name: str, **args: Any) -> dict[str, Any]:
        methods = {
            "Email/query": email_query.query,
            "Email/queryChanges": email_query.query_changes,
            "SearchSnippet/get": snippet.get,
        }
        call = Call(name, "acc", self.account, Limits(), {}, frozenset())
        return methods[name](call, {"accountId": "acc", **args})

    def query(self, filter: Any = None, sort: Any = None, **args: Any) -> dict[str, Any]:
        return self.call("Email/query", filter=filter, sort=sort, calculateTotal=True, **args)

    def ids(self, filter: Any = None, sort: Any = None, **args: Any) -> list[str]:
        """All ids of a query; the total has to agree with them."""
        reply = self.query(filter, sort, **args)
        assert reply["total"] == len(reply["ids"]) == len(set(reply["ids"]))
        return reply["ids"]

    def subjects(self, filter: Any = None, sort: Any = None, **args: Any) -> list[str]:
        names = {one.id: one.subject for one in self.mails}
        return [names[id_] for id_ in self.ids(filter, sort, **args)]

    # --- the oracle --------------------

    def expected(self, filter: Any, sort: Sequence[Mapping[str, Any]] = NEWEST, *, collapse: bool = False) -> list[str]:
        """The ids that a query has to answer, by plain Python."""
        tree = parse_filter(filter, email_query.FILTER_FIELDS)
        found = [one for one in self.mails if matches(tree, self._tests(one))]
        down = sort[-1]["property"] == "receivedAt" and sort[-1].get("isAscending") is False
        found.sort(key=lambda one: one.id, reverse=down)
        for key in reversed(sort):
            found.sort(key=lambda one, key=key: self._key(one, key), reverse=key.get("isAscending") is False)
        if collapse:
            first: dict[int, Mail] = {}
            for one in found:
                first.setdefault(one.thread, one)
            found = list(first.values())
        return [one.id for one in found]

    def _mates(self, one: Mail) -> list[Mail]:
        return [mate for mate in self.mails if mate.thread == one.thread]

    def _key(self, one: Mail, key: Mapping[str, Any]) -> Any:
        mates, keyword = self._mates(one), key.get("keyword")
        return {
            "receivedAt": lambda: one.received,
            "size": lambda: one.size,
            "sentAt": lambda: -1 if one.sent is None else one.sent,
            "from": lambda: KEY(one.from_[0] or one.from_[1]),
            "to": lambda: KEY(one.to[0] or one.to[1]),
            "subject": lambda: KEY(base_subject(one.subject)),
            "hasKeyword": lambda: keyword in one.keywords,
            "someInThreadHaveKeyword": lambda: any(keyword in mate.keywords for mate in mates),
            "allInThreadHaveKeyword": lambda: all(keyword in mate.keywords for mate in mates),
        }[key["property"]]()

    def _tests(self, one: Mail) -> dict[str, Any]:
        mates = self._mates(one)
        boxes = {self.box(name) for name in one.mailboxes}
        return {
            "inMailbox": lambda value: value in boxes,
            "inMailboxOtherThan": lambda value: bool(boxes - set(value)),
            "before": lambda value: utc(one.received) < value,
            "after": lambda value: utc(one.received) >= value,
            "minSize": lambda value: one.size >= value,
            "maxSize": lambda value: one.size < value,
            "hasKeyword": lambda value: value.lower() in one.keywords,
            "notKeyword": lambda value: value.lower() not in one.keywords,
            "hasAttachment": lambda value: one.attachment is value,
            "someInThreadHaveKeyword": lambda value: any(value.lower() in mate.keywords for mate in mates),
            "allInThreadHaveKeyword": lambda value: all(value.lower() in mate.keywords for mate in mates),
            "noneInThreadHaveKeyword": lambda value: not any(value.lower() in mate.keywords for mate in mates),
            "subject": lambda value: value.lower() in one.subject.lower().split(),
            "body": lambda value: value.lower() in one.body.lower().split(),
        }


def bare(part: Part) -> Part:
    """A structure as a server tells it."""
    return msgspec.structs.replace(part, header=-1, body=-1, end=-1, parts=tuple(map(bare, part.parts)))


def splice(ids: Sequence[str], delta: Mapping[str, Any]) -> list[str]:
    """What a client's list becomes by the answer of /queryChanges (RFC 8620 §5.6)."""
    removed = set(delta["removed"])
    kept = [id_ for id_ in ids if id_ not in removed]
    for item in delta["added"]:
        kept.insert(item["index"], item["id"])
    return kept
