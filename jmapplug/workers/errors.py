"""Errors of the worker layer, and how errors cross a socket: as their own class, told by a table."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from jmapplug.errors import (
    AuthenticationError,
    JmapplugError,
    MethodError,
    RequestError,
    SettingError,
    SetupError,
    StorageError,
    UpstreamError,
    storage_error,
)

log = logging.getLogger("jmapplug.workers")


class NotFound(JmapplugError):
    """There is no such account, token or blob."""


class Conflict(JmapplugError):
    """The account exists already with other settings, or is being deleted."""


class RemoteError(JmapplugError):
    """The command failed in the worker for a reason of its own; the worker has logged it."""


class WorkerUnavailable(JmapplugError):
    """No answer came from the worker.

    ``sent_upstream``: the worker may have acted before it went away; False = the request never reached it.
    """

    def __init__(self, message: str = "the account's worker is not available", *, sent_upstream: bool = False) -> None:
        super().__init__(message)
        self.sent_upstream = sent_upstream


class WorkerTimeout(WorkerUnavailable):
    """The worker did not answer in time. It may still do what was asked."""


Wire = dict[str, Any]
_Row = tuple[type[Exception], Callable[[Any], Wire], Callable[[Wire], Exception]]


def _text(error: Exception) -> Wire:
    return {"m": str(error)}


def _request_error(body: Wire) -> RequestError:
    return RequestError(body["t"].rpartition(":")[2], body["m"], status=body["s"], limit=body["l"])


# The most special class first: the first row that fits tells.
_TABLE: dict[str, _Row] = {
    "notFound": (NotFound, _text, lambda b: NotFound(b["m"])),
    "conflict": (Conflict, _text, lambda b: Conflict(b["m"])),
    "authentication": (
        AuthenticationError,
        lambda e: {"m": str(e), "r": e.retry_after},
        lambda b: AuthenticationError(b["m"], retry_after=b["r"]),
    ),
    "upstream": (
        UpstreamError,
        lambda e: {"m": str(e), "c": e.code, "t": e.temporary, "r": e.retry_after},
        lambda b: UpstreamError(b["m"], code=b["c"], temporary=b["t"], retry_after=b["r"]),
    ),
    "setup": (SetupError, lambda e: {"m": str(e), "f": e.field}, lambda b: SetupError(b["f"], b["m"])),
    "setting": (SettingError, _text, lambda b: SettingError(b["m"])),
    "method": (
        MethodError,
        lambda e: {"t": e.type, "m": e.description, "x": e.more},
        lambda b: MethodError(b["t"], b["m"], **b["x"]),
    ),
    "request": (
        RequestError,
        lambda e: {"t": e.type, "m": e.detail, "s": e.status, "l": e.limit},
        _request_error,
    ),
    "unavailable": (
        WorkerUnavailable,
        lambda e: {"m": str(e), "u": e.sent_upstream},
        lambda b: WorkerUnavailable(b["m"], sent_upstream=b["u"]),
    ),
    "storage": (StorageError, _text, lambda b: StorageError(b["m"])),
    "remote": (RemoteError, _text, lambda b: RemoteError(b["m"])),
}


def to_wire(error: Exception, what: str) -> Wire:
    """The body of an ERROR frame. What the table does not know is logged here and told without its text."""
    if isinstance(error, OSError):
        error = storage_error(error) or error
    for name, (kind, dump, _) in _TABLE.items():
        if isinstance(error, kind):
            return {"e": name, **dump(error)}
    log.error("%s failed: %s", what, type(error).__name__, exc_info=error)
    return {"e": "remote", "m": f"internal error ({type(error).__name__})"}


def from_wire(body: Wire) -> Exception:
    """The error of an ERROR frame, as its own class; RemoteError for a name this process does not know."""
    row = _TABLE.get(str(body.get("e")))
    try:
        return row[2](body) if row else RemoteError(str(body.get("m")))
    except (KeyError, TypeError, AttributeError):
        return RemoteError("unreadable error")
