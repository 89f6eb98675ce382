"""Marks in an account's folder that say: this account's worker has to run, whether anybody asks for it or not.

A mark is a file in ``wake/``, named by who set it. ``__accounts__`` looks for them at boot and every minute, and starts
the workers (mail-rules 40); so what is due survives a crash of a worker and of the machine.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from jmapplug.errors import storage_error

FOLDER = "wake"


def mark(account_folder: Path, name: str) -> None:
    """Set a mark; it is on the disk when this returns. Raises StorageError."""
    folder = account_folder / FOLDER
    target = folder / name
    if target.exists():
        return
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        target.touch(mode=0o600)
        sync_folder(folder)
        sync_folder(account_folder)
    except OSError as error:
        # One that a power cut may take must not be found the next time.
        with suppress(OSError):
            target.unlink()
        raise storage_error(error) or error from error


def unmark(account_folder: Path, name: str) -> None:
    (account_folder / FOLDER / name).unlink(missing_ok=True)


def is_marked(account_folder: Path) -> bool:
    try:
        return any(os.scandir(account_folder / FOLDER))
    except OSError:
        return False


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable (a renamed file is only then there after a power cut)."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
