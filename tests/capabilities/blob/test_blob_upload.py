from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from blob_rig import BlobRig
from hypothesis import given, settings
from hypothesis import strategies as st

from jmapplug.capabilities.blob import blob_upload as module
from jmapplug.errors import MethodError, UpstreamError
from jmapplug.jmap.methods import Limits


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[BlobRig]:
    made = BlobRig(tmp_path)
    yield made
    made.close()


def refused(error: dict[str, Any], type_: str, *properties: str) -> bool:
    return error["type"] == type_ and error.get("properties", []) == list(properties)


def test_the_rfcs_complex_example_makes_how_quick_was_that(rig: BlobRig) -> None:
    responses = rig.request(
        (
            "Blob/upload",
            {"create": {"b4": {"data": [{"data:asText": "The quick brown fox jumped over the lazy dog."}]}}},
        ),
        (
            "Blob/upload",
            {
                "create": {
                    "cat": {
                        "data": [
                            {"data:asText": "How"},
                            {"blobId": "#b4", "length": 7, "offset": 3},
                            {"data:asText": "was t"},
                            {"blobId": "#b4", "length": 1, "offset": 1},
                            {"data:asBase64": "YXQ/"},
                        ]
                    }
                }
            },
        ),
        ("Blob/get", {"properties": ["data:asText", "size"], "ids": ["#cat"]}),
    )
    made = responses[1][1]
    assert made["notCreated"] is None and made["oldState"] is None
    assert made["created"]["cat"] | {"id": ""} == {"id": "", "size": 19, "type": "application/octet-stream"}
    expected = {"id": made["created"]["cat"]["id"], "data:asText": "How quick was that?", "size": 19}
    assert responses[2][1] == {"accountId": "acc", "list": [expected], "notFound": []}


def test_an_upload_keeps_the_type_that_the_client_names(rig: BlobRig) -> None:
    made = rig.upload({"data:asText": "x"}, type="text/plain; charset=utf-8")
    assert made["type"] == "text/plain; charset=utf-8"
    found = rig.blob(made["id"])
    assert found is not None and found.type == made["type"]


def test_no_data_source_makes_an_empty_blob(rig: BlobRig) -> None:
    made = rig.upload()
    assert made["size"] == 0
    assert rig.octets(made["id"]) == b""


def test_creations_of_one_call_may_refer_to_each_other_in_any_order(rig: BlobRig) -> None:
    create = {"b": {"data": [{"blobId": "#a"}, {"blobId": "#a"}]}, "a": {"data": [{"data:asText": "ab"}]}}
    made = rig.call("Blob/upload", create=create)["created"]
    assert rig.octets(made["b"]["id"]) == b"abab"


def test_creations_that_refer_to_each_other_in_a_circle_are_refused(rig: BlobRig) -> None:
    create = {"a": {"data": [{"blobId": "#b"}]}, "b": {"data": [{"blobId": "#a"}]}}
    answer = rig.call("Blob/upload", create=create)
    assert answer["created"] is None
    assert all(refused(error, "invalidProperties", "data/0/blobId") for error in answer["notCreated"].values())


def test_text_that_looks_like_a_reference_is_text(rig: BlobRig) -> None:
    create = {"a": {"data": [{"data:asText": "#b"}]}, "b": {"data": [{"data:asText": "#a"}]}}
    made = rig.call("Blob/upload", create=create)["created"]
    assert rig.octets(made["a"]["id"]) == b"#b"


