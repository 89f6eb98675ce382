"""SMTP commands and EHLO's answer as values (RFC 5321, 1870, 6152, 6531, 3461, 4865, 2852, 6710). No sockets here."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import msgspec

from jmapplug.backends import EnvelopeAddress, SubmissionFeatures
from jmapplug.errors import UpstreamError
from jmapplug_imap.smtp_reply import Reply

CHUNK = 64 * 1024
_VALUE = re.compile(r"[!-<>-~]+")
_UNPRINTABLE = re.compile(r"[^!-~]|[+=]")
_UNSAFE = re.compile(r"[\x00-\x1f\x7f<>\ud800-\udfff]")
_LINE_END = re.compile(rb"\r\n|\r|\n")


class Unsendable(Exception):
    """An address that this server cannot be given; the text is an SMTP reply of our own."""


class Shape(msgspec.Struct, frozen=True):
    """What the envelope must say of a message: octets, 8-bit content, and UTF-8 in its header."""

    size: int
    eight_bit: bool
    utf8_header: bool


def shape_of(message: Path) -> Shape:
    """Read through the file once. Raises OSError."""
    size, eight_bit, utf8 = 0, False, False
    header, tail = True, b"\n"
    with message.open("rb") as file:
        while chunk := file.read(CHUNK):
            size += len(chunk)
            plain = chunk.isascii()
            eight_bit = eight_bit or not plain
            if header:
                seen = tail + chunk
                ends = [at for mark in (b"\n\r\n", b"\n\n") if (at := seen.find(mark)) >= 0]
                header = not ends
                utf8 = utf8 or not (seen[: min(ends)] if ends else seen).isascii()
                tail = chunk[-2:]
    return Shape(size, eight_bit, utf8)


# --- EHLO ----------------------------------------------------------------------------------------------------------


def features_of(reply: Reply) -> SubmissionFeatures:
    """What the lines behind EHLO's first one offer (RFC 5321 §4.1.1.1)."""
    offered: dict[str, tuple[str, ...]] = {}
    for line in reply.lines[1:]:
        words = line.split()
        # "AUTH=LOGIN PLAIN" is how servers wrote it before RFC 2554.
        if words and words[0].upper().startswith("AUTH="):
            words = ["AUTH", *words[0][5:].split(), *words[1:]]
        if words:
            offered.setdefault(words[0].upper()[:64], tuple(words[1:20]))
    return SubmissionFeatures(
        size=_number(offered.get("SIZE")),
        eight_bit="8BITMIME" in offered,
        smtputf8="SMTPUTF8" in offered,
        dsn="DSN" in offered,
        future_release=_number(offered.get("FUTURERELEASE")),
        deliver_by="DELIVERBY" in offered,
        mt_priority="MT-PRIORITY" in offered,
        extensions=offered,
    )


def _number(arguments: tuple[str, ...] | None) -> int:
    first = arguments[0] if arguments else ""
    return int(first) if first.isascii() and first.isdigit() and len(first) < 16 else 0


# --- addresses and parameters --------------------------------------------------------------------------------------


def address(email: str, features: SubmissionFeatures) -> str:
    """An address as this server takes it: a domain alone goes as A-labels where SMTPUTF8 is not offered.

    Raises Unsendable.
    """
    if _UNSAFE.search(email):
        raise Unsendable("553 5.1.3 This is not an e-mail address")
    if email.isascii() or features.smtputf8:
        return email
    local, _, domain = email.rpartition("@")
    try:
        domain = domain.encode("idna").decode("ascii")
    except UnicodeError:
        raise Unsendable("553 5.1.3 This is not an e-mail address") from None
    if not local.isascii():
        raise Unsendable("550 5.6.7 The mail server takes no addresses with letters beyond ASCII")
    return f"{local}@{domain}"


def xtext(value: str) -> str:
    """RFC 3461 §4."""
    return "".join(
        "".join(f"+{octet:02X}" for octet in char.encode("utf-8")) if _UNPRINTABLE.match(char) else char
        for char in value
    )


