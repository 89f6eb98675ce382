"""Email/query and Email/queryChanges (RFC 8621 §4.4, §4.5).

The query state is the Emails' state (mail-rules 11): a list that looks at nothing but what is in the database is a
function of it. A search (conditions on words or headers) has the number of Emails that are not indexed in its query
state too, its answer is frozen for paging, and it never can calculate changes.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from array import array
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from jmapplug.capabilities.mail import search
from jmapplug.capabilities.mail.filters import FILTER_FIELDS, Traits, traits
from jmapplug.capabilities.mail.sorts import NEWEST_FIRST, SORT_FIELDS, is_mutable, looks_at_threads
from jmapplug.capabilities.mail.store import queries
from jmapplug.capabilities.mail.store import search as search_rows
from jmapplug.capabilities.mail.store.statements import Statement, compile_query
from jmapplug.jmap import standard
from jmapplug.jmap.checks import Checker, is_bool
from jmapplug.jmap.errors import MethodError
from jmapplug.jmap.filters import Filter, FilterField
from jmapplug.jmap.methods import Args, Call, Reply
from jmapplug.jmap.sorting import Sort, SortField
from jmapplug.jmap.standard import Delta, QueryResult

MAX_CONDITIONS = 500
"""Single conditions of a filter: SQLite refuses expressions of more than 1,000 levels."""
FEW = 16
"""So many places in a list are counted one by one; more of them by numbering the list once."""


class ListResult:
    """A list that the database holds in order: nothing is read but the window.

    ``start``: the eids that it begins with, where they are known.
    """

    def __init__(
        self, store: Any, statement: Statement, state: str, *, collapse: bool, start: Sequence[int] = ()
    ) -> None:
        self._store = store
        self._database = store.cache
        self._statement = statement
        self._state = state
        self._collapse = collapse
        self._start = start
        self.query_state = state
        self.can_calculate_changes = True

    def total(self) -> int:
        count = queries.collapsed_total if self._collapse else queries.total
        key = (self._collapse, self._statement.key)
        return search.memory(self._store).total(self._state, key, lambda: count(self._database, self._statement))

    def window(self, position: int, limit: int | None) -> list[str]:
        if limit is not None and position + limit <= len(self._start):
            return queries.ids_of(self._database, self._start[position : position + limit])
        read = queries.collapsed_page if self._collapse else queries.page
        return read(self._database, self._statement, position, limit)

    def index_of(self, id: str) -> int | None:
        if self._collapse:
            return queries.collapsed_positions(self._database, self._statement, [id]).get(id)
        return queries.index_of(self._database, self._statement, id)

    def positions(self, ids: Collection[str]) -> dict[str, int]:
        """Where those of ``ids`` are that are in the list."""
        if self._collapse:
            return queries.collapsed_positions(self._database, self._statement, ids)
        if len(ids) > FEW or self._statement.newest_first is None:
            return queries.positions(self._database, self._statement, ids)
        found = ((id_, queries.index_of(self._database, self._statement, id_)) for id_ in ids)
        return {id_: index for id_, index in found if index is not None}


class FrozenResult:
    """A search's answer that is kept (mail-rules 37)."""

    can_calculate_changes = False

    def __init__(self, store: Any, answer: search.Frozen) -> None:
        self._database = store.cache
        self._answer = answer
        self.query_state = answer.query_state

    def total(self) -> int:
        return len(self._answer.eids)

    def window(self, position: int, limit: int | None) -> list[str]:
        end = None if limit is None else position + limit
        return queries.ids_of(self._database, self._answer.eids[position:end])

    def index_of(self, id: str) -> int | None:
        eid = queries.eid_of(self._database, id)
        try:
            return None if eid is None else self._answer.eids.index(eid)
        except ValueError:
            return None


