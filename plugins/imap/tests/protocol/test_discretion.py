"""What a server says of a command ends in logs: nothing that is somebody's own stays in it."""

from __future__ import annotations

import pytest
from jmapplug_imap.protocol.auth import Credentials
from jmapplug_imap.protocol.commands import Astring, Mailbox
from jmapplug_imap.protocol.discretion import discreet
from jmapplug_imap.protocol.errors import CommandNo, ConnectionBroken

FOLDER = Mailbox(b"Work/Gr&APwA3w-e")


@pytest.mark.parametrize(
    ("text", "command", "shown"),
    [
        ("Mailbox doesn't exist: Work/Grüße", ("SELECT", FOLDER), "Mailbox doesn't exist: …"),
        ("Mailbox doesn't exist: Work/Gr&APwA3w-e", ("SELECT", FOLDER), "Mailbox doesn't exist: …"),
        ("opendir(/srv/mail/ada/.WORK.Grüße) failed", ("SELECT", FOLDER), "opendir(/srv/mail/ada/.….…) failed"),
        ("No such folder (workshop)", ("SELECT", FOLDER), "No such folder (workshop)"),
        ("INBOX is in use", ("SELECT", Mailbox(b"INBOX")), "INBOX is in use"),
        (
            "Invalid keyword: Divorce",
            ("UID STORE", "1:4", "+FLAGS.SILENT", ["\\Seen", "Divorce"]),
            "Invalid keyword: …",
        ),
        ("Invalid keyword: Divorce", ("APPEND", FOLDER, ["Divorce"]), "Invalid keyword: …"),
        ("Unknown UID", ("UID FETCH", "1:4", ["UID", "FLAGS"]), "Unknown UID"),
        ("what is 'pay rise'?", ("UID SEARCH", "TEXT", Astring("pay rise")), "what is '…'?"),
        ("what is (a*?", ("UID SEARCH", "OR", ["TEXT", Astring(b"(a*")]), "what is …?"),
        ("", ("NOOP",), ""),
    ],
)
def test_what_a_command_named_is_not_repeated(text, command, shown):
    assert discreet(text, [command], None) == shown


def test_neither_is_the_folder_that_is_open():
    assert discreet("Mailbox secret plan was deleted", [("NOOP",)], b"secret plan") == "Mailbox … was deleted"


def test_errors_goodbyes_and_alerts_keep_their_reason_and_lose_the_name(serve):
    def script(peer):
        peer.login()
        peer.answer('STATUS "secret plan" .*', end=b"NO [NONEXISTENT] no such folder: secret plan")
        peer.answer('SELECT "secret plan"', b"* 0 EXISTS\r\n* NO [ALERT] secret plan is full\r\n", b"OK done")
        peer.expect("NOOP")
        peer.send(b"* BYE secret plan is gone\r\n")

    connection = serve(script).open()
    connection.login(Credentials("anna", "x"))
    with pytest.raises(CommandNo, match="no such folder: …") as caught:
        connection.command("STATUS", Mailbox(b"secret plan"), ["MESSAGES"])
    assert caught.value.code == "nonexistent"
    connection.select(b"secret plan")
    assert connection.alerts == ["… is full"]
    with pytest.raises(ConnectionBroken, match="… is gone"):
        connection.noop()
