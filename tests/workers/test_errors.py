"""Errors cross a socket as their own class."""

from __future__ import annotations

import msgspec
import pytest

from jmapplug.errors import AuthenticationError, MethodError, RequestError, SettingError, SetupError, UpstreamError
from jmapplug.workers.errors import (
    Conflict,
    NotFound,
    RemoteError,
    WorkerUnavailable,
    from_wire,
    to_wire,
)

ERRORS = [
    NotFound("n"),
    Conflict("c"),
    AuthenticationError("a"),
    UpstreamError("u", code="overquota", temporary=False),
    SetupError("imapHost", "s"),
    SetupError(None, "s"),
    SettingError("s"),
    MethodError("invalidArguments", "m", arguments=["x"]),
    MethodError("serverFail"),
    RequestError("limit", "r", status=400, limit="maxSizeRequest"),
    WorkerUnavailable("w", sent_upstream=True),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_arrives_as_the_class_and_with_the_fields_it_left_with(error):
    body = msgspec.msgpack.decode(msgspec.msgpack.encode(to_wire(error, "test")))
    arrived = from_wire(body)
    assert type(arrived) is type(error)
    assert str(arrived) == str(error)
    assert vars(arrived) == vars(error)


def test_a_defect_arrives_without_its_text():
    body = to_wire(KeyError("secret"), "test")
    assert isinstance(from_wire(body), RemoteError)
    assert "secret" not in str(body)


@pytest.mark.parametrize(
    "body", [{}, {"e": "upstream"}, {"e": "request", "t": 1, "m": "", "s": 1, "l": None}, {"e": []}]
)
def test_an_unreadable_error_is_still_an_error(body):
    assert isinstance(from_wire(body), RemoteError)
