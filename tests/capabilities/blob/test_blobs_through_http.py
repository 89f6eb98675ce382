"""Blob methods over HTTP, on a real mail server: what mail and blobs are to each other."""

from __future__ import annotations

from typing import Any

import pytest

from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.proxy import USING, Client, Proxy

BLOB = (*USING, "urn:ietf:params:jmap:blob")
INNER = "Subject: inner\r\nContent-Type: text/plain\r\n\r\nInside."
MESSAGE = (
    "From: ada@example.com\r\nSubject: outer\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    "--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\naGVsbG8gd29ybGQ=\r\n"
    f"--b\r\nContent-Type: message/rfc822\r\n\r\n{INNER}\r\n--b--\r\n"
)


@pytest.fixture(scope="module")
def alice(proxy: Proxy, dovecot: Dovecot) -> Client:
    user = dovecot.new_user()
    mail = dovecot.imap(user)
    mail.append("INBOX", "", "", MESSAGE.encode())
    mail.logout()
    client = proxy.add("blob-alice", dovecot, user)
    proxy.settled("blob-alice")
    return client


@pytest.fixture
def email(alice: Client) -> dict[str, Any]:
    ids = alice.call("Email/query")["ids"]
    names = ["blobId", "threadId", "mailboxIds", "bodyStructure"]
    (found,) = alice.call("Email/get", ids=ids, properties=names)["list"]
    return dict(found)


def call(alice: Client, name: str, **args: Any) -> dict[str, Any]:
    ((kind, answer, _),) = alice.request((name, args), using=BLOB)
    assert kind == name, answer
    return dict(answer)


def test_the_session_tells_what_the_blob_capability_can_do(alice: Client) -> None:
    session = alice.send("GET", "/session").json
    assert session["capabilities"]["urn:ietf:params:jmap:blob"] == {}
    (account,) = session["accounts"].values()
    value = account["accountCapabilities"]["urn:ietf:params:jmap:blob"]
    assert value["maxSizeBlobSet"] == session["capabilities"]["urn:ietf:params:jmap:core"]["maxSizeUpload"]
    assert value["maxDataSources"] >= 64
    assert {"Email", "Thread", "Mailbox"} <= set(value["supportedTypeNames"])


def test_an_inline_upload_is_downloaded_like_any_other(alice: Client) -> None:
    made = call(alice, "Blob/upload", create={"a": {"data": [{"data:asText": "grüß"}], "type": "text/plain"}})
    blob_id = made["created"]["a"]["id"]
    got = alice.send("GET", f"/raw/{alice.account}/{blob_id}/a.txt")
    assert (got.status, got.body, got.headers["content-type"]) == (200, "grüß".encode(), "text/plain")


def test_an_http_upload_can_be_a_source_of_another_blob(alice: Client) -> None:
    put = alice.send("POST", f"/upload/{alice.account}/", b"0123456789", {"Content-Type": "text/plain"}).json
    create = {"a": {"data": [{"blobId": put["blobId"], "offset": 3, "length": 4}]}}
    (_, made, _), (_, got, _) = alice.request(
        ("Blob/upload", {"create": create}), ("Blob/get", {"ids": ["#a"]}), using=BLOB
    )
    assert made["created"]["a"]["size"] == 4
    assert got["list"][0]["data:asText"] == "3456"


def test_parts_of_messages_are_read_decoded_and_in_ranges(alice: Client, email: dict[str, Any]) -> None:
    text, attached = email["bodyStructure"]["subParts"]
    ids = [text["blobId"], attached["blobId"], email["blobId"]]
    answer = call(alice, "Blob/get", ids=ids, properties=["data", "size"], offset=0, length=11)
    assert [record["data:asText"] for record in answer["list"]] == ["hello world", INNER[:11], MESSAGE[:11]]
    assert [record["size"] for record in answer["list"]] == [11, len(INNER), len(MESSAGE)]


def test_a_message_can_be_made_of_parts_of_another_and_parsed_at_once(alice: Client, email: dict[str, Any]) -> None:
    create = {"m": {"data": [{"data:asText": "Subject: made\r\n\r\n"}, {"blobId": email["blobId"]}]}}
    _, (_, parsed, _) = alice.request(
        ("Blob/upload", {"create": create}), ("Email/parse", {"blobIds": ["#m"], "properties": ["subject"]}), using=BLOB
    )
    assert [found["subject"] for found in parsed["parsed"].values()] == ["made"]


def test_lookup_tells_email_thread_and_mailbox_of_a_message_and_of_its_parts(
    alice: Client, email: dict[str, Any]
) -> None:
    text, attached = email["bodyStructure"]["subParts"]
    inside = f"{attached['blobId']}-1"
    ids = [email["blobId"], text["blobId"], attached["blobId"], inside]
    answer = call(alice, "Blob/lookup", typeNames=["Mailbox", "Thread", "Email"], ids=ids)
    expected = {"Mailbox": list(email["mailboxIds"]), "Thread": [email["threadId"]], "Email": [email["id"]]}
    assert answer["list"] == [{"id": blob_id, "matchedIds": expected} for blob_id in ids]


