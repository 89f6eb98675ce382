"""One complete pass over a folder: by QRESYNC, else by CONDSTORE, else by comparing all flags and UIDs (RFC 7162).

The sync point is what this pass's own SELECT said (mail-rules 18): a change that comes while we read is told again by
the next pass, and none is ever skipped. Messages that arrive after the SELECT (UID ≥ its UIDNEXT) wait for it too.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from jmapplug.backends import Changes, Item, SyncPoint
from jmapplug.errors import UpstreamError
from jmapplug_imap.access import Access, paced
from jmapplug_imap.protocol import sets
from jmapplug_imap.protocol.commands import Part
from jmapplug_imap.protocol.connection import Connection
from jmapplug_imap.protocol.fetch import FetchRow
from jmapplug_imap.protocol.selecting import Selected

IDENTITY: dict[str, tuple[Part, ...]] = {
    "emailid": ("EMAILID", "THREADID"),
    "x-guid": ("X-GUID",),
    "gmail": ("X-GM-MSGID", "X-GM-THRID"),
    "": (),
}
"""Id scheme → FETCH items that tell a message's identity."""
LISTING = 20_000
"""Messages in one answer at most, about: a folder with more is listed window by window (wish 23)."""
MARKS = 900
"""Numbers in one question for the windows' bounds."""
EXPAND_MAX = 200_000
"""A VANISHED set with more numbers than this is compared with what is known instead of written out."""

UNREADABLE_MAX = 100
"""Messages of one pass whose rows cannot be read; more of them are the server's fault, and the pass fails."""
_IDS = ("email_id", "guid", "gm_id", "thread_id", "gm_thread")

Known = Callable[[], Sequence[int]]


class Lasting(NamedTuple):
    """What only SELECT tells (EXAMINE always says READ-ONLY), kept for the passes that use EXAMINE.

    It holds under that UIDVALIDITY and those ``rights`` (MYRIGHTS): another user's folder may get others at any time.
    """

    uidvalidity: int
    rights: str | None
    read_only: bool
    permanent_flags: tuple[str, ...]


def item_of(row: FetchRow) -> Item:
    """The Item of a row that holds FLAGS, and INTERNALDATE and identity where they were asked for."""
    server_id = row.email_id or row.guid or row.gm_id
    return Item(row.uid, row.flags or (), row.received_at, server_id, row.thread_id or row.gm_thread)


def is_reset(since: SyncPoint, selected: Selected) -> bool:
    """Whether nothing known holds any more (mail-rules 22: a smaller UIDNEXT means a restored server)."""
    if selected.uidvalidity != since.uidvalidity:
        return True
    return selected.uidnext is not None and selected.uidnext < since.uidnext


class _Found:
    """What one pass has found so far. ``count``: of new messages, -1 where nobody has counted them; ``last``: the

    highest UID among them.
    """

    def __init__(self) -> None:
        self.new: list[Item] = []
        self.flags: list[Item] = []
        self.vanished: list[int] = []
        self.windows: list[tuple[int, int]] = []
        self.count = 0
        self.last = 0


