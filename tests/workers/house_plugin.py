"""A plugin for the tests of processes: a backend without a network, methods that block, crash and tell their pid."""

import os
import signal
from pathlib import Path

import gevent
import msgspec

from jmapplug.errors import AuthenticationError, UpstreamError
from jmapplug.hookspecs import Capability, Schema, hookimpl
from jmapplug.jmap.methods import Method
from jmapplug.store.pace import breathe
from jmapplug.workers.plain import assert_no_hub

URN = "urn:test:house"


class HouseSettings(msgspec.Struct, frozen=True):
    username: str | None = None
    password: str | None = None
    host: str = "nowhere"


class HouseSession:
    mail = None

    def __init__(self, settings):
        self.settings = settings

    def close(self):
        pass


class HouseBackend:
    type = "house"
    label = "House"
    settings = HouseSettings
    secrets = frozenset({"password"})
    public = ("host",)

    def validate(self, settings, email):
        return settings

    def check_password(self, settings, email, password):
        return False

    def open(self, settings, email):
        return HouseSession(settings)


def wait_for(path):
    with gevent.Timeout(60):
        while not Path(path).exists():
            gevent.sleep(0.002)


def block(call, args):
    """Says that it has begun, then waits until it is let go."""
    Path(args["begun"]).touch()
    wait_for(args["go"])
    return {"pid": os.getpid()}


def hang(call, args):
    """Never lets anything else of this process run."""
    Path(args["begun"]).touch()
    while True:
        pass


def work(call, args):
    """Computes until it is let go, as long jobs of ours do: giving way every few milliseconds."""
    Path(args["begun"]).touch()
    while not Path(args["go"]).exists():
        sum(range(1000))
        breathe()
    return {"pid": os.getpid()}


def die(call, args):
    os.kill(os.getpid(), signal.SIGKILL)


def touch(call, args):
    call.account.store.commit(lambda change: change.touch("House"))
    return {"state": call.account.store.state("House")}


def raises(call, args):
    raise {"auth": AuthenticationError("no"), "upstream": UpstreamError("away")}.get(args["what"], KeyError("defect"))


def about(call, args):
    return {"pid": os.getpid(), "password": call.account.settings.password, "fds": len(os.listdir("/proc/self/fd"))}


class Service:
    """Does what files in the account's folder tell: ``refuse``, ``away``, ``slices`` (a number)."""

    def __init__(self, account):
        self.account = account
        self.passes = 0
        self.slices = 0

    def setup(self):
        self._note("setup")

    def sync(self):
        for name, error in (("refuse", AuthenticationError("refused")), ("away", UpstreamError("away"))):
            if (self.account.folder / name).exists():
                raise error
        self._note("sync")
        self.passes += 1

    def _note(self, what):
        with open(self.account.folder / "notes", "a") as file:
            file.write(f"{what}\n")

    def background(self):
        gevent.sleep(0)
        self.slices += 1
        wanted = self.account.folder / "slices"
        return wanted.exists() and self.slices < int(wanted.read_text() or 0)

    def wait(self, timeout):
        gevent.sleep(timeout)
        return False

    def status(self):
        return {"folders": 1, "messages": self.passes, "phase": "idle", "slices": self.slices}

    def close(self):
        pass


METHODS = {"block": block, "hang": hang, "work": work, "die": die, "touch": touch, "raises": raises, "about": about}


@hookimpl
def register_backends():
    return [HouseBackend]


@hookimpl
def register_capabilities():
    methods = tuple(Method(f"House/{name}", handler, URN) for name, handler in METHODS.items())
    schema = Schema()
    return [Capability(URN, methods, schema=schema, types=("House",), service=Service)]


assert_no_hub()  # whatever imported this in the supervisor: it has made no hub
