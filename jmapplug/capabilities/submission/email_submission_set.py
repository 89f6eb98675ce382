"""EmailSubmission/set (RFC 8621 §7.5): messages into the queue, taken back, and records removed.

All creations of a call are queued first and then sent, at most ``CONNECTIONS`` at a time; the call waits ten seconds
for all of them together. What is not answered by then goes on in the background.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import gevent
import msgspec

from jmapplug.backends import Delivery
from jmapplug.capabilities.submission import delivery as outcomes
from jmapplug.capabilities.submission import envelope as envelopes
from jmapplug.capabilities.submission import identity, sets_after
from jmapplug.capabilities.submission import store as sql
from jmapplug.capabilities.submission.email_submission import READ, TYPE
from jmapplug.capabilities.submission.service import SubmissionService, service_of
from jmapplug.capabilities.submission.store import Envelope, Submission
from jmapplug.errors import AuthenticationError, UpstreamError
from jmapplug.jmap import patch, sets
from jmapplug.jmap.checks import is_string
from jmapplug.jmap.errors import MethodError, SetError
from jmapplug.jmap.ids import random_id
from jmapplug.jmap.methods import Args, Call, Reply
from jmapplug.jmap.sets import Outcome, Record, resolved
from jmapplug.mime.strip import strip_fields
from jmapplug.waiting import wait

log = logging.getLogger(__name__)

PATIENCE = 10.0
"""Seconds that a call waits for the servers' answers (mail-rules 36)."""
MAX_PENDING = 1_000
"""Messages of an account that wait: their copies are on our disk (RFC 4865 §6 wants a limit)."""
INLINE = 256 * 1024
"""Octets that are copied in the worker's own thread; more of them would keep other requests waiting."""
WANTED = ("blobId", "threadId", *envelopes.HEADERS.values())


class Draft(NamedTuple):
    """A creation that is checked: as the client sent it, its row, and the message to copy."""

    record: Record
    row: Submission
    message: Path
    immediate: bool


def email_submission_set(call: Call, args: Args) -> Reply:
    """Raises MethodError invalidArguments, requestTooLarge, stateMismatch, accountNotSupportedByMethod."""
    service = service_of(call.account)
    request = sets.parse(call, args, sets_after.EXTRA_ARGS)
    store = call.account.store
    old_state = store.state(TYPE)
    sets.check_state(request, old_state)
    outcome = Outcome()
    emails = _create_all(call, service, request.create, outcome)
    doomed = {resolved(call, id_) for id_ in request.destroy}
    for key, changes in request.update.items():
        id_ = resolved(call, key)
        with _into(outcome.not_updated, id_):
            if id_ in doomed:
                raise SetError("willDestroy")
            outcome.updated[id_], emails[id_] = _update(service, id_, changes)
    for id_ in dict.fromkeys(resolved(call, each) for each in request.destroy):
        with _into(outcome.not_destroyed, id_):
            row = _visible(service, id_)
            service.outbox.destroy(row)
            outcome.destroyed.append(id_)
            emails[id_] = row.email_id
    reply = outcome.reply(call.account_id, old_state, store.state(TYPE))
    sets_after.run(call, request.extra, emails)
    return reply


@contextmanager
def _into(errors: dict[str, SetError], key: str) -> Iterator[None]:
    """Keeps a record's SetError where it belongs."""
    try:
        yield
    except SetError as error:
        errors[key] = error


# --- creating ------------------------------------------------------------------------------------------------------


def _create_all(
    call: Call, service: SubmissionService, create: Mapping[str, Record], outcome: Outcome
) -> dict[str, str]:
    """Fills ``outcome``; the Email of each creation that succeeded."""
    emails = _emails(call, create.values())
    waiting: dict[str, Draft] = {}
    try:
        for key, record in create.items():
            with _into(outcome.not_created, key):
                draft = _draft(call, service, record, emails)
                _queue(service, draft)
                waiting[key] = draft
    except BaseException:
        # The call fails as a whole: nothing of it is sent.
        for each in waiting.values():
            service.outbox.withdraw(each.row.id)
        raise
    return _send_all(call, service, waiting, outcome)


