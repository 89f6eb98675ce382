"""What the submission capability declares: methods, Session objects, tables, push types, its service."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from jmapplug.capabilities.submission import email_submission, identity
from jmapplug.capabilities.submission.email_submission_set import email_submission_set
from jmapplug.capabilities.submission.service import URN, SubmissionService, service_of, session_value
from jmapplug.hookspecs import AccountInfo, Capability, Schema
from jmapplug.jmap.methods import Args, Call, Handler, Method, Reply

MAIL = "urn:ietf:params:jmap:mail"
FOLDER = Path(__file__).parent


def account_value(info: AccountInfo) -> dict[str, Any] | None:
    """RFC 8621 §1.3.2; nothing where the account cannot send."""
    return session_value(info.facts.get(URN, {})) if "submission" in info.offers else None


def service(account: Any) -> SubmissionService | None:
    return SubmissionService(account) if "submission" in account.offers() else None


def _supported(handler: Handler) -> Handler:
    def supported(call: Call, args: Args) -> Reply:
        service_of(call.account)
        return handler(call, args)

    return supported


READING: dict[str, Handler] = {
    "Identity/get": identity.get,
    "Identity/changes": identity.changes,
    "EmailSubmission/get": email_submission.get,
    "EmailSubmission/changes": email_submission.changes,
    "EmailSubmission/query": email_submission.query,
    "EmailSubmission/queryChanges": email_submission.query_changes,
}
WRITING: dict[str, Handler] = {"Identity/set": identity.set_, "EmailSubmission/set": email_submission_set}

# Real clients name only mail in `using` and would take an unknown method for a sent message (Bulwark).
_method = partial(Method, capability=URN, also=(MAIL,))


def _script(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


SUBMISSION = Capability(
    urn=URN,
    methods=(
        *(_method(name, _supported(handler)) for name, handler in READING.items()),
        *(_method(name, _supported(handler), writes=True) for name, handler in WRITING.items()),
    ),
    account_value=account_value,
    schema=Schema(own=(_script("own_1.sql"),), cache=(_script("cache_1.sql"),)),
    types=("Identity", "EmailSubmission"),
    service=service,
)
