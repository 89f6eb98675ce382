"""What an account costs while nothing happens and a client listens: nothing is asked, written or told."""

from __future__ import annotations

import http.client
import re
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from scene import Scene, message

from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.hiding import Hiding
from jmapplug.testing.ports import HOST, wait_until
from jmapplug.testing.proxy import Client, Proxy

INTERVAL = 3
WINDOW = 2.5 * INTERVAL
"""Seconds that are counted in; a service that looked at every interval would have done so twice."""
WAKES = 8
"""A worker's in that time: its pulse (8 a minute), a step of its wait, and what this machine adds."""


@pytest.fixture(scope="module")
def patient() -> Iterator[Proxy]:
    """A proxy whose workers stay."""
    service = Proxy(JMAP_SYNC_INTERVAL=str(INTERVAL), JMAP_IDLE_TIMEOUT="0")
    yield service
    service.stop()


def wakes(pid: int) -> int:
    """How often a process has slept so far."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"(?m)^voluntary_ctxt_switches:\s+(\d+)", text)[1])  # type: ignore[index]


def listening(client: Client) -> http.client.HTTPConnection:
    """An open event stream."""
    connection = http.client.HTTPConnection(HOST, client.connection.port, timeout=60)
    connection.request("GET", "/eventsource?types=*&closeafter=no&ping=0", headers=client.headers)
    assert connection.getresponse().status == 200
    return connection


def test_nothing_is_asked_written_or_told_while_nothing_happens(
    patient: Proxy, dovecot: Dovecot, account_name: str
) -> None:
    """A window is quiet, once what followed the beginning is over (a pass every ten minutes may fall into one)."""
    relay = Hiding(dovecot.port)
    scene = Scene(patient, dovecot, account_name, "dovecot")
    scene.append("INBOX", message("first"))
    scene.begin(imapPort=relay.port)
    pid = patient.worker_pid(account_name)
    registry = patient.folder / "data" / "accounts.sqlite3"
    seen: list[tuple[int, bool, int]] = []

    def quiet() -> bool:
        octets, written, woken = relay.octets, registry.stat().st_mtime_ns, wakes(pid)
        time.sleep(WINDOW)
        seen.append((relay.octets - octets, registry.stat().st_mtime_ns != written, wakes(pid) - woken))
        asked, changed, more = seen[-1]
        return not asked and not changed and more <= WAKES

    with closing(listening(scene.jmap)):
        wait_until(quiet, f"a quiet window, (octets, written, wakes): {seen}", 8 * WINDOW)
        # And it is awake all the same.
        scene.append("INBOX", message("second"))
        wait_until(lambda: len(scene.jmap.call("Email/query")["ids"]) == 2, "the new message is there")
    scene.close()
    relay.close()
