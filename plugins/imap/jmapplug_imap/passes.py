"""One complete pass over a folder: by QRESYNC, else by CONDSTORE, else by comparing all flags and UIDs (RFC 7162).

The sync point is what this pass's own SELECT said (mail-rules 18): a change that comes while we read is told again by
the next pass, and none is ever skipped. Messages that arrive after the SELECT (UID ≥ its UIDNEXT) wait for it too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from jmapplug.backends import Changes, Item, SyncPoint
from jmapplug.errors import FolderError
from jmapplug_imap.access import Access
from jmapplug_imap.listing import FLAGS, changed, listing, present, read_again, whole
from jmapplug_imap.protocol import sets
from jmapplug_imap.protocol.connection import Connection
from jmapplug_imap.protocol.refusals import SERVERBUG
from jmapplug_imap.protocol.selecting import Selected

LISTING = 20_000
"""Messages in one answer at most, about: a folder with more is listed window by window (wish 23)."""
MARKS = 900
"""Numbers in one question for the windows' bounds."""
EXPAND_MAX = 200_000
"""A VANISHED set with more numbers than this is compared with what is known instead of written out."""

Known = Callable[[], Sequence[int]]


class Lasting(NamedTuple):
    """What only SELECT tells (EXAMINE always says READ-ONLY), kept for the passes that use EXAMINE.

    It holds under that UIDVALIDITY and those ``rights`` (MYRIGHTS): another user's folder may get others at any time.
    """

    uidvalidity: int
    rights: str | None
    read_only: bool
    permanent_flags: tuple[str, ...]


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

    def rest(self, selected: Selected) -> int | None:
        """How many messages there are besides the new ones; None: nobody knows."""
        # Without UIDNEXT those that came after the SELECT are among the new ones.
        counted = self.count >= 0 and selected.uidnext is not None
        return (selected.exists or 0) - self.count if counted else None


