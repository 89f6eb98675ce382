"""ManageSieve: the grammar, what a hostile or old server may do, and a real Pigeonhole."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import msgspec
import pytest
from gevent.server import StreamServer
from hypothesis import given
from hypothesis import strategies as st
from jmapplug_imap import managesieve, sieve
from jmapplug_imap.backend import ImapBackend
from jmapplug_imap.managesieve import Timeouts, Token, closing, parse_line, string
from jmapplug_imap.oauth import Tokens
from jmapplug_imap.protocol import transport
from jmapplug_imap.protocol.errors import AuthenticationError, ConnectionBroken, ProtocolError
from jmapplug_imap.settings import ImapSettings
from jmapplug_imap.sieve import Sieve, connect_sieve

from jmapplug.errors import SetupError, UpstreamError
from jmapplug.testing.ports import free_ports
from jmapplug.testing.token_server import CLIENT_SECRET, TokenServer

QUICK = Timeouts(connect=2, command=2)


# --- the grammar


@given(st.lists(st.binary(max_size=1100), max_size=5), st.integers(0, 50))
def test_strings_come_out_as_they_went_in_however_they_are_cut(values: list[bytes], cut: int) -> None:
    wire = b" ".join(string(value) for value in values) + b"\r\n"
    assert parse_line(wire[: min(cut, len(wire) - 1)]) is None
    assert parse_line(wire + b"rest") == (tuple(Token(value) for value in values), len(wire))


@given(st.binary(max_size=200))
def test_any_octets_are_a_line_or_wait_or_are_refused(octets: bytes) -> None:
    try:
        found = parse_line(octets)
    except ProtocolError:
        return
    assert found is None or found[1] <= len(octets)


def test_a_script_named_ok_does_not_end_the_list() -> None:
    line, _ = parse_line(b'"OK" ACTIVE\r\n') or ((), 0)
    assert closing(line) is None
    line, _ = parse_line(b"NO (QUOTA/MAXSIZE) {7}\r\ntoo\x07big\r\n") or ((), 0)
    assert closing(line) == ("NO", "quota/maxsize", "toobig")
    line, _ = parse_line(b'OK (TAG {3}\r\nabc) "Done."\r\n') or ((), 0)
    assert closing(line) == ("OK", "tag", "Done.")


# --- servers that are not Pigeonhole

HELLO = b'"IMPLEMENTATION" "X 1"\r\n"SIEVE" "fileinto include"\r\n"SASL" "PLAIN"\r\n"VERSION" "1.0"\r\nOK\r\n'
OLD = HELLO.replace(b'"VERSION" "1.0"\r\n', b"")


class Played:
    """Greets, and answers each command as ``answer`` says (None: hang up). ``sent``: the first words, in order."""

    def __init__(self, greeting: bytes, answer: Callable[[bytes], bytes | None]) -> None:
        self.sent: list[bytes] = []
        self.connections = 0
        self.gone = gevent.event.Event()
        self._greeting, self._answer = greeting, answer
        self._server = StreamServer(("127.0.0.1", 0), self._serve)
        self._server.start()
        self.port = int(self._server.server_port)

    def settings(self, **more: Any) -> ImapSettings:
        base: dict[str, Any] = {"sieveHost": "127.0.0.1", "sievePort": self.port, "sieveSSL": 0, "password": "pw"}
        return ImapSettings(**(base | more))

    def source(self, **more: Any) -> Sieve:
        return Sieve(lambda: connect_sieve(self.settings(**more), "u@example.org", QUICK))

    def stop(self) -> None:
        self._server.stop()

    def _serve(self, client: Any, address: object) -> None:
        self.connections += 1
        client.sendall(self._greeting)
        file = client.makefile("rb")
        try:
            while line := file.readline():
                command = self._whole(line, file)
                if command.startswith(b"LOGOUT"):
                    break
                self.sent.append(command.split()[0])
                answer = self._greeting if command.startswith(b"CAPABILITY") else self._answer(command)
                if answer is None:
                    break
                client.sendall(answer)
        finally:
            file.close()
            client.close()
            self.gone.set()

    def _whole(self, line: bytes, file: Any) -> bytes:
        while line.rstrip().endswith(b"+}"):
            size = int(line.rstrip().rpartition(b"{")[2][:-2])
            line += file.read(size) + file.readline()
        return line


@pytest.fixture
def play() -> Iterator[Callable[..., Played]]:
    made: list[Played] = []

    def start(answer: Callable[[bytes], bytes | None] = lambda command: b"OK\r\n", greeting: bytes = HELLO) -> Played:
        made.append(Played(greeting, answer))
        return made[-1]

    yield start
    for each in made:
        each.stop()


def test_a_password_does_not_go_in_clear_where_starttls_is_wanted_and_not_offered(play: Any) -> None:
    server = play()
    with pytest.raises(ConnectionBroken, match="STARTTLS"):
        server.source(sieveSSL=3).scripts()
    assert server.sent == []


def test_what_comes_between_starttls_and_tls_is_not_believed(play: Any) -> None:
    server = play(lambda command: b"OK\r\n" + HELLO, HELLO.replace(b"OK\r\n", b'"STARTTLS"\r\nOK\r\n'))
    with pytest.raises(ProtocolError):
        server.source(sieveSSL=3).scripts()


def test_the_servers_words_on_a_refused_login_are_not_repeated(play: Any) -> None:
    server = play(lambda command: b'NO "' + command.replace(b'"', b"").strip() + b'"\r\n')
    with pytest.raises(AuthenticationError) as caught:
        server.source().scripts()
    assert str(caught.value) == "the ManageSieve server refuses the login"


def test_a_login_that_was_refused_is_not_tried_again_at_once(play: Any) -> None:
    server = play(lambda command: b'NO "no"\r\n')
    source = server.source()
    for _ in range(3):
        with pytest.raises(AuthenticationError):
            source.scripts()
    assert server.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        b'"endless',
        b"{99999999}\r\n",
        b"\x00\x01garbage\r\n",
        b'"a"\r\n' * 5000,
        b"* OK this is IMAP {\r\n",
        b'BYE "later"\r\n',
        None,
    ],
)
def test_an_answer_that_is_none_breaks_the_connection_and_never_looks_like_an_empty_list(
    play: Any, answer: bytes | None
) -> None:
    server = play(lambda command: answer if command.startswith(b"LIST") else b"OK\r\n")
    source = Sieve(lambda: connect_sieve(server.settings(), "u", Timeouts(connect=2, command=0.3)))
    with pytest.raises(ConnectionBroken):
        source.scripts()


def test_an_answer_that_nobody_asked_for_ends_the_connection(play: Any) -> None:
    """Every further answer would be taken for another command's."""
    server = play(lambda command: b'NO "one"\r\nOK\r\n' if command.startswith(b"SETACTIVE") else b"OK\r\n")
    source = server.source()
    with pytest.raises(UpstreamError):
        source.activate("a")
    with pytest.raises(ConnectionBroken, match="out of step"):
        source.delete("a")
    assert b"DELETESCRIPT" not in server.sent


