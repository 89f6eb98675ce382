"""One and the same scenario of a second IMAP client on every kind of server: I1, I3 and I5 after each step.

It ends with a client that writes and sends: I2, I4 and I6. It also holds mail-rules 3, 6, 13, 15, 19, 22 and 25 on
all of them: ids go with what the server calls the same.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from gmail_scene import DRAFTS, TRASH, GmailScene
from jmapplug_imap.listing_trust import SETTLES
from matrix_steps import STEPS, Other
from refusing import Refusing
from scene import Scene, View, Where, none

from jmapplug.testing import smtp_server
from jmapplug.testing.hiding import Hiding
from jmapplug.testing.proxy import Proxy
from jmapplug.testing.smtp_server import SmtpServer
from tests.invariants.rules import Wish, acknowledged, sent, untouched

HIDDEN = ("NOTIFY", "QRESYNC", "CONDSTORE", "MOVE", "UIDPLUS", "SPECIAL-USE", "LIST-STATUS", "IDLE", "LITERAL+")
"""Step by step: each row of the matrix hides one more of these from the proxy."""
SAYS = {
    "NOTIFY": rb"^\S+ NOTIFY ",
    "QRESYNC": rb"QRESYNC",
    "CONDSTORE": rb"CONDSTORE|CHANGEDSINCE|HIGHESTMODSEQ",
    "MOVE": rb"^\S+ UID MOVE ",
    "UIDPLUS": rb"^\S+ UID EXPUNGE ",
    "SPECIAL-USE": rb"SPECIAL-USE",
    "LIST-STATUS": rb"^\S+ LIST .*STATUS \(",
    "IDLE": rb"^\S+ IDLE\r",
    "LITERAL+": rb"\{\d+\+\}\r",
}
"""What a client says that uses it."""
USED = {"dovecot": {*HIDDEN} - {"IDLE"}, "no NOTIFY": {*HIDDEN[1:]}}
"""Rows in which each of these is used where it is not hidden (NOTIFY makes IDLE needless)."""
STATES = 2
"""How many earlier states every step replays from; the last one replays from all."""
SENDING = tuple(f"urn:ietf:params:jmap:{name}" for name in ("core", "mail", "submission"))
ROOM = 8
"""Emails whose octets are compared at the end."""


def _doveadm(scene: Scene, where: str) -> None:
    config = str(scene.server.folder / "dovecot.conf")  # type: ignore[attr-defined]
    status = scene.imap.status(scene.at(where), "(UIDVALIDITY)")[1][0]
    fresh = str(int(status.rstrip(b")").rpartition(b" ")[2]) + 1000)
    command = ["doveadm", "-c", config, "mailbox", "update", "-u", scene.user, "--uid-validity", fresh]
    subprocess.run([*command, scene.at(where).strip('"')], check=True, timeout=30)


class Renumbered:
    """Another UIDVALIDITY than ``number`` on the way from and to the server. ``times``: so often it was told."""

    def __init__(self, number: bytes) -> None:
        self._number, self._other = number, b"%d" % (int(number) + 1000)
        self.times = 0

    def tell(self, line: bytes) -> bytes:
        there = rb"(UIDVALIDITY|COPYUID|APPENDUID) %s\b" % self._number
        line, count = re.subn(there, rb"\g<1> " + self._other, line)
        self.times += count
        return line

    def ask(self, line: bytes) -> bytes:
        return re.sub(rb"QRESYNC \(%s\b" % self._other, b"QRESYNC (" + self._number, line)


def _told(scene: Scene, where: str) -> None:
    """Nobody can order this server to do it."""
    status = scene.imap.status(scene.at(where), "(UIDVALIDITY)")[1][0]
    assert isinstance(scene.relay, Refusing)
    scene.renumbered = Renumbered(status.rstrip(b")").rpartition(b" ")[2])
    scene.relay.change, scene.relay.ask = scene.renumbered.tell, scene.renumbered.ask


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
    "rename inbox": "afterwards Dovecot 2.3.19 tells some connections that INBOX was deleted under them, new ones too",
}
PYMAP = {
    "copy": "pymap's maildir makes an empty message of a COPY",
    "swap": "pymap's MAILBOXID follows the name of a folder",
    "bare parents": "pymap keeps no parents that nobody made",
    "rename inbox": "pymap's INBOX is the root of its maildir",
    "twins": "pymap's EMAILID is that of the octets",
}
CYRUS = {
    "delete above": "Cyrus deletes no folder that has others below it",
    "rename inbox": "Cyrus lets nobody rename an INBOX",
    "twins": "Cyrus's EMAILID is that of the octets",
}
GMAIL = {
    "expunges": "a label is there once",
    "rename inbox": "Gmail has no such thing",
    "twins": "Gmail keeps one message of a Message-ID",
    "bare parents": "every level is a label",
}
SERVERS = {
    "dovecot": Server("dovecot", "dovecot", (), DOVECOT),
    **{f"no {name}": Server("dovecot", "dovecot", HIDDEN[: at + 1], DOVECOT) for at, name in enumerate(HIDDEN)},
    "courier": Server("dovecot_maildir", "courier", (), DOVECOT),
    "cyrus": Server("cyrus", "cyrus", (), CYRUS, renumber=_told),
    "pymap": Server("pymap_server", "pymap", (), PYMAP, renumber=_told),
    "gmail": Server("gmail", "gmail", (), GMAIL, {"Trash": TRASH, "Drafts": DRAFTS}, _told, GmailScene),
}


@pytest.fixture(params=list(SERVERS))
def row(request: pytest.FixtureRequest) -> Server:
    return SERVERS[request.param]


@pytest.fixture
def smtp(row: Server, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SmtpServer]:
    server = smtp_server.start(tmp_path, "--auth", f"*:{request.getfixturevalue(row.fixture).password}")
    yield server
    server.stop()


@pytest.fixture
def actor(
    row: Server, proxy: Proxy, account_name: str, smtp: SmtpServer, request: pytest.FixtureRequest
) -> Iterator[Other]:
    """The second client; the proxy's own way to the server hides what the row hides."""
    server: Any = request.getfixturevalue(row.fixture)
    scene = row.scene(proxy, server, account_name, row.kind)
    relay = Refusing(server.port) if row.renumber is _told else Hiding(server.port, row.hidden)
    scene.relay = relay
    for name in ("Drafts", "Trash"):
        scene.imap.create(scene.at(row.places.get(name, name)))  # where it is not there yet
    scene.begin(imapPort=relay.port, **smtp.settings)
    yield Other(scene, row.places, row.renumber)
    scene.close()
    relay.close()


