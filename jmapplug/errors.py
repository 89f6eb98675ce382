"""The error tree (design law 2). The JMAP half lives in the pure package and is named here again for plugin authors."""

from __future__ import annotations

from jmapplug.jmap.errors import MethodError, RequestError, SetError

__all__ = ["JmapplugError", "MethodError", "RequestError", "SetError", "SettingError", "SetupError", "UpstreamError"]


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
