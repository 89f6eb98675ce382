"""An account over the memory source, and a client that calls the mail methods in one line."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import msgspec

from jmapplug.capabilities.mail import blobs, email_query, mailbox, thread
from jmapplug.capabilities.mail.email_changes import email_changes
from jmapplug.capabilities.mail.email_copy import email_copy
from jmapplug.capabilities.mail.email_get import email_get
from jmapplug.capabilities.mail.email_import import email_import
from jmapplug.capabilities.mail.email_set import email_set
from jmapplug.capabilities.mail.mailbox_set import mailbox_set
from jmapplug.capabilities.mail.service import MailService
from jmapplug.hookspecs import Schema
from jmapplug.jmap.methods import Call, Limits
from jmapplug.settings import load
from jmapplug.store import uploads
from jmapplug.store.account import Store
from jmapplug.store.blobs import BlobRef
from jmapplug.testing import consistency
from jmapplug.testing.memory_source import MemoryServer, MemorySource, message

FOLDER = Path(mailbox.__file__).parent
SCHEMA = Schema(
    own=tuple(path.read_text() for path in sorted(FOLDER.glob("own_*.sql"))),
    cache=tuple(path.read_text() for path in sorted(FOLDER.glob("cache_*.sql"))),
)
METHODS = {
    "Mailbox/get": mailbox.get,
    "Mailbox/changes": mailbox.changes,
    "Mailbox/query": mailbox.query,
    "Mailbox/queryChanges": mailbox.query_changes,
    "Thread/get": thread.get,
    "Thread/changes": thread.changes,
    "Email/changes": email_changes,
    "Email/get": email_get,
    "Email/query": email_query.query,
    "Email/set": email_set,
    "Mailbox/set": mailbox_set,
    "Email/import": email_import,
    "Email/copy": email_copy,
}


class Rig:
    """``server`` is upstream; ``sync()`` is one whole pass with all of history; ``reopen()`` is a new worker."""

    def __init__(self, folder: Path, server: MemoryServer | None = None, full_flags: bool = True) -> None:
        self.folder = folder
        self.server = server or MemoryServer()
        self.full_flags = full_flags
        self.published: list[dict[str, str]] = []
        self.limits = Limits()
        self.service_settings = load({})
        self.id = "a1"
        self.watched = True
        self.open()

    def open(self) -> None:
        self.store = Store(self.folder, [SCHEMA])
        self.source: MemorySource = self.server.source()
        self.service = MailService(self, flags_age=(86_400.0, 0.0 if self.full_flags else 600.0))
        self.services = {"urn:ietf:params:jmap:mail": self.service}
        self.created_ids: dict[str, str] = {}

    def close(self) -> None:
        self.service.close()
        self.store.close()

    def reopen(self, lose_cache: bool = False) -> None:
        self.close()
        if lose_cache:
            for path in self.folder.glob("cache.sqlite3*"):
                path.unlink()
        self.open()

    def mail_source(self) -> MemorySource:
        return self.source

    def publish(self, changed: dict[str, str]) -> None:
        self.published.append(changed)

    def spawn(self, function: Callable[[], object]) -> gevent.Greenlet:
        return gevent.spawn(function)

    def blob(self, blob_id: str) -> BlobRef | None:
        return blobs.find(self, blob_id)

    def upload(self, octets: bytes, type_: str = "message/rfc822") -> str:
        """A blob to import or attach; its id."""
        return uploads.make(self.store, type_, lambda path: path.write_bytes(octets), time.time()).id

    def sync(self) -> None:
        self.service.sync()
        while self.service.background():
            pass

    def check(self) -> None:
        consistency.check_view(self.store, self.server)

    def call(self, name: str, **args: Any) -> dict[str, Any]:
        call = Call(name, self.id, self, self.limits, self.created_ids, frozenset())
        call.invoke = lambda name, args: METHODS[name](call, {"accountId": self.id, **args})
        reply = METHODS[name](call, {"accountId": self.id, **args})
        found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(reply))
        return found

    def update(self, email_id: str, **patch: Any) -> dict[str, Any] | None:
        """Email/set update of one Email; its SetError, None when it was done. "__" in a name stands for "/"."""
        given = {name.replace("__", "/"): value for name, value in patch.items()}
        reply = self.call("Email/set", update={email_id: given})
        return (reply["notUpdated"] or {}).get(email_id)

    def destroy(self, *email_ids: str) -> dict[str, Any]:
        """Email/set destroy; the SetErrors by id."""
        return self.call("Email/set", destroy=list(email_ids))["notDestroyed"] or {}

    # --- looking at the store

    def emails(self) -> dict[str, dict[str, Any]]:
        """Live Emails by id: threadId, mailboxIds, keywords, subject, receivedAt."""
        return {
            id_: {
                "threadId": thread_id,
                "mailboxIds": msgspec.json.decode(boxes),
                "keywords": msgspec.json.decode(keywords),
                "subject": subject,
                "receivedAt": received_at,
            }
            for id_, thread_id, boxes, keywords, subject, received_at in self.store.cache.rows(
                "SELECT id, thread_id, mailbox_ids, keywords, subject, received_at FROM email WHERE deleted = 0"
            )
        }

    def email(self, subject: str) -> str:
        """The id of the one Email with this subject."""
        (found,) = [id_ for id_, email in self.emails().items() if email["subject"] == subject]
        return found

    def id_at(self, key: bytes, uid: int) -> str:
        """The id of the Email of one copy."""
        found: str = self.store.cache.value(
            "SELECT e.id FROM message m JOIN mailbox b USING (mid) JOIN email e USING (eid)"
            " WHERE b.key = ? AND b.deleted = 0 AND m.uid = ?",
            (key, uid),
        )
        return found

    def boxes(self) -> dict[str, dict[str, Any]]:
        """Mailboxes by name."""
        return {box["name"]: box for box in self.call("Mailbox/get", ids=None)["list"]}

    def box(self, name: str) -> dict[str, Any]:
        return self.boxes()[name]

    def counts(self, name: str) -> tuple[int, int, int, int]:
        box = self.box(name)
        return (box["totalEmails"], box["unreadEmails"], box["totalThreads"], box["unreadThreads"])

    def deliver(self, subject: str = "Hello", key: bytes = b"INBOX", **more: Any) -> int:
        """Deliver a message with this subject; its UID."""
        made = {name: more.pop(name) for name in ("flags", "guid", "received_at", "thread_id") if name in more}
        return self.server.deliver(key, message(subject, **more), **made)
