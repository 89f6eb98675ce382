"""urn:ietf:params:jmap:submission (RFC 8621 §6, §7): Identity, EmailSubmission, and the queue behind them."""

from __future__ import annotations

from jmapplug.hookspecs import Capability, hookimpl


@hookimpl
def register_capabilities() -> list[Capability]:
    # Here and not above: the package's modules import each other through this one.
    from jmapplug.capabilities.submission.declaration import SUBMISSION

    return [SUBMISSION]
