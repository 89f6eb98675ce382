"""CREATE, RENAME, DELETE and subscriptions (RFC 9051 §6.3.4-6.3.8, RFC 6154 §3).

What a command did is asked by STATUS and never by LIST: Dovecot 2.3.19 with its list index loses a new folder from LIST
after a RENAME and a DELETE of others. A folder that goes away is left on our own connections first.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from typing import TypeVar

from jmapplug.errors import UpstreamError
from jmapplug_imap.access import Access
from jmapplug_imap.folders import FolderLister
from jmapplug_imap.names import to_key, to_wire
from jmapplug_imap.passes import Passes
from jmapplug_imap.protocol import utf7
from jmapplug_imap.protocol.commands import Command, Mailbox, Part
from jmapplug_imap.protocol.connection import Connection
from jmapplug_imap.protocol.dialogue import Result
from jmapplug_imap.protocol.errors import CommandError, CommandNo
from jmapplug_imap.protocol.refusals import SERVERBUG
from jmapplug_imap.protocol.responses import Listed, MailboxStatus
from jmapplug_imap.tree import INBOX, canonical

T = TypeVar("T")
USES = {
    "all": "\\All", "archive": "\\Archive", "drafts": "\\Drafts", "flagged": "\\Flagged", "important": "\\Important",
    "junk": "\\Junk", "sent": "\\Sent", "trash": "\\Trash",
}  # fmt: skip
"""JMAP role → special use (RFC 6154, RFC 8457)."""
VAGUE = frozenset({None, SERVERBUG})
"""Codes that say nothing: then STATUS tells what was wrong."""
_UNFIT = frozenset({"Cc", "Cs", "Zl", "Zp"})
PIECE = 400  # commands in one write


class FolderChanges:
    """Changes the folder tree of one account."""

    def __init__(self, access: Access, lister: FolderLister, passes: Passes) -> None:
        self._access, self._lister, self._passes = access, lister, passes

    # --- create

    def create(self, parent: bytes | None, name: str, role: str | None = None) -> bytes:
        """See MailSource.create_folder."""
        begun = False

        def work(connection: Connection) -> bytes:
            nonlocal begun
            key = self._key(connection, parent, name)
            self._lister.changes_on(connection)
            again, begun = begun, True
            try:
                self._created(connection, key, role)
            except CommandError as error:
                # Our first CREATE, whose answer was lost, may have made it: then it is still empty.
                if not (again and error.code == "alreadyexists" and _is_new(connection, key)):
                    raise
            connection.pipeline([["SUBSCRIBE", Mailbox(to_wire(connection, key))]])
            return key

        key = self._access.run(work)
        self._forget(key)
        return key

    def _created(self, connection: Connection, key: bytes, role: str | None) -> None:
        mailbox = Mailbox(to_wire(connection, key))
        use = USES.get(role or "") if connection.has("CREATE-SPECIAL-USE") else None
        outcomes: list[Result | CommandError] = []
        if use:
            outcomes = connection.pipeline([["CREATE", mailbox, ["USE", [use]]], _status(connection, key)])
        # RFC 6154 §3: a special use that the server does not take (USEATTR) is no reason to have no folder.
        if not use or isinstance(outcomes[1], CommandError):
            outcomes = connection.pipeline([["CREATE", mailbox], _status(connection, key)])
        created, there = outcomes
        if isinstance(created, CommandError):
            exists = created.code in VAGUE and not isinstance(there, CommandError)
            raise _coded(created, "alreadyexists") if exists else created
        if isinstance(there, CommandError):
            raise there

    # --- rename

    def rename(self, key: bytes, parent: bytes | None, name: str) -> bytes:
        """See MailSource.rename_folder."""
        if key == INBOX:  # RFC 9051 §6.3.6: it would move the messages instead
            raise UpstreamError("the INBOX cannot be renamed", code="cannot", temporary=False)
        begun = False

        def work(connection: Connection) -> bytes:
            nonlocal begun
            new = self._key(connection, parent, name)
            if new == key:
                return new
            separator = self._lister.separator(connection, key)
            if separator and new.startswith(key + separator):
                raise _refusal("a folder cannot go below itself")
            self._lister.changes_on(connection)
            again, begun = begun, True
            self._renamed(connection, key, new, again)
            self._resubscribe(connection, key, new, separator)
            return new

        new = self._away(key, work)
        if new != key:
            self._forget(new)
        return new

    def _renamed(self, connection: Connection, key: bytes, new: bytes, again: bool) -> None:
        names = [Mailbox(to_wire(connection, each)) for each in (key, new)]
        renamed, old_there, new_there = connection.pipeline(
            [["RENAME", *names], _status(connection, key), _status(connection, new)]
        )
        if not isinstance(renamed, CommandError):
            return
        gone, exists = isinstance(old_there, CommandError), isinstance(new_there, Result)
        if again and gone and exists:
            return  # the first RENAME did it; its answer was lost
        if renamed.code in VAGUE and (gone or exists):
            raise _coded(renamed, "nonexistent" if gone else "alreadyexists")
        raise renamed

    def _resubscribe(self, connection: Connection, key: bytes, new: bytes, separator: bytes) -> None:
        """RFC 9051 §6.3.6: subscriptions do not follow a RENAME by themselves; those of the children neither."""
        below = key + separator
        ours = [one for one in _subscribed(connection) if one == key or (separator and one.startswith(below))]
        commands: list[Command] = []
        for old in ours:
            commands.append(["SUBSCRIBE", Mailbox(to_wire(connection, new + old[len(key) :]))])
            commands.append(["UNSUBSCRIBE", Mailbox(to_wire(connection, old))])
        for start in range(0, len(commands), PIECE):
            connection.pipeline(commands[start : start + PIECE])

    # --- delete, subscribe

    def delete(self, key: bytes) -> None:
        """See MailSource.delete_folder."""
        if key == INBOX:  # RFC 9051 §6.3.5
            raise UpstreamError("the INBOX cannot be deleted", code="cannot", temporary=False)
        begun = False

        def work(connection: Connection) -> None:
            nonlocal begun
            self._lister.changes_on(connection)
            again, begun = begun, True
            mailbox = Mailbox(to_wire(connection, key))
            deleted, there = connection.pipeline([["DELETE", mailbox], _status(connection, key)])
            if isinstance(deleted, CommandError):
                gone = isinstance(there, CommandError) and there.code in (None, "nonexistent", "trycreate")
                gone = gone or deleted.code == "nonexistent"
                if not (again and gone):  # else the first DELETE did it; its answer was lost
                    raise _coded(deleted, "nonexistent") if gone and deleted.code in VAGUE else deleted
            connection.pipeline([["UNSUBSCRIBE", mailbox]])

        self._away(key, work)

    def subscribe(self, key: bytes, subscribed: bool) -> None:
        """See MailSource.subscribe_folder."""
        verb = "SUBSCRIBE" if subscribed else "UNSUBSCRIBE"
        self._access.run(lambda connection: connection.command(verb, Mailbox(to_wire(connection, key))))

    # --- names

    def _key(self, connection: Connection, parent: bytes | None, name: str) -> bytes:
        """The key of a new folder. Raises UpstreamError("cannot") for what is no name of one level."""
        prefix = self._lister.prefix(connection)
        separator = self._lister.separator(connection, prefix if parent is None else parent)
        level = utf7.encode(name) if _fit(name) else b""
        if not level:
            raise _refusal("not a name for a folder")
        if separator and (separator.decode("latin-1") in name or separator in level):
            raise _refusal("the server does not allow this character in a folder's name")
        if parent is None:
            key = prefix + level
        elif not separator or (parent == INBOX and prefix.upper() == INBOX + separator):
            raise _refusal("this folder takes no folders below it")
        else:
            key = parent + separator + level
        if canonical(key) == INBOX:
            raise UpstreamError("the folder exists", code="alreadyexists", temporary=False)
        return key

    # --- who else is there

    def _away(self, key: bytes, work: Callable[[Connection], T]) -> T:
        """``work`` takes the folder and what is below it away: none of our connections may have it open."""
        keys = self._lister.below(key)
        self._leave(keys)
        try:
            try:
                return self._access.run(work)
            except CommandNo as error:
                if error.code != "inuse":
                    raise
            self._leave(keys)  # a read came in between
            return self._access.run(work)
        finally:
            for each in keys:
                self._forget(each)

    def _leave(self, keys: frozenset[bytes]) -> None:
        def leave(connection: Connection) -> None:
            selected = connection.selected
            if selected is None or canonical(to_key(connection, selected)) not in keys:
                return
            connection.unselect()
            if connection.selected is not None:  # a server without UNSELECT; CLOSE would expunge
                self._access.select(connection, INBOX, read_only=True)

        self._access.pool.each(leave)

    def _forget(self, key: bytes) -> None:
        self._access.forget(key)
        self._lister.forget(key)
        self._passes.forget(key)


def _fit(name: str) -> bool:
    """Whether a name is Net-Unicode of one line (RFC 5198 §2; mail-rules 25)."""
    unfit = any(unicodedata.category(letter) in _UNFIT for letter in name)
    return bool(name) and not unfit and unicodedata.is_normalized("NFC", name)


def _refusal(text: str) -> UpstreamError:
    return UpstreamError(text, code="cannot", temporary=False)


def _coded(error: CommandError, code: str) -> CommandError:
    """The server's refusal, with the code that it left out."""
    return CommandNo(str(error), code=code, temporary=False)


def _status(connection: Connection, key: bytes) -> list[Part]:
    return ["STATUS", Mailbox(to_wire(connection, key)), ["MESSAGES", "UIDNEXT", "UIDVALIDITY"]]


def _is_new(connection: Connection, key: bytes) -> bool:
    """Whether the folder is there and never held a message."""
    rows = connection.command(*_status(connection, key)).of(MailboxStatus)
    return any(row.items.get("UIDNEXT") == 1 and not row.items.get("MESSAGES") for row in rows)


def _subscribed(connection: Connection) -> Sequence[bytes]:
    """The keys of all subscribed names."""
    extended = connection.has("LIST-EXTENDED") or connection.has("IMAP4REV2")
    parts: list[Part] = ["LIST", ["SUBSCRIBED"], '""', '"*"'] if extended else ["LSUB", '""', '"*"']
    rows = connection.command(*parts).of(Listed)
    # RFC 9051 §6.3.9.1: a parent that is shown for its children's sake is not subscribed itself.
    shown = (row for row in rows if "\\subscribed" in row.attributes or (row.kind == "LSUB" and not _parent_only(row)))
    return [canonical(to_key(connection, row.key)) for row in shown]


def _parent_only(row: Listed) -> bool:
    return "\\noselect" in row.attributes
