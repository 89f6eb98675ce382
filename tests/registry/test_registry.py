"""Accounts, pools, logins and tokens."""

from __future__ import annotations

import json
import sqlite3
import time

import gevent
import pytest
from sqlalchemy.exc import IntegrityError

from jmapplug.errors import JmapplugError, SettingError, SetupError, StorageError
from jmapplug.registry import database as database_module
from jmapplug.registry.database import Database
from jmapplug.registry.service import COMMANDS, Registry
from jmapplug.registry.store import Records
from jmapplug.workers.errors import Conflict, NotFound


def test_a_created_account_is_listed_without_its_secrets(registry, add):
    assert add() == {"created": True}
    (listed,) = registry.listing({})["accounts"]
    assert listed["accountid"] == "alice"
    assert listed["host"] == "h"
    assert listed["status"] == "new"
    assert listed["pool"] == "alice"
    assert "secret" not in str(listed)
    assert registry.get({"accountid": "alice"}) == listed


def test_no_secret_lies_in_the_file_in_clear(registry, add, settings):
    add()
    registry.tokens.create({"accountid": "alice", "name": "phone"})
    registry.flush()
    data = b"".join(path.read_bytes() for path in settings.datadir.glob("accounts.sqlite3*"))
    assert b"alice-login" in data
    assert b"alice-secret" not in data


def test_its_worker_gets_the_settings_in_clear(registry, add):
    add()
    opened = registry.open({"accountid": "alice"})
    assert opened["settings"] == {"username": "alice-login", "password": "alice-secret", "host": "h"}


def test_creating_the_same_account_again_is_no_error_and_another_one_is_a_conflict(registry, add):
    add()
    assert add() == {"created": False}
    for other in ({"email": "x@y"}, {"settings": {"password": "else"}}):
        with pytest.raises(Conflict):
            add(**other)
    assert len(registry.listing({})["accounts"]) == 1


def test_a_setting_that_the_account_is_older_than_is_no_conflict_until_it_is_given(registry, add):
    add()
    known = {"username": "alice-login", "password": "alice-secret", "host": "h"}
    assert add(settings=known | {"newer": None, "newest": ""}) == {"created": False}
    with pytest.raises(Conflict):
        add(settings=known | {"newer": "x"})


@pytest.mark.parametrize(
    "accountid",
    ["", None, 7, "..", ".", "a/b", "a\0b", "x" * 129, "__accounts__", "-a", "a b", "ä", "a\n", ".deleted-1"],
)
def test_an_id_that_could_be_a_path_or_is_reserved_is_refused(add, accountid):
    with pytest.raises(SetupError) as caught:
        add(accountid)
    assert caught.value.field == "accountid"


@pytest.mark.parametrize("email", ["", "x", "a b@c", "a@b\n", "@", "x" * 400 + "@y", None, 3])
def test_a_bad_address_names_its_field(add, email):
    with pytest.raises(SetupError) as caught:
        add(email=email)
    assert caught.value.field == "email"


def test_an_unknown_backend_is_refused_for_its_secrets_would_lie_in_clear(add):
    with pytest.raises(SetupError) as caught:
        add(type="nothing")
    assert caught.value.field == "type"


@pytest.mark.parametrize(
    "command", ["get", "update", "delete", "open", "pool", "heal", "report", "token_create", "token_list"]
)
def test_every_command_on_an_unknown_account_is_not_found(registry, command):
    with pytest.raises(NotFound):
        COMMANDS[command](registry, {"accountid": "nobody", "password": "x", "name": "x"})


def test_accounts_of_one_pool_see_each_other_and_nobody_else(registry, add):
    add()
    add("bob", pool="alice")
    add("carol")
    names = [
        [one["id"] for one in registry.standings.pool({"accountid": name})["accounts"]]
        for name in ("alice", "bob", "carol")
    ]
    assert names == [["alice", "bob"], ["bob", "alice"], ["carol"]]
    with pytest.raises(SetupError) as caught:
        add("dave", pool="nobody")
    assert caught.value.field == "pool"


