"""The Addresses and GroupedAddresses forms (RFC 8621 §4.1.2.3-4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmapplug.mime.addresses import as_addresses, as_grouped_addresses

RFC_EXAMPLE = (
    b'"  James Smythe" <james@example.com>, Friends:\r\n  jane@example.com, =?UTF-8?Q?John_Sm=C3=AEth?=\r\n'
    b"  <john@example.com>;"
)


def test_the_example_of_the_rfc_as_addresses():
    assert as_addresses(RFC_EXAMPLE) == [
        {"name": "James Smythe", "email": "james@example.com"},
        {"name": None, "email": "jane@example.com"},
        {"name": "John Smîth", "email": "john@example.com"},
    ]


def test_the_example_of_the_rfc_as_groups():
    assert as_grouped_addresses(RFC_EXAMPLE) == [
        {"name": None, "addresses": [{"name": "James Smythe", "email": "james@example.com"}]},
        {
            "name": "Friends",
            "addresses": [
                {"name": None, "email": "jane@example.com"},
                {"name": "John Smîth", "email": "john@example.com"},
            ],
        },
    ]


def test_neighbours_outside_a_group_stand_together():
    groups = as_grouped_addresses(b"a@x, b@x, G: c@x;, d@x (D), e@x")
    assert [(group["name"], [one["email"] for one in group["addresses"]]) for group in groups] == [
        (None, ["a@x", "b@x"]),
        ("G", ["c@x"]),
        (None, ["d@x", "e@x"]),
    ]


def test_an_empty_group_is_a_group_and_no_address():
    assert as_grouped_addresses(b"undisclosed-recipients:;") == [{"name": "undisclosed-recipients", "addresses": []}]
    assert as_addresses(b"undisclosed-recipients:;") == []


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"a@b", [(None, "a@b")]),
        (b" <a@b>", [(None, "a@b")]),
        (b"Joe Q. Public <a@b>", [("Joe Q. Public", "a@b")]),
        (b'"Public, Joe" <a@b>,c@d', [("Public, Joe", "a@b"), (None, "c@d")]),
        (b'"Joe \\"Q\\" P" <a@b>', [('Joe "Q" P', "a@b")]),
        (b'"Joe" Q "P" <a@b>', [("Joe Q P", "a@b")]),
        (b"Joe\r\n  Public <a@b>", [("Joe Public", "a@b")]),
        (b"a@b (Joe Public)", [("Joe Public", "a@b")]),
        (b"a@b (=?utf-8?q?=C3=A4?=)", [("ä", "a@b")]),
        (b"Joe (the) Public (x) <a@b>", [("Joe Public", "a@b")]),
        (b'"john doe"@example.com', [(None, '"john doe"@example.com')]),
        (b'Joe <"john doe"@example.com>', [("Joe", '"john doe"@example.com')]),
        (b"<@a,@b:u@c>", [(None, "u@c")]),
        (b"john . doe @ example . com", [(None, "john.doe@example.com")]),
        (b"John Doe john@example.com", [("John Doe", "john@example.com")]),
        (b"Joe <a@b> Jane <c@d>", [("Joe", "a@b"), ("Jane", "c@d")]),
        (b"<a@b><c@d>", [(None, "a@b"), (None, "c@d")]),
        (b"a@b; c@d", [(None, "a@b"), (None, "c@d")]),
        (b"a@b,,,c@d,", [(None, "a@b"), (None, "c@d")]),
        (b"a@[127.0.0.1], b@[IPv6:::1]", [(None, "a@[127.0.0.1]"), (None, "b@[IPv6:::1]")]),
        (b"=?utf-8?Q?Doe,_J?= <a@b>", [("Doe, J", "a@b")]),
        (b"=?utf-8?Q?Doe,J?= <a@b>", [("Doe,J", "a@b")]),
        (b"=?utf-8?Q?J=C3?=\r\n =?utf-8?Q?=A4?= X <a@b>", [("Jä X", "a@b")]),
        (b'"=?utf-8?Q?J=C3=A4?= =?utf-8?Q?n?=" <a@b>', [("Jän", "a@b")]),
        (b'"say =?utf-8?Q?J=C3=A4?=" <a@b>', [("say =?utf-8?Q?J=C3=A4?=", "a@b")]),
        (b"=?x-martian?Q?J?= <a@b>", [("=?x-martian?Q?J?=", "a@b")]),
        ("Jürgen <jü@ü.de>".encode(), [("Jürgen", "jü@ü.de")]),
        ("Jürgen <j@x>".encode("latin-1"), [("Jürgen", "j@x")]),
        (b'"unclosed <a@b>, c@d', [("unclosed", "a@b"), (None, "c@d")]),
        (b"Joe (unclosed <a@b>", [("Joe unclosed", "a@b")]),
        (b"Joe <a@b", [("Joe", "a@b")]),
        (b"a@b <a@b>", [("a@b", "a@b")]),
        (b"[list] <a@b>", [("[list]", "a@b")]),
        (b"postmaster", [(None, "postmaster")]),
        (b"Joe <>", [("Joe", "")]),
        (b"<>", []),
        (b"", []),
        (b" , ;", []),
        (b"(only a comment)", []),
    ],
)
def test_addresses_are_read_as_they_were_meant(value, found):
    assert [(one["name"], one["email"]) for one in as_addresses(value)] == found


_atom = st.text("abcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-/=^_`{|}~", min_size=1, max_size=10)
_name = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)


@given(st.lists(st.tuples(_name, _atom, _atom), max_size=8))
def test_quoted_names_come_back(people):
    people = [(name, local, host) for name, local, host in people if "=?" not in name]
    text = ", ".join(
        '"{}" <{}@{}>'.format(name.replace("\\", "\\\\").replace('"', '\\"'), local, host)
        for name, local, host in people
    )
    assert as_addresses(text.encode()) == [{"name": name, "email": f"{local}@{host}"} for name, local, host in people]


def test_a_list_of_thousands_is_read_whole():
    assert len(as_addresses(b", ".join(b'"P, %d" <p%d@example.com>' % (at, at) for at in range(5_000)))) == 5_000
