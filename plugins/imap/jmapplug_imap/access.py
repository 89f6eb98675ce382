"""What every part of the source works with: the pool, what the server can do, and opening a folder on a connection."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import gevent
from gevent.lock import BoundedSemaphore

from jmapplug.backends import Features
from jmapplug.errors import FolderError, UpstreamError
from jmapplug_imap.backoff import Backoff
from jmapplug_imap.names import to_wire
from jmapplug_imap.pool import Pool
from jmapplug_imap.protocol.commands import Command, Mailbox
from jmapplug_imap.protocol.connection import Connection
from jmapplug_imap.protocol.dialogue import Result
from jmapplug_imap.protocol.errors import CommandError, CommandNo, ConnectionBroken
from jmapplug_imap.protocol.refusals import SERVERBUG, THROTTLED, WAIT_CODES
from jmapplug_imap.protocol.responses import MailboxStatus, MyRights
from jmapplug_imap.protocol.selecting import Selected

log = logging.getLogger("jmapplug.imap")

T = TypeVar("T")
ALERTS = 5
"""So many of the server's last alerts are kept."""
OUTDATED = frozenset({"expungeissued", SERVERBUG})
"""What servers answer in a view of a folder that was expunged, or deleted and made again (Dovecot 2.3), elsewhere."""
SLICE = 0.004
"""Seconds of background work between two looks at what else there is to do."""


class FolderRefused(CommandNo, FolderError):
    """SELECT or EXAMINE was refused: the folder is gone, or not ours to read."""


class FolderReplaced(UpstreamError):
    """The folder has another UIDVALIDITY than at its last pass: the caller's UIDs mean nothing any more."""


class FolderReadOnly(CommandNo):
    """SELECT was answered READ-ONLY: nothing can be written here (mail-rules 24)."""


class Opened(NamedTuple):
    """A folder that is open. ``fresh``: not from before; ``answers``: to the questions that went along."""

    fresh: bool
    answers: list[Result | CommandError]


class _ProbeBroken(ConnectionBroken):
    """The connection was made and broke at the first questions."""


