"""Asking for the folders in a constant number of round trips (RFC 2342, 5258, 5819, 6154, 8440, 4314).

First write: NAMESPACE (once) and LIST, with STATUS, subscriptions and special uses in its answer where the server can;
else LSUB beside it. Second write, only where something is still missing: STATUS and MYRIGHTS of every folder at once.

What others share: some servers leave it out of LIST "*" and list it by its prefix alone (*apart*; Courier, Dovecot with
``list = no``); now and then that is tried. Its rights may change at any time, so they are asked for at each look.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Sequence

from jmapplug.backends import Folder
from jmapplug_imap.access import Access
from jmapplug_imap.labels import as_labels
from jmapplug_imap.listing_trust import ListingTrust
from jmapplug_imap.names import level_text, to_key, to_wire
from jmapplug_imap.protocol.commands import Command, Mailbox, Part
from jmapplug_imap.protocol.connection import Connection
from jmapplug_imap.protocol.dialogue import Result
from jmapplug_imap.protocol.errors import CommandError, CommandNo, ConnectionBroken
from jmapplug_imap.protocol.responses import Listed, MailboxStatus, MyRights, Namespaces
from jmapplug_imap.tree import INBOX, Listing, Prefixes, build, canonical

PIECE = 400  # commands in one write: their answers fit into the sockets' buffers while we still write
RIGHTS_LAST = 600.0  # seconds for which MYRIGHTS is believed, and for which a prefix below which nothing is stays so
REFRESHED = 50  # folders whose rights are asked for again in one look: with thousands of them, the oldest answers first
SHARED_AT_ONCE = 100  # so many shared folders' rights are asked for in one look, the oldest answers first
_NO_MAIL = (b"#news", b"#ftp", b"#mh")  # RFC 3501 §5.1.2: namespaces of other things, with no end
_UNSELECTABLE = frozenset({"\\noselect", "\\nonexistent"})
ABSENT = frozenset({"nonexistent", "trycreate"})
"""Codes of a STATUS that mean that there is no such mailbox."""
_ABSENT = re.compile(r"exist|no such|not found|unknown mailbox", re.IGNORECASE)
"""Dovecot's maildir says so without a code, and tells rights of it all the same. Any other NO without one (Cyrus where
we may not read, a server in trouble) says nothing of the kind."""


class FolderLister:
    """Looks at the folders of one account. Remembers what hardly ever changes: prefixes, and rights for ten minutes."""

    def __init__(self, access: Access, clock: Callable[[], float] = time.monotonic) -> None:
        self._access = access
        self._clock = clock
        self._prefixes: Prefixes | None = None
        self._rights: dict[bytes, tuple[float, str]] = {}
        self._apart: tuple[bytes, ...] = ()
        self._ask_apart = 0.0
        self._separators: dict[bytes, bytes] = {}
        self._trust = ListingTrust(access)

    def prefix(self, connection: Connection) -> bytes:
        """What the keys of all our folders at the top begin with ("INBOX." in Courier's layout)."""
        if self._prefixes is None:
            self._look(connection)
        return self._prefixes.stripped if self._prefixes else b""

    def separator(self, connection: Connection, key: bytes) -> bytes:
        """The octet between the levels at this place; b"" for a flat one."""
        if key not in self._separators:
            # RFC 9051 §6.3.9: LIST with an empty pattern tells the separator of a place, whatever stands there.
            rows = connection.command("LIST", Mailbox(to_wire(connection, key)), '""').of(Listed)
            self._separators[key] = (rows[-1].separator or "").encode() if rows else b""
        return self._separators[key]

    def below(self, key: bytes) -> frozenset[bytes]:
        """The key itself, and those of all folders below it that the last look has seen."""
        separator = self._separators.get(key, b"")
        return frozenset({key, *(k for k in self._separators if separator and k.startswith(key + separator))})

    def forget(self, key: bytes) -> None:
        """The folder has gone or has another name now."""
        self._rights.pop(key, None)
        self._separators.pop(key, None)

    def folders(self) -> list[Folder]:
        """See MailSource.folders."""
        began = time.monotonic()
        return self._access.run(lambda connection: self._fresh_look(connection, began), background=True)

    def changes_on(self, connection: Connection) -> None:
        """Folders are made, renamed or deleted on this connection."""
        self._trust.changes_on(connection)

    def _fresh_look(self, connection: Connection, began: float) -> list[Folder]:
        """``began``: time.monotonic() when the look was asked for; a connection from before may have to give way."""
        if connection.opened_at < began and self._trust.is_outdated(connection):
            _give_way(connection)
        return self._look(connection, began)

    def _look(self, connection: Connection, began: float = -math.inf) -> list[Folder]:
        results = self._first(connection)
        results += self._elsewhere(connection, results)
        listed = [r for result in results for r in result.of(Listed)]
        # A folder may be listed twice; the first row has the attributes.
        first = {row.key: row for row in reversed(listed) if row.kind == "LIST"}
        rows = [_keyed(connection, row) for row in reversed(first.values())]
        self._separators = {canonical(row.key): (row.separator or "").encode() for row in rows}
        lsub = None if self._list_tells_subscriptions(connection) else _names(connection, listed)
        status = _statuses(connection, results)
        names = [canonical(row.key) for row in rows if not row.attributes & _UNSELECTABLE]
        more, absent = self._second(connection, names, status, results)
        status |= more
        places = {canonical(row.key): _validity(status.get(canonical(row.key))) for row in rows}
        if connection.opened_at < began and self._trust.doubts(places, absent):
            _give_way(connection)
        self._trust.believe(places, absent)
        rows = _without(rows, absent)
        self._leave_replaced(status)
        self._access.rights = {key: letters for key, (_, letters) in self._rights.items()}
        prefixes = self._prefixes or Prefixes()
        found = build(Listing(tuple(rows), status, prefixes, lsub, self._access.rights), level_text)
        self._access.uses = {folder.role: folder.key for folder in found if folder.role}
        return as_labels(found) if self._access.features.labels else found

    def _leave_replaced(self, status: dict[bytes, MailboxStatus]) -> None:
        """Other connections select a folder that went or was made anew again before they use it.

        A STORE or FETCH in the old view may make Dovecot 2.3.19 destroy the index of the new folder.
        """
        for other in self._access.pool.resting():
            if other.selected is not None:
                told = status.get(canonical(to_key(other, other.selected)))
                if told is None or told.items.get("UIDVALIDITY") != other.uidvalidity:
                    other.selected = None

    # --- the first write

    def _first(self, connection: Connection) -> list[Result]:
        commands: list[Command] = []
        if connection.selected is not None:
            # What STATUS says of the selected mailbox may be stale (RFC 9051 §6.3.11): leave it, or catch up.
            commands.append(["UNSELECT"] if connection.has("UNSELECT") else ["NOOP"])
        if self._prefixes is None and (connection.has("NAMESPACE") or connection.has("IMAP4REV2")):
            commands.append(["NAMESPACE"])
        optional = len(commands)
        for prefix in (b"", *self._apart):
            commands += self._lists(connection, prefix)
        if not self._list_tells_subscriptions(connection):
            commands.append(["LSUB", '""', '"*"'])
        outcomes = connection.pipeline(commands)
        if commands[0] == ["UNSELECT"] and isinstance(outcomes[0], Result):
            connection.selected = None
        for outcome in outcomes[optional:]:
            if isinstance(outcome, CommandError):
                raise outcome  # a listing that failed is not an account without folders
        results = [outcome for outcome in outcomes if isinstance(outcome, Result)]
        if self._prefixes is None:
            spaces = [space for result in results for space in result.of(Namespaces)]
            self._prefixes = _prefixes(connection, spaces[-1] if spaces else None)
        return results

    def _elsewhere(self, connection: Connection, results: Sequence[Result]) -> list[Result]:
        """The listings of other people's prefixes below which LIST "*" shows nothing."""
        prefixes, now = (self._prefixes or Prefixes()).foreign, self._clock()
        if now < self._ask_apart or not prefixes:
            return []
        self._ask_apart = now + RIGHTS_LAST
        shown = [to_key(connection, row.key) for result in results for row in result.of(Listed)]
        silent = [p for p in prefixes if _may_be_listed(p) and not any(k.startswith(p) for k in shown)]
        found: list[Result] = []
        for prefix in silent:
            outcomes = connection.pipeline(self._lists(connection, prefix))
            # A server that has no such thing may say NO. Once it has listed something that is an error (_first).
            told = [outcome for outcome in outcomes if isinstance(outcome, Result)]
            if any(result.of(Listed) for result in told):
                self._apart = (*self._apart, prefix)
                found += told
        return found

    def _lists(self, connection: Connection, prefix: bytes) -> list[Command]:
        """The listing of everything (b"") or of what is below a prefix."""
        pattern = Mailbox(to_wire(connection, prefix) + b"*") if prefix else '"*"'
        commands: list[Command] = [self._list(connection, pattern)]
        if self._ids_apart(connection):
            commands.append(["LIST", '""', pattern, "RETURN", ["STATUS", ["MAILBOXID"]]])
        return commands

    def _list(self, connection: Connection, pattern: Part) -> list[Part]:
        if not self._list_tells_subscriptions(connection):
            return ["LIST", '""', pattern]
        options: list[Part] = ["SUBSCRIBED"]
        if connection.has("SPECIAL-USE") or connection.has("IMAP4REV2"):
            options.append("SPECIAL-USE")
        if connection.has("LIST-MYRIGHTS"):
            options.append("MYRIGHTS")
        if self._list_tells_status(connection):
            options += ["STATUS", self._status_items(connection)]
        return ["LIST", '""', pattern, "RETURN", options]

    def _list_tells_subscriptions(self, connection: Connection) -> bool:
        return connection.has("LIST-EXTENDED") or connection.has("IMAP4REV2")

    def _list_tells_status(self, connection: Connection) -> bool:
        return connection.has("IMAP4REV2") or (connection.has("LIST-STATUS") and connection.has("LIST-EXTENDED"))

    def _status_items(self, connection: Connection) -> list[Part]:
        items: list[Part] = ["MESSAGES", "UIDNEXT", "UIDVALIDITY", "UNSEEN"]
        if self._access.features.condstore:
            items.append("HIGHESTMODSEQ")
        identity = {"emailid": "MAILBOXID", "x-guid": "X-GUID"}.get(self._access.features.id_scheme)
        return [*items, identity] if identity and not self._ids_apart(connection) else items

    def _ids_apart(self, connection: Connection) -> bool:
        """Whether MAILBOXID is asked for in a listing of its own.

        Cyrus 3.6 answers freed memory for it beside any item that it opens the mailbox for; alone it is right.
        """
        return self._access.features.id_scheme == "emailid" and self._list_tells_status(connection)

    # --- the second write

    def _second(
        self,
        connection: Connection,
        keys: Sequence[bytes],
        known: dict[bytes, MailboxStatus],
        listing: Sequence[Result],
    ) -> tuple[dict[bytes, MailboxStatus], frozenset[bytes]]:
        """What was still missing, and the keys of folders that are not there although LIST shows them."""
        # RFC 5819 §2: LIST leaves out a status that it cannot tell; then it is asked for by itself.
        asked = [key for key in keys if key not in known]
        items = self._status_items(connection)
        commands: list[Command] = [["STATUS", Mailbox(to_wire(connection, key)), items] for key in asked]
        if connection.has("ACL"):
            self._rights = {key: row for key, row in self._rights.items() if key in set(keys)}
            if not connection.has("LIST-MYRIGHTS"):
                refused = asked if self._list_tells_status(connection) else []
                due = dict.fromkeys((*self._rights_due(keys), *refused))
                commands += [["MYRIGHTS", Mailbox(to_wire(connection, key))] for key in due]
        outcomes: list[Result | CommandError] = []
        for start in range(0, len(commands), PIECE):
            outcomes += connection.pipeline(commands[start : start + PIECE])
        # A refusal concerns one folder (just deleted, or not ours to read): it has no status then.
        results = [outcome for outcome in outcomes if isinstance(outcome, Result)]
        self._learn_rights(connection, (*listing, *results))
        gone = frozenset(key for key, outcome in zip(asked, outcomes, strict=False) if _says_absent(outcome))
        # Without the right "r" nobody tells a status, whatever the words for it are.
        shut = {
            canonical(to_key(connection, r.key)) for one in results for r in one.of(MyRights) if "r" not in r.rights
        }
        return _statuses(connection, results), gone - shut - {INBOX}

    def _rights_due(self, keys: Sequence[bytes]) -> list[bytes]:
        """The folders whose rights are not known; of those known the oldest: our own after a while, others' always."""
        now = self._clock()
        foreign = (self._prefixes or Prefixes()).is_foreign
        ages = sorted((at, key) for key, (at, _) in self._rights.items())
        new = [key for key in keys if key not in self._rights]
        ours = [key for at, key in ages if now - at > RIGHTS_LAST and not foreign(key)]
        theirs = [key for _, key in ages if foreign(key)]
        return [*new, *ours[:REFRESHED], *theirs[:SHARED_AT_ONCE]]

    def _learn_rights(self, connection: Connection, results: Sequence[Result]) -> None:
        for result in results:
            for row in result.of(MyRights):
                self._rights[canonical(to_key(connection, row.key))] = (self._clock(), row.rights)


def _give_way(connection: Connection) -> None:
    """Have the look begin anew on another connection: Pool.run makes it, once."""
    connection.close()
    raise ConnectionBroken("folders are listed on a new connection")


def _without(rows: list[Listed], absent: frozenset[bytes]) -> list[Listed]:
    """The rows; those that are not there after all hold children only.

    Dovecot 2.3.19's maildir lists a parent that was deleted above its children as if it could be selected.
    """
    shut = frozenset({"\\noselect"})
    return [
        Listed(row.key, row.separator, row.attributes | shut, row.old_key) if canonical(row.key) in absent else row
        for row in rows
    ]


def _validity(told: MailboxStatus | None) -> int | None:
    validity = None if told is None else told.items.get("UIDVALIDITY")
    return validity if isinstance(validity, int) else None


def _says_absent(outcome: Result | CommandError) -> bool:
    if not isinstance(outcome, CommandNo):
        return False
    return outcome.code in ABSENT or (outcome.code is None and _ABSENT.search(str(outcome)) is not None)


def _keyed(connection: Connection, row: Listed) -> Listed:
    old = None if row.old_key is None else to_key(connection, row.old_key)
    return Listed(to_key(connection, row.key), row.separator, row.attributes, old)


def _names(connection: Connection, rows: Sequence[Listed]) -> frozenset[bytes]:
    return frozenset(canonical(to_key(connection, row.key)) for row in rows if row.kind == "LSUB")


def _statuses(connection: Connection, results: Sequence[Result]) -> dict[bytes, MailboxStatus]:
    """What is told of each mailbox, all its answers together."""
    merged: dict[bytes, MailboxStatus] = {}
    for row in (row for result in results for row in result.of(MailboxStatus)):
        key = canonical(to_key(connection, row.key))
        before = merged[key].items if key in merged else {}
        merged[key] = MailboxStatus(row.key, {**before, **row.items})
    return merged


def _may_be_listed(prefix: bytes) -> bool:
    return bool(prefix) and not prefix.startswith(_NO_MAIL) and not {*b"*%"} & {*prefix}


def _prefixes(connection: Connection, spaces: Namespaces | None) -> Prefixes:
    raw = Prefixes.of(spaces)
    return Prefixes(
        tuple(to_key(connection, prefix) for prefix in raw.personal),
        tuple(to_key(connection, prefix) for prefix in raw.foreign),
    )
