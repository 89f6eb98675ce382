"""The background index: newest first, batched, bounded, decoded, and never stuck (mail-rules 37)."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest
from search_rig import T0, Mail, Rig

from jmapplug.capabilities.mail import index
from jmapplug.errors import FolderError, UpstreamError


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.close()


def fetches(rig: Rig) -> list[tuple[bytes, str, tuple[int, ...]]]:
    return [what for name, what in rig.source.calls if name == "texts"]


def raw(*parts: tuple[str, bytes], kind: str = "mixed") -> bytes:
    """A multipart message of (header lines, content)."""
    body = b"".join(b"--cut\r\n" + head.encode() + b"\r\n\r\n" + content + b"\r\n" for head, content in parts)
    head = f"From: a@example.org\r\nSubject: parts\r\nContent-Type: multipart/{kind}; boundary=cut\r\n\r\n"
    return head.encode() + body + b"--cut--\r\n"


def test_one_slice_fetches_once_per_folder_and_section(rig: Rig) -> None:
    rig.add(*(Mail(body=f"alpha{n}", mailboxes=("inbox" if n % 2 else "archive",)) for n in range(10)), indexed=False)
    assert index.index_slice(rig.account) is True
    assert sorted(key for key, _, _ in fetches(rig)) == [b"archive", b"inbox"]
    assert index.index_slice(rig.account) is False
    assert len(rig.ids({"body": "alpha3"})) == 1


def test_the_newest_are_indexed_first(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "SLICE_MESSAGES", 2)
    rig.add(*(Mail(f"m{n}", received=T0 + (n * 3) % 5) for n in range(5)), indexed=False)
    index.index_slice(rig.account)
    done = rig.store.cache.rows("SELECT received_at FROM email WHERE indexed = 1 ORDER BY 1")
    assert done == [(T0 + 3,), (T0 + 4,)]


def test_a_slice_stays_within_its_octets(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "SLICE_OCTETS", 3000)
    rig.add(*(Mail(body="word " * 200) for _ in range(7)), indexed=False)
    assert rig.index() == 3


def test_a_message_larger_than_a_slice_is_indexed_by_its_beginning(rig: Rig) -> None:
    rig.add(Mail(body="first " + "filler " * 700_000 + "last"))
    assert len(rig.ids({"body": "first"})) == 1
    assert rig.ids({"body": "last"}) == []


def test_encoded_text_is_decoded_and_html_is_read_without_its_markup(rig: Rig) -> None:
    html = (
        b"<html><head><title>hidden</title><style>p{color:red}</style></head><body><p class=secret>Gr&uuml;n</p></body>"
    )
    rig.add(
        Mail("b64", raw=raw(("Content-Type: text/plain; charset=koi8-r\r\nContent-Transfer-Encoding: base64",
                             base64.encodebytes("привет мир".encode("koi8-r"))))),
        Mail("html", raw=raw(("Content-Type: text/html; charset=utf-8", html))),
    )  # fmt: skip
    assert rig.subjects({"body": "ПРИВЕТ"}) == ["b64"]
    assert rig.subjects({"body": "grün"}) == ["html"]
    assert rig.ids({"body": "secret"}) == rig.ids({"body": "color"}) == rig.ids({"body": "class"}) == []


def test_an_attachment_is_never_fetched_for_the_index(rig: Rig) -> None:
    attachment = ("Content-Type: text/plain\r\nContent-Disposition: attachment; filename=a.txt", b"inside " * 50)
    binary = ("Content-Type: application/pdf\r\nContent-Disposition: attachment; filename=a.pdf", b"x" * 1000)
    rig.add(Mail(raw=raw(("Content-Type: text/plain", b"outside"), attachment, binary)))
    assert [section for _, section, _ in fetches(rig)] == ["1"]
    assert len(rig.ids({"body": "outside"})) == 1
    assert rig.ids({"body": "inside"}) == []


def test_an_html_part_is_read_where_the_plain_one_says_little(rig: Rig) -> None:
    little = ("Content-Type: text/plain", b"see the HTML version")
    html = ("Content-Type: text/html", b"<p>the real contents</p>")
    rig.add(Mail(raw=raw(little, html, kind="alternative")))
    assert len(rig.ids({"body": "contents"})) == len(rig.ids({"body": "version"})) == 1


def test_a_message_without_a_structure_is_parsed_by_us(rig: Rig) -> None:
    whole = raw(("Content-Type: text/plain", b"needle"), ("Content-Type: image/png", b"haystack"))
    rig.add(Mail(raw=whole, structure="none"), indexed=False)
    rig.source._section = lambda one, section: one.raw  # type: ignore[method-assign]
    rig.index()
    assert [section for _, section, _ in fetches(rig)] == [""]
    assert len(rig.ids({"body": "needle"})) == 1
    assert rig.ids({"body": "haystack"}) == []


def test_a_message_that_is_gone_upstream_does_not_stop_the_index(rig: Rig) -> None:
    rig.add(Mail("gone"), Mail("here"), indexed=False)
    rig.server.expunge(b"inbox", rig.mails[0].uids["inbox"])
    assert rig.index() == 1
    assert rig.subjects({"subject": "gone"}) == ["gone"]


def test_an_email_destroyed_while_its_text_was_fetched_stays_out_of_the_index(rig: Rig) -> None:
    rig.add(Mail("alpha"), indexed=False)
    rig.source.before = lambda name: rig.destroy(rig.mails[0]) if name == "texts" else None
    rig.index()
    assert rig.store.cache.rows("SELECT rowid FROM fts WHERE fts MATCH 'alpha'") == []


def test_an_upstream_error_leaves_the_slice_to_be_done_again(rig: Rig) -> None:
    rig.add(Mail(body="alpha"), indexed=False)
    rig.source.fail_at = 1
    with pytest.raises(UpstreamError):
        index.index_slice(rig.account)
    rig.source.fail_at = None
    assert rig.index() == 1
    assert len(rig.ids({"body": "alpha"})) == 1


def shut(rig: Rig, *keys: bytes) -> None:
    """These folders are not opened."""

    def fault(name: str) -> None:
        if name in ("texts", "search") and rig.source.calls[-1][1][0] in keys:
            raise FolderError("not now", code="inuse")

    rig.source.fault = fault


def test_a_folder_that_is_not_opened_keeps_no_other_from_being_indexed(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "SLICE_MESSAGES", 2)
    boxes = ("archive", "archive", "archive", "inbox", "archive", "inbox")
    rig.add(
        *(Mail(body=f"alpha{at}", mailboxes=(box,), received=T0 - at) for at, box in enumerate(boxes)), indexed=False
    )
    shut(rig, b"archive")
    assert rig.index() == 3  # and an end
    assert unindexed(rig) == 4
    # What comes meanwhile does not wait for that folder.
    rig.add(Mail(body="news", received=T0 + 9), Mail(body="more", mailboxes=("archive",), received=T0 + 8))
    assert unindexed(rig) == 5
    before = len(fetches(rig))
    assert rig.index() == 0 and len(fetches(rig)) == before
    # Later, when it is opened.
    rig.source.fault = None
    index._left[rig.store].until = 0
    rig.index()
    assert unindexed(rig) == 0 and rig.store not in index._left
    assert [len(rig.ids({"body": f"alpha{at}"})) for at in range(6)] == [1] * 6


def unindexed(rig: Rig) -> int:
    return int(rig.store.cache.value("SELECT count(*) FROM email WHERE indexed = 0"))


def test_another_copy_is_read_where_a_folder_is_not_opened(rig: Rig) -> None:
    rig.add(
        Mail(body="alpha", mailboxes=("inbox", "archive")), Mail(body="beta", mailboxes=("archive",)), indexed=False
    )
    shut(rig, b"inbox")
    rig.index()
    assert unindexed(rig) == 0 and len(rig.ids({"body": "alpha"})) == len(rig.ids({"body": "beta"})) == 1


def test_a_search_finds_what_is_in_the_folders_that_are_opened(rig: Rig) -> None:
    for box in ("archive", "inbox"):
        rig.add(Mail(box, body="alpha", mailboxes=(box,)), indexed=False)
    shut(rig, b"archive")
    assert rig.subjects({"body": "alpha"}) == ["inbox"]
    rig.source.fault = None
    assert set(rig.subjects({"body": "alpha"})) == {"inbox", "archive"}


def test_indexing_moves_no_state(rig: Rig) -> None:
    rig.add(Mail("alpha"), indexed=False)
    state = rig.store.state("Email")
    rig.index()
    assert rig.store.state("Email") == state


def test_a_revived_email_is_indexed_again(rig: Rig) -> None:
    rig.add(Mail("alpha", body="beta"))
    [one] = rig.mails
    rig.destroy(one)
    assert rig.ids({"text": "alpha"}) == []
    rig.server.folders[b"inbox"].messages.clear()
    one.uids = {"inbox": rig.server.deliver(b"inbox", one.message())}
    rig.revive(one)
    assert len(rig.ids({"body": "beta"})) == 1


def test_requests_get_their_turn_while_a_slice_is_indexed(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "WRITE_OCTETS", 0)
    monkeypatch.setattr(index, "WRITE_OCTETS_ALONE", 0)
    monkeypatch.setattr(index, "breathe", lambda: gevent.sleep(0))
    rig.add(*(Mail(body=f"alpha{n}") for n in range(10)), indexed=False)
    turns = []

    def request() -> None:
        while True:
            assert not rig.store.cache.in_transaction
            turns.append(rig.store.cache.value("SELECT count(*) FROM email WHERE indexed = 1"))
            gevent.sleep(0)

    greenlet = gevent.spawn(request)
    rig.index()
    greenlet.kill()
    assert set(range(10)) <= set(turns)
