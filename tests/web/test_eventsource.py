"""``GET /eventsource`` against a real server and a real second client."""

from __future__ import annotations

import http.client
import json
import os
import signal
from typing import Any

import pytest

from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.ports import HOST, PATIENCE, running, wait_until
from jmapplug.testing.proxy import Client, Http, Proxy


class Stream:
    """An open event stream."""

    def __init__(self, port: int, path: str, headers: dict[str, str]) -> None:
        self.connection = http.client.HTTPConnection(HOST, port, timeout=PATIENCE)
        self.connection.request("GET", path, headers=headers)
        self.answer = self.connection.getresponse()

    def event(self) -> dict[str, Any] | None:
        """The next event's fields; None at the end of the stream."""
        fields: dict[str, Any] = {}
        while line := self.answer.readline():
            assert b"\r" not in line
            if line == b"\n":
                return fields
            name, _, value = line.decode().rstrip("\n").partition(": ")
            fields[name] = json.loads(value) if name == "data" else value
        return None

    def close(self) -> None:
        self.connection.close()


@pytest.fixture
def inbox(proxy: Proxy, dovecot: Dovecot, account_name: str) -> tuple[Client, Any]:
    """An account in step with its server, and a second IMAP client on it."""
    user = dovecot.new_user()
    client = proxy.add(account_name, dovecot, user)
    proxy.settled(account_name)
    return client, dovecot.imap(user)


def deliver(imap: Any, name: str) -> None:
    imap.append("INBOX", "", "", f"Subject: {name}\r\nMessage-ID: <{name}@x>\r\n\r\nhello\r\n".encode())


def test_a_delivery_is_an_event_with_the_states_that_get_answers(inbox: tuple[Client, Any]) -> None:
    client, imap = inbox
    stream = Stream(client.connection.port, "/eventsource?types=*&closeafter=no&ping=0", client.headers)
    assert (stream.answer.status, stream.answer.headers["Content-Type"]) == (200, "text/event-stream")
    assert stream.answer.headers["X-Accel-Buffering"] == "no"
    deliver(imap, "one")
    seen: dict[str, str] = {}
    while not {"Email", "Mailbox", "Thread"} <= seen.keys():
        event = stream.event()
        assert event is not None
        assert (event["event"], event["data"]["@type"]) == ("state", "StateChange")
        seen |= event["data"]["changed"][client.account]
    assert client.call("Email/get", ids=[])["state"] == seen["Email"]
    assert client.call("Mailbox/get", ids=[])["state"] == seen["Mailbox"]
    stream.close()


def test_a_stream_listens_before_its_headers_leave(inbox: tuple[Client, Any], proxy: Proxy) -> None:
    """A client asks for the states when they have come: what changes from then on must not be missed."""
    client, _ = inbox
    stream = Stream(client.connection.port, "/eventsource?types=*&closeafter=no&ping=0", client.headers)
    assert proxy.status(client.account)["subscribers"] == 1
    stream.close()


def test_only_the_types_asked_for_and_closeafter_state(inbox: tuple[Client, Any]) -> None:
    client, imap = inbox
    stream = Stream(client.connection.port, "/eventsource?types=Mailbox&closeafter=state&ping=0", client.headers)
    deliver(imap, "two")
    event = stream.event()
    assert event is not None
    assert set(event["data"]["changed"][client.account]) == {"Mailbox"}
    assert stream.event() is None


def test_what_was_missed_arrives_at_once_with_the_last_event_id(inbox: tuple[Client, Any], proxy: Proxy) -> None:
    client, imap = inbox
    path = "/eventsource?types=Email&closeafter=state&ping=0"
    stream = Stream(client.connection.port, path, client.headers)
    deliver(imap, "three")
    first = stream.event()
    assert first is not None
    deliver(imap, "four")
    wait_until(lambda: client.call("Email/query", filter=None, calculateTotal=True)["total"] == 2, "it is seen")
    again = Stream(client.connection.port, path, {**client.headers, "Last-Event-ID": first["id"]})
    missed = again.event()
    assert missed is not None
    state = client.call("Email/get", ids=[])["state"]
    assert missed["data"]["changed"] == {client.account: {"Email": state}}


