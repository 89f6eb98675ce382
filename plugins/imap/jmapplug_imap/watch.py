"""Waiting for changes of one folder with IDLE (RFC 2177), on a connection of its own."""

from __future__ import annotations

import time
from typing import Any

from jmapplug.errors import UpstreamError
from jmapplug_imap.access import Access
from jmapplug_imap.protocol.connection import Connection
from jmapplug_imap.protocol.errors import ConnectionBroken
from jmapplug_imap.protocol.fetch import FetchRow
from jmapplug_imap.protocol.responses import Exists, Expunge, Vanished

RENEW = 540.0
"""Seconds of silence after which IDLE is ended and begun anew. RFC 2177 wants it before 29 minutes; the answer to DONE
is also how a dead connection shows, and many NATs forget one after ten minutes."""

_NEWS: tuple[type[Any], ...] = (Exists, Expunge, FetchRow, Vanished)


class ImapWatch:
    """See backends.Watch. Connected from the start, so that no change after ``MailSource.watch`` is missed."""

    def __init__(self, access: Access, key: bytes) -> None:
        self._access = access
        self._key = key
        self._closed = False
        self._connection: Connection | None = self._open()

    @property
    def closed(self) -> bool:
        return self._closed

    def wait(self, timeout: float) -> bool:
        """See Watch.wait. After an UpstreamError the next call connects again and answers True: who knows what was
        missed. False at once after ``close``.
        """
        deadline = time.monotonic() + timeout
        if not self._closed and (self._connection is None or self._connection.broken):
            self._connection = self._open()
            return True
        while not self._closed and (left := deadline - time.monotonic()) > 0:
            if self._news(min(left, RENEW)):
                return True
        return False

    def close(self) -> None:
        """End the wait, of any greenlet, and the connection."""
        self._closed = True
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()

    def _news(self, seconds: float) -> bool:
        connection = self._connection
        if connection is None:
            return False
        try:
            return any(isinstance(event, _NEWS) for event in connection.idle(seconds))
        except ConnectionBroken:
            if self._closed:
                return False
            self._drop()
            raise
        except UpstreamError:
            self._drop()
            raise

    def _open(self) -> Connection:
        connection = self._access.pool.connect()
        try:
            self._access.select(connection, self._key, read_only=True)
        except BaseException:
            connection.close()
            raise
        if self._closed:
            connection.close()
            raise UpstreamError("this watch is closed")
        return connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()
