"""Text of header fields: unfolding, comments, and encoded words (RFC 2047, with the language of RFC 2231 §5)."""

from __future__ import annotations

import binascii
import re
import unicodedata
from collections.abc import Iterable

from jmapplug.mime import charsets

# No structured value is read beyond this: 5,000 addresses fit, and the work stays bounded.
MAX_VALUE = 524_288

WORD = r"=\?([^?\s*]+)(?:\*[^?\s]*)?\?([bBqQ])\?([^?\s]*)\?="
# RFC 2047 §5 (1): set off by white space; §6.2: white space between two encoded words is not shown.
_STRICT = re.compile(rf"(?:(?<=[ \t])|^){WORD}(?=[ \t]|$)")
_LOOSE = re.compile(rf"{WORD}")
_ONLY_WORDS = re.compile(rf"\s*{WORD}(?:\s+{WORD})*\s*")
_CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)])
_HEX = re.compile(rb"=([0-9A-Fa-f]{2})")
_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/]")
_LINE_ENDS = {0x0D: None, 0x0A: None, 0: None}
_OUTER = re.compile(r'[^()<"\\]+|<[^<>]*>|"(?:[^"\\]++|\\.)*+"|\\.|.', re.DOTALL)


def text_of(raw: bytes) -> str:
    """The octets of a header value as text: UTF-8 (RFC 6532), else the latin that old mailers wrote."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return charsets.latin(raw)


def unfold(text: str) -> str:
    """RFC 5322 §2.2.3; a bare CR or LF and NUL go as well."""
    return text.translate(_LINE_ENDS) if "\n" in text or "\r" in text or "\0" in text else text


def nfc(text: str) -> str:
    """Normalization Form C."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def decode(text: str, *, loose: bool = False) -> str:
    """Unfolded text with its encoded words decoded.

    ``loose`` also takes words that stand inside other text (file names); else RFC 8621 §4.1.2.2 forbids it.
    A word in an unknown charset stays as it is; octets that a known charset does not have become U+FFFD.
    """
    if "=?" not in text:
        return text
    pieces: list[str] = []
    run: list[tuple[str, bytes]] = []
    at = 0
    for word in (_LOOSE if loose else _STRICT).finditer(text):
        octets = None if charsets.codec(word[1]) is None else _octets(word[2], word[3])
        if octets is None:
            continue
        between = text[at : word.start()]
        if not run or (not between.isspace() and (between or not loose)):
            pieces += _texts(run)
            run = []
            pieces.append(between)
        run.append((word[1].lower(), octets))
        at = word.end()
    pieces += _texts(run)
    pieces.append(text[at:])
    return "".join(pieces)


def only_words(text: str) -> bool:
    """Whether the text is nothing but encoded words."""
    return "=?" in text and _ONLY_WORDS.fullmatch(text) is not None


def _texts(run: Iterable[tuple[str, bytes]]) -> list[str]:
    """Neighbours of one charset are decoded together: mailers cut characters in two between words."""
    parts: list[tuple[str, list[bytes]]] = []
    for label, octets in run:
        if parts and parts[-1][0] == label:
            parts[-1][1].append(octets)
        else:
            parts.append((label, [octets]))
    return [_shown(charsets.decode(b"".join(octets), label)[0]) for label, octets in parts]


def _shown(text: str) -> str:
    return text if text.isprintable() else text.translate(_CONTROLS)


def _octets(encoding: str, text: str) -> bytes | None:
    raw = text.encode("utf-8", "replace")
    if encoding in "qQ":
        return _HEX.sub(lambda found: bytes((int(found[1], 16),)), raw.replace(b"_", b" "))
    digits = _NOT_BASE64.sub("", text)
    digits = digits[:-1] if len(digits) % 4 == 1 else digits
    try:
        return binascii.a2b_base64(digits + "=" * (-len(digits) % 4))
    except ValueError:
        return None


def decode_words(raw: bytes) -> str:
    """A description or a name as it stands in a message: unfolded, encoded words decoded wherever they are, NFC."""
    return nfc(decode(unfold(text_of(raw[:MAX_VALUE])), loose=True))


def uncomment(text: str) -> str:
    """Without comments (RFC 5322 §3.2.2), each replaced by a space; what stands in <> or quotes is left alone."""
    if "(" not in text:
        return text
    kept: list[str] = []
    depth = 0
    for found in _OUTER.finditer(text):
        piece = found[0]
        if depth and piece[0] in '<"' and len(piece) > 1:
            # Quotes and brackets mean nothing inside a comment.
            depth = max(0, depth + piece.count("(") - piece.count(")"))
        elif piece == "(":
            depth += 1
        elif piece == ")" and depth:
            depth -= 1
            kept.append(" ")
        elif not depth:
            kept.append(piece)
    return "".join(kept)
