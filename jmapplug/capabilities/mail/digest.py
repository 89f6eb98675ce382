"""What tells whether two messages with equal headers are one and the same (mail-rules 2)."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

_RECEIVED = re.compile(rb"^received[ \t]*:[^\n]*(?:\n[ \t][^\n]*)*", re.IGNORECASE | re.MULTILINE)


def digest_of(path: Path) -> bytes:
    """A hash of a message's Received lines and its body."""
    with path.open("rb") as file:
        head = file.read(1 << 20)
        at = head.find(b"\r\n\r\n")
        header, rest = (head, b"") if at < 0 else (head[:at], head[at:])
        digest = hashlib.sha256(b"\n".join(_RECEIVED.findall(header)))
        digest.update(rest)
        while block := file.read(1 << 18):
            digest.update(block)
    return digest.digest()
