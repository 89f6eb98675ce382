"""Reading and changing labels of a server that behaves like Gmail (mail-rules 35)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from jmapplug_imap.source import ImapSource

from jmapplug.backends import NewMessage, Views
from jmapplug.errors import UpstreamError
from jmapplug.testing import gmail_server
from jmapplug.testing.gmail_server import Gmail
from jmapplug.testing.gmail_store import ALL, DRAFTS, IMPORTANT, INBOX, SENT, SPAM, STARRED, TRASH
from jmapplug.testing.mail_upstream import folder, message

KEYS = {name: name.encode() for name in (ALL, DRAFTS, IMPORTANT, INBOX, SENT, SPAM, STARRED, TRASH)}


@pytest.fixture(scope="module", params=["archive", "trash", "delete"])
def cruel(request: pytest.FixtureRequest) -> Iterator[Gmail]:
    """Each of the settings for a message that is expunged from its last folder."""
    server = gmail_server.start("--expunge", request.param)
    yield server
    server.stop()


@pytest.fixture
def upstream(gmail: Gmail, open_upstream: Callable[..., Any]) -> Any:
    return open_upstream(gmail, proxied=True)


def validity(source: ImapSource, key: bytes) -> int:
    return folder(source, key).uidvalidity or 0


def test_what_gmail_can_do_is_known(upstream: Any) -> None:
    features = upstream.source().features
    assert (features.id_scheme, features.labels, features.stores_sent) == ("gmail", True, True)


def test_starred_is_a_keyword_and_no_folder(upstream: Any) -> None:
    listed = {one.key: one for one in upstream.source().folders()}
    assert KEYS[STARRED] not in listed
    assert {one.role for one in listed.values() if one.role} == {
        "all", "drafts", "important", "inbox", "junk", "sent", "trash",
    }  # fmt: skip


def test_the_servers_own_folders_stay_and_a_label_may_go(upstream: Any) -> None:
    upstream.create("Work")
    rights = {one.key: one.rights for one in upstream.source().folders()}
    assert rights[b"Work"].may_rename and rights[b"Work"].may_delete
    for key in (KEYS[ALL], KEYS[TRASH], KEYS[IMPORTANT], b"[Gmail]"):
        assert not (rights[key].may_rename or rights[key].may_delete or rights[key].may_create_child)
    assert rights[b"Work"].may_create_child


def test_a_message_has_one_id_and_one_thread_in_every_folder(upstream: Any) -> None:
    uid = upstream.append(KEYS[INBOX], message("one"))
    reply = message("two").replace(b"Subject", b"In-Reply-To: <one@example.org>\r\nSubject")
    upstream.append(KEYS[INBOX], reply)
    source = upstream.source()
    here = source.changes(KEYS[INBOX], None, lambda: ()).new
    everywhere = source.changes(KEYS[ALL], None, lambda: ()).new
    assert [one.server_id for one in here] == [one.server_id for one in everywhere]
    assert len({one.thread_id for one in (*here, *everywhere)}) == 1 and here[0].thread_id is not None
    assert source.items(KEYS[INBOX], [uid])[0].thread_id == here[0].thread_id


def test_the_special_folders_are_those_that_the_server_states(upstream: Any) -> None:
    assert upstream.source().views() == Views(KEYS[ALL], KEYS[TRASH], KEYS[SPAM])


def test_messages_are_found_by_the_servers_id(upstream: Any) -> None:
    for name in ("one", "two", "three"):
        upstream.append(KEYS[INBOX], message(name))
    source = upstream.source()
    ids = {item.uid: item.server_id for item in source.changes(KEYS[ALL], None, lambda: ()).new}
    found = source.located(KEYS[ALL], validity(source, KEYS[ALL]), [*ids.values(), "17", "no number", "x\r\ny"])
    assert found == {server_id: uid for uid, server_id in ids.items()}
    with pytest.raises(UpstreamError) as caught:
        source.located(KEYS[ALL], 999_999, list(ids.values()))
    assert caught.value.code == "uidvalidity"


def test_a_message_that_came_since_is_found_in_an_open_view(upstream: Any) -> None:
    source = upstream.source()
    here = validity(source, KEYS[ALL])
    source.located(KEYS[ALL], here, ["1"])
    uid = upstream.append(KEYS[ALL], message("late"))
    (item,) = source.items(KEYS[ALL], [uid])
    assert source.located(KEYS[ALL], here, [item.server_id]) == {item.server_id: uid}


def test_removing_from_a_folder_takes_the_label_and_never_the_message(cruel: Gmail, open_upstream: Any) -> None:
    upstream = open_upstream(cruel)
    uid = upstream.append(KEYS[INBOX], message("one"))
    source = upstream.source()
    assert source.remove(KEYS[INBOX], validity(source, KEYS[INBOX]), [uid]) == [uid]
    assert (upstream.uids(KEYS[INBOX]), upstream.uids(KEYS[ALL]), upstream.uids(KEYS[TRASH])) == ([], [1], [])


def test_removing_in_trash_and_spam_is_for_good(cruel: Gmail, open_upstream: Any) -> None:
    upstream = open_upstream(cruel)
    source = upstream.source()
    for key in (KEYS[TRASH], KEYS[SPAM]):
        uid = upstream.append(key, message(key.decode()[8:]))
        source.remove(key, validity(source, key), [uid])
        assert (upstream.uids(key), upstream.uids(KEYS[ALL])) == ([], [])


def test_all_mail_cannot_be_left(upstream: Any) -> None:
    uid = upstream.append(KEYS[ALL], message("one"))
    source = upstream.source()
    with pytest.raises(UpstreamError) as caught:
        source.remove(KEYS[ALL], validity(source, KEYS[ALL]), [uid])
    assert caught.value.code == "cannot" and upstream.uids(KEYS[ALL]) == [uid]


def test_a_removal_whose_answer_is_lost_is_done_once(upstream: Any) -> None:
    uids = [upstream.append(KEYS[INBOX], message(name)) for name in ("one", "two")]
    source = upstream.source()
    here = validity(source, KEYS[INBOX])
    upstream.through.lose = "OK Done"
    source.remove(KEYS[INBOX], here, uids[:1])
    assert upstream.uids(KEYS[INBOX]) == uids[1:] and len(upstream.uids(KEYS[ALL])) == 2


def test_a_server_that_moves_nothing_is_told(upstream: Any) -> None:
    uid = upstream.append(KEYS[INBOX], message("one"))
    source = upstream.source()
    here = validity(source, KEYS[INBOX])
    upstream.through.refuse = [("UID MOVE", "OK nothing done")]
    with pytest.raises(UpstreamError):
        source.remove(KEYS[INBOX], here, [uid])
    assert upstream.uids(KEYS[INBOX]) == [uid]


def test_without_all_mail_a_label_goes_by_expunge(upstream: Any) -> None:
    """A user can hide All Mail from IMAP."""
    uid = upstream.append(KEYS[INBOX], message("one"))
    source = upstream.source()
    here = validity(source, KEYS[INBOX])
    source._access.uses.pop("all")
    assert source.remove(KEYS[INBOX], here, [uid]) == [uid]
    assert upstream.uids(KEYS[INBOX]) == [] and upstream.uids(KEYS[ALL]) == [1]


def test_appending_what_is_there_gives_the_message_that_is_there(upstream: Any, tmp_path: Any) -> None:
    path = tmp_path / "one"
    path.write_bytes(message("one"))
    source = upstream.source()
    (first,) = source.append(KEYS[INBOX], [NewMessage(path, path.stat().st_size)])
    (second,) = source.append(KEYS[SENT], [NewMessage(path, path.stat().st_size)])
    ids = [source.items(key, [one.uid])[0].server_id for key, one in ((KEYS[INBOX], first), (KEYS[SENT], second))]
    assert ids[0] == ids[1] and len(upstream.uids(KEYS[ALL])) == 1


@pytest.mark.parametrize("target", [TRASH, SPAM, SENT])
def test_a_move_whose_answer_is_lost_is_told_as_it_happened(upstream: Any, target: str) -> None:
    uids = [upstream.append(KEYS[INBOX], message(name)) for name in ("one", "two")]
    source = upstream.source()
    here = validity(source, KEYS[INBOX])
    upstream.through.lose = "COPYUID"
    done = source.move(KEYS[INBOX], here, uids[:1], KEYS[target])
    assert done.uids == {uids[0]: upstream.uids(KEYS[target])[0]}
    assert upstream.uids(KEYS[INBOX]) == uids[1:]


@pytest.mark.parametrize("octets", range(3, 300, 41))
def test_a_connection_that_is_cut_loses_no_message(cruel: Gmail, open_upstream: Any, octets: int) -> None:
    upstream = open_upstream(cruel, proxied=True)
    uid = upstream.append(KEYS[INBOX], message("one"))
    source = upstream.source()
    here = validity(source, KEYS[INBOX])
    source.views()
    upstream.through.cut_all()
    upstream.through.cut_up_after, upstream.through.cuts = octets, 1
    try:
        source.remove(KEYS[INBOX], here, [uid])
        assert upstream.uids(KEYS[INBOX]) == []
    except UpstreamError:
        pass
    assert upstream.uids(KEYS[ALL]) == [1] and upstream.uids(KEYS[TRASH]) == []
