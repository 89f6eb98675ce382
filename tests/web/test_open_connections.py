"""Event streams and WebSockets on both servers: how many a login may have, and that each ends with its client."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.ports import HOST, PATIENCE, wait_until
from jmapplug.testing.proxy import Client, Http, Proxy
from tests.web.test_eventsource import Stream, deliver
from tests.web.test_websocket import COMMANDS, Talk

MOST = 4
EVENTS = "/eventsource?types=*&closeafter=no&ping=0"
KINDS = ("sse", "websocket")


@pytest.fixture(scope="module", params=COMMANDS)
def service(request: pytest.FixtureRequest) -> Iterator[Proxy]:
    limits = {"JMAP_EVENT_STREAMS": str(MOST), "JMAP_WEBSOCKETS": str(MOST)}
    running = Proxy(COMMANDS[request.param], JMAP_SYNC_INTERVAL="5", **limits)
    yield running
    running.stop()


@pytest.fixture
def alice(service: Proxy, dovecot: Dovecot, account_name: str) -> Client:
    return service.add(account_name, dovecot, dovecot.new_user())


def gauges(service: Proxy) -> dict[str, int]:
    """What the front last reported (every five seconds)."""
    lines = service.management.send("GET", "/metrics").body.decode().splitlines()
    rows = dict(line.rsplit(" ", 1) for line in lines if line and line[0] != "#")
    return {kind: int(float(rows.get(f"jmap_{kind}_connections_active", 0))) for kind in KINDS}


def raw(client: Client, path: str, **headers: str) -> socket.socket:
    """A connection on which a request has been sent and no answer read."""
    lines = {"Host": "x", **client.headers, **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    sock = socket.create_connection((HOST, client.connection.port), timeout=PATIENCE)
    sock.sendall(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode())
    return sock


def reset(sock: socket.socket) -> None:
    """End a connection with RST instead of FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


# --- limits


def test_one_event_stream_too_many_is_a_named_limit_and_another_login_has_its_own(
    service: Proxy, alice: Client, dovecot: Dovecot
) -> None:
    streams = [Stream(service.port, EVENTS, alice.headers) for _ in range(MOST)]
    refused = Http(service.port).send("GET", EVENTS, headers=alice.headers)
    assert (refused.status, refused.headers["content-type"]) == (429, "application/problem+json")
    assert int(refused.headers["retry-after"]) > 0
    assert (refused.json["type"], refused.json["limit"]) == (
        "urn:ietf:params:jmap:error:limit",
        "maxConcurrentEventStreams",
    )
    token = service.registry("token_create", accountid=alice.account, name="phone")["token"]
    other = Stream(service.port, EVENTS, {"Authorization": f"Bearer {token}"})
    assert other.answer.status == 200
    with Talk(service.port, alice.headers) as ws:
        ws.echo("R")
        assert ws.receive()["requestId"] == "R", "sockets are counted by themselves"
    streams.pop().close()
    wait_until(lambda: opened(service, alice), "there is room again")
    for stream in (*streams, other):
        stream.close()


def opened(service: Proxy, client: Client) -> bool:
    stream = Stream(service.port, EVENTS, client.headers)
    stream.close()
    return stream.answer.status == 200


def test_one_websocket_too_many_is_a_named_limit(service: Proxy, alice: Client) -> None:
    talks = [Talk(service.port, alice.headers) for _ in range(MOST)]
    with pytest.raises(InvalidStatus) as caught:
        Talk(service.port, alice.headers)
    refused = caught.value.response
    assert (refused.status_code, refused.headers["Content-Type"]) == (429, "application/problem+json")
    assert int(refused.headers["Retry-After"]) > 0
    assert b"maxConcurrentWebSockets" in (refused.body or b"")
    talks.pop().close()

    def again() -> bool:
        try:
            talks.append(Talk(service.port, alice.headers))
        except InvalidStatus:
            return False
        return True

    wait_until(again, "there is room again")
    for each in talks:
        each.close()


# --- the end with the client


