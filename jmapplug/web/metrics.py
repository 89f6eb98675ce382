"""What a front counts (web/reports.py tells it to the registry)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class FrontMetrics:
    """Counters since this front started; ``under_way`` requests wait for a worker now."""

    http_requests: int = 0
    method_calls: Counter[str] = field(default_factory=Counter)
    method_errors: Counter[tuple[str, str]] = field(default_factory=Counter)
    method_seconds: Counter[str] = field(default_factory=Counter)
    backend_requests: int = 0
    backend_errors: int = 0
    under_way: int = 0

    def called(self, calls: Iterable[Sequence[Any]]) -> None:
        """Count what a worker ran: (method, seconds, error type or None) each. Unknown methods are one name."""
        for name, seconds, error in calls:
            known = "unknown" if error == "unknownMethod" else name
            self.method_calls[known] += 1
            self.method_seconds[known] += seconds
            if error:
                self.method_errors[known, error] += 1
