"""The commands of an account's worker: name → function (worker, request)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from jmapplug.errors import AuthenticationError, StorageError, UpstreamError, storage_error
from jmapplug.jmap import dispatch
from jmapplug.jmap.errors import MethodError
from jmapplug.jmap.methods import Limits, Method
from jmapplug.jmap.request import trusted
from jmapplug.store import uploads
from jmapplug.workers.errors import NotFound
from jmapplug.workers.server import Answer, Request

if TYPE_CHECKING:
    from jmapplug.workers.worker import Worker

log = logging.getLogger("jmapplug.workers")


def jmap(worker: Worker, request: Request) -> Answer:
    """Header ``{"session_state", "credential", "limits"?, "run"?}``, payload a Request (or a run's body), checked.

    Answers ``{"calls": [[method, seconds, error type or None], …]}`` and the Response (or the run's answer) as JSON.
    """
    header = request.header
    limits = msgspec.convert(header["limits"], Limits) if header.get("limits") else worker.account.limits
    parsed, credential = trusted(request.payload), str(header.get("credential") or "")
    calls: list[tuple[str, float, str | None]] = []
    disk = Disk()

    def on_call(name: str, seconds: float, error: str | None) -> None:
        calls.append((name, seconds, error))
        log.debug("%s: %s in %.1f ms", name, error or "done", seconds * 1000)

    if header.get("run"):
        outcome = dispatch.run(
            parsed,
            worker.methods,
            worker.account_for,
            limits,
            error_map=disk.failure,
            on_error=defect,
            on_call=on_call,
            admit=disk.admit,
            login=worker.account,
            credential=credential,
        )
        return {"calls": calls}, dispatch.encode_run(outcome, defect)
    body = dispatch.execute(
        parsed,
        worker.methods,
        worker.account_for,
        limits,
        session_state=header.get("session_state", ""),
        error_map=disk.failure,
        on_error=defect,
        on_call=on_call,
        admit=disk.admit,
        login=worker.account,
        credential=credential,
    )
    return {"calls": calls}, body


class Disk:
    """What the disk that our own state is on means for the calls of one Request, which run one after the other."""

    def __init__(self) -> None:
        self._writing = False

    def admit(self, method: Method, account: Any) -> None:
        """Nothing is begun upstream that could not be written down here (mail-rules 28). Raises MethodError."""
        self._writing = False
        if method.writes and account is not None:
            try:
                account.store.check_room()
            except StorageError as error:
                raise unstored(error) from error
        self._writing = method.writes

    def failure(self, error: Exception) -> MethodError | None:
        """A write that was under way may have done something upstream already: the client has to look."""
        storage = storage_error(error) if isinstance(error, OSError) else error
        if isinstance(storage, StorageError):
            return unstored(storage, partial=self._writing)
        return upstream(error)


def unstored(error: StorageError, *, partial: bool = False) -> MethodError:
    """RFC 8620 §3.6.2: trying again later may help; ``partial``: what was done is seen after the next synchronisation.

    Which disk, and what is wrong with it, is the operator's to know.
    """
    log.error("%s", error)
    kind = "serverPartialFail" if partial else "serverUnavailable"
    return MethodError(kind, "The server cannot store anything at the moment.")


def upstream(error: Exception) -> MethodError | None:
    """What a client hears of an upstream's failure; the operator reads the rest in the log (design law 2)."""
    if not isinstance(error, UpstreamError):
        return None
    log.info("upstream: %s", error)
    if isinstance(error, AuthenticationError):
        return MethodError("serverUnavailable", "The mail server does not take the account's stored credentials.")
    if error.temporary:
        return MethodError("serverUnavailable", "The mail server cannot be reached at the moment.")
    return MethodError("serverFail", "The mail server refused the request.")


def defect(name: str, error: Exception) -> None:
    log.error("%s failed: %s", name[:100], type(error).__name__, exc_info=error)


def sync(worker: Worker, request: Request) -> Answer:
    """One full pass, done when answered. Raises UpstreamError."""
    worker.loop.sync()
    return {}


def setup(worker: Worker, request: Request) -> Answer:
    """The first visible data, there when answered: ``{"warning"}``, in words or None. Raises UpstreamError."""
    worker.loop.setup()
    return {"warning": worker.loop.status()["warning"]}


def status(worker: Worker, request: Request) -> Answer:
    """``SyncLoop.status()`` and ``{"in_flight", "subscribers", "connections", "alerts", "storage"}``. No network.

    ``connections``: to the mail server; ``alerts``: what that server wanted a person to see, the newest last;
    ``storage``: what a damaged own.sqlite3 did not give back, in words.
    """
    server, account = worker.server, worker.account
    more: dict[str, Any] = {"in_flight": server.in_flight, "subscribers": len(server.subscribers)}
    more |= {"connections": account.connections, "alerts": account.alerts, "storage": account.store.lost}
    return worker.loop.status() | more


def blob(worker: Worker, request: Request) -> Answer:
    """``{"blob_id"}`` → ``{"path", "size", "type", "name", "immutable"}``, a file to stream. Raises NotFound."""
    found = worker.account.blob(str(request.header.get("blob_id", "")))
    if found is None:
        raise NotFound("no such blob")
    return {
        "path": str(found.path),
        "size": found.size,
        "type": found.type,
        "name": found.name,
        "immutable": found.immutable,
    }


def upload_path(worker: Worker, request: Request) -> Answer:
    """→ ``{"path"}``: the account's own folder to stream uploads into (name them after their blob id).

    Raises StorageError when there is no room.
    """
    worker.account.store.check_room()
    return {"path": str(worker.account.store.blobs.uploads)}


def upload(worker: Worker, request: Request) -> Answer:
    """``{"id": "f-<uuid>", "path", "type", "size"}`` → ``{"blob_id", "type", "size"}``.

    ``path``: the complete file, in the folder that "upload_path" told; it is taken over under the blob's own name.
    Raises NotFound for another folder, no file, or an id of another shape; StorageError, and then no file stays.
    """
    header, store = request.header, worker.account.store
    ident, kind, size = str(header["id"]), str(header["type"]), int(header["size"])
    given = Path(str(header["path"]))
    try:
        target = store.blobs.upload_path(ident)
        if given.parent != target.parent:
            raise NotFound("not an upload's path")
        if given != target:
            given.rename(target)
    except (KeyError, FileNotFoundError):
        raise NotFound("no such upload") from None
    try:
        uploads.record(store, ident, kind, size, time.time())
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return {"blob_id": ident, "type": kind, "size": size}


def subscribe(worker: Worker, request: Request) -> Answer:
    """→ ``{"states": {type: state}, "id": position}``, as they are now.

    From now on this connection gets events ``{"changed": {type: state}, "id": position}``.
    """
    request.connection.subscribed = True
    return {"states": worker.account.states(), "id": worker.account.store.announced}


def unsubscribe(worker: Worker, request: Request) -> Answer:
    request.connection.subscribed = False
    return {}


def stop(worker: Worker, request: Request) -> Answer:
    """End after the requests under way."""
    worker.stopping.set()
    return {}


def ping(worker: Worker, request: Request) -> Answer:
    """The header and payload back."""
    return request.header, request.payload


COMMANDS: dict[str, Callable[[Worker, Request], Answer]] = {
    "jmap": jmap,
    "sync": sync,
    "setup": setup,
    "status": status,
    "blob": blob,
    "upload_path": upload_path,
    "upload": upload,
    "subscribe": subscribe,
    "unsubscribe": unsubscribe,
    "stop": stop,
    "ping": ping,
}
