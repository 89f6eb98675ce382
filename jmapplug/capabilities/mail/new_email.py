"""New Emails of our own: composed (Email/set create) or imported, appended, and seen at once (mail-rules 5, 34)."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from jmapplug.backends import Appended, Detail, Item, NewMessage
from jmapplug.capabilities.mail import email_patch, ids
from jmapplug.capabilities.mail.compose import compose
from jmapplug.capabilities.mail.keywords import is_visible
from jmapplug.capabilities.mail.link import Fetcher
from jmapplug.capabilities.mail.refusals import set_error
from jmapplug.capabilities.mail.store import sync as sql
from jmapplug.capabilities.mail.store import writing
from jmapplug.capabilities.mail.write_effects import grouped
from jmapplug.capabilities.mail.write_plan import Plan
from jmapplug.capabilities.mail.write_session import WriteSession
from jmapplug.errors import SetError, UpstreamError
from jmapplug.jmap import sets
from jmapplug.jmap.checks import is_utc_date
from jmapplug.jmap.methods import Call
from jmapplug.jmap.sets import Outcome
from jmapplug.mime.dates import timestamp


@dataclass(frozen=True, slots=True)
class Draft:
    """A message that is to become an Email: a file with CRLF line ends, where it goes and what it bears.

    ``ours``: the file was made for this and may be kept as the Email's blob.
    """

    path: Path
    size: int
    mailbox_ids: frozenset[str]
    keywords: frozenset[str]
    received_at: int | None
    ours: bool = True


@dataclass(slots=True)
class _Placed:
    """A draft on its way: its folders (the first one gets the APPEND), what is kept here of its keywords."""

    key: str
    draft: Draft
    mids: list[int]
    local: set[str]
    uid: int = 0
    eid: int = 0


def place_of(call: Call, record: Mapping[str, Any]) -> tuple[frozenset[str], frozenset[str], int | None]:
    """mailboxIds, keywords and receivedAt of a create or import. Raises SetError invalidProperties."""
    if not record.get("mailboxIds"):
        raise SetError("invalidProperties", "An Email must be in a Mailbox (RFC 8621 §4.1.1)", ["mailboxIds"])
    mailbox_ids = email_patch.mailbox_set(record["mailboxIds"], partial(sets.resolved, call))
    keywords = email_patch.keyword_set(record.get("keywords"))
    received = record.get("receivedAt")
    if received is not None and not is_utc_date(received):
        raise SetError("invalidProperties", "receivedAt must be a UTCDate", ["receivedAt"])
    # What lies before 1970 comes back from Dovecot as a day of this century: its clock has no sign.
    at = None if received is None else timestamp(received)
    return mailbox_ids, keywords, None if at is None else max(at, 0)


def compose_all(call: Call, records: Mapping[str, dict[str, Any]], outcome: Outcome) -> dict[str, Draft]:
    """Write the messages of a /set's creates into files; what is wrong with one goes to ``outcome``."""
    drafts: dict[str, Draft] = {}
    for key, record in records.items():
        try:
            place = place_of(call, record)
            made = compose(call, record)
            drafts[key] = Draft(made.path, made.size, *place)
        except SetError as error:
            outcome.not_created[key] = error
        except BaseException:
            for draft in drafts.values():
                draft.path.unlink(missing_ok=True)
            raise
    return drafts


def create(session: WriteSession, drafts: Mapping[str, Draft], outcome: Outcome) -> None:
    """Append the drafts, make their Emails, tell what became of each in ``outcome``."""
    if not drafts:
        return
    placed: list[_Placed] = []
    for key, draft in drafts.items():
        try:
            placed.append(_place(session, key, draft))
        except SetError as error:
            outcome.not_created[key] = error
    for mid, group in grouped((one.mids[0], one) for one in placed).items():
        _append(session, mid, group, outcome)
    _spread(session, [one for one in placed if one.eid and len(one.mids) > 1], outcome)
    _tell(session, [one for one in placed if one.eid and one.key not in outcome.not_created], outcome)


