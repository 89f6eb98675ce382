"""One and the same scenario of a second IMAP client on every kind of server: I1, I3 and I5 after each step.

It also holds mail-rules 3, 6, 13, 15, 19, 22 and 25 on all of them: ids go with what the server calls the same.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from gmail_scene import DRAFTS, TRASH, GmailScene
from jmapplug_imap.listing_trust import SETTLES
from matrix_steps import STEPS, Other
from scene import Scene, Where, none

from jmapplug.testing.hiding import Hiding
from jmapplug.testing.proxy import Proxy
from tests.invariants.rules import Wish, acknowledged, untouched

HIDDEN = ("NOTIFY", "QRESYNC", "CONDSTORE", "MOVE", "UIDPLUS", "SPECIAL-USE", "LIST-STATUS", "IDLE", "LITERAL+")
"""Step by step: each row of the matrix hides one more of these from the proxy."""
STATES = 2
"""How many earlier states every step replays from; the last one replays from all."""
ROOM = 8
"""Emails whose octets are compared at the end."""


def _doveadm(scene: Scene, where: str) -> None:
    config = str(scene.server.folder / "dovecot.conf")  # type: ignore[attr-defined]
    status = scene.imap.status(scene.at(where), "(UIDVALIDITY)")[1][0]
    fresh = str(int(status.rstrip(b")").rpartition(b" ")[2]) + 1000)
    command = ["doveadm", "-c", config, "mailbox", "update", "-u", scene.user, "--uid-validity", fresh]
    subprocess.run([*command, scene.at(where).strip('"')], check=True, timeout=30)


def _never(scene: Scene, where: str) -> None:
    raise AssertionError("this server has no way to do that")


class Server(NamedTuple):
    """``fixture`` runs it; ``lacks``: what it cannot do, and why."""

    fixture: str
    kind: str
    hidden: tuple[str, ...] = ()
    lacks: Mapping[str, str] = MappingProxyType({})
    places: Mapping[str, Where] = MappingProxyType({})
    renumber: Callable[[Scene, str], None] = _doveadm
    scene: type[Scene] = Scene


DOVECOT = {
    # tests/endtoend/test_other_clients_change_folders.py has it without what follows.
    "rename inbox": "Dovecot 2.3.19 goes on showing the old one on connections from before",
}
PYMAP = {
    "copy": "pymap's maildir makes an empty message of a COPY",
    "swap": "pymap's MAILBOXID follows the name of a folder",
    "bare parents": "pymap keeps no parents that nobody made",
    "renumber": "pymap has no command for it",
    "rename inbox": "pymap's INBOX is the root of its maildir",
    "twins": "pymap's EMAILID is that of the octets",
}
CYRUS = {
    "delete above": "Cyrus deletes no folder that has others below it",
    "renumber": "Cyrus has no command for it",
    "rename inbox": "Cyrus lets nobody rename an INBOX",
    "twins": "Cyrus's EMAILID is that of the octets",
}
GMAIL = {
    "expunges": "a label is there once",
    "renumber": "Gmail's never changes",
    "rename inbox": "Gmail has no such thing",
    "twins": "Gmail keeps one message of a Message-ID",
    "bare parents": "every level is a label",
}
SERVERS = {
    "dovecot": Server("dovecot", "dovecot", (), DOVECOT),
    **{f"no {name}": Server("dovecot", "dovecot", HIDDEN[: at + 1], DOVECOT) for at, name in enumerate(HIDDEN)},
    "courier": Server("dovecot_maildir", "courier", (), DOVECOT),
    "cyrus": Server("cyrus", "cyrus", (), CYRUS, renumber=_never),
    "pymap": Server("pymap_server", "pymap", (), PYMAP, renumber=_never),
    "gmail": Server("gmail", "gmail", (), GMAIL, {"Trash": TRASH, "Drafts": DRAFTS}, _never, GmailScene),
}


@pytest.fixture(params=list(SERVERS))
def row(request: pytest.FixtureRequest) -> Server:
    return SERVERS[request.param]


@pytest.fixture
def actor(row: Server, proxy: Proxy, account_name: str, request: pytest.FixtureRequest) -> Iterator[Other]:
    """The second client; the proxy's own way to the server hides what the row hides."""
    server: Any = request.getfixturevalue(row.fixture)
    scene = row.scene(proxy, server, account_name, row.kind)
    relay = Hiding(server.port, row.hidden)
    for name in ("Drafts", "Trash"):
        scene.imap.create(scene.at(row.places.get(name, name)))  # where it is not there yet
    scene.begin(imapPort=relay.port)
    yield Other(scene, row.places, row.renumber)
    scene.close()
    relay.close()


def test_the_view_is_the_server_s_after_every_step(actor: Other, row: Server) -> None:
    for each in STEPS:
        if each.needs & row.lacks.keys():
            continue
        each.act(actor)
        try:
            agreed(actor.scene)
        except AssertionError as error:
            raise AssertionError(f"after “{each.name}”") from error
    actor.scene.agree(sample=ROOM)
    write(actor.scene)


def agreed(scene: Scene) -> None:
    """At once; but Dovecot may leave out a folder that was made within a second of a look: it is there soon after."""
    try:
        scene.agree(last=STATES, one_by_one=1)
    except AssertionError as error:
        if any(not line.startswith("I1") or line.endswith("and no folder") for line in str(error).splitlines()):
            raise
        time.sleep(SETTLES)
        scene.agree(last=STATES, one_by_one=1)


def write(scene: Scene) -> None:
    """I2 and I6: what a write names is so, and nothing else has changed."""
    checker = scene.checker
    before = checker.held
    flagged, destroyed, *_ = sorted(checker.ledger.groups.keys() & checker.view.emails.keys())
    reply = scene.jmap.call("Email/set", update={flagged: {"keywords/$flagged": True}}, destroy=[destroyed])
    assert not reply["notUpdated"] and not reply["notDestroyed"], reply
    scene.agree(last=1)
    none(untouched(before, checker.held, [checker.ledger.groups[each] for each in (flagged, destroyed)]))
    wishes = [Wish(flagged, keywords={"$flagged": True}), Wish(destroyed, destroyed=True)]
    none(acknowledged(checker.held, checker.view, checker.ledger, wishes))


def test_every_server_does_most_of_the_steps() -> None:
    for name, row in SERVERS.items():
        left_out = {reason for each in STEPS for reason in each.needs & row.lacks.keys()}
        assert left_out == row.lacks.keys(), f"{name}: a reason without a step"
        assert sum(not each.needs & row.lacks.keys() for each in STEPS) >= 55, name
