"""Real servers as seen by another client (imaplib), and a proxy in front of them that hides, refuses and cuts."""

from __future__ import annotations

import imaplib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gevent
import gevent.socket
import msgspec
import pytest
from gevent.server import StreamServer
from gevent.socket import IPPROTO_TCP, SHUT_RDWR, TCP_NODELAY, create_connection
from jmapplug_imap import source as source_module
from jmapplug_imap.protocol import Connection, Timeouts, transport, utf7
from jmapplug_imap.settings import ImapSettings
from jmapplug_imap.source import ImapSource

pytest.register_assert_rewrite(
    *(f"jmapplug.testing.mail_{name}" for name in ("source", "changes", "contents", "upstream", "writing"))
)
Server = Any  # jmapplug.testing's Dovecot or Pymap


class Proxy:
    """An IMAP server in front of another one. Set its attributes at any time; they count from the next line on.

    ``hide``: capabilities that no client sees (with UIDPLUS go its response codes). ``refuse``: (pattern, answer) rows:
    a client's line that matches is not passed on and gets ``<tag> <answer>``; an answer of None cuts the connection
    instead. ``cut_after``: octets from the server, counted over a connection, after which it is cut; counts down
    ``cuts`` times. ``cut_up_after``: the same for octets from the client. ``lose``: a pattern; a server's line that
    matches is swallowed with the connection. ``swallow``: patterns; each takes one line of the server and is used up.
    ``deaf``: the server's octets are swallowed, as by a firewall that forgot; ``dumb``: the clients' are. ``lines`` are
    all the lines of all clients; ``met`` is called with each.
    """

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.hide: set[str] = set()
        self.refuse: list[tuple[str, str | None]] = []
        self.cut_after: int | None = None
        self.cut_up_after: int | None = None
        self.cuts = 1
        self.lose: str | None = None
        self.swallow: list[str] = []
        self.met: Callable[[bytes], None] = lambda line: None
        self.deaf = False
        self.dumb = False
        self.lines: list[bytes] = []
        self.connections = 0
        self.most = 0
        self._open: set[Any] = set()
        self._server = StreamServer(("127.0.0.1", 0), self._serve)
        self._server.start()

    @property
    def host(self) -> str:
        return "127.0.0.1"

    @property
    def port(self) -> int:
        return int(self._server.server_port)

    @property
    def live(self) -> int:
        return len(self._open)

    def cut_all(self) -> None:
        """Cut every connection now."""
        for each in list(self._open):
            _shut(each)

    def say(self, line: bytes) -> None:
        """A line of the server's, to every client."""
        for each in self._open:
            each.sendall(line)

    def stop(self) -> None:
        self._server.stop()
        self.cut_all()

    def sent(self, word: str) -> list[bytes]:
        """The clients' lines that hold a word."""
        return [line for line in self.lines if word.encode().upper() in line.upper()]

    def _serve(self, client: Any, address: object) -> None:
        self.connections += 1
        self._open.add(client)
        self.most = max(self.most, len(self._open))
        server = create_connection(self.target)
        for each in (client, server):
            each.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        down = gevent.spawn(self._down, server, client)
        try:
            self._up(client, server)
        except OSError:
            pass
        finally:
            _shut(server)
            _shut(client)
            down.join()
            self._open.discard(client)

    def _up(self, client: Any, server: Any) -> None:
        passed = 0
        for line in _lines(client):
            self.lines.append(line)
            self.met(line)
            if self.dumb:
                continue
            if self.cut_up_after is not None and self.cuts > 0 and passed + len(line) > self.cut_up_after:
                server.sendall(line[: self.cut_up_after - passed])
                self.cuts -= 1
                return
            passed += len(line)
            for pattern, answer in self.refuse:
                if re.search(pattern.encode(), line):
                    if answer is None:
                        return
                    client.sendall(line.split(b" ")[0] + b" " + answer.encode() + b"\r\n")
                    break
            else:
                server.sendall(line)

    def _down(self, server: Any, client: Any) -> None:
        passed = 0
        try:
            for line in _lines(server):
                line = self._hidden(line)
                if self.deaf:
                    continue
                if found := next((each for each in self.swallow if re.search(each.encode(), line)), None):
                    self.swallow.remove(found)
                    continue
                if self.lose and self.cuts > 0 and re.search(self.lose.encode(), line):
                    self.cuts -= 1
                    break
                if self.cut_after is not None and self.cuts > 0 and passed + len(line) > self.cut_after:
                    client.sendall(line[: self.cut_after - passed])
                    self.cuts -= 1
                    break
                passed += len(line)
                client.sendall(line)
        except OSError:
            pass
        finally:
            _shut(client)
            _shut(server)

    def _hidden(self, line: bytes) -> bytes:
        if "UIDPLUS" in self.hide:
            line = re.sub(rb"\[(APPENDUID|COPYUID) [^\]]*\] ", b"", line)
        if self.hide and b"CAPABILITY" in line[:400]:
            for name in self.hide:
                line = re.sub(rb" %s(?=[ \]\r])" % re.escape(name.encode()), b"", line)
        return line


class Patience:
    """How long connections wait, those that are open and those to come (``factory`` makes them)."""

    def __init__(self, **timeouts: float) -> None:
        self.timeouts = Timeouts(**timeouts)
        self._made: list[Connection] = []

    def factory(self, host: str, port: int, ssl: int, ca_file: Any, _: object) -> Connection:
        self._made.append(Connection(host, port, ssl, ca_file, self.timeouts))
        return self._made[-1]

    def become(self, **timeouts: float) -> None:
        """From now on it is another one: whatever came before was not to be hurried."""
        self.timeouts = msgspec.structs.replace(self.timeouts, **timeouts)
        for each in self._made:
            each.timeouts = self.timeouts
            if each._channel is not None:
                each._channel._read = self.timeouts.read


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Patience]:
    """patience(**timeouts) → that of the connections of every source that is made after it."""

    def patience(**timeouts: float) -> Patience:
        made = Patience(**timeouts)
        monkeypatch.setattr(source_module, "Connection", made.factory)
        return made

    return patience