def test_a_silent_server_costs_one_deadline() -> None:
    server = StreamServer(("127.0.0.1", 0), lambda client, address: gevent.sleep(30))
    server.start()
    given = ImapSettings(sieveHost="127.0.0.1", sievePort=server.server_port, sieveSSL=0)
    with pytest.raises(ConnectionBroken, match="in time"):
        connect_sieve(given, "u", Timeouts(connect=0.1, command=0.1))
    server.stop(timeout=0)


def test_a_server_older_than_the_rfc_checks_and_renames_with_what_it_has(play: Any) -> None:
    def answer(command: bytes) -> bytes:
        if command.startswith(b"LIST"):
            return b'"a" ACTIVE\r\n"c"\r\nOK\r\n'
        return b"{5}\r\nkeep;\r\nOK\r\n" if command.startswith(b"GET") else b"OK\r\n"

    server = play(answer, OLD)
    source = server.source()
    source.check(b"keep;")
    assert server.sent[2:] == [b"PUTSCRIPT", b"DELETESCRIPT"]
    del server.sent[:]
    source.rename("a", "b")
    assert server.sent == [b"LISTSCRIPTS", b"GETSCRIPT", b"PUTSCRIPT", b"SETACTIVE", b"DELETESCRIPT"]
    with pytest.raises(UpstreamError) as caught:
        source.rename("a", "c")
    assert caught.value.code == "alreadyexists"


def test_a_connection_that_died_at_rest_is_replaced_before_a_write(play: Any) -> None:
    server = play(lambda command: None if command.startswith(b"NOOP") else b"OK\r\n")
    now = [100.0]
    source = Sieve(lambda: connect_sieve(server.settings(), "u", QUICK), lambda: now[0])
    source.activate("a")
    now[0] += 10
    source.activate("b")
    assert (server.connections, server.sent.count(b"SETACTIVE")) == (2, 2)
    source.close()


