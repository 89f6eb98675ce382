"""``/api/accounts``: the management API's accounts, word for word as documented."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from flask import Blueprint, Response, current_app, request

from jmapplug.backends import Backend
from jmapplug.errors import JmapplugError, SettingError, SetupError, StorageError, UpstreamError
from jmapplug.plugins import Plugins
from jmapplug.web import bodies
from jmapplug.web.answers import json_answer
from jmapplug.workers.client import WorkerClient
from jmapplug.workers.errors import NotFound, RemoteError, WorkerUnavailable

routes = Blueprint("accounts", __name__)

REGISTRY = "__accounts__"
DEFAULT_TYPE = "imap"  # the documented default; nothing else here knows any backend
MAX_BODY = 256 * 1024
SETUP_SECONDS = 60.0
SYNC_SECONDS = 600.0
STATUS_SECONDS = 5.0
COUNTS = ("folders", "folders_done", "messages", "messages_done", "pending", "unindexed", "in_flight", "subscribers")
NOTHING: dict[str, Any] = dict.fromkeys(COUNTS, 0) | {
    "last_sync": None,
    "error": None,
    "warning": None,
    "storage": None,
    "offers": [],
    "alerts": [],
}
"""The status of an account that no worker has told anything of."""
_ACCOUNT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_EMAIL = re.compile(r"[^\s@\x00-\x1f\x7f]{1,200}@[^\s@\x00-\x1f\x7f]{1,200}")
_SHARED = ("accountid", "email", "type", "pool")


class Invalid(JmapplugError):
    """400 with this text; a field's name comes first where one is to blame."""


def client() -> WorkerClient:
    found: WorkerClient = current_app.extensions["jmapplug.client"]
    return found


def plugins() -> Plugins:
    found: Plugins = current_app.extensions["jmapplug.plugins"]
    return found


def registry(command: str, **header: Any) -> dict[str, Any]:
    """Ask the registry. Raises NotFound, Conflict, WorkerUnavailable."""
    return client().call(REGISTRY, command, header, retry=command in ("list", "get", "open", "reported"))[0]


@routes.get("/api/accounts")
def list_accounts() -> Response:
    return json_answer(registry("list")["accounts"])


@routes.get("/api/accounts/<path:account_id>")
def get_account(account_id: str) -> Response:
    return json_answer(registry("get", accountid=_known_form(account_id)))


@routes.get("/api/backends")
def list_backends() -> Response:
    """Every installed backend with its settings (name, whether required, default, whether secret)."""
    return json_answer([_describe(each) for each in plugins().backends.values()])


def _describe(backend: type[Backend]) -> dict[str, Any]:
    fields = [
        {
            "name": field.encode_name,
            "required": field.required,
            "secret": field.encode_name in backend.secrets,
            "default": None if field.required or field.default is msgspec.NODEFAULT else field.default,
        }
        for field in msgspec.structs.fields(backend.settings)
    ]
    return {"type": backend.type, "label": backend.label, "settings": fields}


@routes.post("/api/accounts")
def create_account() -> Response:
    """Create and initialise; a failed set-up leaves the account and says so in ``warning``."""
    body = _body()
    account_id = _checked_id(body.get("accountid"))
    email = _checked_email(body.get("email"))
    kind = body.get("type", DEFAULT_TYPE)
    backend = plugins().backends.get(kind) if isinstance(kind, str) else None
    if backend is None:
        raise Invalid(f"type: unknown backend; installed are {', '.join(sorted(plugins().backends)) or 'none'}")
    settings = _settings(backend, {name: value for name, value in body.items() if name not in _SHARED})
    pool = body.get("pool")
    if pool is not None and not isinstance(pool, str):
        raise Invalid("pool: an accountid is needed")
    trial = backend()
    settings, warning = _tried(trial, settings, email, body)
    registry("create", accountid=account_id, email=email, type=kind, settings=msgspec.to_builtins(settings), pool=pool)
    warning = _set_up(account_id, warning) or _noted(trial, settings, email)
    answer = {"accountid": account_id, "type": kind}
    return json_answer(answer | ({"warning": warning} if warning else {}), 201)


def _tried(backend: Backend, settings: Any, email: str, given: dict[str, Any]) -> tuple[Any, str | None]:
    """The settings completed and tried on the network, and a warning where the upstream was away or refused.

    A field that the caller gave and that cannot be right is his error: SetupError goes through.
    """
    try:
        return backend.validate(settings, email), None
    except UpstreamError as error:
        return settings, f"setup failed: {error}"
    except SetupError as error:
        if error.field in given and not isinstance(error.__cause__, UpstreamError):
            raise
        return settings, f"setup failed: {error}"


def _set_up(account_id: str, warning: str | None) -> str | None:
    """Start the worker and its first visible data; what went wrong, or may be, in words.

    ``warning``: something is wrong already. The worker is not waited for then; it tries by itself, and tells why not.
    """
    try:
        told = client().call(account_id, "ping" if warning else "setup", timeout=SETUP_SECONDS)[0]
    except JmapplugError as error:
        return warning or f"setup failed: {error}"
    return warning or told.get("warning")


