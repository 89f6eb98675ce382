"""``python -m bench [--sizes 2000,20000,100000]``: the figures that this project promises, as one table."""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from bench import mail
from bench.client import lean
from bench.live import live, one_change
from bench.proxy import cpu_seconds, create, private_mb, timed
from bench.push import push_delays
from bench.restart import restarts
from bench.writing import writing
from jmapplug.testing import dovecot
from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.ports import running, wait_until
from jmapplug.testing.proxy import USING, Client, Proxy
from jmapplug.workers import resting

LIST = [
    "id",
    "threadId",
    "mailboxIds",
    "keywords",
    "hasAttachment",
    "from",
    "to",
    "subject",
    "receivedAt",
    "size",
    "preview",
]
Row = tuple[str, str, str]


class Rows(list[Row]):
    """The table; each row is also told at once, for whoever waits."""

    def append(self, row: Row) -> None:
        super().append(row)
        print("…", *row, file=sys.stderr, flush=True)

    def extend(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self.append(row)


def list_page(client: Client, inbox: str) -> bytes:
    """The request body of one list page."""
    query = {
        "accountId": client.account,
        "filter": {"inMailbox": inbox},
        "sort": [{"property": "receivedAt", "isAscending": False}],
        "limit": 50,
        "calculateTotal": True,
    }
    back = {"resultOf": "0", "name": "Email/query", "path": "/ids"}
    get = {"accountId": client.account, "#ids": back, "properties": LIST}
    return json.dumps({"using": USING, "methodCalls": [["Email/query", query, "0"], ["Email/get", get, "1"]]}).encode()


def post(client: Client, body: bytes) -> Any:
    """One request over the kept-alive connection; the Response, its JSON read as any client would."""
    return client.send("POST", "/jmap", body, {"Content-Type": "application/json"}).json


def inbox_of(client: Client) -> str:
    boxes = client.call("Mailbox/get", ids=None)
    return str(next(box["id"] for box in boxes["list"] if box["role"] == "inbox"))


def median_and_p95(values: list[float], digits: int = 2) -> str:
    return f"{statistics.median(values):.{digits}f} ms (p95 {values[int(len(values) * 0.95) - 1]:.{digits}f})"


def account(proxy: Proxy, server: Dovecot, count: int, rows: list[Row], tls: bool = False) -> tuple[Client, str]:
    """Fill an account, add it, measure how it appears and how long its first sync takes."""
    name, user = f"n{count}{'tls' if tls else ''}", server.new_user()
    mail.fill(server, user, "INBOX", count)
    mail.warm(server, user)
    start = time.perf_counter()
    client = create(proxy, name, server, user, tls)
    inbox = inbox_of(client)
    page = post(client, list_page(client, inbox))
    shown = time.perf_counter() - start
    assert len(page["methodResponses"][1][1]["list"]) == 50, page
    label = f"{count:,}{' (TLS)' if tls else ''}"
    rows.append((f"POST account → newest 50 answered, {label}", f"{shown:.2f} s", "≤ 0.7 s"))
    wait_until(lambda: _messages(client, inbox) == count, f"first sync of {count}", 600)
    took = time.perf_counter() - start
    cpu = cpu_seconds(proxy.worker_pid(name))
    target = {20_000: "≤ 5 s, ≤ 5 CPU s", 100_000: "≤ 1.3 times 20,000's per message"}.get(count, "")
    rows.append(
        (f"first sync, {label}", f"{took:.1f} s, worker CPU {cpu:.1f} s ({cpu / count * 1e6:.0f} µs each)", target)
    )
    if count >= 100_000:
        rows.append(watched(proxy, server, user, count))
    return client, inbox


def watched(proxy: Proxy, server: Dovecot, user: str, count: int) -> Row:
    """The list page, asked for every 20 ms, while the same mail is synchronised once more for another account."""
    name = f"watched{count}"
    create(proxy, name, server, user)
    client = lean(proxy.client(name, name, server.password))
    inbox = inbox_of(client)
    body = list_page(client, inbox)
    pages: list[float] = []
    total = 0
    while total < count:
        pages += timed(lambda: post(client, body), 1)
        total = _messages(client, inbox, 0.02)
    proxy.management.send("DELETE", f"/api/accounts/{name}")
    return f"list page during a first sync of {count:,}", median_and_p95(sorted(pages)), "p95 ≤ 25 ms"


def _messages(client: Client, inbox: str, pause: float = 0.1) -> int:
    time.sleep(pause)
    boxes = client.call("Mailbox/get", ids=[inbox], properties=["totalEmails"])
    return int(boxes["list"][0]["totalEmails"])


def hot(client: Client, inbox: str, label: str, rows: list[Row]) -> float:
    """The everyday calls on a synced account; the list page's median."""
    body = list_page(client, inbox)
    post(client, body)
    values = timed(lambda: post(client, body), 200)
    rows.append((f"list page (50), {label}", median_and_p95(values), "≤ 2.5 ms at 2,000; ≤ 1.3 times at 100,000"))
    ids = post(client, body)["methodResponses"][0][1]["ids"]
    one = (
        "Email/get",
        {"ids": [ids[3]], "fetchAllBodyValues": True, "properties": [*LIST, "bodyValues", "textBody", "htmlBody"]},
    )
    client.request(one)
    rows.append(
        (
            f"Email/get of one, all body values, {label}",
            median_and_p95(timed(lambda: client.request(one), 100)),
            "≤ 2 ms",
        )
    )
    boxes = ("Mailbox/get", {"ids": None})
    rows.append((f"Mailbox/get all, {label}", median_and_p95(timed(lambda: client.request(boxes), 100)), "≤ 1.5 ms"))
    return statistics.median(values)


FAMILIES = {"needle": "≤ 3 ms (about 180 hits)", "rare": "p95 ≤ 60 ms (1 %)", "common": "p95 ≤ 60 ms (80 %)"}


def searches(proxy: Proxy, client: Client, count: int, rows: list[Row]) -> None:
    """Text search once the account is indexed; each word is searched for once, so that no answer is a kept one."""
    start = time.perf_counter()
    proxy.settled(client.account, 900)
    rows.append((f"text index complete, {count:,} (after the first sync)", f"{time.perf_counter() - start:.0f} s", ""))

    def search(word: str) -> float:
        sort = [{"property": "receivedAt", "isAscending": False}]
        query = {"filter": {"text": word}, "sort": sort, "limit": 50, "calculateTotal": True}
        return timed(lambda: client.request(("Email/query", query)), 1)[0]

    for family in ("needle",) if count < 50_000 else ("rare", "common"):
        values = sorted(search(f"{family}{number}") for number in range(20))
        rows.append((f"text search '{family}', {count:,}", median_and_p95(values), FAMILIES[family]))


def cold(proxy: Proxy, client: Client, rows: list[Row]) -> None:
    """Memory at rest, and the first answer of an account whose worker is not running."""
    pid = proxy.worker_pid(client.account)
    time.sleep(resting.AFTER + 2)  # at rest
    rows.append(("private memory of a worker at rest, 2,000, TLS", f"{private_mb(pid):.1f} MB", "≤ 12 MB"))
    values = []
    for _ in range(10):
        pid = proxy.worker_pid(client.account)
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda pid=pid: not running(pid), "the worker ends", 20)  # type: ignore[misc]
        values += timed(lambda: client.request(("Mailbox/get", {"ids": None})), 1)
    rows.append(("cold account's first answer", median_and_p95(sorted(values), 0), "≤ 60 ms"))