def test_lookup_answers_empty_lists_for_what_it_does_not_find(alice: Client, email: dict[str, Any]) -> None:
    put = call(alice, "Blob/upload", create={"a": {"data": []}})["created"]["a"]["id"]
    no_part = email["bodyStructure"]["subParts"][0]["blobId"].rpartition("-")[0] + "-99"
    ids = [put, "not-a-blob", "m-zzz", no_part]
    answer = call(alice, "Blob/lookup", typeNames=["Email"], ids=ids)
    assert answer["list"] == [{"id": blob_id, "matchedIds": {"Email": []}} for blob_id in ids]


@pytest.mark.parametrize(("type_", "using"), [("Sock", BLOB), ("Identity", BLOB), ("Email", BLOB[2:]), ("Blob", BLOB)])
def test_lookup_knows_only_types_whose_capability_the_request_uses(
    alice: Client, type_: str, using: tuple[str, ...]
) -> None:
    ((kind, error, _),) = alice.request(("Blob/lookup", {"typeNames": [type_], "ids": []}), using=using)
    assert (kind, error["type"]) == ("error", "unknownDataType")


def test_blobs_are_not_copied_within_one_account_nor_from_a_foreign_one(alice: Client) -> None:
    put = alice.send("POST", f"/upload/{alice.account}/", b"x").json["blobId"]
    assert alice.error("Blob/copy", fromAccountId=alice.account, blobIds=[put])["type"] == "invalidArguments"
    assert alice.error("Blob/copy", fromAccountId="somebody", blobIds=[put])["type"] == "fromAccountNotFound"
    assert alice.error("Blob/copy", blobIds=[put])["type"] == "invalidArguments"
    assert alice.error("Blob/copy", fromAccountId="somebody", blobIds="x")["type"] == "invalidArguments"


def test_an_inline_blob_becomes_an_email_in_the_same_request(alice: Client) -> None:
    text = "Subject: inline import\r\n\r\nHello"
    create = {"b1": {"data": [{"data:asText": text}], "type": "message/rfc822"}}
    email = {"blobId": "#b1", "mailboxIds": {alice.mailbox("archive"): True}}
    _, (_, imported, _), (_, got, _) = alice.request(
        ("Blob/upload", {"create": create}),
        ("Email/import", {"emails": {"e": email}}),
        ("Email/get", {"ids": ["#e"], "properties": ["subject", "size"]}),
        using=BLOB,
    )
    assert imported["notCreated"] is None
    assert (got["list"][0]["subject"], got["list"][0]["size"]) == ("inline import", len(text))


def test_an_inline_blob_becomes_an_attachment_in_the_same_request(alice: Client) -> None:
    create = {"b1": {"data": [{"data:asBase64": "AAEC"}, {"data:asText": "x"}], "type": "application/x-test"}}
    email = {
        "mailboxIds": {alice.mailbox("drafts"): True},
        "subject": "with attachment",
        "bodyValues": {"t": {"value": "see attachment"}},
        "textBody": [{"partId": "t", "type": "text/plain"}],
        "attachments": [{"blobId": "#b1", "type": "application/x-test", "name": "a.bin"}],
    }
    responses = alice.request(
        ("Blob/upload", {"create": create}),
        ("Email/set", {"create": {"e": email}}),
        ("Email/get", {"ids": ["#e"], "properties": ["attachments"]}),
        using=BLOB,
    )
    assert responses[1][1]["notCreated"] is None
    (attachment,) = responses[2][1]["list"][0]["attachments"]
    (record,) = call(alice, "Blob/get", ids=[attachment["blobId"]], properties=["data:asBase64"])["list"]
    assert record["data:asBase64"] == "AAECeA=="


def test_lookup_tells_the_sieve_scripts_with_that_content(proxy: Proxy, dovecot_sieve: Dovecot) -> None:
    sieve = (*BLOB, "urn:ietf:params:jmap:sieve")
    port = {"sieveHost": dovecot_sieve.host, "sievePort": dovecot_sieve.sieve_port, "sieveSSL": 0}
    client = proxy.add("blob-sieve", dovecot_sieve, dovecot_sieve.new_user(), **port)
    create = {"b": {"data": [{"data:asText": "keep;\r\n"}]}}
    _, (_, made, _) = client.request(
        ("Blob/upload", {"create": create}),
        ("SieveScript/set", {"create": {"s": {"name": "mine", "blobId": "#b"}}}),
        using=sieve,
    )
    script = made["created"]["s"]
    lookup = {"typeNames": ["SieveScript", "Email"], "ids": [script["blobId"], "s-none"]}
    (answer,) = client.answers(("Blob/lookup", lookup), using=sieve)
    assert [each["matchedIds"] for each in answer["list"]] == [
        {"SieveScript": [script["id"]], "Email": []},
        {"SieveScript": [], "Email": []},
    ]


def test_an_account_without_sieve_has_no_scripts_to_look_into(alice: Client) -> None:
    lookup = {"typeNames": ["SieveScript"], "ids": ["s-none"]}
    (answer,) = alice.answers(("Blob/lookup", lookup), using=(*BLOB, "urn:ietf:params:jmap:sieve"))
    assert answer["list"] == [{"id": "s-none", "matchedIds": {"SieveScript": []}}]
