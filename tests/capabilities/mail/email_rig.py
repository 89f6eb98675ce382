"""An account whose rows are written by hand, over a mail server in memory: what Email/get and its kin stand on."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gevent
import msgspec

from jmapplug.backends import Detail, Features
from jmapplug.capabilities import mail
from jmapplug.capabilities.mail.details import facts_of
from jmapplug.errors import UpstreamError
from jmapplug.hookspecs import Schema
from jmapplug.jmap.ids import mint
from jmapplug.jmap.methods import Call, Limits
from jmapplug.mime.structure import Part, parse
from jmapplug.store import uploads
from jmapplug.store.account import Store
from jmapplug.testing.memory_source import MemoryServer, MemorySource, StoredMessage

FOLDER = Path(mail.__file__).parent
T0 = 1_750_000_000


def schema() -> Schema:
    return Schema(
        own=tuple(path.read_text() for path in sorted(FOLDER.glob("own_*.sql"))),
        cache=tuple(path.read_text() for path in sorted(FOLDER.glob("cache_*.sql"))),
    )


def without_offsets(part: Part) -> Part:
    """The structure as a server would tell it."""
    return msgspec.structs.replace(
        part, header=-1, body=-1, end=-1, parts=tuple(without_offsets(child) for child in part.parts)
    )


class Source(MemorySource):
    """A MemorySource that knows sections of any message; ``down`` makes it fail, ``gate`` makes it wait."""

    down = False
    gate: Any = None

    def _call(self, name: str, what: Any = None) -> None:
        super()._call(name, what)
        if self.gate is not None:
            self.gate.wait()
        if self.down:
            raise UpstreamError("away")

    def _part(self, one: StoredMessage, section: str) -> Part | None:
        return next((part for part in parse(one.raw).walk() if part.section == section), None)

    def names(self) -> list[str]:
        return [name for name, _ in self.calls]


class Rig:
    """``add`` messages, ``call`` methods."""

    def __init__(self, folder: Path, source_class: type[Source] = Source, **features: Any) -> None:
        self.server = MemoryServer(Features(**features))
        self.source = source_class(self.server)
        self.store = Store(folder / "account", [schema()])
        self.account = SimpleNamespace(
            id="acc", store=self.store, mail_source=lambda: self.source, spawn=gevent.spawn, limits=Limits()
        )
        self.mids: dict[bytes, int] = {}
        self.folder(b"INBOX")

    def upload(self, type_: str, octets: bytes) -> str:
        """An upload as the worker records it; its blob id."""
        blob_id = f"f-{uuid.uuid4()}"
        self.store.blobs.upload_path(blob_id).write_bytes(octets)
        uploads.record(self.store, blob_id, type_, len(octets), time.time())
        return blob_id

    def folder(self, key: bytes) -> int:
        if key not in self.server.folders:
            self.server.create(key)
        if key not in self.mids:
            mid = self.mids[key] = len(self.mids) + 1
            sql = (
                "INSERT INTO mailbox (mid, id, key, name, created_modseq, modseq, props_modseq) VALUES (?,?,?,?,1,1,1)"
            )
            self.store.commit(lambda change: change.txn.execute(sql, (mid, mint("a", str(mid)), key, key.decode())))
        return self.mids[key]

    def add(
        self,
        raw: bytes,
        *,
        keys: Sequence[bytes] = (b"INBOX",),
        preview: str | None = None,
        structure: str = "server",
        keywords: dict[str, bool] | None = None,
    ) -> str:
        """A visible Email; its id. ``structure``: "server", "own" (our parser's) or "none" (not known yet)."""
        parsed = {"server": without_offsets(parse(raw)), "own": parse(raw), "none": None}[structure]
        eid = int(self.store.cache.value("SELECT coalesce(max(eid), 0) + 1 FROM email"))
        email_id, received = mint("e", self.store.salt, str(eid)), T0 + eid
        header = raw.partition(b"\r\n\r\n")[0] + b"\r\n"
        facts = facts_of(
            Detail(eid, len(raw), received, header, parsed, preview), self.store.salt, structure == "server"
        )
        columns = facts.columns._asdict()
        places = [(self.folder(key), self.server.deliver(key, raw, guid=str(eid))) for key in keys]
        mailboxes = {mint("a", str(mid)): True for mid, _ in places}

        def work(change: Any) -> None:
            values = columns | {
                "eid": eid,
                "id": email_id,
                "tid": eid,
                "thread_id": mint("t", str(eid)),
                "received_at": received,
                "size": len(raw),
                "flags": facts.bits,
                "keywords": json.dumps(keywords or {}),
                "mailbox_ids": json.dumps(mailboxes),
                "created_modseq": change.modseq,
                "modseq": change.modseq,
            }
            names = ", ".join(values)
            marks = ", ".join("?" * len(values))
            change.txn.execute(f"INSERT INTO email ({names}) VALUES ({marks})", tuple(values.values()))
            for mid, uid in places:
                row = (mid, received, email_id, eid, eid)
                change.txn.execute("INSERT OR IGNORE INTO email_mailbox VALUES (?, ?, ?, ?, ?)", row)
                sql = "INSERT INTO message (mid, uid, eid, flags, received_at) VALUES (?, ?, ?, '', ?)"
                change.txn.execute(sql, (mid, uid, eid, received))
            change.touch("Email")

        self.store.commit(work)
        return email_id

    def remove(self, email_id: str) -> None:
        """Destroy an Email as the sync does: a tombstone."""

        def work(change: Any) -> None:
            change.txn.execute("DELETE FROM email_mailbox WHERE id = ?", (email_id,))
            change.txn.execute("UPDATE email SET deleted = 1, modseq = ? WHERE id = ?", (change.modseq, email_id))
            change.touch("Email")

        self.store.commit(work)

    def touch(self, *email_ids: str) -> None:
        """Change Emails, all in one commit."""

        def work(change: Any) -> None:
            for email_id in email_ids:
                change.txn.execute("UPDATE email SET modseq = ? WHERE id = ?", (change.modseq, email_id))
            change.touch("Email")

        self.store.commit(work)

    def call(self, method: Any, **args: Any) -> dict[str, Any]:
        """The reply as a client reads it."""
        call = Call("x", "acc", self.account, self.account.limits, {}, frozenset())
        return msgspec.json.decode(msgspec.json.encode(method(call, {"accountId": "acc", **args})))

    def close(self) -> None:
        self.store.close()


def lines(*text: str) -> bytes:
    return "\r\n".join(text).encode()
