"""store/damage.py, store/own.py: damaged files are set aside, and what nobody else has is saved (mail-rules 39)."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jmapplug.errors import StorageError, StoreDamaged
from jmapplug.hookspecs import Schema
from jmapplug.store import account, damage, own
from jmapplug.store.account import Change, Store
from jmapplug.store.database import Database

PAGE = 4096
MANY = 3000
SCHEMA = Schema(
    own=(
        """CREATE TABLE bound (n INTEGER PRIMARY KEY AUTOINCREMENT, word TEXT NOT NULL);
        CREATE INDEX bound_word ON bound(word, n);
        CREATE TABLE keyed (a INTEGER NOT NULL, b TEXT NOT NULL, PRIMARY KEY (a, b)) WITHOUT ROWID;""",
    ),
    cache=("CREATE TABLE shown (n INTEGER PRIMARY KEY, word TEXT)",),
)


def opened(folder: Path) -> Store:
    return Store(folder, [SCHEMA])


def filled(folder: Path) -> tuple[str, bytes]:
    """A store with rows in both files; its state and salt."""
    store = opened(folder)
    rows = [(n, f"word {n} " + "x" * 100) for n in range(1, MANY)]
    store.own.write(lambda txn: txn.executemany("INSERT INTO bound VALUES (?, ?)", rows))
    store.own.write(lambda txn: txn.executemany("INSERT INTO keyed VALUES (?, ?)", rows))

    def work(change: Change) -> None:
        change.txn.executemany("INSERT INTO shown VALUES (?, ?)", rows)
        change.touch("Email")

    store.commit(work)
    kept = store.state("Email"), store.salt
    store.close()
    return kept


def overwrite(path: Path, pages: range | list[int], data: bytes = b"\xa5" * PAGE) -> None:
    with open(path, "r+b") as file:
        for page in pages:
            file.seek(page * PAGE)
            file.write(data)


def pages(path: Path) -> int:
    return path.stat().st_size // PAGE


def corrupt(folder: Path, name: str) -> list[Path]:
    return sorted(one for one in folder.glob(f"{name}.corrupt-*") if not one.name.endswith(("-wal", "-shm")))


DAMAGE: dict[str, Callable[[Path], None]] = {
    "garbage": lambda path: path.write_bytes(b"no database" * 5000) and None,
    "its first page overwritten": lambda path: overwrite(path, [0]),
    "cut": lambda path: path.open("r+b").truncate(path.stat().st_size // 2 // PAGE * PAGE) and None,
    "empty": lambda path: path.write_bytes(b"") and None,
    "missing": lambda path: path.unlink(),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_cache_that_cannot_be_opened_is_made_anew_and_no_old_state_is_understood(tmp_path: Path, how: str) -> None:
    state, salt = filled(tmp_path)
    DAMAGE[how](tmp_path / "cache.sqlite3")
    store = opened(tmp_path)
    assert store.cache.rows("SELECT * FROM shown") == []
    assert (store.salt, store.own.value("SELECT count(*) FROM bound")) == (salt, MANY - 1)
    assert store.state("Email").split("-")[0] != state.split("-")[0]
    assert len(corrupt(tmp_path, "cache.sqlite3")) == (how not in ("missing", "empty"))
    store.close()


def test_damage_found_in_use_is_told_once_marked_and_mended_at_the_next_opening(tmp_path: Path) -> None:
    state, salt = filled(tmp_path)
    path = tmp_path / "cache.sqlite3"
    overwrite(path, range(8, pages(path)))
    store = opened(tmp_path)
    told: list[bool] = []
    store.on_damage = lambda: told.append(True)
    with pytest.raises(StoreDamaged, match=r"cache\.sqlite3"):
        store.cache.rows("SELECT * FROM shown")
    with pytest.raises(StoreDamaged):
        store.commit(lambda change: change.txn.execute("UPDATE shown SET word = 'x'"))
    assert told and damage.is_marked(path)
    store.close()
    again = opened(tmp_path)
    assert again.cache.rows("SELECT * FROM shown") == []
    assert not damage.is_marked(path)
    assert again.state("Email").split("-")[0] != state.split("-")[0]
    assert again.salt == salt
    again.close()


def test_only_the_newest_two_that_were_set_aside_are_kept(tmp_path: Path) -> None:
    filled(tmp_path)
    for _ in range(4):
        (tmp_path / "cache.sqlite3").write_bytes(b"no database" * 5000)
        opened(tmp_path).close()
    assert len(corrupt(tmp_path, "cache.sqlite3")) == damage.KEPT


# --- own.sqlite3


def holding(path: Path, text: bytes) -> list[int]:
    """The pages on which a text stands."""
    data = path.read_bytes()
    return [page for page in range(len(data) // PAGE) if text in data[page * PAGE : (page + 1) * PAGE]]


ROWS_OF_A_PAGE = PAGE // 100


@pytest.mark.parametrize("which", range(3))
def test_an_own_file_with_a_bad_page_gives_back_every_row_outside_of_it(tmp_path: Path, which: int) -> None:
    """What lies behind a bad page is read from the other end, and along an index that holds all of a row."""
    _, salt = filled(tmp_path)
    path = tmp_path / "own.sqlite3"
    there = holding(path, b"word 1500 x")
    assert len(there) == 3, "in a table, its index, and a table without rowids"
    overwrite(path, [there[which]])
    damage.mark(path)
    store = opened(tmp_path)
    assert store.own.value("SELECT count(*) FROM bound") == MANY - 1
    keyed = [n for (n,) in store.own.rows("SELECT a FROM keyed")]
    assert len(keyed) >= MANY - 1 - ROWS_OF_A_PAGE and {1, MANY - 1} <= set(keyed)
    assert store.salt == salt
    assert (store.lost or "").endswith("could be saved") == (len(keyed) == MANY - 1)
    assert store.restored and store.lost is not None
    assert len(corrupt(tmp_path, "own.sqlite3")) == 1
    store.close()
    again = opened(tmp_path)
    assert not again.restored and again.lost is not None
    again.close()


@pytest.mark.parametrize("seed", range(12))
def test_any_bad_pages_leave_an_own_file_that_works_and_holds_nothing_false(tmp_path: Path, seed: int) -> None:
    filled(tmp_path)
    path = tmp_path / "own.sqlite3"
    source = random.Random(seed)
    count = pages(path)
    overwrite(path, source.sample(range(count), source.randint(1, 6)), source.randbytes(PAGE))
    damage.mark(path)
    store = opened(tmp_path)
    for n, word in store.own.rows("SELECT n, word FROM bound"):
        assert word == f"word {n} " + "x" * 100
    assert store.own.value("PRAGMA integrity_check") == "ok"
    fresh = store.own.write(lambda txn: txn.insert("INSERT INTO bound (word) VALUES ('new')"))
    assert fresh > account.RESTORE_JUMP, "a number that was given before is not given again"
    store.close()


def test_an_own_file_that_is_no_database_is_kept_and_all_ids_are_new(tmp_path: Path) -> None:
    _, salt = filled(tmp_path)
    (tmp_path / "own.sqlite3").write_bytes(b"no database" * 5000)
    store = opened(tmp_path)
    assert store.salt != salt and store.lost is not None and "bound" in store.lost
    assert store.cache.rows("SELECT * FROM shown") == [], "a cache whose ids nobody knows is dropped"
    assert corrupt(tmp_path, "own.sqlite3")[0].read_bytes().startswith(b"no database")
    store.close()


def test_a_missing_own_file_takes_the_cache_with_it(tmp_path: Path) -> None:
    """Numbers begin anew: rows of the old cache would get ids of other messages."""
    filled(tmp_path)
    (tmp_path / "own.sqlite3").unlink()
    store = opened(tmp_path)
    assert store.cache.rows("SELECT * FROM shown") == []
    store.close()


def test_numbers_of_rows_that_are_lost_are_not_given_again(tmp_path: Path) -> None:
    filled(tmp_path)
    path = tmp_path / "own.sqlite3"
    database = Database(path, (own.OWN_BASE,), synchronous="FULL")
    high = 5 * account.RESTORE_JUMP
    database.write(lambda txn: txn.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'bound'", (high,)))
    names = ("bound", "bound_word", "sqlite_sequence")
    roots = [database.value("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)) - 1 for name in names]
    database.close()
    overwrite(path, roots)
    damage.mark(path)
    store = opened(tmp_path)
    assert store.own.value("SELECT count(*) FROM bound") == 0
    assert store.own.write(lambda txn: txn.insert("INSERT INTO bound (word) VALUES ('new')")) > high
    store.close()


def test_the_log_of_a_file_that_was_set_aside_is_not_taken_for_the_new_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the renames of the file and of its log: the log must not be played into the new file."""
    filled(tmp_path)
    path = tmp_path / "own.sqlite3"
    database = Database(path, (own.OWN_BASE,), synchronous="FULL")
    for name, key in (("bound", "n"), ("keyed", "a")):
        database.write(lambda txn, name=name, key=key: txn.execute(f"DELETE FROM {name} WHERE {key} <= 1500"))
    database.checkpoint()
    database.write(lambda txn: txn.execute("UPDATE bound SET word = 'changed' WHERE n > 2900"))
    body, log = path.read_bytes(), path.with_name("own.sqlite3-wal").read_bytes()
    database.close()
    path.write_bytes(body)
    path.with_name("own.sqlite3-wal").write_bytes(log)
    damage.mark(path)

    class Killed(BaseException):
        pass

    def half(one: Path) -> None:
        one.replace(one.with_name("own.sqlite3.corrupt-half"))
        one.with_name("own.sqlite3-wal").write_bytes(log)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(damage, "set_aside", half)
        with pytest.raises(Killed):
            opened(tmp_path)
    (tmp_path / "own.sqlite3.suspect").unlink()
    store = opened(tmp_path)
    assert store.own.value("PRAGMA integrity_check") == "ok"
    assert [store.own.value(f"SELECT count(*) FROM {name}") for name in ("bound", "keyed")] == [MANY - 1501] * 2
    assert store.own.value("SELECT count(*) FROM bound WHERE word = 'changed'") == MANY - 2901
    store.close()


