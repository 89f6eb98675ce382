"""kill -9 of the worker in the middle of a Mailbox/set: ids stay, nothing keeps a passing name, no mail is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from scene import Scene, View, message
from test_killed_while_writing import end, kill, synced

from jmapplug.testing.ports import wait_until
from jmapplug.testing.relay import Relay

STEP = 101
"""Octets between two deaths."""


def _swap(view: View) -> dict[str, Any]:
    a, b = view.paths()["A",], view.paths()["B",]
    return {"update": {a: {"name": view.mailboxes[b]["name"]}, b: {"name": view.mailboxes[a]["name"]}}}


def _move(view: View) -> dict[str, Any]:
    paths = view.paths()
    deep = next(path for path in paths if path[-1] == "deep")
    target = ("B",) if deep[0] == "A" else ("A",)
    return {"update": {paths[deep]: {"parentId": paths[target]}}}


CHANGES: dict[str, Callable[[View], dict[str, Any]]] = {"swap": _swap, "move": _move}


@pytest.fixture
def relay(dovecot: Any) -> Iterator[Relay]:
    made = Relay(dovecot.port)
    yield made
    made.close()


@pytest.mark.parametrize("name", CHANGES)
def test_a_worker_killed_while_folders_change_loses_no_id(dove: Scene, relay: Relay, name: str) -> None:
    for path in (("A",), ("A", "deep"), ("B",)):
        dove.create(*path)
        dove.do("SUBSCRIBE", dove.name(*path))
        dove.append("/".join(path), message(f"in {path[-1]}"))
    dove.begin(imapPort=relay.port)
    octets, died = 0, True
    while died:
        octets += STEP
        view = dove.sync()
        relay.trap(octets, kill(dove))
        ((kind, answer, _),) = dove.jmap.request(("Mailbox/set", CHANGES[name](view)))
        died = not relay.waiting
        relay.disarm()
        if died:
            assert kind == "error" and answer["type"] == "serverPartialFail", answer
        else:
            assert kind == "Mailbox/set" and answer["notUpdated"] is None, answer
        del dove.history[1:]
        wait_until(lambda: synced(dove), "the account is back", 60)
        before, view = view, dove.agree()
        assert set(view.mailboxes) == set(before.mailboxes), "another id"
        assert view.emails == before.emails, "an Email changed its Mailbox"
        assert not [path for path in view.paths() if path[-1].startswith("moving-")]
        end(dove)
    assert octets > 3 * STEP, "nothing was ever disturbed"
