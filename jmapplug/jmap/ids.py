"""Ids (RFC 8620 §1.2): how they look, and how ours are made from what a record *is*."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from typing import Any

ID_MAX = 255
_ID = re.compile(r"[A-Za-z0-9_-]{1,255}", re.ASCII)
_BODY_CHARS = 26
_HASH_BYTES = 17
"""26 base32 characters hold 130 bits: 16.25 octets."""


def is_id(value: Any) -> bool:
    """True for an Id: 1-255 characters of the URL-safe base64 alphabet, RFC 8620 §1.2."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def mint(kind_letter: str, *identity: bytes | str) -> str:
    """The id of a record: ``kind_letter`` and 26 base32 lower-case characters of a SHA-256 over its identity.

    Each part is hashed behind its length and its kind (text or octets), so ``("ab", "c")`` and ``("a", "bc")`` differ.
    The first character is a letter and the rest never mixes case: RFC 8620 §1.2's advice for ids.
    """
    digest = hashlib.sha256()
    for part in identity:
        octets = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(b"%c%d:" % (b"s" if isinstance(part, str) else b"b", len(octets)))
        digest.update(octets)
    return kind_letter + _base32(digest.digest()[:_HASH_BYTES])


def random_id(kind_letter: str) -> str:
    """An id for a record that has no identity of its own: same shape as `mint`, 130 random bits."""
    return kind_letter + _base32(secrets.token_bytes(_HASH_BYTES))


def _base32(octets: bytes) -> str:
    return base64.b32encode(octets)[:_BODY_CHARS].decode("ascii").lower()