def test_the_view_is_the_server_s_after_every_step(actor: Other, row: Server, smtp: SmtpServer) -> None:
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
    send(actor.scene, smtp)
    assert "HIGHESTMODSEQ does not move" not in actor.scene.proxy.log, "a server that does it right is believed"
    relay = actor.scene.relay
    if isinstance(relay, Refusing):
        assert actor.scene.renumbered.times > 1
    elif isinstance(relay, Hiding):
        used = {name for name, pattern in SAYS.items() if relay.met(pattern)}
        assert not used & {*row.hidden}, "hidden, and used all the same"
        assert used >= USED.get(next(name for name, each in SERVERS.items() if each is row), set())


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
    known = sorted(checker.ledger.groups.keys() & checker.view.emails.keys())
    moved, origin = next((each, box) for each in known if (box := plain_box(checker.view, each)))
    flagged, destroyed, *_ = (each for each in known if each != moved)
    target = checker.view.paths()["Inbox",]
    patch = {f"mailboxIds/{origin}": None, f"mailboxIds/{target}": True}
    update = {flagged: {"keywords/$flagged": True}, moved: patch}
    goal = frozenset({*checker.view.emails[moved]["mailboxIds"], target} - {origin})
    reply = scene.jmap.call("Email/set", update=update, destroy=[destroyed])
    assert not reply["notUpdated"] and not reply["notDestroyed"], reply
    scene.agree(last=1)
    named = [checker.ledger.groups[each] for each in (flagged, destroyed, moved)]
    none(untouched(before, checker.held, named))
    wishes = [
        Wish(flagged, keywords={"$flagged": True}),
        Wish(destroyed, destroyed=True),
        Wish(moved, mailboxes=goal),
    ]
    none(acknowledged(checker.held, checker.view, checker.ledger, wishes))


def plain_box(view: View, email: str) -> str | None:
    """A Mailbox of this Email that has no role."""
    return next((box for box in view.emails[email]["mailboxIds"] if not view.mailboxes[box]["role"]), None)


def send(scene: Scene, smtp: SmtpServer) -> None:
    """I4, and I6: a message that is made and sent in one Request is taken once, and is all that has come."""
    checker, client = scene.checker, scene.jmap
    before = checker.held
    (found,) = client.answers(("Identity/get", {"ids": None}), using=SENDING)
    identity = next(each["id"] for each in found["list"] if not each["mayDelete"])
    draft = {
        "mailboxIds": {client.mailbox("drafts"): True},
        "keywords": {"$draft": True, "$seen": True},
        "from": [{"email": scene.user}],
        "to": [{"email": "eve@example.com"}],
        "subject": "Grüße",
        "bodyValues": {"1": {"value": "Größe"}},
        "textBody": [{"partId": "1", "type": "text/plain"}],
    }
    record = {"identityId": identity, "emailId": "#draft"}
    update = {"create": {"k": record}, "onSuccessUpdateEmail": {"#k": {"keywords/$draft": None}}}
    calls = (("Email/set", {"create": {"draft": draft}}), ("EmailSubmission/set", update))
    (_, made, _), (_, submitted, _), *_ = client.request(*calls, using=SENDING)
    assert submitted["created"]["k"]["undoStatus"] == "final", submitted
    ident = made["created"]["draft"]["id"]
    (email,) = client.call("Email/get", ids=[ident], properties=["messageId"])["list"]
    scene.agree(last=1)
    none(untouched(before, checker.held, [checker.ledger.groups[ident]]))
    none(acknowledged(checker.held, checker.view, checker.ledger, [Wish(ident, keywords={"$draft": False})]))
    none(sent([each.content for each in smtp.taken], email["messageId"]))


def test_every_server_does_most_of_the_steps() -> None:
    for name, row in SERVERS.items():
        left_out = {reason for each in STEPS for reason in each.needs & row.lacks.keys()}
        assert left_out == row.lacks.keys(), f"{name}: a reason without a step"
        assert sum(not each.needs & row.lacks.keys() for each in STEPS) >= 55, name