def test_a_write_that_broke_is_not_tried_again_by_itself(play: Any) -> None:
    server = play(lambda command: None if command.startswith(b"PUT") else b"OK\r\n")
    with pytest.raises(ConnectionBroken):
        server.source().write("a", b"keep;")
    assert server.sent.count(b"PUTSCRIPT") == 1


def test_an_unused_connection_is_closed(play: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(sieve, "LINGER", 0.05)
    server = play()
    server.source().activate("a")
    assert server.gone.wait(5)


def test_many_at_once_share_one_connection(play: Any) -> None:
    server = play()
    source = server.source()
    gevent.joinall([gevent.spawn(source.activate, str(n)) for n in range(10)], raise_error=True)
    assert server.connections == 1
    source.close()


# --- OAuth

ERROR = base64.b64encode(b'{"status":"invalid_token"}')


@pytest.fixture
def provider() -> Iterator[TokenServer]:
    provider = TokenServer()
    provider.rotates = True
    yield provider
    provider.stop()


class Guarded:
    """Takes the provider's access tokens and the password ``pw``; with a challenge first, where ``challenges``. Each

    refusal repeats what it was sent. ``said``: what came, decoded.
    """

    def __init__(self, provider: TokenServer, challenges: int = 1, end: bytes = b"NO") -> None:
        self.said: list[bytes] = []
        self.answers: list[bytes] = []
        self._provider, self._challenges, self._end = provider, challenges, end
        self._left = 0

    def __call__(self, command: bytes) -> bytes | None:
        if not command.startswith((b"AUTHENTICATE", b'"')):
            return b"OK\r\n"
        if command.startswith(b'"'):
            self.answers.append(command.strip())
        else:
            self.said.append(base64.b64decode(command.split()[-1]))
            self._left = self._challenges
            if b"auth=Bearer" not in self.said[-1]:
                return b"OK\r\n" if self.said[-1] == b"\0u@example.org\0pw" else b"NO\r\n"
            if self.said[-1].partition(b"Bearer ")[2].strip(b"\x01").decode() in self._provider._access:
                return b'OK (SASL "") "Logged in."\r\n'
        self._left -= 1
        if self._left >= 0:
            return b'"%b"\r\n' % ERROR
        return self._end + b' "' + self.said[-1].replace(b"\x01", b" ") + b" " + CLIENT_SECRET.encode() + b'"\r\n'


def greeting(*mechanisms: str) -> bytes:
    return HELLO.replace(b'"SASL" "PLAIN"', f'"SASL" "{" ".join(mechanisms)}"'.encode())


def log_in(server: Played, provider: TokenServer, tokens: Tokens | None = None, **more: Any) -> None:
    given = server.settings(**{"password": None, **more})
    tokens = tokens or Tokens(ImapSettings(**provider.settings("u@example.org")))
    connect_sieve(given, "u@example.org", QUICK, tokens).close()


def no_secret(provider: TokenServer, text: str) -> None:
    for secret in (*provider.issued, CLIENT_SECRET):
        assert secret not in text and secret[:20] not in text
        assert base64.b64encode(secret.encode()).decode()[:20] not in text


@pytest.mark.parametrize(
    ("offered", "response"),
    [
        (("PLAIN", "XOAUTH2", "OAUTHBEARER"), b"n,a=u@example.org,\x01auth=Bearer %b\x01\x01"),
        (("LOGIN", "xoauth2"), b"user=u@example.org\x01auth=Bearer %b\x01\x01"),
    ],
)
def test_a_token_goes_by_the_mechanism_that_is_offered_and_before_the_password(
    play: Any, provider: TokenServer, offered: tuple[str, ...], response: bytes
) -> None:
    guarded = Guarded(provider)
    server = play(guarded, greeting(*offered))
    log_in(server, provider, password="pw")
    assert guarded.said == [response % next(iter(provider._access)).encode()] and guarded.answers == []
    assert server.sent == [b"AUTHENTICATE", b"CAPABILITY"]


@pytest.mark.parametrize(("mechanism", "acknowledged"), [("OAUTHBEARER", b'"AQ=="'), ("XOAUTH2", b'""')])
@pytest.mark.parametrize("challenges", [0, 1])
def test_the_error_of_a_refused_token_is_acknowledged_once_and_nothing_is_tried_again(
    play: Any, provider: TokenServer, mechanism: str, acknowledged: bytes, challenges: int
) -> None:
    """RFC 7628 §3.2.2, §3.2.3. The token has just been got: another one would be as bad, and no password follows."""
    guarded = Guarded(provider, challenges)
    server = play(guarded, greeting("PLAIN", mechanism))
    tokens = Tokens(ImapSettings(**provider.settings("u@example.org")))
    provider._access = _Forgetful()
    with pytest.raises(AuthenticationError, match="check the user name") as caught:
        log_in(server, provider, tokens, password="pw")
    assert (len(guarded.said), guarded.answers) == (1, [acknowledged] * challenges)
    assert (server.connections, len(provider.asked)) == (1, 1)
    no_secret(provider, str(caught.value))


class _Forgetful(dict[str, str]):
    """Tokens that are given out and never good."""

    def __contains__(self, token: object) -> bool:
        return False


def test_a_token_that_has_expired_is_renewed_once_and_tried_once_more(play: Any, provider: TokenServer) -> None:
    guarded = Guarded(provider)
    server = play(guarded, greeting("OAUTHBEARER"))
    tokens = Tokens(ImapSettings(**provider.settings("u@example.org")))
    log_in(server, provider, tokens)
    log_in(server, provider, tokens)
    assert len(provider.asked) == 1
    provider.expire()
    log_in(server, provider, tokens)
    assert (len(provider.asked), len(guarded.said), len(guarded.answers)) == (2, 4, 1)
    assert len({one["refresh_token"] for one in provider.asked}) == 2
    provider.expire()
    provider._access = _Forgetful()
    with pytest.raises(AuthenticationError):
        log_in(server, provider, tokens)
    assert (len(provider.asked), len(guarded.said), len(guarded.answers)) == (3, 6, 3)


def test_a_server_that_offers_no_oauth_gets_the_password_or_nothing(play: Any, provider: TokenServer) -> None:
    guarded = Guarded(provider)
    server = play(guarded)
    with pytest.raises(UpstreamError, match="offers no OAuth") as caught:
        log_in(server, provider)
    assert not caught.value.temporary and server.sent == []
    log_in(server, provider, password="pw")
    with pytest.raises(AuthenticationError, match=r"refuses the login$"):
        log_in(server, provider, password="wrong")
    assert len(guarded.said) == 2 and provider.asked == [], "the refresh token is not used up for nothing"


@pytest.mark.parametrize(
    ("challenges", "end", "kind", "code"),
    [
        (5, b"NO", ProtocolError, None),
        (0, b"BYE", ConnectionBroken, None),
        (1, b"BYE", ConnectionBroken, None),
        (1, b"NO (TRYLATER)", UpstreamError, "trylater"),
    ],
)
def test_whatever_else_is_said_to_a_token_is_not_repeated_and_no_reason_for_another(
    play: Any, provider: TokenServer, challenges: int, end: bytes, kind: type[UpstreamError], code: str | None
) -> None:
    guarded = Guarded(provider, challenges, end)
    server = play(guarded, greeting("OAUTHBEARER"))
    provider._access = _Forgetful()
    with pytest.raises(kind) as caught:
        log_in(server, provider)
    assert not isinstance(caught.value, AuthenticationError) and caught.value.code == code
    assert (len(guarded.said), len(guarded.answers), len(provider.asked)) == (1, min(challenges, 1), 1)
    no_secret(provider, str(caught.value))


def test_a_server_without_plain_gets_a_password_step_by_step(play: Any) -> None:
    said: list[bytes] = []

    def answer(command: bytes) -> bytes:
        said.append(command.strip())
        return b'"VXNlcm5hbWU6"\r\n' if len(said) < 3 else b"OK\r\n"

    server = play(answer, greeting("LOGIN"))
    connect_sieve(server.settings(), "u", QUICK).close()
    assert said == [b'AUTHENTICATE "LOGIN"', b'"dQ=="', b'"cHc="']


def test_a_server_that_is_away_uses_up_no_token(provider: TokenServer) -> None:
    (port,) = free_ports(1)
    given = ImapSettings(sieveHost="127.0.0.1", sievePort=port, sieveSSL=0, **provider.settings("u"))
    with pytest.raises(UpstreamError):
        connect_sieve(given, "u", QUICK, Tokens(given))
    assert provider.asked == []


def test_a_token_that_no_log_in_can_carry_is_not_sent(play: Any, provider: TokenServer) -> None:
    guarded = Guarded(provider)
    provider.script.append((200, {"access_token": "a\x01b"}))
    with pytest.raises(AuthenticationError):
        log_in(play(guarded, greeting("OAUTHBEARER")), provider)
    assert guarded.said == []


# --- Pigeonhole


@pytest.fixture
def user(dovecot_sieve: Any) -> str:
    return str(dovecot_sieve.new_user())


def settings(server: Any, **more: Any) -> ImapSettings:
    base: dict[str, Any] = {
        "imapHost": "localhost", "imapPort": server.port, "imapSSL": 0, "password": server.password,
        "sieveHost": "localhost", "sievePort": server.sieve_port, "imapCA": str(getattr(server, "ca_file", "")),
    }  # fmt: skip
    return ImapSettings(**(base | more))


@pytest.fixture
def source(dovecot_sieve: Any, user: str) -> Iterator[Sieve]:
    made = Sieve(lambda: connect_sieve(settings(dovecot_sieve, sieveSSL=0), user))
    yield made
    made.close()


def test_scripts_are_made_read_renamed_activated_and_removed(source: Sieve) -> None:
    octets = 'keep; # "ü\\\r\n'.encode() * 200
    source.write('a "quoted\\" ü', octets)
    assert source.read('a "quoted\\" ü') == octets
    source.activate('a "quoted\\" ü')
    source.rename('a "quoted\\" ü', "b")
    assert source.scripts() == [("b", True)]
    with pytest.raises(UpstreamError) as caught:
        source.delete("b")
    assert caught.value.code == "active"
    source.activate(None)
    source.delete("b")
    assert source.scripts() == []
    with pytest.raises(KeyError):
        source.read("b")


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("a", b"rubbish;", "invalid"),
        ("a", b'require "nonsense";', "invalid"),
        ("a/b", b"keep;", "cannot"),
        ("a", b"#" * 300_000, "quota/maxsize"),
    ],
)
def test_refusals_tell_the_scripts_fault_from_the_names(source: Sieve, name: str, content: bytes, code: str) -> None:
    with pytest.raises(UpstreamError) as caught:
        source.write(name, content)
    assert caught.value.code == code
    assert code != "invalid" or "line 1" in str(caught.value)
    assert source.scripts() == []


