"""Filling the full-text index: in the background newest first, and first of all what a search asks for (mail-rules 37).

Of each message at most `TEXT_LIMIT` octets of its text parts are fetched, batched: one FETCH per folder and section.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import msgspec

from jmapplug.backends import MailSource
from jmapplug.capabilities.mail import tokens
from jmapplug.capabilities.mail.store import emails
from jmapplug.capabilities.mail.store import search as rows
from jmapplug.capabilities.mail.upstream import mail_source
from jmapplug.errors import FolderError
from jmapplug.mime.body import body_lists
from jmapplug.mime.decode import decode_text
from jmapplug.mime.preview import html_to_text
from jmapplug.mime.structure import Part, parse
from jmapplug.store.account import Store
from jmapplug.store.pace import breathe, in_company

log = logging.getLogger("jmapplug.mail")

TEXT_LIMIT = 64 * 1024
"""Octets of text fetched for one message."""
WHOLE_LIMIT = 2 * TEXT_LIMIT
"""Octets fetched of a message whose structure the server cannot tell."""
SLICE_MESSAGES = 64
SLICE_OCTETS = 512 * 1024
WRITE_OCTETS, WRITE_OCTETS_ALONE = 16 * 1024, 64 * 1024
"""Text put into the index in one transaction: while requests come, and while nobody asks."""
AGAIN = 120.0
"""Seconds after which Emails in folders that were not opened are tried again."""
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


class Fetched(NamedTuple):
    """``left``: Emails whose folders are not opened, with the refusals."""

    texts: Texts
    left: dict[int, FolderError]


class Left:
    """Emails that the background leaves out until ``until`` (time.monotonic); it has come as far as ``place``."""

    def __init__(self) -> None:
        self.eids: set[int] = set()
        self.place: rows.Place | None = None
        self.until = time.monotonic() + AGAIN


_left: WeakKeyDictionary[Store, Left] = WeakKeyDictionary()


def index_slice(account: Any) -> bool:
    """Index the newest Emails that are not indexed yet: one slice. False when there was nothing to do.

    Those in a folder that is not opened do not keep the others waiting; they are tried again when it may be opened.
    Raises UpstreamError.
    """
    found = list(_within_budget(_next(account.store)))
    if not found:
        return False
    refused = index(account, found, background=True)
    if refused:
        log.info("account %s: %d messages are not indexed now: %s", account.id, len(refused), _first(refused))
        left = _left.setdefault(account.store, Left())
        left.eids.update(refused)
        last = min((one.received_at, one.eid) for one in found)
        left.place = min(left.place or last, last)
    return True


def _next(store: Store) -> list[rows.Pending]:
    left = _left.get(store)
    if left is not None and time.monotonic() >= left.until:
        del _left[store]
        left = None
    newest = rows.newest_unindexed(store, SLICE_MESSAGES)
    if left is None:
        return newest
    # What came since, else what lies behind those that were looked at.
    fresh = [one for one in newest if one.eid not in left.eids]
    return fresh or rows.newest_unindexed(store, SLICE_MESSAGES, left.place)


def index_emails(account: Any, eids: Collection[int]) -> None:
    """Index these Emails now, while somebody waits for them.

    Raises UpstreamError; FolderError when all that can be read is indexed.
    """
    if refused := index(account, rows.pending(account.store, eids), background=False):
        raise _first(refused)


def _first(refused: Mapping[int, FolderError]) -> FolderError:
    return next(iter(refused.values()))


def index(account: Any, found: Sequence[rows.Pending], *, background: bool) -> dict[int, FolderError]:
    """Fetch the texts of ``found`` and put them into the index; what was left out, as :class:`Fetched`.

    A message that upstream does not give any more is indexed by its headers: the next sync will tell what became of it.
    Raises UpstreamError.
    """
    texts, left = fetch_texts(account, found, background=background)
    batch: list[rows.Document] = []
    octets = 0
    for email in found:
        if email.eid in left:
            continue
        batch.append(_document(email, texts.get(email.eid, [])))
        octets += len(batch[-1].body)
        breathe()
        if octets > (WRITE_OCTETS if in_company() else WRITE_OCTETS_ALONE):
            rows.save(account.store, batch)
            breathe()
            batch, octets = [], 0
    rows.save(account.store, batch)
    return left


def fetch_texts(account: Any, found: Sequence[rows.Pending], *, background: bool = False) -> Fetched:
    """The decoded texts of Emails: at most `TEXT_LIMIT` octets of each, from a folder that is opened.

    Raises UpstreamError.
    """
    source: MailSource = mail_source(account)
    copies = emails.copies(account.store, [email.eid for email in found])
    shut: dict[bytes, FolderError] = {}
    left: dict[int, FolderError] = {}
    order: list[Wanted] = []
    raw: dict[tuple[int, str], bytes] = {}
    waiting = [email for email in found if copies.get(email.eid)]
    while waiting:
        wanted: list[Wanted] = []
        for email in waiting:
            copy = next((one for one in copies[email.eid] if one.key not in shut), None)
            if copy is None:
                left[email.eid] = shut[copies[email.eid][0].key]
            else:
                wanted += wanted_parts(email, copy.key, copy.uid)
        shut |= _fetch(source, wanted, raw, background)
        order += [one for one in wanted if one.key not in shut]
        again = {one.eid for one in wanted if one.key in shut}
        waiting = [email for email in waiting if email.eid in again]
    return Fetched(_decode(order, raw), left)


def _fetch(
    source: MailSource, wanted: Iterable[Wanted], raw: dict[tuple[int, str], bytes], background: bool
) -> dict[bytes, FolderError]:
    """Put the sections into ``raw``, by (eid, section); the folders that are not opened."""
    groups: dict[tuple[bytes, str, int], list[Wanted]] = {}
    for one in wanted:
        groups.setdefault((one.key, one.section, one.limit), []).append(one)
    shut: dict[bytes, FolderError] = {}
    for (key, section, limit), group in groups.items():
        if key in shut:
            continue
        try:
            got = source.texts(key, section, [one.uid for one in group], limit, background=background)
        except FolderError as error:
            shut[key] = error
            continue
        raw |= {(one.eid, section): got[one.uid] for one in group if one.uid in got}
    return shut


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
