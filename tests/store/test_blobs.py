"""store/blobs.py: cached parts and uploads."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from jmapplug.store.blobs import FRESH, BlobFiles


def test_a_part_is_found_again_whatever_its_key(tmp_path: Path) -> None:
    """Never a path from upstream's text."""
    files = BlobFiles(tmp_path, 1000)
    for key in ("../../etc/passwd", "a/b", "\0", "x" * 5000, "ü"):
        files.store(key, key.encode())
        found = files.find(key)
        assert found is not None
        assert found.read_bytes() == key.encode()
        assert tmp_path / "parts" in found.parents
    assert files.find("other") is None


def test_the_least_recently_used_parts_go_when_the_budget_is_over(tmp_path: Path) -> None:
    files = BlobFiles(tmp_path, 1000)
    for at, name in enumerate(("old", "used", "new")):
        os.utime(files.store(name, b"x" * 300), (at, at))
    used = files.find("used")
    assert used is not None
    files.store("big", b"x" * 300)
    assert [name for name in ("old", "used", "new", "big") if files.find(name)] == ["used", "new", "big"]
    assert files.used == 900


def test_storing_again_counts_the_octets_once(tmp_path: Path) -> None:
    files = BlobFiles(tmp_path, 1000)
    files.store("a", b"x" * 100)
    files.store("a", b"y" * 50)
    assert files.used == 50
    files.forget("a")
    files.forget("a")
    assert (files.used, files.find("a")) == (0, None)


def test_what_was_there_counts_after_a_restart_and_half_written_files_go(tmp_path: Path) -> None:
    files = BlobFiles(tmp_path, 1000)
    files.store("a", b"x" * 100)
    half = files.temporary()
    again = BlobFiles(tmp_path, 1000)
    assert again.used == 100
    assert not half.exists()


@pytest.mark.parametrize("name", ["f-", "../x", "f-../../x", "m-1", "f-ABCDEF00-0000-4000-8000-000000000000", "f-x\n"])
def test_an_upload_has_our_own_kind_of_id(tmp_path: Path, name: str) -> None:
    files = BlobFiles(tmp_path, 1000)
    with pytest.raises(KeyError):
        files.upload_path(name)
    good = "f-12345678-1234-4123-8123-123456789abc"
    assert files.upload_path(good).parent == tmp_path / "uploads"


def parts(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / "parts").rglob("*") if path.is_file())


def test_what_is_larger_than_the_budget_is_served_and_goes_when_nobody_can_be_about_to_open_it(tmp_path: Path) -> None:
    """JMAP_ACCOUNT_DISK: too small for a thing is no reason not to give it."""
    now = time.time()
    files = BlobFiles(tmp_path, 1000, lambda: now)
    large = files.store("large", b"x" * 5_000)
    small = files.store("small", b"x" * 10)
    files.trim()
    assert large.exists() and small.exists(), "both were told of in this moment"
    now += FRESH + 1
    files.trim()
    assert not large.exists() and parts(tmp_path) == files.used <= 1000


def test_each_new_part_makes_room_for_itself(tmp_path: Path) -> None:
    now = time.time()
    files = BlobFiles(tmp_path, 1000, lambda: now)
    for at in range(20):
        now += FRESH + 1
        os.utime(files.store(f"part {at}", b"x" * 300), (now, now))
        assert parts(tmp_path) == files.used <= 1000


def test_uploads_never_go_however_small_the_budget(tmp_path: Path) -> None:
    now = time.time()
    files = BlobFiles(tmp_path, 10, lambda: now)
    upload = files.upload_path("f-12345678-1234-4123-8123-123456789abc")
    upload.write_bytes(b"x" * 1000)
    now += 1_000
    files.store("part", b"x" * 100)
    files.trim()
    assert upload.stat().st_size == 1000


def test_a_smaller_budget_counts_from_the_next_start(tmp_path: Path) -> None:
    for at in range(5):
        path = BlobFiles(tmp_path, 10_000).store(f"part {at}", b"x" * 300)
        os.utime(path, (at, at))
    assert BlobFiles(tmp_path, 1000).used == parts(tmp_path) <= 1000
