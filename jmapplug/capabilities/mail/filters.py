"""The filter of Email/query (RFC 8621 §4.4.1): its properties, and what a whole filter needs to be answered."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from jmapplug.jmap.checks import is_bool, is_id, is_string, is_uint, is_utc_date, list_of
from jmapplug.jmap.filters import Condition, Filter, FilterField

_HEADER_NAME = re.compile(r"[!-9;-~]{1,200}")

TEXT_FIELDS: Mapping[str, tuple[str, ...]] = {
    "text": (),
    "from": ("from",),
    "to": ("to",),
    "cc": ("cc",),
    "bcc": ("bcc",),
    "subject": ("subject",),
    "body": ("body",),
}
"""Conditions on words → the columns of the index that they look at (none: all)."""

BODY_FIELDS = frozenset({"text", "body"})
"""Those that need more than the headers we keep of every Email."""

THREAD_FIELDS = frozenset({"allInThreadHaveKeyword", "someInThreadHaveKeyword", "noneInThreadHaveKeyword"})
MUTABLE_FIELDS = THREAD_FIELDS | {"inMailbox", "inMailboxOtherThan", "hasKeyword", "notKeyword"}


def _is_header(value: Any) -> bool:
    if not isinstance(value, list) or len(value) not in (1, 2) or not all(isinstance(part, str) for part in value):
        return False
    return _HEADER_NAME.fullmatch(value[0]) is not None


FILTER_FIELDS: Mapping[str, FilterField] = {
    name: FilterField(name, check)
    for name, check in {
        "inMailbox": is_id,
        "inMailboxOtherThan": list_of(is_id),
        "before": is_utc_date,
        "after": is_utc_date,
        "minSize": is_uint,
        "maxSize": is_uint,
        "allInThreadHaveKeyword": is_string,
        "someInThreadHaveKeyword": is_string,
        "noneInThreadHaveKeyword": is_string,
        "hasKeyword": is_string,
        "notKeyword": is_string,
        "hasAttachment": is_bool,
        **dict.fromkeys(TEXT_FIELDS, is_string),
        "header": _is_header,
    }.items()
}


class Traits(msgspec.Struct, frozen=True):
    """What a filter looks at anywhere in its tree.

    ``texts``: (field, value) of the conditions on words; ``headers``: the values of header conditions; ``size``: how
    many single conditions there are.
    """

    texts: tuple[tuple[str, str], ...]
    headers: tuple[tuple[str, ...], ...]
    mutable: bool
    threads: bool
    size: int = 0

    @property
    def searches(self) -> bool:
        return bool(self.texts or self.headers)


NO_TRAITS = Traits((), (), False, False)


def leaves(tree: Filter | None) -> Iterator[tuple[str, Any, bool]]:
    """Every single condition as (property, value, whether an odd number of NOTs stands above it)."""
    stack = [(tree, False)] if tree is not None else []
    while stack:
        node, negated = stack.pop()
        if isinstance(node, Condition):
            for name, value in node.values.items():
                yield name, value, negated
        else:
            below = negated != (node.operator == "NOT")
            stack.extend((child, below) for child in reversed(node.conditions))


def required(tree: Filter | None) -> Iterator[tuple[str, Any]]:
    """The single conditions that every match fulfils: those under nothing but ANDs."""
    stack = [tree] if tree is not None else []
    while stack:
        node = stack.pop()
        if isinstance(node, Condition):
            yield from node.values.items()
        elif node.operator == "AND" or (node.operator == "OR" and len(node.conditions) == 1):
            stack.extend(reversed(node.conditions))


def traits(tree: Filter | None) -> Traits:
    """What ``tree`` looks at."""
    if tree is None:
        return NO_TRAITS
    texts: dict[tuple[str, str], None] = {}
    headers: dict[tuple[str, ...], None] = {}
    names, size = set(), 0
    for size, (name, value, _) in enumerate(leaves(tree), 1):  # noqa: B007
        names.add(name)
        if name in TEXT_FIELDS:
            texts[name, value] = None
        elif name == "header":
            headers[tuple(value)] = None
    return Traits(tuple(texts), tuple(headers), bool(names & MUTABLE_FIELDS), bool(names & THREAD_FIELDS), size)
