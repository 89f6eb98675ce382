"""Where the sockets are. Short names: a Unix socket's address holds 107 octets (process rule 3)."""

from __future__ import annotations

import hashlib
import os

from jmapplug.errors import SettingError
from jmapplug.settings import Settings, prepare_datadir
from jmapplug.store.wake import is_marked

ACCOUNTS = "__accounts__"
MANAGEMENT = "__management__"
RESERVED = frozenset({ACCOUNTS, MANAGEMENT})
LONGEST = 107


def socket_path(settings: Settings, account_id: str) -> str:
    """The account's listening socket: a hash, so that no account id becomes a path."""
    name = hashlib.sha256(account_id.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return str(settings.run_folder / f"{name}.sock")


def control_path(settings: Settings) -> str:
    return str(settings.run_folder / "control.sock")


def lock_path(settings: Settings) -> str:
    return str(settings.run_folder / "supervisor.lock")


def marked(settings: Settings, account_ids: list[str]) -> list[str]:
    """Those accounts whose worker has to run, whether anybody asks for it or not (``store/wake.py``)."""
    return [name for name in account_ids if is_marked(settings.account_folder(name))]


def prepare(settings: Settings) -> None:
    """Make the data and run folders (0700). Raises SettingError for a folder that is too long or cannot be written."""
    if len(os.fsencode(socket_path(settings, ""))) > LONGEST:
        raise SettingError(f"JMAP_DATADIR {str(settings.datadir)!r}: too long for the addresses of Unix sockets")
    prepare_datadir(settings)
