"""Email/parse (RFC 8621 §4.9)."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from email_rig import Rig, lines

from jmapplug.capabilities.mail import blobs
from jmapplug.capabilities.mail.email_parse import email_parse
from jmapplug.jmap.errors import MethodError

INNER = lines(
    "From: Ann <ann@example.org>",
    "Subject: inner =?utf-8?q?=E2=9C=93?=",
    "Date: Mon, 2 Nov 2026 10:00:00 +0100",
    "Message-ID: <inner@example.org>",
    "X-Own: yes",
    "Content-Type: multipart/mixed; boundary=n",
    "",
    "--n",
    "Content-Type: text/plain; charset=utf-8",
    "",
    "inner text ✓",
    "--n",
    "Content-Type: image/gif; name=a.gif",
    "Content-Disposition: attachment",
    "Content-Transfer-Encoding: base64",
    "",
    "R0lGODlh",
    "--n--",
    "",
)
OUTER = lines(
    "Subject: outer",
    "Content-Type: multipart/mixed; boundary=m",
    "",
    "--m",
    "Content-Type: text/plain",
    "",
    "text",
    "--m",
    "Content-Type: message/rfc822",
    "",
    INNER.decode(),
    "--m",
    "Content-Type: application/pdf",
    "Content-Transfer-Encoding: base64",
    "",
    base64.b64encode(b"\x00\x01").decode(),
    "--m--",
    "",
)
DEFAULTS = {
    "messageId",
    "inReplyTo",
    "references",
    "sender",
    "from",
    "to",
    "cc",
    "bcc",
    "replyTo",
    "subject",
    "sentAt",
    "hasAttachment",
    "preview",
    "bodyValues",
    "textBody",
    "htmlBody",
    "attachments",
}


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.close()


def parse(rig: Rig, *blob_ids: str, **args: Any) -> dict[str, Any]:
    return rig.call(email_parse, blobIds=list(blob_ids), **args)


def test_an_attached_message_is_parsed_with_the_defaults(rig: Rig) -> None:
    blob_id = f"p-{rig.add(OUTER)}-2"
    reply = parse(rig, blob_id, fetchTextBodyValues=True)
    assert reply["notFound"] is None and reply["notParsable"] is None
    email = reply["parsed"][blob_id]
    assert set(email) == DEFAULTS
    assert email["subject"] == "inner ✓" and email["from"] == [{"name": "Ann", "email": "ann@example.org"}]
    assert email["messageId"] == ["inner@example.org"] and email["sentAt"] == "2026-11-02T10:00:00+01:00"
    assert email["to"] is None and email["hasAttachment"] is True and email["preview"] == "inner text ✓"
    assert email["bodyValues"]["1"]["value"] == "inner text ✓"
    (gif,) = email["attachments"]
    assert (gif["name"], gif["size"], gif["blobId"]) == ("a.gif", 6, f"{blob_id}-2")
    ref = blobs.find(rig.account, gif["blobId"])
    assert ref is not None and ref.path.read_bytes() == b"GIF89a"


def test_metadata_is_null_and_the_rest_is_what_was_asked_for(rig: Rig) -> None:
    blob_id = rig.upload("application/octet-stream", INNER)
    names = [
        "id",
        "threadId",
        "mailboxIds",
        "keywords",
        "receivedAt",
        "blobId",
        "size",
        "header:X-OWN:asText",
        "header:Subject:asText",
        "header:From:asAddresses:all",
        "headers",
        "bodyStructure",
    ]
    email = parse(rig, blob_id, properties=names)["parsed"][blob_id]
    assert set(email) == set(names)
    assert {email[name] for name in names[:5]} == {None}
    assert email["blobId"] == blob_id and email["size"] == len(INNER)
    assert email["header:X-OWN:asText"] == "yes" and email["header:Subject:asText"] == "inner ✓"
    assert email["header:From:asAddresses:all"] == [[{"name": "Ann", "email": "ann@example.org"}]]
    assert email["headers"][0] == {"name": "From", "value": " Ann <ann@example.org>"}
    assert [part["type"] for part in email["bodyStructure"]["subParts"]] == ["text/plain", "image/gif"]


def test_a_whole_email_is_parsed_by_its_blob(rig: Rig) -> None:
    blob_id = f"m-{rig.add(OUTER)}"
    email = parse(rig, blob_id, properties=["subject", "attachments"])["parsed"][blob_id]
    assert email["subject"] == "outer" and [part["partId"] for part in email["attachments"]] == ["2", "3"]


def test_an_attached_message_in_base64_is_parsed(rig: Rig) -> None:
    raw = OUTER.replace(
        b"Content-Type: message/rfc822\r\n\r\n" + INNER,
        b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(INNER),
    )
    blob_id = f"p-{rig.add(raw)}-2"
    assert parse(rig, blob_id, properties=["subject"])["parsed"][blob_id] == {"subject": "inner ✓"}


def test_what_is_no_message_is_not_parsable_and_what_is_nowhere_not_found(rig: Rig) -> None:
    email_id = rig.add(OUTER)
    binary, empty, good = (
        rig.upload("application/octet-stream", b"\x00\x01\x02\xff" * 100),
        rig.upload("application/octet-stream", b""),
        rig.upload("application/octet-stream", INNER),
    )
    reply = parse(rig, f"p-{email_id}-3", binary, empty, good, "f-nothing", "p-x-1", "?!", good, properties=["subject"])
    assert reply["parsed"] == {good: {"subject": "inner ✓"}}
    assert reply["notParsable"] == [f"p-{email_id}-3", binary, empty]
    assert reply["notFound"] == ["f-nothing", "p-x-1", "?!"]


def test_nothing_parsed_is_null(rig: Rig) -> None:
    assert parse(rig) == {"accountId": "acc", "parsed": None, "notParsable": None, "notFound": None}


def test_bare_line_feeds_are_read(rig: Rig) -> None:
    blob_id = rig.upload("application/octet-stream", INNER.replace(b"\r\n", b"\n"))
    email = parse(rig, blob_id, properties=["subject", "bodyValues"], fetchAllBodyValues=True)["parsed"][blob_id]
    assert email["subject"] == "inner ✓" and email["bodyValues"]["1"]["value"] == "inner text ✓"


@pytest.mark.parametrize(
    "args",
    [
        {"blobIds": None},
        {"blobIds": "x"},
        {"blobIds": [1]},
        {"properties": ["nonsense"]},
        {"properties": ["header:From:asDate"]},
        {"properties": "subject"},
        {"bodyProperties": ["header:Subject:asDate"]},
        {"fetchAllBodyValues": "yes"},
        {"ids": []},
    ],
)
def test_wrong_arguments_are_refused(rig: Rig, args: dict[str, Any]) -> None:
    with pytest.raises(MethodError) as error:
        rig.call(email_parse, **({"blobIds": []} | args))
    assert error.value.type == "invalidArguments"


def test_too_many_blobs_are_refused(rig: Rig) -> None:
    with pytest.raises(MethodError) as error:
        parse(rig, *(f"m-{n}" for n in range(5_000)))
    assert error.value.type == "requestTooLarge"
