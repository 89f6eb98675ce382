"""Push under load: own writes, thousands of streams, hundreds of idle accounts, and what one change costs to sync."""

from __future__ import annotations

import imaplib
import statistics
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from bench import mail
from bench.proxy import private_mb
from bench.streams import Streams
from jmapplug.testing.dovecot import Dovecot
from jmapplug.testing.hiding import Hiding
from jmapplug.testing.ports import wait_until
from jmapplug.testing.proxy import Client, Proxy

Row = tuple[str, str, str]
ROUNDS = 40
EACH = 20
"""Messages of each of many accounts."""


def live(server: Dovecot, accounts: int, streams: int, idle: int) -> Iterable[Row]:
    """Every row; ``accounts`` with ``streams`` streams in all, then ``idle`` accounts with a stream each."""
    proxy = Proxy()
    try:
        clients = _accounts(proxy, server, max(accounts, idle))
        yield from own_writes(proxy, clients[0])
        yield from crowd(proxy, clients[:accounts], streams)
        yield from resting(proxy, clients[:idle])
    finally:
        proxy.stop()


def own_writes(proxy: Proxy, client: Client) -> Iterable[Row]:
    """From the sending of an Email/set to the event at another client of the account."""
    for label, opener in (("EventSource", Streams.open), ("WebSocket", Streams.open_websocket)):
        streams = Streams()
        number = opener(streams, proxy.port, client.headers["Authorization"])
        streams.ready()
        values = [delay for _ in range(ROUNDS) for delay in _told(streams, client, [number])]
        streams.close()
        yield f"own Email/set sent → {label} event of another client", _figure(values), "≤ 10 ms"


def crowd(proxy: Proxy, clients: list[Client], count: int) -> Iterable[Row]:
    """The same with many accounts connected and many streams; one write at a time, all accounts in turn."""
    fronts = _private(proxy, fronts=True)
    streams = Streams()
    numbers: dict[str, list[int]] = {client.account: [] for client in clients}
    for n in range(count):
        client = clients[n % len(clients)]
        numbers[client.account].append(streams.open(proxy.port, client.headers["Authorization"]))
    streams.ready()
    each = (_private(proxy, fronts=True) - fronts) / count * 1024
    values = [delay for client in clients for delay in _told(streams, client, numbers[client.account])]
    streams.close()
    label = f"{len(clients)} accounts, {count:,} streams"
    yield f"own Email/set sent → every event, {label}", _figure(values), "p95 ≤ 250 ms"
    yield f"private memory of the front for each stream, {label}", f"{each:.1f} KB", ""


def resting(proxy: Proxy, clients: list[Client], seconds: float = 60) -> Iterable[Row]:
    """Idle accounts with a live subscriber each."""
    streams = Streams()
    for client in clients:
        streams.open(proxy.port, client.headers["Authorization"])
    streams.ready()
    _settled(proxy, clients)
    time.sleep(15)
    before = _cpu(proxy)
    time.sleep(seconds)
    share = (_cpu(proxy) - before) / seconds * 100
    streams.close()
    memory = f"{_private(proxy) / 1024:.2f} GB private, {share:.1f} % of one core over {seconds:.0f} s"
    yield (
        f"{len(clients)} idle accounts with a stream each",
        f"{memory}, {len(_pids(proxy))} processes of ours",
        "500: ≤ 7 GB, ≤ 10 %",
    )


def _accounts(proxy: Proxy, server: Dovecot, count: int) -> list[Client]:
    def add(number: int) -> Client:
        user = server.new_user()
        mail.fill(server, user, "INBOX", EACH, number)
        return proxy.add(f"live{number}", server, user)

    with ThreadPoolExecutor(4) as pool:
        clients = list(pool.map(add, range(count)))
    _settled(proxy, clients)
    return clients


def _settled(proxy: Proxy, clients: Iterable[Client]) -> None:
    for client in clients:
        proxy.settled(client.account, 600)


def _told(streams: Streams, client: Client, numbers: list[int]) -> list[float]:
    """Toggle a keyword; when each of these streams hears of it."""
    ident = client.call("Email/query", limit=1)["ids"][0]
    flagged = client.call("Email/get", ids=[ident], properties=["keywords"])["list"][0]["keywords"].get("$flagged")
    start = time.perf_counter()
    client.call("Email/set", update={ident: {"keywords/$flagged": None if flagged else True}})
    values = streams.hears(numbers, start)
    time.sleep(0.05)
    return values


