"""One write call's hold on an account's mail: the lock, the Mailboxes as they are, rights, keywords, carrying out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any

from jmapplug.backends import MailSource, Views
from jmapplug.capabilities.mail import write_apply
from jmapplug.capabilities.mail.apply import settling_folders
from jmapplug.capabilities.mail.fetch import unavailable
from jmapplug.capabilities.mail.folders import RIGHT_BITS
from jmapplug.capabilities.mail.keywords import FLAG_OF
from jmapplug.capabilities.mail.store import mailboxes as boxes_sql
from jmapplug.capabilities.mail.store import sync as sql
from jmapplug.capabilities.mail.store import writing
from jmapplug.capabilities.mail.store.mailboxes import Row
from jmapplug.capabilities.mail.upstream import mail_source
from jmapplug.capabilities.mail.write_effects import Effects
from jmapplug.capabilities.mail.write_labels import Labels, plan_label_destroy, plan_labels
from jmapplug.capabilities.mail.write_plan import Copy, Plan, flags_of, plan_destroy, plan_update
from jmapplug.capabilities.mail.write_run import Runner
from jmapplug.capabilities.mail.writes import writes_of
from jmapplug.errors import SetError, UpstreamError
from jmapplug.jmap.methods import Call
from jmapplug.store.account import Store

KEPT_LOCALLY = frozenset({"$forwarded", "$mdnsent", "$junk", "$notjunk"})
"""Keywords whose refusal must not fail a patch: the message just sent would stay in Drafts (mail-rules 33)."""
_BIT = {name: 1 << at for at, (name, _) in enumerate(RIGHT_BITS)}


def catch_up(account: Any) -> None:
    """One pass of the sync over what changed upstream. Raises MethodError serverUnavailable."""
    service = account.services.get("urn:ietf:params:jmap:mail")
    try:
        if service is not None:
            service.sync()
    except UpstreamError as error:
        raise unavailable(error) from error


class _Journal:
    def __init__(self, store: Store) -> None:
        self._store = store

    def begin(self, source: int, target: int, eids: Mapping[int, int], removes: bool) -> int:
        return writing.begin_transfer(self._store, source, target, eids, removes)

    def done(self, entry: int) -> None:
        writing.end_transfer(self._store, entry)


def labels_of(views: Views, rows: Sequence[Row]) -> Labels:
    """The special Mailboxes where folders are labels: by what the server says, whatever role a client gave."""
    mids = {row.key: row.mid for row in rows}
    everything, trash, junk = (mids.get(key or b"") for key in (views.everything, views.trash, views.junk))
    return Labels(everything, trash, frozenset(mid for mid in (trash, junk) if mid is not None))


def _kept(permanent_flags: str | None) -> frozenset[str] | None:
    """The flags that a folder keeps; None: all of them."""
    words = frozenset(("\\*" if permanent_flags is None else permanent_flags).split())
    return None if "\\*" in words else words


class WriteSession:
    """Use it in a ``with``: writes of one account wait for each other. At the end changes are told (push).

    ``boxes``: mid → Row of the live Mailboxes; ``ids``: mid → id; ``places``: where the Emails are (mids) that this
    write touched so far. Raises MethodError serverUnavailable.
    """

    def __init__(self, call: Call) -> None:
        self.call = call
        self.account = call.account
        self.store: Store = call.account.store
        self._writes = writes_of(self.store)
        self.places: dict[int, frozenset[int]] = {}
        self._unknown = False
        self._local: dict[int, tuple[set[str], frozenset[str]]] = {}

    def __enter__(self) -> WriteSession:
        self._writes.lock.acquire()
        try:
            try:
                self.source: MailSource = mail_source(self.account)
                self.can_move = self.source.features.move
                self._views = self.source.views() if self.source.features.labels else None
                self.reload()
            except UpstreamError as error:
                raise unavailable(error) from error
        except BaseException:
            self._writes.lock.release()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._writes.lock.release()
        self.store.announce()
        if self._unknown and kind is None:
            # Something happened upstream that nobody could tell us of.
            try:
                catch_up(self.account)
            except Exception:
                pass

    def reload(self) -> None:
        """Read the Mailboxes again: a call may just have made one."""
        rows = boxes_sql.rows(self.store)
        self.boxes: dict[int, Row] = {row.mid: row for row in rows}
        self.ids = {row.mid: row.id for row in rows}
        self._by_id = {row.id: row.mid for row in rows}
        self._kept = {row.mid: _kept(row.permanent_flags) for row in rows}
        self.folders = settling_folders(self.store, rows)
        self.labels = None if self._views is None else labels_of(self._views, rows)

    # --- checks

    def mailboxes(self, ids: Collection[str]) -> frozenset[int]:
        """Mailbox ids → mids. Raises SetError invalidProperties for one that is not there."""
        missing = [id_ for id_ in ids if id_ not in self._by_id]
        if missing:
            text = f"There is no Mailbox {missing[0][:100]}."
            raise SetError("invalidProperties", text, ["mailboxIds"])
        return frozenset(self._by_id[id_] for id_ in ids)

    def _may(self, mid: int, right: str) -> bool:
        return bool(self.boxes[mid].rights & _BIT[right])

    def check_rights(
        self, here: frozenset[int], targets: frozenset[int] | None, add: Collection[str], remove: Collection[str]
    ) -> None:
        """RFC 8621 §2 myRights, mail-rules 24. Raises SetError forbidden."""
        after = here if targets is None else targets
        needs = [(mid, "may_add_items") for mid in after - here] + [(mid, "may_remove_items") for mid in here - after]
        changed = {*add, *remove}
        if "$seen" in changed:
            needs += [(mid, "may_set_seen") for mid in after]
        if changed - {"$seen"}:
            needs += [(mid, "may_set_keywords") for mid in after]
        for mid, right in needs:
            if not self._may(mid, right):
                name = dict(RIGHT_BITS)[right]
                raise SetError("forbidden", f"The Mailbox {self.boxes[mid].name[:100]} does not grant {name}.")

    # --- keywords that a folder does not keep (mail-rules 33)

    def refused(self, mid: int, keywords: Collection[str]) -> set[str]:
        """Those of ``keywords`` that PERMANENTFLAGS leaves out. System flags are always sent."""
        kept = self._kept[mid]
        if kept is None:
            return set()
        return {keyword for keyword in keywords if FLAG_OF.get(keyword, keyword).lower() not in kept}

    def check_keywords(self, mids: Collection[int], keywords: Collection[str]) -> set[str]:
        """What has to be kept here of ``keywords`` because a folder refuses it.

        Raises SetError invalidProperties that names those that may not be kept here.
        """
        refused = set().union(*(self.refused(mid, keywords) for mid in mids))
        bad = sorted(refused - KEPT_LOCALLY)
        if bad:
            names = ", ".join(keyword[:100] for keyword in bad)
            text = f"The mail server does not keep these keywords in this folder: {names}"
            raise SetError("invalidProperties", text, [f"keywords/{keyword[:200]}" for keyword in bad])
        return refused

    def keep_locally(
        self,
        eid: int,
        mids: Collection[int],
        has: frozenset[str],
        add: frozenset[str],
        remove: frozenset[str],
    ) -> tuple[frozenset[str], frozenset[str]]:
        """What of ``add`` and ``remove`` goes upstream; the rest is kept here, when all is done. Raises SetError."""
        local = self._writes.local_keywords(self.store).get(eid, frozenset())
        if not local and all(self._kept[mid] is None for mid in mids):
            return add, remove
        refused = self.check_keywords(mids, add)
        # What the Email bears already and the folder it goes to would drop without a word.
        dropped = set().union(*(self.refused(mid, has - remove) for mid in mids)) - local
        if refused or dropped or local & remove:
            self._local[eid] = (refused | dropped, local & remove)
        return add - refused, remove - local

    # --- planning

    def goal(self, here: frozenset[int], targets: frozenset[int]) -> frozenset[int]:
        """Where an Email will be that is to be in ``targets``: there, but where folders are labels."""
        return targets if self.labels is None else self.labels.goal(here, targets)

    def plan(
        self,
        eid: int,
        copies: Sequence[Copy],
        add: Collection[str],
        remove: Collection[str],
        targets: frozenset[int] | None,
    ) -> Plan:
        """``plan_update``; ``targets`` as :meth:`goal` gave them."""
        if self.labels is None:
            return plan_update(eid, copies, add, remove, targets, self.can_move)
        here = frozenset(copy.mid for copy in copies)
        return plan_labels(eid, copies, add, remove, here if targets is None else targets, self.labels)

    def plan_destroy(self, eid: int, copies: Sequence[Copy]) -> Plan:
        """``plan_destroy``. Raises SetError where there is no way to destroy it."""
        if self.labels is None:
            return plan_destroy(eid, copies)
        if self.labels.trash is None and not any(copy.mid in self.labels.alone for copy in copies):
            raise SetError("forbidden", "Messages are destroyed through Trash, and the mail server shows no Trash.")
        return plan_label_destroy(eid, copies, self.labels)

    # --- the carrying out

    def carry_out(self, plans: Sequence[Plan]) -> dict[int, SetError]:
        """Do it upstream, write it down; eid → why its record failed."""
        failed = self._carry_out(plans)
        more = {plan.eid: plan.then for plan in plans if plan.then is not None and plan.eid not in failed}
        if not more:
            return failed
        now = writing.standing_of(self.store, more)
        # Gone meanwhile, or not seen where it should be by now: then the next pass knows.
        lost = {eid: SetError("serverFail", "The message has left the mail server's Trash.") for eid in more}
        failed |= {eid: error for eid, error in lost.items() if eid not in now}
        rounds = [self._next(email, more[eid]) for eid, email in now.items()]
        return failed | self._carry_out(rounds)

    def _next(self, email: writing.Standing, goal: frozenset[int] | None) -> Plan:
        if goal:
            return self.plan(email.eid, email.copies, (), (), goal)
        return self.plan_destroy(email.eid, email.copies)

    def _carry_out(self, plans: Sequence[Plan]) -> dict[int, SetError]:
        if not plans:
            return {}
        runner = Runner(
            self.source,
            self.boxes,
            _Journal(self.store),
            lambda eids: writing.server_ids(self.store, eids),
            lambda mid, uids: sql.copies(self.store, mid, uids),
        )
        effects = runner.run([plan for plan in plans if not plan.empty])
        local, self._local = self._local, {}
        for eid, (add, remove) in local.items():
            if eid not in effects.errors:
                self._writes.change_local(self.store, eid, add, remove)
        self.write_down(effects, self._writes.take_changed())
        runner.written()
        return effects.errors

    def write_down(self, effects: Effects, also: Collection[int] = ()) -> None:
        """Make the store say what ``effects`` say."""
        self.places |= write_apply.apply(
            self.store,
            self.folders,
            self.boxes,
            effects,
            keep_hidden=not self.source.features.uidplus,
            also=also,
        )
        self._unknown |= bool(effects.unknown)
        if any(self.boxes[mid].uidvalidity != validity for mid, validity in effects.validity.items()):
            self.reload()

    def keep(self, keywords: Iterable[tuple[int, Collection[str]]]) -> None:
        """Keep these keywords of Emails (eid, keywords) here, because their folders refuse them."""
        for eid, names in keywords:
            self._writes.change_local(self.store, eid, names, ())
        changed = self._writes.take_changed()
        if changed:
            self.write_down(Effects(), changed)

    def is_folder(self, mid: int, validity: int | None) -> bool:
        """Whether UIDs of ``validity`` mean something in this Mailbox; one that was never read takes it as its own."""
        known = self.boxes[mid].uidvalidity
        if known is None and validity is not None:
            self.store.commit(lambda change: boxes_sql.set_validity(change.txn, mid, validity), announce=False)
            self.reload()
            return True
        return known == validity

    def unsure(self, error: UpstreamError | None) -> None:
        """Something may have happened upstream that we do not know: a pass looks when this call is done."""
        self._unknown |= error is None or error.code in (None, "unsure")

    def upstream_flags(self, keywords: Collection[str], mid: int) -> tuple[str, ...]:
        """Flags to append a message with: what the folder keeps."""
        return flags_of(set(keywords) - self.refused(mid, keywords))
