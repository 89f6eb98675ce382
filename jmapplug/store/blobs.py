"""The files of an account: cached parts of messages (evicted when over budget) and uploads (kept until they expire).

No path is ever made from upstream's or a client's text: names are hashes of keys, or uuids that we made.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import gevent
import msgspec

FRESH = 5.0
"""Seconds after its last use for which a part is never removed: who was told of it may be about to open it."""
_UPLOAD = re.compile(r"f-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z", re.ASCII)


class BlobRef(msgspec.Struct, frozen=True):
    """A file that holds a blob's octets. ``immutable``: the same id gives the same octets for ever."""

    path: Path
    size: int
    type: str = "application/octet-stream"
    name: str | None = None
    immutable: bool = True


class BlobFiles:
    """``parts/`` is a cache of at most ``budget_bytes`` (least recently used files go first), ``uploads/`` is not.

    What is larger than the budget is served all the same, and goes as soon as nobody can be about to open it.
    """

    def __init__(self, folder: Path, budget_bytes: int, clock: Callable[[], float] = time.time) -> None:
        self.parts = Path(folder) / "parts"
        self.uploads = Path(folder) / "uploads"
        self.budget = budget_bytes
        self._clock = clock
        self._later: gevent.Greenlet | None = None
        for one in (self.parts, self.uploads):
            one.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in self.parts.glob("new-*"):
            left.unlink(missing_ok=True)
        self._total = sum(size for _, size, _ in self._entries())
        self.trim()

    def temporary(self) -> Path:
        """A new empty file in ``parts/`` to write into; then :meth:`keep` it or unlink it."""
        self.trim()
        handle, name = tempfile.mkstemp(prefix="new-", dir=self.parts)
        os.close(handle)
        return Path(name)

    def keep(self, key: str, written: Path) -> Path:
        """Make a written temporary file the cached part of ``key`` (any text: it is hashed); where it is now."""
        target = self._path(key)
        size = written.stat().st_size
        old = _size(target)
        target.parent.mkdir(mode=0o700, exist_ok=True)
        written.replace(target)
        self._total += size - old
        self.trim(keep=target)
        self._trim_later()
        return target

    def _trim_later(self) -> None:
        """What was too fresh to go is looked at again."""
        if self._total > self.budget and not self._later:
            self._later = gevent.spawn_later(FRESH / 2, self._trim_again)

    def _trim_again(self) -> None:
        self._later = None
        self.trim()
        self._trim_later()

    def trim(self, keep: Path | None = None) -> None:
        """Get below the budget again where it is exceeded."""
        if self._total > self.budget:
            self.evict(keep)

    def store(self, key: str, data: bytes) -> Path:
        """Keep these octets as the cached part of ``key``."""
        path = self.temporary()
        try:
            path.write_bytes(data)
            return self.keep(key, path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def find(self, key: str) -> Path | None:
        """The cached part of ``key``, marked as used now; None where there is none."""
        path = self._path(key)
        try:
            os.utime(path)
        except FileNotFoundError:
            return None
        return path

    def forget(self, key: str) -> None:
        path = self._path(key)
        self._total -= _size(path)
        path.unlink(missing_ok=True)

    def evict(self, keep: Path | None = None) -> int:
        """Remove least recently used parts until a tenth of the budget is free again; octets freed."""
        freed, goal = 0, self._total - self.budget * 9 // 10
        fresh = self._clock() - FRESH
        for used_at, size, path in sorted(self._entries()):
            if freed >= goal:
                break
            if path != keep and used_at < fresh:
                path.unlink(missing_ok=True)
                freed += size
        self._total -= freed
        return freed

    @property
    def used(self) -> int:
        """Octets in ``parts/``."""
        return self._total

    def upload_path(self, blob_id: str) -> Path:
        """Where the upload ``f-<uuid>`` lies (or will). Raises ``KeyError`` for an id of another shape."""
        if _UPLOAD.match(blob_id) is None:
            raise KeyError(blob_id)
        return self.uploads / blob_id

    def _path(self, key: str) -> Path:
        name = hashlib.sha256(key.encode()).hexdigest()
        return self.parts / name[:2] / name[2:40]

    def _entries(self) -> list[tuple[float, int, Path]]:
        found = []
        for folder in os.scandir(self.parts):
            if not folder.is_dir():
                continue
            for entry in os.scandir(folder.path):
                facts = entry.stat()
                found.append((facts.st_mtime, facts.st_size, Path(entry.path)))
        return found


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
