"""An account's worker process: from the fork to the end."""

from __future__ import annotations

import logging
import signal
import time
from functools import partial
from typing import Any

import gevent
from gevent.event import Event

from jmapplug import plugins
from jmapplug.errors import JmapplugError
from jmapplug.jmap.methods import MethodTable
from jmapplug.settings import Settings
from jmapplug.workers import context, hearts, herd, paths
from jmapplug.workers.account import Account, AccountLock
from jmapplug.workers.children import EXIT_DAMAGED, EXIT_GONE
from jmapplug.workers.client import WorkerClient
from jmapplug.workers.commands import COMMANDS
from jmapplug.workers.copies import copy_forever
from jmapplug.workers.errors import NotFound, WorkerUnavailable
from jmapplug.workers.login import Login
from jmapplug.workers.server import Answer, Request, Server
from jmapplug.workers.sync import SyncLoop

log = logging.getLogger("jmapplug.workers")

DRAIN = 4.0
REFUSE_FOR = 0.3
BUSY_LOOK = 60.0
"""Seconds between two looks whether a worker that was not asked anything for long still has something to stay for."""
LATELY = 60.0
"""Seconds after a request for which its client counts as one that wants to know of changes."""


class Worker:
    """The objects of one worker: account, server, loop, and the way to ``__accounts__``."""

    def __init__(self, listener: Any, settings: Settings, account_id: str) -> None:
        """Raises NotFound without such an account, WorkerUnavailable or UpstreamError when it cannot be opened."""
        self.settings = settings
        self.account_id = account_id
        self.plugins = plugins.load()
        self.methods: MethodTable = self.plugins.methods
        self.client = WorkerClient(settings, lead=False)
        self.stopping = Event()
        record, _ = self.client.call(paths.ACCOUNTS, "open", {"accountid": account_id}, timeout=20, retry=True)
        self._lock = AccountLock(settings.account_folder(account_id))
        self._lock.take()
        self._serving = False
        login = Login(account_id, record["pool"], self.client)
        self.account = Account(record, settings, self.plugins, self._publish, login)
        self.server = Server(listener, {name: partial(command, self) for name, command in COMMANDS.items()})
        hearts.ready()
        self._serving = True
        self.damaged = False
        self.account.store.on_damage = self._damaged
        self.account.audience.append(self._attended)
        self.loop = SyncLoop(
            self.account.services,
            self.server,
            settings.sync_interval,
            self._report,
            self._refresh,
            self.account.reported_offers,
            lambda: self.account.facts,
            lambda: self.account.held,
        )

    def account_for(self, account_id: str) -> Account | None:
        return self.account if account_id == self.account_id else None

    def _publish(self, body: dict[str, Any]) -> None:
        # What services write while the account is being opened is for nobody: no one can have subscribed yet.
        if self._serving:
            self.server.broadcast("change", body)

    def _damaged(self) -> None:
        """A file of the store is not sound any more: the next worker opens, and mends, it."""
        if not self.damaged:
            log.error("account %s: the store is damaged and is opened anew", self.account_id)
        self.damaged = True
        self.stopping.set()

    def _attended(self) -> bool:
        server = self.server
        return bool(server.subscribers or server.in_flight) or time.monotonic() - server.last_used < LATELY

    def _report(self, status: dict[str, Any]) -> None:
        self.client.call(paths.ACCOUNTS, "report", {"accountid": self.account_id, **status}, timeout=20)

    def _refresh(self) -> None:
        """The credentials were refused: perhaps better ones are stored by now."""
        try:
            record, _ = self.client.call(paths.ACCOUNTS, "open", {"accountid": self.account_id}, timeout=20)
            self.account.refresh(record)
        except NotFound:
            self.stopping.set()
        except JmapplugError as error:
            log.info("account %s: %s", self.account_id, error)

    def run(self) -> None:
        """Serve until told to stop or idle for JMAP_IDLE_TIMEOUT seconds; then answer what is under way and end."""
        self.server.start()
        self.account.spawn(self._synchronise)
        self.account.spawn(lambda: copy_forever(self.account, self.loop.resting.soon))
        while not self.stopping.wait(self._patience()):
            if self._idle():
                break
        self.loop.stop()
        self.server.drain(DRAIN)
        self.account.close()
        self.client.close(final=False)
        self._lock.release()

    def _synchronise(self) -> None:
        """The loop begins when it is this worker's turn, and the turn ends with the first pass."""
        with herd.turn(self.settings):
            if not self.stopping.is_set():
                self.loop.start()
                self.loop.begun.wait(herd.PATIENCE)

    def _patience(self) -> float | None:
        timeout = self.settings.idle_timeout
        if timeout == 0:
            return None
        left = self.server.last_used + timeout - time.monotonic()
        if self._busy():
            return max(left, min(timeout, BUSY_LOOK))
        return max(left, min(timeout, 1.0)) if left > 0 else 0.001

    def _busy(self) -> bool:
        return bool(self.server.in_flight or self.server.subscribers or self.loop.unfinished or self.account.busy)

    def _idle(self) -> bool:
        timeout = self.settings.idle_timeout
        return timeout > 0 and not self._busy() and time.monotonic() - self.server.last_used >= timeout


def refuse(listener: Any, error: Exception) -> None:
    """Answer ``error`` to whoever waits, for a moment: better than to let them wait for a worker that never comes."""

    def refused(request: Request) -> Answer:
        raise error

    server = Server(listener, dict.fromkeys(COMMANDS, refused))
    server.start()
    gevent.sleep(REFUSE_FOR)
    server.drain(REFUSE_FOR)


def main(listener: Any, settings: Settings, account_id: str) -> int:
    """The worker's exit status: 0 after idling or SIGTERM, EXIT_GONE without an account, 1 when it cannot open it."""
    context.of_process(account_id)
    stop = Event()
    gevent.signal_handler(signal.SIGTERM, stop.set)
    try:
        worker = Worker(listener, settings, account_id)
    except NotFound as error:
        refuse(listener, error)
        return EXIT_GONE
    except JmapplugError as error:
        log.error("account %s cannot be opened: %s", account_id, error)
        refuse(listener, error)
        return 1
    except Exception:
        log.exception("account %s cannot be opened", account_id)
        refuse(listener, WorkerUnavailable("the account cannot be opened"))
        return 1
    stop.rawlink(lambda _: worker.stopping.set())
    if stop.is_set():
        worker.stopping.set()
    worker.run()
    return EXIT_DAMAGED if worker.damaged else 0