class Access:
    """State shared by the parts of one source."""

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self.pool = Pool(lambda: self._prepared(connect))
        self.validity: dict[bytes, int] = {}
        """UIDVALIDITY of each folder at its last pass."""
        self.capabilities: frozenset[str] = frozenset()
        """Those of the last connection, in upper case."""
        self.uses: dict[str, bytes] = {}
        """JMAP role → key of the folder of which the last listing stated it."""
        self.rights: dict[bytes, str] = {}
        """MYRIGHTS of each folder as the last listing knew them; none where the server keeps no ACL."""
        self.look_at = math.inf
        """time.monotonic() at which everything is to be looked at once more, though nothing is told."""
        self.unsettled_until = -math.inf
        """time.monotonic() until which no connection from before is believed what folders there are (ListingTrust)."""
        self.notify_after = 0.0
        """time.monotonic() before which NOTIFY is not tried: the server has refused it."""
        self.notify_breaks = 0
        """How many connections in a row broke soon after NOTIFY was set."""
        self.alerts: tuple[str, ...] = ()
        """What the server wanted a person to see (RFC 9051 §7.1 ALERT), each text once, the newest last."""
        self._refused: dict[bytes, Backoff] = {}
        """Folders that the server does not open for the moment."""
        self._features: Features | None = None
        self._asking = BoundedSemaphore()

    @property
    def features(self) -> Features:
        """Known from the first connection on; connects if there was none. Raises UpstreamError."""
        if self._features is None:
            self.pool.run(lambda connection: None, background=True)
        if self._features is None:
            raise UpstreamError("the server's capabilities are not known")
        return self._features

    @property
    def known(self) -> bool:
        return self._features is not None

    def has(self, name: str) -> bool:
        """Whether the server announced this capability to us; connects if there was no connection yet."""
        return self.features is not None and name in self.capabilities

    def number(self, name: str) -> int | None:
        """n of a capability ``NAME=n`` (RFC 7889); None where there is none."""
        values = [word.partition("=")[2] for word in self.capabilities if word.startswith(name + "=")]
        return min((int(value) for value in values if value.isdigit() and len(value) < 20), default=None)

    def run(
        self, work: Callable[[Connection], T], background: bool = False, retry: bool = True, key: bytes | None = None
    ) -> T:
        """See Pool.run. ``key``: the folder it is about; the connection that last saw it as it is now is best."""

        def fitness(connection: Connection) -> float:
            open_there = key is not None and connection.selected == to_wire(connection, key)
            return connection.viewed_at if open_there else 0.0

        return self.pool.run(work, background, retry, fitness)

    def read(self, connection: Connection, key: bytes) -> bool:
        """Have the folder selected for reading; whether this view of it is a fresh one.

        In a view that has been open for a while a message that came since does not exist yet: what is missing there
        must be asked for again after a NOOP. Raises FolderRefused, FolderReplaced.
        """
        known = self.validity.get(key)
        # A view from before the folder was replaced shows other messages under the UIDs of today.
        same = known is None or connection.uidvalidity in (None, known)
        if connection.selected == to_wire(connection, key) and same:
            return False
        # EXAMINE: reading must not take \Recent from a client that still cares.
        selected = self.select(connection, key, read_only=True)
        if known is not None and selected.uidvalidity != known:
            raise FolderReplaced("a folder was replaced upstream", code="uidvalidity")
        return True

    def view(self, connection: Connection, key: bytes, validity: int) -> bool:
        """Have the folder selected, in whatever way, with the UIDVALIDITY that the caller's UIDs belong to.

        Whether the view is a fresh one, as :meth:`read`. Raises FolderRefused, FolderReplaced.
        """
        return self.opened(connection, key, validity, writing=False).fresh

    def opened(
        self, connection: Connection, key: bytes, validity: int, *, writing: bool, questions: Sequence[Command] = ()
    ) -> Opened:
        """:meth:`view`, or the same for writing, and ``questions`` in the same write.

        They must do no harm in another folder, and no answer to them counts where this raises: FolderRefused,
        FolderReplaced, FolderReadOnly.
        """
        fresh = connection.selected != to_wire(connection, key) or connection.uidvalidity != validity
        fresh = fresh or (writing and connection.read_only)
        answers: list[Result | CommandError] = []
        if fresh:
            answers = self._select(connection, key, not writing, questions=questions)[1]
        elif questions:
            answers = connection.pipeline(questions, alike=True)
        self._check(connection, validity)
        if writing and connection.read_only:
            raise FolderReadOnly("the folder is read-only", code="noperm", temporary=False)
        return Opened(fresh, answers)

    def inside(
        self,
        connection: Connection,
        key: bytes,
        validity: int,
        work: Callable[[Opened], T],
        writing: bool = True,
        questions: Callable[[], Sequence[Command]] = tuple,
    ) -> T:
        """``work`` with the folder open as by :meth:`opened`.

        A refusal that only speaks of an outdated view is followed by another try in a new one; ``work`` must be safe to
        repeat after such a refusal. Raises as that one, and what ``work`` raises.
        """
        opened = self.opened(connection, key, validity, writing=writing, questions=questions())
        try:
            return work(opened)
        except CommandNo as error:
            if opened.fresh or error.code not in OUTDATED:
                raise
        connection.selected = None
        return work(self.opened(connection, key, validity, writing=writing, questions=questions()))

    def _check(self, connection: Connection, validity: int) -> None:
        # RFC 9051 §2.3.1.1: under another UIDVALIDITY these UIDs may be other messages.
        if connection.uidvalidity != validity:
            raise FolderReplaced("a folder was replaced upstream", code="uidvalidity")

    def unsettle(self, seconds: float) -> None:
        """Folders may be changing: until then each look is on a new connection, and so is one more after it."""
        self.unsettled_until = self.look_at = time.monotonic() + seconds

    def forget(self, key: bytes) -> None:
        """The folder has gone or has another name now."""
        self.validity.pop(key, None)
        self._refused.pop(key, None)

    def select(
        self, connection: Connection, key: bytes, *, read_only: bool, qresync: tuple[int, int] | None = None
    ) -> Selected:
        """SELECT or EXAMINE, with CONDSTORE where the server has it. Raises FolderRefused, CommandNo (throttled).

        A folder that is in use elsewhere, or not available, is left alone for a while: nobody asks for it again.
        """
        return self._select(connection, key, read_only, qresync)[0]

    def _select(
        self,
        connection: Connection,
        key: bytes,
        read_only: bool,
        qresync: tuple[int, int] | None = None,
        questions: Sequence[Command] = (),
    ) -> tuple[Selected, list[Result | CommandError]]:
        if (memory := self._refused.get(key)) is not None and (held := memory.error) is not None:
            raise _refusal(held, held.code)
        try:
            selected = connection.select_asking(
                to_wire(connection, key),
                questions,
                read_only=read_only,
                condstore=connection.has("CONDSTORE"),
                qresync=qresync,
                alike=bool(questions),
            )
        except CommandNo as error:
            if error.code == THROTTLED:  # says nothing of this folder, and the pool leaves the whole server alone
                raise
            if error.code in WAIT_CODES:
                self._refused.setdefault(key, Backoff()).failed(error)
            raise _refusal(error, error.code or self._why_refused(connection, key)) from error
        self._refused.pop(key, None)
        return selected

    def _why_refused(self, connection: Connection, key: bytes) -> str | None:
        """Cyrus gives no code (RFC 5530) where the right "r" is missing."""
        if not connection.has("ACL"):
            return None
        try:
            rows = connection.command("MYRIGHTS", Mailbox(to_wire(connection, key))).of(MyRights)
        except CommandError:
            return None
        return "noperm" if rows and "r" not in rows[-1].rights else None

    def _prepared(self, connect: Callable[[], Connection]) -> Connection:
        try:
            return self._learned(connect())
        except _ProbeBroken as error:
            if error.code in WAIT_CODES:
                raise
            # A server that let us in and then broke is not one that is away: once more is no storm.
            return self._learned(connect())

    def _learned(self, connection: Connection) -> Connection:
        """``connection``, the features known. Dovecot 2.3 may crash when two connections ask for STATUS of a fresh

        account at once (it takes two index locks in opposite order: EDEADLK): one asks, the others wait.
        """
        for text in connection.alerts:
            self._heed(text)
        connection.on_alert = self._heed
        try:
            with self._asking:
                self.capabilities = connection.capabilities
                if self._features is None:
                    self._features = features_of(connection)
        except BaseException as error:
            connection.close()
            if isinstance(error, ConnectionBroken):
                raise _ProbeBroken(str(error), code=error.code, temporary=error.temporary) from error
            raise
        return connection

    def _heed(self, text: str) -> None:
        if text not in self.alerts:
            log.warning("the mail server wants a person to know: %s", text)
        self.alerts = (*(each for each in self.alerts if each != text), text)[-ALERTS:]