def test_an_update_changes_what_it_names_restarts_the_worker_and_tells_fronts(registry, add, control):
    add()
    registry.update({"accountid": "alice", "email": "new@example.com"})
    assert registry.get({"accountid": "alice"})["email"] == "new@example.com"
    assert registry.open({"accountid": "alice"})["settings"]["password"] == "alice-secret"
    registry.update({"accountid": "alice", "settings": {"password": "p2"}})
    assert registry.open({"accountid": "alice"})["settings"] == {"password": "p2"}
    assert control.asked == [("stop", "alice")] * 2
    assert registry.events[-1] == {"revoked": "alice", "pool": "alice"}


def test_deleting_removes_rows_tokens_worker_and_files(registry, add, control, settings):
    add()
    token = registry.tokens.create({"accountid": "alice", "name": "t"})["token"]
    folder = settings.account_folder("alice")
    (folder / "parts").mkdir(parents=True)
    (folder / "parts" / "x").touch()
    registry.delete({"accountid": "alice"})
    assert control.asked == [("remove", "alice")]
    assert not list(folder.parent.iterdir())
    assert registry.listing({}) == {"accounts": []}
    with pytest.raises(NotFound):
        registry.tokens.login({"token": token})
    with pytest.raises(NotFound):
        registry.delete({"accountid": "alice"})
    assert add() == {"created": True}


def test_a_deletion_that_a_crash_cut_short_is_finished_at_the_next_start(registry, add, control, settings):
    add()
    folder = settings.account_folder("alice")
    folder.mkdir(parents=True)
    (folder.parent / ".deleted-0").mkdir()
    registry._db.run(lambda records: records.remove_account("alice"))
    with pytest.raises(Conflict):
        add()
    registry.finish_deletions()
    assert not list(folder.parent.iterdir())
    assert add() == {"created": True}


@pytest.mark.parametrize("name", ["alice", "alice@example.com", "ALICE@EXAMPLE.COM", "alice-login", "Alice-Login"])
def test_a_login_by_id_address_or_upstream_name_takes_the_stored_password(registry, add, name):
    add()
    add("bob")
    assert registry.login({"name": name, "password": "alice-secret"}) == {"accountid": "alice", "login": "password"}
    assert registry.login({"name": name, "password": "bob-secret"}) == {"candidates": ["alice"]}


def test_a_login_nobody_has_finds_no_candidate(registry, add):
    add()
    assert registry.login({"name": "nobody", "password": "alice-secret"}) == {"candidates": []}
    assert registry.login({"name": "", "password": ""}) == {"candidates": []}


def test_an_account_without_a_password_lets_nobody_in(registry, add):
    add(settings={"username": "u"})
    for password in ("", "None", "null"):
        assert registry.login({"name": "alice", "password": password}) == {"candidates": ["alice"]}


def test_one_address_in_two_accounts_is_told_apart_by_the_password(registry, add):
    add()
    add("bob", email="alice@example.com")
    assert registry.login({"name": "alice@example.com", "password": "bob-secret"}) == {
        "accountid": "bob",
        "login": "password",
    }


def test_a_token_of_the_pool_is_taken_as_a_password_and_a_strangers_is_not(registry, add):
    add()
    add("bob", pool="alice")
    add("carol")
    made = registry.tokens.create({"accountid": "bob", "name": "t"})
    token = made["token"]
    assert registry.login({"name": "alice", "password": token}) == {"accountid": "alice", "login": made["id"]}
    assert registry.login({"name": "carol", "password": token}) == {"candidates": ["carol"]}


def test_a_healed_password_is_the_stored_one_and_the_worker_begins_anew(registry, add, control):
    """Whether the mail server has refused the old one to it yet or not: it may be waiting for an hour (wish 12)."""
    add()
    seal = registry.open({"accountid": "alice"})["seal"]
    registry.heal({"accountid": "alice", "password": "new"})
    assert registry.login({"name": "alice", "password": "new"}) == {"accountid": "alice", "login": "password"}
    assert control.asked == [("stop", "alice")]
    assert registry.open({"accountid": "alice"})["seal"] != seal
    registry.report({"accountid": "alice", "error": "refused"})
    registry.heal({"accountid": "alice", "password": "newer"})
    assert control.asked == [("stop", "alice")] * 2


