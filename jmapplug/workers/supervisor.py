"""The supervisor (zygote): one plain single-threaded process that forks the workers and never has a hub.

It owns every account's listening socket and forks that account's worker when a connection waits there (process
rules 1-7). Started by ``control.ensure_supervisor`` as ``python -m jmapplug.workers.supervisor READY_FD``.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from jmapplug.errors import SettingError
from jmapplug.settings import Settings, load
from jmapplug.workers import listening, paths, plain
from jmapplug.workers.children import EXIT_GONE, MAINS, Child, fork
from jmapplug.workers.lines import ControlConnection
from jmapplug.workers.pulse import Pulse

log = logging.getLogger("jmapplug.workers")

AGAIN = "again"
GRACE = 3.0
FIRST_GRACE = 20.0
ACCOUNTS_LAST = 3.5
KILL_AFTER = 4.3
MAX_CONNECTIONS = 256
BUSY_PAUSE = 0.1


class Supervisor:
    """All state of the supervisor. ``run`` returns when nobody holds a lease any more, or after SIGTERM."""

    def __init__(self, settings: Settings, control: Any, management: int | None) -> None:
        self.settings = settings
        self.started = time.time()
        self.children: dict[str, Child] = {}
        self.connections: set[ControlConnection] = set()
        self._control = control
        self._poll = plain.poller()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._end_at: float | None = time.monotonic() + FIRST_GRACE
        self._stopping = False
        self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._commands: dict[str, Callable[[ControlConnection, str], None]] = {
            "ensure": self._ensure,
            "remove": self._remove,
            "stop": self._stop_child,
            "status": self._status,
            "lease": self._lease,
            "release": self._release,
            "shutdown": self._shutdown,
        }
        for name in MAINS:
            self._add(name, kept=True, inherited=management if name == paths.MANAGEMENT else None)

    # --- poll

    def watch(self, fd: int, handler: Callable[[int], None], events: int = plain.POLLIN) -> None:
        if fd >= 0:
            self._handlers[fd] = handler
            self._poll.register(fd, events)

    def unwatch(self, fd: int) -> None:
        if self._handlers.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def run(self) -> None:
        signal.set_wakeup_fd(self._wake[1], warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._signalled)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self.watch(self._wake[0], self._woken)
        self.watch(self._control.fileno(), self._connect)
        while not self._stopping:
            self._turn(self._start_due())
        self._end()

    def _turn(self, until: float | None) -> None:
        timeout = None if until is None else max(0, int((until - time.monotonic()) * 1000) + 1)
        for fd, events in self._poll.poll(timeout):
            handler = self._handlers.get(fd)
            if handler is not None:
                handler(events)

    def _start_due(self) -> float | None:
        """Do what is due; the time when the next thing will be."""
        now = time.monotonic()
        if self._end_at is not None and now >= self._end_at:
            self._stopping = True
            return now
        due = [self._end_at]
        for child in list(self.children.values()):
            due.append(self._tend(child, now))
        return min((moment for moment in due if moment is not None), default=None)

    def _tend(self, child: Child, now: float) -> float | None:
        """Start, watch or kill one child, as its state asks; when to look again."""
        if child.pid is not None:
            return self._watch_over(child, child.pid, now)
        if now < child.not_before:
            return child.not_before
        if child.id == paths.MANAGEMENT and child.inherited is None:
            return self._bind_management(child, now)
        if child.kept:
            self._fork(child)
        elif child.listener.fileno() not in self._handlers:
            self.watch(child.listener.fileno(), lambda events: self._fork(child))
        return child.not_before if child.pid is None and child.not_before > now else None

    def _watch_over(self, child: Child, pid: int, now: float) -> float | None:
        """Kill one that was told to end and has not, notice one that hangs; when to look again."""
        if child.kill_at is not None:
            if now < child.kill_at:
                return child.kill_at
            child.signal(signal.SIGKILL)
            child.kill_at = None
        if not child.pulse.interval:
            return None
        if now >= child.pulse.next_look and child.pulse.look(now, pid):
            log.error("worker %s (%d) hangs: where it is follows, then it is killed and started anew", child.id, pid)
            child.give_up()
            return child.kill_at
        return child.pulse.next_look

    def _bind_management(self, child: Child, now: float) -> float:
        """After a restart the old management process may hold its port for a moment longer."""
        try:
            child.inherited = listening.management(self.settings)
        except SettingError as error:
            log.debug("%s", error)
            child.not_before = now + BUSY_PAUSE
            return child.not_before
        return now

    def _signalled(self, number: int, frame: object) -> None:
        self._stopping = True

    def _woken(self, events: int) -> None:
        try:
            os.read(self._wake[0], 512)
        except BlockingIOError:
            pass

    # --- children

    def _add(self, name: str, *, kept: bool = False, inherited: int | None = None) -> Child:
        listener = plain.unix_listener(paths.socket_path(self.settings, name))
        child = Child(name, listener, Pulse(self.settings.hang_timeout), kept, inherited)
        self.children[name] = child
        return child

    def _fork(self, child: Child) -> None:
        self.unwatch(child.listener.fileno())
        if child.pid is not None or child.removed:
            return
        try:
            fork(child, self.settings)
        except OSError as error:
            log.error("no new process for %s: %s", child.id, error.strerror)
            child.failures += 1
            child.not_before = time.monotonic() + 1
            return
        self.watch(child.pidfd, lambda events: self._ended(child))

    def _ended(self, child: Child) -> None:
        assert child.pid is not None
        self.unwatch(child.pidfd)
        code = plain.reap(child.pid)
        os.close(child.pidfd)
        if code not in (0, EXIT_GONE) and not child.waiting and not self._stopping:
            log.warning("worker %s ended with %s", child.id, code)
        child.ended(code)
        for connection in child.waiting:
            connection.answer({})
        child.waiting.clear()
        if child.removed or code == EXIT_GONE:
            self._drop(child)

    def _drop(self, child: Child) -> None:
        """Forget an account's socket. Who waits there sees the connection end, and asks again."""
        fd = child.listener.fileno()
        if fd < 0:
            return
        self.unwatch(fd)
        if self.children.get(child.id) is child:
            del self.children[child.id]
            os.unlink(paths.socket_path(self.settings, child.id))
        child.listener.close()

    # --- control

    def _connect(self, events: int) -> None:
        sock = plain.accept(self._control)
        if sock is None:
            return
        if len(self.connections) >= MAX_CONNECTIONS:
            sock.close()
            return
        connection = ControlConnection(self, sock)
        self.connections.add(connection)
        self.watch(sock.fileno(), connection.ready)

    def disconnect(self, connection: ControlConnection) -> None:
        if connection not in self.connections:
            return
        self.connections.discard(connection)
        self.unwatch(connection.socket.fileno())
        connection.socket.close()
        for child in self.children.values():
            if connection in child.waiting:
                child.waiting.remove(connection)
        if connection.leased:
            connection.leased = False
            self._count_leases(GRACE)

    def _count_leases(self, grace: float) -> None:
        held = any(connection.leased for connection in self.connections)
        self._end_at = None if held else time.monotonic() + grace

    def command(self, connection: ControlConnection, line: bytes) -> None:
        try:
            message = json.loads(line)
            handler = self._commands[message["command"]]
            ident = message.get("id", "")
            if not isinstance(ident, str) or len(ident) > 255:
                raise ValueError("bad id")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            connection.answer({"error": "bad command"})
            return
        try:
            handler(connection, ident)
        except OSError as error:
            connection.answer({"error": f"{message['command']}: {error.strerror}"})

    def _ensure(self, connection: ControlConnection, ident: str) -> None:
        child = self.children.get(ident)
        if not ident or (child is not None and child.removed):
            connection.answer({"error": "the account is being removed" if ident else "no id"})
            return
        if child is None:
            self._add(ident)
        connection.answer({})

    def _stop_child(self, connection: ControlConnection, ident: str) -> None:
        child = self.children.get(ident)
        if child is None or child.pid is None:
            connection.answer({})
            return
        child.waiting.append(connection)
        child.stop()

    def _remove(self, connection: ControlConnection, ident: str) -> None:
        child = self.children.get(ident)
        if child is None or child.kept:
            connection.answer({} if child is None else {"error": "reserved"})
            return
        child.removed = True
        if child.pid is None:
            self._drop(child)
            connection.answer({})
            return
        self._stop_child(connection, ident)

    def _status(self, connection: ControlConnection, ident: str) -> None:
        running = [child.status() for child in self.children.values() if child.pid is not None]
        connection.answer({"pid": os.getpid(), "started": self.started, "children": running})

    def _lease(self, connection: ControlConnection, ident: str) -> None:
        connection.leased = True
        self._count_leases(GRACE)
        connection.answer({"pid": os.getpid(), "started": self.started})

    def _release(self, connection: ControlConnection, ident: str) -> None:
        """The lease goes; when it was the last one the connection stays until everything has ended."""
        connection.leased = False
        if any(other.leased for other in self.connections):
            self.disconnect(connection)
            return
        # Its other end may close already: the connection is watched no more, and kept open.
        self.unwatch(connection.socket.fileno())
        self._stopping = True

    def _shutdown(self, connection: ControlConnection, ident: str) -> None:
        connection.answer({})
        self._stopping = True

    # --- the end

    def _end(self) -> None:
        """Stop everything within 5 s: accounts first, ``__accounts__`` last; whoever stays is killed."""
        start = time.monotonic()
        self.unwatch(self._control.fileno())
        self._control.close()
        os.unlink(paths.control_path(self.settings))
        for child in self.children.values():
            self.unwatch(child.listener.fileno())
        last = self.children[paths.ACCOUNTS]
        others = [child for child in self.children.values() if child is not last]
        self._stop_all(others, start + ACCOUNTS_LAST)
        self._stop_all([*others, last], start + KILL_AFTER)
        for child in self.children.values():
            child.signal(signal.SIGKILL)
        self._stop_all([*others, last], start + 60)
        for child in list(self.children.values()):
            self._drop(child)

    def _stop_all(self, children: list[Child], until: float) -> None:
        for child in children:
            child.signal(signal.SIGTERM)
        while any(child.pid is not None for child in children) and time.monotonic() < until:
            self._turn(until)


