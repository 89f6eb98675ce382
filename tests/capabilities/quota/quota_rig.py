"""An account whose quotas a test sets, over a real store; Requests run through the dispatcher."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from jmapplug.backends import Quota
from jmapplug.capabilities.quota import QUOTA, URN
from jmapplug.capabilities.quota.service import QuotaService
from jmapplug.errors import UpstreamError
from jmapplug.jmap.dispatch import execute
from jmapplug.jmap.methods import Limits
from jmapplug.jmap.request import parse
from jmapplug.store.account import Store
from jmapplug.workers.commands import upstream

CORE, MAIL = "urn:ietf:params:jmap:core", "urn:ietf:params:jmap:mail"
METHODS = {method.name: method for method in QUOTA.methods}


class Upstream:
    """A QuotaSource: what is in ``roots`` is told, ``reads`` counts."""

    def __init__(self) -> None:
        self.roots: list[Quota] = []
        self.reads = 0
        self.down = False

    def quotas(self) -> list[Quota]:
        self.reads += 1
        if self.down:
            raise UpstreamError("away")
        return list(self.roots)


class QuotaRig:
    def __init__(self, folder: Path) -> None:
        self.upstream = Upstream()
        self.told: list[dict[str, str]] = []
        self.store = Store(folder / "account", [QUOTA.schema], on_change=self._on_change)
        self.account = SimpleNamespace(
            id="acc",
            store=self.store,
            limits=Limits(),
            watchers=[],
            session=SimpleNamespace(known=True),
            offers=lambda: ["mail", "quota"],
            quota_source=lambda: self.upstream,
        )
        self.service = QuotaService(self.account)
        self.account.services = {URN: self.service}

    def _on_change(self, changed: dict[str, str]) -> None:
        self.told.append(changed)
        for watcher in self.account.watchers:
            watcher(changed)

    def set(self, *roots: tuple[str, str, int, int]) -> None:
        """Upstream has these quotas now, and Emails have changed."""
        self.upstream.roots = [Quota(*root) for root in roots]
        self.mail_changes()

    def mail_changes(self) -> None:
        self.store.commit(lambda change: change.touch("Email"))

    def request(self, *calls: tuple[str, dict[str, Any]], using: tuple[str, ...] = (CORE, URN, MAIL)) -> list[Any]:
        rows = [[name, {"accountId": "acc", **args}, str(n)] for n, (name, args) in enumerate(calls)]
        body = json.dumps({"using": list(using), "methodCalls": rows}).encode()
        parsed = parse(body, (CORE, URN, MAIL), Limits())
        answer = execute(parsed, METHODS, {"acc": self.account}.get, Limits(), session_state="s", error_map=upstream)
        return [(name, args) for name, args, _ in json.loads(answer)["methodResponses"]]

    def call(self, name: str, **args: Any) -> dict[str, Any]:
        ((kind, answer),) = self.request((name, args))
        assert kind == name, answer
        return dict(answer)

    def error(self, name: str, **args: Any) -> str:
        ((kind, answer),) = self.request((name, args))
        assert kind == "error", answer
        return str(answer["type"])

    def get(self) -> dict[str, dict[str, Any]]:
        """name and resourceType → Quota."""
        found = self.call("Quota/get", ids=None)["list"]
        return {f"{each['name']} {each['resourceType']}": each for each in found}

    def state(self) -> str:
        return str(self.call("Quota/get", ids=[])["state"])
