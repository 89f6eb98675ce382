"""The whole service killed and started again with many accounts: how soon all of them answer, and what is read anew."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench import mail
from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.ports import wait_until
from jmapplug.testing.proxy import Client, Proxy

ACCOUNTS = 200
MESSAGES = 20
AT_ONCE = 16


def restarts(server: Dovecot) -> list[tuple[str, str, str]]:
    """Rows of the table, from a service of its own."""
    proxy = Proxy()
    try:
        users = {f"many{number}": server.new_user() for number in range(ACCOUNTS)}
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda pair: _add(proxy, server, *pair), users.items()))
        wait_until(lambda: _synced(proxy) == ACCOUNTS, "all accounts have had their first pass", 600)
        before = _asked(proxy, server, users)
        proxy.kill()
        start = time.perf_counter()
        proxy.start()
        after = _asked(proxy, server, users)
        took = time.perf_counter() - start
        again = sum(after[name] != state for name, state in before.items())
    finally:
        proxy.stop()
    label = f"restart of the whole service, {ACCOUNTS} accounts of {MESSAGES}: all answering"
    return [(label, f"{took:.1f} s; {again} with another state", "≤ 10 s, no full re-sync")]


def _add(proxy: Proxy, server: Dovecot, name: str, user: str) -> None:
    mail.fill(server, user, "INBOX", MESSAGES)
    proxy.add(name, server, user)


def _synced(proxy: Proxy) -> int:
    accounts: list[dict[str, Any]] = proxy.management.send("GET", "/api/accounts").json
    return sum(one["status"] == "ok" for one in accounts)


def _asked(proxy: Proxy, server: Dovecot, users: dict[str, str]) -> dict[str, str]:
    """Every account's list, asked for by many clients at once; account → state of its Emails."""

    def ask(pair: tuple[str, str]) -> tuple[str, str]:
        client: Client = proxy.client(*pair, server.password)
        query, (_, got, _) = client.request(("Email/query", {"limit": 50}), ("Email/get", {"ids": []}))
        assert len(query[1]["ids"]) == MESSAGES, query
        return pair[0], str(got["state"])

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(pool.map(ask, users.items()))
