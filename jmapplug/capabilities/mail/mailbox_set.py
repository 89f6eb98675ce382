"""Mailbox/set (RFC 8621 §2.5, RFC 8620 §5.3), and the Mailbox that a role needs (mail-rules 25).

Records are done one by one, each wholly or not at all. One that the tree forbids as it is now waits (``mailbox_plan``:
*blocked*) for the others of the call; where two wait for each other's name or role, one is put aside meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple, cast

from jmapplug.backends import MailSource
from jmapplug.capabilities.mail.folders import RIGHTS_MASK, rights_json
from jmapplug.capabilities.mail.mailbox import PROPERTIES, properties_of
from jmapplug.capabilities.mail.mailbox_listing import read_listing
from jmapplug.capabilities.mail.mailbox_plan import (
    Blocked,
    Wanted,
    check_create,
    check_destroy,
    check_update,
    in_a_circle,
    invalid,
    read_create,
    read_update,
)
from jmapplug.capabilities.mail.mailbox_steps import Steps, clear_out, is_unsure
from jmapplug.capabilities.mail.refusals import set_error
from jmapplug.capabilities.mail.store import mailboxes as boxes_sql
from jmapplug.capabilities.mail.store.mailboxes import Row
from jmapplug.capabilities.mail.upstream import is_elsewhere
from jmapplug.capabilities.mail.writes import writes_of
from jmapplug.errors import SetError, UpstreamError
from jmapplug.jmap.checks import is_bool
from jmapplug.jmap.methods import Args, Call, Reply
from jmapplug.jmap.sets import Outcome, SetRequest, check_state, ordered, parse, resolved
from jmapplug.store.pace import breathe

log = logging.getLogger("jmapplug.capabilities.mail")

NAMES = {"trash": "Trash", "sent": "Sent", "drafts": "Drafts", "archive": "Archive", "junk": "Junk"}
"""What a Mailbox is called that is made because its role is needed."""
_NO_NAME = "The mail server does not take this name"


def mailbox_set(call: Call, args: Args) -> Reply:
    """Raises MethodError invalidArguments, requestTooLarge, stateMismatch; UpstreamError where nothing was begun."""
    request = parse(call, args, {"onDestroyRemoveEmails": is_bool})
    store = call.account.store
    writes = writes_of(store)
    with writes.lock, writes.tree:
        source = call.account.mail_source()
        if request.if_in_state is not None or not boxes_sql.rows(store) or is_elsewhere(store, source):
            # mail-rules 29: what others did to the folders counts too; and a new or lost cache knows none yet.
            read_listing(store, source)
        old_state = store.state("Mailbox")
        check_state(request, old_state)
        run = _Run(call, request)
        run.go()
    for row in run.emptied:
        clear_out(store, row.mid, row.uidvalidity)
    store.announce()
    return run.outcome().reply(call.account_id, old_state, store.state("Mailbox"))


def ensure_role(account: Any, role: str) -> Row:
    """The Mailbox with this role, made on first need (mail-rules 25). Raises SetError, UpstreamError.

    A Mailbox that has the name and no role is taken for it.
    """
    writes = writes_of(account.store)
    with writes.lock, writes.tree:
        found = next((row for row in boxes_sql.rows(account.store) if row.role == role), None)
        if found is not None:
            return found
        # Perhaps another client made one just now.
        read_listing(account.store, account.mail_source())
        steps = Steps(account.store, account.mail_source())
        found = steps.tree.with_role(role)
        if found is not None:
            return found
        name = NAMES[role]
        there = steps.tree.at(None, name)
        if there is not None:
            check_update(steps.tree, there, {"role": role}, None)
            steps.update(there, {"role": role}, None)
            return steps.tree.by_mid[there.mid]
        wanted = Wanted(name, None, role, None, True)
        mid = steps.create(None, wanted, "client")
        read_listing(account.store, account.mail_source())
        steps.look()
        account.store.announce()
        return steps.tree.by_mid[mid]


class _Op(NamedTuple):
    """One record of the call. ``key``: as the client gave it."""

    kind: str
    key: str
    record: dict[str, Any]


class _Run:
    """The records of one call, and what became of them."""

    def __init__(self, call: Call, request: SetRequest) -> None:
        self.call = call
        self.request = request
        self.store = call.account.store
        self.steps = Steps(self.store, cast(MailSource, _Lazy(call.account.mail_source)))
        self.emptied: list[Row] = []
        self._outcome = Outcome()
        self._created: dict[str, int] = {}
        self._updated: dict[str, tuple[int, dict[str, Any]]] = {}
        self._waiting: dict[_Key, Blocked] = {}
        self._roles: dict[int, tuple[str, str | None]] = {}
        self._references = [id_ for id_ in request.destroy if id_.startswith("#")]
        self._plain = {id_ for id_ in request.destroy if not id_.startswith("#")}
        self._moved = False

    # --- order -----------------------------------------------------------------------------------------------------

    def go(self) -> None:
        request = self.request
        pending = [
            *(_Op("create", key, request.create[key]) for key in ordered(request.create, _parent_reference)),
            *(_Op("update", key, patch) for key, patch in request.update.items()),
            *(_Op("destroy", id_, {}) for id_ in request.destroy),
        ]
        ways = 0
        while pending:
            self._waiting = {}
            left = [op for op in pending if not self._done(op)]
            if len(left) == len(pending):
                # Each record gives way once for its name and once for its role; more than that helps nobody.
                ways += 1
                if ways > 2 * len(left) or not self._make_way(left):
                    break
            pending = left
        for op in pending:
            self._refuse(op, self._waiting[op.kind, op.key].refusal)
        self._give_roles_back()
        if self._moved:
            self._look_again()

    def _done(self, op: _Op) -> bool:
        """Do it, or refuse it for good; False while it has to wait."""
        breathe()
        try:
            _DO[op.kind](self, op)
        except Blocked as blocked:
            self._waiting[op.kind, op.key] = blocked
            return False
        except SetError as error:
            self._refuse(op, error)
        except UpstreamError as error:
            self._failed(error)
            self._refuse(op, self._refusal(op, error))
        return True

    def _failed(self, error: UpstreamError) -> None:
        self._moved = True
        if is_unsure(error):
            # What follows in this call has to stand on what really happened.
            self._look_again()

    def _refuse(self, op: _Op, error: SetError) -> None:
        group = {
            "create": self._outcome.not_created,
            "update": self._outcome.not_updated,
            "destroy": self._outcome.not_destroyed,
        }
        group[op.kind][op.key if op.kind == "create" else resolved(self.call, op.key)] = error

    def _refusal(self, op: _Op, error: UpstreamError) -> SetError:
        """mail-rules 24; in the words of this type."""
        refusal = set_error(error)
        if op.kind == "create" and refusal.type in ("alreadyExists", "serverFail"):
            if not is_unsure(error):
                self._look_again()
            sibling = self._sibling(op)
            if sibling is not None or refusal.type == "serverFail":
                return sibling or refusal
        if refusal.type in ("alreadyExists", "invalidProperties"):
            if op.kind == "destroy":
                return SetError("forbidden", "The mail server does not let this Mailbox go")
            return invalid(_NO_NAME, "name")
        if refusal.type == "notFound" and op.kind == "create":
            return invalid("The parent Mailbox is not there any more", "parentId")
        return refusal

    def _sibling(self, op: _Op) -> SetError | None:
        """Somebody else made it, or we did and the answer was lost: name it (RFC 8620 §5.4 existingId)."""
        wanted = read_create(op.record)
        parent = self._known(wanted.parent or "")
        other = self.steps.tree.at(parent.mid if parent is not None else None, wanted.name)
        return other and SetError("alreadyExists", "A sibling has this name", existingId=other.id)

    # --- two that wait for each other ------------------------------------------------------------------------------

    def _make_way(self, left: list[_Op]) -> bool:
        """Put one of a circle aside: its name, or its role. False where no circle is."""
        ops = {row.mid: op for op in left if op.kind == "update" and (row := self._known(op.key)) is not None}
        blocked = {mid: self._waiting["update", op.key] for mid, op in ops.items()}
        waiting = {
            mid: one.by
            for mid, one in blocked.items()
            if one.by in ops and self._gives_up(ops[one.by], self.steps.tree.by_mid[one.by], one.wish is None)
        }
        mid = in_a_circle(waiting)
        if mid is None:
            return False
        last = mid
        while waiting[last] != mid:
            last = waiting[last]
        row = self.steps.tree.by_mid[mid]
        if blocked[last].wish is None:
            if mid in self._roles:
                return False
            self._roles[mid] = (str(row.role), self.steps.role_source(mid))
            self.steps.set_role(mid, None, "client")
            return True
        if mid in self.steps.tree.parked:
            return False
        self._moved = True
        try:
            self.steps.park(row, blocked[mid].wish or (row.parent, row.name))
        except UpstreamError as error:
            log.info("a folder could not be put aside: %s", error)
            self._failed(error)
            return False
        return True

    def _gives_up(self, op: _Op, row: Row, role: bool) -> bool:
        """Whether this update, once done, leaves its role or its place to another."""
        current = record_of(self.store, row)
        names = ("role",) if role else ("name", "parentId")
        return any(name in op.record and op.record[name] != current[name] for name in names)

    def _give_roles_back(self) -> None:
        """Who was put aside and could not be changed after all is as it was. (Of names the listing takes care.)"""
        done = {mid for mid, _ in self._updated.values()}
        for mid, (role, source) in self._roles.items():
            if mid not in done and mid in self.steps.tree.by_mid and self.steps.tree.with_role(role) is None:
                self.steps.set_role(mid, role, source)

    # --- records ---------------------------------------------------------------------------------------------------

    def _create(self, op: _Op) -> None:
        wanted = read_create(op.record)
        parent = self._parent(wanted.parent)
        check_create(self.steps.tree, wanted, parent)
        stated = "role" in op.record
        mid = self.steps.create(parent, wanted, "client" if stated else None)
        self._created[op.key] = mid
        self.call.created_ids[op.key] = self.steps.tree.by_mid[mid].id
        self._moved = True

    def _update(self, op: _Op) -> None:
        row = self._row(op.key)
        if row.id in self._doomed():
            raise SetError("willDestroy", "It is destroyed in the same call")
        current = record_of(self.store, row)
        patch = dict(op.record)
        if isinstance(patch.get("parentId"), str):
            parent = self._parent(patch["parentId"])
            patch["parentId"] = parent.id if parent is not None else None
        changes = read_update(current, patch)
        parent = self.steps.tree.by_id.get((current | changes)["parentId"] or "")
        check_update(self.steps.tree, row, changes, parent)
        if changes or row.mid in self.steps.tree.parked:
            self.steps.update(row, changes, parent)
            self._moved |= not changes.keys() <= {"sortOrder", "isSubscribed"}
        asked = {name: patch.get(name, value) for name, value in (current | changes).items()}
        self._updated[row.id] = (row.mid, asked)

    def _doomed(self) -> set[str]:
        return self._plain | {resolved(self.call, id_) for id_ in self._references}

    def _destroy(self, op: _Op) -> None:
        if resolved(self.call, op.key) in self._outcome.destroyed:
            return
        row = self._row(op.key)
        check_destroy(self.steps.tree, row)
        if not self.request.extra.get("onDestroyRemoveEmails") and self.steps.holds_mail(row):
            raise SetError("mailboxHasEmail", "There are still Emails in it")
        self.steps.delete(row)
        self.emptied.append(row)
        self._outcome.destroyed.append(row.id)

    def _parent(self, reference: str | None) -> Row | None:
        if reference is None:
            return None
        return self._named(reference, invalid("There is no such Mailbox", "parentId"))

    def _row(self, reference: str) -> Row:
        return self._named(reference, SetError("notFound", "There is no such Mailbox"))

    def _named(self, reference: str, missing: SetError) -> Row:
        self._wait_for(reference, missing)
        row = self._known(reference)
        if row is None:
            raise missing
        return row

    def _wait_for(self, reference: str, missing: SetError) -> None:
        """RFC 8620 §5.3: what this call creates under a creation id is meant, not what an earlier one did."""
        key = reference[1:]
        if reference.startswith("#") and key in self.request.create:
            if key in self._outcome.not_created:
                raise missing
            if key not in self._created:
                raise Blocked(missing)

    def _known(self, reference: str) -> Row | None:
        return self.steps.tree.by_id.get(resolved(self.call, reference))

    # --- the answer ------------------------------------------------------------------------------------------------

    def _look_again(self) -> None:
        """What the server makes of it: ids, rights, names. So the next pass finds nothing to change (mail-rules 12)."""
        try:
            read_listing(self.store, self.call.account.mail_source())
        except UpstreamError:
            # What was done is noted; the next pass looks.
            return
        self.steps.look()

    def outcome(self) -> Outcome:
        rows = {row.mid: row for row in boxes_sql.rows(self.store)}
        outcome = self._outcome
        for key, mid in self._created.items():
            if mid in rows:
                record = record_of(self.store, rows[mid])
                given = self.request.create[key]
                outcome.created[key] = {
                    name: record[name] for name in PROPERTIES if name not in given or given[name] != record[name]
                }
            elif (id_ := self.call.created_ids.get(key)) is not None:
                outcome.created[key] = {"id": id_}
        for id_, (mid, asked) in self._updated.items():
            record = record_of(self.store, rows[mid]) if mid in rows else asked
            outcome.updated[id_] = {name: record[name] for name in asked if record[name] != asked[name]} or None
        return outcome


_Key = tuple[str, str]
_DO: dict[str, Callable[[_Run, _Op], None]] = {
    "create": _Run._create,
    "update": _Run._update,
    "destroy": _Run._destroy,
}


class _Lazy:
    """The source, opened by the first call that needs it: roles and orders are ours and need none."""

    def __init__(self, opened: Callable[[], MailSource]) -> None:
        self._opened = opened

    def __getattr__(self, name: str) -> Any:
        return getattr(self._opened(), name)


def _parent_reference(record: dict[str, Any]) -> list[str]:
    parent = record.get("parentId")
    return [parent[1:]] if isinstance(parent, str) and parent.startswith("#") else []


def record_of(store: Any, row: Row) -> dict[str, Any]:
    """The whole Mailbox as Mailbox/get answers it, in plain values."""
    return properties_of(row, store.salt) | {"myRights": rights_json(row.rights & RIGHTS_MASK)}
