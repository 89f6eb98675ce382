"""The front's side of the supervisor: start it when there is none, hold a lease, ask it for sockets and status.

Every wait is gevent's, whether this process is patched or not.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import msgspec
from gevent import select, socket, subprocess

from jmapplug.errors import SettingError
from jmapplug.settings import Settings
from jmapplug.workers import paths
from jmapplug.workers.errors import WorkerUnavailable

MGMT_FD = "JMAPPLUG_MGMT_FD"
START_TIMEOUT = 20.0
ASK_TIMEOUT = 10.0
MAX_LINE = 1 << 20
ONE_ARENA = {"MALLOC_ARENA_MAX": "1"}
"""Else glibc gives each thread memory of its own, and 300 KB of it stay in a worker for good."""


def ask(settings: Settings, command: str, *, timeout: float = ASK_TIMEOUT, **arguments: Any) -> dict[str, Any]:
    """One command to the supervisor. Raises OSError when there is none, WorkerUnavailable when it refuses.

    Commands: ensure(id), remove(id), stop(id) (answered when the worker has ended), status, shutdown.
    """
    with _connect(settings, timeout) as sock:
        return _exchange(sock, {"command": command, **arguments})


def _connect(settings: Settings, timeout: float) -> Any:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.connect(paths.control_path(settings))
    except BaseException:
        sock.close()
        raise
    return sock


def _exchange(sock: Any, message: dict[str, Any]) -> dict[str, Any]:
    sock.sendall(msgspec.json.encode(message) + b"\n")
    line = b""
    while not line.endswith(b"\n"):
        data = sock.recv(65536)
        if not data or len(line) > MAX_LINE:
            raise ConnectionResetError("the supervisor is gone")
        line += data
    answer: dict[str, Any] = msgspec.json.decode(line)
    if "error" in answer:
        raise WorkerUnavailable(str(answer["error"]))
    return answer


class Lease:
    """Keeps the supervisor alive while it is held. ``fileno`` becomes readable when the supervisor is gone."""

    def __init__(self, sock: Any, pid: int) -> None:
        self.pid = pid
        self._socket = sock

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def fileno(self) -> int:
        return int(self._socket.fileno())

    def wait_gone(self, timeout: float | None = None) -> bool:
        """Wait until the supervisor has ended; False when ``timeout`` seconds passed first."""
        self._socket.settimeout(timeout)
        try:
            return not self._socket.recv(1)
        except TimeoutError:
            return False
        except OSError:
            return True

    def close(self, *, final: bool = False) -> None:
        """Give the lease back. ``final``: if it was the last one, the supervisor ends at once instead of waiting."""
        if final:
            try:
                self._socket.settimeout(1)
                self._socket.sendall(b'{"command":"release"}\n')
            except OSError:
                pass
        self._socket.close()

    def shut_down(self, timeout: float = 5.0) -> bool:
        """``close(final=True)``, and wait until the supervisor and all its workers have ended, unless others need it.

        False when ``timeout`` seconds passed first.
        """
        try:
            self._socket.settimeout(timeout)
            self._socket.sendall(b'{"command":"release"}\n')
            self._socket.shutdown(socket.SHUT_WR)
            while self._socket.recv(4096):
                pass
        except TimeoutError:
            return False
        except OSError:
            pass
        finally:
            self._socket.close()
        return True


def ensure_supervisor(settings: Settings, timeout: float = START_TIMEOUT, *, again: bool = False) -> Lease:
    """A lease on the supervisor of this data folder, started when there is none.

    ``again``: there was one; the new one waits for the management port instead of failing when the old one's
    management process still holds it.
    Raises SettingError when it cannot start (folder, key, busy management port), WorkerUnavailable after ``timeout``.
    """
    paths.prepare(settings)
    deadline = time.monotonic() + timeout
    while True:
        try:
            return _lease(settings)
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise WorkerUnavailable("the supervisor does not start")
        _start(settings, deadline, again)


def _lease(settings: Settings) -> Lease:
    sock = _connect(settings, ASK_TIMEOUT)
    try:
        answer = _exchange(sock, {"command": "lease"})
    except BaseException:
        sock.close()
        raise
    return Lease(sock, int(answer["pid"]))


def _start(settings: Settings, deadline: float, again: bool) -> None:
    """Start a supervisor and wait until it, or the one that was faster, is listening. Raises SettingError."""
    readable, writable = os.pipe()
    keep = [writable, *_inherited()]
    with open(readable, "rb", buffering=0) as ready:
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "jmapplug.workers.supervisor", str(writable), *(["again"] if again else [])],
                env={**ONE_ARENA, **os.environ, **settings.to_env()},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=keep,
                start_new_session=True,
            )
        finally:
            os.close(writable)
        # The process forks away from us and ends: nobody has to reap the supervisor.
        process.wait(max(1.0, deadline - time.monotonic()))
        told = _read(ready, deadline)
    if told.startswith(b"error "):
        raise SettingError(told[6:].decode("utf-8", "replace").strip())


def _inherited() -> list[int]:
    """The management port's listening socket, where ``serve`` has bound it already."""
    given = os.environ.get(MGMT_FD, "")
    return [int(given)] if given.isdecimal() else []


def _read(ready: Any, deadline: float) -> bytes:
    """What the supervisor says through its pipe: "ok", "error …", or nothing (another one was faster)."""
    told = b""
    while True:
        left = max(0.0, deadline - time.monotonic())
        if not select.select([ready], [], [], left)[0]:
            raise WorkerUnavailable("the supervisor does not start")
        data = os.read(ready.fileno(), 4096)
        if not data:
            return told
        told += data
