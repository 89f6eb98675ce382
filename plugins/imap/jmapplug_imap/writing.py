"""Flags and removal (RFC 9051 §6.4.6, 7162 §3.1.3, 4315 §2.1): one command per operation and 8,000 octets of UIDs.

Everything here may be done twice: after a cut it simply is, once, on a new connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from jmapplug.errors import UpstreamError
from jmapplug_imap.access import Access, Opened
from jmapplug_imap.appending import flags as as_flags
from jmapplug_imap.protocol import sets
from jmapplug_imap.protocol.commands import Command, Part
from jmapplug_imap.protocol.connection import Connection
from jmapplug_imap.protocol.dialogue import FEW, Result
from jmapplug_imap.protocol.errors import CommandError
from jmapplug_imap.protocol.fetch import FetchRow
from jmapplug_imap.protocol.responses import Esearch, Search, Vanished

Flags = dict[int, tuple[str, ...]]
_DELETED: list[Part] = ["\\Deleted"]


class Writing:
    """Changes messages where they are, for one source."""

    def __init__(self, access: Access) -> None:
        self._access = access

    # --- flags

    def store(self, key: bytes, validity: int, uids: Sequence[int], add: Sequence[str], remove: Sequence[str]) -> Flags:
        """See MailSource.store."""
        changes: list[tuple[str, list[Part]]] = [("+FLAGS", as_flags(add)), ("-FLAGS", as_flags(remove))]
        wanted = [(sign, flags) for sign, flags in changes if flags]

        def work(connection: Connection) -> Flags:
            def change(opened: Opened) -> Flags:
                found = _stored(connection, uids, wanted)
                # In a view that has been open for a while, messages that came since do not exist yet: their flags are
                # told (measured, Dovecot 2.3), but are as they were.
                again = [uid for uid in uids if uid not in found or not _done(found[uid], wanted)]
                if again and not opened.fresh:
                    connection.noop()
                    found |= _stored(connection, again, wanted)
                return found

            return self._access.inside(connection, key, validity, change)

        return self._access.run(work) if uids else {}

    # --- removal

    def remove(self, key: bytes, validity: int, uids: Sequence[int]) -> list[int]:
        """See MailSource.remove."""

        def work(connection: Connection) -> None:
            remove = _removed_wholly if self._access.features.uidplus else _removed_carefully
            self._access.inside(connection, key, validity, lambda opened: remove(connection, uids, opened.fresh))

        if uids:
            self._access.run(work)
        return sorted(set(uids))


def _stored(connection: Connection, uids: Sequence[int], changes: Sequence[tuple[str, list[Part]]]) -> Flags:
    """The flags as they are now; what the server did not tell of is asked for, what is missing then is not there."""
    commands: list[Command] = [
        ["UID STORE", words, sign, flags] for words in sets.chunks(uids) for sign, flags in changes
    ]
    found = _told(_all(connection, commands, alike=len(uids) > FEW))
    wanted = set(uids)
    found = {uid: flags for uid, flags in found.items() if uid in wanted}
    # RFC 9051 §6.4.6: the new value is told; Dovecot tells nothing of a message that is as it was.
    if untold := [uid for uid in uids if uid not in found]:
        found |= _flags_now(connection, untold)
    return found


def _all(connection: Connection, commands: Sequence[Command], alike: bool = False) -> list[Result]:
    """Every command in one write. Raises the first refusal, after all have ended."""
    outcomes = connection.pipeline(commands, alike=alike) if commands else []
    for outcome in outcomes:
        if isinstance(outcome, CommandError):
            raise outcome
    return [outcome for outcome in outcomes if isinstance(outcome, Result)]


def _told(results: Iterable[Result]) -> Flags:
    rows = (row for result in results for row in result.of(FetchRow))
    return {row.uid: row.flags for row in rows if row.uid and row.flags is not None}


def _flags_now(connection: Connection, uids: Sequence[int]) -> Flags:
    wanted = set(uids)
    rows = connection.fetch_all(uids, ["UID", "FLAGS"])
    return {row.uid: row.flags for row in rows if row.flags is not None and row.uid in wanted}


def _done(flags: Sequence[str], changes: Sequence[tuple[str, list[Part]]]) -> bool:
    """Whether flags are as the changes want them."""
    have = {flag.lower() for flag in flags}
    return all((str(name).lower() in have) is (sign == "+FLAGS") for sign, names in changes for name in names)


def _present(connection: Connection, uids: Sequence[int]) -> list[int]:
    if not uids:
        return []
    found = {row.uid for row in connection.fetch_all(uids, ["UID"])}
    return [uid for uid in uids if uid in found]


def _removed_wholly(connection: Connection, uids: Sequence[int], fresh: bool) -> None:
    left = _removed(connection, uids)
    if left and not fresh:
        connection.noop()
    left = _present(connection, left)
    if left and fresh:
        # Dovecot 2.3 may begin a new index log between the two commands: EXPUNGE saw no flag, and says OK.
        connection.noop()
    if left and _present(connection, _removed(connection, left)):
        raise UpstreamError("the server does not remove messages")


def _removed(connection: Connection, uids: Sequence[int]) -> list[int]:
    """\\Deleted and UID EXPUNGE in one write; the UIDs of which the server did not say that they are gone."""
    words = list(sets.chunks(uids))
    commands: list[Command] = [["UID STORE", each, "+FLAGS.SILENT", _DELETED] for each in words]
    commands += [["UID EXPUNGE", each] for each in words]
    results = _all(connection, commands)
    gone = {uid for result in results for each in result.of(Vanished) for uid in sets.within(sorted(uids), each.uids)}
    return [uid for uid in uids if uid not in gone]


def _removed_carefully(connection: Connection, uids: Sequence[int], fresh: bool) -> None:
    """mail-rules 32: EXPUNGE takes every \\Deleted message, so it runs only where all of them are ours."""
    if not fresh:
        connection.noop()
    _all(connection, [["UID STORE", each, "+FLAGS.SILENT", _DELETED] for each in sets.chunks(uids)])
    connection.noop()  # what other clients flagged meanwhile is seen from here on
    hits = connection.command("UID SEARCH", "DELETED")
    deleted = {number for row in hits.of(Search) for number in row.numbers}
    for row in hits.of(Esearch):
        deleted.update(sets.expand(row.all or ()))
    if deleted and deleted <= set(uids):
        connection.command("EXPUNGE")
