"""Shapes of messages as they come in, made in code: ``SHAPES`` is name -> octets."""

from __future__ import annotations

import base64
from collections.abc import Iterable

TOP = b"From: Joe <joe@example.com>\r\nTo: jane@example.com\r\nSubject: shape\r\nMIME-Version: 1.0\r\n"


def part(fields: str | bytes, body: bytes = b"") -> bytes:
    """One entity; ``fields`` is its header, lines separated by LF."""
    head = fields.encode() if isinstance(fields, str) else fields
    return b"".join(line + b"\r\n" for line in head.split(b"\n") if line) + b"\r\n" + body


def multipart(kind: str, boundary: str, parts: Iterable[bytes], *, final: bool = True) -> bytes:
    """A multipart entity with its Content-Type."""
    mark = b"--" + boundary.encode()
    text = part(f'Content-Type: multipart/{kind}; boundary="{boundary}"')
    text += b"".join(mark + b"\r\n" + each + b"\r\n" for each in parts)
    return text + (mark + b"--\r\n" if final else b"")


def plain(text: bytes = b"text") -> bytes:
    return part("Content-Type: text/plain; charset=utf-8", text)


def html(text: bytes = b"<p>text</p>") -> bytes:
    return part("Content-Type: text/html; charset=utf-8", text)


def attached(name: str = "a.pdf", kind: str = "application/pdf") -> bytes:
    return part(
        f'Content-Type: {kind}\nContent-Disposition: attachment; filename="{name}"\nContent-Transfer-Encoding: base64',
        base64.encodebytes(bytes(range(256))).replace(b"\n", b"\r\n"),
    )


def text_in(charset: str, text: str, codec: str | None = None) -> bytes:
    """8-bit text in a charset, its subject in the same octets."""
    raw = text.encode(codec or charset)
    return b"Subject: " + raw + b"\r\n" + part(f"Content-Type: text/plain; charset={charset}", raw)


def nested(depth: int) -> bytes:
    text = plain()
    for level in range(depth):
        text = multipart("mixed", f"level-{level}-", [text])
    return TOP + text


def _attached_message() -> bytes:
    inner = TOP + multipart("mixed", "in", [plain(b"inside"), attached()])
    return TOP + multipart("mixed", "out", [plain(), part("Content-Type: message/rfc822", inner), attached()])