def _lines(connection: Any) -> Iterator[bytes]:
    """Lines with their end; what is longer than 64 kB comes in pieces."""
    rest = b""
    while data := connection.recv(65536):
        *lines, rest = (rest + data).split(b"\n")
        yield from (line + b"\n" for line in lines)
        if len(rest) > 65536:
            yield rest
            rest = b""
    if rest:
        yield rest


def _shut(connection: Any) -> None:
    try:
        connection.shutdown(SHUT_RDWR)
    except OSError:
        pass


class ImapUpstream:
    """jmapplug.testing.mail_source.Upstream over imaplib. ``through``: the proxy that our sources use, if any.

    ``user``: what the server's ``new_user`` takes.
    """

    def __init__(
        self, server: Server, through: Proxy | None = None, separator: str = "/", prefix: str = "", **user: str
    ) -> None:
        self.server, self.through = server, through
        self.separator, self.prefix = separator, prefix
        self.user = server.new_user(**user)
        self.client: imaplib.IMAP4 = server.imap(self.user)
        self._sources: list[ImapSource] = []

    def settings(self, **changes: Any) -> ImapSettings:
        front = self.through or self.server
        base = {"username": self.user, "password": self.server.password, "imapHost": front.host, "imapPort": front.port}
        return ImapSettings(**{**base, "imapSSL": 0, **changes})

    def source(self) -> ImapSource:
        source = ImapSource(self.settings(), self.user)
        self._sources.append(source)
        return source

    def create(self, *path: str) -> bytes:
        key = (self.prefix + self.separator.join(path)).encode()
        name = self.separator.join(utf7.encode(level).decode() for level in path)
        name = self.prefix + name
        _ok(self.client.create(_quoted(name)))
        _ok(self.client.subscribe(_quoted(name)))
        return name.encode() if name.encode() != key else key

    def delete(self, key: bytes) -> None:
        self.client.unsubscribe(_quoted(key.decode()))
        _ok(self.client.delete(_quoted(key.decode())))

    def append(self, key: bytes, message: bytes, flags: Sequence[str] = (), received_at: int = 1_750_000_000) -> int:
        date = imaplib.Time2Internaldate(received_at)
        answer = self.client.append(_quoted(key.decode()), f"({' '.join(flags)})", date, message)
        return int(re.search(rb"APPENDUID \d+ (\d+)", _ok(answer)).group(1))  # type: ignore[union-attr]

    def flag(self, key: bytes, uid: int, flag: str, on: bool = True) -> None:
        self._select(key)
        _ok(self.client.uid("STORE", str(uid), "+FLAGS" if on else "-FLAGS", f"({flag})"))

    def expunge(self, key: bytes, uid: int) -> None:
        self.flag(key, uid, "\\Deleted")
        _ok(self.client.uid("EXPUNGE", str(uid)))

    def move(self, key: bytes, uid: int, target: bytes) -> int:
        self._select(key)
        answer = _ok(self.client.uid("COPY", str(uid), _quoted(target.decode())))
        copied = re.search(rb"COPYUID \d+ \S+ (\d+)", answer or self.client.response("COPYUID")[1][0] or b"")
        self.expunge(key, uid)
        if copied:
            return int(copied.group(1))
        return self.uids(target)[-1]

    def uids(self, key: bytes) -> list[int]:
        self._select(key)
        return sorted(int(uid) for uid in _ok(self.client.uid("SEARCH", "ALL")).split())

    def search(self, criteria: str) -> list[int]:
        """What the other client finds in INBOX."""
        self._select(b"INBOX")
        return sorted(int(uid) for uid in _ok(self.client.uid("SEARCH", criteria)).split())

    def command(self, *words: str) -> bytes:
        """Any other command of the other client."""
        return _ok(self.client._simple_command(*words))

    def close(self) -> None:
        for source in self._sources:
            source.close()
        self.client.logout()

    def _select(self, key: bytes) -> None:
        _ok(self.client.select(_quoted(key.decode())))


def _quoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _ok(answer: tuple[str, list[Any]]) -> bytes:
    assert answer[0] == "OK", answer
    return answer[1][0] or b""


@pytest.fixture(autouse=True)
def _cooperative(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a worker: waiting for the server is a switch to other greenlets (here: the proxy, or who else waits)."""
    if "protocol" in request.path.parts:  # those tests bring their own ends of a socket
        return
    monkeypatch.setattr(transport, "socket", gevent.socket)


Opener = Callable[..., ImapUpstream]


@pytest.fixture
def open_upstream() -> Iterator[Opener]:
    """open_upstream(server, proxied=False, **layout) → ImapUpstream, closed after the test."""
    opened: list[Any] = []

    def open_(server: Server, proxied: bool = False, **layout: str) -> ImapUpstream:
        proxy = Proxy(server.host, server.port) if proxied else None
        upstream = ImapUpstream(server, proxy, **layout)
        opened.append((upstream, proxy))
        return upstream

    yield open_
    for upstream, proxy in opened:
        upstream.close()
        if proxy:
            proxy.stop()


@pytest.fixture
def upstream(dovecot: Server, open_upstream: Opener) -> ImapUpstream:
    """A Dovecot account with three messages, behind a proxy. Many files have another one instead."""
    from jmapplug.testing.mail_source import message

    upstream = open_upstream(dovecot, proxied=True)
    for name in ("one", "two", "three"):
        upstream.append(b"INBOX", message(name))
    return upstream
