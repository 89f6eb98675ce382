"""Answers: JSON encoded once, compressed when large and accepted, CORS headers on every one of them."""

from __future__ import annotations

import zlib
from typing import Any

import msgspec
import zstandard
from flask import Request, Response

from jmapplug.jmap.errors import RequestError

WORTH_COMPRESSING = 8 * 1024
JSON = "application/json"
PROBLEM = "application/problem+json"
NO_STORE = {"Cache-Control": "no-cache, no-store"}

_encode = msgspec.json.Encoder().encode
_zstd = zstandard.ZstdCompressor(level=1)


def json_answer(
    value: Any, status: int = 200, *, content_type: str = JSON, headers: dict[str, str] | None = None
) -> Response:
    """A JSON answer; ``value`` may be bytes that are JSON already."""
    body = value if isinstance(value, bytes) else _encode(value)
    return Response(body, status, headers=headers, content_type=content_type)


def problem(error: RequestError) -> Response:
    """RFC 8620 §3.6.1: problem details. A body that was not read to its end closes the connection."""
    headers = {"Connection": "close"} if error.status == 413 else {}
    if error.status == 429:
        headers["Retry-After"] = str(error.retry_after)
    return json_answer(error.to_json(), error.status, content_type=PROBLEM, headers=headers)


def compress(request: Request, response: Response) -> Response:
    """zstd or gzip for a large JSON body that the client accepts compressed."""
    if response.is_streamed or response.direct_passthrough or response.content_encoding:
        return response
    body = response.get_data()
    if len(body) < WORTH_COMPRESSING or response.mimetype not in (JSON, PROBLEM):
        return response
    accepted = request.accept_encodings
    if accepted.quality("zstd") > 0 and "zstd" in request.headers.get("Accept-Encoding", ""):
        response.set_data(_zstd.compress(body))
        response.content_encoding = "zstd"
    elif "gzip" in request.headers.get("Accept-Encoding", "") and accepted.quality("gzip") > 0:
        squeeze = zlib.compressobj(1, zlib.DEFLATED, 31)
        response.set_data(squeeze.compress(body) + squeeze.flush())
        response.content_encoding = "gzip"
    else:
        return response
    response.vary.add("Accept-Encoding")
    return response


_ALLOWED = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST, OPTIONS",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Accept, Range, If-None-Match, Last-Event-ID",
    "Access-Control-Max-Age": "86400",
}
_EXPOSED = "Retry-After, ETag, WWW-Authenticate, Content-Range, Content-Disposition"


def allow_origin(origins: tuple[str, ...], origin: str | None) -> str | None:
    """What Access-Control-Allow-Origin says to this Origin; None = refused."""
    if origin is None:
        return None
    if "*" in origins:
        return "*"
    return origin if origin in origins else None


def add_cors(response: Response, origins: tuple[str, ...], origin: str | None) -> Response:
    """CORS headers for an allowed origin, errors included."""
    allowed = allow_origin(origins, origin)
    if origin is not None and allowed != "*":
        response.vary.add("Origin")
    if allowed is not None:
        response.headers["Access-Control-Allow-Origin"] = allowed
        response.headers["Access-Control-Expose-Headers"] = _EXPOSED
    return response


def preflight(origins: tuple[str, ...], origin: str | None) -> Response:
    """The answer to OPTIONS: 204 without authentication; an origin that is not allowed gets 403."""
    allowed = allow_origin(origins, origin)
    if origin is not None and allowed is None:
        return Response(status=403)
    return Response(status=204, headers=_ALLOWED)
