"""One copy in Sent: which copy goes, which stays, and what is left alone (mail-rules 36; Features.stores_sent)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from submission_rig import NOW, Rig

from jmapplug.backends import Features
from jmapplug.capabilities.submission import one_copy
from jmapplug.capabilities.submission import store as sql
from jmapplug.capabilities.submission.one_copy import MAIL, OneCopy
from jmapplug.capabilities.submission.store import Submission
from jmapplug.errors import UpstreamError
from jmapplug.jmap.errors import MethodError

LATE, EARLY = "2027-01-15T08:00:30Z", "2027-01-15T07:00:00Z"


class Mail:
    """An account's mail as its methods show it. ``emails``: id → (Mailboxes, Message-ID, receivedAt)."""

    def __init__(self, **emails: tuple[str, str, str]) -> None:
        self.emails = {id_: (set(boxes.split()), name, at) for id_, (boxes, name, at) in emails.items()}
        self.roles = {"sent": "sent", "all": "all", "drafts": "drafts", "inbox": "inbox"}
        self.stores_sent = True
        self.trouble: list[Exception] = []
        self.sets: list[dict[str, Any]] = []
        self.passes = 0

    def invoke(self, name: str, args: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = getattr(self, name.replace("/", "_").lower())(args)
        return answer

    def email_get(self, args: dict[str, Any]) -> dict[str, Any]:
        rows = []
        for id_ in args["ids"]:
            if id_ in self.emails:
                boxes, name, at = self.emails[id_]
                boxes_ = dict.fromkeys(sorted(boxes), True)
                rows.append({"id": id_, "mailboxIds": boxes_, "messageId": [name] if name else None, "receivedAt": at})
        return {"list": rows, "state": f"s{self.passes}"}

    def mailbox_get(self, args: dict[str, Any]) -> dict[str, Any]:
        return {"list": [{"id": id_, "role": role} for role, id_ in self.roles.items()]}

    def email_query(self, args: dict[str, Any]) -> dict[str, Any]:
        return {"ids": [id_ for id_, (boxes, _, _) in self.emails.items() if args["filter"]["inMailbox"] in boxes]}

    def email_set(self, args: dict[str, Any]) -> dict[str, Any]:
        assert args["ifInState"] == f"s{self.passes}"
        if self.trouble:
            raise self.trouble.pop()
        self.sets.append(args)
        for id_ in args["destroy"] or ():
            del self.emails[id_]
        return {"notDestroyed": None, "notUpdated": None}

    def sync(self) -> None:
        self.passes += 1

    def run(self, waits: tuple[float, ...] = (0, 0, 0)) -> OneCopy:
        """Until it is done with what was sent as Email ``ours``."""
        account = SimpleNamespace(
            invoke=self.invoke,
            services={MAIL: self},
            mail_source=lambda: SimpleNamespace(features=Features(stores_sent=self.stores_sent)),
            spawn=gevent.spawn,
        )
        one = OneCopy(account, waits)
        one.sent(submission())
        assert one.busy
        gevent.idle()
        while one.busy:
            gevent.sleep(0)
        return one


def submission() -> Submission:
    return SimpleNamespace(id="s1", email_id="ours", created_at=NOW)  # type: ignore[return-value]


def test_the_servers_copy_goes_and_ours_stays() -> None:
    mail = Mail(ours=("sent all", "a@x", LATE), theirs=("sent all", "a@x", LATE))
    mail.run()
    assert list(mail.emails) == ["ours"] and mail.passes == 1


@pytest.mark.parametrize(
    "theirs",
    [("sent", "b@x", LATE), ("sent", "a@x", EARLY), ("inbox all", "a@x", LATE)],
    ids=["another Message-ID", "older than the sending", "not in Sent"],
)
def test_what_is_not_the_servers_copy_of_it_stays(theirs: tuple[str, str, str]) -> None:
    mail = Mail(ours=("sent all", "a@x", LATE), theirs=theirs)
    mail.run()
    assert mail.sets == [] and mail.passes == 3


def test_what_came_back_to_the_sender_only_leaves_sent() -> None:
    mail = Mail(ours=("sent all", "a@x", LATE), theirs=("sent inbox all", "a@x", LATE))
    mail.run()
    assert [(one["destroy"], one["update"]) for one in mail.sets] == [(None, {"theirs": {"mailboxIds/sent": None}})]


def test_nothing_goes_while_ours_is_not_in_sent() -> None:
    mail = Mail(ours=("drafts all", "a@x", LATE), theirs=("sent all", "a@x", LATE))
    mail.run()
    assert mail.sets == [] and len(mail.emails) == 2


@pytest.mark.parametrize("name", ["", "a@x"])
def test_without_our_email_or_its_message_id_there_is_nothing_to_do(name: str) -> None:
    mail = Mail(theirs=("sent all", "a@x", LATE), **({} if name else {"ours": ("sent", "", LATE)}))
    mail.run()
    assert mail.sets == [] and mail.passes == 1


def test_a_server_that_stores_nothing_is_left_in_peace() -> None:
    mail = Mail(ours=("sent all", "a@x", LATE), theirs=("sent all", "a@x", LATE))
    mail.stores_sent = False
    mail.run()
    assert mail.passes == 0 and len(mail.emails) == 2


@pytest.mark.parametrize("trouble", [MethodError("stateMismatch"), UpstreamError("away")])
def test_it_is_tried_again_when_something_comes_between(trouble: Exception) -> None:
    mail = Mail(ours=("sent all", "a@x", LATE), theirs=("sent all", "a@x", LATE))
    mail.trouble = [trouble]
    mail.run()
    assert list(mail.emails) == ["ours"] and mail.passes == 2


def test_it_looks_for_two_minutes_and_no_longer() -> None:
    assert 100 < sum(one_copy.WAITS) < 150


def test_what_was_sent_shortly_before_a_restart_is_looked_after(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(tmp_path)
    made = rig.create()
    rig.way.data_reply = "554 5.7.1 no"
    rig.create()
    told: list[str] = []
    monkeypatch.setattr(OneCopy, "sent", lambda self, row: told.append(row.id))
    rig.reopen()
    rig.service.sync()
    rig.service.sync()
    assert told == [made["id"]]
    rig.now += one_copy.LOST + 1
    assert sql.sent_since(rig.store, rig.now - one_copy.LOST) == []
    rig.close()
