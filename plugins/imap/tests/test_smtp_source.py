"""Sending through a real SMTP server, and through servers that misbehave."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.server import StreamServer
from jmapplug_imap.settings import ImapSettings
from jmapplug_imap.smtp_connection import SmtpTimeouts
from jmapplug_imap.submission import SmtpSource, trouble

from jmapplug.backends import EnvelopeAddress
from jmapplug.errors import AuthenticationError, UpstreamError
from jmapplug.testing import smtp_server
from jmapplug.testing.dovecot import make_certificate
from jmapplug.testing.smtp_server import SmtpServer

ADA = EnvelopeAddress("ada@example.org")
SHORT = SmtpTimeouts(connect=60, command=60, block=60, data=60, quit=1)


def to(*emails: str) -> list[EnvelopeAddress]:
    return [EnvelopeAddress(email) for email in emails]


@pytest.fixture
def message(tmp_path: Path) -> Path:
    path = tmp_path / "message"
    path.write_bytes(b"From: ada@example.org\r\nSubject: x\r\n\r\n.dot\r\n..two\r\nlast")
    return path


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    make_certificate(folder)
    return folder


Start = Callable[..., SmtpServer]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Start]:
    servers: list[SmtpServer] = []

    def start(*arguments: str) -> SmtpServer:
        servers.append(smtp_server.start(tmp_path / f"outbox{len(servers)}", *arguments))
        return servers[-1]

    yield start
    for each in servers:
        each.stop()


@pytest.fixture(scope="module")
def smtp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmtpServer]:
    server = smtp_server.start(tmp_path_factory.mktemp("outbox"))
    yield server
    server.stop()


def source(server: Any, timeouts: SmtpTimeouts = SHORT, **more: Any) -> SmtpSource:
    settings = ImapSettings(**{"smtpHost": "127.0.0.1", "smtpPort": server.port, "smtpSSL": 0, **more})
    return SmtpSource(settings, "ada@example.org", timeouts)


class Steps:
    """Counts the calls of on_data."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


# --- a real server -------------------------------------------------------------------------------------------------


def test_a_message_arrives_as_it_is(smtp: SmtpServer, message: Path) -> None:
    steps = Steps()
    delivery = source(smtp).send(ADA, to("bob@example.org", "eve@example.org"), message, steps)
    assert delivery.accepted
    assert delivery.reply == "250 2.0.0 Ok: queued"
    assert [each.accepted for each in delivery.answers.values()] == [True, True]
    assert steps.count == 1
    taken = smtp.taken[-1]
    assert taken.content == message.read_bytes() + b"\r\n"
    assert (taken.mail_from, taken.rcpt_tos) == ("ada@example.org", ["bob@example.org", "eve@example.org"])
    assert taken.mail_options == [f"SIZE={message.stat().st_size}"]


@pytest.mark.parametrize("without", [(), ("PIPELINING",)])
def test_each_recipient_has_its_own_answer(serve: Start, message: Path, without: tuple[str, ...]) -> None:
    server = serve(*(word for each in without for word in ("--without", each)))
    delivery = source(server).send(
        ADA, to("reject1@example.org", "bob@example.org", "tempfail1@example.org"), message, Steps()
    )
    assert delivery.accepted
    replies = {email: answer.reply for email, answer in delivery.answers.items()}
    assert replies == {
        "reject1@example.org": "550 5.1.1 No such user here",
        "bob@example.org": "250 2.1.5 Ok",
        "tempfail1@example.org": "451 4.7.1 Come back later",
    }
    assert server.taken[-1].rcpt_tos == ["bob@example.org"]


def test_without_a_recipient_that_is_taken_no_message_leaves(smtp: SmtpServer, message: Path) -> None:
    steps, before = Steps(), len(smtp.taken)
    delivery = source(smtp).send(ADA, to("reject1@example.org", "reject2@example.org"), message, steps)
    assert (delivery.stage, delivery.accepted, delivery.reply) == ("rcpt", False, None)
    assert steps.count == 0
    assert len(smtp.taken) == before


