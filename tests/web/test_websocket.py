"""JMAP over WebSocket (RFC 8887) on both servers, with a client library that shares no code with us."""

from __future__ import annotations

import http.client
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.ports import HOST, PATIENCE, wait_until
from jmapplug.testing.proxy import USING, Client, Proxy, basic
from tests.web.test_eventsource import Stream
from tests.web.test_framing import frame

CORE = "urn:ietf:params:jmap:core"
WEBSOCKET = "urn:ietf:params:jmap:websocket"
GUNICORN = [sys.executable, "-m", "gunicorn", "-k", "gevent", "-w", "1", "-b", HOST + ":{port}"]
# As docs/operations.md has it; gunicorn's own defaults cut idle HTTP connections after 2 s and wait 30 s for others.
GUNICORN += ["--keep-alive", "75", "--graceful-timeout", "4"]
COMMANDS = {"serve": None, "gunicorn": [*GUNICORN, "--no-control-socket", "jmapplug.wsgi:app"]}


@pytest.fixture(scope="module", params=COMMANDS)
def service(request: pytest.FixtureRequest) -> Iterator[Proxy]:
    running = Proxy(COMMANDS[request.param], JMAP_SYNC_INTERVAL="5")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def user(dovecot: Dovecot, service: Proxy) -> str:
    return dovecot.new_user()


@pytest.fixture(scope="module")
def alice(service: Proxy, dovecot: Dovecot, user: str) -> Client:
    client = service.add("alice", dovecot, user)
    service.settled("alice")
    return client


class Talk:
    """An open WebSocket; messages are JSON."""

    def __init__(self, port: int, headers: dict[str, str] | None = None, path: str = "/jmap/ws", **more: Any) -> None:
        options: dict[str, Any] = {"subprotocols": ["jmap"], "max_size": None, "proxy": None, "legacy": True}
        options |= {"open_timeout": PATIENCE, "ping_interval": None, **more}
        self.ws: ClientConnection = connect(f"ws://{HOST}:{port}{path}", additional_headers=headers, **options)

    def send(self, kind: str, **members: Any) -> None:
        self.ws.send(json.dumps({"@type": kind, **members}))

    def request(self, ident: str | None, *calls: list[Any], using: tuple[str, ...] = USING) -> None:
        self.send("Request", using=using, methodCalls=calls, **({} if ident is None else {"id": ident}))

    def echo(self, ident: str | None = None, **args: Any) -> None:
        self.request(ident, ["Core/echo", args, "c"])

    def receive(self, timeout: float = PATIENCE) -> dict[str, Any]:
        message = self.ws.recv(timeout)
        assert isinstance(message, str)
        value: dict[str, Any] = json.loads(message)
        return value

    def state(self) -> dict[str, Any]:
        value = self.receive()
        assert value["@type"] == "StateChange", value
        return value

    def closed(self) -> int:
        """The code with which the server closes; what comes before is read."""
        while True:
            try:
                self.receive()
            except ConnectionClosed as error:
                return error.rcvd.code if error.rcvd else 1006

    def close(self) -> None:
        self.ws.close()

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def talk(client: Client, **more: Any) -> Talk:
    return Talk(client.connection.port, client.headers, **more)


def refusal(port: int, headers: dict[str, str] | None, path: str = "/jmap/ws", **more: Any) -> int:
    """The status with which a handshake is refused."""
    with pytest.raises(InvalidStatus) as caught:
        Talk(port, headers, path, **more)
    return int(caught.value.response.status_code)


def deliver(dovecot: Dovecot, user: str, name: str) -> None:
    imap = dovecot.imap(user)
    imap.append("INBOX", "", "", f"Subject: {name}\r\nMessage-ID: <{name}@x>\r\n\r\nhello\r\n".encode())
    imap.logout()


# --- the handshake


