"""A new Email becomes a message: what is written, and what clients really send (RFC 8621 §4.6)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from compose_rig import ComposeRig, independent
from email_rig import lines

PNG = bytes(range(256)) * 4


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[ComposeRig]:
    one = ComposeRig(tmp_path)
    yield one
    one.close()


def text(value: str, **more: Any) -> dict[str, Any]:
    return {"textBody": [{"partId": "1", "type": "text/plain"}], "bodyValues": {"1": {"value": value, **more}}}


def shape(part: dict[str, Any]) -> Any:
    """ "text/plain", or ["multipart/mixed", …]."""
    return [part["type"], *map(shape, part["subParts"])] if part.get("subParts") else part["type"]


def structure(rig: ComposeRig, **record: Any) -> Any:
    return shape(rig.again("bodyStructure", **record)["bodyStructure"])


def test_an_ordinary_message_reads_as_it_was_written(rig: ComposeRig) -> None:
    record = {
        "from": [{"name": "Jürgen Groß", "email": "j@example.org"}],
        "to": [{"name": 'Ann "Bo" Lee, Dr.', "email": "ann@example.org"}, {"name": None, "email": "bo@example.org"}],
        "cc": [{"email": "cc@example.org"}],
        "bcc": [{"name": "日本語 テキスト", "email": "bcc@example.org"}],
        "replyTo": [{"name": "", "email": "reply@example.org"}],
        "subject": "Grüße 🎉 und mehr",
        "messageId": ["own@example.org"],
        "inReplyTo": ["a@b.example"],
        "references": ["x@y.example", "a@b.example"],
        "sentAt": "2026-11-02T10:11:12+05:30",
        **text("Hallo\nWelt\n"),
    }
    octets = rig.octets(**record)
    read = rig.parsed(octets)
    for name in ("subject", "messageId", "inReplyTo", "references", "sentAt", "from", "to", "bcc"):
        assert read[name] == record[name]
    assert read["cc"] == [{"name": None, "email": "cc@example.org"}]
    assert read["replyTo"] == [{"name": None, "email": "reply@example.org"}]
    assert read["bodyValues"]["1"] == {"value": "Hallo\nWelt\n", "isEncodingProblem": False, "isTruncated": False}
    message = independent(octets)
    assert message["subject"] == record["subject"]
    assert [(one.display_name, one.addr_spec) for one in message["to"].addresses] == [
        ('Ann "Bo" Lee, Dr.', "ann@example.org"),
        ("", "bo@example.org"),
    ]
    assert message["date"].datetime.isoformat() == record["sentAt"]
    assert message["mime-version"] == "1.0"
    assert message.get_content() == "Hallo\r\nWelt\r\n"


def test_a_draft_without_anything_is_a_message_with_id_and_date(rig: ComposeRig) -> None:
    read = rig.again("messageId", "sentAt", "from", "bodyValues", "bodyStructure", mailboxIds={"a": True}, keywords={})
    assert read["messageId"] is not None
    assert read["messageId"][0].endswith("@account.example")
    assert read["sentAt"].endswith("Z")
    assert read["from"] is None
    assert read["bodyStructure"]["type"] == "text/plain"
    assert read["bodyValues"]["1"]["value"] == ""


@pytest.mark.parametrize(
    ("sender", "domain"),
    [
        ([{"email": "me@Example.ORG"}], "example.org"),
        ([{"name": "Me", "email": "me@bücher.example"}], "xn--bcher-kva.example"),
        ([{"email": "unfinished"}], "account.example"),
        ([{"email": "me@-bad-"}, {"email": "b@second.example"}], "second.example"),
        ([{"email": "me@[127.0.0.1]"}], "account.example"),
    ],
)
def test_the_message_id_is_in_the_senders_domain(rig: ComposeRig, sender: Any, domain: str) -> None:
    assert rig.again("messageId", **{"from": sender})["messageId"][0].rpartition("@")[2] == domain


def test_two_messages_have_two_message_ids(rig: ComposeRig) -> None:
    first, second = rig.compose(subject="x"), rig.compose(subject="x")
    assert first.message_id
    assert first.message_id != second.message_id


def test_the_message_id_is_told(rig: ComposeRig) -> None:
    assert rig.compose(messageId=["<own@example.org>"]).message_id == "own@example.org"
    assert rig.compose(header__Message_ID=None, subject="x").message_id is not None


def test_groups_of_addresses_keep_their_names(rig: ComposeRig) -> None:
    groups = [
        {"name": None, "addresses": [{"name": "A", "email": "a@example.org"}]},
        {"name": "Freunde & Familie, München", "addresses": [{"name": None, "email": "b@example.org"}]},
        {"name": "Empty", "addresses": []},
        {"name": None, "addresses": [{"name": None, "email": "c@example.org"}]},
    ]
    octets = rig.octets(**{"header:To:asGroupedAddresses": groups})
    assert rig.parsed(octets, "header:To:asGroupedAddresses")["header:To:asGroupedAddresses"] == groups
    read = independent(octets)["to"]
    assert [one.display_name for one in read.groups] == [None, "Freunde & Familie, München", "Empty", None]


def test_header_properties_in_every_form_come_back(rig: ComposeRig) -> None:
    record = {
        "header:X-Text:asText": "wörd  two",
        "header:X-Raw": " a;\r\n\tb=c",
        "header:X-Ids:asMessageIds": ["a@b", "c"],
        "header:List-Unsubscribe:asURLs": ["mailto:x@y?subject=a(b)", "https://example.org/" + "u" * 1_500],
        "header:X-Date:asDate": "2026-01-02T03:04:05-07:00",
        "header:Resent-To:asAddresses:all": [[{"name": "A", "email": "a@b"}], [{"name": None, "email": "c@d"}]],
        "header:Comments:asText:all": ["one", "zwö"],
    }
    assert rig.again(*record, **record) == record


def test_a_raw_value_gets_the_space_that_sets_it_off(rig: ComposeRig) -> None:
    assert rig.again("header:X-A", **{"header:X-A": "b"}) == {"header:X-A": " b"}


def test_javascript_dates_are_taken(rig: ComposeRig) -> None:
    assert rig.again("sentAt", sentAt="2026-11-02T10:11:12.000Z") == {"sentAt": "2026-11-02T10:11:12Z"}


def test_null_and_empty_lists_are_no_header_fields(rig: ComposeRig) -> None:
    octets = rig.octets(
        id=None, subject=None, to=[], cc=None, references=[], **{"header:X-A": None, "header:Bcc:asAddresses:all": []}
    )
    names = [line.partition(b":")[0] for line in octets.partition(b"\r\n\r\n")[0].split(b"\r\n")]
    assert names == [b"Date", b"Message-ID", b"MIME-Version", b"Content-Type", b"Content-Transfer-Encoding"]


def test_text_and_html_are_alternatives(rig: ComposeRig) -> None:
    record = {
        "textBody": [{"partId": "t"}],
        "htmlBody": [{"partId": "h"}],
        "bodyValues": {"t": {"value": "plain"}, "h": {"value": "<p>hyper</p>"}},
    }
    read = rig.again("textBody", "htmlBody", "bodyValues", "attachments", **record)
    assert [part["type"] for part in read["textBody"]] == ["text/plain"]
    assert [part["type"] for part in read["htmlBody"]] == ["text/html"]
    assert read["bodyValues"][read["htmlBody"][0]["partId"]]["value"] == "<p>hyper</p>"
    assert read["attachments"] == []


@pytest.mark.parametrize("name", ["textBody", "htmlBody"])
def test_one_body_alone_needs_no_multipart(rig: ComposeRig, name: str) -> None:
    found = structure(rig, **{name: [{"partId": "1"}], "bodyValues": {"1": {"value": "x"}}})
    assert found == ("text/plain" if name == "textBody" else "text/html")


def test_pictures_of_the_html_are_related_to_it_and_files_are_not(rig: ComposeRig) -> None:
    blob = rig.upload("image/png", PNG)
    record = {
        "textBody": [{"partId": "t"}],
        "htmlBody": [{"partId": "h"}],
        "bodyValues": {"t": {"value": "x"}, "h": {"value": '<img src="cid:pic">'}},
        "attachments": [
            {"blobId": blob, "type": "image/png", "name": "a.png", "cid": "pic", "disposition": "inline"},
            {"blobId": blob, "type": "image/png", "name": "b.png"},
            {"blobId": blob, "type": "text/plain", "name": "c.txt", "cid": "x@y", "disposition": "attachment"},
        ],
    }
    octets = rig.octets(**record)
    read = rig.parsed(octets, "bodyStructure", "attachments", "htmlBody")
    assert shape(read["bodyStructure"]) == [
        "multipart/mixed",
        ["multipart/alternative", "text/plain", ["multipart/related", "text/html", "image/png"]],
        "image/png",
        "text/plain",
    ]
    assert [(part["name"], part["disposition"], part["cid"]) for part in read["attachments"]] == [
        ("a.png", "inline", "pic"),
        ("b.png", "attachment", None),
        ("c.txt", "attachment", "x@y"),
    ]
    related = next(part for part in independent(octets).walk() if part.get_content_subtype() == "related")
    assert related.get_param("type") == "text/html"


def test_an_attachment_of_a_message_without_text_is_still_an_attachment(rig: ComposeRig) -> None:
    read = rig.again("attachments", "textBody", attachments=[{"blobId": rig.upload("text/plain", b"hi")}])
    assert [part["type"] for part in read["attachments"]] == ["text/plain"]
    assert read["textBody"] == []


def test_an_attachment_without_a_type_has_that_of_its_blob(rig: ComposeRig) -> None:
    ids = [rig.upload(type_, b"x") for type_ in ("text/csv; charset=iso-8859-1", "nonsense", "multipart/mixed")]
    read = rig.again("attachments", attachments=[{"blobId": id_} for id_ in ids])["attachments"]
    assert [(part["type"], part["charset"]) for part in read] == [
        ("text/csv", "iso-8859-1"),
        ("application/octet-stream", None),
        ("application/octet-stream", None),
    ]


def test_parameters_behind_a_type_are_kept(rig: ComposeRig) -> None:
    body = {
        "type": "multipart/report; report-type=disposition-notification; boundary=mine",
        "subParts": [
            {"partId": "1", "type": "text/plain; format=flowed; charset=latin1"},
            {"partId": "1", "header:Content-Type": "text/calendar; method=REQUEST"},
        ],
    }
    octets = rig.octets(bodyStructure=body, bodyValues={"1": {"value": "ä"}})
    root, flowed, invitation = independent(octets).walk()
    assert root.get_param("report-type") == "disposition-notification"
    assert root.get_boundary() != "mine"
    assert (flowed.get_param("format"), flowed.get_content_charset()) == ("flowed", "utf-8")
    assert (invitation.get_content_type(), invitation.get_param("method")) == ("text/calendar", "REQUEST")


def test_a_body_structure_is_built_as_it_is_given(rig: ComposeRig) -> None:
    blob = rig.upload("image/png", PNG)
    body = {
        "type": "multipart/mixed",
        "header:X-Root": " r",
        "subParts": [
            {"type": "text/plain", "partId": "t", "language": ["en", "de-AT"], "header:X-Part:asText": "pärt"},
            {
                "type": "image/png",
                "blobId": blob,
                "size": 99,
                "location": "https://example.org/ü a.png",
                "cid": "<c@d>",
            },
        ],
    }
    octets = rig.octets(bodyStructure=body, bodyValues={"t": {"value": "x"}})
    wanted = ["type", "language", "location", "cid", "disposition", "size", "header:X-Part:asText", "subParts"]
    read = rig.parsed(octets, "bodyStructure", "header:X-Root", bodyProperties=wanted)
    first, second = read["bodyStructure"]["subParts"]
    assert (first["language"], first["header:X-Part:asText"]) == (["en", "de-AT"], "pärt")
    assert (second["cid"], second["size"], second["disposition"]) == ("c@d", len(PNG), None)
    assert second["location"] == "https://example.org/ü%20a.png"
    assert read["header:X-Root"] == " r"
    assert independent(octets).get_content_type() == "multipart/mixed"


def test_line_ends_of_text_become_crlf(rig: ComposeRig) -> None:
    octets = rig.octets(**text("a\rb\nc\r\nd\0"))
    assert octets.endswith(b"\r\n\r\na\r\nb\r\nc\r\nd")


def test_a_whole_message_and_a_part_of_another_email_can_be_attached(rig: ComposeRig) -> None:
    raw = lines(
        "Subject: inner ü", "Content-Type: multipart/mixed; boundary=b", "", "--b", "Content-Type: image/png",
        "Content-Transfer-Encoding: base64", "", "AAEC", "--b--", "",
    )  # fmt: skip
    email_id = rig.add(raw)
    octets = rig.octets(
        **text("see"), attachments=[{"blobId": f"m-{email_id}", "name": "Fwd.eml"}, {"blobId": f"p-{email_id}-1"}]
    )
    assert raw in octets
    read = rig.parsed(octets, "attachments")["attachments"]
    assert [(part["type"], part["size"]) for part in read] == [("message/rfc822", len(raw)), ("image/png", 3)]
    # What is in it is in the clear and beyond ASCII: it says so, and so do the multiparts around it.
    assert octets.count(b"Content-Transfer-Encoding: 8bit") == 2
    independent(octets)


def test_a_blob_of_the_same_request_can_be_attached(rig: ComposeRig) -> None:
    rig.created["up"] = rig.upload("text/plain", b"x")
    assert rig.again("attachments", attachments=[{"blobId": "#up"}])["attachments"][0]["size"] == 1


def test_a_blob_that_the_cache_drops_meanwhile_is_fetched_again(rig: ComposeRig) -> None:
    email_id = rig.add(lines("Subject: x", "", "inner"))
    find = rig.account.blob
    asked: list[str] = []

    def dropping(blob_id: str) -> Any:
        ref = find(blob_id)
        asked.append(blob_id)
        if len(asked) == 1:
            ref.path.unlink()
        return ref

    rig.account.blob = dropping
    assert b"inner" in rig.octets(attachments=[{"blobId": f"m-{email_id}"}])
    assert len(asked) == 2


def test_bulwark_sends_bodies_without_types_and_sizes_of_pictures(rig: ComposeRig) -> None:
    """lib/jmap/build-email-body.ts: flat without inline pictures, bodyStructure with them."""
    blob = rig.upload("image/png", PNG)
    assert structure(rig, bodyValues={"1": {"value": "x"}}, textBody=[{"partId": "1"}]) == "text/plain"
    related = {
        "type": "multipart/related",
        "subParts": [
            {"partId": "html", "type": "text/html"},
            {"blobId": blob, "type": "image/png", "name": "p.png", "disposition": "inline", "cid": "p", "size": 3},
        ],
    }
    body = {"type": "multipart/alternative", "subParts": [{"partId": "text", "type": "text/plain"}, related]}
    values = {"text": {"value": "x"}, "html": {"value": "<b>x</b>"}}
    assert structure(rig, bodyStructure=body, bodyValues=values) == [
        "multipart/alternative", "text/plain", ["multipart/related", "text/html", "image/png"],
    ]  # fmt: skip


def test_tmail_sends_false_flags_and_charsets_of_blobs(rig: ComposeRig) -> None:
    blob = rig.upload("application/pdf", b"%PDF")
    read = rig.again(
        "attachments",
        "header:User-Agent:asText",
        htmlBody=[{"partId": "h", "type": "text/html"}],
        bodyValues={"h": {"value": "<p>x</p>", "isEncodingProblem": False, "isTruncated": False}},
        attachments=[{
            "blobId": blob, "size": 4, "name": "a.pdf", "type": "application/pdf", "charset": "us-ascii",
            "disposition": "attachment", "cid": None, "partId": None,
        }],
        **{"header:User-Agent:asText": "Team-Mail/0.11 Mozilla/5.0"},
    )  # fmt: skip
    assert read["header:User-Agent:asText"] == "Team-Mail/0.11 Mozilla/5.0"
    assert [(part["name"], part["type"], part["charset"]) for part in read["attachments"]] == [
        ("a.pdf", "application/pdf", None)
    ]


def test_the_conformance_suite_sends_a_body_structure_of_one_part(rig: ComposeRig) -> None:
    body = {"type": "text/html", "partId": "1"}
    assert structure(rig, bodyStructure=body, bodyValues={"1": {"value": "<h1>x</h1>"}}) == "text/html"
