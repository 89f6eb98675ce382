"""What is to be done upstream so that an Email has other keywords or other Mailboxes (mail-rules 3, 15, 27). Pure.

Words: a *copy* is one (mid, uid) of an Email; a *step* is one thing done to one copy. Additive steps (``stores``,
``copies``) come before subtractive ones (``moves``, ``removes``), so that whatever breaks leaves too much, never too
little.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import NamedTuple

import msgspec

from jmapplug.capabilities.mail.keywords import FLAG_OF, keywords_of


class Copy(NamedTuple):
    """A visible copy, its flags as the sync keeps them (one text), and what the server calls the message."""

    mid: int
    uid: int
    flags: str
    server_id: str | None = None


class Store(NamedTuple):
    """``also``: copies that show the same flags, because they are one message upstream (write_labels)."""

    copy: Copy
    add: tuple[str, ...]
    remove: tuple[str, ...]
    also: tuple[Copy, ...] = ()


class Transfer(NamedTuple):
    """COPY or MOVE of a copy into another Mailbox."""

    copy: Copy
    target: int


class Plan(msgspec.Struct, frozen=True):
    """The steps for one Email. ``paired``: the copies and removes are one move in two steps (no MOVE upstream).

    ``keeps``: copies that stay, one of which must really be there before anything is removed.

    Only where folders are labels (write_labels): ``shown``: where this copy's message is seen by itself; ``drawn``:
    copies that the moves take along; ``then``: the Mailboxes that another round has to bring about, none to destroy it.
    """

    eid: int
    stores: tuple[Store, ...] = ()
    copies: tuple[Transfer, ...] = ()
    moves: tuple[Transfer, ...] = ()
    removes: tuple[Copy, ...] = ()
    paired: bool = False
    keeps: tuple[Copy, ...] = ()
    shown: Transfer | None = None
    drawn: tuple[Copy, ...] = ()
    then: frozenset[int] | None = None

    @property
    def empty(self) -> bool:
        return not (self.stores or self.copies or self.moves or self.removes or self.shown or self.drawn)


def flags_of(keywords: Collection[str]) -> tuple[str, ...]:
    """Keywords as upstream's flags, sorted."""
    return tuple(sorted(FLAG_OF.get(keyword, keyword) for keyword in keywords))


@lru_cache(maxsize=1024)
def _missing(flags: str, add: frozenset[str], remove: frozenset[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The flags that a copy with ``flags`` is to get and to lose."""
    has = keywords_of(flags)
    return flags_of(add - has), flags_of(remove & has)


def plan_keywords(copies: Sequence[Copy], add: Collection[str], remove: Collection[str]) -> tuple[Store, ...]:
    """Every copy gets what is asked for and has not got it; nothing else of a copy is touched (mail-rules 15)."""
    if not (add or remove):
        return ()
    wanted, unwanted = frozenset(add), frozenset(remove)
    steps = [Store(copy, *_missing(copy.flags, wanted, unwanted)) for copy in copies]
    return tuple(step for step in steps if step.add or step.remove)


def plan_update(
    eid: int,
    copies: Sequence[Copy],
    add: Collection[str],
    remove: Collection[str],
    targets: Collection[int] | None,
    can_move: bool,
) -> Plan:
    """The steps that give an Email these keywords, and leave it in just ``targets`` (mids; None: where it is)."""
    if targets is None:
        return Plan(eid, plan_keywords(copies, add, remove))
    leaving = [copy for copy in copies if copy.mid not in targets]
    here = {copy.mid for copy in copies}
    coming = sorted(set(targets) - here)
    # What leaves without being copied needs no other keywords.
    kept = copies if coming else [copy for copy in copies if copy not in leaving]
    stores = plan_keywords(kept, add, remove)
    if not coming:
        staying = tuple(copy for copy in copies if copy not in leaving)
        return Plan(eid, stores, removes=tuple(leaving), keeps=staying if leaving else ())
    source = next((copy for copy in copies if copy not in leaving), copies[0])
    if not leaving:
        return Plan(eid, stores, tuple(Transfer(source, target) for target in coming))
    if not can_move:
        return Plan(eid, stores, tuple(Transfer(source, mid) for mid in coming), removes=tuple(leaving), paired=True)
    # One copy is moved, the other targets get copies before: after a MOVE of the source nothing could be copied.
    moved, *others = leaving
    return Plan(
        eid,
        stores,
        tuple(Transfer(source, target) for target in coming[1:]),
        (Transfer(moved, coming[0]),),
        tuple(others),
    )


def plan_destroy(eid: int, copies: Sequence[Copy]) -> Plan:
    """The Email goes from everywhere."""
    return Plan(eid, removes=tuple(copies))
