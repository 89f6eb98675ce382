"""SieveScript/get, /query, /validate (RFC 9661 §2.3, §2.5, §2.6)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from jmapplug.capabilities.sieve.content import read_content
from jmapplug.capabilities.sieve.force import View
from jmapplug.capabilities.sieve.scripts import blob_id, scripts_of
from jmapplug.errors import UpstreamError
from jmapplug.jmap import standard
from jmapplug.jmap.checks import Checker, is_bool, is_string
from jmapplug.jmap.errors import MethodError, SetError, invalid_arguments
from jmapplug.jmap.filters import Filter, FilterField, matches
from jmapplug.jmap.methods import Args, Call, Reply
from jmapplug.jmap.results import ListedIds
from jmapplug.jmap.sets import is_reference, resolved
from jmapplug.jmap.sorting import COLLATIONS, Comparator, Sort, SortField
from jmapplug.jmap.standard import Delta

Record = dict[str, Any]
PROPERTIES = ("id", "name", "blobId", "isActive")


def records(call: Call, view: View) -> list[Record]:
    """Every script that clients see, by name."""
    ids = scripts_of(call.account).ids()
    return [
        {"id": ids[name], "name": name, "blobId": blob_id(view.contents[name]), "isActive": name == view.shown}
        for name in view.visible
    ]


class ScriptSource(standard.StoredType):
    """``GetSource`` of one call: ``view`` was looked at when the call began."""

    name = "SieveScript"
    properties = frozenset(PROPERTIES)
    default_properties: tuple[str, ...] = PROPERTIES

    def __init__(self, call: Call) -> None:
        self._call = call
        self._view = scripts_of(call.account).look()

    def all_ids(self, account: Any, limit: int) -> Sequence[str] | None:
        return [record["id"] for record in records(self._call, self._view)]

    def load(self, call: Call, ids: list[str], properties: tuple[str, ...], args: Args) -> list[Record]:
        found = {record["id"]: record for record in records(call, self._view)}
        return [{name: found[id_][name] for name in properties} for id_ in ids if id_ in found]


def get(call: Call, args: Args) -> Reply:
    """``SieveScript/get``. Raises MethodError accountNotSupportedByMethod and those of /get; UpstreamError."""
    return standard.get(call, args, ScriptSource(call))


# --- query


def _tests(record: Record) -> dict[str, Callable[[Any], bool]]:
    return {
        "name": lambda wanted: wanted.casefold() in record["name"].casefold(),
        "isActive": lambda wanted: record["isActive"] == wanted,
    }


_SORT_KEYS: dict[str, Callable[[Record, Comparator], Any]] = {
    "name": lambda record, one: COLLATIONS[one.collation or "i;unicode-casemap"](record["name"]),
    "isActive": lambda record, one: record["isActive"],
}


class ScriptQuery:
    """``QuerySource`` of scripts."""

    name = "SieveScript"
    filter_fields: Mapping[str, FilterField] = {
        "name": FilterField("name", is_string),
        "isActive": FilterField("isActive", is_bool),
    }
    sort_fields: Mapping[str, SortField] = {
        "name": SortField("name", collations=frozenset(COLLATIONS)),
        "isActive": SortField("isActive"),
    }
    default_sort: Sort = (Comparator("name"),)
    max_limit: int | None = None
    extra_args: Mapping[str, Checker] = {}
    tolerated: frozenset[str] = frozenset()

    def query(self, call: Call, filter: Filter | None, sort: Sort, args: Args) -> ListedIds:
        view = scripts_of(call.account).look()
        found = [record for record in records(call, view) if matches(filter, _tests(record))]
        found.sort(key=lambda record: str(record["id"]))
        for one in reversed(sort):
            found.sort(key=lambda record: _SORT_KEYS[one.property](record, one), reverse=not one.is_ascending)
        # RFC 9661 has no SieveScript/queryChanges.
        return ListedIds([record["id"] for record in found], str(call.account.store.state("SieveScript")), False)

    def query_changes(self, call: Call, filter: Filter | None, sort: Sort, args: Args, since: str) -> Delta:
        raise MethodError("cannotCalculateChanges")


query = partial(standard.query, source=ScriptQuery())


# --- validate


def validate(call: Call, args: Args) -> Reply:
    """``SieveScript/validate``: ``error`` is null or an invalidSieve SetError. Raises MethodError invalidArguments."""
    for name in args.keys() - {"accountId", "blobId"}:
        raise invalid_arguments(f"Unknown argument: {name[:100]}", name[:100])
    given = args.get("blobId")
    if not is_reference(given):
        raise invalid_arguments("blobId must be an id", "blobId")
    scripts = scripts_of(call.account)
    try:
        content = read_content(call.account, resolved(call, str(given)))
        with scripts.lock:
            call.account.sieve_source().check(content)
    except SetError as error:
        if error.type == "invalidProperties":
            raise invalid_arguments("There is no such blob", "blobId") from error
        return _verdict(call, SetError("invalidSieve", error.description))
    except UpstreamError as error:
        if error.code not in ("invalid", "quota/maxsize"):
            raise
        return _verdict(call, SetError("invalidSieve", str(error)))
    return _verdict(call, None)


def _verdict(call: Call, error: SetError | None) -> Reply:
    return {"accountId": call.account_id, "error": None if error is None else error.to_json()}
