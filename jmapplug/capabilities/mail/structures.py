"""Messages opened for reading their parts, wherever their octets are: upstream, in a file, inside another message.

Words: an *origin* gives octets (still transfer-encoded); a :class:`Message` is an origin with its structure, and knows
names, sizes and decoded files of its parts.

Sizes (mail-rules 38) count octets after decoding and never change once answered. By transfer encoding: *identity* (also
an unknown one, RFC 8621 §4.1.4 blobId): the length in the structure is exact. *base64*: from its length and its two
ends (``sizes.py``), where the source gives slices. Everything else (quoted-printable, odd base64): the part is fetched
and decoded, once, into the file that serves its blob later. What was computed is stored with the Email, and stays.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from jmapplug.backends import MailSource
from jmapplug.capabilities.mail import fetch
from jmapplug.capabilities.mail.headers import Fields
from jmapplug.capabilities.mail.sizes import base64_size, windows
from jmapplug.capabilities.mail.store import emails
from jmapplug.capabilities.mail.store.emails import Content, Copy, Sizes
from jmapplug.mime import headers as mime
from jmapplug.mime.body import has_attachment, part_id
from jmapplug.mime.decode import Decoder, decode_bytes
from jmapplug.mime.structure import Part, parse
from jmapplug.store.pace import breathe

T = TypeVar("T")
Data = bytes | mmap.mmap
Slice = tuple[Part, int, int]
"""(part, offset in the still encoded part, count)."""

_IDENTITY = frozenset({"7bit", "8bit", "binary", ""})
_DECODABLE = frozenset({"base64", "quoted-printable", "x-uuencode", "uuencode", "x-uue", "uue"})
_CHUNK = 1 << 18
_READ_AT_ONCE = 1 << 20

WHOLE_IS_CHEAP = 256 * 1024
"""Octets of a message that is fetched whole where anything makes its structure doubtful."""
ESTIMATE = 16
"""One octet of so many may be wrong in a larger one: servers that count line ends otherwise, or estimate."""


class WrongStructure(fetch.Gone):
    """The server's structure names a part that the message has not got, or that is not like that."""


class Origin(Protocol):
    """Octets of one message. Every method may raise ``fetch.Gone`` and MethodError serverUnavailable."""

    def encoded(self, part: Part, target: Path) -> None:
        """Write the part's octets, still transfer-encoded."""

    def doubt(self) -> None:
        """A part does not look like what it is said to be. May raise WrongStructure."""

    def slices(self, wanted: Sequence[Slice]) -> list[bytes] | None:
        """Pieces of parts in one round trip; None where this origin has no cheap ones."""

    def header(self) -> bytes:
        """The message's header block."""

    def part_headers(self, parts: Sequence[Part]) -> dict[str, bytes]:
        """section → MIME header block, of parts other than the root."""


class FileOrigin:
    """A whole message in a file; its structure has our own offsets."""

    def __init__(self, path: Path) -> None:
        self.data = read_only(path)

    def encoded(self, part: Part, target: Path) -> None:
        with target.open("wb") as file:
            for at in range(part.body, part.end, _CHUNK):
                file.write(self.data[at : min(at + _CHUNK, part.end)])

    def doubt(self) -> None:
        """It is our own."""

    def slices(self, wanted: Sequence[Slice]) -> list[bytes]:
        return [self.data[part.body + at : min(part.body + at + count, part.end)] for part, at, count in wanted]

    def header(self) -> bytes:
        return bytes(self.data[: mime.header_end(self.data, 0, len(self.data))[0]])

    def part_headers(self, parts: Sequence[Part]) -> dict[str, bytes]:
        return {part.section: bytes(self.data[part.header : part.body]) for part in parts}


class UpstreamOrigin:
    """A message upstream whose structure the server gave: parts are fetched by section.

    What comes is held against the structure (wish 21): raises WrongStructure where it is something else.
    """

    def __init__(self, account: Any, content: Content, root: Part) -> None:
        self.account, self.eid, self.email_id = account, content.eid, content.id
        self._is_small = sum(part.size for part in root.walk() if not part.multipart) <= WHOLE_IS_CHEAP

    def encoded(self, part: Part, target: Path) -> None:
        section = part.section
        try:
            octets = fetch.from_copies(
                self.account, self.eid, lambda source, copy: source.part(copy.key, copy.uid, section, target)
            )
        except fetch.Gone:
            self._cut(part, section, target)
            return
        wrong = abs(octets - part.size)
        if wrong if self._is_small else wrong * ESTIMATE > part.size:
            raise WrongStructure(self.eid)

    def doubt(self) -> None:
        if self._is_small:
            raise WrongStructure(self.eid)

    def _cut(self, part: Part, section: str, target: Path) -> None:
        """A section that the server told of and cannot give (real ones do): cut out of the whole message."""
        whole = FileOrigin(fetch.raw_message(self.account, self.eid, self.email_id))
        for found in parse(whole.data).walk():
            if (found.section, found.type) == (section, part.type):
                whole.encoded(found, target)
                return
        raise WrongStructure(self.eid)

    def slices(self, wanted: Sequence[Slice]) -> list[bytes] | None:
        asked = [(part.section, at, count) for part, at, count in wanted]

        def read(source: MailSource, copy: Copy) -> list[bytes]:
            return source.slices(copy.key, copy.uid, asked)

        return fetch.from_copies(self.account, self.eid, read)

    def header(self) -> bytes:
        return fetch.header_block(self.account, self.eid, self.email_id)

    def part_headers(self, parts: Sequence[Part]) -> dict[str, bytes]:
        return fetch.part_header_blocks(self.account, self.eid, self.email_id, [part.section for part in parts])


