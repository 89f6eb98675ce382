"""A house: settings, a supervisor, clients, and the plugin of house_plugin.py, all in a folder of the test."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import gevent
import pytest

from jmapplug.settings import load
from jmapplug.workers import control
from jmapplug.workers.client import WorkerClient

PLUGIN = Path(__file__).with_name("house_plugin.py")
URN = "urn:test:house"
PATIENCE = 60


class House:
    """One data folder and everything that runs on it."""

    patience = PATIENCE

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.folder = folder
        self.env = env
        self.settings = self.load()
        self.clients: list[WorkerClient] = []

    def load(self, **more):
        return load(self.env | {name: str(value) for name, value in more.items()})

    def client(self, **more) -> WorkerClient:
        client = WorkerClient(self.load(**more) if more else self.settings)
        self.clients.append(client)
        client.start()
        return client

    def add(self, client, accountid="alice", **more):
        settings = {"username": f"{accountid}-login", "password": "secret", "host": "nowhere"} | more
        header = {"accountid": accountid, "email": f"{accountid}@example.com", "type": "house", "settings": settings}
        return client.call("__accounts__", "create", header)[0]

    def jmap(self, client, accountid, method, retry=False, **args):
        """The arguments of the method's one response; ``error`` responses too."""
        calls = [[f"House/{method}", {"accountId": accountid, **args}, "c"]]
        body = json.dumps({"using": [URN], "methodCalls": calls}).encode()
        _, answer = client.call(accountid, "jmap", {"session_state": "s"}, body, timeout=PATIENCE, retry=retry)
        return json.loads(answer)["methodResponses"][0][1]

    def children(self, client):
        return {child["id"]: child for child in client.control("status")["children"]}

    def until(self, condition, what="the condition"):
        """Wait for ``condition()`` to be true; its value."""
        with gevent.Timeout(PATIENCE, AssertionError(f"{what} did not come true")):
            while not (value := condition()):
                gevent.sleep(0.005)
        return value

    def ended(self, pid):
        self.until(lambda: not alive(pid), f"the end of {pid}")

    def ended_unseen(self, pid):
        """Wait for its end without giving any greenlet a turn: nobody has read yet that its connections are gone."""
        end = time.monotonic() + PATIENCE
        while alive(pid):
            assert time.monotonic() < end, f"{pid} does not end"
            time.sleep(0.001)

    def end(self):
        for client in self.clients:
            client.close(timeout=PATIENCE)
        try:
            pid = control.ask(self.settings, "status", timeout=PATIENCE)["pid"]
            control.ask(self.settings, "shutdown", timeout=PATIENCE)
            self.ended(pid)
        except OSError:
            pass


def alive(pid):
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def house(tmp_path, monkeypatch):
    site = tmp_path / "site"
    info = site / "house_plugin-1.dist-info"
    info.mkdir(parents=True)
    (site / "house_plugin.py").write_text(PLUGIN.read_text())
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: house-plugin\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[jmapplug]\nhouse = house_plugin\n")
    monkeypatch.setenv("PYTHONPATH", str(site))
    env = {
        "JMAP_DATADIR": str(tmp_path / "data"),
        "JMAP_MGMT_PORT": "0",
        "JMAP_SYNC_INTERVAL": "30",
        "JMAP_IDLE_TIMEOUT": "300",
    }
    made = House(tmp_path, env)
    yield made
    made.end()


@pytest.fixture
def kill():
    def kill(pid, number=signal.SIGKILL):
        os.kill(pid, number)

    return kill


@pytest.fixture
def clock():
    return time.monotonic
