"""What the mail capability declares: methods, Session objects, tables, blobs, push types, its service."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from jmapplug.capabilities.mail import blobs, email_query, mailbox, snippet, thread
from jmapplug.capabilities.mail.email_changes import email_changes
from jmapplug.capabilities.mail.email_copy import email_copy
from jmapplug.capabilities.mail.email_get import email_get
from jmapplug.capabilities.mail.email_import import email_import
from jmapplug.capabilities.mail.email_parse import email_parse
from jmapplug.capabilities.mail.email_set import email_set
from jmapplug.capabilities.mail.index import index_slice
from jmapplug.capabilities.mail.mailbox_plan import MAX_MAILBOX_NAME
from jmapplug.capabilities.mail.mailbox_set import mailbox_set
from jmapplug.capabilities.mail.service import MailService
from jmapplug.capabilities.mail.sorts import SORT_FIELDS
from jmapplug.hookspecs import AccountInfo, Capability, Schema
from jmapplug.jmap.methods import Handler, Method

URN = "urn:ietf:params:jmap:mail"
FOLDER = Path(__file__).parent

MAX_ATTACHMENTS = 50_000_000


def account_value(info: AccountInfo) -> dict[str, Any] | None:
    """RFC 8621 §1.3.1. An account that has not told what it offers yet (it is being set up) is taken to have mail."""
    if info.offers and "mail" not in info.offers:
        return None
    return {
        "maxMailboxesPerEmail": None,
        "maxMailboxDepth": None,
        "maxSizeMailboxName": MAX_MAILBOX_NAME,
        "maxSizeAttachmentsPerEmail": MAX_ATTACHMENTS,
        "emailQuerySortOptions": [name for name in SORT_FIELDS if name != "id"],
        "mayCreateTopLevelMailbox": not info.read_only,
    }


def service(account: Any) -> MailService | None:
    return MailService(account, (index_slice, uploads_slice)) if "mail" in account.offers() else None


def uploads_slice(account: Any) -> bool:
    """Background work: uploads whose time is over go."""
    return blobs.prune_uploads(account) > 0


READING: dict[str, Handler] = {
    "Mailbox/get": mailbox.get,
    "Mailbox/changes": mailbox.changes,
    "Mailbox/query": mailbox.query,
    "Mailbox/queryChanges": mailbox.query_changes,
    "Thread/get": thread.get,
    "Thread/changes": thread.changes,
    "Email/get": email_get,
    "Email/changes": email_changes,
    "Email/query": email_query.query,
    "Email/queryChanges": email_query.query_changes,
    "Email/parse": email_parse,
    "SearchSnippet/get": snippet.get,
}
WRITING: dict[str, Handler] = {
    "Mailbox/set": mailbox_set,
    "Email/set": email_set,
    "Email/import": email_import,
    "Email/copy": email_copy,
}

_method = partial(Method, capability=URN)


def _scripts(kind: str) -> tuple[str, ...]:
    """The numbered migrations of one of the two files."""
    return tuple(path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob(f"{kind}_*.sql")))


MAIL = Capability(
    urn=URN,
    methods=(
        *(_method(name, handler) for name, handler in READING.items()),
        *(_method(name, handler, writes=True) for name, handler in WRITING.items()),
    ),
    account_value=account_value,
    schema=Schema(own=_scripts("own"), cache=_scripts("cache")),
    types=("Mailbox", "Thread", "Email", "EmailDelivery"),
    blobs=blobs.PREFIXES,
    service=service,
)
