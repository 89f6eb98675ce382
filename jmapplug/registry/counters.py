"""What the fronts count, added up: many fronts come and go, and a counter never falls."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

Counters = dict[str, Any]
"""Name → number, or name → [[labels…, number], …]. Names that end in ``_total`` are counters, others gauges."""

FRESH = 20.0
MAX_SOURCES = 1000
_Key = tuple[str, ...]


class Totals:
    """Counters of fronts that ended stay in the sum; gauges count only while their front reports."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sources: dict[str, tuple[float, dict[_Key, float]]] = {}
        self._past: dict[_Key, float] = {}

    def take(self, source: str, counters: Counters) -> None:
        """What ``source`` has counted since it began."""
        now, news = self._clock(), _flat(counters)
        _, old = self._sources.get(source, (now, {}))
        if any(news.get(key, 0) < value for key, value in old.items() if _counts(key)):
            self._retire(source)  # another process under the same name: it began anew
        self._sources[source] = (now, news)
        for name, (when, _) in list(self._sources.items()):
            if now - when > FRESH and len(self._sources) > MAX_SOURCES:
                self._retire(name)

    def _retire(self, source: str) -> None:
        _, values = self._sources.pop(source)
        for key, value in values.items():
            if _counts(key):
                self._past[key] = self._past.get(key, 0) + value

    def totals(self) -> Counters:
        """The sums, in the form that they came in."""
        now, sums = self._clock(), dict(self._past)
        for when, values in self._sources.values():
            for key, value in values.items():
                if _counts(key) or now - when <= FRESH:
                    sums[key] = sums.get(key, 0) + value
        result: Counters = {}
        for (name, *labels), value in sums.items():
            if labels:
                result.setdefault(name, []).append([*labels, value])
            else:
                result[name] = value
        return result


def _counts(key: _Key) -> bool:
    return key[0].endswith("_total")


def _flat(counters: Counters) -> dict[_Key, float]:
    flat: dict[_Key, float] = {}
    for name, value in counters.items():
        for *labels, number in value if isinstance(value, list) else [[value]]:
            if isinstance(number, int | float):
                flat[(str(name), *map(str, labels))] = number
    return flat