SHAPES: dict[str, bytes] = {
    "empty": b"",
    "only an empty line": b"\r\n",
    "only a line feed": b"\n",
    "no header": b"Hello there\r\nsecond line\r\n",
    "no body": TOP,
    "no empty line": TOP[:-2],
    "plain": TOP + plain(),
    "bare LF": (TOP + multipart("mixed", "b", [plain(), html()])).replace(b"\r\n", b"\n"),
    "bare CR": (TOP + multipart("mixed", "b", [plain(), html()])).replace(b"\r\n", b"\r"),
    "doubled CR": (TOP + multipart("mixed", "b", [plain(), html()])).replace(b"\r\n", b"\r\r\n"),
    "mbox line": b"From joe Mon Oct 13 14:12:00 2013\r\n" + TOP + plain(),
    "junk among the fields": b"From: a@b\r\nthis is no field\r\n\tgoes on\r\nSubject: here\r\n\r\nbody",
    "alternative": TOP + multipart("alternative", "b", [plain(), html()]),
    "missing final boundary": TOP + multipart("mixed", "b", [plain(), html()], final=False),
    "missing inner final boundary": TOP
    + multipart("mixed", "out", [multipart("alternative", "in", [plain(), html()], final=False), attached()]),
    "no boundary parameter": TOP + part("Content-Type: multipart/mixed", b"--b\r\n\r\nhello\r\n--b--\r\n"),
    "boundary never used": TOP + part("Content-Type: multipart/mixed; boundary=b", b"hello\r\n"),
    "multipart without parts": TOP + multipart("mixed", "b", []),
    "multipart of nothing": TOP + part("Content-Type: multipart/mixed; boundary=b"),
    "boundary is a prefix": TOP
    + multipart("mixed", "b", [multipart("alternative", "bb", [plain(), html()]), attached()]),
    "one boundary twice": TOP + multipart("mixed", "b", [multipart("alternative", "b", [plain(), html()]), attached()]),
    "boundary with spaces": TOP
    + b'Content-Type: multipart/mixed; boundary="a b"\r\n\r\n--a b  \r\n\r\none\r\n--a b\t\r\n\r\ntwo\r\n--a b-- \r\n',
    "header cut by a boundary": TOP
    + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n"
    + b"--b\r\n--b\r\n\r\nend\r\n--b--",
    "preamble and epilogue": TOP
    + part(
        "Content-Type: multipart/mixed; boundary=b",
        b"before\r\n--b\r\n" + plain() + b"\r\n--b--\r\nafter\r\n--b\r\n\r\nno",
    ),
    "attached message": _attached_message(),
    "attached message of the same boundary": TOP
    + multipart("mixed", "b", [part("Content-Type: message/rfc822", multipart("mixed", "b", [plain()])), attached()]),
    "digest": TOP + multipart("digest", "b", [part("", TOP + plain()), part("Content-Type: text/plain", b"x")]),
    "invitation": TOP
    + multipart("alternative", "b", [plain(), html(), part("Content-Type: text/calendar; method=REQUEST")]),
    "signed": TOP + multipart("signed", "b", [plain(), part('Content-Type: application/pgp-signature; name="s.asc"')]),
    "bounce": TOP
    + multipart(
        "report",
        "b",
        [plain(), part("Content-Type: message/delivery-status"), part("Content-Type: message/rfc822", TOP)],
    ),
    "uuencode": TOP
    + part(
        "Content-Type: text/plain\nContent-Transfer-Encoding: x-uuencode", b"begin 644 a.txt\r\n#:&D*\r\n`\r\nend\r\n"
    ),
    "broken base64": TOP
    + part("Content-Type: text/plain\nContent-Transfer-Encoding: base64", b"aGVsb G8=!\r\n--\r\nfooter"),
    "broken quoted-printable": TOP + part("Content-Transfer-Encoding: quoted-printable", b"a=ZZ=\r\nb=4"),
    "unknown encoding": TOP + part("Content-Type: text/plain\nContent-Transfer-Encoding: rot13", b"uryyb"),
    "unknown charset": TOP + part("Content-Type: text/plain; charset=x-martian", b"h\xe4llo"),
    "unreadable type": TOP + part("Content-Type: ;;; =\nContent-Disposition: =; =\nContent-Transfer-Encoding:", b"x"),
    "type repeated": TOP + part("Content-Type: text/html\nContent-Type: text/plain", b"x"),
    "iso-2022-jp": text_in("iso-2022-jp", "日本語のメール"),
    "gb2312": text_in("gb2312", "朱镕基", "gb18030"),
    "big5": text_in("big5", "繁體中文"),
    "euc-kr": text_in("euc-kr", "한국어"),
    "koi8-r": text_in("koi8-r", "привет"),
    "utf-7": text_in("utf-7", "grüße"),
    "windows text called latin": text_in("iso-8859-1", "“5 €”", "cp1252"),
    "utf-8 header": text_in("utf-8", "grüße"),
    "name in continuations": TOP
    + part("Content-Type: application/octet-stream; name*0*=iso-8859-1'de'Gr%FC;\n name*1=n; name*2*=%E4.txt", b"x"),
    "NULs": (TOP + plain(b"a\0b")).replace(b"shape", b"sh\0ape") + b"\0",
    "only NULs": b"\0" * 1_000,
    "two megabytes of fields": b"".join(b"X-Field-%d: %s\r\n" % (at, b"v" * 80) for at in range(20_000)) + b"\r\nbody",
    "a field of two megabytes": b"To: " + b"a@b, " * 400_000 + b"\r\n\r\nbody",
    "ten thousand parts": TOP + multipart("mixed", "b", [b"\r\nx"] * 10_500),
    "parts without empty lines": TOP
    + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    + b"--b\r\nX-A: b\r\n" * 30_000,
    "depth": nested(150),
    "messages in messages": b"Content-Type: message/rfc822\r\n\r\n" * 5_000,
    "all quotes": b'From: "' + b'\\"' * 50_000 + b"\r\n\r\n",
    "all comments": b"From: " + b"(" * 100_000 + b"\r\nDate: " + b"(" * 100_000 + b"\r\n\r\n",
    "all angles": b"To: " + b"<" * 100_000 + b"\r\nReferences: " + b"<a" * 100_000 + b"\r\n\r\n",
    "all words": b"Subject: " + b"=?utf-8?q?a?= " * 50_000 + b"=?" * 50_000 + b"\r\n\r\n",
}
