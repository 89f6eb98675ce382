"""Writing a message: parts with the transfer encoding that suits them, boundaries, nesting (RFC 2045, RFC 2046).

Text is in memory (it came in a request); blobs are streamed from their files. Lines end in CRLF and have at most 998
octets, except inside attached messages, which are passed on as they are (RFC 2046 §5.2.1).
Words: a *leaf* is a part that is no multipart.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from jmapplug.mime.write_headers import MAX_LINE, Unwritable, whole
from jmapplug.mime.write_params import field as mime_field

_ROWS = 4_096
_CHUNK = 57 * _ROWS
_BARE_LINE_END = re.compile(rb"\r\n|\r|\n")
_FROM = re.compile(rb"^From ([^\r\n]*)", re.MULTILINE)
_TEXT = bytes(octet for octet in range(0x20, 0x7F)) + b"\t\r\n"
_QP_PLAIN = bytes(octet for octet in _TEXT if octet != 0x3D)


@dataclass(frozen=True, slots=True)
class Blob:
    """A file to stream from; ``open`` may be called several times."""

    size: int
    open: Callable[[], BinaryIO]


@dataclass(frozen=True, slots=True)
class Part:
    """What a part is to be. ``fields``: its further MIME fields, each written already, Content-Type left out.

    A multipart has ``parts``, anything else ``content``. A text's charset and its encoding are chosen here.
    """

    type: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    fields: tuple[bytes, ...] = ()
    content: str | Blob = ""
    parts: tuple[Part, ...] = ()

    @property
    def multipart(self) -> bool:
        return self.type.startswith("multipart/")


@dataclass(frozen=True, slots=True)
class _Ready:
    """A part with its decisions made. ``octets`` is a text encoded already; ``mended``: line ends need work."""

    part: Part
    encoding: str
    octets: bytes | None = None
    mended: bool = False
    children: tuple[_Ready, ...] = ()

    def leaves(self) -> Iterator[_Ready]:
        if self.part.multipart:
            for child in self.children:
                yield from child.leaves()
        else:
            yield self


def write(
    target: BinaryIO, header: Iterable[bytes], root: Part, *, token: Callable[[], str] = lambda: secrets.token_hex(16)
) -> int:
    """Write a message; octets written. ``header``: its fields, without Content-* ones.

    ``token`` gives the random part of the boundaries. Raises Unwritable, OSError of reading and writing.
    """
    ready = _plan(root)
    writer = _Writer(target, _token(ready, token))
    for one in header:
        writer.write(one)
    writer.entity(ready, root=True)
    return writer.written


def canonical(text: str) -> bytes:
    """Text as it travels: UTF-8 with CRLF line ends, without NUL."""
    # Passes in C: a third of the time of one substitution per line.
    lines = whole(text).replace("\0", "").replace("\r\n", "\n").replace("\r", "\n")
    return lines.replace("\n", "\r\n").encode()


# --- decisions ------------------------------------------------------------------------------------------------------


def _plan(part: Part) -> _Ready:
    if part.multipart:
        children = tuple(_plan(child) for child in part.parts)
        # RFC 2045 §6.4: a multipart says 8bit when one of its parts does, and is never encoded itself.
        eight = any(child.encoding == "8bit" for child in children)
        return _Ready(part, "8bit" if eight else "7bit", children=children)
    if isinstance(part.content, str):
        return _text(part, canonical(part.content))
    return _blob(part, part.content)


def _text(part: Part, octets: bytes) -> _Ready:
    if part.type.startswith("text/"):
        part = replace(part, parameters={**part.parameters, "charset": "utf-8"})
    if part.type.startswith("message/"):
        # RFC 2046 §5.2: no other encodings for these.
        if _longest(octets) > MAX_LINE:
            raise Unwritable(f"A line of a {part.type} part has more than {MAX_LINE} octets")
        return _Ready(part, "7bit" if octets.isascii() else "8bit", octets)
    encoding = _encoding(octets)
    return _Ready(part, encoding, _ENCODE[encoding](octets))


def _encoding(octets: bytes) -> str:
    """7bit where nothing on the way can harm it, else the shorter one."""
    specials = len(octets.translate(None, _QP_PLAIN))
    bad = len(octets.translate(None, _TEXT))
    mangled = octets.startswith(b"From ") or b"\nFrom " in octets
    if not bad and not mangled and _longest(octets) <= MAX_LINE:
        return "7bit"
    as_quoted, as_base64 = (len(octets) + 2 * specials) * 76 // 73, len(octets) * 78 // 57
    return "quoted-printable" if as_quoted <= as_base64 or not bad else "base64"


def _longest(octets: bytes) -> int:
    return max(map(len, octets.split(b"\r\n")))


def _quoted_printable(octets: bytes) -> bytes:
    # The line end tells the encoder which ones to write, and what white space ends a line.
    encoded = binascii.b2a_qp(octets + b"\r\n", istext=True)[:-2]
    return _FROM.sub(_guarded, encoded)


def _guarded(found: re.Match[bytes]) -> bytes:
    """Mailbox files put a ">" before "From " at the beginning of a line."""
    rest = found[1]
    return (b"=46rom " if len(rest) <= 69 else b"=46=\r\nrom ") + rest


_ENCODE: dict[str, Callable[[bytes], bytes]] = {
    "7bit": lambda octets: octets,
    "quoted-printable": _quoted_printable,
    "base64": lambda octets: rows(octets),
}


def _blob(part: Part, blob: Blob) -> _Ready:
    if part.type.startswith("message/"):
        found = _scan(blob)
        return _Ready(part, "8bit" if found.eight else "7bit", mended=found.bare)
    if part.type.startswith("text/") and "charset" not in part.parameters and _is_utf8(blob):
        part = replace(part, parameters={**part.parameters, "charset": "utf-8"})
    return _Ready(part, "base64")


@dataclass(frozen=True, slots=True)
class _Found:
    """``eight``: needs 8bit; ``bare``: has line ends other than CRLF, or NUL."""

    eight: bool
    bare: bool


def _scan(blob: Blob) -> _Found:
    eight = bare = False
    for chunk in _whole_lines(blob):
        pairs = chunk.count(b"\r\n")
        bare = bare or pairs != chunk.count(b"\n") or pairs != chunk.count(b"\r") or b"\0" in chunk
        # A line that is too long for 7bit is too long for 8bit as well; nothing better may be said of it.
        eight = eight or not chunk.isascii()
    return _Found(eight, bare)


def _is_utf8(blob: Blob) -> bool:
    """Whether a text is UTF-8 beyond ASCII (whose implicit charset is right)."""
    decoder, beyond = codecs.getincrementaldecoder("utf-8")(), False
    try:
        for chunk in _chunks(blob):
            beyond = beyond or not chunk.isascii()
            decoder.decode(chunk)
        decoder.decode(b"", True)
    except UnicodeDecodeError:
        return False
    return beyond


def _chunks(blob: Blob) -> Iterator[bytes]:
    with blob.open() as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _whole_lines(blob: Blob) -> Iterator[bytes]:
    """Chunks that never end between CR and LF."""
    held = b""
    for chunk in _chunks(blob):
        chunk = held + chunk
        held = b"\r" if chunk.endswith(b"\r") else b""
        yield chunk[: len(chunk) - len(held)]
    yield held


def _token(ready: _Ready, token: Callable[[], str]) -> bytes:
    """A token that is in no part which travels unencoded: base64 and quoted-printable have no "=_" in them."""
    plain = [leaf for leaf in ready.leaves() if leaf.encoding in ("7bit", "8bit")]
    while True:
        found = token().encode("ascii")
        if not any(_contains(leaf, found) for leaf in plain):
            return found


def _contains(leaf: _Ready, token: bytes) -> bool:
    if leaf.octets is not None:
        return token in leaf.octets
    assert isinstance(leaf.part.content, Blob)
    tail = b""
    for chunk in _chunks(leaf.part.content):
        if token in tail + chunk:
            return True
        tail = chunk[-len(token) :]
    return False


# --- writing --------------------------------------------------------------------------------------------------------


class _Writer:
    """Counts what it writes. ``token`` is in every boundary; no boundary is the beginning of another one."""

    def __init__(self, target: BinaryIO, token: bytes) -> None:
        self.target, self.token = target, token
        self.written = self.multiparts = 0

    def write(self, octets: bytes | bytearray) -> None:
        self.written += self.target.write(octets)

    def entity(self, ready: _Ready, *, root: bool = False) -> None:
        part, boundary = ready.part, b""
        parameters = dict(part.parameters)
        if part.multipart:
            self.multiparts += 1
            boundary = b"=_%d_%s" % (self.multiparts, self.token)
            parameters["boundary"] = boundary.decode("ascii")
        self.write(mime_field("Content-Type", part.type, parameters))
        if not part.multipart or ready.encoding != "7bit":
            self.write(b"Content-Transfer-Encoding: %s\r\n" % ready.encoding.encode("ascii"))
        for one in part.fields:
            self.write(one)
        self.write(b"\r\n")
        if part.multipart:
            self.multipart(ready, boundary)
        elif ready.octets is not None:
            self.write(ready.octets)
        else:
            self.blob(ready)
        if root and ready.encoding == "base64":
            self.write(b"\r\n")

    def multipart(self, ready: _Ready, boundary: bytes) -> None:
        for child in ready.children:
            self.write(b"--%s\r\n" % boundary)
            self.entity(child)
            # RFC 2046 §5.1.1: the line end before a delimiter belongs to it, not to the part.
            self.write(b"\r\n")
        self.write(b"--%s--\r\n" % boundary)

    def blob(self, ready: _Ready) -> None:
        blob = ready.part.content
        assert isinstance(blob, Blob)
        size = 0
        for chunk in _chunks(blob) if ready.encoding == "base64" or not ready.mended else _whole_lines(blob):
            if ready.encoding == "base64":
                self.write((b"\r\n" if size else b"") + rows(chunk))
            else:
                self.write(_mended(chunk) if ready.mended else chunk)
            size += len(chunk)
        if size != blob.size:
            raise OSError(f"a blob of {blob.size} octets gave {size}")


def _mended(chunk: bytes) -> bytes:
    return _BARE_LINE_END.sub(b"\r\n", chunk.translate(None, b"\0"))


def rows(octets: bytes) -> bytes:
    """Base64 in lines of 76, the last one without its line end."""
    return base64.encodebytes(octets).replace(b"\n", b"\r\n")[:-2]
