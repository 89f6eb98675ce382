"""Letting the server find: the newest messages by arrival, and text searches (RFC 9051 §6.4.4, 5256, 5267, 4731)."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

from jmapplug.backends import Item, SearchTerm
from jmapplug_imap.access import Access, paced
from jmapplug_imap.listing import hits, item_of, some, whole
from jmapplug_imap.names import speaks_utf8
from jmapplug_imap.protocol import sets
from jmapplug_imap.protocol.commands import Astring, Command, Part
from jmapplug_imap.protocol.connection import Connection
from jmapplug_imap.protocol.dialogue import Result
from jmapplug_imap.protocol.errors import CommandError
from jmapplug_imap.protocol.fetch import FetchRow
from jmapplug_imap.protocol.responses import Esearch, Other

SETS_MAX = 8  # sets of UIDs in one search; more than that: search all, keep those
KEYS = {
    "text": "TEXT",
    "from": "FROM",
    "to": "TO",
    "cc": "CC",
    "bcc": "BCC",
    "subject": "SUBJECT",
    "body": "BODY",
}
"""SearchTerm.field → IMAP search key; ``header:Name`` besides."""


class Finding:
    """Searches for one source."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def newest(self, key: bytes, count: int) -> tuple[Item, ...]:
        """See MailSource.newest. Messages marked ``\\Deleted`` are left out (mail-rules 13: nobody sees them)."""
        if count <= 0:
            return ()
        return self._access.run(lambda connection: self._newest(connection, key, count))

    def search(self, key: bytes, term: SearchTerm, uids: Sequence[int] | None = None) -> list[int]:
        """See MailSource.search. Raises ValueError for a field that IMAP does not know."""
        criteria = _criteria(term)
        if uids is not None and not uids:
            return []
        return self._access.run(lambda connection: self._search(connection, key, criteria, term.value, uids))

    def _refresh(self, connection: Connection, key: bytes) -> None:
        """Open the folder as it is now. One that is open already is searched as it was then until a NOOP has been

        *answered*: sent in one write with the search it does not help (measured, Dovecot 2.3).
        """
        if not self._access.read(connection, key):
            connection.noop()

    def items(self, key: bytes, uids: Sequence[int]) -> list[Item]:
        """See MailSource.items."""
        return self._access.run(lambda connection: self._items(connection, key, uids)) if uids else []

    def _items(self, connection: Connection, key: bytes, uids: Sequence[int]) -> list[Item]:
        wanted = whole(self._access.features.id_scheme)
        fresh = self._access.read(connection, key)
        found = some(connection, uids, wanted)
        if not fresh and (missing := [uid for uid in uids if uid not in found]):
            connection.noop()
            found |= some(connection, missing, wanted)
        return [found[uid] for uid in uids if uid in found and found[uid].received_at is not None]

    # --- newest

    def _newest(self, connection: Connection, key: bytes, count: int) -> tuple[Item, ...]:
        self._refresh(connection, key)
        uids = self._sorted(connection, count)
        if uids is None:
            # A server without SORT: the whole list without its identities, then the few.
            everything = connection.fetch("1:*", ["UID", "INTERNALDATE", "FLAGS"], lenient=True)
            best = heapq.nlargest(count, _visible(everything), key=_age)
            uids = [row.uid for row in best]
        rows = connection.fetch_all(uids, whole(self._access.features.id_scheme), lenient=True)
        found = [row for row in rows if row.received_at is not None]
        return tuple(item_of(row) for row in sorted(found, key=_age, reverse=True))

    def _sorted(self, connection: Connection, count: int) -> list[int] | None:
        """The newest UIDs by the server's SORT; None where it has none."""
        if not connection.has("SORT"):
            return None
        partial = connection.has("ESORT") and (connection.has("CONTEXT=SORT") or connection.has("CONTEXT=SEARCH"))
        options: list[Part] = ["RETURN", [f"PARTIAL 1:{count}"]] if partial else []
        try:
            result = connection.command("UID SORT", *options, ["REVERSE", "ARRIVAL"], "UTF-8", "UNDELETED")
        except CommandError:
            return None
        if partial:
            answers = result.of(Esearch)
            return list(sets.expand(answers[-1].partial or (), count)) if answers else None
        return _sort_numbers(result)[:count]

    # --- search

    def _search(
        self, connection: Connection, key: bytes, criteria: list[Part], value: str, uids: Sequence[int] | None
    ) -> list[int]:
        self._refresh(connection, key)
        pieces = [] if uids is None else list(sets.chunks(uids))
        limits: list[list[Part]] = [["UID", piece] for piece in pieces] if 0 < len(pieces) <= SETS_MAX else [[]]
        head: list[Part] = ["RETURN", ["ALL"]] if connection.has("ESEARCH") else []
        # RFC 6855 §3: after ENABLE UTF8=ACCEPT a CHARSET is an error; without it only for what needs it.
        if not value.isascii() and not speaks_utf8(connection):
            head += ["CHARSET", "UTF-8"]
        commands: list[Command] = [["UID SEARCH", *head, *limit, *criteria] for limit in limits]
        found: set[int] = set()
        for outcome in connection.pipeline(commands):
            if isinstance(outcome, CommandError):
                raise outcome
            found |= hits(outcome)
        return sorted(found if uids is None else found.intersection(uids))


def _criteria(term: SearchTerm) -> list[Part]:
    value = Astring(term.value.replace("\0", ""))
    if term.field in KEYS:
        return [KEYS[term.field], value]
    kind, _, name = term.field.partition(":")
    if kind == "header" and name and name.isascii() and name.isprintable():
        return ["HEADER", Astring(name), value]
    raise ValueError(f"no such search field: {term.field[:50]!r}")


def _sort_numbers(result: Result) -> list[int]:
    numbers: list[int] = []
    for answer in result.of(Other):
        if answer.name == "SORT":
            numbers += [int(word) for word in answer.data.split() if word.isdigit()]
    return numbers


def _visible(rows: Iterable[FetchRow]) -> Iterable[FetchRow]:
    for row in paced(rows):
        if row.received_at is not None and "\\deleted" not in (flag.lower() for flag in row.flags or ()):
            yield row


def _age(row: FetchRow) -> tuple[int, int]:
    return (row.received_at or 0, row.uid)
