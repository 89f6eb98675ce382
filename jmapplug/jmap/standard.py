"""The standard methods (RFC 8620 §5), once for all data types: /get, /changes, /query, /queryChanges.

A data type is a *source*: an object with the attributes and methods of one of the protocols below. A row of a
capability's table binds the two: ``Method("Foo/get", partial(get, source=FOO), URN)``.

Arguments named ``args`` in the protocols hold the call's *extra* arguments only: those of ``extra_args``, checked,
without those that were null.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from jmapplug.jmap.checks import INT_MAX, Checker, is_id, is_int, is_uint
from jmapplug.jmap.errors import MethodError, invalid_arguments
from jmapplug.jmap.filters import Condition, Filter, FilterField, Operator, parse_filter
from jmapplug.jmap.methods import Args, Call, Reply
from jmapplug.jmap.sorting import COLLATIONS, Comparator, Sort, SortField, parse_sort

__all__ = [
    "COLLATIONS",
    "ChangeSet",
    "ChangesSource",
    "Comparator",
    "Condition",
    "Delta",
    "Filter",
    "FilterField",
    "GetSource",
    "Operator",
    "QueryResult",
    "QuerySource",
    "Sort",
    "SortField",
    "StoredType",
    "changes",
    "get",
    "parse_filter",
    "parse_sort",
    "query",
    "query_changes",
]

Record = dict[str, Any]
"""A record as JSON; holds ``id``. Values may be ``msgspec.Raw``."""


class StoredType:
    """What most data types say: no arguments beyond the standard ones, no property without a fixed name.

    Their state is the one that the account's store keeps under their name.
    """

    name: str
    extra_args: Mapping[str, Checker] = {}
    tolerated: frozenset[str] = frozenset()

    def check_property(self, name: str) -> bool:
        return False

    def state(self, account: Any) -> str:
        return str(account.store.state(self.name))


class ArgumentsOf(Protocol):
    """What every source says of its methods' arguments."""

    @property
    def name(self) -> str:
        """The data type, as in the method's name: ``"Email"``."""

    @property
    def extra_args(self) -> Mapping[str, Checker]:
        """Arguments beyond the standard ones, and their types."""

    @property
    def tolerated(self) -> frozenset[str]:
        """Argument names of older drafts and known clients that are ignored, not refused."""


class GetSource(ArgumentsOf, Protocol):
    """A type with /get."""

    @property
    def properties(self) -> frozenset[str]:
        """Every property with a fixed name."""

    @property
    def default_properties(self) -> tuple[str, ...]:
        """What ``properties: null`` means."""

    def check_property(self, name: str) -> bool:
        """True for a property outside ``properties`` that has no fixed name (``header:*``). Never raises."""

    def state(self, account: Any) -> str: ...

    def all_ids(self, account: Any, limit: int) -> Sequence[str] | None:
        """Every id, for ``ids: null``. None, or more than ``limit`` of them: requestTooLarge.

        It need not return more than ``limit + 1``.
        """

    def load(self, call: Call, ids: list[str], properties: tuple[str, ...], args: Args) -> list[Record]:
        """The records of ``ids`` that exist, in that order, with just ``properties`` (``id`` is always among them).

        ``ids`` are well formed and each is there once.
        """


class ChangeSet(msgspec.Struct, frozen=True):
    """The answer of /changes; ``extra``: further members of the response (RFC 8621 §2.2 updatedProperties)."""

    old_state: str
    new_state: str
    has_more: bool
    created: list[str]
    updated: list[str]
    destroyed: list[str]
    extra: dict[str, Any] = {}


class ChangesSource(Protocol):
    """A type with /changes."""

    @property
    def name(self) -> str: ...

    def state(self, account: Any) -> str: ...

    def changes(self, account: Any, since: str, max_changes: int | None) -> ChangeSet:
        """What changed after ``since``: at most ``max_changes`` ids over all three lists, each id in just one.

        Raises MethodError("cannotCalculateChanges"), also for a state that this type never had.
        """


class QueryResult(Protocol):
    """A list of results that need not exist in memory. All its methods speak of one and the same list."""

    @property
    def query_state(self) -> str: ...

    @property
    def can_calculate_changes(self) -> bool: ...

    def total(self) -> int: ...

    def window(self, position: int, limit: int | None) -> list[str]:
        """The ids from ``position`` (0 or more, perhaps past the end), at most ``limit`` (above 0; None: all)."""

    def index_of(self, id: str) -> int | None:
        """Where ``id`` is in the list; None if it is not."""


class Delta(msgspec.Struct, frozen=True):
    """The answer of /queryChanges; ``added`` as (index in the new list, id). ``total`` only if it was asked for."""

    old_query_state: str
    new_query_state: str
    removed: list[str]
    added: list[tuple[int, str]]
    total: int | None = None


