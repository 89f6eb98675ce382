"""MIME header fields as they are written: Content-Type, Content-Disposition and their parameters (RFC 2045 §5.1,
RFC 2183, RFC 2231).

A value in ASCII stands in quotes, which every mail program reads. Any other is RFC 2231 alone: encoded words in quotes
are forbidden (RFC 2047 §5 (3)), and a second, plain form of the same parameter makes strict readers drop both.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from jmapplug.mime.write_headers import WIDTH, Unwritable, scrubbed

MAX_NAME = 2_000
"""Characters of a parameter; more is not read again."""
_QUOTED = 400
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`{|}~-]{1,127}")
_ATTRIBUTE = re.compile(r"[A-Za-z0-9!#$&+.^_`{|}~-]{1,60}")
_PLAIN = re.compile(r'[ !#-\[\]-~]*')  # fmt: skip
_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$&+-.^_`{|}~")


def is_token(value: str) -> bool:
    """RFC 2045 §5.1."""
    return _TOKEN.fullmatch(value) is not None


def field(name: str, value: str, parameters: Mapping[str, str]) -> bytes:
    """``Content-Type: text/plain; charset="utf-8"``. ``value`` must be made of tokens. Raises Unwritable."""
    pieces = [value]
    for attribute, content in parameters.items():
        if not _ATTRIBUTE.fullmatch(attribute):
            raise Unwritable("A parameter has an impossible name")
        pieces += _parameter(attribute, scrubbed(content).strip())
    lines, column = [f"{name}: {pieces[0]}"], len(name) + 2 + len(pieces[0])
    for piece in pieces[1:]:
        if column + len(piece) + 2 > WIDTH:
            lines.append(f";\r\n {piece}")
            column = 1 + len(piece)
        else:
            lines.append(f"; {piece}")
            column += 2 + len(piece)
    return ("".join(lines) + "\r\n").encode("ascii")


def _parameter(attribute: str, value: str) -> list[str]:
    if len(value) > MAX_NAME:
        raise Unwritable(f"{attribute} is longer than {MAX_NAME} characters")
    if attribute == "charset" and is_token(value):
        return [f"{attribute}={value}"]
    # Quoted pairs are what old readers get wrong, and "=?" is what they decode.
    if len(value) <= _QUOTED and "=?" not in value and _PLAIN.fullmatch(value):
        return [f'{attribute}="{value}"']
    units = ["".join(chr(octet) if octet in _SAFE else f"%{octet:02X}" for octet in char.encode()) for char in value]
    single = f"{attribute}*=utf-8''{''.join(units)}"
    return [single] if len(single) < WIDTH - 2 else _continued(attribute, units)


def _continued(attribute: str, units: list[str]) -> list[str]:
    """RFC 2231 §3; a character is never cut in two."""
    pieces, piece = [], f"{attribute}*0*=utf-8''"
    for unit in units:
        if len(piece) + len(unit) > WIDTH - 2:
            pieces.append(piece)
            piece = f"{attribute}*{len(pieces)}*="
        piece += unit
    return [*pieces, piece]
