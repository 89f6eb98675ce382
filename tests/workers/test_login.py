"""A login as its account's worker sees it, with a real registry and the other accounts' real workers."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

import pytest

from jmapplug.errors import MethodError
from jmapplug.store import uploads
from jmapplug.store.account import Store
from jmapplug.workers.errors import Conflict, NotFound, WorkerUnavailable
from jmapplug.workers.login import Login

URN = "urn:test:house"


@pytest.fixture
def client(house):
    found = house.client()
    for name, pool in (("alice", None), ("bob", "alice"), ("carol", None)):
        settings = {"username": name, "password": "secret", "host": "nowhere"}
        header = {"accountid": name, "email": f"{name}@example.com", "type": "house", "settings": settings}
        found.call("__accounts__", "create", header | ({"pool": pool} if pool else {}))
    return found


@pytest.fixture
def login(client):
    made = Login("alice", "alice", client)
    yield made
    made.unwatch()
    made.unfollow()


def subscribers(client, name):
    return client.call(name, "status", retry=True)[0]["subscribers"]


def test_it_stands_for_its_pool_and_credentials(client, login):
    token = client.call("__accounts__", "token_create", {"accountid": "bob", "name": "t"})[0]["id"]
    standing = login.standing()
    assert standing.accounts == ("alice", "bob")
    assert token in standing.credentials and len(standing.credentials) == 2
    assert login.states() == {}, "nobody is followed who is not asked for"
    with pytest.raises(NotFound):
        Login("nobody", "nobody", client).standing()


def test_a_replaced_secret_is_stored_once_however_often_it_is_told(client, login):
    was, now = {"password": "secret"}, {"password": "replaced"}
    stored = login.renew(was, now)
    assert stored["settings"]["password"] == "replaced"
    assert login.renew(was, now) == stored == client.call("__accounts__", "open", {"accountid": "alice"})[0]
    with pytest.raises(Conflict):
        login.renew(was, {"password": "another"})


def test_the_pools_other_accounts_tell_of_their_changes(house, client, login):
    changes = []
    login.follow(lambda: changes.append(login.states()))
    house.until(lambda: login.states().keys() == {"bob"}, "bob's states")
    login.gather(house.patience)
    state = house.jmap(client, "bob", "touch")["state"]
    house.until(lambda: changes and changes[-1]["bob"]["House"] == state, "the news")
    house.jmap(client, "carol", "touch")
    house.jmap(client, "alice", "touch")
    assert {name for each in changes for name in each} == {"bob"}


def test_a_killed_worker_is_followed_again(house, client, login, kill):
    changes = []
    login.follow(lambda: changes.append(login.states()))
    house.until(login.states, "bob's states")
    kill(house.children(client)["bob"]["pid"])
    house.until(lambda: subscribers(client, "bob") == 1, "it follows again")
    state = house.jmap(client, "bob", "touch")["state"]
    house.until(lambda: changes[-1]["bob"]["House"] == state, "the news")


def test_who_joins_is_followed_and_who_leaves_is_not(house, client, login):
    changes = []
    login.follow(lambda: changes.append(login.states()))
    house.until(login.states, "bob's states")
    settings = {"username": "d", "password": "secret", "host": "nowhere"}
    header = {"accountid": "dave", "email": "d@example.com", "type": "house", "settings": settings, "pool": "alice"}
    client.call("__accounts__", "create", header)
    login.standing()
    login.gather(house.patience)
    assert login.states().keys() == {"bob", "dave"}
    client.call("__accounts__", "delete", {"accountid": "bob"})
    login.standing()
    assert login.states().keys() == {"dave"}
    assert changes[-1].keys() >= {"dave"}, "its first states are news"


def test_following_ends_and_lets_the_other_workers_idle_out(house, client, login):
    login.follow(lambda: None)
    house.until(lambda: subscribers(client, "bob") == 1, "it follows")
    login.unfollow()
    house.until(lambda: subscribers(client, "bob") == 0, "it does not")
    assert login.states() == {}
    login.standing()
    assert login.states() == {}


def test_what_happens_to_the_login_is_told_and_what_happens_to_others_is_not(house, client, login, kill):
    told = []
    login.watch(lambda: told.append(1))
    token = client.call("__accounts__", "token_create", {"accountid": "bob", "name": "t"})[0]["id"]
    other = client.call("__accounts__", "token_create", {"accountid": "carol", "name": "t"})[0]["id"]
    client.call("__accounts__", "token_revoke", {"id": other})
    client.call("__accounts__", "token_revoke", {"id": token})
    house.until(lambda: told, "the revocation")
    assert len(told) == 1
    kill(house.children(client)["__accounts__"]["pid"])
    house.until(lambda: len(told) == 2, "what may have been missed while the registry was away")
    client.call("__accounts__", "heal", {"accountid": "alice", "password": "another"})
    house.until(lambda: len(told) == 3, "another password")


def test_without_a_registry_nobody_can_tell(house, login, monkeypatch):
    def away(*args, **more):
        raise WorkerUnavailable

    monkeypatch.setattr(login._client, "call", away)
    with pytest.raises(WorkerUnavailable):
        login.standing()
    login.follow(lambda: None)
    assert login.states() == {}


def test_methods_of_the_pools_other_accounts_are_asked_in_their_workers(house, client, login):
    login.check_source("bob")
    for stranger in ("carol", "nobody"):
        with pytest.raises(MethodError) as caught:
            login.check_source(stranger)
        assert caught.value.type == "fromAccountNotFound"
    assert login.ask("bob", "House/about", {}, [URN])["pid"] == house.children(client)["bob"]["pid"]
    for name, using, type_ in (
        ("House/nothing", [URN], "unknownMethod"),
        ("House/about", [], "unknownMethod"),
        ("House/die", [URN], "serverPartialFail"),
    ):
        with pytest.raises(MethodError) as caught:
            login.ask("bob", name, {}, using)
        assert caught.value.type == type_
    with pytest.raises(MethodError) as caught:
        login.ask("nobody", "House/about", {}, [URN])
    assert caught.value.type == "accountNotFound", "one that has gone since the login was asked for"


def test_blobs_of_the_pools_other_accounts_are_copied(client, login, tmp_path):
    folder = Path(client.call("bob", "upload_path", retry=True)[0]["path"])
    blob_id = f"f-{uuid.uuid4()}"
    (folder / blob_id).write_bytes(b"words")
    header = {"id": blob_id, "path": str(folder / blob_id), "type": "text/x-words", "size": 5}
    client.call("bob", "upload", header)
    store = Store(tmp_path / "here")
    made = uploads.find(store, login.bring("bob", blob_id, store), time.time())
    assert (made.type, made.size) == ("text/x-words", 5)
    assert store.blobs.upload_path(made.id).read_bytes() == b"words"
    assert login.bring("bob", f"f-{uuid.uuid4()}", store) is None
    # Its file is gone, evicted again and again: as unknown as any other.
    (folder / blob_id).unlink()
    assert login.bring("bob", blob_id, store) is None
    uploads.discard(store, [made.id])
    assert uploads.find(store, made.id, time.time()) is None and not store.blobs.upload_path(made.id).exists()
    store.close()
