"""UID COPY and UID MOVE, and what they did: COPYUID, else (or after a cut) a look at both folders (RFC 4315, 6851)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence

from jmapplug.backends import NO_IDS, Copied
from jmapplug.errors import UpstreamError
from jmapplug_imap import looking
from jmapplug_imap.access import Access, Opened
from jmapplug_imap.looking import UNSURE, Mark, Place
from jmapplug_imap.names import to_wire
from jmapplug_imap.protocol import sets
from jmapplug_imap.protocol.commands import Command, Mailbox
from jmapplug_imap.protocol.connection import Connection
from jmapplug_imap.protocol.dialogue import Result
from jmapplug_imap.protocol.errors import CommandError, CommandNo
from jmapplug_imap.protocol.fetch import FetchRow
from jmapplug_imap.protocol.uidplus import copy_uid

_log = logging.getLogger(__name__)
COPY, MOVE = "UID COPY", "UID MOVE"


class Transfer:
    """Copies and moves for one source."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def copy(self, key: bytes, validity: int, uids: Sequence[int], target: bytes) -> Copied:
        """See MailSource.copy."""
        return self._run(COPY, key, validity, uids, target)

    def move(
        self, key: bytes, validity: int, uids: Sequence[int], target: bytes, known: Mapping[int, str] = NO_IDS
    ) -> Copied:
        """See MailSource.move."""
        if not self._access.features.move:
            raise UpstreamError("the server has no MOVE", temporary=False)
        features = self._access.features
        # Without COPYUID, or where the message may be there already, more has to be known than what it is called.
        if features.labels or not (features.id_scheme and features.uidplus):
            known = NO_IDS
        return self._run(MOVE, key, validity, uids, target, known)

    def _run(
        self,
        verb: str,
        key: bytes,
        validity: int,
        uids: Sequence[int],
        target: bytes,
        known: Mapping[int, str] = NO_IDS,
    ) -> Copied:
        done: dict[int, int] = {}
        where: int | None = None
        for chunk in pieces(uids):
            job = _Transfer(self._access, verb, key, validity, chunk, target, known)
            try:
                looking.settle(self._access, job)
            except UpstreamError as error:
                if not done and not job.done:
                    raise
                # What was done must be told; the rest is as it was.
                _log.warning("%s stopped after %d of %d messages: %s", verb, len(done | job.done), len(uids), error)
                return Copied(done | job.done, job.validity or where)
            done |= job.done
            where = job.validity or where
        return Copied(done, where)


