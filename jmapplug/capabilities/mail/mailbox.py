"""Mailbox/get, /changes, /query, /queryChanges (RFC 8621 §2).

There are some hundred Mailboxes at most, so a query reads all of them and works on the list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import msgspec

from jmapplug.capabilities.mail import ids
from jmapplug.capabilities.mail.changelog import changes_of
from jmapplug.capabilities.mail.folders import RIGHTS_MASK, rights_json
from jmapplug.capabilities.mail.store import mailboxes as sql
from jmapplug.capabilities.mail.store.changelog import Event
from jmapplug.capabilities.mail.store.mailboxes import Row
from jmapplug.jmap import standard
from jmapplug.jmap.checks import Checker, is_bool, is_id, is_string, nullable
from jmapplug.jmap.errors import MethodError
from jmapplug.jmap.filters import Filter, FilterField, matches
from jmapplug.jmap.methods import Args, Call
from jmapplug.jmap.results import ListedIds
from jmapplug.jmap.sorting import COLLATIONS, Comparator, Sort, SortField
from jmapplug.jmap.standard import ChangeSet, Delta

COUNTS = ("totalEmails", "unreadEmails", "totalThreads", "unreadThreads")
PROPERTIES = ("id", "name", "parentId", "role", "sortOrder", *COUNTS, "myRights", "isSubscribed")
_mailbox_id = lru_cache(maxsize=1024)(ids.mailbox_id)


@lru_cache(maxsize=64)
def _rights(bits: int) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(rights_json(bits)))


_READ: dict[str, Callable[[Row, bytes], Any]] = {
    "id": lambda row, salt: row.id,
    "name": lambda row, salt: row.name,
    "parentId": lambda row, salt: None if row.parent is None else _mailbox_id(salt, row.parent),
    "role": lambda row, salt: row.role,
    "sortOrder": lambda row, salt: row.sort_order,
    "totalEmails": lambda row, salt: row.total_emails,
    "unreadEmails": lambda row, salt: row.unread_emails,
    "totalThreads": lambda row, salt: row.total_threads,
    "unreadThreads": lambda row, salt: row.unread_threads,
    "myRights": lambda row, salt: _rights(row.rights & RIGHTS_MASK),
    "isSubscribed": lambda row, salt: bool(row.subscribed),
}


def properties_of(row: Row, salt: bytes) -> dict[str, Any]:
    """Every property of a Mailbox."""
    return {name: read(row, salt) for name, read in _READ.items()}


class MailboxSource(standard.StoredType):
    """``GetSource`` and ``ChangesSource`` of Mailboxes."""

    name = "Mailbox"
    properties = frozenset(PROPERTIES)
    default_properties: tuple[str, ...] = PROPERTIES

    def all_ids(self, account: Any, limit: int) -> Sequence[str] | None:
        return [row.id for row in sorted(sql.rows(account.store), key=lambda row: (row.sort_order, row.name))]

    def load(self, call: Call, ids: list[str], properties: tuple[str, ...], args: Args) -> list[dict[str, Any]]:
        store = call.account.store
        found = {row.id: row for row in sql.rows(store)}
        readers = [(name, _READ[name]) for name in properties]
        salt: bytes = store.salt
        return [{name: read(found[id_], salt) for name, read in readers} for id_ in ids if id_ in found]

    def changes(self, account: Any, since: str, max_changes: int | None) -> ChangeSet:
        return changes_of(account, "Mailbox", "mailbox", since, max_changes, _updated_properties)


def _updated_properties(shown: Sequence[Event], since: int) -> dict[str, Any]:
    """RFC 8621 §2.2: the counts, if every updated Mailbox changed nothing else (mail-rules 10)."""
    updated = [event for event in shown if event.kind == "updated"]
    only_counts = bool(updated) and all(event.props_modseq <= since for event in updated)
    return {"updatedProperties": list(COUNTS) if only_counts else None}


# --- queries -------------------------------------------------------------------------------------------------------


class _Forest:
    """Every Mailbox, and who is above whom. A parent that is no Mailbox of ours ends the climb."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.rows = {row.mid: row for row in rows}

    def lineage(self, row: Row) -> list[Row]:
        """From the top level down to the Mailbox itself."""
        line = [row]
        while (above := self.rows.get(line[-1].parent or 0)) is not None and above not in line:
            line.append(above)
        return line[::-1]


def _tests(row: Row, salt: bytes) -> dict[str, Callable[[Any], bool]]:
    return {
        "parentId": lambda wanted: _READ["parentId"](row, salt) == wanted,
        "name": lambda wanted: wanted.casefold() in row.name.casefold(),
        "role": lambda wanted: row.role == wanted,
        "hasAnyRole": lambda wanted: (row.role is not None) == wanted,
        "isSubscribed": lambda wanted: bool(row.subscribed) == wanted,
    }


