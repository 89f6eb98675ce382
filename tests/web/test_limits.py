"""Counting against abuse."""

from __future__ import annotations

import pytest

from jmapplug.jmap.errors import RequestError
from jmapplug.web.limits import FailureLimit, UnderWay


def test_the_failure_after_the_allowed_ones_has_to_wait() -> None:
    limit = FailureLimit(allowed=3, window=100)
    for _ in range(3):
        assert limit.wait("user:a") == 0
        limit.failed("user:a")
    assert 0 < limit.wait("user:a") <= 100
    assert limit.wait("user:b") == 0


def test_a_success_forgets_a_users_failures() -> None:
    limit = FailureLimit(allowed=1)
    limit.failed("user:a")
    limit.succeeded("user:a")
    assert limit.wait("user:a") == 0


def test_the_memory_of_failures_is_bounded() -> None:
    limit = FailureLimit(keys=10)
    for number in range(100):
        limit.failed(f"user:{number}")
    assert len(limit._failures) == 10


def test_one_request_too_many_at_the_same_time_names_the_limit() -> None:
    places = UnderWay("maxConcurrentRequests", 2)
    with places.one("a"), places.one("a"), places.one("b"):
        with pytest.raises(RequestError) as caught, places.one("a"):
            pass
        assert caught.value.to_json()["limit"] == "maxConcurrentRequests"
        assert caught.value.status == 429
    with places.one("a"):
        pass
    assert places._count == {}
