"""Logging in with OAuth on a real Dovecot: tokens are got, kept, and replaced when they are refused (wish 19)."""

from __future__ import annotations

import http.client
import logging
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import gevent
import gevent.socket
import msgspec
import pytest
from gevent.event import Event
from gevent.server import StreamServer
from jmapplug_imap import oauth
from jmapplug_imap.backend import ImapBackend, ImapSession
from jmapplug_imap.connecting import connect
from jmapplug_imap.managesieve import ManageSieve, open_connection
from jmapplug_imap.managesieve import Timeouts as SieveTimeouts
from jmapplug_imap.oauth import Tokens
from jmapplug_imap.protocol.auth import Credentials
from jmapplug_imap.protocol.connection import Connection
from jmapplug_imap.settings import ImapSettings
from jmapplug_imap.submission import SmtpSource

from jmapplug.backends import EnvelopeAddress, NewMessage
from jmapplug.errors import AuthenticationError, JmapplugError, SetupError, UpstreamError
from jmapplug.testing import dovecot as dovecot_server
from jmapplug.testing import smtp_server
from jmapplug.testing.dovecot import make_certificate
from jmapplug.testing.mail_source import message
from jmapplug.testing.ports import free_ports
from jmapplug.testing.token_server import CLIENT, CLIENT_SECRET, TokenServer

Server = Any
Proxy = Any  # conftest's


@pytest.fixture(scope="module")
def dovecot_oauth() -> Iterator[tuple[TokenServer, Server]]:
    if not dovecot_server.available():
        pytest.skip("Dovecot is not installed")
    provider = TokenServer()
    server = dovecot_server.start(oauth=provider.introspection)
    yield provider, server
    server.stop()
    provider.stop()


@pytest.fixture
def server(dovecot_oauth: tuple[TokenServer, Server]) -> Server:
    return dovecot_oauth[1]


@pytest.fixture
def provider(dovecot_oauth: tuple[TokenServer, Server]) -> TokenServer:
    """As new, but for the tokens it has given out."""
    provider = dovecot_oauth[0]
    provider.asked.clear()
    provider.script.clear()
    provider.life, provider.rotates, provider.revoked = 3600, False, False
    return provider


@pytest.fixture
def proxy(server: Server, open_upstream: Any) -> Proxy:
    return open_upstream(server, proxied=True).through


@pytest.fixture
def user(server: Server) -> str:
    return str(server.new_user())


def settings(front: Server, provider: TokenServer, user: str, **more: Any) -> ImapSettings:
    base = {"username": user, "imapHost": front.host, "imapPort": front.port, "imapSSL": 0, **provider.settings(user)}
    return ImapSettings(**{**base, **more})


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


# --- logging in


@pytest.mark.parametrize("mechanism", ["OAUTHBEARER", "XOAUTH2"])
def test_a_refresh_token_logs_in_by_either_mechanism(
    provider: TokenServer, proxy: Proxy, user: str, mechanism: str
) -> None:
    proxy.hide = {f"AUTH={each}" for each in ("OAUTHBEARER", "XOAUTH2") if each != mechanism}
    given = settings(proxy, provider, user)
    connection = connect(given, user, tokens=Tokens(given))
    assert connection.authenticated and connection.command("LIST", '""', '"*"')
    connection.close()
    assert len(proxy.sent(f"AUTHENTICATE {mechanism}")) == 1
    assert provider.asked == [
        {
            "grant_type": "refresh_token", "refresh_token": given.oauthRefreshToken, "client_id": CLIENT,
            "client_secret": CLIENT_SECRET, "scope": "imap smtp",
        }
    ]  # fmt: skip


def test_one_token_serves_all_connections_until_a_minute_before_its_end(
    provider: TokenServer, server: Server, user: str
) -> None:
    given, clock = settings(server, provider, user), Clock()
    tokens = Tokens(given, clock=clock)
    for _ in range(3):
        connect(given, user, tokens=tokens).close()
    clock.now += 3600 - 61
    connect(given, user, tokens=tokens).close()
    assert len(provider.asked) == 1
    clock.now += 2
    connect(given, user, tokens=tokens).close()
    assert len(provider.asked) == 2


@pytest.mark.parametrize(("life", "kept"), [(None, True), ("3600", True), (30, False)])
def test_an_answer_may_name_no_end_or_one_in_quotes_or_a_very_early_one(
    provider: TokenServer, server: Server, user: str, life: Any, kept: bool
) -> None:
    provider.life = life
    given = settings(server, provider, user)
    tokens = Tokens(given)
    for _ in range(2):
        connect(given, user, tokens=tokens).close()
    assert len(provider.asked) == (1 if kept else 2)


