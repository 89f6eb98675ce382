"""An account's connections by purpose: one for the sync, one for who waits, and a watch brings its own. At most three.

Words: a *lane* is a place for one connection. Background work uses the sync lane only; interactive work uses its own
lane and, when that is taken, the sync lane while it is free, and is served before background work. So a page never
queues behind the history of 100,000 messages, only ever behind one batch of it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

import gevent
from gevent.event import AsyncResult

from jmapplug.errors import AuthenticationError, UpstreamError
from jmapplug_imap.backoff import Backoff, Logins
from jmapplug_imap.protocol.connection import Connection
from jmapplug_imap.protocol.errors import CommandBad, CommandNo, ConnectionBroken
from jmapplug_imap.protocol.refusals import SERVERBUG, THROTTLED, WAIT_CODES

T = TypeVar("T")
Fitness = Callable[[Connection], float]
QUEUE_DEADLINE = 120.0  # seconds to wait for a lane
PROBE_AFTER = 60.0  # seconds of rest after which a connection is asked whether it lives
PROBE_DEADLINE = 5.0  # seconds
PATIENCE = 1.0
"""Seconds of a pause that are waited for, not told of: a connection that just ended must not fail who comes next."""


class Lane:
    """A place for one connection, used by one greenlet at a time."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.connection: Connection | None = None
        self.busy = False
        self.used_at = 0.0
        self.wanted: deque[AsyncResult] = deque()
        """Who needs this very lane."""

    def drop(self) -> None:
        """Forget the connection; its state is unknown or it is broken."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()


class Pool:
    """The lanes of one account. Safe for many greenlets; ``connect`` gives an open, logged-in connection."""

    def __init__(self, connect: Callable[[], Connection], clock: Callable[[], float] = time.monotonic) -> None:
        self._connect = connect
        self._clock = clock
        # Being refused a connection beside a good one says nothing of the day when that one is gone.
        self._first, self._further, self._asking = Backoff(clock), Backoff(clock), Backoff(clock)
        self._logins = Logins(clock)
        self._sync, self._interactive = Lane("sync"), Lane("interactive")
        self._waiting: tuple[deque[AsyncResult], deque[AsyncResult]] = (deque(), deque())  # interactive, background
        self._closed = False
        self.round_trips_before = 0  # of connections that are gone
        self.bytes_in_before = 0  # octets received on connections that are gone
        self.background_in = 0  # octets received by background work
        self.opened = 0

    @property
    def open(self) -> int:
        """Connections in the lanes; one whose end nobody has met yet counts."""
        lanes = (self._sync, self._interactive)
        return sum(lane.connection is not None and not lane.connection.broken for lane in lanes)

    @property
    def round_trips(self) -> int:
        """Round trips of all connections that this pool ever had."""
        lanes = (self._sync, self._interactive)
        return self.round_trips_before + sum(lane.connection.round_trips for lane in lanes if lane.connection)

    @property
    def bytes_in(self) -> int:
        """Octets received on all connections that this pool ever had, as they were on the wire inside TLS."""
        lanes = (self._sync, self._interactive)
        return self.bytes_in_before + sum(lane.connection.bytes_in for lane in lanes if lane.connection)

    @property
    def held(self) -> UpstreamError | None:
        """Why, and for how long (``retry_after``), the server is not asked anything now; None where it may be."""
        return self._asking.error or (None if self._has_good else self._first.error)

    def run(
        self,
        work: Callable[[Connection], T],
        background: bool = False,
        retry: bool = True,
        fitness: Fitness = lambda connection: 0.0,
    ) -> T:
        """``work(connection)`` on a lane. With ``retry`` it must be safe to repeat, once, on a new connection.

        Of the connections that are free that of the greatest ``fitness`` (≥ 0) is taken. Raises what ``work`` raises,
        ConnectionBroken when the second connection breaks too, UpstreamError when none can be had or the server wants
        to be left alone. After any error but a plain NO or BAD the connection is dropped: half an answer may still be
        in it.
        """
        self._asking.check()
        lane = self._acquire(background, fitness)
        rested = lane.connection is not None
        if lane is self._interactive and not rested and not self._opens(lane):
            lane, rested = self._acquire(background=True), True
        try:
            try:
                return self._once(lane, work, background)
            except (ConnectionBroken, CommandNo) as error:
                # A session that has lost its way in a folder does not find it again; another one does.
                curable = isinstance(error, ConnectionBroken) or (rested and error.code == SERVERBUG)
                if self._closed or not retry or not curable:
                    raise
                return self._once(lane, work, background)
        finally:
            self._release(lane)

    def each(self, work: Callable[[Connection], None]) -> None:
        """``work`` on every lane that has a connection, one after the other, when its user is done with it.

        A connection that breaks meanwhile is dropped, and that is all. Raises UpstreamError where a lane stays busy.
        """
        for lane in (self._sync, self._interactive):
            if lane.connection is None and not lane.busy:
                continue
            if lane.busy:
                self._wait(lane.wanted)
            lane.busy = True
            try:
                if lane.connection is not None and not lane.connection.broken:
                    self._once(lane, work)
            except ConnectionBroken:
                pass
            finally:
                self._release(lane)

    def resting(self) -> list[Connection]:
        """The connections that nobody uses at this moment."""
        lanes = (self._sync, self._interactive)
        return [lane.connection for lane in lanes if lane.connection is not None and not lane.busy]

    def check(self) -> None:
        """Raises the server's last word while it must be left alone, or when the pool is closed."""
        if self._closed:
            raise UpstreamError("this account's session is closed", temporary=False)
        if (error := self.held) is not None:
            raise error

    def hold(self, error: UpstreamError, seconds: float) -> None:
        """Do not connect for so long: an earlier session's pause is not over."""
        self._first.hold(error, seconds)

    def broke(self, error: ConnectionBroken) -> None:
        """A connection has ended. Where the server said why, it is not asked for another one in haste."""
        # A server that shuts down says so on every connection at once: that is one event.
        memory = self._connecting
        if error.code in WAIT_CODES and (memory.error is None or memory.error.code != error.code):
            memory.failed(error)

    def connect(self) -> Connection:
        """A new connection outside the lanes, under the same back-off. The caller closes it."""
        self._wait_out()
        self.check()
        memory = self._connecting
        memory.check()
        self._logins.take()
        try:
            connection = self._connect()
        except AuthenticationError as error:
            # Whichever connection it was to be: no other one would be let in.
            self._first.failed(error)
            self._further.failed(error)
            raise
        except UpstreamError as error:
            memory.failed(error)
            raise
        memory.succeeded()
        self.opened += 1
        return connection

    @property
    def _has_good(self) -> bool:
        return any(
            lane.connection is not None and not lane.connection.broken for lane in (self._sync, self._interactive)
        )

    @property
    def _connecting(self) -> Backoff:
        """The memory of connects like the next one would be."""
        return self._further if self._has_good else self._first

    def close(self) -> None:
        """Close every connection; who waits gets an UpstreamError."""
        self._closed = True
        for lane in (self._sync, self._interactive):
            self._forget(lane)
        for queue in (*self._waiting, self._sync.wanted, self._interactive.wanted):
            while queue:
                queue.popleft().set_exception(UpstreamError("this account's session is closed", temporary=False))

    def _opens(self, lane: Lane) -> bool:
        """Connect a lane that has just been acquired. False (and the lane is released) where the server gives us no

        second connection while the sync has a good one: that must do then (wish 11). Otherwise raises UpstreamError.
        """
        try:
            lane.connection = self.connect()
        except BaseException as error:
            self._release(lane)
            other = self._sync.connection
            if not isinstance(error, UpstreamError) or self._closed or other is None or other.broken:
                raise
            return False
        lane.used_at = self._clock()
        return True

    def _wait_out(self) -> None:
        error = self.held or self._connecting.error
        asked = isinstance(error, AuthenticationError) or (error is not None and error.code in WAIT_CODES)
        if error is not None and not asked and (error.retry_after or 0.0) <= PATIENCE:
            gevent.sleep(error.retry_after)

    def _once(self, lane: Lane, work: Callable[[Connection], T], background: bool = False) -> T:
        self._asking.check()  # while this one waited for its lane, too
        connection = self._alive(lane)
        before = connection.bytes_in
        try:
            result = work(connection)
        except (CommandNo, CommandBad) as error:
            lane.used_at = self._clock()
            if error.code == SERVERBUG:  # what it thinks that is open need not be there any more
                self._forget(lane)
            elif error.code == THROTTLED:
                self._asking.failed(error)
            raise
        except BaseException as error:
            self._forget(lane)
            if isinstance(error, ConnectionBroken):
                self.broke(error)
            raise
        finally:
            self.background_in += connection.bytes_in - before if background else 0
        lane.used_at = self._clock()
        if self._asking.error is None:  # what was under way when a pause began does not end it
            self._asking.succeeded()
        return result

    def _alive(self, lane: Lane) -> Connection:
        connection = lane.connection
        if connection is not None and not connection.broken and self._clock() - lane.used_at > PROBE_AFTER:
            self._probe(lane, connection)
        if lane.connection is not None and lane.connection.broken:
            self._forget(lane)
        if lane.connection is None:
            lane.connection = self.connect()
        return lane.connection

    def _probe(self, lane: Lane, connection: Connection) -> None:
        """A NAT or firewall may have forgotten us: a short question is cheaper than a read that waits a minute."""
        limit = gevent.Timeout(PROBE_DEADLINE)
        try:
            with limit:
                connection.noop()
        except UpstreamError:
            self._forget(lane)
        except gevent.Timeout as over:
            self._forget(lane)
            if over is not limit:
                raise

    def _forget(self, lane: Lane) -> None:
        if lane.connection is not None:
            self.round_trips_before += lane.connection.round_trips
            self.bytes_in_before += lane.connection.bytes_in
        lane.drop()

    def _acquire(self, background: bool, fitness: Fitness = lambda connection: 0.0) -> Lane:
        if self._closed:
            raise UpstreamError("this account's session is closed", temporary=False)
        free = [lane for lane in ((self._sync,) if background else (self._interactive, self._sync)) if not lane.busy]
        if not free:
            return self._queue(background)
        # A connection that is there beats one that must be made: a quiet account has one, not two.
        lane = max(free, key=lambda lane: -1.0 if lane.connection is None else fitness(lane.connection))
        lane.busy = True
        return lane

    def _queue(self, background: bool) -> Lane:
        return self._wait(self._waiting[background])

    def _wait(self, queue: deque[AsyncResult]) -> Lane:
        place: AsyncResult = AsyncResult()
        queue.append(place)
        try:
            place.wait(QUEUE_DEADLINE)
        except BaseException:
            if place.successful():  # handed over in the very moment we were stopped
                self._release(place.value)
            elif place in queue:
                queue.remove(place)
            raise
        if not place.ready():
            queue.remove(place)
            raise UpstreamError("the mail server is too slow: all connections are busy")
        lane: Lane = place.get()
        return lane

    def _release(self, lane: Lane) -> None:
        if self._closed:
            self._forget(lane)
        interactive, background = self._waiting
        queue = lane.wanted or interactive or (background if lane is self._sync else ())
        if queue:
            queue.popleft().set(lane)  # stays busy: handed over
        else:
            lane.busy = False