def test_the_session_tells_where_and_that_there_is_push(alice: Client) -> None:
    value = alice.send("GET", "/session").json["capabilities"][WEBSOCKET]
    assert value["supportsPush"] is True
    assert value["url"].startswith(f"ws://localhost:{alice.connection.port}/jmap/ws?ticket=")


def test_the_url_is_the_one_that_a_trusted_proxy_was_asked_for(dovecot: Dovecot) -> None:
    service = Proxy(JMAP_TRUSTED_PROXIES="127.0.0.1")
    try:
        client = service.add("alice", dovecot, dovecot.new_user())
        headers = {"X-Forwarded-Host": "mail.example.com", "X-Forwarded-Proto": "https", "X-Forwarded-Prefix": "/m"}
        session = client.send("GET", "/session", headers=headers).json
        assert session["capabilities"][WEBSOCKET]["url"].startswith("wss://mail.example.com/m/jmap/ws?ticket=")
    finally:
        service.stop()


def test_without_or_with_wrong_credentials_the_handshake_is_401(alice: Client, user: str) -> None:
    port = alice.connection.port
    assert refusal(port, None) == 401
    assert refusal(port, {"Authorization": basic(user, "wrong")}) == 401
    assert refusal(port, None, "/jmap/ws?ticket=1.alice.password.x") == 401


def test_the_subprotocol_jmap_has_to_be_offered_and_is_answered(alice: Client) -> None:
    assert refusal(alice.connection.port, alice.headers, subprotocols=None) == 400
    assert refusal(alice.connection.port, alice.headers, subprotocols=["mqtt"]) == 400
    with talk(alice, subprotocols=["mqtt", "jmap"]) as ws:
        assert ws.ws.subprotocol == "jmap"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 426),
        ({"Upgrade": "websocket"}, 426),
        ({"Upgrade": "websocket", "Connection": "Upgrade"}, 426),
        ({"Upgrade": "websocket", "Connection": "keep-alive, Upgrade", "Sec-WebSocket-Version": "8"}, 426),
        ({"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}, 400),
        (
            {
                "Upgrade": "websocket",
                "Connection": "Upgrade",
                "Sec-WebSocket-Version": "13",
                "Sec-WebSocket-Key": "short",
            },
            400,
        ),
    ],
)
def test_what_is_no_handshake_is_told_so(alice: Client, headers: dict[str, str], status: int) -> None:
    connection = http.client.HTTPConnection(HOST, alice.connection.port, timeout=PATIENCE)
    connection.request("GET", "/jmap/ws", headers={**alice.headers, "Sec-WebSocket-Protocol": "jmap", **headers})
    answer = connection.getresponse()
    assert answer.status == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert json.loads(answer.read())["status"] == status
    connection.close()


def test_the_sessions_url_works_for_a_browser_and_its_ticket_for_nothing_else(alice: Client) -> None:
    session = alice.send("GET", "/session").json
    url = session["capabilities"][WEBSOCKET]["url"]
    port, path = alice.connection.port, url[url.index("/jmap/ws") :]
    with Talk(port, None, path, origin="https://webmail.example") as ws:
        ws.echo("R1", a=1)
        assert ws.receive()["requestId"] == "R1"
    ticket = path.partition("ticket=")[2]
    events = session["eventSourceUrl"].partition("ticket=")[2]
    for other in (f"/eventsource?ticket={ticket}", f"/session?ticket={ticket}"):
        connection = http.client.HTTPConnection(HOST, port, timeout=PATIENCE)
        connection.request("GET", other)
        assert connection.getresponse().status == 401
        connection.close()
    assert refusal(port, None, f"/jmap/ws?ticket={events}") == 401


def test_a_page_of_an_origin_that_is_not_allowed_cannot_connect(dovecot: Dovecot) -> None:
    service = Proxy(JMAP_CORS_ORIGINS="https://webmail.example")
    try:
        client = service.add("alice", dovecot, dovecot.new_user())
        assert refusal(service.port, client.headers, origin="https://evil.example") == 403
        for origin in ("https://webmail.example", f"http://localhost:{service.port}"):
            talk(client, origin=origin).close()
    finally:
        service.stop()


