"""Quota/get, /changes, /query, /queryChanges (RFC 9425). There are a few of them: queries work on the whole list."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from jmapplug.capabilities.quota import store as sql
from jmapplug.capabilities.quota.service import RESOURCES
from jmapplug.capabilities.quota.store import Row
from jmapplug.jmap import standard
from jmapplug.jmap.checks import Checker, is_string
from jmapplug.jmap.filters import Filter, FilterField, matches
from jmapplug.jmap.methods import Args, Call, Handler, Reply
from jmapplug.jmap.results import ListedIds
from jmapplug.jmap.sorting import COLLATIONS, Comparator, Sort, SortField
from jmapplug.jmap.standard import ChangeSet, Delta

URN = "urn:ietf:params:jmap:quota"
MAIL = "urn:ietf:params:jmap:mail"
MOST = 5_000

_READ: dict[str, Callable[[Row], Any]] = {
    "id": lambda row: row.id,
    "resourceType": lambda row: RESOURCES[row.resource][0],
    "used": lambda row: row.used,
    "hardLimit": lambda row: row.hard_limit,
    "warnLimit": lambda row: None,
    "softLimit": lambda row: None,
    "scope": lambda row: "account",
    "name": lambda row: row.name,
    "description": lambda row: None,
    "types": lambda row: list(RESOURCES[row.resource][1]),
}


def _visible(call: Call) -> list[Row]:
    """RFC 9425 §4.1: no Quota whose types' capability (mail, all of them) the Request does not use."""
    return sql.rows(call.account.store) if MAIL in call.using else []


class QuotaSource(standard.StoredType):
    """``GetSource`` and ``ChangesSource``."""

    name = "Quota"
    properties = frozenset(_READ)
    default_properties: tuple[str, ...] = tuple(_READ)

    def all_ids(self, account: Any, limit: int) -> Sequence[str] | None:
        return [row.id for row in sql.rows(account.store)]

    def load(self, call: Call, ids: list[str], properties: tuple[str, ...], args: Args) -> list[dict[str, Any]]:
        found = {row.id: row for row in _visible(call)}
        return [{name: _READ[name](found[id_]) for name in properties} for id_ in ids if id_ in found]

    def changes(self, account: Any, since: str, max_changes: int | None) -> ChangeSet:
        store, most = account.store, min(max_changes or MOST, MOST)
        number = store.since("Quota", since)
        found = sql.events(store, number, most + 1)
        shown, more = found[:most], len(found) > most
        ids = {
            kind: [event.id for event in shown if event.kind == kind] for kind in ("created", "updated", "destroyed")
        }
        updated = [event for event in shown if event.kind == "updated"]
        only_used = bool(updated) and all(event.props_modseq <= number for event in updated)
        new_state = f"{store.epoch}-{shown[-1].at}" if more else store.state("Quota")
        return ChangeSet(since, new_state, more, **ids, extra={"updatedProperties": ["used"] if only_used else None})


def _tests(row: Row) -> dict[str, Callable[[Any], bool]]:
    return {
        "name": lambda wanted: wanted.casefold() in row.name.casefold(),
        "scope": lambda wanted: wanted == "account",
        "resourceType": lambda wanted: RESOURCES[row.resource][0] == wanted,
        "type": lambda wanted: wanted in RESOURCES[row.resource][1],
    }


_KEYS: dict[str, Callable[[Row, Comparator], Any]] = {
    "name": lambda row, comparator: COLLATIONS[comparator.collation or "i;unicode-casemap"](row.name),
    "used": lambda row, comparator: row.used,
}


class QuotaQuery:
    """``QuerySource`` of Quotas."""

    name = "Quota"
    filter_fields: Mapping[str, FilterField] = {
        name: FilterField(name, is_string) for name in ("name", "scope", "resourceType", "type")
    }
    sort_fields: Mapping[str, SortField] = {
        "name": SortField("name", collations=frozenset(COLLATIONS)),
        "used": SortField("used"),
    }
    default_sort: Sort = (Comparator("name"),)
    max_limit: int | None = None
    extra_args: Mapping[str, Checker] = {}
    tolerated: frozenset[str] = frozenset()

    def query(self, call: Call, filter: Filter | None, sort: Sort, args: Args) -> ListedIds:
        found = sorted((row for row in _visible(call) if matches(filter, _tests(row))), key=lambda row: row.id)
        for one in reversed(sort):
            found.sort(key=lambda row, one=one: _KEYS[one.property](row, one), reverse=not one.is_ascending)  # type: ignore[misc]
        return ListedIds([row.id for row in found], call.account.store.state("Quota"), True)

    def query_changes(self, call: Call, filter: Filter | None, sort: Sort, args: Args, since: str) -> Delta:
        store = call.account.store
        number = store.since("Quota", since)
        result = self.query(call, filter, sort, args)
        changed = sql.events(store, number, MOST)
        # What changed may have been in the old result, and may have moved: out, and in again where it is now.
        removed = [event.id for event in changed]
        moved = {event.id for event in changed if event.kind != "destroyed"}
        added = [(index, id_) for index, id_ in enumerate(result.ids) if id_ in moved]
        return Delta(since, result.query_state, removed, added, len(result.ids))


def _fresh(handler: Handler) -> Handler:
    """The method, answered from values that are current."""

    def method(call: Call, args: Args) -> Reply:
        call.account.services[URN].refresh()
        return handler(call, args)

    return method


QUOTA = QuotaSource()
QUERY = QuotaQuery()
METHODS: dict[str, Handler] = {
    "Quota/get": _fresh(partial(standard.get, source=QUOTA)),
    "Quota/changes": _fresh(partial(standard.changes, source=QUOTA)),
    "Quota/query": _fresh(partial(standard.query, source=QUERY)),
    "Quota/queryChanges": _fresh(partial(standard.query_changes, source=QUERY)),
}
