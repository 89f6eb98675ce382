"""The error tree (design law 2). The JMAP half lives in the pure package and is named here again for plugin authors."""

from __future__ import annotations

import errno

from jmapplug.jmap.errors import MethodError, RequestError, SetError

__all__ = [
    "JmapplugError",
    "MethodError",
    "RequestError",
    "SetError",
    "SettingError",
    "SetupError",
    "StorageError",
    "UpstreamError",
]

FULL = "The disk of this service is full"
READ_ONLY = "The data folder cannot be written to"
FAILING = "The disk of this service fails"
_DISK: dict[int, str] = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: "The disk quota of this service is used up",
    errno.EROFS: READ_ONLY,
    errno.EIO: FAILING,
}


class JmapplugError(Exception):
    """Root of what goes wrong outside JMAP's own errors."""


class SettingError(JmapplugError):
    """A setting of the service is wrong: one clear line and exit status 2."""


class SetupError(JmapplugError):
    """An account's settings are wrong; ``field`` is the name in the management API, None where no field is to blame."""

    def __init__(self, field: str | None, message: str) -> None:
        super().__init__(message)
        self.field = field


class UpstreamError(JmapplugError):
    """The upstream refused, broke off or is away. ``str(error)`` is fit for an operator and holds no secret.

    ``code`` is the upstream's response code in lower case where it gave one ("overquota", "authenticationfailed");
    ``temporary`` says whether trying again can help. ``retry_after``: seconds for which the upstream is not asked
    again, by whomever; None where nobody knows.
    """

    def __init__(
        self, message: str, *, code: str | None = None, temporary: bool = True, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.temporary = temporary
        self.retry_after = retry_after


class FolderError(UpstreamError):
    """The upstream does not open this one folder; others may be read all the same."""


class AuthenticationError(UpstreamError):
    """The upstream does not take these credentials: no retry storm, the account says so (wish 12)."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message, code="authenticationfailed", temporary=False, retry_after=retry_after)


class StorageError(JmapplugError):
    """Our own disk is full, read-only or failing: what was to be written is not. ``str(error)`` is for an operator."""


class StoreDamaged(StorageError):
    """A file of the store holds what it should not; the account is opened anew, which mends it."""


def storage_error(error: OSError) -> StorageError | None:
    """The StorageError that an OSError means; None where it says nothing about the disk."""
    words = _DISK.get(error.errno or 0)
    return StorageError(words) if words else None
