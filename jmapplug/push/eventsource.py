"""The event stream (RFC 8620 §7.3): LF line ends, headers at once, nothing but headers at connect."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import msgspec

from jmapplug.jmap.errors import RequestError
from jmapplug.push import positions
from jmapplug.push.hub import Listener

LEAST_PING, DEFAULT_PING = 30, 300

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Wish:
    """What the client asked for. ``types`` None = all; ``ping`` seconds, 0 = none."""

    types: frozenset[str] | None
    close_after_state: bool
    ping: int
    since: dict[str, str]


def read_wish(query: Mapping[str, str], last_event_id: str | None, accounts: Iterable[str]) -> Wish:
    """The three variables and Last-Event-ID. Raises RequestError for values that RFC 8620 §7.3 does not know."""
    types = query.get("types", "*")
    close_after = query.get("closeafter", "no")
    ping = query.get("ping", str(DEFAULT_PING))
    if close_after not in ("state", "no", ""):
        raise RequestError("notRequest", "closeafter must be state or no")
    if not ping.isdecimal() or len(ping) > 9:
        raise RequestError("notRequest", "ping must be a number of seconds")
    names = frozenset(name.strip() for name in types.split(",") if name.strip())
    return Wish(
        types=None if "*" in names or not names else names,
        close_after_state=close_after == "state",
        ping=max(int(ping), LEAST_PING) if int(ping) else 0,
        since=positions.since(last_event_id, accounts) if last_event_id else {},
    )


def stream(listener: Listener, wish: Wish) -> Iterator[bytes]:
    """The events, until the client goes, ``closeafter`` says so, or the listener is closed, which listens already."""
    while True:
        changed = listener.wait(wish.ping or None)
        if changed is None:
            return
        if changed:
            yield _state(listener, changed)
            if wish.close_after_state:
                return
        elif wish.ping:
            yield b'event: ping\ndata: {"interval":%d}\n\n' % wish.ping


def _state(listener: Listener, changed: dict[str, dict[str, str]]) -> bytes:
    data = _encode({"@type": "StateChange", "changed": changed})
    return b"event: state\nid: %s\ndata: %s\n\n" % (positions.write(listener.positions).encode(), data)
