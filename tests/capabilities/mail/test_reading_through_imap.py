"""Email/get, Email/parse and blobs over a real IMAP server: what is answered is what can be downloaded."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from email_rig import lines
from imap_rig import Account

from jmapplug.capabilities.mail import blobs
from jmapplug.mime.structure import parse
from jmapplug.testing.dovecot import Dovecot


def wrapped(octets: bytes) -> str:
    text = base64.b64encode(octets).decode()
    return "\r\n".join(text[at : at + 76] for at in range(0, len(text), 76))


INNER = lines(
    "Subject: inner",
    "Content-Type: multipart/mixed; boundary=n",
    "",
    "--n",
    "Content-Type: text/plain; charset=koi8-r",
    "Content-Transfer-Encoding: base64",
    "",
    base64.b64encode("Привет".encode("koi8-r")).decode(),
    "--n",
    "Content-Type: image/gif; name=a.gif",
    "Content-Transfer-Encoding: base64",
    "",
    "R0lGODlh",
    "--n--",
)
MIXED = lines(
    "From: Ann <ann@example.org>",
    "Subject: mixed",
    "Content-Type: multipart/mixed; boundary=m",
    "",
    "--m",
    "Content-Type: multipart/alternative; boundary=a",
    "",
    "--a",
    "Content-Type: text/plain; charset=iso-8859-1",
    "Content-Transfer-Encoding: quoted-printable",
    "",
    "Gr=FC=DFe",
    "--a",
    "Content-Type: text/html; charset=utf-8",
    "",
    "<p>Grüße</p>",
    "--a--",
    "--m",
    "Content-Type: application/pdf",
    "Content-Disposition: attachment; filename*=utf-8''%E2%9C%93.pdf",
    "Content-Transfer-Encoding: base64",
    "",
    wrapped(bytes(range(256)) * 100),
    "--m",
    "Content-Type: message/rfc822",
    "",
    INNER.decode(),
    "--m--",
    "",
)
SINGLE = lines("Subject: single", "Content-Type: text/plain; charset=utf-8", "", "one part", "")
MESSAGES = {
    "mixed": MIXED,
    "single": SINGLE,
    "no body": b"Subject: no body\r\n\r\n",
    "no parts": b"Subject: no parts\r\nContent-Type: multipart/mixed; boundary=q\r\n\r\nnothing here\r\n",
    "rfc822 only": b"Subject: rfc822 only\r\nContent-Type: message/rfc822\r\n\r\n" + SINGLE,
    "unknown encoding": lines(
        "Subject: unknown encoding", "Content-Type: text/plain", "Content-Transfer-Encoding: x-odd", "", "as it is", ""
    ),
}


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory, dovecot: Dovecot) -> Iterator[Account]:
    reader = Account(tmp_path_factory.mktemp("reader") / "account", dovecot, MESSAGES)
    yield reader
    reader.close()


@pytest.mark.parametrize("subject", MESSAGES)
def test_every_part_is_a_blob_of_the_size_that_was_answered(reader: Account, subject: str) -> None:
    tree = reader.get(subject, "bodyStructure")["bodyStructure"]
    parts, leaves = [tree], 0
    while parts:
        part = parts.pop()
        parts += part.get("subParts", [])
        if part["blobId"] is not None:
            ref = blobs.find(reader.account, part["blobId"])
            assert ref is not None and ref.size == ref.path.stat().st_size == part["size"], part
            leaves += 1
    assert leaves


# A multipart without parts is the one shape that each server reads in its own way.
@pytest.mark.parametrize("subject", sorted(MESSAGES.keys() - {"no parts"}))
def test_the_servers_structure_reads_as_our_own_parser_does(reader: Account, subject: str) -> None:
    email_id = reader.emails[subject]
    names = ["bodyStructure", "bodyValues", "hasAttachment"]
    wanted = {"properties": names, "bodyProperties": ["partId", "type", "name", "charset"]}
    (email,) = reader.call("Email/get", ids=[email_id], fetchAllBodyValues=True, **wanted)["list"]
    parsed = reader.call("Email/parse", blobIds=[f"m-{email_id}"], fetchAllBodyValues=True, **wanted)["parsed"]
    assert parse(MESSAGES[subject]).type == email["bodyStructure"]["type"]
    assert {name: email[name] for name in names} == parsed[f"m-{email_id}"]


@pytest.mark.parametrize("subject", MESSAGES)
def test_the_whole_message_is_its_blob(reader: Account, subject: str) -> None:
    ref = blobs.find(reader.account, f"m-{reader.emails[subject]}")
    assert ref is not None and ref.path.read_bytes() == MESSAGES[subject]


def test_values_names_and_part_headers_come_decoded(reader: Account) -> None:
    names = ["bodyValues", "attachments", "textBody", "preview", "headers"]
    wanted = ["name", "blobId", "header:Content-Type:asText", "headers"]
    email = reader.get("mixed", *names, fetchAllBodyValues=True, bodyProperties=wanted)
    assert email["bodyValues"]["1.1"]["value"] == "Grüße" and email["preview"] == "Grüße"
    assert email["bodyValues"]["1.2"]["value"] == "<p>Grüße</p>"
    assert [part["name"] for part in email["attachments"]] == ["✓.pdf", None]
    assert email["attachments"][0]["header:Content-Type:asText"] == "application/pdf"
    assert [header["name"] for header in email["headers"]] == ["From", "Subject", "Content-Type"]


BIG = lines(
    "Subject: big",
    "Content-Type: multipart/mixed; boundary=b",
    "",
    "--b",
    "Content-Type: multipart/related; boundary=r",
    "",
    "--r",
    "Content-Type: text/html; charset=utf-8",
    "",
    "<p>see the film</p>",
    "--r",
    "Content-Type: image/png; name=small.png",
    "Content-Transfer-Encoding: base64",
    "",
    wrapped(b"png" * 700),
    "--r--",
    "--b",
    "Content-Type: video/mp4",
    "Content-Disposition: attachment; filename=film.mp4",
    "Content-Transfer-Encoding: base64",
    "",
    wrapped(bytes(range(250)) * 20_000 + b"!"),
    "--b--",
    "",
)


def test_viewing_a_message_with_a_large_attachment_does_not_download_it(tmp_path: Path, dovecot: Dovecot) -> None:
    reader = Account(tmp_path / "account", dovecot, {"big": BIG})
    try:
        source = reader.session.mail
        octets, trips = source.bytes_in, source.round_trips
        names = ["bodyStructure", "textBody", "htmlBody", "attachments", "bodyValues", "hasAttachment", "headers"]
        email = reader.get("big", *names, fetchHTMLBodyValues=True)
        assert {part["name"]: part["size"] for part in email["attachments"]} == {
            "small.png": 2100,
            "film.mp4": 5_000_001,
        }
        assert email["bodyValues"]["1.1"]["value"] == "<p>see the film</p>"
        assert len(BIG) > 6_000_000 and source.bytes_in - octets < 20_000
        assert source.round_trips - trips <= 4
        # The sizes are stored: looking again costs nothing.
        octets = source.bytes_in
        assert reader.get("big", "attachments") == {"id": email["id"], "attachments": email["attachments"]}
        assert source.bytes_in == octets
        # What was told is what the download has.
        ref = blobs.find(reader.account, email["attachments"][1]["blobId"])
        assert ref is not None and ref.size == 5_000_001 and source.bytes_in - octets > 5_000_000
    finally:
        reader.close()


def test_an_attached_message_is_parsed_and_its_parts_are_blobs(reader: Account) -> None:
    blob_id = reader.get("mixed", "attachments")["attachments"][1]["blobId"]
    parsed = reader.call("Email/parse", blobIds=[blob_id], fetchAllBodyValues=True)["parsed"][blob_id]
    assert parsed["subject"] == "inner" and parsed["bodyValues"]["1"]["value"] == "Привет"
    gif = blobs.find(reader.account, parsed["textBody"][1]["blobId"])
    assert gif is not None and gif.path.read_bytes() == b"GIF89a"
