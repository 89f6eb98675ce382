"""Email/get: structure, body lists, body values, sizes (RFC 8621 §4.1.4, §4.2; mail-rules 38)."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import gevent.event
import msgspec
import pytest
from email_rig import Rig, lines

from jmapplug.capabilities.mail import bodies, fetch
from jmapplug.capabilities.mail.email_get import email_get
from jmapplug.capabilities.mail.store import emails
from jmapplug.errors import UpstreamError
from jmapplug.jmap.errors import MethodError

IMAGE = bytes(range(256)) * 200
FILE = b"\x00\x01\x02 a file" * 5_000
LISTS = ["textBody", "htmlBody", "attachments"]


def wrapped(octets: bytes) -> str:
    text = base64.b64encode(octets).decode()
    return "\r\n".join(text[at : at + 76] for at in range(0, len(text), 76))


MIXED = lines(
    "Subject: mixed",
    "MIME-Version: 1.0",
    "Content-Type: multipart/mixed; boundary=m",
    "",
    "--m",
    "Content-Type: multipart/related; boundary=r",
    "",
    "--r",
    "Content-Type: multipart/alternative; boundary=a",
    "",
    "--a",
    "Content-Type: text/plain; charset=iso-8859-1",
    "Content-Transfer-Encoding: quoted-printable",
    "Content-Language: de, en",
    "",
    "Gr=FC=DFe",
    "line two",
    "",
    "--a",
    "Content-Type: text/html; charset=utf-8",
    "Content-Transfer-Encoding: base64",
    "",
    wrapped("<p>Grüße</p><img src='cid:pic'>".encode()),
    "",
    "--a--",
    "--r",
    "Content-Type: image/png; name=pic.png",
    "Content-ID: <pic@x>",
    "Content-Transfer-Encoding: base64",
    "Content-Location: http://example.org/pic.png",
    "",
    wrapped(IMAGE),
    "",
    "--r--",
    "--m",
    "Content-Type: application/pdf",
    'Content-Disposition: attachment; filename="f.pdf"',
    "X-Part: yes",
    "Content-Transfer-Encoding: base64",
    "",
    wrapped(FILE),
    "--m",
    "Content-Type: message/rfc822",
    "",
    "Subject: inner",
    "",
    "inner text",
    "--m--",
    "",
)
PLAIN = lines("Subject: p", "Content-Type: text/plain; charset=utf-8", "", "a line", "another", "")


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.close()


def get(rig: Rig, email_id: str, names: list[str], **args: Any) -> dict[str, Any]:
    (email,) = rig.call(email_get, ids=[email_id], properties=names, **args)["list"]
    return email  # type: ignore[no-any-return]


@pytest.mark.parametrize("structure", ["server", "own", "none"])
def test_the_body_lists_are_those_of_the_rfc(rig: Rig, structure: str) -> None:
    email_id = rig.add(MIXED, structure=structure)
    email = get(rig, email_id, LISTS)
    assert [part["partId"] for part in email["textBody"]] == ["1.1.1"]
    assert [part["partId"] for part in email["htmlBody"]] == ["1.1.2"]
    assert [part["partId"] for part in email["attachments"]] == ["1.2", "2", "3"]
    assert email["textBody"][0] == {
        "partId": "1.1.1",
        "blobId": f"p-{email_id}-1_1_1",
        "size": len(b"Gr\xfc\xdfe\r\nline two\r\n"),
        "name": None,
        "type": "text/plain",
        "charset": "iso-8859-1",
        "disposition": None,
        "cid": None,
        "language": ["de", "en"],
        "location": None,
    }
    image, pdf, inner = email["attachments"]
    assert (image["size"], image["cid"], image["name"]) == (len(IMAGE), "pic@x", "pic.png")
    assert image["location"] == "http://example.org/pic.png" and image["charset"] is None
    assert (pdf["size"], pdf["name"], pdf["disposition"]) == (len(FILE), "f.pdf", "attachment")
    assert inner["type"] == "message/rfc822" and inner["size"] == len(b"Subject: inner\r\n\r\ninner text")


def test_the_structure_is_a_tree_whose_multiparts_show_their_parts(rig: Rig) -> None:
    email_id = rig.add(MIXED)
    tree = get(rig, email_id, ["bodyStructure"])["bodyStructure"]
    assert (tree["type"], tree["partId"], tree["blobId"], tree["size"]) == ("multipart/mixed", None, None, 0)
    assert [part["type"] for part in tree["subParts"]] == ["multipart/related", "application/pdf", "message/rfc822"]
    assert "subParts" not in tree["subParts"][1]
    tree = get(rig, email_id, ["bodyStructure"], bodyProperties=["subParts"])["bodyStructure"]
    assert tree["subParts"][1] == {"subParts": None}


def test_a_message_without_multipart_is_part_1(rig: Rig) -> None:
    email_id = rig.add(PLAIN)
    email = get(rig, email_id, ["bodyStructure", "bodyValues", *LISTS], fetchTextBodyValues=True)
    assert email["bodyStructure"]["partId"] == "1" and email["bodyStructure"]["blobId"] == f"p-{email_id}-1"
    assert email["bodyValues"] == {
        "1": {"value": "a line\nanother\n", "isEncodingProblem": False, "isTruncated": False}
    }
    assert email["textBody"] == email["htmlBody"] == [email["bodyStructure"]] and email["attachments"] == []


def test_body_values_are_those_asked_for(rig: Rig) -> None:
    email_id = rig.add(MIXED)
    text = {"value": "Grüße\nline two\n", "isEncodingProblem": False, "isTruncated": False}
    html = {"value": "<p>Grüße</p><img src='cid:pic'>", "isEncodingProblem": False, "isTruncated": False}
    assert get(rig, email_id, ["bodyValues"])["bodyValues"] == {}
    assert get(rig, email_id, ["bodyValues"], fetchTextBodyValues=True)["bodyValues"] == {"1.1.1": text}
    assert get(rig, email_id, ["bodyValues"], fetchHTMLBodyValues=True)["bodyValues"] == {"1.1.2": html}
    both = get(rig, email_id, ["bodyValues"], fetchAllBodyValues=True)["bodyValues"]
    assert both == {"1.1.1": text, "1.1.2": html}


def test_reading_a_message_never_fetches_its_attachments(rig: Rig) -> None:
    email_id = rig.add(MIXED)
    names = ["bodyStructure", "bodyValues", *LISTS]
    email = get(rig, email_id, names, fetchAllBodyValues=True)
    fetched = {what[2] for name, what in rig.source.calls if name == "part"}
    assert fetched == {"1.1.1", "1.1.2"} and "raw" not in rig.source.names()
    assert [part["size"] for part in email["attachments"][:2]] == [len(IMAGE), len(FILE)]
    assert rig.source.names().count("slices") == 1
    rig.source.calls.clear()
    assert get(rig, email_id, names, fetchAllBodyValues=True) == email
    assert rig.source.calls == []


def test_a_size_once_answered_is_stored_and_stays(rig: Rig) -> None:
    email_id = rig.add(MIXED)
    before = get(rig, email_id, ["attachments"])
    for path in rig.store.blobs.parts.rglob("*"):
        if path.is_file():
            path.unlink()
    rig.source.down = True
    assert get(rig, email_id, ["attachments"]) == before


def test_a_base64_part_of_odd_lines_is_decoded_to_be_counted(rig: Rig) -> None:
    odd = base64.b64encode(FILE).decode()
    text = "\r\n".join([odd[:100], odd[100:150], *(odd[at : at + 76] for at in range(150, len(odd), 76))])
    raw = MIXED.replace(wrapped(FILE).encode(), text.encode())
    email_id = rig.add(raw)
    assert get(rig, email_id, ["attachments"])["attachments"][1]["size"] == len(FILE)
    assert ("part", (b"INBOX", 1, "2")) in rig.source.calls


def test_without_size_no_part_is_asked_for(rig: Rig) -> None:
    get(rig, rig.add(MIXED), LISTS, bodyProperties=["partId", "type", "blobId", "name"])
    assert rig.source.calls == []


def test_part_headers_come_in_one_round_trip(rig: Rig) -> None:
    email_id = rig.add(MIXED)
    wanted = ["partId", "headers", "header:X-Part:asText", "header:x-part:all", "header:Content-Type"]
    tree = get(rig, email_id, ["bodyStructure"], bodyProperties=wanted)["bodyStructure"]
    pdf = tree["subParts"][1]
    assert pdf["header:X-Part:asText"] == "yes" and pdf["header:x-part:all"] == [" yes"]
    assert pdf["header:Content-Type"] == " application/pdf"
    assert {"name": "X-Part", "value": " yes"} in pdf["headers"]
    assert tree["headers"][0] == {"name": "Subject", "value": " mixed"}
    assert tree["subParts"][0]["header:X-Part:asText"] is None
    assert rig.source.names() == ["part_headers", "headers"]


def test_a_value_is_cut_at_a_character_and_outside_tags(rig: Rig) -> None:
    email_id = rig.add(MIXED)
    values = get(rig, email_id, ["bodyValues"], fetchAllBodyValues=True, maxBodyValueBytes=3)["bodyValues"]
    assert values["1.1.1"] == {"value": "Gr", "isEncodingProblem": False, "isTruncated": True}
    assert values["1.1.2"]["value"] == "<p>" and values["1.1.2"]["isTruncated"]
    values = get(rig, email_id, ["bodyValues"], fetchAllBodyValues=True, maxBodyValueBytes=20)["bodyValues"]
    assert values["1.1.2"]["value"] == "<p>Grüße</p>" and not values["1.1.1"]["isTruncated"]


def test_a_long_value_is_cut_to_the_octet(rig: Rig) -> None:
    raw = lines("Content-Type: text/plain; charset=utf-8", "", "ü" * 2_000_000)
    values = get(rig, rig.add(raw), ["bodyValues"], fetchAllBodyValues=True, maxBodyValueBytes=1_000_001)["bodyValues"]
    assert values["1"]["isTruncated"] and values["1"]["value"] == "ü" * 500_000


@pytest.mark.parametrize(
    ("fields", "body", "value"),
    [
        ("Content-Type: text/plain; charset=nonsense", b"plain", "plain"),
        ("Content-Type: text/plain; charset=utf-8", b"ab\xffcd", "ab\ufffdcd"),
        ("Content-Type: text/plain\r\nContent-Transfer-Encoding: base64", b"SGVsbG8=!!garbage", "Hello"),
        ("Content-Type: text/plain\r\nContent-Transfer-Encoding: x-unknown", b"as it is", "as it is"),
    ],
)
def test_what_cannot_be_decoded_is_flagged_each_time(rig: Rig, fields: str, body: bytes, value: str) -> None:
    email_id = rig.add(fields.encode() + b"\r\n\r\n" + body)
    for _ in range(2):
        values = get(rig, email_id, ["bodyValues"], fetchAllBodyValues=True)["bodyValues"]
        assert values["1"] == {"value": value, "isEncodingProblem": True, "isTruncated": False}


def test_a_copy_that_is_gone_or_fails_is_passed_over(rig: Rig) -> None:
    email_id = rig.add(PLAIN, keys=[b"INBOX", b"Archive", b"Work"])
    rig.server.expunge(b"INBOX", 1)
    del rig.server.folders[b"Archive"]
    email = get(rig, email_id, ["bodyValues"], fetchAllBodyValues=True)
    assert email["bodyValues"]["1"]["value"] == "a line\nanother\n"
    assert [what[0] for name, what in rig.source.calls if name == "part"] == [b"INBOX", b"Archive", b"Work"]


def test_an_email_whose_every_copy_is_gone_is_not_found(rig: Rig) -> None:
    gone, here = rig.add(PLAIN), rig.add(PLAIN)
    rig.server.expunge(b"INBOX", 1)
    reply = rig.call(email_get, ids=[gone, here], properties=["bodyValues"], fetchAllBodyValues=True)
    assert [email["id"] for email in reply["list"]] == [here] and reply["notFound"] == [gone]


def test_while_the_upstream_is_down_cached_bodies_are_served_and_others_unavailable(rig: Rig) -> None:
    cached, other = rig.add(PLAIN), rig.add(PLAIN)
    before = get(rig, cached, ["bodyValues"], fetchAllBodyValues=True)
    rig.source.down = True
    assert get(rig, cached, ["bodyValues"], fetchAllBodyValues=True) == before
    with pytest.raises(MethodError) as error:
        rig.call(email_get, ids=[cached, other], properties=["bodyValues"], fetchAllBodyValues=True)
    assert error.value.type == "serverUnavailable"
    assert isinstance(error.value.__cause__, UpstreamError) and "away" not in str(error.value)


def test_our_own_structure_is_made_once_from_the_whole_message_and_kept(rig: Rig) -> None:
    email_id = rig.add(MIXED, structure="none")
    email = get(rig, email_id, ["bodyValues", "hasAttachment", *LISTS], fetchAllBodyValues=True)
    assert email["hasAttachment"] is True and len(email["bodyValues"]) == 2
    assert rig.source.names() == ["raw"]
    structure = rig.store.cache.value("SELECT structure FROM email")
    assert structure is not None
    get(rig, email_id, ["bodyValues", *LISTS], fetchAllBodyValues=True)
    assert rig.source.names() == ["raw"]


def test_several_messages_are_read_in_one_call(rig: Rig) -> None:
    ids = [rig.add(PLAIN.replace(b"a line", b"line %d" % n)) for n in range(12)]
    reply = rig.call(email_get, ids=ids, properties=["bodyValues"], fetchTextBodyValues=True)
    assert [email["bodyValues"]["1"]["value"] for email in reply["list"]] == [f"line {n}\nanother\n" for n in range(12)]


def test_a_section_that_the_server_cannot_give_is_cut_from_the_whole(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    email_id = rig.add(MIXED)

    def refuse(key: bytes, uid: int, section: str, target: Path) -> int:
        raise KeyError(section)

    monkeypatch.setattr(rig.source, "part", refuse)
    email = get(rig, email_id, ["bodyValues"], fetchTextBodyValues=True)
    assert email["bodyValues"]["1.1.1"]["value"] == "Grüße\nline two\n"
    assert rig.source.names() == ["raw"]


def test_more_text_than_one_answer_holds_is_refused_and_not_cut(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "CALL_MAX", 40)
    ids = [rig.add(PLAIN) for _ in range(3)]
    assert len(rig.call(email_get, ids=ids[:2], properties=["bodyValues"], fetchAllBodyValues=True)["list"]) == 2
    with pytest.raises(MethodError) as error:
        rig.call(email_get, ids=ids, properties=["bodyValues"], fetchAllBodyValues=True)
    assert error.value.type == "requestTooLarge"


def test_a_size_that_was_answered_outlives_one_counted_later(rig: Rig) -> None:
    rig.add(MIXED)
    assert emails.save_sizes(rig.store, 1, {"2": (10, False)}) == {"2": (10, False)}
    assert emails.save_sizes(rig.store, 1, {"2": (11, True), "3": (5, False)}) == {"2": (10, True), "3": (5, False)}


def test_sizes_go_with_their_email(rig: Rig) -> None:
    email_id = rig.add(MIXED)
    get(rig, email_id, ["attachments"])
    assert rig.store.cache.value("SELECT count(*) FROM part_size") == 1
    rig.remove(email_id)
    emails.save_sizes(rig.store, 1, {"2": (10, False)})
    assert rig.store.cache.value("SELECT count(*) FROM part_size") == 0


def test_a_server_whose_octets_are_not_those_it_told_is_not_believed(rig: Rig) -> None:
    email_id = rig.add(MIXED)
    content = emails.content(rig.store, email_id)
    assert content is not None and content.structure is not None
    related, pdf, inner = content.structure.parts
    lie = msgspec.structs.replace(pdf, size=pdf.size + 4)
    structure = msgspec.structs.replace(content.structure, parts=(related, lie, inner))
    row = (msgspec.msgpack.encode(structure),)
    rig.store.cache.write(lambda txn: txn.execute("UPDATE email SET structure = ?", row))
    assert get(rig, email_id, ["attachments"])["attachments"][1]["size"] == len(FILE)


def test_a_value_that_is_mostly_escapes_is_read_to_its_end(rig: Rig) -> None:
    raw = b"Content-Type: text/plain; charset=iso-2022-jp\r\n\r\n" + b"\x1b(B" * 400_000 + b"the end"
    values = get(rig, rig.add(raw), ["bodyValues"], fetchAllBodyValues=True, maxBodyValueBytes=100)["bodyValues"]
    assert values["1"] == {"value": "the end", "isEncodingProblem": False, "isTruncated": False}


def test_a_deleted_copy_is_read_last(rig: Rig) -> None:
    rig.add(PLAIN, keys=[b"INBOX", b"Archive"])
    rig.store.cache.write(lambda txn: txn.execute("UPDATE message SET hidden = 1 WHERE mid = 1"))
    assert [copy.key for copy in emails.copies(rig.store, [1])[1]] == [b"Archive", b"INBOX"]


def test_parallel_calls_fetch_a_part_once(rig: Rig) -> None:
    email_id = rig.add(PLAIN)
    rig.source.gate = gevent.event.Event()
    jobs = [gevent.spawn(get, rig, email_id, ["bodyValues"], fetchAllBodyValues=True) for _ in range(5)]
    gevent.idle()
    rig.source.gate.set()
    assert len({str(job.get()) for job in jobs}) == 1 and rig.source.names() == ["part"]
    assert not fetch._locks
