"""Where folders are labels of one store (``Features.labels``): what can be had, and how (mail-rules 35). Pure.

Words: *everything* is the Mailbox that shows each message outside of those that have a message *alone* (Trash, Junk).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from jmapplug.capabilities.mail.write_plan import Copy, Plan, Store, Transfer, plan_keywords, plan_update


class Labels(NamedTuple):
    """The special Mailboxes, as mids; None where there is none."""

    everything: int | None
    trash: int | None
    alone: frozenset[int]

    def goal(self, here: Collection[int], targets: Collection[int]) -> frozenset[int]:
        """Where an Email will be that is ``here`` and is to be in ``targets``: the nearest that the server can do.

        Of Mailboxes that exclude each other the one that is asked for anew wins: a message in Trash that also gets a
        label leaves Trash; one in Inbox that also gets Trash leaves Inbox.
        """
        new, kept = set(targets) - set(here), set(targets) & set(here)
        alone = sorted(new & self.alone) or (sorted(kept & self.alone) if not new else [])
        if alone:
            return frozenset(alone[:1])
        found = frozenset(targets) - self.alone
        return found if self.everything is None else found | {self.everything}


def plan_labels(
    eid: int,
    copies: Sequence[Copy],
    add: Collection[str],
    remove: Collection[str],
    goal: frozenset[int],
    labels: Labels,
) -> Plan:
    """The first steps to ``goal`` (of :meth:`Labels.goal`); ``then`` says whether another round is needed."""
    stores = _stores(copies, add, remove, labels)
    here = {copy.mid for copy in copies}
    if goal & labels.alone:
        return _alone(eid, copies, stores, goal, labels)
    hidden = [copy for copy in copies if copy.mid in labels.alone]
    if hidden:
        # The move alone brings it back to everything; it must be there before it can get further labels.
        first = min(goal - {labels.everything}, default=labels.everything or 0)
        moves = (Transfer(hidden[0], first),)
        more = goal if goal - {labels.everything, first} else None
        shown = None if first == labels.everything else _shown(hidden[0], labels)
        return Plan(eid, stores, moves=moves, shown=shown, drawn=tuple(hidden[1:]), then=more)
    wanted = goal if labels.everything in here else goal - {labels.everything}
    shown = None if wanted == goal else _shown(copies[0], labels)
    plan = plan_update(eid, copies, (), (), wanted, True)
    return Plan(eid, stores, plan.copies, plan.moves, plan.removes, keeps=plan.keeps, shown=shown)


def _shown(copy: Copy, labels: Labels) -> Transfer | None:
    return None if labels.everything is None else Transfer(copy, labels.everything)


def plan_label_destroy(eid: int, copies: Sequence[Copy], labels: Labels) -> Plan:
    """Through Trash, where it goes for good; never out of one folder only."""
    hidden = tuple(copy for copy in copies if copy.mid in labels.alone)
    if hidden:
        return Plan(eid, removes=hidden, drawn=tuple(copy for copy in copies if copy not in hidden))
    assert labels.trash is not None
    plan = _alone(eid, copies, (), frozenset({labels.trash}), labels)
    return Plan(eid, moves=plan.moves, drawn=plan.drawn, then=frozenset())


def _alone(eid: int, copies: Sequence[Copy], stores: tuple[Store, ...], goal: frozenset[int], labels: Labels) -> Plan:
    """Into Trash or Junk: one move, and all other copies are gone."""
    if any(copy.mid in goal for copy in copies):
        return Plan(eid, stores, drawn=tuple(copy for copy in copies if copy.mid not in goal))
    # Out of a label rather than out of everything: that is the move that every client makes.
    source = next((copy for copy in copies if copy.mid != labels.everything), copies[0])
    drawn = tuple(copy for copy in copies if copy != source)
    return Plan(eid, stores, moves=tuple(Transfer(source, target) for target in goal), drawn=drawn)


def _stores(copies: Sequence[Copy], add: Collection[str], remove: Collection[str], labels: Labels) -> tuple[Store, ...]:
    """One copy is told, and all of them show it."""
    steps = plan_keywords(copies, add, remove)
    if not steps:
        return ()
    step = next((one for one in steps if one.copy.mid == labels.everything), steps[0])
    return (step._replace(also=tuple(copy for copy in copies if copy != step.copy)),)
