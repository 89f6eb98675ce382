"""store/account.py: states, epochs, lost and restored files (mail-rules 9, 39)."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from jmapplug.hookspecs import Schema
from jmapplug.jmap.errors import MethodError
from jmapplug.store.account import DAY, Change, Store

THINGS = Schema(
    own=("CREATE TABLE thing (n INTEGER PRIMARY KEY AUTOINCREMENT)",),
    cache=("CREATE TABLE shown (n INTEGER PRIMARY KEY, modseq INTEGER, deleted INTEGER)",),
)


def touch(store: Store, *types: str) -> None:
    store.commit(lambda change: change.touch(*types))


def refused(store: Store, state: str) -> bool:
    try:
        store.since("Email", state)
    except MethodError as error:
        return error.type == "cannotCalculateChanges"
    return False


@pytest.fixture
def store(tmp_path: Path):
    made = Store(tmp_path, [THINGS])
    yield made
    made.close()


def test_only_the_types_that_were_touched_get_a_new_state(store: Store) -> None:
    """Rule 9: one counter, and each type keeps the number of its last change."""
    email, thread = store.state("Email"), store.state("Thread")
    touch(store, "Email")
    assert (store.state("Email") != email, store.state("Thread") == thread) == (True, True)
    touch(store, "Thread")
    assert int(store.state("Thread").split("-")[1]) == 2


def test_a_transaction_that_changes_nothing_moves_no_counter(store: Store) -> None:
    """Rule 12."""
    store.commit(lambda change: change.txn.value("SELECT 1"))
    assert store.modseq == 0


def test_a_transaction_that_fails_moves_no_state(store: Store) -> None:
    def work(change: Change) -> None:
        change.touch("Email")
        raise KeyError

    before = store.state("Email")
    with pytest.raises(KeyError):
        store.commit(work)
    assert (store.state("Email"), store.modseq) == (before, 0)


def test_on_change_tells_states_after_the_commit_or_when_announced(tmp_path: Path) -> None:
    told: list[dict[str, str]] = []
    store = Store(tmp_path, on_change=told.append)
    touch(store, "Email")
    store.commit(lambda change: change.touch("Thread"), announce=False)
    assert told == [{"Email": f"{store.epoch}-1"}]
    store.announce()
    store.announce()
    assert told[1:] == [{"Thread": f"{store.epoch}-2"}]
    store.close()


@pytest.mark.parametrize(
    "state", ["", "x", "-1", "9-9-9", "0-0", "{epoch}-2", "{epoch}--1", "{epoch}-1.5", "{epoch}-²"]
)
def test_states_never_handed_out_are_refused(store: Store, state: str) -> None:
    """Rule 9: a foreign epoch, n beyond now, nonsense."""
    touch(store, "Email")
    assert store.since("Email", store.state("Email")) == 1
    assert refused(store, state.replace("{epoch}", store.epoch))


def test_states_survive_a_restart(tmp_path: Path) -> None:
    first = Store(tmp_path, [THINGS])
    touch(first, "Email")
    state, salt = first.state("Email"), first.salt
    first.close()
    second = Store(tmp_path, [THINGS])
    assert (second.state("Email"), second.salt) == (state, salt)
    second.close()


def test_a_lost_cache_has_a_new_epoch_and_the_same_salt(tmp_path: Path) -> None:
    """Rules 9, 39."""
    first = Store(tmp_path, [THINGS])
    touch(first, "Email")
    state, salt = first.state("Email"), first.salt
    first.close()
    for path in tmp_path.glob("cache.sqlite3*"):
        path.unlink()
    second = Store(tmp_path, [THINGS])
    assert refused(second, state)
    assert second.salt == salt
    second.close()


def test_a_restored_copy_of_the_cache_has_a_new_epoch(tmp_path: Path) -> None:
    """Rule 9: it may be older than what was handed out."""
    first = Store(tmp_path, [THINGS])
    touch(first, "Email")
    state = first.state("Email")
    first.close()
    shutil.copy(tmp_path / "cache.sqlite3", tmp_path / "copy")
    (tmp_path / "copy").rename(tmp_path / "cache.sqlite3")
    second = Store(tmp_path, [THINGS])
    assert refused(second, state)
    second.close()


def test_a_restored_own_file_gives_no_number_twice_and_drops_the_cache(tmp_path: Path) -> None:
    """Rule 39: numbers handed out since the backup belong to other things for ever."""
    first = Store(tmp_path, [THINGS])
    first.own.write(lambda txn: txn.execute("INSERT INTO thing DEFAULT VALUES"))
    first.commit(lambda change: change.txn.execute("INSERT INTO shown VALUES (1, 1, 0)"))
    first.own.checkpoint()
    shutil.copy(tmp_path / "own.sqlite3", tmp_path / "backup")
    first.own.write(lambda txn: txn.execute("INSERT INTO thing DEFAULT VALUES"))
    first.close()
    (tmp_path / "backup").rename(tmp_path / "own.sqlite3")
    second = Store(tmp_path, [THINGS])
    assert second.cache.rows("SELECT * FROM shown") == []
    assert second.own.write(lambda txn: txn.insert("INSERT INTO thing DEFAULT VALUES")) > 2
    second.close()


def test_a_damaged_cache_is_set_aside_and_made_anew(tmp_path: Path) -> None:
    first = Store(tmp_path, [THINGS])
    state = first.state("Email")
    first.close()
    (tmp_path / "cache.sqlite3").write_bytes(b"no database at all" * 1000)
    second = Store(tmp_path, [THINGS])
    assert refused(second, state)
    assert list(tmp_path.glob("cache.sqlite3.corrupt-*"))
    second.close()


def test_tombstones_go_after_thirty_days_and_older_states_are_refused(tmp_path: Path) -> None:
    """Rule 9: pruned_upto."""
    now = [1000.0 * DAY]
    store = Store(tmp_path, [THINGS], clock=lambda: now[0])

    def bury(number: int) -> Any:
        def work(change: Change) -> None:
            change.txn.execute("INSERT INTO shown VALUES (?, ?, 1)", (number, change.modseq))
            change.touch("Email")

        return store.commit(work)

    old = store.state("Email")
    bury(1)
    now[0] += 20 * DAY
    bury(2)
    assert store.prune() == 0
    now[0] += 15 * DAY
    bury(3)
    while store.prune():
        pass
    assert [n for (n,) in store.cache.rows("SELECT n FROM shown ORDER BY n")] == [1, 2, 3]
    now[0] += 16 * DAY
    while store.prune():
        pass
    assert [n for (n,) in store.cache.rows("SELECT n FROM shown ORDER BY n")] == [2, 3]
    assert refused(store, old)
    assert store.since("Email", f"{store.epoch}-1") == 1
    store.close()


def test_a_new_migration_of_a_schema_runs_on_the_old_file(tmp_path: Path) -> None:
    Store(tmp_path, [THINGS]).close()
    more = Schema(own=THINGS.own, cache=(*THINGS.cache, "ALTER TABLE shown ADD COLUMN extra"))
    store = Store(tmp_path, [more])
    assert store.cache.rows("SELECT extra FROM shown") == []
    store.close()