def test_a_refused_sender_ends_it(smtp: SmtpServer, message: Path) -> None:
    delivery = source(smtp).send(EnvelopeAddress("rejectfrom@example.org"), to("bob@example.org"), message, Steps())
    assert delivery.stage == "mail"
    assert delivery.answers["bob@example.org"].reply == "553 5.7.1 You are not that sender"


def test_a_message_refused_at_its_end_is_a_delivery_with_that_reply(smtp: SmtpServer, message: Path) -> None:
    delivery = source(smtp).send(ADA, to("rejectdata@example.org"), message, Steps())
    assert (delivery.stage, delivery.accepted, delivery.reply) == ("data", False, "554 5.7.1 This looks like spam")


def test_a_thousand_recipients_are_answered_one_by_one(smtp: SmtpServer, message: Path) -> None:
    names = [f"{'reject' if n % 3 == 0 else 'user'}{n}@example.org" for n in range(1000)]
    delivery = source(smtp).send(ADA, to(*names), message, Steps())
    assert {email for email, answer in delivery.answers.items() if not answer.accepted} == {
        name for name in names if name.startswith("reject")
    }
    assert len(smtp.taken[-1].rcpt_tos) == 666


def test_cut_before_the_message_is_a_failure_that_may_be_tried_again(smtp: SmtpServer, message: Path) -> None:
    steps = Steps()
    with pytest.raises(UpstreamError) as raised:
        source(smtp).send(ADA, to("cutbefore@example.org"), message, steps)
    assert raised.value.code is None
    assert raised.value.temporary
    assert steps.count == 0


def test_cut_after_the_message_is_unsure(smtp: SmtpServer, message: Path) -> None:
    with pytest.raises(UpstreamError) as raised:
        source(smtp).send(ADA, to("cutafter@example.org"), message, Steps())
    assert raised.value.code == "unsure"
    assert smtp.taken[-1].rcpt_tos == ["cutafter@example.org"]


def test_what_on_data_raises_ends_it_and_the_server_has_no_message(smtp: SmtpServer, message: Path) -> None:
    before = len(smtp.taken)

    def stop() -> None:
        raise KeyError("canceled")

    with pytest.raises(KeyError):
        source(smtp).send(ADA, to("bob@example.org"), message, stop)
    # The next message over another connection is the next one taken.
    source(smtp).send(ADA, to("marker@example.org"), message, Steps())
    assert [each.rcpt_tos for each in smtp.taken[before:]] == [["marker@example.org"]]


def test_starttls_is_used_verified_and_said_hello_again(serve: Start, certificate: Path, message: Path) -> None:
    server = serve(
        "--certificate", f"{certificate}/cert.pem", "--key", f"{certificate}/key.pem", "--auth", "ada:secret"
    )
    tls = {"smtpSSL": 3, "smtpHost": "localhost", "username": "ada", "password": "secret"}
    sender = source(server, **tls, smtpCA=f"{certificate}/cert.pem")
    assert sender.send(ADA, to("bob@example.org"), message, Steps()).accepted
    assert (server.taken[-1].tls, server.taken[-1].user) == (True, "ada")
    assert "STARTTLS" not in sender.features().extensions
    with pytest.raises(UpstreamError, match="certificate"):
        source(server, **tls).features()
    # IMAP's CA is good for SMTP as well, as a file or as its text.
    assert source(server, **tls, imapCA=(certificate / "cert.pem").read_text()).features().dsn


def test_tls_from_the_first_octet(serve: Start, certificate: Path, message: Path) -> None:
    server = serve("--certificate", f"{certificate}/cert.pem", "--key", f"{certificate}/key.pem", "--tls")
    sender = source(server, smtpSSL=2, smtpHost="localhost", smtpCA=f"{certificate}/cert.pem")
    assert sender.send(ADA, to("bob@example.org"), message, Steps()).accepted


def test_where_tls_was_asked_for_nothing_goes_in_clear(smtp: SmtpServer) -> None:
    with pytest.raises(UpstreamError, match="no STARTTLS"):
        source(smtp, smtpSSL=3, password="secret").features()