def _place(session: WriteSession, key: str, draft: Draft) -> _Placed:
    mids = session.goal(frozenset(), session.mailboxes(draft.mailbox_ids))
    session.check_rights(frozenset(), mids, draft.keywords, ())
    local = session.check_keywords(mids, draft.keywords)
    # What shows every message gets this one by itself.
    everything = session.labels.everything if session.labels is not None else None
    return _Placed(key, draft, sorted(mids, key=lambda mid: (mid == everything, mid)), local)


# --- APPEND ----------------------------------------------------------------------------------------------------------


def _append(session: WriteSession, mid: int, group: Sequence[_Placed], outcome: Outcome) -> None:
    """All drafts of one folder in one go."""
    now = int(time.time())
    messages = [
        NewMessage(
            one.draft.path,
            one.draft.size,
            session.upstream_flags(one.draft.keywords, mid),
            now if one.draft.received_at is None else one.draft.received_at,
        )
        for one in group
    ]
    try:
        answers = session.source.append(session.boxes[mid].key, messages)
    except UpstreamError as error:
        answers = [Appended(error=error)] * len(group)
    done = []
    for one, answer in zip(group, answers, strict=True):
        if answer.uid is None:
            outcome.not_created[one.key] = set_error(answer.error or UpstreamError("no answer", code="unsure"))
            session.unsure(answer.error)
        else:
            one.uid = answer.uid
            done.append(one)
    if done:
        _see(session, mid, done, answers, outcome)


def _see(session: WriteSession, mid: int, done: list[_Placed], answers: Sequence[Appended], outcome: Outcome) -> None:
    """Make Emails of messages that are upstream now."""
    validity = next(answer.uidvalidity for answer in answers if answer.uid is not None)
    if not session.is_folder(mid, validity):
        # The folder was made anew under its name: the next pass sees what is in it.
        for one in done:
            outcome.not_created[one.key] = set_error(UpstreamError("a folder was replaced", code="unsure"))
        session.unsure(None)
        return
    try:
        details = _details(session, mid, [one.uid for one in done])
        items = {uid: detail.item for uid, detail in details.items() if detail.item is not None}
        done = _without_doubles(session, mid, done, items, outcome)
        fetcher = Fetcher(session.store, session.source, session.folders, lambda count: None)
        fetcher.take_ours(session.boxes[mid], [details[one.uid] for one in done if one.uid in details])
    except UpstreamError as error:
        session.unsure(error)
    places = writing.emails_at(session.store, [(mid, one.uid) for one in done])
    for one in done:
        one.eid = places.get((mid, one.uid), 0)
        if not one.eid:
            outcome.not_created[one.key] = set_error(UpstreamError("the new message cannot be read", code="unsure"))
            session.unsure(None)


def _details(session: WriteSession, mid: int, uids: Sequence[int]) -> dict[int, Detail]:
    """All that is to be known of new messages, in one round trip. Raises UpstreamError."""
    key = session.boxes[mid].key
    found = {one.uid: one for batch in session.source.details(key, uids, with_items=True) for one in batch}
    bare = [uid for uid, one in found.items() if one.item is None]
    for item in session.source.items(key, bare) if bare else ():
        found[item.uid] = msgspec.structs.replace(found[item.uid], item=item)
    return found


def _without_doubles(
    session: WriteSession, mid: int, done: Sequence[_Placed], items: Mapping[int, Item], outcome: Outcome
) -> list[_Placed]:
    """mail-rules 5: what the server itself calls a message that is there already goes again (EMAILID, X-GM-MSGID)."""
    there = _there_already(session, [one for one in done if one.uid in items], items)
    kept = []
    for one in done:
        if one.uid not in there:
            kept.append(one)
            continue
        _unmake(session, mid, one.uid)
        text = "The mail server says that this message is there already."
        outcome.not_created[one.key] = SetError("alreadyExists", text, existingId=there[one.uid])
    return kept


