"""urn:ietf:params:jmap:quota (RFC 9425): how much room there is upstream (IMAP QUOTA)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jmapplug.capabilities.quota import quota
from jmapplug.capabilities.quota.service import QuotaService
from jmapplug.hookspecs import AccountInfo, Capability, Schema, hookimpl
from jmapplug.jmap.methods import Method

URN = quota.URN


def account_value(info: AccountInfo) -> dict[str, Any] | None:
    """RFC 9425 §2.1: an empty object; nothing where the upstream has no quotas."""
    return {} if "quota" in info.offers else None


QUOTA = Capability(
    urn=URN,
    # Real clients (Bulwark) call these with nothing but core and mail in `using`.
    methods=tuple(Method(name, handler, URN, also=(quota.MAIL,)) for name, handler in quota.METHODS.items()),
    account_value=account_value,
    schema=Schema(cache=((Path(__file__).parent / "cache_1.sql").read_text(encoding="utf-8"),)),
    types=("Quota",),
    # For every account: whether its upstream has quotas may only be known later.
    service=QuotaService,
)


@hookimpl
def register_capabilities() -> list[Capability]:
    return [QUOTA]
