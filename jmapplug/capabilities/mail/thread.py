"""Thread/get and Thread/changes (RFC 8621 §3)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from jmapplug.capabilities.mail.changelog import changes_of
from jmapplug.capabilities.mail.store import threads as sql
from jmapplug.jmap import standard
from jmapplug.jmap.methods import Args, Call
from jmapplug.jmap.standard import ChangeSet


class ThreadSource(standard.StoredType):
    """``GetSource`` and ``ChangesSource`` of Threads."""

    name = "Thread"
    properties = frozenset({"id", "emailIds"})
    default_properties: tuple[str, ...] = ("id", "emailIds")

    def all_ids(self, account: Any, limit: int) -> Sequence[str] | None:
        return sql.ids(account.store, limit + 1)

    def load(self, call: Call, ids: list[str], properties: tuple[str, ...], args: Args) -> list[dict[str, Any]]:
        found = sql.email_ids(call.account.store, ids)
        with_emails = "emailIds" in properties
        return [{"id": id_, "emailIds": found[id_]} if with_emails else {"id": id_} for id_ in ids if id_ in found]

    def changes(self, account: Any, since: str, max_changes: int | None) -> ChangeSet:
        return changes_of(account, "Thread", "thread", since, max_changes)


THREAD = ThreadSource()
get = partial(standard.get, source=THREAD)
changes = partial(standard.changes, source=THREAD)