def test_a_token_that_is_refused_is_replaced_once_and_one_just_got_is_not(
    provider: TokenServer, proxy: Proxy, user: str
) -> None:
    given = settings(proxy, provider, user)
    tokens = Tokens(given)
    connect(given, user, tokens=tokens).close()
    provider.expire()
    connect(given, user, tokens=tokens).close()
    assert len(provider.asked) == 2 and len(proxy.sent("AUTHENTICATE")) == 3
    # Somebody else's token: the server takes none that this account can get.
    other = settings(proxy, provider, "nobody" + user)
    wrong = msgspec.structs.replace(other, username=user)
    strange = Tokens(wrong)
    with pytest.raises(AuthenticationError, match="check the user name") as caught:
        connect(wrong, user, tokens=strange)
    assert len(provider.asked) == 3 and len(proxy.sent("AUTHENTICATE")) == 4
    assert not [token for token in provider.issued if token in str(caught.value)]


def test_all_who_wait_for_a_token_get_it_from_one_request(
    provider: TokenServer, server: Server, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http.client, "socket", gevent.socket)
    given = settings(server, provider, user)
    tokens, ticks = Tokens(given), Event()
    provider.release.clear()
    waiting = [gevent.spawn(tokens.logged_in, lambda token: token()) for _ in range(5)]
    gevent.spawn_later(0.05, ticks.set)
    assert ticks.wait(10), "others go on meanwhile"
    provider.release.set()
    gevent.joinall(waiting, timeout=10, raise_error=True)
    assert len({each.value for each in waiting}) == 1 and len(provider.asked) == 1


def test_where_the_mail_server_is_away_no_token_is_got(provider: TokenServer, server: Server, user: str) -> None:
    """A refresh token that is good once must not be used up for nothing."""
    given = settings(server, provider, user, imapPort=free_ports(1)[0])
    with pytest.raises(UpstreamError):
        connect(given, user, tokens=Tokens(given))
    assert provider.asked == []


# --- what the provider may answer


REFUSALS = [
    ((400, {"error": "invalid_grant", "error_description": "no"}), AuthenticationError, "sign in at the provider once"),
    ((400, {"error": "interaction_required"}), AuthenticationError, "sign in at the provider once"),
    ((401, {"error": "invalid_client"}), AuthenticationError, "check oauthClientId"),
    ((400, {"error": "unauthorized_client"}), AuthenticationError, "check oauthClientId"),
    ((503, b"<html>"), UpstreamError, r"HTTP 503, retry after 90"),
    ((429, {}), UpstreamError, "HTTP 429"),
    ((400, {"error": "temporarily_unavailable"}), UpstreamError, "no OAuth token now"),
    ((302, {}), UpstreamError, "HTTP 302"),
    ((404, b"not here"), UpstreamError, "HTTP 404"),
    ((200, {"token_type": "Bearer"}), UpstreamError, "HTTP 200"),
    ((200, b"[" * 5000), UpstreamError, "HTTP 200"),
    ((200, {"access_token": "x", "more": "y" * oauth.MAX_ANSWER}), UpstreamError, "HTTP 200"),
    ((200, {"access_token": ["x"]}), UpstreamError, "HTTP 200"),
    ("cut", UpstreamError, "no OAuth token from 127.0.0.1"),
]


@pytest.mark.parametrize(("answer", "kind", "words"), REFUSALS)
def test_a_failure_is_told_in_words_holds_no_secret_and_is_not_repeated_at_once(
    provider: TokenServer, server: Server, user: str, answer: Any, kind: type[UpstreamError], words: str
) -> None:
    given, clock = settings(server, provider, user), Clock()
    tokens = Tokens(given, clock=clock)
    provider.script.append(answer)
    for _ in range(3):
        with pytest.raises(UpstreamError, match=words) as caught:
            connect(given, user, tokens=tokens)
        assert type(caught.value) is kind
        assert not [each for each in (*provider.issued, CLIENT_SECRET) if each in str(caught.value)]
    assert len(provider.asked) == 1, "not once more within the pause"
    held = caught.value.retry_after or 0
    assert held >= (60 if kind is AuthenticationError else 0.3)
    clock.now += held + 1
    connect(given, user, tokens=tokens).close()
    assert len(provider.asked) == 2