class _Transfer:
    """One set of at most 8,000 octets; see looking.Job. ``done``: UID in the source → UID in the target, so far."""

    def __init__(
        self,
        access: Access,
        verb: str,
        key: bytes,
        validity: int,
        uids: Sequence[int],
        target: bytes,
        known: Mapping[int, str],
    ) -> None:
        self._access, self._verb, self._target = access, verb, target
        self._known = known
        self._key, self._validity = key, validity
        self._left = list(uids)
        self._marks: dict[int, Mark] = {}
        self._there: frozenset[int] = frozenset()
        self._where: Place | None = None
        self._can_look = False
        self.begun = False
        self.done: dict[int, int] = {}
        self.validity: int | None = None

    def work(self, connection: Connection) -> None:
        if self.begun:
            looking.look_twice(self, connection)
            return
        writing = self._verb == MOVE  # RFC 9051 §6.4.7: COPY leaves the source as it is

        def transfer(opened: Opened) -> bool:
            if self._left:  # an attempt that was refused may have moved some
                self._command(connection, opened.answers)
            return opened.fresh

        def questions() -> list[Command]:
            return self._questions(connection)

        fresh = self._access.inside(connection, self._key, self._validity, transfer, writing, questions)
        if self._left and not fresh:
            # In a view that has been open for a while, messages that came since do not exist yet. (A look at the target
            # may have left another folder selected.)
            self._known = NO_IDS
            if not self._access.opened(connection, self._key, self._validity, writing=writing).fresh:
                connection.noop()
            self._command(connection, connection.pipeline(questions(), alike=True))

    def look(self, connection: Connection) -> bool:
        """See looking.Job: what is in the target now, and for MOVE what is gone from the source."""
        if not self._can_look:
            raise UpstreamError("the server does not tell what became of the messages", code=UNSURE)
        return self._look(connection, frozenset(self._marks))

    def _look(self, connection: Connection, there: frozenset[int]) -> bool:
        """``there``: messages that were in the source. Raises UpstreamError where one of them is nowhere."""
        wanted = [uid for uid in sorted(self._marks) if uid not in self.done]
        if self._where is None or not wanted:
            return not self._left
        # The target's UIDNEXT is known from before: with equal marks these are our copies.
        marks = [self._marks[uid] for uid in wanted]
        # The source first: what has left it by now is in the target, though the server may not be done yet.
        still = self._still(connection, wanted) if self._verb == MOVE else frozenset()
        found = looking.arrived(self._access, connection, self._target, self._where, marks, self.done.values())
        come = {uid: new for uid, new in zip(wanted, found, strict=True) if new is not None}
        self._note({uid: new for uid, new in come.items() if uid not in still}, self._where.uidvalidity)
        if self._verb == MOVE and any(uid in there and uid not in still and uid not in come for uid in wanted):
            raise UpstreamError("a message has left its folder and is not found in the other one", code=UNSURE)
        return not self._left

    def _still(self, connection: Connection, uids: Sequence[int]) -> frozenset[int]:
        if not self._access.view(connection, self._key, self._validity):
            connection.noop()
        return frozenset(row.uid for row in connection.fetch_all(uids, ["UID"]))

    def _questions(self, connection: Connection) -> list[Command]:
        """What has to be known before anything is done, so that it can be found again where the connection breaks."""
        asked = looking.status(connection, self._target)
        if all(uid in self._known for uid in self._left):
            return [asked]
        items = looking.mark_items(self._access.features.id_scheme)
        return [asked, ["UID FETCH", sets.compress(self._left), items]]

    def _command(self, connection: Connection, answers: Sequence[Result | CommandError]) -> None:
        self._learn(*answers)
        try:
            words = sets.compress(self._left)
            result = connection.command(self._verb, words, Mailbox(to_wire(connection, self._target)))
        except CommandNo as error:
            if error.code is None and self._where is None:
                raise CommandNo(str(error), code="trycreate", temporary=False) from error
            # RFC 6851 §4.1: a MOVE that fails may have moved some of them.
            if self._verb == MOVE and self._marks:
                self._look(connection, self._there)
            self.begun = False
            raise
        told = copy_uid(result)
        if told is not None:
            self._note(told.uids, told.uidvalidity)
        if self._left:  # RFC 4315 §3: it may be left out; and some servers do not name all
            self._look(connection, self._there)
        blind = told is None and self._where is None
        if any(uid in self._marks and (blind or uid in self._there) for uid in self._left):
            raise UpstreamError("the server has copied a message, but the copy cannot be found", code=UNSURE)
        self.begun = False
        # Never the same message twice: only what was not there at all is left.
        self._left = [uid for uid in self._left if uid not in self._there]

    def _learn(self, place: Result | CommandError, fetched: Result | CommandError | None = None) -> None:
        self._where = looking.place(place)
        self._marks, self._there = {}, frozenset()
        if fetched is None:
            self._marks = {uid: looking.Mark(self._known[uid]) for uid in self._left}
        elif isinstance(fetched, Result):
            # RFC 9051 §5.5: they may have come before the STATUS, and then they stand there.
            rows = [row for each in (place, fetched) if isinstance(each, Result) for row in each.of(FetchRow)]
            self._marks = {uid: mark for uid, mark in looking.marks(rows).items() if uid in self._left}
            self._there = frozenset(row.uid for row in rows)
        nameless = any(uid in self._there and uid not in self._marks for uid in self._left)
        self._can_look = self._where is not None and not isinstance(fetched, CommandError) and not nameless
        self.begun = True

    def _note(self, uids: dict[int, int], validity: int | None) -> None:
        wanted = frozenset(self._left)
        self.done |= {old: new for old, new in uids.items() if old in wanted}
        self._left = [uid for uid in self._left if uid not in uids]
        self.validity = validity


def pieces(uids: Sequence[int]) -> Iterator[list[int]]:
    """``uids``, ascending, cut so that each piece is a set of at most 8,000 octets (mail-rules 23)."""
    ordered = sorted(set(uids))
    for words in sets.chunks(ordered):
        yield sets.within(ordered, sets.parse(words.encode()))
