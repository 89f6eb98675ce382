"""The management API: every documented shape, default and status code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import flask
import pytest

from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.ports import free_ports
from jmapplug.testing.proxy import Http, Proxy

SECRET = "Sesame-4711"


@pytest.fixture(scope="module")
def service() -> Iterator[Proxy]:
    """A service of its own: the list of accounts is looked at as a whole."""
    proxy = Proxy()
    yield proxy
    proxy.stop()


def settings(server: Dovecot, account: str, user: str, **more: Any) -> dict[str, Any]:
    return {
        "accountid": account, "email": user, "type": "imap", "username": user, "password": server.password,
        "imapHost": server.host, "imapPort": server.port, "imapSSL": 0, **more,
    }  # fmt: skip


def post(service: Proxy, body: Any, **headers: str) -> Any:
    return service.management.send("POST", "/api/accounts", body, headers)


def test_creating_an_account_answers_201_and_lists_it_as_documented(service: Proxy, dovecot: Dovecot) -> None:
    user = dovecot.new_user()
    reply = post(service, settings(dovecot, "shape", user))
    assert (reply.status, reply.json) == (201, {"accountid": "shape", "type": "imap"})
    one = service.management.send("GET", "/api/accounts/shape")
    assert one.status == 200
    documented = {
        "accountid": "shape", "email": user, "type": "imap", "imapHost": dovecot.host, "imapPort": dovecot.port,
        "folders": 6, "messages": 0,
    }  # fmt: skip
    assert documented.items() <= one.json.items()
    assert {"status", "lastSync", "error", "pool"} <= set(one.json)
    assert one.json["pool"] == "shape"
    listed = service.management.send("GET", "/api/accounts").json
    assert documented.items() <= next(each for each in listed if each["accountid"] == "shape").items()
    assert dovecot.password not in str(listed)


def test_the_same_settings_again_are_fine_and_others_a_conflict(service: Proxy, dovecot: Dovecot) -> None:
    body = settings(dovecot, "twice", dovecot.new_user())
    assert post(service, body).status == 201
    assert post(service, body).status == 201
    reply = post(service, {**body, "email": "other@example.org"})
    assert reply.status == 409
    assert set(reply.json) == {"error"}


def test_a_pool_that_an_account_is_not_in_is_never_answered_with_success(service: Proxy, dovecot: Dovecot) -> None:
    body = settings(dovecot, "pooled", dovecot.new_user())
    assert post(service, body).status == 201
    assert post(service, settings(dovecot, "friend", dovecot.new_user())).status == 201
    assert post(service, {**body, "pool": "pooled"}).status == 201
    assert post(service, {**body, "pool": "friend"}).status == 409
    assert post(service, {**body, "pool": "nobody"}).status == 400
    for pool in ("friend", "nobody", None, 5):
        reply = service.management.send("PATCH", "/api/accounts/pooled", {"pool": pool})
        assert (reply.status, reply.json) == (400, {"error": "pool: cannot be changed"})
    reply = service.management.send("PATCH", "/api/accounts/pooled", {"pool": "pooled"})
    assert (reply.status, reply.json["pool"]) == (200, "pooled")


def test_an_unreachable_server_leaves_the_account_with_a_warning(service: Proxy) -> None:
    (port,) = free_ports(1)
    body = {
        "accountid": "away", "email": "a@example.org", "password": SECRET, "imapHost": "127.0.0.1", "imapPort": port,
        "imapSSL": 0,
    }  # fmt: skip
    reply = post(service, body)
    assert reply.status == 201
    assert set(reply.json) == {"accountid", "type", "warning"}
    assert reply.json["warning"].startswith("setup failed: ")
    assert "refused" in reply.json["warning"].lower()
    assert service.management.send("GET", "/api/accounts/away").status == 200
    failed = service.management.send("POST", "/api/accounts/away/sync")
    assert failed.status == 500
    assert "refused" in failed.json["error"].lower()
    assert SECRET not in service.log + failed.body.decode() + reply.body.decode()


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"accountid": None}, "accountid required"),
        ({"accountid": ""}, "accountid required"),
        ({"accountid": 7}, "accountid"),
        ({"accountid": ".."}, "accountid"),
        ({"accountid": "a/b"}, "accountid"),
        ({"accountid": "a b"}, "accountid"),
        ({"accountid": "a\0b"}, "accountid"),
        ({"accountid": "x" * 300}, "accountid"),
        ({"accountid": "__accounts__"}, "accountid"),
        ({"email": None}, "email required"),
        ({"email": "nonsense"}, "email"),
        ({"email": 5}, "email"),
        ({"type": "pop3"}, "type"),
        ({"type": 5}, "type"),
        ({"imapPort": "993"}, "imapPort"),
        ({"imapPort": 99999999}, "imapPort"),
        ({"imapSSL": 9}, "imapSSL"),
        ({"password": ["x"]}, "password"),
        ({"imapHots": "typo"}, "imapHots"),
        ({"pool": 5}, "pool"),
        ({"pool": "nobody"}, "pool"),
    ],
)
def test_an_invalid_field_is_400_and_named(
    service: Proxy, dovecot: Dovecot, change: dict[str, Any], names: str
) -> None:
    body = settings(dovecot, "invalid", "invalid@example.org") | change
    reply = post(service, {name: value for name, value in body.items() if value is not None})
    assert reply.status == 400, reply
    assert set(reply.json) == {"error"}
    assert reply.json["error"].startswith(names)
    assert service.management.send("GET", "/api/accounts/invalid").status == 404


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff", b"[" * 100_000])
def test_bad_json_is_400_and_says_so(service: Proxy, body: bytes) -> None:
    reply = post(service, body, **{"Content-Type": "application/json"})
    assert reply.status == (415 if not body else 400) or reply.json["error"].startswith("invalid JSON")
    assert reply.status == 400 or not body
    assert reply.json["error"].startswith("invalid JSON")


@pytest.mark.parametrize("path", ["", "/sync", "/status"])
def test_an_unknown_account_is_404_on_every_route(service: Proxy, path: str) -> None:
    method = "POST" if path == "/sync" else "GET"
    reply = service.management.send(method, f"/api/accounts/nobody{path}")
    assert (reply.status, reply.json) == (404, {"error": "not found"})
    assert service.management.send("DELETE", "/api/accounts/nobody").status == 404
    assert service.management.send("PATCH", "/api/accounts/nobody", {"imapPort": 1}).status == 404


@pytest.mark.parametrize("account", ["..", "%2e%2e", "a%2fb", "a%00b", "x" * 300, "__accounts__", "%ff"])
def test_an_impossible_id_is_refused_on_every_route(service: Proxy, account: str) -> None:
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/sync"), ("GET", "/status")):
        reply = service.management.send(method, f"/api/accounts/{account}{path}")
        assert reply.status in (400, 404), (method, path, reply)
        assert set(reply.json) == {"error"}


def test_a_patch_changes_settings_and_keeps_the_rest(service: Proxy, dovecot: Dovecot) -> None:
    user = dovecot.new_user()
    wrong = settings(dovecot, "patched", user, password="wrong")
    assert "warning" in post(service, wrong).json
    reply = service.management.send("PATCH", "/api/accounts/patched", {"password": dovecot.password})
    assert reply.status == 200
    assert "warning" not in reply.json
    assert reply.json["imapPort"] == dovecot.port
    assert service.client("patched", user, dovecot.password).call("Mailbox/get", ids=None)["list"]
    for change in ({"accountid": "other"}, {"type": "dav"}, {"imapPort": "x"}, {"nothing": 1}):
        assert service.management.send("PATCH", "/api/accounts/patched", change).status == 400


def test_deleting_removes_every_file(service: Proxy, dovecot: Dovecot) -> None:
    post(service, settings(dovecot, "deleted", dovecot.new_user()))
    folder = service.folder / "data" / "accounts" / "deleted"
    assert folder.is_dir()
    pid = service.worker_pid("deleted")
    reply = service.management.send("DELETE", "/api/accounts/deleted")
    assert (reply.status, reply.json) == (200, {"deleted": True})
    assert not folder.exists()
    from jmapplug.testing.ports import running

    assert not running(pid)
    assert service.management.send("GET", "/api/accounts/deleted").status == 404


def test_a_sync_returns_when_it_is_complete(service: Proxy, dovecot: Dovecot) -> None:
    user = dovecot.new_user()
    post(service, settings(dovecot, "synced", user))
    client = service.client("synced", user, dovecot.password)
    dovecot.imap(user).append("INBOX", "", "", b"Subject: x\r\n\r\nx\r\n")
    reply = service.management.send("POST", "/api/accounts/synced/sync")
    assert (reply.status, reply.json) == (200, {"synced": "synced"})
    assert client.call("Email/query", filter=None, calculateTotal=True)["total"] == 1


def test_the_status_says_what_the_worker_does(service: Proxy, dovecot: Dovecot) -> None:
    post(service, settings(dovecot, "stating", dovecot.new_user()))
    service.sync("stating")
    status = service.status("stating")
    assert status["accountid"] == "stating"
    assert status["folders"] == 6
    assert status["error"] is None
    assert status["phase"]


def test_credentials_are_never_stored_in_clear(service: Proxy, dovecot: Dovecot) -> None:
    post(service, settings(dovecot, "sealed", dovecot.new_user(), password=SECRET))
    for path in (service.folder / "data").rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path
    assert SECRET not in service.management.send("GET", "/api/accounts/sealed").body.decode()


def test_installed_backends_describe_their_settings(service: Proxy) -> None:
    (imap,) = (each for each in service.management.send("GET", "/api/backends").json if each["type"] == "imap")
    described = {field["name"]: field for field in imap["settings"]}
    assert described["imapPort"]["default"] == 993
    assert described["password"]["secret"] is True


def test_health_is_as_documented(service: Proxy, dovecot: Dovecot) -> None:
    reply = service.management.send("GET", "/healthz")
    assert reply.status == 200
    assert set(reply.json) == {"status", "uptime", "children", "pid"}
    before = reply.json
    post(service, settings(dovecot, "counted", dovecot.new_user()))
    after = service.management.send("GET", "/healthz").json
    assert after["status"] == "ok"
    assert after["children"] == before["children"] + 1
    assert after["pid"] == before["pid"]


def test_metrics_are_named_as_operators_scrape_them(service: Proxy, dovecot: Dovecot) -> None:
    post(service, settings(dovecot, "measured", dovecot.new_user()))
    service.sync("measured")
    reply = service.management.send("GET", "/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    text = reply.body.decode()
    for line in (
        "# TYPE jmap_uptime_seconds gauge",
        "# HELP jmap_backend_workers_active Active per-account backend worker processes",
        "# TYPE jmap_http_requests counter",
        "jmap_http_requests_total ",
        'jmap_account_last_sync_age_seconds{accountid="measured"}',
        "jmap_auth_cache_hits_total ",
        "jmap_mgmt_requests_total ",
        "jmap_sse_connections_active ",
        "jmap_websocket_connections_active ",
        "jmap_backend_queue_depth ",
        "jmap_backfilling_accounts ",
    ):
        assert line in text, line
    assert "# EOF" not in text


def test_the_openapi_document_names_every_route_and_setting(service: Proxy) -> None:
    from jmapplug import plugins
    from jmapplug.web.management import accounts, health

    document = service.management.send("GET", "/api/openapi.json").json
    app = flask.Flask("routes", static_folder=None)
    for blueprint in (accounts.routes, health.routes):
        app.register_blueprint(blueprint)
    routes = {
        (method.lower(), re.sub(r"<path:(\w+)>", "{accountid}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert {(method, path) for path, methods in document["paths"].items() for method in methods} == routes
    named = set(document["components"]["schemas"]["Settings.imap"]["properties"])
    assert named == set(plugins.load().backends["imap"].settings.__struct_encode_fields__)


def test_requests_of_other_origins_and_rebound_names_are_refused(service: Proxy) -> None:
    port = service.mgmt
    assert Http(port).send("GET", "/api/accounts", headers={"Origin": "https://evil.example"}).status == 403
    assert Http(port).send("GET", "/api/accounts", headers={"Host": "evil.example"}).status == 403
    assert Http(port).send("GET", "/api/accounts", headers={"Host": f"localhost:{port}"}).status == 200
    own = {"Host": f"localhost:{port}", "Origin": f"http://localhost:{port}"}
    assert Http(port).send("GET", "/api/accounts", headers=own).status == 200


def test_a_form_cannot_write(service: Proxy) -> None:
    for kind in ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data"):
        reply = post(service, b'{"accountid":"x"}', **{"Content-Type": kind})
        assert (reply.status, set(reply.json)) == (415, {"error"})


def test_a_management_token_is_wanted_where_one_is_set() -> None:
    service = Proxy(JMAP_MGMT_TOKEN="let-me-in")
    try:
        assert service.management.send("GET", "/healthz").status == 401
        token = {"Authorization": "Bearer let-me-in"}
        assert service.management.send("GET", "/healthz", headers=token).status == 200
    finally:
        service.stop()