def _figure(values: list[float]) -> str:
    values = sorted(values)
    median, late = values[len(values) // 2], values[int(len(values) * 0.95) - 1]
    return f"{median:.1f} ms (p95 {late:.1f}, most {values[-1]:.1f})"


# --- one change in a large account


def one_change(server: Dovecot, folders: int, each: int) -> Iterable[Row]:
    """What a pass over an account costs after one change, by QRESYNC and by comparing flags and UIDs."""
    user = server.new_user()
    imap = server.imap(user)
    for number, name in enumerate(["INBOX", *(f"F{number}" for number in range(1, folders))]):
        imap.create(name)
        mail.fill(server, user, name, each, number)
    for label, hide, reach in (
        ("QRESYNC", (), "≤ 4, ≤ 20 ms"),
        ("no CONDSTORE", ("CONDSTORE", "QRESYNC", "NOTIFY"), "bytes by the folder's size"),
    ):
        relay, proxy, streams = Counting(server.port, hide), Proxy(JMAP_SYNC_INTERVAL="600"), Streams()
        try:
            client = proxy.add("large", server, user, imapPort=relay.port)
            streams.open(proxy.port, client.headers["Authorization"])  # a worker that nobody needs ends
            proxy.settled("large", 1800)
            what = f"one message more: {label}, {folders * each:,} in {folders} folders"
            yield what, _after_one_change(proxy, relay, imap), reach
        finally:
            streams.close()
            proxy.stop()
            relay.close()
    imap.logout()


class Counting(Hiding):
    """Counts octets received from the server, and turns: writes of a client after the server had spoken.

    ``besides``: those for the text index and the quota, which follow a pass.
    """

    BESIDES = (b"<0.65536>", b"GETQUOTAROOT")

    def __init__(self, target: int, hide: Iterable[str]) -> None:
        self.received = self.turns = self.besides = 0
        self._upwards = False
        super().__init__(target, hide)

    def seen(self, data: bytes, upwards: bool) -> bytes:
        turn = upwards and not self._upwards
        self.turns += turn
        self.besides += turn and any(words in data for words in self.BESIDES)
        self._upwards = upwards
        self.received += 0 if upwards else len(data)
        return super().seen(data, upwards)


def _after_one_change(proxy: Proxy, relay: Counting, imap: imaplib.IMAP4) -> str:
    pid = proxy.worker_pid("large")
    turns, besides, octets, cpu = list[int](), list[int](), list[int](), list[int]()
    _quiet(relay)
    _awake(relay, imap)
    for number in range(10):
        before = relay.turns, relay.besides, relay.received, _nanoseconds(pid)
        imap.append("INBOX", "", "", f"Subject: one more\r\nMessage-ID: <more{number}@x>\r\n\r\nhello\r\n".encode())
        time.sleep(3)
        after = relay.turns, relay.besides, relay.received, _nanoseconds(pid)
        for values, new, old in zip((turns, besides, octets, cpu), after, before, strict=True):
            values.append(new - old)
    passes = statistics.median(all_ - more for all_, more in zip(turns, besides, strict=True))
    trips = f"{passes} round trips (and {statistics.median(besides)} for text index and quota)"
    told = f"{trips}, {statistics.median(octets) / 1024:.1f} KB from the server"
    return f"{told}, {statistics.median(cpu) / 1e6:.1f} ms of worker CPU"


def _quiet(relay: Counting) -> None:
    """Wait until nobody has asked the server anything for five seconds: the text index is at work for long."""
    before = -1
    while relay.turns != before:
        before = relay.turns
        time.sleep(5)


def _awake(relay: Counting, imap: imaplib.IMAP4) -> None:
    """Wait until a change has been heard: a NOTIFY that fell silent meanwhile is noticed by the next question."""
    before = relay.turns
    imap.append("INBOX", "", "", b"Subject: the first\r\n\r\nhello\r\n")
    wait_until(lambda: relay.turns - before > 2, "the first change is heard", 120)
    time.sleep(3)


# --- processes


def _nanoseconds(pid: int) -> int:
    """CPU time of a process."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


def _pids(proxy: Proxy, fronts: bool = False) -> list[int]:
    """The processes of the service: all of them, or the front alone."""
    if fronts:
        return [proxy.process.pid]
    wanted = f"JMAP_DATADIR={proxy.environ['JMAP_DATADIR']}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def _private(proxy: Proxy, fronts: bool = False) -> float:
    """MB of private memory."""
    return sum(private_mb(pid) for pid in _pids(proxy, fronts))


def _cpu(proxy: Proxy) -> float:
    """Seconds of CPU of all processes so far."""
    return sum(_nanoseconds(pid) for pid in _pids(proxy)) / 1e9