class Passes:
    """Runs passes for one source."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._lasting: dict[bytes, Lasting] = {}

    def changes(self, key: bytes, since: SyncPoint | None, known: Known) -> Changes:
        """See MailSource.changes."""
        found = self._access.run(lambda connection: self._pass(connection, key, since, known), background=True)
        self._access.validity[key] = found.point.uidvalidity
        return found

    def listed(self, key: bytes, validity: int, first: int, last: int, new: bool) -> tuple[Item, ...]:
        """See MailSource.listed."""

        def work(connection: Connection) -> list[Item]:
            self._access.view(connection, key, validity)
            if new:
                return self._arrivals(connection, first, last)
            return self._flags(connection, first, last, ())

        return tuple(self._access.run(work, background=True))

    def forget(self, key: bytes) -> None:
        """The folder has gone or has another name now."""
        self._lasting.pop(key, None)

    def _pass(self, connection: Connection, key: bytes, since: SyncPoint | None, known: Known) -> Changes:
        resync = since is not None and since.highestmodseq > 0 and "QRESYNC" in connection.enabled
        selected = self._open(connection, key, (since.uidvalidity, since.highestmodseq) if since and resync else None)
        reset = since is not None and is_reset(since, selected)
        found = _Found()
        if since is None or reset:
            if selected.exists:
                self._find_new(connection, selected, 1, selected.exists, found)
        else:
            self._difference(connection, selected, since, known, resync, found)
        uidnext = selected.uidnext or max(since.uidnext if since and not reset else 1, found.last + 1)
        lasting = self._lasting[key]
        return Changes(
            point=SyncPoint(lasting.uidvalidity, uidnext, self._modseq(selected), selected.exists),
            reset=reset,
            new=tuple(found.new),
            flags=tuple(found.flags),
            vanished=tuple(found.vanished),
            read_only=lasting.read_only,
            permanent_flags=lasting.permanent_flags,
            windows=tuple(sorted(found.windows, reverse=True)),
        )

    def _modseq(self, selected: Selected) -> int:
        """0 where STATUS does not tell it: what SELECT alone tells would look like a change at every look."""
        return (selected.highestmodseq or 0) if self._access.features.condstore else 0

    def _open(self, connection: Connection, key: bytes, qresync: tuple[int, int] | None) -> Selected:
        lasting, rights = self._lasting.get(key), self._access.rights.get(key)
        if lasting is not None and lasting.rights != rights:
            lasting = None
        selected = self._access.select(connection, key, read_only=lasting is not None, qresync=qresync)
        if selected.uidvalidity is None:
            raise UpstreamError("the server gives a folder no UIDVALIDITY", temporary=False)
        if lasting is None or lasting.uidvalidity != selected.uidvalidity:
            if lasting is not None:  # replaced since: its flags may be others
                selected = self._access.select(connection, key, read_only=False)
            permanent = selected.permanent_flags
            if permanent is None:  # RFC 9051 §7.1: not told means that every flag lasts
                permanent = (*selected.flags, "\\*")
            self._lasting[key] = Lasting(selected.uidvalidity or 0, rights, selected.read_only, permanent)
        return selected

    # --- what a pass reads

    def _difference(
        self,
        connection: Connection,
        selected: Selected,
        since: SyncPoint,
        known: Known,
        resync: bool,
        found: _Found,
    ) -> None:
        end, before = since.uidnext, since.highestmodseq
        if not selected.exists:
            found.vanished = _missing(known(), (), end)
            return
        if selected.uidnext is None or selected.uidnext > end:
            self._find_new(connection, selected, end, selected.exists - since.messages, found)
        # A HIGHESTMODSEQ that went back, or is not kept (NOMODSEQ), tells nothing.
        if not before or not selected.highestmodseq or selected.highestmodseq < before:
            if since.messages > LISTING and end > 1:
                found.windows += self._windows(connection, selected.exists, 1, end - 1)
                return
            found.flags = self._flags(connection, 1, end - 1, ())
            found.vanished = _missing(known(), (item.uid for item in found.flags), end)
            return
        gone: list[int] | None = []
        if resync:
            found.flags = _below(selected.rows, end)
            gone = _written_out(selected.vanished, end)
        elif selected.highestmodseq > before:
            found.flags = self._flags(connection, 1, end - 1, ("CHANGEDSINCE", before))
        if gone is None or since.messages - len(gone) + found.count != selected.exists:
            # The count is the proof: without QRESYNC, after lost history, or with a HIGHESTMODSEQ that sticks.
            gone = _missing(known(), self._uids(connection, end - 1), end)
        found.vanished = gone

    def _find_new(self, connection: Connection, selected: Selected, first: int, about: int, found: _Found) -> None:
        """Everything from the UID ``first`` on that the SELECT knew of; ``about`` so many messages."""
        last = selected.uidnext - 1 if selected.uidnext else sets.MAX_NUMBER
        windows = self._windows(connection, selected.exists, first, last) if about > LISTING else []
        if len(windows) > 1:
            found.windows = windows
            if not selected.uidnext:  # the newest window begins with the last message there is
                found.last = windows[0][0]
                windows[0] = (found.last, found.last)
            found.count = -1  # nobody knows: it proves nothing
            return
        found.new = self._arrivals(connection, first, last)
        found.last = max((item.uid for item in found.new), default=0)
        found.count = len(found.new)

    def _windows(self, connection: Connection, exists: int, first: int, last: int) -> list[tuple[int, int]]:
        """``first`` to ``last`` cut at the UIDs of every so many messages, newest first (they may lie anywhere)."""
        step = max(LISTING, exists // MARKS)
        places = [*range(step + 1, exists, step), *([exists] if last == sets.MAX_NUMBER else [])]
        rows = connection.fetch(",".join(map(str, places)), ["UID"], uid=False)
        marks = sorted({row.uid for row in rows if first < row.uid <= last})
        starts = [first, *marks]
        return list(zip(starts, [*(mark - 1 for mark in marks), last], strict=True))[::-1]

    def _arrivals(self, connection: Connection, first: int, last: int) -> list[Item]:
        """All facts of the messages from ``first`` to ``last`` (``n:*`` names the newest one at least)."""
        if last < first:
            return []
        items = ["UID", "FLAGS", "INTERNALDATE", *IDENTITY[self._access.features.id_scheme]]
        found: dict[int, Item] = {}
        unread: list[int] = []
        end = "*" if last == sets.MAX_NUMBER else str(last)
        for row in paced(connection.fetch(f"{first}:{end}", items)):
            if not first <= row.uid <= last:
                continue
            if row.received_at is not None and row.flags is not None:
                found[row.uid] = item_of(row)
            elif row.damaged:
                unread.append(row.uid)
        if len(unread) > UNREADABLE_MAX:
            raise UpstreamError("the server's list of a folder cannot be read")
        for uid in set(unread) - found.keys():
            found[uid] = _piecemeal(connection, uid, items[1:])
        return [found[uid] for uid in sorted(found)]

    def _flags(self, connection: Connection, first: int, last: int, modifiers: Sequence[Part]) -> list[Item]:
        if last < first:
            return []
        rows = connection.fetch(f"{first}:{last}", ["UID", "FLAGS"], modifiers=modifiers)
        found: dict[int, Item] = {}
        for row in paced(rows):
            if row.flags is not None and first <= row.uid <= last:
                found[row.uid] = item_of(row)
        return [found[uid] for uid in sorted(found)]

    def _uids(self, connection: Connection, last: int) -> Iterable[int]:
        """The UIDs up to ``last`` that are really there."""
        if last < 1:
            return ()
        return array("I", (row.uid for row in paced(connection.fetch(f"1:{last}", ["UID"])) if row.uid <= last))


def _piecemeal(connection: Connection, uid: int, items: Sequence[Part]) -> Item:
    """A message whose row could not be read, asked for item by item (wish 21). What stays unreadable is empty or 0."""
    told: dict[str, Any] = {"received_at": 0}
    for item in items:
        for row in connection.fetch_all([uid], ["UID", item]):
            if row.uid == uid:
                values = ((name, getattr(row, name)) for name in ("flags", "received_at", *_IDS))
                told |= {name: value for name, value in values if value is not None}
    return item_of(FetchRow(0, uid, **told))


def _below(rows: Iterable[FetchRow], uidnext: int) -> list[Item]:
    found = {row.uid: item_of(row) for row in rows if row.flags is not None and 0 < row.uid < uidnext}
    return [found[uid] for uid in sorted(found)]


def _written_out(vanished: sets.Ranges, uidnext: int) -> list[int] | None:
    """The numbers below ``uidnext`` of VANISHED sets; None where they are too many (1:4294967295 is an answer)."""
    clipped = [(low, min(high, uidnext - 1)) for low, high in vanished if low < uidnext]
    if sum(high - low + 1 for low, high in clipped) > EXPAND_MAX:
        return None
    return sorted(set(sets.expand(clipped)))


def _missing(known: Sequence[int], present: Iterable[int], uidnext: int) -> list[int]:
    """Known UIDs below ``uidnext`` that are not there. What we appended after the last pass lies beyond: not judged."""
    there = set(present)
    return [uid for uid in known if uid < uidnext and uid not in there]