@pytest.mark.parametrize(
    ("source", "where"),
    [
        ({"data:asBase64": "YQ"}, "data/0/data:asBase64"),
        ({"data:asBase64": "YQ==\n"}, "data/0/data:asBase64"),
        ({"data:asBase64": "YQ==YQ=="}, "data/0/data:asBase64"),
        ({"data:asBase64": "Y-_="}, "data/0/data:asBase64"),
        ({"data:asBase64": "ü"}, "data/0/data:asBase64"),
        ({"data:asBase64": 7}, "data/0/data:asBase64"),
        ({"data:asText": ["a"]}, "data/0/data:asText"),
        ({"data:asText": "a", "data:asBase64": "YQ=="}, "data/0"),
        ({"data:asText": "a", "blobId": "f-x"}, "data/0"),
        ({"data:asText": "a", "offset": 1}, "data/0"),
        ({"data:asText": None}, "data/0"),
        ({"blobId": "f-x", "offset": -1}, "data/0"),
        ({"blobId": "f-x", "length": "1"}, "data/0"),
        ({"blobId": "f-x", "url": "http://localhost/"}, "data/0"),
        ({"blobId": 5}, "data/0"),
        ({"blobId": "f-00000000-0000-0000-0000-000000000000"}, "data/0/blobId"),
        ({"blobId": "#nobody"}, "data/0/blobId"),
        ({"blobId": "../../own.sqlite3"}, "data/0/blobId"),
        ({}, "data/0"),
        ("text", "data/0"),
    ],
)
def test_an_invalid_data_source_is_named_and_nothing_is_guessed(rig: BlobRig, source: Any, where: str) -> None:
    assert refused(rig.upload(source), "invalidProperties", where)


@pytest.mark.parametrize(("offset", "length"), [(0, 4), (3, 1), (4, None), (4, 0), (2, 2)])
def test_a_range_that_the_blob_cannot_satisfy_is_refused(rig: BlobRig, offset: int, length: int | None) -> None:
    error = rig.upload({"data:asText": "good"}, {"blobId": rig.put(b"abc"), "offset": offset, "length": length})
    assert refused(error, "invalidProperties", "data/1")
    assert rig.leftovers() == []


@pytest.mark.parametrize(("offset", "length"), [(3, None), (3, 0), (0, 0), (0, 3), (None, None), (2, 1)])
def test_a_range_up_to_the_very_end_is_satisfied(rig: BlobRig, offset: int | None, length: int | None) -> None:
    made = rig.upload({"blobId": rig.put(b"abc"), "offset": offset, "length": length})
    start = offset or 0
    assert rig.octets(made["id"]) == b"abc"[start : None if length is None else start + length]


@pytest.mark.parametrize(
    ("record", "where"),
    [
        ({}, "data"),
        ({"data": None}, "data"),
        ({"data": {}}, "data"),
        ({"data": [], "type": 5}, "type"),
        ({"data": [], "type": "text/plain\r\nX: y"}, "type"),
        ({"data": [], "type": "text"}, "type"),
        ({"data": [], "size": 5}, "size"),
        ({"data": [{}] * (module.MAX_SOURCES + 1)}, "data"),
    ],
)
def test_an_invalid_creation_is_refused_by_its_property(rig: BlobRig, record: dict[str, Any], where: str) -> None:
    answer = rig.call("Blob/upload", create={"x": record, "good": {"data": []}})
    assert refused(answer["notCreated"]["x"], "invalidProperties", where)
    assert answer["created"]["good"]["size"] == 0


def test_as_many_data_sources_as_announced_are_taken(rig: BlobRig) -> None:
    assert rig.upload(*[{"data:asText": "a"}] * module.MAX_SOURCES)["size"] == module.MAX_SOURCES >= 64


def test_concatenation_beyond_the_limit_is_too_large_and_leaves_no_file(tmp_path: Path) -> None:
    rig = BlobRig(tmp_path, Limits(max_size_upload=1000))
    ten = {"blobId": rig.put(b"x" * 100)}
    assert rig.upload(*[ten] * 10)["size"] == 1000
    error = rig.upload(*[ten] * 10, {"data:asText": "y"})
    assert error["type"] == "tooLarge" and error["maxSize"] == 1000
    assert rig.leftovers() == []
    rig.close()


