"""Carrying plans out upstream, grouped: one command per (folder, operation) (design §6 "A write", mail-rules 27).

What the server answered is gathered as *effects*, for one local change afterwards (write_apply). A record that fails in
the middle is taken back: what was added to it goes again, and where that fails too, the effects say what is there now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Protocol, TypeVar

from jmapplug.backends import Copied, MailSource
from jmapplug.capabilities.mail.keywords import canonical, is_visible
from jmapplug.capabilities.mail.refusals import set_error
from jmapplug.capabilities.mail.store.mailboxes import Row
from jmapplug.capabilities.mail.store.writing import Place
from jmapplug.capabilities.mail.write_effects import Effects, NewCopy, grouped
from jmapplug.capabilities.mail.write_plan import Copy, Plan, Store, Transfer
from jmapplug.errors import SetError, UpstreamError

V = TypeVar("V")


class Journal(Protocol):
    """Where transfers are written down before they begin, so that a restart can finish them (mail-rules 28)."""

    def begin(self, source: int, target: int, eids: Mapping[int, int], removes: bool) -> int:
        """``eids``: UID → Email; ``removes``: they are to leave the source. The number of the entry."""

    def done(self, entry: int) -> None: ...


class Runner:
    """Carries plans out; :attr:`effects` says what came of it. ``boxes``: mid → Row.

    Asked where folders are labels only: ``server_ids`` of Emails, and what is ``known`` of a Mailbox's copies: UID →
    (flags, hidden).
    """

    def __init__(
        self,
        source: MailSource,
        boxes: Mapping[int, Row],
        journal: Journal,
        server_ids: Callable[[Iterable[int]], Mapping[int, str]] = lambda eids: {},
        known: Callable[[int, Sequence[int]], Mapping[int, tuple[str, bool]]] = lambda mid, uids: {},
    ) -> None:
        self.source = source
        self.server_ids = server_ids
        self.known = known
        self.boxes = boxes
        self.journal = journal
        self.effects = Effects()
        self._stored: dict[int, list[Store]] = {}
        self._copied: dict[int, list[Place]] = {}
        self._missing: dict[int, set[Place]] = {}
        self._entries: list[int] = []
        self._unsure = False

    def run(self, plans: Sequence[Plan]) -> Effects:
        """All of them. Never raises UpstreamError: what failed is in ``effects.errors``."""
        self._stores(plans)
        self._journal(plans)
        self._copies(plans)
        self._moves(plans)
        self._show(plans)
        self._reveal()
        self._confirm(plans)
        self._removes(plans)
        self._draw(plans)
        for plan in plans:
            if plan.eid in self.effects.errors:
                self._take_back(plan.eid)
        self._miss(plans)
        return self.effects

    def written(self) -> None:
        """The effects are in the store: the journal is not needed any more, but for what nobody knows the end of."""
        for entry in self._entries if not self._unsure else ():
            self.journal.done(entry)

    def _going(self, plans: Sequence[Plan]) -> list[Plan]:
        return [plan for plan in plans if plan.eid not in self.effects.errors]

    def _fail(self, eids: Iterable[int], error: SetError) -> None:
        for eid in eids:
            self.effects.errors.setdefault(eid, error)

    def _validity(self, mid: int) -> int:
        return self.effects.validity.get(mid) or self.boxes[mid].uidvalidity or 0

    def _lost(self, eid: int, copy: Copy) -> None:
        """The server has no such message any more; somebody else removed it, or moved it."""
        self.effects.gone[copy.mid, copy.uid] = eid
        self._missing.setdefault(eid, set()).add((copy.mid, copy.uid))

    def _miss(self, plans: Sequence[Plan]) -> None:
        """An Email whose copies are elsewhere stays in sight until a pass knows whether it is (mail-rules 19)."""
        for plan in plans:
            missing = self._missing.get(plan.eid, set())
            if missing and {(step.copy.mid, step.copy.uid) for step in plan.stores} <= missing:
                self._fail([plan.eid], SetError("notFound", "The message is gone from the mail server."))
            if plan.eid in self.effects.errors:
                self.effects.unknown.update(mid for mid, _ in missing)
                self._unsure |= bool(missing)
                for place in missing:
                    self.effects.gone.pop(place, None)

    def _asking(self, mids: Iterable[int], eids: Iterable[int], ask: Callable[[], V]) -> V | None:
        """What the server answers; None where it refused or broke off, which fails these Emails' records."""
        try:
            return ask()
        except UpstreamError as error:
            if error.code is None or error.code == "unsure":
                self.effects.unknown.update(mids)
                self._unsure = True
            self._fail(eids, set_error(error))
            return None

    # --- additive

    def _stores(self, plans: Sequence[Plan]) -> None:
        groups = grouped(
            ((step.copy.mid, step.add, step.remove), (plan.eid, step)) for plan in plans for step in plan.stores
        )
        for (mid, add, remove), steps in groups.items():
            uids = [step.copy.uid for _, step in steps]
            told = self._asking(
                [mid],
                [eid for eid, _ in steps],
                partial(self.source.store, self.boxes[mid].key, self._validity(mid), uids, add, remove),
            )
            for eid, step in steps if told is not None else ():
                self._told(eid, step, told)

    def _told(self, eid: int, step: Store, told: Mapping[int, tuple[str, ...]] | None) -> None:
        flags = (told or {}).get(step.copy.uid)
        if flags is None:
            self._lost(eid, step.copy)
            return
        for copy in (step.copy, *step.also):
            self.effects.flags[copy.mid, copy.uid] = canonical(flags)[0]
        self._stored.setdefault(eid, []).append(step)
        there = {flag.lower() for flag in flags}
        refused = [flag for flag in step.add if flag.lower() not in there]
        if refused:
            # Without "\*" in PERMANENTFLAGS a server drops what it does not keep, without a word.
            names = ", ".join(flag[:100] for flag in refused)
            text = f"The mail server does not keep these keywords in this folder: {names}"
            self._fail([eid], SetError("invalidProperties", text, ["keywords"]))
        elif any(flag.lower() in there for flag in step.remove):
            self._fail([eid], SetError("forbidden", "The mail server did not change the keywords of this message."))

    def _journal(self, plans: Sequence[Plan]) -> None:
        """Moves in two steps; and every transfer where only we could tell afterwards whose copy it is."""
        nameless = not self.source.features.id_scheme
        entries: list[tuple[tuple[int, int, bool], tuple[int, int]]] = []
        for plan in self._going(plans):
            if plan.paired:
                for copy in plan.removes:
                    entries += [((copy.mid, step.target, True), (copy.uid, plan.eid)) for step in plan.copies]
            elif nameless:
                for steps, removes in ((plan.copies, False), (plan.moves, True)):
                    entries += [((s.copy.mid, s.target, removes), (s.copy.uid, plan.eid)) for s in steps]
        for (source, target, removes), uids in grouped(entries).items():
            self._entries.append(self.journal.begin(source, target, dict(uids), removes))

    def _transfers(self, steps: Iterable[tuple[int, Transfer]], moving: bool) -> None:
        groups = grouped(((step.copy.mid, step.target), (eid, step)) for eid, step in steps)
        for (mid, target), members in groups.items():
            uids = [step.copy.uid for _, step in members]
            copied = self._asking(
                [mid, target],
                [eid for eid, _ in members],
                partial(self._transfer, mid, target, [step.copy for _, step in members], moving),
            )
            if copied is not None:
                if copied.uidvalidity is not None:
                    self.effects.validity[target] = copied.uidvalidity
                left = self._still(mid, [uid for uid in uids if uid not in copied.uids])
                for eid, step in members:
                    if step.copy.uid in left:
                        self._fail([eid], SetError("serverFail", "The mail server did this for some messages only."))
                    else:
                        self._transferred(eid, step, copied.uids.get(step.copy.uid), moving)

    def _transfer(self, mid: int, target: int, copies: Sequence[Copy], moving: bool) -> Copied:
        key, validity, to = self.boxes[mid].key, self._validity(mid), self.boxes[target].key
        uids = [copy.uid for copy in copies]
        if not moving:
            return self.source.copy(key, validity, uids, to)
        known = {copy.uid: copy.server_id for copy in copies if copy.server_id}
        return self.source.move(key, validity, uids, to, known)

    def _still(self, mid: int, uids: Sequence[int]) -> set[int]:
        """Those of ``uids`` that are there as before: a large COPY or MOVE may stop in the middle."""
        if not uids:
            return set()
        try:
            return {item.uid for item in self.source.items(self.boxes[mid].key, uids)}
        except UpstreamError:
            self.effects.unknown.add(mid)
            return set(uids)

    def _transferred(self, eid: int, step: Transfer, uid: int | None, moving: bool) -> None:
        copy = step.copy
        if uid is None:
            self._lost(eid, copy)
            self._fail([eid], SetError("notFound", "The message is gone from the mail server."))
            return
        flags = self.effects.flags.get((copy.mid, copy.uid), copy.flags)
        self.effects.new[step.target, uid] = NewCopy(step.target, uid, eid, (copy.mid, copy.uid), flags)
        if moving:
            self.effects.gone[copy.mid, copy.uid] = eid
        else:
            self._copied.setdefault(eid, []).append((step.target, uid))

    def _copies(self, plans: Sequence[Plan]) -> None:
        steps = [(plan.eid, step) for plan in self._going(plans) for step in plan.copies]
        self._transfers(steps, moving=False)

    # --- subtractive

    def _confirm(self, plans: Sequence[Plan]) -> None:
        """Nothing is removed before a copy that stays is confirmed: somebody else may just have removed that one."""
        new = grouped((copy.eid, place) for place, copy in self.effects.new.items())
        staying = {plan.eid: self._staying(plan, new.get(plan.eid, [])) for plan in self._going(plans)}
        open_ = {eid: places for eid, places in staying.items() if places and not any(map(self._is_confirmed, places))}
        found: set[Place] = set()
        for mid, group in grouped((mid, (eid, uid)) for eid, places in open_.items() for mid, uid in places).items():
            items = self._asking(
                [mid],
                [eid for eid, _ in group],
                partial(self.source.items, self.boxes[mid].key, sorted({uid for _, uid in group})),
            )
            found |= {(mid, item.uid) for item in items or () if is_visible(item.flags)}
        for eid, places in open_.items():
            if found.isdisjoint(places):
                self.effects.unknown.update(mid for mid, _ in places)
                self._fail([eid], SetError("serverFail", "Somebody else changed the Email meanwhile; try again."))

    def _staying(self, plan: Plan, new: Sequence[Place]) -> list[Place]:
        """The copies of which one must be there before others go; none where only the origins of ``new`` ones go."""
        origins = {self.effects.new[place].origin for place in new}
        if plan.keeps or self.source.features.labels or {(copy.mid, copy.uid) for copy in plan.removes} <= origins:
            return [(copy.mid, copy.uid) for copy in plan.keeps]
        return list(new)

    def _is_confirmed(self, place: Place) -> bool:
        flags = self.effects.flags.get(place)
        return flags is not None and is_visible(tuple(flags.split()))

    def _moves(self, plans: Sequence[Plan]) -> None:
        steps = [(plan.eid, step) for plan in self._going(plans) for step in plan.moves]
        self._transfers(steps, moving=True)

    def _removes(self, plans: Sequence[Plan]) -> None:
        groups = grouped((copy.mid, (plan.eid, copy)) for plan in self._going(plans) for copy in plan.removes)
        for mid, members in groups.items():
            uids = [copy.uid for _, copy in members]
            gone = self._asking(
                [mid],
                [eid for eid, _ in members],
                partial(self.source.remove, self.boxes[mid].key, self._validity(mid), uids),
            )
            there = set(gone or ())
            for eid, copy in members if gone is not None else ():
                if copy.uid in there:
                    self.effects.gone[copy.mid, copy.uid] = eid
                else:
                    self._fail([eid], SetError("serverFail", "The mail server did not remove the message."))

    # --- what follows by itself where folders are labels

    def _show(self, plans: Sequence[Plan]) -> None:
        """Find messages in the Mailbox that shows them all; nothing leaves its last other one unseen."""
        going = [(plan.shown.target, plan) for plan in self._going(plans) if plan.shown is not None]
        for mid, group in grouped(going).items():
            names = self.server_ids(plan.eid for plan in group)
            validity, found = self.boxes[mid].uidvalidity, dict[str, int]()
            try:
                if validity is not None:
                    found = self.source.located(self.boxes[mid].key, validity, list(names.values()))
            except UpstreamError as error:
                set_error(error)
            for plan in group:
                self._shown(plan, mid, found.get(names.get(plan.eid, "")))

    def _shown(self, plan: Plan, mid: int, uid: int | None) -> None:
        if uid is not None and plan.shown is not None:
            copy = plan.shown.copy
            flags = self.effects.flags.get((copy.mid, copy.uid), copy.flags)
            self.effects.new.setdefault((mid, uid), NewCopy(mid, uid, plan.eid, (copy.mid, copy.uid), flags))
            return
        self.effects.unknown.add(mid)
        if plan.removes and not (plan.keeps or plan.copies):
            self._fail([plan.eid], SetError("serverFail", "The mail server does not show the message; try again."))

    def _reveal(self) -> None:
        """A message may have been in its target already, ``\\Deleted`` there: no more, for it is to be seen there."""
        if not self.source.features.labels:
            return
        for mid, new in grouped(self.effects.new).items():
            uids = [uid for uid, (_, hidden) in self.known(mid, new).items() if hidden]
            if not uids:
                continue
            told = self._asking(
                [mid],
                [self.effects.new[mid, uid].eid for uid in uids],
                partial(self.source.store, self.boxes[mid].key, self._validity(mid), uids, (), ("\\Deleted",)),
            )
            for uid in uids:
                if uid not in (told or {}):
                    self._stays_hidden(mid, uid)

    def _stays_hidden(self, mid: int, uid: int) -> None:
        """Nothing came to be there, and nothing is to be taken back."""
        copy = self.effects.new.pop((mid, uid))
        if (mid, uid) in self._copied.get(copy.eid, ()):
            self._copied[copy.eid].remove((mid, uid))
        self.effects.unknown.add(mid)
        self._fail([copy.eid], SetError("serverFail", "Somebody else changed the Email meanwhile; try again."))

    def _draw(self, plans: Sequence[Plan]) -> None:
        """Copies that a move into Trash took along: they are asked for, and what is still there is looked after."""
        drawn = ((copy.mid, (plan.eid, copy)) for plan in self._going(plans) for copy in plan.drawn)
        for mid, members in grouped(drawn).items():
            left = self._still(mid, [copy.uid for _, copy in members])
            for eid, copy in members:
                if copy.uid in left:
                    self.effects.unknown.add(mid)
                else:
                    self.effects.gone[copy.mid, copy.uid] = eid

    # --- taking back

    def _take_back(self, eid: int) -> None:
        """Undo the additive steps of a record that failed; what cannot be undone stays in the effects."""
        for mid, uid in self._copied.get(eid, ()):
            try:
                self._uncopy(mid, uid)
            except UpstreamError as error:
                self._partly(eid, error)
        for step in self._stored.get(eid, ()):
            place = (step.copy.mid, step.copy.uid)
            if place in self.effects.gone:
                continue
            try:
                told = self.source.store(
                    self.boxes[step.copy.mid].key, self._validity(step.copy.mid), [step.copy.uid], step.remove, step.add
                )
                for copy in (step.copy, *step.also):
                    self.effects.flags[copy.mid, copy.uid] = canonical(told.get(step.copy.uid, ()))[0]
            except UpstreamError as error:
                self._partly(eid, error)

    def _uncopy(self, mid: int, uid: int) -> None:
        """Remove a copy again, once its origin is confirmed: a removal whose answer was lost may have taken that."""
        source, origin = self.effects.new[mid, uid].origin
        there = self.source.items(self.boxes[source].key, [origin])
        if not there or not is_visible(there[0].flags):
            self.effects.unknown.update((source, mid))
            raise UpstreamError("the origin of a copy is gone", code="unsure")
        self.source.remove(self.boxes[mid].key, self._validity(mid), [uid])
        del self.effects.new[mid, uid]

    def _partly(self, eid: int, error: UpstreamError) -> None:
        failed = self.effects.errors[eid]
        set_error(error)
        text = f"{failed.description or failed.type} Part of it was done and could not be taken back."
        self.effects.errors[eid] = SetError(failed.type, text, failed.properties)
