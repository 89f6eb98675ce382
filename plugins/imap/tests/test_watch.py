"""Who tells of changes: NOTIFY where the server takes it, else IDLE; and connections that die without a word."""

from __future__ import annotations

import socket
from typing import Any

import gevent
import pytest
from jmapplug_imap.protocol.channel import Timeouts
from jmapplug_imap.source import ImapSource
from jmapplug_imap.watch import ImapWatch

from jmapplug.errors import UpstreamError
from jmapplug.testing.mail_source import message

Upstream = Any
Opener = Any


@pytest.fixture
def upstream(dovecot: Any, open_upstream: Opener) -> Upstream:
    """A Dovecot account behind a proxy."""
    return open_upstream(dovecot, proxied=True)


@pytest.fixture(params=["notify", "idle"])
def how(upstream: Upstream, request: pytest.FixtureRequest) -> str:
    if request.param == "idle":
        upstream.through.hide = {"NOTIFY"}
    return str(request.param)


def impatient(upstream: Upstream, idle: float) -> ImapSource:
    return ImapSource(upstream.settings(), upstream.user, timeouts=Timeouts(idle=idle))


def test_notify_is_set_for_the_whole_account_with_nothing_selected(upstream: Upstream) -> None:
    watch = upstream.source().watch(b"INBOX")
    assert (watch.how, watch.complete) == ("notify", True)
    [line] = upstream.through.sent("NOTIFY SET")
    assert line.partition(b" ")[2].rstrip() == (
        b"NOTIFY SET (personal (MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange))"
    )
    lines = b"".join(upstream.through.lines).upper()
    assert lines.index(b"ENABLE CONDSTORE") < lines.index(b"NOTIFY SET")
    assert b"SELECT" not in lines and b"EXAMINE" not in lines


@pytest.mark.parametrize("hidden", [{"NOTIFY"}, {"CONDSTORE", "QRESYNC"}], ids=["no notify", "no condstore"])
def test_without_notify_or_where_it_would_not_tell_of_flags_idle_watches_one_folder(
    upstream: Upstream, hidden: set[str]
) -> None:
    upstream.through.hide = hidden
    watch = upstream.source().watch(b"INBOX")
    assert (watch.how, watch.complete) == ("idle", False)
    assert not upstream.through.sent("NOTIFY SET")


@pytest.mark.parametrize(
    "answer", ["NO [BADEVENT (MessageNew MessageExpunge)] some events", "BAD what", "NO [NOTIFICATIONOVERFLOW] no"]
)
def test_a_server_that_refuses_notify_is_watched_by_idle_and_not_asked_again_at_once(
    upstream: Upstream, answer: str
) -> None:
    upstream.through.refuse = [("NOTIFY SET", answer)]
    source = upstream.source()
    for _ in range(3):
        watch = source.watch(b"INBOX")
        assert (watch.how, watch.complete) == ("idle", False)
        watch.close()
    assert len(upstream.through.sent("NOTIFY SET")) == 1


def test_a_server_that_refuses_notify_and_has_no_idle_is_not_watched(upstream: Upstream) -> None:
    upstream.through.hide = {"IDLE"}
    source = upstream.source()
    assert source.watch(b"INBOX").how == "notify"
    upstream.through.refuse = [("NOTIFY SET", "NO not for you")]
    with pytest.raises(UpstreamError):
        source.watch(b"INBOX")
    assert source.watch(b"INBOX") is None


def test_a_server_that_stops_notify_because_it_would_have_to_tell_too_much_is_watched_by_idle(
    upstream: Upstream,
) -> None:
    """RFC 5465 §5.8: NOTIFICATIONOVERFLOW, and then silence."""
    watch = upstream.source().watch(b"INBOX")
    upstream.through.say(b"* OK [NOTIFICATIONOVERFLOW] too much\r\n")
    assert watch.wait(60) == frozenset()  # who knows what was not told
    assert (watch.how, watch.complete) == ("idle", False)
    assert watch.wait(0.01) is None
    upstream.append(b"INBOX", message("one"))
    assert watch.wait(60) == {b"INBOX"}