# --- Requests


def test_a_response_carries_the_requests_id_and_none_where_none_was_given(alice: Client) -> None:
    with talk(alice) as ws:
        ws.echo("R1", hello=True)
        answer = ws.receive()
        assert (answer.pop("@type"), answer.pop("requestId")) == ("Response", "R1")
        asked = {"using": [CORE], "methodCalls": [["Core/echo", {"hello": True}, "c"]]}
        assert answer == alice.send("POST", "/jmap", asked).json
        ws.echo(None)
        assert "requestId" not in ws.receive()


def test_a_slow_request_does_not_hold_a_fast_one_and_one_too_many_is_refused(
    service: Proxy, alice: Client, dovecot: Dovecot
) -> None:
    """Requests of an account whose worker stands still wait; those of another one are answered meanwhile."""
    other = service.add("beside", dovecot, dovecot.new_user(), pool="alice")
    other.call("Mailbox/get", ids=None)
    worker = service.worker_pid("alice")
    with talk(alice) as ws:
        os.kill(worker, signal.SIGSTOP)
        try:
            for number in range(7):
                ws.request(f"slow{number}", ["Mailbox/get", {"accountId": "alice", "ids": []}, "c"])
            ws.request("fast", ["Mailbox/get", {"accountId": "beside", "ids": []}, "c"])
            assert ws.receive()["requestId"] == "fast"
            ws.request("slow7", ["Mailbox/get", {"accountId": "alice", "ids": []}, "c"])
            ws.request("refused", ["Mailbox/get", {"accountId": "beside", "ids": []}, "c"])
            error = ws.receive()
            assert error["requestId"] == "refused"
            assert (error["type"], error["limit"]) == ("urn:ietf:params:jmap:error:limit", "maxConcurrentRequests")
            # RFC 8887 §4.3.2: the limit is the login's, whichever way it asks.
            asked = {"using": [CORE], "methodCalls": []}
            assert alice.send("POST", "/jmap", asked).status == 429
        finally:
            os.kill(worker, signal.SIGCONT)
        assert {ws.receive()["requestId"] for _ in range(8)} == {f"slow{number}" for number in range(8)}
        ws.echo("again")
        assert ws.receive()["requestId"] == "again"


@pytest.mark.parametrize(
    ("message", "ident", "kind"),
    [
        ("The quick brown fox jumps\n over the lazy dog.", None, "notJSON"),
        ('{"@type": "Request", "id": "R", "id": "S"}', None, "notJSON"),
        ("[]", None, "notRequest"),
        ('{"using": [], "methodCalls": []}', None, "notRequest"),
        ('{"@type": "Response", "id": "R"}', None, "notRequest"),
        ('{"@type": ["Request"], "id": "R"}', None, "notRequest"),
        ('{"@type": "Request", "id": 7, "using": [], "methodCalls": []}', None, "notRequest"),
        ('{"@type": "Request", "id": "R", "using": []}', "R", "notRequest"),
        ('{"@type": "Request", "id": "R", "using": ["urn:x"], "methodCalls": []}', "R", "unknownCapability"),
        ('{"@type": "WebSocketPushEnable", "dataTypes": "Email"}', None, "notRequest"),
        ('{"@type": "WebSocketPushEnable", "dataTypes": null, "pushState": 1}', None, "notRequest"),
    ],
)
def test_what_is_wrong_is_a_request_error_and_the_connection_goes_on(
    alice: Client, message: str, ident: str | None, kind: str
) -> None:
    with talk(alice) as ws:
        ws.ws.send(message)
        error = ws.receive()
        assert (error["@type"], error["requestId"]) == ("RequestError", ident)
        assert (error["type"], error["status"]) == (f"urn:ietf:params:jmap:error:{kind}", 400)
        ws.echo("next")
        assert ws.receive()["requestId"] == "next"


