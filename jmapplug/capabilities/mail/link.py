"""Details in, Emails out: which Email a copy belongs to (mail-rules 2, 4), which thread it joins (8), the writing.

A batch goes: details (network) → facts (pure) → bindings and evidence (own, read) → bodies of the rare candidates
(network) → own.sqlite3 (one transaction) → cache (short transactions of some ``CHUNK`` Emails). Killed anywhere
between, the next run finds the bindings and makes the same Emails.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from jmapplug.backends import Detail, MailSource
from jmapplug.capabilities.mail import ids
from jmapplug.capabilities.mail.apply import Edit, Folders, load, look, settle, settling_folders
from jmapplug.capabilities.mail.details import Facts, facts_of
from jmapplug.capabilities.mail.digest import digest_of
from jmapplug.capabilities.mail.fetch import UNREADABLE
from jmapplug.capabilities.mail.ghosts import is_ghost_elsewhere, is_ghost_here
from jmapplug.capabilities.mail.keywords import keywords_of
from jmapplug.capabilities.mail.link_known import link_known
from jmapplug.capabilities.mail.plan import NewCopy, plan_items, slices
from jmapplug.capabilities.mail.store import mailboxes as boxes_sql
from jmapplug.capabilities.mail.store import sync as sql
from jmapplug.capabilities.mail.store import writing
from jmapplug.capabilities.mail.store.mailboxes import Row
from jmapplug.capabilities.mail.store.settle import buried
from jmapplug.capabilities.mail.store.sync import Bound, Pending
from jmapplug.capabilities.mail.structures import read_only
from jmapplug.capabilities.mail.threads import Threads
from jmapplug.capabilities.mail.writes import writes_of
from jmapplug.errors import UpstreamError
from jmapplug.mime.structure import parse
from jmapplug.store.account import Change, Store
from jmapplug.store.pace import breathe, in_company

log = logging.getLogger("jmapplug.mail")

CHUNK, CHUNK_LEAST, CHUNK_MOST = 100, 20, 200
"""How many Emails a cache transaction takes: at first, at least, at most; the time that the last one took decides."""
CHUNK_SECONDS, CHUNK_SECONDS_ALONE = 0.006, 0.016
"""How long a cache transaction should take: while requests come, and while nobody asks."""
BATCH = 200
"""How many copies are linked at once: one transaction of own.sqlite3."""
CANDIDATES = 8
"""How many messages of equal headers and size are compared with: a sender can make any number of them."""
FEW = 8
"""So many messages are done before anybody would have noticed that they wait."""


@dataclass(slots=True)
class Linked:
    """One copy and its Email. ``new``: the Email was never there before this batch."""

    facts: Facts
    email: Bound
    new: bool


@dataclass(frozen=True, slots=True)
class Ours:
    """Copies of messages that we have just appended: they become rows together with their Emails. UID → thread hash."""

    copies: list[NewCopy]
    thread_hashes: dict[int, int]


class Fetcher:
    """Makes Emails of pending copies."""

    def __init__(self, store: Store, source: MailSource, folders: Folders, settled: Callable[[int], None]) -> None:
        self.store = store
        self.source = source
        self._writes = writes_of(store)
        self.folders = folders
        self._settled = settled
        self._chunk = CHUNK
        self._tree_read = self._writes.tree_changes

    @property
    def folders(self) -> Folders:
        """What settling has to know: read anew when the Mailboxes are other ones; may be replaced at any time."""
        if self._tree != self._writes.tree_changes:
            self.folders = settling_folders(self.store, boxes_sql.rows(self.store))
        return self._folders

    @folders.setter
    def folders(self, folders: Folders) -> None:
        self._folders, self._tree = folders, self._writes.tree_changes

    def take_ours(self, box: Row, details: Sequence[Detail]) -> int:
        """Make copies and Emails of messages that we have just appended (``details`` with their items); how many.

        Each is an Email of its own, whatever it is like (mail-rules 5).
        """
        return sum(self._take_ours(box, part) for part in slices(details, BATCH))

    def _take_ours(self, box: Row, details: Sequence[Detail]) -> int:
        items = [one.item for one in details if one.item is not None]
        ours = Ours(plan_items(items, {}).new, ids.server_thread_hashes(self.store.salt, items))
        waiting = {
            copy.uid: Pending(copy.uid, copy.received_at, copy.server_id, ours.thread_hashes.get(copy.uid))
            for copy in ours.copies
        }
        return self._take(box, details, waiting, ours)

    def fetch(self, box: Row, uids: Sequence[int], *, background: bool = False) -> int:
        """Get the details of these copies and make their Emails; how many copies were settled.

        What is gone upstream stays pending: the next pass sees it vanish. So does all of a folder that a write of ours
        renames or destroys meanwhile, or that its owner stops sharing. Raises UpstreamError.
        """
        self._tree_read = self._writes.tree_changes
        try:
            return self._fetch(box, uids, background)
        except UpstreamError as error:
            if error.code != "noperm" and not self._is_elsewhere(box):
                raise
            return 0

    def _is_elsewhere(self, box: Row) -> bool:
        """Whether the folder has another name by now, or is gone."""
        settled = self._writes.tree_settled()
        if self._tree_read == settled:
            return False
        self._tree_read = settled
        return boxes_sql.key_of(self.store, box.mid) != box.key

    def _fetch(self, box: Row, uids: Sequence[int], background: bool) -> int:
        if boxes_sql.key_of(self.store, box.mid) != box.key:
            return 0
        known = link_known(self.store, self.folders, box, uids, self.source.features.id_scheme)
        if known:
            self._settled(len(known))
            uids = [uid for uid in uids if uid not in known]
        waiting = sql.pending_facts(self.store, box.mid, uids)
        done, buffer = len(known), []
        for batch in self.source.details(box.key, uids, background):
            if self._is_elsewhere(box):
                return done
            buffer += batch
            while len(buffer) >= BATCH:
                done += self._take(box, buffer[:BATCH], waiting)
                del buffer[:BATCH]
            breathe()
        return done + self._take(box, buffer, waiting)

    def _take(
        self, box: Row, details: Sequence[Detail], waiting: Mapping[int, Pending], ours: Ours | None = None
    ) -> int:
        pause = breathe if len(details) > FEW else lambda: None
        facts: list[Facts] = []
        for at, detail in enumerate(details, 1):
            known = waiting.get(detail.uid)
            # Another date than listed: not the message that was listed, the folder was made anew meanwhile.
            if known is not None and known.received_at == detail.received_at:
                one = self._facts(box, detail)
                facts += [one] if one is not None else []
            if at % 8 == 0:
                pause()
        if not facts:
            return 0
        linker = _Linker(self, box, waiting)
        # A write of ours may know better which Email a copy is, and numbers are given to one batch at a time.
        with writes_of(self.store).lock:
            linked = linker.link(facts, ours is not None)
            pause()
            linker.bind(linked)
        pause()
        done = start = 0
        while start < len(linked):
            chunk = linked[start : start + self._chunk]
            first, begun = start == 0, time.perf_counter()
            start += len(chunk)
            done += self.store.commit(
                lambda change, chunk=chunk, first=first: self._apply(  # type: ignore[misc]
                    change, box.mid, chunk, linker.threads if first else None, ours if first else None
                ),
                announce=False,
            )
            if ours is not None and first:
                self._writes.note(box.mid, [copy.uid for copy in ours.copies])
            if len(chunk) == self._chunk:
                self._adapt(time.perf_counter() - begun)
            self._settled(len(chunk))
            pause()
        return done

    def _adapt(self, seconds: float) -> None:
        """Transactions stay short on a slow disk and in a large store; requests are answered between them."""
        goal = CHUNK_SECONDS if in_company() else CHUNK_SECONDS_ALONE
        if seconds > goal:
            self._chunk = max(CHUNK_LEAST, self._chunk * 3 // 4)
        elif seconds < goal / 2:
            self._chunk = min(CHUNK_MOST, self._chunk * 5 // 4)

    def _facts(self, box: Row, detail: Detail) -> Facts | None:
        if detail.structure is not None:
            return facts_of(detail, self.store.salt)
        # Nobody could read the server's structure: ours, from the whole message (mail-rules 14, 38).
        path = self.store.blobs.temporary()
        try:
            self.source.raw(box.key, detail.uid, path)
            structure = parse(read_only(path))
        except KeyError:
            return None
        except UpstreamError as error:
            if error.code != UNREADABLE:
                raise
            # Wish 21: it waits for better days, and the others do not wait for it.
            log.warning("a message has neither a structure nor a text: %s", error)
            return None
        finally:
            path.unlink(missing_ok=True)
        return facts_of(msgspec.structs.replace(detail, structure=structure), self.store.salt, False)

    def _apply(
        self, change: Change, mid: int, chunk: Sequence[Linked], threads: Threads | None, ours: Ours | None
    ) -> int:
        if ours is not None:
            sql.insert_copies(change.txn, mid, ours.copies, ours.thread_hashes)
        if threads is not None:
            sql.learn(change, threads.learned, threads.replaced)
        waiting = sql.waiting(change.txn, mid, [one.facts.uid for one in chunk])
        there = [one for one in chunk if one.facts.uid in waiting]
        sql.assign(change.txn, mid, ((one.email.eid, one.facts.uid) for one in there))
        seen: dict[int, int] = {}
        for one in there:
            seen[one.email.eid] = seen.get(one.email.eid, 0) + 1
        fresh = {one.email.tid for one in there if one.new and one.email.tid == one.email.eid}
        place = frozenset((mid,))
        edits: list[Edit] = []
        slow: dict[int, Edit] = {}
        for one in there:
            edit = self._edit(one)
            if one.new and seen[one.email.eid] == 1:
                edit.mids, edit.keywords = place, keywords_of(waiting[one.facts.uid])
                edits.append(edit)
            else:
                slow.setdefault(one.email.eid, edit)
        if slow:
            live = {edit.eid: edit for edit in load(change.txn, list(slow), self.folders)}
            absent = {eid: edit for eid, edit in slow.items() if eid not in live}
            for eid in buried(change.txn, "email", list(absent)):
                absent[eid].revived = True
            look(change.txn, absent, self.folders)
            edits += [*live.values(), *absent.values()]
        settle(change, self.folders, edits, fresh)
        return len(there)

    def _edit(self, one: Linked) -> Edit:
        email = one.email
        name = ids.email_id(self.store.salt, email.eid)
        return Edit(
            email.eid, name, email.tid, email.received_at, email.size, one.facts.bits, columns=one.facts.columns
        )


class _Linker:
    """The decisions of one batch of one folder."""

    def __init__(self, fetcher: Fetcher, box: Row, waiting: Mapping[int, Pending]) -> None:
        self.store = fetcher.store
        self.source = fetcher.source
        self.box = box
        self.waiting = waiting
        self.scheme = fetcher.source.features.id_scheme
        self.threads = Threads({}, {})
        self._upstream = sql.here(self.store.own)
        self._new: list[Bound] = []
        self._evidence: list[tuple[int, int]] = []
        self._here: dict[int, list[tuple[Bound, int]]] = {}
        self._digests: dict[tuple[bytes, int], bytes | None] = {}
        transfers = writing.transfers(self.store)
        self._expected = {eid for one in transfers if one.target == box.mid for eid in one.eids.values()}

    def link(self, facts: Sequence[Facts], ours: bool) -> list[Linked]:
        own, box = self.store.own, self.box
        bound = sql.bindings(own, box.mid, box.uidvalidity or 0, [one.uid for one in facts])
        unbound = [one for one in facts if one.uid not in bound] if not ours else []
        servers = {one.uid: self._server(one) for one in facts}
        found = sql.evidence(own, {value for one in unbound if (value := servers[one.uid]) is not None})
        open_ = [one.content for one in unbound if servers[one.uid] not in found]
        candidates = sql.evidence(own, set(open_)) if open_ else {}
        self._read_threads(facts)
        self._next = sql.last_eid(own)
        by_server: dict[int, Bound] = {value: each[0] for value, each in found.items()}
        linked = []
        for one in facts:
            server = servers[one.uid]
            email = bound.get(one.uid)
            if email is None and not ours:
                email = by_server.get(server) if server is not None else None
            if email is None and not ours:
                email = self._same_content(one, server is not None, candidates.get(one.content, []))
            new = email is None
            email = email or self._make(one)
            if not new:
                self.threads.add(self._hashes(one), email.tid)
            if server is not None:
                by_server.setdefault(server, email)
                self._evidence.append((server, email.eid))
            self._evidence.append((one.content, email.eid))
            self._here.setdefault(one.content, []).append((email, one.uid))
            linked.append(Linked(one, email, new))
        return linked

    def bind(self, linked: Sequence[Linked]) -> None:
        """Own first: what is handed out must come again (mail-rules 39)."""
        copies = [(one.facts.uid, one.email.eid) for one in linked]
        sql.bind(self.store.own, self.box.mid, self.box.uidvalidity or 0, self._new, copies, self._evidence)

    def _server(self, one: Facts) -> int | None:
        known = self.waiting[one.uid].server_id
        if known is None or not self.scheme:
            return None
        return ids.server_evidence(self.store.salt, self.scheme, known, one.size, self._upstream)

    def _hashes(self, one: Facts) -> list[int]:
        server = self.waiting[one.uid].thread_hash
        return one.references if server is None else [server]

    def _read_threads(self, facts: Sequence[Facts]) -> None:
        hashes = {value for one in facts for value in self._hashes(one)}
        known = sql.threads_of(self.store, hashes)
        self.threads = Threads(known, sql.thread_sizes(self.store, set(known.values())))

    def _make(self, one: Facts) -> Bound:
        self._next += 1
        tid = self.threads.join(self._hashes(one), self._next)
        email = Bound(self._next, tid, one.received_at, one.size)
        self._new.append(email)
        return email

    # --- equal headers: the same message? --------------------------------------------------------------------------

    def _same_content(self, one: Facts, has_server_id: bool, stored: Sequence[Bound]) -> Bound | None:
        """A known Email that is this very message. Its Message-ID proves nothing: a sender chooses it."""
        if self.box.uidvalidity is None:
            return None
        ghost = self._ghost(one, stored[:CANDIDATES])
        if ghost is not None:
            # The folder's UIDs were made anew: same fields, size, second of arrival, and no other candidate.
            return ghost
        for email, uid in self._here.get(one.content, [])[:CANDIDATES]:
            if not has_server_id and self._equal(one.uid, (self.box.key, uid)):
                return email
        kind = ids.KINDS.get(self.scheme)
        for email in stored[:CANDIDATES]:
            if email.eid in self._expected:
                # A COPY or MOVE of ours, whose answer we did not live to see, explains it.
                return email
            # A server that names both messages, and differently, has spoken.
            if has_server_id and kind in sql.evidence_kinds(self.store.own, email.eid):
                continue
            copy = sql.a_copy(self.store, email.eid)
            if copy is not None and self._equal(one.uid, copy):
                return email
        return None

    def _ghost(self, one: Facts, candidates: Sequence[Bound]) -> Bound | None:
        linked = {email.eid for email, _ in self._here.get(one.content, [])}
        same = [email for email in candidates if email.received_at == one.received_at and email.eid not in linked]
        where = {email.eid: sql.places(self.store, email.eid) for email in same}
        for kind in (is_ghost_here, is_ghost_elsewhere):
            ghosts = [email for email in same if kind(where[email.eid], self.box)]
            if ghosts:
                return ghosts[0] if len(ghosts) == 1 else None
        return None

    def _equal(self, uid: int, other: tuple[bytes, int]) -> bool:
        mine = self._digest(self.box.key, uid)
        return mine is not None and mine == self._digest(*other)

    def _digest(self, key: bytes, uid: int) -> bytes | None:
        """Of the Received lines and the body; None where the message cannot be had."""
        place = (key, uid)
        if place not in self._digests:
            path = self.store.blobs.temporary()
            try:
                self.source.raw(key, uid, path)
                self._digests[place] = digest_of(path)
            except KeyError:
                self._digests[place] = None
            except UpstreamError as error:
                if error.code != UNREADABLE:
                    raise
                self._digests[place] = None
            finally:
                path.unlink(missing_ok=True)
        return self._digests[place]
