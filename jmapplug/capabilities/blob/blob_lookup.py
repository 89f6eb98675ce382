"""Blob/lookup (RFC 9404 §4.3): which records lead to a blob.

A message's blob (``m-<email>``) and its parts' (``p-<email>-<section>``) belong to one Email, its Thread and its
Mailboxes; a Sieve script names its own. An upload belongs to no record: what is made of it has blobs of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from jmapplug.jmap.checks import is_string, list_of
from jmapplug.jmap.errors import MethodError, invalid_arguments
from jmapplug.jmap.methods import Args, Call, Reply
from jmapplug.jmap.sets import blob_ids

MAIL, SIEVE = "urn:ietf:params:jmap:mail", "urn:ietf:params:jmap:sieve"
TYPES = {"Email": MAIL, "Thread": MAIL, "Mailbox": MAIL, "SieveScript": SIEVE}
"""Data type → the capability that must be in ``using`` for it."""

_ARGUMENTS = frozenset({"accountId", "typeNames", "ids"})
_OF_EMAIL = re.compile(r"[mp]-([a-z0-9]+)(?:-[0-9_-]+)?")
_PROPERTIES = ["threadId", "mailboxIds", "blobId", "bodyStructure"]
_PART = ["blobId", "subParts"]


def lookup(call: Call, args: Args) -> Reply:
    """Blob/lookup. Raises MethodError invalidArguments, requestTooLarge, unknownDataType."""
    for name in args.keys() - _ARGUMENTS:
        raise invalid_arguments(f"Unknown argument: {name[:100]}", name[:100])
    types, ids = _types(call, args.get("typeNames")), blob_ids(call, args, "ids")
    owners = _of_mail(call, ids) if MAIL in {TYPES[name] for name in types} else {}
    if "SieveScript" in types:
        for blob_id, scripts in _of_scripts(call, ids).items():
            owners.setdefault(blob_id, {})["SieveScript"] = scripts
    found = []
    for blob_id in ids:
        # RFC 9404 §4.3: nothing told of a blob is told the same way whether it exists or not.
        matched = owners.get(blob_id, {})
        found.append({"id": blob_id, "matchedIds": {name: matched.get(name, []) for name in types}})
    return {"accountId": call.account_id, "list": found, "notFound": []}


def _of_mail(call: Call, ids: list[str]) -> dict[str, dict[str, list[str]]]:
    """Blob id → the records of each type, for those that belong to an Email that is there."""
    emails = {blob_id: match[1] for blob_id in ids if (match := _OF_EMAIL.fullmatch(blob_id))}
    if not emails:
        return {}
    asked = {"ids": sorted(set(emails.values())), "properties": _PROPERTIES, "bodyProperties": _PART}
    records = {email["id"]: email for email in _listed(call, "Email/get", asked)}
    return {
        blob_id: _matched(records[email_id])
        for blob_id, email_id in emails.items()
        if email_id in records and _leads_to(records[email_id], blob_id)
    }


def _of_scripts(call: Call, ids: list[str]) -> dict[str, list[str]]:
    """Blob id → the scripts with that content."""
    try:
        scripts = _listed(call, "SieveScript/get", {"ids": None, "properties": ["blobId"]})
    except MethodError as error:
        if error.type == "serverUnavailable":
            raise
        # An account without Sieve has no scripts.
        return {}
    found: dict[str, list[str]] = {}
    for script in scripts:
        if script["blobId"] in ids:
            found.setdefault(script["blobId"], []).append(script["id"])
    return found


def _listed(call: Call, name: str, args: Args) -> list[dict[str, Any]]:
    # Values of a Reply may be JSON already.
    return msgspec.json.decode(msgspec.json.encode(call.invoke(name, args)["list"]), type=list[dict[str, Any]])


def _matched(email: Mapping[str, Any]) -> dict[str, list[str]]:
    return {"Email": [email["id"]], "Thread": [email["threadId"]], "Mailbox": sorted(email["mailboxIds"])}


def _leads_to(email: Mapping[str, Any], blob_id: str) -> bool:
    """Whether a blob is the message, a part of it, or something inside an attached message."""
    return any(blob_id == one or blob_id.startswith(f"{one}-") for one in _blob_ids(email))


def _blob_ids(email: Mapping[str, Any]) -> Iterator[str]:
    yield email["blobId"]
    stack = [email["bodyStructure"]]
    while stack:
        part = stack.pop()
        if part.get("blobId"):
            yield part["blobId"]
        stack += part.get("subParts") or ()


def _types(call: Call, value: Any) -> list[str]:
    if not list_of(is_string)(value):
        raise invalid_arguments("typeNames must be an array of strings", "typeNames")
    for name in value:
        # RFC 9404 §4.3: not known, or its capability is not in this Request.
        if TYPES.get(name) not in call.using:
            raise MethodError("unknownDataType", f"Cannot look into {name[:100]}")
    return list(dict.fromkeys(value))
