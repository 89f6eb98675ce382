"""A disk that does not confirm what it writes (fsync fails): no success is told, and nothing is lost or doubled.

A library of a few lines, loaded before libc, makes fsync and fdatasync fail while a file is there.
"""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from scene import Scene, message
from test_our_writes import boxes, draft, upload

from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.ports import wait_until
from jmapplug.testing.proxy import Proxy

FAILING = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static int sync_by(const char *name, int fd) {
    const char *flag = getenv("FSYNC_FAILS");
    if (flag && access(flag, F_OK) == 0) { errno = EIO; return -1; }
    return ((int (*)(int)) dlsym(RTLD_NEXT, name))(fd);
}
int fsync(int fd) { return sync_by("fsync", fd); }
int fdatasync(int fd) { return sync_by("fdatasync", fd); }
"""


@pytest.fixture
def fails(tmp_path: Path) -> Path:
    """While this file is there, fsync fails."""
    return tmp_path / "fails"


@pytest.fixture
def scene(dovecot: Dovecot, account_name: str, tmp_path: Path, fails: Path) -> Iterator[Scene]:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    library = tmp_path / "failing.so"
    command = [compiler, "-shared", "-fPIC", "-x", "c", "-", "-o", str(library), "-ldl"]
    subprocess.run(command, input=FAILING.encode(), check=True)
    service = Proxy(JMAP_SYNC_INTERVAL="2", LD_PRELOAD=str(library), FSYNC_FAILS=str(fails))
    scene = Scene(service, dovecot, account_name, "dovecot")
    yield scene
    scene.imap.logout()
    service.stop()


def test_what_the_disk_does_not_confirm_is_no_success(scene: Scene, fails: Path) -> None:
    scene.create("Work")
    subjects = [f"number {at}" for at in range(6)]
    scene.append("Inbox", *map(message, subjects))
    before = scene.begin()
    ids, work = before.by_subject(), boxes(before, "Work")
    # A first write makes what is made once.
    scene.jmap.call("Email/set", update={ids["number 0"]: {"keywords/$seen": True}})
    new = {"i": {"blobId": upload(scene, message("imported")), "mailboxIds": work}}
    writes = [
        ("Email/set", {"update": {ids["number 1"]: {"mailboxIds": work}}}),
        ("Email/set", {"create": {"d": draft(next(iter(work)), "composed")}}),
        ("Email/import", {"emails": new}),
        ("Email/set", {"destroy": [ids["number 2"]]}),
        ("Mailbox/set", {"create": {"b": {"name": "Another"}}}),
    ]
    fails.touch()
    for name, args in writes:
        error = scene.jmap.error(name, **args)
        assert error["type"] in ("serverPartialFail", "serverUnavailable"), (name, error)
        assert "disk" not in error["description"].lower()
    assert set(scene.jmap.call("Email/query")["ids"]) >= {ids["number 0"], ids["number 5"]}
    scene.append("Inbox", message("meanwhile"))
    assert scene.proxy.management.send("POST", f"/api/accounts/{scene.account}/sync").status >= 500
    wait_until(lambda: scene.proxy.status(scene.account)["error"], "the operator is told")
    fails.unlink()
    wait_until(lambda: scene.proxy.status(scene.account)["error"] is None, "all is well by itself", 60)
    scene.history.clear()
    after = scene.agree()
    counted = Counter(email["subject"] for email in after.emails.values())
    assert max(counted.values()) == 1, "doubled"
    assert counted.keys() >= {*subjects, "meanwhile"} - {"number 2"}, "lost"
    kept = [one for one in subjects if one in counted]
    assert {one: after.by_subject()[one] for one in kept} == {one: ids[one] for one in kept}
    assert "Traceback" not in scene.proxy.log, scene.proxy.log[-6000:]
