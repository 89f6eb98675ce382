"""urn:ietf:params:jmap:mail (RFC 8621 §2-5): Mailbox, Thread, Email, SearchSnippet."""

from __future__ import annotations

from jmapplug.hookspecs import Capability, hookimpl


@hookimpl
def register_capabilities() -> list[Capability]:
    # Here and not above: the package's modules import each other through this one.
    from jmapplug.capabilities.mail.declaration import MAIL

    return [MAIL]
