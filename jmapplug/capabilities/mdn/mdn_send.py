"""MDN/send (RFC 9007 §2.1): a notification for each of some Emails, through the queue that submissions use.

A notification is a row of that queue which clients do not see as an EmailSubmission. It is handed over at most once;
what becomes of ``$mdnsent`` is the implicit Email/set's, behind the answer.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import gevent
import msgspec

from jmapplug.backends import Delivery
from jmapplug.capabilities.mdn import report
from jmapplug.capabilities.mdn.properties import checked
from jmapplug.capabilities.submission import delivery as outcomes
from jmapplug.capabilities.submission import identity as identities
from jmapplug.capabilities.submission import store as sql
from jmapplug.capabilities.submission.addresses import allowed, distinct, is_mailbox, is_pattern, matches
from jmapplug.capabilities.submission.email_submission_set import INLINE, PATIENCE
from jmapplug.capabilities.submission.service import SubmissionService, service_of
from jmapplug.capabilities.submission.store import Address, Envelope, IdentityRow, Submission
from jmapplug.errors import AuthenticationError, UpstreamError
from jmapplug.jmap.checks import is_string
from jmapplug.jmap.errors import MethodError, SetError, invalid_arguments
from jmapplug.jmap.ids import is_id, random_id
from jmapplug.jmap.methods import Args, Call, Reply
from jmapplug.jmap.sets import errors_json, is_reference, resolved
from jmapplug.mime import write, write_headers
from jmapplug.mime.addresses import as_addresses
from jmapplug.mime.write_headers import Unwritable
from jmapplug.waiting import wait

SENT = "$mdnsent"
MAX_RECIPIENTS = 10
"""A Disposition-Notification-To with more of them is no request but a trap (RFC 8098 §6.1)."""
SUBJECT = "Disposition notification"
TEXT = {
    "displayed": "has been displayed. This is no guarantee that the message has been read or understood.",
    "deleted": "has been deleted. It may or may not have been seen.",
    "dispatched": "has been passed on.",
    "processed": "has been processed without being displayed.",
}

_ARGUMENTS = frozenset({"accountId", "identityId", "send", "onSuccessUpdateEmail"})
_TO, _RETURN = "header:Disposition-Notification-To:asAddresses", "header:Return-Path:asRaw"
_ORIGINAL, _TYPE = "header:Original-Recipient:asText:all", "header:Content-Type:asRaw"
_WANTED = ("blobId", "threadId", "keywords", "messageId", "subject", "to", "cc", "size", _TO, _RETURN, _ORIGINAL, _TYPE)
_under_way: set[tuple[str, str]] = set()
"""(account, Email) of the notifications that are being sent now."""


class Draft(NamedTuple):
    """A notification that is checked: the whole MDN, its row, its header fields and the message it may include."""

    mdn: report.Mdn
    row: Submission
    header: list[bytes]
    original: write.Part | None


def send(call: Call, args: Args) -> Reply:
    """MDN/send. Raises MethodError invalidArguments, requestTooLarge, accountNotSupportedByMethod."""
    service = service_of(call.account)
    records, updates = _arguments(call, args)
    sender = identities.find(call.account, resolved(call, args["identityId"]))
    if sender is None:
        raise invalid_arguments("There is no such Identity", "identityId")
    named = {
        key: resolved(call, each["forEmailId"]) for key, each in records.items() if is_string(each.get("forEmailId"))
    }
    with _claimed(call, named.values()) as free:
        return _send_all(call, service, sender, records, updates, free)


def _send_all(
    call: Call,
    service: SubmissionService,
    sender: IdentityRow,
    records: Mapping[str, dict[str, Any]],
    updates: Mapping[str, dict[str, Any]],
    free: set[str],
) -> Reply:
    """``free``: the Emails that no other call sends a notification of at this moment."""
    emails = _emails(call, sorted(free))
    sent: dict[str, report.Mdn] = {}
    failed: dict[str, SetError] = {}
    done: dict[str, str] = {}
    for key, record in records.items():
        try:
            mdn = checked(record)
            email_id = resolved(call, mdn["forEmailId"])
            if email_id not in free or email_id in done.values():
                raise SetError("mdnAlreadySent", "A notification of this Email is being sent.")
            draft = _draft(call, service, sender, mdn, emails.get(email_id))
            _hand_over(call, service, draft)
            done[key] = email_id
            sent[key] = {name: value for name, value in draft.mdn.items() if record.get(name, record) != value}
        except SetError as error:
            failed[key] = error
    reply: Reply = {"accountId": call.account_id, "sent": sent or None, "notSent": errors_json(failed)}
    _update_emails(call, {email: updates[key] for key, email in done.items()})
    return reply


@contextmanager
def _claimed(call: Call, email_ids: Iterable[str]) -> Iterator[set[str]]:
    """Until the keyword is set nobody else may send a notification of these Emails; those that were free."""
    free = {id_ for id_ in email_ids if (call.account_id, id_) not in _under_way}
    mine = {(call.account_id, id_) for id_ in free}
    _under_way.update(mine)
    try:
        yield free
    finally:
        _under_way.difference_update(mine)


# --- arguments -----------------------------------------------------------------------------------------------------


def _arguments(call: Call, args: Args) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """The MDNs, and what is to be done to the Email of each, both by creation id."""
    for name in args.keys() - _ARGUMENTS:
        raise invalid_arguments(f"Unknown argument: {name[:100]}", name[:100])
    if not is_reference(args.get("identityId")):
        raise invalid_arguments("identityId must be an id", "identityId")
    send, given = args.get("send"), args.get("onSuccessUpdateEmail")
    if not isinstance(send, dict) or not all(is_id(key) and isinstance(each, dict) for key, each in send.items()):
        raise invalid_arguments("send must be an object of creation ids and MDNs", "send")
    if len(send) > call.limits.max_objects_in_set:
        raise MethodError("requestTooLarge", f"At most {call.limits.max_objects_in_set} MDNs in a call")
    if given is not None and not (isinstance(given, dict) and all(isinstance(each, dict) for each in given.values())):
        raise invalid_arguments("onSuccessUpdateEmail must be an object of ids and patches", "onSuccessUpdateEmail")
    updates = {key.removeprefix("#"): patch for key, patch in (given or {}).items()}
    if not all(_marks_sent(updates.get(key, {})) for key in send):
        # RFC 9007 §2.1: MUST be rejected where it would not set the keyword.
        raise invalid_arguments(f"onSuccessUpdateEmail must set {SENT} on each Email", "onSuccessUpdateEmail")
    return send, updates


def _marks_sent(patch: Mapping[str, Any]) -> bool:
    keywords = patch.get("keywords")
    return patch.get(f"keywords/{SENT}") is True or (isinstance(keywords, dict) and keywords.get(SENT) is True)


def _emails(call: Call, named: Iterable[str]) -> dict[str, dict[str, Any]]:
    ids = [id_ for id_ in named if is_id(id_)]
    if not ids:
        return {}
    found = call.invoke("Email/get", {"ids": ids, "properties": list(_WANTED)})["list"]
    # Values of a Reply may be JSON already.
    return {email["id"]: email for email in msgspec.json.decode(msgspec.json.encode(found))}


# --- one notification ----------------------------------------------------------------------------------------------


def _draft(
    call: Call,
    service: SubmissionService,
    sender: IdentityRow,
    mdn: report.Mdn,
    email: dict[str, Any] | None,
) -> Draft:
    """Everything that can be checked without the mail server. Raises SetError."""
    recipients = distinct(each["email"] for each in (email or {}).get(_TO) or () if is_mailbox(each["email"]))
    if email is None or not recipients:
        raise SetError("notFound", "There is no such Email, or nobody has asked for a notification of it.")
    if SENT in email["keywords"]:
        raise SetError("mdnAlreadySent", f"The keyword {SENT} is already present.")
    if _left_over(call, email["id"]):
        raise SetError("mdnAlreadySent", "The service ended while a notification was being sent; it may have arrived.")
    _permitted(mdn, email, recipients)
    address = _address(call, sender, mdn, email)
    mdn |= _server_set(email)
    if mdn["subject"] is None:
        mdn["subject"] = SUBJECT
    if mdn["textBody"] is None:
        mdn["textBody"] = f"Your message to {address} {TEXT[mdn['disposition']['type']]}"
    original = _original(call, service, email) if mdn["includeOriginalMessage"] else None
    return Draft(mdn, _row(service, sender, email, recipients), _header(mdn, sender, address, recipients), original)


def _left_over(call: Call, email_id: str) -> bool:
    """Whether a notification was under way when the worker died: the queue shows it then, as not known to be sent."""
    ids = [each.id for each in sql.listed(call.account.store) if each.email_id == email_id]
    return any(not row.envelope.mail_from.email for row in sql.visible(call.account.store, ids).values())


def _permitted(mdn: report.Mdn, email: Mapping[str, Any], recipients: list[str]) -> None:
    """RFC 8098 §2.1: never of a notification, and not unasked to an address that the message did not come from."""
    if "disposition-notification" in (email[_TYPE] or "").lower():
        raise SetError("forbidden", "A notification is not notified of.")
    if len(recipients) > MAX_RECIPIENTS:
        raise SetError("forbidden", f"Notifications go to at most {MAX_RECIPIENTS} addresses.")
    if mdn["disposition"]["sendingMode"] == "mdn-sent-automatically":
        came_from = [each["email"] for each in as_addresses((email[_RETURN] or "").encode())]
        if distinct(came_from + recipients) != came_from[:1]:
            raise SetError("forbidden", "Not automatically: the message came from another address than is asked for.")


def _address(call: Call, sender: IdentityRow, mdn: report.Mdn, email: Mapping[str, Any]) -> str:
    """The address that the notification is from; fills in ``finalRecipient``. Raises SetError."""
    final = _final_recipient(call, sender, mdn["finalRecipient"])
    address: str = sender.email
    if is_pattern(sender.email):
        received_by = [each["email"] for each in (*(email["to"] or ()), *(email["cc"] or ()))]
        candidates = [final, *received_by, call.account.email]
        address = next((one for one in candidates if is_mailbox(one) and matches(one, sender.email)), "")
        if not address:
            raise SetError("invalidProperties", "The Identity stands for several addresses.", ["finalRecipient"])
    final = final or address
    mdn["finalRecipient"] = f"{'rfc822' if final.isascii() else 'utf-8'}; {final}"
    return address


def _final_recipient(call: Call, sender: IdentityRow, wanted: str | None) -> str:
    """The address in a client's ``finalRecipient``, with or without its type; "" where there is none."""
    if wanted is None:
        return ""
    kind, _, final = (each.strip() for each in wanted.rpartition(";"))
    if kind.lower() not in ("", "rfc822", "utf-8") or not is_mailbox(final):
        raise SetError("invalidProperties", "Not an address.", ["finalRecipient"])
    if not allowed(final, (sender.email, *identities.may_send_from(call.account))):
        # RFC 9007 §5.
        raise SetError("forbiddenFrom", "The account may not use this address.")
    return final


