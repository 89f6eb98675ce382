"""Which connection's LIST is believed. A folder that is not listed is a Mailbox destroyed, and its mail out of sight.

Dovecot 2.3.19 with its list index, in every layout: another client renames a folder, we LIST, and within a second it
creates one, or renames one that it has just created. LIST on every connection from before goes on showing what was, for
good, until some new connection lists: that one reads the disk (measured; after that second all is well). Hence the law:

- A listing that lacks what the last one had is confirmed on a new connection.
- For SETTLES seconds after the folders have changed each look is on a new connection (RENEWALS a minute: a script that
  makes a thousand folders must not become a thousand log-ins), and so is, always, one more after that.
- No connection lists for longer than LISTS_FOR, nor after it has changed folders itself.
"""

from __future__ import annotations

import math
import time
import weakref
from collections import deque
from collections.abc import Mapping

from jmapplug_imap.access import Access
from jmapplug_imap.protocol.connection import Connection

SETTLES = 2.0
"""Seconds in which a client that changed a folder may change another one untold: Dovecot's is one."""
RENEWALS, MINUTE = 12, 60.0
LISTS_FOR = 600.0
"""Seconds after which a connection lists no more, whatever was seen."""

Places = Mapping[bytes, int | None]
"""Key of each folder → its UIDVALIDITY, None where it is not told."""


class ListingTrust:
    """What the last listing showed, and which connections may show the next one."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._writers: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._places: Places | None = None
        self._absent: frozenset[bytes] = frozenset()
        self._renewed: deque[float] = deque([-math.inf] * RENEWALS, RENEWALS)

    def changes_on(self, connection: Connection) -> None:
        """Folders are made, renamed or deleted on this connection."""
        self._writers.add(connection)

    def is_outdated(self, connection: Connection) -> bool:
        """Whether another connection must list."""
        now = time.monotonic()
        # Dovecot 2.3.19: after CREATE and DELETE here and a RENAME elsewhere, LIST on *this* connection leaves out a
        # folder that is there (measured, 12 of 12; on others it never did).
        if connection in self._writers or connection.opened_at < now - LISTS_FOR:
            return True
        if connection.opened_at >= self._access.unsettled_until:
            return False
        return now >= self._access.unsettled_until or self._may_renew(now)

    def _may_renew(self, now: float) -> bool:
        if now - self._renewed[0] < MINUTE:
            return False
        self._renewed.append(now)
        return True

    def doubts(self, places: Places, absent: frozenset[bytes]) -> bool:
        """Whether a listing on a connection from before must be confirmed on another one.

        ``absent``: listed, but not there (STATUS): a connection that has known a folder may be wrong about it too.
        """
        return bool(absent - self._absent) or _lacks(places, self._places or {})

    def believe(self, places: Places, absent: frozenset[bytes]) -> None:
        """This is how things are. Where they have changed, the watch asks for one look more when that is over."""
        now, before = time.monotonic(), self._places
        if before is not None and (_lacks(places, before) or _lacks(before, places)):
            self._access.unsettle(SETTLES)
        elif now >= self._access.look_at:
            self._access.look_at = math.inf
        self._places, self._absent = places, absent


def _lacks(places: Places, others: Places) -> bool:
    """Whether a folder of ``others`` is not there, or is another one of that name."""
    return any(key not in places or _differ(places[key], validity) for key, validity in others.items())


def _differ(one: int | None, other: int | None) -> bool:
    return None not in (one, other) and one != other
