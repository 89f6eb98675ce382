"""Parameters of MIME header fields: RFC 2045 §5.1, RFC 2183, with the names and charsets of RFC 2231 and RFC 2047."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote_to_bytes

from jmapplug.mime import charsets
from jmapplug.mime.words import decode, nfc, text_of, uncomment, unfold

_MAX_VALUE, _MAX_PARAMETERS, _MAX_NAME = 65_536, 1_000, 2_000

_PARAMETER = re.compile(
    rb';\s*([^\s=;"]+)\s*=\s*(?:"((?:[^"\\]++|\\.)*+)"?|([^;"]*+))|"(?:[^"\\]++|\\.)*+"?|[^;"]++|;', re.DOTALL
)
_TYPE = re.compile(r"\s*([!#$&+\-.^_0-9a-z]+)\s*/\s*([!#$&+\-.^_0-9a-z*]+)")
_TOKEN = re.compile(r'\s*"?([^\s;,"]+)')
_PAIR = re.compile(rb'\\(["\\])')
_CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)])


def content_type(value: bytes) -> tuple[str, dict[str, str]]:
    """("text/plain", decoded parameters) of a Content-Type value; what cannot be read is text/plain (RFC 2045 §5.2)."""
    value = _bare(value)
    head, _, _ = value.partition(b";")
    found = _TYPE.match(uncomment(text_of(head)).lower())
    if found:
        name = f"{found[1]}/{found[2]}"
    else:
        name = "multipart/mixed" if head.strip().lower() == b"multipart" else "text/plain"
    return name, _parameters(value)


def disposition(value: bytes) -> tuple[str | None, dict[str, str]]:
    """("attachment", decoded parameters) of a Content-Disposition value; None where it names none."""
    value = _bare(value)
    head, _, _ = value.partition(b";")
    found = None if b"=" in head else _TOKEN.match(uncomment(text_of(head)))
    return found[1].lower() if found else None, _parameters(value if found else b";" + value)


def filename(type_parameters: dict[str, str], disposition_parameters: dict[str, str]) -> str | None:
    """RFC 8621 §4.1.4 ``name``: the disposition's filename, else the type's name."""
    return disposition_parameters.get("filename") or type_parameters.get("name") or None


def token(value: bytes) -> str:
    """The first word of a value, lower case, without comments: a Content-Transfer-Encoding. May be ""."""
    found = _TOKEN.match(uncomment(text_of(_bare(value))))
    return found[1].lower() if found else ""


def decode_parameter_list(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Parameters as written, made readable: names lower case, continuations joined, charsets and words decoded.

    Where a parameter comes in several ways RFC 2231 wins over the plain one, and the first over its repetition.
    """
    plain: dict[str, str] = {}
    pieces: dict[str, dict[int, tuple[bool, bytes]]] = {}
    for count, (raw_name, value) in enumerate(pairs):
        if count >= _MAX_PARAMETERS:
            break
        name = text_of(raw_name).strip().lower()
        base, star, section = name.partition("*")
        if not star:
            plain.setdefault(name, _plain(value))
            continue
        number, encoded = section.removesuffix("*"), section.endswith("*") or not section
        # "name*" alone stands before any "name*0".
        at = -1 if not number else int(number) if number.isascii() and number.isdigit() and len(number) < 6 else None
        if at is None:
            plain.setdefault(name, _plain(value))
        else:
            pieces.setdefault(base, {}).setdefault(at, (encoded, value))
    for base, numbered in pieces.items():
        if (text := _joined(numbered)) is not None:
            plain[base] = text
    return plain


def _joined(numbered: dict[int, tuple[bool, bytes]]) -> str | None:
    """RFC 2231 §3-4.1: sections from 0 on up to the first that is missing; the charset stands in the first."""
    order = [-1] if -1 in numbered else range(len(numbered))
    sections = []
    for at in order:
        if at not in numbered:
            break
        sections.append(numbered[at])
    if not sections:
        return None
    label, octets = None, []
    for at, (encoded, value) in enumerate(sections):
        if encoded and at == 0 and value.count(b"'") >= 2:
            charset, _, value = value.split(b"'", 2)
            label = text_of(charset) or None
        octets.append(unquote_to_bytes(value) if encoded else value)
    raw = b"".join(octets)
    if label is None or charsets.codec(label) is None:
        # Some mailers cut a name in encoded words into sections.
        return _clean(decode(unfold(text_of(raw)), loose=True))
    return _clean(charsets.decode(raw, label)[0])


def _plain(value: bytes) -> str:
    return _clean(decode(unfold(text_of(value)), loose=True))


def _clean(text: str) -> str:
    if not text.isprintable():
        text = text.translate(_CONTROLS)
    return nfc(text).strip()[:_MAX_NAME]


def _bare(value: bytes) -> bytes:
    """Unfolded."""
    value = value[:_MAX_VALUE]
    if b"\n" in value or b"\r" in value:
        value = value.replace(b"\r", b"").replace(b"\n", b"")
    return value


def _parameters(value: bytes) -> dict[str, str]:
    if b";" not in value:
        return {}
    pairs: list[tuple[bytes, bytes]] = []
    for found in _PARAMETER.finditer(value):
        name, quoted, bare = found.groups()
        if name is not None and len(pairs) < _MAX_PARAMETERS:
            pairs.append((name, _PAIR.sub(rb"\1", quoted) if quoted is not None else _unquoted(name, bare)))
    return decode_parameter_list(pairs)


def _unquoted(name: bytes, value: bytes) -> bytes:
    """A value without quotes: "charset=us-ascii (Plain text)" has a comment, "filename=report (1).pdf" a file name."""
    if b"(" not in value or b"name" in name.lower():
        return value.strip()
    return uncomment(value.decode("latin-1")).encode("latin-1").strip()