def front(service: Proxy) -> int:
    """The process that serves HTTP: itself, or gunicorn's one child that is no supervisor."""
    if "gunicorn" not in " ".join(service.command):
        return service.process.pid
    children = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children").read_text().split()
    return int(next(pid for pid in children if b"gunicorn" in Path(f"/proc/{pid}/cmdline").read_bytes()))


def descriptors(service: Proxy) -> int:
    return len(os.listdir(f"/proc/{front(service)}/fd"))


def leave(kind: int, service: Proxy, alice: Client) -> bool:
    """Connect and go, in one of several ways; False where the server says that there are too many."""
    if kind == 0:
        stream = Stream(service.port, EVENTS, alice.headers)
        stream.close()
        return stream.answer.status == 200
    if kind == 1:
        reset(raw(alice, EVENTS))  # before the first octet of the answer is read, or even written
    elif kind == 2:
        return Http(service.port).send("HEAD", EVENTS, headers=alice.headers).status == 200
    else:
        try:
            talk = Talk(service.port, alice.headers)
        except InvalidStatus:
            return False
        talk.send("WebSocketPushEnable", dataTypes=None)
        talk.close() if kind == 3 else reset(talk.ws.socket)
    return True


def test_two_hundred_clients_that_came_and_went_leave_nothing_behind(service: Proxy, alice: Client) -> None:
    service.settled(alice.account)  # no event from here on: a write would show who has gone
    before = descriptors(service)
    for number in range(200):
        wait_until(lambda kind=number % 5: leave(kind, service, alice), "there is room for one")  # type: ignore[misc]
    wait_until(lambda: service.status(alice.account)["subscribers"] == 0, "nobody listens")
    wait_until(lambda: descriptors(service) <= before + 2, "no descriptor is left")
    # Fresh numbers: those that show one of each have counted what was left before.
    stream, talk = Stream(service.port, EVENTS, alice.headers), Talk(service.port, alice.headers)
    wait_until(lambda: gauges(service) == {"sse": 1, "websocket": 1}, "the front has these two open")
    stream.close()
    talk.close()


def test_a_client_whose_end_hides_behind_octets_that_nobody_reads_is_found_too(service: Proxy, alice: Client) -> None:
    service.settled(alice.account)
    sock = raw(alice, EVENTS)
    assert sock.recv(12)
    wait_until(lambda: service.status(alice.account)["subscribers"] == 1, "it listens")
    sock.sendall(b"GET /session HTTP/1.1\r\n")
    assert opened(service, alice), "the server had a turn"
    sock.close()
    wait_until(lambda: service.status(alice.account)["subscribers"] == 0, "nobody listens")


# --- the end with the log-in


def test_a_stream_ends_with_its_token_and_with_no_other(service: Proxy, alice: Client, dovecot: Dovecot) -> None:
    mine, other = (service.registry("token_create", accountid=alice.account, name="phone") for _ in range(2))
    ends, stays = (
        Stream(service.port, EVENTS, {"Authorization": f"Bearer {token['token']}"}) for token in (mine, other)
    )
    wait_until(lambda: service.status(alice.account)["subscribers"] == 1, "they listen")
    service.registry("token_revoke", id=mine["id"])
    while ends.event() is not None:
        pass
    user = service.management.send("GET", f"/api/accounts/{alice.account}").json["email"]
    deliver(dovecot.imap(user), "one")
    assert stays.event() is not None
    stays.close()


def test_a_stream_ends_when_an_account_joins_and_the_next_one_tells_of_it(
    service: Proxy, alice: Client, dovecot: Dovecot
) -> None:
    user = dovecot.new_user()
    first = Stream(service.port, EVENTS, alice.headers)
    deliver(dovecot.imap(service.management.send("GET", f"/api/accounts/{alice.account}").json["email"]), "one")
    seen: Any = first.event()
    assert seen["data"]["changed"].keys() == {alice.account}
    service.add(f"{alice.account}b", dovecot, user, pool=alice.account)
    while (event := first.event()) is not None:
        seen = event
    second = Stream(service.port, EVENTS, {**alice.headers, "Last-Event-ID": seen["id"]})
    told: set[str] = set()
    while f"{alice.account}b" not in told:
        event = second.event()
        assert event is not None
        told |= event["data"]["changed"].keys()
    second.close()
