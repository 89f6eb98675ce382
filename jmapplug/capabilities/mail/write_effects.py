"""What a write did upstream, as the server answered: for one local change afterwards (write_apply)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from jmapplug.capabilities.mail.store.writing import Place
from jmapplug.errors import SetError

K = TypeVar("K")
V = TypeVar("V")


@dataclass(slots=True)
class NewCopy:
    """A copy that came to be; date and server id are those of ``origin``."""

    mid: int
    uid: int
    eid: int
    origin: Place
    flags: str


@dataclass(slots=True)
class Effects:
    """What is upstream now that was not before. ``errors``: eid → why its record failed.

    ``unknown``: Mailboxes in which something happened that nobody could tell us of: a pass has to look.
    """

    flags: dict[Place, str] = field(default_factory=dict)
    new: dict[Place, NewCopy] = field(default_factory=dict)
    gone: dict[Place, int] = field(default_factory=dict)
    errors: dict[int, SetError] = field(default_factory=dict)
    validity: dict[int, int] = field(default_factory=dict)
    unknown: set[int] = field(default_factory=set)


def grouped(items: Iterable[tuple[K, V]]) -> dict[K, list[V]]:
    found: dict[K, list[V]] = {}
    for key, value in items:
        found.setdefault(key, []).append(value)
    return found