def test_a_secret_that_the_upstream_replaced_is_the_stored_one_and_the_worker_goes_on(registry, add, control, settings):
    """OAuth refresh tokens (RFC 6749 §6). The same question once more, its answer lost, changes nothing."""
    add()
    before, events = registry.open({"accountid": "alice"}), len(registry.events)
    news = {"accountid": "alice", "was": {"password": "alice-secret"}, "now": {"password": "r3placed"}}
    opened = registry.renew(news)
    assert opened["settings"] == before["settings"] | {"password": "r3placed"} and opened["seal"] != before["seal"]
    assert registry.renew(news) == registry.open({"accountid": "alice"}) == opened
    assert control.asked == [] and len(registry.events) == events
    assert not [file for file in settings.datadir.iterdir() if b"r3placed" in file.read_bytes()]


def test_an_update_keeps_what_the_upstream_has_replaced_since_it_was_asked_for(registry, add):
    add()
    was = registry.open({"accountid": "alice"})["settings"]
    registry.renew({"accountid": "alice", "was": {"password": "alice-secret"}, "now": {"password": "r3placed"}})
    registry.update({"accountid": "alice", "settings": was | {"host": "new", "more": 1}, "was": was})
    now = was | {"password": "r3placed", "host": "new", "more": 1}
    assert registry.open({"accountid": "alice"})["settings"] == now
    registry.update({"accountid": "alice", "settings": was | {"password": "typed"}, "was": was})
    assert registry.open({"accountid": "alice"})["settings"]["password"] == "typed"


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ({"password": "stale"}, {"password": "new"}),
        ({}, {"password": "new"}),
        ({"host": "h"}, {"host": "elsewhere"}),
    ],
)
def test_what_a_worker_does_not_know_or_is_no_secret_is_not_replaced(registry, add, was, now):
    add()
    opened = registry.open({"accountid": "alice"})
    with pytest.raises(Conflict):
        registry.renew({"accountid": "alice", "was": was, "now": now})
    with pytest.raises(NotFound):
        registry.renew({"accountid": "bob", "was": was, "now": now})
    assert registry.open({"accountid": "alice"}) == opened


def test_settings_written_once_more_break_the_seal_even_where_they_are_the_same(registry, add):
    add()
    opened = registry.open({"accountid": "alice"})
    registry.update({"accountid": "alice", "settings": opened["settings"]})
    again = registry.open({"accountid": "alice"})
    assert again["settings"] == opened["settings"] and again["seal"] != opened["seal"]


def test_a_token_logs_in_until_it_is_revoked(registry, add):
    add()
    made = registry.tokens.create({"accountid": "alice", "name": "phone"})
    assert registry.tokens.login({"token": made["token"]})["accountid"] == "alice"
    (listed,) = registry.tokens.listing({"accountid": "alice"})["tokens"]
    assert listed["name"] == "phone"
    assert made["token"] not in str(listed)
    registry.tokens.revoke({"id": made["id"]})
    assert registry.events[-1] == {"revoked": made["id"], "pool": "alice"}
    for _ in range(2):
        with pytest.raises(NotFound):
            registry.tokens.login({"token": made["token"]})
    with pytest.raises(NotFound):
        registry.tokens.revoke({"id": made["id"]})


def test_a_token_has_256_bits_and_only_its_hash_is_stored(registry, add, settings):
    add()
    token = registry.tokens.create({"accountid": "alice", "name": "t"})["token"]
    assert len(token.removeprefix("jp_")) == 43
    data = b"".join(path.read_bytes() for path in settings.datadir.glob("accounts.sqlite3*"))
    assert token.removeprefix("jp_").encode() not in data


