"""A subscription is tied to the credentials that made it (RFC 8620 §7.2), and speaks for the whole login (§7.1)."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from push_rig import ACCOUNT, PASSWORD, Rig, until

from jmapplug.capabilities.core import CORE, pusher
from jmapplug.hookspecs import Schema
from jmapplug.store.account import Store

DAY = 86_400
TOKEN = "f00d"


def with_token(rig: Rig, ends: int | None = None) -> None:
    rig.login.credentials[TOKEN] = ends
    rig.credential = TOKEN


def files(rig: Rig) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(Path(rig.store.folder).glob("own.sqlite3*")))


# --- whose it is


def test_only_the_same_credentials_see_change_and_destroy_a_subscription(rig: Rig) -> None:
    mine = rig.subscribe("mine")
    with_token(rig)
    assert rig.call("PushSubscription/get") == {"list": [], "notFound": []}
    assert rig.call("PushSubscription/get", ids=[mine])["notFound"] == [mine]
    assert rig.update(mine, types=[])["notUpdated"][mine]["type"] == "notFound"
    assert rig.call("PushSubscription/set", destroy=[mine])["notDestroyed"][mine]["type"] == "notFound"
    theirs = rig.subscribe("theirs")
    assert [one["id"] for one in rig.call("PushSubscription/get")["list"]] == [theirs]
    rig.credential = PASSWORD
    assert [one["id"] for one in rig.call("PushSubscription/get")["list"]] == [mine]


def test_the_limit_counts_each_login_for_itself(rig: Rig) -> None:
    rig.service_settings.extra["JMAP_PUSH_SUBSCRIPTIONS"] = 1
    assert rig.create("a")["created"]
    assert rig.create("b")["notCreated"]["k"]["type"] == "overQuota"
    with_token(rig)
    assert rig.create("c")["created"]


def test_credentials_that_ended_on_the_way_make_no_subscription(rig: Rig) -> None:
    rig.credential = "revoked a moment ago"
    assert rig.create()["notCreated"]["k"]["type"] == "forbidden"
    assert rig.service.posts == []


def test_where_nobody_can_tell_whether_they_are_good_the_client_tries_again(rig: Rig) -> None:
    rig.login.away = True
    assert rig.create()["type"] == "serverUnavailable"


# --- the end of credentials


def test_a_revocation_destroys_at_once_what_was_made_with_the_token_and_nothing_else(rig: Rig) -> None:
    stays = rig.subscribe("stays")
    with_token(rig)
    rig.subscribe("secret-url")
    assert b"secret-url" in files(rig)
    del rig.login.credentials[TOKEN]
    assert rig.login.on_standing is not None
    rig.login.on_standing()
    until(lambda: [row.id for row in rig.pusher.live()] == [stays], "the end of one")
    assert b"secret-url" not in files(rig), "RFC 8620 §7.2: securely erased"
    rig.move("Email")
    until(lambda: rig.service.to("stays"), "the post to the other one")
    rig.quiet()
    assert rig.service.to("secret-url") == []


def test_a_revocation_while_the_worker_was_away_counts_before_its_first_post(rig: Rig) -> None:
    with_token(rig)
    rig.subscribe()
    rig.close()
    rig.moved["Email"] = 7
    del rig.login.credentials[TOKEN]
    rig.open()
    rig.pusher.sync()
    rig.quiet()
    assert (rig.service.posts, rig.pusher.live(), rig.pusher.busy) == ([], [], False)


def test_a_revocation_that_nobody_told_of_is_found_before_the_next_post(rig: Rig) -> None:
    with_token(rig)
    rig.subscribe()
    del rig.login.credentials[TOKEN]
    rig.move("Email")
    until(lambda: not rig.pusher.live(), "the end")
    assert rig.service.posts == []


def test_a_revocation_between_creation_and_verification_keeps_even_that_from_leaving(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_token(rig)
    begin = rig.pusher.begin

    def revoked_meanwhile(row: object) -> None:
        del rig.login.credentials[TOKEN]
        begin(row)  # type: ignore[arg-type]

    monkeypatch.setattr(rig.pusher, "begin", revoked_meanwhile)
    rig.create()
    until(lambda: not rig.pusher.live(), "the end")
    assert rig.service.posts == []


def test_another_password_ends_what_was_made_with_the_old_one(rig: Rig) -> None:
    rig.subscribe()
    rig.login.credentials = {"password~2": None}
    rig.pusher.sync()
    assert rig.pusher.live() == []


def test_while_nobody_can_tell_nothing_is_destroyed_and_nothing_posted(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pusher, "FIRST_PAUSE", 0.05)
    id_ = rig.subscribe()
    rig.login.away = True
    rig.pusher.sync()
    rig.move("Email")
    until(lambda: rig.row(id_).failures > 1, "two tries")
    assert rig.service.posts == []
    rig.login.away = False
    until(lambda: rig.service.posts, "the post")
    assert rig.told() == [{"Email": "e-1"}]


def test_a_token_with_an_end_sets_the_end_and_nothing_else_does(rig: Rig) -> None:
    """RFC 8620 §7.2: the server "SHOULD NOT set or bound" it then, "but MUST expire it when the session expires"."""
    ends = int(time.time()) + 90 * DAY
    with_token(rig, ends)
    id_ = rig.create()["created"]["k"]["id"]
    assert rig.row(id_).expires == ends
    wished = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ends - DAY))
    assert rig.update(id_, expires=wished)["updated"] == {id_: None}
    later = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ends + DAY))
    assert rig.update(id_, expires=later)["updated"][id_]["expires"] != later
    assert rig.row(id_).expires == ends
    rig.ahead = 90 * DAY + 1
    rig.pusher.sync()
    assert rig.pusher.live() == [] and rig.service.url("a").encode() not in files(rig)


def test_subscriptions_of_a_time_when_nobody_wrote_down_whose_they_were_end(rig: Rig) -> None:
    rig.close()
    for path in Path(rig.folder).glob("own.sqlite3*"):
        path.unlink()
    before = Store(rig.folder, [Schema(own=CORE.schema.own[:1])])
    columns = "'P1', 'd', 'https://push.example.com/x', NULL, NULL, 'c', 1, 1, 9999999999, NULL, '{}', 'v', 0, 0, 0, 0"
    before.own.write(lambda txn: txn.execute(f"INSERT INTO core_push_subscription VALUES ({columns})"))
    before.close()
    rig.open()
    assert rig.pusher.live() == []
    assert rig.create()["created"]


# --- all accounts of the login


def test_one_message_tells_of_all_accounts_of_the_login(rig: Rig) -> None:
    rig.login.accounts.append("other")
    rig.login.coming["other"] = {"Email": "o-1", "Mailbox": "o-1"}
    rig.subscribe()
    rig.login.known |= rig.login.coming
    rig.pusher.kick()
    rig.quiet()
    assert rig.service.posts == [], "what was so at the beginning is no news"
    rig.move("Email")
    rig.login.move("other", Email="o-2")
    until(lambda: rig.service.posts, "the post")
    rig.quiet()
    assert rig.changed() == [{ACCOUNT: {"Email": "e-1"}, "other": {"Email": "o-2"}}]


def test_only_wanted_types_of_the_other_accounts_are_told(rig: Rig) -> None:
    rig.login.accounts.append("other")
    rig.login.known["other"] = {"Email": "o-1", "Mailbox": "o-1"}
    id_ = rig.subscribe(types=["Email"])
    rig.login.move("other", Mailbox="o-2")
    rig.quiet()
    rig.login.move("other", Email="o-3")
    until(lambda: rig.service.posts, "the post")
    rig.quiet()
    assert rig.changed() == [{"other": {"Email": "o-3"}}]
    rig.update(id_, types=["Mailbox"])
    rig.quiet()
    assert len(rig.service.posts) == 1, "the client has just begun with Mailbox"


def test_what_changed_in_another_account_while_the_worker_was_away_is_told_once(rig: Rig) -> None:
    rig.login.accounts.append("other")
    rig.login.known["other"] = {"Email": "o-1"}
    rig.subscribe()
    rig.away(lambda: rig.login.known.update(other={"Email": "o-5"}))
    assert rig.changed() == [{"other": {"Email": "o-5"}}]


def test_an_account_that_joins_is_told_and_one_that_has_left_is_not(rig: Rig) -> None:
    rig.subscribe()
    rig.login.accounts.append("other")
    rig.login.move("other", Email="o-1")
    until(lambda: rig.changed() == [{"other": {"Email": "o-1"}}], "the states of the new one")
    rig.quiet()
    known = rig.login.states
    # It leaves in the very moment between its change and the post.
    rig.login.states = lambda: known() if rig.login.accounts[-1] == "other" else {}  # type: ignore[method-assign]
    standing = rig.login.standing

    def leaves() -> object:
        rig.login.accounts[:] = [ACCOUNT]
        return standing()

    rig.login.standing = leaves  # type: ignore[method-assign]
    rig.login.move("other", Email="o-2")
    rig.quiet()
    assert len(rig.service.posts) == 1
    rig.move("Email")
    until(lambda: len(rig.service.posts) == 2, "the account's own change")
    assert rig.changed()[1] == {ACCOUNT: {"Email": "e-1"}}


def test_other_accounts_are_followed_only_while_there_is_something_to_tell(rig: Rig) -> None:
    assert rig.login.on_change is None and rig.login.on_standing is None
    id_ = rig.create()["created"]["k"]["id"]
    until(lambda: rig.row(id_).code_sent, "the verification")
    rig.quiet()
    assert rig.login.on_change is None, "their workers are not kept for a client that may never come back"
    assert rig.login.on_standing is not None, "its credentials may end all the same"
    rig.update(id_, verificationCode=rig.row(id_).code)
    assert rig.login.on_change is not None
    rig.call("PushSubscription/set", destroy=[id_])
    assert rig.login.on_change is None and rig.login.on_standing is None


def test_what_does_not_fit_one_record_is_told_in_the_next_account_by_account(rig: Rig) -> None:
    names = [f"account-{number}-{'x' * 100}" for number in range(60)]
    rig.login.accounts += names
    rig.login.known |= {name: {"Email": "o-1"} for name in names}
    rig.subscribe()
    for name in names:
        rig.login.known[name] = {"Email": "o-2"}
    rig.pusher.kick()
    until(lambda: {id_ for each in rig.changed() for id_ in each} == set(names), "all of them")
    rig.quiet()
    assert sum(len(each) for each in rig.changed()) == len(names), "each once"


def test_a_subscription_that_is_one_too_many_in_the_end_leaves_nobody_followed(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another request of the same login was quicker while the other accounts were asked."""
    gathered = rig.pusher.gathered

    def slow() -> object:
        rig.service_settings.extra["JMAP_PUSH_SUBSCRIPTIONS"] = 0
        return gathered()

    monkeypatch.setattr(rig.pusher, "gathered", slow)
    assert rig.create()["notCreated"]["k"]["type"] == "overQuota"
    assert rig.login.on_change is None
