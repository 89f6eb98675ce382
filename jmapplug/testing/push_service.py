"""A push service for tests (RFC 8030) on a socket of 127.0.0.1, and a device that decrypts with another library.

It keeps what is posted and answers 201, or per path what :meth:`PushService.answer` queued: a status with headers,
``"slow"`` (no answer before :meth:`PushService.stop`), ``"cut"`` (the connection ends instead of an answer), ``"hold"``
(201, once ``release`` is set).
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import os
import ssl
import threading
from collections import defaultdict, deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.x509.oid import NameOID

from jmapplug.testing.ports import HOST

Scripted = int | tuple[int, dict[str, str]] | str


@dataclass(frozen=True, slots=True)
class Posted:
    """One post; ``headers`` in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes


class PushService:
    """See the module. ``certificates``: a folder for an authority of its own (``ca``); then it speaks TLS."""

    def __init__(self, certificates: Path | None = None, host: str = HOST) -> None:
        self.posts: list[Posted] = []
        self.script: dict[str, deque[Scripted]] = defaultdict(deque)
        self.release = threading.Event()
        self.under_way = self.most = 0
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer((HOST, 0), self._handler())
        self._server.daemon_threads = True
        self.ca: Path | None = None
        if certificates is not None:
            self.ca, chain = make_certificates(certificates)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(chain)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.origin = f"{'http' if certificates is None else 'https'}://{host}:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def url(self, path: str) -> str:
        return f"{self.origin}/{path}"

    def answer(self, path: str, *answers: Scripted) -> None:
        """What the next posts to this path get."""
        self.script["/" + path].extend(answers)

    def to(self, path: str) -> list[Posted]:
        """What was posted to a path, in order."""
        return [each for each in list(self.posts) if each.path == "/" + path]

    def stop(self) -> None:
        self._stopped.set()
        self.release.set()
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                with service._lock:
                    service.under_way += 1
                    service.most = max(service.most, service.under_way)
                try:
                    body = self.rfile.read(int(self.headers["Content-Length"]))
                    headers = {name.lower(): value for name, value in self.headers.items()}
                    with service._lock:
                        service.posts.append(Posted(self.path, headers, body))
                        queue = service.script[self.path]
                        scripted = queue.popleft() if queue else 201
                    self._reply(scripted)
                finally:
                    with service._lock:
                        service.under_way -= 1

            def _reply(self, scripted: Scripted) -> None:
                self.close_connection = True
                if scripted == "cut":
                    return
                if scripted == "slow":
                    service._stopped.wait(60)
                    return
                if scripted == "hold":
                    service.release.wait(60)
                    scripted = 201
                status, more = scripted if isinstance(scripted, tuple) else (int(scripted), {})
                self.send_response(status)
                for name, value in more.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Silent."""

        return Handler


@dataclass(slots=True)
class Device:
    """The user agent's side: its keys (RFC 8291 §2.1), and what it makes of a post."""

    private: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    auth: bytes = field(default_factory=lambda: os.urandom(16))

    @property
    def keys(self) -> dict[str, str]:
        """``PushSubscription.keys``."""
        point = self.private.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        return {"p256dh": base64url(point), "auth": base64url(self.auth)}

    def open(self, posted: Posted) -> dict[str, Any]:
        """The object inside an encrypted post; an AssertionError where it is not encrypted."""
        import http_ece  # type: ignore[import-untyped]

        assert posted.headers["content-encoding"] == "aes128gcm", posted.headers
        assert posted.headers["content-type"] == "application/json", posted.headers
        plain = http_ece.decrypt(posted.body, private_key=self.private, auth_secret=self.auth, version="aes128gcm")
        value: dict[str, Any] = json.loads(plain)
        return value


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def from_base64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def check_vapid(posted: Posted, application_server_key: str) -> dict[str, Any]:
    """The claims of a post's VAPID token (RFC 8292). Raises InvalidSignature, AssertionError."""
    scheme, _, rest = posted.headers["authorization"].partition(" ")
    assert scheme == "vapid"
    values = dict(each.strip().split("=", 1) for each in rest.split(","))
    assert values["k"] == application_server_key
    signed, _, signature = values["t"].rpartition(".")
    raw = from_base64url(signature)
    assert len(raw) == 64
    pair = utils.encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    point = from_base64url(application_server_key)
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    key.verify(pair, signed.encode(), ec.ECDSA(hashes.SHA256()))
    head, claims = (json.loads(from_base64url(part)) for part in signed.split("."))
    assert head == {"typ": "JWT", "alg": "ES256"}
    value: dict[str, Any] = claims
    return value


def make_certificates(folder: Path, names: tuple[str, ...] = ("localhost",)) -> tuple[Path, Path]:
    """An authority and a certificate of it for ``names`` and 127.0.0.1: (authority, certificate with its key), PEM."""
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
    now = datetime.datetime.now(datetime.UTC)

    def certificate(subject: x509.Name, public: ec.EllipticCurvePublicKey, ca: bool) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(ca_name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )

    root = certificate(ca_name, ca_key.public_key(), True).sign(ca_key, hashes.SHA256())
    hosts = [x509.DNSName(name) for name in names] + [x509.IPAddress(ipaddress.ip_address(HOST))]
    leaf_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    leaf = certificate(leaf_name, key.public_key(), False)
    signed = leaf.add_extension(x509.SubjectAlternativeName(hosts), critical=False).sign(ca_key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    authority, chain = folder / "push-ca.pem", folder / "push-server.pem"
    authority.write_bytes(root.public_bytes(pem))
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    chain.write_bytes(signed.public_bytes(pem) + secret)
    return authority, chain
