"""Searching while not all is indexed, and upstream's part in it (mail-rules 37).

Upstream SEARCH only names *candidates* among the messages that are not indexed; they are fetched, indexed and judged by
the local index, so there is one meaning of a search. Conditions on header fields that we do not keep are judged by the
whole headers of upstream's candidates. All that upstream does for one search runs in a greenlet of its own: who asked
waits `DEADLINE` seconds for it, and what comes later serves the next one who asks.
"""

from __future__ import annotations

import time
import weakref
from array import array
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from typing import Any

import msgspec
from gevent.event import Event

from jmapplug.backends import MailSource, SearchTerm
from jmapplug.capabilities.mail import index, tokens
from jmapplug.capabilities.mail.filters import BODY_FIELDS, Traits, required
from jmapplug.capabilities.mail.store import search as rows
from jmapplug.capabilities.mail.store.conditions import HEADER_COLUMNS
from jmapplug.capabilities.mail.upstream import mail_source
from jmapplug.errors import FolderError, UpstreamError
from jmapplug.jmap.filters import Filter
from jmapplug.mime import headers as mime_headers
from jmapplug.store.pace import breathe

DEADLINE = 10.0
"""Seconds that a search waits for upstream."""
LIFETIME = 60.0
"""Seconds after which upstream's part of a search ends, whoever waits."""
FROZEN_FOR = 300.0
FROZEN_MAX = 5_000
"""Emails in an answer that is kept; a longer one is computed anew for each page."""
FROZEN_ANSWERS = 4
TOTALS = 64
HEADER_CHUNK = 2_000
CANDIDATES = 32

Hits = dict[tuple[str, ...], Collection[int]]


class Frozen(msgspec.Struct):
    """One search's answer, kept for paging. ``state``: the Emails' state it was made at."""

    eids: array[int]
    query_state: str
    state: str
    until: float


class Memory:
    """What is remembered per store: totals of lists at the present state, answers of searches, searches under way."""

    def __init__(self) -> None:
        self._totals: OrderedDict[tuple[bool, bytes], int] = OrderedDict()
        self._state = ""
        self._frozen: OrderedDict[bytes, Frozen] = OrderedDict()
        self.jobs: dict[tuple[Any, ...], Job] = {}

    def total(self, state: str, key: tuple[bool, bytes], count: Callable[[], int]) -> int:
        """A count that holds as long as no Email changes."""
        if state != self._state:
            self._totals.clear()
            self._state = state
        found = self._totals.get(key)
        if found is None:
            found = self._totals[key] = count()
            if len(self._totals) > TOTALS:
                self._totals.popitem(last=False)
        return found

    def freeze(self, key: bytes, answer: Frozen) -> None:
        self._frozen[key] = answer
        self._frozen.move_to_end(key)
        while len(self._frozen) > FROZEN_ANSWERS:
            self._frozen.popitem(last=False)

    def frozen(self, key: bytes, state: str, *, paging: bool) -> Frozen | None:
        """The answer kept for a search; one of an older state only for who turns its pages."""
        now = time.monotonic()
        for old in [key_ for key_, answer in self._frozen.items() if answer.until < now]:
            del self._frozen[old]
        found = self._frozen.get(key)
        return found if found is not None and (paging or found.state == state) else None


_memories: weakref.WeakKeyDictionary[Any, Memory] = weakref.WeakKeyDictionary()


def memory(store: Any) -> Memory:
    """The memory of a store."""
    found = _memories.get(store)
    if found is None:
        found = _memories[store] = Memory()
    return found


class Outcome(msgspec.Struct, frozen=True):
    """``hits``: condition → eids besides those in the index. ``complete`` False: upstream failed or took too long."""

    hits: Hits
    complete: bool


def resolve(account: Any, tree: Filter | None, traits: Traits) -> Outcome:
    """All that the local index cannot tell about the conditions in ``traits``. Waits for upstream if need be."""
    hits: Hits = {}
    remote: list[tuple[str, ...]] = [
        ("header", *value) for value in traits.headers if value[0].lower() not in HEADER_COLUMNS
    ]
    if traits.texts and rows.unindexed(account.store):
        for name, value in traits.texts:
            if name != "body":
                hits[name, value] = _by_headers(account.store, name, tokens.parse(value))
            if name in BODY_FIELDS and tokens.longest_word(tokens.parse(value)) is not None:
                remote.append((name, value))
    if not remote:
        return Outcome(hits, True)
    job = _start(account, tuple(remote), _only_mailbox(tree))
    job.done.wait(timeout=DEADLINE)
    hits.update(job.hits)
    return Outcome(hits, job.done.is_set() and not job.failed)


def _only_mailbox(tree: Filter | None) -> str | None:
    return next((value for name, value in required(tree) if name == "inMailbox"), None)


# --- headers of what is not indexed ----------------------------------------------------------------------------------


def _by_headers(store: Any, name: str, terms: tokens.Terms) -> list[int]:
    """Unindexed Emails whose own headers hold all of ``terms``, in the field ``name`` or anywhere ("text")."""
    if not terms or not all(term.words for term in terms):
        return []
    needle = max((word for term in terms for word in term.words), key=len)
    found: list[int] = []
    place: rows.Place | None = None
    while True:
        chunk, place = rows.unindexed_headers(store, needle, place, HEADER_CHUNK)
        found += [email.eid for email in chunk if tokens.present(terms, _texts(email.headers, name))]
        if place is None:
            return found
        breathe()