def _server_set(email: Mapping[str, Any]) -> dict[str, Any]:
    """RFC 8098 §3.2.3, §3.2.5: of several Original-Recipient fields none counts."""
    original = [value.strip() for value in email[_ORIGINAL] or () if value.isprintable() and len(value) < 600]
    ids = email["messageId"] or ()
    return {
        "originalRecipient": original[0] if len(original) == 1 and ";" in original[0] else None,
        "originalMessageId": f"<{ids[0]}>" if ids else None,
    }


def _original(call: Call, service: SubmissionService, email: Mapping[str, Any]) -> write.Part:
    """The whole message, as it is (RFC 8098 §3 d)."""
    limit = service.features.size if service.features is not None else 0
    if limit and email["size"] > limit:
        raise SetError("tooLarge", "The mail server takes no message of this size.", maxSize=limit)
    try:
        ref = call.account.blob(email["blobId"])
    except MethodError as error:
        raise SetError("serverFail", error.description or "The message cannot be read now.") from error
    if ref is None:
        raise SetError("notFound", "The Email is gone.")
    path: Path = ref.path
    return write.Part("message/rfc822", content=write.Blob(ref.size, lambda: path.open("rb")))


def _header(mdn: report.Mdn, sender: IdentityRow, address: str, recipients: list[str]) -> list[bytes]:
    """The header fields. Raises SetError for what no field can be made of."""
    domain = address.rpartition("@")[2]
    answered = [mdn["originalMessageId"]] if mdn["originalMessageId"] else []
    automatic = mdn["disposition"]["sendingMode"] == "mdn-sent-automatically"
    try:
        return [
            write_headers.addresses("From", [{"name": sender.name or None, "email": address}]),
            write_headers.addresses("To", [{"name": None, "email": each} for each in recipients]),
            write_headers.text("Subject", mdn["subject"]),
            write_headers.date("Date", datetime.now(UTC)),
            write_headers.message_ids("Message-ID", [f"{uuid.uuid4()}@{domain if domain.isascii() else 'localhost'}"]),
            *(write_headers.message_ids(name, answered) for name in ("In-Reply-To", "References") if answered),
            *([b"Auto-Submitted: auto-replied\r\n"] if automatic else []),
            b"MIME-Version: 1.0\r\n",
        ]
    except Unwritable as error:
        raise SetError("invalidProperties", str(error), ["subject"]) from error


