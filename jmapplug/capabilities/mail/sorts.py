"""The sorts of Email/query (RFC 8621 §4.4.2)."""

from __future__ import annotations

from collections.abc import Mapping

from jmapplug.jmap.checks import is_string
from jmapplug.jmap.sorting import COLLATIONS, Comparator, Sort, SortField

_TEXT = frozenset(COLLATIONS)
_KEYWORD = {"keyword": is_string}

SORT_FIELDS: Mapping[str, SortField] = {
    field.name: field
    for field in (
        SortField("receivedAt"),
        SortField("size"),
        SortField("sentAt"),
        SortField("from", collations=_TEXT),
        SortField("to", collations=_TEXT),
        SortField("subject", collations=_TEXT),
        SortField("hasKeyword", extra=_KEYWORD),
        SortField("allInThreadHaveKeyword", extra=_KEYWORD),
        SortField("someInThreadHaveKeyword", extra=_KEYWORD),
    )
}

NEWEST_FIRST: Sort = (Comparator("receivedAt", False),)

THREAD_SORTS = frozenset({"allInThreadHaveKeyword", "someInThreadHaveKeyword"})
MUTABLE_SORTS = THREAD_SORTS | {"hasKeyword"}


def is_mutable(sort: Sort) -> bool:
    """Whether a change of an Email may move it in this order."""
    return any(key.property in MUTABLE_SORTS for key in sort)


def looks_at_threads(sort: Sort) -> bool:
    return any(key.property in THREAD_SORTS for key in sort)
