"""EmailSubmission/get, /changes, /query, /queryChanges (RFC 8621 §7.1-7.4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from jmapplug.capabilities.submission import store as sql
from jmapplug.capabilities.submission.changelog import changes_of
from jmapplug.capabilities.submission.envelope import envelope_json, utc_date
from jmapplug.capabilities.submission.store import Listed, Submission
from jmapplug.jmap import standard
from jmapplug.jmap.checks import Checker, is_id, is_string, is_utc_date, list_of
from jmapplug.jmap.filters import Filter, FilterField, matches
from jmapplug.jmap.methods import Args, Call
from jmapplug.jmap.results import ListedIds
from jmapplug.jmap.sorting import Comparator, Sort, SortField
from jmapplug.jmap.standard import ChangeSet, Delta

Record = dict[str, Any]
TYPE = "EmailSubmission"

READ: dict[str, Callable[[Submission], Any]] = {
    "id": lambda row: row.id,
    "identityId": lambda row: row.identity_id,
    "emailId": lambda row: row.email_id,
    "threadId": lambda row: row.thread_id,
    "envelope": lambda row: envelope_json(row.envelope),
    "sendAt": lambda row: utc_date(row.send_at),
    "undoStatus": lambda row: row.undo_status,
    "deliveryStatus": lambda row: msgspec.to_builtins(row.delivery),
    # DSNs and MDNs that come back are Emails here, as any other (RFC 8621 §7 leaves the choice).
    "dsnBlobIds": lambda row: [],
    "mdnBlobIds": lambda row: [],
}


class SubmissionSource(standard.StoredType):
    """``GetSource`` and ``ChangesSource`` of EmailSubmissions."""

    name = TYPE
    properties = frozenset(READ)
    default_properties: tuple[str, ...] = tuple(READ)

    def all_ids(self, account: Any, limit: int) -> Sequence[str] | None:
        return sql.visible_ids(account.store, limit + 1)

    def load(self, call: Call, ids: list[str], properties: tuple[str, ...], args: Args) -> list[Record]:
        found = sql.visible(call.account.store, ids)
        return [{name: READ[name](found[id_]) for name in properties} for id_ in ids if id_ in found]

    def changes(self, account: Any, since: str, max_changes: int | None) -> ChangeSet:
        return changes_of(account, TYPE, since, max_changes)


# --- queries -------------------------------------------------------------------------------------------------------


def _tests(row: Listed) -> dict[str, Callable[[Any], bool]]:
    sent = utc_date(row.send_at)
    return {
        "identityIds": lambda wanted: row.identity_id in wanted,
        "emailIds": lambda wanted: row.email_id in wanted,
        "threadIds": lambda wanted: row.thread_id in wanted,
        "undoStatus": lambda wanted: row.undo_status == wanted,
        # Whole seconds here: a fraction in the filter is larger than none.
        "before": lambda wanted: sent[:-1] < wanted[:-1],
        "after": lambda wanted: sent[:-1] >= wanted[:-1],
    }


_SORT_KEYS: dict[str, Callable[[Listed], Any]] = {
    "emailId": lambda row: row.email_id,
    "threadId": lambda row: row.thread_id,
    "sentAt": lambda row: row.send_at,
    # The RFC's §7.3 says sentAt, its property is named sendAt.
    "sendAt": lambda row: row.send_at,
}


class SubmissionQuery:
    """``QuerySource`` of EmailSubmissions: an account has some hundreds of them, kept for 30 days."""

    name = TYPE
    filter_fields: Mapping[str, FilterField] = {
        field.name: field
        for field in (
            *(FilterField(name, list_of(is_id)) for name in ("identityIds", "emailIds", "threadIds")),
            FilterField("undoStatus", is_string),
            FilterField("before", is_utc_date),
            FilterField("after", is_utc_date),
        )
    }
    sort_fields: Mapping[str, SortField] = {name: SortField(name) for name in _SORT_KEYS}
    default_sort: Sort = (Comparator("sentAt", is_ascending=False),)
    max_limit: int | None = None
    extra_args: Mapping[str, Checker] = {}
    tolerated: frozenset[str] = frozenset()

    def query(self, call: Call, filter: Filter | None, sort: Sort, args: Args) -> ListedIds:
        store = call.account.store
        rows = [row for row in sql.listed(store) if matches(filter, _tests(row))]
        rows.sort(key=lambda row: row.id)
        for one in reversed(sort):
            rows.sort(key=_SORT_KEYS[one.property], reverse=not one.is_ascending)
        return ListedIds([row.id for row in rows], store.state(TYPE), True)

    def query_changes(self, call: Call, filter: Filter | None, sort: Sort, args: Args, since: str) -> Delta:
        store = call.account.store
        number = store.since(TYPE, since)
        result = self.query(call, filter, sort, args)
        changed = sql.touched(store, TYPE, number)
        # Created later: never in the old result. Everything else that changed may have been, and may have left.
        removed = [id_ for id_, created, _ in changed if created <= number]
        alive = {id_ for id_, _, deleted in changed if not deleted}
        added = [(index, id_) for index, id_ in enumerate(result.ids) if id_ in alive]
        return Delta(since, result.query_state, removed, added, len(result.ids))


SUBMISSION = SubmissionSource()
SUBMISSION_QUERY = SubmissionQuery()
get = partial(standard.get, source=SUBMISSION)
changes = partial(standard.changes, source=SUBMISSION)
query = partial(standard.query, source=SUBMISSION_QUERY)
query_changes = partial(standard.query_changes, source=SUBMISSION_QUERY)
