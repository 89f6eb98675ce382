"""The message of a notification, written and read (RFC 8098)."""

from __future__ import annotations

import email
import email.policy
import io
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jmapplug.capabilities.mdn import report
from jmapplug.mime import write

DISPOSITION = {"actionMode": "manual-action", "sendingMode": "mdn-sent-manually", "type": "displayed"}
EXAMPLE = b"""Date: Wed, 20 Sep 1995 00:19:00 (EDT) -0400\r
From: Joe Recipient <Joe_Recipient@example.com>\r
Message-Id: <199509200019.12345@example.com>\r
Subject: Re: Disposition notification\r
To: Jane Sender <Jane_Sender@example.org>\r
MIME-Version: 1.0\r
Content-Type: multipart/report; report-type=disposition-notification;\r
 boundary="RAA14128.773615765/example.com"\r
\r
--RAA14128.773615765/example.com\r
Content-type: text/plain\r
\r
The message sent on 1995 Sep 19 at 13:30:00 (EDT) -0400 to Joe\r
Recipient has been displayed.\r
\r
--RAA14128.773615765/example.com\r
content-type: message/disposition-notification\r
\r
Reporting-UA: joes-pc.cs.example.com; Foomail 97.1\r
Original-Recipient: rfc822;Joe_Recipient@example.com\r
Final-Recipient: rfc822;Joe_Recipient@example.com\r
Original-Message-ID: <199509192301.23456@example.org>\r
Disposition: Manual-action/MDN-sent-manually; Displayed\r
\r
--RAA14128.773615765/example.com\r
Content-type: message/rfc822\r
\r
Subject: original\r
\r
--RAA14128.773615765/example.com--\r
"""


def mdn(**more: Any) -> report.Mdn:
    return (
        dict.fromkeys(report.PROPERTIES)
        | {
            "includeOriginalMessage": False,
            "disposition": DISPOSITION,
            "finalRecipient": "rfc822; joe@example.com",
        }
        | more
    )


def written(one: report.Mdn, original: bytes | None = None) -> bytes:
    part = None
    if original is not None:
        part = write.Part("message/rfc822", content=write.Blob(len(original), lambda: io.BytesIO(original)))
    target = io.BytesIO()
    write.write(target, [b"Subject: receipt\r\n", b"MIME-Version: 1.0\r\n"], report.compose(one, part))
    return target.getvalue()


def test_the_example_of_rfc_8098_is_understood() -> None:
    assert report.parse(EXAMPLE) == {
        "forEmailId": None,
        "subject": "Re: Disposition notification",
        "textBody": "The message sent on 1995 Sep 19 at 13:30:00 (EDT) -0400 to Joe\nRecipient has been displayed.\n",
        "includeOriginalMessage": True,
        "reportingUA": "joes-pc.cs.example.com; Foomail 97.1",
        "disposition": DISPOSITION,
        "mdnGateway": None,
        "originalRecipient": "rfc822;Joe_Recipient@example.com",
        "finalRecipient": "rfc822;Joe_Recipient@example.com",
        "originalMessageId": "<199509192301.23456@example.org>",
        "error": None,
        "extensionFields": None,
    }


def changed(old: bytes, new: bytes) -> report.Mdn | None:
    assert old in EXAMPLE
    return report.parse(EXAMPLE.replace(old, new))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (
            b"automatic-action/MDN-sent-automatically; processed",
            ("automatic-action", "mdn-sent-automatically", "processed"),
        ),
        (
            b"MANUAL-ACTION / mdn-SENT-manually ; DELETED/error,warning",
            ("manual-action", "mdn-sent-manually", "deleted"),
        ),
        (
            b"(by hand) manual-action/MDN-sent-manually (yes);\r\n dispatched",
            ("manual-action", "mdn-sent-manually", "dispatched"),
        ),
        (b"manual-action/MDN-sent-manually; denied", None),
        (b"displayed", None),
        (b"", None),
    ],
)
def test_dispositions_are_read_in_any_case_and_told_in_lower_case(
    value: bytes, expected: tuple[str, ...] | None
) -> None:
    found = changed(b"Manual-action/MDN-sent-manually; Displayed", value)
    assert (tuple(found["disposition"].values()) if found else None) == expected


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"multipart/report", b"multipart/mixed"),
        (b"disposition-notification;\r\n boundary", b"delivery-status;\r\n boundary"),
        (b"content-type: message/disposition-notification", b"content-type: text/plain"),
        (b"Disposition: ", b"X-Disposition: "),
    ],
)
def test_what_lacks_a_piece_of_a_notification_is_none(old: bytes, new: bytes) -> None:
    assert changed(old, new) is None