def test_smtp_has_its_own_login_or_that_of_imap(serve: Start, message: Path) -> None:
    server = serve("--auth", "relay:other", "--auth", "ada@example.org:secret")
    own = source(server, password="secret", smtpUsername="relay", smtpPassword="other")
    assert own.send(ADA, to("bob@example.org"), message, Steps()).accepted
    assert server.taken[-1].user == "relay"
    assert source(server, password="secret").send(ADA, to("bob@example.org"), message, Steps()).accepted
    assert server.taken[-1].user == "ada@example.org"


def test_a_refused_login_says_so_without_the_password(serve: Start) -> None:
    server = serve("--auth", "ada@example.org:secret")
    with pytest.raises(AuthenticationError) as raised:
        source(server, password="wrong-one").features()
    assert "wrong-one" not in str(raised.value)
    settings = ImapSettings(smtpHost="127.0.0.1", smtpPort=server.port, smtpSSL=0, password="wrong-one")
    assert "refuses the login" in str(trouble(settings, "ada@example.org"))


def test_dsn_parameters_reach_the_server(smtp: SmtpServer, message: Path) -> None:
    sender = EnvelopeAddress("ada@example.org", {"RET": "HDRS", "ENVID": "q1"})
    recipient = EnvelopeAddress("bob@example.org", {"NOTIFY": "FAILURE,DELAY"})
    assert source(smtp).send(sender, [recipient], message, Steps()).accepted
    assert {"RET=HDRS", "ENVID=Q1"} <= set(smtp.taken[-1].mail_options)
    assert smtp.taken[-1].rcpt_options == ["NOTIFY=FAILURE,DELAY"]


def test_utf8_is_asked_for_only_when_something_needs_it(smtp: SmtpServer, message: Path) -> None:
    source(smtp).send(ADA, to("jörg@example.org"), message, Steps())
    assert {"SMTPUTF8", "BODY=8BITMIME"} <= set(smtp.taken[-1].mail_options)
    message.write_bytes("Subject: x\r\n\r\nä".encode())
    source(smtp).send(ADA, to("bob@example.org"), message, Steps())
    assert "SMTPUTF8" not in smtp.taken[-1].mail_options
    assert "BODY=8BITMIME" in smtp.taken[-1].mail_options


def test_without_smtputf8_such_a_recipient_is_refused_and_the_others_are_not(serve: Start, message: Path) -> None:
    server = serve("--without", "SMTPUTF8")
    delivery = source(server).send(ADA, to("jörg@example.org", "bob@example.org"), message, Steps())
    assert delivery.accepted
    assert delivery.answers["jörg@example.org"].reply.startswith("550 5.6.7")
    message.write_bytes("Subject: ä\r\n\r\n".encode())
    delivery = source(server).send(ADA, to("bob@example.org"), message, Steps())
    assert (delivery.stage, delivery.answers["bob@example.org"].reply[:9]) == ("mail", "554 5.6.9")


def test_a_message_over_the_servers_size_is_refused_before_it_is_sent(serve: Start, message: Path) -> None:
    server = serve("--size", "20")
    steps = Steps()
    delivery = source(server).send(ADA, to("bob@example.org"), message, steps)
    assert delivery.answers["bob@example.org"].reply.startswith("552 5.3.4")
    assert steps.count == 0


# --- servers that misbehave ----------------------------------------------------------------------------------------


class Script:
    """A server on a socket that says what it is told to: one answer per line of the client, the first as greeting."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.lines: list[bytes] = []
        self.server = StreamServer(("127.0.0.1", 0), self.serve)
        self.server.start()

    @property
    def port(self) -> int:
        return int(self.server.server_port)

    def serve(self, client: Any, address: object) -> None:
        file = client.makefile("rb")
        answers = iter(self.answers)
        client.sendall(next(answers))
        for line in file:
            self.lines.append(line)
            try:
                client.sendall(next(answers))
            except (StopIteration, OSError):
                break
        client.close()


def talk(script: Script, message: Path, *emails: str) -> Any:
    """The source is used under gevent's patch; here its sockets block, so it has a thread."""
    sender = source(script)
    return gevent.get_hub().threadpool.apply(
        lambda: sender.send(ADA, to(*emails or ("bob@example.org",)), message, Steps())
    )


