"""/changes of Mailbox and Thread (RFC 8620 §5.2, RFC 8621 §2.2, §3.2).

A state is ``<epoch>-<n>``. Where one commit changed more records than the client takes at once, the state in between is
``<epoch>-<n>.<id>``: known are the changes before modseq n, and those at n up to this id. Only /changes takes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jmapplug.capabilities.mail.store.changelog import Event, events
from jmapplug.jmap.errors import MethodError
from jmapplug.jmap.ids import is_id
from jmapplug.jmap.standard import ChangeSet

MOST = 5_000
_ALL = "~"
"""Behind every id."""

Extra = Callable[[Sequence[Event], int], dict[str, Any]]


def changes_of(
    account: Any,
    type_: str,
    table: str,
    since: str,
    max_changes: int | None,
    extra: Extra = lambda shown, since: {},
) -> ChangeSet:
    """The answer for one type; ``extra(events shown, modseq wholly known)`` gives the response's further members."""
    store, most = account.store, min(max_changes or MOST, MOST)
    base, dot, after = since.partition(".")
    if dot and not is_id(after):
        raise MethodError("cannotCalculateChanges", "This state was never handed out.")
    number = store.since(type_, base)
    found = events(store, table, number, after or _ALL, most + 1)
    shown = found[:most]
    more = len(found) > most
    new_state = _between(store.epoch, shown[-1], found[most]) if more else store.state(type_)
    by_kind = {
        kind: [event.id for event in shown if event.kind == kind] for kind in ("created", "updated", "destroyed")
    }
    return ChangeSet(since, new_state, more, **by_kind, extra=extra(shown, number - bool(dot)))


def _between(epoch: str, last: Event, following: Event) -> str:
    return f"{epoch}-{last.at}" if following.at > last.at else f"{epoch}-{last.at}.{last.id}"
