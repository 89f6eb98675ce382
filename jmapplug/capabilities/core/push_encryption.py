"""Message encryption for Web Push: RFC 8291 over the aes128gcm content coding of RFC 8188."""

from __future__ import annotations

import base64
import os
import re

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

RECORD = 4096
LONGEST = 3993
"""Octets of plaintext that fit the one record of RFC 8291 §4."""
_BASE64URL = re.compile(r"[A-Za-z0-9_-]{1,200}={0,2}")


def octets(text: str) -> bytes:
    """URL-safe base64, with or without padding. Raises ValueError."""
    if not _BASE64URL.fullmatch(text):
        raise ValueError("not URL-safe base64")
    bare = text.rstrip("=")
    return base64.urlsafe_b64decode(bare + "=" * (-len(bare) % 4))


def text(data: bytes) -> str:
    """URL-safe base64 without padding (RFC 7515)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def check_keys(p256dh: str, auth: str) -> None:
    """RFC 8291 §2.1: an uncompressed point on P-256, and 16 octets. Raises ValueError for anything else."""
    _public_key(octets(p256dh))
    if len(octets(auth)) != 16:
        raise ValueError("auth must have 16 octets")


def _public_key(point: bytes) -> ec.EllipticCurvePublicKey:
    if len(point) != 65 or point[0] != 4:
        raise ValueError("p256dh must be an uncompressed point of 65 octets")
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)


def encrypt(
    plaintext: bytes,
    p256dh: str,
    auth: str,
    *,
    salt: bytes | None = None,
    private_key: ec.EllipticCurvePrivateKey | None = None,
) -> bytes:
    """The body of a push message, a single record. ``salt`` and ``private_key``: new ones, but in tests.

    Raises ValueError for keys that are none and for more than :data:`LONGEST` octets.
    """
    if len(plaintext) > LONGEST:
        raise ValueError("a push message is one record (RFC 8291 §4)")
    sender = private_key or ec.generate_private_key(ec.SECP256R1())
    receiver = octets(p256dh)
    own = sender.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    shared = sender.exchange(ec.ECDH(), _public_key(receiver))
    # RFC 8291 §3.4
    keying = _hkdf(octets(auth), shared, b"WebPush: info\0" + receiver + own, 32)
    return seal(plaintext, keying, salt or os.urandom(16), own)


def seal(plaintext: bytes, keying: bytes, salt: bytes, key_id: bytes) -> bytes:
    """RFC 8188 §2: header (salt, rs, idlen, keyid) and the last record; its delimiter is 2, without padding."""
    key = _hkdf(salt, keying, b"Content-Encoding: aes128gcm\0", 16)
    nonce = _hkdf(salt, keying, b"Content-Encoding: nonce\0", 12)
    header = salt + RECORD.to_bytes(4, "big") + bytes([len(key_id)]) + key_id
    return header + AESGCM(key).encrypt(nonce, plaintext + b"\x02", None)


def _hkdf(salt: bytes, keying: bytes, info: bytes, length: int) -> bytes:
    return HKDF(hashes.SHA256(), length, salt, info).derive(keying)