def _plain(value: str) -> str:
    if not _VALUE.fullmatch(value):
        raise UpstreamError("a parameter's value that SMTP cannot carry", code="parameter", temporary=False)
    return value


def _typed(value: str) -> str:
    # RFC 3461 §4.2: ORCPT is an address type, ";", and the address as xtext.
    kind, mark, rest = value.partition(";")
    return _plain(kind) + mark + xtext(rest)


class _Parameter(msgspec.Struct, frozen=True):
    """``optional``: the message may go without it where the server has not got the extension."""

    extension: str
    encode: Callable[[str], str] = _plain
    optional: bool = False


MAIL_PARAMETERS = {
    "RET": _Parameter("DSN", optional=True),
    "ENVID": _Parameter("DSN", xtext, optional=True),
    "HOLDFOR": _Parameter("FUTURERELEASE"),
    "HOLDUNTIL": _Parameter("FUTURERELEASE"),
    "BY": _Parameter("DELIVERBY"),
    "MT-PRIORITY": _Parameter("MT-PRIORITY"),
    "REQUIRETLS": _Parameter("REQUIRETLS"),
}
RCPT_PARAMETERS = {"NOTIFY": _Parameter("DSN", optional=True), "ORCPT": _Parameter("DSN", _typed, optional=True)}


def _parameters(given: dict[str, str | None], table: dict[str, _Parameter], features: SubmissionFeatures) -> list[str]:
    words = []
    for name, value in given.items():
        one = table.get(name.upper())
        if one is None or (one.extension not in features.extensions and not one.optional):
            raise UpstreamError(f"the server does not take {name[:50]!r}", code="parameter", temporary=False)
        if one.extension in features.extensions:
            words.append(name.upper() if value is None else f"{name.upper()}={one.encode(value)}")
    return words


def mail_line(sender: EnvelopeAddress, features: SubmissionFeatures, shape: Shape, utf8: bool) -> bytes:
    """MAIL FROM. ``utf8``: SMTPUTF8 is needed. Raises Unsendable, UpstreamError(code="parameter")."""
    words = [f"MAIL FROM:<{address(sender.email, features)}>"]
    if "SIZE" in features.extensions:
        words.append(f"SIZE={shape.size}")
    if features.eight_bit and (shape.eight_bit or utf8):
        words.append("BODY=8BITMIME")
    if utf8:
        words.append("SMTPUTF8")
    words += _parameters(sender.parameters, MAIL_PARAMETERS, features)
    return (" ".join(words) + "\r\n").encode()


def rcpt_line(recipient: EnvelopeAddress, features: SubmissionFeatures) -> bytes:
    """RCPT TO. Raises Unsendable, UpstreamError(code="parameter")."""
    words = [f"RCPT TO:<{address(recipient.email, features)}>"]
    words += _parameters(recipient.parameters, RCPT_PARAMETERS, features)
    return (" ".join(words) + "\r\n").encode()


# --- the message ---------------------------------------------------------------------------------------------------


class Stuffing:
    """The message on the wire (RFC 5321 §4.5.2): dots doubled, every line end CRLF, cut anywhere.

    A lone CR or LF becomes CRLF: some servers end the message at "<LF>.<LF>", and what follows would be commands.
    """

    def __init__(self) -> None:
        self._carry = b""
        self._line_start = True

    def wire(self, chunk: bytes) -> bytes:
        data = self._carry + chunk
        self._carry = b"\r" if data.endswith(b"\r") else b""
        return self._stuffed(data[: len(data) - len(self._carry)])

    def end(self) -> bytes:
        """What is left; the end-of-data line itself is ``b".\\r\\n"``."""
        rest = self._stuffed(b"\r\n") if self._carry else b""
        self._carry = b""
        return rest if self._line_start else rest + b"\r\n"

    def _stuffed(self, data: bytes) -> bytes:
        if not data:
            return b""
        data = _LINE_END.sub(b"\r\n", data)
        if self._line_start and data.startswith(b"."):
            data = b"." + data
        self._line_start = data.endswith(b"\r\n")
        return data.replace(b"\r\n.", b"\r\n..")
