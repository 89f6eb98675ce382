"""``POST /jmap``: request errors, limits, runs over several accounts."""

from __future__ import annotations

import json
import socket
import threading
from typing import Any

import pytest

from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.ports import HOST, wait_until
from jmapplug.testing.proxy import USING, Client, Proxy, Reply

CORE = "urn:ietf:params:jmap:core"
JSON = {"Content-Type": "application/json"}


def problem(reply: Reply) -> tuple[int, str]:
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json["status"] == reply.status
    return reply.status, reply.json["type"].removeprefix("urn:ietf:params:jmap:error:")


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[1,]", b'{"a":1,"a":2}', b'{"a":"\\ud800"}', b"\xff", b"[" * 100_000, b'{"a":' * 5000, b"NaN"],
    ids=["empty", "cut", "comma", "duplicate", "surrogate", "utf-8", "deep array", "deep object", "nan"],
)
def test_what_is_not_i_json_is_not_json(alice: Client, body: bytes) -> None:
    assert problem(alice.send("POST", "/jmap", body, JSON)) == (400, "notJSON")


@pytest.mark.parametrize(
    "body", [b"[]", b"{}", b'{"using":[],"methodCalls":{}}', b'{"using":["x"],"methodCalls":[[1]]}']
)
def test_what_is_no_request_is_not_a_request(alice: Client, body: bytes) -> None:
    assert problem(alice.send("POST", "/jmap", body, JSON)) == (400, "notRequest")


def test_another_content_type_is_not_json(alice: Client) -> None:
    assert problem(alice.send("POST", "/jmap", b"{}", {"Content-Type": "text/plain"})) == (400, "notJSON")


def test_an_unknown_capability_is_named(alice: Client) -> None:
    reply = alice.send("POST", "/jmap", {"using": [CORE, "urn:example:none"], "methodCalls": []})
    assert problem(reply) == (400, "unknownCapability")
    assert "urn:example:none" in reply.json["detail"]


def test_an_empty_using_admits_no_method(alice: Client) -> None:
    assert alice.request(("Core/echo", {}), using=()) == [["error", {"type": "unknownMethod"}, "0"]]


def test_one_call_too_many_names_the_limit(alice: Client) -> None:
    calls = [["Core/echo", {}, str(n)] for n in range(65)]
    reply = alice.send("POST", "/jmap", {"using": [CORE], "methodCalls": calls})
    assert problem(reply) == (400, "limit")
    assert reply.json["limit"] == "maxCallsInRequest"


def test_a_body_over_the_limit_is_refused_before_it_is_read(alice: Client) -> None:
    """The announced length alone is enough: nothing of it is sent."""
    with socket.create_connection((HOST, alice.connection.port)) as sock:
        head = f"POST /jmap HTTP/1.1\r\nHost: x\r\nAuthorization: {alice.headers['Authorization']}\r\n"
        sock.sendall((head + "Content-Type: application/json\r\nContent-Length: 10000001\r\n\r\n").encode())
        answer = sock.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"limit":"maxSizeRequest"' in answer


def chunked(alice: Client, size: int) -> bytes:
    """A chunked body of ``size`` octets of JSON; the whole answer."""
    text = b'{"using":["urn:ietf:params:jmap:core"],"methodCalls":[["Core/echo",{"x":"'
    end = b'"},"0"]]}'
    body = text + b"a" * (size - len(text) - len(end)) + end
    with socket.create_connection((HOST, alice.connection.port)) as sock:
        head = f"POST /jmap HTTP/1.1\r\nHost: x\r\nAuthorization: {alice.headers['Authorization']}\r\n"
        head += "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        sock.sendall(head.encode())

        def send() -> None:
            try:
                for at in range(0, len(body), 60_000):
                    piece = body[at : at + 60_000]
                    sock.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
                sock.sendall(b"0\r\n\r\n")
            except OSError:
                pass

        sender = threading.Thread(target=send)
        sender.start()
        answer = b""
        try:
            while data := sock.recv(65536):
                answer += data
        except ConnectionResetError:
            pass
        sender.join()
    return answer


def test_a_chunked_body_of_exactly_the_limit_is_taken(alice: Client) -> None:
    assert chunked(alice, 10_000_000).startswith(b"HTTP/1.1 200 ")


def test_a_chunked_body_one_byte_over_the_limit_is_refused(alice: Client) -> None:
    """Process rule 14: cut at the limit and answered with 200 would be a wrong answer."""
    assert chunked(alice, 10_000_001).startswith(b"HTTP/1.1 413 ")


