"""What mail providers do to their users' clients: throttling, few connections, goodbyes, alerts (wishes 11, 12)."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from refusing import Refusing
from scene import Scene, message

from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.ports import running, wait_until
from jmapplug.testing.proxy import Proxy


@pytest.fixture
def relay(dovecot: Dovecot) -> Iterator[Refusing]:
    relay = Refusing(dovecot.port)
    yield relay
    relay.close()


@pytest.fixture
def scene(proxy: Proxy, dovecot: Dovecot, account_name: str) -> Iterator[Scene]:
    scene = Scene(proxy, dovecot, account_name, "dovecot")
    yield scene
    scene.close()


def sync(scene: Scene) -> Any:
    """What one pass answers."""
    return scene.proxy.management.send("POST", f"/api/accounts/{scene.account}/sync")


def patch(scene: Scene, **changes: Any) -> Any:
    return scene.proxy.management.send("PATCH", f"/api/accounts/{scene.account}", changes)


def status(scene: Scene) -> dict[str, Any]:
    return scene.proxy.status(scene.account)


THROTTLED = [
    ("AUTHENTICATE|LOGIN", "NO [LIMIT] Rate limit hit.", 30, "fewer requests"),
    ("EXAMINE|SELECT", "NO Request is throttled. Suggested Backoff Time: 178755 milliseconds", 178, "fewer requests"),
    ("LIST|AUTHENTICATE", "* BYE [UNAVAILABLE] back soon: retry after 100 seconds", 100, "not available"),
    ("LIST|AUTHENTICATE", "* BYE Maximum number of connections exceeded", 30, "fewer requests"),
    ("AUTHENTICATE|LOGIN", "NO [INUSE] locked by another session, try again in 2 minutes", 120, "in use elsewhere"),
]


@pytest.mark.parametrize(("what", "answer", "least", "words"), THROTTLED)
def test_a_server_that_throttles_is_left_alone_until_its_time_whoever_asks(
    scene: Scene, relay: Refusing, what: str, answer: str, least: float, words: str
) -> None:
    """Wish 12: what is cached is served, what is not is a clean error, and the pause stays as long as it was."""
    scene.append("Inbox", *[message(f"number {at}") for at in range(3)])
    before = scene.begin(imapPort=relay.port)
    scene.append("Inbox", message("news"))
    relay.refuse = [(what, answer)]
    relay.cut_all()
    wait_until(lambda: relay.met, "the server has refused")
    assert sync(scene).status == 500
    wait_until(lambda: status(scene)["next_retry"] is not None, "a pause")
    told = status(scene)
    assert words in told["error"]
    assert least - 4 <= told["next_retry"] <= least * 1.5
    asked = len(relay.asked)
    ident = next(iter(before.emails))
    for _ in range(3):
        assert sync(scene).status == 500
        assert scene.jmap.call("Email/query")["ids"]
        body = {"properties": ["bodyValues"], "fetchTextBodyValues": True}
        assert scene.jmap.error("Email/get", ids=[ident], **body)["type"] == "serverUnavailable"
        refused = scene.jmap.call("Email/set", update={ident: {"keywords/$flagged": True}})["notUpdated"][ident]
        assert refused["type"] in ("rateLimit", "serverFail")
    assert len(relay.asked) == asked, "nothing was asked during the pause"
    assert told["next_retry"] - 1 > 0 and 0 < status(scene)["next_retry"] <= told["next_retry"] + 1
    # Settings that are written, even the same ones, end the pause at once.
    relay.refuse = []
    assert "warning" not in patch(scene).json
    scene.proxy.settled(scene.account)
    assert set(scene.agree().by_subject()) - set(before.by_subject()) == {"news"}
    assert (status(scene)["error"], status(scene)["next_retry"]) == (None, None)
