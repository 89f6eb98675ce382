"""Email/changes (RFC 8621 §4.3).

A state is ``<epoch>-<n>``. Where one commit changed more Emails than the client takes at once, the state in between is
``<epoch>-<n>.<id>``: known are all changes up to n - 1, and those at n up to this id. Only Email/changes takes it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from jmapplug.capabilities.mail.store import emails
from jmapplug.capabilities.mail.store.emails import Event
from jmapplug.jmap.errors import MethodError
from jmapplug.jmap.ids import is_id
from jmapplug.jmap.standard import ChangeSet, changes

MOST = 5_000
"""Ids in one answer, also where the client names no maxChanges."""
_ALL = "~"
"""Behind every id: all changes of that modseq are known."""


class EmailChanges:
    """``ChangesSource`` of Emails."""

    name = "Email"

    def state(self, account: Any) -> str:
        return str(account.store.state("Email"))

    def changes(self, account: Any, since: str, max_changes: int | None) -> ChangeSet:
        store, most = account.store, min(max_changes or MOST, MOST)
        base, dot, after = since.partition(".")
        if dot and not is_id(after):
            raise MethodError("cannotCalculateChanges", "This state was never handed out.")
        events = emails.events(store, store.since("Email", base), after or _ALL, most + 1)
        shown = events[:most]
        more = len(events) > most
        kinds: dict[str, list[str]] = {"created": [], "updated": [], "destroyed": []}
        for event in shown:
            kinds[event.kind].append(event.id)
        new_state = _between(store.epoch, shown[-1], events[most]) if more else self.state(account)
        return ChangeSet(since, new_state, more, kinds["created"], kinds["updated"], kinds["destroyed"])


def _between(epoch: str, last: Event, following: Event) -> str:
    return f"{epoch}-{last.at}" if following.at > last.at else f"{epoch}-{last.at}.{last.id}"


EMAIL_CHANGES = EmailChanges()
email_changes = partial(changes, source=EMAIL_CHANGES)