def test_one_call_too_many_names_the_limit(alice: Client) -> None:
    with talk(alice) as ws:
        ws.request("R", *(["Core/echo", {}, "c"] for _ in range(65)))
        error = ws.receive()
        assert (error["requestId"], error["limit"]) == ("R", "maxCallsInRequest")


def test_an_account_of_somebody_else_is_not_found(service: Proxy, alice: Client, dovecot: Dovecot) -> None:
    service.add("foreign", dovecot, dovecot.new_user())
    with talk(alice) as ws:
        ws.request("R", ["Mailbox/get", {"accountId": "foreign", "ids": None}, "c"])
        assert ws.receive()["methodResponses"] == [["error", {"type": "accountNotFound"}, "c"]]


@pytest.mark.parametrize("compression", ["deflate", None])
def test_a_megabyte_goes_through_both_ways(alice: Client, compression: str | None) -> None:
    noise = os.urandom(500_000).hex()
    with talk(alice, compression=compression) as ws:
        names = [extension.name for extension in ws.ws.protocol.extensions]
        assert names == (["permessage-deflate"] if compression else [])
        ws.echo("R", noise=noise)
        assert ws.receive()["methodResponses"][0][1] == {"noise": noise}


def test_fragments_are_one_message_and_a_ping_between_them_is_answered(alice: Client) -> None:
    text = json.dumps({"@type": "Request", "id": "R", "using": [CORE], "methodCalls": [["Core/echo", {"é": "ü"}, "c"]]})
    pongs = []
    with talk(alice) as ws:

        def fragments() -> Iterator[str]:
            for start in range(0, len(text), 7):
                yield text[start : start + 7]
                if start == 21:
                    pongs.append(ws.ws.ping())

        ws.ws.send(fragments())
        assert ws.receive()["methodResponses"] == [["Core/echo", {"é": "ü"}, "c"]]
        assert pongs[0].wait(PATIENCE)


def test_a_message_over_the_limit_is_named_and_ends_the_connection_with_1009(alice: Client) -> None:
    limit = alice.send("GET", "/session").json["capabilities"][CORE]["maxSizeRequest"]
    for compression in ("deflate", None):
        with talk(alice, compression=compression) as ws:
            text = json.dumps({"@type": "Request", "using": [CORE], "methodCalls": []})
            ws.ws.send(text + " " * (limit - len(text)))
            assert ws.receive()["@type"] == "Response", "exactly the limit"
            ws.echo("before")
            assert ws.receive()["requestId"] == "before"
            ws.ws.send(text + " " * (limit - len(text) + 1))
            error = ws.receive()
            assert (error["@type"], error["requestId"], error["limit"]) == ("RequestError", None, "maxSizeRequest")
            assert ws.closed() == 1009


def test_a_binary_message_is_closed_with_1003(alice: Client) -> None:
    with talk(alice) as ws:
        ws.ws.send(b'{"@type": "Request"}')
        assert ws.closed() == 1003


def test_a_close_frame_is_answered_with_its_code(alice: Client) -> None:
    ws = talk(alice)
    ws.ws.close(4001, "enough")
    assert ws.ws.protocol.close_rcvd is not None
    assert ws.ws.protocol.close_rcvd.code == 4001


# --- push


def test_a_delivery_is_a_state_change_with_a_push_state(alice: Client, dovecot: Dovecot, user: str) -> None:
    with talk(alice) as ws:
        ws.send("WebSocketPushEnable", dataTypes=None)
        ws.echo("enabled")
        assert ws.receive()["requestId"] == "enabled"
        deliver(dovecot, user, "one")
        seen: dict[str, str] = {}
        while not {"Email", "Mailbox", "Thread"} <= seen.keys():
            told = ws.state()
            assert isinstance(told["pushState"], str)
            seen |= told["changed"]["alice"]
        assert alice.call("Email/get", ids=[])["state"] == seen["Email"]


