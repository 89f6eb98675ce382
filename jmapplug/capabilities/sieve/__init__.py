"""urn:ietf:params:jmap:sieve (RFC 9661): SieveScript/get, set, query, validate."""

from __future__ import annotations

from jmapplug.hookspecs import Capability, hookimpl


@hookimpl
def register_capabilities() -> list[Capability]:
    # Here and not above: the package's modules import each other through this one.
    from jmapplug.capabilities.sieve.declaration import SIEVE

    return [SIEVE]
