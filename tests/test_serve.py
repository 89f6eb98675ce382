"""``jmapplug serve`` and gunicorn: starting, refusing to start, stopping, several fronts on the same workers."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.ports import HOST, PATIENCE, free_ports, running, wait_until
from jmapplug.testing.proxy import Http, Proxy

SERVE = [sys.executable, "-m", "jmapplug", "serve"]


def refused(folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """What a start that must fail says."""
    port, mgmt = free_ports(2)
    given = {"JMAP_HOST": HOST, "JMAP_PORT": str(port), "JMAP_MGMT_PORT": str(mgmt), "JMAP_DATADIR": str(folder)}
    return subprocess.run(SERVE, env=os.environ | given | environ, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(("name", "setting"), [("JMAP_PORT", "JMAP_PORT"), ("JMAP_MGMT_PORT", "JMAP_MGMT_PORT")])
def test_a_port_in_use_stops_the_start_with_one_line_and_status_2(tmp_path: Path, name: str, setting: str) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        done = refused(tmp_path, **{name: str(taken.getsockname()[1])})
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"jmapplug: {setting} ")
    assert "in use" in done.stderr


@pytest.mark.parametrize(
    ("name", "value"), [("JMAP_SECRET_KEY", "short"), ("JMAP_PORT", "eighty"), ("JMAP_MGMT_HOST", "0.0.0.0")]
)
def test_a_bad_setting_stops_the_start_with_one_line_and_status_2(tmp_path: Path, name: str, value: str) -> None:
    done = refused(tmp_path, **{name: value})
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "short" not in done.stderr


def test_a_data_folder_that_is_none_stops_the_start_with_one_line_and_status_2(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    done = refused(file / "data")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("jmapplug: JMAP_DATADIR ")


def test_a_stored_key_that_is_damaged_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "secret.key").write_text("not a key")
    done = refused(tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "not a key" not in done.stderr


@pytest.mark.parametrize("how", ["garbage", "a page", "missing"])
def test_a_damaged_registry_stops_the_start_and_says_what_to_do(tmp_path: Path, how: str) -> None:
    """Going on would lose every account; the daily copy is named."""
    path = tmp_path / "accounts.sqlite3"
    with contextlib.closing(sqlite3.connect(path)) as made:
        made.execute("CREATE TABLE accounts (accountid TEXT, more TEXT)")
        made.executemany("INSERT INTO accounts VALUES (?, ?)", [(f"a{n}", "x" * 500) for n in range(100)])
        made.commit()
    good = path.read_bytes()
    (tmp_path / "accounts.sqlite3.backup").write_bytes(good)
    path.write_bytes(b"no database" * 1000 if how == "garbage" else good[:8192] + b"\xa5" * 4096 + good[12288:])
    if how == "missing":
        path.unlink()
    done = refused(tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "accounts.sqlite3 is damaged" in done.stderr and "accounts.sqlite3.backup (made 20" in done.stderr
    assert (tmp_path / "accounts.sqlite3.backup").read_bytes() == good
    assert how == "missing" or path.read_bytes() != good, "it is left as it is"


def descendants(proxy: Proxy) -> list[int]:
    """Every process whose environment names this proxy's data folder, but this one."""
    wanted = f"JMAP_DATADIR={proxy.folder / 'data'}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue
    return [pid for pid in found if running(pid)]


def test_sigterm_leaves_no_process_and_the_next_start_works(dovecot: Dovecot) -> None:
    proxy = Proxy()
    try:
        proxy.add("alice", dovecot, dovecot.new_user())
        assert len(descendants(proxy)) >= 5
        proxy.process.send_signal(signal.SIGTERM)
        assert proxy.process.wait(PATIENCE) == 0
        wait_until(lambda: not descendants(proxy), "every process has ended")
        proxy.start()
        assert proxy.management.send("GET", "/api/accounts/alice").status == 200
    finally:
        proxy.stop()