def test_only_the_types_asked_for_and_none_after_disable(
    service: Proxy, alice: Client, dovecot: Dovecot, user: str
) -> None:
    with talk(alice) as ws:
        ws.send("WebSocketPushEnable", dataTypes=["Mailbox"])
        wait_until(lambda: service.status("alice")["subscribers"] == 1, "it listens")
        deliver(dovecot, user, "two")
        assert set(ws.state()["changed"]["alice"]) == {"Mailbox"}
        ws.send("WebSocketPushDisable")
        wait_until(lambda: service.status("alice")["subscribers"] == 0, "it listens no more")
        total = alice.call("Email/query", filter=None, calculateTotal=True)["total"]
        deliver(dovecot, user, "three")
        service.sync("alice")
        assert alice.call("Email/query", filter=None, calculateTotal=True)["total"] == total + 1
        ws.echo("end")
        while (message := ws.receive())["@type"] == "StateChange":
            assert set(message["changed"]["alice"]) == {"Mailbox"}, "left before the Disable came"
        assert message["requestId"] == "end"


def test_what_was_missed_is_told_at_once_with_the_push_state(
    service: Proxy, alice: Client, dovecot: Dovecot, user: str
) -> None:
    with talk(alice) as ws:
        ws.send("WebSocketPushEnable", dataTypes=["Email"])
        wait_until(lambda: service.status("alice")["subscribers"] == 1, "it listens")
        deliver(dovecot, user, "four")
        position = ws.state()["pushState"]
    deliver(dovecot, user, "five")
    service.sync("alice")
    with talk(alice) as ws:
        ws.send("WebSocketPushEnable", dataTypes=["Email"], pushState=position)
        told = ws.state()
        assert told["changed"] == {"alice": {"Email": alice.call("Email/get", ids=[])["state"]}}
        position = told["pushState"]
    with talk(alice) as ws:
        ws.send("WebSocketPushEnable", dataTypes=["Email"], pushState=position)
        wait_until(lambda: service.status("alice")["subscribers"] == 1, "it listens")
        deliver(dovecot, user, "six")
        service.sync("alice")
        state = alice.call("Email/get", ids=[])["state"]
        assert ws.state()["changed"] == {"alice": {"Email": state}}, "nothing was missed, so nothing came before"


def test_a_push_state_that_says_nothing_of_an_account_brings_all_its_states(alice: Client) -> None:
    with talk(alice) as ws:
        ws.send("WebSocketPushEnable", dataTypes=["Email", "Mailbox"], pushState="of another server")
        assert set(ws.state()["changed"]["alice"]) == {"Email", "Mailbox"}


def test_push_goes_on_over_a_restart_of_the_worker_and_so_does_its_position(
    service: Proxy, alice: Client, dovecot: Dovecot, user: str
) -> None:
    with talk(alice) as ws:
        ws.send("WebSocketPushEnable", dataTypes=["Email"])
        wait_until(lambda: service.status("alice")["subscribers"] == 1, "it listens")
        os.kill(service.worker_pid("alice"), signal.SIGKILL)
        deliver(dovecot, user, "seven")
        position = ws.state()["pushState"]
    os.kill(service.worker_pid("alice"), signal.SIGKILL)
    deliver(dovecot, user, "eight")
    service.sync("alice")
    with talk(alice) as ws:
        ws.send("WebSocketPushEnable", dataTypes=["Email"], pushState=position)
        assert ws.state()["changed"] == {"alice": {"Email": alice.call("Email/get", ids=[])["state"]}}


