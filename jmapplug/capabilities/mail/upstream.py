"""Moving to another server (mail-rules 4, 17): whose UIDs the store knows, and what becomes of them.

Words: an *upstream* is what ``MailSource.identity`` names, a login at a server. Its number stands in every binding.

Nothing moves until the new upstream has listed its folders: while it is away or refuses the password the old view
stays. Then every copy becomes a ghost: Emails stay in sight until a pass has read all folders and told which of them
are here too (by header fields, size and time of arrival; no id of one server means anything at another). Only then the
others leave. The bindings of the upstream that was left stay in ``own.sqlite3``: a way back, from a wrong host too,
brings the old ids.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple, cast
from unicodedata import normalize
from weakref import WeakKeyDictionary

from jmapplug.backends import Folder, MailSource
from jmapplug.capabilities.mail.details import facts_of
from jmapplug.capabilities.mail.store import mailboxes as boxes_sql
from jmapplug.capabilities.mail.store import sync as sql
from jmapplug.capabilities.mail.store import upstreams
from jmapplug.capabilities.mail.store.mailboxes import Row
from jmapplug.capabilities.mail.store.upstreams import LastCopy
from jmapplug.errors import UpstreamError
from jmapplug.store.account import Store
from jmapplug.store.pace import breathe

log = logging.getLogger("jmapplug.mail")

SLICE = 500
NEWEST = 3
"""So many of the newest messages of each folder have to be the same where a server is to be the old one."""
FEW = 10
"""A server that shows less than one of so many messages may be the wrong one: its operator is warned."""


class Arrival(NamedTuple):
    """How many messages there were to see ``here`` and ``before``, at ``left``."""

    here: int
    before: int
    left: str


_arrivals: WeakKeyDictionary[Store, Arrival] = WeakKeyDictionary()


def mail_source(account: Any) -> MailSource:
    """The account's mail, for whoever names messages by UID. Raises UpstreamError before a move is noted."""
    source = cast(MailSource, account.mail_source())
    if is_elsewhere(account.store, source):
        raise UpstreamError("the account has moved to another server, which is still to be read")
    return source


def is_elsewhere(store: Store, source: MailSource) -> bool:
    """Whether what the store knows is of another upstream than this."""
    known = upstreams.current(store.own)
    return bool(known) and known != _identity(source)


def _identity(source: MailSource) -> str:
    return str(getattr(source, "identity", ""))


def arrive(store: Store, source: MailSource, listed: Sequence[Folder]) -> None:
    """Take note of where the account is, if that is somewhere else than before. ``listed``: the folders that it shows.

    Under ``Writes.lock`` and ``Writes.tree`` when it moved. Raises UpstreamError; then nothing is changed.
    """
    known, here = upstreams.current(store.own), _identity(source)
    if known == here:
        return
    if not known or _is_the_same(store, source, listed):
        upstreams.rename(store.own, here)
        return
    log.info("the account moved to another server: its folders are read anew")
    rows = boxes_sql.rows(store)
    for row in rows:
        _let_go(store, row.mid)
    upstreams.move(store.own, here, _same_places(rows, listed))
    counts = [folder.messages for folder in listed if folder.messages is not None]
    before = sum(row.total_emails for row in rows)
    _arrivals[store] = Arrival(sum(counts), before if counts else 0, known)


def warning(store: Store, rows: Sequence[Row]) -> str | None:
    """For the operator: the account has moved to where hardly anything of its mail is. ``rows``: all Mailboxes."""
    seen = sum(row.total_emails for row in rows)
    arrival = _arrivals.get(store)
    if arrival is None:
        if seen or any(row.uidnext is None and row.selectable for row in rows):
            return None
        # An earlier worker's move: all is read, and there is nothing.
        arrival = _arrivals[store] = Arrival(0, *upstreams.left(store.own))
    here = arrival.here if any(row.moved for row in rows) else max(seen, arrival.here)
    if here * FEW >= arrival.before:
        return None
    return (
        f"the mail server that the account has moved to shows {here} messages, and {arrival.before} are known of the"
        f" one before ({arrival.left}); if it is the wrong one, change the settings back: then all of them come back"
    )


def _same_places(rows: Sequence[Row], listed: Sequence[Folder]) -> dict[int, bytes]:
    """mid → the raw name there, by the names that are shown: another server has other separators and prefixes."""
    by_mid = {row.mid: row for row in rows}
    places = {tuple(normalize("NFC", level) for level in folder.path): folder.key for folder in listed}
    found: dict[int, bytes] = {}
    for row in rows:
        names, above = [row.name], by_mid.get(row.parent or 0)
        while above is not None and len(names) <= len(rows):
            names.insert(0, above.name)
            above = by_mid.get(above.parent or 0)
        key = places.get(tuple(names))
        if key is not None:
            found[row.mid] = key
    return found


def _let_go(store: Store, mid: int) -> None:
    """Every copy of a folder becomes a ghost, in short transactions. Killed in between, it is begun again."""
    store.commit(lambda change: upstreams.mark_moved(change, mid), announce=False)
    below = upstreams.last_ghost(store, mid)
    while store.commit(lambda change: sql.make_ghosts(change.txn, mid, SLICE, below), announce=False):
        breathe()


def _is_the_same(store: Store, source: MailSource, listed: Sequence[Folder]) -> bool:
    """Whether it is the old server under another name: the same folders, whose newest messages are the same ones.

    Two commands for each folder with mail, once. Where a server has no ids of its own nothing is proved.
    """
    if not source.features.id_scheme:
        return False
    folders = {folder.key: folder for folder in listed}
    known = {box.mid: box.server_id for box in boxes_sql.bindings(store)}
    proved = False
    for row in boxes_sql.rows(store):
        copies = upstreams.last_copies(store, row.mid, NEWEST)
        folder = folders.get(row.key)
        if not copies or folder is None:
            continue
        if not _may_be(row, known.get(row.mid), folder):
            return False
        same = _compare(store, source, row.key, copies)
        if not all(same):
            return False
        proved |= bool(same)
    return proved


def _may_be(row: Row, server_id: str | None, folder: Folder) -> bool:
    same = server_id is not None and (server_id, row.uidvalidity) == (folder.server_id, folder.uidvalidity)
    return same and (folder.uidnext or 0) >= (row.uidnext or 0)


def _compare(store: Store, source: MailSource, key: bytes, copies: Sequence[LastCopy]) -> list[bool]:
    """Of each copy that is there: whether it is the message that we know."""
    known = {copy.uid: copy for copy in copies}
    return [
        sql.is_evidence(store.own, facts_of(detail, store.salt).content, known[detail.uid].eid)
        and (detail.item is None or detail.item.server_id == known[detail.uid].server_id)
        for batch in source.details(key, list(known), with_items=True)
        for detail in batch
    ]
