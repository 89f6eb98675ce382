"""I-JSON (RFC 7493) from a hostile peer: decoded, or ValueError. Never another exception, never unbounded work."""

from __future__ import annotations

import gc
import json
import re
from itertools import accumulate
from typing import Any, NoReturn

import msgspec

MAX_DEPTH = 256
"""Levels of arrays and objects. A filter of 100 levels takes 205 of them."""

_SAFE_DIGITS = 18
"""Integers of this many digits fit 64 bits; longer ones have a double's precision in I-JSON anyway (RFC 7493 §2.2)."""


_LARGE = 100_000
_STRINGS = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")


def decode(body: bytes) -> Any:
    """The value in ``body``. Raises ValueError with a text fit for the client.

    Refused: bad UTF-8, a byte order mark, duplicate member names, lone surrogates, NaN and infinities (also numbers
    too large for a double), more than `MAX_DEPTH` levels.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("The text is not UTF-8") from None
    try:
        value = _DECODER.decode(text) if len(body) < _LARGE else _without_collector(text)
        if b"\\u" in body:
            # RFC 7493 §2.1: no lone surrogates. Only an escape can make one; this decoder refuses it.
            msgspec.json.decode(body)
    except RecursionError:
        raise ValueError("Nested too deeply") from None
    except msgspec.MsgspecError:
        raise ValueError("A string holds an incomplete surrogate pair") from None
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and _depth(body) > MAX_DEPTH:
        raise ValueError("Nested too deeply")
    return value


def _without_collector(text: str) -> Any:
    """Decode a large text. JSON has no cycles: looking for them meanwhile would take most of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        return _DECODER.decode(text)
    finally:
        if enabled:
            gc.enable()


def _depth(body: bytes) -> int:
    """The levels of arrays and objects in a valid JSON text: the highest running sum of its brackets."""
    brackets = _STRINGS.sub(b"", body).translate(_STEPS, _NOT_BRACKETS)
    return max(accumulate(memoryview(brackets).cast("b")), default=0)


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("An object has two members of the same name")
    return members


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _SAFE_DIGITS else _number(digits)


def _number(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise ValueError("A number is too large")
    return number


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_members, parse_int=_integer, parse_float=_number, parse_constant=_constant
)