def main(argv: list[str]) -> int:
    """Detach from the front that started us, take the lock, listen, preload, serve. Exit status 2: cannot start."""
    ready = int(argv[1])
    os.set_inheritable(ready, False)
    if os.fork():
        os._exit(0)
    from gevent import monkey

    monkey.patch_all()
    try:
        settings = load(os.environ)
        supervisor = _listen(settings, again=AGAIN in argv[2:])
    except (SettingError, OSError) as error:
        _tell(ready, f"error {error}\n")
        return 2
    if supervisor is not None:
        _tell(ready, "ok\n")
    os.close(ready)
    if supervisor is None:
        return 0
    from jmapplug.workers import preload

    found = preload.load(settings)
    # Known only now: what plugins registered. Workers and the management process are forked with these settings.
    supervisor.settings = load(os.environ, registered=found.settings)
    supervisor.run()
    return 0


def _tell(ready: int, line: str) -> None:
    """To the front that started us, if it still lives."""
    try:
        os.write(ready, line.encode())
    except BrokenPipeError:
        pass


def _listen(settings: Settings, again: bool) -> Supervisor | None:
    """Take the lock and bind everything; None when another supervisor was faster and answers.

    ``again``: a front that lost its supervisor asks, so a busy management port is no reason not to start.
    """
    plain.raise_file_limit()
    paths.prepare(settings)
    if not listening.hold_lock(settings):
        return None
    listening.sweep(settings)
    management = None if again else listening.management(settings)
    control = plain.unix_listener(paths.control_path(settings))
    return Supervisor(settings, control, management)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
