"""Sieve scripts upstream (RFC 5804)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec


class SieveFeatures(msgspec.Struct, frozen=True):
    """What ManageSieve's capabilities say (RFC 5804 §1.7). Limits None: not told."""

    implementation: str = ""
    extensions: tuple[str, ...] = ()
    notify: tuple[str, ...] | None = None
    max_redirects: int | None = None
    lists: tuple[str, ...] | None = None


class SieveSource(Protocol):
    """Sieve scripts upstream, by name (RFC 5804). Raises UpstreamError with ManageSieve's code in lower case

    ("quota/maxscripts", "quota/maxsize", "nonexistent", "alreadyexists", "active"); ``invalid``: the script's fault,
    the message says where. A name that is no UTF-8 has surrogate escapes.
    """

    def features(self) -> SieveFeatures: ...

    def scripts(self) -> list[tuple[str, bool]]:
        """(name, whether it is the active one) of every script."""

    def read(self, name: str) -> bytes:
        """Raises KeyError where there is none."""

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        """:meth:`read` of many in few round trips; those that are gone are left out."""

    def write(self, name: str, content: bytes) -> None:
        """PUTSCRIPT: make or replace; the active one stays active. Code "cannot": the name is what it refuses."""

    def check(self, content: bytes) -> None:
        """CHECKSCRIPT: raises UpstreamError(code="invalid") with the server's words."""

    def activate(self, name: str | None) -> None:
        """SETACTIVE; None: no script is active."""

    def rename(self, old: str, new: str) -> None:
        """RENAMESCRIPT; the active one stays active. Code "cannot": the new name is what it refuses."""

    def delete(self, name: str) -> None: ...
