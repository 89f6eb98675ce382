"""``GET /api/openapi.json``: the management API described, from one table and the installed backends' settings."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import msgspec
from flask import Blueprint, Response

from jmapplug.plugins import Plugins
from jmapplug.web.answers import json_answer
from jmapplug.web.management.accounts import plugins

routes = Blueprint("openapi", __name__)

ACCOUNT = {
    "accountid": {"type": "string"},
    "email": {"type": "string"},
    "type": {"type": "string"},
    "folders": {"type": "integer"},
    "messages": {"type": "integer"},
    "status": {"type": "string"},
    "lastSync": {"type": ["number", "null"], "description": "unix seconds"},
    "error": {"type": ["string", "null"]},
    "pool": {"type": "string"},
}
HEALTH = {
    "status": {"type": "string"},
    "uptime": {"type": "integer"},
    "children": {"type": "integer"},
    "pid": {"type": "integer"},
}
COUNT = {"type": "integer"}
STATUS = {
    "accountid": {"type": "string"},
    "status": {"enum": ["new", "syncing", "ok", "error"]},
    "running": {"type": "boolean", "description": "whether the account's worker runs; asking does not start it"},
    "phase": {
        "enum": ["stopped", "not answering", "setup", "listing", "sync", "history", "idle", "failed"],
        "description": "stopped: the rest is what was told last; failed: the next try is in next_retry seconds",
    },
    "folders": COUNT,
    "folders_done": COUNT | {"description": "read to their end at least once"},
    "messages": COUNT,
    "messages_done": COUNT | {"description": "visible to clients"},
    "pending": COUNT | {"description": "messages whose details are still to be fetched"},
    "unindexed": COUNT | {"description": "messages whose text is not searched here yet"},
    "watching": {"enum": ["notify", "idle", "poll", None], "description": "how changes upstream are learnt"},
    "connections": {"type": ["integer", "null"], "description": "open to the mail server"},
    "last_sync": {"type": ["number", "null"], "description": "unix seconds of the last complete pass"},
    "error": {"type": ["string", "null"], "description": "of the last pass, for an operator"},
    "warning": {"type": ["string", "null"], "description": "the account has moved to where hardly any of its mail is"},
    "next_retry": {"type": ["number", "null"], "description": "seconds until the next try after a failure"},
    "alerts": {"type": "array", "description": "what the mail server wanted a person to see, the newest last"},
    "storage": {"type": ["string", "null"], "description": "what was lost when the account's files were damaged"},
    "in_flight": COUNT | {"description": "requests under way"},
    "subscribers": COUNT | {"description": "connections that want to hear of changes"},
}
HOW = {"type": "object", "properties": STATUS, "required": sorted(STATUS)}

LIST = {"type": "array", "items": {"$ref": "#/components/schemas/Account"}}
ONE = {"$ref": "#/components/schemas/Account"}
CREATED = {"$ref": "#/components/schemas/Created"}

# (method, path, summary, status of success, schema of success, further statuses)
OPERATIONS: tuple[tuple[str, str, str, int, dict[str, Any], tuple[int, ...]], ...] = (
    ("get", "/healthz", "Process status", 200, {"type": "object", "properties": HEALTH}, ()),
    ("get", "/metrics", "Prometheus metrics", 200, {"type": "string"}, ()),
    ("get", "/api/backends", "Installed backends", 200, {"type": "array", "items": {"type": "object"}}, ()),
    ("get", "/api/accounts", "All accounts", 200, LIST, ()),
    ("post", "/api/accounts", "Create an account", 201, CREATED, (400, 409, 415)),
    ("get", "/api/accounts/{accountid}", "One account", 200, ONE, (400, 404)),
    ("patch", "/api/accounts/{accountid}", "Change settings", 200, ONE, (400, 404, 415)),
    ("delete", "/api/accounts/{accountid}", "Delete an account", 200, {"type": "object"}, (400, 404)),
    ("post", "/api/accounts/{accountid}/sync", "Synchronise now", 200, {"type": "object"}, (400, 404, 500)),
    ("get", "/api/accounts/{accountid}/status", "Progress", 200, HOW, (400, 404)),
)  # fmt: skip


@routes.get("/api/openapi.json")
def openapi() -> Response:
    return json_answer(document(plugins()))


def document(found: Plugins) -> dict[str, Any]:
    """An OpenAPI 3.1 document; each backend's settings are a schema named after its type."""
    paths: dict[str, dict[str, Any]] = {}
    for method, path, summary, status, schema, errors in OPERATIONS:
        operation: dict[str, Any] = {"summary": summary, "responses": {str(status): _answer("OK", schema)}}
        for code in errors:
            operation["responses"][str(code)] = _answer("Error", {"$ref": "#/components/schemas/Error"})
        if "{accountid}" in path:
            name = {"name": "accountid", "in": "path", "required": True, "schema": {"type": "string"}}
            operation["parameters"] = [name]
        if method in ("post", "patch") and not path.endswith("/sync"):
            operation["requestBody"] = {"content": {"application/json": {"schema": _settings(found)}}}
        paths.setdefault(path, {})[method] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "jmapplug management API", "version": version("jmapplug")},
        "paths": paths,
        "components": {"schemas": _schemas(found)},
    }


def _answer(text: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def _settings(found: Plugins) -> dict[str, Any]:
    shared = {name: {"type": "string"} for name in ("accountid", "email", "type", "pool")}
    kinds = [{"$ref": f"#/components/schemas/Settings.{kind}"} for kind in found.backends]
    return {"type": "object", "properties": shared, "anyOf": kinds}


def _schemas(found: Plugins) -> dict[str, Any]:
    created = {"accountid": {"type": "string"}, "type": {"type": "string"}, "warning": {"type": "string"}}
    schemas: dict[str, Any] = {
        "Account": {"type": "object", "properties": ACCOUNT},
        "Created": {"type": "object", "properties": created, "required": ["accountid", "type"]},
        "Error": {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]},
    }
    for kind, backend in found.backends.items():
        (_,), defined = msgspec.json.schema_components([backend.settings], ref_template="#/components/schemas/{name}")
        schemas[f"Settings.{kind}"] = defined.pop(backend.settings.__name__)
        schemas.update(defined)
    return schemas