class QuerySource(ArgumentsOf, Protocol):
    """A type with /query and /queryChanges."""

    @property
    def filter_fields(self) -> Mapping[str, FilterField]: ...

    @property
    def sort_fields(self) -> Mapping[str, SortField]: ...

    @property
    def default_sort(self) -> Sort:
        """The order where the client names none."""

    @property
    def max_limit(self) -> int | None:
        """The most ids that one /query answers; None: no such limit (real clients ask for a whole folder)."""

    def query(self, call: Call, filter: Filter | None, sort: Sort, args: Args) -> QueryResult:
        """Raises MethodError unsupportedFilter or unsupportedSort."""

    def query_changes(self, call: Call, filter: Filter | None, sort: Sort, args: Args, since: str) -> Delta:
        """What changed after the query state ``since``. Raises MethodError("cannotCalculateChanges").

        ``args`` holds besides the extra ones: ``calculateTotal`` (always), ``maxChanges`` and ``upToId`` (if sent);
        all three are hints: a source that knows better may stop early (tooManyChanges) or leave out what is behind
        ``upToId`` where filter and sort are over immutable properties only (RFC 8620 §5.6).
        """


_GET = frozenset({"accountId", "ids", "properties"})
_CHANGES = frozenset({"accountId", "sinceState", "maxChanges"})
_QUERY_BASE = frozenset({"accountId", "filter", "sort", "calculateTotal"})
_QUERY = _QUERY_BASE | {"position", "anchor", "anchorOffset", "limit"}
_QUERY_CHANGES = _QUERY_BASE | {"sinceQueryState", "maxChanges", "upToId"}


def get(call: Call, args: Args, source: GetSource) -> Reply:
    """``Foo/get``, RFC 8620 §5.1. Raises MethodError invalidArguments, requestTooLarge."""
    extra = _extra(args, _GET, source)
    properties = _properties(args.get("properties"), source)
    # The state is read before the records: what changes in between is told again by /changes, never lost.
    state = source.state(call.account)
    wanted = _wanted(call, args.get("ids"), source)
    ids = [id_ for id_ in wanted if is_id(id_)]
    records = source.load(call, ids, properties, extra) if ids else []
    found = {record["id"] for record in records}
    return {
        "accountId": call.account_id,
        "state": state,
        "list": records,
        # RFC 8620 §5.1: empty where ids was null, even if a record went away meanwhile.
        "notFound": [] if args.get("ids") is None else [id_ for id_ in wanted if id_ not in found],
    }


def changes(call: Call, args: Args, source: ChangesSource) -> Reply:
    """``Foo/changes``, RFC 8620 §5.2. Raises MethodError invalidArguments, cannotCalculateChanges."""
    _refuse_unknown(args, _CHANGES)
    since = _required_string(args, "sinceState")
    found = source.changes(call.account, since, _max_changes(args))
    return {
        "accountId": call.account_id,
        "oldState": found.old_state,
        "newState": found.new_state,
        "hasMoreChanges": found.has_more,
        "created": found.created,
        "updated": found.updated,
        "destroyed": found.destroyed,
        **found.extra,
    }


def query(call: Call, args: Args, source: QuerySource) -> Reply:
    """``Foo/query``, RFC 8620 §5.5. Raises MethodError invalidArguments, anchorNotFound, unsupportedFilter/-Sort."""
    extra = _extra(args, _QUERY, source)
    tree, sort, with_total = _query_arguments(args, source)
    position = _optional(args, "position", is_int, 0)
    anchor = _optional(args, "anchor", is_id, None)
    offset = _optional(args, "anchorOffset", is_int, 0)
    asked = _optional(args, "limit", is_uint, None)
    limit = asked if source.max_limit is None else min(source.max_limit, INT_MAX if asked is None else asked)

    result = source.query(call, tree, sort, extra)
    position = _start(result, position, anchor, offset)
    reply: Reply = {
        "accountId": call.account_id,
        "queryState": result.query_state,
        "canCalculateChanges": result.can_calculate_changes,
        "position": position,
        # A limit of 0 is how real clients ask for the total alone.
        "ids": [] if limit == 0 else result.window(position, limit),
    }
    if with_total:
        reply["total"] = result.total()
    if limit != asked:
        reply["limit"] = limit
    return reply


