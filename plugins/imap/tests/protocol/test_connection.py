"""A connection against scripted servers: login, layers, deadlines, breaks."""

from __future__ import annotations

import base64
import io
import threading
import zlib

import pytest
from jmapplug_imap.protocol import (
    Astring,
    AuthenticationError,
    CommandBad,
    CommandNo,
    ConnectionBroken,
    Credentials,
    Exists,
    Limits,
    Literal,
    LiteralStart,
    Mailbox,
    MailboxStatus,
    ProtocolError,
    Result,
    Search,
    Streamed,
    Vanished,
    channel,
    transport,
)

from jmapplug.errors import UpstreamError

GREETING = b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready\r\n"
ANNA = Credentials("anna", "geheim-42")


def test_a_wrong_password_is_an_authentication_error_without_the_password(serve):
    def script(peer):
        peer.send(b"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR] hi\r\n")
        tag = peer.expect("AUTHENTICATE PLAIN .*")
        peer.send(
            tag + b" NO [AUTHENTICATIONFAILED] anna/geheim-42 is wrong " + base64.b64encode(b"geheim-42") + b"\r\n"
        )
        peer.answer("NOOP")

    connection = serve(script).open()
    with pytest.raises(AuthenticationError) as caught:
        connection.login(ANNA)
    assert "geheim-42" not in repr(caught.value) and base64.b64encode(b"geheim-42").decode() not in str(caught.value)
    assert caught.value.__cause__ is None and not caught.value.temporary
    assert not connection.broken
    connection.noop()


def test_the_credentials_never_show_in_a_repr():
    assert "geheim" not in repr(ANNA) and "geheim" not in repr(Astring("geheim", secret=True))


def test_a_goodbye_that_echoes_the_password_does_not_show_it(serve):
    def script(peer):
        peer.send(b"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR] hi\r\n")
        peer.expect("AUTHENTICATE PLAIN .*")
        peer.send(b"* BYE geheim-42\r\n")

    connection = serve(script).open()
    with pytest.raises(ConnectionBroken) as caught:
        connection.login(ANNA)
    assert "geheim-42" not in str(caught.value)
    assert connection.broken


def test_a_goodbye_because_of_the_credentials_counts_as_their_refusal(serve):
    """Wish 12: else it is tried again as if the server were away."""

    def script(peer):
        peer.send(b"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR] hi\r\n")
        peer.expect("AUTHENTICATE PLAIN .*")
        peer.send(b"* BYE [AUTHENTICATIONFAILED] geheim-42 is wrong\r\n")

    with pytest.raises(AuthenticationError) as caught:
        serve(script).open().login(ANNA)
    assert "geheim-42" not in str(caught.value)


@pytest.mark.parametrize(
    ("capabilities", "refusal"),
    [
        (b"IMAP4rev1 AUTH=PLAIN SASL-IR", b"NO AUTHENTICATE failed. Basic authentication is disabled."),
        (b"IMAP4rev1 AUTH=XOAUTH2 SASL-IR LOGINDISABLED", None),
    ],
)
def test_where_passwords_are_not_taken_the_error_says_what_to_do(serve, capabilities, refusal):
    """Wish 19."""

    def script(peer):
        peer.send(b"* OK [CAPABILITY " + capabilities + b"] hi\r\n")
        if refusal:
            peer.answer("AUTHENTICATE PLAIN .*", end=refusal)

    with pytest.raises(AuthenticationError, match="Make an app password"):
        serve(script).open().login(ANNA)


def test_an_alert_that_greets_us_with_our_password_is_kept_without_it(serve):
    def script(peer):
        peer.send(b"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR] hi\r\n")
        alert = b"* NO [ALERT] change geheim-42 soon\r\n"
        peer.answer("AUTHENTICATE PLAIN .*", alert, b"OK [CAPABILITY IMAP4rev1] in")

    connection = serve(script).open()
    connection.login(ANNA)
    assert connection.alerts == ["change … soon"]


@pytest.mark.parametrize("code", [b"[LIMIT]", b"[UNAVAILABLE]", b""])
def test_a_goodbye_instead_of_a_greeting_tells_its_reason(serve, code):
    def script(peer):
        peer.send(b"* BYE " + code + b" too many connections\r\n")

    with pytest.raises(ConnectionBroken, match="too many connections") as caught:
        serve(script).open()
    assert caught.value.code == "throttled"


