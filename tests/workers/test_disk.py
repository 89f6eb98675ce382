"""What calls are told when our own disk gives out (workers/commands.py)."""

from __future__ import annotations

import errno
from types import SimpleNamespace

import pytest

from jmapplug.errors import FULL, MethodError, StorageError, StoreDamaged, UpstreamError, storage_error
from jmapplug.jmap.methods import Method
from jmapplug.workers.commands import Disk
from jmapplug.workers.errors import from_wire, to_wire

READS = Method("Thing/get", lambda call, args: {}, "urn:x")
WRITES = Method("Thing/set", lambda call, args: {}, "urn:x", writes=True)


def account(error=None):
    def check_room():
        if error is not None:
            raise error

    return SimpleNamespace(store=SimpleNamespace(check_room=check_room))


def test_a_write_is_not_begun_without_room_and_a_read_is():
    disk, full = Disk(), account(StorageError(FULL))
    disk.admit(READS, full)
    with pytest.raises(MethodError) as refused:
        disk.admit(WRITES, full)
    assert refused.value.type == "serverUnavailable"
    assert "disk" not in refused.value.description.lower(), "that is for the operator"
    disk.admit(WRITES, account())
    disk.admit(WRITES, None)


@pytest.mark.parametrize(
    "error", [StorageError(FULL), StoreDamaged("x"), OSError(errno.ENOSPC, "no space"), OSError(errno.EIO, "io")]
)
def test_a_write_that_was_under_way_may_be_half_done_and_a_read_is_tried_later(error):
    disk = Disk()
    disk.admit(WRITES, account())
    assert disk.failure(error).type == "serverPartialFail"
    disk.admit(READS, account())
    assert disk.failure(error).type == "serverUnavailable"
    # A refused write is followed by calls that have nothing to do with it.
    with pytest.raises(MethodError):
        disk.admit(WRITES, account(StorageError(FULL)))
    assert disk.failure(error).type == "serverUnavailable"


def test_other_errors_mean_what_they_meant():
    assert Disk().failure(UpstreamError("away")).type == "serverUnavailable"
    assert Disk().failure(KeyError("a defect")) is None
    assert Disk().failure(FileNotFoundError(errno.ENOENT, "x")) is None


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_an_error_of_the_disk_crosses_the_socket_as_what_it_is(code):
    arrived = from_wire(to_wire(OSError(code, "text"), "a test"))
    assert type(arrived) is StorageError
    assert str(arrived) == str(storage_error(OSError(code, "text")))