def test_copies_of_copies_do_not_fill_the_disk(rig: BlobRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_STORED", 1000)
    create = {f"n{number}": {"data": [{"data:asText": "x" * 400}]} for number in range(10)}
    answer = rig.call("Blob/upload", create=create)
    assert len(answer["created"]) == 3
    assert {error["type"] for error in answer["notCreated"].values()} == {"overQuota"}


def test_a_blob_that_is_evicted_before_it_is_read_is_asked_for_again(rig: BlobRig) -> None:
    blob_id = rig.put(b"abc")
    kept = rig.store.blobs.upload_path(blob_id)
    times = []

    def on_blob(asked: str) -> None:
        times.append(asked)
        (kept.unlink if len(times) == 1 else lambda: kept.write_bytes(b"abc"))()

    rig.on_blob = on_blob
    made = rig.upload({"blobId": blob_id})
    assert rig.octets(made["id"]) == b"abc"
    assert len(times) == 2


@pytest.mark.parametrize(
    "error", [UpstreamError("away"), MethodError("serverUnavailable", "The mail server cannot be reached.")]
)
def test_a_source_that_cannot_be_read_now_fails_its_own_creation_only(rig: BlobRig, error: Exception) -> None:
    def on_blob(asked: str) -> None:
        raise error

    rig.on_blob = on_blob
    create = {"a": {"data": [{"data:asText": "x"}]}, "b": {"data": [{"data:asText": "y"}, {"blobId": "m-far"}]}}
    answer = rig.call("Blob/upload", create=create)
    assert list(answer["created"]) == ["a"]
    assert answer["notCreated"]["b"]["type"] == "serverFail"
    assert rig.leftovers() == []


@pytest.mark.parametrize("name", ["update", "destroy", "ifInState", "colour"])
def test_only_create_is_an_argument(rig: BlobRig, name: str) -> None:
    value: Any = {"update": {"f-x": {}}, "destroy": ["f-x"]}.get(name, "s")
    assert rig.error("Blob/upload", **{name: value})["type"] == "invalidArguments"


def test_more_creations_than_a_set_may_have_are_too_large(tmp_path: Path) -> None:
    rig = BlobRig(tmp_path, Limits(max_objects_in_set=2))
    create = {str(number): {"data": []} for number in range(3)}
    assert rig.error("Blob/upload", create=create)["type"] == "requestTooLarge"
    rig.close()


def test_blob_methods_need_the_blob_capability(rig: BlobRig) -> None:
    ((kind, answer),) = rig.request(("Blob/upload", {"create": {}}), using=["urn:ietf:params:jmap:core"])
    assert (kind, answer["type"]) == ("error", "unknownMethod")


def test_created_ids_are_answered_to_a_client_that_sent_some(rig: BlobRig) -> None:
    from blob_rig import METHODS, USING

    from jmapplug.jmap.dispatch import execute
    from jmapplug.jmap.request import parse

    call = ["Blob/upload", {"accountId": "acc", "create": {"b": {"data": []}}}, "0"]
    body = json.dumps({"using": USING, "methodCalls": [call], "createdIds": {}}).encode()
    answer = json.loads(
        execute(parse(body, USING, rig.limits), METHODS, lambda _: rig.account, rig.limits, session_state="")
    )
    assert answer["createdIds"] == {"b": answer["methodResponses"][0][1]["created"]["b"]["id"]}


SOURCES = st.lists(
    st.one_of(
        st.text(max_size=20).map(lambda text: (text.encode("utf-8", "ignore"), "text")),
        st.binary(max_size=20).map(lambda octets: (octets, "base64")),
        st.tuples(st.integers(0, 60), st.none() | st.integers(0, 60)),
    ),
    max_size=8,
)


@given(sources=SOURCES, base=st.binary(max_size=50))
@settings(deadline=None, max_examples=60)
def test_a_blob_is_its_sources_one_after_the_other_or_is_not_made(
    tmp_path_factory: pytest.TempPathFactory, sources: list[Any], base: bytes
) -> None:
    rig = BlobRig(tmp_path_factory.mktemp("rig"))
    blob_id, expected, data = rig.put(base), b"", []
    for first, second in sources:
        if second == "text":
            data.append({"data:asText": first.decode()})
            expected += first
        elif second == "base64":
            data.append({"data:asBase64": base64.b64encode(first).decode()})
            expected += first
        else:
            data.append({"blobId": blob_id, "offset": first, "length": second})
            expected += base[first:] if second is None else base[first : first + second]
    impossible = any(
        not isinstance(second, str) and (first > len(base) or first + (second or 0) > len(base))
        for first, second in sources
    )
    made = rig.upload(*data)
    if impossible:
        assert made["type"] == "invalidProperties"
    else:
        assert rig.octets(made["id"]) == expected
        assert made["size"] == len(expected)
    assert rig.leftovers() == []
    rig.close()
