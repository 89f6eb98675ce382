"""Email/get: metadata, the convenience properties, the list page (RFC 8621 §4.1.1, §4.1.3, §4.2)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest
from email_rig import Rig, lines

from jmapplug.capabilities.mail.email_get import email_get
from jmapplug.capabilities.mail.properties import PARSE_DEFAULT
from jmapplug.jmap.errors import MethodError

LIST = [
    "id",
    "threadId",
    "mailboxIds",
    "keywords",
    "hasAttachment",
    "from",
    "to",
    "subject",
    "receivedAt",
    "size",
    "preview",
]

PLAIN = lines(
    "From: =?utf-8?q?J=C3=B6rg?= <joerg@example.org>",
    "To: Ann <ann@example.org>, bob@example.org",
    "Cc: c@example.org",
    'Subject: a "quoted" \\ =?utf-8?b?4pyT?=',
    "Date: Mon, 2 Nov 2026 10:00:00 +0100",
    "Message-ID: <one@example.org>",
    "In-Reply-To: <zero@example.org>",
    "References: <zero@example.org> <null@example.org>",
    "Reply-To: r@example.org",
    "Sender: s@example.org",
    "MIME-Version: 1.0",
    "Content-Type: text/plain; charset=utf-8",
    "",
    "Hello Ann.",
    "",
)
BARE = b"X-Nothing: here\r\n\r\nText\r\n"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.close()


def one(rig: Rig, email_id: str, **args: Any) -> dict[str, Any]:
    (email,) = rig.call(email_get, ids=[email_id], **args)["list"]
    return email  # type: ignore[no-any-return]


def test_the_metadata_of_an_email_comes_from_its_row(rig: Rig) -> None:
    email_id = rig.add(PLAIN, keywords={"$seen": True, "work": True}, keys=[b"INBOX", b"Archive"])
    email = one(rig, email_id, properties=["blobId", "threadId", "mailboxIds", "keywords", "size", "receivedAt"])
    assert email["id"] == email_id and email["blobId"] == f"m-{email_id}"
    assert email["keywords"] == {"$seen": True, "work": True} and len(email["mailboxIds"]) == 2
    assert email["size"] == len(PLAIN) and email["receivedAt"] == "2025-06-15T15:06:41Z"
    assert rig.source.calls == []


def test_the_convenience_properties_are_the_parsed_header_fields(rig: Rig) -> None:
    names = list(PARSE_DEFAULT[:11])
    email = one(rig, rig.add(PLAIN), properties=names)
    assert email["messageId"] == ["one@example.org"] and email["inReplyTo"] == ["zero@example.org"]
    assert email["references"] == ["zero@example.org", "null@example.org"]
    assert email["from"] == [{"name": "Jörg", "email": "joerg@example.org"}]
    assert email["to"] == [{"name": "Ann", "email": "ann@example.org"}, {"name": None, "email": "bob@example.org"}]
    assert email["cc"] == [{"name": None, "email": "c@example.org"}] and email["bcc"] is None
    assert email["sender"][0]["email"] == "s@example.org" and email["replyTo"][0]["email"] == "r@example.org"
    assert email["subject"] == 'a "quoted" \\ ✓' and email["sentAt"] == "2026-11-02T10:00:00+01:00"


def test_header_fields_that_are_not_there_are_null(rig: Rig) -> None:
    names = ["messageId", "from", "to", "subject", "sentAt", "header:Subject:asText", "header:From:asAddresses"]
    email = one(rig, rig.add(BARE), properties=names)
    assert {email[name] for name in names} == {None}


def test_without_properties_all_defaults_are_answered(rig: Rig) -> None:
    email_id = rig.add(PLAIN)
    expected = {
        "id",
        "blobId",
        "threadId",
        "mailboxIds",
        "keywords",
        "size",
        "receivedAt",
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
    assert set(one(rig, email_id)) == expected and set(one(rig, email_id, properties=None)) == expected


def test_what_is_not_there_or_not_visible_is_not_found(rig: Rig) -> None:
    here, gone, hidden = rig.add(PLAIN), rig.add(PLAIN), rig.add(PLAIN)
    rig.store.commit(lambda change: change.txn.execute("UPDATE email SET deleted = 1 WHERE id = ?", (gone,)))
    rig.store.commit(lambda change: change.txn.execute("DELETE FROM email_mailbox WHERE id = ?", (hidden,)))
    reply = rig.call(email_get, ids=["nonsense", gone, here, hidden, here], properties=["id"])
    assert reply["list"] == [{"id": here}] and reply["notFound"] == ["nonsense", gone, hidden]
    assert reply["state"] == rig.store.state("Email")


def test_emails_come_in_the_order_of_their_ids(rig: Rig) -> None:
    ids = [rig.add(PLAIN) for _ in range(9)][::-1]
    assert [email["id"] for email in rig.call(email_get, ids=ids, properties=["id"])["list"]] == ids


def test_ids_null_means_all_of_them_up_to_the_limit(rig: Rig) -> None:
    ids = {rig.add(PLAIN) for _ in range(3)}
    assert {email["id"] for email in rig.call(email_get, ids=None, properties=["id"])["list"]} == ids


@pytest.mark.parametrize("name", ["nonsense", "header:", "header:From:asDate", "header:Subject:asAddresses", "Subject"])
def test_a_property_that_does_not_exist_is_refused(rig: Rig, name: str) -> None:
    with pytest.raises(MethodError) as error:
        rig.call(email_get, ids=[], properties=[name])
    assert error.value.type == "invalidArguments"


@pytest.mark.parametrize(
    "args",
    [
        {"bodyProperties": ["nonsense"]},
        {"bodyProperties": ["header:From:asDate"]},
        {"bodyProperties": "size"},
        {"fetchAllBodyValues": 1},
        {"maxBodyValueBytes": -1},
        {"maxBodyValueBytes": "9"},
        {"unheardOf": 1},
    ],
)
def test_body_arguments_of_the_wrong_kind_are_refused(rig: Rig, args: dict[str, Any]) -> None:
    with pytest.raises(MethodError) as error:
        rig.call(email_get, ids=[rig.add(PLAIN)], **args)
    assert error.value.type == "invalidArguments"


def test_a_list_page_with_known_previews_is_one_select_and_no_round_trip(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [rig.add(PLAIN, preview=f"preview {n}") for n in range(50)]
    statements: list[str] = []
    rig.store.cache._connection.trace_v2(apsw.SQLITE_TRACE_STMT, lambda event: statements.append(event["sql"]))
    reply = rig.call(email_get, ids=ids, properties=LIST)
    assert [email["preview"] for email in reply["list"]] == [f"preview {n}" for n in range(50)]
    assert set(reply["list"][0]) == set(LIST)
    assert len(statements) == 1 and rig.source.calls == []


def test_a_header_form_that_is_a_convenience_property_costs_no_round_trip(rig: Rig) -> None:
    email = one(rig, rig.add(PLAIN), properties=["header:message-ID:asMessageIds", "header:TO:asAddresses"])
    assert email["header:message-ID:asMessageIds"] == ["one@example.org"]
    assert email["header:TO:asAddresses"][1] == {"name": None, "email": "bob@example.org"}
    assert rig.source.calls == []


def test_odd_characters_survive_the_row(rig: Rig) -> None:
    text = 'nul\\0 "quote" back\\slash \u2028 \x7f \U0001f600 \x01 tab\t'
    email_id = rig.add(PLAIN, preview=text)
    assert one(rig, email_id, properties=["preview"])["preview"] == text