class WholeOrigin:
    """A message upstream that our own parser has cut: all comes from the whole message, fetched at first need."""

    def __init__(self, account: Any, eid: int, email_id: str) -> None:
        self.account, self.eid, self.email_id = account, eid, email_id
        self._file: FileOrigin | None = None

    @property
    def file(self) -> FileOrigin:
        if self._file is None:
            self._file = FileOrigin(fetch.raw_message(self.account, self.eid, self.email_id))
        return self._file

    def encoded(self, part: Part, target: Path) -> None:
        self.file.encoded(part, target)

    def doubt(self) -> None:
        """It is our own."""

    def slices(self, wanted: Sequence[Slice]) -> list[bytes]:
        return self.file.slices(wanted)

    def header(self) -> bytes:
        return fetch.header_block(self.account, self.eid, self.email_id)

    def part_headers(self, parts: Sequence[Part]) -> dict[str, bytes]:
        return self.file.part_headers(parts)


class Message:
    """A message open for reading. ``base``: the blob id of its parts without their section.

    ``known`` are sizes told before; ``save`` stores new ones. :meth:`close` must be called when the answer is made.
    """

    def __init__(
        self, account: Any, origin: Origin, root: Part, base: str, known: Sizes, save: Callable[[Sizes], object] | None
    ) -> None:
        self.account, self.origin, self.root, self.base = account, origin, root, base
        self._known, self._save = dict(known), save
        self._fresh: Sizes = {}

    def blob_id(self, part: Part) -> str:
        """The blob id of a leaf."""
        return f"{self.base}-{part_id(part).replace('.', '_')}"

    def fields(self) -> Fields:
        """The message's header fields."""
        return mime.split(self.origin.header())

    def part_fields(self, parts: Sequence[Part]) -> dict[str, Fields]:
        """section → header fields of the part; the root's are the message's."""
        inner = [part for part in parts if part is not self.root]
        blocks = self.origin.part_headers(inner) if inner else {}
        found: dict[str, Fields] = {part.section: mime.split(blocks.get(part.section, b"")) for part in inner}
        if len(inner) < len(parts):
            found[self.root.section] = self.fields()
        return found

    def decoded(self, part: Part) -> Path:
        """The file with a leaf's octets after decoding."""

        def write(target: Path) -> None:
            if not is_encoded(part):
                self.origin.encoded(part, target)
                return
            encoded = self.account.store.blobs.temporary()
            try:
                self.origin.encoded(part, encoded)
                told = decode_file(encoded, target, part.encoding)
                if told[1]:
                    self.origin.doubt()
                self._fresh[part.section] = told
            finally:
                encoded.unlink(missing_ok=True)

        return fetch.cached(self.account, self.blob_id(part), write)

    def text(self, part: Part, octets: int) -> tuple[bytes, bool, bool]:
        """(at most about ``octets`` of a leaf after decoding, whether that is all, whether the encoding was broken)."""
        path = self.decoded(part)
        with path.open("rb") as file:
            content = file.read(max(octets, _READ_AT_ONCE))
            whole = not file.read(1)
        size_and_problem = self._fresh.get(part.section) or self._known.get(part.section)
        unknown = not is_encoded(part) and part.encoding.strip().lower() not in _IDENTITY
        return content, whole, unknown or (size_and_problem is not None and size_and_problem[1])

    def sizes(self, parts: Sequence[Part]) -> dict[str, int]:
        """section → octets after decoding. A multipart has no blob: 0."""
        leaves = [part for part in parts if not part.multipart and is_encoded(part)]
        missing = [part for part in leaves if part.section not in self._known and part.section not in self._fresh]
        self._measure([part for part in missing if not self._cached(part)])
        told = self._fresh | self._known
        return {part.section: told[part.section][0] if is_encoded(part) and not part.multipart else _plain(part)
                for part in parts}  # fmt: skip

    def _cached(self, part: Part) -> bool:
        path = self.account.store.blobs.find(self.blob_id(part))
        if path is None:
            return False
        self._fresh[part.section] = (path.stat().st_size, False)
        return True

    def _measure(self, parts: list[Part]) -> None:
        base64 = [part for part in parts if part.encoding.strip().lower() == "base64"]
        self._fresh |= self._from_slices(base64)
        for part in parts:
            if part.section not in self._fresh:
                path = self.decoded(part)
                self._fresh.setdefault(part.section, (path.stat().st_size, False))

    def _from_slices(self, parts: list[Part]) -> Sizes:
        wanted = [(part, at, count) for part in parts for _, at, count in windows(part.section, part.size)]
        pieces = self.origin.slices(wanted) if wanted else None
        if pieces is None:
            return {}
        found: Sizes = {}
        by_part: dict[str, list[bytes]] = {}
        for (part, _, count), piece in zip(wanted, pieces, strict=True):
            # A server whose octets are not those it told: only decoding counts them.
            by_part.setdefault(part.section, []).extend([piece] if len(piece) == count else [])
        for part in parts:
            size = _size_of(part.size, by_part.get(part.section, []))
            if size is not None:
                found[part.section] = size
        return found

    def close(self) -> None:
        """Store what was measured."""
        fresh = {section: told for section, told in self._fresh.items() if self._known.get(section) != told}
        if fresh and self._save is not None:
            self._save(fresh)
        self._fresh = {}


