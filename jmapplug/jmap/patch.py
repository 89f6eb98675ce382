"""PatchObject (RFC 8620 §5.3): pointers into a record and the values to set there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from jmapplug.jmap.errors import SetError

_BAD_ESCAPE = re.compile(r"~(?![01])")
_MISSING: Any = object()

Path = tuple[str, ...]


def paths(patch: Mapping[str, Any]) -> dict[Path, Any]:
    """The patches by their pointer's tokens. Raises SetError("invalidPatch") for a bad pointer or overlapping ones."""
    found = {_path(pointer): value for pointer, value in patch.items()}
    ordered = sorted(found)
    for shorter, longer in pairwise(ordered):
        # In this order whatever stands between a path and its extension extends the path too.
        if longer[: len(shorter)] == shorter:
            raise _invalid("One pointer is a prefix of another")
    return found


def apply(
    record: Mapping[str, Any], patch: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """``record`` with the patch applied, as a new object; ``record`` and its values stay as they are.

    ``defaults``: what null means for a top-level property; elsewhere null removes. Raises SetError("invalidPatch").
    """
    patched = dict(record)
    own: set[Path] = set()
    for path, value in paths(patch).items():
        parent = _parent(record, patched, path, own)
        if value is None:
            value = (defaults or {}).get(path[0], _MISSING) if len(path) == 1 else _MISSING
        if value is _MISSING:
            parent.pop(path[-1], None)
        else:
            parent[path[-1]] = value
    return patched


def _parent(record: Mapping[str, Any], patched: dict[str, Any], path: Path, own: set[Path]) -> dict[str, Any]:
    """The object that the last token of ``path`` names a member of; copied from the record on the way, once."""
    node = patched
    for depth, token in enumerate(path[:-1], 1):
        child = node.get(token)
        # §5.3: not inside an array, and every part before the last must exist already.
        if not isinstance(child, dict):
            raise _invalid(f"{'/'.join(path)[:200]} leads into something that is no object", path[0])
        if path[:depth] not in own:
            own.add(path[:depth])
            node[token] = child = dict(child)
        node = child
    return node


def _path(pointer: str) -> Path:
    if _BAD_ESCAPE.search(pointer):
        raise _invalid("A pointer has a bad escape")
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/"))


def _invalid(why: str, *properties: str) -> SetError:
    return SetError("invalidPatch", why, list(properties) or None)
