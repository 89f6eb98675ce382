"""Comparators of /query (RFC 8620 §5.5), and the collations that the service announces."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from jmapplug.jmap.checks import Checker
from jmapplug.jmap.errors import MethodError, invalid_arguments

MAX_COMPARATORS = 32


def _octet(text: str) -> str:
    return text


def _ascii_casemap(text: str) -> str:
    return text.upper() if text.isascii() else "".join(char.upper() if char.isascii() else char for char in text)


def _unicode_casemap(text: str) -> str:
    # RFC 5051 §2: each character to its (simple, so one character) title case, then compatibility decomposition.
    if text.isascii():
        return text.upper()
    titles = ((char, char.title()) for char in text)
    return unicodedata.normalize("NFKD", "".join(title if len(title) == 1 else char for char, title in titles))


COLLATIONS: Mapping[str, Callable[[str], str]] = {
    "i;ascii-casemap": _ascii_casemap,
    "i;octet": _octet,
    "i;unicode-casemap": _unicode_casemap,
}
"""Name in the IANA registry (RFC 4790) → sort key, to be compared by code point."""


class SortField(msgspec.Struct, frozen=True):
    """A property that a Comparator may name.

    ``extra``: further members of such a Comparator (RFC 8621 §4.4.2 ``keyword``) and their types, all required.
    ``collations``: those that may be named with it; empty for a property that is no text, where any announced
    collation is accepted and means nothing.
    """

    name: str
    extra: Mapping[str, Checker] = {}
    collations: frozenset[str] = frozenset()


class Comparator(msgspec.Struct, frozen=True):
    """One key of a sort. ``collation`` None: the type's own choice. ``extra``: e.g. ``{"keyword": "$seen"}``."""

    property: str
    is_ascending: bool = True
    collation: str | None = None
    extra: Mapping[str, Any] = {}


Sort = tuple[Comparator, ...]


def parse_sort(value: Any, fields: Mapping[str, SortField]) -> Sort:
    """The sort argument; ``()`` for ``null`` and ``[]``.

    Raises MethodError: invalidArguments (wrong shape or type), unsupportedSort (unknown property or collation).
    """
    if value is None:
        return ()
    if not isinstance(value, list):
        raise invalid_arguments("sort must be an array of comparators or null", "sort")
    if len(value) > MAX_COMPARATORS:
        raise MethodError("unsupportedSort", "Too many comparators")
    return tuple(_comparator(each, fields) for each in value)


def _comparator(value: Any, fields: Mapping[str, SortField]) -> Comparator:
    if not isinstance(value, dict) or not isinstance(value.get("property"), str):
        raise invalid_arguments("A comparator must be an object with a property", "sort")
    field = fields.get(value["property"])
    if field is None:
        raise MethodError("unsupportedSort", f"Cannot sort by {value['property'][:100]}")
    ascending = value.get("isAscending")
    if ascending is not None and type(ascending) is not bool:
        raise invalid_arguments("isAscending must be a boolean", "sort")
    extra = _extra(value, field)
    return Comparator(field.name, ascending is not False, _collation(value.get("collation"), field), extra)


def _collation(name: Any, field: SortField) -> str | None:
    # Real clients send "collation": null for "your default".
    if name is None:
        return None
    if not isinstance(name, str):
        raise invalid_arguments("collation must be a string", "sort")
    if name not in (field.collations or COLLATIONS):
        raise MethodError("unsupportedSort", f"Cannot sort {field.name} by the collation {name[:100]}")
    return name


def _extra(value: dict[str, Any], field: SortField) -> dict[str, Any]:
    for name, member in value.items():
        if name not in _COMMON and name not in field.extra and member is not None:
            raise invalid_arguments(f"Unknown member of a comparator: {name[:100]}", "sort")
    found = {name: value.get(name) for name in field.extra}
    for name, check in field.extra.items():
        if not check(found[name]):
            raise invalid_arguments(f"Sorting by {field.name} needs a valid {name}", "sort")
    return found


_COMMON = frozenset({"property", "isAscending", "collation"})
