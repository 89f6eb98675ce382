"""The account inside its worker: what handlers get as ``call.account`` and services are built on."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import gevent
import msgspec
from gevent.lock import Semaphore

from jmapplug.backends import Backend, MailSource, QuotaSource, SieveSource, SubmissionSource
from jmapplug.errors import StorageError, UpstreamError
from jmapplug.hookspecs import AccountInfo, SyncService
from jmapplug.jmap import dispatch
from jmapplug.jmap.methods import Args, Limits, Reply
from jmapplug.plugins import Plugins
from jmapplug.store.account import Store
from jmapplug.store.blobs import BlobRef
from jmapplug.workers import holding
from jmapplug.workers.errors import WorkerUnavailable

if TYPE_CHECKING:
    from jmapplug.settings import Settings
    from jmapplug.workers.login import Login

log = logging.getLogger("jmapplug.workers")

# The sources that a Session may offer (backends/session.py); their names are what ``AccountInfo.offers`` holds.
SOURCES = ("mail", "submission", "sieve", "quota")
LOCK_PATIENCE = 8.0


class AccountLock:
    """The account's folder belongs to one worker: a file lock that ends with the process."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "lock"
        self._fd = -1

    def take(self, patience: float = LOCK_PATIENCE) -> None:
        """Wait for a predecessor that is still answering its last requests. Raises WorkerUnavailable."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise WorkerUnavailable("another process holds the account's folder") from None
            gevent.sleep(0.01)

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Account:
    """One account: its store, its upstream session, its services.

    ``services`` maps a capability's URN to its ``SyncService``. Subclass nothing: tests may use any object with these
    attributes.
    """

    def __init__(
        self,
        record: dict[str, Any],
        settings: Settings,
        plugins: Plugins,
        on_publish: Callable[[dict[str, Any]], None],
        login: Login,
    ) -> None:
        """``record``: the answer of ``__accounts__`` to "open". Raises UpstreamError for a type without a backend."""
        self.id: str = record["accountid"]
        self.plugins = plugins
        self.service_settings = settings
        self.limits = Limits()
        self.folder: Path = settings.account_folder(self.id)
        self._on_publish = on_publish
        self.login = login
        self._session: Any = None
        self._opening = Semaphore()
        self._published: dict[str, str] = {}
        self.facts: dict[str, dict[str, Any]] = {}
        """What capabilities have learnt in this worker's life (``AccountInfo.facts``)."""
        self.watchers: list[Callable[[dict[str, str]], None]] = []
        """Called with ``{type: state}`` of what has changed, in the greenlet that changed it: must not block."""
        self.audience: list[Callable[[], bool]] = []
        """Each says whether somebody wants to know of changes at once (``watched``); must not block."""
        self._greenlets: set[Any] = set()
        self._take(record)
        self.store = Store(self.folder, plugins.schemas, on_change=self.publish, blob_budget=settings.account_disk)
        self.services: dict[str, SyncService] = {}
        try:
            for urn, capability in plugins.capabilities.items():
                service = capability.service(self)
                if service is not None:
                    self.services[urn] = service
        except BaseException:
            self.store.close()
            raise

    def _take(self, record: dict[str, Any]) -> None:
        self.record = record
        self.email: str = record["email"]
        self.type: str = record["type"]
        backend = self.plugins.backends.get(self.type)
        if backend is None:
            raise UpstreamError(f"no plugin for accounts of type {self.type}", temporary=False)
        self.backend: Backend = backend()
        try:
            self.settings: Any = msgspec.convert(record["settings"], backend.settings, strict=False)
        except msgspec.ValidationError as error:
            raise UpstreamError(f"the account's settings are not valid: {error}", temporary=False) from None

    def refresh(self, record: dict[str, Any]) -> None:
        """Take settings that may have changed (a healed password); the session is opened again if they have."""
        if record != self.record:
            self.close_session()
            self._take(record)

    def _renewed(self, news: dict[str, Any]) -> None:
        """Secrets that the upstream has replaced are the account's settings from here on; the session goes on.

        Raises JmapplugError: Conflict where others were stored meanwhile.
        """
        was = {name: self.record["settings"].get(name) for name in news}
        self._take(self.login.renew(was, news))

    # --- upstream

    @property
    def session(self) -> Any:
        """The backend's Session, opened at first use (it connects when it has to)."""
        if self._session is None:
            with self._opening:
                if self._session is None:
                    session = self.backend.open(self.settings, self.email)
                    holding.resume(self.store, session, self._seal)
                    if hasattr(session, "on_renewed"):
                        session.on_renewed = self._renewed
                    self._session = session
        return self._session

    def mail_source(self) -> MailSource:
        """The account's mail. Raises UpstreamError where its upstream offers none."""
        return cast(MailSource, self._source("mail"))

    def submission_source(self) -> SubmissionSource:
        """The way out. Raises UpstreamError where the upstream offers none."""
        return cast(SubmissionSource, self._source("submission"))

    def sieve_source(self) -> SieveSource:
        """The account's Sieve scripts. Raises UpstreamError where the upstream offers none."""
        return cast(SieveSource, self._source("sieve"))

    def quota_source(self) -> QuotaSource:
        """The account's quotas. Raises UpstreamError where the upstream offers none."""
        return cast(QuotaSource, self._source("quota"))

    def _source(self, name: str) -> Any:
        source = getattr(self.session, name, None)
        if source is None:
            raise UpstreamError(f"this account has no {name}", temporary=False)
        return source

    def offers(self) -> list[str]:
        """The names of the sources that the session has; none when it cannot even be opened. No network."""
        try:
            return [name for name in SOURCES if getattr(self.session, name, None) is not None]
        except UpstreamError as error:
            log.info("account %s: %s", self.id, error)
            return []

    def reported_offers(self) -> list[str]:
        """:meth:`offers` for ``__accounts__``; [] (what was reported before holds) while the upstream is unknown."""
        try:
            return self.offers() if getattr(self.session, "known", True) else []
        except UpstreamError:
            return []

    def blob(self, blob_id: str) -> BlobRef | None:
        """The file of a blob of any capability; None where there is none. Raises MethodError serverUnavailable."""
        resolve = self.plugins.blobs.get(blob_id.partition("-")[0])
        try:
            return resolve(self, blob_id) if resolve is not None else None
        except KeyError:
            return None

    def invoke(self, name: str, args: Args) -> Reply:
        """Run a method in the background, as ``Call.invoke`` does for one that was called. Raises MethodError."""
        return dispatch.invoke(self.plugins.methods, name, self.id, self, self.limits, args)

    def learn(self, urn: str, facts: dict[str, Any]) -> None:
        """What a capability knows of the upstream by now, for the Session; told with the next report. Never blocks."""
        self.facts[urn] = facts

    @property
    def busy(self) -> bool:
        """Whether a service has something to do that nobody waits for (``SyncService.busy``): the worker stays."""
        try:
            return any(getattr(service, "busy", False) for service in self.services.values())
        except StorageError:
            # A store that cannot be read is opened anew, and that takes a new worker.
            return False

    @property
    def watched(self) -> bool:
        """Whether somebody wants to know of changes at once: push is subscribed to, or requests came lately."""
        return any(wants() for wants in self.audience)

    @property
    def connections(self) -> int | None:
        """How many connections to the mail server are open; None where the backend does not tell."""
        source = getattr(self._session, "mail", None)
        return getattr(source, "connections", None)

    @property
    def held(self) -> UpstreamError | None:
        """Why the upstream is not asked anything now (``retry_after``: for how long); None where it may be."""
        return holding.held(self._session)

    @property
    def alerts(self) -> list[str]:
        """What the upstream wanted a person to see, the newest last. For the operator alone."""
        return list(getattr(getattr(self._session, "mail", None), "alerts", ()))

    @property
    def _seal(self) -> str:
        return str(self.record.get("seal") or "")

    def info(self) -> AccountInfo:
        return AccountInfo(self.id, self.email, self.type, frozenset(self.offers()), facts=self.facts)

    def close_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            _each((partial(holding.keep, self.store, session, self._seal), session.close))

    # --- events

    def publish(self, changed: dict[str, str]) -> None:
        """Tell every subscriber which types' states have moved. States told before are left out. Never blocks."""
        news = {name: state for name, state in changed.items() if self._published.get(name) != state}
        if news:
            self._published.update(news)
            for watcher in self.watchers:
                watcher(news)
            self._on_publish({"changed": news, "id": self.store.announced})

    def states(self) -> dict[str, str]:
        """The state of every data type that push knows."""
        return {name: self.store.state(name) for name in sorted(self.plugins.types)}

    # --- life

    def spawn(self, function: Callable[[], object]) -> Any:
        """Run ``function`` in a greenlet that ends with the account; what it raises is logged."""
        greenlet = gevent.spawn(self._guarded, function)
        self._greenlets.add(greenlet)
        greenlet.rawlink(self._greenlets.discard)
        return greenlet

    def _guarded(self, function: Callable[[], object]) -> None:
        try:
            function()
        except (UpstreamError, StorageError) as error:
            log.info("account %s: %s", self.id, error)
        except Exception:
            log.exception("background work of account %s failed", self.id)

    def close(self) -> None:
        """End everything; the store is closed last."""
        gevent.killall(list(self._greenlets), timeout=1)
        _each(service.close for service in self.services.values())
        self.close_session()
        self.store.close()


def _each(functions: Iterable[Callable[[], None]]) -> None:
    for function in functions:
        try:
            function()
        except Exception:
            log.exception("closing a part of an account failed")