def test_twenty_scripts_are_read_in_two_round_trips(source: Sieve) -> None:
    for number in range(3):
        source.write(f"s{number}", b"keep;")
    before = source._connection.round_trips
    found = source.read_all([f"s{number}" for number in range(20)])
    assert sorted(found) == ["s0", "s1", "s2"]
    assert source._connection.round_trips - before == 2


def test_features_come_from_the_capabilities_after_login(source: Sieve) -> None:
    features = source.features()
    assert {"include", "vacation", "date"} <= set(features.extensions)
    assert "Pigeonhole" in features.implementation and features.notify == ("mailto",)
    assert features.lists is None and (features.max_redirects or 1) > 0


# --- Cyrus


@pytest.fixture
def cyrus_source(cyrus: Any) -> Iterator[Sieve]:
    user = cyrus.new_user()
    given = settings(cyrus, sieveHost=cyrus.host, sieveSSL=0, imapCA=None, sievePort=cyrus.sieve_port)
    made = Sieve(lambda: connect_sieve(given, user))
    yield made
    made.close()


def test_cyrus_stores_renames_activates_and_removes(cyrus_source: Sieve) -> None:
    source = cyrus_source
    source.write("a b", b"keep;\r\n")
    source.activate("a b")
    source.rename("a b", "c")
    assert source.scripts() == [("c", True)] and source.read_all(["c", "nope"]) == {"c": b"keep;\r\n"}
    source.activate(None)
    source.delete("c")
    assert source.scripts() == []


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [("a", b"rubbish;", "invalid"), ("a/b", b"keep;", "cannot"), ("a", b"#" * 40_000, "quota/maxsize")],
)
def test_cyruss_refusals_are_told_apart_too(cyrus_source: Sieve, name: str, content: bytes, code: str) -> None:
    with pytest.raises(UpstreamError) as caught:
        cyrus_source.write(name, content)
    assert caught.value.code == code


