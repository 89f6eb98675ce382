"""UID COPY and UID MOVE, and what they did: COPYUID, else (or after a cut) a look at both folders (RFC 4315, 6851)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from jmapplug.backends import Copied
from jmapplug.errors import UpstreamError
from jmapplug_imap import looking
from jmapplug_imap.access import Access
from jmapplug_imap.looking import UNSURE, Mark, Place
from jmapplug_imap.names import to_wire
from jmapplug_imap.protocol import sets
from jmapplug_imap.protocol.commands import Command, Mailbox
from jmapplug_imap.protocol.connection import Connection
from jmapplug_imap.protocol.dialogue import FEW, Result
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

    def move(self, key: bytes, validity: int, uids: Sequence[int], target: bytes) -> Copied:
        """See MailSource.move."""
        if not self._access.features.move:
            raise UpstreamError("the server has no MOVE", temporary=False)
        return self._run(MOVE, key, validity, uids, target)

    def _run(self, verb: str, key: bytes, validity: int, uids: Sequence[int], target: bytes) -> Copied:
        done: dict[int, int] = {}
        where: int | None = None
        for chunk in pieces(uids):
            job = _Transfer(self._access, verb, key, validity, chunk, target)
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
        self, access: Access, verb: str, key: bytes, validity: int, uids: Sequence[int], target: bytes
    ) -> None:
        self._access, self._verb, self._target = access, verb, target
        self._key, self._validity = key, validity
        self._left = list(uids)
        self._marks: dict[int, Mark] = {}
        self._there: frozenset[int] = frozenset()
        self._where: Place | None = None
        self.begun = False
        self.done: dict[int, int] = {}
        self.validity: int | None = None

    def work(self, connection: Connection) -> None:
        if self.begun and self.look(connection):
            return
        writing = self._verb == MOVE  # RFC 9051 §6.4.7: COPY leaves the source as it is

        def transfer(fresh: bool) -> bool:
            if self._left:  # an attempt that was refused may have moved some
                self._command(connection)
            return fresh

        fresh = self._access.inside(connection, self._key, self._validity, transfer, writing)
        if self._left and not fresh:
            # In a view that has been open for a while, messages that came since do not exist yet. (A look at the target
            # may have left another folder selected.)
            opened = self._access.write if writing else self._access.view
            if not opened(connection, self._key, self._validity):
                connection.noop()
            self._command(connection)

    def look(self, connection: Connection) -> bool:
        """See looking.Job: what is in the target now, and for MOVE what is gone from the source."""
        if self._where is None or not self._marks:
            return False
        # The target's UIDNEXT is known from before: with equal marks these are our copies.
        wanted = [uid for uid in sorted(self._marks) if uid not in self.done]
        marks = [self._marks[uid] for uid in wanted]
        found = looking.arrived(self._access, connection, self._target, self._where, marks)
        there = {uid: new for uid, new in zip(wanted, found, strict=True) if new is not None}
        still = self._still(connection, wanted) if self._verb == MOVE else frozenset(wanted) - there.keys()
        self._note({uid: new for uid, new in there.items() if uid not in still}, self._where.uidvalidity)
        if any(uid not in still and uid not in there for uid in wanted):
            raise UpstreamError("a message has left its folder and is not found in the other one", code=UNSURE)
        return not self._left

    def _still(self, connection: Connection, uids: Sequence[int]) -> frozenset[int]:
        if not self._access.view(connection, self._key, self._validity):
            connection.noop()
        return frozenset(row.uid for row in connection.fetch_all(uids, ["UID"]))

    def _command(self, connection: Connection) -> None:
        words = sets.compress(self._left)
        scheme = self._access.features.id_scheme
        questions: list[Command] = [
            looking.status(connection, self._target),
            ["UID FETCH", words, looking.mark_items(scheme)],
        ]
        self.begun, self._where, self._marks, self._there = False, None, {}, frozenset()
        last: Command = [self._verb, words, Mailbox(to_wire(connection, self._target))]
        try:
            result = connection.guarded(questions, last, self._learn, alike=len(self._left) > FEW)
        except CommandNo as error:
            if error.code is None and self._where is None:
                raise CommandNo(str(error), code="trycreate", temporary=False) from error
            # RFC 6851 §4.1: a MOVE that fails may have moved some of them.
            if self._verb == MOVE and self._marks:
                self.look(connection)
            self.begun = False
            raise
        told = copy_uid(result)
        if told is not None:
            self._note(told.uids, told.uidvalidity)
        unknown = [uid for uid in self._left if uid in self._marks]
        if unknown and told is None:
            self.look(connection)
            unknown = [uid for uid in self._left if uid in self._marks]
        if unknown:
            raise UpstreamError("the server has copied a message, but the copy cannot be found", code=UNSURE)
        self.begun = False
        # Never the same message twice: only what was not there at all is left.
        self._left = [uid for uid in self._left if uid not in self._there]

    def _learn(self, outcomes: list[Result | CommandError]) -> None:
        self._where = looking.place(outcomes[0])
        if isinstance(outcomes[1], Result):
            rows = outcomes[1].of(FetchRow)
            self._marks = {uid: mark for uid, mark in looking.marks(rows).items() if uid in self._left}
            self._there = frozenset(row.uid for row in rows)
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