def _row(
    service: SubmissionService, sender: IdentityRow, email: Mapping[str, Any], recipients: list[str]
) -> Submission:
    now = int(service.outbox.clock())
    # RFC 8098 §3: the envelope's sender is null, so that nothing is ever sent in answer.
    envelope = Envelope(Address(""), tuple(Address(each) for each in recipients))
    return Submission(
        id=random_id("s"),
        identity_id=sender.id,
        email_id=email["id"],
        thread_id=email["threadId"],
        envelope=envelope,
        created_at=now,
        send_at=now,
        undo_status="pending",
        delivery=outcomes.queued(recipients),
        phase="queued",
        record="new",
        due_at=now,
        attempts=0,
        settled_at=0,
        version=0,
    )


# --- sending -------------------------------------------------------------------------------------------------------


def _hand_over(call: Call, service: SubmissionService, draft: Draft) -> None:
    """Queue it, and wait for the mail server as long as a submission does. Raises SetError where all was refused."""
    _queue(service, draft)
    attempt = service.outbox.start(draft.row.id)
    wait([attempt], PATIENCE)
    row = sql.find(call.account.store, draft.row.id)
    if row is None:
        return
    error = _refusal(service, row, attempt.value if attempt.ready() else None)
    if error is not None:
        service.outbox.withdraw(row.id)
        raise error
    # Nobody sees it as an EmailSubmission; what is still to be sent is sent all the same.
    service.outbox.destroy(row)


