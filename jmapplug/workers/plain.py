"""System calls for the supervisor, none of which makes a hub (process rule 2).

Under gevent's patch ``socket``, ``select``, ``time.sleep``, ``os.fork`` and ``os.waitpid`` make one silently, and a
hub in the supervisor is inherited, broken, by every worker. So this module uses ``_socket`` and ``get_original``; the
supervisor uses nothing else that waits.
"""

from __future__ import annotations

import _socket
import ctypes
import errno
import fcntl
import os
import resource
import signal
import threading
from collections.abc import Iterable
from typing import Any

from gevent import monkey
from greenlet import getcurrent

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_SIGNALS_OF_CHILDREN = (signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2)

POLLIN, POLLHUP = 1, 16


def poller() -> Any:
    """A ``poll`` object that gevent has not replaced."""
    return monkey.get_original("select", "poll")()


def fork() -> int:
    return int(monkey.get_original("os", "fork")())


def reap(pid: int) -> int:
    """Collect a child whose pidfd is readable; its exit code, negative for a signal."""
    _, status = monkey.get_original("os", "waitpid")(pid, 0)
    return os.waitstatus_to_exitcode(status)


def sleep(seconds: float) -> None:
    monkey.get_original("time", "sleep")(seconds)


def assert_no_hub() -> None:
    """Raises AssertionError when this process has a hub or a second thread: a fork would hand on broken halves."""
    from gevent import _hub_local

    if _hub_local.get_hub_if_exists() is not None:
        raise AssertionError("the supervisor has a hub")
    if getcurrent().parent is not None:
        raise AssertionError("the supervisor runs in a greenlet")
    if threads() != 1 or threading.active_count() != 1:
        raise AssertionError("the supervisor has a second thread")


def threads() -> int:
    """Threads of this process as the kernel counts them."""
    return len(os.listdir("/proc/self/task"))


def unix_listener(path: str, backlog: int = 128) -> Any:
    """Bind and listen on ``path`` (0600), replacing a stale socket file. Non-blocking, closed on exec."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
    mask = os.umask(0o177)
    try:
        sock.bind(path)
    finally:
        os.umask(mask)
    sock.listen(backlog)
    return sock


def tcp_listener(host: str, port: int, backlog: int = 256) -> Any:
    """Bind and listen on a TCP address; TCP_NODELAY is handed on to accepted connections. Raises OSError."""
    found = _socket.getaddrinfo(host or None, port, 0, _socket.SOCK_STREAM, 0, _socket.AI_PASSIVE)
    family, kind, proto, _, address = found[0]
    sock = _socket.socket(family, kind | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK, proto)
    try:
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        sock.bind(address)
        sock.listen(backlog)
    except OSError:
        sock.close()
        raise
    return sock


def accept(listener: Any) -> Any | None:
    """The next connection, non-blocking; None when there is none (any more)."""
    try:
        fd, _ = listener._accept()
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.ECONNABORTED, errno.EINTR, errno.EMFILE, errno.ENFILE):
            return None
        raise
    sock = _socket.socket(fileno=fd)
    sock.setblocking(False)
    return sock


def lock(path: str) -> int | None:
    """Take the lock file exclusively; its descriptor, or None when another process holds it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def raise_file_limit() -> None:
    """RLIMIT_NOFILE: soft up to hard, at most 65,536 (process rule 5)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def close_all_but(keep: Iterable[int]) -> None:
    """Close every descriptor above stdio that is not in ``keep`` (process rule 4)."""
    start = 3
    for fd in sorted({fd for fd in keep if fd >= 3}):
        os.closerange(start, fd)
        start = fd + 1
    os.closerange(start, 1 << 20)


def reset_signals() -> None:
    """A child's signals: the defaults, no wakeup descriptor, and Ctrl-C is the front's business."""
    signal.set_wakeup_fd(-1)
    for number in _SIGNALS_OF_CHILDREN:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def die_with(parent: int) -> None:
    """SIGTERM for this process when ``parent`` dies; at once when it is dead already."""
    if _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:
        os._exit(0)


def connect(path: str) -> Any:
    """Connect to a Unix socket without waiting. Raises OSError."""
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
    try:
        sock.connect(path)
    except OSError:
        sock.close()
        raise
    return sock
