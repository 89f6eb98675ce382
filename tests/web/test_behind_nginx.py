"""Event streams and WebSockets through a real nginx: as docs/operations.md has it, and unconfigured."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.nginx import Nginx
from jmapplug.testing.ports import free_ports, wait_until
from jmapplug.testing.proxy import Client, Proxy
from tests.web.test_eventsource import Stream, deliver
from tests.web.test_websocket import Talk

OPERATIONS = Path(__file__).parent.parent.parent / "docs" / "operations.md"
EVENTS = "/eventsource?types=*&closeafter=no&ping=0"
PLAIN = """server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://127.0.0.1:{upstream}; }}
}}"""
"""nginx as it comes: HTTP/1.0 upstream, answers buffered."""


def documented(port: int, upstream: int) -> str:
    """The server block of docs/operations.md on these ports, without TLS."""
    (block,) = re.findall(r"```nginx\n(.*?)```", OPERATIONS.read_text(), re.S)
    block = re.sub(r"(?m)^ *(ssl_certificate|server_name).*\n", "", block)
    block, listens = re.subn(r"listen 443 ssl;", f"listen 127.0.0.1:{port};", block)
    block, passes = re.subn(r"http://127\.0\.0\.1:9000;", f"http://127.0.0.1:{upstream};", block)
    assert (listens, passes) == (1, 3)
    return str(block)


def plain(port: int, upstream: int) -> str:
    return PLAIN.format(port=port, upstream=upstream)


@pytest.fixture(scope="module", params=[documented, plain])
def nginx(request: pytest.FixtureRequest, proxy: Proxy, needs_nginx: None) -> Iterator[Nginx]:
    (port,) = free_ports(1)
    running = Nginx(request.param(port, proxy.port), port)
    yield running
    running.stop()


@pytest.fixture
def user(dovecot: Dovecot) -> str:
    return dovecot.new_user()


@pytest.fixture
def client(proxy: Proxy, dovecot: Dovecot, user: str, account_name: str) -> Client:
    made = proxy.add(account_name, dovecot, user)
    proxy.settled(account_name)
    return made


def test_events_come_one_by_one_and_the_stream_ends_with_its_client(
    proxy: Proxy, dovecot: Dovecot, nginx: Nginx, client: Client, user: str
) -> None:
    """Each event is waited for before the next is caused: one that sat in a buffer would never come."""
    stream = Stream(nginx.port, EVENTS, client.headers)
    assert (stream.answer.status, stream.answer.headers["Content-Type"]) == (200, "text/event-stream")
    assert "no-store" in stream.answer.headers["Cache-Control"]
    wait_until(lambda: proxy.status(client.account)["subscribers"] == 1, "it listens")
    imap = dovecot.imap(user)
    for name in ("one", "two", "three"):
        deliver(imap, name)
        while True:
            event = stream.event()
            assert event is not None and event["data"]["@type"] == "StateChange"
            if "EmailDelivery" in event["data"]["changed"][client.account]:
                break
    stream.close()
    wait_until(lambda: proxy.status(client.account)["subscribers"] == 0, "nobody listens")


def test_a_websocket_speaks_and_is_told_of_changes(
    proxy: Proxy, dovecot: Dovecot, nginx: Nginx, client: Client, user: str, request: pytest.FixtureRequest
) -> None:
    if "plain" in request.node.name:
        pytest.skip("nginx passes an upgrade only where it is configured to")
    with Talk(nginx.port, client.headers) as ws:
        ws.send("WebSocketPushEnable", dataTypes=["Email"])
        wait_until(lambda: proxy.status(client.account)["subscribers"] == 1, "it listens")
        ws.echo("R")
        assert ws.receive()["requestId"] == "R"
        deliver(dovecot.imap(user), "four")
        assert client.account in ws.state()["changed"]
    wait_until(lambda: proxy.status(client.account)["subscribers"] == 0, "nobody listens")