def test_sigterm_in_the_middle_of_a_start_is_obeyed_too() -> None:
    proxy = Proxy()  # its ports are open; the supervisor may not be there yet
    try:
        proxy.process.send_signal(signal.SIGTERM)
        assert proxy.process.wait(PATIENCE) == 0
        wait_until(lambda: not descendants(proxy), "every process has ended")
    finally:
        proxy.stop()


def test_kill_9_of_the_front_leaves_nothing_that_blocks_the_next_start(dovecot: Dovecot) -> None:
    proxy = Proxy()
    try:
        client = proxy.add("alice", dovecot, dovecot.new_user())
        proxy.process.kill()
        proxy.process.wait()
        wait_until(lambda: not descendants(proxy), "the supervisor notices and ends everything")
        proxy.start()
        assert Http(proxy.port).send("GET", "/session", headers=client.headers).status == 200
    finally:
        proxy.stop()


def test_two_gunicorn_workers_answer_for_one_account_and_see_each_others_changes(dovecot: Dovecot) -> None:
    """The workers behind them are the same: whichever front a request meets, the state is one."""
    command = [sys.executable, "-m", "gunicorn", "-k", "gevent", "-w", "2", "-b", HOST + ":{port}"]
    proxy = Proxy([*command, "--no-control-socket", "jmapplug.wsgi:app"])
    try:
        user = dovecot.new_user()
        client = proxy.add("alice", dovecot, user)
        wait_until(lambda: len(gunicorn_workers(proxy)) == 2, "there are two fronts")
        fronts = gunicorn_workers(proxy)
        dovecot.imap(user).append("INBOX", "", "", b"Subject: x\r\n\r\nx\r\n")
        proxy.sync("alice")
        states = set()
        for front in fronts:
            # With the other one held still, this front has to answer.
            other = next(pid for pid in fronts if pid != front)
            os.kill(other, signal.SIGSTOP)
            try:
                fresh = proxy.client("alice", user, dovecot.password)
                answer = fresh.call("Email/query", filter=None, calculateTotal=True)
                assert answer["total"] == 1
                states.add(answer["queryState"])
            finally:
                os.kill(other, signal.SIGCONT)
        assert len(states) == 1
        assert proxy.worker_pid(client.account)
        proxy.process.send_signal(signal.SIGTERM)
        proxy.process.wait(PATIENCE)
        wait_until(lambda: not descendants(proxy), "every process has ended")
    finally:
        proxy.stop()


def gunicorn_workers(proxy: Proxy) -> list[int]:
    text = Path(f"/proc/{proxy.process.pid}/task/{proxy.process.pid}/children").read_text()
    return [int(pid) for pid in text.split() if b"gunicorn" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_gunicorn_ends_with_an_open_stream(dovecot: Dovecot) -> None:
    command = [sys.executable, "-m", "gunicorn", "-k", "gevent", "-w", "2", "-b", HOST + ":{port}"]
    command += ["--graceful-timeout", str(int(PATIENCE * 10)), "--no-control-socket"]
    proxy = Proxy([*command, "jmapplug.wsgi:app"])
    try:
        client = proxy.add("alice", dovecot, dovecot.new_user())
        client.connection.request("GET", "/eventsource?ping=0", headers=client.headers)
        assert client.connection.getresponse().status == 200
        proxy.process.send_signal(signal.SIGTERM)
        # gunicorn's own patience with an open response is ten times as long as ours.
        assert proxy.process.wait(PATIENCE) == 0
    finally:
        proxy.stop()


def test_a_chunked_body_one_byte_over_the_limit_is_refused_by_gunicorn_too(dovecot: Dovecot) -> None:
    from tests.web.test_jmap_endpoint import chunked

    command = [sys.executable, "-m", "gunicorn", "-k", "gevent", "-w", "1", "-b", HOST + ":{port}"]
    proxy = Proxy([*command, "--no-control-socket", "jmapplug.wsgi:app"])
    try:
        client = proxy.add("alice", dovecot, dovecot.new_user())
        assert chunked(client, 10_000_000).startswith(b"HTTP/1.1 200 ")
        assert chunked(client, 10_000_001).startswith(b"HTTP/1.1 413 ")
    finally:
        proxy.stop()
