"""A server's structure that can be read and is not true (wish 21): found out where its parts are read, and replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from email_rig import Rig, lines

from jmapplug.capabilities.mail import blobs, structures
from jmapplug.capabilities.mail.email_get import email_get
from jmapplug.capabilities.mail.index import index_slice
from jmapplug.capabilities.mail.store import emails
from jmapplug.capabilities.mail.store import search as rows
from jmapplug.mime.structure import Part

replace = msgspec.structs.replace
WORDS = "some words of the text"
MIXED = lines(
    "Subject: s", "Content-Type: multipart/mixed; boundary=m", "",
    "--m", "Content-Type: text/plain", "", WORDS,
    "--m", "Content-Type: application/pdf", "Content-Transfer-Encoding: base64", "", "JVBERg==",
    "--m--", "",
)  # fmt: skip
PLAIN = lines("Subject: s", "Content-Type: text/plain; charset=utf-8", "", WORDS, "")


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.close()


def told(rig: Rig, raw: bytes, lie: Callable[[Part], Part]) -> str:
    """An Email whose structure the server has told otherwise."""
    email_id = rig.add(raw)
    content = emails.content(rig.store, email_id)
    assert content is not None and content.structure is not None
    row = (msgspec.msgpack.encode(lie(content.structure)), email_id)
    rig.store.cache.write(lambda txn: txn.execute("UPDATE email SET structure = ? WHERE id = ?", row))
    return email_id


def text_of(rig: Rig, email_id: str) -> dict[str, Any]:
    names = ["bodyValues", "textBody", "attachments"]
    (email,) = rig.call(email_get, ids=[email_id], properties=names, fetchTextBodyValues=True)["list"]
    return email  # type: ignore[no-any-return]


def first_part(root: Part, **changes: Any) -> Part:
    return replace(root, parts=(replace(root.parts[0], **changes), *root.parts[1:]))


def swapped(root: Part) -> Part:
    text, file = root.parts
    return replace(root, parts=(replace(file, section="1"), replace(text, section="2")))


def shifted(root: Part) -> Part:
    parts = (replace(part, section=str(at)) for at, part in enumerate(root.parts, 2))
    return replace(root, parts=(Part("1", "text/html", size=9), *parts))


def split(root: Part) -> Part:
    return Part("", "multipart/mixed", parts=tuple(Part(section, "text/plain", size=9) for section in "12"))


LIES: dict[str, tuple[bytes, Callable[[Part], Part]]] = {
    "a wrong size": (MIXED, lambda root: first_part(root, size=7)),
    "one text": (MIXED, lambda root: Part("1", "text/plain", size=len(MIXED))),
    "another encoding": (MIXED, lambda root: first_part(root, encoding="base64")),
    "parts in another order": (MIXED, swapped),
    "a part more": (MIXED, shifted),
    "parts of a text": (PLAIN, split),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_part_that_is_not_what_was_told_is_read_by_our_own_parser(rig: Rig, lie: str) -> None:
    raw, wrong = LIES[lie]
    email_id = told(rig, raw, wrong)
    for _ in range(2):
        email = text_of(rig, email_id)
        assert [value["value"].strip() for value in email["bodyValues"].values()] == [WORDS]
        assert [part["type"] for part in email["attachments"]] == ["application/pdf"] * (raw == MIXED)
    # For good, and from the one copy of the whole.
    assert rig.source.names().count("raw") == 1
    content = emails.content(rig.store, email_id)
    assert content is not None and content.structure is not None and content.structure.body >= 0


def test_a_text_that_was_not_what_was_told_is_indexed_anew(rig: Rig) -> None:
    email_id = told(rig, MIXED, lambda root: first_part(root, section="2"))
    content = emails.content(rig.store, email_id)
    assert content is not None

    def found() -> set[int]:
        while index_slice(rig.account):
            pass
        return rows.matching(rig.store, "body: words", [content.eid])

    assert found() == set()
    text_of(rig, email_id)
    assert found() == {content.eid}


def test_a_part_is_downloaded_as_it_is(rig: Rig) -> None:
    email_id = told(rig, MIXED, lambda root: first_part(root, encoding="base64"))
    found = blobs.find(rig.account, f"p-{email_id}-1")
    assert found is not None and found.path.read_bytes() == WORDS.encode()
    email_id = told(rig, MIXED, split)
    found = blobs.find(rig.account, f"p-{email_id}-2")
    assert found is not None and (found.path.read_bytes(), found.type) == (b"%PDF", "application/pdf")


@pytest.mark.parametrize(("wrong", "whole"), [(20, False), (5_000, True)])
def test_of_a_large_message_a_size_that_is_a_little_wrong_is_forgiven(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, wrong: int, whole: bool
) -> None:
    """Some servers estimate; what has a large attachment is not fetched whole for that."""
    monkeypatch.setattr(structures, "WHOLE_IS_CHEAP", 1_000)
    raw = MIXED.replace(WORDS.encode(), b"\r\n".join([WORDS.encode()] * 100))
    email_id = told(rig, raw, lambda root: first_part(root, size=root.parts[0].size + wrong))
    assert len(text_of(rig, email_id)["bodyValues"]["1"]["value"].split("\n")) == 100
    assert ("raw" in rig.source.names()) == whole


def test_a_true_structure_costs_nothing(rig: Rig) -> None:
    text_of(rig, rig.add(MIXED))
    assert "raw" not in rig.source.names()


def test_an_email_that_is_destroyed_while_its_structure_is_mended_is_not_found(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    email_id, other = told(rig, MIXED, split), rig.add(PLAIN)
    raw = rig.source.raw

    def destroyed(*args: Any) -> int:
        rig.store.cache.write(lambda txn: txn.execute("UPDATE email SET deleted = 1 WHERE id = ?", (email_id,)))
        return raw(*args)

    monkeypatch.setattr(rig.source, "raw", destroyed)
    answer = rig.call(email_get, ids=[email_id, other], properties=["bodyValues"], fetchTextBodyValues=True)
    assert (answer["notFound"], [email["id"] for email in answer["list"]]) == ([email_id], [other])
