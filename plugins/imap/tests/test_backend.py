"""The backend: settings are completed and tried on real servers."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import jmapplug_imap
import msgspec
import pluggy
import pytest
from jmapplug_imap import discovery
from jmapplug_imap.backend import ImapBackend
from jmapplug_imap.discovery import Service
from jmapplug_imap.protocol import transport
from jmapplug_imap.settings import ImapSettings
from jmapplug_imap.source import ImapSource

from jmapplug import hookspecs
from jmapplug.errors import SetupError, UpstreamError
from jmapplug.testing.mail_source import message


@pytest.fixture
def user(dovecot: Any) -> str:
    return str(dovecot.new_user())


def settings(server: Any, **more: Any) -> ImapSettings:
    base: dict[str, Any] = {"imapHost": server.host, "imapPort": server.port, "imapSSL": 0, "password": server.password}
    return ImapSettings(**(base | more))


@pytest.fixture
def plain_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """TLS is tried without gevent's sockets: mixing the two is no case of ours."""
    import socket

    monkeypatch.setattr(transport, "socket", socket)


def test_hook_register_backends_brings_the_type_imap() -> None:
    manager = pluggy.PluginManager("jmapplug")
    manager.add_hookspecs(hookspecs.Specs)
    manager.register(jmapplug_imap)
    assert manager.hook.register_backends() == [[ImapBackend]]
    assert ImapBackend.type == "imap" and ImapBackend.secrets >= {"password", "smtpPassword"}
    assert set(ImapBackend.public) <= set(ImapBackend.settings.__struct_fields__)


def test_the_user_name_defaults_to_the_address(dovecot: Any, user: str) -> None:
    stored = ImapBackend().validate(settings(dovecot), user)
    assert stored.username == user
    session = ImapBackend().open(stored, user)
    try:
        assert session.mail is not None and session.mail.folders()
    finally:
        session.close()


@pytest.mark.usefixtures("plain_sockets")
@pytest.mark.parametrize("as_text", [True, False])
def test_tls_with_the_accounts_own_ca_as_a_path_or_as_text(dovecot: Any, user: str, as_text: bool) -> None:
    authority = dovecot.ca_file.read_text() if as_text else str(dovecot.ca_file)
    given = settings(dovecot, imapHost="localhost", imapPort=dovecot.tls_port, imapSSL=2, imapCA=authority)
    assert ImapBackend().validate(given, user).imapCA == authority


@pytest.mark.usefixtures("plain_sockets")
def test_starttls_with_the_accounts_own_ca(dovecot: Any, user: str) -> None:
    given = settings(dovecot, imapHost="localhost", imapSSL=3, imapCA=str(dovecot.ca_file))
    assert ImapBackend().check_password(given, user, dovecot.password)


@pytest.mark.usefixtures("plain_sockets")
@pytest.mark.parametrize("security", [2, 3])
def test_a_certificate_that_nobody_vouches_for_is_refused_and_names_the_field(
    dovecot: Any, user: str, security: int
) -> None:
    port = dovecot.tls_port if security == 2 else dovecot.port
    with pytest.raises(SetupError) as caught:
        ImapBackend().validate(settings(dovecot, imapHost="localhost", imapPort=port, imapSSL=security), user)
    assert caught.value.field == "imapCA"


@pytest.mark.usefixtures("plain_sockets")
def test_a_ca_file_that_cannot_be_read_names_the_field(dovecot: Any, user: str, tmp_path: Path) -> None:
    for authority in (str(tmp_path / "absent.pem"), "-----BEGIN CERTIFICATE-----\nnonsense\n"):
        given = settings(dovecot, imapHost="localhost", imapPort=dovecot.tls_port, imapSSL=2, imapCA=authority)
        with pytest.raises(SetupError) as caught:
            ImapBackend().validate(given, user)
        assert caught.value.field == "imapCA"
    assert ssl  # the errors above are the TLS library's


@pytest.mark.parametrize(
    ("change", "field"),
    [({"password": "wrong"}, "password"), ({"password": None}, "password"), ({"password": ""}, "password")],
)
def test_a_login_that_is_refused_names_the_password(
    dovecot: Any, user: str, change: dict[str, Any], field: str
) -> None:
    with pytest.raises(SetupError) as caught:
        ImapBackend().validate(settings(dovecot, **change), user)
    assert caught.value.field == field and "wrong" not in str(caught.value)


def test_a_server_that_is_away_is_no_fault_of_the_settings(dovecot: Any, user: str) -> None:
    from jmapplug.testing.ports import free_ports

    with pytest.raises(UpstreamError):
        ImapBackend().validate(settings(dovecot, imapPort=free_ports(1)[0]), user)


