"""What a pass has to do, decided purely: upstream's answers and our rows in, actions out ("plan, then apply").

Words: a *copy* is one row of ``message``; *hidden* is ``\\Deleted`` (mail-rules 13). What makes an Email disappear
(vanished copies, copies that become hidden) is kept apart, for the end of the pass (mail-rules 19).
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

from jmapplug.backends import Folder, Item, SyncPoint
from jmapplug.capabilities.mail.keywords import canonical

T = TypeVar("T")


class NewCopy(NamedTuple):
    """A row for ``message``; its Email comes when its details are in."""

    uid: int
    flags: str
    hidden: bool
    received_at: int
    server_id: str | None


class FlagChange(NamedTuple):
    """A known copy whose flags are other ones now."""

    uid: int
    flags: str
    hidden: bool


class Plan(NamedTuple):
    """``hiding``: flag changes that take a copy out of sight; ``changes``: all the other ones."""

    new: list[NewCopy]
    changes: list[FlagChange]
    hiding: list[FlagChange]


def plan_items(items: Iterable[Item], local: Mapping[int, tuple[str, bool]]) -> Plan:
    """Compare listed messages with our rows (UID → (flags, hidden)). Equal values make no action (mail-rules 12).

    Flags that could not be read change nothing that is known.
    """
    plan = Plan([], [], [])
    for item in items:
        flags, hidden = canonical(item.flags)
        known = local.get(item.uid)
        if known is None:
            # Flags of a message that we have no copy of are none: the pass asks for all that makes one.
            if item.received_at is not None:
                plan.new.append(NewCopy(item.uid, flags, hidden, item.received_at, item.server_id))
        elif item.flags is not None and known != (flags, hidden):
            (plan.hiding if hidden and not known[1] else plan.changes).append(FlagChange(item.uid, flags, hidden))
    return plan


def missing(listed: Iterable[Item], known: Iterable[int]) -> list[int]:
    """Known UIDs that a complete listing has not got."""
    there = {item.uid for item in listed}
    return [uid for uid in known if uid not in there]


def outside(windows: Sequence[tuple[int, int]], uids: Iterable[int]) -> Iterator[int]:
    """Those of ``uids`` that no window speaks of."""
    ordered = sorted(windows)
    starts = [first for first, _ in ordered]
    for uid in uids:
        at = bisect_right(starts, uid) - 1
        if at < 0 or ordered[at][1] < uid:
            yield uid


class Known(NamedTuple):
    """A folder's sync point as stored. ``uidnext`` None: no complete pass yet."""

    uidvalidity: int | None
    uidnext: int | None
    highestmodseq: int | None
    messages: int | None
    full_flags_at: int

    @property
    def point(self) -> SyncPoint | None:
        if self.uidvalidity is None or self.uidnext is None:
            return None
        return SyncPoint(self.uidvalidity, self.uidnext, self.highestmodseq or 0, self.messages or 0)


def is_changed(folder: Folder, known: Known) -> bool:
    """Whether STATUS says that a pass over this folder is due."""
    if known.uidnext is None:
        return True
    status = (folder.uidvalidity, folder.uidnext, folder.messages, folder.highestmodseq or 0)
    return status != (known.uidvalidity, known.uidnext, known.messages, known.highestmodseq or 0)


def is_modseq_back(folder: Folder, known: Known) -> bool:
    """HIGHESTMODSEQ went back: the server lost its index. What it calls changed since then means nothing."""
    return folder.uidvalidity == known.uidvalidity and (folder.highestmodseq or 0) < (known.highestmodseq or 0)


def is_stuck(folder: Folder, known: Known) -> bool:
    """New messages came and HIGHESTMODSEQ is what it was (RFC 7162 §3.1.2.1): flags may change in the same way."""
    here, before = (folder.uidvalidity, folder.highestmodseq), (known.uidvalidity, known.highestmodseq)
    return bool(folder.highestmodseq) and here == before and (folder.uidnext or 0) > (known.uidnext or sys.maxsize)


def is_reset(known: Known, validity: int, uidnext: int) -> bool:
    """Whether UIDs known here mean nothing any more (mail-rules 22), a first listing under way included."""
    if known.uidvalidity is not None and known.uidvalidity != validity:
        return True
    return known.uidnext is not None and uidnext < known.uidnext


def order(folders: Sequence[Folder]) -> list[Folder]:
    """INBOX first, then folders with a role, then the rest as listed."""
    return sorted(folders, key=lambda folder: (folder.role != "inbox", folder.role is None))


def slices(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """``values`` cut into pieces of at most ``size``."""
    for start in range(0, len(values), size):
        yield values[start : start + size]