def test_a_server_without_ehlo_is_greeted_as_in_1982(message: Path) -> None:
    script = Script(b"220 old\r\n", b"500 what\r\n", b"250 old\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n")
    script.answers += [b""] * 6 + [b"250 taken\r\n", b"221 bye\r\n"]
    assert talk(script, message).accepted
    assert [line.split()[0] for line in script.lines[:5]] == [b"EHLO", b"HELO", b"MAIL", b"RCPT", b"DATA"]
    assert script.lines[2] == b"MAIL FROM:<ada@example.org>\r\n"


@pytest.mark.parametrize(
    ("answers", "temporary"),
    [
        ((b"554 no\r\n",), False),
        ((b"421 busy\r\n",), True),
        ((b"HTTP/1.1 400 Bad Request\r\n",), True),
        ((b"220 x\r\n", b"250-" + b"x" * 5000 + b"\r\n"), True),
        ((b"220 x\r\n", b"250-x\r\n" * 300), True),
        ((b"220 x\r\n",), True),
    ],
)
def test_a_server_that_cannot_be_used_is_an_upstream_error(
    message: Path, answers: tuple[bytes, ...], temporary: bool
) -> None:
    with pytest.raises(UpstreamError) as raised:
        talk(Script(*answers), message)
    assert raised.value.temporary is temporary
    assert raised.value.code is None


def test_octets_from_before_tls_are_not_taken_for_the_servers(message: Path) -> None:
    script = Script(b"220 x\r\n", b"250-x\r\n250 STARTTLS\r\n", b"220 go\r\n250 injected\r\n")
    sender = source(script, smtpSSL=3)
    with pytest.raises(UpstreamError, match="out of turn"):
        gevent.get_hub().threadpool.apply(sender.features)


def test_a_server_that_says_nothing_is_given_up_at_the_deadline(message: Path) -> None:
    script = Script(b"220 x\r\n", b"", b"")
    sender = source(script, SmtpTimeouts(connect=60, command=2, quit=0.1))
    with pytest.raises(UpstreamError, match="in time"):
        gevent.get_hub().threadpool.apply(sender.features)


def test_a_login_in_two_steps_where_the_server_has_no_other(message: Path) -> None:
    script = Script(
        b"220 x\r\n", b"250-x\r\n250 AUTH LOGIN\r\n", b"334 VXNlcg==\r\n", b"334 UGFzcw==\r\n", b"235 in\r\n"
    )
    script.answers += [b"250 x\r\n", b"221 bye\r\n"]
    sender = source(script, username="ada", password="secret")
    gevent.get_hub().threadpool.apply(sender.features)
    assert script.lines[1:4] == [b"AUTH LOGIN\r\n", b"YWRh\r\n", b"c2VjcmV0\r\n"]


def test_a_password_that_the_server_echoes_is_not_told(message: Path) -> None:
    script = Script(b"220 x\r\n", b"250-x\r\n250 AUTH PLAIN\r\n", b"535 5.7.8 no: AGFkYQBzZWNyZXQ= secret\r\n")
    sender = source(script, username="ada", password="secret")
    with pytest.raises(AuthenticationError) as raised:
        gevent.get_hub().threadpool.apply(sender.features)
    assert "secret" not in str(raised.value)
    assert "AGFkYQBzZWNyZXQ=" not in str(raised.value)


def test_a_connection_that_breaks_in_the_middle_of_the_message_has_sent_none(tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(b"Subject: x\r\n\r\n" + b"x" * 70 + b"\r\n" * 500_000)
    script = Script(b"220 x\r\n", b"250 x\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n")
    steps = Steps()
    sender = source(script)
    with pytest.raises(UpstreamError) as raised:
        gevent.get_hub().threadpool.apply(lambda: sender.send(ADA, to("bob@example.org"), big, steps))
    assert steps.count == 1
    assert raised.value.code is None
