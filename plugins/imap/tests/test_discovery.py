"""Finding a domain's server by SRV records."""

from __future__ import annotations

import socket

import pytest
from jmapplug_imap import discovery
from jmapplug_imap.discovery import Offer, Service, find_imap

from jmapplug.errors import SetupError


def lookup(records: dict[str, list[Service]]) -> discovery.Lookup:
    return lambda name: records.get(name, [])


def test_tls_from_the_first_byte_wins_over_starttls() -> None:
    found = find_imap(
        "ann@example.org",
        lookup(
            {
                "_imap._tcp.example.org": [Service(0, 1, 143, "plain.example.org")],
                "_imaps._tcp.example.org": [Service(9, 1, 993, "tls.example.org")],
            }
        ),
    )
    assert found == Offer("tls.example.org", 993, 2)


def test_the_lowest_priority_is_taken_and_dots_are_no_offers() -> None:
    rows = [Service(5, 1, 993, "b"), Service(0, 0, 0, "."), Service(1, 1, 1993, "a")]
    assert find_imap("x@e.org", lookup({"_imaps._tcp.e.org": rows})) == Offer("a", 1993, 2)
    only_starttls = lookup(
        {"_imaps._tcp.e.org": [Service(0, 0, 993, ".")], "_imap._tcp.e.org": [Service(0, 0, 143, "c")]}
    )
    assert find_imap("x@e.org", only_starttls) == Offer("c", 143, 3)


@pytest.mark.parametrize("email", ["ann@example.org", "ann", "", "ann@", "ann@a b", "ann@..", "ann@x/y"])
def test_nothing_announced_names_the_field(email: str) -> None:
    with pytest.raises(SetupError) as caught:
        find_imap(email, lookup({}))
    assert caught.value.field == "imapHost"


def test_an_international_domain_is_asked_in_ascii() -> None:
    asked: list[str] = []
    with pytest.raises(SetupError):
        find_imap("ann@bücher.example", lambda name: asked.append(name) or [])  # type: ignore[func-returns-value]
    assert asked == ["_imaps._tcp.xn--bcher-kva.example", "_imap._tcp.xn--bcher-kva.example"]


def test_a_name_server_that_never_answers_ends_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    import dns.resolver

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers, resolver.port = ["127.0.0.1"], silent.getsockname()[1]
        monkeypatch.setattr(dns.resolver, "default_resolver", resolver)
        monkeypatch.setattr(discovery, "DEADLINE", 0.2)
        assert discovery.srv_records("_imaps._tcp.example.org") == []