def _refusal(error: UpstreamError, code: str | None) -> FolderRefused:
    refused = FolderRefused(str(error), code=code, temporary=error.temporary)
    refused.retry_after = error.retry_after
    return refused


def paced(rows: Iterable[T], background: bool = True) -> Iterator[T]:
    """``rows``; background work lets others run every SLICE. While octets keep coming, reading never waits by itself.

    ``gevent.sleep(0)`` would run only what is ready already, and not look at sockets and timers (measured: 12 ms late).
    """
    if not background:
        yield from rows
        return
    until = time.perf_counter() + SLICE
    for count, row in enumerate(rows):
        yield row
        if not count & 31 and time.perf_counter() > until:
            gevent.sleep(0.00001)
            until = time.perf_counter() + SLICE


def features_of(connection: Connection) -> Features:
    """What a server can do, from its capabilities and one probe."""
    has = connection.has
    return Features(
        id_scheme=_id_scheme(connection),
        condstore=has("CONDSTORE") or has("QRESYNC"),
        qresync="QRESYNC" in connection.enabled,
        idle=has("IDLE") or has("IMAP4REV2"),
        notify=has("NOTIFY"),
        previews=has("PREVIEW"),
        move=has("MOVE") or has("IMAP4REV2"),
        uidplus=has("UIDPLUS") or has("IMAP4REV2"),
        special_use=has("CREATE-SPECIAL-USE"),
        labels=has("X-GM-EXT-1"),
        stores_sent=has("X-GM-EXT-1"),
    )


def _id_scheme(connection: Connection) -> str:
    if connection.has("OBJECTID"):
        return "emailid"
    if connection.has("X-GM-EXT-1"):
        return "gmail"
    # Dovecot has message GUIDs and announces them nowhere: one question tells; BAD is the normal answer elsewhere.
    try:
        answer = connection.command("STATUS", Mailbox(b"INBOX"), ["X-GUID"])
    except CommandError:
        return ""
    return "x-guid" if any(row.items.get("X-GUID") for row in answer.of(MailboxStatus)) else ""
