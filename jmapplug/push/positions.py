"""How far a client has followed its accounts, as text: an event's ``id`` (RFC 8620 §7.3), ``pushState`` (RFC 8887).

``<accountId>=<number>,…``: the number of the last event of each account.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_POSITION = re.compile(r"([A-Za-z0-9_-]{1,255})=([0-9]{1,18})")


def write(positions: Mapping[str, int]) -> str:
    """The text of these positions; the same positions give the same text."""
    return ",".join(f"{account}={number}" for account, number in sorted(positions.items()))


def read(text: str | None) -> dict[str, int]:
    """The positions in a text that a client gave; what is none is left out."""
    return {name: int(position) for name, position in _POSITION.findall(text or "")}


def since(text: str, accounts: Iterable[str]) -> dict[str, int]:
    """Where to go on in each of ``accounts``; from the beginning where the text says nothing of one.

    So a text of somebody else's making, or one from before an account joined the login, costs a client states that it
    has already, and never a change.
    """
    known = read(text)
    return {account: known.get(account, 0) for account in accounts}