def test_a_server_that_is_unavailable_does_not_count_as_wrong_credentials(serve):
    def script(peer):
        peer.send(b"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR] hi\r\n")
        peer.answer("AUTHENTICATE PLAIN .*", end=b"NO [UNAVAILABLE] later")

    with pytest.raises(CommandNo) as caught:
        serve(script).open().login(ANNA)
    assert caught.value.temporary and caught.value.code == "unavailable"
    assert not isinstance(caught.value, AuthenticationError)


def test_plain_without_sasl_ir_waits_for_the_challenge(serve):
    def script(peer):
        peer.send(b"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] hi\r\n")
        tag = peer.expect("AUTHENTICATE PLAIN")
        peer.send(b"+ \r\n")
        assert base64.b64decode(peer.line()) == b"\0anna\0geheim-42"
        peer.send(tag + b" OK in\r\n")
        peer.answer("CAPABILITY", b"* CAPABILITY IMAP4rev1 IDLE\r\n")

    connection = serve(script).open()
    connection.login(ANNA)
    assert connection.capabilities == {"IMAP4REV1", "IDLE"}


def test_the_login_mechanism_gives_name_and_password_one_by_one(serve):
    def script(peer):
        peer.send(b"* OK [CAPABILITY IMAP4rev1 AUTH=LOGIN] hi\r\n")
        tag = peer.expect("AUTHENTICATE LOGIN")
        peer.send(b"+ VXNlcm5hbWU6\r\n")
        assert base64.b64decode(peer.line()) == b"anna"
        peer.send(b"+ UGFzc3dvcmQ6\r\n")
        assert base64.b64decode(peer.line()) == b"geheim-42"
        peer.send(tag + b" OK [CAPABILITY IMAP4rev1] in\r\n")

    serve(script).open().login(ANNA)


def test_the_login_command_is_the_last_resort_and_quotes_its_strings(serve):
    def script(peer):
        peer.send(b"* OK hi\r\n")
        peer.answer("CAPABILITY", b"* CAPABILITY IMAP4rev1\r\n")
        peer.answer(r'LOGIN anna "a\\"b c"', end=b"OK [CAPABILITY IMAP4rev1] in")

    serve(script).open().login(Credentials("anna", 'a"b c'))


def test_logindisabled_forbids_the_login_command(serve):
    def script(peer):
        peer.send(b"* OK [CAPABILITY IMAP4rev1 LOGINDISABLED] hi\r\n")
        with pytest.raises(EOFError):
            peer.line()

    connection = serve(script).open()
    with pytest.raises(CommandNo) as caught:
        connection.login(ANNA)
    assert caught.value.code == "privacyrequired"
    connection.abort()


def test_a_mechanism_that_the_server_does_not_understand_gives_way_to_the_next(serve):
    def script(peer):
        peer.send(b"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR] hi\r\n")
        peer.answer("AUTHENTICATE PLAIN .*", end=b"BAD what")
        peer.answer("LOGIN anna geheim-42", end=b"OK [CAPABILITY IMAP4rev1] in")

    serve(script).open().login(ANNA)


@pytest.mark.parametrize(
    ("mechanism", "initial", "acknowledged"),
    [
        ("OAUTHBEARER", b"n,a=anna,\x01auth=Bearer tok\x01\x01", b"AQ=="),
        ("XOAUTH2", b"user=anna\x01auth=Bearer tok\x01\x01", b""),
    ],
)
def test_an_oauth_token_is_sent_and_its_failure_acknowledged(serve, mechanism, initial, acknowledged):
    def script(peer):
        peer.send(f"* OK [CAPABILITY IMAP4rev1 AUTH={mechanism} AUTH=PLAIN SASL-IR] hi\r\n".encode())
        for end in (b"NO [AUTHENTICATIONFAILED] expired", b"OK [CAPABILITY IMAP4rev1] in"):
            words = peer.line().split(b" ")
            assert words[1:3] == [b"AUTHENTICATE", mechanism.encode()]
            assert base64.b64decode(words[3]) == initial
            if end.startswith(b"NO"):
                peer.send(b"+ eyJzdGF0dXMiOiI0MDAifQ==\r\n")
                assert peer.line() == acknowledged
            peer.send(words[0] + b" " + end + b"\r\n")

    connection = serve(script).open()
    credentials = Credentials("anna", token="tok")
    with pytest.raises(AuthenticationError):
        connection.login(credentials)
    connection.login(credentials)
    assert connection.authenticated


