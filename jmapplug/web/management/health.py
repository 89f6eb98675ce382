"""``/healthz`` and ``/metrics``."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

from flask import Blueprint, Response, current_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from jmapplug.web.answers import json_answer
from jmapplug.web.management.accounts import client, plugins, registry
from jmapplug.workers.paths import RESERVED

routes = Blueprint("health", __name__)

Sample = tuple[str, str, str, dict[str, str], float]


@routes.get("/healthz")
def healthz() -> Response:
    """``pid`` and ``uptime`` are the supervisor's; ``children`` its live account workers."""
    status = client().control("status")
    return json_answer(
        {
            "status": "ok",
            "uptime": int(time.time() - status["started"]),
            "children": len(_workers(status)),
            "pid": status["pid"],
        }
    )


def _workers(status: dict[str, Any]) -> list[dict[str, Any]]:
    return [child for child in status["children"] if child["id"] not in RESERVED and child.get("pid")]


@routes.get("/metrics")
def metrics() -> Response:
    """Prometheus text; the closing ``# EOF`` of OpenMetrics is not part of format 0.0.4."""
    scrape = CollectorRegistry(auto_describe=False)
    scrape.register(_OfPlugins())
    text = str(generate_latest(scrape), "utf-8")  # type: ignore[no-untyped-call]
    return Response(text.removesuffix("# EOF\n"), content_type="text/plain; version=0.0.4; charset=utf-8")


class _OfPlugins(Collector):
    """Asks every plugin at the moment of the scrape."""

    def collect(self) -> Iterable[Metric]:
        families: dict[str, GaugeMetricFamily | CounterMetricFamily] = {}
        for rows in plugins().manager.hook.collect_metrics():
            for name, kind, text, labels, value in rows:
                family = families.get(name)
                if family is None:
                    make = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
                    family = families[name] = make(name, text, labels=list(labels))
                family.add_metric(list(labels.values()), value)
        return families.values()


GAUGES = {
    "jmap_backend_queue_depth": "Requests waiting for a worker",
    "jmap_sse_connections_active": "Open event streams",
    "jmap_websocket_connections_active": "Open WebSocket connections",
    "jmap_auth_cache_entries": "Cached log-ins",
}
COUNTERS = {
    "jmap_http_requests": "HTTP requests received on the JMAP port",
    "jmap_mgmt_requests": "HTTP requests received on the management port",
    "jmap_backend_requests": "Requests to workers",
    "jmap_backend_errors": "Requests to workers that failed",
    "jmap_auth_cache_hits": "Log-ins answered from the cache",
    "jmap_auth_cache_misses": "Log-ins not found in the cache",
}
LABELLED = {
    "jmap_method_calls": ("Method calls", ("method",)),
    "jmap_method_seconds": ("Seconds spent in method calls", ("method",)),
    "jmap_method_errors": ("Method calls answered with an error", ("method", "type")),
}


def samples() -> Iterator[Sample]:
    """Our own samples, as the hook ``collect_metrics`` wants them."""
    status = client().control("status")
    accounts = registry("list")["accounts"]
    uptime = int(time.time() - status["started"])
    yield "jmap_uptime_seconds", "gauge", "Seconds since proxy process started", {}, uptime
    workers = len(_workers(status))
    yield "jmap_backend_workers_active", "gauge", "Active per-account backend worker processes", {}, workers
    for account in accounts:
        if account.get("lastSync"):
            age = max(0, int(time.time() - account["lastSync"]))
            text = "Seconds since last successful sync per account"
            yield "jmap_account_last_sync_age_seconds", "gauge", text, {"accountid": account["accountid"]}, age
    backfilling = sum(account.get("status") == "syncing" for account in accounts)
    yield "jmap_backfilling_accounts", "gauge", "Accounts in their first sync", {}, backfilling
    counted = registry("counters")["totals"]
    counted["jmap_mgmt_requests_total"] = current_app.extensions["jmapplug.mgmt_requests"]
    yield from _counted(counted)


def _counted(counted: dict[str, Any]) -> Iterator[Sample]:
    """What fronts reported: name → number, and name → [[labels…, number]] for labelled ones."""
    for name, text in GAUGES.items():
        yield name, "gauge", text, {}, counted.get(name, 0)
    for name, text in COUNTERS.items():
        yield name, "counter", text, {}, counted.get(f"{name}_total", 0)
    for name, (text, labels) in LABELLED.items():
        for *values, number in counted.get(f"{name}_total", []):
            yield name, "counter", text, dict(zip(labels, values, strict=True)), number
