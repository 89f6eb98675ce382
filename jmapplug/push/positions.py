"""How far a client has followed its accounts, as text: an event's ``id`` (RFC 8620 §7.3), ``pushState`` (RFC 8887).

``<accountId>=<position>,…``: the position of each account of the login, as its worker tells it with its events.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

NOWHERE = ""
"""The position of a client that has followed nothing: every state is news to it."""
_PART = re.compile(r"([A-Za-z0-9_-]{1,255})=([0-9a-f]{1,32}-[0-9]{1,18})", re.ASCII)


def write(positions: Mapping[str, str]) -> str:
    """The text of these positions; the same positions give the same text."""
    return ",".join(f"{account}={position}" for account, position in sorted(positions.items()))


def since(text: str, accounts: Iterable[str]) -> dict[str, str]:
    """Where to go on in each of ``accounts``; from the beginning where the text says nothing of one.

    So a text of somebody else's making, or one from before an account joined the login, costs a client states that it
    has already, and never a change.
    """
    known = {found[1]: found[2] for part in text.split(",") if (found := _PART.fullmatch(part))}
    return {account: known.get(account, NOWHERE) for account in accounts}
