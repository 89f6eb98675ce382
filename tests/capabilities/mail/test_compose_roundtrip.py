"""Whatever a client creates reads back as what it sent: by our own parser, and by an independent one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from compose_rig import ComposeRig, independent
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jmapplug.mime.words import nfc
from jmapplug.mime.write_headers import scrubbed

MANY = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))

# Everything, and what people write. JSON has no lone surrogates (they have tests of their own).
WILD = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
CALM = st.text(alphabet="abc XYZ.,:;()<>@\"'\\=?üßéאב日本語😀👩‍👩‍👧-_", max_size=60)
BODIES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufeff"), max_size=400) | st.sampled_from(
    ["x" * 100_000, ".\n..\n", "From x\n", "--\n", "a\rb\r\nc\n", "\0", " \n\t\n", "ü" * 3_000, "=C3=BC"]
)
EMAILS = st.sampled_from(["a@b.example", "first.last+tag@x.org", '"a b"@x.org', "a@[192.0.2.1]"])
IDS = st.lists(st.from_regex(r"[a-z0-9.$]{1,40}@[a-z0-9.-]{1,40}", fullmatch=True), min_size=1, max_size=8)
FILES: dict[str, st.SearchStrategy[Any]] = {
    "octets": st.binary(max_size=300),
    "type": st.sampled_from(["image/png", "application/pdf", "text/plain", "text/html", "message/rfc822"]),
    "disposition": st.sampled_from([None, "attachment", "inline"]),
    "cid": st.none() | st.from_regex(r"[a-z0-9]{1,20}(@[a-z]{1,9})?", fullmatch=True),
}
DATES = st.sampled_from(["2026-11-02T10:11:12Z", "1999-12-31T23:59:59-03:30", "2040-02-29T00:00:00+14:00"])


def people(names: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    return st.none() | st.lists(
        st.fixed_dictionaries({"name": st.none() | names, "email": EMAILS}), min_size=1, max_size=5
    )


def files(names: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({**FILES, "name": st.none() | names})


def emails(texts: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            **{name: people(texts) for name in ("from", "sender", "to", "cc", "bcc", "replyTo")},
            "subject": st.none() | texts,
            "inReplyTo": st.none() | IDS,
            "references": st.none() | IDS,
            "messageId": st.none() | st.just(["own@example.org"]),
            "sentAt": st.none() | DATES,
            "text": st.none() | BODIES,
            "html": st.none() | BODIES,
            "files": st.lists(files(texts), max_size=4),
        }
    )


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[ComposeRig]:
    one = ComposeRig(tmp_path)
    yield one
    one.close()


def record_of(rig: ComposeRig, sent: dict[str, Any]) -> dict[str, Any]:
    """The create object."""
    record = {name: value for name, value in sent.items() if name not in ("text", "html", "files")}
    record["bodyValues"] = {name: {"value": sent[name]} for name in ("text", "html") if sent[name] is not None}
    for name in record["bodyValues"]:
        record[f"{name}Body"] = [{"partId": name, "type": "text/plain" if name == "text" else "text/html"}]
    record["attachments"] = [
        {**{name: one[name] for name in ("name", "type", "disposition", "cid")},
         "blobId": rig.upload(one["type"], content_of(one))}
        for one in sent["files"]
    ]  # fmt: skip
    return record


def content_of(file: dict[str, Any]) -> bytes:
    """The octets of a file; an attached message has to be one."""
    return b"Subject: inner\r\n\r\n" + file["octets"].hex().encode() if "message" in file["type"] else file["octets"]


def shown(name: str | None) -> str | None:
    return None if name is None else nfc(scrubbed(name)).strip() or None


def packed(text: str) -> str:
    return "".join(text.split())


def lf(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")


def expected_people(sent: Any) -> Any:
    return None if sent is None else [{"name": shown(one["name"]), "email": one["email"]} for one in sent]


def described(file: dict[str, Any], related: bool) -> tuple[Any, ...]:
    disposition = file["disposition"] or ("inline" if related else "attachment")
    return (shown(file["name"]), file["type"], disposition, file["cid"], content_of(file))


@MANY
@given(sent=emails(WILD | CALM))
def test_a_created_email_reads_back_as_it_was_sent(rig: ComposeRig, sent: dict[str, Any]) -> None:
    octets = rig.octets(**record_of(rig, sent))
    read = rig.parsed(octets)
    for name in ("from", "sender", "to", "cc", "bcc", "replyTo"):
        assert read[name] == expected_people(sent[name])
    assert read["subject"] == (None if sent["subject"] is None else nfc(scrubbed(sent["subject"])))
    for name in ("inReplyTo", "references"):
        assert read[name] == sent[name]
    for name in ("messageId", "sentAt"):
        assert sent[name] is None or read[name] == sent[name]
    values = [one["value"] for one in read["bodyValues"].values()]
    for name in ("text", "html"):
        assert sent[name] is None or lf(sent[name]) in values
    assert not any(one["isEncodingProblem"] for one in read["bodyValues"].values() if one["value"] in
                   {lf(sent[name]) for name in ("text", "html") if sent[name]})  # fmt: skip
    parts = leaves_with_octets(rig, octets)
    related = [
        bool(sent["html"] is not None and one["cid"] and one["disposition"] != "attachment") for one in sent["files"]
    ]
    wanted = [described(*pair) for pair in zip(sent["files"], related, strict=True)]
    assert sorted(parts[len(parts) - len(wanted) :] if wanted else [], key=repr) == sorted(wanted, key=repr)


def leaves_with_octets(rig: ComposeRig, octets: bytes) -> list[tuple[Any, ...]]:
    """(name, type, disposition, cid, octets) of every leaf, as Email/parse and downloads show them."""
    root = rig.parsed(octets, "bodyStructure")["bodyStructure"]
    found, stack = [], [root]
    while stack:
        part = stack.pop()
        if part.get("subParts"):
            stack.extend(reversed(part["subParts"]))
            continue
        content = rig.account.blob(part["blobId"]).path.read_bytes()
        assert part["size"] == len(content)
        found.append((part["name"], part["type"], part["disposition"], part["cid"], content))
    return found


@MANY
@given(sent=emails(CALM))
def test_an_independent_parser_reads_the_same_without_complaint(rig: ComposeRig, sent: dict[str, Any]) -> None:
    message = independent(rig.octets(**record_of(rig, sent)))
    assert str(message["subject"] or "").split() == (sent["subject"] or "").split()
    for name, field in (("from", "From"), ("to", "To"), ("replyTo", "Reply-To")):
        found = message[field].addresses if message[field] else []
        # Where two encoded words of one name meet the standard library shows a space (RFC 2047 §6.2 does not).
        assert [(packed(one.display_name), one.addr_spec) for one in found] == [
            (packed(one["name"] or ""), one["email"]) for one in sent[name] or []
        ]
    leaves = [
        part for part in message.walk() if not part.is_multipart() and part.get_content_type() != "message/rfc822"
    ]
    texts = [part.get_payload(decode=True).decode() for part in leaves if part.get_content_charset() == "utf-8"]
    for name in ("text", "html"):
        assert sent[name] is None or lf(sent[name]).replace("\n", "\r\n") in texts
    fields = [part["content-disposition"] for part in message.walk()]
    names = [field.params["filename"] for field in fields if field and "filename" in field.params]
    assert sorted(names) == sorted(filter(None, (one["name"] and one["name"].strip() for one in sent["files"])))
