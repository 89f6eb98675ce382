"""Every shape of the corpus through every reader: no exception, and no work that grows faster than the message."""

from __future__ import annotations

import msgspec
import pytest
from mime_corpus import SHAPES

from jmapplug.mime import headers
from jmapplug.mime.base_subject import base_subject
from jmapplug.mime.body import body_lists, has_attachment
from jmapplug.mime.decode import decode_text
from jmapplug.mime.preview import html_to_text, preview
from jmapplug.mime.structure import parse
from jmapplug.mime.words import decode_words

_FORMS = (
    headers.as_raw, headers.as_text, headers.as_addresses, headers.as_grouped_addresses, headers.as_message_ids,
    headers.as_date, headers.as_urls, headers.timestamp, decode_words,
)  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_an_email(shape):
    data = SHAPES[shape]
    block = headers.block_of(data)
    found = headers.summary(block)
    msgspec.json.encode(found)
    base_subject(found.subject or "")
    for _, value in headers.split(block)[:50]:
        for form in _FORMS:
            msgspec.json.encode(form(value))
    root = parse(data)
    has_attachment(root)
    for part in body_lists(root)[0][:50]:
        text = decode_text(data[part.body : part.end], part.encoding, part.charset, limit=256_000)
        msgspec.json.encode(text)
        preview(text.text, html=part.type == "text/html")
        html_to_text(text.text)


def test_a_structure_survives_its_own_storage():
    for data in SHAPES.values():
        root = parse(data)
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(root), type=type(root)) == root
