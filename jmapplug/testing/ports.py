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

SERVERS = range(12_000, 32_000)
"""Below those that Linux gives to connecting clients (ip_local_port_range)."""


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different; none that the kernel may give to a client meanwhile."""
    found: list[int] = []
    with contextlib.ExitStack() as stack:
        while len(found) < count:
            one, port = stack.enter_context(socket.socket()), secrets.choice(SERVERS)
            with contextlib.suppress(OSError):
                one.bind((HOST, port))
                found.append(port)
    return found


def wait_until(check: Callable[[], bool], what: str, timeout: float = 20.0) -> None:
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
        wait_until(lambda: not running(pid), f"{what} stops", 10)
    except AssertionError:
        os.kill(pid, signal.SIGKILL)
