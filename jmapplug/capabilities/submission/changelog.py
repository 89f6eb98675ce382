"""/changes of Identity and EmailSubmission (RFC 8620 §5.2)."""

from __future__ import annotations

from typing import Any

from jmapplug.capabilities.submission import store as sql
from jmapplug.jmap.standard import ChangeSet

MOST = 5_000


def changes_of(account: Any, type_: str, since: str, max_changes: int | None) -> ChangeSet:
    """The answer for one type. Raises MethodError cannotCalculateChanges."""
    store, most = account.store, min(max_changes or MOST, MOST)
    number = store.since(type_, since)
    found = sql.events(store, type_, number, most + 1)
    shown, more = found[:most], len(found) > most
    # Every change has a modseq of its own: the state behind the last one shown is known wholly.
    new_state = f"{store.epoch}-{shown[-1].at}" if more else store.state(type_)
    created, updated, destroyed = (
        [event.id for event in shown if event.kind == kind] for kind in ("created", "updated", "destroyed")
    )
    return ChangeSet(since, new_state, more, created, updated, destroyed)