def query_changes(call: Call, args: Args, source: QuerySource) -> Reply:
    """``Foo/queryChanges``, RFC 8620 §5.6. Raises MethodError invalidArguments, tooManyChanges, and the source's."""
    extra = _extra(args, _QUERY_CHANGES, source)
    tree, sort, with_total = _query_arguments(args, source)
    since = _required_string(args, "sinceQueryState")
    maximum = _max_changes(args)
    up_to = _optional(args, "upToId", is_id, None)
    hints = {"calculateTotal": with_total, "maxChanges": maximum, "upToId": up_to}
    extra.update((name, value) for name, value in hints.items() if value is not None)

    delta = source.query_changes(call, tree, sort, extra, since)
    if maximum is not None and len(delta.removed) + len(delta.added) > maximum:
        raise MethodError("tooManyChanges", "There are more changes than maxChanges")
    reply: Reply = {
        "accountId": call.account_id,
        "oldQueryState": delta.old_query_state,
        "newQueryState": delta.new_query_state,
        "removed": delta.removed,
        # RFC 8620 §5.6: lowest index first, or a client cannot splice them in one after the other.
        "added": [{"id": id_, "index": index} for index, id_ in sorted(delta.added)],
    }
    if with_total and delta.total is not None:
        reply["total"] = delta.total
    return reply


def _extra(args: Args, standard: frozenset[str], source: ArgumentsOf) -> Args:
    """The source's own arguments, checked. RFC 8620 §3.6.2: an argument that nobody expects is invalidArguments."""
    found: Args = {}
    for name in args.keys() - standard:
        check = source.extra_args.get(name)
        if check is None:
            if name not in source.tolerated:
                raise invalid_arguments(f"Unknown argument: {name[:100]}", name[:100])
        elif args[name] is not None:
            if not check(args[name]):
                raise invalid_arguments(f"{name} has the wrong type", name)
            found[name] = args[name]
    return found


def _refuse_unknown(args: Args, standard: frozenset[str]) -> None:
    for name in args.keys() - standard:
        raise invalid_arguments(f"Unknown argument: {name[:100]}", name[:100])


def _optional(args: Args, name: str, check: Checker, default: Any) -> Any:
    """An argument, or ``default`` where it is absent or null (RFC 8620 §3.5)."""
    value = args.get(name)
    if value is None:
        return default
    if not check(value):
        raise invalid_arguments(f"{name} has the wrong type", name)
    return value


def _required_string(args: Args, name: str) -> str:
    value = args.get(name)
    if not isinstance(value, str):
        raise invalid_arguments(f"{name} must be a string", name)
    return value


def _max_changes(args: Args) -> int | None:
    # RFC 8620 §5.2: a positive integer greater than 0 (or null).
    value = args.get("maxChanges")
    if value is None:
        return None
    if not is_uint(value) or value == 0:
        raise invalid_arguments("maxChanges must be a positive integer", "maxChanges")
    return int(value)


def _properties(value: Any, source: GetSource) -> tuple[str, ...]:
    if value is None:
        wanted = source.default_properties
        return wanted if "id" in wanted else ("id", *wanted)
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise invalid_arguments("properties must be an array of strings or null", "properties")
    for name in value:
        if name not in source.properties and not source.check_property(name):
            raise invalid_arguments(f"{source.name} has no property {name[:100]}", "properties")
    # RFC 8620 §5.1: the id is always returned, even if it is not asked for.
    return tuple(dict.fromkeys(("id", *value)))


def _wanted(call: Call, ids: Any, source: GetSource) -> list[str]:
    """The ids to load, each once, creation references replaced where the Request has made such a record."""
    limit = call.limits.max_objects_in_get
    if ids is None:
        every = source.all_ids(call.account, limit)
        if every is None or len(every) > limit:
            raise MethodError("requestTooLarge", f"There are more than {limit} of them: name ids")
        return list(every)
    if not isinstance(ids, list) or not all(isinstance(id_, str) for id_ in ids):
        raise invalid_arguments("ids must be an array of ids or null", "ids")
    given: list[str] = ids
    made = call.created_ids
    # RFC 8620 §5.3: "#" and a creation id may stand for an id anywhere in a Request that created the record.
    named = [made.get(id_[1:], id_) if id_.startswith("#") else id_ for id_ in given]
    wanted = list(dict.fromkeys(named))
    if len(wanted) > limit:
        raise MethodError("requestTooLarge", f"At most {limit} ids in a call")
    return wanted


def _query_arguments(args: Args, source: QuerySource) -> tuple[Filter | None, Sort, bool]:
    tree = parse_filter(args.get("filter"), source.filter_fields)
    sort = parse_sort(args.get("sort"), source.sort_fields) or source.default_sort
    with_total = args.get("calculateTotal")
    if with_total is not None and type(with_total) is not bool:
        raise invalid_arguments("calculateTotal must be a boolean", "calculateTotal")
    return tree, sort, with_total is True


def _start(result: QueryResult, position: int, anchor: str | None, offset: int) -> int:
    """The index of the first result to answer. RFC 8620 §5.5: with an anchor the position is ignored."""
    if anchor is not None:
        index = result.index_of(anchor)
        if index is None:
            raise MethodError("anchorNotFound", "The anchor is not among the results")
        return max(0, index + offset)
    return position if position >= 0 else max(0, result.total() + position)
