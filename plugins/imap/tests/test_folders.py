"""Folders over the wire: what is asked, how often, and what comes of odd servers."""

from __future__ import annotations

from typing import Any

import pytest
from jmapplug_imap import folders, names
from jmapplug_imap.source import ImapSource

from jmapplug.errors import UpstreamError
from jmapplug.testing.mail_source import message

Upstream = Any


@pytest.fixture
def upstream(dovecot: Any, open_upstream: Any) -> Upstream:
    return open_upstream(dovecot, proxied=True)


def warmed(upstream: Upstream) -> ImapSource:
    """A source that has looked once."""
    source: ImapSource = upstream.source()
    source.folders()
    upstream.through.lines.clear()
    return source


def commands(upstream: Upstream) -> list[str]:
    return [line.split(b" ")[1].strip().decode() for line in upstream.through.lines]


def test_one_round_trip_tells_everything_of_all_folders(upstream: Upstream) -> None:
    source = warmed(upstream)
    before = source.round_trips
    found = {f.key: f for f in source.folders()}
    assert source.round_trips - before == 1 and commands(upstream) == ["LIST"]
    inbox = found[b"INBOX"]
    assert None not in (inbox.uidvalidity, inbox.uidnext, inbox.messages, inbox.unseen, inbox.highestmodseq)
    assert inbox.server_id
    roles = {f.path: f.role for f in found.values()}
    assert [roles[(name,)] for name in ("Drafts", "Sent", "Trash", "Junk", "Archive")] == [
        "drafts", "sent", "trash", "junk", "archive",
    ]  # fmt: skip


@pytest.mark.parametrize("hide", [set(), {"LIST-STATUS"}, {"LIST-STATUS", "LIST-EXTENDED", "SPECIAL-USE"}, {"ACL"}])
def test_hundreds_of_folders_cost_no_more_round_trips_than_one(upstream: Upstream, hide: set[str]) -> None:
    upstream.through.hide = hide
    source = upstream.source()
    few = source.folders()
    start = source.round_trips
    source.folders()
    cost = source.round_trips - start
    for number in range(150):
        upstream.create(f"Box {number}")
    middle = source.round_trips
    many = source.folders()
    assert len(many) == len(few) + 150
    assert all(f.uidvalidity and f.rights.may_read_items for f in many)
    assert source.round_trips - middle <= max(cost, 2)  # 2: the rights of what is new are asked once


def test_rights_come_from_the_acl(upstream: Upstream) -> None:
    key = upstream.create("Shown")
    source = upstream.source()
    assert next(f for f in source.folders() if f.key == key).rights.may_add_items
    user = upstream.user
    upstream.command("SETACL", "Shown", f'"{user}"', "lra")
    found = next(f for f in upstream.source().folders() if f.key == key).rights
    assert found.may_read_items
    assert not (found.may_add_items or found.may_set_seen or found.may_delete or found.may_create_child)


@pytest.fixture
def sharing(dovecot_shared: Any, open_upstream: Any) -> Upstream:
    return open_upstream(dovecot_shared, proxied=True)


def share(upstream: Upstream, *names: str) -> list[bytes]:
    """Folders of another user, readable for ours; their keys."""
    other = upstream.server.new_user()
    owner = upstream.server.imap(other)
    for name in names:
        owner.create(name)
        owner.setacl(name, upstream.user, "lr")
    owner.logout()
    return [f"shared/{other}/{name}".encode() for name in names]


