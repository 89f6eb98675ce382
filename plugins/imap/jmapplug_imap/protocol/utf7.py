"""Mailbox names: modified UTF-7 (RFC 3501 §5.1.3) both ways, and UTF-8 where a server speaks it (RFC 6855)."""

from __future__ import annotations

import binascii
import re

_SHIFTED = re.compile(rb"&([A-Za-z0-9+,]*)-")
_OUTSIDE = re.compile(r"[^\x20-\x7e]+")


def decode(key: bytes) -> str:
    """A raw mailbox name as text. What is no modified UTF-7 stays as it stands; 8-bit names are UTF-8, else latin-1."""
    if any(octet > 127 for octet in key):
        try:
            return key.decode("utf-8")
        except UnicodeDecodeError:
            return key.decode("latin-1")
    return _SHIFTED.sub(_unshift, key).decode("utf-8", "replace")


def _unshift(found: re.Match[bytes]) -> bytes:
    if not found[1]:
        return b"&"
    try:
        octets = binascii.a2b_base64(found[1].replace(b",", b"/") + b"=" * (-len(found[1]) % 4))
        return octets.decode("utf-16-be").encode("utf-8")
    except (ValueError, UnicodeError):
        return found[0]


def encode(name: str) -> bytes:
    """Text as a raw mailbox name in modified UTF-7. Lone surrogates are replaced."""
    escaped = name.replace("&", "&-")
    return _OUTSIDE.sub(_shift, escaped).encode("ascii")


def _shift(found: re.Match[str]) -> str:
    octets = found[0].encode("utf-16-be", "surrogatepass").decode("utf-16-be", "replace").encode("utf-16-be")
    return "&" + binascii.b2a_base64(octets, newline=False).decode().rstrip("=").replace("/", ",") + "-"
