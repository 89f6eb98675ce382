"""Email/get: ``headers`` and every ``header:`` form (RFC 8621 §4.1.2, §4.1.3)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from email_rig import Rig, lines
from hypothesis import given
from hypothesis import strategies as st

from jmapplug.capabilities.mail.email_get import email_get
from jmapplug.capabilities.mail.headers import parse_property
from jmapplug.jmap.errors import MethodError

MESSAGE = lines(
    "Received: from a",
    "Received: from b",
    'To: "  James Smythe" <james@example.com>, Friends:',
    "  jane@example.com, =?UTF-8?Q?John_Sm=C3=AEth?=",
    "  <john@example.com>;",
    "From: x@example.org",
    "subject: =?utf-8?q?caf=C3=A9?=",
    "Resent-To: r1@example.org",
    "Resent-To: r2@example.org",
    "Resent-Date: Tue, 3 Nov 2026 09:00:00 +0000",
    "Resent-Message-ID: <resent@example.org>",
    "List-Post: <mailto:partytime@lists.example.com> (Party), <https://example.com/post>",
    "List-Id: Party <party.example>",
    "Message-ID: <id@example.org>",
    "Date: Mon, 2 Nov 2026 10:00:00 +0100",
    "X-Many: one",
    "x-MANY: two",
    "X-Date: nonsense",
    "Comments: some words",
    "Content-Type: text/plain",
    "",
    "text",
    "",
)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.close()


def value(rig: Rig, name: str) -> Any:
    email_id = rig.add(MESSAGE)
    (email,) = rig.call(email_get, ids=[email_id], properties=[name])["list"]
    return email[name]


JOHN = {"name": "John Smîth", "email": "john@example.com"}
JANE = {"name": None, "email": "jane@example.com"}
JAMES = {"name": "James Smythe", "email": "james@example.com"}

FORMS = [
    ("header:subject", " =?utf-8?q?caf=C3=A9?="),
    ("header:Subject:asRaw", " =?utf-8?q?caf=C3=A9?="),
    ("header:SUBJECT:asText", "café"),
    ("header:Subject:asText:all", ["café"]),
    ("header:Comments:asText", "some words"),
    ("header:List-Id:asText", "Party <party.example>"),
    ("header:To:asAddresses", [JAMES, JANE, JOHN]),
    (
        "header:To:asGroupedAddresses",
        [{"name": None, "addresses": [JAMES]}, {"name": "Friends", "addresses": [JANE, JOHN]}],
    ),
    ("header:To:asAddresses:all", [[JAMES, JANE, JOHN]]),
    (
        "header:Resent-To:asAddresses:all",
        [[{"name": None, "email": "r1@example.org"}], [{"name": None, "email": "r2@example.org"}]],
    ),
    ("header:Resent-To:asAddresses", [{"name": None, "email": "r2@example.org"}]),
    ("header:Resent-Date:asDate", "2026-11-03T09:00:00Z"),
    ("header:Resent-Message-ID:asMessageIds", ["resent@example.org"]),
    ("header:Message-ID:asMessageIds:all", [["id@example.org"]]),
    ("header:List-Post:asURLs", ["mailto:partytime@lists.example.com", "https://example.com/post"]),
    ("header:List-POST:asURLs", ["mailto:partytime@lists.example.com", "https://example.com/post"]),
    ("header:List-Help:asURLs", None),
    ("header:List-Help:asURLs:all", []),
    ("header:X-Many", " two"),
    ("header:x-many:all", [" one", " two"]),
    ("header:X-Many:asText:all", ["one", "two"]),
    ("header:X-Many:asAddresses", [{"name": None, "email": "two"}]),
    ("header:X-Date:asDate", None),
    ("header:X-Date:asMessageIds", None),
    ("header:X-Date:asURLs", None),
    ("header:Received:all", [" from a", " from b"]),
    ("header:X-Not-There", None),
    ("header:X-Not-There:all", []),
    ("header:X-Not-There:asText", None),
    ("header:Date", " Mon, 2 Nov 2026 10:00:00 +0100"),
]


@pytest.mark.parametrize(("name", "expected"), FORMS, ids=[name for name, _ in FORMS])
def test_a_header_property_has_the_value_of_its_form(rig: Rig, name: str, expected: Any) -> None:
    assert value(rig, name) == expected


FORBIDDEN = [
    "header:From:asDate",
    "header:From:asText",
    "header:To:asMessageIds",
    "header:Date:asText",
    "header:Date:asURLs",
    "header:Subject:asDate",
    "header:Message-ID:asText",
    "header:Message-ID:asAddresses",
    "header:List-Post:asText",
    "header:List-Post:asAddresses",
    "header:Received:asText",
    "header:Received:asDate",
    "header:Return-Path:asAddresses",
    "header:resent-DATE:asText",
    "header:Comments:asAddresses",
    "header:References:asDate",
    "header:Subject:asGroupedAddresses",
    "header:Subject:astext",
    "header:Subject:asNonsense",
    "header:Subject:all:asText",
    "header:Subject:",
    "header:",
    "header::asText",
    "header:Sub ject",
    "header:Grüße",
    "Header:Subject",
    "header:Subject:all:all",
    "header:a\n",
]


@pytest.mark.parametrize("name", FORBIDDEN)
def test_a_forbidden_form_is_refused(rig: Rig, name: str) -> None:
    with pytest.raises(MethodError) as error:
        rig.call(email_get, ids=[rig.add(MESSAGE)], properties=[name])
    assert error.value.type == "invalidArguments"


@given(st.text(max_size=40).map(lambda text: f"header:{text}") | st.text(max_size=20))
def test_any_text_is_a_property_or_is_not(name: str) -> None:
    found = parse_property(name)
    assert found is None or name.lower().startswith(f"header:{found.field}")


def test_headers_lists_every_field_in_raw_form_and_order(rig: Rig) -> None:
    headers = value(rig, "headers")
    assert headers[:2] == [{"name": "Received", "value": " from a"}, {"name": "Received", "value": " from b"}]
    assert [header["name"] for header in headers if header["name"].lower() == "x-many"] == ["X-Many", "x-MANY"]
    assert headers[2]["value"].startswith(' "  James Smythe" <james@example.com>, Friends:\r\n  jane@')


def test_headers_of_a_page_cost_one_round_trip_per_folder_and_none_the_second_time(rig: Rig) -> None:
    ids = [rig.add(MESSAGE, keys=[b"INBOX" if n % 2 else b"Archive"]) for n in range(20)]
    for _ in range(2):
        reply = rig.call(email_get, ids=ids, properties=["header:X-Many", "subject"])
        assert {email["header:X-Many"] for email in reply["list"]} == {" two"}
    assert rig.source.names() == ["headers", "headers"]


def test_cached_headers_are_served_while_the_upstream_is_down(rig: Rig) -> None:
    email_id = rig.add(MESSAGE)
    rig.call(email_get, ids=[email_id], properties=["headers"])
    rig.source.down = True
    (email,) = rig.call(email_get, ids=[email_id], properties=["header:X-Many"])["list"]
    assert email["header:X-Many"] == " two"
    with pytest.raises(MethodError) as error:
        rig.call(email_get, ids=[rig.add(MESSAGE)], properties=["headers"])
    assert error.value.type == "serverUnavailable"
