"""Email/parse (RFC 8621 §4.9): blobs read as messages: attached messages, uploads, whole messages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jmapplug.capabilities.mail import blobs, bodies, previews, properties, structures
from jmapplug.capabilities.mail.bodies import BodyRequest
from jmapplug.capabilities.mail.email_get import header_properties
from jmapplug.capabilities.mail.properties import Plan
from jmapplug.jmap.checks import is_id, is_string, list_of
from jmapplug.jmap.errors import MethodError, invalid_arguments
from jmapplug.jmap.methods import Args, Call, Reply
from jmapplug.mime import headers as mime
from jmapplug.mime.body import has_attachment

_STANDARD = frozenset({"accountId", "blobIds", "properties"})
_METADATA = ("id", "mailboxIds", "keywords", "receivedAt", "threadId")
"""RFC 8621 §4.9: null here."""

_SUMMARY: dict[str, Callable[[mime.Summary], Any]] = {
    "messageId": lambda summary: summary.message_id,
    "inReplyTo": lambda summary: summary.in_reply_to,
    "references": lambda summary: summary.references,
    "sender": lambda summary: summary.sender,
    "from": lambda summary: summary.from_,
    "to": lambda summary: summary.to,
    "cc": lambda summary: summary.cc,
    "bcc": lambda summary: summary.bcc,
    "replyTo": lambda summary: summary.reply_to,
    "subject": lambda summary: summary.subject,
    "sentAt": lambda summary: summary.sent_at,
}


def email_parse(call: Call, args: Args) -> Reply:
    """Email/parse. Raises MethodError invalidArguments, requestTooLarge, serverUnavailable."""
    blob_ids = _blob_ids(call, args.get("blobIds"))
    names = _properties(args.get("properties"))
    extra = _extra(args)
    plan = properties.plan_for(names)
    wish = bodies.request(plan.body, extra)
    parsed: dict[str, Any] = {}
    not_parsable: list[str] = []
    not_found: list[str] = []
    for blob_id in blob_ids:
        ref = blobs.find(call.account, blob_id) if is_id(blob_id) else None
        if ref is None:
            not_found.append(blob_id)
            continue
        email = _parse(call.account, ref.path, blob_id, names, plan, wish)
        if email is None:
            not_parsable.append(blob_id)
        else:
            parsed[blob_id] = email
    return {
        "accountId": call.account_id,
        "parsed": parsed or None,
        "notParsable": not_parsable or None,
        "notFound": not_found or None,
    }


def _blob_ids(call: Call, value: Any) -> list[str]:
    if not list_of(is_string)(value):
        raise invalid_arguments("blobIds must be an array of ids", "blobIds")
    wanted = list(dict.fromkeys(call.created_ids.get(id_[1:], id_) if id_.startswith("#") else id_ for id_ in value))
    limit = call.limits.max_objects_in_get
    if len(wanted) > limit:
        raise MethodError("requestTooLarge", f"At most {limit} blobs in a call", limit=limit)
    return wanted


def _properties(value: Any) -> tuple[str, ...]:
    if value is None:
        return properties.PARSE_DEFAULT
    if not list_of(is_string)(value):
        raise invalid_arguments("properties must be an array of strings", "properties")
    for name in value:
        if not properties.known(name):
            raise invalid_arguments(f"Email has no property {name[:100]}", "properties")
    return tuple(dict.fromkeys(value))


def _extra(args: Args) -> Args:
    found: Args = {}
    for name in args.keys() - _STANDARD:
        check = bodies.EXTRA_ARGS.get(name)
        if check is None:
            raise invalid_arguments(f"Unknown argument: {name[:100]}", name[:100])
        if args[name] is not None:
            if not check(args[name]):
                raise invalid_arguments(f"{name} has the wrong type", name)
            found[name] = args[name]
    return found


def _parse(
    account: Any, path: Path, blob_id: str, names: tuple[str, ...], plan: Plan, wish: BodyRequest
) -> dict[str, Any] | None:
    """The Email in a file; None where it is no message."""
    message = structures.open_file(account, path, blob_id)
    if message is None:
        return None
    block = message.origin.header()
    email: dict[str, Any] = dict.fromkeys(name for name in names if name in _METADATA)
    summary = mime.summary(block)
    columns = {name: properties.column(name) for name in names}
    email |= {name: _SUMMARY[column](summary) for name, column in columns.items() if column in _SUMMARY}
    if "blobId" in names:
        email["blobId"] = blob_id
    if "size" in names:
        email["size"] = path.stat().st_size
    if plan.attachment:
        email["hasAttachment"] = has_attachment(message.root)
    if plan.preview:
        email["preview"] = previews.of_message(message)
    if plan.needs_header:
        email |= header_properties(plan, mime.split(block))
    return email | bodies.render(message, wish) if wish.wanted else email
