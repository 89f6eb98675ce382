"""Filling the full-text index: in the background newest first, and first of all what a search asks for (mail-rules 37).

Of each message at most `TEXT_LIMIT` octets of its text parts are fetched, batched: one FETCH per folder and section.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from jmapplug.backends import MailSource
from jmapplug.capabilities.mail import tokens
from jmapplug.capabilities.mail.store import emails
from jmapplug.capabilities.mail.store import search as rows
from jmapplug.capabilities.mail.upstream import mail_source
from jmapplug.mime.body import body_lists
from jmapplug.mime.decode import decode_text
from jmapplug.mime.preview import html_to_text
from jmapplug.mime.structure import Part, parse
from jmapplug.store.pace import breathe, in_company

TEXT_LIMIT = 64 * 1024
"""Octets of text fetched for one message."""
WHOLE_LIMIT = 2 * TEXT_LIMIT
"""Octets fetched of a message whose structure the server cannot tell."""
SLICE_MESSAGES = 64
SLICE_OCTETS = 512 * 1024
WRITE_OCTETS, WRITE_OCTETS_ALONE = 16 * 1024, 64 * 1024
"""Text put into the index in one transaction: while requests come, and while nobody asks."""
THIN = 500
"""A plain part with fewer octets beside an HTML part says "see the HTML version"."""


class Wanted(msgspec.Struct, frozen=True):
    """One section to fetch: ``limit`` octets of ``part``; ``part`` None: the start of the whole message."""

    eid: int
    key: bytes
    uid: int
    part: Part | None
    limit: int

    @property
    def section(self) -> str:
        return "" if self.part is None else self.part.section or "1"


Texts = dict[int, list[str]]
"""eid → the texts of its parts, decoded, in order."""


def index_slice(account: Any) -> bool:
    """Index the newest Emails that are not indexed yet: one slice. False when there was nothing to do.

    Raises UpstreamError.
    """
    found = rows.newest_unindexed(account.store, SLICE_MESSAGES)
    if not found:
        return False
    index(account, list(_within_budget(found)), background=True)
    return True


def index_emails(account: Any, eids: Collection[int]) -> None:
    """Index these Emails now, while somebody waits for them. Raises UpstreamError."""
    index(account, rows.pending(account.store, eids), background=False)


def index(account: Any, found: Sequence[rows.Pending], *, background: bool) -> None:
    """Fetch the texts of ``found`` and put them into the index.

    A message that upstream does not give any more is indexed by its headers: the next sync will tell what became of it.
    """
    texts = fetch_texts(account, found, background=background)
    batch: list[rows.Document] = []
    octets = 0
    for email in found:
        batch.append(_document(email, texts.get(email.eid, [])))
        octets += len(batch[-1].body)
        breathe()
        if octets > (WRITE_OCTETS if in_company() else WRITE_OCTETS_ALONE):
            rows.save(account.store, batch)
            breathe()
            batch, octets = [], 0
    rows.save(account.store, batch)


def fetch_texts(account: Any, found: Sequence[rows.Pending], *, background: bool = False) -> Texts:
    """The decoded texts of Emails: at most `TEXT_LIMIT` octets of each. Raises UpstreamError."""
    source: MailSource = mail_source(account)
    copies = emails.copies(account.store, [email.eid for email in found])
    groups: dict[tuple[bytes, str, int], list[Wanted]] = {}
    order: list[Wanted] = []
    for email in found:
        if copies.get(email.eid):
            copy = copies[email.eid][0]
            for wanted in wanted_parts(email, copy.key, copy.uid):
                order.append(wanted)
                groups.setdefault((wanted.key, wanted.section, wanted.limit), []).append(wanted)
    raw: dict[tuple[int, str], bytes] = {}
    for (key, section, limit), group in groups.items():
        got = source.texts(key, section, [wanted.uid for wanted in group], limit, background=background)
        for wanted in group:
            if wanted.uid in got:
                raw[wanted.eid, section] = got[wanted.uid]
    return _decode(order, raw)


def _decode(order: Iterable[Wanted], raw: dict[tuple[int, str], bytes]) -> Texts:
    texts: Texts = {}
    for wanted in order:
        data = raw.pop((wanted.eid, wanted.section), None)
        if data is None:
            continue
        texts.setdefault(wanted.eid, []).extend(_texts_of(data, wanted.part))
        breathe()
    return texts


def wanted_parts(email: rows.Pending, key: bytes, uid: int) -> Iterator[Wanted]:
    """Which sections hold the words of a message."""
    if email.structure is None:
        yield Wanted(email.eid, key, uid, None, WHOLE_LIMIT)
        return
    left = TEXT_LIMIT
    for part in text_parts(email.structure):
        if left <= 0:
            return
        # All the small ones ask for the same number of octets, so that one FETCH serves them.
        yield Wanted(email.eid, key, uid, part, TEXT_LIMIT if left == TEXT_LIMIT or part.size <= left else left)
        left -= min(part.size, left)


def text_parts(root: Part) -> list[Part]:
    """The parts whose words a reader sees: the plain ones, and the HTML ones where they say more."""
    plain, html, _ = body_lists(root)
    found = [part for part in plain if part.type.startswith("text/")]
    if sum(part.size for part in found) < THIN:
        found += [part for part in html if part.type == "text/html" and part not in found]
    return found


def _texts_of(data: bytes, part: Part | None) -> list[str]:
    if part is not None:
        return [_text(data, part)]
    root = parse(data)
    return [_text(data[part.body : part.end], part) for part in text_parts(root)]


def _text(data: bytes, part: Part) -> str:
    text = decode_text(data[:TEXT_LIMIT], part.encoding, part.charset).text
    return html_to_text(text) if part.type == "text/html" else text


def _document(email: rows.Pending, texts: Iterable[str]) -> rows.Document:
    h = email.headers
    fold = tokens.indexable
    headers = rows.Headers(fold(h.from_), fold(h.to), fold(h.cc), fold(h.bcc), fold(h.subject))
    return rows.Document(email.eid, headers, fold("\n".join(texts)))


def _within_budget(found: Iterable[rows.Pending]) -> Iterator[rows.Pending]:
    """As many of them as one slice should hold in memory; one at least."""
    octets = 0
    for email in found:
        if email.structure is None:
            size = WHOLE_LIMIT
        else:
            size = min(TEXT_LIMIT, sum(part.size for part in text_parts(email.structure)))
        if octets and octets + size > SLICE_OCTETS:
            return
        octets += size
        yield email
