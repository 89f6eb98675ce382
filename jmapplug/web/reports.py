"""Fronts report their counters to the registry's worker, where the management process reads them (process rule 6)."""

from __future__ import annotations

import os
from typing import Any

import gevent

from jmapplug.errors import JmapplugError
from jmapplug.web.auth import REGISTRY
from jmapplug.web.front import Front

EVERY = 5.0  # seconds


def report_forever(front: Front) -> Any:
    """A greenlet that reports every few seconds."""
    return gevent.spawn(_loop, front)


def _loop(front: Front) -> None:
    while True:
        gevent.sleep(EVERY)
        try:
            front.client.call(REGISTRY, "count", {"source": f"front-{os.getpid()}", "counters": counters(front)})
        except JmapplugError:
            continue


def counters(front: Front) -> dict[str, Any]:
    """Name → number; labelled counters as [[labels…, number]]."""
    metrics, auth = front.metrics, front.auth
    return {
        "jmap_http_requests_total": metrics.http_requests,
        "jmap_backend_requests_total": metrics.backend_requests,
        "jmap_backend_errors_total": metrics.backend_errors,
        "jmap_auth_cache_hits_total": auth.counters.hits,
        "jmap_auth_cache_misses_total": auth.counters.misses,
        "jmap_auth_cache_entries": auth.cached,
        "jmap_sse_connections_active": len(front.streams.open),
        "jmap_websocket_connections_active": len(front.sockets.open),
        "jmap_backend_queue_depth": metrics.under_way,
        "jmap_method_calls_total": [[name, number] for name, number in metrics.method_calls.items()],
        "jmap_method_errors_total": [[*labels, number] for labels, number in metrics.method_errors.items()],
        "jmap_method_seconds_total": [[name, number] for name, number in metrics.method_seconds.items()],
    }
