"""Why an account is not in step, in words that an operator understands."""

from __future__ import annotations

from jmapplug.errors import AuthenticationError, StorageError, UpstreamError

WORDS = {
    "unavailable": "The mail server is not available for the moment",
    "inuse": "The mail server says that the mailbox is in use elsewhere",
    "limit": "The mail server allows us no more for the moment",
    "throttled": "The mail server wants fewer requests or connections for a while",
    "overquota": "The mailbox is full",
    "contactadmin": "The mail server wants its administrator to be asked",
}
"""RFC 5530 code ("throttled" is ours) → what an operator reads before the server's own words."""


def in_words(error: UpstreamError | StorageError) -> str:
    """What an operator reads of a failed pass."""
    if isinstance(error, StorageError):
        return f"{error}: nothing is synchronised until that is mended"
    if isinstance(error, AuthenticationError):
        return f"The mail server does not take the stored credentials: {error}"
    words = WORDS.get((error.code or "").lower())
    return f"{words}: {error}" if words else str(error)