def test_cyrus_lists_quotes_as_they_are_and_stays_in_step(cyrus_source: Sieve) -> None:
    cyrus_source.write('say "hi"', b"keep;")
    cyrus_source.write("plain", b"discard;")
    ((other, _),) = [row for row in cyrus_source.scripts() if row[0] != "plain"]
    assert cyrus_source.read_all(["plain", other])["plain"] == b"discard;"


@pytest.mark.parametrize(
    "values",
    [
        {}, {"isEnabled": True}, {"isEnabled": True, "subject": 'ü "', "textBody": '.\n"\\'},
        {"isEnabled": True, "fromDate": "2020-01-01T00:00:00Z", "toDate": "2090-01-01T00:00:00Z", "htmlBody": "<p>ü"},
    ],
)  # fmt: skip
def test_the_scripts_that_a_vacation_response_makes_are_taken_by_cyrus(
    cyrus_source: Sieve, values: dict[str, Any]
) -> None:
    from jmapplug.capabilities.sieve import force
    from jmapplug.capabilities.vacationresponse import script

    wanted = script.Vacation(**values)
    cyrus_source.write(force.VACATION, script.render(wanted, ["ann@example.org"]))
    cyrus_source.write(force.MASTER, force.master("mine", 'my "other"'))
    cyrus_source.activate(force.MASTER)
    assert script.parse(cyrus_source.read(force.VACATION)) == wanted
    assert force.parse_master(cyrus_source.read(force.MASTER)) == ("mine", 'my "other"')


