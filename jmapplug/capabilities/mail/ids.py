"""Ids of the mail types, and the hashes that link what belongs together (mail-rules 1, 2, 4, 8).

Words: *evidence* is a keyed 64-bit hash of a server's message id, or of identifying header fields; its two lowest bits
tell which (``KINDS``). A *reference hash* is one of (message id, base subject). The key is the account's salt, so no
sender can make two of them collide. ``eid``, ``tid`` and ``mid`` are the integer keys of ``own.sqlite3``; a thread's
``tid`` is the ``eid`` of its founder, so it is never used twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import blake2b

from jmapplug.backends import Item
from jmapplug.jmap.ids import mint

CONTENT = 0
KINDS = {"emailid": 1, "x-guid": 2, "gmail": 3}
_SIGN = 1 << 63
_FIELDS = re.compile(
    rb"^(message-id|date|from|to|subject)[ \t]*:([^\n]*(?:\n[ \t][^\n]*)*)", re.IGNORECASE | re.MULTILINE
)
_MAX_REFERENCES = 50


def email_id(salt: bytes, eid: int) -> str:
    return mint("e", salt, str(eid))


def thread_id(salt: bytes, tid: int) -> str:
    return mint("t", salt, str(tid))


def mailbox_id(salt: bytes, mid: int) -> str:
    return mint("a", salt, str(mid))


def _hash(salt: bytes, person: bytes, data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=8, key=salt, person=person).digest(), "big") - _SIGN


def server_evidence(salt: bytes, scheme: str, server_id: str, size: int, upstream: int) -> int:
    """Evidence by a server's own message id. ``upstream``: the number of that server; elsewhere the id means nothing.

    Dovecot's X-GUID on mbox is a hash of a few header fields, which a sender chooses: the size has to be equal too.
    """
    text = f"{scheme}\0{server_id}\0{size if scheme == 'x-guid' else ''}"
    if upstream:
        text += f"\0{upstream}"
    return _hash(salt, b"server id", text.encode("utf-8", "replace")) & ~3 | KINDS.get(scheme, 1)


def content_evidence(salt: bytes, header: bytes, size: int) -> int:
    """Evidence by Message-ID, Date, From, To, Subject and size: makes a candidate, never a link (mail-rules 2)."""
    fields = sorted((name.lower(), b"".join(value.split())) for name, value in _FIELDS.findall(header))
    return _hash(salt, b"content", b"\0".join(map(b":".join, fields)) + b"\0%d" % size) & ~3 | CONTENT


def reference_hashes(salt: bytes, subject: str, message_ids: Iterable[str]) -> list[int]:
    """The reference hashes of (each of ``message_ids``, base subject), in their order, each once."""
    tail = b"\0" + subject.encode("utf-8", "surrogatepass")
    ids = list(dict.fromkeys(message_ids))
    if len(ids) > _MAX_REFERENCES:
        # The nearest relatives come first; the last of all may be the thread's first message.
        ids = [*ids[: _MAX_REFERENCES - 1], ids[-1]]
    return [_hash(salt, b"reference", one.encode("utf-8", "surrogatepass") + tail) for one in ids]


def server_thread_hashes(salt: bytes, items: Iterable[Item]) -> dict[int, int]:
    """UID → the reference hash of the server's own thread id (THREADID, X-GM-THRID), where it tells one."""
    return {
        item.uid: _hash(salt, b"thread id", item.thread_id.encode("utf-8", "replace"))
        for item in items
        if item.thread_id is not None
    }
