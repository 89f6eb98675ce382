"""Accounts on real servers, read through the real proxy, while a second IMAP client changes them."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parent))

from gmail_scene import GmailScene
from refusing import Refusing
from scene import POOR, Scene

from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.gmail_server import Gmail
from jmapplug.testing.hiding import Hiding
from jmapplug.testing.proxy import Proxy

SERVERS = ("dovecot", "courier", "pymap")
FIXTURES = {"courier": "dovecot_maildir", "pymap": "pymap_server", "poor": "dovecot"}
"""Kind of server → the fixture that runs it, where its name is another one; "poor": a Dovecot that lacks ``POOR``."""

Make = Callable[..., Scene]


@pytest.fixture
def make(proxy: Proxy, account_name: str, request: pytest.FixtureRequest) -> Iterator[Make]:
    """A new user on a kind of server, and the account when :meth:`Scene.begin` is called."""
    scenes: list[Scene] = []
    relays: list[Hiding] = []

    def made(kind: str, user: str = "") -> Scene:
        server = request.getfixturevalue(FIXTURES.get(kind, kind))
        scenes.append(Scene(proxy, server, f"{account_name}s{len(scenes)}", kind, user))
        if kind == "poor":
            relays.append(Hiding(server.port, POOR))
            scenes[-1].settings["imapPort"] = relays[-1].port
        return scenes[-1]

    yield made
    for each in (*scenes, *relays):
        each.close()


@pytest.fixture(params=SERVERS)
def scene(make: Make, request: pytest.FixtureRequest) -> Scene:
    """The same story on every kind of server."""
    return make(request.param)


@pytest.fixture(params=["dovecot", "courier"])
def copying(make: Make, request: pytest.FixtureRequest) -> Scene:
    """Where pymap's maildir is wrong: COPY makes an empty message, MAILBOXID follows the name of a folder."""
    return make(request.param)


@pytest.fixture
def small(make: Make, dovecot: Dovecot) -> Scene:
    """A user of Dovecot with little room."""
    return make("dovecot", dovecot.new_user("small"))


@pytest.fixture
def dove(make: Make) -> Scene:
    return make("dovecot")


@pytest.fixture
def relay(dovecot: Dovecot) -> Iterator[Refusing]:
    """Between the proxy and Dovecot."""
    relay = Refusing(dovecot.port)
    yield relay
    relay.close()


@pytest.fixture
def courier(make: Make) -> Scene:
    return make("courier")


@pytest.fixture
def pym(make: Make) -> Scene:
    return make("pymap")


@pytest.fixture
def gm(server: Gmail, proxy: Proxy, account_name: str) -> Iterator[GmailScene]:
    """A new user on the module's ``server``."""
    scene = GmailScene(proxy, server, account_name, "gmail")
    yield scene
    scene.close()
