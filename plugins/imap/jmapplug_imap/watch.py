"""Waiting for changes on a connection of its own: NOTIFY of all folders (RFC 5465), else IDLE in one (RFC 2177).

NOTIFY is set with nothing selected: Dovecot tells of the *selected* mailbox only now and then (measured: of every
second change). It tells by STATUS and LIST, about half a second after the change; the first change brings the STATUS of
all folders. Flags are told by HIGHESTMODSEQ alone, so without CONDSTORE IDLE is the better one.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable
from typing import Any

import gevent

from jmapplug.errors import UpstreamError
from jmapplug_imap.access import Access
from jmapplug_imap.listing_trust import SETTLES
from jmapplug_imap.names import to_key
from jmapplug_imap.protocol import utf7
from jmapplug_imap.protocol.commands import Command, Part
from jmapplug_imap.protocol.connection import Connection
from jmapplug_imap.protocol.errors import CommandBad, CommandNo, ConnectionBroken
from jmapplug_imap.protocol.fetch import FetchRow
from jmapplug_imap.protocol.responses import (
    Exists,
    Expunge,
    Listed,
    MailboxStatus,
    Namespaces,
    Response,
    Status,
    Vanished,
)
from jmapplug_imap.tree import canonical

log = logging.getLogger("jmapplug.imap")

# RFC 5465 §8: event-group = "(" filter-mailboxes "(" event *(SP event) ")" ")".
EVENTS: Part = ["MessageNew", "MessageExpunge", "FlagChange", "MailboxName", "SubscriptionChange"]
SET: Command = ["NOTIFY", "SET", ["personal", EVENTS]]
AGAIN = 3600.0
"""Seconds after which a server that refused NOTIFY, or told too much by it, is asked for it again."""

SHORT, BREAKS = 60.0, 3
"""So many connections in a row that broke so few seconds after NOTIFY was set: IDLE may be what this server can do."""

ASK = 60.0
"""Seconds under NOTIFY after which the server is asked. Dovecot 2.3.19 falls silent for good when it rotates the log of
its list of folders (64 KB of changes; measured): NOOP tells what was missed. Another NOTIFY SET does not always help,
and then NOOP tells no more either (measured, two of five); another connection hears all. It lists first, and that may
be the wrong moment for those from before: see ListingTrust."""

BUSY = 2.0
"""Seconds after news in which what NOOP tells may be news as well, that NOTIFY was about to tell."""

OTHERS_AFTER = 0.5
"""Seconds after the end of a watch until the end of other connections, of the same cause, has arrived as well."""

_IDLE_NEWS: tuple[type[Any], ...] = (Exists, Expunge, FetchRow, Vanished)
_OVER = "NOTIFICATIONOVERFLOW"


class ImapWatch:
    """See backends.Watch. Connected from the start, so that no change after ``MailSource.watch`` is missed.

    ``how`` and ``complete`` are those of the last connection.
    """

    def __init__(self, access: Access, key: bytes) -> None:
        self.how = "idle"
        self.complete = False
        self.closed = False
        self._access = access
        self._key = key
        self._asked = self._opened = self._news_at = 0.0
        self._told: list[Response] = []
        """What came with the answer to NOTIFY SET."""
        self._connection: Connection | None = self._open()

    @property
    def connected(self) -> bool:
        return self._connection is not None

    def wait(self, timeout: float) -> frozenset[bytes] | None:
        """See Watch.wait. After an UpstreamError the next call connects again and answers at once: who knows what was
        missed.
        """
        deadline = time.monotonic() + timeout
        if not self.closed and (self._connection is None or self._connection.broken):
            return self._anew()
        while not self.closed and (left := min(deadline, self._access.look_at) - time.monotonic()) > 0:
            if (keys := self._heard(left)) is not None:
                return keys
        if self.closed or time.monotonic() < self._access.look_at:
            return None
        self._access.look_at = math.inf
        return frozenset()

    def close(self) -> None:
        """End the wait, of any greenlet, and the connection."""
        self.closed = True
        self._drop()

    def _heard(self, left: float) -> frozenset[bytes] | None:
        connection = self._connection
        if connection is None:
            return None
        try:
            return self._notified(connection, left) if self.how == "notify" else self._idled(connection, left)
        except ConnectionBroken as error:
            if self.closed:
                return None
            self._access.pool.broke(error)
            self._broke()
            raise
        except BaseException:
            self._drop()
            raise

    def _idled(self, connection: Connection, left: float) -> frozenset[bytes] | None:
        events = connection.idle(min(left, connection.timeouts.idle))
        return frozenset({self._key}) if any(isinstance(event, _IDLE_NEWS) for event in events) else None

    def _notified(self, connection: Connection, left: float) -> frozenset[bytes] | None:
        # RFC 9051 §5.4: however much it tells us, a server may log out a client that says nothing for 30 minutes.
        ask_at = self._asked + min(connection.timeouts.idle, ASK)
        heard, self._told = self._told, []
        heard += connection.listen(0.0 if heard else max(0.0, min(left, ask_at - time.monotonic())))
        if _folders(connection, heard):
            self._news_at = time.monotonic()
        if time.monotonic() >= ask_at:
            missed = connection.noop().untagged
            if _folders(connection, missed) and time.monotonic() - self._news_at > BUSY:
                self._access.unsettle(SETTLES)
                return self._anew()
            heard += missed
            self._asked = time.monotonic()
        if any(type(one) is Status and one.code is not None and one.code.name == _OVER for one in heard):
            # RFC 5465 §5.8: from here on the server tells nothing.
            log.info("NOTIFY tells too much for the mail server: IDLE it is")
            self._access.notify_after = time.monotonic() + AGAIN
            return self._anew()
        return _folders(connection, heard) or None

    def _anew(self) -> frozenset[bytes]:
        """Listen on another connection; all is to be looked at."""
        self._drop()
        self._connection = self._open()
        return frozenset()

    # --- connecting

    def _open(self) -> Connection:
        connection = self._access.pool.connect()
        try:
            if not self._notify(connection):
                if not self._access.features.idle:
                    raise UpstreamError("the mail server tells of no changes by itself", temporary=False)
                self.how, self.complete = "idle", False
                self._access.select(connection, self._key, read_only=True)
        except BaseException:
            connection.close()
            raise
        if self.closed:
            connection.close()
            raise UpstreamError("this watch is closed")
        self._asked = self._opened = time.monotonic()
        return connection

    def _notify(self, connection: Connection) -> bool:
        """Set NOTIFY where it is offered, tells of flags as well, and was not refused lately; whether it is set now."""
        if not may_notify(self._access, connection):
            return False
        # Dovecot 2.3.19 on an account whose folders were never listed: a RENAME is not told, and the next change ends
        # the connection (measured). Listed on this connection before, all of them are told.
        connection.command("LIST", '""', '"*"')
        try:
            self._told = connection.command(*SET).untagged
        except (CommandNo, CommandBad) as error:
            log.info("NOTIFY is refused (%s): IDLE it is", error.code or "no code")
            self._access.notify_after = time.monotonic() + AGAIN
            return False
        # What others share with us is not personal: it is looked at, as everything is beside IDLE.
        self.how, self.complete = "notify", not _shares(connection)
        return True

    def _broke(self) -> None:
        self._drop()
        gevent.spawn_later(OTHERS_AFTER, self._look_at_others)
        if self.how == "notify":
            access, now = self._access, time.monotonic()
            access.notify_breaks = access.notify_breaks + 1 if now - self._opened < SHORT else 0
            if access.notify_breaks >= BREAKS:
                log.info("NOTIFY breaks the connection: IDLE it is")
                access.notify_after, access.notify_breaks = now + AGAIN, 0

    def _look_at_others(self) -> None:
        """What ended this connection may have ended those that rest: nobody else looks at them until they are used."""
        for connection in self._access.pool.resting():
            if connection.hung_up:
                connection.abort()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()


def may_notify(access: Access, connection: Connection | None = None) -> bool:
    """Whether NOTIFY is worth a try. ``connection``: the one it is for; else as far as is known."""
    if time.monotonic() < access.notify_after:
        return False
    if connection is None:
        return access.features.notify and access.features.condstore
    # RFC 7162 §3.1: MODSEQ is told on connections that have enabled it.
    return connection.has("NOTIFY") and not connection.enabled.isdisjoint({"CONDSTORE", "QRESYNC"})


def _shares(connection: Connection) -> bool:
    if not connection.has("NAMESPACE"):
        return False
    spaces = connection.command("NAMESPACE").of(Namespaces)
    return any(space.others or space.shared for space in spaces)


def _folders(connection: Connection, heard: Iterable[Response]) -> frozenset[bytes]:
    """The keys of the folders that STATUS and LIST speak of."""
    names: set[bytes] = set()
    for one in heard:
        if isinstance(one, (MailboxStatus, Listed)):
            names.add(one.key)
        if isinstance(one, Listed) and one.old_key is not None:
            names.add(one.old_key)
    return frozenset(canonical(to_key(connection, name) if name.isascii() else _encoded(name)) for name in names)


def _encoded(name: bytes) -> bytes:
    """Dovecot tells OLDNAME in UTF-8, whatever the connection speaks."""
    try:
        return utf7.encode(name.decode())
    except UnicodeDecodeError:
        return name