def test_the_sessions_url_works_without_any_header_and_for_nothing_else(inbox: tuple[Client, Any]) -> None:
    client, imap = inbox
    url = client.send("GET", "/session").json["eventSourceUrl"]
    path = url[url.index("/eventsource") :].format(types="*", closeafter="state", ping="0")
    stream = Stream(client.connection.port, path, {})
    assert stream.answer.status == 200
    deliver(imap, "five")
    assert stream.event() is not None
    ticket = path.partition("ticket=")[2]
    port = client.connection.port
    assert Http(port).send("GET", f"/session?ticket={ticket}").status == 401
    assert Http(port).send("GET", f"/eventsource?ticket={ticket}x").status == 401
    assert Http(port).send("GET", "/eventsource").status == 401


def test_a_ticket_ends_with_the_password_or_token_that_asked_for_it(proxy: Proxy, dovecot: Dovecot) -> None:
    client = proxy.add("ticketed", dovecot, dovecot.new_user())
    token = proxy.registry("token_create", accountid="ticketed", name="browser")
    by_token = Http(proxy.port, {"Authorization": f"Bearer {token['token']}"})

    def path(asks: Http) -> str:
        url = asks.send("GET", "/session").json["eventSourceUrl"]
        return str(url[url.index("/eventsource") :].format(types="*", closeafter="no", ping="0"))

    def status(where: str) -> int:
        stream = Stream(proxy.port, where, {})
        stream.close()
        return stream.answer.status

    of_password, of_token = path(client), path(by_token)
    settings = proxy.registry("open", accountid="ticketed")["settings"]
    proxy.registry("update", accountid="ticketed", settings={**settings, "sendAs": ["ada@example.org"]})
    assert (status(of_password), status(of_token)) == (200, 200)
    proxy.registry("update", accountid="ticketed", settings={**settings, "password": "another one"})
    assert (status(of_password), status(of_token)) == (401, 200)
    proxy.registry("token_revoke", id=token["id"])
    assert status(of_token) == 401
    proxy.registry("update", accountid="ticketed", settings=settings)
    assert status(of_password) == 200, "it is the password that the ticket is of"
    assert proxy.management.send("DELETE", "/api/accounts/ticketed").status == 200


def test_a_stream_ends_when_the_account_is_deleted(proxy: Proxy, dovecot: Dovecot) -> None:
    client = proxy.add("streaming", dovecot, dovecot.new_user())
    stream = Stream(client.connection.port, "/eventsource?ping=0", client.headers)
    proxy.management.send("DELETE", "/api/accounts/streaming")
    while stream.event() is not None:
        pass


def test_listeners_end_with_their_streams(inbox: tuple[Client, Any], proxy: Proxy) -> None:
    client, _ = inbox
    streams = [Stream(client.connection.port, "/eventsource?ping=0", client.headers) for _ in range(3)]
    wait_until(lambda: proxy.status(client.account)["subscribers"] == 1, "the front listens, once for all")
    for stream in streams:
        stream.answer.close()
        stream.close()
    wait_until(lambda: proxy.status(client.account)["subscribers"] == 0, "nobody listens")


def test_a_stream_survives_its_worker(inbox: tuple[Client, Any], proxy: Proxy) -> None:
    client, imap = inbox
    stream = Stream(client.connection.port, "/eventsource?types=Email&ping=0&closeafter=state", client.headers)
    os.kill(proxy.worker_pid(client.account), signal.SIGKILL)
    deliver(imap, "six")
    assert stream.event() is not None


def test_sigterm_ends_everything_with_an_open_stream(dovecot: Dovecot) -> None:
    """Process rule 9: not the 30 s that a server waits for an open response."""
    service = Proxy()
    try:
        client = service.add("alice", dovecot, dovecot.new_user())
        stream = Stream(service.port, "/eventsource?ping=0", client.headers)
        worker = service.worker_pid("alice")
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(PATIENCE) == 0
        while stream.event() is not None:
            pass
        wait_until(lambda: not running(worker), "the worker is gone")
        service.start()
        assert client.__class__(service.port, "alice", client.headers["Authorization"]).call("Mailbox/get", ids=None)[
            "list"
        ]
    finally:
        service.stop()
