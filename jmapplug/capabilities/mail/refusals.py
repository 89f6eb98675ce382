"""What a client hears when the mail server refuses one record: one table for all writes (mail-rules 24)."""

from __future__ import annotations

import logging

from jmapplug.errors import AuthenticationError, SetError, UpstreamError

log = logging.getLogger("jmapplug.capabilities.mail")

# Response code in lower case (RFC 5530, 4469, 9051) → SetError type (RFC 8620 §5.3), and what the client is told.
TABLE: dict[str, tuple[str, str]] = {
    "noperm": ("forbidden", "The mail server does not allow this."),
    "overquota": ("overQuota", "The mail server says that the account is over quota."),
    "toobig": ("tooLarge", "The mail server says that this is too large."),
    "limit": ("rateLimit", "The mail server limits how much may be done; try again later."),
    "throttled": ("rateLimit", "The mail server limits how much may be done; try again later."),
    "alreadyexists": ("alreadyExists", "It exists already."),
    "cannot": ("invalidProperties", "The mail server cannot store this."),
    "trycreate": ("notFound", "The folder does not exist on the mail server."),
    "nonexistent": ("notFound", "It does not exist on the mail server."),
    "uidvalidity": ("notFound", "The folder was replaced on the mail server."),
    "read-only": ("forbidden", "The folder is read-only on the mail server."),
}
UNSURE = "The connection to the mail server broke; what was done of this is shown with the next synchronisation."
AWAY = "The mail server cannot be reached at the moment."
REFUSED = "The mail server refused this."


def set_error(error: UpstreamError) -> SetError:
    """The SetError for a record that ``error`` stopped. The server's own words go to the log."""
    log.info("a write was refused: %s", error)
    code = (error.code or "").lower()
    if code in TABLE:
        type_, text = TABLE[code]
        return SetError(type_, text)
    if code == "unsure":
        return SetError("serverFail", UNSURE)
    away = error.temporary or isinstance(error, AuthenticationError)
    return SetError("serverFail", AWAY if away else REFUSED)
