"""What may not be set on a new Email, and what cannot be attached (RFC 8621 §4.6): SetErrors that name it."""

from __future__ import annotations

import email
import re
from collections.abc import Iterator
from email import policy
from pathlib import Path
from typing import Any

import pytest
from compose_rig import ComposeRig
from email_rig import lines

from jmapplug.capabilities.mail import declaration
from jmapplug.jmap.errors import MethodError, SetError


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[ComposeRig]:
    one = ComposeRig(tmp_path)
    yield one
    one.close()


def text(value: str, **more: Any) -> dict[str, Any]:
    return {"textBody": [{"partId": "1", "type": "text/plain"}], "bodyValues": {"1": {"value": value, **more}}}


MIXED = {"type": "multipart/mixed"}
LEAF = {"partId": "1", "type": "text/plain"}
VALUES = {"1": {"value": "x"}}


def body(*parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"bodyStructure": {**MIXED, "subParts": list(parts), **more}, "bodyValues": VALUES}


REFUSED: list[tuple[dict[str, Any], list[str]]] = [
    *(({name: value}, [name]) for name, value in {
        "id": "x", "blobId": "m-1", "threadId": "t", "size": 1, "hasAttachment": False, "preview": "p",
        "headers": [], "unknown": 1, "header:": "x", "header:X:asNothing": "x", "header:X Y": "z",
    }.items()),
    ({"id": "x", "threadId": "t"}, ["id", "threadId"]),
    # Two properties for one header field.
    ({"from": [{"email": "a@b"}], "header:From": " a@b"}, ["from", "header:From"]),
    ({"header:x-a": "1", "header:X-A:asText": "1"}, ["header:x-a", "header:X-A:asText"]),
    ({"subject": "a", "header:SUBJECT:asText:all": ["b"]}, ["subject", "header:SUBJECT:asText:all"]),
    # Forms that are forbidden for a field.
    *(({name: value}, [name]) for name, value in {
        "header:Subject:asAddresses": [], "header:From:asText": "x", "header:Date:asText": "x",
        "header:To:asMessageIds": [], "header:Message-ID:asURLs": [], "header:List-Post:asText": "x",
        "header:Received:asText": "x",
    }.items()),
    # Content-* on the Email.
    *(({name: "text/plain"}, [name]) for name in (
        "header:Content-Type", "header:content-transfer-encoding", "header:Content-Foo:asText",
    )),
    # Values of another type.
    *(({name: value}, [name]) for name, value in {
        "subject": 1, "from": {"email": "x"}, "to": ["a@b"], "cc": [{"name": "x"}], "bcc": [{"email": None}],
        "replyTo": [{"email": "a@b", "name": 1}], "messageId": "a@b", "inReplyTo": [1], "sentAt": "yesterday",
        "header:X:asText": ["a"], "header:X:asText:all": "a", "header:X:all": [None], "header:X:asURLs": "u",
        "header:X:asGroupedAddresses": [{"name": "x"}], "header:X": ["a"], "header:Resent-Date:asDate": 5,
    }.items()),
    ({"messageId": ["a@b", "c@d"]}, ["messageId"]),
    # RFC 5322 §3.6: once at most.
    *(({name: value}, [name]) for name, value in {
        "header:From:asAddresses:all": [[{"email": "forged@x"}], [{"email": "me@x"}]], "header:Subject:all": ["a", "b"],
        "header:MIME-Version:all": ["1.0", "1.0"],
    }.items()),
    (body({**LEAF, "header:Content-Description:asText:all": ["a", "b"]}),
     ["bodyStructure/subParts/0/header:Content-Description:asText:all"]),
    ({"messageId": ["<>"]}, ["messageId"]),
    ({"references": ["x" * 1_000]}, ["references"]),
    ({"to": [{"email": "x" * 1_000}]}, ["to"]),
    ({"sentAt": "2026-02-30T00:00:00Z"}, ["sentAt"]),
    # Injection by Raw values is refused, all other forms have no way to express it.
    *(({"header:X": value}, ["header:X"]) for value in (
        "a\r\nBcc: b", "a\nb", "a\rb", "a\r\n \r\n b", "a\r\n\r\nbody", "a\0b", "\x1b[0m", "x" * 2_000,
    )),
    # bodyStructure and the lists exclude each other.
    ({"bodyStructure": LEAF, "textBody": [LEAF], "bodyValues": VALUES}, ["bodyStructure", "textBody"]),
    ({"bodyStructure": LEAF, "attachments": [], "bodyValues": VALUES}, ["bodyStructure", "attachments"]),
    ({"textBody": [LEAF, LEAF], "bodyValues": VALUES}, ["textBody"]),
    ({"textBody": LEAF, "bodyValues": VALUES}, ["textBody"]),
    ({"textBody": [{"partId": "1", "type": "text/html"}], "bodyValues": VALUES}, ["textBody/0/type"]),
    ({"htmlBody": [{"partId": "1", "type": "text/plain"}], "bodyValues": VALUES}, ["htmlBody/0/type"]),
    ({"htmlBody": [{**MIXED, "subParts": [LEAF]}], "bodyValues": VALUES}, ["htmlBody/0/type"]),
    ({"attachments": [{**MIXED, "subParts": [LEAF]}], "bodyValues": VALUES}, ["attachments/0/type"]),
    ({"attachments": {}}, ["attachments"]),
    ({"bodyStructure": {"header:Subject": " b", **LEAF}, "subject": "a", "bodyValues": VALUES},
     ["subject", "bodyStructure/header:Subject"]),
    ({"textBody": [{"header:X-A": " b", **LEAF}], "header:X-A": "a", "bodyValues": VALUES},
     ["header:X-A", "textBody/0/header:X-A"]),
    # bodyValues.
    ({"textBody": [LEAF]}, ["textBody/0/partId"]),
    ({"textBody": [LEAF], "bodyValues": {"2": {"value": "x"}}}, ["textBody/0/partId"]),
    ({"textBody": [LEAF], "bodyValues": {"1": {"value": 1}}}, ["bodyValues/1"]),
    ({"textBody": [LEAF], "bodyValues": {"1": "x"}}, ["bodyValues/1"]),
    ({"bodyValues": []}, ["bodyValues"]),
    (text("x", isEncodingProblem=True), ["bodyValues/1/isEncodingProblem"]),
    (text("x", isTruncated=True), ["bodyValues/1/isTruncated"]),
    # Parts.
    (body({**LEAF, "blobId": "f-x"}), ["bodyStructure/subParts/0/partId", "bodyStructure/subParts/0/blobId"]),
    (body({"type": "text/plain"}), ["bodyStructure/subParts/0/partId", "bodyStructure/subParts/0/blobId"]),
    (body({**LEAF, "charset": "utf-8"}), ["bodyStructure/subParts/0/charset"]),
    (body({**LEAF, "size": 1}), ["bodyStructure/subParts/0/size"]),
    (body({**LEAF, "headers": []}), ["bodyStructure/subParts/0/headers"]),
    (body({**LEAF, "subject": "x"}), ["bodyStructure/subParts/0/subject"]),
    (body({**LEAF, "header:Content-Transfer-Encoding": "8bit"}),
     ["bodyStructure/subParts/0/header:Content-Transfer-Encoding"]),
    (body({**LEAF, "header:Content-Type": "text/html"}),
     ["bodyStructure/subParts/0/header:Content-Type", "bodyStructure/subParts/0/type"]),
    (body({**LEAF, "header:Content-Disposition": "inline", "name": "a"}),
     ["bodyStructure/subParts/0/header:Content-Disposition", "bodyStructure/subParts/0/name"]),
    (body({**LEAF, "header:Content-ID": "<a>", "cid": "a"}),
     ["bodyStructure/subParts/0/header:Content-ID", "bodyStructure/subParts/0/cid"]),
    (body({**LEAF, "type": "text"}), ["bodyStructure/subParts/0/type"]),
    (body({**LEAF, "type": "a/b\r\nX: y"}), ["bodyStructure/subParts/0/type"]),
    (body({**LEAF, "disposition": "in line"}), ["bodyStructure/subParts/0/disposition"]),
    (body({**LEAF, "language": ["en", "\r\nX: y"]}), ["bodyStructure/subParts/0/language"]),
    (body({**LEAF, "language": "en"}), ["bodyStructure/subParts/0/language"]),
    (body({**LEAF, "name": 1}), ["bodyStructure/subParts/0/name"]),
    (body({**LEAF, "name": "x" * 3_000}), ["bodyStructure/subParts/0"]),
    (body({**LEAF, "subParts": [LEAF]}), ["bodyStructure/subParts/0/subParts"]),
    (body({**MIXED, "subParts": []}), ["bodyStructure/subParts/0/subParts"]),
    (body(MIXED), ["bodyStructure/subParts/0/subParts"]),
    (body(LEAF, partId="1"), ["bodyStructure/partId"]),
    (body({"blobId": "f-x", "charset": "a b"}), ["bodyStructure/subParts/0/charset"]),
    (body(*[LEAF] * 1_001), ["bodyStructure"]),
    ({"bodyStructure": [], "bodyValues": VALUES}, ["bodyStructure"]),
]  # fmt: skip


