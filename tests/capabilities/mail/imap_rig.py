"""An account on a real IMAP server, in this process: its store, its source, and the methods by name."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gevent
import msgspec

from jmapplug import plugins
from jmapplug.capabilities.mail.declaration import MAIL
from jmapplug.capabilities.mail.service import MailService
from jmapplug.jmap.methods import Call, Limits
from jmapplug.store.account import Store
from jmapplug.testing.dovecot import Dovecot

METHODS = {method.name: method.handler for method in MAIL.methods}


class Account:
    """An account that has been synced once; ``emails`` maps a subject to an Email id."""

    def __init__(self, folder: Path, dovecot: Dovecot, messages: dict[str, bytes]) -> None:
        user = dovecot.new_user()
        client = dovecot.imap(user)
        for raw in messages.values():
            client.append("INBOX", None, None, raw)  # type: ignore[arg-type]
        client.logout()
        backend = plugins.build().backends["imap"]
        settings = {"username": user, "password": dovecot.password, "imapHost": dovecot.host}
        kind = backend.settings
        self.session = backend().open(msgspec.convert(settings | {"imapPort": dovecot.port, "imapSSL": 0}, kind), user)
        self.store = Store(folder, [MAIL.schema])
        self.account = SimpleNamespace(
            id="acc",
            store=self.store,
            mail_source=lambda: self.session.mail,
            spawn=gevent.spawn,
            limits=Limits(),
            publish=lambda changed: None,
        )
        self.service = MailService(self.account)
        self.service.setup()
        self.service.sync()
        ids = self.call("Email/query", filter={})["ids"]
        found = self.call("Email/get", ids=ids, properties=["subject"])["list"]
        self.emails = {email["subject"]: email["id"] for email in found}

    def call(self, name: str, **args: Any) -> dict[str, Any]:
        call = Call(name, "acc", self.account, Limits(), {}, frozenset())
        return msgspec.json.decode(msgspec.json.encode(METHODS[name](call, {"accountId": "acc", **args})))

    def get(self, subject: str, *names: str, **args: Any) -> dict[str, Any]:
        (email,) = self.call("Email/get", ids=[self.emails[subject]], properties=list(names), **args)["list"]
        return email  # type: ignore[no-any-return]

    def close(self) -> None:
        self.session.close()
        self.store.close()
