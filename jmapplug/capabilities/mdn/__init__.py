"""urn:ietf:params:jmap:mdn (RFC 9007): read receipts, sent and understood."""

from __future__ import annotations

from typing import Any

from jmapplug.capabilities.mdn import mdn_parse, mdn_send
from jmapplug.hookspecs import AccountInfo, Capability, hookimpl
from jmapplug.jmap.methods import Method

URN = "urn:ietf:params:jmap:mdn"
MAIL = "urn:ietf:params:jmap:mail"


def account_value(info: AccountInfo) -> dict[str, Any] | None:
    """RFC 9007 §1.3: an empty object; nothing where the account cannot send."""
    return {} if "submission" in info.offers else None


MDN = Capability(
    urn=URN,
    methods=(
        # `using` must hold mdn and mail (RFC 9007 §2.1); real clients name only mail.
        Method("MDN/send", mdn_send.send, URN, also=(MAIL,), writes=True),
        Method("MDN/parse", mdn_parse.parse, URN, also=(MAIL,)),
    ),
    account_value=account_value,
)


@hookimpl
def register_capabilities() -> list[Capability]:
    return [MDN]