def test_the_rights_of_what_others_share_are_asked_for_at_each_look_and_ours_are_not(
    sharing: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = share(sharing, "One", "Two", "Three")
    source = warmed(sharing)
    before = source.round_trips
    source.folders()
    assert source.round_trips - before == 2 and commands(sharing) == ["LIST"] + ["MYRIGHTS"] * 3
    monkeypatch.setattr(folders, "SHARED_AT_ONCE", 2)
    asked = set()
    for _ in range(2):
        sharing.through.lines.clear()
        source.folders()
        assert commands(sharing).count("MYRIGHTS") == 2
        asked |= {key for key in keys if sharing.through.sent(f"MYRIGHTS {key.decode()}")}
    assert asked == set(keys)


def test_a_prefix_below_which_nothing_is_is_asked_for_once(sharing: Upstream) -> None:
    source = warmed(sharing)
    source.folders()
    assert commands(sharing) == ["LIST"]


def test_a_prefix_that_may_not_be_listed_is_no_error(dovecot_apart: Any, open_upstream: Any) -> None:
    upstream = open_upstream(dovecot_apart, proxied=True)
    upstream.through.refuse = [('LIST "" "?shared', "NO no such thing")]
    (key,) = share(upstream, "One")
    assert key not in {f.key for f in upstream.source().folders()}
    upstream.through.refuse = []
    source = upstream.source()
    assert key in {f.key for f in source.folders()}
    # Once it was listed a refusal is a failure: else the folders would be gone.
    upstream.through.refuse = [('LIST "" "?shared', "NO [UNAVAILABLE] later")]
    with pytest.raises(UpstreamError):
        source.folders()


def test_a_folder_whose_status_is_not_told_is_asked_for_it_and_for_its_rights(upstream: Upstream) -> None:
    """They are believed for ten minutes otherwise, and without the right "r" there is no STATUS."""
    upstream.create("Box")
    source = warmed(upstream)
    upstream.through.swallow = ["STATUS Box "]
    source.folders()
    assert [line.split()[1:3] for line in upstream.through.lines[1:]] == [[b"STATUS", b"Box"], [b"MYRIGHTS", b"Box"]]


def test_a_parent_that_was_deleted_under_its_child_is_still_a_level(upstream: Upstream) -> None:
    upstream.create("Up")
    child = upstream.create("Up", "Down")
    upstream.delete(b"Up")
    found = {f.key: f for f in upstream.source().folders()}
    assert found[child].parent == b"Up" and found[child].path == ("Up", "Down")
    assert not found[b"Up"].selectable and found[b"Up"].uidvalidity is None


@pytest.mark.parametrize("hide", [set(), {"LIST-EXTENDED", "LIST-STATUS"}])
def test_subscriptions_are_told(upstream: Upstream, hide: set[str]) -> None:
    upstream.through.hide = hide
    one, two = upstream.create("One"), upstream.create("Two")
    upstream.client.unsubscribe("Two")
    found = {f.key: f.subscribed for f in upstream.source().folders()}
    assert (found[one], found[two]) == (True, False)


def test_without_special_use_roles_are_found_by_name(upstream: Upstream) -> None:
    upstream.through.hide = {"SPECIAL-USE"}
    upstream.delete(b"Sent")
    sent = upstream.create("Gesendete Objekte")
    found = {f.key: f for f in upstream.source().folders()}
    assert (found[b"Trash"].role, found[b"Trash"].role_by_name) == (None, "trash")
    if b"Sent" not in found:  # the server may make it again by itself
        assert found[sent].role_by_name == "sent"


def test_a_listing_that_is_refused_is_an_error_and_not_an_account_without_folders(upstream: Upstream) -> None:
    source = warmed(upstream)
    upstream.through.refuse = [("LIST ", "NO [UNAVAILABLE] later")]
    with pytest.raises(UpstreamError) as caught:
        source.folders()
    assert caught.value.code == "unavailable"


@pytest.mark.parametrize("answer", ["NO [NOPERM] no", "NO Internal error occurred", "NO Permission denied"])
def test_a_folder_whose_status_is_refused_is_listed_without_one(upstream: Upstream, answer: str) -> None:
    """It is not gone: its Emails stay in sight."""
    upstream.through.hide = {"LIST-STATUS"}
    key = upstream.create("Box")
    upstream.through.refuse = [('STATUS "?Box', answer)]
    found = {f.key: f for f in upstream.source().folders()}
    assert found[key].uidvalidity is None and found[key].selectable
    assert found[b"INBOX"].uidvalidity is not None


def test_status_of_the_folder_that_we_have_open_is_fresh(upstream: Upstream) -> None:
    source = upstream.source()
    source.changes(b"INBOX", None, list)
    upstream.append(b"INBOX", message("fresh"))
    assert next(f.messages for f in source.folders() if f.key == b"INBOX") == 1


def test_objectid_is_taken_for_messages_and_mailboxes(pymap_server: Any, open_upstream: Any) -> None:
    upstream = open_upstream(pymap_server)
    uid = upstream.append(b"INBOX", message("one"))
    copy = upstream.move(b"INBOX", uid, upstream.create("Box"))
    source = upstream.source()
    assert source.features.id_scheme == "emailid" and not source.features.condstore
    (item,) = source.changes(b"Box", None, list).new
    assert item.uid == copy and item.server_id
    # Its thread ids are not in RFC 8474's form, and random.
    assert item.thread_id is None
    ids = [f.server_id for f in source.folders() if f.selectable]
    assert None not in ids and len(set(ids)) == len(ids)


def test_a_mailbox_keeps_the_servers_id_when_it_is_renamed(upstream: Upstream) -> None:
    key = upstream.create("Before")
    source = upstream.source()
    before = next(f.server_id for f in source.folders() if f.key == key)
    upstream.client.rename("Before", "After")
    assert next(f.server_id for f in source.folders() if f.key == b"After") == before is not None


def test_dovecots_guid_is_asked_for_once(upstream: Upstream) -> None:
    source = warmed(upstream)
    assert source.features.id_scheme == "x-guid"
    source.folders()
    upstream.through.cut_all()
    source.folders()
    assert not [line for line in upstream.through.lines if line.split(b" ")[1] == b"STATUS"]


def test_a_server_without_any_identity_is_one(upstream: Upstream) -> None:
    upstream.through.refuse = [("STATUS .*X-GUID", "BAD what is that")]
    source = upstream.source()
    uid = upstream.append(b"INBOX", message("plain"))
    assert source.features.id_scheme == ""
    assert source.changes(b"INBOX", None, list).new[0].server_id is None
    (detail,) = next(source.details(b"INBOX", [uid]))
    assert b"Subject: plain" in detail.header
    assert upstream.through.sent("RECEIVED")  # evidence, where the server has no ids


class Utf8:
    enabled = frozenset({"UTF8=ACCEPT"})


class Classic:
    enabled: frozenset[str] = frozenset()


def test_a_key_is_the_same_before_and_after_the_server_learns_utf8() -> None:
    utf8, classic = Utf8(), Classic()
    key = b"&ZeVnLIqe-/Entw&APw-rfe"
    assert names.to_key(utf8, "日本語/Entwürfe".encode()) == key  # type: ignore[arg-type]
    assert names.to_key(classic, key) == key  # type: ignore[arg-type]
    assert names.to_wire(utf8, key) == "日本語/Entwürfe".encode()  # type: ignore[arg-type]
    assert names.to_wire(classic, key) == key  # type: ignore[arg-type]
    assert names.to_key(utf8, b"a&b") == b"a&-b" and names.to_wire(utf8, b"a&-b") == b"a&b"  # type: ignore[arg-type]
    assert names.to_key(utf8, b"\xff") == b"\xff"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("level", "text"),
    [(b"Entw&APw-rfe", "Entwürfe"), ("Entwürfe".encode(), "Entwürfe"), (b"\xe4", "ä"), (b"a&-b", "a&b"), (b"", "")],
)
def test_a_level_is_read_whatever_it_is_written_in(level: bytes, text: str) -> None:
    assert names.level_text(level) == text