def _name_key(row: Row, comparator: Comparator) -> str:
    return COLLATIONS[comparator.collation or "i;unicode-casemap"](row.name)


_SORT_KEYS: dict[str, Callable[[Row, _Forest, Comparator], Any]] = {
    "name": lambda row, forest, comparator: _name_key(row, comparator),
    "sortOrder": lambda row, forest, comparator: row.sort_order,
    "role": lambda row, forest, comparator: row.role or "",
    "parent/name": lambda row, forest, comparator: tuple(_name_key(one, comparator) for one in forest.lineage(row)),
}


class _Reverse:
    """Turns an order round."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __lt__(self, other: _Reverse) -> bool:
        return bool(other.value < self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Reverse) and self.value == other.value


class MailboxQuery:
    """``QuerySource`` of Mailboxes."""

    name = "Mailbox"
    filter_fields: Mapping[str, FilterField] = {
        field.name: field
        for field in (
            FilterField("parentId", nullable(is_id)),
            FilterField("name", is_string),
            FilterField("role", nullable(is_string)),
            FilterField("hasAnyRole", is_bool),
            FilterField("isSubscribed", is_bool),
        )
    }
    sort_fields: Mapping[str, SortField] = {
        field.name: field
        for field in (
            SortField("name", collations=frozenset(COLLATIONS)),
            SortField("sortOrder"),
            SortField("role"),
            SortField("parent/name", collations=frozenset(COLLATIONS)),
        )
    }
    default_sort: Sort = (Comparator("sortOrder"), Comparator("name"))
    max_limit: int | None = None
    extra_args: Mapping[str, Checker] = {"sortAsTree": is_bool, "filterAsTree": is_bool}
    tolerated: frozenset[str] = frozenset()

    def query(self, call: Call, filter: Filter | None, sort: Sort, args: Args) -> ListedIds:
        store = call.account.store
        rows = sql.rows(store)
        found = self._select(rows, store.salt, filter, sort, args)
        # Counts are neither filtered nor sorted by: they do not move the state of a query.
        state = f"{store.epoch}-{sql.last_props(store)}"
        return ListedIds([row.id for row in found], state, _calculable(sort, args))

    def _select(self, rows: list[Row], salt: bytes, filter: Filter | None, sort: Sort, args: Args) -> list[Row]:
        forest = _Forest(rows)
        found = [row for row in rows if matches(filter, _tests(row, salt))]
        if args.get("filterAsTree"):
            kept = {row.mid for row in found}
            found = [row for row in found if all(one.mid in kept for one in forest.lineage(row))]

        def key(row: Row) -> tuple[Any, ...]:
            parts = [(one.is_ascending, _SORT_KEYS[one.property](row, forest, one)) for one in sort]
            return (*(value if ascending else _Reverse(value) for ascending, value in parts), row.id)

        if args.get("sortAsTree"):
            # RFC 8621 §2.3: ancestors first, then siblings by the comparators.
            keys = {row.mid: key(row) for row in rows}
            return sorted(found, key=lambda row: tuple(keys[one.mid] for one in forest.lineage(row)))
        return sorted(found, key=key)

    def query_changes(self, call: Call, filter: Filter | None, sort: Sort, args: Args, since: str) -> Delta:
        store = call.account.store
        if not _calculable(sort, args):
            raise MethodError("cannotCalculateChanges", "Not for orders and filters along the tree.")
        number = store.since("Mailbox", since)
        result = self.query(call, filter, sort, args)
        changed = [row for row in sql.changed(store, number) if row[3] > number]
        # Created later: never in the old result. Everything else that changed may have been, and may have moved.
        removed = [id_ for id_, created, _, _, _ in changed if created <= number]
        moved = {id_ for id_, _, _, _, deleted in changed if not deleted}
        added = [(index, id_) for index, id_ in enumerate(result.ids) if id_ in moved]
        return Delta(since, result.query_state, removed, added, len(result.ids))


def _calculable(sort: Sort, args: Args) -> bool:
    """mail-rules 11: not where a Mailbox's place depends on other Mailboxes."""
    along = any(one.property == "parent/name" for one in sort)
    return not (along or args.get("sortAsTree") or args.get("filterAsTree"))


MAILBOX = MailboxSource()
MAILBOX_QUERY = MailboxQuery()
get = partial(standard.get, source=MAILBOX)
changes = partial(standard.changes, source=MAILBOX)
query = partial(standard.query, source=MAILBOX_QUERY)
query_changes = partial(standard.query_changes, source=MAILBOX_QUERY)
