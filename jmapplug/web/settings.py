"""Settings of the JMAP port, through the hook that any plugin has."""

from __future__ import annotations

from jmapplug.settings import Setting, count

EVENT_STREAMS, WEBSOCKETS = "JMAP_EVENT_STREAMS", "JMAP_WEBSOCKETS"

SETTINGS = (
    Setting(EVENT_STREAMS, count, "32", "event streams that a login may have open, in each process of HTTP"),
    Setting(WEBSOCKETS, count, "32", "WebSocket connections that a login may have open, in each process of HTTP"),
)