def _send_all(call: Call, service: SubmissionService, waiting: dict[str, Draft], outcome: Outcome) -> dict[str, str]:
    """Send what is to be sent now, wait a while, and answer each creation; the Email of each that succeeded."""
    done: dict[str, str] = {}
    try:
        attempts = {key: service.outbox.start(each.row.id) for key, each in waiting.items() if each.immediate}
        wait(attempts.values(), PATIENCE)
        for key in list(waiting):
            attempt = attempts.get(key)
            draft = waiting.pop(key)
            with _into(outcome.not_created, key):
                row = _answered(service, draft, attempt.value if attempt is not None and attempt.ready() else None)
                outcome.created[key], done[key] = _created(row, draft.record), row.email_id
                call.created_ids[key] = row.id
    finally:
        # However this call ends: what is queued is there to be seen.
        for each in waiting.values():
            service.outbox.publish(each.row.id)
    return done


def _emails(call: Call, records: Iterable[Record]) -> dict[str, Record]:
    """The Emails that these creations name, by id."""
    named = (resolved(call, each["emailId"]) for each in records if isinstance(each.get("emailId"), str))
    ids = list(dict.fromkeys(named))
    if not ids:
        return {}
    reply = call.invoke("Email/get", {"ids": ids, "properties": list(WANTED)})
    # Values may be JSON that is encoded already.
    found: list[Record] = msgspec.json.decode(msgspec.json.encode(reply["list"]))
    return {email["id"]: email for email in found}


def _draft(call: Call, service: SubmissionService, record: Record, emails: Mapping[str, Record]) -> Draft:
    """A creation, checked as far as it can be without the mail server. Raises SetError."""
    if sql.pending(call.account.store) >= MAX_PENDING:
        raise SetError("overQuota", f"At most {MAX_PENDING} messages wait to be sent.")
    unknown = sorted(record.keys() - {"identityId", "emailId", "envelope"})
    if unknown:
        raise SetError("invalidProperties", "These are unknown, or set by the server.", unknown)
    missing = [name for name in ("identityId", "emailId") if not is_string(record.get(name))]
    if missing:
        raise SetError("invalidProperties", "These must be ids.", missing)
    sender = identity.find(call.account, resolved(call, record["identityId"]))
    email = emails.get(resolved(call, record["emailId"]))
    lost = [name for name, found in (("identityId", sender), ("emailId", email)) if found is None]
    if sender is None or email is None:
        raise SetError("invalidProperties", "There is no such Identity or Email.", lost)
    offered = None if service.features is None else frozenset(service.features.extensions)
    may = identity.may_send_from(call.account)
    asked = envelopes.given(record.get("envelope"), offered)
    envelope = envelopes.complete(asked, email, sender.email, may)
    envelopes.check_from(email, may)
    message = _message(call, email)
    now = int(service.outbox.clock())
    release = envelopes.hold_until(asked.mail_from, now)
    # Held by the mail server where it can; else by us, until then (RFC 4865).
    theirs = release is not None and service.features is not None and service.features.future_release >= release - now
    row = _row(envelope, sender.id, email, now, release or now, theirs)
    return Draft(record, row, message, row.due_at <= now)


def _row(envelope: Envelope, identity_id: str, email: Record, now: int, send_at: int, early: bool) -> Submission:
    return Submission(
        id=random_id("s"),
        identity_id=identity_id,
        email_id=email["id"],
        thread_id=email["threadId"],
        envelope=envelope,
        created_at=now,
        send_at=send_at,
        undo_status="pending",
        delivery=outcomes.queued(each.email for each in envelope.rcpt_to),
        phase="queued",
        record="new",
        due_at=now if early else send_at,
        attempts=0,
        settled_at=0,
        version=0,
    )