def test_what_is_injected_before_tls_is_thrown_away(serve):
    def script(peer):
        peer.send(b"* OK [CAPABILITY IMAP4rev1 STARTTLS AUTH=PLAIN] hi\r\n")
        tag = peer.expect("STARTTLS")
        peer.send(tag + b" OK go\r\n* CAPABILITY IMAP4rev1 EVIL\r\na2 OK [CAPABILITY EVIL] injected\r\n")
        peer.start_tls()
        peer.answer("CAPABILITY", b"* CAPABILITY IMAP4rev1 GOOD\r\n")

    connection = serve(script, ssl=3).open()
    assert connection.capabilities == {"IMAP4REV1", "GOOD"}


@pytest.mark.parametrize("line", [b"* PREAUTH welcome\r\n", b"* OK [CAPABILITY IMAP4rev1] hi\r\n"])
def test_a_server_without_starttls_is_not_used_in_the_clear(serve, line):
    def script(peer):
        peer.send(line)
        if b"OK" in line:
            peer.answer("STARTTLS", end=b"BAD no")

    connection = serve(script, ssl=3)
    with pytest.raises(ConnectionBroken) as caught:
        connection.open()
    assert not caught.value.temporary and connection.broken


def test_a_certificate_that_nobody_vouches_for_is_refused(serve):
    connection = serve(lambda peer: peer.send(b"* OK hi\r\n"), ssl=2, ca_file=None)
    with pytest.raises(ConnectionBroken, match="certificate") as caught:
        connection.open()
    assert not caught.value.temporary


def test_a_certificate_for_another_host_is_refused(serve, monkeypatch):
    module = "jmapplug_imap.protocol.connection.connect"
    monkeypatch.setattr(module, lambda host, port, timeout: transport.connect("127.0.0.1", port, timeout))
    connection = serve(lambda peer: peer.send(b"* OK hi\r\n"), ssl=2)
    connection.host = "mail.example.org"
    with pytest.raises(ConnectionBroken, match="certificate of mail") as caught:
        connection.open()
    assert not caught.value.temporary


def test_tls_with_the_given_ca_is_accepted(serve):
    def script(peer):
        peer.send(b"* OK [CAPABILITY IMAP4rev1] hi\r\n")
        peer.answer("NOOP")

    serve(script, ssl=2).open().noop()


def test_compression_starts_right_behind_its_ok_even_in_the_same_packet(serve):
    def script(peer):
        peer.login()
        tag = peer.expect("COMPRESS DEFLATE")
        ok = tag + b" OK go\r\n"
        peer.deflate()
        early = peer._out.compress(b"* 7 EXISTS\r\n") + peer._out.flush(zlib.Z_SYNC_FLUSH)
        peer.raw.sendall(ok + early)
        peer.answer("NOOP", b"* OK " + b"x" * 1000 + b"\r\n")

    connection = serve(script).open()
    connection.login(ANNA)
    connection.setup(enable=(), compress=True)
    assert connection.compressed
    before = connection.bytes_in
    result = connection.noop()
    assert result.of(Exists) == [Exists(7)]
    assert connection.bytes_in - before < 200


def test_a_damaged_compressed_stream_breaks_the_connection(serve):
    def script(peer):
        peer.login()
        peer.answer("COMPRESS DEFLATE")
        peer.raw.sendall(b"\xff" * 100)

    connection = serve(script).open()
    connection.login(ANNA)
    with pytest.raises(ProtocolError):
        connection.setup(enable=(), compress=True)
        connection.noop()
    assert connection.broken


def test_silence_ends_at_the_read_deadline(serve, hurry):
    done = threading.Event()

    def script(peer):
        peer.login()
        peer.expect("NOOP")
        done.wait(60)

    connection = serve(script).open()
    connection.login(ANNA)
    hurry(connection, read=0.2)
    with pytest.raises(ConnectionBroken, match="in time"):
        connection.noop()
    done.set()
    assert connection.broken


