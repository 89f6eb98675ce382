"""A real IMAP server keeps what we write octet for octet, and finds the same parts, names and contents in it."""

from __future__ import annotations

import imaplib
import io
import re

import pytest

from jmapplug.mime import write_headers
from jmapplug.mime.decode import decode_bytes
from jmapplug.mime.structure import parse
from jmapplug.mime.write import Blob, Part, write
from jmapplug.mime.write_params import field
from jmapplug.testing.dovecot import Dovecot

OCTETS = bytes(range(256)) * 30
INNER = "Subject: inner ü\r\n\r\n".encode() + b"x" * 1_200 + b"\r\n"


def blob(octets: bytes) -> Blob:
    return Blob(len(octets), lambda: io.BytesIO(octets))


def attached(name: str, type_: str = "application/pdf", octets: bytes = OCTETS) -> Part:
    disposition = field("Content-Disposition", "attachment", {"filename": name})
    return Part(type_, {"name": name}, (disposition,), blob(octets))


def multipart(kind: str, *parts: Part) -> Part:
    return Part(f"multipart/{kind}", parts=parts)


def text(value: str, type_: str = "text/plain") -> Part:
    return Part(type_, content=value)


SHAPES = {
    "empty": text(""),
    "plain": text("plain\ntext without an end"),
    "quoted": text("wörds and From\nFrom here\n" + "x" * 3_000 + " \n.\n"),
    "base64": text("日本語\n" * 100),
    "alternative": multipart("alternative", text("a"), text("<p>ü</p>", "text/html")),
    "names": multipart(
        "mixed", text("a"), *(attached(name) for name in ("a (1).pdf", 'q"o\\te.pdf', "日本語" * 20, "=?utf-8?q?x?="))
    ),
    "messages": multipart("mixed", text("a"), multipart("digest", attached("f.eml", "message/rfc822", INNER))),
    "deep": multipart(
        "mixed", multipart("related", multipart("alternative", text("--=_1_"), text("b")), attached("c"))
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_dovecot_reads_what_was_written(dovecot: Dovecot, shape: str) -> None:
    target = io.BytesIO()
    header = [write_headers.text("Subject", "Grüße 日本語 " * 20), b"MIME-Version: 1.0\r\n"]
    write(target, header, SHAPES[shape])
    octets = target.getvalue()
    client = dovecot.imap(dovecot.new_user())
    try:
        assert client.append("INBOX", "", "", octets)[0] == "OK"
        client.select("INBOX")
        assert fetched(client, "BODY.PEEK[]") == octets
        told = fetched_line(client, "BODYSTRUCTURE")
        for part in parse(octets).walk():
            if part.multipart:
                continue
            kind, sub = part.type.split("/")
            assert re.search(rf'(?i)\("{kind}" "{sub}" ', told), (part.type, told)
            if not part.type.startswith("message/"):
                content, _ = decode_bytes(octets[part.body : part.end], part.encoding)
                assert fetched(client, f"BINARY.PEEK[{part.section}]") == content
    finally:
        client.logout()


def fetched(client: imaplib.IMAP4, what: str) -> bytes:
    ok, answer = client.fetch("1", f"({what})")
    assert ok == "OK", answer
    if isinstance(answer[0], tuple):
        return answer[0][1]
    # A short answer may be a quoted string.
    return answer[0].split(b'"')[1]


def fetched_line(client: imaplib.IMAP4, what: str) -> str:
    ok, answer = client.fetch("1", f"({what})")
    assert ok == "OK", answer
    return "".join(str(part) for one in answer for part in (one if isinstance(one, tuple) else (one,)))
