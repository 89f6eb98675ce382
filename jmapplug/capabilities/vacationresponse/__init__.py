"""urn:ietf:params:jmap:vacationresponse (RFC 8621 §8): VacationResponse/get, set. Stored upstream as Sieve."""

from __future__ import annotations

from jmapplug.hookspecs import Capability, hookimpl


@hookimpl
def register_capabilities() -> list[Capability]:
    from jmapplug.capabilities.vacationresponse.declaration import VACATIONRESPONSE

    return [VACATIONRESPONSE]
