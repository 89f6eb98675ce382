"""Whose credentials a WebSocket handshake takes: header, ticket, and a plugin's cookie only from our own pages."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from flask import Request
from werkzeug.test import EnvironBuilder

from jmapplug import settings
from jmapplug.web.auth import Principal, Unauthorized
from jmapplug.web.front import Front
from jmapplug.web.websocket import log_in, origin_allowed


@dataclass
class CookieAuth:
    """Takes everything: a plugin that knows the browser's cookie."""

    asked: list[str] = field(default_factory=list)

    def principal(self, request: Request) -> Principal:
        self.asked.append("request")
        return Principal("alice", "password", {})

    def by_ticket(self, ticket: str, purpose: str) -> Principal:
        self.asked.append(f"{purpose} {ticket}")
        return Principal("alice", "password", {})

    def trusted(self, address: str) -> bool:
        return False


@dataclass
class FrontLike:
    settings: Any
    auth: CookieAuth = field(default_factory=CookieAuth)


@pytest.fixture
def here(tmp_path: Path) -> Front:
    given = {"BASEURL": "https://jmap.example", "JMAP_DATADIR": str(tmp_path), "JMAP_CORS_ORIGINS": "*"}
    return cast(Front, FrontLike(settings.load(given)))


def asked(query: str = "", **headers: str) -> Request:
    return Request(EnvironBuilder("/jmap/ws", query_string=query, headers=headers).get_environ())


@pytest.mark.parametrize("origin", ["https://evil.example", "http://jmap.example", "https://jmap.example.evil", "null"])
def test_a_cookie_is_never_honoured_from_another_origin(here: Front, origin: str) -> None:
    with pytest.raises(Unauthorized):
        log_in(here, asked(Cookie="session=1", Origin=origin))
    with pytest.raises(Unauthorized):
        log_in(here, asked(Cookie="session=1"))
    assert here.auth.asked == []  # type: ignore[attr-defined]


def test_a_cookie_is_honoured_from_our_own_pages(here: Front) -> None:
    assert log_in(here, asked(Cookie="session=1", Origin="https://jmap.example")).account_id == "alice"


def test_explicit_credentials_are_what_they_are_from_any_allowed_origin(here: Front) -> None:
    log_in(here, asked(Authorization="Bearer x", Origin="https://webmail.example"))
    log_in(here, asked("ticket=t", Origin="https://webmail.example"))
    log_in(here, asked("ticket=t", Authorization="Bearer x"))
    assert here.auth.asked == ["request", "websocket t", "request"]  # type: ignore[attr-defined]


def test_origins_are_those_of_the_setting_and_our_own(here: Front, tmp_path: Path) -> None:
    assert origin_allowed(here, asked(Origin="https://anywhere.example"))
    given = {"BASEURL": "https://jmap.example", "JMAP_DATADIR": str(tmp_path), "JMAP_CORS_ORIGINS": "https://a.example"}
    strict = cast(Front, FrontLike(settings.load(given)))
    answers = {
        origin: origin_allowed(strict, asked(Origin=origin))
        for origin in ("https://a.example", "https://jmap.example", "https://b.example", "null")
    }
    assert answers == {
        "https://a.example": True,
        "https://jmap.example": True,
        "https://b.example": False,
        "null": False,
    }
    assert origin_allowed(strict, asked()), "no browser"
