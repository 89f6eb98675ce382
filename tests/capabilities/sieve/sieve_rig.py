"""An account over a real Pigeonhole, with a server between the two that hides extensions and cuts connections."""

from __future__ import annotations

import smtplib
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gevent
import gevent.socket
import pytest
from gevent.server import StreamServer
from gevent.socket import create_connection
from jmapplug_imap.protocol import transport
from jmapplug_imap.settings import ImapSettings
from jmapplug_imap.sieve import Sieve, connect_sieve

from jmapplug import plugins
from jmapplug.capabilities.sieve.scripts import URN
from jmapplug.capabilities.sieve.service import SieveService
from jmapplug.jmap.errors import MethodError
from jmapplug.jmap.methods import Call, Limits
from jmapplug.store import uploads
from jmapplug.store.account import Store
from jmapplug.store.blobs import BlobRef


class Between:
    """``hide``: extensions that the client does not see. ``cut``: (verb, "before" or "after") → the connection is cut

    when that command comes: before the server has it, or when the server has answered. ``seen``: the verbs, in order.
    """

    def __init__(self, host: str, port: int) -> None:
        self.hide: set[str] = set()
        self.cut: tuple[str, str] | None = None
        self.seen: list[str] = []
        self._target = (host, port)
        self._server = StreamServer(("127.0.0.1", 0), self._serve)
        self._server.start()
        self.port = int(self._server.server_port)

    def stop(self) -> None:
        self._server.stop()

    def _serve(self, client: Any, address: object) -> None:
        server = create_connection(self._target)
        state = SimpleNamespace(deaf=False)
        down = gevent.spawn(self._down, server, client, state)
        file = client.makefile("rb")
        while line := file.readline():
            while line.rstrip().endswith(b"+}"):
                line += file.read(int(line.rstrip().rpartition(b"{")[2][:-2])) + file.readline()
            verb = line.split()[0].decode()
            self.seen.append(verb)
            if self.cut is not None and self.cut[0] == verb:
                when, self.cut = self.cut[1], None
                if when == "after":
                    state.deaf = True
                    server.sendall(line)
                    down.join(60)
                break
            server.sendall(line)
        client.close()
        server.close()

    def _down(self, server: Any, client: Any, state: Any) -> None:
        try:
            for line in server.makefile("rb"):
                if state.deaf:
                    return
                if line.startswith(b'"SIEVE"'):
                    kept = [name for name in line.split(b'"')[3].decode().split() if name not in self.hide]
                    line = b'"SIEVE" "' + " ".join(kept).encode() + b'"\r\n'
                client.sendall(line)
        except OSError:
            pass


class Rig:
    """``call`` runs a method; ``other`` is a second ManageSieve client of the same user."""

    def __init__(self, folder: Path, server: Any) -> None:
        self.server = server
        self.user = server.new_user()
        self.between = Between(server.host, server.sieve_port)
        self.source = self._client(self.between.port)
        self.other = self._client(server.sieve_port)
        found = plugins.load()
        self.methods = found.methods
        self.told: list[str] = []
        self.store = Store(folder / "account", found.schemas, on_change=lambda changed: self.told.extend(changed))
        self.facts: dict[str, Any] = {}
        self.account = SimpleNamespace(
            id="acc", email=self.user, store=self.store, sieve_source=lambda: self.source, blob=self._blob,
            learn=self.facts.__setitem__, services={},
        )  # fmt: skip
        self.service = self.account.services[URN] = SieveService(self.account)
        self.created: dict[str, str] = {}
        self.identities: list[str] = []
        self._blobs = found.blobs

    def close(self) -> None:
        self.source.close()
        self.other.close()
        self.between.stop()
        self.store.close()

    def _client(self, port: int) -> Sieve:
        given = ImapSettings(sieveHost=self.server.host, sievePort=port, sieveSSL=0, password=self.server.password)
        return Sieve(lambda: connect_sieve(given, self.user))

    def _blob(self, ident: str) -> BlobRef | None:
        resolve = self._blobs.get(ident.partition("-")[0])
        try:
            return resolve(self.account, ident) if resolve else None
        except KeyError:
            return None

    def upload(self, content: bytes) -> str:
        ident = f"f-{uuid.uuid4()}"
        self.store.blobs.upload_path(ident).write_bytes(content)
        uploads.record(self.store, ident, "application/sieve", len(content), time.time())
        return ident

    def call(self, name: str, **args: Any) -> dict[str, Any]:
        """The response; an error is a MethodError."""

        def invoke(other: str, more: dict[str, Any]) -> dict[str, Any]:
            if other == "Identity/get":
                return {"list": [{"id": str(n), "email": each} for n, each in enumerate(self.identities)]}
            return self.call(other, **more)

        call = Call(name, "acc", self.account, Limits(), self.created, frozenset(), invoke=invoke)
        return self.methods[name].handler(call, {"accountId": "acc", **args})

    def error(self, name: str, **args: Any) -> MethodError:
        try:
            answer = self.call(name, **args)
        except MethodError as error:
            return error
        raise AssertionError(answer)

    # --- mail

    def deliver(self, sender: str, subject: str, to: str) -> None:
        """A message by LMTP, through the active script."""
        head = f"From: {sender}\r\nTo: {to}\r\nSubject: {subject}\r\nMessage-ID: <{uuid.uuid4()}@example.com>\r\n"
        with smtplib.LMTP(self.server.host, self.server.lmtp_port, local_hostname="localhost") as lmtp:
            lmtp.sendmail(sender, [self.user], f"{head}\r\nSome text.\r\n".encode())

    def count(self, folder: str) -> int:
        """Messages in a folder; 0 where there is none."""
        client = self.server.imap(self.user)
        status, data = client.select(folder)
        client.logout()
        return int(data[0]) if status == "OK" else 0

    # --- shorthands

    def make(self, name: str, content: bytes = b"keep;\r\n", **more: Any) -> str:
        """A script made through JMAP; its id."""
        reply = self.call("SieveScript/set", create={"k": {"name": name, "blobId": self.upload(content)}}, **more)
        assert reply["created"], reply
        return str(reply["created"]["k"]["id"])

    def activate(self, id_: str) -> dict[str, Any]:
        return self.call("SieveScript/set", onSuccessActivateScript=id_)

    def scripts(self) -> dict[str, dict[str, Any]]:
        """Name → SieveScript."""
        return {each["name"]: each for each in self.call("SieveScript/get", ids=None)["list"]}

    def active(self) -> list[str]:
        """The names that clients see as active."""
        return [name for name, each in self.scripts().items() if each["isActive"]]

    def vacation(self) -> dict[str, Any]:
        (found,) = self.call("VacationResponse/get", ids=None)["list"]
        return dict(found)

    def respond(self, **values: Any) -> dict[str, Any]:
        """VacationResponse/set; its SetError, or {}."""
        reply = self.call("VacationResponse/set", update={"singleton": values})
        return dict((reply["notUpdated"] or {}).get("singleton", {}))


@pytest.fixture
def rig(tmp_path: Path, dovecot_sieve: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    """Waiting for the server is a switch to other greenlets, as in a worker."""
    monkeypatch.setattr(transport, "socket", gevent.socket)
    made = Rig(tmp_path, dovecot_sieve)
    yield made
    made.close()
