"""The posts: what leaves, when, and what answers of the push service do."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import gevent
import pytest
from push_rig import ACCOUNT, TYPES, Rig, until

from jmapplug.capabilities.core import WEBPUSH, push_http, push_target, pusher, vapid
from jmapplug.errors import StorageError
from jmapplug.store import wake
from jmapplug.testing.push_service import PushService, check_vapid

# --- verification


def test_a_verification_is_posted_at_once_and_nothing_else_before_the_code_is_back(rig: Rig) -> None:
    id_ = rig.create()["created"]["k"]["id"]
    (posted,) = until(lambda: rig.service.to("a"), "the verification")
    value = rig.read(posted)
    assert value == {"@type": "PushVerification", "pushSubscriptionId": id_, "verificationCode": rig.row(id_).code}
    assert len(value["verificationCode"]) >= 32, "no guessing (RFC 8620 §8.6)"
    rig.quiet()
    rig.move("Email")
    rig.pusher.sync()
    rig.reopen()
    rig.quiet()
    assert len(rig.service.posts) == 1


@pytest.mark.parametrize("answer", [429, 500, 403, 301, "cut"])
def test_a_verification_is_never_posted_twice_whatever_is_answered(rig: Rig, answer: int | str) -> None:
    """RFC 8620 §7.2: no further request before the client is heard of (RFC 9749 §6 says it again)."""
    rig.service.answer("a", answer)
    id_ = rig.create()["created"]["k"]["id"]
    until(lambda: rig.service.to("a"), "the verification")
    rig.quiet()
    rig.reopen()
    rig.quiet()
    assert len(rig.service.posts) == 1
    assert rig.update(id_, verificationCode=rig.row(id_).code)["updated"], "it may have arrived all the same"


def test_a_verification_that_could_not_leave_is_tried_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pusher, "FIRST_PAUSE", 0.01)
    port = rig.service.port
    rig.service.stop()
    id_ = rig.create()["created"]["k"]["id"]
    until(lambda: rig.row(id_).failures, "the first failure")
    assert not rig.row(id_).code_sent
    until(lambda: rig.row(id_).code_sent, "giving up")
    rig.quiet()
    assert rig.row(id_).failures == pusher.MOST_TRIES_TO_VERIFY
    assert port


def test_a_worker_that_died_before_the_verification_left_posts_it_when_it_is_back(rig: Rig) -> None:
    rig.pusher.kick = lambda: None  # type: ignore[method-assign]
    rig.create()
    assert rig.service.posts == []
    rig.reopen()
    until(lambda: rig.service.to("a"), "the verification")


def test_a_worker_that_died_with_the_verification_on_the_wire_does_not_post_a_second(rig: Rig) -> None:
    rig.service.answer("a", "slow")
    rig.create()
    until(lambda: rig.service.to("a"), "the verification")
    rig.reopen()
    rig.quiet()
    assert len(rig.service.posts) == 1


def test_a_verification_that_finds_no_device_ends_the_subscription(rig: Rig) -> None:
    rig.service.answer("a", 410)
    rig.create()
    until(lambda: not rig.pusher.live(), "the end")


# --- state changes


def test_a_change_is_posted_encrypted_and_signed(rig: Rig) -> None:
    id_ = rig.subscribe()
    rig.service_settings.extra["JMAP_PUSH_CONTACT"] = "mailto:ops@example.com"
    rig.move("Email", "Mailbox")
    (posted,) = until(lambda: rig.service.to("a"), "the post")
    assert rig.read(posted) == {
        "@type": "StateChange",
        "changed": {ACCOUNT: {"Email": "e-1", "Mailbox": "e-1"}},
    }
    claims = check_vapid(posted, vapid.load(rig.service_settings.datadir).public)
    assert claims["aud"] == rig.service.origin
    assert claims["sub"] == "mailto:ops@example.com"
    assert 0 < claims["exp"] - time.time() <= 24 * 3600
    assert 0 < int(posted.headers["ttl"]) <= rig.row(id_).expires - time.time() + 1
    assert posted.headers["urgency"] == "normal"
    assert len(posted.headers["topic"]) == 32


def test_without_keys_the_body_is_the_object_itself(rig: Rig) -> None:
    rig.subscribe(keys=None)
    rig.move("Quota")
    (posted,) = until(lambda: rig.service.to("a"), "the post")
    assert rig.read(posted, plain=True)["changed"] == {ACCOUNT: {"Quota": "e-1"}}
    assert posted.headers["content-type"] == "application/json"
    assert "content-encoding" not in posted.headers
    assert posted.headers["urgency"] == "low"


def test_a_message_replaces_another_only_where_both_tell_of_the_same_types(rig: Rig) -> None:
    rig.subscribe()
    topics = []
    for types in (("Email",), ("Mailbox",), ("Email",)):
        count = len(rig.service.posts)
        rig.move(*types)
        topics.append(until(lambda seen=count: rig.service.posts[seen:], "the post")[0].headers["topic"])  # type: ignore[misc]
        rig.quiet()
    assert topics[0] == topics[2] != topics[1]


def test_only_wanted_types_are_told_and_a_new_one_from_now_on(rig: Rig) -> None:
    id_ = rig.subscribe(types=["Email"])
    rig.move("Mailbox")
    rig.quiet()
    rig.move("Email", "Mailbox")
    until(lambda: rig.service.posts, "the post")
    rig.quiet()
    assert rig.told() == [{"Email": "e-1"}]
    rig.update(id_, types=["Mailbox"])
    rig.quiet()
    assert len(rig.service.posts) == 1, "the client has just begun with Mailbox"
    rig.move("Email", "Mailbox")
    until(lambda: len(rig.service.posts) == 2, "the post")
    assert rig.told()[1:] == [{"Mailbox": "e-3"}]


def test_a_burst_is_one_post_with_the_newest_states_and_never_two_at_a_time(rig: Rig) -> None:
    rig.subscribe()
    rig.service.answer("a", "hold")
    rig.move("Thread")
    until(lambda: rig.service.to("a"), "the first post")
    for _ in range(1000):
        rig.move("Email", "Mailbox")
    assert len(rig.service.posts) == 1, "one is under way"
    rig.service.release.set()
    rig.quiet()
    assert rig.told() == [{"Thread": "e-1"}, {"Email": "e-1000", "Mailbox": "e-1000"}]
    assert rig.service.most == 1


def test_a_change_at_the_very_end_of_a_post_is_not_lost(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.subscribe()

    def spawn(function: Callable[[], object]) -> Any:
        greenlet = gevent.spawn(function)
        # Before anything else that waits for the greenlet's end.
        greenlet.rawlink(lambda _: rig.moved["Mailbox"] or rig.move("Mailbox"))
        return greenlet

    monkeypatch.setattr(rig, "spawn", spawn)
    rig.move("Email")
    until(lambda: len(rig.service.posts) == 2, "the second post")
    assert rig.told() == [{"Email": "e-1"}, {"Mailbox": "e-1"}]


def test_what_changed_while_the_worker_was_away_is_told_when_it_is_back_and_once(rig: Rig) -> None:
    rig.subscribe()
    rig.away(lambda: rig.moved.update(Email=7))
    assert rig.told() == [{"Email": "e-7"}]


def test_changes_between_creation_and_verification_are_told_then(rig: Rig) -> None:
    id_ = rig.create()["created"]["k"]["id"]
    until(lambda: rig.row(id_).code_sent, "the verification")
    rig.move("Email")
    rig.quiet()
    rig.service.posts.clear()
    rig.update(id_, verificationCode=rig.row(id_).code)
    until(lambda: rig.service.posts, "the post")
    assert rig.told() == [{"Email": "e-1"}]


def test_more_types_than_one_record_holds_are_told_in_two_posts(rig: Rig) -> None:
    names = [f"Type{n:02}{'x' * 60}" for n in range(pusher.MOST_OCTETS // 60)]
    rig.moved.update(dict.fromkeys(names, 0))
    rig.subscribe()
    rig.move(*names)
    until(lambda: len(rig.service.posts) == 2, "both posts")
    assert {name for told in rig.told() for name in told} == set(names)


def test_each_subscription_is_told_for_itself(rig: Rig) -> None:
    one = rig.subscribe("a", types=["Email"])
    rig.subscribe("b", types=["Mailbox"], deviceClientId="other")
    rig.service.answer("a", "hold")
    rig.move(*TYPES)
    until(lambda: rig.service.to("b"), "the post that need not wait")
    rig.service.release.set()
    rig.quiet()
    assert (rig.told("a"), rig.told("b")) == ([{"Email": "e-1"}], [{"Mailbox": "e-1"}])
    assert rig.row(one).told[ACCOUNT]["Email"] == "e-1"


def test_destroying_a_subscription_ends_what_is_under_way_for_it(rig: Rig) -> None:
    id_ = rig.subscribe()
    rig.service.answer("a", "slow")
    rig.move("Email")
    until(lambda: rig.service.to("a"), "the post")
    assert rig.call("PushSubscription/set", destroy=[id_])["destroyed"]
    rig.quiet()
    assert rig.pusher.live() == []


# --- answers


@pytest.mark.parametrize("status", [404, 410])
def test_a_subscription_that_the_push_service_has_ended_is_removed(rig: Rig, status: int) -> None:
    rig.subscribe()
    rig.service.answer("a", status)
    rig.move("Email")
    until(lambda: not rig.pusher.live(), "the removal")
    assert not rig.pusher.busy
    assert not wake.is_marked(rig.folder)


@pytest.mark.parametrize("answer", [500, 503, 408, "cut"])
def test_what_failed_is_tried_again_with_the_newest_states(
    rig: Rig, answer: int | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pusher, "FIRST_PAUSE", 0.05)
    id_ = rig.subscribe()
    rig.service.answer("a", answer, answer)
    rig.move("Email")
    until(lambda: rig.row(id_).failures, "the failure")
    rig.move("Email")
    until(lambda: len(rig.service.posts) == 3, "the third post")
    rig.quiet()
    assert rig.told()[-1] == {"Email": "e-2"}
    assert rig.row(id_).failures == 0


def test_pauses_grow_and_have_an_end(rig: Rig) -> None:
    row = rig.row(rig.subscribe())
    pauses = []
    for _ in range(20):
        after = pusher.AFTER["later"](row, 0.0, None, {})
        assert after is not None
        row = after
        pauses.append(row.due_at)
    assert pauses[:4] == [5, 10, 20, 40]
    assert pauses[-1] == pusher.LONGEST_PAUSE


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_honoured_also_by_the_next_worker(rig: Rig, form: str) -> None:
    id_ = rig.subscribe()
    told = "120" if form == "seconds" else formatdate(time.time() + 120, usegmt=True)
    rig.service.answer("a", (503, {"Retry-After": told}))
    rig.move("Email")
    until(lambda: rig.row(id_).failures, "the answer")
    assert 100 < rig.row(id_).due_at - time.time() <= 121
    rig.reopen()
    rig.move("Email")
    rig.ahead = 125
    rig.reopen()
    until(lambda: len(rig.service.posts) == 2, "the post that was put off")
    rig.quiet()
    assert rig.told() == [{"Email": "e-1"}, {"Email": "e-2"}]


def test_too_many_requests_make_posts_rarer_until_they_are_taken_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pusher, "FIRST_PAUSE", 0.01)
    id_ = rig.subscribe()
    rig.service.answer("a", 429, 429)
    rig.move("Email")
    until(lambda: len(rig.service.posts) == 3, "the third post")
    rig.quiet()
    assert rig.row(id_).gap == pytest.approx(pusher.GAP * 8), "16 times, and half of it again"
    for _ in range(5):
        rig.move("Email")
        rig.quiet()
    assert rig.row(id_).gap == pusher.GAP


@pytest.mark.parametrize("status", [400, 401, 403, 413, 302])
def test_a_push_service_that_refuses_for_good_is_left_alone_in_the_end(
    rig: Rig, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pusher, "FIRST_PAUSE", 0.005)
    rig.subscribe()
    rig.service.answer("a", *[(status, {"Location": rig.service.url("elsewhere")})] * 9)
    rig.move("Email")
    until(lambda: not rig.pusher.live(), "the end")
    assert len(rig.service.to("a")) == pusher.MOST_REFUSALS
    assert rig.service.to("elsewhere") == [], "no redirect is followed"


def test_a_refusal_now_and_then_is_forgiven(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pusher, "FIRST_PAUSE", 0.005)
    id_ = rig.subscribe()
    for _ in range(3):
        rig.service.answer("a", 403, 403, 201)
        rig.move("Email")
        until(lambda: not rig.service.script["/a"], "the script's end")
        rig.quiet()
    assert rig.row(id_).refusals == 0


def test_a_push_service_that_never_answers_is_given_up_at_the_deadline(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = rig.subscribe()
    monkeypatch.setattr(push_http, "DEADLINE", 0.3)
    rig.service.answer("a", "slow")
    rig.move("Email")
    until(lambda: rig.row(id_).failures, "the deadline")
    assert rig.row(id_).told[ACCOUNT]["Email"] == "e-0"


# --- TLS


def test_a_push_service_is_reached_over_tls_that_is_verified(tmp_path: Path) -> None:
    rig = Rig(tmp_path, PushService(tmp_path, "localhost"))
    try:
        rig.subscribe()
        rig.move("Email")
        until(lambda: rig.told(), "the post")
    finally:
        rig.close()
        rig.service.stop()


@pytest.mark.parametrize("what", ["authority", "name"])
def test_a_certificate_of_another_authority_or_name_gets_nothing(
    tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    rig = Rig(tmp_path, PushService(tmp_path, "localhost" if what == "authority" else "push.example.com"))
    if what == "authority":
        del rig.service_settings.extra["JMAP_PUSH_CA"]
    here = [(2, 1, 6, "", ("127.0.0.1", rig.service.port))]
    monkeypatch.setattr(push_target.socket, "getaddrinfo", lambda *args, **more: here)
    try:
        id_ = rig.create()["created"]["k"]["id"]
        until(lambda: rig.row(id_).failures, "the failure")
        assert rig.service.posts == []
        assert "CertificateVerification" in caplog.text or "SSLCertVerificationError" in caplog.text
    finally:
        rig.close()
        rig.service.stop()


# --- life of the worker, keys, logs


def test_a_verified_subscription_keeps_the_worker_and_wakes_it_at_boot(rig: Rig) -> None:
    assert not rig.pusher.busy
    id_ = rig.subscribe()
    assert rig.pusher.busy
    assert wake.is_marked(rig.folder)
    rig.reopen()
    assert rig.pusher.busy
    rig.call("PushSubscription/set", destroy=[id_])
    assert not rig.pusher.busy
    assert not wake.is_marked(rig.folder)


def test_a_worker_that_has_no_room_for_its_mark_opens_and_sets_it_when_there_is(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.subscribe()
    rig.close()
    shutil.rmtree(rig.folder / "wake")

    def full(path: Path, *_args: object, **_more: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as disk:
        disk.setattr(Path, "touch", full)
        rig.open()
        assert rig.pusher.busy
        with pytest.raises(StorageError, match="full"):
            rig.pusher.sync()
    assert not wake.is_marked(rig.folder)
    rig.pusher.sync()
    assert wake.is_marked(rig.folder)
    rig.move("Email")
    until(lambda: rig.service.posts, "the post")


def test_a_subscription_that_waits_for_its_client_keeps_nobody_awake(rig: Rig) -> None:
    rig.create()
    until(lambda: rig.service.posts, "the verification")
    rig.quiet()
    assert not rig.pusher.busy


def test_subscriptions_under_a_key_that_is_replaced_are_destroyed(rig: Rig) -> None:
    """RFC 9749 §5."""
    rig.subscribe()
    (rig.service_settings.datadir / "vapid.key").unlink()
    vapid.load.cache_clear()
    rig.reopen()
    assert rig.pusher.live() == []
    assert not rig.pusher.busy


def test_a_key_that_cannot_be_read_takes_the_offer_away_and_refuses_new_subscriptions(rig: Rig) -> None:
    datadir = rig.service_settings.datadir
    assert WEBPUSH.service_value(rig.service_settings) == {"applicationServerKey": vapid.load(datadir).public}  # type: ignore[arg-type]
    vapid.load.cache_clear()
    (datadir / "vapid.key").write_text("nonsense")
    assert WEBPUSH.service_value(rig.service_settings) is None  # type: ignore[arg-type]
    assert rig.create()["notCreated"]["k"]["type"] == "forbidden"
    assert rig.pusher.live() == []


def test_a_key_that_breaks_while_the_service_runs_puts_posts_off(rig: Rig) -> None:
    id_ = rig.subscribe()
    path = rig.service_settings.datadir / "vapid.key"
    whole = path.read_bytes()
    vapid.load.cache_clear()
    path.write_text("nonsense")
    rig.reopen()
    rig.move("Email")
    until(lambda: rig.row(id_).failures, "the failure")
    assert rig.service.posts == []
    path.write_bytes(whole)
    rig.ahead = 10
    rig.reopen()
    until(lambda: rig.service.posts, "the post")
    assert rig.told() == [{"Email": "e-1"}]


def test_a_worker_that_pushes_nothing_has_neither_cryptography_nor_an_http_client() -> None:
    """Process rule 7."""
    code = (
        "import sys; from jmapplug.capabilities import core; from jmapplug.capabilities.core import pusher;"
        "print([name for name in ('cryptography', 'http.client') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_logs_name_the_host_and_never_the_url(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pusher, "FIRST_PAUSE", 0.01)
    caplog.set_level(logging.DEBUG)
    id_ = rig.subscribe("capability")
    code = rig.row(id_).code
    rig.service.answer("capability", 500, "cut", 403, 429, 410)
    rig.move("Email")
    until(lambda: not rig.pusher.live(), "the end")
    assert "127.0.0.1" in caplog.text
    assert "capability" not in caplog.text
    assert code not in caplog.text
