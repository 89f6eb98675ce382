"""Files of a running account are damaged: it mends itself, and what can be kept is kept (mail-rules 39)."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from scene import Scene, message

from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.ports import running, wait_until
from jmapplug.testing.proxy import Proxy

PAGE = 4096


@pytest.fixture(scope="module")
def service() -> Iterator[Proxy]:
    made = Proxy(JMAP_SYNC_INTERVAL="5")
    yield made
    made.stop()


@pytest.fixture
def alone(service: Proxy, dovecot: Dovecot, account_name: str) -> Iterator[Scene]:
    scene = Scene(service, dovecot, account_name, "dovecot")
    scene.create("Work")
    scene.append("Inbox", *[message(f"number {at}") for at in range(40)])
    scene.append("Work", message("at work"), message("Re: number 1", "In-Reply-To: <number.1@example.com>"))
    yield scene
    scene.imap.logout()


def folder_of(scene: Scene) -> Path:
    return scene.proxy.folder / "data" / "accounts" / scene.account


def end_worker(scene: Scene) -> None:
    pid = scene.proxy.worker_pid(scene.account)
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not running(pid), "the worker ends")


def overwrite(path: Path, text: bytes) -> None:
    """The pages on which a text stands."""
    data = bytearray(path.read_bytes())
    pages = [page for page in range(PAGE, len(data), PAGE) if text in data[page : page + PAGE]]
    assert pages
    for page in pages:
        data[page : page + PAGE] = b"\xa5" * PAGE
    path.write_bytes(data)


def test_a_cache_whose_damage_is_met_in_use_is_built_anew_with_the_same_ids(alone: Scene) -> None:
    before = alone.begin()
    end_worker(alone)  # what it wrote is in the file, not in the log beside it
    overwrite(folder_of(alone) / "cache.sqlite3", b"number 7")

    def mended() -> bool:
        kind, answer, _ = alone.jmap.request(("Email/get", {"ids": list(before.emails), "properties": ["subject"]}))[0]
        assert kind == "Email/get" or answer["type"] == "serverUnavailable", answer
        return bool(list(folder_of(alone).glob("cache.sqlite3.corrupt-*")))

    wait_until(mended, "the damage is met in use, the worker ends, and the next one mends it", 60)
    alone.proxy.settled(alone.account)
    alone.checker.forget()
    after = alone.agree()
    assert {subject: (one, after.emails[one]["threadId"]) for subject, one in after.by_subject().items()} == {
        subject: (one, before.emails[one]["threadId"]) for subject, one in before.by_subject().items()
    }
    assert after.paths() == before.paths()
    for kind, state in before.states.items():
        assert alone.jmap.error(f"{kind}/changes", sinceState=state)["type"] == "cannotCalculateChanges"
    assert list(folder_of(alone).glob("cache.sqlite3.corrupt-*"))
    assert "is damaged" in alone.proxy.log


DAMAGE: dict[str, Callable[[Path], object]] = {
    "garbage": lambda path: path.write_bytes(os.urandom(50_000)),
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "missing": lambda path: path.unlink(),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_cache_found_damaged_at_the_start_is_built_anew_with_the_same_ids(alone: Scene, how: str) -> None:
    before = alone.begin()
    end_worker(alone)
    DAMAGE[how](folder_of(alone) / "cache.sqlite3")
    alone.proxy.settled(alone.account)
    alone.checker.forget()
    after = alone.agree()
    assert (after.by_subject(), after.paths()) == (before.by_subject(), before.paths())
    assert not set(after.states.values()) & set(before.states.values())


def test_of_an_own_file_with_a_bad_page_the_rest_is_saved_and_status_says_so(alone: Scene) -> None:
    before = alone.begin()
    end_worker(alone)
    path = folder_of(alone) / "own.sqlite3"
    with open(path, "r+b") as file:
        # The first pages hold the schema, the salt and the beginnings of the tables.
        file.seek((path.stat().st_size // PAGE - 1) * PAGE)
        file.write(os.urandom(PAGE))
    (folder_of(alone) / "own.sqlite3.suspect").touch()
    alone.proxy.settled(alone.account)
    alone.checker.forget()
    after = alone.agree()
    assert set(after.by_subject()) == set(before.by_subject())
    kept = sum(after.by_subject()[subject] == one for subject, one in before.by_subject().items())
    assert kept >= len(before.emails) // 2
    assert "own.sqlite3 was damaged" in alone.proxy.status(alone.account)["storage"]
    assert list(folder_of(alone).glob("own.sqlite3.corrupt-*"))


def test_an_own_file_that_is_lost_altogether_harms_nothing_upstream(alone: Scene) -> None:
    before = alone.begin()
    end_worker(alone)
    path = folder_of(alone) / "own.sqlite3"
    path.write_bytes(os.urandom(50_000))
    alone.proxy.settled(alone.account)
    alone.checker.forget()
    after = alone.agree()
    assert set(after.by_subject()) == set(before.by_subject())
    assert not set(after.emails) & set(before.emails), "ids that were lost are never given to other messages"
    assert "own.sqlite3 was damaged" in alone.proxy.status(alone.account)["storage"]
