"""What a write costs on a real Dovecot: round trips, commits (each of own.sqlite3 waits for the disk), statements.

Counted, not timed. *Steps* are the statements with repetitions left out: a statement that runs for each of a hundred
rows is one, a statement that is asked anew for each Email is a hundred.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from email_rig import lines
from imap_rig import Account

from jmapplug.testing.dovecot import Dovecot

MANY = 100


class Cost:
    """``trips`` to the mail server, ``own`` and ``cache``: the statements on each file, in their order."""

    def __init__(self, account: Account, work: Callable[[], object]) -> None:
        self.own: list[str] = []
        self.cache: list[str] = []
        source = account.session.mail
        traced = ((account.store.own, self.own), (account.store.cache, self.cache))
        for database, heard in traced:
            database._connection.set_exec_trace(lambda cursor, sql, values, heard=heard: heard.append(sql) or True)
        before = source.round_trips
        try:
            work()
        finally:
            for database, _ in traced:
                database._connection.set_exec_trace(None)
        self.trips = source.round_trips - before

    @property
    def commits(self) -> tuple[int, int]:
        return self.own.count("COMMIT"), self.cache.count("COMMIT")

    @property
    def steps(self) -> int:
        return sum(1 for _ in groupby(self.own)) + sum(1 for _ in groupby(self.cache))


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory, dovecot: Dovecot) -> Iterator[Account]:
    mail = {f"m{n}": lines(f"Subject: m{n}", f"Message-ID: <m{n}@x>", "", "text", "") for n in range(MANY)}
    account = Account(tmp_path_factory.mktemp("costs") / "account", dovecot, mail)
    # The first write of an account makes its Drafts, Sent and Trash.
    update(account, 1, {"keywords/$answered": True})
    yield account
    account.close()


def update(account: Account, count: int, patch: dict[str, Any]) -> None:
    ids = [account.emails[f"m{n}"] for n in range(count)]
    reply = account.call("Email/set", update=dict.fromkeys(ids, patch))
    assert set(reply["updated"]) == set(ids), reply


def box(account: Account, role: str) -> str:
    boxes = account.call("Mailbox/get", ids=None, properties=["role"])["list"]
    return next(str(box["id"]) for box in boxes if box["role"] == role)


def keyword(account: Account, count: int, name: str) -> Cost:
    """Of setting a keyword that none of them bears, the folder being open."""
    update(account, count, {f"keywords/{name}": None})
    return Cost(account, lambda: update(account, count, {f"keywords/{name}": True}))


def test_a_keyword_is_one_round_trip_one_commit_and_no_wait_for_the_disk(account: Account) -> None:
    cost = keyword(account, 1, "$flagged")
    assert (cost.trips, cost.commits) == (1, (0, 1))
    assert cost.own == [], "nothing of it is ours alone"
    assert cost.steps <= 18


def test_a_hundred_keywords_take_the_steps_of_one(account: Account) -> None:
    one, many = keyword(account, 1, "$flagged"), keyword(account, MANY, "$flagged")
    assert (many.trips, many.commits) == (1, (0, 1))
    assert many.steps == one.steps


def test_threads_are_read_and_written_only_for_what_concerns_them(account: Account) -> None:
    assert not any(" thread " in sql or "mailbox_thread" in sql for sql in keyword(account, MANY, "$flagged").cache)
    assert sum("UPDATE thread " in sql for sql in keyword(account, MANY, "$seen").cache) == MANY


def test_a_move_of_a_hundred_waits_for_the_disk_once(account: Account) -> None:
    inbox, drafts = box(account, "inbox"), box(account, "drafts")

    def move(count: int, target: str) -> Cost:
        return Cost(account, lambda: update(account, count, {"mailboxIds": {target: True}}))

    move(1, drafts)
    one = move(1, inbox)
    move(MANY, drafts)
    many = move(MANY, inbox)
    # SELECT of the other folder; then the questions and MOVE, in one write.
    assert many.trips == one.trips == 2
    assert many.commits == one.commits == (1, 1)
    assert many.steps == one.steps


def test_a_draft_waits_for_the_disk_once(account: Account) -> None:
    record = {
        "mailboxIds": {box(account, "drafts"): True},
        "keywords": {"$draft": True},
        "subject": "A draft",
        "bodyValues": {"1": {"value": "text"}},
        "textBody": [{"partId": "1", "type": "text/plain"}],
    }

    def create(count: int) -> Cost:
        drafts = {f"d{n}": record for n in range(count)}
        return Cost(account, lambda: account.call("Email/set", create=drafts)["created"].__getitem__("d0"))

    create(1)
    one, many = create(1), create(20)
    # APPEND and its question in one write; what the server made of it.
    assert one.trips == many.trips == 2
    assert one.commits == many.commits == (1, 1)
    assert one.steps <= 35


@pytest.fixture
def empty(tmp_path: Path, dovecot: Dovecot) -> Iterator[Account]:
    account = Account(tmp_path / "account", dovecot, {"m0": lines("Subject: m0", "", "text", "")})
    update(account, 1, {"keywords/$answered": True})
    yield account
    account.close()


def test_a_write_that_changes_nothing_asks_nobody(empty: Account) -> None:
    cost = Cost(empty, lambda: update(empty, 1, {"keywords/$answered": True}))
    assert (cost.trips, cost.commits) == (0, (0, 0))


def test_what_people_do_all_day_finds_its_statements_prepared(account: Account) -> None:
    inbox, drafts = box(account, "inbox"), box(account, "drafts")

    def day() -> None:
        for target in (drafts, inbox):
            update(account, 1, {"keywords/$flagged": True})
            update(account, 1, {"mailboxIds": {target: True}, "keywords/$flagged": None})
            account.service.sync()
            found = account.call("Email/query", filter={"inMailbox": inbox}, limit=50)["ids"]
            account.call("Email/get", ids=found, properties=["subject", "keywords"])

    day()
    before = account.store.cache._connection.cache_stats()
    day()
    after = account.store.cache._connection.cache_stats()
    assert after["hits"] - before["hits"] > 100
    assert after["misses"] == before["misses"]
