"""The supervisor, its workers and the way to them, with real processes (process rules 1-9)."""

from __future__ import annotations

import json
import os
import signal
import socket as plain_socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import gevent
import msgspec
import pytest

from jmapplug.errors import SettingError
from jmapplug.workers import control, paths
from jmapplug.workers.children import pause_after
from jmapplug.workers.client import WorkerClient
from jmapplug.workers.errors import NotFound, RemoteError, WorkerUnavailable
from jmapplug.workers.worker import BUSY_LOOK, Worker

FRONT = """
import sys
from jmapplug.settings import load
from jmapplug.workers.client import WorkerClient
import msgspec
client = WorkerClient(load(msgspec.json.decode(sys.argv[1])))
client.start()
print(client.control("status")["pid"], flush=True)
sys.stdin.read()
"""


def front(house):
    """A front in a process of its own: (process, pid of the supervisor that it found or started)."""
    process = subprocess.Popen(
        [sys.executable, "-c", FRONT, json.dumps(house.env)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    return process, int(process.stdout.readline())


def blocked(house, client, name="one", **more):
    """A method call that is under way in the worker: (greenlet, function that lets it go)."""
    begun, go = house.folder / f"{name}.begun", house.folder / f"{name}.go"
    greenlet = gevent.spawn(house.jmap, client, "alice", "block", begun=str(begun), go=str(go), **more)
    house.until(begun.exists, "the call's beginning")
    return greenlet, go.touch


def supervisor_of(client):
    return client.control("status")["pid"]


# --- asking


def test_a_method_call_reaches_its_worker_and_comes_back(house):
    client = house.client()
    assert house.add(client) == {"created": True}
    answer = house.jmap(client, "alice", "about")
    assert answer["pid"] == house.children(client)["alice"]["pid"]
    assert answer["password"] == "secret"


def test_many_calls_are_in_flight_on_one_connection_and_each_gets_its_own_answer(house):
    client = house.client()
    house.add(client)
    slow, go = blocked(house, client)
    calls = [gevent.spawn(client.call, "alice", "ping", {"n": n}, bytes([n]) * (n * 3000)) for n in range(100)]
    gevent.joinall(calls, timeout=20, raise_error=True)
    assert [call.value for call in calls] == [({"n": n}, bytes([n]) * (n * 3000)) for n in range(100)]
    assert not slow.ready()
    go()
    assert slow.get(timeout=20)["pid"]


def test_a_payload_of_many_megabytes_comes_back_whole(house):
    client = house.client()
    house.add(client)
    data = os.urandom(20_000_000)
    assert client.call("alice", "ping", {}, data)[1] == data


def test_what_a_method_raises_is_that_calls_error_and_the_worker_lives_on(house):
    client = house.client()
    house.add(client)
    pid = house.jmap(client, "alice", "about")["pid"]
    got = [house.jmap(client, "alice", "raises", what=what) for what in ("auth", "upstream", "defect")]
    assert [answer["type"] for answer in got] == ["serverUnavailable", "serverUnavailable", "serverFail"]
    assert "defect" not in str(got)
    assert house.jmap(client, "alice", "about")["pid"] == pid


def test_a_run_gets_the_responses_of_earlier_runs_and_gives_its_creation_ids(house):
    client = house.client()
    house.add(client)
    call = ["House/touch", {"accountId": "alice", "#x": {"resultOf": "a", "name": "Other/get", "path": "/v"}}, "b"]
    body = {"using": ["urn:test:house"], "methodCalls": [call], "createdIds": {"k": "v"}}
    previous = [["Other/get", {"v": 1}, "a"]]
    header, answer = client.call("alice", "jmap", {"run": True}, msgspec.json.encode(body | {"previous": previous}))
    answered = json.loads(answer)
    assert answered["methodResponses"][0][0] == "House/touch"
    assert answered["createdIds"] == {"k": "v"}
    assert header["calls"][0][0] == "House/touch"


def test_an_account_that_does_not_exist_is_not_found(house):
    client = house.client()
    with pytest.raises(NotFound):
        client.call("nobody", "ping")
    house.until(lambda: not Path(paths.socket_path(house.settings, "nobody")).exists(), "the end of its socket")


def test_a_command_that_does_not_exist_is_not_found_and_a_bad_one_fails_alone(house):
    client = house.client()
    house.add(client)
    with pytest.raises(NotFound):
        client.call("alice", "no-such")
    with pytest.raises(RemoteError):
        client.call("alice", "jmap", {}, b"not JSON")
    with pytest.raises(NotFound):
        client.call("alice", "blob", {"blob_id": "zz-1"})
    assert client.call("alice", "ping", {"a": 1})[0] == {"a": 1}


# --- process rules 1, 2, 4


def test_the_supervisor_has_no_hub_and_no_thread_after_all_plugins_even_one_that_imports_requests(house):
    site = house.folder / "site"
    with open(site / "house_plugin.py", "a") as file:
        file.write("\nimport requests\n")
    client = house.client()
    house.add(client)
    # The plugin asserts "no hub" when it is imported, the supervisor before each fork: a fork is the proof.
    house.jmap(client, "alice", "about")
    status = client.control("status")
    assert len(os.listdir(f"/proc/{status['pid']}/task")) == 1


def test_preloading_leaves_no_hub(house):
    code = (
        "from gevent import monkey; monkey.patch_all()\n"
        "import os; from jmapplug.settings import load; from jmapplug.workers import plain, preload\n"
        "found = preload.load(load(os.environ)); plain.assert_no_hub(); assert 'house' in found.backends\n"
        "import sys; assert not {'flask', 'dataset', 'requests', 'authlib'} & set(sys.modules), 'kept out of workers'\n"
        "import gevent; gevent.get_hub()\n"
        "try: plain.assert_no_hub()\n"
        "except AssertionError: sys.exit(7)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ, **house.env}, check=False).returncode == 7


def test_a_worker_holds_none_of_the_supervisors_descriptors_and_ignores_ctrl_c(house, kill):
    client = house.client()
    house.add(client)
    pid = house.jmap(client, "alice", "about")["pid"]
    links = {os.path.realpath(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
    assert paths.lock_path(house.settings) not in links
    assert not any("pidfd" in link for link in links)
    kill(pid, signal.SIGINT)
    assert house.jmap(client, "alice", "about")["pid"] == pid


def test_sockets_and_folders_are_this_users_alone(house):
    client = house.client()
    house.add(client)
    client.call("alice", "ping")
    for path in (paths.socket_path(house.settings, "alice"), paths.control_path(house.settings)):
        assert os.stat(path).st_mode & 0o777 == 0o600
    assert os.stat(house.settings.run_folder).st_mode & 0o777 == 0o700
    assert os.stat(house.settings.datadir / "accounts.sqlite3").st_mode & 0o777 == 0o600


# --- kill -9


def test_killing_the_front_that_started_the_supervisor_leaves_it_to_the_others(house, kill):
    process, started = front(house)
    client = house.client()
    house.add(client)
    slow, go = blocked(house, client)
    kill(process.pid)
    process.communicate()
    go()
    assert slow.get(timeout=20)["pid"]
    assert supervisor_of(client) == started


def test_killing_the_supervisor_finishes_what_is_under_way_and_the_next_request_answers(house, kill):
    client = house.client()
    house.add(client)
    old = supervisor_of(client)
    slow, go = blocked(house, client)
    before = house.children(client)["alice"]["pid"]
    kill(old)
    house.ended(old)
    following = gevent.spawn(house.jmap, client, "alice", "about")
    go()
    assert slow.get(timeout=20)["pid"] == before
    assert following.get(timeout=20)["pid"]
    house.ended(before)
    assert house.jmap(client, "alice", "about")["pid"] != before
    assert supervisor_of(client) != old


def test_killing_the_supervisor_while_nobody_asks_brings_a_new_one(house, kill):
    client = house.client()
    old = supervisor_of(client)
    kill(old)
    house.until(lambda: client._lease is not None and client._lease.pid != old, "the new lease")
    assert supervisor_of(client) != old


def test_killing_a_worker_in_a_request_fails_that_one_and_the_next_answers(house, kill):
    client = house.client()
    house.add(client)
    slow, _ = blocked(house, client)
    pid = house.children(client)["alice"]["pid"]
    kill(pid)
    with pytest.raises(WorkerUnavailable) as caught:
        slow.get(timeout=20)
    assert caught.value.sent_upstream
    assert house.jmap(client, "alice", "about")["pid"] != pid
    assert house.children(client)["alice"]["restarts"] == 1


def test_killing_a_worker_in_a_reading_request_asks_the_next_worker_once_more(house, kill):
    client = house.client()
    house.add(client)
    slow, go = blocked(house, client, retry=True)
    pid = house.children(client)["alice"]["pid"]
    kill(pid)
    go()
    assert slow.get(timeout=20)["pid"] != pid


def test_the_end_of_a_worker_that_nobody_has_read_yet_fails_no_request(house, kill):
    client = house.client()
    house.add(client)
    pid = house.jmap(client, "alice", "about")["pid"]
    kill(pid)
    house.ended_unseen(pid)
    assert house.jmap(client, "alice", "about")["pid"] != pid


def test_a_request_that_kills_every_worker_is_given_up_and_others_still_answer(house):
    client = house.client()
    house.add(client)
    with pytest.raises(WorkerUnavailable):
        house.jmap(client, "alice", "die", retry=True)
    assert house.jmap(client, "alice", "about")["pid"]


def test_killing_the_registry_loses_no_account(house, kill):
    client = house.client()
    house.add(client)
    kill(house.children(client)["__accounts__"]["pid"])
    answer, _ = client.call("__accounts__", "get", {"accountid": "alice"}, retry=True)
    assert answer["email"] == "alice@example.com"


def test_restarts_back_off_but_the_first_is_at_once():
    assert [pause_after(n) for n in range(5)] == [0, 0, 0.25, 0.5, 1.0]
    assert pause_after(50) == pause_after(9999) == 30


# --- idling out


def test_a_worker_that_ends_under_load_loses_no_request(house):
    client = house.client()
    house.add(client)
    others = [house.client() for _ in range(2)]
    pids, answered = set(), []
    done = gevent.event.Event()

    def ask(asker):
        while not done.is_set():
            answered.append(asker.call("alice", "ping", {"n": 1}, timeout=20))

    def end():
        while len(pids) < 20:
            pids.add(house.jmap(client, "alice", "about")["pid"])
            client.call("alice", "stop")
        done.set()

    asking = [gevent.spawn(ask, asker) for asker in (client, *others) for _ in range(3)]
    gevent.joinall([gevent.spawn(end), *asking], timeout=60, raise_error=True)
    assert len(pids) == 20
    assert len(answered) >= 200


def test_an_idle_worker_ends_and_the_next_request_starts_another(house):
    house.env["JMAP_IDLE_TIMEOUT"] = "1"
    house.settings = house.load()
    client = house.client()
    house.add(client)
    pid = house.jmap(client, "alice", "about")["pid"]
    house.ended(pid)
    assert house.jmap(client, "alice", "about")["pid"] != pid
    assert house.children(client)["alice"]["restarts"] == 0


def test_a_subscriber_keeps_its_worker_and_an_unsubscribed_one_idles_out(house):
    house.env["JMAP_IDLE_TIMEOUT"] = "1"
    house.settings = house.load()
    client = house.client()
    house.add(client)
    house.add(client, "bob")
    subscription = client.subscribe("alice", lambda event: None)
    alice = house.children(client)["alice"]["pid"]
    house.ended(house.jmap(client, "bob", "about")["pid"])
    assert house.children(client)["alice"]["pid"] == alice
    subscription.close()
    house.ended(alice)


def test_a_worker_that_stays_for_a_subscriber_looks_once_a_minute_and_an_unused_one_ends_in_time():
    now = time.monotonic()
    worker = object.__new__(Worker)
    worker.settings = SimpleNamespace(idle_timeout=300)
    worker.server = SimpleNamespace(in_flight=0, subscribers=["one"], last_used=now - 1000)
    worker.loop, worker.account = SimpleNamespace(unfinished=False), SimpleNamespace(busy=False)
    assert worker._patience() == BUSY_LOOK
    worker.server.subscribers.clear()
    assert worker._patience() < 0.01
    worker.server.last_used = now - 290
    assert worker._patience() <= 10
    worker.settings.idle_timeout, worker.server.in_flight = 2, 1
    assert worker._patience() == 2


# --- stopping


def test_sigterm_finishes_the_request_under_way_and_leaves_no_process_and_no_socket(house, kill):
    client = WorkerClient(house.settings, lead=False)
    lease = control.ensure_supervisor(house.settings)
    house.add(client)
    slow, go = blocked(house, client)
    pids = [child["pid"] for child in house.children(client).values()]
    kill(lease.pid, signal.SIGTERM)
    go()
    assert slow.get(timeout=20)["pid"]
    house.ended(lease.pid)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    assert not list(house.settings.run_folder.glob("*.sock"))
    client.close()
    lease.close()


def test_a_request_that_never_ends_does_not_stop_the_end(house, kill):
    client = WorkerClient(house.settings, lead=False)
    lease = control.ensure_supervisor(house.settings)
    house.add(client)
    slow, _ = blocked(house, client)
    assert lease.shut_down(timeout=5.0)
    house.ended(lease.pid)
    with pytest.raises(WorkerUnavailable):
        slow.get(timeout=20)
    client.close()


def test_the_supervisor_ends_with_its_last_front_and_not_before(house):
    first, second = control.ensure_supervisor(house.settings), control.ensure_supervisor(house.settings)
    assert first.pid == second.pid
    first.close(final=True)
    assert not second.wait_gone(timeout=0.3)
    second.close()  # not final: a front that is being replaced
    house.ended(second.pid)
    third = control.ensure_supervisor(house.settings)
    assert third.pid != second.pid
    assert third.shut_down()


def test_what_a_killed_supervisor_left_does_not_stop_the_next_start(house, kill):
    process, pid = front(house)
    kill(process.pid)
    kill(pid)
    process.communicate()
    house.ended(pid)
    assert Path(paths.control_path(house.settings)).exists()
    client = house.client()
    assert house.add(client) == {"created": True}


def test_ten_fronts_at_once_find_one_supervisor(house):
    leases = [gevent.spawn(control.ensure_supervisor, house.settings) for _ in range(10)]
    gevent.joinall(leases, timeout=30, raise_error=True)
    assert len({lease.value.pid for lease in leases}) == 1
    for lease in leases:
        lease.value.close(final=True)


# --- starting


def test_a_busy_management_port_is_one_clear_line(house):
    with plain_socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingError, match=f"JMAP_MGMT_PORT 127.0.0.1:{port}: the port is in use"):
            control.ensure_supervisor(house.load(JMAP_MGMT_PORT=port))


def test_the_management_port_is_inherited_from_who_has_bound_it(house, monkeypatch):
    with plain_socket.create_server(("127.0.0.1", 0)) as bound:
        monkeypatch.setenv(control.MGMT_FD, str(bound.fileno()))
        lease = control.ensure_supervisor(house.load(JMAP_MGMT_PORT=bound.getsockname()[1]))
        assert lease.shut_down()


def test_a_data_folder_that_is_too_long_or_not_a_folder_is_one_clear_line(house):
    with pytest.raises(SettingError, match="too long"):
        control.ensure_supervisor(house.load(JMAP_DATADIR=house.folder / ("x" * 100)))
    (house.folder / "file").touch()
    with pytest.raises(SettingError, match="JMAP_DATADIR"):
        control.ensure_supervisor(house.load(JMAP_DATADIR=house.folder / "file"))


@pytest.mark.parametrize(
    "line", [b"rubbish\n", b"[]\n", b'{"command":"no"}\n', b'{"command":"ensure","id":7}\n', b'{"command":"ensure"}\n']
)
def test_a_bad_command_to_the_supervisor_is_answered_and_harms_nothing(house, line):
    client = house.client()
    with plain_socket.socket(plain_socket.AF_UNIX) as sock:
        sock.connect(paths.control_path(house.settings))
        sock.settimeout(10)
        sock.sendall(line)
        assert b'"error"' in sock.recv(4096)
    assert supervisor_of(client)


# --- events


def test_a_change_made_through_one_front_reaches_the_subscriber_of_another(house):
    client, other = house.client(), house.client()
    house.add(client)
    events = []
    with other.subscribe("alice", events.append):
        state = house.jmap(client, "alice", "touch")["state"]
        house.until(lambda: events, "the event")
    assert events[0]["changed"] == {"House": state}
    assert events[0]["id"] == state


def test_a_subscriber_learns_what_changed_while_its_worker_was_away(house, kill):
    client = house.client()
    house.add(client)
    events = []
    with client.subscribe("alice", events.append):
        first = house.jmap(client, "alice", "touch")["state"]
        house.until(lambda: {"House": first} in [e.get("changed") for e in events], "the first event")
        kill(house.children(client)["alice"]["pid"])
        house.until(lambda: {"restarted": True} in events, "the new subscription")
        second = house.jmap(client, "alice", "touch")["state"]
        house.until(lambda: {"House": second} in [e.get("changed") for e in events], "the second event")


def test_a_later_subscriber_gets_what_it_missed_and_nothing_it_has_seen(house):
    client = house.client()
    house.add(client)
    seen, late, fresh = [], [], []
    with client.subscribe("alice", seen.append):
        house.jmap(client, "alice", "touch")
        house.until(lambda: seen, "the event")
        with client.subscribe("alice", late.append, since=""):
            assert late[0]["changed"].items() >= seen[0]["changed"].items()
            assert late[0]["id"] == seen[0]["id"]
        with client.subscribe("alice", fresh.append, since=seen[0]["id"]):
            house.jmap(client, "alice", "touch")
            house.until(lambda: fresh, "the next event")
        assert [event["id"] for event in fresh] == [seen[1]["id"]]


def test_a_position_from_before_the_cache_was_lost_brings_everything(house, kill):
    """The new cache counts from the beginning: a number alone would soon look like one that was told."""
    client = house.client()
    house.add(client)
    seen, late = [], []
    with client.subscribe("alice", seen.append):
        house.jmap(client, "alice", "touch")
        house.until(lambda: seen, "the event")
        for path in house.settings.account_folder("alice").glob("cache.sqlite3*"):
            path.unlink()
        kill(house.children(client)["alice"]["pid"])
        house.until(lambda: {"restarted": True} in seen, "the new subscription")
        for _ in range(3):
            house.jmap(client, "alice", "touch")
        state = house.jmap(client, "alice", "touch")["state"]
        house.until(lambda: (seen[-1].get("changed") or {}).get("House") == state, "the newest event")
        with client.subscribe("alice", late.append, since=seen[0]["id"]):
            assert late[0]["changed"].keys() > {"House"}
            assert late[0]["changed"]["House"] == state


def test_a_subscription_to_no_account_ends_with_gone(house):
    client = house.client()
    events = []
    client.subscribe("nobody", events.append)
    house.until(lambda: events == [{"gone": True}], "gone")


# --- __accounts__ over the wire


def test_fifty_greenlets_on_the_registry_all_get_their_answers(house):
    client = house.client()

    def work(number):
        name = f"user{number}"
        house.add(client, name)
        token, _ = client.call("__accounts__", "token_create", {"accountid": name, "name": "t"})
        answer, _ = client.call("__accounts__", "token_login", {"token": token["token"]})
        return answer["accountid"]

    workers = [gevent.spawn(work, number) for number in range(50)]
    gevent.joinall(workers, timeout=60, raise_error=True)
    assert [worker.value for worker in workers] == [f"user{number}" for number in range(50)]
    listed, _ = client.call("__accounts__", "list")
    assert len(listed["accounts"]) == 50


def test_deleting_an_account_ends_its_worker_and_removes_every_file(house):
    client = house.client()
    house.add(client)
    pid = house.jmap(client, "alice", "about")["pid"]
    folder = house.settings.account_folder("alice")
    assert (folder / "own.sqlite3").exists()
    client.call("__accounts__", "delete", {"accountid": "alice"})
    assert not Path(f"/proc/{pid}").exists()
    assert not list(folder.parent.iterdir())
    with pytest.raises(NotFound):
        client.call("alice", "ping")
    assert house.add(client) == {"created": True}


def test_new_settings_reach_the_worker_with_the_next_request(house):
    client = house.client()
    house.add(client)
    assert house.jmap(client, "alice", "about")["password"] == "secret"
    settings = {"username": "a", "password": "other", "host": "h"}
    client.call("__accounts__", "update", {"accountid": "alice", "settings": settings})
    assert house.jmap(client, "alice", "about")["password"] == "other"


def test_a_sync_tells_its_error_and_the_list_shows_it_until_one_succeeds(house):
    client = house.client()
    house.add(client)
    client.call("alice", "sync")
    listed, _ = client.call("__accounts__", "get", {"accountid": "alice"})
    assert (listed["status"], listed["error"], listed["folders"]) == ("ok", None, 1)
    assert listed["lastSync"]
    (house.settings.account_folder("alice") / "away").touch()
    with pytest.raises(Exception, match="away") as caught:
        client.call("alice", "sync")
    assert type(caught.value).__name__ == "UpstreamError"
    listed, _ = client.call("__accounts__", "get", {"accountid": "alice"})
    assert (listed["status"], listed["error"]) == ("error", "away")


def test_revoking_a_token_is_told_to_subscribed_fronts(house):
    client = house.client()
    house.add(client)
    token, _ = client.call("__accounts__", "token_create", {"accountid": "alice", "name": "t"})
    events = []
    with client.subscribe("__accounts__", events.append):
        client.call("__accounts__", "token_revoke", {"id": token["id"]})
        house.until(lambda: {"revoked": token["id"], "pool": "alice"} in events, "the revocation")
    with pytest.raises(NotFound):
        client.call("__accounts__", "token_login", {"token": token["token"]})


def test_a_finished_upload_is_taken_over_under_its_own_name_and_only_from_its_folder(house):
    client = house.client()
    house.add(client)
    folder = Path(client.call("alice", "upload_path")[0]["path"])
    ident = "f-01234567-89ab-cdef-0123-456789abcdef"
    part = folder / f"{ident}.part"
    part.write_bytes(b"data")
    header = {"id": ident, "path": str(part), "type": "text/plain", "size": 4}
    assert client.call("alice", "upload", header)[0] == {"blob_id": ident, "type": "text/plain", "size": 4}
    assert (folder / ident).read_bytes() == b"data"
    elsewhere = house.folder / "elsewhere"
    elsewhere.write_bytes(b"mine")
    bad = [{"path": str(elsewhere)}, {"path": str(folder / "none")}, {"id": "f-../../x"}, {"id": "m-1"}]
    for more in bad:
        with pytest.raises(NotFound):
            client.call("alice", "upload", header | more)
    assert elsewhere.read_bytes() == b"mine"


def test_a_worker_keeps_to_itself_little_memory_and_none_of_the_fronts_packages(house):
    client = house.client()
    house.add(client)
    pid = house.jmap(client, "alice", "about")["pid"]
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    kilobytes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    assert kilobytes["Private_Dirty"] + kilobytes["Private_Clean"] < 12_000
    maps = Path(f"/proc/{pid}/maps").read_text()
    assert "apsw" in maps
    assert not [name for name in ("sqlalchemy", "markupsafe", "_sqlite3") if name in maps]
    environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    assert b"MALLOC_ARENA_MAX=1" in environ, "threads leave no memory of their own behind"


def test_a_management_process_that_lingers_on_its_port_does_not_delay_a_new_supervisor(house, kill):
    with plain_socket.create_server(("127.0.0.1", 0)) as free:
        house.env["JMAP_MGMT_PORT"] = str(free.getsockname()[1])
    house.settings = house.load()
    client = house.client()
    house.add(client)
    old, management = supervisor_of(client), house.children(client)["__management__"]["pid"]
    kill(management, signal.SIGSTOP)
    kill(old)
    house.ended(old)
    assert house.jmap(client, "alice", "about", retry=True)["pid"]
    kill(management)
    house.until(lambda: house.children(client).get("__management__"), "the new management process")