def _message(call: Call, email: Record) -> Path:
    """The file of the whole message. Raises SetError."""
    try:
        blob = call.account.blob(email["blobId"])
    except MethodError as error:
        raise SetError("serverFail", error.description or "The message cannot be read now.") from error
    if blob is None:
        raise SetError("invalidProperties", "The Email is gone.", ["emailId"])
    path: Path = blob.path
    return path


def _queue(service: SubmissionService, draft: Draft) -> None:
    """Copy the message, without its Bcc, and queue it. Raises SetError tooLarge."""
    try:
        size = draft.message.stat().st_size
        limit = service.features.size if service.features is not None else 0
        if limit and size > limit:
            raise SetError("tooLarge", "The mail server takes no message of this size.", maxSize=limit)
        copy = partial(strip_fields, draft.message, names=frozenset({"Bcc"}))
        service.outbox.add(draft.row, copy if size <= INLINE else _in_thread(copy))
    except OSError as error:
        log.error("a message cannot be queued: %s", error)
        raise SetError("serverFail", "The message cannot be copied into the queue now.") from error


def _in_thread(copy: Callable[[BinaryIO], object]) -> Callable[[BinaryIO], object]:
    return lambda file: gevent.get_hub().threadpool.apply(copy, (file,))


def _answered(service: SubmissionService, draft: Draft, came: Any) -> Submission:
    """The row that its creation is answered with. Raises SetError where the mail server refused all of it."""
    row = sql.find(service.account.store, draft.row.id)
    if row is None:
        raise SetError("serverFail", "The message is not in the queue any more.")
    error = _refusal(service, row, came)
    if error is not None:
        service.outbox.withdraw(row.id)
        raise error
    published = service.outbox.publish(row.id)
    assert published is not None
    return published


def _refusal(service: SubmissionService, row: Submission, came: Any) -> SetError | None:
    """mail-rules 36: what a person who waits can still mend."""
    if isinstance(came, Delivery) and row.phase == "done":
        if all(status.delivered == "no" for status in row.delivery.values()):
            size = service.features.size if service.features is not None else 0
            return outcomes.refusal(row.delivery, came.stage, size)
    elif isinstance(came, AuthenticationError):
        return SetError("forbiddenToSend", "The mail server does not take the account's password for sending.")
    elif isinstance(came, UpstreamError) and came.code == "parameter":
        # Not done: the server does not hold it, and we do.
        done = row.phase == "done"
        return envelopes.invalid("The mail server does not take a parameter of the envelope.") if done else None
    elif isinstance(came, UpstreamError) and not came.temporary and row.phase == "queued":
        return SetError("forbiddenToSend", "The mail server for sending cannot be used as it is set up.")
    return None


def _created(row: Submission, record: Record) -> Record:
    """What the client does not know yet."""
    shown = {name: read(row) for name, read in READ.items()}
    return {name: value for name, value in shown.items() if name not in record or record[name] != value}


# --- updating and destroying ---------------------------------------------------------------------------------------


def _visible(service: SubmissionService, id_: str) -> Submission:
    row = sql.visible(service.account.store, [id_]).get(id_)
    if row is None:
        raise SetError("notFound")
    return row


def _update(service: SubmissionService, id_: str, changes: Record) -> tuple[Record | None, str]:
    """What changed beside the patch, and the Email. Raises SetError."""
    row = _visible(service, id_)
    shown = {name: read(row) for name, read in READ.items()}
    wanted = patch.apply(shown, changes)
    changed = sorted(name for name in shown.keys() | wanted.keys() if shown.get(name) != wanted.get(name))
    if not changed:
        return None, row.email_id
    if changed != ["undoStatus"] or wanted.get("undoStatus") != "canceled":
        raise SetError("invalidProperties", "Only undoStatus can be changed, to canceled.", changed)
    canceled = service.outbox.cancel(id_)
    if canceled is None:
        raise SetError("cannotUnsend", "The message has been sent, or is being sent.")
    return {"deliveryStatus": READ["deliveryStatus"](canceled)}, row.email_id
