"""What SELECT and EXAMINE answer, gathered (RFC 9051 §6.3.2, RFC 7162 §3)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from jmapplug_imap.protocol.fetch import FetchRow
from jmapplug_imap.protocol.responses import LOST_ROW, Code, Exists, Expunge, Flags, Other, Response, Status, Vanished
from jmapplug_imap.protocol.sets import Ranges
from jmapplug_imap.protocol.values import innermost, text


class Selected(msgspec.Struct, frozen=True):
    """A mailbox as it was selected.

    ``exists``/``uidvalidity``/``uidnext`` None where the server did not tell. ``highestmodseq`` 0: it keeps none.
    ``permanent_flags`` None: not told (RFC 9051 §7.1: then all flags are permanent). ``vanished`` and ``rows``: what
    QRESYNC said changed; the ranges may name numbers that never existed. ``lost_rows``: so many could not be read, or
    do not say whose they are.
    """

    key: bytes
    exists: int | None = None
    uidvalidity: int | None = None
    uidnext: int | None = None
    highestmodseq: int = 0
    flags: tuple[str, ...] = ()
    permanent_flags: tuple[str, ...] | None = None
    read_only: bool = False
    mailbox_id: str | None = None
    vanished: Ranges = ()
    rows: tuple[FetchRow, ...] = ()
    lost_rows: int = 0


def selected_from(key: bytes, untagged: Sequence[Response], code: Code | None, read_only: bool) -> Selected:
    """The values of one SELECT's responses."""
    mine = _since_closed(untagged)
    codes = {each.code.name: each.code for each in mine if type(each) is Status and each.code is not None}
    permanent = codes.get("PERMANENTFLAGS")
    mailbox_id = codes.get("MAILBOXID")
    flags: tuple[str, ...] = ()
    exists: int | None = None
    vanished: list[tuple[int, int]] = []
    rows: list[FetchRow] = []
    for response in mine:
        if type(response) is Exists:
            exists = response.count
        elif type(response) is Expunge:
            exists = max(0, (exists or 0) - 1)
        elif type(response) is Flags:
            flags = response.names
        elif type(response) is Vanished:
            vanished.extend(response.uids)
        elif type(response) is FetchRow:
            rows.append(response)
    return Selected(
        key,
        exists,
        _number(codes, "UIDVALIDITY"),
        _number(codes, "UIDNEXT"),
        _number(codes, "HIGHESTMODSEQ") or 0,
        flags,
        None if permanent is None else _words(permanent),
        read_only or (code is not None and code.name == "READ-ONLY"),
        text(innermost(list(mailbox_id.values))) or None if mailbox_id else None,
        tuple(vanished),
        tuple(rows),
        sum(type(one) is Other and one.name == LOST_ROW for one in mine) + sum(not row.uid for row in rows),
    )


def _since_closed(untagged: Sequence[Response]) -> Sequence[Response]:
    """RFC 7162 §3.2.11: what stands before CLOSED is about the mailbox selected before."""
    for index in range(len(untagged) - 1, -1, -1):
        response = untagged[index]
        if type(response) is Status and response.code is not None and response.code.name == "CLOSED":
            return untagged[index + 1 :]
    return untagged


def _number(codes: dict[str, Code], name: str) -> int | None:
    return codes[name].number if name in codes else None


def _words(code: Code) -> tuple[str, ...]:
    first = code.values[0] if code.values else None
    return tuple(text(word) for word in first) if isinstance(first, list) else tuple(text(word) for word in code.values)
