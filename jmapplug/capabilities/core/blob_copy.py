"""Blob/copy (RFC 8620 §6.3): blobs from one account into another."""

from __future__ import annotations

from jmapplug.jmap.checks import is_id, is_string, list_of
from jmapplug.jmap.errors import MethodError, SetError, invalid_arguments
from jmapplug.jmap.methods import Args, Call, Reply
from jmapplug.jmap.sets import errors_json, resolved

_ARGUMENTS = frozenset({"accountId", "fromAccountId", "blobIds"})


def blob_copy(call: Call, args: Args) -> Reply:
    """Blob/copy. Raises MethodError invalidArguments, requestTooLarge, fromAccountNotFound; UpstreamError."""
    for name in args.keys() - _ARGUMENTS:
        raise invalid_arguments(f"Unknown argument: {name[:100]}", name[:100])
    if not list_of(is_string)(args.get("blobIds")):
        raise invalid_arguments("blobIds must be an array of ids", "blobIds")
    if len(args["blobIds"]) > call.limits.max_objects_in_set:
        raise MethodError("requestTooLarge", f"At most {call.limits.max_objects_in_set} blobs in a call")
    source = args.get("fromAccountId")
    if not is_id(source):
        raise invalid_arguments("fromAccountId must be an id", "fromAccountId")
    if source == call.account_id:
        # RFC 8620 §6.3: *between* two different accounts.
        raise invalid_arguments("A blob is copied between two different accounts", "fromAccountId")
    login = call.account.login
    login.check_source(source)
    copied: dict[str, str] = {}
    not_copied: dict[str, SetError] = {}
    for blob_id in dict.fromkeys(args["blobIds"]):
        known = resolved(call, blob_id)
        made = login.bring(source, known, call.account.store) if is_id(known) else None
        if made is None:
            not_copied[blob_id] = SetError("blobNotFound")
        else:
            copied[blob_id] = made
    return {
        "fromAccountId": source,
        "accountId": call.account_id,
        "copied": copied or None,
        "notCopied": errors_json(not_copied),
    }
