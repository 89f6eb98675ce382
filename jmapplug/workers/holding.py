"""A pause for which the upstream must be left alone outlives the worker: else every new one asks at once (wish 12).

Kept in ``own.sqlite3`` when a session is closed, taken up when the next one is opened. Settings that were written
meanwhile (a new password, or the same one once more) end it: that is what ``seal`` tells.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import msgspec

from jmapplug.errors import AuthenticationError, StorageError, UpstreamError
from jmapplug.store import notes
from jmapplug.store.account import Store

NAME = "held"
WORTH = 5.0
"""Seconds that are worth remembering."""


class Hold(msgspec.Struct, frozen=True):
    """``at``: unix seconds when it was written down; ``seconds``: what was left then."""

    at: float
    seconds: float
    text: str
    code: str | None
    refused: bool
    seal: str


def held(session: Any) -> UpstreamError | None:
    """Why a session leaves its upstream alone now, with the seconds that are left; None where it does not."""
    found: UpstreamError | None = getattr(session, "held", None)
    return found


def keep(store: Store, session: Any, seal: str) -> None:
    """Write down the pause of a session that is about to be closed."""
    error = held(session)
    seconds = (error.retry_after or 0.0) if error is not None else 0.0
    if error is not None and seconds >= WORTH:
        refused = isinstance(error, AuthenticationError)
        kept = Hold(time.time(), seconds, str(error), error.code, refused, seal)
        notes.write(store.own, NAME, msgspec.json.encode(kept).decode())


def resume(store: Store, session: Any, seal: str) -> None:
    """Let a new session take up a pause that is not over. A note that is of no use any more goes."""
    text = notes.read(store.own, NAME)
    if text is None or not hasattr(session, "hold"):
        return
    kept = msgspec.json.decode(text, type=Hold)
    left = kept.at + kept.seconds - time.time()
    # A clock that was set back makes no pause longer than it was.
    if kept.seal == seal and left > 0:
        error = AuthenticationError(kept.text) if kept.refused else UpstreamError(kept.text, code=kept.code)
        session.hold(error, min(left, kept.seconds))
    else:
        with suppress(StorageError):  # a full disk keeps nobody from reading
            notes.write(store.own, NAME, None)
