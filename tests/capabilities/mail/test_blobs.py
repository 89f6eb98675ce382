"""Blob ids and the files they stand for (RFC 8620 §6.2, mail-rules 1, 31); uploads."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from email_rig import Rig, lines
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jmapplug.capabilities.mail import blobs
from jmapplug.capabilities.mail.email_get import email_get
from jmapplug.jmap.errors import MethodError
from jmapplug.store import uploads

FILE = b"\x00\xffbytes" * 1_000
MESSAGE = lines(
    "Subject: outer",
    "Content-Type: multipart/mixed; boundary=m",
    "",
    "--m",
    "Content-Type: text/plain",
    "",
    "text",
    "--m",
    'Content-Type: application/pdf; name="../../etc/passwd"',
    "Content-Transfer-Encoding: base64",
    "",
    base64.b64encode(FILE).decode(),
    "--m",
    "Content-Type: message/rfc822",
    "",
    "Subject: inner",
    "Content-Type: multipart/mixed; boundary=n",
    "",
    "--n",
    "Content-Type: text/plain",
    "",
    "inner text",
    "--n",
    "Content-Type: image/gif",
    "Content-Transfer-Encoding: base64",
    "",
    "R0lGODlh",
    "--n--",
    "--m--",
    "",
)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.close()


@pytest.mark.parametrize("structure", ["server", "own", "none"])
def test_a_message_and_its_parts_are_blobs(rig: Rig, structure: str) -> None:
    email_id = rig.add(MESSAGE, structure=structure)
    whole = blobs.find(rig.account, f"m-{email_id}")
    assert whole is not None and whole.path.read_bytes() == MESSAGE
    assert (whole.size, whole.type) == (len(MESSAGE), "message/rfc822")
    part = blobs.find(rig.account, f"p-{email_id}-2")
    assert part is not None and part.path.read_bytes() == FILE
    assert (part.size, part.type) == (len(FILE), "application/pdf")


def test_a_part_of_an_attached_message_is_a_blob(rig: Rig) -> None:
    email_id = rig.add(MESSAGE)
    gif = blobs.find(rig.account, f"p-{email_id}-3-2")
    assert gif is not None and gif.path.read_bytes() == b"GIF89a" and gif.type == "image/gif"
    from_whole = blobs.find(rig.account, f"m-{email_id}-2")
    assert from_whole is not None and from_whole.path.read_bytes() == FILE
    assert blobs.find(rig.account, f"p-{email_id}-3-9") is None
    assert blobs.find(rig.account, f"p-{email_id}-2-1") is None, "a PDF is no message"


def test_the_size_of_a_part_is_the_size_of_its_blob(rig: Rig) -> None:
    email_id = rig.add(MESSAGE)
    (email,) = rig.call(email_get, ids=[email_id], properties=["bodyStructure"])["list"]
    for part in email["bodyStructure"]["subParts"]:
        ref = blobs.find(rig.account, part["blobId"])
        assert ref is not None and ref.size == part["size"] == ref.path.stat().st_size


def test_a_part_is_fetched_once(rig: Rig) -> None:
    email_id = rig.add(MESSAGE)
    for _ in range(3):
        assert blobs.find(rig.account, f"p-{email_id}-2") is not None
    assert rig.source.names() == ["part"]


@pytest.mark.parametrize(
    "blob_id",
    [
        "",
        "m-",
        "m-x",
        "p-x-1",
        "p-{id}",
        "p-{id}-",
        "p-{id}-9",
        "p-{id}-0",
        "p-{id}-1_",
        "m-{id}/..",
        "x-{id}",
        "m-{id}\n",
        "p-{id}-1.1",
        "P-{id}-1",
        "f-../../own.sqlite3",
        "f-{uuid}",
        "m-{id}-{long}",
    ],
)
def test_what_is_no_blob_is_not_found(rig: Rig, blob_id: str) -> None:
    email_id = rig.add(MESSAGE)
    wanted = blob_id.format(id=email_id, uuid=uuid.uuid4(), long="-1" * 200)
    assert blobs.find(rig.account, wanted) is None


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=st.text(max_size=60))
def test_any_text_is_no_blob_and_no_path(rig: Rig, text: str) -> None:
    assert blobs.find(rig.account, text) is None
    assert blobs.find(rig.account, f"f-{text}") is None


def test_another_accounts_blob_is_not_found(rig: Rig, tmp_path: Path) -> None:
    other = Rig(tmp_path / "other")
    assert blobs.find(rig.account, f"m-{other.add(MESSAGE)}") is None
    other.close()


def test_a_blob_of_a_destroyed_email_stays_while_it_is_cached(rig: Rig) -> None:
    email_id = rig.add(MESSAGE)
    assert blobs.find(rig.account, f"p-{email_id}-2") is not None
    rig.remove(email_id)
    left = blobs.find(rig.account, f"p-{email_id}-2")
    assert left is not None and left.path.read_bytes() == FILE
    assert blobs.find(rig.account, f"m-{email_id}") is None


def test_a_message_that_cannot_be_had_now_is_unavailable_and_not_missing(rig: Rig) -> None:
    email_id = rig.add(MESSAGE)
    rig.source.down = True
    with pytest.raises(MethodError) as error:
        blobs.find(rig.account, f"m-{email_id}")
    assert error.value.type == "serverUnavailable"
    assert not [path for path in rig.store.blobs.parts.iterdir() if path.name.startswith("new-")]


def test_an_upload_is_a_blob_for_seven_days(rig: Rig) -> None:
    blob_id = rig.upload("text/x-note", b"note")
    ref = blobs.find(rig.account, blob_id)
    assert ref is not None and ref.path.read_bytes() == b"note" and (ref.size, ref.type) == (4, "text/x-note")
    told = uploads.record(rig.store, blob_id, "text/x-note", 4, 1_000)
    assert told.expires_at == 1_000 + 7 * 86_400
    assert uploads.find(rig.store, blob_id, told.expires_at - 1) == told
    assert uploads.find(rig.store, blob_id, told.expires_at) is None
    assert blobs.find(rig.account, blob_id) is None


def test_pruning_removes_expired_uploads_and_their_files_only(rig: Rig) -> None:
    kept, gone = rig.upload("text/x-note", b"kept"), rig.upload("text/x-note", b"gone")
    uploads.record(rig.store, gone, "text/x-note", 4, 1_000)
    assert blobs.prune_uploads(rig.account) == 1 and blobs.prune_uploads(rig.account) == 0
    assert [path.name for path in rig.store.blobs.uploads.iterdir()] == [kept]
    assert blobs.find(rig.account, kept) is not None


def test_a_part_of_an_uploaded_message_is_a_blob(rig: Rig) -> None:
    blob_id = rig.upload("text/x-note", MESSAGE)
    part = blobs.find(rig.account, f"{blob_id}-2")
    assert part is not None and part.path.read_bytes() == FILE
