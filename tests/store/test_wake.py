"""A mark that says: this account's worker has to run."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from jmapplug.errors import StorageError
from jmapplug.store import wake


def test_a_mark_that_did_not_get_to_the_disk_is_none_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(folder: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(wake, "sync_folder", fails)
        for _ in range(2):
            with pytest.raises(StorageError):
                wake.mark(tmp_path, "push")
    wake.mark(tmp_path, "push")
    assert wake.is_marked(tmp_path)
    wake.unmark(tmp_path, "push")
    assert not wake.is_marked(tmp_path)
