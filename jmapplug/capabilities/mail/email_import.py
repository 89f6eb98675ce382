"""Email/import (RFC 8621 §4.8)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from jmapplug.capabilities.mail import new_email
from jmapplug.capabilities.mail.needed import ensure_needed
from jmapplug.capabilities.mail.new_email import Draft
from jmapplug.capabilities.mail.write_session import WriteSession, catch_up
from jmapplug.jmap import sets
from jmapplug.jmap.checks import is_id
from jmapplug.jmap.errors import SetError, invalid_arguments
from jmapplug.jmap.methods import Args, Call, Reply
from jmapplug.jmap.sets import Outcome
from jmapplug.mime.dates import timestamp

_ARGS = frozenset({"accountId", "ifInState", "emails"})
_PROPERTIES = frozenset({"blobId", "mailboxIds", "keywords", "receivedAt"})
_FIELD = re.compile(rb"[!-9;-~]+[ \t]*:")
_RECEIVED = re.compile(rb"^received[ \t]*:[^\n]*(?:\n[ \t][^\n]*)*", re.IGNORECASE | re.MULTILINE)
_BARE = re.compile(rb"(?<!\r)\n|\r(?!\n)")
_HEAD = 256 * 1024
_BLOCK = 256 * 1024


def email_import(call: Call, args: Args) -> Reply:
    """Email/import. Raises MethodError invalidArguments, requestTooLarge, stateMismatch, serverUnavailable."""
    for name in args.keys() - _ARGS:
        raise invalid_arguments(f"Unknown argument: {name[:100]}", name[:100])
    # The same shape as the creates of a /set.
    request = sets.parse(call, {"create": _emails(args), "ifInState": args.get("ifInState")})
    store = call.account.store
    if request.if_in_state is not None:
        catch_up(call.account)
    outcome = Outcome()
    drafts: dict[str, Draft] = {}
    try:
        for key, record in request.create.items():
            try:
                drafts[key] = _draft(call, record)
            except SetError as error:
                outcome.not_created[key] = error
        ensure_needed(call.account)
        with WriteSession(call) as session:
            old_state = store.state("Email")
            sets.check_state(request, old_state)
            new_email.create(session, drafts, outcome)
            new_state = store.state("Email")
    finally:
        for draft in drafts.values():
            if draft.ours:
                draft.path.unlink(missing_ok=True)
    whole = outcome.reply(call.account_id, old_state, new_state)
    return {name: whole[name] for name in ("accountId", "oldState", "newState", "created", "notCreated")}


def _emails(args: Args) -> Any:
    if not isinstance(args.get("emails"), dict):
        raise invalid_arguments("emails must be an object of creation ids and EmailImports", "emails")
    return args["emails"]


def _draft(call: Call, record: dict[str, Any]) -> Draft:
    unknown = sorted(name[:100] for name in record.keys() - _PROPERTIES)
    if unknown:
        raise SetError("invalidProperties", "An EmailImport has no such properties.", unknown)
    place = new_email.place_of(call, record)
    blob_id = record.get("blobId")
    blob_id = sets.resolved(call, blob_id) if isinstance(blob_id, str) else blob_id
    ref = call.account.blob(blob_id) if is_id(blob_id) else None
    if ref is None:
        raise SetError("invalidProperties", "There is no such blob.", ["blobId"])
    with ref.path.open("rb") as file:
        head = file.read(_HEAD)
    if not _FIELD.match(head):
        raise SetError("invalidEmail", "The blob does not begin with a header field (RFC 5322 §2.2).")
    mailbox_ids, keywords, received_at = place
    path, ours = _with_crlf(call.account, ref.path)
    when = received_at if received_at is not None else _received(head)
    return Draft(path, path.stat().st_size, mailbox_ids, keywords, when, ours)


def _received(head: bytes) -> int | None:
    """When the most recent Received field says that the message came (RFC 8621 §4.8); None where there is none."""
    header = re.split(rb"\r?\n\r?\n", head, maxsplit=1)[0]
    field = _RECEIVED.search(header)
    when = timestamp(field[0].rpartition(b";")[2]) if field is not None and b";" in field[0] else None
    return when if when is not None and when > 0 else None


def _with_crlf(account: Any, path: Path) -> tuple[Path, bool]:
    """A message with CRLF line ends, as IMAP wants them (RFC 9051 §2.2); and whether that is a new file."""
    if not _has_bare_ends(path):
        return path, False
    target: Path = account.store.blobs.temporary()
    try:
        with path.open("rb") as source, target.open("wb") as out:
            held = b""
            while block := source.read(_BLOCK):
                # A CR at the end of a block may belong to an LF at the beginning of the next one.
                block, held = held + block, b""
                if block.endswith(b"\r"):
                    block, held = block[:-1], b"\r"
                out.write(_BARE.sub(b"\r\n", block))
            out.write(b"\r\n" if held else b"")
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return target, True


def _has_bare_ends(path: Path) -> bool:
    held = b""
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            text, held = held + block, b""
            if text.endswith(b"\r"):
                # It may belong to an LF at the beginning of the next block.
                text, held = text[:-1], b"\r"
            if not text.count(b"\r\n") == text.count(b"\n") == text.count(b"\r"):
                return True
    return bool(held)
