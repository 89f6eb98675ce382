"""Where pushes may go (RFC 8620 §8.6)."""

from __future__ import annotations

import pytest
from gevent import socket
from hypothesis import given
from hypothesis import strategies as st
from push_rig import Rig, until

from jmapplug.capabilities.core import push_http, push_target
from jmapplug.capabilities.core.push_target import Refused, Target, Unresolved
from jmapplug.testing.push_service import PushService

PRIVATE = [
    "127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "0.0.0.0",
    "100.64.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255",
    "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12:3456::1", "fec0::1", "ff02::1", "2001:db8::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::1",
    "2001:0:1::1", "nonsense",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_is_not_on_the_internet_is_not_public(address: str) -> None:
    assert not push_target.is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.34", "2606:2800:220:1::1", "::ffff:8.8.8.8"])
def test_an_address_on_the_internet_is_public(address: str) -> None:
    assert push_target.is_public(address)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://push.example.com", Target(True, "push.example.com", 443, "/")),
        ("https://push.example.com:8443/a/b?c=d&e", Target(True, "push.example.com", 8443, "/a/b?c=d&e")),
        ("https://push.example.com?x", Target(True, "push.example.com", 443, "/?x")),
        ("https://[2606:2800:220:1::1]/x", Target(True, "2606:2800:220:1::1", 443, "/x")),
    ],
)
def test_a_url_in_parts(url: str, target: Target) -> None:
    assert push_target.parse(url, private=False) == target


@pytest.mark.parametrize(
    "url",
    [
        "", "http://push.example.com/", "HTTPS://push.example.com/", "ftp://x/", "https://", "https:///x", "//x/y",
        "https://user@push.example.com/", "https://user:pw@push.example.com/", "https://push.example.com/#f",
        "https://push.example.com/#", "https://push.example.com:0/", "https://push.example.com:99999/",
        "https://push.example.com/a b", "https://push.example.com/\r\nX: y", "https://push.example.com/é",
        "https://a\\@b/", "https://a,b/", "https://[::1/", "https://x/" + "a" * 2048,
        "https://a..b/", "https://.a/", "https://a../", "https://" + "a" * 64 + ".example.com/",
    ],
)  # fmt: skip
def test_a_url_that_could_mislead_is_refused(url: str) -> None:
    with pytest.raises(Refused):
        push_target.parse(url, private=False)


@given(st.text(max_size=30).map("https://{}".format) | st.text(max_size=60))
def test_any_text_is_a_target_or_refused(text: str) -> None:
    try:
        target = push_target.parse(text, private=False)
    except Refused:
        return
    assert target.secure and target.path.startswith("/") and 0 < target.port < 65536
    assert text.isascii() and text.isprintable() and " " not in text


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "127.1", "0177.0.0.1"])
def test_however_this_machine_is_written_it_is_refused(host: str) -> None:
    with pytest.raises((Refused, Unresolved)):
        push_target.addresses(push_target.parse(f"https://{host}/", private=False), private=False)


def answers(monkeypatch: pytest.MonkeyPatch, *rounds: list[str]) -> list[str]:
    """A resolver that gives another answer at each question; the names that were asked for."""
    asked: list[str] = []
    waiting = list(rounds)

    def getaddrinfo(host: str, port: int, *args: object, **more: object) -> list[tuple[object, ...]]:
        asked.append(host)
        found = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in found]

    monkeypatch.setattr(push_target.socket, "getaddrinfo", getaddrinfo)
    return asked


def test_one_private_address_among_public_ones_is_enough_to_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, ["8.8.8.8", "10.0.0.1"])
    with pytest.raises(Refused):
        push_target.addresses(push_target.parse("https://push.example.com/", private=False), private=False)


def test_a_name_that_changes_its_address_behind_the_check_gets_no_connection(
    monkeypatch: pytest.MonkeyPatch, push_service: PushService
) -> None:
    """DNS rebinding: public when the subscription was made, this machine when the post leaves."""
    answers(monkeypatch, ["93.184.216.34"], ["127.0.0.1"])
    target = Target(False, "rebind.example.com", push_service.port, "/x")
    assert push_target.addresses(target, private=False) == ["93.184.216.34"]
    with pytest.raises(Refused):
        push_http.post(target, {}, b"", now=0)
    assert push_service.posts == []


def test_the_connection_goes_to_the_address_that_was_checked(
    monkeypatch: pytest.MonkeyPatch, push_service: PushService
) -> None:
    asked = answers(monkeypatch, ["127.0.0.1"], ["10.9.9.9"])
    target = Target(False, "push.example.com", push_service.port, "/x")
    assert push_http.post(target, {}, b"", now=0, private=True).status == 201
    assert asked == ["push.example.com"]
    assert push_service.to("x")[0].headers["host"] == f"push.example.com:{push_service.port}"


def test_a_subscription_into_this_network_is_refused_at_creation(rig: Rig) -> None:
    rig.service_settings.extra["JMAP_PUSH_PRIVATE"] = False
    for url in ("https://127.0.0.1/", "https://localhost/x", "https://[::1]/", "https://169.254.169.254/latest"):
        error = rig.create(url=url)["notCreated"]["k"]
        assert (error["type"], error["properties"]) == ("invalidProperties", ["url"])
    assert rig.create(url=rig.service.url("a"))["notCreated"]["k"]["properties"] == ["url"], "http"
    assert rig.service.posts == []
    assert rig.call("PushSubscription/get")["list"] == []


def test_a_subscription_of_a_more_open_time_is_refused_again_at_each_connection(rig: Rig) -> None:
    id_ = rig.subscribe()
    rig.service_settings.extra["JMAP_PUSH_PRIVATE"] = False
    rig.move("Email")
    until(lambda: rig.row(id_).refusals, "the refusal")
    assert rig.service.posts == []