@pytest.mark.parametrize(("record", "properties"), REFUSED, ids=[str(paths)[:60] for _, paths in REFUSED])
def test_what_the_rfc_forbids_is_refused_by_name(rig: ComposeRig, record: Any, properties: list[str]) -> None:
    with pytest.raises(SetError) as refused:
        rig.compose(**record)
    assert refused.value.type == "invalidProperties"
    assert refused.value.properties == properties
    assert rig.leftovers() == []


def test_a_tower_of_multiparts_is_refused(rig: ComposeRig) -> None:
    tower: dict[str, Any] = LEAF
    for _ in range(60):
        tower = {**MIXED, "subParts": [tower]}
    with pytest.raises(SetError) as refused:
        rig.compose(bodyStructure=tower, bodyValues=VALUES)
    assert refused.value.properties == ["bodyStructure"]


def test_every_blob_that_is_missing_is_named(rig: ComposeRig) -> None:
    there = rig.upload("text/plain", b"x")
    ids = ["f-00000000-0000-0000-0000-000000000000", there, "#nobody", "../../etc/passwd", "p-1-1", "p-1-1"]
    with pytest.raises(SetError) as refused:
        rig.compose(attachments=[{"blobId": id_} for id_ in ids])
    assert refused.value.to_json()["type"] == "blobNotFound"
    assert refused.value.to_json()["notFound"] == [ids[0], ids[2], ids[3], ids[4]]
    assert rig.leftovers() == []