def test_every_account_of_the_login_is_told_also_one_that_joins_later(service: Proxy, dovecot: Dovecot) -> None:
    users = [dovecot.new_user() for _ in range(3)]
    first = service.add("pool-a", dovecot, users[0])
    service.add("pool-b", dovecot, users[1], pool="pool-a")
    for name in ("pool-a", "pool-b"):
        service.settled(name)
    with talk(first) as ws:
        ws.send("WebSocketPushEnable", dataTypes=["Email"])
        for name in ("pool-a", "pool-b"):
            wait_until(lambda name=name: service.status(name)["subscribers"] == 1, "it listens")  # type: ignore[misc]
        deliver(dovecot, users[1], "in b")
        told = ws.state()
        assert set(told["changed"]) == {"pool-b"}
        assert {part.partition("=")[0] for part in told["pushState"].split(",")} == {"pool-a", "pool-b"}
        service.add("pool-c", dovecot, users[2], pool="pool-a")
        service.settled("pool-c")
        ws.request("R", ["Mailbox/get", {"accountId": "pool-c", "ids": []}, "c"])
        while (message := ws.receive())["@type"] == "StateChange":
            pass
        assert message["methodResponses"][0][0] == "Mailbox/get"
        wait_until(lambda: service.status("pool-c")["subscribers"] == 1, "it listens to the new one too")
        deliver(dovecot, users[2], "in c")
        while "pool-c" not in ws.state()["changed"]:
            pass


# --- log-ins that end


def test_a_socket_ends_with_its_token_and_with_no_other(service: Proxy, alice: Client) -> None:
    mine, other = (service.registry("token_create", accountid="alice", name="phone") for _ in range(2))
    with (
        Talk(service.port, {"Authorization": f"Bearer {mine['token']}"}) as ws,
        Talk(service.port, {"Authorization": f"Bearer {other['token']}"}) as stays,
        talk(alice) as with_password,
    ):
        service.registry("token_revoke", id=mine["id"])
        assert ws.closed() == 1008
        for each in (stays, with_password):
            each.echo("R")
            assert each.receive()["requestId"] == "R"


def test_a_socket_ends_with_the_password_and_so_does_its_ticket(service: Proxy, dovecot: Dovecot) -> None:
    client = service.add("changing", dovecot, dovecot.new_user())
    url = client.send("GET", "/session").json["capabilities"][WEBSOCKET]["url"]
    path = url[url.index("/jmap/ws") :]
    token = service.registry("token_create", accountid="changing", name="phone")["token"]
    with (
        Talk(service.port, None, path) as by_ticket,
        talk(client) as by_header,
        Talk(service.port, {"Authorization": f"Bearer {token}"}) as by_token,
    ):
        settings = service.registry("open", accountid="changing")["settings"]
        service.registry("update", accountid="changing", settings={**settings, "password": "another one"})
        assert by_ticket.closed() == 1008
        assert by_header.closed() == 1008
        by_token.echo("R")
        assert by_token.receive()["requestId"] == "R"
    assert refusal(service.port, None, path) == 401


def test_a_socket_and_a_stream_outlive_a_change_of_other_settings(service: Proxy, dovecot: Dovecot) -> None:
    """Among them an OAuth refresh token that the provider replaces, once an hour perhaps."""
    user = dovecot.new_user()
    client = service.add("lasting", dovecot, user)
    service.settled("lasting")
    token = service.registry("token_create", accountid="lasting", name="phone")
    stream = Stream(service.port, "/eventsource?types=*&closeafter=no&ping=0", client.headers)
    with talk(client) as ws, Talk(service.port, {"Authorization": f"Bearer {token['token']}"}) as witness:
        settings = service.registry("open", accountid="lasting")["settings"]
        service.registry("update", accountid="lasting", settings={**settings, "sendAs": ["ada@example.org"]})
        service.registry("token_revoke", id=token["id"])
        assert witness.closed() == 1008
        ws.echo("R")
        assert ws.receive()["requestId"] == "R"
        deliver(dovecot, user, "still there")
        assert stream.event() is not None
    stream.close()


