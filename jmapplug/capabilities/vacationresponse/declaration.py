"""What the vacationresponse capability declares. Its states move where scripts are looked at (sieve/scripts.py)."""

from __future__ import annotations

from typing import Any

from jmapplug.capabilities.vacationresponse import vacation_response
from jmapplug.hookspecs import AccountInfo, Capability
from jmapplug.jmap.methods import Method

URN = "urn:ietf:params:jmap:vacationresponse"
MAIL = "urn:ietf:params:jmap:mail"
"""Real clients ask for the vacation response with nothing but this in ``using``."""


def account_value(info: AccountInfo) -> dict[str, Any] | None:
    """RFC 8621 §1.3.3. Nothing where there is no Sieve: a response that is never sent is worse than none."""
    return {} if "sieve" in info.offers else None


VACATIONRESPONSE = Capability(
    urn=URN,
    methods=(
        Method("VacationResponse/get", vacation_response.get, URN, also=(MAIL,)),
        Method("VacationResponse/set", vacation_response.set_, URN, also=(MAIL,), writes=True),
    ),
    account_value=account_value,
    types=("VacationResponse",),
)