def test_attachments_beyond_the_announced_size_are_too_large(rig: ComposeRig, monkeypatch: Any) -> None:
    monkeypatch.setattr(declaration, "MAX_ATTACHMENTS", 10)
    blob = rig.upload("text/plain", b"12345")
    rig.octets(attachments=[{"blobId": blob}] * 2)
    with pytest.raises(SetError) as refused:
        rig.compose(attachments=[{"blobId": blob}] * 3)
    assert refused.value.type == "tooLarge"


def test_an_upstream_that_is_away_fails_the_call_and_leaves_nothing(rig: ComposeRig) -> None:
    email_id = rig.add(lines("Subject: x", "", "inner"))
    rig.source.down = True
    with pytest.raises(MethodError):
        rig.compose(attachments=[{"blobId": f"m-{email_id}"}])
    assert rig.leftovers() == []


def test_a_blob_that_shrinks_while_it_is_read_does_not_become_half_an_attachment(rig: ComposeRig) -> None:
    blob = rig.upload("text/plain", b"12345")
    find = rig.account.blob
    rig.account.blob = lambda blob_id: (ref := find(blob_id)) and (ref.path.write_bytes(b"123"), ref)[1]
    with pytest.raises(OSError, match="5 octets gave 3"):
        rig.compose(attachments=[{"blobId": blob}])
    assert rig.leftovers() == []


def test_a_line_of_an_attached_report_that_no_encoding_may_shorten_is_refused(rig: ComposeRig) -> None:
    with pytest.raises(SetError) as refused:
        rig.compose(
            bodyStructure=body({"partId": "1", "type": "message/delivery-status"})["bodyStructure"],
            bodyValues={"1": {"value": "x" * 1_000}},
        )
    assert refused.value.properties == ["bodyValues"]
    assert rig.leftovers() == []


def test_nothing_of_a_record_becomes_another_header_field(rig: ComposeRig) -> None:
    evil = "x\r\nBcc: evil@example.org\r\n\r\n<script>\0\x1b\ud800"
    blob = rig.upload("image/png", b"x")
    record = {
        "from": [{"name": evil, "email": evil}],
        "to": [{"name": None, "email": f"a@b{evil}"}],
        "subject": evil,
        "inReplyTo": [evil],
        "header:X-Text:asText:all": [evil, evil],
        "header:X-Urls:asURLs": [evil],
        "header:X-Groups:asGroupedAddresses": [{"name": evil, "addresses": [{"email": evil}]}],
        **text(evil),
        "attachments": [{"blobId": blob, "name": evil, "cid": evil, "location": evil, "type": "image/png"}],
    }
    octets = rig.octets(**record)
    read = rig.parsed(octets, "bcc", "subject", "bodyValues")
    assert read["bcc"] is None
    assert read["subject"] == "x Bcc: evil@example.org  <script>[0m�".replace("[0m", "")
    assert re.search(rb"(?mi)^bcc:", octets.partition(b"\r\n\r\n")[0]) is None
    for part in email.message_from_bytes(octets, policy=policy.default).walk():
        assert part["Bcc"] is None