class Passes:
    """Runs passes for one source."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._lasting: dict[bytes, Lasting] = {}
        self._unread: dict[bytes, set[int]] = {}
        """Messages of each folder of which the last pass could not read everything."""

    def changes(self, key: bytes, since: SyncPoint | None, known: Known) -> Changes:
        """See MailSource.changes."""
        found = self._access.run(lambda connection: self._pass(connection, key, since, known), background=True)
        self._access.validity[key] = found.point.uidvalidity
        return found

    def listed(self, key: bytes, validity: int, first: int, last: int, new: bool) -> tuple[Item, ...]:
        """See MailSource.listed."""

        def work(connection: Connection) -> list[Item]:
            self._access.view(connection, key, validity)
            return listing(connection, first, last, whole(self._access.features.id_scheme) if new else FLAGS)

        found = self._access.run(work, background=True)
        self._note_unread(key, found, new)
        return tuple(found)

    def forget(self, key: bytes) -> None:
        """The folder has gone or has another name now."""
        self._lasting.pop(key, None)
        self._unread.pop(key, None)

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
            if selected.exists:
                self._read_again(connection, key, since.uidnext - 1, found)
        self._unread.pop(key, None)
        self._note_unread(key, found.flags, False)
        self._note_unread(key, found.new, True)
        uidnext = selected.uidnext or max(since.uidnext if since and not reset else 1, found.last + 1)
        lasting = self._lasting[key]
        return Changes(
            point=SyncPoint(lasting.uidvalidity, uidnext, self._modseq(key, selected), selected.exists or 0),
            reset=reset,
            new=tuple(found.new),
            flags=tuple(found.flags),
            vanished=tuple(found.vanished),
            read_only=lasting.read_only,
            permanent_flags=lasting.permanent_flags,
            windows=tuple(sorted(found.windows, reverse=True)),
        )

    def _modseq(self, key: bytes, selected: Selected) -> int:
        """0 where STATUS does not tell it: what SELECT alone tells would look like a change at every look.

        Where something was left unread that is what is wanted.
        """
        modseq = selected.highestmodseq if self._access.features.condstore else 0
        return modseq - 1 if modseq and key in self._unread else modseq

    def _note_unread(self, key: bytes, items: Iterable[Item], new: bool) -> None:
        unread = {item.uid for item in items if item.lacks(new)}
        if unread:
            self._unread[key] = self._unread.get(key, set()) | unread

    def _open(self, connection: Connection, key: bytes, qresync: tuple[int, int] | None) -> Selected:
        lasting, rights = self._lasting.get(key), self._access.rights.get(key)
        if lasting is not None and lasting.rights != rights:
            lasting = None
        selected = self._access.select(connection, key, read_only=lasting is not None, qresync=qresync)
        if lasting is not None and lasting.uidvalidity != selected.uidvalidity:
            lasting = None  # replaced since: its flags may be others
            selected = self._access.select(connection, key, read_only=False, qresync=qresync)
        if selected.uidvalidity is None:
            raise FolderError("the server gives a folder no UIDVALIDITY", temporary=False)
        if selected.exists is None:
            raise FolderError("the server does not tell how many messages a folder has", code=SERVERBUG)
        if lasting is None:
            permanent = selected.permanent_flags
            if permanent is None:  # RFC 9051 §7.1: not told means that every flag lasts
                permanent = (*selected.flags, "\\*")
            self._lasting[key] = Lasting(selected.uidvalidity, rights, selected.read_only, permanent)
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
        exists = selected.exists or 0
        if not exists:
            found.vanished = _missing(known(), (), end)
            return
        arrived = selected.uidnext is None or selected.uidnext > end
        if arrived:
            self._find_new(connection, selected, end, exists - since.messages, found)
        # A HIGHESTMODSEQ that went back, or is not kept (NOMODSEQ), tells nothing.
        if not before or not selected.highestmodseq or selected.highestmodseq < before:
            if since.messages > LISTING and end > 1:
                found.windows += self._windows(connection, exists, 1, end - 1)
                return
            there = self._compare(connection, selected, end, known, found)
        else:
            there = self._changed(connection, selected, since, known, resync, found)
        if arrived and 0 <= found.count < exists - there:
            self._find_new(connection, selected, end, exists - there, found)

    def _compare(self, connection: Connection, selected: Selected, end: int, known: Known, found: _Found) -> int:
        """The flags of everything below ``end``; how many messages that are."""
        found.flags = listing(connection, 1, end - 1, told=found.rest(selected))
        found.vanished = _missing(known(), (item.uid for item in found.flags), end)
        return len(found.flags)

    def _changed(
        self,
        connection: Connection,
        selected: Selected,
        since: SyncPoint,
        known: Known,
        resync: bool,
        found: _Found,
    ) -> int:
        """What HIGHESTMODSEQ says changed below ``since.uidnext``; how many messages there are."""
        end, before = since.uidnext, since.highestmodseq
        gone: list[int] | None = []
        if selected.lost_rows:
            return self._compare(connection, selected, end, known, found)
        if resync:
            found.flags = read_again(connection, selected.rows, end - 1)
            gone = _written_out(selected.vanished, end)
        elif selected.highestmodseq > before:
            flags = changed(connection, end - 1, before)
            if flags is None:
                return self._compare(connection, selected, end, known, found)
            found.flags = flags
        rest = found.rest(selected)
        if gone is not None and rest == since.messages - len(gone):
            found.vanished = gone
            return since.messages - len(gone)
        # The count is the proof: without QRESYNC, after lost history, or with a HIGHESTMODSEQ that sticks.
        there = present(connection, end - 1, rest)
        found.vanished = _missing(known(), there, end)
        return len(there)

    def _read_again(self, connection: Connection, key: bytes, last: int, found: _Found) -> None:
        """What the last pass could not read, and this one has not read anyway."""
        left = self._unread.get(key, set()) - {item.uid for item in found.flags}
        if left:
            found.flags += read_again(connection, (), last, sorted(left.difference(found.vanished)))

    def _find_new(self, connection: Connection, selected: Selected, first: int, about: int, found: _Found) -> None:
        """Everything from the UID ``first`` on that the SELECT knew of; ``about`` so many messages, or more.

        As many as there are numbers would be all of them, whatever went in between.
        """
        last = selected.uidnext - 1 if selected.uidnext else sets.MAX_NUMBER
        windows = self._windows(connection, selected.exists or 0, first, last) if about > LISTING else []
        if len(windows) > 1:
            found.windows = windows
            if not selected.uidnext:  # the newest window begins with the last message there is
                found.last = windows[0][0]
                windows[0] = (found.last, found.last)
            found.count = -1  # nobody knows: it proves nothing
            return
        told = max(about, last - first + 1) if first > 1 else about
        found.new = listing(connection, first, last, whole(self._access.features.id_scheme), told)
        found.last = max((item.uid for item in found.new), default=0)
        found.count = len(found.new)

    def _windows(self, connection: Connection, exists: int, first: int, last: int) -> list[tuple[int, int]]:
        """``first`` to ``last`` cut at the UIDs of every so many messages, newest first (they may lie anywhere)."""
        step = max(LISTING, exists // MARKS)
        places = [*range(step + 1, exists, step), *([exists] if last == sets.MAX_NUMBER else [])]
        rows = connection.fetch(",".join(map(str, places)), ["UID"], uid=False, lenient=True)
        marks = sorted({row.uid for row in rows if first < row.uid <= last})
        starts = [first, *marks]
        return list(zip(starts, [*(mark - 1 for mark in marks), last], strict=True))[::-1]


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