def test_errors_gateway_and_further_fields_are_told() -> None:
    found = changed(
        b"Reporting-UA:",
        b"MDN-Gateway: dns; gw.example\r\nError: first\r\nX-Foo: bar\r\nERROR: second\r\nReporting-UA:",
    )
    assert found is not None
    assert (found["mdnGateway"], found["error"]) == ("dns; gw.example", ["first", "second"])
    assert found["extensionFields"] == {"X-Foo": "bar"}


def test_a_notification_in_base64_with_an_html_alternative_is_read() -> None:
    found = changed(
        b"Content-type: text/plain\r\n\r\nThe message",
        b"Content-Type: multipart/alternative; boundary=i\r\n\r\n--i\r\nContent-Type: text/html\r\n\r\n<p>no</p>\r\n"
        b"--i\r\nContent-Type: text/plain; charset=iso-8859-1\r\n\r\ngr\xfc\xdfe The message",
    )
    assert found is not None and found["textBody"].startswith("grüße The message")


@pytest.mark.parametrize(
    "octets", [b"", b"x", b"\x00" * 100, EXAMPLE[:700], EXAMPLE[:-200], b"Content-Type: multipart/report\r\n\r\n"]
)
def test_broken_messages_are_no_reason_to_fail(octets: bytes) -> None:
    report.parse(octets)


def test_a_notification_is_built_as_rfc_8098_wants_it() -> None:
    octets = written(
        mdn(textBody="Gelesen ✓", reportingUA="Foo; 1", originalMessageId="<a@b>"), b"Subject: o\r\n\r\nx\r\n"
    )
    message = email.message_from_bytes(octets, policy=email.policy.default)
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "disposition-notification"
    human, notification, original = message.iter_parts()
    assert human.get_content_type() == "text/plain" and human.get_content().strip() == "Gelesen ✓"
    assert notification.get_content_type() == "message/disposition-notification"
    assert (
        b"Reporting-UA: Foo; 1\r\nFinal-Recipient: rfc822; joe@example.com\r\nOriginal-Message-ID: <a@b>\r\n" in octets
    )
    assert b"Disposition: manual-action/mdn-sent-manually; displayed\r\n" in octets
    assert original.get_content_type() == "message/rfc822"


def test_fields_beyond_ascii_take_the_global_form() -> None:
    octets = written(mdn(finalRecipient="utf-8; jürgen@müller.example", textBody=""))
    assert b"Content-Type: message/global-disposition-notification\r\n" in octets
    found = report.parse(octets)
    assert found is not None and found["finalRecipient"] == "utf-8; jürgen@müller.example"


WORDS = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x24F, blacklist_categories=("Cc", "Cs", "Zs", "Zl", "Zp", "Cf")),
    min_size=1,
    max_size=30,
)
VALUES = st.lists(WORDS, min_size=1, max_size=8).map(" ".join)
NAMES = st.from_regex(r"X-[A-Za-z0-9-]{1,20}", fullmatch=True)


@given(
    text=st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=300),
    fields=st.fixed_dictionaries(
        {name: st.none() | VALUES for name in ("reportingUA", "originalRecipient", "finalRecipient")}
    ),
    extensions=st.dictionaries(NAMES, VALUES, max_size=4),
    disposition=st.fixed_dictionaries(
        {
            "actionMode": st.sampled_from(report.ACTION_MODES),
            "sendingMode": st.sampled_from(report.SENDING_MODES),
            "type": st.sampled_from(report.TYPES),
        }
    ),
    original=st.none() | st.binary(max_size=200).map(lambda octets: b"Subject: o\r\n\r\n" + octets.replace(b"\0", b"")),
)
@settings(deadline=None, max_examples=150)
def test_what_is_written_is_read_again(
    text: str, fields: dict[str, Any], extensions: dict[str, str], disposition: dict[str, str], original: bytes | None
) -> None:
    one = mdn(textBody=text, disposition=disposition, extensionFields=extensions or None, **fields)
    found = report.parse(written(one, original))
    assert found is not None
    assert found | {"textBody": ""} == one | {
        "textBody": "",
        "subject": "receipt",
        "includeOriginalMessage": original is not None,
    }
    assert found["textBody"].split() == text.split()