def test_the_code_of_a_provider_that_is_away_is_that_of_a_server_to_be_waited_for(
    provider: TokenServer, server: Server, user: str
) -> None:
    provider.script.append((503, {}))
    given = settings(server, provider, user)
    with pytest.raises(UpstreamError) as caught:
        connect(given, user, tokens=Tokens(given))
    assert (caught.value.code, caught.value.temporary) == ("unavailable", True)
    assert (caught.value.retry_after or 0) >= 90


def test_a_provider_whose_certificate_nobody_vouches_for_gets_no_secret(tmp_path: Path) -> None:
    make_certificate(tmp_path)
    came: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            came.append(self.path)

    listener = HTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    listener.socket = context.wrap_socket(listener.socket, server_side=True)
    listener.handle_error = lambda *_: None  # type: ignore[method-assign]
    threading.Thread(target=listener.handle_request, daemon=True).start()
    url = f"https://localhost:{listener.server_port}/token"
    given = ImapSettings(oauthTokenUrl=url, oauthClientId="c", oauthRefreshToken="r3fresh")
    with pytest.raises(UpstreamError, match="localhost") as caught:
        oauth.refreshed(given, "r3fresh")
    assert came == [] and "r3fresh" not in str(caught.value)
    listener.server_close()


def test_a_provider_that_does_not_answer_is_not_waited_for_for_ever(
    provider: TokenServer, server: Server, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http.client, "socket", gevent.socket)
    monkeypatch.setattr(oauth, "DEADLINE", 0.05)
    provider.release.clear()
    given = settings(server, provider, user)
    try:
        with pytest.raises(UpstreamError, match="no answer in time"):
            oauth.refreshed(given, given.oauthRefreshToken or "")
    finally:
        provider.release.set()


# --- refresh tokens that are replaced


def test_a_refresh_token_that_is_good_once_is_replaced_and_told(
    provider: TokenServer, server: Server, user: str
) -> None:
    provider.rotates = True
    given, told = settings(server, provider, user), list[dict[str, str]]()
    session = ImapBackend().open(given, user)
    session.on_renewed = told.append
    session.mail.folders()  # type: ignore[union-attr]
    provider.expire()
    session.mail._access.pool.connect().close()  # type: ignore[union-attr]
    session.close()
    assert [one["refresh_token"] for one in provider.asked] == [
        given.oauthRefreshToken, told[0]["oauthRefreshToken"],
    ]  # fmt: skip
    assert len(told) == 2 and told[1]["oauthRefreshToken"] in provider._refresh


def test_a_replaced_one_that_cannot_be_stored_now_is_used_and_stored_with_the_next_log_in(
    provider: TokenServer, server: Server, user: str, caplog: pytest.LogCaptureFixture
) -> None:
    provider.rotates = True
    given = settings(server, provider, user)
    taken: list[str] = []
    away = [True]

    def store(token: str) -> None:
        if away[0]:
            raise JmapplugError("nobody there")
        taken.append(token)

    tokens = Tokens(given, store)
    with caplog.at_level(logging.DEBUG):
        connect(given, user, tokens=tokens).close()
    assert "not stored yet" in caplog.text
    assert not [token for token in provider.issued if token in caplog.text]
    away[0] = False
    for _ in range(2):
        connect(given, user, tokens=tokens).close()
    assert taken == [tokens.refresh_token] and len(provider.asked) == 1


# --- an account is set up


def test_an_account_with_a_refresh_token_needs_no_password_and_stores_the_newest_one(
    provider: TokenServer, server: Server, user: str
) -> None:
    provider.rotates = True
    given = settings(server, provider, user, username=None)
    stored = ImapBackend().validate(given, user)
    assert stored.username == user and stored.password is None and stored.sieveHost is None
    assert stored.oauthRefreshToken != given.oauthRefreshToken and stored.oauthRefreshToken in provider._refresh


