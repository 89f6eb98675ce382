"""A real ``jmapplug serve`` in a fresh data folder on free ports, and a client that speaks JMAP in one line."""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from jmapplug.testing.ports import HOST, accepts, free_ports, running, stop, wait_until

ASK = """
import json, os, sys
from jmapplug import settings
from jmapplug.workers.client import WorkerClient
client = WorkerClient(settings.load(os.environ), lead=False)
print(json.dumps(client.call("__accounts__", sys.argv[1], json.loads(sys.argv[2]))[0]))
"""
USING = ("urn:ietf:params:jmap:core", "urn:ietf:params:jmap:mail")


class MailServer(Protocol):
    """What an account needs to know of a server fixture."""

    host: str
    port: int
    password: str


@dataclass(slots=True)
class Reply:
    """An HTTP answer, read to its end. ``headers`` in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def basic(user: str, password: str) -> str:
    """The value of an Authorization header."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class Http:
    """One kept-alive connection."""

    def __init__(self, port: int, headers: dict[str, str] | None = None, timeout: float = 120) -> None:
        self.connection = http.client.HTTPConnection(HOST, port, timeout=timeout)
        self.headers = headers or {}

    def send(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Reply:
        """``body``: bytes go as they are, anything else as JSON."""
        sent = {**self.headers, **(headers or {})}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        self.connection.request(method, path, body, sent)
        answer = self.connection.getresponse()
        return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())


class Client(Http):
    """JMAP as one account's user."""

    def __init__(self, port: int, account: str, authorization: str) -> None:
        super().__init__(port, {"Authorization": authorization})
        self.account = account

    def request(self, *calls: tuple[str, dict[str, Any]], using: tuple[str, ...] = USING) -> list[Any]:
        """The method responses of one Request; ``accountId`` is filled in."""
        rows = [[name, {"accountId": self.account, **args}, str(n)] for n, (name, args) in enumerate(calls)]
        reply = self.send("POST", "/jmap", {"using": list(using), "methodCalls": rows})
        assert reply.status == 200, reply
        responses: list[Any] = reply.json["methodResponses"]
        return responses

    def answers(self, *calls: tuple[str, dict[str, Any]], using: tuple[str, ...] = USING) -> list[dict[str, Any]]:
        """The arguments of the response to each call of one Request; an error is an AssertionError."""
        responses = self.request(*calls, using=using)
        failed = [(name, answer) for name, answer, _ in responses if name == "error"]
        assert not failed, f"{failed} among the answers to {[name for name, _ in calls]}: {responses}"
        assert [name for name, *_ in responses] == [name for name, _ in calls], responses
        return [answer for _, answer, _ in responses]

    def call(self, name: str, /, **args: Any) -> dict[str, Any]:
        """The arguments of the response to one call; an error is an AssertionError."""
        (answer,) = self.answers((name, args))
        return answer

    def error(self, name: str, /, **args: Any) -> dict[str, Any]:
        """The error that one call answers."""
        ((kind, answer, _),) = self.request((name, args))
        assert kind == "error", answer
        result: dict[str, Any] = answer
        return result

    def mailbox(self, role: str) -> str:
        """The id of the Mailbox with a role."""
        boxes = self.call("Mailbox/get", ids=None)["list"]
        return str(next(box["id"] for box in boxes if box["role"] == role))


def in_step(status: dict[str, Any]) -> bool:
    """Whether an account's worker runs and says that nothing is left to do."""
    if not status["running"]:
        return False
    return bool(status["last_sync"]) and status["phase"] == "idle" and not status["pending"] + status["unindexed"]


class Proxy:
    """The service under test."""

    def __init__(self, command: list[str] | None = None, **environ: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="jps-"))
        self.port, self.mgmt = free_ports(2)
        self.environ = {
            **os.environ,
            "JMAP_HOST": HOST,
            "JMAP_PORT": str(self.port),
            "JMAP_MGMT_PORT": str(self.mgmt),
            "JMAP_DATADIR": str(self.folder / "data"),
            **environ,
        }
        self.command = command or [sys.executable, "-m", "jmapplug", "serve"]
        self.start()

    def start(self) -> None:
        """Start (again) on the same data, when the one before has given up its ports."""
        wait_until(lambda: not accepts(self.port) and not accepts(self.mgmt), "the ports are free")
        log = open(self.folder / "log", "ab")  # noqa: SIM115 - the child keeps it
        command = [part.format(port=self.port) for part in self.command]
        self.process = subprocess.Popen(command, env=self.environ, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            wait_until(lambda: accepts(self.port) and accepts(self.mgmt), "the proxy listens")
        except AssertionError as error:
            raise AssertionError((self.folder / "log").read_text()[-4000:]) from error

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    @property
    def management(self) -> Http:
        return Http(self.mgmt)

    @property
    def http(self) -> Http:
        return Http(self.port)

    def add(self, account: str, server: MailServer, user: str, **more: Any) -> Client:
        """Add an account over the management API; its user's client."""
        body = {
            "accountid": account,
            "email": user,
            "password": server.password,
            "imapHost": server.host,
            "imapPort": server.port,
            "imapSSL": 0,
            **more,
        }
        reply = self.management.send("POST", "/api/accounts", body)
        assert reply.status == 201, reply
        assert "warning" not in reply.json, reply
        return self.client(account, user, server.password)

    def registry(self, command: str, **header: Any) -> dict[str, Any]:
        """Ask the registry of the running service, from a process beside it."""
        asked = [sys.executable, "-c", ASK, command, json.dumps(header)]
        done = subprocess.run(asked, env=self.environ, check=True, capture_output=True, text=True)
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def client(self, account: str, user: str, password: str) -> Client:
        return Client(self.port, account, basic(user, password))

    def sync(self, account: str) -> None:
        """One full pass now."""
        reply = self.management.send("POST", f"/api/accounts/{account}/sync")
        assert reply.status == 200, reply

    def status(self, account: str) -> dict[str, Any]:
        value: dict[str, Any] = self.management.send("GET", f"/api/accounts/{account}/status").json
        return value

    def settled(self, account: str, timeout: float = 120) -> None:
        """Wait until the first sync and the text index are complete; a worker that does not run is started, again where

        it ends meanwhile.
        """
        self.management.send("POST", f"/api/accounts/{account}/sync")

        def settled() -> bool:
            status = self.status(account)
            if not status["running"]:
                self.management.send("POST", f"/api/accounts/{account}/sync")
                status = self.status(account)
            return in_step(status)

        wait_until(settled, f"{account} is in step", timeout)

    def worker_pid(self, account: str) -> int:
        """The pid of an account's worker."""
        wanted = str(self.folder / "data" / "accounts" / account / "cache.sqlite3")
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and wanted in _files(entry):
                return int(entry.name)
        raise AssertionError(f"no worker of {account}")

    def kill(self) -> None:
        """The front, the supervisor and so every worker, without a warning; :meth:`start` begins anew."""
        supervisor = int(self.management.send("GET", "/healthz").json["pid"])
        for pid in (self.process.pid, supervisor):
            os.kill(pid, signal.SIGKILL)
        self.process.wait()
        wait_until(lambda: not running(supervisor), "the supervisor is gone")

    def stop(self) -> None:
        stop(self.process)
        shutil.rmtree(self.folder, ignore_errors=True)


def _files(process: Path) -> set[str]:
    """What a process of /proc has open; one that closes meanwhile does not hide the others."""
    found = set()
    with suppress(OSError):
        for link in (process / "fd").iterdir():
            with suppress(OSError):
                found.add(os.readlink(link))
    return found