# --- the daily copy


def kept(folder: Path) -> Path:
    return own.copy_of(folder / "own.sqlite3")


def copied(store: Store) -> bool:
    return own.keep_copy(store.own, lambda: None, own.is_sound)


def test_a_daily_copy_is_made_when_it_is_due(tmp_path: Path) -> None:
    filled(tmp_path)
    path = tmp_path / "own.sqlite3"
    now = time.time()
    assert own.is_copy_due(path, now)
    store = opened(tmp_path)
    assert copied(store)
    assert kept(tmp_path).stat().st_mode & 0o777 == 0o600
    assert not own.is_copy_due(path, now) and own.is_copy_due(path, now + own.DAY + 5)
    assert own.is_sound(kept(tmp_path))
    store.close()
    assert sorted(one.name for one in tmp_path.glob("own*")) == ["own.sqlite3", "own.sqlite3.backup"]


def test_what_is_written_while_it_is_copied_is_in_the_copy_or_not_and_harms_neither(tmp_path: Path) -> None:
    filled(tmp_path)
    store = opened(tmp_path)
    written: list[int] = []

    def write() -> None:
        written.append(store.own.write(lambda txn: txn.insert("INSERT INTO bound (word) VALUES ('meanwhile')")))

    assert own.keep_copy(store.own, write, own.is_sound) and written
    assert store.own.value("PRAGMA integrity_check") == "ok"
    store.close()