def test_a_refresh_token_that_is_good_once_is_not_lost_with_a_log_in_that_fails(
    provider: TokenServer, server: Server, user: str
) -> None:
    given = settings(server, provider, user, username="not" + user)
    with pytest.raises(SetupError):
        ImapBackend().validate(given, user)
    provider.rotates = True
    stored = ImapBackend().validate(given, user)
    assert stored.oauthRefreshToken in provider._refresh
    with pytest.raises(AuthenticationError):
        connect(stored, user, tokens=Tokens(stored))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"oauthTokenUrl": None}, "oauthTokenUrl"),
        ({"oauthClientId": ""}, "oauthClientId"),
        ({"oauthClientSecret": "wrong"}, "oauthRefreshToken"),
        ({"oauthRefreshToken": "wrong"}, "oauthRefreshToken"),
        ({"oauthRefreshToken": ""}, "password"),
    ],
)
def test_what_is_missing_or_wrong_is_named(
    provider: TokenServer, server: Server, user: str, change: dict[str, Any], field: str
) -> None:
    with pytest.raises(SetupError) as caught:
        ImapBackend().validate(settings(server, provider, user, **change), user)
    assert caught.value.field == field


@pytest.mark.parametrize("missing", ["oauthTokenUrl", "oauthClientId"])
def test_a_stored_account_that_lacks_half_of_it_asks_nobody(
    provider: TokenServer, server: Server, user: str, missing: str
) -> None:
    given = settings(server, provider, user, **{missing: None})
    with pytest.raises(AuthenticationError, match="are needed"):
        connect(given, user, tokens=Tokens(given))
    assert provider.asked == []


# --- SMTP


@pytest.fixture
def relay(server: Server, tmp_path: Path) -> Iterator[Any]:
    if not server.submission_port:
        pytest.skip("Dovecot's submission is not installed")
    relay = smtp_server.start(tmp_path / "outbox", port=server.smtp_port)
    yield relay
    relay.stop()


def test_sending_logs_in_with_the_same_token_and_replaces_one_that_is_refused(
    provider: TokenServer, server: Server, user: str, relay: Any, tmp_path: Path
) -> None:
    given = settings(server, provider, user, smtpHost="127.0.0.1", smtpPort=server.submission_port, smtpSSL=0)
    session = ImapSession(given, user)
    path = tmp_path / "message"
    path.write_bytes(b"Subject: x\r\n\r\nx\r\n")
    for round_ in (1, 2):
        session.mail.folders()  # type: ignore[union-attr]
        sent = session.submission.send(  # type: ignore[union-attr]
            EnvelopeAddress(user), [EnvelopeAddress("bob@example.org")], path, lambda: None
        )
        assert sent.accepted and len(relay.taken) == round_ == len(provider.asked)
        provider.expire()
    provider.revoked = True
    with pytest.raises(AuthenticationError, match="sign in at the provider"):
        session.submission.features()  # type: ignore[union-attr]
        session.submission.send(  # type: ignore[union-attr]
            EnvelopeAddress(user), [EnvelopeAddress("bob@example.org")], path, lambda: None
        )
    assert len(relay.taken) == 2
    session.close()


@pytest.mark.usefixtures("relay")
def test_a_password_of_smtps_own_goes_before_the_token(server: Server, provider: TokenServer, user: str) -> None:
    given = settings(
        server, provider, user, smtpHost="127.0.0.1", smtpPort=server.submission_port, smtpSSL=0,
        smtpPassword=server.password,
    )  # fmt: skip
    SmtpSource(given, user, tokens=Tokens(given)).features()
    assert provider.asked == []


def test_sending_is_tried_with_the_same_token_when_an_account_is_made(
    server: Server, provider: TokenServer, user: str, relay: Any
) -> None:
    """Sending that does not work turns no account away; a refresh token that is replaced meanwhile is kept."""
    provider.rotates = True
    good = {"smtpHost": "127.0.0.1", "smtpPort": server.submission_port, "smtpSSL": 0}
    backend = ImapBackend()
    stored = backend.validate(settings(server, provider, user, **good), user)
    assert backend.notes(stored, user) is None and len(provider.asked) == 1

    backend = ImapBackend()
    stored = backend.validate(settings(server, provider, user, **good, smtpUsername="not" + user), user)
    told = backend.notes(stored, user) or ""
    assert told.startswith("sending does not work: ") and "check the user name" in told
    assert not [token for token in provider.issued if token in told]
    assert len(provider.asked) == 3 and stored.oauthRefreshToken in provider._refresh

    backend = ImapBackend()
    away = settings(server, provider, user, **{**good, "smtpPort": free_ports(1)[0]})
    assert (backend.notes(backend.validate(away, user), user) or "").startswith("sending does not work: ")
    assert len(provider.asked) == 4 and relay.taken == []


# --- ManageSieve


