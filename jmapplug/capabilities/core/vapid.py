"""VAPID (RFC 8292): the service's key pair, and the Authorization of a post. One key for the whole service."""

from __future__ import annotations

import logging
import os
import secrets
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from jmapplug.capabilities.core.push_encryption import text
from jmapplug.errors import SettingError

log = logging.getLogger("jmapplug.push")

KEY_FILE = "vapid.key"
CONTACTS = ("mailto:", "https:")
"""RFC 8292 §2.1: what "sub" may be; without one of these it is left out."""
VALID = 12 * 3600
"""RFC 8292 §2: "exp" must not be more than 24 hours away; clocks differ."""


class Vapid:
    """A key pair. ``public``: as clients and push services want it, base64url of the uncompressed point."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        self.public = text(key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))

    def authorization(self, url: str, now: float, contact: str) -> str:
        """RFC 8292 §3: the value of Authorization for a post to this URL; ``contact``: who runs this service."""
        claims = {"aud": origin(url), "exp": int(now) + VALID} | (
            {"sub": contact} if contact.startswith(CONTACTS) else {}
        )
        head = text(b'{"typ":"JWT","alg":"ES256"}')
        signed = f"{head}.{text(msgspec.json.encode(claims))}"
        r, s = decode_dss_signature(self._key.sign(signed.encode("ascii"), ec.ECDSA(hashes.SHA256())))
        # RFC 7518 §3.4: r and s, 32 octets each.
        return f"vapid t={signed}.{text(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}, k={self.public}"


def origin(url: str) -> str:
    """RFC 6454 §6.1: scheme, host, and the port where it is not the scheme's own."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = parts.port if parts.port not in (None, {"https": 443, "http": 80}[parts.scheme]) else None
    return f"{parts.scheme}://{host}" + (f":{port}" if port else "")


@lru_cache(maxsize=4)
def load(datadir: Path) -> Vapid:
    """The service's key pair, made in the data folder when it is missing. Raises SettingError."""
    path = datadir / KEY_FILE
    try:
        if not path.exists():
            _make(path)
        key = load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise SettingError(f"{path}: {error.strerror}") from None
    except (ValueError, TypeError):
        raise SettingError(f"{path}: not a private key") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise SettingError(f"{path}: a key on P-256 is needed")
    return Vapid(key)


def _make(path: Path) -> None:
    """Write a new key and only then give it its name: of two processes at once, one wins and both read its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    draft = path.with_name(f".{KEY_FILE}-{os.getpid()}-{secrets.token_hex(4)}")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
        log.info("made a key pair for web push: %s", path)
    except FileExistsError:
        pass
    finally:
        draft.unlink(missing_ok=True)