def test_a_rename_is_told_under_both_names(upstream: Upstream) -> None:
    key = upstream.create("Réseau")
    watch = upstream.source().watch(b"INBOX")
    upstream.command("RENAME", f'"{key.decode()}"', '"Other"')
    told: set[bytes] = set()
    while not {key, b"Other"} <= told:
        keys = watch.wait(60)
        assert keys is not None
        told |= keys


def test_one_change_in_an_account_of_many_folders_ends_one_wait(upstream: Upstream) -> None:
    """The first change brings the STATUS of all folders: that is one piece of news, not a hundred."""
    for number in range(120):
        upstream.create(f"Box{number}")
    watch = upstream.source().watch(b"INBOX")
    upstream.append(b"INBOX", message("one"))
    waits, told = 0, set()
    while len(told) < 121:
        keys = watch.wait(60)
        assert keys is not None
        waits, told = waits + 1, told | keys
    assert waits <= 30
    assert watch.wait(0.01) is None


def test_a_silent_watch_says_something_long_before_the_server_hangs_up(upstream: Upstream, how: str) -> None:
    """RFC 2177: before 29 minutes; firewalls forget a silent connection much earlier."""
    source = impatient(upstream, 0.02)
    watch = source.watch(b"INBOX")
    assert watch.how == how
    said = len(upstream.through.lines)
    word = {"notify": b"NOOP", "idle": b"DONE"}[how]
    with gevent.Timeout(60):
        while sum(word in line for line in upstream.through.lines[said:]) < 3:
            assert watch.wait(0.3) is None
    source.close()
    usual = Timeouts()
    assert usual.idle + usual.read <= 360  # wish 15: a dead connection is noticed within six minutes


def test_a_server_that_falls_silent_under_notify_is_heard_again(upstream: Upstream) -> None:
    """Dovecot 2.3.19 does, when it rotates the log of its list of folders."""
    source = impatient(upstream, 1.0)
    watch = source.watch(b"INBOX")
    assert watch.how == "notify"
    folders = [b"INBOX", *(upstream.create(f"F{number}") for number in range(20))]
    for number in range(240):
        upstream.append(folders[number % len(folders)], message(str(number)))
    while watch.wait(1.5) is not None:
        pass
    for _ in range(2):
        upstream.append(b"INBOX", message("one more"))
        told = watch.wait(60)
        assert told is not None and (b"INBOX" in told or not told)  # nothing named: all is looked at
        while watch.wait(3.0) is not None:
            pass
    assert len(upstream.through.sent("NOTIFY SET")) >= 2
    source.close()


def test_what_notify_kept_back_is_looked_at_from_another_connection(upstream: Upstream) -> None:
    source = impatient(upstream, 0.05)
    watch = source.watch(b"INBOX")
    told = [b'* STATUS "Late" (MESSAGES 1)\r\n']

    def met(line: bytes) -> None:
        if told and b"NOOP" in line:
            upstream.through.say(told.pop())

    upstream.through.met = met
    connections = upstream.through.connections
    assert watch.wait(60) == frozenset() and watch.how == "notify" and not told
    assert upstream.through.connections == connections + 1
    assert watch.wait(60) == frozenset(), "and once more, when folders that were changing are settled"
    source.close()


def test_a_server_that_is_overwhelmed_by_notify_at_once_is_listened_to_by_idle(upstream: Upstream) -> None:
    source = ImapSource(upstream.settings(), upstream.user)
    told = [b"* OK [NOTIFICATIONOVERFLOW] too much\r\n"]

    def met(line: bytes) -> None:
        if told and b"NOTIFY SET" in line:
            upstream.through.say(told.pop())

    upstream.through.met = met
    watch = source.watch(b"INBOX")
    assert watch.wait(60) == frozenset() and watch.how == "idle" and not told
    upstream.append(b"INBOX", message("one"))
    assert watch.wait(60) == {b"INBOX"}
    source.close()


def test_waiting_in_small_steps_does_not_keep_a_watch_silent(upstream: Upstream, how: str) -> None:
    source = impatient(upstream, 0.1)
    watch = source.watch(b"INBOX")
    said = len(upstream.through.lines)
    for _ in range(100):
        assert watch.wait(0.005) is None
    assert len(upstream.through.lines) > said
    source.close()


