"""Accounts as values: how one is checked, stored, and shown."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import msgspec

from jmapplug.errors import SetupError
from jmapplug.plugins import Plugins
from jmapplug.registry.credentials import Vault
from jmapplug.registry.store import Row

# RFC 8620 §1.2 allows A-Za-z0-9_- in an id; a first letter or digit keeps it apart from the reserved ones.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}", re.ASCII)
_EMAIL = re.compile(r"[^\s\x00-\x1f\x7f@]+@[^\s\x00-\x1f\x7f@]+")
MAX_EMAIL = 320

# What the last report of a worker may hold; anything else in it is dropped.
REPORT_FIELDS = (
    "folders",
    "folders_done",
    "messages",
    "messages_done",
    "pending",
    "unindexed",
    "last_sync",
    "error",
    "warning",
    "offers",
    "facts",
    "phase",
)


def check_id(value: Any) -> str:
    """The accountid. Raises SetupError("accountid") for what is none (or would be a path)."""
    if not isinstance(value, str) or not value:
        raise SetupError("accountid", "accountid required")
    if not _ID.fullmatch(value):
        raise SetupError("accountid", "accountid: 1 to 128 letters, digits, - and _, a letter or digit first")
    return value


def check_email(value: Any) -> str:
    """Raises SetupError("email")."""
    if not isinstance(value, str) or len(value) > MAX_EMAIL or not _EMAIL.fullmatch(value):
        raise SetupError("email", "email: not an e-mail address")
    return value


class Shelf:
    """Turns settings into stored rows and rows into what callers see; knows which fields are secret."""

    def __init__(self, plugins: Plugins, vault: Vault) -> None:
        self._plugins = plugins
        self._vault = vault

    def secrets(self, type_: str) -> frozenset[str]:
        """The names of the secret fields; sealed ones that are stored already are told by their shape."""
        backend = self._plugins.backends.get(type_)
        return backend.secrets if backend is not None else frozenset()

    def sealed(self, accountid: str, type_: str, settings: dict[str, Any]) -> str:
        """Settings as stored. Raises SetupError("type") for an unknown backend: its secrets would lie in clear."""
        if type_ not in self._plugins.backends:
            raise SetupError("type", f"type: there is no backend {str(type_)[:50]!r}")
        secret = self.secrets(type_)
        stored = {
            name: {"sealed": self._vault.encrypt(accountid, msgspec.json.encode(value).decode())}
            if name in secret and value is not None
            else value
            for name, value in settings.items()
        }
        return msgspec.json.encode(stored).decode()

    def settings(self, row: Row) -> dict[str, Any]:
        """The settings with their secrets decrypted. Raises SettingError for another key."""
        return {name: self._unsealed(row["accountid"], value) for name, value in _stored(row).items()}

    def _unsealed(self, accountid: str, value: Any) -> Any:
        if not isinstance(value, dict) or set(value) != {"sealed"}:
            return value
        sealed = value["sealed"]
        text = self._vault.decrypt(accountid, sealed)
        # enc1: texts come from elsewhere and hold the bare credential.
        return text if sealed.startswith("enc1:") else msgspec.json.decode(text)

    def password(self, row: Row) -> str | None:
        value = _stored(row).get("password")
        found = self._unsealed(row["accountid"], value)
        return found if isinstance(found, str) and found else None

    def shown(self, row: Row, report: dict[str, Any]) -> dict[str, Any]:
        """An element of the accounts' list: no secret in it. ``lastSync`` in unix seconds."""
        backend = self._plugins.backends.get(row["type"])
        stored = _stored(row)
        public = {name: stored.get(name) for name in backend.public} if backend is not None else {}
        return {
            "accountid": row["accountid"],
            "email": row["email"],
            "type": row["type"],
            **public,
            "folders": report.get("folders") or 0,
            "messages": report.get("messages") or 0,
            "status": _status(report),
            "lastSync": report.get("last_sync"),
            "error": report.get("error"),
            "pool": row["poolid"],
            "offers": report.get("offers") or [],
            "read_only": False,
        }

    def info(self, row: Row, report: dict[str, Any]) -> dict[str, Any]:
        """The fields of ``hookspecs.AccountInfo``."""
        return {
            "id": row["accountid"],
            "email": row["email"],
            "type": row["type"],
            "offers": report.get("offers") or [],
            "read_only": False,
            "facts": report.get("facts") or {},
        }


def login_name(settings: dict[str, Any], email: str) -> str:
    """The upstream login name, folded as login names are compared."""
    given = settings.get("username")
    return (given if isinstance(given, str) and given else email).lower()


def filled(settings: dict[str, Any]) -> dict[str, Any]:
    """Without what is not given: an account may be older than one of its backend's settings."""
    return {name: value for name, value in settings.items() if value not in (None, "")}


def merged(stored: dict[str, Any], was: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """``given``, and of what is no other than it ``was`` that which is stored."""
    return given | {name: stored[name] for name in stored.keys() & given.keys() if given[name] == was.get(name)}


def seal_of(row: Row) -> str:
    """Another text after every write of the settings (secrets are sealed with a fresh nonce)."""
    return hashlib.sha256(row["settings"].encode()).hexdigest()[:16]


def _stored(row: Row) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.json.decode(row["settings"])
    return decoded


def _status(report: dict[str, Any]) -> str:
    """ "error", "new" (never synchronised), "syncing" (history is still coming) or "ok"."""
    if report.get("error"):
        return "error"
    if not report.get("last_sync"):
        return "new"
    return "ok" if report.get("phase") in (None, "", "idle", "ok", "done") else "syncing"