def test_octets_that_drip_do_not_hold_off_the_deadline(serve, hurry):
    def script(peer):
        peer.login()
        peer.expect("NOOP")
        while True:
            peer.send(b"x")
            threading.Event().wait(0.05)

    connection = serve(script).open()
    connection.login(ANNA)
    hurry(connection, read=0.4)
    with pytest.raises(ConnectionBroken, match="in time"):
        connection.noop()


def test_endless_chatter_ends_at_the_command_deadline(serve, hurry):
    def script(peer):
        peer.login()
        peer.expect("NOOP")
        while True:
            peer.send(b"* OK still at it\r\n")
            threading.Event().wait(0.05)

    connection = serve(script).open()
    connection.login(ANNA)
    hurry(connection, command=0.5)
    with pytest.raises(ConnectionBroken, match="in time"):
        connection.noop()


def test_idle_wakes_for_mail_and_not_for_texts(serve):
    def script(peer):
        peer.login()
        tag = peer.expect("IDLE")
        peer.send(b"+ idling\r\n* OK Still here\r\n* 5 EXISTS\r\n")
        peer.expect("DONE")
        peer.send(b"* 6 EXISTS\r\n" + tag + b" OK done\r\n")
        peer.answer("NOOP")

    connection = serve(script).open()
    connection.login(ANNA)
    assert connection.idle(60) == [Exists(5), Exists(6)]
    connection.noop()


def test_idle_ends_with_nothing_after_its_timeout_and_the_connection_goes_on(serve, hurry):
    def script(peer):
        peer.login()
        for _ in range(2):
            tag = peer.expect("IDLE")
            peer.send(b"+ idling\r\n")
            peer.expect("DONE")
            peer.send(tag + b" OK done\r\n")

    connection = serve(script).open()
    connection.login(ANNA)
    hurry(connection, read=0.5)
    assert connection.idle(1) == []
    assert connection.idle(1) == []


def test_done_ends_idle_from_elsewhere(serve):
    idling = threading.Event()

    def script(peer):
        peer.login()
        tag = peer.expect("IDLE")
        peer.send(b"+ idling\r\n* 1 RECENT\r\n")
        idling.set()
        peer.expect("DONE")
        peer.send(tag + b" OK done\r\n")
        peer.answer("NOOP")

    connection = serve(script).open()
    connection.login(ANNA)
    ender = threading.Thread(target=lambda: idling.wait(60) and connection.done())
    ender.start()
    assert connection.idle(60) == []
    ender.join()
    connection.noop()
    connection.done()  # nothing to end


def test_abort_from_elsewhere_ends_a_wait(serve):
    idling = threading.Event()

    def script(peer):
        peer.login()
        peer.expect("IDLE")
        peer.send(b"+ idling\r\n")
        idling.set()
        with pytest.raises(EOFError):
            peer.line()

    connection = serve(script).open()
    connection.login(ANNA)
    ender = threading.Thread(target=lambda: idling.wait(60) and connection.abort())
    ender.start()
    with pytest.raises(ConnectionBroken):
        connection.idle(60)
    ender.join()


def test_a_refused_idle_leaves_the_connection_usable(serve):
    def script(peer):
        peer.login()
        peer.answer("IDLE", end=b"NO not now")
        peer.answer("NOOP")

    connection = serve(script).open()
    connection.login(ANNA)
    with pytest.raises(CommandNo):
        connection.idle(60)
    connection.noop()


@pytest.mark.parametrize(
    "last",
    [
        b"* BYE [UNAVAILABLE] shutting down\r\n",
        b"* 1 FETCH (UID 1 BODY[] {100}\r\nhalf of it* BYE\r\n",
        b"* 1 FETCH (UID 1 FLAGS (",
        b"",
        b"\r\n",
        b"zzz OK never asked\r\n",
        b"* SEARCH 1 2 x\r\n",
        b"* LIST nonsense\r\n",
        b"* 1 FETCH (FLAGS\r\n",
        b"* 1 FETCH (UID 1 BODY[] {99999999999999}\r\n",
    ],
)
def test_an_answer_that_breaks_off_or_makes_no_sense_is_never_a_result(serve, last):
    def script(peer):
        peer.login()
        peer.expect("UID SEARCH ALL")
        peer.send(b"* SEARCH 1 2 3\r\n" + last)

    connection = serve(script).open()
    connection.login(ANNA)
    with pytest.raises(ConnectionBroken):
        connection.command("UID SEARCH", "ALL")
    assert connection.broken
    with pytest.raises(ConnectionBroken):
        connection.noop()


