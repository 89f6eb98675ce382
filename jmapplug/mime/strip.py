"""A copy of a message without some of its header fields (Bcc, on the way to SMTP: RFC 5322 §3.6.3)."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path
from typing import BinaryIO

_CHUNK = 1 << 18
# Field names are short; of a line nothing more is looked at, however long it is.
_LINE = 1 << 16


def strip_fields(source: Path, target: BinaryIO, names: Set[str]) -> int:
    """Write the message in ``source`` to ``target`` without the fields of these names; octets written.

    ``names`` match without regard to case. Only the header block is looked at, a folded field goes whole, and every
    other octet stays as it is. At most 256 KB are in memory. Raises what reading and writing raise.
    """
    unwanted = {name.lower().encode("ascii") for name in names}
    written = 0
    with source.open("rb") as file:
        dropping, begins = False, True
        while line := file.readline(_LINE):
            if begins:
                if line in (b"\r\n", b"\n"):
                    written += target.write(line)
                    break
                if line[:1] not in b" \t":
                    dropping = _name(line) in unwanted
            # A line longer than one read goes on with the next.
            begins = line.endswith(b"\n")
            if not dropping:
                written += target.write(line)
        while chunk := file.read(_CHUNK):
            written += target.write(chunk)
    return written


def _name(line: bytes) -> bytes:
    """The field name in lower case; white space before the colon is that of RFC 5322 §4.5."""
    name, colon, _ = line.partition(b":")
    return name.rstrip(b" \t").lower() if colon else b""
