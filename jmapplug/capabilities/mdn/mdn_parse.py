"""MDN/parse (RFC 9007 §2.2): blobs read as message disposition notifications."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import msgspec

from jmapplug.capabilities.mdn import report
from jmapplug.jmap.checks import is_id
from jmapplug.jmap.errors import MethodError, invalid_arguments
from jmapplug.jmap.methods import Args, Call, Reply
from jmapplug.jmap.sets import blob_ids

MAX_LOOKUPS = 16
"""Notifications of one call whose message is looked for; a search may have to ask the mail server."""
_ARGUMENTS = frozenset({"accountId", "blobIds"})


def parse(call: Call, args: Args) -> Reply:
    """MDN/parse. Raises MethodError invalidArguments, requestTooLarge, serverUnavailable."""
    for name in args.keys() - _ARGUMENTS:
        raise invalid_arguments(f"Unknown argument: {name[:100]}", name[:100])
    parsed: dict[str, Any] = {}
    not_parsable: list[str] = []
    not_found: list[str] = []
    for blob_id in blob_ids(call, args, "blobIds"):
        ref = call.account.blob(blob_id) if is_id(blob_id) else None
        mdn = None if ref is None else _read(ref.path)
        if ref is None:
            not_found.append(blob_id)
        elif mdn is None:
            not_parsable.append(blob_id)
        else:
            if len(parsed) < MAX_LOOKUPS:
                mdn["forEmailId"] = _email_of(call, mdn["originalMessageId"])
            parsed[blob_id] = mdn
    return {
        "accountId": call.account_id,
        "parsed": parsed or None,
        "notParsable": not_parsable or None,
        "notFound": not_found or None,
    }


def _read(path: Path) -> report.Mdn | None:
    if not path.stat().st_size:
        return None
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return report.parse(data)


def _email_of(call: Call, message_id: str | None) -> str | None:
    """The Email with that Message-ID, if there is just one (RFC 9007 §2.2)."""
    bare = (message_id or "").strip().strip("<>")
    if not bare:
        return None
    try:
        found = call.invoke("Email/query", {"filter": {"header": ["Message-ID", bare]}, "limit": 10})["ids"]
        emails = call.invoke("Email/get", {"ids": found, "properties": ["messageId"]})["list"]
    except MethodError:
        # Nobody can look now; RFC 9007 lets it be null.
        return None
    same = [email["id"] for email in emails if bare in _ids(email["messageId"])]
    return same[0] if len(same) == 1 else None


def _ids(value: Any) -> list[str]:
    # Values of a Reply may be JSON already.
    return msgspec.json.decode(msgspec.json.encode(value), type=list[str] | None) or []