def test_two_ways_of_framing_a_body_are_refused(alice: Client) -> None:
    with socket.create_connection((HOST, alice.connection.port)) as sock:
        head = f"POST /jmap HTTP/1.1\r\nHost: x\r\nAuthorization: {alice.headers['Authorization']}\r\n"
        head += "Content-Type: application/json\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
        sock.sendall(head.encode() + b"2\r\n{}\r\n0\r\n\r\n")
        assert sock.makefile("rb").readline().split()[1] == b"400"


def test_more_requests_at_the_same_time_than_announced_are_refused(alice: Client) -> None:
    """Requests whose bodies are still under way take every place (some may meet a place taken by another)."""
    open_sockets: list[socket.socket] = []
    echo = {"using": [CORE], "methodCalls": []}
    head = f"POST /jmap HTTP/1.1\r\nHost: x\r\nAuthorization: {alice.headers['Authorization']}\r\n"
    head += "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"

    def refused() -> bool:
        """One more that stays; those that came while another was answered were refused themselves."""
        open_sockets.append(socket.create_connection((HOST, alice.connection.port)))
        open_sockets[-1].sendall(head.encode())
        return alice.send("POST", "/jmap", echo).status == 429

    try:
        wait_until(refused, "all places are taken")
        reply = alice.send("POST", "/jmap", echo)
        assert problem(reply) == (429, "limit")
        assert reply.json["limit"] == "maxConcurrentRequests"
    finally:
        for sock in open_sockets:
            sock.close()


def test_created_ids_come_back_only_to_who_sent_them(alice: Client) -> None:
    body: dict[str, Any] = {"using": [CORE], "methodCalls": [["Core/echo", {}, "0"]]}
    assert "createdIds" not in alice.send("POST", "/jmap", body).json
    assert alice.send("POST", "/jmap", {**body, "createdIds": {"a": "b"}}).json["createdIds"] == {"a": "b"}


def test_a_foreign_account_is_not_found(alice: Client, proxy: Proxy, dovecot: Dovecot) -> None:
    proxy.add("stranger", dovecot, dovecot.new_user())
    for account in ("stranger", "no-such-account", "__accounts__", "__management__", "../x"):
        assert alice.error("Mailbox/get", accountId=account, ids=None)["type"] == "accountNotFound"


def test_one_request_reads_two_accounts_of_a_pool_and_refers_between_them(proxy: Proxy, dovecot: Dovecot) -> None:
    one = proxy.add("run-one", dovecot, dovecot.new_user())
    proxy.add("run-two", dovecot, dovecot.new_user(), pool="run-one")
    calls = [
        ["Mailbox/query", {"accountId": "run-one", "filter": {"role": "inbox"}}, "0"],
        ["Mailbox/query", {"accountId": "run-two", "filter": {"role": "inbox"}}, "1"],
        [
            "Mailbox/get",
            {"accountId": "run-one", "#ids": {"resultOf": "0", "name": "Mailbox/query", "path": "/ids"}},
            "2",
        ],
        ["Core/echo", {"#seen": {"resultOf": "1", "name": "Mailbox/query", "path": "/ids"}}, "3"],
        [
            "Mailbox/get",
            {"accountId": "run-two", "#ids": {"resultOf": "0", "name": "Mailbox/query", "path": "/ids"}},
            "4",
        ],
    ]
    responses = one.send("POST", "/jmap", {"using": list(USING), "methodCalls": calls}).json["methodResponses"]
    assert [response[2] for response in responses] == ["0", "1", "2", "3", "4"]
    first, second, got, echoed, foreign = (response[1] for response in responses)
    assert got["accountId"] == "run-one"
    assert [box["id"] for box in got["list"]] == first["ids"]
    assert echoed == {"seen": second["ids"]}
    assert foreign["notFound"] == first["ids"], "ids of one account mean nothing in another"


def test_a_large_answer_is_compressed_when_accepted(alice: Client) -> None:
    body = {"using": [CORE], "methodCalls": [["Core/echo", {"x": "a" * 50_000}, "0"]]}
    reply = alice.send("POST", "/jmap", body, {"Accept-Encoding": "gzip"})
    assert reply.headers["content-encoding"] == "gzip"
    assert len(reply.body) < 1000
    assert "content-encoding" not in alice.send("POST", "/jmap", body).headers


def test_another_method_than_post_is_405(alice: Client) -> None:
    assert alice.send("GET", "/jmap").status == 405


def test_an_unknown_path_is_404_and_not_silence(proxy: Proxy) -> None:
    assert proxy.http.send("GET", "/nothing/here").status == 404


def test_answers_are_compact_json_and_never_cached(alice: Client) -> None:
    reply = alice.send("POST", "/jmap", {"using": [CORE], "methodCalls": [["Core/echo", {"b": [1, {}]}, "0"]]})
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["cache-control"] == "no-cache, no-store"
    assert json.dumps(reply.json, separators=(",", ":")).encode() == reply.body
