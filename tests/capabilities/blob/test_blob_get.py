from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from blob_rig import BlobRig
from hypothesis import given, settings
from hypothesis import strategies as st

from jmapplug.capabilities.blob import BLOB, blob_get
from jmapplug.hookspecs import AccountInfo
from jmapplug.jmap.methods import Limits

TEXT = b"The quick brown fox jumped over the lazy dog."


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[BlobRig]:
    made = BlobRig(tmp_path)
    yield made
    made.close()


def one(rig: BlobRig, octets: bytes, **args: Any) -> dict[str, Any]:
    blob_id = rig.put(octets)
    (record,) = rig.call("Blob/get", ids=[blob_id], **args)["list"]
    assert record.pop("id") == blob_id
    return record


def test_the_rfcs_simple_example_gives_text_digest_and_size(rig: BlobRig) -> None:
    blob_id = rig.put(TEXT)
    answer = rig.call("Blob/get", ids=[blob_id, "not-a-blob"], properties=["data:asText", "digest:sha", "size"])
    record = {"id": blob_id, "data:asText": TEXT.decode(), "digest:sha": "wIVPufsDxBzOOALLDSIFKebu+U4=", "size": 45}
    assert answer == {"accountId": "acc", "list": [record], "notFound": ["not-a-blob"]}


def test_data_and_size_are_the_default(rig: BlobRig) -> None:
    assert one(rig, b"hello") == {"data:asText": "hello", "size": 5}
    assert one(rig, b"\xff\xfe") == {"data:asBase64": "//4=", "size": 2, "isEncodingProblem": True}


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        (["data:asText", "size"], {"data:asText": None, "isEncodingProblem": True, "size": 3}),
        (["data:asBase64"], {"data:asBase64": "YYEh"}),
        (["data"], {"data:asBase64": "YYEh", "isEncodingProblem": True}),
        (["data", "data:asText"], {"data:asText": None, "data:asBase64": "YYEh", "isEncodingProblem": True}),
        (["size"], {"size": 3}),
        (["id"], {}),
        ([], {}),
    ],
)
def test_octets_that_are_no_utf8_are_said_to_be_an_encoding_problem(
    rig: BlobRig, properties: list[str], expected: dict[str, Any]
) -> None:
    assert one(rig, b"a\x81!", properties=properties) == expected


def test_a_range_that_cuts_a_character_is_an_encoding_problem(rig: BlobRig) -> None:
    assert one(rig, "ü".encode(), offset=0, length=1)["isEncodingProblem"] is True
    assert one(rig, "aü".encode(), offset=0, length=1) == {"data:asText": "a", "size": 3}


@pytest.mark.parametrize(
    ("offset", "length", "text", "truncated"),
    [
        (0, 5, "hello", False),
        (6, 100, "world", True),
        (11, None, "", False),
        (11, 0, "", False),
        (12, None, "", True),
        (20, 100, "", True),
        (None, 0, "", False),
        (2**53 - 1, 2**53 - 1, "", True),
    ],
)
def test_a_range_beyond_the_end_is_truncated_and_says_so(
    rig: BlobRig, offset: int | None, length: int | None, text: str, truncated: bool
) -> None:
    record = one(rig, b"hello world", offset=offset, length=length)
    assert record == {"data:asText": text, "size": 11} | ({"isTruncated": True} if truncated else {})


def test_a_digest_is_of_the_octets_of_the_range(rig: BlobRig) -> None:
    record = one(rig, TEXT, properties=["digest:sha-256", "size"], offset=4, length=9)
    expected = base64.b64encode(hashlib.sha256(TEXT[4:13]).digest()).decode()
    assert record == {"digest:sha-256": expected, "size": 45}


def test_every_announced_digest_is_calculated(rig: BlobRig) -> None:
    info = AccountInfo("acc", "anna@example.com", "imap", frozenset({"mail"}))
    announced = BLOB.account_value(info)
    assert announced is not None
    names = announced["supportedDigestAlgorithms"]
    record = one(rig, TEXT, properties=[f"digest:{name}" for name in names])
    lengths = {name: len(base64.b64decode(record[f"digest:{name}"])) for name in names}
    assert lengths == {"sha-256": 32, "sha": 20, "sha-512": 64, "md5": 16}


def test_ids_made_in_the_same_request_are_known(rig: BlobRig) -> None:
    made, got = rig.request(
        ("Blob/upload", {"create": {"b1": {"data": [{"data:asText": "x"}]}}}),
        ("Blob/get", {"ids": ["#b1", "#b1", "#b2"]}),
    )
    blob_id = made[1]["created"]["b1"]["id"]
    assert got[1]["list"] == [{"id": blob_id, "data:asText": "x", "size": 1}]
    assert got[1]["notFound"] == ["#b2"]


@pytest.mark.parametrize(
    "args",
    [
        {"ids": None},
        {"ids": ["a", 5]},
        {"properties": ["colour"]},
        {"properties": ["digest:crc32c"]},
        {"properties": "size"},
        {"offset": -1},
        {"length": "5"},
        {"length": True},
        {"sort": []},
    ],
)
def test_wrong_arguments_are_refused(rig: BlobRig, args: dict[str, Any]) -> None:
    assert rig.error("Blob/get", **({"ids": []} | args))["type"] == "invalidArguments"


def test_more_data_than_a_call_answers_is_asked_for_in_ranges(rig: BlobRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blob_get, "MAX_OCTETS", 100)
    ids = [rig.put(b"x" * 60), rig.put(b"y" * 60)]
    assert rig.error("Blob/get", ids=ids)["type"] == "requestTooLarge"
    assert len(rig.call("Blob/get", ids=ids, length=50)["list"]) == 2
    # Sizes and digests need no memory.
    assert len(rig.call("Blob/get", ids=ids, properties=["size", "digest:sha"])["list"]) == 2


def test_more_ids_than_a_get_may_have_are_too_large(tmp_path: Path) -> None:
    rig = BlobRig(tmp_path, Limits(max_objects_in_get=2))
    assert rig.error("Blob/get", ids=["a", "b", "c"])["type"] == "requestTooLarge"
    rig.close()


@given(
    octets=st.binary(max_size=40) | st.text(max_size=30).map(lambda text: text.encode("utf-8", "ignore")),
    offset=st.none() | st.integers(0, 60),
    length=st.none() | st.integers(0, 60),
)
@settings(deadline=None, max_examples=60)
def test_ranges_are_slices(
    tmp_path_factory: pytest.TempPathFactory, octets: bytes, offset: int | None, length: int | None
) -> None:
    rig = BlobRig(tmp_path_factory.mktemp("rig"))
    properties = ["data:asText", "data:asBase64", "digest:sha", "size"]
    record = one(rig, octets, offset=offset, length=length, properties=properties)
    start = offset or 0
    expected = octets[start:] if length is None else octets[start : start + length]
    assert base64.b64decode(record["data:asBase64"]) == expected
    assert record["size"] == len(octets)
    assert base64.b64decode(record["digest:sha"]) == hashlib.sha1(expected).digest()
    try:
        assert record["data:asText"] == expected.decode()
    except UnicodeDecodeError:
        assert record["data:asText"] is None
    assert record.get("isEncodingProblem", False) is (record["data:asText"] is None)
    assert record.get("isTruncated", False) is (start + (length or 0) > len(octets))
    rig.close()
