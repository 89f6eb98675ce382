"""Compression and CORS, without a server."""

from __future__ import annotations

import gzip
import json

import pytest
import zstandard
from flask import Flask, Request, Response

from jmapplug.web.answers import add_cors, compress, json_answer, preflight


def asked(**headers: str) -> Request:
    environ = {"REQUEST_METHOD": "GET", "wsgi.url_scheme": "http", "SERVER_NAME": "x", "SERVER_PORT": "80"}
    return Request(environ | {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()})


@pytest.fixture(autouse=True)
def _context() -> object:
    with Flask("x").app_context():
        yield


LARGE = {"list": ["word"] * 5000}


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip", "gzip"),
        ("zstd, gzip", "zstd"),
        ("gzip;q=0", None),
        ("br", None),
        ("zstd;q=0, gzip", "gzip"),
        ("", None),
    ],
)
def test_a_large_answer_is_compressed_as_accepted(accepted: str, encoding: str | None) -> None:
    response = compress(asked(Accept_Encoding=accepted), json_answer(LARGE))
    assert response.content_encoding == encoding
    undo = {"gzip": gzip.decompress, "zstd": lambda data: zstandard.decompress(data, 10**6), None: bytes}[encoding]
    assert json.loads(undo(response.get_data())) == LARGE
    if encoding:
        assert "Accept-Encoding" in response.vary


def test_a_small_answer_is_left_alone() -> None:
    assert compress(asked(Accept_Encoding="gzip"), json_answer({"a": 1})).content_encoding is None


def test_any_origin_may_call_when_the_setting_is_a_star() -> None:
    response = add_cors(Response(status=401), ("*",), "https://mail.example")
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert "Retry-After" in response.headers["Access-Control-Expose-Headers"]
    assert "Access-Control-Allow-Credentials" not in response.headers


def test_only_listed_origins_may_call_when_there_is_a_list() -> None:
    origins = ("https://mail.example",)
    allowed = add_cors(Response(), origins, "https://mail.example")
    assert allowed.headers["Access-Control-Allow-Origin"] == "https://mail.example"
    assert "Origin" in allowed.vary
    assert "Access-Control-Allow-Origin" not in add_cors(Response(), origins, "https://evil.example").headers


def test_a_preflight_is_204_for_an_allowed_origin_and_403_for_another() -> None:
    assert preflight(("*",), "https://a.example").status_code == 204
    assert preflight(("https://b.example",), "https://a.example").status_code == 403
