"""What a supervisor takes hold of before it serves: the lock of the data folder and the management port."""

from __future__ import annotations

import errno
import os
import time
from typing import Any

from jmapplug.errors import SettingError
from jmapplug.settings import Settings
from jmapplug.workers import paths, plain

LOCK_PATIENCE = 10.0

# Kept for the process's whole life: a lock or a socket that is collected is gone.
_held: list[Any] = []


def hold_lock(settings: Settings) -> bool:
    """Become the data folder's supervisor; False when another one is and answers. Raises SettingError."""
    deadline = time.monotonic() + LOCK_PATIENCE
    while (fd := plain.lock(paths.lock_path(settings))) is None:
        if _answers(settings):
            return False
        if time.monotonic() > deadline:
            raise SettingError("another supervisor holds the data folder and does not answer")
        plain.sleep(0.02)
    _held.append(fd)
    return True


def _answers(settings: Settings) -> bool:
    try:
        plain.connect(paths.control_path(settings)).close()
    except OSError:
        return False
    return True


def sweep(settings: Settings) -> None:
    """Remove the sockets of a supervisor that was killed: nobody listens there."""
    for entry in os.scandir(settings.run_folder):
        if entry.name.endswith(".sock"):
            os.unlink(entry.path)


def management(settings: Settings) -> int:
    """The management port: inherited from ``serve``, or bound here. Raises SettingError for a busy port."""
    given = os.environ.pop("JMAPPLUG_MGMT_FD", "")
    if given.isdecimal():
        try:
            os.set_inheritable(int(given), False)
            return int(given)
        except OSError:
            pass
    try:
        sock = plain.tcp_listener(settings.mgmt_host, settings.mgmt_port)
    except OSError as error:
        what = "the port is in use" if error.errno == errno.EADDRINUSE else error.strerror
        raise SettingError(f"JMAP_MGMT_PORT {settings.mgmt_host}:{settings.mgmt_port}: {what}") from None
    _held.append(sock)
    return int(sock.fileno())
