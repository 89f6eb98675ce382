"""The contract of a MailSource's details, headers, texts and downloads; see ``mail_source``."""

from __future__ import annotations

from pathlib import Path

import pytest

from jmapplug.backends import MailSource
from jmapplug.testing.mail_upstream import MIXED, T0, Promises, Upstream, message, split_lines


class ContentsContract(Promises):
    """What is inside messages."""

    def test_details_hold_header_fields_size_date_and_structure(self, upstream: Upstream, source: MailSource) -> None:
        plain = upstream.append(b"INBOX", message("plain"), (), T0 + 7)
        mixed = upstream.append(b"INBOX", MIXED)
        details = {d.uid: d for batch in source.details(b"INBOX", [plain, mixed]) for d in batch}
        assert details[plain].received_at == T0 + 7
        assert details[plain].size == len(self.kept(message("plain")))
        header = details[plain].header.lower()
        assert b"subject: plain" in header and b"message-id: <plain@example.org>" in header
        structure = details[mixed].structure
        if structure is not None:
            assert [p.type for p in structure.parts] == ["text/plain", "application/octet-stream"]
            assert structure.parts[1].name == "a.bin"
            assert structure.parts[1].disposition == "attachment"

    def test_details_leave_out_what_is_gone(self, upstream: Upstream, source: MailSource) -> None:
        uid = upstream.append(b"INBOX", message("here"))
        assert [d.uid for batch in source.details(b"INBOX", [uid, uid + 7]) for d in batch] == [uid]
        assert list(source.details(b"INBOX", [])) == []

    def test_details_of_many_come_complete(self, upstream: Upstream, source: MailSource) -> None:
        uids = [upstream.append(b"INBOX", message(str(n))) for n in range(30)]
        batches = source.details(b"INBOX", uids[::-1], background=True)
        assert sorted(d.uid for batch in batches for d in batch) == uids

    def test_whole_headers_come_as_they_stand(self, upstream: Upstream, source: MailSource) -> None:
        uid = upstream.append(b"INBOX", message("whole"))
        block = source.headers(b"INBOX", [uid, uid + 1])
        sent = message("whole").partition(b"\r\n\r\n")[0]
        assert list(block) == [uid] and split_lines(block[uid].rstrip()) == split_lines(sent)

    def test_a_message_that_has_just_come_can_be_read_at_once(
        self, upstream: Upstream, source: MailSource, tmp_path: Path
    ) -> None:
        source.headers(b"INBOX", [upstream.append(b"INBOX", message("first"))])  # a view of the folder is open now
        uids = [upstream.append(b"INBOX", message(f"late{n}")) for n in range(4)]
        assert b"late0" in source.headers(b"INBOX", uids[:1])[uids[0]]
        assert [d.uid for batch in source.details(b"INBOX", uids[1:2]) for d in batch] == uids[1:2]
        assert source.texts(b"INBOX", "1", uids[2:3], 5) == {uids[2]: b"Hello"}
        assert source.raw(b"INBOX", uids[3], tmp_path / "raw")

    def test_headers_of_parts_come_in_one_answer(self, upstream: Upstream, source: MailSource) -> None:
        uid = upstream.append(b"INBOX", MIXED)
        found = source.part_headers(b"INBOX", uid, ["1", "2"])
        assert found["1"].strip() == b"Content-Type: text/plain"
        assert b"Content-Transfer-Encoding: base64" in found["2"]

    def test_texts_are_cut_at_the_limit(self, upstream: Upstream, source: MailSource) -> None:
        uids = [upstream.append(b"INBOX", message(name)) for name in ("aa", "bb")]
        assert source.texts(b"INBOX", "1", uids, 8) == {uids[0]: b"Hello aa", uids[1]: b"Hello bb"}

    def test_a_part_is_streamed_still_encoded(self, upstream: Upstream, source: MailSource, tmp_path: Path) -> None:
        uid = upstream.append(b"INBOX", MIXED)
        size = source.part(b"INBOX", uid, "2", tmp_path / "part")
        assert (tmp_path / "part").read_bytes().strip() == b"AAECAwQFBgcICQ=="
        assert size == (tmp_path / "part").stat().st_size

    def test_slices_are_pieces_of_sections_in_the_order_asked(self, upstream: Upstream, source: MailSource) -> None:
        uid = upstream.append(b"INBOX", MIXED)
        asked = [("2", 4, 8), ("1", 0, 5), ("2", 0, 4), ("2", 12, 1000), ("1", 0, 2), ("2", 5000, 3), ("1", 3, 0)]
        found = source.slices(b"INBOX", uid, asked)
        assert found[:3] == [b"AwQFBgcI", b"first", b"AAEC"] and found[3].strip() == b"CQ=="
        assert found[4:] == [b"fi", b"", b""]
        assert source.slices(b"INBOX", uid, []) == []

    def test_slices_reach_into_a_message_that_has_just_come(self, upstream: Upstream, source: MailSource) -> None:
        source.headers(b"INBOX", [upstream.append(b"INBOX", message("first"))])  # a view of the folder is open now
        uid = upstream.append(b"INBOX", message("late"))
        assert source.slices(b"INBOX", uid, [("1", 6, 4)]) == [b"late"]

    def test_a_whole_message_is_streamed_unchanged(
        self, upstream: Upstream, source: MailSource, tmp_path: Path
    ) -> None:
        big = message("big") + b"".join(b"line %d\r\n" % n for n in range(30_000))
        uid = upstream.append(b"INBOX", big)
        assert source.raw(b"INBOX", uid, tmp_path / "raw") == len(self.kept(big))
        assert (tmp_path / "raw").read_bytes() == self.kept(big)

    def test_reading_a_message_does_not_mark_it_seen(
        self, upstream: Upstream, source: MailSource, tmp_path: Path
    ) -> None:
        uid = upstream.append(b"INBOX", message("unread"))
        source.raw(b"INBOX", uid, tmp_path / "raw")
        source.part(b"INBOX", uid, "1", tmp_path / "part")
        source.texts(b"INBOX", "1", [uid], 100)
        assert source.changes(b"INBOX", None, list).new[0].flags == ()

    def test_contents_of_a_message_that_is_gone_are_a_key_error(
        self, upstream: Upstream, source: MailSource, tmp_path: Path
    ) -> None:
        uid = upstream.append(b"INBOX", message("gone"))
        with pytest.raises(KeyError):
            source.raw(b"INBOX", uid + 1, tmp_path / "raw")
        with pytest.raises(KeyError):
            source.part(b"INBOX", uid + 1, "1", tmp_path / "part")
        with pytest.raises(KeyError):
            source.slices(b"INBOX", uid + 1, [("1", 0, 5)])

    def test_previews_come_only_where_they_are_promised(self, upstream: Upstream, source: MailSource) -> None:
        uid = upstream.append(b"INBOX", message("short"))
        found = source.previews(b"INBOX", [uid])
        promised = source.features.previews and self.makes_previews
        assert found.get(uid, "").startswith("Hello short") if promised else found == {}