def is_encoded(part: Part) -> bool:
    """Whether decoding changes the part's octets."""
    return part.encoding.strip().lower() in _DECODABLE


def _plain(part: Part) -> int:
    return 0 if part.multipart else part.size


def _size_of(octets: int, pieces: list[bytes]) -> tuple[int, bool] | None:
    if len(pieces) != len(windows("", octets)):
        return None
    if len(pieces) == 1:
        content, problem = decode_bytes(pieces[0], "base64")
        return len(content), problem
    size = base64_size(octets, pieces[0], pieces[1])
    return None if size is None else (size, False)


def decode_file(encoded: Path, target: Path, encoding: str) -> tuple[int, bool]:
    """Undo a transfer encoding from file to file; (octets written, whether it was broken)."""
    decoder, octets = Decoder(encoding), 0
    with encoded.open("rb") as source, target.open("wb") as file:
        while chunk := source.read(_CHUNK):
            octets += file.write(decoder.feed(chunk))
            breathe()
        octets += file.write(decoder.flush())
    return octets, decoder.problem


def read_only(path: Path) -> Data:
    """A file's octets without reading them all into memory (a file that is removed meanwhile stays readable)."""
    with path.open("rb") as file:
        if path.stat().st_size < _CHUNK:
            return file.read()
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def open_email(account: Any, content: Content) -> Message:
    """The message of a visible Email. Where the server gave no structure our own parser's is stored with it."""
    email_id, eid, root = content.id, content.eid, content.structure
    if root is None:
        root = parse(read_only(fetch.raw_message(account, eid, email_id)))
        emails.save_structure(account.store, eid, root, has_attachment(root))
    ours = root.body >= 0
    origin: Origin = WholeOrigin(account, eid, email_id) if ours else UpstreamOrigin(account, content, root)
    return Message(
        account,
        origin,
        root,
        f"p-{email_id}",
        content.sizes,
        lambda fresh: emails.save_sizes(account.store, eid, fresh),
    )


def reading(account: Any, content: Content, work: Callable[[Message], T]) -> T:
    """``work`` on a visible Email; once more with our own structure where the server's turns out to be wrong.

    Raises ``fetch.Gone``, MethodError serverUnavailable.
    """
    try:
        return _read(account, content, work)
    except WrongStructure:
        return _read(account, _mended(account, content), work)


def _read(account: Any, content: Content, work: Callable[[Message], T]) -> T:
    message = open_email(account, content)
    try:
        return work(message)
    finally:
        message.close()


def _mended(account: Any, content: Content) -> Content:
    """Our own parser's structure instead of one that the server has told wrongly, for good (wish 21)."""
    root = parse(read_only(fetch.raw_message(account, content.eid, content.id)))
    for part in content.structure.walk() if content.structure is not None else ():
        account.store.blobs.forget(f"p-{content.id}-{part_id(part).replace('.', '_')}")
    emails.replace_structure(account.store, content.eid, root)
    mended = emails.content(account.store, content.id)
    if mended is None:  # destroyed while its message was fetched
        raise fetch.Gone(content.eid)
    return mended


def open_whole(account: Any, content: Content) -> Message:
    """The same message by our own parser, whatever structure is stored. Its parts are blobs inside ``m-…``."""
    origin = WholeOrigin(account, content.eid, content.id)
    return Message(account, origin, parse(origin.file.data), f"m-{content.id}", {}, None)


def open_file(account: Any, path: Path, base: str) -> Message | None:
    """The message in a file (an upload, an attached message); None where it is not one: no header field at all."""
    origin = FileOrigin(path)
    if not mime.split(origin.header()):
        return None
    return Message(account, origin, parse(origin.data), base, {}, None)
