"""What the measurements add to the test proxy: counters of processes, timing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.client import lean
from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.proxy import Client, Proxy


def create(proxy: Proxy, account: str, server: Dovecot, user: str, tls: bool = False) -> Client:
    """Add an account, over TLS with the server's own CA if asked."""
    if not tls:
        return lean(proxy.add(account, server, user))
    return lean(
        proxy.add(
            account, server, user, imapHost="localhost", imapPort=server.tls_port, imapSSL=2, imapCA=str(server.ca_file)
        )
    )


def cpu_seconds(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def private_mb(pid: int) -> float:
    """Memory that is this process's own."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Private_")) / 1024


def timed(action: Callable[[], Any], times: int) -> list[float]:
    """Milliseconds of each of ``times`` runs, ascending."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        action()
        found.append((time.perf_counter() - start) * 1000)
    return sorted(found)
