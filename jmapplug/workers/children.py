"""What the supervisor keeps of each worker, and how it forks one."""

from __future__ import annotations

import faulthandler
import gc
import importlib
import logging
import os
import signal
import time
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jmapplug.workers import paths, plain
from jmapplug.workers.pulse import Pulse

if TYPE_CHECKING:
    from jmapplug.settings import Settings
    from jmapplug.workers.lines import ControlConnection

log = logging.getLogger("jmapplug.workers")

EXIT_GONE = 3
"""A worker's exit status when its account does not exist: nobody waits at its socket any more."""

EXIT_DAMAGED = 4
"""… when its store was found damaged: the next one mends it."""

LONG_LIFE = 10.0
LONGEST_PAUSE = 30.0
STOP_PATIENCE = 5.0
STDERR = 2
DUMP_SIGNAL = signal.SIGUSR1
DUMP_PATIENCE = 2.0
"""Seconds that a worker which hangs gets to write down where, before it is killed."""

# Reserved ids and what runs under them; every other id is an account's.
MAINS = {
    paths.ACCOUNTS: "jmapplug.registry.process:main",
    paths.MANAGEMENT: "jmapplug.web.management.process:main",
}
ACCOUNT_MAIN = "jmapplug.workers.worker:main"


@dataclass(slots=True)
class Child:
    """One account's socket, and its worker while there is one.

    ``inherited``: a second listening descriptor (the management port). ``kept``: runs always, not only when asked for.
    ``pulse`` tells whether it hangs. ``failures`` counts bad ends in a row; ``not_before`` is the monotonic time of the
    next start. ``waiting``: control connections that are answered when the worker has ended.
    """

    id: str
    listener: Any
    pulse: Pulse
    kept: bool = False
    inherited: int | None = None
    pid: int | None = None
    pidfd: int = -1
    started: float = 0.0
    born: float = 0.0
    restarts: int = 0
    failures: int = 0
    not_before: float = 0.0
    kill_at: float | None = None
    removed: bool = False
    waiting: list[ControlConnection] = field(default_factory=list)

    def ended(self, code: int) -> None:
        """Note a worker's end. A clean one needs no pause; the first bad one neither; then they grow."""
        now = time.monotonic()
        clean = code == 0 and not (self.kept and now - self.born < 1)
        self.failures = 0 if clean else 1 if now - self.born > LONG_LIFE else self.failures + 1
        self.not_before = now + pause_after(self.failures)
        self.restarts += not clean
        self.pid, self.pidfd, self.kill_at = None, -1, None

    def signal(self, number: int) -> None:
        """Send a signal to the worker, if it lives; the pidfd makes sure that it is this one."""
        if self.pid is not None:
            try:
                signal.pidfd_send_signal(self.pidfd, number)
            except ProcessLookupError:
                pass

    def stop(self) -> None:
        self.signal(signal.SIGTERM)
        if self.pid is not None and self.kill_at is None:
            self.kill_at = time.monotonic() + STOP_PATIENCE

    def give_up(self) -> None:
        """It hangs: let it say where, and kill it. SIGTERM would wait for its hub."""
        self.signal(DUMP_SIGNAL)
        self.pulse.missed = 0
        self.kill_at = time.monotonic() + DUMP_PATIENCE

    @property
    def hangs(self) -> bool:
        """Whether it has missed more than a moment's beats: nobody should wait for its answer."""
        return self.pid is not None and self.pulse.missed > 1

    def status(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "pid": self.pid,
            "started": self.started,
            "restarts": self.restarts,
            "hangs": self.hangs,
        }


def pause_after(failures: int) -> float:
    """Seconds before the next start after so many bad ends in a row."""
    return 0.0 if failures <= 1 else min(0.25 * 2.0 ** min(failures - 2, 20), LONGEST_PAUSE)


def fork(child: Child, settings: Settings) -> None:
    """Fork the worker of ``child``. Raises OSError when the machine has no room for another process."""
    plain.assert_no_hub()
    gc.freeze()
    parent = os.getpid()
    child.pulse.begin(time.monotonic())
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = plain.fork()
        if pid == 0:
            _run(child, settings, parent)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    child.pid = pid
    child.pidfd = os.pidfd_open(pid)
    child.started, child.born = time.time(), time.monotonic()


def _run(child: Child, settings: Settings, parent: int) -> None:
    """The child's whole life; never returns. Nothing of the supervisor's stack may be unwound here."""
    code = 70
    try:
        first = child.listener.fileno()
        plain.close_all_but([first] if child.inherited is None else [first, child.inherited])
        plain.reset_signals()
        plain.die_with(parent)
        # Asked by the supervisor of one that hangs: where its code is, without a value of any variable.
        faulthandler.register(DUMP_SIGNAL, STDERR)
        code = main_of(child, first, settings)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def main_of(child: Child, listener: int, settings: Settings) -> int:
    """Run the function that the table names for this id, with gevent sockets of the inherited descriptors.

    An account's gets (listener, settings, account id); a reserved one (listener, settings); one with an inherited
    descriptor (``__management__`` and its port) gets that as ``listener``.
    """
    from jmapplug.workers import hearts, server

    hearts.start(child.pulse)
    module, _, name = MAINS.get(child.id, ACCOUNT_MAIN).partition(":")
    function = getattr(importlib.import_module(module), name)
    descriptor = listener if child.inherited is None else child.inherited
    arguments: list[Any] = [server.serve_socket(descriptor), settings]
    if child.id not in MAINS:
        arguments.append(child.id)
    return int(function(*arguments) or 0)