def test_pipelined_commands_go_out_together_and_may_end_in_any_order(serve):
    def script(peer):
        peer.login()
        one, two, three = peer.expect("NOOP"), peer.expect("STATUS nope .*"), peer.expect("UID SEARCH ALL")
        peer.send(three + b" BAD what\r\n* 3 EXISTS\r\n" + one + b" OK a\r\n" + two + b" NO [NONEXISTENT] b\r\n")

    connection = serve(script).open()
    connection.login(ANNA)
    before = connection.round_trips
    first, second, third = connection.pipeline(
        [["NOOP"], ["STATUS", Mailbox(b"nope"), ["MESSAGES"]], ["UID SEARCH", "ALL"]]
    )
    assert isinstance(first, Result) and first.of(Exists) == [Exists(3)]
    assert isinstance(second, CommandNo) and second.code == "nonexistent"
    assert isinstance(third, CommandBad)
    assert connection.round_trips == before + 1


ROWS = [b"* %d FETCH (UID %d MODSEQ (7) FLAGS (\\Seen))\r\n" % (n, n + 100) for n in range(1, 31)]
ODD = [b"* 3 EXISTS\r\n", b'* 9 FETCH (FLAGS ("\\Seen") UID 109)\r\n', b"* 8 FETCH (FLAGS (x))\r\n"]


@pytest.mark.parametrize("more", [[], ODD], ids=["alike", "mixed"])
def test_rows_that_are_alike_are_read_together_and_say_the_same(serve, monkeypatch, more):
    """Two commands in one write, their rows cut in the middle of the octets."""
    lines = [*ROWS[:20], *more, *ROWS[20:]]

    def script(peer):
        peer.login()
        for _ in range(2):
            first, second = peer.expect("UID STORE .*"), peer.expect("UID STORE .*")
            octets = b"".join(lines) + first + b" OK\r\n" + b"".join(ROWS[:3]) + second + b" OK\r\n"
            peer.send(octets[:1000])
            peer.send(octets[1000:])

    connection = serve(script).open()
    connection.login(ANNA)
    parsed = []
    parse = channel.parse
    monkeypatch.setattr(channel, "parse", lambda frame: parsed.append(frame) or parse(frame))
    commands = [["UID STORE", "101:130", "+FLAGS", ["\\Seen"]], ["UID STORE", "101:103", "-FLAGS", ["x"]]]
    slow, count = connection.pipeline(commands), len(parsed)
    quick = connection.pipeline(commands, alike=True)
    assert [each.untagged for each in quick] == [each.untagged for each in slow]
    assert len(slow[0].untagged) == len(lines) and len(slow[1].untagged) == 3
    assert len(parsed) - count <= 8 + len(more)


def test_an_answer_before_its_turn_goes_to_the_command_that_asked(serve):
    def script(peer):
        peer.login()
        one, two = peer.expect("UID SEARCH ALL"), peer.expect("STATUS x .*")
        peer.send(b"* STATUS x (MESSAGES 4)\r\n" + two + b" OK\r\n* SEARCH 1 2\r\n" + one + b" OK\r\n")

    connection = serve(script).open()
    connection.login(ANNA)
    first, second = connection.pipeline([["UID SEARCH", "ALL"], ["STATUS", Mailbox(b"x"), ["MESSAGES"]]])
    assert first.untagged == [Search((1, 2))]
    assert second.untagged == [MailboxStatus(b"x", {"MESSAGES": 4})]


@pytest.mark.parametrize("password", ["a\0b", "a\x01b", "a\ud800"])
def test_a_password_that_no_login_can_carry_is_refused_without_asking(serve, password):
    def script(peer):
        peer.send(GREETING)
        peer.answer("NOOP")

    connection = serve(script).open()
    with pytest.raises(AuthenticationError):
        connection.login(Credentials("anna", password))
    connection.noop()