def _noted(backend: Backend, settings: Any, email: str) -> str | None:
    """What an account can do without and does not work, in words."""
    notes = getattr(backend, "notes", None)
    return notes(settings, email) if notes is not None else None


@routes.patch("/api/accounts/<path:account_id>")
def change_account(account_id: str) -> Response:
    """Change settings; what is not named stays. The worker starts anew on them."""
    body = _body()
    current = registry("open", accountid=_known_form(account_id))
    backend = plugins().backends.get(current["type"])
    if backend is None:
        raise Invalid(f"type: the backend {current['type']} is not installed")
    for name in ("accountid", "type", "pool"):
        if name in body and body[name] != current[name]:
            raise Invalid(f"{name}: cannot be changed")
    email = _checked_email(body.get("email", current["email"]))
    changes = {name: value for name, value in body.items() if name not in _SHARED}
    settings = _settings(backend, {**current["settings"], **changes})
    trial = backend()
    settings, warning = _tried(trial, settings, email, body)
    news = msgspec.to_builtins(settings)
    registry("update", accountid=account_id, email=email, settings=news, was=current["settings"])
    warning = _set_up(account_id, warning) or _noted(trial, settings, email)
    answer = registry("get", accountid=account_id)
    return json_answer(answer | ({"warning": warning} if warning else {}))


@routes.delete("/api/accounts/<path:account_id>")
def delete_account(account_id: str) -> Response:
    """Stop the worker, remove the account and every file of it; nothing upstream is touched."""
    registry("delete", accountid=_known_form(account_id))
    return json_answer({"deleted": True})


@routes.post("/api/accounts/<path:account_id>/sync")
def sync_account(account_id: str) -> Response:
    """One full pass now; returns when it is complete."""
    registry("get", accountid=_known_form(account_id))
    try:
        client().call(account_id, "sync", timeout=SYNC_SECONDS, retry=True)
    except JmapplugError as error:
        return json_answer({"error": str(error)}, 500)
    return json_answer({"synced": account_id})


@routes.get("/api/accounts/<path:account_id>/status")
def account_status(account_id: str) -> Response:
    """Progress, last sync, last error, connections: as the worker tells, or told last. Starts and waits for none."""
    known = registry("get", accountid=_known_form(account_id))
    child = next((one for one in client().control("status")["children"] if one["id"] == account_id), None)
    remembered = NOTHING | registry("reported", accountid=account_id) | {"watching": None, "next_retry": None}
    silent = {"phase": "stopped" if child is None else "not answering", "connections": None if child else 0}
    try:
        live = _live(account_id) if child is not None and not child["hangs"] else None
    except SettingError as error:  # its worker cannot begin before an operator has looked
        silent |= {"status": "error", "phase": "failed", "error": str(error)}
        live = None
    told = live or remembered | silent
    answer = {"accountid": account_id, "status": known.get("status"), "running": child is not None, **told}
    return json_answer(answer)


def _live(account_id: str) -> dict[str, Any] | None:
    """What the running worker says; None where it does not within a moment. Raises SettingError."""
    try:
        return client().call(account_id, "status", timeout=STATUS_SECONDS, retry=True)[0]
    except (WorkerUnavailable, StorageError, RemoteError):
        return None


def _body() -> dict[str, Any]:
    """The JSON object of a write. Raises Invalid."""
    try:
        value = msgspec.json.decode(bodies.whole(request.environ, MAX_BODY))
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        raise Invalid("invalid JSON") from None
    if not isinstance(value, dict):
        raise Invalid("invalid JSON: an object is needed")
    return value


def _known_form(account_id: str) -> str:
    """An id that could exist. Raises Invalid (400) for one that never can: ``..``, ``/``, NUL, 300 characters."""
    if not _ACCOUNT_ID.fullmatch(account_id):
        raise Invalid("accountid: letters, digits, - and _ only, 128 at most")
    return account_id


def _checked_id(value: Any) -> str:
    if value is None or value == "":
        raise Invalid("accountid required")
    if not isinstance(value, str):
        raise Invalid("accountid: a string is needed")
    return _known_form(value)


def _checked_email(value: Any) -> str:
    if value is None or value == "":
        raise Invalid("email required")
    if not isinstance(value, str) or not _EMAIL.fullmatch(value):
        raise Invalid("email: an e-mail address is needed")
    return value


def _settings(backend: type[Backend], given: dict[str, Any]) -> Any:
    """The backend's settings Struct. Raises Invalid naming the field."""
    known = {field.encode_name for field in msgspec.structs.fields(backend.settings)}
    for name in given:
        if name not in known:
            raise Invalid(f"{name[:100]}: no such setting of {backend.type}")
    try:
        return msgspec.convert(given, backend.settings)
    except msgspec.ValidationError as error:
        raise Invalid(_field_first(str(error))) from None
    except (ValueError, TypeError, SetupError) as error:
        raise Invalid(str(error)) from None


def _field_first(text: str) -> str:
    """``Expected `int`, got `str` - at `$.imapPort``` → ``imapPort: expected int, got str``."""
    what, _, where = text.replace("`", "").partition(" - at $")
    return f"{where.lstrip('.')}: {what}" if where else what


def missing(error: NotFound) -> Response:
    return json_answer({"error": "not found"}, 404)