@pytest.fixture
def plain_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """TLS is tried without gevent's sockets: mixing the two is no case of ours."""
    import socket

    monkeypatch.setattr(transport, "socket", socket)


@pytest.mark.usefixtures("plain_sockets")
def test_a_managesieve_server_on_the_imap_host_is_found_when_an_account_is_made(dovecot_sieve: Any, user: str) -> None:
    stored = ImapBackend().validate(settings(dovecot_sieve, sieveHost=None), user)
    assert (stored.sieveHost, stored.sieveSSL) == ("localhost", 3)
    session = ImapBackend().open(stored, user)
    assert session.sieve is not None and session.sieve.scripts() == []
    session.close()


@pytest.mark.usefixtures("plain_sockets")
def test_what_is_found_is_never_less_protected_than_imap(dovecot_sieve: Any, user: str) -> None:
    server = dovecot_sieve
    clear = settings(server, sieveHost=None, imapCA=None)
    assert sieve.probe(clear, user).sieveSSL == 0
    assert sieve.probe(msgspec.structs.replace(clear, imapSSL=3), user).sieveHost is None


@pytest.mark.usefixtures("plain_sockets")
def test_a_login_that_was_refused_through_tls_is_not_tried_in_clear(
    dovecot_sieve: Any, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []

    def counted(host: str, port: int, security: int, *more: Any) -> managesieve.ManageSieve:
        tried.append(security)
        return managesieve.open_connection(host, port, security, *more)

    monkeypatch.setattr(sieve, "open_connection", counted)
    given = settings(dovecot_sieve, sieveHost=None, password="wrong")
    assert sieve.probe(given, user).sieveHost is None and tried == [3]


def test_port_zero_means_that_there_is_none(dovecot_sieve: Any, user: str) -> None:
    stored = ImapBackend().validate(settings(dovecot_sieve, sievePort=0), user)
    assert ImapBackend().open(stored, user).sieve is None


@pytest.mark.usefixtures("plain_sockets")
def test_no_server_there_is_no_error_unless_it_was_named(dovecot_sieve: Any, user: str) -> None:
    (port,) = free_ports(1)
    assert ImapBackend().validate(settings(dovecot_sieve, sieveHost=None, sievePort=port), user).sieveHost is None
    with pytest.raises(UpstreamError):
        ImapBackend().validate(settings(dovecot_sieve, sievePort=port), user)
    with pytest.raises(SetupError) as caught:
        ImapBackend().validate(settings(dovecot_sieve, sieveHost="127.0.0.1", imapCA=None), user)
    assert caught.value.field == "sieveHost"


@pytest.mark.parametrize("wrong", [{"sievePort": -1}, {"sievePort": 65536}, {"sieveSSL": 4}, {"sieveHost": "a b"}])
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    defaults = msgspec.convert({}, ImapSettings)
    assert (defaults.sieveHost, defaults.sievePort, defaults.sieve_security) == (None, 4190, 3)
    assert msgspec.convert({"sievePort": 0, "sieveSSL": 1}, ImapSettings).sieve_security == 0
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wrong, ImapSettings)


def test_the_limits_are_there() -> None:
    with pytest.raises(ProtocolError):
        parse_line(b'"' + b"x" * managesieve.MAX_PLAIN + b"\n")
    with pytest.raises(ProtocolError):
        parse_line(b"{2000000}\r\n%b {3000000}\r\n" % (b"x" * 2_000_000))
    with pytest.raises(ProtocolError):
        parse_line(b"{%d}\r\n" % (managesieve.MAX_SCRIPT + 1))