def test_a_literal_waits_for_the_server_that_has_no_literal_plus(serve):
    def script(peer):
        peer.send(b"* PREAUTH [CAPABILITY IMAP4rev1] hi\r\n")
        tag = peer.expect(r"APPEND INBOX \{5\}")
        peer.send(b"* 9 EXISTS\r\n+ go\r\n")
        assert peer.line() == b"a" and peer.line() == b"bc"
        peer.send(tag + b" OK [APPENDUID 1 2] done\r\n")
        peer.answer(r"APPEND INBOX \{5\}", end=b"NO [OVERQUOTA] full")
        peer.answer("NOOP")

    connection = serve(script).open()
    result = connection.command("APPEND", Mailbox(b"INBOX"), Literal(b"a\r\nbc"))
    assert result.of(Exists) == [Exists(9)] and result.code.values == (b"1", b"2")
    with pytest.raises(CommandNo) as caught:
        connection.command("APPEND", Mailbox(b"INBOX"), Literal(b"a\r\nbc"))
    assert caught.value.code == "overquota"
    connection.noop()


def test_a_large_literal_goes_to_the_given_file_and_a_small_one_stays(serve):
    body = bytes(range(256)) * 4000

    def script(peer):
        peer.login()
        tag = peer.expect(r"UID FETCH 7 \(UID BODY.PEEK\[2\] BODY.PEEK\[2.MIME\]\)")
        peer.send(b"* 1 FETCH (UID 7 BODY[2] {%d}\r\n" % len(body) + body + b" BODY[2.MIME] {4}\r\nab\r\n)\r\n")
        peer.send(tag + b" OK done\r\n")

    connection = serve(script).open()
    connection.login(ANNA)
    sink, starts = io.BytesIO(), []

    def on_literal(start):
        starts.append(start)
        return sink if start.size > 1000 else None

    (row,) = connection.fetch([7], ["UID", "BODY.PEEK[2]", "BODY.PEEK[2.MIME]"], on_literal=on_literal)
    assert sink.getvalue() == body
    assert row.sections == {"2": Streamed(len(body)), "2.MIME": b"ab\r\n"}
    assert starts == [LiteralStart(len(body), "2", 7), LiteralStart(4, "2.MIME", 7)]


def test_a_sink_that_fails_breaks_the_connection_and_its_error_passes(serve):
    def script(peer):
        peer.login()
        peer.expect("UID FETCH .*")
        peer.send(b"* 1 FETCH (UID 7 BODY[] {9}\r\n123456789)\r\n")

    class Full:
        def write(self, data):
            raise OSError(28, "No space left on device")

    connection = serve(script).open()
    connection.login(ANNA)
    with pytest.raises(OSError, match="No space"):
        list(connection.fetch([7], ["BODY.PEEK[]"], on_literal=lambda start: Full()))
    assert connection.broken


def test_a_literal_over_the_memory_limit_without_a_file_is_refused(serve):
    def script(peer):
        peer.login()
        peer.expect("UID FETCH .*")
        peer.send(b"* 1 FETCH (UID 7 BODY[] {2000}\r\n")

    connection = serve(script)
    connection.limits = Limits(memory_literal=1000)
    connection.open().login(ANNA)
    with pytest.raises(ProtocolError, match="literal larger"):
        connection.fetch_all([7], ["BODY.PEEK[]"])


def test_rows_come_as_they_arrive_and_other_responses_go_their_own_way(serve):
    more = threading.Event()

    def script(peer):
        peer.login()
        tag = peer.expect(r"UID FETCH 1:\* \(UID FLAGS\) \(CHANGEDSINCE 5 VANISHED\)")
        peer.send(b"* VANISHED (EARLIER) 3:5\r\n* 1 FETCH (UID 1 FLAGS ())\r\n* 9 FETCH (FLAGS (\\Seen))\r\n")
        assert more.wait(60)
        peer.send(b"* 2 FETCH (UID 2 FLAGS (\\Seen \\Recent))\r\n* 12 EXISTS\r\n" + tag + b" OK\r\n")

    connection = serve(script).open()
    connection.login(ANNA)
    others = []
    rows = connection.fetch("1:*", ["UID", "FLAGS"], modifiers=["CHANGEDSINCE", 5, "VANISHED"], on_other=others.append)
    assert next(rows).uid == 1
    with pytest.raises(RuntimeError):
        connection.noop()
    more.set()
    assert [(row.uid, row.flags) for row in rows] == [(2, ("\\Seen",))]
    assert others == [Vanished(((3, 5),), True), Exists(12)]


