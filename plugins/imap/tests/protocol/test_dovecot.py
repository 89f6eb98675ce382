"""The happy path on a real Dovecot."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from jmapplug_imap.protocol import (
    AuthenticationError,
    Connection,
    Credentials,
    Listed,
    Literal,
    Mailbox,
    MailboxStatus,
    Timeouts,
    default_context,
)

MESSAGE = (
    b"From: a@example.org\r\nSubject: one\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    b'--b\r\n\r\nHello there\r\n--b\r\nContent-Type: image/png; name="=?utf-8?q?=C3=A9?=.png"\r\n\r\nxx\r\n--b--\r\n'
)


def connect(dovecot, ssl: int, user: str, password: str | None = None) -> Connection:
    port = dovecot.tls_port if ssl == 2 else dovecot.port
    connection = Connection("localhost", port, ssl, dovecot.ca_file, Timeouts(connect=60, read=60))
    connection.open()
    connection.login(Credentials(user, dovecot.password if password is None else password))
    return connection


@pytest.mark.parametrize("ssl", [0, 1, 2, 3])
def test_each_ssl_number_logs_in_and_learns_the_capabilities_of_the_account(dovecot, ssl):
    with connect(dovecot, ssl, dovecot.new_user()) as connection:
        assert connection.has("qresync") and connection.has("LIST-STATUS") and not connection.has("STARTTLS")
        assert connection.noop().text


def test_a_wrong_password_is_told_as_such(dovecot):
    with pytest.raises(AuthenticationError):
        connect(dovecot, 1, dovecot.new_user(), "not this one")


@pytest.mark.parametrize("compress", [False, True])
def test_a_message_is_appended_listed_fetched_and_streamed(dovecot, tmp_path, compress):
    with connect(dovecot, 2, dovecot.new_user()) as connection:
        before = connection.round_trips
        connection.setup(identify={"name": "jmapplug"}, compress=compress)
        assert connection.round_trips == before + 1
        assert connection.compressed is compress and connection.enabled >= {"QRESYNC"}
        assert connection.server_id["name"] == "Dovecot"
        for name in (b"INBOX", b"Archive"):
            connection.command("APPEND", Mailbox(name), ["\\Seen"], Literal(MESSAGE))
        selected = connection.select(b"INBOX")
        assert (selected.exists, selected.uidnext) == (1, 2) and selected.highestmodseq
        items = ["UID", "FLAGS", "INTERNALDATE", "X-GUID", "MODSEQ", "RFC822.SIZE", "BODYSTRUCTURE", "PREVIEW"]
        (row,) = connection.fetch("1:*", [*items, "BODY.PEEK[HEADER.FIELDS (SUBJECT)]"])
        assert (row.uid, row.flags, row.size, row.preview) == (1, ("\\Seen",), len(MESSAGE), "Hello there")
        assert row.sections == {"HEADER.FIELDS": b"Subject: one\r\n\r\n"} and not row.damaged
        assert [(part.section, part.type, part.name) for part in row.structure.walk()] == [
            ("", "multipart/mixed", None),
            ("1", "text/plain", None),
            ("2", "image/png", "é.png"),
        ]
        with (tmp_path / "message").open("wb") as file:
            connection.fetch_all([1], ["BODY.PEEK[]"], on_literal=lambda start: file)
        assert (tmp_path / "message").read_bytes() == MESSAGE


def test_one_round_trip_tells_all_folders_and_their_status(dovecot):
    with connect(dovecot, 1, dovecot.new_user()) as connection:
        for key in (b"Entw&APw-rfe", b'a "b" \\c', b"NIL"):
            connection.command("CREATE", Mailbox(key))
        before = connection.round_trips
        status = ["STATUS", ["MESSAGES", "UIDNEXT", "UIDVALIDITY", "HIGHESTMODSEQ"]]
        result = connection.command("LIST", '""', "*", "RETURN", ["SUBSCRIBED", "SPECIAL-USE", *status])
        assert connection.round_trips == before + 1
        keys = {each.key for each in result.of(Listed)}
        assert {b"INBOX", b"Entw&APw-rfe", b'a "b" \\c', b"NIL"} <= keys
        assert {each.key for each in result.of(MailboxStatus)} == keys


def test_many_rows_come_the_fast_way_and_are_all_there(dovecot):
    with connect(dovecot, 1, dovecot.new_user()) as connection:
        connection.pipeline([["APPEND", Mailbox(b"INBOX"), Literal(b"Subject: %d\r\n\r\nx" % n)] for n in range(300)])
        connection.select(b"INBOX")
        rows = connection.fetch_all("1:*", ["UID", "FLAGS", "INTERNALDATE", "X-GUID"])
        assert [row.uid for row in rows] == list(range(1, 301))
        assert len({row.guid for row in rows}) == 300 and all(row.received_at for row in rows)


def test_qresync_tells_what_vanished_and_what_changed(dovecot):
    user = dovecot.new_user()
    with connect(dovecot, 1, user) as connection, connect(dovecot, 1, user) as other:
        connection.setup()
        connection.pipeline([["APPEND", Mailbox(b"INBOX"), Literal(b"Subject: %d\r\n\r\nx" % n)] for n in range(3)])
        first = connection.select(b"INBOX")
        connection.unselect()
        other.select(b"INBOX")
        other.command("UID STORE", "1", "+FLAGS", ["\\Deleted"])
        other.command("EXPUNGE")
        other.command("UID STORE", "3", "+FLAGS", ["\\Flagged"])
        again = connection.select(b"INBOX", qresync=(first.uidvalidity, first.highestmodseq))
        assert again.vanished == ((1, 1),)
        assert [(row.uid, row.flags) for row in again.rows] == [(3, ("\\Flagged",))]


GREENLETS = """
import gevent.monkey; gevent.monkey.patch_all()
import sys, gevent
from jmapplug_imap.protocol import Connection, Credentials, ConnectionBroken
host, port, ca, user, password = sys.argv[1:]
connection = Connection(host, int(port), 2, ca)
connection.open()
connection.login(Credentials(user, password))
connection.setup(compress=True)
connection.select(b"INBOX")
waiter = gevent.spawn(connection.idle, 60)
while connection._idle != "waiting":
    gevent.sleep(0)
connection.done()
assert waiter.get(timeout=60) == []
connection.noop()
waiter = gevent.spawn(connection.idle, 60)
while connection._idle != "waiting":
    gevent.sleep(0)
connection.abort()
waiter.join(60)
assert isinstance(waiter.exception, ConnectionBroken), waiter.exception
print("well")
"""


def test_idle_is_ended_by_another_greenlet(dovecot):
    arguments = ["localhost", str(dovecot.tls_port), str(dovecot.ca_file), dovecot.new_user(), dovecot.password]
    done = subprocess.run(
        [sys.executable, "-c", GREENLETS, *arguments],
        capture_output=True,
        text=True,
        timeout=180,
        cwd=Path(__file__).parents[4],
        env={"PYTHONPATH": "plugins/imap:."},
    )
    assert done.stdout.splitlines()[:1] == ["well"], done.stderr


def test_the_default_context_is_made_once():
    assert default_context() is default_context()