class EmailQuery:
    """The QuerySource of Emails. ``paging``: the call asks for a later part of a list it has seen the start of."""

    name = "Email"
    extra_args: Mapping[str, Checker] = {"collapseThreads": is_bool}
    tolerated: frozenset[str] = frozenset()
    filter_fields: Mapping[str, FilterField] = FILTER_FIELDS
    sort_fields: Mapping[str, SortField] = SORT_FIELDS
    default_sort: Sort = NEWEST_FIRST
    max_limit: int | None = None

    def __init__(self, *, paging: bool = False) -> None:
        self._paging = paging

    def query(self, call: Call, filter: Filter | None, sort: Sort, args: Args) -> QueryResult:
        store, found = call.account.store, traits(filter)
        collapse = args.get("collapseThreads") is True
        if found.size > MAX_CONDITIONS:
            raise MethodError("unsupportedFilter", "The filter is too large")
        if found.searches:
            return self._search(call.account, filter, sort, found, collapse)
        statement = compile_query(store.cache, filter, sort)
        return ListResult(store, statement, store.state("Email"), collapse=collapse)

    def _search(self, account: Any, tree: Filter | None, sort: Sort, found: Traits, collapse: bool) -> QueryResult:
        store, memory = account.store, search.memory(account.store)
        key = hashlib.sha256(repr((tree, sort, collapse)).encode("utf-8", "surrogatepass")).digest()
        kept = memory.frozen(key, store.state("Email"), paging=self._paging)
        if kept is not None:
            return FrozenResult(store, kept)
        outcome = search.resolve(account, tree, found)
        # From here on nothing waits: the state, the list and its total belong together.
        state = store.state("Email")
        query_state = f"{state}.{search_rows.unindexed(store)}"
        if not outcome.complete:
            query_state += f".{secrets.token_hex(4)}"
        statement = compile_query(store.cache, tree, sort, outcome.hits)
        head = queries.head(store.cache, statement, search.FROZEN_MAX + 1, threads=collapse)
        first = {tid: eid for eid, tid in reversed(head)} if collapse else None
        listed = array("q", (eid for eid, tid in head if first is None or first[tid] == eid))
        if len(head) > search.FROZEN_MAX:
            result = ListResult(store, statement, state, collapse=collapse, start=listed)
            result.query_state, result.can_calculate_changes = query_state, False
            return result
        # An answer that upstream's part is missing from serves the later pages only.
        made_at = state if outcome.complete else ""
        answer = search.Frozen(listed, query_state, made_at, time.monotonic() + search.FROZEN_FOR)
        memory.freeze(key, answer)
        return FrozenResult(store, answer)

    def query_changes(self, call: Call, filter: Filter | None, sort: Sort, args: Args, since: str) -> Delta:
        store, found = call.account.store, traits(filter)
        if found.searches or found.size > MAX_CONDITIONS:
            raise MethodError("cannotCalculateChanges", "Changes of a search cannot be calculated")
        modseq = store.since("Email", since)
        collapse = args.get("collapseThreads") is True
        statement = compile_query(store.cache, filter, sort)
        result = ListResult(store, statement, store.state("Email"), collapse=collapse)
        if collapse or found.threads or looks_at_threads(sort):
            removed, added = _changed_threads(store.cache, result, modseq, args)
        else:
            removed, added = _changed(store.cache, result, modseq, args, found.mutable or is_mutable(sort))
        total = result.total() if args.get("calculateTotal") else None
        return Delta(since, result.query_state, removed, sorted((index, id_) for id_, index in added.items()), total)


def _changed(
    database: Any, result: ListResult, since: int, args: Args, mutable: bool
) -> tuple[list[str], dict[str, int]]:
    """mail-rules 11: what may have left the list, and what is new in it, by each Email's own change."""
    touched = queries.touched(database, since)
    gone = [one.id for one in touched if one.is_gone and one.may_be_known]
    created = [one.id for one in touched if not one.is_gone and one.is_new]
    back = [one.id for one in touched if not one.is_gone and one.is_new and one.may_be_known]
    changed = [one.id for one in touched if not one.is_gone and not one.is_new] if mutable else []
    removed = gone + back + changed
    _check(removed, args)
    added = result.positions(created + changed)
    up_to = args.get("upToId")
    if up_to is not None and not mutable and (end := result.index_of(up_to)) is not None:
        # RFC 8620 §5.6: with an immutable order, what lies behind the client's last id is of no use to it.
        added = {id_: index for id_, index in added.items() if index <= end}
    return removed, added


def _changed_threads(database: Any, result: ListResult, since: int, args: Args) -> tuple[list[str], dict[str, int]]:
    """mail-rules 11: every Email of every Thread touched leaves, those of them that are in the list now come back."""
    gone = [one.id for one in queries.touched(database, since) if one.is_gone and one.may_be_known]
    members = queries.members(database, queries.touched_threads(database, since), since)
    removed = gone + [one.id for one in members if one.may_be_known]
    _check(removed, args)
    return removed, result.positions([one.id for one in members])


def _check(removed: list[str], args: Args) -> None:
    """Stop before numbering a long list whose changes nobody will read."""
    maximum = args.get("maxChanges")
    if len(removed) > (queries.CHANGED_MAX if maximum is None else maximum):
        raise MethodError("tooManyChanges", "There are more changes than maxChanges")


_FIRST, _LATER = EmailQuery(), EmailQuery(paging=True)


def query(call: Call, args: Args) -> Reply:
    """``Email/query``."""
    paging = bool(args.get("position")) or args.get("anchor") is not None
    return standard.query(call, args, _LATER if paging else _FIRST)


def query_changes(call: Call, args: Args) -> Reply:
    """``Email/queryChanges``."""
    return standard.query_changes(call, args, _FIRST)
