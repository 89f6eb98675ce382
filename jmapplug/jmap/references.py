"""References to previous method results: ``"#ids": {"resultOf", "name", "path"}``, RFC 8620 §3.7."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from jmapplug.jmap.errors import MethodError, invalid_arguments
from jmapplug.jmap.methods import Args
from jmapplug.jmap.request import AnyAnswer

MAX_WEIGHT = 5_000_000
"""What the references of one Request may copy, in characters and values.

Without it 64 calls of Core/echo, each of which names the one before several times, make an answer of any size.
"""

_INDEX = re.compile(r"0|[1-9][0-9]{0,15}", re.ASCII)
_BAD_ESCAPE = re.compile(r"~(?![01])")
_ATOMS = (str, int, float, bool, type(None))


class Budget:
    """What is left of `MAX_WEIGHT` in one Request."""

    __slots__ = ("left",)

    def __init__(self, left: int = MAX_WEIGHT) -> None:
        self.left = left

    def spend(self, value: Any) -> None:
        """Take the weight of ``value``; stops counting (and raises) as soon as nothing is left, now and for good."""
        stack = [value]
        while stack:
            node = stack.pop()
            self.left -= 1
            if isinstance(node, str):
                self.left -= len(node)
            elif isinstance(node, dict):
                self.left -= sum(map(len, node))
                stack.extend(node.values())
            elif isinstance(node, list):
                stack.extend(node)
            if len(stack) > self.left:
                self.left = -1
                self.check()

    def check(self) -> None:
        if self.left < 0:
            raise _fails("The references of this request copy too much")


def resolve(args: Args, responses: Sequence[AnyAnswer], budget: Budget | None = None) -> Args:
    """``args`` with every ``#name`` replaced by ``name`` and what it refers to; ``args`` itself if there is none.

    Raises MethodError: invalidResultReference; invalidArguments where an argument comes in both forms.
    """
    names = [name for name in args if name.startswith("#")]
    if not names:
        return args
    for name in names:
        if name[1:] in args:
            raise invalid_arguments(f"Both {name[1:101]} and {name[:101]} are given", name[1:101])
    resolved = {name: value for name, value in args.items() if not name.startswith("#")}
    budget = budget or Budget()
    for name in names:
        resolved[name[1:]] = _value(args[name], responses, budget)
    return resolved


def result_of(args: Args) -> list[str]:
    """The call ids that the references in ``args`` name; malformed references name none."""
    values = (value for name, value in args.items() if name.startswith("#") and isinstance(value, dict))
    return [value["resultOf"] for value in values if isinstance(value.get("resultOf"), str)]


def _value(reference: Any, responses: Sequence[AnyAnswer], budget: Budget) -> Any:
    budget.check()
    if not isinstance(reference, dict):
        raise _fails("A result reference must be an object")
    call_id, name, path = (reference.get(member) for member in ("resultOf", "name", "path"))
    if not (isinstance(call_id, str) and isinstance(name, str) and isinstance(path, str)):
        raise _fails("A result reference needs the strings resultOf, name and path")
    # RFC 8620 §3.7: the *first* response with that call id, and it must have that name.
    response = next((each for each in responses if each.call_id == call_id), None)
    if response is None:
        raise _fails("There is no earlier response with this call id")
    if response.name != name:
        raise _fails("The response to that call has another name")
    value = _plain(evaluate(response.args, path))
    budget.spend(value)
    return value


def evaluate(document: Any, path: str) -> Any:
    """Apply a JSON Pointer (RFC 6901) with ``*`` to a document.

    Raises MethodError("invalidResultReference").
    """
    if path == "":
        return document
    if not path.startswith("/"):
        raise _fails("The path is no JSON Pointer")
    if _BAD_ESCAPE.search(path):
        raise _fails("The path has a bad escape")
    tokens = [token.replace("~1", "/").replace("~0", "~") for token in path[1:].split("/")]
    # Each "*" must meet an array inside an array: more levels than a document has cannot resolve.
    if len(tokens) > 256:
        raise _fails("The path is too long")
    return _walk(document, tokens, 0)


def _walk(value: Any, tokens: list[str], at: int) -> Any:
    for index in range(at, len(tokens)):
        token = tokens[index]
        value = _builtin(value)
        if isinstance(value, dict):
            if token not in value:
                raise _fails("The path leads to nothing")
            value = value[token]
        elif isinstance(value, (list, tuple)):
            if token == "*":  # noqa: S105
                return _map(value, tokens, index + 1)
            value = _item(value, token)
        else:
            raise _fails("The path leads into a value that has no members")
    return value


def _map(items: Sequence[Any], tokens: list[str], at: int) -> list[Any]:
    """``*``: the rest of the path for each item; results that are arrays are flattened into one."""
    found: list[Any] = []
    for item in items:
        value = _builtin(_walk(item, tokens, at))
        if isinstance(value, (list, tuple)):
            found.extend(value)
        else:
            found.append(value)
    return found


def _item(items: Sequence[Any], token: str) -> Any:
    if not _INDEX.fullmatch(token) or int(token) >= len(items):
        raise _fails("The path leads to no item of the array")
    return items[int(token)]


def _builtin(value: Any) -> Any:
    """``value`` with its outermost level as plain JSON."""
    if isinstance(value, msgspec.Raw):
        return msgspec.json.decode(value)
    if isinstance(value, msgspec.Struct):
        return msgspec.to_builtins(value)
    return value


def _plain(value: Any) -> Any:
    """``value`` as plain JSON at every level: what a client could have sent."""
    if isinstance(value, _ATOMS):
        return value
    if isinstance(value, list) and all(isinstance(item, _ATOMS) for item in value):
        return list(value)
    return msgspec.json.decode(msgspec.json.encode(value))


def _fails(why: str) -> MethodError:
    return MethodError("invalidResultReference", why)
