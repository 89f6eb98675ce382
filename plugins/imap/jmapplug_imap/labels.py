"""Gmail (X-GM-EXT-1): one store of messages, whose labels are shown as folders (mail-rules 35).

Removing a message from a folder is a UID MOVE to All Mail and never an EXPUNGE: what EXPUNGE does with a message that
has no other label is a setting of the user, and one of its values deletes it for good.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from jmapplug.backends import Folder, Views
from jmapplug.errors import UpstreamError
from jmapplug_imap.access import Access, Opened
from jmapplug_imap.listing import hits
from jmapplug_imap.names import to_wire
from jmapplug_imap.protocol import sets
from jmapplug_imap.protocol.commands import Command, Mailbox
from jmapplug_imap.protocol.connection import Connection
from jmapplug_imap.protocol.errors import CommandError
from jmapplug_imap.protocol.fetch import FetchRow
from jmapplug_imap.writing import Writing

if TYPE_CHECKING:
    from jmapplug_imap.folders import FolderLister
    from jmapplug_imap.transfer import Transfer

PIECE = 200
"""Questions in one write."""
ALONE = ("trash", "junk")


class Labels:
    """What is different where folders are labels."""

    def __init__(self, access: Access, lister: FolderLister, transfer: Transfer, writing: Writing) -> None:
        self._access, self._lister, self._transfer, self._writing = access, lister, transfer, writing

    def views(self) -> Views:
        """See MailSource.views."""
        return Views(self._use("all"), *(self._use(role) for role in ALONE))

    def located(self, key: bytes, validity: int, server_ids: Sequence[str]) -> dict[str, int]:
        """See MailSource.located."""
        wanted = [each for each in dict.fromkeys(server_ids) if each.isascii() and each.isdigit()]
        return self._access.run(lambda connection: self._located(connection, key, validity, wanted)) if wanted else {}

    def _located(self, connection: Connection, key: bytes, validity: int, wanted: Sequence[str]) -> dict[str, int]:
        if not self._access.view(connection, key, validity):
            connection.noop()
        uids: set[int] = set()
        for start in range(0, len(wanted), PIECE):
            commands: list[Command] = [["UID SEARCH", "X-GM-MSGID", one] for one in wanted[start : start + PIECE]]
            for outcome in connection.pipeline(commands):
                if isinstance(outcome, CommandError):
                    raise outcome
                uids |= hits(outcome)
        # The rows say whose UIDs these are: a server that answered something else is not believed.
        rows = connection.fetch_all(sorted(uids), ["UID", "X-GM-MSGID"]) if uids else []
        names = frozenset(wanted)
        return {row.gm_id: row.uid for row in rows if row.gm_id in names}

    def remove(self, key: bytes, validity: int, uids: Sequence[int]) -> list[int]:
        """See MailSource.remove: for good in Trash and Junk, else this label alone."""
        everything = self._use("all")
        if everything is None or key in {self._use(role) for role in ALONE}:
            return self._writing.remove(key, validity, uids)
        if key == everything:
            raise UpstreamError("a message cannot leave the folder of all mail", code="cannot", temporary=False)
        if uids:
            self._moved(key, validity, uids, everything)
        return sorted(set(uids))

    def _moved(self, key: bytes, validity: int, uids: Sequence[int], everything: bytes) -> None:
        """MOVE to where the messages are already: there no new UID tells that it was done, the source does."""

        def work(connection: Connection) -> None:
            def move(opened: Opened) -> None:
                if not opened.fresh:
                    connection.noop()
                target = Mailbox(to_wire(connection, everything))
                for words in sets.chunks(uids):
                    connection.command("UID MOVE", words, target)
                if not self._access.view(connection, key, validity):
                    connection.noop()
                if _there(connection, uids):
                    raise UpstreamError("the server does not take messages out of a folder")

            self._access.inside(connection, key, validity, move)

        # A message that is there already stays: it may be done twice.
        self._access.run(work)

    def _use(self, role: str) -> bytes | None:
        if not self._access.uses:
            self._lister.folders()
        return self._access.uses.get(role)


def _there(connection: Connection, uids: Sequence[int]) -> set[int]:
    rows: list[FetchRow] = list(connection.fetch_all(uids, ["UID"]))
    return {row.uid for row in rows} & set(uids)


def as_labels(folders: Sequence[Folder]) -> list[Folder]:
    """The folders that are labels. Starred is ``\\Flagged`` once more: ``$flagged`` says it, and its folder is left out

    (mail-rules 35). The server's own folders can be neither renamed nor deleted, and take no folders below them.
    """
    special = {folder.key: folder for folder in folders if folder.role and folder.role != "inbox"}
    fixed = special.keys() | {folder.parent for folder in special.values()}
    found = []
    for folder in folders:
        if folder.role == "flagged":
            continue
        if folder.key in fixed:
            rights = msgspec.structs.replace(folder.rights, may_rename=False, may_delete=False, may_create_child=False)
            folder = msgspec.structs.replace(folder, rights=rights)
        found.append(folder)
    return found