def written(proxy: Proxy, server: Dovecot, rows: list[Row]) -> None:
    """The writing half, on an account of its own."""
    user = server.new_user()
    mail.fill(server, user, "INBOX", 2000)
    client = create(proxy, "writes", server, user)
    proxy.settled(client.account, 900)
    rows.extend(writing(server, user, client, inbox_of(client)))


def numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def mailboxes(proxy: Proxy, server: Dovecot, rows: list[Row], sizes: list[int]) -> None:
    """Reading: first syncs, list pages, searches; a worker at rest."""
    client, _ = account(proxy, server, 2000, rows, tls=True)
    proxy.settled(client.account, 900)
    cold(proxy, client, rows)
    for size in sizes:
        client, inbox = account(proxy, server, size, rows)
        if size == 20_000:
            hot(client, inbox, f"{size:,}, while the text index runs", rows)
        else:
            searches(proxy, client, size, rows)
            hot(client, inbox, f"{size:,}", rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench")
    parser.add_argument("--sizes", default="2000,20000,100000", help="mailbox sizes, comma separated")
    parser.add_argument("--crowd", default="200,2000,500", help="accounts and streams of the crowd, idle accounts")
    parser.add_argument("--change", default="50,2000", help="folders of the account with one change, messages in each")
    parser.add_argument(
        "--only", choices=["writing", "mailboxes", "push", "change", "restart", "live"], help="just this part"
    )
    given = parser.parse_args()
    rows = Rows()
    server, proxy = dovecot.start(), Proxy()
    parts: dict[str, Callable[[], None]] = {
        "writing": lambda: written(proxy, server, rows),
        "mailboxes": lambda: mailboxes(proxy, server, rows, numbers(given.sizes)),
        "push": lambda: rows.extend(push_delays(proxy, server)),
        "change": lambda: rows.extend(one_change(server, *numbers(given.change))),
        "restart": lambda: rows.extend(restarts(server)),
        "live": lambda: rows.extend(live(server, *numbers(given.crowd))),
    }
    try:
        for name, part in parts.items():
            if given.only in (None, name):
                part()
    finally:
        width = max((len(row[0]) for row in rows), default=0)
        for what, measured, target in rows:
            print(f"{what:<{width}}  {measured}   [{target}]")
        proxy.stop()
        server.stop()


if __name__ == "__main__":
    main()
