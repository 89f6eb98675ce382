"""An account with nothing but a store, and Requests run through the dispatcher."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from jmapplug.capabilities.blob import BLOB
from jmapplug.capabilities.core import CORE
from jmapplug.jmap.dispatch import execute
from jmapplug.jmap.methods import Limits
from jmapplug.jmap.request import parse
from jmapplug.store import uploads
from jmapplug.store.account import Store
from jmapplug.store.blobs import BlobRef

METHODS = {method.name: method for method in (*BLOB.methods, *CORE.methods)}
USING = [BLOB.urn, CORE.urn, "urn:ietf:params:jmap:mail"]


class BlobRig:
    """``call`` one method, ``request`` several; uploads are the only blobs."""

    def __init__(self, folder: Path, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.store = Store(folder / "account")
        self.account = SimpleNamespace(id="acc", store=self.store, limits=self.limits, blob=self.blob)
        self.on_blob: Any = lambda blob_id: None

    def blob(self, blob_id: str) -> BlobRef | None:
        self.on_blob(blob_id)
        upload = uploads.find(self.store, blob_id, time.time())
        return None if upload is None else BlobRef(self.store.blobs.upload_path(blob_id), upload.size, upload.type)

    def put(self, octets: bytes) -> str:
        return uploads.make(self.store, "a/b", lambda path: path.write_bytes(octets), time.time()).id

    def octets(self, blob_id: str) -> bytes:
        return self.store.blobs.upload_path(blob_id).read_bytes()

    def request(self, *calls: tuple[str, dict[str, Any]], using: list[str] = USING) -> list[Any]:
        rows = [[name, {"accountId": "acc", **args}, str(n)] for n, (name, args) in enumerate(calls)]
        body = json.dumps({"using": using, "methodCalls": rows}).encode()
        accounts = {"acc": self.account}
        answer = execute(parse(body, USING, self.limits), METHODS, accounts.get, self.limits, session_state="s")
        return [(name, args) for name, args, _ in json.loads(answer)["methodResponses"]]

    def call(self, name: str, **args: Any) -> dict[str, Any]:
        ((kind, answer),) = self.request((name, args))
        assert kind == name, answer
        return answer

    def error(self, name: str, **args: Any) -> dict[str, Any]:
        ((kind, answer),) = self.request((name, args))
        assert kind == "error", answer
        return answer

    def upload(self, *data: dict[str, Any], **more: Any) -> dict[str, Any]:
        """The created blob, or the SetError."""
        answer = self.call("Blob/upload", create={"x": {"data": list(data), **more}})
        return (answer["created"] or answer["notCreated"])["x"]

    def leftovers(self) -> list[Path]:
        return list(self.store.blobs.parts.glob("new-*"))

    def close(self) -> None:
        self.store.close()