@pytest.mark.parametrize("hide", [set(), {"LIST-STATUS"}])
def test_a_parent_deleted_above_its_children_is_no_folder_to_read(
    dovecot_maildir: Any, open_upstream: Any, hide: set[str]
) -> None:
    """Dovecot's maildir lists it as if it could be selected; it is looked for on another connection, once."""
    upstream = open_upstream(dovecot_maildir, proxied=True, separator=".", prefix="INBOX.")
    upstream.through.hide = hide
    for path in (("up",), ("up", "down")):
        upstream.create(*path)
    source = upstream.source()
    assert {f.key for f in source.folders() if f.selectable} >= {b"INBOX.up", b"INBOX.up.down"}
    upstream.delete(b"INBOX.up")
    before = upstream.through.connections
    for _ in range(3):
        found = {f.key: f for f in source.folders()}
        assert not found[b"INBOX.up"].selectable and found[b"INBOX.up.down"].selectable
    assert upstream.through.connections == before + 1


def test_a_folder_made_anew_is_left_by_every_connection(upstream: Upstream) -> None:
    """What is stored or fetched in the old view may cost Dovecot the new folder's index."""
    work = upstream.create("Work")
    upstream.append(work, message("old"))
    source = upstream.source()
    source.changes(work, None, list)
    pool = source._access.pool
    pool.run(lambda connection: source.headers(work, [1]), background=True)  # the sync's is busy: on another one
    source.folders()
    (other,) = [each for each in pool.resting() if each.selected == work]
    upstream.delete(work)
    upstream.create("Work")
    upstream.append(work, message("new"))
    source.folders()
    assert other.selected is None and not other.broken