def _there_already(session: WriteSession, new: Sequence[_Placed], items: Mapping[int, Item]) -> dict[int, str]:
    """UID of a new message → the id of the Email that the server calls the same one. Raises UpstreamError."""
    scheme = session.source.features.id_scheme
    if scheme not in ("emailid", "gmail"):
        return {}
    store = session.store
    salt, here = store.salt, sql.here(store.own)
    names = {one.uid: items[one.uid].server_id or "" for one in new}
    evidence = {
        one.uid: ids.server_evidence(salt, scheme, names[one.uid], one.draft.size, here)
        for one in new
        if names[one.uid]
    }
    known = sql.evidence(store.own, evidence.values())
    facts = writing.facts(store, [each.eid for group in known.values() for each in group])
    # Where folders are labels the new message is the old one, and leaving a folder is no message's end.
    alike = None if session.labels is not None else _alike(session, facts)
    found: dict[int, str] = {}
    for uid, hash_ in evidence.items():
        for each in known.get(hash_, ()):
            if each.eid in facts and (alike is None or (each.eid, names[uid]) in alike):
                found.setdefault(uid, facts[each.eid][0])
    return found


def _alike(session: WriteSession, eids: Iterable[int]) -> set[tuple[int, str | None]]:
    """(eid, the server's name for it) of those of these Emails that are upstream now. Raises UpstreamError.

    Another client may just have removed what we know of: to give the new copy up then would be to lose the message.
    """
    emails = writing.standing_of(session.store, eids).values()
    copies = [(copy.mid, (copy.uid, email.eid)) for email in emails for copy in email.copies]
    found = set()
    for mid, group in grouped(copies).items():
        owners = dict(group)
        items = session.source.items(session.boxes[mid].key, sorted(owners))
        found |= {(owners[item.uid], item.server_id) for item in items if is_visible(item.flags)}
    return found


def _unmake(session: WriteSession, mid: int, uid: int) -> None:
    """Take back an APPEND that made nothing new; never what had been there before."""
    if writing.emails_at(session.store, [(mid, uid)]):
        return
    if session.labels is not None and mid in session.labels.alone:
        # Removing it there would be for good, and it is the one message that there is.
        session.unsure(None)
        return
    session.source.remove(session.boxes[mid].key, session.boxes[mid].uidvalidity or 0, [uid])


# --- further Mailboxes, keywords that stay here, the answer ----------------------------------------------------------


def _spread(session: WriteSession, placed: Sequence[_Placed], outcome: Outcome) -> None:
    """COPY into the other Mailboxes; where that fails the record fails, and its message goes again."""
    if not placed:
        return
    standing = _standing(session, placed)
    plans: dict[str, Plan] = {}
    for one in placed:
        if one.eid in standing:
            copies = standing[one.eid].copies
            plans[one.key] = session.plan(one.eid, copies, (), (), frozenset(one.mids))
    failed = session.carry_out(list(plans.values()))
    lost = [one for one in placed if one.eid in failed]
    for one in lost:
        outcome.not_created[one.key] = failed[one.eid]
    if lost:
        again = _standing(session, lost)
        session.carry_out([session.plan_destroy(eid, email.copies) for eid, email in again.items()])


def _standing(session: WriteSession, placed: Sequence[_Placed]) -> dict[int, writing.Standing]:
    names = [ids.email_id(session.store.salt, one.eid) for one in placed]
    return {email.eid: email for email in writing.standing(session.store, names).values()}


def _tell(session: WriteSession, placed: Sequence[_Placed], outcome: Outcome) -> None:
    session.keep((one.eid, one.local) for one in placed if one.local)
    facts = writing.facts(session.store, [one.eid for one in placed])
    for one in placed:
        if one.eid not in facts:
            outcome.not_created[one.key] = set_error(UpstreamError("the new Email is not visible", code="unsure"))
            continue
        id_, thread_id, size = facts[one.eid]
        outcome.created[one.key] = {"id": id_, "blobId": f"m-{id_}", "threadId": thread_id, "size": size}
        there = {session.ids[mid] for mid in one.mids}
        if there != one.draft.mailbox_ids:
            outcome.created[one.key]["mailboxIds"] = dict.fromkeys(sorted(there), True)
        session.call.created_ids[one.key] = id_
        if one.draft.ours and size == one.draft.size:
            # What the server has is what we wrote: nobody needs to fetch it.
            session.store.blobs.keep(f"m-{id_}", one.draft.path)
