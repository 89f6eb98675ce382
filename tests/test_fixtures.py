"""The servers that tests stand on really run."""

from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.pymap_server import Pymap


def test_dovecot_accepts_a_fresh_user(dovecot: Dovecot) -> None:
    client = dovecot.imap(dovecot.new_user())
    assert b"CONDSTORE" in client.capability()[1][0]
    client.logout()


def test_courier_layout_puts_folders_under_inbox(dovecot_maildir: Dovecot) -> None:
    client = dovecot_maildir.imap(dovecot_maildir.new_user())
    assert b'"." INBOX.Trash' in b"\n".join(client.list()[1])
    client.logout()


def test_pymap_has_object_ids_and_no_condstore(pymap_server: Pymap) -> None:
    client = pymap_server.imap(pymap_server.new_user())
    offered = client.capability()[1][0]
    assert b"OBJECTID" in offered
    assert b"CONDSTORE" not in offered
    client.logout()