def _queue(service: SubmissionService, draft: Draft) -> None:
    def into(file: BinaryIO) -> object:
        return write.write(file, draft.header, report.compose(draft.mdn, draft.original))

    content = draft.original.content if draft.original is not None else ""
    large = isinstance(content, write.Blob) and content.size > INLINE
    try:
        service.outbox.add(
            draft.row, (lambda file: gevent.get_hub().threadpool.apply(into, (file,))) if large else into
        )
    except Unwritable as error:
        raise SetError("invalidProperties", str(error), ["extensionFields"]) from error
    except FileNotFoundError as error:
        raise SetError("serverFail", "The message cannot be read now.") from error


def _refusal(service: SubmissionService, row: Submission, came: Any) -> SetError | None:
    """RFC 9007 §2.1's errors for what the mail server said to everybody."""
    if isinstance(came, Delivery) and row.phase == "done":
        if all(status.delivered == "no" for status in row.delivery.values()):
            size = service.features.size if service.features is not None else 0
            refused = outcomes.refusal(row.delivery, came.stage, size)
            return refused if refused.type == "tooLarge" else SetError("forbidden", refused.description)
    elif isinstance(came, AuthenticationError):
        return SetError("forbidden", "The mail server does not take the account's password for sending.")
    elif isinstance(came, UpstreamError) and not came.temporary:
        return SetError("forbidden", "The mail server for sending cannot be used as it is set up.")
    return None


def _update_emails(call: Call, updates: dict[str, dict[str, Any]]) -> None:
    """The implicit Email/set behind the answer."""
    if not updates:
        return
    place = len(call.extra)
    try:
        answer = ("Email/set", call.invoke("Email/set", {"update": updates}))
    except MethodError as error:
        answer = ("error", error.to_json())
    call.extra.insert(place, answer)