def test_a_watch_on_a_connection_that_died_without_a_word_ends_and_begins_anew(
    upstream: Upstream, how: str, patience: Any
) -> None:
    """Wish 15: packets vanish in both directions, and nobody closes anything."""
    waits = patience(idle=0.05)
    source = ImapSource(upstream.settings(), upstream.user)
    watch = source.watch(b"INBOX")
    upstream.through.deaf = upstream.through.dumb = True
    usual = waits.timeouts
    waits.become(read=0.3, command=0.6)
    with pytest.raises(UpstreamError):
        watch.wait(60)
    assert watch.connected is False and watch.closed is False
    upstream.through.deaf = upstream.through.dumb = False
    waits.become(read=usual.read, command=usual.command)
    upstream.append(b"INBOX", message("meanwhile"))
    with gevent.Timeout(60):
        while True:
            try:
                assert watch.wait(60) is not None  # who knows what was missed
                break
            except UpstreamError:  # the back-off of connecting
                gevent.sleep(0.05)
    assert watch.how == how and source.connections >= 1
    source.close()
    assert source.connections == 0


def test_a_watch_hears_of_what_comes_while_nobody_waits(upstream: Upstream, how: str) -> None:
    watch = upstream.source().watch(b"INBOX")
    for name in ("one", "two"):
        upstream.append(b"INBOX", message(name))
        assert b"INBOX" in watch.wait(60)


def test_a_watch_can_be_closed_at_any_time(upstream: Upstream, how: str) -> None:
    source = upstream.source()
    watch = source.watch(b"INBOX")
    waiting = gevent.spawn(watch.wait, 60)
    gevent.idle()
    assert source.connections == 2
    watch.close()
    assert waiting.get(timeout=60) is None
    assert watch.wait(60) is None and source.connections == 1


def test_folders_that_others_share_are_not_said_to_be_covered(upstream: Upstream) -> None:
    """NOTIFY's "personal" leaves them out: the core looks at them."""
    shared = b'* NAMESPACE (("" "/")) NIL (("Shared/" "/"))\r\n'
    upstream.through.met = lambda line: upstream.through.say(shared) if b" NAMESPACE" in line else None
    watch = upstream.source().watch(b"INBOX")
    assert (watch.how, watch.complete) == ("notify", False)


def test_a_server_that_breaks_each_connection_with_notify_is_watched_by_idle(upstream: Upstream) -> None:
    source = upstream.source()
    for _ in range(3):
        watch = source.watch(b"INBOX")
        assert watch.how == "notify"
        upstream.through.cut_all()
        with pytest.raises(UpstreamError):
            watch.wait(60)
        watch.close()
    assert source.watch(b"INBOX").how == "idle"


def test_connections_that_rest_and_ended_with_the_watch_are_found_and_no_other_one_is_made(upstream: Upstream) -> None:
    source = upstream.source()
    source.folders()
    assert source.connections == 1
    watch = source.watch(b"INBOX")
    logins = len(upstream.through.sent("LOGIN")) + len(upstream.through.sent("AUTHENTICATE"))
    upstream.through.cut_all()
    with pytest.raises(UpstreamError):
        watch.wait(60)
    with gevent.Timeout(60):
        while source.connections:
            gevent.sleep(0.01)
    assert len(upstream.through.sent("LOGIN")) + len(upstream.through.sent("AUTHENTICATE")) == logins
    assert source.folders(), "and the next one that is wanted is made"
    watch.close()


def test_connections_that_rest_and_live_stay_when_the_watch_ends(upstream: Upstream, monkeypatch: Any) -> None:
    source = upstream.source()
    source.folders()
    watch = source.watch(b"INBOX")
    looks = []
    looked = ImapWatch._look_at_others
    monkeypatch.setattr(ImapWatch, "_look_at_others", lambda self: (looked(self), looks.append(1)))
    watch._connection._channel.transport._socket.shutdown(socket.SHUT_RD)
    with pytest.raises(UpstreamError):
        watch.wait(60)
    with gevent.Timeout(60):
        while not looks:
            gevent.sleep(0.01)
    assert source.connections == 1
    watch.close()
