"""Thread/get and Thread/changes (RFC 8621 §3)."""

from __future__ import annotations

from pathlib import Path

import pytest
from sync_rig import Rig

from jmapplug.jmap.errors import MethodError
from jmapplug.jmap.methods import Limits


@pytest.fixture
def rig(tmp_path: Path):
    made = Rig(tmp_path)
    made.deliver("topic", message_id="a@x", received_at=3000)
    made.deliver("Re: topic", message_id="b@x", references=["a@x"], received_at=1000)
    made.deliver("other", received_at=2000)
    made.sync()
    yield made
    made.close()


def test_get_lists_emails_oldest_first(rig: Rig) -> None:
    """RFC 8621 §3: by receivedAt."""
    thread = rig.emails()[rig.email("topic")]["threadId"]
    reply = rig.call("Thread/get", ids=[thread, "tnope"])
    assert reply["list"] == [{"id": thread, "emailIds": [rig.email("Re: topic"), rig.email("topic")]}]
    assert reply["notFound"] == ["tnope"]
    assert rig.call("Thread/get", ids=[thread], properties=["id"])["list"] == [{"id": thread}]


def test_get_of_all_is_refused_where_there_are_too_many(rig: Rig) -> None:
    assert len(rig.call("Thread/get", ids=None)["list"]) == 2
    rig.limits = Limits(max_objects_in_get=1)
    with pytest.raises(MethodError) as caught:
        rig.call("Thread/get", ids=None)
    assert caught.value.type == "requestTooLarge"


def test_flags_change_no_thread_and_members_do(rig: Rig) -> None:
    """RFC 8621 §3: a Thread changes when its emailIds do."""
    state = rig.store.state("Thread")
    rig.server.set_flags(b"INBOX", 3, "\\Seen")
    rig.sync()
    assert rig.store.state("Thread") == state
    rig.deliver("Re: topic", message_id="c@x", references=["a@x"])
    rig.sync()
    reply = rig.call("Thread/changes", sinceState=state)
    assert (reply["created"], reply["updated"]) == ([], [rig.emails()[rig.email("topic")]["threadId"]])


def test_a_thread_without_emails_is_destroyed(rig: Rig) -> None:
    state = rig.store.state("Thread")
    thread = rig.emails()[rig.email("other")]["threadId"]
    rig.server.expunge(b"INBOX", 3)
    rig.sync()
    assert rig.call("Thread/changes", sinceState=state)["destroyed"] == [thread]
    assert rig.call("Thread/get", ids=[thread])["notFound"] == [thread]
