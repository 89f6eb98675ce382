"""Queries and searches over what the real sync has stored."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gevent
from search_rig import NEWEST, splice

from jmapplug.capabilities.mail import email_query
from jmapplug.capabilities.mail.declaration import MAIL
from jmapplug.capabilities.mail.index import index_slice
from jmapplug.capabilities.mail.service import MailService
from jmapplug.jmap.methods import Call, Limits
from jmapplug.store.account import Store
from jmapplug.testing.memory_source import MemoryServer, message


def test_queries_follow_the_sync_from_first_sight_to_destruction(tmp_path: Path) -> None:
    server = MemoryServer()
    server.create(b"Archive")
    for n in range(30):
        key = b"Archive" if n % 3 == 0 else b"INBOX"
        references = [f"m{n - 10}@x"] if n >= 10 else []
        server.deliver(
            key, message(f"pizza {n % 10}", message_id=f"m{n}@x", references=references, body=f"body{n % 2}")
        )
    source = server.source()
    store = Store(tmp_path / "store", [MAIL.schema])
    account: Any = SimpleNamespace(
        id="acc", store=store, mail_source=lambda: source, spawn=gevent.spawn, limits=Limits(), publish=lambda c: None
    )
    service = MailService(account, (index_slice,))

    def query(**args: Any) -> dict[str, Any]:
        call = Call("Email/query", "acc", account, Limits(), {}, frozenset())
        return email_query.query(call, {"accountId": "acc", "calculateTotal": True, "sort": NEWEST, **args})

    service.setup()
    service.sync()
    while service.background():
        pass
    inbox = store.cache.value("SELECT id FROM mailbox WHERE role = 'inbox'")
    before = query()
    assert (before["total"], len(before["ids"])) == (30, 30)
    assert query(filter={"inMailbox": inbox})["total"] == 20
    assert query(filter={"subject": "pizza", "body": "body1"})["total"] == 15
    assert query(filter={"operator": "OR", "conditions": [{"subject": "4"}, {"body": "nothing"}]})["total"] == 3
    everywhere = store.cache.value("SELECT count(DISTINCT tid) FROM email_mailbox")
    here = store.cache.value("SELECT count(DISTINCT tid) FROM email_mailbox WHERE mid = 1")
    for filter_, threads in ((None, everywhere), ({"inMailbox": inbox}, here), ({"subject": "pizza"}, everywhere)):
        reply = query(filter=filter_, collapseThreads=True)
        assert reply["total"] == len(reply["ids"]) == threads < 20

    server.set_flags(b"INBOX", 1, "\\Flagged", "\\Seen")
    server.set_flags(b"INBOX", 2, "\\Deleted")
    server.expunge(b"INBOX", 3)
    server.move(b"INBOX", 4, b"Archive")
    server.deliver(b"INBOX", message("new pizza", message_id="new@x"))
    service.sync()
    while service.background():
        pass
    assert query(filter={"subject": "pizza"})["total"] == query(filter={"body": "body*"})["total"] + 1 == 29
    assert query(filter={"hasKeyword": "$flagged"})["total"] == 1
    assert query(filter={"inMailbox": inbox})["total"] == len(query(filter={"inMailbox": inbox})["ids"]) == 18
    call = Call("Email/queryChanges", "acc", account, Limits(), {}, frozenset())
    args = {"accountId": "acc", "sort": NEWEST, "sinceQueryState": before["queryState"]}
    delta = email_query.query_changes(call, args)
    assert splice(before["ids"], delta) == query()["ids"]
    service.close()
    store.close()
