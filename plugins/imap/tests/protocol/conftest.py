"""A scripted IMAP server on a socket of its own thread, for everything that real servers do not do on demand."""

from __future__ import annotations

import re
import socket
import ssl
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from jmapplug_imap.protocol import Connection, Timeouts

from jmapplug.testing.dovecot import make_certificate

Script = Callable[["Peer"], None]
GREETING = b"* OK [CAPABILITY IMAP4rev1 SASL-IR LITERAL+ AUTH=PLAIN] ready\r\n"


@pytest.fixture(autouse=True)
def _cooperative() -> None:
    """These tests speak through plain sockets to a thread."""


class Peer:
    """The server's end of one connection."""

    def __init__(self, raw: socket.socket, certificate: Path) -> None:
        self.raw = raw
        self.raw.settimeout(60)
        self.certificate = certificate
        self._buffer = b""
        self._in = self._out = None

    def send(self, data: bytes) -> None:
        if self._out is not None:
            data = self._out.compress(data) + self._out.flush(zlib.Z_SYNC_FLUSH)
        self.raw.sendall(data)

    def deflate(self) -> None:
        self._in, self._out = zlib.decompressobj(-15), zlib.compressobj(9, zlib.DEFLATED, -15)

    def start_tls(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate.with_name("cert.pem"), self.certificate.with_name("key.pem"))
        self.raw = context.wrap_socket(self.raw, server_side=True)

    def line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            data = self.raw.recv(65536)
            if not data:
                raise EOFError
            self._buffer += self._in.decompress(data) if self._in is not None else data
        line, self._buffer = self._buffer.split(b"\r\n", 1)
        return line

    def expect(self, pattern: str) -> bytes:
        """Read one line that must match; its tag."""
        line = self.line()
        assert re.fullmatch(rb"(\w+ )?" + pattern.encode(), line), line
        return line.split(b" ")[0]

    def answer(self, pattern: str, untagged: bytes = b"", end: bytes = b"OK done") -> None:
        tag = self.expect(pattern)
        self.send(untagged + tag + b" " + end + b"\r\n")

    def login(self) -> None:
        self.send(GREETING)
        self.answer("AUTHENTICATE PLAIN .*", end=b"OK [CAPABILITY IMAP4rev1 LITERAL+ IDLE ID COMPRESS=DEFLATE] in")


class Server:
    def __init__(self, script: Script, certificate: Path, tls: bool) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._script, self._certificate, self._tls = script, certificate, tls
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        try:
            try:
                raw, _ = self._listening.accept()
            except OSError:
                return  # stopped before anybody came
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer = Peer(raw, self._certificate)
            try:
                if self._tls:
                    peer.start_tls()
                self._script(peer)
            finally:
                peer.raw.close()
        except (EOFError, ConnectionError, ssl.SSLError):
            pass
        except BaseException as error:
            self.error = error

    def stop(self) -> None:
        try:
            self._listening.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._listening.close()
        self.thread.join(60)
        assert not self.thread.is_alive()
        if self.error is not None:
            raise self.error


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    make_certificate(folder)
    return folder / "cert.pem"


Serve = Callable[..., Connection]


@pytest.fixture
def hurry() -> Callable[..., None]:
    """hurry(connection, **timeouts): from now on it waits so long. Whatever comes before was not to be hurried."""

    def hurry(connection: Connection, **timeouts: float) -> None:
        connection.timeouts = msgspec.structs.replace(connection.timeouts, **timeouts)
        connection._open_channel()._read = connection.timeouts.read

    return hurry


@pytest.fixture
def serve(certificate: Path) -> Iterator[Serve]:
    """serve(script, ssl=1, **timeouts) → a Connection (not yet open) to a server that follows the script."""
    running: list[tuple[Server, Connection]] = []

    def start(script: Script, ssl: int = 1, ca_file: Path | None = certificate, **timeouts: float) -> Connection:
        server = Server(script, certificate, ssl == 2)
        waits = Timeouts(**{"connect": 60, "read": 60, "command": 60, **timeouts})
        connection = Connection("localhost", server.port, ssl, ca_file, waits)
        running.append((server, connection))
        return connection

    yield start
    for server, connection in running:
        connection.abort()
        server.stop()
