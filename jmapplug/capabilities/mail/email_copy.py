"""Email/copy (RFC 8620 §5.4, RFC 8621 §4.7): Emails of another account of the same login.

The messages are brought as uploads and imported: an original goes only when its copy is there.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from jmapplug.jmap import sets
from jmapplug.jmap.checks import is_bool, is_id
from jmapplug.jmap.errors import MethodError, SetError, invalid_arguments
from jmapplug.jmap.methods import Args, Call, Reply
from jmapplug.jmap.sets import Record
from jmapplug.store import uploads

_STATES = ("ifFromInState", "ifInState", "destroyFromIfInState")
_ARGS = frozenset({"accountId", "fromAccountId", "create", "onSuccessDestroyOriginal", *_STATES})
_KEPT = ("keywords", "receivedAt")
"""What a copy has of its original unless the client gives another value."""
_PROPERTIES = frozenset({"id", "mailboxIds", *_KEPT})
_OF_SOURCE = {
    "accountNotFound": "fromAccountNotFound",
    "accountNotSupportedByMethod": "fromAccountNotSupportedByMethod",
}
"""What an error of the other account's Email/get is called here."""


class _Wanted(NamedTuple):
    """The arguments, checked. ``ids``: creation id → id of the original."""

    source: str
    create: dict[str, Record]
    ids: dict[str, str]
    states: dict[str, str | None]
    destroys: bool


def email_copy(call: Call, args: Args) -> Reply:
    """Email/copy. Raises MethodError invalidArguments, requestTooLarge, fromAccountNotFound,

    fromAccountNotSupportedByMethod, stateMismatch, serverUnavailable.
    """
    wanted = _parse(call, args)
    call.account.login.check_source(wanted.source)
    originals = _originals(call, wanted)
    refused: dict[str, SetError] = {}
    emails: dict[str, Record] = {}
    try:
        for key, record in wanted.create.items():
            try:
                emails[key] = _import(call, wanted, record, originals.get(wanted.ids[key]))
            except SetError as error:
                refused[key] = error
        reply = call.invoke("Email/import", {"ifInState": wanted.states["ifInState"], "emails": emails})
    finally:
        uploads.discard(call.account.store, [email["blobId"] for email in emails.values()])
    if wanted.destroys and reply["created"]:
        _destroy_originals(call, wanted, [wanted.ids[key] for key in reply["created"]])
    not_created = {**(sets.errors_json(refused) or {}), **(reply["notCreated"] or {})}
    return {"fromAccountId": wanted.source, **reply, "notCreated": not_created or None}


def _parse(call: Call, args: Args) -> _Wanted:
    for name in args.keys() - _ARGS:
        raise invalid_arguments(f"Unknown argument: {name[:100]}", name[:100])
    source, destroys = args.get("fromAccountId"), args.get("onSuccessDestroyOriginal")
    if not isinstance(source, str) or not is_id(source):
        raise invalid_arguments("fromAccountId must be an id", "fromAccountId")
    if source == call.account_id:
        raise invalid_arguments("A copy to the same account is an Email/set of mailboxIds", "fromAccountId")
    if not isinstance(args.get("create"), dict):
        raise invalid_arguments("create must be an object of creation ids and Emails", "create")
    if destroys is not None and not is_bool(destroys):
        raise invalid_arguments("onSuccessDestroyOriginal must be a boolean", "onSuccessDestroyOriginal")
    states = {name: args.get(name) for name in _STATES}
    for name, state in states.items():
        if state is not None and not isinstance(state, str):
            raise invalid_arguments(f"{name} must be a string or null", name)
    create = sets.parse(call, {"create": args["create"]}).create
    ids = {
        key: sets.resolved(call, id_) if isinstance(id_ := one.get("id"), str) else "" for key, one in create.items()
    }
    return _Wanted(source, create, ids, states, bool(destroys))


def _originals(call: Call, wanted: _Wanted) -> dict[str, Record]:
    """Id → blobId, keywords and receivedAt of what is to be copied, as far as it is there."""
    ids = [id_ for id_ in dict.fromkeys(wanted.ids.values()) if is_id(id_)]
    asked = {"ids": ids, "properties": ["blobId", *_KEPT]}
    try:
        found = call.account.login.ask(wanted.source, "Email/get", asked, call.using)
    except MethodError as error:
        if error.type in _OF_SOURCE:
            raise MethodError(_OF_SOURCE[error.type]) from error
        raise
    if wanted.states["ifFromInState"] not in (None, found["state"]):
        raise MethodError("stateMismatch", "The other account's state is another one by now")
    return {email["id"]: email for email in found["list"]}


def _import(call: Call, wanted: _Wanted, record: Record, original: Record | None) -> dict[str, Any]:
    """The EmailImport of one copy; its message has come here. Raises SetError."""
    unknown = sorted(name[:100] for name in record.keys() - _PROPERTIES)
    if unknown:
        raise SetError("invalidProperties", "These cannot be set in a copy.", unknown)
    if original is None:
        raise SetError("notFound", "There is no such Email in the other account.")
    blob_id = call.account.login.bring(wanted.source, original["blobId"], call.account.store)
    if blob_id is None:
        raise SetError("notFound", "The message is gone from the other account.")
    kept = {name: record.get(name, original[name]) for name in _KEPT}
    return {"blobId": blob_id, "mailboxIds": record.get("mailboxIds"), **kept}


def _destroy_originals(call: Call, wanted: _Wanted, ids: list[str]) -> None:
    """RFC 8620 §5.4: the answer of the Email/set follows the copy's own."""
    args: Args = {"ifInState": wanted.states["destroyFromIfInState"], "destroy": ids}
    try:
        call.extra.append(("Email/set", call.account.login.ask(wanted.source, "Email/set", args, call.using)))
    except MethodError as error:
        call.extra.append(("error", error.to_json()))