def _texts(headers: rows.Headers, name: str) -> list[tokens.Words]:
    if name == "text":
        fields: Sequence[str] = (headers.from_, headers.to, headers.cc, headers.bcc, headers.subject)
    else:
        fields = (headers.from_ if name == "from" else getattr(headers, name),)
    return [tokens.words(text) for text in fields if text]


# --- upstream --------------------------------------------------------------------------------------------------------


class Job:
    """Upstream's part of one search. ``hits`` grows for header conditions; words end up in the index."""

    def __init__(self, account: Any, conditions: tuple[tuple[str, ...], ...], mailbox: str | None) -> None:
        self.account = account
        self.conditions = conditions
        self.mailbox = mailbox
        self.done = Event()
        self.failed = False
        self.hits: dict[tuple[str, ...], list[int]] = {key: [] for key in conditions if key[0] == "header"}
        self._end = time.monotonic() + LIFETIME

    def run(self) -> None:
        try:
            self._search()
        except UpstreamError:
            # The account answers from what it has (mail-rules 17).
            self.failed = True
        finally:
            self.done.set()

    def _search(self) -> None:
        source: MailSource = mail_source(self.account)
        if not source.features.search:
            self.failed = True
            return
        candidates: dict[int, None] = {}
        for mid, key in rows.folders(self.account.store, self.mailbox):
            try:
                self._ask(source, mid, key, candidates)
            except FolderError:  # the others are searched all the same
                self.failed = True
        self._index(list(candidates))

    def _ask(self, source: MailSource, mid: int, key: bytes, candidates: dict[int, None]) -> None:
        for condition in self.conditions:
            if time.monotonic() > self._end:
                self.failed = True
                return
            if condition[0] == "header":
                self.hits[condition] += self._headers(source, mid, key, condition[1:])
            else:
                candidates.update(dict.fromkeys(self._candidates(source, mid, key, condition)))

    def _index(self, eids: list[int]) -> None:
        for at in range(0, len(eids), CANDIDATES):
            if time.monotonic() > self._end:
                self.failed = True
                return
            try:
                index.index_emails(self.account, eids[at : at + CANDIDATES])
            except FolderError:
                self.failed = True

    def _candidates(self, source: MailSource, mid: int, key: bytes, condition: tuple[str, ...]) -> list[int]:
        """Unindexed Emails of a folder in which upstream finds the longest word, newest first."""
        store = self.account.store
        known = rows.uids(store, mid, unindexed=True)
        if not known:
            return []
        name, value = condition
        word = tokens.longest_word(tokens.parse(value)) or ""
        # Naming most of a large folder's UIDs costs more than an answer about all of it.
        named = None if 2 * len(known) > rows.messages(store, mid) else sorted(known)
        found = frozenset(source.search(key, SearchTerm(name, word), named))
        return [eid for uid, eid in known.items() if uid in found]

    def _headers(self, source: MailSource, mid: int, key: bytes, condition: tuple[str, ...]) -> list[int]:
        """Emails of a folder with such a header field."""
        known = rows.uids(self.account.store, mid, unindexed=False)
        if not known:
            return []
        name, terms = condition[0], tokens.parse(condition[1]) if len(condition) == 2 else ()
        # RFC 3501 §6.4.4: the empty string asks whether the field is there.
        longest = max((term.text for term in terms), key=len, default="")
        found = frozenset(source.search(key, SearchTerm(f"header:{name}", longest), None))
        uids = [uid for uid in known if uid in found]
        if not terms and len(uids) > HEADER_CHUNK:
            # "Is the field there" over a large folder: here upstream cannot be wrong but by a defect.
            return [known[uid] for uid in uids]
        matched: list[int] = []
        for at in range(0, len(uids), HEADER_CHUNK):
            if time.monotonic() > self._end:
                self.failed = True
                break
            blocks = source.headers(key, uids[at : at + HEADER_CHUNK])
            matched += [known[uid] for uid, block in blocks.items() if _has_header(block, name, terms)]
        return matched


def _has_header(block: bytes, name: str, terms: tokens.Terms) -> bool:
    """Whether one field of that name holds every term as written, without case, once decoded."""
    wanted = name.lower()
    for field, raw in mime_headers.split(block):
        if field.lower() == wanted:
            text = mime_headers.as_text(raw).casefold()
            if all(term.text.casefold() in text for term in terms):
                return True
    return False


def _start(account: Any, conditions: tuple[tuple[str, ...], ...], mailbox: str | None) -> Job:
    """The job for these conditions: the one under way, or a new one."""
    jobs = memory(account.store).jobs
    key = (conditions, mailbox)
    job = jobs.get(key)
    if job is None or job.done.is_set():
        job = jobs[key] = Job(account, conditions, mailbox)

        def run(job: Job = job) -> None:
            try:
                job.run()
            finally:
                if jobs.get(key) is job:
                    del jobs[key]

        account.spawn(run)
    return job
