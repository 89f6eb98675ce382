"""``own.sqlite3``, which holds what nobody else has: opened, and saved out of a damaged one (mail-rules 39)."""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jmapplug.errors import StorageError, StoreDamaged
from jmapplug.hookspecs import Schema
from jmapplug.store import damage, wake
from jmapplug.store.database import Database, Txn
from jmapplug.store.schemas import apply

log = logging.getLogger("jmapplug.store")

DAY = 86_400

OWN_BASE = """
CREATE TABLE store_meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE store_schema (name TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID;
-- Uploaded blobs (f-<uuid>); times in unix seconds.
CREATE TABLE store_upload (
    id TEXT PRIMARY KEY, type TEXT NOT NULL, size INTEGER NOT NULL, created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) WITHOUT ROWID;
"""


def opened(path: Path, schemas: Sequence[Schema], clock: Callable[[], float] = time.time) -> Database:
    """The file, made where there is none, saved from a damaged one. Raises StorageError, ValueError (newer)."""
    fresh = path.with_name(path.name + ".salvage")
    if fresh.exists() and not path.exists():
        # Killed between the last two steps of ``_saved``: what lies beside belongs to the one that was set aside.
        damage.remove(path)
        fresh.replace(path)
    lost = not path.exists() and copy_of(path).exists()
    if not lost and not damage.is_marked(path):
        try:
            return _at(path, schemas)
        except StoreDamaged:
            pass
    return _saved(path, fresh, schemas, clock)


def _at(path: Path, schemas: Sequence[Schema]) -> Database:
    own = Database(path, (OWN_BASE,), synchronous="FULL")
    try:
        apply(own, schemas, "own")
    except BaseException:
        own.close()
        raise
    return own


def _saved(path: Path, fresh: Path, schemas: Sequence[Schema], clock: Callable[[], float]) -> Database:
    """A new file with what can be read of a damaged one. Killed half way, the next start does it again."""
    damage.remove(fresh)
    made = _at(fresh, schemas)
    lost = damage.salvage(path, made) if path.exists() else ["everything"]
    if not _has_salt(made) and copy_of(path).exists():
        made.close()
        made, lost = _from_copy(path, fresh, schemas), ["what was new since the daily copy"]
    try:
        made.write(lambda txn: _note(txn, lost, clock()))
    finally:
        made.close()
    aside = damage.set_aside(path)
    fresh.replace(path)
    wake.sync_folder(path.parent)
    log.error("%s of %s was damaged and is set aside as %s", path.name, path.parent.name, aside.name)
    return _at(path, schemas)


def _has_salt(own: Database | Txn) -> bool:
    salt = own.value("SELECT value FROM store_meta WHERE key='salt'")
    return isinstance(salt, bytes) and len(salt) == 16


def _from_copy(path: Path, fresh: Path, schemas: Sequence[Schema]) -> Database:
    """Without the salt nothing that was saved means anything; the daily copy is whole."""
    damage.remove(fresh)
    shutil.copyfile(copy_of(path), fresh)
    return _at(fresh, schemas)


def _note(txn: Txn, lost: Sequence[str], now: float) -> None:
    """Remember what was not saved. Without the salt all ids are new, and no binding means anything."""
    if not _has_salt(txn):
        txn.execute("INSERT OR REPLACE INTO store_meta VALUES ('salt', ?)", (secrets.token_bytes(16),))
    txn.execute("INSERT OR REPLACE INTO store_meta VALUES ('file', 'salvaged')")
    facts = json.dumps({"at": int(now), "lost": list(lost)})
    txn.execute("INSERT OR REPLACE INTO store_meta VALUES ('salvage', ?)", (facts,))
    damage.skip_numbers(txn, int(now) if lost else 0)


def loss(own: Database) -> str | None:
    """What a damaged file did not give back, in words; None where none was ever damaged."""
    noted = own.value("SELECT value FROM store_meta WHERE key='salvage'")
    return None if noted is None else _in_words(json.loads(noted))


def _in_words(facts: dict[str, Any]) -> str:
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(facts["at"]))
    what = f"not all could be saved of: {', '.join(facts['lost'])}" if facts["lost"] else "everything could be saved"
    return f"own.sqlite3 was damaged (found {when}); {what}"


# --- the daily copy --------------------------------------------------------------------------------------------------


def copy_of(path: Path) -> Path:
    return path.with_name(path.name + ".backup")


def is_copy_due(path: Path, now: float) -> bool:
    """Whether the last copy is missing or a day old."""
    try:
        return copy_of(path).stat().st_mtime + DAY <= now
    except FileNotFoundError:
        return True


def keep_copy(own: Database, pause: Callable[[], None], check: Callable[[Path], bool]) -> bool:
    """Copy the file as it is, and put the copy in the place of the last one if it is sound; whether it is.

    ``pause`` is called between pieces and may yield; ``check`` runs :func:`is_sound` on the copy (in a thread: it
    takes a while). Raises StorageError.
    """
    fresh = copy_of(own.path).with_name(copy_of(own.path).name + ".new")
    damage.remove(fresh)
    own.copy(fresh, pause)
    if not check(fresh):
        damage.remove(fresh)
        return False
    os.chmod(fresh, 0o600)
    fresh.replace(copy_of(own.path))
    wake.sync_folder(own.path.parent)
    return True


def is_sound(path: Path) -> bool:
    """Whether every page of a database is what it should be. Opens a connection of its own."""
    try:
        one = Database(path, (OWN_BASE,), synchronous="FULL")
        try:
            return bool(one.value("PRAGMA quick_check(1)") == "ok")
        finally:
            one.close()
    except StorageError:
        return False
