"""Tickets: what a URL carries where a browser cannot send an Authorization header.

``<expiry>.<accountid>.<credential>.<mac>``: good for one purpose of this login only, for a time that is rounded up to
the hour so that the Session's URLs do not change with every request. An event stream only tells states: 24 hours. A
WebSocket can do everything: one hour. Either ends with the credential, a token's id or the mark of a password.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time

HOUR = 3600
EVENTS, WEBSOCKET = "eventsource", "websocket"
LIFE = {EVENTS: 24 * HOUR, WEBSOCKET: HOUR}


def issue(key: bytes, account_id: str, credential: str, now: float | None = None, *, purpose: str = EVENTS) -> str:
    """A ticket for ``account_id``; ``credential`` names what was logged in with, whose end is the ticket's."""
    expiry = (int(time.time() if now is None else now) // HOUR + 1) * HOUR + LIFE[purpose]
    text = f"{expiry}.{account_id}.{credential}"
    return f"{text}.{_mac(key, purpose, text)}"


def check(key: bytes, ticket: str, now: float | None = None, *, purpose: str = EVENTS) -> tuple[str, str] | None:
    """(accountid, credential) of a good ticket, else None. Whether the credential still is one: the registry knows."""
    text, _, mac = ticket.rpartition(".")
    if not hmac.compare_digest(_mac(key, purpose, text).encode(), mac.encode()):
        return None
    expiry, account_id, credential = text.split(".", 2)
    if int(expiry) < (time.time() if now is None else now):
        return None
    return account_id, credential


def _mac(key: bytes, purpose: str, text: str) -> str:
    message = f"{purpose}\0{text}".encode("utf-8", "surrogatepass")
    digest = hmac.new(key, message, hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
