"""jmapplug: JMAP in front of any IMAP server.

The names below are the public API for authors of plugins; they are what we keep stable (docs/hooks.md). Each is
imported at first use, so that ``import jmapplug`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jmapplug.backends import (
        HEADER_FIELDS,
        Answered,
        Appended,
        Backend,
        Changes,
        Copied,
        Delivery,
        Detail,
        EnvelopeAddress,
        Features,
        Folder,
        Item,
        MailSource,
        NewMessage,
        Quota,
        QuotaSource,
        Rights,
        SearchTerm,
        Session,
        SieveFeatures,
        SieveSource,
        SubmissionFeatures,
        SubmissionSource,
        SyncPoint,
        Watch,
    )
    from jmapplug.errors import (
        AuthenticationError,
        JmapplugError,
        MethodError,
        RequestError,
        SetError,
        SettingError,
        SetupError,
        UpstreamError,
    )
    from jmapplug.hookspecs import AccountInfo, Capability, Schema, SyncService, hookimpl
    from jmapplug.jmap.methods import Args, Call, Limits, Method, Reply
    from jmapplug.mime.structure import Part
    from jmapplug.settings import Setting

__version__ = "0.1.0"

__all__ = [
    "HEADER_FIELDS",
    "AccountInfo",
    "Answered",
    "Appended",
    "Args",
    "AuthenticationError",
    "Backend",
    "Call",
    "Capability",
    "Changes",
    "Copied",
    "Delivery",
    "Detail",
    "EnvelopeAddress",
    "Features",
    "Folder",
    "Item",
    "JmapplugError",
    "Limits",
    "MailSource",
    "Method",
    "MethodError",
    "NewMessage",
    "Part",
    "Quota",
    "QuotaSource",
    "Reply",
    "RequestError",
    "Rights",
    "Schema",
    "SearchTerm",
    "Session",
    "SetError",
    "Setting",
    "SettingError",
    "SetupError",
    "SieveFeatures",
    "SieveSource",
    "SubmissionFeatures",
    "SubmissionSource",
    "SyncPoint",
    "SyncService",
    "UpstreamError",
    "Watch",
    "hookimpl",
]

_HOMES = {
    "jmapplug.backends": (
        "HEADER_FIELDS", "Answered", "Appended", "Backend", "Changes", "Copied", "Delivery", "Detail",
        "EnvelopeAddress", "Features", "Folder", "Item", "MailSource", "NewMessage", "Quota", "QuotaSource",
        "Rights", "SearchTerm", "Session", "SieveFeatures", "SieveSource", "SubmissionFeatures",
        "SubmissionSource", "SyncPoint", "Watch",
    ),
    "jmapplug.errors": (
        "AuthenticationError", "JmapplugError", "MethodError", "RequestError", "SetError", "SettingError", "SetupError",
        "UpstreamError",
    ),
    "jmapplug.hookspecs": ("AccountInfo", "Capability", "Schema", "SyncService", "hookimpl"),
    "jmapplug.jmap.methods": ("Args", "Call", "Limits", "Method", "Reply"),
    "jmapplug.mime.structure": ("Part",),
    "jmapplug.settings": ("Setting",),
}  # fmt: skip
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """PEP 562: a public name, imported at first use."""
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
