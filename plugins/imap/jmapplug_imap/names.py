"""Mailbox names between the wire, the key and the eye.

A *key* is the raw name in modified UTF-7 (RFC 9051 §A.1, RFC 3501 §5.1.3). After ENABLE UTF8=ACCEPT (RFC 6855) the wire
speaks UTF-8 instead; the key stays what it was, so that a server's upgrade renames no folder.
"""

from __future__ import annotations

from jmapplug_imap.protocol import utf7
from jmapplug_imap.protocol.connection import Connection

_UTF8 = frozenset({"UTF8=ACCEPT", "IMAP4REV2"})


def speaks_utf8(connection: Connection) -> bool:
    """Whether names on this connection are UTF-8."""
    return not _UTF8.isdisjoint(connection.enabled)


def to_key(connection: Connection, name: bytes) -> bytes:
    """The key of a name as it stands on the wire."""
    if (name.isascii() and b"&" not in name) or not speaks_utf8(connection):
        return name
    try:
        return utf7.encode(name.decode())
    except UnicodeDecodeError:
        return name


def to_wire(connection: Connection, key: bytes) -> bytes:
    """The name to send for a key."""
    return utf7.decode(key).encode() if b"&" in key and speaks_utf8(connection) else key


def level_text(level: bytes) -> str:
    """One level of a key as text; what is not modified UTF-7 is taken as UTF-8, then octet by octet."""
    if not level.isascii():
        try:
            return level.decode()
        except UnicodeDecodeError:
            return level.decode("latin-1")
    return utf7.decode(level)
