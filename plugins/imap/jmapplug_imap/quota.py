"""Quotas of the INBOX (RFC 9208, RFC 2087)."""

from __future__ import annotations

from jmapplug.backends import Quota
from jmapplug_imap.access import Access
from jmapplug_imap.protocol.commands import Mailbox
from jmapplug_imap.protocol.connection import Connection
from jmapplug_imap.protocol.responses import QuotaUsage

UNITS = {"STORAGE": 1024}
"""RFC 9208 §5.1: STORAGE counts in units of 1,024 octets; everything else counts things."""


class ImapQuota:
    """See backends.QuotaSource."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def quotas(self) -> list[Quota]:
        return self._access.run(self._ask)

    def _ask(self, connection: Connection) -> list[Quota]:
        answer = connection.command("GETQUOTAROOT", Mailbox(b"INBOX"))
        return [
            Quota(usage.root, name, used * UNITS.get(name, 1), limit * UNITS.get(name, 1))
            for usage in answer.of(QuotaUsage)
            for name, used, limit in usage.resources
        ]
