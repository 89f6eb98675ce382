"""The Request object (RFC 8620 §3.3): from the client's octets, and from the front to a worker."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from jmapplug.jmap import ijson
from jmapplug.jmap.errors import RequestError
from jmapplug.jmap.ids import is_id
from jmapplug.jmap.methods import Limits


class Invocation(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """RFC 8620 §3.2, as a call: its JSON is ``[name, arguments, call id]``."""

    name: str
    args: dict[str, Any]
    call_id: str


class Answer(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """RFC 8620 §3.2, as a response. ``args``: an object, in which ``msgspec.Raw`` may stand for any JSON."""

    name: str
    args: Any
    call_id: str


class RawAnswer(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A response that came from another process: its arguments stay encoded until somebody looks."""

    name: str
    args: msgspec.Raw
    call_id: str


AnyAnswer = Answer | RawAnswer


class Request(msgspec.Struct, frozen=True):
    """A checked Request. ``created_ids`` None: the client sent none and wants none back.

    ``previous``: what earlier calls of the same Request answered in other workers, as far as references need it.
    """

    using: frozenset[str]
    calls: tuple[Invocation, ...]
    created_ids: dict[str, str] | None = None
    previous: tuple[RawAnswer, ...] = ()


def parse(body: bytes, known: Collection[str], limits: Limits) -> Request:
    """The Request in ``body``; ``known``: the capabilities of this service.

    Raises RequestError: notJSON, notRequest, unknownCapability, limit (maxSizeRequest, maxCallsInRequest).
    """
    return check(decode(body, limits), known, limits)


def decode(body: bytes, limits: Limits) -> Any:
    """The JSON value in ``body``. Raises RequestError: notJSON, limit (maxSizeRequest)."""
    if len(body) > limits.max_size_request:
        raise _limit("maxSizeRequest", f"A request may have {limits.max_size_request} octets")
    try:
        return ijson.decode(body)
    except ValueError as error:
        raise RequestError("notJSON", f"Not I-JSON (RFC 7493): {error}") from None


def check(value: Any, known: Collection[str], limits: Limits) -> Request:
    """The Request that a JSON value is. Raises RequestError: notRequest, unknownCapability, limit (maxCallsInRequest).

    Members that RFC 8620 does not know (``@type`` and ``id`` of RFC 8887) are let be.
    """
    if not isinstance(value, dict):
        raise _not_request("it is not an object")
    using = _using(value.get("using"))
    calls = _calls(value.get("methodCalls"), limits)
    created_ids = _created_ids(value.get("createdIds"))
    for urn in using:
        if urn not in known:
            raise RequestError("unknownCapability", f"This server does not support the capability {urn[:200]!r}")
    return Request(using, calls, created_ids)


def _using(value: Any) -> frozenset[str]:
    # An empty list is no error here: it admits no method at all.
    if not isinstance(value, list) or not all(isinstance(urn, str) for urn in value):
        raise _not_request("using must be an array of strings")
    return frozenset(value)


def _calls(value: Any, limits: Limits) -> tuple[Invocation, ...]:
    if not isinstance(value, list):
        raise _not_request("methodCalls must be an array")
    if len(value) > limits.max_calls_in_request:
        raise _limit("maxCallsInRequest", f"A request may have {limits.max_calls_in_request} method calls")
    return tuple(map(_call, value))


def _call(value: Any) -> Invocation:
    if isinstance(value, list) and len(value) == 3:
        name, args, call_id = value
        if isinstance(name, str) and isinstance(args, dict) and isinstance(call_id, str):
            return Invocation(name, args, call_id)
    raise _not_request("a method call must be an array of name, arguments and call id")


def _created_ids(value: Any) -> dict[str, str] | None:
    if value is None:
        return None
    if not isinstance(value, dict) or not all(is_id(name) and is_id(id_) for name, id_ in value.items()):
        raise _not_request("createdIds must be an object from ids to ids")
    return value


def _not_request(why: str) -> RequestError:
    return RequestError("notRequest", f"Not a Request object (RFC 8620 §3.3): {why}")


def _limit(name: str, detail: str) -> RequestError:
    return RequestError("limit", detail, limit=name)


class _Wire(msgspec.Struct, rename="camel"):
    using: list[str]
    method_calls: list[Invocation]
    created_ids: dict[str, str] | None = None
    previous: list[RawAnswer] = []


_wire_decoder = msgspec.json.Decoder(_Wire)


def trusted(body: bytes) -> Request:
    """The Request or run of a Request that the front has checked and passes on (`runs`, or the client's own octets).

    Raises msgspec.MsgspecError where the front is at fault.
    """
    wire = _wire_decoder.decode(body)
    return Request(frozenset(wire.using), tuple(wire.method_calls), wire.created_ids, tuple(wire.previous))
