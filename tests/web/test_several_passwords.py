"""A password that is not the stored one: what the mail server says of both decides which one is kept."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from flask import Request
from werkzeug.test import EnvironBuilder

from jmapplug import settings
from jmapplug.errors import UpstreamError
from jmapplug.testing.proxy import basic
from jmapplug.web.auth import Authenticator, Unauthorized


class Fields(msgspec.Struct, frozen=True):
    password: str | None = None


class Upstream:
    """A backend whose server takes ``good`` passwords and cannot be asked about ``silent`` ones."""

    good: frozenset[str]
    silent: frozenset[str]
    settings = Fields

    def check_password(self, given: Fields, email: str, password: str) -> bool:
        if password in self.silent:
            raise UpstreamError("away")
        return password in self.good


class Registry:
    """Knows one account, whose stored password is ``stored``."""

    def __init__(self, stored: str | None) -> None:
        self.stored = stored

    def call(self, account: str, command: str, header: dict[str, Any], *, retry: bool) -> tuple[dict[str, Any], bytes]:
        return getattr(self, command)(header), b""

    def login(self, header: dict[str, Any]) -> dict[str, Any]:
        known = self.stored is not None and header["password"] == self.stored
        return {"accountid": "alice", "login": "password"} if known else {"candidates": ["alice"]}

    def open(self, header: dict[str, Any]) -> dict[str, Any]:
        return {"type": "house", "email": "a@example.com", "settings": {"password": self.stored}}

    def heal(self, header: dict[str, Any]) -> dict[str, Any]:
        self.stored = header["password"]
        return {}

    def pool(self, header: dict[str, Any]) -> dict[str, Any]:
        info = {"id": "alice", "email": "a@example.com", "type": "house", "offers": []}
        return {"accounts": [info], "mark": f"password~{self.stored}"}


def front(tmp_path: Path, registry: Registry, good: set[str], silent: set[str] | None = None) -> Authenticator:
    backend = type("Backend", (Upstream,), {"good": frozenset(good), "silent": frozenset(silent or ())})
    plugins: Any = SimpleNamespace(backends={"house": backend})
    client: Any = registry
    return Authenticator(settings.load({"JMAP_DATADIR": str(tmp_path)}), plugins, client, b"k")


def with_password(auth: Authenticator, password: str) -> str:
    asked = Request(EnvironBuilder(headers={"Authorization": basic("alice", password)}).get_environ())
    principal = auth.by_header(asked)
    assert principal is not None
    return principal.credential


def log_in(tmp_path: Path, registry: Registry, password: str, good: set[str], silent: set[str] | None = None) -> str:
    return with_password(front(tmp_path, registry, good, silent), password)


def test_a_stored_password_that_is_refused_gives_way(tmp_path: Path) -> None:
    registry = Registry("old")
    assert log_in(tmp_path, registry, "new", good={"new"}) == "password~new"
    assert registry.stored == "new"
    assert log_in(tmp_path, Registry(None), "new", good={"new"}) == "password~new"


def test_one_password_for_each_app_does_not_turn_the_others_out(tmp_path: Path) -> None:
    """What was made with the stored one (push subscriptions) would end with every log-in of the other app."""
    registry = Registry("phone")
    for password in ("laptop", "phone", "laptop"):
        assert log_in(tmp_path, registry, password, good={"phone", "laptop"}) == "password~phone"
    assert registry.stored == "phone"


def test_a_stored_password_of_which_nobody_knows_stays(tmp_path: Path) -> None:
    registry = Registry("old")
    log_in(tmp_path, registry, "new", good={"new"}, silent={"old"})
    assert registry.stored == "old"


@pytest.mark.parametrize("password", ["wrong", "unknown", ""])
def test_a_password_that_the_mail_server_does_not_take_lets_nobody_in(tmp_path: Path, password: str) -> None:
    registry = Registry("old")
    with pytest.raises(Unauthorized):
        log_in(tmp_path, registry, password, good={"old", ""}, silent={"unknown"})
    assert registry.stored == "old"


def test_a_log_in_during_which_log_ins_changed_is_not_remembered(tmp_path: Path) -> None:
    """It may be the very one that has ended: what the registry says of it now counts."""
    registry = Registry("old")
    auth = front(tmp_path, registry, good=set())
    told = registry.pool

    def changing(header: dict[str, Any]) -> dict[str, Any]:
        answer = told(header)
        registry.stored = "new"
        auth.purge()
        return answer

    registry.pool = changing  # type: ignore[method-assign]
    assert with_password(auth, "old") == "password~old"
    registry.pool = told  # type: ignore[method-assign]
    with pytest.raises(Unauthorized):
        with_password(auth, "old")
    for _ in range(2):
        assert with_password(auth, "new") == "password~new"
    assert (auth.cached, auth.counters.hits) == (1, 1)