def test_a_damaged_file_does_not_take_the_place_of_the_copy(tmp_path: Path) -> None:
    filled(tmp_path)
    store = opened(tmp_path)
    assert copied(store)
    good = kept(tmp_path).read_bytes()
    store.close()
    path = tmp_path / "own.sqlite3"
    overwrite(path, [pages(path) - 2])
    store = opened(tmp_path)
    assert not copied(store)
    assert kept(tmp_path).read_bytes() == good
    store.close()


@pytest.mark.parametrize("how", ["garbage", "missing"])
def test_an_own_file_that_is_lost_comes_back_from_the_copy_with_its_ids(tmp_path: Path, how: str) -> None:
    _, salt = filled(tmp_path)
    store = opened(tmp_path)
    assert copied(store)
    later = store.own.write(lambda txn: txn.insert("INSERT INTO bound (word) VALUES ('later')"))
    store.close()
    DAMAGE[how](tmp_path / "own.sqlite3")
    store = opened(tmp_path)
    assert (store.salt, store.own.value("SELECT count(*) FROM bound")) == (salt, MANY - 1)
    assert store.restored and "since the daily copy" in (store.lost or "")
    assert store.own.write(lambda txn: txn.insert("INSERT INTO bound (word) VALUES ('new')")) > later
    store.close()
    again = opened(tmp_path)
    assert not again.restored
    again.close()


