"""Quotas upstream (RFC 9208)."""

from __future__ import annotations

from typing import Protocol

import msgspec


class Quota(msgspec.Struct, frozen=True):
    """One resource of one quota root (RFC 9208). ``resource``: "STORAGE" (then in octets), "MESSAGE", "MAILBOX" …"""

    root: str
    resource: str
    used: int
    limit: int


class QuotaSource(Protocol):
    """Quotas upstream."""

    def quotas(self) -> list[Quota]:
        """Every resource of every root of INBOX, read now."""
