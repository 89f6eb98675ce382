"""What a login stands for: accounts and credentials, by names that tell nobody a password."""

from __future__ import annotations

import time

import pytest

from jmapplug.errors import SettingError
from jmapplug.registry.credentials import Vault
from jmapplug.workers.errors import NotFound


def standing(registry, name="alice"):
    return registry.standings.standing({"accountid": name})


def mark(registry, name="alice"):
    return registry.standings.pool({"accountid": name})["mark"]


def test_a_login_stands_for_its_pool_and_every_credential_of_it(registry, add):
    add()
    add("bob", pool="alice")
    add("carol")
    end = int(time.time()) + 100
    one = registry.tokens.create({"accountid": "alice", "name": "t"})["id"]
    two = registry.tokens.create({"accountid": "bob", "name": "t", "expires": end})["id"]
    assert standing(registry) == {
        "accounts": ["alice", "bob"],
        "credentials": {one: None, two: end, mark(registry): None},
    }
    assert standing(registry, "bob")["credentials"] == {one: None, two: end, mark(registry, "bob"): None}
    assert standing(registry, "carol") == {"accounts": ["carol"], "credentials": {mark(registry, "carol"): None}}
    with pytest.raises(NotFound):
        standing(registry, "nobody")


def test_a_token_that_ends_in_any_way_is_no_credential_any_more(registry, add, monkeypatch):
    add()
    add("bob", pool="alice")
    end = int(time.time()) + 100
    revoked, expired, owners = (
        registry.tokens.create({"accountid": name, "name": "t", "expires": expires})["id"]
        for name, expires in (("alice", None), ("alice", end), ("bob", None))
    )
    registry.tokens.revoke({"id": revoked})
    registry.delete({"accountid": "bob"})
    assert registry.events[-1] == {"revoked": "bob", "pool": "alice"}
    assert standing(registry)["credentials"].keys() == {expired, mark(registry)} and owners
    monkeypatch.setattr(time, "time", lambda: end + 1.0)
    assert standing(registry)["credentials"].keys() == {mark(registry)}


def test_a_pool_says_when_the_token_of_a_login_ends(registry, add):
    add()
    add("bob", pool="alice")
    end = int(time.time()) + 100
    lasting = registry.tokens.create({"accountid": "alice", "name": "t"})["id"]
    short = registry.tokens.create({"accountid": "bob", "name": "t", "expires": end})["id"]
    ends = {
        login: registry.standings.pool({"accountid": "alice", "login": login})["ends"]
        for login in (lasting, short, "password", "cookie", None)
    }
    assert ends == {lasting: None, short: end, "password": None, "cookie": None, None: None}


def test_a_passwords_mark_changes_with_the_password_and_with_nothing_else(registry, add):
    add()
    add("bob", settings={"password": "alice-secret", "host": "h"})
    first = mark(registry)
    assert "secret" not in first and first != mark(registry, "bob"), "the same password in another account"
    settings = registry.open({"accountid": "alice"})["settings"]
    registry.update({"accountid": "alice", "settings": settings | {"host": "elsewhere"}})
    assert mark(registry) == first
    registry.update({"accountid": "alice", "settings": settings | {"password": "another"}})
    second = mark(registry)
    registry.heal({"accountid": "alice", "password": "a third"})
    assert len({first, second, mark(registry)}) == 3
    assert registry.events[-1] == {"revoked": "alice", "pool": "alice"}, "who logged in with the old one is asked again"
    registry.heal({"accountid": "alice", "password": "alice-secret"})
    assert mark(registry) == first, "the same service gives the same password the same mark, also after a restart"


def test_an_account_without_a_password_has_no_mark(registry, add):
    add(settings={"host": "h"})
    assert mark(registry) is None
    assert standing(registry)["credentials"] == {}


def test_what_cannot_be_read_is_an_error_and_not_the_end_of_a_credential(registry, add):
    """Whoever asks would take a missing password for a changed one, and end what was built on it."""
    add()
    registry._shelf._vault = Vault(b"\1" * 32)
    with pytest.raises(SettingError):
        standing(registry)
    assert mark(registry) is None