STEPS = ("salvage", "set_aside", "sync_folder")


@pytest.mark.parametrize("step", STEPS)
def test_saving_that_is_killed_is_done_again_and_loses_nothing(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, salt = filled(tmp_path)
    path = tmp_path / "own.sqlite3"
    damage.mark(path)

    class Killed(BaseException):
        pass

    where = own.wake if step == "sync_folder" else damage
    real = getattr(where, step)

    def die(*args: object) -> None:
        real(*args)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(where, step, die)
        with pytest.raises(Killed):
            opened(tmp_path)
    store = opened(tmp_path)
    assert store.own.value("SELECT count(*) FROM bound") == MANY - 1
    assert store.salt == salt
    store.close()


def test_rows_in_the_log_of_a_damaged_file_are_saved_too(tmp_path: Path) -> None:
    filled(tmp_path)
    path = tmp_path / "own.sqlite3"
    database = Database(path, (own.OWN_BASE,), synchronous="FULL")
    database.write(lambda txn: txn.execute("INSERT INTO bound VALUES (77777, 'in the log')"))
    kept = {end: path.with_name(path.name + end).read_bytes() for end in ("-wal",)}
    body = path.read_bytes()
    database.close()
    path.write_bytes(body)
    for end, data in kept.items():
        path.with_name(path.name + end).write_bytes(data)
    damage.mark(path)
    store = opened(tmp_path)
    assert store.own.value("SELECT word FROM bound WHERE n = 77777") == "in the log"
    assert not path.with_name(corrupt(tmp_path, "own.sqlite3")[0].name).with_name("own.sqlite3.suspect").exists()
    store.close()


# --- a disk that gives out


def test_a_full_disk_refuses_a_write_and_leaves_what_was_there(tmp_path: Path) -> None:
    filled(tmp_path)
    store = opened(tmp_path)
    before = store.state("Email")
    store.cache.rows(f"PRAGMA max_page_count = {store.cache.value('PRAGMA page_count')}")

    def work(change: Change) -> None:
        change.txn.executemany("INSERT INTO shown VALUES (?, ?)", [(n, "x" * 3000) for n in range(10**6, 10**6 + 500)])
        change.touch("Email")

    with pytest.raises(StorageError, match="full"):
        store.commit(work)
    assert store.state("Email") == before
    assert store.cache.value("SELECT count(*) FROM shown WHERE n >= 1000000") == 0
    store.cache.rows("PRAGMA max_page_count = 1000000")
    store.commit(work)
    assert store.cache.value("SELECT count(*) FROM shown WHERE n >= 1000000") == 500
    store.close()


def test_nothing_is_begun_where_little_room_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(tmp_path)
    store.check_room()
    monkeypatch.setattr(account, "ROOM", 1 << 62)
    with pytest.raises(StorageError, match="full"):
        store.check_room()
    store.close()


def test_a_folder_that_cannot_be_written_to_opens_no_store_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "own.sqlite3").mkdir()
    with pytest.raises(StorageError, match=r"own\.sqlite3"):
        opened(tmp_path)
