"""SMTP's replies and commands as values."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jmapplug_imap import smtp_commands as commands
from jmapplug_imap.protocol.errors import ProtocolError
from jmapplug_imap.smtp_commands import Shape, Stuffing
from jmapplug_imap.smtp_reply import MAX_LINE, MAX_LINES, Replies, Reply

from jmapplug.backends import EnvelopeAddress, SubmissionFeatures
from jmapplug.errors import UpstreamError

PLAIN = Shape(10, False, False)
ALL = SubmissionFeatures(
    eight_bit=True,
    smtputf8=True,
    dsn=True,
    extensions=dict.fromkeys(("SIZE", "DSN", "FUTURERELEASE", "DELIVERBY", "MT-PRIORITY", "SMTPUTF8"), ()),
)


def read(*pieces: bytes) -> list[Reply]:
    replies = Replies()
    found = []
    for piece in pieces:
        replies.feed(piece)
        while (reply := replies.next()) is not None:
            found.append(reply)
    return found


def test_several_lines_become_one_text_as_rfc_8621_wants_it() -> None:
    (reply,) = read(b"550-5.7.1 Our system has detected that this message is\r\n550 5.7.1 likely spam.\r\n")
    assert reply.text == "550 5.7.1 Our system has detected that this message is likely spam."
    assert reply.enhanced == "5.7.1"


def test_lines_without_an_enhanced_code_keep_all_their_words() -> None:
    (reply,) = read(b"554-The first\r\n554 The second\r\n")
    assert reply.text == "554 The first The second"


@given(st.lists(st.integers(1, 40), max_size=20))
def test_a_reply_may_arrive_in_any_pieces(cuts: list[int]) -> None:
    data = b"250-one\r\n250-SIZE 10\r\n250 DSN\r\n451 4.7.1 later\r\n"
    pieces, at = [], 0
    for cut in cuts:
        pieces.append(data[at : at + cut])
        at += cut
    assert [reply.code for reply in read(*pieces, data[at:])] == [250, 451]


@pytest.mark.parametrize(
    "data",
    [
        b"hello\r\n",
        b"250-a\r\n550 b\r\n",
        b"99 x\r\n",
        b"2500 x\r\n",
        b"250 " + b"x" * MAX_LINE + b"\r\n",
        b"x" * (MAX_LINE + 1),
        b"250-x\r\n" * (MAX_LINES + 1),
        b"\xff\xfe\r\n",
    ],
)
def test_what_is_no_smtp_is_an_error_and_never_a_reply(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        read(data)


@given(st.binary(max_size=300))
def test_any_octets_are_replies_or_an_error(data: bytes) -> None:
    try:
        found = read(data)
    except ProtocolError:
        return
    for reply in found:
        assert 200 <= reply.code < 600
        assert reply.text.isprintable() or not any(ord(char) < 32 for char in reply.text)


def test_control_characters_of_a_server_reach_no_log() -> None:
    (reply,) = read(b"550 \x1b[31mred\x00\x07\r\n")
    assert reply.text == "550 [31mred"


def test_ehlo_tells_what_the_server_can() -> None:
    (reply,) = read(
        b"250-mx.example.org hello\r\n250-SIZE 1000\r\n250-8bitmime\r\n250-DSN\r\n"
        b"250-FUTURERELEASE 3600 2030-01-01T00:00:00Z\r\n"
        b"250-AUTH=LOGIN PLAIN\r\n250-XTRA\r\n250 SMTPUTF8\r\n"
    )
    features = commands.features_of(reply)
    assert (features.size, features.eight_bit, features.dsn, features.smtputf8) == (1000, True, True, True)
    assert features.future_release == 3600
    assert features.extensions["AUTH"] == ("LOGIN", "PLAIN")
    assert features.extensions["XTRA"] == ()


def test_ehlos_numbers_may_be_nonsense() -> None:
    (reply,) = read(b"250-x\r\n250-SIZE -1\r\n250-FUTURERELEASE\r\n250 SIZE 99999999999999999999\r\n")
    assert commands.features_of(reply).size == 0
    assert commands.features_of(reply).future_release == 0


def test_parameters_are_written_with_xtext_where_rfc_3461_wants_it() -> None:
    sender = EnvelopeAddress("a@b.c", {"envid": "a+b=c d", "RET": "HDRS", "HOLDFOR": "60"})
    line = commands.mail_line(sender, ALL, PLAIN, False)
    assert line == b"MAIL FROM:<a@b.c> SIZE=10 ENVID=a+2Bb+3Dc+20d RET=HDRS HOLDFOR=60\r\n"
    recipient = EnvelopeAddress("x@y.z", {"NOTIFY": "SUCCESS,FAILURE", "ORCPT": "rfc822;x+1@y.z"})
    assert commands.rcpt_line(recipient, ALL) == b"RCPT TO:<x@y.z> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;x+2B1@y.z\r\n"


def test_dsn_parameters_are_left_out_where_the_server_has_no_dsn() -> None:
    sender = EnvelopeAddress("a@b.c", {"RET": "HDRS", "ENVID": "x"})
    assert commands.mail_line(sender, SubmissionFeatures(), PLAIN, False) == b"MAIL FROM:<a@b.c>\r\n"


@pytest.mark.parametrize(
    "parameters", [{"HOLDFOR": "60"}, {"BY": "60;R"}, {"X": "1"}, {"SIZE": "1"}, {"RET": "a b"}, {"BY": "1\r\nQUIT"}]
)
def test_parameters_that_cannot_be_honoured_are_an_error(parameters: dict[str, str | None]) -> None:
    features = SubmissionFeatures(extensions={"DSN": ()}) if "BY" not in parameters else SubmissionFeatures()
    with pytest.raises(UpstreamError) as raised:
        commands.mail_line(EnvelopeAddress("a@b.c", parameters), features, PLAIN, False)
    assert raised.value.code == "parameter"


@pytest.mark.parametrize("email", ["a@b>\r\nRCPT TO:<x@y", "a\n@b", "<a@b", "a\x00@b", "\ud800@b"])
def test_no_address_becomes_a_second_command(email: str) -> None:
    with pytest.raises(commands.Unsendable):
        commands.rcpt_line(EnvelopeAddress(email), ALL)


def test_a_domain_alone_beyond_ascii_is_written_as_a_labels_without_smtputf8() -> None:
    assert commands.address("a@bücher.example", SubmissionFeatures()) == "a@xn--bcher-kva.example"
    assert commands.address("ä@bücher.example", ALL) == "ä@bücher.example"
    with pytest.raises(commands.Unsendable, match=r"5\.6\.7"):
        commands.address("ä@bücher.example", SubmissionFeatures())


def test_the_shape_tells_eight_bit_bodies_from_headers_in_utf_8(tmp_path: Path) -> None:
    def shape(data: bytes) -> Shape:
        (tmp_path / "m").write_bytes(data)
        return commands.shape_of(tmp_path / "m")

    assert shape(b"A: b\r\n\r\nplain\r\n") == Shape(15, False, False)
    assert shape(b"A: b\r\n\r\n\xc3\xa4\r\n") == Shape(12, True, False)
    assert shape("A: ä\r\n\r\nx\r\n".encode()) == Shape(12, True, True)
    long = b"A: " + b"b" * (commands.CHUNK - 5) + b"\r\n"
    assert shape(long + b"\r\n\xc3\xa4") == Shape(len(long) + 4, True, False)


# --- the octets of the message --------------------------------------------------------------------------------------


def wire(*chunks: bytes) -> bytes:
    stuffing = Stuffing()
    return b"".join(stuffing.wire(chunk) for chunk in chunks) + stuffing.end()


def received(data: bytes) -> bytes:
    """What a server makes of it (RFC 5321 §4.5.2)."""
    assert data == b"" or data.endswith(b"\r\n")
    assert b"\r\n.\r\n" not in b"\r\n" + data
    return b"\r\n".join(line[1:] if line.startswith(b".") else line for line in data.split(b"\r\n"))


@given(st.lists(st.text(alphabet="a.\r\n", max_size=12).map(str.encode), max_size=8))
def test_dot_stuffing_is_undone_by_the_server_wherever_the_message_is_cut(chunks: list[bytes]) -> None:
    message = b"".join(chunks)
    expected = message.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
    if not expected.endswith(b"\r\n") and expected:
        expected += b"\r\n"
    data = wire(*chunks)
    if expected:
        assert received(data) == expected
    bare = data.replace(b"\r\n", b"")
    assert b"\r" not in bare
    assert b"\n" not in bare


def test_a_lone_line_feed_cannot_end_the_message_early() -> None:
    assert wire(b"x\n.\nMAIL FROM:<evil@example.org>\n") == b"x\r\n..\r\nMAIL FROM:<evil@example.org>\r\n"
