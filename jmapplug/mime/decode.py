"""From the octets of a part to its content: transfer encodings, charsets, and values cut to a limit.

Whatever is malformed is read as far as it goes, and flagged.
"""

from __future__ import annotations

import binascii
import re

import msgspec

from jmapplug.mime import charsets

_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_NOT_BASE64 = bytes(octet for octet in range(256) if octet not in _BASE64 and octet != 0x3D)
_TRAILING = re.compile(rb"(?<![ \t])[ \t]++(?=\r?\n|\Z)")
_BAD_QP = re.compile(rb"=(?![0-9A-Fa-f]{2}|\r?\n|\Z)")
_CARRY = 65_536

_IDENTITY = frozenset(("7bit", "8bit", "binary", ""))
_UUENCODE = frozenset(("x-uuencode", "uuencode", "x-uue", "uue"))


class Decoded(msgspec.Struct, frozen=True):
    """``problem`` and ``truncated`` are isEncodingProblem and isTruncated of RFC 8621 §4.1.4."""

    text: str
    problem: bool
    truncated: bool


class Decoder:
    """A transfer encoding undone piece by piece: ``feed`` what comes, then ``flush`` once.

    ``problem`` is True as soon as something was malformed, or when nobody knows the encoding (then octets pass as they
    are: RFC 8621 §4.1.4 blobId). Holds back at most 64 KB, and white space that may end a line.
    """

    def __init__(self, encoding: str) -> None:
        name = encoding.strip().lower()
        self.problem = False
        self._carry = b""
        self._over = False
        self._begun = False
        if name == "base64":
            self._step = self._base64
        elif name == "quoted-printable":
            self._step = self._quoted
        elif name in _UUENCODE:
            self._step = self._uu
        else:
            self._step = self._same
            self.problem = name not in _IDENTITY

    def feed(self, octets: bytes) -> bytes:
        """What can be decoded by now."""
        return self._step(octets, False)

    def flush(self) -> bytes:
        """What was held back."""
        return self._step(b"", True)

    def _same(self, octets: bytes, last: bool) -> bytes:
        return octets

    def _base64(self, octets: bytes, last: bool) -> bytes:
        if self._over:
            # Behind the padding: mailing lists put their footers there.
            self.problem = self.problem or bool(octets.strip(b" \t\r\n="))
            return b""
        digits = octets.translate(None, _NOT_BASE64)
        if not self.problem and len(digits) != len(octets) - sum(map(octets.count, (b"\n", b"\r", b" ", b"\t"))):
            self.problem = True
        data = self._carry + digits
        pad = data.find(b"=")
        if pad >= 0:
            self._over = True
            rest = data[pad:]
            data = data[:pad]
            self.problem = self.problem or bool(rest.strip(b"="))
        elif not last:
            keep = len(data) % 4
            self._carry = data[len(data) - keep :]
            data = data[: len(data) - keep]
        else:
            self._carry = b""
        over = len(data) % 4
        if over:
            # No padding, or one digit too many.
            self.problem = self.problem or pad < 0 or over == 1
            data = data[:-1] if over == 1 else data + b"=" * (4 - over)
        return binascii.a2b_base64(data)

    def _quoted(self, octets: bytes, last: bool) -> bytes:
        data = self._carry + octets
        self._carry = b""
        if not last:
            cut = data.rfind(b"\n") + 1
            if len(data) - cut > _CARRY:
                cut = _safe_cut(data)
            self._carry = data[cut:]
            data = data[:cut]
        if b" \n" in data or b" \r\n" in data or b"\t\n" in data or b"\t\r\n" in data or data[-1:] in (b" ", b"\t"):
            data = _TRAILING.sub(b"", data)
        if not self.problem and _BAD_QP.search(data):
            self.problem = True
        return binascii.a2b_qp(data)

    def _uu(self, octets: bytes, last: bool) -> bytes:
        data = self._carry + octets
        self._carry = b""
        if not last:
            cut = data.rfind(b"\n") + 1
            cut = cut if len(data) - cut <= _CARRY else len(data)
            self._carry = data[cut:]
            data = data[:cut]
        else:
            self.problem = self.problem or not self._over
        return b"".join(self._uu_line(line) for line in data.splitlines())

    def _uu_line(self, line: bytes) -> bytes:
        if self._over:
            return b""
        if not self._begun:
            self._begun = line.startswith(b"begin ")
            return b""
        if line.strip() in (b"end", b"`", b""):
            self._over = line.strip() == b"end"
            return b""
        try:
            return binascii.a2b_uu(line)
        except binascii.Error:
            pass
        try:
            # Lines padded beyond their length, or without the spaces that some host stripped.
            count = (((line[0] - 32) & 63) * 4 + 5) // 3
            return binascii.a2b_uu(line[:count])
        except binascii.Error:
            self.problem = True
            return b""


def _safe_cut(data: bytes) -> int:
    """Where a quoted-printable line without end may be cut: not in an escape, nor in white space that may end it."""
    end = len(data.rstrip(b" \t\r"))
    escape = data.find(b"=", max(0, end - 2), end)
    return escape if escape >= 0 else end


def decode_bytes(raw: bytes, encoding: str) -> tuple[bytes, bool]:
    """(content, whether something was malformed or the encoding unknown)."""
    decoder = Decoder(encoding)
    content = decoder.feed(raw) + decoder.flush()
    return content, decoder.problem


def decode_text(
    raw: bytes, encoding: str, charset: str | None, *, limit: int | None = None, html: bool = False
) -> Decoded:
    """The value of a text part (RFC 8621 §4.1.4 EmailBodyValue): LF line ends, no NUL.

    ``limit`` is in octets of UTF-8, 0 and None mean none; never cuts inside a character nor, with ``html``, inside a
    tag (§4.2). No more is decoded than the limit needs.
    """
    if not limit or limit < 0:
        content, bad = decode_bytes(raw, encoding)
        text, problem = _text(content, charset, True)
        return Decoded(text, bad or problem, False)
    decoder, content, at, step = Decoder(encoding), b"", 0, 4 * limit + 4_096
    while True:
        content += decoder.feed(raw[at : at + step])
        at += step
        last = at >= len(raw)
        content += decoder.flush() if last else b""
        text, problem = _text(content, charset, last)
        if last or len(text.encode("utf-8", "replace")) > limit:
            return _cut(text, limit, html, decoder.problem or problem, last)
        step = at


def _text(content: bytes, charset: str | None, final: bool) -> tuple[str, bool]:
    text, problem = charsets.decode(content, charset, final=final)
    if "\r" in text:
        text = text.replace("\r\n", "\n")
    if "\0" in text:
        return text.replace("\0", ""), True
    return text, problem


_TAG = re.compile(r"""<(?:[^"'<>]++|"[^"]*"|'[^']*')*+>""")


def _cut(text: str, limit: int, html: bool, problem: bool, whole: bool) -> Decoded:
    octets = text[: limit + 1].encode("utf-8", "replace")
    if len(octets) <= limit and len(text) <= limit:
        return Decoded(text, problem, not whole)
    text = octets[:limit].decode("utf-8", "ignore")
    return Decoded(_outside_tags(text) if html else text, problem, True)


def _outside_tags(text: str) -> str:
    """Cut back to before a tag that is not complete. "<" may stand in the value of an attribute, so it looks again."""
    for _ in range(20):
        at = text.rfind("<")
        if at < 0 or text[at + 1 : at + 2] in (" ", "\n", "=") or _TAG.match(text, at):
            break
        text = text[:at]
    return text
