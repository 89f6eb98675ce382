"""Checkers: the argument types of RFC 8620 §1.2-1.4 as predicates over decoded JSON, and combinations of them."""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable
from typing import Any

from jmapplug.jmap.ids import is_id

__all__ = [
    "INT_MAX",
    "Checker",
    "is_any",
    "is_bool",
    "is_date",
    "is_id",
    "is_int",
    "is_string",
    "is_uint",
    "is_utc_date",
    "list_of",
    "map_of",
    "nullable",
    "one_of",
]

Checker = Callable[[Any], bool]
"""True when the value has the right JSON type (and form)."""

INT_MAX = 2**53 - 1
"""RFC 8620 §1.3."""

_DATE = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.[0-9]{1,20})?(Z|[+-]([0-9]{2}):([0-9]{2}))"
)


def is_any(value: Any) -> bool:
    """Anything goes."""
    return True


def is_bool(value: Any) -> bool:
    return value is True or value is False


def is_string(value: Any) -> bool:
    return isinstance(value, str)


def is_int(value: Any) -> bool:
    """Int of RFC 8620 §1.3; neither a boolean nor a number with a fraction."""
    return type(value) is int and -INT_MAX <= value <= INT_MAX


def is_uint(value: Any) -> bool:
    """UnsignedInt of RFC 8620 §1.3."""
    return type(value) is int and 0 <= value <= INT_MAX


def is_date(value: Any) -> bool:
    """Date of RFC 8620 §1.4: RFC 3339, upper-case T and Z; the day must exist.

    A fraction may end in zeros, or be zero: what JavaScript's ``toISOString`` writes does so once in ten times.
    """
    match = _DATE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return False
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    if not (year >= 1 and 1 <= month <= 12 and 1 <= day <= calendar.monthrange(year, month)[1]):
        return False
    offset_ok = match[8] is None or (int(match[8]) < 24 and int(match[9]) < 60)
    # RFC 3339 §5.6: a leap second is a legal 60.
    return hour < 24 and minute < 60 and second <= 60 and offset_ok


def is_utc_date(value: Any) -> bool:
    """UTCDate of RFC 8620 §1.4: a Date whose offset is Z."""
    return is_date(value) and value.endswith("Z")


def nullable(check: Checker) -> Checker:
    """``T|null``."""
    return lambda value: value is None or check(value)


def list_of(check: Checker) -> Checker:
    """``T[]``."""
    return lambda value: isinstance(value, list) and all(map(check, value))


def map_of(key: Checker, value: Checker) -> Checker:
    """``K[V]``."""
    return lambda given: isinstance(given, dict) and all(key(k) and value(v) for k, v in given.items())


def one_of(*values: str) -> Checker:
    """One of some strings, exactly as written."""
    allowed = frozenset(values)
    return lambda value: isinstance(value, str) and value in allowed