@pytest.fixture
def sieve_port(server: Server) -> int:
    if not server.sieve_port:
        pytest.skip("Pigeonhole is not installed")
    return int(server.sieve_port)


def with_sieve(server: Server, provider: TokenServer, user: str, port: int, **more: Any) -> ImapSettings:
    return settings(server, provider, user, **{"sieveHost": server.host, "sievePort": port, "sieveSSL": 0, **more})


@pytest.mark.parametrize("mechanism", ["OAUTHBEARER", "XOAUTH2"])
def test_managesieve_takes_a_token_by_either_mechanism_and_refuses_a_wrong_one_at_once(
    server: Server, provider: TokenServer, user: str, sieve_port: int, mechanism: str
) -> None:
    given = with_sieve(server, provider, user, sieve_port)

    def log_in(token: str) -> ManageSieve:
        def credentials(connection: ManageSieve) -> Credentials:
            connection.capabilities["SASL"] = mechanism
            return Credentials(user, token=token)

        return open_connection(server.host, sieve_port, 0, None, credentials, SieveTimeouts(connect=5, command=5))

    connection = log_in(oauth.refreshed(given, given.oauthRefreshToken or "").access_token)
    assert connection.command(b"LISTSCRIPTS").lines == []
    connection.close()
    with pytest.raises(AuthenticationError, match="check the user name") as caught:
        log_in("wr0ng")
    assert "wr0ng" not in str(caught.value)


def test_sieve_logs_in_with_the_same_token_and_replaces_one_that_is_refused(
    server: Server, provider: TokenServer, user: str, sieve_port: int
) -> None:
    """Each refresh token is good once: whoever replaces it, all go on with the new one."""
    provider.rotates = True
    session = ImapSession(with_sieve(server, provider, user, sieve_port), user)
    assert session.mail is not None and session.sieve is not None
    told = list[dict[str, str]]()
    session.on_renewed = told.append
    session.mail.folders()
    session.sieve.write("mine", b"keep;")
    assert len(provider.asked) == 1
    for round_ in (2, 3):
        provider.expire()
        session._sieve._drop()  # type: ignore[union-attr]
        assert session.sieve.scripts() == [("mine", False)]
        session.mail._access.pool.connect().close()  # type: ignore[attr-defined]
        assert len(provider.asked) == len(told) == round_
    provider.revoked = True
    provider.expire()
    session._sieve._drop()  # type: ignore[union-attr]
    for _ in range(2):
        with pytest.raises(AuthenticationError, match="sign in at the provider"):
            session.sieve.scripts()
    assert len(provider.asked) == 4
    session.close()


def test_a_managesieve_server_is_found_with_the_token_that_imap_was_tried_with(
    server: Server, provider: TokenServer, user: str, sieve_port: int
) -> None:
    provider.rotates = True
    given = with_sieve(server, provider, user, sieve_port, sieveHost=None)
    stored = ImapBackend().validate(given, user)
    assert stored.sieveHost == server.host and len(provider.asked) == 1
    assert stored.oauthRefreshToken in provider._refresh
    again = ImapBackend().validate(stored, user)
    assert len(provider.asked) == 2 and again.oauthRefreshToken in provider._refresh
    # Port 0: there is none.
    none = ImapBackend().validate(msgspec.structs.replace(again, sieveHost=None, sievePort=0), user)
    assert none.sieveHost is None and ImapSession(none, user).sieve is None


@pytest.fixture
def passwords_only(server: Server) -> Iterator[Any]:
    """A ManageSieve server that offers PLAIN, and what it was sent."""
    hello = b'"IMPLEMENTATION" "X"\r\n"SIEVE" "fileinto"\r\n"SASL" "PLAIN"\r\n"VERSION" "1.0"\r\nOK\r\n'
    sent: list[bytes] = []

    def serve(client: Any, address: object) -> None:
        client.sendall(hello)
        with client.makefile("rb") as file:
            for line in file:
                if line.startswith(b"LOGOUT"):
                    break
                sent.append(line)
                client.sendall(hello if line.startswith(b"CAPABILITY") else b"OK\r\n")

    listener = StreamServer((server.host, 0), serve)
    listener.start()
    yield listener.server_port, sent
    listener.stop()