def test_an_expired_token_is_none(registry, add, monkeypatch):
    add()
    expires = int(time.time()) + 100
    token = registry.tokens.create({"accountid": "alice", "name": "t", "expires": expires})["token"]
    assert registry.tokens.login({"token": token})["expires"] == expires
    monkeypatch.setattr(time, "time", lambda: expires + 1.0)
    with pytest.raises(NotFound):
        registry.tokens.login({"token": token})
    assert registry.login({"name": "alice", "password": token}) == {"candidates": ["alice"]}


@pytest.mark.parametrize("more", [{"name": ""}, {"name": "x" * 201}, {"name": 1}, {"expires": 5}, {"expires": "soon"}])
def test_a_token_with_a_bad_name_or_time_names_the_field(registry, add, more):
    add()
    with pytest.raises(SetupError) as caught:
        registry.tokens.create({"accountid": "alice", "name": "t"} | more)
    assert caught.value.field in more


@pytest.mark.parametrize("token", ["", "jp_", "x" * 10_000, None, "jp_\ud800", "'; DROP TABLE tokens; --"])
def test_what_is_no_token_is_not_found(registry, token):
    with pytest.raises(NotFound):
        registry.tokens.login({"token": token})


def test_a_report_is_listed_at_once_and_survives_a_restart(registry, add, settings, control):
    add()
    told = {"folders": 3, "messages": 9, "last_sync": 1000.0, "error": None, "offers": ["mail"], "phase": "history"}
    registry.report({"accountid": "alice", **told, "rubbish": "x"})
    listed = registry.get({"accountid": "alice"})
    assert (listed["folders"], listed["messages"], listed["status"], listed["offers"]) == (3, 9, "syncing", ["mail"])
    registry.flush()
    registry.report({"accountid": "alice", "folders": 4, "messages": 9, "last_sync": None})
    assert registry.get({"accountid": "alice"})["lastSync"] == 1000.0
    registry.flush()
    again = Registry(settings, registry._shelf._plugins, control)
    listed = again.get({"accountid": "alice"})
    assert (listed["folders"], listed["lastSync"], listed["status"]) == (4, 1000.0, "ok")
    again.close()


def test_facts_of_the_upstream_are_told_to_the_fronts_and_outlive_the_worker_that_learnt_them(registry, add):
    add("alice")
    told = []
    registry.broadcast = lambda name, body: told.append(body)
    facts = {"urn:x": {"sizes": [1, 2]}}
    registry.report({"accountid": "alice", "offers": ["mail"], "facts": facts})
    assert told == [{"changed_account": "alice"}]
    registry.report({"accountid": "alice", "offers": ["mail"], "facts": {}})
    registry.report({"accountid": "alice", "offers": ["mail"], "facts": {"urn:y": {}}})
    assert registry.standings.pool({"accountid": "alice"})["accounts"][0]["facts"] == {**facts, "urn:y": {}}
    assert len(told) == 2


def test_a_report_of_a_deleted_account_is_not_found(registry, add):
    add()
    registry.delete({"accountid": "alice"})
    with pytest.raises(NotFound):
        registry.report({"accountid": "alice", "folders": 1})


def test_fifty_greenlets_at_once_all_get_what_they_asked_for(registry, add):
    def work(number):
        add(f"u{number}")
        registry.heal({"accountid": f"u{number}", "password": f"p{number}"})
        return registry.login({"name": f"u{number}", "password": f"p{number}"})

    greenlets = [gevent.spawn(work, number) for number in range(50)]
    gevent.joinall(greenlets, timeout=60, raise_error=True)
    assert [greenlet.value for greenlet in greenlets] == [
        {"accountid": f"u{number}", "login": "password"} for number in range(50)
    ]


def test_a_failed_job_leaves_nothing_behind_and_the_next_one_works(registry, add):
    def half(records):
        records.add_account(
            {"accountid": "h", "email": "h@h", "type": "t", "login": "h", "poolid": "h", "settings": "{}", "created": 1}
        )
        raise KeyError("half way")

    with pytest.raises(KeyError):
        registry._db.run(half)
    assert registry._db.run(Records.accounts) == []
    assert add() == {"created": True}