def test_a_session_with_another_ticket_has_another_etag(service: Proxy, alice: Client) -> None:
    """The state is the same, but a client that were told 304 would keep a URL that is good no more."""
    before = alice.send("GET", "/session")
    settings = service.registry("open", accountid="alice")["settings"]
    service.registry("update", accountid="alice", settings={**settings, "password": "another one"})
    try:
        changed = service.client("alice", "alice", "another one")
        after = changed.send("GET", "/session", headers={"If-None-Match": before.headers["etag"]})
    finally:
        service.registry("update", accountid="alice", settings=settings)
    assert after.status == 200
    assert after.json["state"] == before.json["state"]
    assert after.json["capabilities"][WEBSOCKET]["url"] != before.json["capabilities"][WEBSOCKET]["url"]


def test_a_socket_ends_with_its_account(service: Proxy, dovecot: Dovecot) -> None:
    client = service.add("leaving", dovecot, dovecot.new_user())
    with talk(client) as ws:
        ws.send("WebSocketPushEnable", dataTypes=None)
        service.management.send("DELETE", "/api/accounts/leaving")
        assert ws.closed() == 1008


# --- the end


def test_listeners_end_with_the_client_whether_it_says_goodbye_or_not(service: Proxy, alice: Client) -> None:
    polite, rude = talk(alice), talk(alice)
    for each in (polite, rude):
        each.send("WebSocketPushEnable", dataTypes=None)
        each.echo("R")
        each.receive()
    wait_until(lambda: service.status("alice")["subscribers"] == 1, "the front listens, once for all")
    polite.close()
    rude.ws.socket.shutdown(socket.SHUT_RDWR)
    wait_until(lambda: service.status("alice")["subscribers"] == 0, "nobody listens")
    gauge = "jmap_websocket_connections_active 0"
    wait_until(lambda: gauge in service.management.send("GET", "/metrics").body.decode(), "the front has none open")


def deaf(client: Client) -> socket.socket:
    """A client that has asked for more than its socket can hold, and reads none of it."""
    handshake = {
        "Host": "x",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Protocol": "jmap",
        **client.headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in handshake.items())
    sock = socket.create_connection((HOST, client.connection.port), timeout=PATIENCE)
    sock.sendall(f"GET /jmap/ws HTTP/1.1\r\n{head}\r\n".encode())
    assert sock.recv(4096).startswith(b"HTTP/1.1 101 ")
    asked = {"@type": "Request", "using": [CORE], "methodCalls": [["Core/echo", {"x": "x" * 9_000_000}, "c"]]}
    sock.sendall(frame(json.dumps(asked).encode()))
    assert select.select([sock], [], [], PATIENCE)[0], "the answer has begun"
    return sock


def test_a_client_that_does_not_read_holds_nobody_else(alice: Client) -> None:
    sock = deaf(alice)
    with talk(alice) as ws:
        ws.echo("R")
        assert ws.receive()["requestId"] == "R"
    sock.close()


@pytest.mark.parametrize("command", COMMANDS)
def test_sigterm_closes_with_1001_and_waits_for_nobody(command: str, dovecot: Dovecot) -> None:
    """One that listens, one that is silent, one whose request is never answered, one that does not read."""
    service = Proxy(COMMANDS[command])
    try:
        client = service.add("alice", dovecot, dovecot.new_user())
        client.call("Mailbox/get", ids=None)
        worker = service.worker_pid("alice")
        listening, silent, waiting, sock = talk(client), talk(client), talk(client), deaf(client)
        listening.send("WebSocketPushEnable", dataTypes=None)
        silent.echo("R")
        assert silent.receive()["requestId"] == "R"
        os.kill(worker, signal.SIGSTOP)
        try:
            waiting.request("never", ["Mailbox/get", {"accountId": "alice", "ids": []}, "c"])
            waiting.request("wrong", ["Core/echo"])
            assert waiting.receive()["requestId"] == "wrong", "the one before is under way"
            service.process.send_signal(signal.SIGTERM)
            for each in (listening, silent, waiting):
                assert each.closed() == 1001
        finally:
            os.kill(worker, signal.SIGCONT)
        assert service.process.wait(PATIENCE) == 0
        sock.close()
    finally:
        service.stop()
