"""Each hook does what docs/hooks.md says, seen from a small plugin. One test per hook: ``test_hook_<name>``."""

from __future__ import annotations

import itertools
from typing import Any

import click
import flask
import msgspec
import pytest
from click.testing import CliRunner
from werkzeug.test import EnvironBuilder

from jmapplug import Capability, Method, Schema, Setting, cli, hookimpl, plugins
from jmapplug import settings as settings_module
from jmapplug.push.hub import Hub
from jmapplug.web.app import create_app
from jmapplug.web.auth import Authenticator, Principal, Unauthorized
from jmapplug.web.front import Front
from jmapplug.web.management import process

URN = "urn:example:note"


class Point:
    """An entry point whose object is at hand."""

    def __init__(self, name: str, plugin: object) -> None:
        self.name, self._plugin = name, plugin

    def load(self) -> object:
        return self._plugin


def build(*found: object) -> plugins.Plugins:
    return plugins.build(found=[Point(f"plugin-{number}", each) for number, each in enumerate(found)])


class Client:
    """What the apps ask of a WorkerClient where no worker is needed."""

    def control(self, command: str, **arguments: Any) -> dict[str, Any]:
        return {"pid": 1, "started": 0.0, "children": []}

    def call(self, account: str, command: str, header: Any = None, **more: Any) -> tuple[dict[str, Any], bytes]:
        return {"list": {"accounts": []}, "counters": {"totals": {}}}[command], b""


def settings(found: plugins.Plugins, **environ: str) -> settings_module.Settings:
    return settings_module.load({"JMAP_DATADIR": "/nowhere", **environ}, registered=found.settings)


def front(found: plugins.Plugins) -> Front:
    ours, client = settings(found), Client()
    return Front(ours, found, client, Authenticator(ours, found, client, bytes(32)), Hub(client))


def request(**headers: str) -> flask.Request:
    return flask.Request(EnvironBuilder(headers=headers).get_environ())


def test_hook_register_backends() -> None:
    class Pigeon:
        type = "pigeon"

    class Plugin:
        @hookimpl
        def register_backends(self) -> list[Any]:
            return [Pigeon]

    assert build(Plugin()).backends == {"pigeon": Pigeon}


def test_hook_register_capabilities() -> None:
    method = Method("Note/get", lambda call, args: {}, URN)

    def blob(account: Any, blob_id: str) -> None:
        """No note has a blob."""

    class Plugin:
        @hookimpl
        def register_capabilities(self) -> list[Capability]:
            schema = Schema(cache=("CREATE TABLE note (id TEXT)",))
            return [Capability(URN, (method,), schema=schema, types=("Note",), blobs={"n": blob})]

    found = build(Plugin())
    assert found.capabilities[URN].urn == URN
    assert found.methods["Note/get"] is method
    assert found.blobs["n"] is blob
    assert "Note" in found.types
    assert Schema(cache=("CREATE TABLE note (id TEXT)",)) in found.schemas


def test_hook_register_settings() -> None:
    class Plugin:
        @hookimpl
        def register_settings(self) -> list[Setting]:
            return [Setting("NOTE_LIMIT", int, "5", "how many notes")]

    found = build(Plugin())
    assert settings(found).extra["NOTE_LIMIT"] == 5
    assert settings(found, NOTE_LIMIT="7").extra["NOTE_LIMIT"] == 7
    assert settings(found, NOTE_LIMIT="7").to_env()["NOTE_LIMIT"] == "7"


def test_hook_register_public_routes() -> None:
    routes = flask.Blueprint("note", __name__)
    routes.add_url_rule("/note", view_func=lambda: "a note")

    class Plugin:
        @hookimpl
        def register_public_routes(self) -> list[flask.Blueprint]:
            return [routes]

    app = create_app(front(build(Plugin())))
    assert app.test_client().get("/note").data == b"a note"


def test_hook_register_management_routes() -> None:
    routes = flask.Blueprint("note", __name__)
    routes.add_url_rule("/api/notes", view_func=lambda: "all notes")

    class Plugin:
        @hookimpl
        def register_management_routes(self) -> list[flask.Blueprint]:
            return [routes]

    found = build(Plugin())
    client = process.create_app(settings(found), found, Client()).test_client()
    assert client.get("/api/notes").data == b"all notes"
    # The guard stands before a plugin's routes as before ours.
    assert client.get("/api/notes", headers={"Host": "evil.example"}).status_code == 403


def test_hook_register_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    class Plugin:
        @hookimpl
        def register_commands(self, cli: click.Group) -> None:
            @cli.command()
            def note() -> None:
                click.echo("noted")

    monkeypatch.setattr(plugins, "load", lambda: build(Plugin()))
    result = CliRunner().invoke(cli.build(), ["note"])
    assert (result.exit_code, result.output) == (0, "noted\n")


def test_hook_authenticate() -> None:
    principal = Principal("alice", "cookie", {})

    class Silent:
        @hookimpl(tryfirst=True)
        def authenticate(self, request: flask.Request) -> None:
            """Knows nobody: the next one is asked."""

    class Cookie:
        @hookimpl
        def authenticate(self, request: flask.Request) -> Principal | None:
            return principal if request.cookies.get("who") == "alice" else None

    here = front(build(Cookie(), Silent()))
    app = create_app(here)

    def answer(**headers: str) -> Principal:
        with app.test_request_context(headers=headers):
            return here.auth.principal(flask.request)

    assert answer(Cookie="who=alice") is principal
    with pytest.raises(Unauthorized):
        answer(Cookie="who=mallory")
    # The Authorization header decides where there is one; plugins are not asked.
    with pytest.raises(Unauthorized):
        answer(Cookie="who=alice", Authorization="Negotiate abc")


def test_hook_collect_metrics() -> None:
    class Plugin:
        numbers = itertools.count(1)

        @hookimpl
        def collect_metrics(self) -> list[tuple[str, str, str, dict[str, str], float]]:
            return [
                ("note_open", "gauge", "Notes now open", {}, next(self.numbers)),
                ("note_written", "counter", "Notes written", {"colour": "red"}, 3),
                ("note_written", "counter", "Notes written", {"colour": "blue"}, 4),
            ]

    found = build(Plugin())
    client = process.create_app(settings(found), found, Client()).test_client()
    first = client.get("/metrics").text.splitlines()
    assert {"note_open 1.0", 'note_written_total{colour="red"} 3.0', 'note_written_total{colour="blue"} 4.0'} <= {
        *first
    }
    assert "# TYPE note_open gauge" in first
    assert first.count("# TYPE note_written counter") == 1
    assert "note_open 2.0" in client.get("/metrics").text.splitlines()


def test_account_info_reaches_a_capabilitys_account_value() -> None:
    """What a capability says of an account is a function of what the account offers."""
    from jmapplug import AccountInfo

    mail = plugins.load().capabilities["urn:ietf:params:jmap:mail"]
    row = {"id": "a", "email": "a@example.org", "type": "x", "offers": ["mail"], "read_only": True}
    info = msgspec.convert(row, AccountInfo)
    assert mail.account_value(info)["mayCreateTopLevelMailbox"] is False
    assert mail.account_value(AccountInfo("a", "a@example.org", "x", frozenset({"calendars"}))) is None
