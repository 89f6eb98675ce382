"""Upload and download over HTTP (RFC 8620 §6)."""

from __future__ import annotations

import re
import socket

from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.ports import HOST
from jmapplug.testing.proxy import Client, Proxy
from tests.web.conftest import MESSAGE

TYPED = {"Content-Type": "image/jpeg"}


def upload(client: Client, data: bytes, type_: str = "application/octet-stream") -> str:
    reply = client.send("POST", f"/upload/{client.account}/", data, {"Content-Type": type_})
    assert reply.status == 200, reply
    return str(reply.json["blobId"])


def test_an_upload_answers_200_with_the_documented_shape(alice: Client) -> None:
    """200, not 201: aerc takes anything else for a failure."""
    for path in (f"/upload/{alice.account}/", f"/upload/{alice.account}"):
        reply = alice.send("POST", path, b"\xff\xd8 picture", TYPED)
        assert reply.status == 200
        assert set(reply.json) == {"accountId", "blobId", "type", "size"}
        assert re.fullmatch(r"f-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", reply.json["blobId"])
        assert (reply.json["type"], reply.json["size"]) == ("image/jpeg", 10)
        assert reply.json["accountId"] == alice.account


def test_what_was_uploaded_comes_back_byte_for_byte(alice: Client) -> None:
    data = bytes(range(256)) * 5000
    blob = upload(alice, data)
    reply = alice.send("GET", f"/raw/{alice.account}/{blob}/file.bin?type=application/x-test")
    assert reply.body == data
    assert reply.headers["content-type"] == "application/x-test"


def test_a_download_can_harm_no_browser(alice: Client) -> None:
    blob = upload(alice, b"<script>alert(1)</script>")
    reply = alice.send("GET", f"/raw/{alice.account}/{blob}/a%22b%2fc.html?type=text/html")
    assert reply.headers["content-disposition"].startswith("attachment")
    assert "/" not in reply.headers["content-disposition"].replace("''", "")
    injected = alice.send("GET", f"/raw/{alice.account}/{blob}/a%0d%0aSet-Cookie:%20a=b")
    assert "set-cookie" not in injected.headers
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in reply.headers["content-security-policy"]
    assert "immutable" in reply.headers["cache-control"]


def test_a_type_that_is_none_never_reaches_a_header(alice: Client) -> None:
    blob = upload(alice, b"x", "text/plain")
    reply = alice.send("GET", f"/raw/{alice.account}/{blob}/x?type=text/html%0d%0aSet-Cookie:%20a=b")
    assert reply.headers["content-type"] == "text/plain"
    assert "set-cookie" not in reply.headers


def test_a_name_keeps_its_letters(alice: Client) -> None:
    blob = upload(alice, b"x")
    reply = alice.send("GET", f"/raw/{alice.account}/{blob}/Gr%C3%BC%C3%9Fe.txt")
    assert "filename*=UTF-8''Gr%C3%BC%C3%9Fe.txt" in reply.headers["content-disposition"]


def test_ranges_and_etags_work(alice: Client) -> None:
    blob = upload(alice, b"0123456789")
    path = f"/raw/{alice.account}/{blob}/x"
    whole = alice.send("GET", path)
    part = alice.send("GET", path, headers={"Range": "bytes=2-4"})
    assert (part.status, part.body, part.headers["content-range"]) == (206, b"234", "bytes 2-4/10")
    assert alice.send("GET", path, headers={"Range": "bytes=-3"}).body == b"789"
    assert alice.send("GET", path, headers={"Range": "bytes=20-"}).status == 416
    assert alice.send("GET", path, headers={"If-None-Match": whole.headers["etag"]}).status == 304
    head = alice.send("HEAD", path)
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", "10")


def test_a_whole_message_and_its_parts_are_blobs(alice: Client) -> None:
    ids = alice.call("Email/query", filter=None)["ids"]
    (email,) = alice.call("Email/get", ids=ids[:1], properties=["blobId", "textBody", "size"])["list"]
    message = alice.send("GET", f"/raw/{alice.account}/{email['blobId']}/m.eml?type=message/rfc822")
    assert (message.status, message.body) == (200, MESSAGE)
    assert email["size"] == len(MESSAGE)
    part = email["textBody"][0]
    text = alice.send("GET", f"/raw/{alice.account}/{part['blobId']}/t.txt?type=text/plain")
    assert text.body == b"The quick brown fox.\r\n"
    assert part["size"] == len(text.body)


def test_an_unknown_blob_is_404(alice: Client) -> None:
    for blob in (
        "f-00000000-0000-4000-8000-000000000000",
        "m-x",
        "p-x-1",
        "x",
        "f-..%2f..%2fsecret.key",
        "m-" + "a" * 300,
    ):
        assert (blob, alice.send("GET", f"/raw/{alice.account}/{blob}/n").status) == (blob, 404)


def test_another_accounts_blobs_and_uploads_are_out_of_reach(alice: Client, proxy: Proxy, dovecot: Dovecot) -> None:
    bob = proxy.add("bob-blobs", dovecot, dovecot.new_user())
    blob = upload(bob, b"secret")
    assert alice.send("GET", f"/raw/bob-blobs/{blob}/x").status == 404
    assert alice.send("GET", f"/raw/{alice.account}/{blob}/x").status == 404
    assert alice.send("POST", "/upload/bob-blobs/", b"x").status == 404
    assert alice.send("POST", "/upload/__accounts__/", b"x").status == 404
    assert proxy.http.send("POST", f"/upload/{alice.account}/", b"x").status == 401
    assert proxy.http.send("GET", f"/raw/bob-blobs/{blob}/x").status == 401


def test_an_upload_over_the_limit_is_refused_before_it_is_read(alice: Client) -> None:
    with socket.create_connection((HOST, alice.connection.port)) as sock:
        head = (
            f"POST /upload/{alice.account}/ HTTP/1.1\r\nHost: x\r\nAuthorization: {alice.headers['Authorization']}\r\n"
        )
        sock.sendall((head + "Content-Length: 50000001\r\n\r\n").encode())
        answer = sock.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"limit":"maxSizeUpload"' in answer


def test_an_upload_that_breaks_off_leaves_nothing(alice: Client, proxy: Proxy) -> None:
    folder = proxy.folder / "data" / "accounts" / alice.account
    upload(alice, b"x")
    before = set(folder.rglob("f-*"))
    with socket.create_connection((HOST, alice.connection.port)) as sock:
        head = (
            f"POST /upload/{alice.account}/ HTTP/1.1\r\nHost: x\r\nAuthorization: {alice.headers['Authorization']}\r\n"
        )
        sock.sendall((head + "Content-Length: 1000\r\n\r\npart").encode())
        sock.shutdown(socket.SHUT_WR)
        assert b" 400 " in sock.makefile("rb").readline()
    assert set(folder.rglob("f-*")) == before
