"""Free ports and waiting for servers, on loopback only."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable

from jmapplug.demo.mailserver import HOST, greets

__all__ = ["HOST", "accepts", "free_ports", "greets", "running", "stop", "stop_pid", "wait_until"]

PATIENCE = 60.0
"""Seconds that something may take which has to happen: many times what it takes on a machine at rest."""
SERVERS = range(12_000, 32_000)
"""Below those that Linux gives to connecting clients (ip_local_port_range)."""
_given: set[int] = set()


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, none of which is given twice in one run of the tests: what is to listen there

    may come much later. The kernel gives none of them to a client meanwhile.
    """
    number, processes = (
        int(os.environ.get(f"PYTEST_XDIST_WORKER{one}", "0").removeprefix("gw")) for one in ("", "_COUNT")
    )
    ours = SERVERS[number :: processes or 1]
    found: list[int] = []
    while len(found) < count:
        port = secrets.choice(ours)
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind((HOST, port))
            if port not in _given:
                _given.add(port)
                found.append(port)
    return found


def wait_until(check: Callable[[], bool], what: str, timeout: float = PATIENCE) -> None:
    """Poll a condition that no event tells; AssertionError after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not check():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what}")
        time.sleep(0.01)


def accepts(port: int) -> bool:
    """Whether a server on this port accepts connections."""
    try:
        socket.create_connection((HOST, port), timeout=2).close()
    except OSError:
        return False
    return True


def stop(process: subprocess.Popen[bytes], timeout: float = 10.0) -> None:
    """SIGTERM, then SIGKILL to the process's whole group if it leads one."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def running(pid: int) -> bool:
    """Whether a process lives (a zombie does not)."""
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except (OSError, IndexError):
        return False


def stop_pid(pid: int, what: str) -> None:
    """Stop a process that is not our child."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    try:
        wait_until(lambda: not running(pid), f"{what} stops", 30)
    except AssertionError:
        os.kill(pid, signal.SIGKILL)
