"""The wire: a socket, TLS on it, DEFLATE on that (RFC 4978); octets counted; every wait with a deadline.

Only the plain ``socket`` and ``ssl`` modules: under gevent's patch every wait here is a switch.
"""

from __future__ import annotations

import functools
import socket
import ssl
import threading
from pathlib import Path

from jmapplug_imap.protocol.compress import Deflate
from jmapplug_imap.protocol.errors import ConnectionBroken

RECEIVE = 128 * 1024
_ESTABLISHED = 1
"""The state of a connection in the first octet of TCP_INFO."""


@functools.cache
def default_context() -> ssl.SSLContext:
    """The client context with the system's roots of trust; made once (loading the roots takes tens of milliseconds)."""
    return ssl.create_default_context()


@functools.lru_cache(maxsize=32)
def _context_of(ca_file: str, _changed: int) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca_file)


def context(ca_file: str | Path | None) -> ssl.SSLContext:
    """The context that trusts ``ca_file`` only, or the system's roots. Raises OSError for an unreadable file."""
    if not ca_file:
        return default_context()
    return _context_of(str(ca_file), Path(ca_file).stat().st_mtime_ns)


# A NAT forgets a silent connection after some minutes: an IDLE must be heard from before, and its end be noticed.
_KEEPALIVE = (("TCP_KEEPIDLE", 120), ("TCP_KEEPALIVE", 120), ("TCP_KEEPINTVL", 30), ("TCP_KEEPCNT", 4))
"""Option → seconds (the last one a count). Linux has no TCP_KEEPALIVE, macOS no TCP_KEEPIDLE."""


def _prepare(raw: socket.socket) -> None:
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        option = getattr(socket, name, None)
        if option is not None:
            raw.setsockopt(socket.IPPROTO_TCP, option, value)


def connect(host: str, port: int, timeout: float) -> Transport:
    """A TCP connection. Raises ConnectionBroken."""
    try:
        raw = socket.create_connection((host, port), timeout)
        _prepare(raw)
    except (OSError, UnicodeError) as error:
        raise ConnectionBroken(f"cannot connect to {host}:{port}: {_reason(error)}") from error
    return Transport(raw)


class Transport:
    """A connected socket. ``bytes_in``/``bytes_out`` count what passes inside TLS, compressed where it is."""

    def __init__(self, raw: socket.socket) -> None:
        self._socket = raw
        self._deflate: Deflate | None = None
        self._writing = threading.Lock()
        self.bytes_in = 0
        self.bytes_out = 0

    def start_tls(self, host: str, ca_file: str | Path | None, timeout: float) -> None:
        """Put TLS on the connection; the certificate must be good for ``host``. Raises ConnectionBroken."""
        try:
            trust = context(ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ConnectionBroken(f"the CA file cannot be read: {_reason(error)}", temporary=False) from error
        try:
            self._socket.settimeout(timeout)
            self._socket = trust.wrap_socket(self._socket, server_hostname=host)
        except ssl.SSLCertVerificationError as error:
            text = f"the certificate of {host} is not valid: {error.verify_message or error.reason}"
            raise ConnectionBroken(text, temporary=False) from error
        except (OSError, ValueError) as error:
            raise ConnectionBroken(f"TLS with {host} failed: {_reason(error)}") from error

    def start_deflate(self, received: bytes) -> bytes:
        """Compress from now on; ``received`` is what already came compressed, returned as plain octets."""
        self._deflate = Deflate()
        return self._deflate.decompress(received)

    def send(self, data: bytes, timeout: float) -> None:
        """Send everything. Raises ConnectionBroken."""
        with self._writing:
            wire = self._deflate.compress(data) if self._deflate else data
            try:
                self._socket.settimeout(timeout)
                self._socket.sendall(wire)
            except (OSError, ValueError) as error:
                raise ConnectionBroken(f"the connection broke while sending: {_reason(error)}") from error
            self.bytes_out += len(wire)

    def receive(self, timeout: float) -> bytes:
        """What arrives next. Raises TimeoutError after ``timeout`` seconds, ConnectionBroken at the end."""
        while True:
            if self._deflate is not None and (plain := self._deflate.more()):
                return plain
            try:
                self._socket.settimeout(max(timeout, 0.001))
                wire = self._socket.recv(RECEIVE)
            except TimeoutError:
                raise
            except (OSError, ValueError) as error:
                raise ConnectionBroken(f"the connection broke: {_reason(error)}") from error
            if not wire:
                raise ConnectionBroken("the server closed the connection")
            self.bytes_in += len(wire)
            if self._deflate is None:
                return wire
            if plain := self._deflate.decompress(wire):
                return plain

    @property
    def hung_up(self) -> bool:
        """Whether the other side has closed it. False where the system does not tell (tcp(7): TCP_INFO)."""
        option = getattr(socket, "TCP_INFO", None)
        try:
            return option is not None and self._socket.getsockopt(socket.IPPROTO_TCP, option, 1)[0] != _ESTABLISHED
        except (OSError, ValueError):
            return True

    def close(self) -> None:
        """Cut it, also under a wait of another greenlet. Never raises."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except (OSError, ValueError):
            pass
        try:
            self._socket.close()
        except (OSError, ValueError):
            pass


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return str(error.reason or "TLS error")
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(getattr(error, "strerror", None) or error)
