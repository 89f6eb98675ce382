"""The servers that tests stand on really run."""

import smtplib
import ssl

from jmapplug.testing.cyrus import Cyrus
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


def test_dovecot_refuses_what_a_small_user_has_no_room_for(dovecot: Dovecot) -> None:
    message = b"Subject: large\r\n\r\n" + (b"x" * 76 + b"\r\n") * 9000
    small, large = dovecot.imap(dovecot.new_user("small")), dovecot.imap(dovecot.new_user())
    assert len(message) * 2 > dovecot.small_quota > len(message)
    assert [client.append("INBOX", "", "", message)[0] for client in (small, small, large, large)] == [
        "OK",
        "NO",
        "OK",
        "OK",
    ]
    for client, answer in ((small, "NO"), (large, "OK")):
        client.select("INBOX")
        assert client.copy("1", "Trash")[0] == answer
        client.logout()


def test_dovecot_submission_wants_a_login_and_speaks_starttls(dovecot_submission: Dovecot) -> None:
    client = smtplib.SMTP(dovecot_submission.host, dovecot_submission.submission_port, local_hostname="localhost")
    assert client.mail("a@example.org")[0] == 530
    client.starttls(context=ssl.create_default_context(cafile=str(dovecot_submission.ca_file)))
    client.ehlo()
    assert client.esmtp_features["auth"].split() == ["PLAIN", "LOGIN"]
    client.close()


def test_pymap_has_object_ids_and_no_condstore(pymap_server: Pymap) -> None:
    client = pymap_server.imap(pymap_server.new_user())
    offered = client.capability()[1][0]
    assert b"OBJECTID" in offered
    assert b"CONDSTORE" not in offered
    client.logout()


def test_cyrus_makes_a_fresh_users_folders(cyrus: Cyrus) -> None:
    client = cyrus.imap(cyrus.new_user())
    assert {b"OBJECTID", b"QRESYNC", b"IDLE"} <= set(client.capability()[1][0].split())
    listed = b"\n".join(client.list()[1]).lower()
    assert all(b"\\" + role in listed for role in (b"drafts", b"sent", b"trash", b"junk", b"archive"))
    assert client.getquotaroot("INBOX")[1][1] == [f"INBOX (STORAGE 0 {cyrus.quota // 1024})".encode()]
    client.logout()
