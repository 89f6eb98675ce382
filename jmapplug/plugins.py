"""The plugin manager: built-in capabilities, entry points (group "jmapplug"), and the tables they declare together.

A second claim to one backend type, method, capability or blob prefix stops the start with a message that names both.
A plugin that cannot be imported is named and left out; the rest runs.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy

from jmapplug import hookspecs
from jmapplug.backends import Backend
from jmapplug.errors import SettingError
from jmapplug.hookspecs import Capability, Schema
from jmapplug.jmap.methods import Method
from jmapplug.settings import Setting

log = logging.getLogger(__name__)

DECLARING = ("register_backends", "register_settings", "register_capabilities")
BUILT_IN = (
    "jmapplug.capabilities.core",
    "jmapplug.capabilities.mail",
    "jmapplug.capabilities.submission",
    "jmapplug.capabilities.blob",
    "jmapplug.capabilities.quota",
    "jmapplug.capabilities.sieve",
    "jmapplug.capabilities.vacationresponse",
    "jmapplug.capabilities.mdn",
    "jmapplug.capabilities.websocket",
    "jmapplug.web.plugin",
    "jmapplug.demo.plugin",
)


@dataclass(slots=True)
class Plugins:
    """What all plugins declare together. ``failed`` maps a plugin's name to why it was left out."""

    manager: pluggy.PluginManager
    failed: dict[str, str] = field(default_factory=dict)
    backends: dict[str, type[Backend]] = field(default_factory=dict)
    capabilities: dict[str, Capability] = field(default_factory=dict)
    methods: dict[str, Method] = field(default_factory=dict)
    blobs: dict[str, Callable[[Any, str], Any]] = field(default_factory=dict)
    settings: list[Setting] = field(default_factory=list)

    @property
    def schemas(self) -> list[Schema]:
        return [capability.schema for capability in self.capabilities.values()]

    @property
    def types(self) -> frozenset[str]:
        """Every data type name that push knows."""
        return frozenset(name for capability in self.capabilities.values() for name in capability.types)


def build(built_in: Iterable[str] = BUILT_IN, found: Iterable[EntryPoint] | None = None) -> Plugins:
    """Load everything. Raises SettingError for two claims to one thing."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs.Specs)
    plugins = Plugins(manager)
    for name in built_in:
        manager.register(importlib.import_module(name), name)
    for point in entry_points(group=hookspecs.PROJECT) if found is None else found:
        _load(plugins, point)
    collect(plugins)
    return plugins


def _load(plugins: Plugins, point: EntryPoint) -> None:
    """A stranger's code: whatever it raises at import leaves it out and nothing else."""
    try:
        plugins.manager.register(point.load(), point.name)
    except Exception as error:
        _left_out(plugins, point.name, error)


def _left_out(plugins: Plugins, name: str, error: Exception) -> None:
    plugins.failed[name] = f"{type(error).__name__}: {error}"
    log.error("plugin %s left out: %s", name, error, exc_info=error)


def collect(plugins: Plugins) -> None:
    """Fill the tables from the hooks, in the order of registration."""
    owners: dict[tuple[str, str], str] = {}

    def claim(name: str, kind: str, what: str) -> None:
        if other := owners.get((kind, what)):
            raise SettingError(f"plugins {other} and {name} both claim the {kind} {what}")
        owners[kind, what] = name

    for name, module in plugins.manager.list_name_plugin():
        if module is None:
            continue
        try:
            declared = {hook: _declared(plugins, module, hook) for hook in DECLARING}
        except Exception as error:
            if name in BUILT_IN:
                raise
            plugins.manager.unregister(module)
            _left_out(plugins, name, error)
            continue
        for backend in declared["register_backends"]:
            claim(name, "backend type", backend.type)
            plugins.backends[backend.type] = backend
        for setting in declared["register_settings"]:
            claim(name, "setting", setting.env)
            plugins.settings.append(setting)
        for capability in declared["register_capabilities"]:
            _add_capability(plugins, capability, partial(claim, name))


def _add_capability(plugins: Plugins, capability: Capability, claim: Callable[[str, str], None]) -> None:
    claim("capability", capability.urn)
    plugins.capabilities[capability.urn] = capability
    for method in capability.methods:
        claim("method", method.name)
        plugins.methods[method.name] = method
    for prefix, resolve in capability.blobs.items():
        claim("blob prefix", prefix)
        plugins.blobs[prefix] = resolve


def _declared(plugins: Plugins, module: object, hook: str) -> list[Any]:
    caller = plugins.manager.subset_hook_caller(
        hook, [other for other in plugins.manager.get_plugins() if other is not module]
    )
    return [item for items in caller() for item in items]


@lru_cache(maxsize=1)
def load() -> Plugins:
    """The plugins of this process, loaded once (in the zygote before any fork)."""
    return build()
