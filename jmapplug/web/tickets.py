"""Tickets: what the event source URL carries instead of an Authorization header (a browser cannot send one there).

``<expiry>.<accountid>.<login>.<mac>``: good only for event streams, 24 hours, of this login; the expiry is rounded
to the hour so that the Session's URL does not change with every request.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time

HOUR = 3600
LIFE = 24 * HOUR


def issue(key: bytes, account_id: str, login: str, now: float | None = None) -> str:
    """A ticket for ``account_id``; ``login`` names the credentials (a token's id), so that their revocation ends it."""
    expiry = (int(time.time() if now is None else now) // HOUR + 1) * HOUR + LIFE
    text = f"{expiry}.{account_id}.{login}"
    return f"{text}.{_mac(key, text)}"


def check(key: bytes, ticket: str, now: float | None = None) -> tuple[str, str] | None:
    """(accountid, login) of a good ticket, else None."""
    text, _, mac = ticket.rpartition(".")
    if not hmac.compare_digest(_mac(key, text).encode(), mac.encode()):
        return None
    expiry, account_id, login = text.split(".", 2)
    if int(expiry) < (time.time() if now is None else now):
        return None
    return account_id, login


def _mac(key: bytes, text: str) -> str:
    digest = hmac.new(key, b"eventsource\0" + text.encode("utf-8", "surrogatepass"), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
