"""One copy in Sent, where the mail server itself puts what is submitted there (``Features.stores_sent``).

The client's own Email, moved to Sent by onSuccessUpdateEmail, is the one that stays: its id is known, and its Bcc. Only
when it is in Sent, as the server says at that moment, the server's own copy of the same Message-ID goes. A client that
leaves its Email elsewhere, or destroys it, finds the server's copy and no other.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import gevent
import msgspec

from jmapplug.capabilities.submission.store import Submission
from jmapplug.errors import UpstreamError
from jmapplug.jmap.errors import MethodError
from jmapplug.mime.dates import timestamp

log = logging.getLogger(__name__)

MAIL = "urn:ietf:params:jmap:mail"
WAITS = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
"""Seconds before each look: the server's copy comes when it likes, and the client's move behind the answer."""
CLOCKS = 300
"""Seconds by which the mail server's clock may be behind ours."""
NEWEST = 100
LOST = 600
"""Seconds for which a restart looks after what was sent before it."""


class OneCopy:
    """Looks after what one account has sent. ``waits`` as :data:`WAITS`."""

    def __init__(self, account: Any, waits: Iterable[float] = WAITS) -> None:
        self.account = account
        self._waits = tuple(waits)
        self._under_way: set[str] = set()

    @property
    def busy(self) -> bool:
        return bool(self._under_way)

    def sent(self, row: Submission) -> None:
        """The server took this message: look after it in the background."""
        if row.email_id not in self._under_way:
            self._under_way.add(row.email_id)
            self.account.spawn(lambda: self._watch(row))

    def _watch(self, row: Submission) -> None:
        try:
            if self.account.mail_source().features.stores_sent:
                for seconds in self._waits:
                    gevent.sleep(seconds)
                    if self._settled(row):
                        return
        except UpstreamError as error:
            log.info("whether %s is in Sent twice is not known: %s", row.id, error)
        finally:
            self._under_way.discard(row.email_id)

    def _settled(self, row: Submission) -> bool:
        """Whether there is nothing more to wait for."""
        try:
            self.account.services[MAIL].sync()
            return self._look(row)
        except (MethodError, UpstreamError) as error:
            log.info("Sent is looked at again later: %s", error)
            return False

    def _look(self, row: Submission) -> bool:
        found = self._get([row.email_id])
        if not found["list"]:
            return True
        (ours,) = found["list"]
        boxes = self._plain("Mailbox/get", ids=None, properties=["id", "role"])["list"]
        roles = {box["role"]: box["id"] for box in boxes}
        sent, everything = roles.get("sent"), roles.get("all")
        if sent is None or not ours["messageId"]:
            return True
        if sent not in ours["mailboxIds"]:
            return False
        newest = [{"property": "receivedAt", "isAscending": False}]
        ids = self._plain("Email/query", filter={"inMailbox": sent}, sort=newest, limit=NEWEST)["ids"]
        twins = [one for one in self._get(ids)["list"] if _is_twin(one, ours, row)]
        if not twins:
            return False
        alone = [one["id"] for one in twins if set(one["mailboxIds"]) <= {sent, everything}]
        # What came back to the sender is in the inbox too: it only leaves Sent.
        update = {one["id"]: {f"mailboxIds/{sent}": None} for one in twins if one["id"] not in alone}
        # The state is that of a fresh look at the server, or nothing is done.
        reply = self._plain("Email/set", destroy=alone or None, update=update or None, ifInState=found["state"])
        for kind in ("notDestroyed", "notUpdated"):
            if reply[kind]:
                log.info("the server's copy in Sent stays: %s", reply[kind])
        return True

    def _get(self, ids: list[str]) -> dict[str, Any]:
        return self._plain("Email/get", ids=ids, properties=["id", "messageId", "mailboxIds", "receivedAt"])

    def _plain(self, name: str, **args: Any) -> dict[str, Any]:
        """The response's arguments; values may be JSON that is encoded already."""
        answer: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self.account.invoke(name, args)))
        return answer


def _is_twin(one: dict[str, Any], ours: dict[str, Any], row: Submission) -> bool:
    """Whether this is the server's copy of what was sent: the sender chooses the Message-ID, so the time counts too."""
    same = one["id"] != ours["id"] and one["messageId"] == ours["messageId"]
    return same and (timestamp(one["receivedAt"]) or 0) >= row.created_at - CLOCKS