def test_a_fetch_given_up_half_way_breaks_the_connection(serve):
    def script(peer):
        peer.login()
        peer.expect("UID FETCH .*")
        peer.send(b"* 1 FETCH (UID 1 FLAGS ())\r\n* 2 FETCH (UID 2 FLAGS ())\r\n")
        peer.line()

    connection = serve(script).open()
    connection.login(ANNA)
    rows = connection.fetch("1:*", ["UID", "FLAGS"])
    next(rows)
    rows.close()
    assert connection.broken


def test_a_fetch_of_a_message_that_is_gone_is_complete_and_any_other_refusal_is_raised(serve):
    def script(peer):
        peer.login()
        peer.answer("UID FETCH .*", b"* 1 FETCH (UID 1 FLAGS ())\r\n", b"NO [EXPUNGEISSUED] some are gone")
        peer.answer("UID FETCH .*", b"* 1 FETCH (UID 1 FLAGS ())\r\n", b"NO [SERVERBUG] internal error")
        peer.answer("NOOP")

    connection = serve(script).open()
    connection.login(ANNA)
    assert [row.uid for row in connection.fetch([1, 2], ["FLAGS"])] == [1]
    rows = connection.fetch([1, 2], ["FLAGS"])
    assert next(rows).uid == 1
    with pytest.raises(CommandNo):
        next(rows)
    connection.noop()


def test_many_uids_are_cut_into_lines_below_the_limit_and_none_is_lost(serve):
    uids = range(1, 20001, 2)

    def script(peer):
        peer.login()
        seen = 0
        while seen < len(uids):
            line = peer.line()
            assert len(line) < 8100
            tag, _, _, numbers, _ = line.split(b" ")
            for uid in numbers.split(b","):
                seen += 1
                peer.send(b"* %d FETCH (UID %s)\r\n" % (seen, uid))
            peer.send(tag + b" OK\r\n")

    connection = serve(script).open()
    connection.login(ANNA)
    assert [row.uid for row in connection.fetch(uids, ["UID"])] == list(uids)


def test_a_refused_select_leaves_nothing_selected_and_closed_cuts_off_the_old_mailbox(serve):
    def script(peer):
        peer.login()
        peer.answer("SELECT A", b"* 3 EXISTS\r\n* OK [UIDVALIDITY 9] x\r\n* OK [UIDNEXT 4] x\r\n", b"OK [READ-ONLY] ok")
        untagged = (
            b"* 8 EXISTS\r\n* OK [CLOSED] x\r\n* 1 EXISTS\r\n* OK [UIDVALIDITY 7] x\r\n* VANISHED (EARLIER) 1:3\r\n"
        )
        peer.answer(r"SELECT \"B C\" \(QRESYNC \(7 12\)\)", untagged + b"* 1 FETCH (UID 5 FLAGS () MODSEQ (13))\r\n")
        peer.answer("EXAMINE D", end=b"NO [NONEXISTENT] no")

    connection = serve(script).open()
    connection.login(ANNA)
    first = connection.select(b"A")
    assert (first.exists, first.uidvalidity, first.uidnext, first.highestmodseq, first.read_only) == (3, 9, 4, 0, True)
    second = connection.select(b"B C", qresync=(7, 12))
    assert (second.exists, second.uidvalidity, second.vanished) == (1, 7, ((1, 3),))
    assert [(row.uid, row.modseq) for row in second.rows] == [(5, 13)]
    assert connection.selected == b"B C"
    with pytest.raises(CommandNo):
        connection.select(b"D", read_only=True)
    assert connection.selected is None


def test_alerts_are_kept_for_people(serve):
    def script(peer):
        peer.login()
        peer.answer("NOOP", b"* OK [ALERT] Disk\x07 nearly full\r\n")

    connection = serve(script).open()
    connection.login(ANNA)
    connection.noop()
    assert connection.alerts == ["Disk  nearly full"]


def test_a_line_break_never_leaves_a_raw_word(serve):
    def script(peer):
        peer.login()
        peer.answer("NOOP")

    connection = serve(script).open()
    connection.login(ANNA)
    with pytest.raises(ValueError, match="line break"):
        connection.command("NOOP\r\nX LOGOUT")


def test_a_port_where_nobody_listens_is_a_broken_connection(serve):
    connection = serve(lambda peer: None)
    connection.port = 1
    with pytest.raises(UpstreamError):
        connection.open()
