"""Every hook (pluggy, project "jmapplug"). Hooks declare at start; none is called per message. See docs/hooks.md."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import pluggy

from jmapplug.jmap.methods import Limits, Method

if TYPE_CHECKING:
    import builtins

    import click
    import flask

    from jmapplug.backends import Backend
    from jmapplug.settings import Setting, Settings

PROJECT = "jmapplug"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@dataclass(frozen=True, slots=True)
class AccountInfo:
    """What the front knows of an account without its worker.

    ``offers``: the sources that its session has ("mail", "submission", "sieve", "quota"), as its worker last reported.
    ``facts``: URN → what the capability learnt from the upstream and told with ``account.learn(urn, {…})``; it stays
    known while the worker or the upstream is away. JSON values only, a few kilobytes at most.
    """

    id: str
    email: str
    type: str
    offers: frozenset[str]
    read_only: bool = False
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Schema:
    """The tables that a capability keeps per account (design §5)."""

    own: tuple[str, ...] = ()
    cache: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Capability:
    """One capability URN: its methods, what the Session says of it, the tables it keeps, its part in the sync loop.

    ``server_value(limits)`` → the object under Session.capabilities; ``service_value(settings)`` → what the service's
    settings and files add to it, None where this service has not got the capability. ``account_value(info)`` → the
    object under accountCapabilities, None where this account has not got it. ``blobs`` maps a blob id prefix ("m",
    "p", "f") to the function (account, blob id) → BlobRef or None. ``types`` are the data type names that push knows.
    ``service(account)`` → the capability's background service in the worker (``SyncService``), None where the account
    has no source for it.
    """

    urn: str
    methods: tuple[Method, ...] = ()
    server_value: Callable[[Limits], dict[str, Any]] = lambda limits: {}
    service_value: Callable[[Settings], dict[str, Any] | None] = lambda settings: {}
    account_value: Callable[[AccountInfo], dict[str, Any] | None] = lambda info: {}
    schema: Schema = Schema()
    types: tuple[str, ...] = ()
    blobs: dict[str, Callable[[Any, str], Any]] = field(default_factory=dict)
    service: Callable[[Any], SyncService | None] = lambda account: None


class SyncService(Protocol):
    """What the worker's loop runs for a capability: wait → sync → publish → back off (workers/sync.py).

    It may have a property ``busy: bool``: True keeps the worker alive without requests and subscribers (a message that
    is due later). What has to outlive the worker itself leaves a mark as well (``store/wake.py``). It may have a method
    ``patience(interval) -> float``: seconds after a pass until the next one where ``wait`` tells of nothing, asked for
    again every few seconds (once a minute while a property ``steady`` is True: it will not be less); without it
    JMAP_SYNC_INTERVAL, which is what ``interval`` is. It may ask ``account.watched`` for that. Instead it may have a
    property ``seldom: bool``: True when there is hardly ever something to do unasked, so that a pass every ten minutes
    (twenty intervals, where that is less) is enough. It may have a method ``pace() -> float``: seconds to
    wait before the next slice of background work (JMAP_ACCOUNT_BANDWIDTH). It may have a method ``rest()``: nobody is
    there and nothing is left to do, what only makes work faster can go; it must not block.
    """

    def setup(self) -> None:
        """The first visible data (INBOX's newest). Raises UpstreamError."""

    def sync(self) -> None:
        """One full pass. Raises UpstreamError. Changes are published through ``account.publish``."""

    def background(self) -> bool:
        """One slice (well under 100 ms) of background work (history, index); False when there is none left."""

    def wait(self, timeout: float) -> bool:
        """Wait for an upstream change, at most ``timeout`` seconds; True when a pass is due."""

    def status(self) -> dict[str, Any]:
        """``{"folders": n, "messages": n, "phase": str, …}`` for the management API. Never goes to the network."""

    def close(self) -> None: ...


class Specs:
    """The hooks; process: F front, W worker, M management, B all of them."""

    @hookspec
    def register_backends(self) -> builtins.list[builtins.type[Backend]]:  # type: ignore[empty-body]
        """B. Backend classes this plugin brings."""

    @hookspec
    def register_capabilities(self) -> builtins.list[Capability]:  # type: ignore[empty-body]
        """B. Capabilities (RFC 8620 §2) this plugin implements."""

    @hookspec
    def register_settings(self) -> builtins.list[Setting]:  # type: ignore[empty-body]
        """B. Service settings, by environment and flag."""

    @hookspec
    def register_public_routes(self) -> builtins.list[flask.Blueprint]:  # type: ignore[empty-body]
        """F. Blueprints of the JMAP port."""

    @hookspec
    def register_management_routes(self) -> builtins.list[flask.Blueprint]:  # type: ignore[empty-body]
        """M. Blueprints of the management port."""

    @hookspec
    def register_commands(self, cli: click.Group) -> None:
        """F. Subcommands of ``jmapplug``."""

    @hookspec(firstresult=True)
    def authenticate(self, request: flask.Request) -> Any:
        """F. The Principal of a request by this plugin's means, or None to let the next one try."""

    @hookspec
    def collect_metrics(self) -> builtins.list[tuple[str, str, str, dict[str, str], float]]:  # type: ignore[empty-body]
        """M. Samples (name, "gauge"|"counter", help, labels, value)."""
