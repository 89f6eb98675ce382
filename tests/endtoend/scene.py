"""One account: what JMAP shows of it (``View``), what another IMAP client sees, and whether the two agree.

:meth:`Scene.agree` ends every step of every story. It looks at the server UNDELETED, recounts everything that the proxy
counts, and replays /changes and /queryChanges from every state that was ever handed out.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

from jmapplug.testing.imap_server import ImapServer
from jmapplug.testing.proxy import Client, Proxy
from jmapplug.testing.relay import Relay
from tests.invariants.checker import Checker
from tests.invariants.jmap_view import NEWEST, View, contradictions, look
from tests.invariants.upstream import Path, Upstream, quoted, utf7

__all__ = ["NEWEST", "POOR", "Scene", "View", "message"]
POOR = ("MOVE", "UIDPLUS", "MULTIAPPEND", "LITERAL+", "QRESYNC", "CONDSTORE", "NOTIFY")
"""What a server lacks on which each step is one command more, and no answer tells the new UID."""
Where = str | Path
"""A folder: its path, or the name of one at the top."""


def message(subject: str, *extra: str, body: str = "Some text.", ident: str | None = None, date: int = 5) -> bytes:
    """A message; its Message-ID is made from ``ident`` (the subject)."""
    lines = [
        "From: Ada <ada@example.com>",
        "To: Bob <bob@example.org>",
        f"Subject: {subject}",
        f"Date: Mon, {date} Jan 2026 10:00:00 +0000",
        f"Message-ID: <{(ident or subject).replace(' ', '.')}@example.com>",
        *extra,
        "",
        body,
        "",
    ]
    return "\r\n".join(lines).encode()


class Scene:
    """See the module. ``append``, ``store`` … act as the other client; ``look`` and ``agree`` read through JMAP.

    ``settings``: more of the account's, from :meth:`begin` on.
    ``relay``: what stands between the proxy and the server, where something does; ``renumbered``: what it tells wrong.
    """

    def __init__(self, proxy: Proxy, server: ImapServer, account: str, kind: str, user: str = "") -> None:
        self.proxy, self.server, self.account, self.kind = proxy, server, account, kind
        self.user = user or server.new_user()
        self.imap = server.imap(self.user)
        self.client: Client | None = None
        self.settings: dict[str, Any] = {}
        self.relay: Relay | None = None
        self.renumbered: Any = None
        self.prefix = "INBOX." if kind == "courier" else ""
        self.separator = "." if kind == "courier" else "/"

    @cached_property
    def upstream(self) -> Upstream:
        """A connection of its own, made when it is needed: a server may not give many."""
        # pymap's MAILBOXID follows the name of a folder.
        return Upstream(self.server.imap(self.user), folder_ids=self.kind != "pymap")

    @cached_property
    def checker(self) -> Checker:
        return Checker(self.upstream, lambda: self.jmap)

    def begin(self, **more: Any) -> View:
        """Add the account to the proxy, wait for its first sync."""
        self.client = self.proxy.add(self.account, self.server, self.user, **{**self.settings, **more})
        self.proxy.settled(self.account)
        return self.agree()

    def close(self) -> None:
        self.imap.logout()
        if "upstream" in vars(self):
            self.upstream.imap.logout()
        if self.client is not None:
            assert self.proxy.management.send("DELETE", f"/api/accounts/{self.account}").status < 300

    @property
    def jmap(self) -> Client:
        assert self.client is not None, "begin() first"
        return self.client

    @property
    def history(self) -> list[View]:
        return self.checker.history

    @property
    def reborn(self) -> set[str]:
        return self.checker.reborn

    # --- the other client --------------------------------------------------------------------------------------------

    def name(self, *path: str) -> str:
        """The quoted IMAP name of a folder."""
        raw = "INBOX" if path == ("Inbox",) else self.prefix + self.separator.join(utf7(level) for level in path)
        return quoted(raw)

    def at(self, folder: Where) -> str:
        return self.name(folder) if isinstance(folder, str) else self.name(*folder)

    def do(self, command: str, *args: str) -> list[Any]:
        """A command that must succeed; its untagged data."""
        typ, data = self.imap._simple_command(command, *args)  # type: ignore[attr-defined]
        assert typ == "OK", (command, args, data)
        return list(data)

    def uid(self, folder: Where, *args: str) -> list[Any]:
        """A UID command in a folder."""
        typ, data = self.imap.select(self.at(folder))
        assert typ == "OK", (folder, data)
        typ, data = self.imap.uid(*args)
        assert typ == "OK", (args, data)
        return list(data)

    def create(self, *path: str) -> None:
        self.do("CREATE", self.name(*path))

    def append(self, folder: Where, *raws: bytes, flags: str = "", date: str = "") -> None:
        for raw in raws:
            typ, data = self.imap.append(self.at(folder), flags, date, raw)
            assert typ == "OK", data

    def uids(self, folder: Where, criteria: str = "ALL") -> list[str]:
        return [uid.decode() for uid in self.uid(folder, "SEARCH", criteria)[0].split()]

    def flag(self, folder: Where, uid: str, *flags: str, on: bool = True) -> None:
        self.uid(folder, "STORE", uid, f"{'+' if on else '-'}FLAGS.SILENT", f"({' '.join(flags)})")

    def expunge(self, folder: Where, uid: str) -> None:
        self.flag(folder, uid, "\\Deleted")
        assert self.imap.expunge()[0] == "OK"

    def copy(self, folder: Where, uid: str, target: Where) -> None:
        self.uid(folder, "COPY", uid, self.at(target))

    def move(self, folder: Where, uid: str, target: Where) -> None:
        self.uid(folder, "MOVE", uid, self.at(target))

    # --- what is to be seen ------------------------------------------------------------------------------------------

    def look(self) -> View:
        """Everything that JMAP shows; it agrees with itself."""
        view = look(self.jmap)
        none(contradictions(view))
        return view

    def sync(self) -> View:
        """One pass now, then what is to be seen."""
        self.proxy.sync(self.account)
        self.proxy.settled(self.account)
        return self.look()

    def agree(self, **how: int) -> View:
        """Sync; the proxy's view is the server's, its counts are recounted, its changes lead here from everywhere."""
        self.proxy.sync(self.account)
        self.proxy.settled(self.account)
        # On a connection from before, Dovecot may list what was.
        self.upstream.imap.logout()
        self.upstream.imap = self.server.imap(self.user)
        none(self.checker.breaches(**{"one_by_one": len(self.checker.history), **how}))
        return self.checker.view


def none(breaches: Iterable[str]) -> None:
    """No breach."""
    found = list(breaches)
    assert not found, "\n".join(found)
