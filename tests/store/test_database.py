"""store/database.py: transactions and migrations (process-rules 13)."""

from __future__ import annotations

from pathlib import Path

import apsw
import gevent
import greenlet
import pytest

from jmapplug.store.database import Database, Txn

SCHEMA = "CREATE TABLE t (n INTEGER)"


@pytest.fixture
def database(tmp_path: Path):
    made = Database(tmp_path / "a.sqlite3", (SCHEMA,))
    yield made
    made.close()


def test_a_transaction_that_raises_leaves_nothing(database: Database) -> None:
    def work(txn: Txn) -> None:
        txn.execute("INSERT INTO t VALUES (1)")
        raise KeyError

    with pytest.raises(KeyError):
        database.write(work)
    assert database.rows("SELECT * FROM t") == []
    assert not database.in_transaction


def test_a_transaction_inside_a_transaction_is_refused(database: Database) -> None:
    with pytest.raises(RuntimeError):
        database.write(lambda txn: database.write(lambda inner: inner.execute("INSERT INTO t VALUES (1)")))
    assert database.value("SELECT count(*) FROM t") == 0
    database.write(lambda txn: txn.execute("INSERT INTO t VALUES (2)"))
    assert database.row("SELECT n FROM t") == (2,)


def test_two_greenlets_that_write_at_once_lose_no_row(database: Database) -> None:
    """A committing greenlet beside one that rolls back: each row counts for itself."""

    def writer(number: int) -> None:
        def work(txn: Txn) -> None:
            txn.execute("INSERT INTO t VALUES (?)", (number,))
            if number % 2:
                raise ValueError

        try:
            database.write(work)
        except ValueError:
            pass
        gevent.sleep(0)

    gevent.joinall([gevent.spawn(writer, number) for number in range(50)], raise_error=True)
    assert [n for (n,) in database.rows("SELECT n FROM t ORDER BY n")] == list(range(0, 50, 2))


def test_work_that_yields_is_found_out_by_the_tracer(database: Database) -> None:
    """The tracer that the sync's tests use sees a switch inside a transaction."""
    switched: list[bool] = []

    def trace(event: str, args: object) -> None:
        if event in ("switch", "throw"):
            switched.append(database.in_transaction)

    old = greenlet.settrace(trace)
    try:
        database.write(lambda txn: gevent.sleep(0))
    finally:
        greenlet.settrace(old)
    assert True in switched


def test_migrations_run_once_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite3"
    Database(path, (SCHEMA,)).close()
    second = Database(path, (SCHEMA, "ALTER TABLE t ADD COLUMN m INTEGER; INSERT INTO t VALUES (1, 2)"))
    second.close()
    third = Database(path, (SCHEMA, "ALTER TABLE t ADD COLUMN m INTEGER; INSERT INTO t VALUES (1, 2)"))
    assert third.rows("SELECT n, m FROM t") == [(1, 2)]
    third.close()


def test_a_migration_that_fails_leaves_the_version_before(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite3"
    with pytest.raises(apsw.SQLError):
        Database(path, (SCHEMA, "CREATE TABLE u (n); nonsense"))
    made = Database(path, (SCHEMA, "CREATE TABLE u (n)"))
    assert made.rows("SELECT * FROM u") == []
    made.close()


def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite3"
    Database(path, (SCHEMA, "CREATE TABLE u (n)")).close()
    with pytest.raises(ValueError, match="newer"):
        Database(path, (SCHEMA,))


def test_rest_gives_back_prepared_statements_and_work_goes_on(database: Database) -> None:
    for n in range(50):
        database.write(lambda txn, n=n: txn.execute(f"INSERT INTO t VALUES ({n})"))
    held = database._connection.status(apsw.SQLITE_DBSTATUS_STMT_USED)[0]
    database.rest()
    assert database._connection.status(apsw.SQLITE_DBSTATUS_STMT_USED)[0] < held / 2
    assert database.value("PRAGMA journal_mode") == "wal"
    database.write(lambda txn: txn.execute("INSERT INTO t VALUES (50)"))
    assert database.value("SELECT count(*) FROM t") == 51


def test_rest_leaves_the_room_of_a_big_job(database: Database) -> None:
    """A first synchronisation whose server has gone away goes on later."""
    usual = database.value("PRAGMA cache_size")
    database.page_cache(9_000)
    database.rest()
    assert database.value("PRAGMA cache_size") == -9_000
    database.page_cache()
    database.rest()
    assert database.value("PRAGMA cache_size") == usual


def test_rest_inside_a_transaction_changes_nothing(database: Database) -> None:
    def work(txn: Txn) -> None:
        txn.execute("INSERT INTO t VALUES (1)")
        database.rest()
        txn.execute("INSERT INTO t VALUES (2)")

    database.write(work)
    assert database.rows("SELECT n FROM t") == [(1,), (2,)]


@pytest.mark.parametrize("there", ["another", None])
def test_rest_keeps_to_the_file_that_was_opened(tmp_path: Path, database: Database, there: str | None) -> None:
    """What takes its place under way (a copy that came back) is looked at when the store is opened, not before."""
    database.write(lambda txn: txn.execute("INSERT INTO t VALUES (1)"))
    database.path.rename(tmp_path / "moved")
    if there:
        Database(tmp_path / there, (SCHEMA,)).close()
        (tmp_path / there).rename(database.path)
    database.rest()
    assert database.rows("SELECT n FROM t") == [(1,)]
    assert database.path.exists() == bool(there)


def test_rest_while_the_file_is_copied_leaves_the_copy_whole(tmp_path: Path, database: Database) -> None:
    database.write(lambda txn: txn.executemany("INSERT INTO t VALUES (?)", [(n,) for n in range(50_000)]))
    rests = []

    def pause() -> None:
        database.rest()
        rests.append(1)

    database.copy(tmp_path / "copy", pause)
    assert len(rests) > 1
    copied = Database(tmp_path / "copy", (SCHEMA,))
    assert copied.value("SELECT count(*) FROM t") == 50_000
    copied.close()
