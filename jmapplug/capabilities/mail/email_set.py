"""Email/set (RFC 8621 §4.6): creates, updates, destroys, in that order (mail-rules 27-32).

What needs the network and changes nothing (composing) is done before the account's writes are locked; then everything
is read, checked, planned, done upstream in groups, and written down, before the next write begins.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from jmapplug.capabilities.mail import email_patch, new_email
from jmapplug.capabilities.mail.email_patch import Changes
from jmapplug.capabilities.mail.needed import ensure_needed
from jmapplug.capabilities.mail.store import writing
from jmapplug.capabilities.mail.store.writing import Standing, is_ghost
from jmapplug.capabilities.mail.write_plan import Plan
from jmapplug.capabilities.mail.write_session import WriteSession, catch_up
from jmapplug.jmap import sets
from jmapplug.jmap.errors import MethodError, SetError
from jmapplug.jmap.methods import Args, Call, Reply
from jmapplug.jmap.sets import Outcome, SetRequest

ROUNDS = 3
UPSTREAM = frozenset({"serverFail", "overQuota", "rateLimit"})
"""Why a creation fails that had nothing wrong about it."""
UNMADE = "Not destroyed, because a message of the same call could not be put on the mail server; try again."


class Wish(NamedTuple):
    """What a patch asks of an Email. ``asked``: the Mailboxes that it names, ``targets``: those that it will be in.

    ``repeated``: properties that never change, and the values that it must have.
    """

    add: frozenset[str]
    remove: frozenset[str]
    asked: frozenset[int] | None
    targets: frozenset[int] | None
    repeated: dict[str, Any]


Wishes = dict[tuple[bytes, frozenset[str], frozenset[int]], Wish]
"""By patch, keywords and Mailboxes: most patches of a call are one and the same, for Emails that stand alike."""


def email_set(call: Call, args: Args) -> Reply:
    """Email/set. Raises MethodError invalidArguments, requestTooLarge, stateMismatch, serverUnavailable."""
    request = sets.parse(call, args)
    store = call.account.store
    if request.if_in_state is not None:
        # mail-rules 29: the state to compare with is the one that upstream has now.
        catch_up(call.account)
        sets.check_state(request, store.state("Email"))
    outcome = Outcome()
    drafts = new_email.compose_all(call, request.create, outcome)
    try:
        ensure_needed(call.account)
        with WriteSession(call) as session:
            old_state = store.state("Email")
            sets.check_state(request, old_state)
            new_email.create(session, drafts, outcome)
            _change(session, request, outcome)
            new_state = store.state("Email")
    finally:
        for draft in drafts.values():
            draft.path.unlink(missing_ok=True)
    return outcome.reply(call.account_id, old_state, new_state)


def _change(session: WriteSession, request: SetRequest, outcome: Outcome) -> None:
    """Updates and destroys: planned together, carried out in one go."""
    call = session.call
    ids = [sets.resolved(call, key) for key in request.update]
    updates = dict(zip(ids, request.update.values(), strict=True))
    # By its id and by "#" and a creation id, or by two of these: one of the two would be lost without a word.
    named = Counter(ids)
    doomed = dict.fromkeys(sets.resolved(call, id_) for id_ in request.destroy)
    known = writing.standing(session.store, [*updates, *doomed]) if updates or doomed else {}
    plans: dict[str, Plan] = {}
    wanted: dict[str, frozenset[int]] = {}
    wishes: Wishes = {}
    for id_, given in updates.items():
        try:
            if id_ in doomed:
                raise SetError("willDestroy", "The same call destroys it.")
            if named[id_] > 1:
                raise SetError("invalidPatch", "Two patches of the same call are for it.")
            plans[id_] = _update(session, _standing(session, known, id_), given, wishes, wanted)
        except SetError as error:
            outcome.not_updated[id_] = error
    unmade = any(error.type in UPSTREAM for error in outcome.not_created.values())
    for id_ in doomed:
        try:
            if unmade:
                # A draft is replaced by a creation and a destruction in one call: without a new one the old one stays.
                raise SetError("serverFail", UNMADE)
            plans[id_] = _destroy(session, known, id_)
        except SetError as error:
            outcome.not_destroyed[id_] = error
    failed = session.carry_out(list(plans.values()))
    values = {id_: updates[id_]["keywords"] for id_ in plans.keys() - set(doomed) if "keywords" in updates[id_]}
    failed |= _insist(session, {id_: email_patch.keyword_set(value) for id_, value in values.items()}, failed)
    for id_, plan in plans.items():
        failure = failed.get(plan.eid)
        if failure is not None:
            (outcome.not_destroyed if id_ in doomed else outcome.not_updated)[id_] = failure
        elif id_ in doomed:
            outcome.destroyed.append(id_)
        else:
            outcome.updated[id_] = None
    for id_ in (id_ for id_ in wanted if id_ in outcome.updated):
        mids = session.places.get(plans[id_].eid, known[id_].mids)
        if mids and mids != wanted[id_]:
            # RFC 8620 §5.3: what the server changed beside what was asked for.
            outcome.updated[id_] = {"mailboxIds": {session.ids[mid]: True for mid in sorted(mids)}}


def _insist(
    session: WriteSession, values: Mapping[str, frozenset[str]], failed: Mapping[int, SetError]
) -> dict[int, SetError]:
    """Keywords by value: what another client set meanwhile came with the server's answer, and goes too (mail-rules 29).

    Three rounds at most: who writes last has the last word anyway. eid → why a record failed after all.
    """
    wrong: dict[int, SetError] = {}
    for _ in range(ROUNDS if values else 0):
        plans: list[Plan] = []
        for id_, email in writing.standing(session.store, list(values)).items():
            add, remove = values[id_] - email.keywords, email.keywords - values[id_]
            if (add or remove) and email.eid not in failed.keys() | wrong.keys():
                add, remove = session.keep_locally(email.eid, email.mids, email.keywords, add, remove)
                plans.append(session.plan(email.eid, email.copies, add, remove, None))
        if not plans:
            break
        wrong |= session.carry_out(plans)
    return wrong


def _standing(session: WriteSession, known: Mapping[str, Standing], id_: str) -> Standing:
    if id_ not in known and is_ghost(session.store, id_):
        raise SetError("serverFail", "The folders of the mail server are being read anew; try again.")
    if id_ not in known:
        raise SetError("notFound", "There is no such Email.")
    return known[id_]


def _update(
    session: WriteSession,
    email: Standing,
    given: Mapping[str, Any],
    wishes: Wishes,
    wanted: dict[str, frozenset[int]],
) -> Plan:
    """``wanted`` gets the Mailboxes that were asked for. Raises SetError."""
    key = (msgspec.json.encode(given), email.keywords, email.mids)
    wish = wishes.get(key)
    if wish is None:
        wish = wishes[key] = _wish(session, email, given)
    if wish.repeated:
        _check_repeated(session.call, email.id, wish.repeated)
    if wish.asked is not None:
        wanted[email.id] = wish.asked
    add, remove = session.keep_locally(email.eid, wish.targets or email.mids, email.keywords, wish.add, wish.remove)
    return session.plan(email.eid, email.copies, add, remove, wish.targets)


def _wish(session: WriteSession, email: Standing, given: Mapping[str, Any]) -> Wish:
    """What holds for every Email that stands like this one. Raises SetError."""
    here = frozenset(session.ids[mid] for mid in email.mids)
    changes = email_patch.read(given, email.keywords, here, lambda text: sets.resolved(session.call, text))
    asked = session.mailboxes(changes.mailbox_ids) if changes.mailbox_ids is not None else None
    if asked is not None and not asked:
        raise SetError("invalidProperties", "An Email must be in a Mailbox (RFC 8621 §4.1.1)", ["mailboxIds"])
    targets = session.goal(email.mids, asked) if asked is not None else None
    add, remove = _difference(changes, email.keywords)
    session.check_rights(email.mids, targets, add, remove)
    return Wish(add, remove, asked, targets, changes.repeated)


def _difference(changes: Changes, keywords: frozenset[str]) -> tuple[frozenset[str], frozenset[str]]:
    if changes.keywords is None:
        return frozenset(), frozenset()
    return changes.keywords - keywords, keywords - changes.keywords


def _check_repeated(call: Call, id_: str, repeated: Mapping[str, Any]) -> None:
    """RFC 8620 §5.3: a property that never changes may be named with the value that it has."""
    try:
        found = call.invoke("Email/get", {"ids": [id_], "properties": list(repeated), "fetchAllBodyValues": True})
    except MethodError:
        found = {"list": []}
    now = msgspec.json.decode(msgspec.json.encode(found["list"]))
    wrong = [name for name, value in repeated.items() if not now or name not in now[0] or now[0][name] != value]
    if wrong:
        raise SetError("invalidProperties", "These properties of an Email never change.", sorted(wrong))


def _destroy(session: WriteSession, known: Mapping[str, Standing], id_: str) -> Plan:
    email = _standing(session, known, id_)
    session.check_rights(email.mids, frozenset(), frozenset(), frozenset())
    return session.plan_destroy(email.eid, email.copies)