def test_a_misspelt_column_never_becomes_a_new_one(registry, add, settings):
    add()
    registry._db.run(lambda records: records.change_account("alice", {"emial": "x"}))
    columns = sqlite3.connect(settings.datadir / "accounts.sqlite3").execute("PRAGMA table_info(accounts)").fetchall()
    assert "emial" not in {column[1] for column in columns}


def test_a_file_of_a_newer_version_is_left_alone(tmp_path, monkeypatch):
    Database(tmp_path / "a.sqlite3").close()
    monkeypatch.setattr(database_module, "MIGRATIONS", ())
    with pytest.raises(JmapplugError, match="newer version"):
        Database(tmp_path / "a.sqlite3")


def test_a_changed_key_is_an_error_and_no_empty_password(registry, add, settings, control):
    add()
    other = Registry(
        type(settings)(**{**{f: getattr(settings, f) for f in settings.__struct_fields__}, "secret_key": "cd" * 32}),
        registry._shelf._plugins,
        control,
    )
    with pytest.raises(SettingError):
        other.open({"accountid": "alice"})
    other.close()


def test_a_commit_that_fails_does_not_stop_the_next_transaction(registry, add):
    """dataset forgets a transaction whose COMMIT failed; the connection below it does not."""
    add()

    def breaks_at_its_end(records):
        records.change_account("alice", {"email": "other@example.com"})
        records._query("PRAGMA defer_foreign_keys = ON")
        records.add_token({"id": "x", "accountid": "nobody", "name": "x", "hash": "x", "created": 0, "expires": None})

    with pytest.raises(IntegrityError):
        registry._db.run(breaks_at_its_end)
    assert registry.listing({})["accounts"][0]["accountid"] == "alice"
    assert registry._db.run(lambda records: records.tokens("nobody")) == []


def test_a_disk_that_is_full_is_said(registry, add):
    add()

    def full(records):
        records._query("PRAGMA max_page_count = 1")
        records.change_account("alice", {"report": "x" * 500_000})

    with pytest.raises(StorageError, match="full"):
        registry._db.run(full)
    registry._db.run(lambda records: records._query("PRAGMA max_page_count = 1000000"))
    assert registry.listing({})["accounts"][0]["accountid"] == "alice"
    registry.report({"accountid": "alice", "folders": 7})
    registry.flush()
    assert "7" in registry._db.run(lambda records: records.account("alice"))["report"]


def test_what_an_account_offers_is_written_at_once_and_the_rest_later(registry, add, monkeypatch):
    """Its Session depends on it, and its worker may tell of it again in ten minutes only."""
    add()

    def written():
        return json.loads(registry._db.run(lambda records: records.account("alice"))["report"])

    registry.report({"accountid": "alice", "folders": 5, "offers": ["mail"]})
    assert (written()["folders"], written()["offers"]) == (5, ["mail"])
    registry.report({"accountid": "alice", "folders": 6, "offers": ["mail"]})
    assert written()["folders"] == 5
    registry.report({"accountid": "alice", "folders": 7, "offers": ["mail"], "facts": {"urn:x": {"size": 1}}})
    assert (written()["folders"], written()["facts"]) == (7, {"urn:x": {"size": 1}})
    registry.report({"accountid": "alice", "folders": 8, "offers": ["mail"]})
    real = registry._db.run

    def fails(job):
        raise StorageError("full")

    monkeypatch.setattr(registry._db, "run", fails)
    assert registry.report({"accountid": "alice", "folders": 9, "offers": ["mail", "quota"]}) == {}
    monkeypatch.setattr(registry._db, "run", real)
    registry.flush()
    assert (written()["folders"], written()["offers"]) == (9, ["mail", "quota"])


def test_reports_that_could_not_be_written_are_written_later(registry, add, monkeypatch):
    add()
    registry.report({"accountid": "alice", "folders": 9})
    real = registry._db.run

    def fails(job):
        raise StorageError("full")

    monkeypatch.setattr(registry._db, "run", fails)
    with pytest.raises(StorageError):
        registry.flush()
    monkeypatch.setattr(registry._db, "run", real)
    registry.flush()
    assert '"folders":9' in registry._db.run(lambda records: records.account("alice"))["report"]
