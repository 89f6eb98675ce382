"""Filters of /query (RFC 8620 §5.5): a tree of operators over conditions, checked against a table of fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from jmapplug.jmap.checks import Checker
from jmapplug.jmap.errors import MethodError, invalid_arguments

MAX_DEPTH = 100
MAX_CONDITIONS = 500
OPERATORS = frozenset({"AND", "OR", "NOT"})


class FilterField(msgspec.Struct, frozen=True):
    """A property that a FilterCondition of this type may have; ``check`` tells whether a value has the right type."""

    name: str
    check: Checker


class Condition(msgspec.Struct, frozen=True):
    """A FilterCondition: all of ``values`` must hold; an empty one matches everything."""

    values: dict[str, Any]


class Operator(msgspec.Struct, frozen=True):
    """A FilterOperator. ``operator`` is AND (all), OR (at least one) or NOT (*none* of the conditions matches).

    Without conditions AND and NOT match everything, OR matches nothing.
    """

    operator: str
    conditions: tuple[Filter, ...]


Filter = Operator | Condition


def parse_filter(value: Any, fields: Mapping[str, FilterField]) -> Filter | None:
    """The filter argument as a tree; None where it matches everything (``null`` or ``{}``).

    Raises MethodError: invalidArguments (wrong shape or type), unsupportedFilter (unknown property, or a tree of more
    than `MAX_DEPTH` levels or `MAX_CONDITIONS` nodes).
    """
    if value is None or value == {}:
        return None
    return _Parser(fields).node(value, 1)


def matches(tree: Filter | None, test: Mapping[str, Any]) -> bool:
    """Evaluate ``tree`` where ``test[name](value)`` says whether one property of a condition holds."""
    if tree is None:
        return True
    if isinstance(tree, Condition):
        return all(test[name](wanted) for name, wanted in tree.values.items())
    hits = (matches(each, test) for each in tree.conditions)
    if tree.operator == "AND":
        return all(hits)
    return any(hits) if tree.operator == "OR" else not any(hits)


class _Parser:
    """One walk down a filter; counts its nodes."""

    def __init__(self, fields: Mapping[str, FilterField]) -> None:
        self.fields = fields
        self.nodes = 0

    def node(self, value: Any, depth: int) -> Filter:
        self.nodes += 1
        if depth > MAX_DEPTH or self.nodes > MAX_CONDITIONS:
            raise MethodError("unsupportedFilter", "The filter is too large or too deep")
        if not isinstance(value, dict):
            raise invalid_arguments("A filter must be an object", "filter")
        return self.operator(value, depth) if "operator" in value else self.condition(value)

    def operator(self, value: dict[str, Any], depth: int) -> Operator:
        name, conditions = value["operator"], value.get("conditions")
        if not isinstance(name, str) or name not in OPERATORS:
            raise invalid_arguments("A filter operator must be AND, OR or NOT", "filter")
        if not isinstance(conditions, list) or len(value) != 2:
            raise invalid_arguments("A filter operator has an array of conditions and nothing else", "filter")
        return Operator(name, tuple(self.node(each, depth + 1) for each in conditions))

    def condition(self, value: dict[str, Any]) -> Condition:
        for name, wanted in value.items():
            field = self.fields.get(name)
            if field is None:
                raise MethodError("unsupportedFilter", f"Cannot filter by {name[:100]}")
            if not field.check(wanted):
                raise invalid_arguments(f"The filter's {name} has the wrong type", "filter")
        return Condition(value)
