"""A registry in this process: real file, no workers."""

from __future__ import annotations

from types import SimpleNamespace

import msgspec
import pytest

from jmapplug.registry.service import Registry
from jmapplug.settings import load


class House(msgspec.Struct, frozen=True):
    username: str | None = None
    password: str | None = None
    host: str = "nowhere"


class Backend:
    type = "house"
    settings = House
    secrets = frozenset({"password"})
    public = ("host",)


class Control:
    """Stands for the way to the supervisor: remembers what it was asked."""

    def __init__(self):
        self.asked = []

    def control(self, command, **arguments):
        self.asked.append((command, arguments["id"]))
        return {}


@pytest.fixture
def settings(tmp_path):
    return load({"JMAP_DATADIR": str(tmp_path / "data"), "JMAP_SECRET_KEY": "ab" * 32})


@pytest.fixture
def control():
    return Control()


@pytest.fixture
def registry(settings, control):
    settings.datadir.mkdir()
    made = Registry(settings, SimpleNamespace(backends={"house": Backend}), control)
    made.events = []
    made.broadcast = lambda name, body: made.events.append(body)
    yield made
    made.close()


@pytest.fixture
def add(registry):
    def add(accountid="alice", **more):
        settings = {"username": f"{accountid}-login", "password": f"{accountid}-secret", "host": "h"}
        header = {"accountid": accountid, "email": f"{accountid}@Example.com", "type": "house", "settings": settings}
        return registry.create(header | more)

    return add