def test_a_missing_host_is_looked_up(dovecot: Any, user: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answer(name: str) -> list[Service]:
        asked.append(name)
        return [Service(0, 0, dovecot.tls_port, "localhost")] if name.startswith("_imaps") else []

    monkeypatch.setattr(discovery, "srv_records", answer)
    monkeypatch.setattr(transport, "socket", __import__("socket"))
    given = ImapSettings(password=dovecot.password, imapCA=str(dovecot.ca_file))
    stored = ImapBackend().validate(given, user)
    assert (stored.imapHost, stored.imapPort, stored.imapSSL) == ("localhost", dovecot.tls_port, 2)
    assert asked == ["_imaps._tcp.example.org"]


def test_a_password_is_checked_upstream(dovecot: Any, user: str) -> None:
    backend, given = ImapBackend(), settings(dovecot, password="stored and stale")
    assert backend.check_password(given, user, dovecot.password) is True
    for wrong in ("nope", "", "\0", dovecot.password + "\0x", "a\r\nb LOGOUT"):
        assert backend.check_password(given, user, wrong) is False


def test_recorded_commands_hold_no_password(dovecot: Any, user: str) -> None:
    source = ImapSource(settings(dovecot), user, record=True)
    source.folders()
    assert any(command.startswith("LIST") for command in source.commands)
    assert dovecot.password not in " ".join(source.commands)
    source.close()


def test_a_page_of_texts_is_one_fetch(dovecot: Any, open_upstream: Any) -> None:
    upstream = open_upstream(dovecot)
    uids = [upstream.append(b"INBOX", message(str(n))) for n in range(20)]
    source = ImapSource(upstream.settings(), upstream.user, record=True)
    source.headers(b"INBOX", uids[:1])
    source.commands.clear()
    before = source.round_trips
    assert len(source.texts(b"INBOX", "1", uids, 4096)) == 20
    assert len(list(source.details(b"INBOX", uids))) == 1
    assert source.round_trips - before == 2
    assert [command.split(" BODY")[0].split(" (")[0] for command in source.commands] == ["UID FETCH 1:20"] * 2
    source.close()


def test_what_a_pass_found_is_read_where_the_pass_has_just_opened_the_folder(dovecot: Any, open_upstream: Any) -> None:
    """The other connection still shows the folder as it was: there each new message would cost two questions more."""
    upstream = open_upstream(dovecot)
    upstream.append(b"INBOX", message("one"))
    source = ImapSource(upstream.settings(), upstream.user, record=True)
    point = source.changes(b"INBOX", None, list).point
    source._access.run(lambda busy: list(source.details(b"INBOX", [1])), background=True)  # opened on a second one too
    upstream.append(b"INBOX", message("two"))
    found = source.changes(b"INBOX", point, lambda: [1])
    source.commands.clear()
    assert [d.uid for batch in source.details(b"INBOX", [item.uid for item in found.new]) for d in batch] == [2]
    assert len(source.commands) == 1 and source.commands[0].startswith("UID FETCH 2 ")
    source.close()


def test_an_accounts_first_look_takes_one_connection_and_few_round_trips(dovecot: Any, open_upstream: Any) -> None:
    upstream = open_upstream(dovecot, proxied=True)
    upstream.append(b"INBOX", message("one"))
    source = upstream.source()
    assert source.features.id_scheme == "x-guid"
    source.folders()
    items = source.newest(b"INBOX", 50)
    assert [d.uid for batch in source.details(b"INBOX", [i.uid for i in items]) for d in batch] == [items[0].uid]
    assert upstream.through.connections == 1
    # log in, capabilities, ID + ENABLE, GUID probe; NAMESPACE + LIST, rights; EXAMINE, SORT, FETCH; FETCH
    assert source.round_trips <= 10


def test_settings_can_be_stored_and_read_back() -> None:
    given = ImapSettings(username="ann", password="secret", imapHost="h", imapSSL=3)
    assert msgspec.json.decode(msgspec.json.encode(given), type=ImapSettings) == given


def test_a_modseq_that_only_select_tells_is_none(dovecot: Any, open_upstream: Any) -> None:
    """Else a folder would look changed at every look, and all its flags be compared, whatever changed elsewhere."""
    upstream = open_upstream(dovecot, proxied=True)
    upstream.command("ENABLE", "CONDSTORE")  # from here on SELECT tells it to everybody
    upstream.append(b"INBOX", message("one"))
    upstream.through.hide = {"CONDSTORE", "QRESYNC", "NOTIFY"}
    source = upstream.source()
    point = source.changes(b"INBOX", None, list).point
    (inbox,) = [folder for folder in source.folders() if folder.key == b"INBOX"]
    assert (inbox.highestmodseq or 0) == point.highestmodseq == 0
