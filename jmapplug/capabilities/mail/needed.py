"""Drafts, Sent and Trash exist once somebody writes (mail-rules 25, wish 17): without Trash clients delete for good."""

from __future__ import annotations

import logging
from typing import Any

from jmapplug.capabilities.mail.mailbox_set import ensure_role
from jmapplug.capabilities.mail.store import mailboxes as boxes_sql
from jmapplug.capabilities.mail.writes import writes_of
from jmapplug.errors import SetError, UpstreamError

log = logging.getLogger("jmapplug.capabilities.mail")
ROLES = ("drafts", "sent", "trash")


def ensure_needed(account: Any) -> None:
    """Make what is missing of :data:`ROLES`, once in a worker's life. A server that refuses keeps nobody from writing.

    An account whose folders were never listed is left alone: nobody knows yet what is missing.
    """
    writes = writes_of(account.store)
    if writes.roles_looked_at:
        return
    rows = boxes_sql.rows(account.store)
    if not any(row.role == "inbox" and row.uidnext is not None for row in rows):
        return
    writes.roles_looked_at = True
    for role in {*ROLES} - {row.role for row in rows}:
        try:
            ensure_role(account, role)
        except (SetError, UpstreamError) as error:
            log.info("no Mailbox with the role %s could be made: %s", role, error)