@pytest.mark.parametrize("rotates", [False, True])
def test_a_managesieve_server_without_oauth_is_none_for_an_account_without_a_password(
    server: Server, provider: TokenServer, user: str, passwords_only: Any, rotates: bool
) -> None:
    provider.rotates = rotates
    port, sent = passwords_only
    unnamed = with_sieve(server, provider, user, port, sieveHost=None)
    backend = ImapBackend()
    stored = backend.validate(unnamed, user)
    assert stored.sieveHost is None and sent == [] and len(provider.asked) == 1
    assert backend.notes(stored, user) is None
    both = msgspec.structs.replace(stored, password="pw")
    both = ImapBackend().validate(both, user)
    assert both.sieveHost == server.host and sent[0].startswith(b'AUTHENTICATE "PLAIN"')
    # Named, it is refused; but a refresh token that has been replaced meanwhile is kept.
    named = with_sieve(server, provider, user, port)
    backend = ImapBackend()
    if rotates:
        stored = backend.validate(named, user)
        assert stored.oauthRefreshToken in provider._refresh and "offers no OAuth" in (
            backend.notes(stored, user) or ""
        )
        return
    with pytest.raises(SetupError, match="offers no OAuth, and the account has no password") as caught:
        backend.validate(named, user)
    assert caught.value.field == "sieveHost"


# --- in the middle of something


def sources(proxy: Proxy, provider: TokenServer, user: str) -> Any:
    session = ImapSession(settings(proxy, provider, user), user)
    assert session.mail is not None
    return session.mail


def test_a_goodbye_in_the_middle_of_an_append_leaves_the_message_there_once(
    provider: TokenServer, proxy: Proxy, server: Server, user: str, tmp_path: Path
) -> None:
    """imapsync#250: ``BYE Session invalidated - AccessTokenExpired``, and the token is refused from then on."""
    source = sources(proxy, provider, user)
    source.folders()
    path = tmp_path / "message"
    path.write_bytes(message("once"))
    said: list[bytes] = []

    def met(line: bytes) -> None:
        if b"Subject" in line and not said:
            said.append(line)
            provider.expire()
            proxy.say(b"* BYE Session invalidated - AccessTokenExpired\r\n")
            proxy.cut_all()

    proxy.met = met
    new = NewMessage(path, path.stat().st_size)
    (appended,) = source.append(b"INBOX", [new])
    assert said and len(provider.asked) == 2
    with server.imap(user) as imap:
        imap.select("INBOX")
        assert len(imap.search(None, "ALL")[1][0].split()) == 1
    assert appended.uid is not None, appended.error
    source.close()


@pytest.mark.parametrize("hidden", [(), ("NOTIFY",)])
def test_a_watch_goes_on_after_its_token_has_expired(
    provider: TokenServer, proxy: Proxy, server: Server, user: str, hidden: tuple[str, ...]
) -> None:
    proxy.hide = set(hidden)
    source = sources(proxy, provider, user)
    watch = source.watch(b"INBOX")
    assert watch.how == ("idle" if hidden else "notify")
    provider.expire()
    gevent.spawn_later(0.05, proxy.say, b"* BYE Session invalidated - AccessTokenExpired\r\n")
    with pytest.raises(UpstreamError):
        watch.wait(10)
    assert watch.wait(10) == frozenset()
    assert len(provider.asked) == 2
    with server.imap(user) as imap:
        imap.append("INBOX", "", "", message("news"))
    assert watch.wait(10) == frozenset({b"INBOX"})
    source.close()


def test_a_refresh_token_that_ended_is_asked_about_once_whoever_wants_to_connect(
    provider: TokenServer, proxy: Proxy, user: str
) -> None:
    source = sources(proxy, provider, user)
    source.folders()
    provider.revoked = True
    provider.expire()
    proxy.cut_all()
    attempts: list[Callable[[], Any]] = [source.folders, source.folders, lambda: source.watch(b"INBOX")]
    for attempt in attempts:
        with pytest.raises(AuthenticationError, match="sign in at the provider once more"):
            attempt()
    assert len(provider.asked) == 2 and (source.held.retry_after or 0) > 50
    assert isinstance(source.held, AuthenticationError)
    source.close()


def test_what_is_recorded_and_shown_holds_no_token(provider: TokenServer, server: Server, user: str) -> None:
    given = settings(server, provider, user)
    tokens = Tokens(given)
    connection: Connection = connect(given, user, tokens=tokens)
    connection.close()
    shown = f"{given!r} {tokens!r} {connection!r} {oauth.Grant('acc3ss', 1.0, 'r3fresh')!r}"
    assert not [each for each in (*provider.issued, CLIENT_SECRET, "acc3ss", "r3fresh") if each in shown]
